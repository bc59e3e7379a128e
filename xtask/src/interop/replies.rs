//! Requests that are answered by message, on the official clients and the Rust client, against Apogee and the Java broker with the same assertions.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use client::{
    ConsumeResult, Message, Producer, PullConsumer, PushConsumer, RequestError, StartFrom,
};

use super::clients::{self, create_topic};
use super::sides::Side;
use crate::live;
use crate::report::Verdict;

const TOPIC: &str = "questions";
const COUNT: usize = 40;
/// A Java group rebalances every twenty seconds.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long is waited for a reply that does not come.
const IN_VAIN: Duration = Duration::from_secs(1);
const CLIENTS: &[&str] = &["java-4.9.8", "java-5.3.3", "go"];
const PROGRAM_LIMIT: Duration = Duration::from_secs(180);

/// Both servers, one after the other.
pub(super) fn run() -> Result<Verdict> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let binary = live::binary()?;
    for side in [Side::Apogee, Side::Java] {
        let dir = tempfile::tempdir()?;
        let config = "flushDiskType=ASYNC_FLUSH\n";
        side.on(dir.path(), &binary, config, &[], |nameserver| {
            for topic in [TOPIC, "unanswered"] {
                create_topic(&binary, nameserver, topic, 2)?;
            }
            runtime
                .block_on(rust(nameserver))
                .with_context(|| format!("the Rust client against {side:?}"))?;
            eprintln!("   {side:?}: the Rust client's requests got their replies");
            for client in CLIENTS {
                let topics = &[("requested", 2), ("send", 2)];
                clients::create_topics(&binary, nameserver, client, topics)?;
            }
            clients::run_part(CLIENTS, "request", nameserver, dir.path(), PROGRAM_LIMIT)
                .with_context(|| format!("against {side:?}"))
        })?;
    }
    Ok(Verdict::Passed)
}

async fn rust(nameserver: &str) -> Result<()> {
    let replier = Arc::new(Producer::builder("questions_repliers", nameserver).start()?);
    let sender = Arc::clone(&replier);
    let consumer = PushConsumer::builder("questions_repliers", nameserver)
        .subscribe(TOPIC, "*")
        .start_from(StartFrom::Oldest)
        .concurrently(move |messages| {
            let sender = Arc::clone(&sender);
            async move {
                for message in messages {
                    let said = [&message.body[..], b"!"].concat();
                    let reply = Message::reply_to(&message, said);
                    let sent = sender.send(reply.expect("it asks for a reply")).await;
                    sent.expect("who asked takes the reply");
                }
                ConsumeResult::Success
            }
        })
        .start()
        .await?;
    let asker = Producer::builder("questions_askers", nameserver).start()?;
    for number in 0..COUNT {
        let question = format!("question {number}");
        let reply = asker
            .request(Message::new(TOPIC, question.clone()), PATIENCE)
            .await?;
        ensure!(reply.body == question + "!", "{reply:?}");
        for name in ["CORRELATION_ID", "PUSH_REPLY_TIME"] {
            ensure!(reply.property(name).is_some(), "no {name}: {reply:?}");
        }
    }
    let in_vain = asker
        .request(Message::new("unanswered", "?"), IN_VAIN)
        .await;
    ensure!(
        matches!(in_vain, Err(RequestError::NoReply { .. })),
        "{in_vain:?}"
    );
    // What was said is kept.
    let reader = PullConsumer::new("questions_reader", nameserver)?;
    let queue = reader.queues("DefaultCluster_REPLY_TOPIC").await?.remove(0);
    let kept = reader.max_offset(&queue).await?;
    ensure!(kept == COUNT as i64, "{kept} replies are kept of {COUNT}");
    reader.shutdown().await;
    consumer.shutdown().await;
    replier.shutdown().await;
    asker.shutdown().await;
    Ok(())
}
