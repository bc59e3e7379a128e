//! The command that sends a message.

use admin::NewMessage;
use clap::ArgAction;

use crate::{Failure, Session};

#[derive(Debug, clap::Args)]
pub(crate) struct SendMessage {
    /// Topic name
    #[arg(short = 't', long = "topic")]
    topic: String,
    /// The body, as UTF-8 text
    #[arg(short = 'p', long = "body", allow_hyphen_values = true)]
    body: String,
    /// Keys, separated by spaces
    #[arg(short = 'k', long = "key", value_name = "KEYS")]
    key: Option<String>,
    /// Tag
    #[arg(short = 'c', long = "tags", value_name = "TAG")]
    tags: Option<String>,
    /// Send to this broker
    #[arg(short = 'b', long = "broker", value_name = "NAME")]
    broker: Option<String>,
    /// Send to this queue of the broker
    #[arg(short = 'i', long = "qid", value_name = "ID", requires = "broker")]
    queue: Option<i32>,
    /// Accepted for mqadmin's sake: traces are not sent
    #[arg(short = 'm', long = "msgTraceEnable", value_name = "BOOL", default_value_t = false, action = ArgAction::Set)]
    trace: bool,
}

pub(crate) async fn send(args: &SendMessage, session: Session) -> Result<(), Failure> {
    let Session { admin, out } = session;
    if args.trace {
        eprintln!("warning: -m is ignored: this command sends no traces");
    }
    let trimmed = |text: &Option<String>| text.as_deref().map(|text| text.trim().to_owned());
    let sent = admin
        .send(NewMessage {
            topic: args.topic.trim().to_owned(),
            body: args.body.trim().as_bytes().to_vec(),
            keys: trimmed(&args.key),
            tags: trimmed(&args.tags),
            broker_name: trimmed(&args.broker),
            queue_id: args.queue,
        })
        .await?;
    if out.is_json() {
        out.json(&sent)?;
    } else {
        let header = format!(
            "{:<32}  {:<4}  {:<20}    #MsgId",
            "#Broker Name", "#QID", "#Send Result"
        );
        let (broker, queue, status) = (&sent.broker_name, sent.queue_id, sent.send_status.name());
        out.text(&format!(
            "{header}\n{broker:<32}  {queue:<4}  {status:<20}    {}\n",
            sent.msg_id
        ))?;
    }
    Ok(())
}
