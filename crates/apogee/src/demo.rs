//! The first start shows that it works: one message, sent and received by the Rust client over the real socket.

use std::io::IsTerminal;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use broker::Running;
use client::{Message, Producer, PullConsumer, Pulled, SendReceipt};

use crate::args::AllInOne;
use crate::node::say;

const TOPIC: &str = "HelloApogee";
const BODY: &str = "Hello from Apogee!";
/// The group under which tools read. It exists from the start, so the demonstration leaves no group behind.
const GROUP: &str = "TOOLS_CONSUMER";
/// How long the demonstration may take before it is given up.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait before a new topic's route is asked again.
const ROUTE_PAUSE: Duration = Duration::from_millis(5);

/// Whether this start is somebody's first: new data, nothing configured, and a person who looks on or the plain command.
pub(crate) fn is_wanted(args: &AllInOne, data_dir: &Path) -> bool {
    let is_new = !data_dir.join("store").exists();
    let is_watched = std::io::stdout().is_terminal() || args.data_dir.is_none();
    is_new && is_watched && !args.no_demo && args.config_file.is_none()
}

/// Sends a message, receives it, and prints both. A failure is a warning: the roles serve on.
pub(crate) async fn run(nameserver: &str, broker: &Running) {
    broker.registered(TIMEOUT).await;
    match tokio::time::timeout(TIMEOUT, round_trip(nameserver)).await {
        Ok(Ok(text)) => say(&text),
        Ok(Err(error)) => tracing::warn!("the demonstration message did not go through: {error:#}"),
        Err(_) => tracing::warn!("the demonstration message did not go through within {TIMEOUT:?}"),
    }
}

async fn round_trip(nameserver: &str) -> anyhow::Result<String> {
    let producer = Producer::builder("HelloApogeeProducer", nameserver).start()?;
    let began = Instant::now();
    let receipt = producer
        .send(Message::new(TOPIC, BODY).tag("Demo"))
        .await
        .context("sending")?;
    let sent_after = began.elapsed();
    let consumer = PullConsumer::new(GROUP, nameserver)?;
    let began = Instant::now();
    let pulled = pull(&consumer, &receipt).await.context("receiving")?;
    let received_after = began.elapsed();
    producer.shutdown().await;
    consumer.shutdown().await;
    let message = pulled
        .messages
        .first()
        .context("the queue gave no message")?;
    Ok(format!(
        "\n\
         A message went through:\n\
         \x20 sent      {BODY:?} to topic {TOPIC}, stored on disk after {sent_after:.1?}\n\
         \x20 received  {:?} from queue {} at offset {} after {received_after:.1?}\n\
         \x20 id        {}\n\
         \n\
         Clients connect to {nameserver}. In another terminal:\n\
         \x20 {program} admin sendMessage -n {nameserver} -t TopicTest -p \"hello\"\n\
         \x20 {program} admin consumeMessage -n {nameserver} -t TopicTest\n\
         Ctrl-C stops.",
        String::from_utf8_lossy(&message.body),
        message.queue.queue_id,
        message.queue_offset,
        message.message_id,
        program = std::env::args()
            .next()
            .unwrap_or_else(|| "apogee".to_owned()),
    ))
}

/// Reads what was just sent. The route of a topic that the send created comes to the name server a moment later.
async fn pull(consumer: &PullConsumer, receipt: &SendReceipt) -> anyhow::Result<Pulled> {
    while consumer.queues(TOPIC).await.is_err() {
        tokio::time::sleep(ROUTE_PAUSE).await;
    }
    Ok(consumer
        .pull(
            &receipt.queue,
            "*",
            receipt.queue_offset,
            1,
            Duration::from_secs(1),
        )
        .await?)
}
