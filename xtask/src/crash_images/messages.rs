//! The messages of the campaigns: everything about one follows from its number, so that what is read back can be told from everything else.

use std::time::Duration;

use protocol::record::Record;
use protocol::sysflag;
use storage::{NewMessage, Store};

use platform::random::Random;

/// Queues that the messages go to. One name is too long for a record of version 1.
pub(crate) const QUEUES: [(&str, i32); 6] = [
    ("Orders", 0),
    ("Orders", 1),
    ("Orders", 2),
    ("%RETRY%billing", 0),
    (LONG, 0),
    (LONG, 1),
];
/// A sync in memory that takes longer does not come.
const SETTLE_MAX: Duration = Duration::from_secs(60);
const LONG: &str = "%DLQ%a-group-whose-name-is-so-long-that-the-length-of-the-topic-no-longer-fits-into-one-signed-byte-and-the-record-is-of-the-second-version";

/// A message to send, or one that was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) topic: &'static str,
    pub(crate) queue_id: i32,
    flag: i32,
    /// Prepared transactions are in the log and the index, and in no queue.
    pub(crate) is_prepared: bool,
    pub(crate) body: Vec<u8>,
    pub(crate) properties: String,
    /// Found by no other message.
    pub(crate) key: String,
}

impl Message {
    /// The message of this number.
    pub(crate) fn of(number: u64) -> Message {
        let mut random = Random(number);
        let (topic, queue_id) = QUEUES[random.below(QUEUES.len() as u64) as usize];
        let body_bytes = match random.below(16) {
            0 => 8,
            1 => 3000 + random.below(2500),
            2..6 => 400 + random.below(400),
            _ => 20 + random.below(200),
        };
        let mut body = number.to_be_bytes().to_vec();
        while body.len() < body_bytes as usize {
            // Runs of zeros too: they must not be taken for sectors that were never written.
            let byte = random.next_u64() as u8;
            let zeros = random.once_in(8);
            let run = 1 + random.below(if zeros { 700 } else { 8 }) as usize;
            body.extend(std::iter::repeat_n(if zeros { 0 } else { byte }, run));
        }
        body.truncate(body_bytes as usize);
        let key = format!("k{number}");
        let mut properties = format!(
            "KEYS\u{1}{key} shared{}\u{2}UNIQ_KEY\u{1}id-{number:016X}\u{2}",
            number / 3
        );
        if random.once_in(2) {
            properties += &format!("TAGS\u{1}tag{}\u{2}", random.below(4));
        }
        if random.once_in(8) {
            let text = "payload-of-a-property-".repeat(1 + random.below(60) as usize);
            properties += &format!("note\u{1}{text}\u{2}");
        }
        Message {
            topic,
            queue_id,
            flag: random.next_u64() as i32,
            is_prepared: random.once_in(12),
            body,
            properties,
            key,
        }
    }

    /// The number of a message that was read.
    pub(crate) fn number(body: &[u8]) -> Option<u64> {
        Some(u64::from_be_bytes(body.get(..8)?.try_into().ok()?))
    }

    /// As the store takes it.
    pub(crate) fn new_message(&self) -> NewMessage<'_> {
        NewMessage {
            topic: self.topic,
            queue_id: self.queue_id,
            flag: self.flag,
            sys_flag: if self.is_prepared {
                sysflag::TRANSACTION_PREPARED
            } else {
                0
            },
            born_timestamp_ms: 1_700_000_000_000,
            born_host: ([10, 1, 2, 3], 5555).into(),
            store_host: ([127, 0, 0, 1], 10911).into(),
            reconsume_times: 0,
            prepared_transaction_offset: 0,
            body: &self.body,
            properties: &self.properties,
        }
    }

    /// What differs in the record, if anything.
    pub(crate) fn difference(&self, record: &Record<'_>) -> Option<&'static str> {
        let prepared = record.sys_flag & sysflag::TRANSACTION_MASK == sysflag::TRANSACTION_PREPARED;
        let checks = [
            (record.topic == self.topic, "topic"),
            (record.queue_id == self.queue_id, "queue"),
            (record.body == self.body, "body"),
            (record.properties == self.properties, "properties"),
            (record.flag == self.flag, "flag"),
            (prepared == self.is_prepared, "transaction type"),
        ];
        checks
            .into_iter()
            .find(|(same, _)| !same)
            .map(|(_, what)| what)
    }
}

/// Whether the log gets synced up to its end.
pub(crate) async fn settled(store: &Store) -> bool {
    let end = store.commit_log_max();
    store.request_flush();
    let mut state = store.flush_state();
    let reached = state.wait_for(|state| state.failed || state.flushed >= end);
    let reached = tokio::time::timeout(SETTLE_MAX, reached).await;
    reached.is_ok_and(|state| state.is_ok_and(|state| !state.failed))
}
