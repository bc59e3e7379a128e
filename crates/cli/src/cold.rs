//! Flow control of cold reads: `getColdDataFlowCtrInfo`, `updateColdDataFlowCtrGroupConfig`, `removeColdDataFlowCtrGroupConfig`,
//! `setCommitLogReadAheadMode`.

use serde_json::{Value, json};

use crate::format::{fastjson_pretty, local_time};
use crate::place::Where;
use crate::{Failure, Session};

#[derive(Debug, clap::Args)]
pub(crate) struct GetColdDataFlowCtrInfo {
    #[command(flatten)]
    place: Where,
}

pub(crate) async fn info(args: &GetColdDataFlowCtrInfo, session: Session) -> Result<(), Failure> {
    let mut all = serde_json::Map::new();
    for (broker, title) in args.place.brokers(&session).await? {
        let text = session.admin.cold_reads(&broker).await?;
        let mut info: Value = serde_json::from_str(&text).map_err(|error| {
            Failure::Other(format!("{broker} sent an answer that is no JSON: {error}"))
        })?;
        if session.out.is_json() {
            all.insert(broker, info);
            continue;
        }
        let groups = info["runtimeTable"].as_object_mut().into_iter().flatten();
        for (_, account) in groups {
            name_times(account);
        }
        let text = fastjson_pretty(&info);
        session
            .out
            .text(&format!(" ============{title}============\n{text}\n"))?;
    }
    if session.out.is_json() {
        session.out.json(&all)?;
    }
    Ok(())
}

/// Times are for people here.
fn name_times(account: &mut Value) {
    let Some(account) = account.as_object_mut() else {
        return;
    };
    for (number, name) in [
        ("lastColdReadTimeMills", "lastColdReadTimeFormat"),
        ("createTimeMills", "createTimeFormat"),
    ] {
        if let Some(time) = account.remove(number).as_ref().and_then(Value::as_i64) {
            account.insert(name.to_owned(), Value::from(local_time(time)));
        }
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct UpdateColdDataFlowCtrGroupConfig {
    #[command(flatten)]
    place: Where,
    /// Consumer group
    #[arg(short = 'g', long = "consumerGroup", value_name = "GROUP")]
    group: String,
    /// Bytes that it may read in five seconds that are not in memory
    #[arg(short = 'v', long = "threshold", value_name = "BYTES")]
    threshold: i64,
}

pub(crate) async fn update(
    args: &UpdateColdDataFlowCtrGroupConfig,
    session: Session,
) -> Result<(), Failure> {
    let group = args.group.trim();
    for (broker, _) in args.place.brokers(&session).await? {
        session
            .admin
            .set_cold_threshold(&broker, group, args.threshold)
            .await?;
        let words = "updateColdDataFlowCtrGroupConfig success";
        say(&session, words, &broker)?;
    }
    Ok(())
}

fn say(session: &Session, words: &str, broker: &str) -> Result<(), Failure> {
    if session.out.is_json() {
        Ok(session.out.json(&json!({ "broker": broker }))?)
    } else {
        Ok(session.out.text(&format!("{words}, {broker}\n"))?)
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct RemoveColdDataFlowCtrGroupConfig {
    #[command(flatten)]
    place: Where,
    /// Consumer group
    #[arg(short = 'g', long = "consumerGroup", value_name = "GROUP")]
    group: String,
}

pub(crate) async fn remove(
    args: &RemoveColdDataFlowCtrGroupConfig,
    session: Session,
) -> Result<(), Failure> {
    for (broker, _) in args.place.brokers(&session).await? {
        let group = args.group.trim();
        session.admin.remove_cold_threshold(&broker, group).await?;
        say(
            &session,
            "remove broker cold read threshold success",
            &broker,
        )?;
    }
    Ok(())
}

#[derive(Debug, clap::Args)]
pub(crate) struct SetCommitLogReadAheadMode {
    #[command(flatten)]
    place: Where,
    /// 0: the kernel reads ahead; 1: only what is asked for
    #[arg(short = 'm', long = "commitLogReadAheadMode", value_name = "MODE", value_parser = clap::value_parser!(u8).range(0..=1))]
    mode: u8,
}

pub(crate) async fn read_ahead(
    args: &SetCommitLogReadAheadMode,
    session: Session,
) -> Result<(), Failure> {
    for (broker, title) in args.place.brokers(&session).await? {
        let said = session
            .admin
            .set_read_ahead(&broker, args.mode == 0)
            .await?;
        if session.out.is_json() {
            session
                .out
                .json(&json!({ "broker": broker, "remark": said }))?;
        } else {
            session.out.text(&format!(
                " ============{title}============\ncommitLog set readAhead mode rstStr{said}\n"
            ))?;
        }
    }
    Ok(())
}
