//! Whether a group takes a topic's messages by pull or by pop: `setConsumeMode`.

use admin::RequestMode;
use serde_json::json;

use crate::place::Where;
use crate::{Failure, Session};

#[derive(Debug, clap::Args)]
pub(crate) struct SetConsumeMode {
    #[command(flatten)]
    place: Where,
    /// Topic
    #[arg(short = 't', long = "topicName", value_name = "TOPIC")]
    topic: String,
    /// Consumer group; created where brokers create groups by themselves
    #[arg(short = 'g', long = "groupName", value_name = "GROUP")]
    group: String,
    /// How it consumes
    #[arg(short = 'm', long = "mode", value_parser = ["PULL", "POP"], ignore_case = true)]
    mode: String,
    /// How many queues each member takes beside its own when it pops; 0: all
    #[arg(short = 'q', long = "popShareQueueNum", value_name = "COUNT", default_value_t = 0,
        value_parser = clap::value_parser!(i32).range(0..))]
    share: i32,
}

pub(crate) async fn set(args: &SetConsumeMode, session: Session) -> Result<(), Failure> {
    let mode = match args.mode.to_ascii_uppercase().as_str() {
        "POP" => RequestMode::Pop,
        _ => RequestMode::Pull,
    };
    let (topic, group) = (args.topic.trim(), args.group.trim());
    let mut brokers = Vec::new();
    for (broker, _) in args.place.brokers(&session).await? {
        session
            .admin
            .set_request_mode(&broker, topic, group, mode, args.share)
            .await?;
        if !session.out.is_json() {
            let line = format!("set consume mode to {broker} success.\n");
            session.out.text(&line)?;
        }
        brokers.push(broker);
    }
    if session.out.is_json() {
        return Ok(session.out.json(&json!({
            "brokers": brokers,
            "topic": topic,
            "group": group,
            "mode": mode.name(),
            "popShareQueueNum": args.share,
        }))?);
    }
    Ok(session.out.text(&format!(
        "topic[{topic}] group[{group}] consume mode[{}] popShareQueueNum[{}]\n",
        mode.name(),
        args.share
    ))?)
}
