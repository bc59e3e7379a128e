//! The command that reads messages of a topic. It commits nothing: consumers do not notice it.

use admin::{Admin, PullStatus, StoredMessage};
use protocol::body::MessageQueue;
use serde_json::json;

use crate::format::{java_map, parse_time};
use crate::output::Output;
use crate::{Failure, Session};

/// The group that tools read as.
const TOOLS_GROUP: &str = "TOOLS_CONSUMER";
/// The most messages asked for in one pull; brokers give fewer.
const PULL_MESSAGES_MAX: i64 = 1024;
/// Java's buckets of a decoded message's properties.
pub(crate) const PROPERTY_BUCKETS: usize = 128;

#[derive(Debug, clap::Args)]
pub(crate) struct ConsumeMessage {
    /// Topic name
    #[arg(short = 't', long = "topic")]
    topic: String,
    /// Only this broker's queues
    #[arg(short = 'b', long = "brokerName", value_name = "NAME")]
    broker: Option<String>,
    /// Only this queue of the broker
    #[arg(short = 'i', long = "queueId", value_name = "ID", requires = "broker")]
    queue: Option<i32>,
    /// From this offset of the queue on
    #[arg(short = 'o', long = "offset", requires = "queue")]
    offset: Option<i64>,
    /// Read as this consumer group
    #[arg(short = 'g', long = "consumerGroup", value_name = "GROUP", default_value = TOOLS_GROUP)]
    group: String,
    /// Stored at or after this time: milliseconds, or yyyy-MM-dd#HH:mm:ss:SSS
    #[arg(short = 's', long = "beginTimestamp", value_name = "TIME", value_parser = time)]
    begin_ms: Option<i64>,
    /// Stored before this time: milliseconds, or yyyy-MM-dd#HH:mm:ss:SSS
    #[arg(short = 'e', long = "endTimestamp", value_name = "TIME", value_parser = time)]
    end_ms: Option<i64>,
    /// How many messages at most
    #[arg(short = 'c', long = "MessageNumber", value_name = "COUNT", default_value_t = 128, value_parser = clap::value_parser!(i64).range(1..))]
    count: i64,
}

fn time(text: &str) -> Result<i64, String> {
    parse_time(text.trim()).ok_or_else(|| "milliseconds, or yyyy-MM-dd#HH:mm:ss:SSS".to_owned())
}

pub(crate) async fn consume(args: &ConsumeMessage, session: Session) -> Result<(), Failure> {
    if let (Some(begin_ms), Some(end_ms)) = (args.begin_ms, args.end_ms)
        && begin_ms > end_ms
    {
        let reason =
            "please make sure that the beginTimestamp is less than or equal to the endTimestamp";
        return Err(Failure::Usage(reason.to_owned()));
    }
    let Session { admin, out } = session;
    let topic = args.topic.trim();
    let queues: Vec<MessageQueue> = match (&args.broker, args.queue) {
        (Some(broker), Some(queue_id)) => vec![MessageQueue {
            topic: topic.to_owned(),
            broker_name: broker.trim().to_owned(),
            queue_id,
        }],
        (broker, _) => {
            let mut queues = admin.readable_queues(topic).await?;
            queues.retain(|queue| {
                broker
                    .as_deref()
                    .is_none_or(|name| name.trim() == queue.broker_name)
            });
            queues
        }
    };
    if queues.is_empty() {
        return Err(Failure::Other(format!(
            "topic {topic} has no queue that can be read there"
        )));
    }
    let mut reader = Reader {
        admin: &admin,
        out: &out,
        args,
        left: args.count,
        printed: 0,
    };
    if out.is_json() {
        out.text("[")?;
    }
    for queue in &queues {
        if reader.left > 0 {
            reader.read(queue).await?;
        }
    }
    if out.is_json() {
        out.text("\n]\n")?;
    }
    Ok(())
}

/// Prints messages as they come, since there may be more than fit into memory.
struct Reader<'a> {
    admin: &'a Admin,
    out: &'a Output,
    args: &'a ConsumeMessage,
    left: i64,
    printed: u64,
}

impl Reader<'_> {
    async fn read(&mut self, queue: &MessageQueue) -> Result<(), Failure> {
        let addr = self
            .admin
            .broker_addr(&queue.topic, &queue.broker_name)
            .await?;
        let mut begin = match self.args.begin_ms {
            Some(begin_ms) => self.admin.search_offset(&addr, queue, begin_ms).await?,
            None => self.admin.min_offset(&addr, queue).await?,
        };
        let end = match self.args.end_ms {
            Some(end_ms) => self.admin.search_offset(&addr, queue, end_ms).await?,
            None => self.admin.max_offset(&addr, queue).await?,
        };
        if let Some(offset) = self.args.offset {
            if offset > end {
                return self.say(&format!(
                    "{} no matched msg, offset={offset}\n",
                    describe(queue)
                ));
            }
            begin = begin.max(offset);
        }
        let mut stop = end;
        if end - begin > self.left {
            stop = begin + self.left;
            let (left, id) = (self.left, queue.queue_id);
            self.say(&match self.args.queue {
                Some(_) => format!("The oldler {left} message will be provided\n"),
                None => format!("The older {left} message of the {id} queue will be provided\n"),
            })?;
        }
        self.read_range(&addr, queue, begin, stop, stop < end).await
    }

    /// Reads `[begin, stop)`. As mqadmin, it asks once more at the end of a queue and says that nothing is there.
    async fn read_range(
        &mut self,
        addr: &str,
        queue: &MessageQueue,
        begin: i64,
        stop: i64,
        cut: bool,
    ) -> Result<(), Failure> {
        let mut offset = begin;
        while offset < stop || (offset == stop && !cut) {
            let wanted = (stop - offset).clamp(1, PULL_MESSAGES_MAX) as i32;
            let pulled = self
                .admin
                .pull(addr, &self.args.group, queue, offset, wanted)
                .await?;
            offset = pulled.next_offset;
            match pulled.status {
                PullStatus::Found => {
                    self.say("Consume ok\n")?;
                    for mut message in pulled.messages {
                        for (name, value) in [
                            ("MIN_OFFSET", pulled.min_offset),
                            ("MAX_OFFSET", pulled.max_offset),
                        ] {
                            message
                                .properties
                                .push((name.to_owned(), value.to_string()));
                        }
                        self.print(queue, &message)?;
                        self.left -= 1;
                    }
                }
                PullStatus::NoMatchedMsg => {
                    let name = pulled.status.name();
                    self.say(&format!(
                        "{} no matched msg. status={name}, offset={offset}\n",
                        describe(queue)
                    ))?;
                }
                PullStatus::NoNewMsg | PullStatus::OffsetIllegal => {
                    let name = pulled.status.name();
                    self.say(&format!(
                        "{} print msg finished. status={name}, offset={offset}\n",
                        describe(queue)
                    ))?;
                    break;
                }
            }
        }
        Ok(())
    }

    /// Prints what mqadmin says beside the messages; JSON has none of it.
    fn say(&self, text: &str) -> Result<(), Failure> {
        if !self.out.is_json() {
            self.out.text(text)?;
        }
        Ok(())
    }

    fn print(&mut self, queue: &MessageQueue, message: &StoredMessage) -> Result<(), Failure> {
        if self.out.is_json() {
            let comma = if self.printed == 0 { "" } else { "," };
            let text = crate::query::document(message);
            self.out.text(&format!("{comma}\n{text}"))?;
        } else {
            let body = String::from_utf8_lossy(&message.body);
            let text = format!(
                "MSGID: {} {} BODY: {body}\n",
                message.msg_id,
                java_text(queue, message)
            );
            self.out.text(&text)?;
        }
        self.printed += 1;
        Ok(())
    }
}

/// The text of Java's `MessageQueue.toString`.
fn describe(queue: &MessageQueue) -> String {
    let MessageQueue {
        topic,
        broker_name,
        queue_id,
    } = queue;
    format!("MessageQueue [topic={topic}, brokerName={broker_name}, queueId={queue_id}]")
}

/// The text of Java's `MessageExt.toString`.
fn java_text(queue: &MessageQueue, message: &StoredMessage) -> String {
    let properties = message
        .properties
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()));
    // Java prints bytes with their sign.
    let body: Vec<String> = message
        .body
        .iter()
        .map(|&byte| (byte as i8).to_string())
        .collect();
    let transaction = match message.property("TRAN_MSG") {
        Some(flag) if flag.eq_ignore_ascii_case("true") => {
            message.property("UNIQ_KEY").unwrap_or("null")
        }
        _ => "null",
    };
    format!(
        "MessageExt [brokerName={}, queueId={}, storeSize={}, queueOffset={}, sysFlag={}, bornTimestamp={}, bornHost=/{}, \
         storeTimestamp={}, storeHost=/{}, msgId={}, commitLogOffset={}, bodyCRC={}, reconsumeTimes={}, \
         preparedTransactionOffset={}, toString()=Message{{topic='{}', flag={}, properties={}, body=[{}], \
         transactionId='{transaction}'}}]",
        queue.broker_name,
        message.queue_id,
        message.store_size,
        message.queue_offset,
        message.sys_flag,
        message.born_timestamp,
        message.born_host,
        message.store_timestamp,
        message.store_host,
        message.offset_msg_id,
        message.commit_log_offset,
        message.body_crc,
        message.reconsume_times,
        message.prepared_transaction_offset,
        message.topic,
        message.flag,
        java_map(properties, PROPERTY_BUCKETS),
        body.join(", "),
    )
}

/// A message as a JSON value, for those commands that print one or several.
pub(crate) fn json_body(message: &StoredMessage) -> serde_json::Value {
    match std::str::from_utf8(&message.body) {
        Ok(text) => json!({ "body": text }),
        Err(_) => {
            let hex: String = message
                .body
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            json!({ "bodyHex": hex })
        }
    }
}
