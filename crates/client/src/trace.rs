//! Traces of messages: who sent, received and ended what, and when, as messages of a trace topic that Java's tools read. Java 5.3:
//! `AsyncTraceDispatcher`, `TraceDataEncoder`.
//!
//! A trace is worth less than the message that it tells of: it is noted without waiting, and dropped when notes come faster than they leave. Messages of
//! the trace topic itself are not traced.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use protocol::topic;
use tokio::sync::{mpsc, oneshot};

use crate::error::Error;
use crate::message::{Message, Received};
use crate::producer::Producer;
use crate::transaction::TransactionState;

/// Between the fields of a note.
const FIELD_END: char = '\u{1}';
/// Behind a note.
const NOTE_END: char = '\u{2}';
/// Notes that wait to be sent; further ones are dropped.
const WAITING_MAX: usize = 2048;
/// Notes of one message.
const BATCH_MAX: usize = 20;
/// Bytes of one message, unless one note is larger.
const BATCH_BYTES_MAX: usize = 128_000;
/// How long a note waits for others.
const BATCH_WAIT: Duration = Duration::from_secs(5);
/// How long a shutdown waits for the last notes.
const SHUTDOWN_MAX: Duration = Duration::from_secs(5);
/// The region of a broker that names none.
pub(crate) const DEFAULT_REGION: &str = "DefaultRegion";

/// Java's ordinals of `MessageType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Normal = 0,
    Half = 1,
    Commit = 2,
    Delayed = 3,
}

/// Java's ordinals of `ConsumeReturnType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Consumed {
    Success = 0,
    Failed = 4,
}

/// What one note says, and the keys by which it is found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Note {
    text: String,
    keys: Vec<String>,
}

/// A send that a broker acknowledged.
#[derive(Debug)]
pub(crate) struct Sent<'a> {
    pub(crate) began_ms: i64,
    pub(crate) took_ms: i64,
    pub(crate) region: &'a str,
    pub(crate) group: &'a str,
    pub(crate) topic: &'a str,
    pub(crate) message_id: &'a str,
    pub(crate) tag: &'a str,
    pub(crate) keys: &'a str,
    pub(crate) broker: &'a str,
    pub(crate) body_bytes: usize,
    pub(crate) kind: Kind,
    pub(crate) offset_message_id: &'a str,
    pub(crate) is_ok: bool,
}

/// The end of a transaction.
#[derive(Debug)]
pub(crate) struct Ended<'a> {
    pub(crate) at_ms: i64,
    pub(crate) region: &'a str,
    pub(crate) group: &'a str,
    pub(crate) topic: &'a str,
    pub(crate) message_id: &'a str,
    pub(crate) broker: &'a str,
    pub(crate) state: TransactionState,
    pub(crate) is_checked: bool,
}

fn line(fields: &[&dyn std::fmt::Display]) -> String {
    let mut text = String::new();
    for (index, field) in fields.iter().enumerate() {
        if index > 0 {
            text.push(FIELD_END);
        }
        write!(text, "{field}").expect("a String takes everything");
    }
    text.push(NOTE_END);
    text
}

fn keys(message_id: &str, keys: &str) -> Vec<String> {
    let keys = keys.split(' ').filter(|key| !key.is_empty());
    std::iter::once(message_id)
        .chain(keys)
        .map(str::to_owned)
        .collect()
}

impl Note {
    /// `Pub`.
    pub(crate) fn sent(sent: &Sent<'_>) -> Note {
        Note {
            text: line(&[
                &"Pub",
                &sent.began_ms,
                &sent.region,
                &sent.group,
                &sent.topic,
                &sent.message_id,
                &sent.tag,
                &sent.keys,
                &sent.broker,
                &sent.body_bytes,
                &sent.took_ms,
                &(sent.kind as u8),
                &sent.offset_message_id,
                &sent.is_ok,
            ]),
            keys: keys(sent.message_id, sent.keys),
        }
    }

    /// `SubBefore`: a listener gets a message. None when the broker switched traces off for it.
    pub(crate) fn received(
        message: &Received,
        group: &str,
        request_id: &str,
        at_ms: i64,
    ) -> Option<Note> {
        if message.property(protocol::properties::TRACE_SWITCH) == Some("false") {
            return None;
        }
        let region = message.property(protocol::properties::MSG_REGION);
        let of_message = message.keys().unwrap_or_default();
        Some(Note {
            text: line(&[
                &"SubBefore",
                &at_ms,
                &region.unwrap_or(DEFAULT_REGION),
                &group,
                &request_id,
                &message.message_id,
                &message.reconsume_times,
                &of_message,
            ]),
            keys: keys(&message.message_id, of_message),
        })
    }

    /// `SubAfter`: what the listener said.
    pub(crate) fn consumed(
        message: &Received,
        group: &str,
        request_id: &str,
        at_ms: i64,
        took_ms: i64,
        consumed: Consumed,
    ) -> Note {
        let of_message = message.keys().unwrap_or_default();
        Note {
            text: line(&[
                &"SubAfter",
                &request_id,
                &message.message_id,
                &took_ms,
                &(consumed == Consumed::Success),
                &of_message,
                &(consumed as u8),
                &at_ms,
                &group,
            ]),
            keys: keys(&message.message_id, of_message),
        }
    }

    /// `EndTransaction`.
    pub(crate) fn ended(ended: &Ended<'_>) -> Note {
        let state = match ended.state {
            TransactionState::Commit => "COMMIT_MESSAGE",
            TransactionState::Rollback => "ROLLBACK_MESSAGE",
            TransactionState::Unknown => "UNKNOW",
        };
        Note {
            text: line(&[
                &"EndTransaction",
                &ended.at_ms,
                &ended.region,
                &ended.group,
                &ended.topic,
                &ended.message_id,
                &"",
                &"",
                &ended.broker,
                &(Kind::Commit as u8),
                &ended.message_id,
                &state,
                &ended.is_checked,
            ]),
            keys: keys(ended.message_id, ""),
        }
    }
}

/// Takes notes, and sends them behind whoever made them.
#[derive(Clone)]
pub(crate) struct Tracer {
    topic: Arc<str>,
    notes: mpsc::Sender<Work>,
}

enum Work {
    Note(Note),
    /// Send what there is, and say so.
    Flush(oneshot::Sender<()>),
}

impl Tracer {
    /// Sends traces of `group` to `topic`, by a producer of its own. The task ends with the last of the clones.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the name server list cannot be used.
    pub(crate) fn start(group: &str, topic: &str, nameservers: &str) -> Result<Tracer, Error> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed) + 1;
        let group = format!("_INNER_TRACE_PRODUCER-{group}-PRODUCE-{number}");
        let producer = Producer::builder(group, nameservers)
            .send_timeout(SHUTDOWN_MAX)
            .start()?;
        let (notes, waiting) = mpsc::channel(WAITING_MAX);
        let topic: Arc<str> = Arc::from(topic);
        tokio::spawn(run(producer, topic.clone(), waiting));
        Ok(Tracer { topic, notes })
    }

    /// Whether messages of a topic are traced.
    pub(crate) fn traces(&self, topic: &str) -> bool {
        !topic.starts_with(&*self.topic) && topic != topic::TRACE
    }

    /// Takes a note. Does not wait.
    pub(crate) fn note(&self, note: Note) {
        if self.notes.try_send(Work::Note(note)).is_err() {
            tracing::debug!("a trace is dropped: more come than leave");
        }
    }

    /// Sends what there is.
    pub(crate) async fn flush(&self) {
        let (done, wait) = oneshot::channel();
        let flush = async {
            if self.notes.send(Work::Flush(done)).await.is_ok() {
                // The task is gone when nobody answers, and the notes with it.
                let _ = wait.await;
            }
        };
        if tokio::time::timeout(SHUTDOWN_MAX, flush).await.is_err() {
            tracing::debug!("the last traces did not leave in time");
        }
    }
}

async fn run(producer: Producer, topic: Arc<str>, mut waiting: mpsc::Receiver<Work>) {
    let mut batch: Vec<Note> = Vec::new();
    loop {
        let next = if batch.is_empty() {
            waiting.recv().await
        } else {
            match tokio::time::timeout(BATCH_WAIT, waiting.recv()).await {
                Ok(next) => next,
                Err(_) => {
                    send(&producer, &topic, &mut batch).await;
                    continue;
                }
            }
        };
        match next {
            Some(Work::Note(note)) => {
                batch.push(note);
                let bytes: usize = batch.iter().map(|note| note.text.len()).sum();
                if batch.len() >= BATCH_MAX || bytes >= BATCH_BYTES_MAX {
                    send(&producer, &topic, &mut batch).await;
                }
            }
            Some(Work::Flush(done)) => {
                send(&producer, &topic, &mut batch).await;
                // Whoever asked may have given up.
                let _ = done.send(());
            }
            None => break,
        }
    }
    send(&producer, &topic, &mut batch).await;
    producer.shutdown().await;
}

async fn send(producer: &Producer, topic: &str, batch: &mut Vec<Note>) {
    if batch.is_empty() {
        return;
    }
    let mut text = String::new();
    let mut keys = BTreeSet::new();
    for note in batch.drain(..) {
        text.push_str(&note.text);
        keys.extend(note.keys);
    }
    let message = keys
        .into_iter()
        .fold(Message::new(topic, text), Message::key);
    if let Err(error) = producer.send(message).await {
        tracing::warn!(%error, "traces are lost");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_have_the_form_that_java_reads() {
        let sent = Note::sent(&Sent {
            began_ms: 1_000,
            took_ms: 7,
            region: "R",
            group: "g",
            topic: "T",
            message_id: "ID",
            tag: "t",
            keys: "a b",
            broker: "127.0.0.1:10911",
            body_bytes: 12,
            kind: Kind::Delayed,
            offset_message_id: "OFF",
            is_ok: true,
        });
        let shown = sent.text.replace('\u{1}', "|").replace('\u{2}', ";");
        assert_eq!(
            shown,
            "Pub|1000|R|g|T|ID|t|a b|127.0.0.1:10911|12|7|3|OFF|true;"
        );
        assert_eq!(sent.keys, ["ID", "a", "b"]);
        let ended = Note::ended(&Ended {
            at_ms: 5,
            region: "R",
            group: "g",
            topic: "T",
            message_id: "ID",
            broker: "b:1",
            state: TransactionState::Rollback,
            is_checked: false,
        });
        let shown = ended.text.replace('\u{1}', "|").replace('\u{2}', ";");
        assert_eq!(
            shown,
            "EndTransaction|5|R|g|T|ID|||b:1|2|ID|ROLLBACK_MESSAGE|false;"
        );
    }
}
