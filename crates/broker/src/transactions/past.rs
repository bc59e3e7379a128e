//! What became of a half that is not pending, or may have been committed by a broker that died before it could say so: the index tells.

use bytes::Bytes;
use protocol::record::{self, CheckBody};
use protocol::topic;
use storage::{ReadError, Store};

use super::Transactions;
use super::message::HalfRecord;

/// Records with one unique id that are looked at.
const SAME_ID_MAX: usize = 64;

/// What became of a half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Past {
    /// Its message is in the real topic.
    Committed,
    /// A copy stands for it.
    Copied {
        /// The copy's queue offset.
        offset: u64,
        /// Where the copy lies.
        physical: u64,
    },
    /// It went to `TRANS_CHECK_MAX_TIME_TOPIC`.
    GivenUp,
    /// None of these: it is pending itself, or was rolled back.
    Nothing,
}

/// Whether the log has a commit of this half, or of a copy of it. Without an index (`messageIndexEnable=false`) nothing is found. May wait for the disk.
pub(crate) fn is_committed(store: &Store, half: &HalfRecord<'_>) -> Result<bool, ReadError> {
    for topic in half.committed_topics() {
        let found = with_same_id(store, topic, half)?;
        if any(&found, |record| half.is_committed_by(record)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What became of a half. May wait for the disk.
pub(crate) fn past_of(
    transactions: &Transactions,
    half: &HalfRecord<'_>,
) -> Result<Past, ReadError> {
    let store = &transactions.store;
    if is_committed(store, half)? {
        return Ok(Past::Committed);
    }
    for bytes in with_same_id(store, topic::TRANS_HALF, half)? {
        let Ok(copy) = record::decode(&bytes, CheckBody::No) else {
            continue;
        };
        let (offset, physical) = (copy.queue_offset, copy.physical_offset);
        if half.is_copied_by(&copy) && transactions.is_pending(offset, physical) {
            return Ok(Past::Copied { offset, physical });
        }
    }
    let given_up = with_same_id(store, topic::TRANS_CHECK_MAX_TIME, half)?;
    if any(&given_up, |record| half.is_copied_by(record)) {
        return Ok(Past::GivenUp);
    }
    Ok(Past::Nothing)
}

fn with_same_id(
    store: &Store,
    topic: &str,
    half: &HalfRecord<'_>,
) -> Result<Vec<Bytes>, ReadError> {
    let Some(id) = half.unique_id else {
        return Ok(Vec::new());
    };
    let found = store.query_by_key(topic, id, SAME_ID_MAX, half.past_begins_ms(), i64::MAX)?;
    Ok(found.records)
}

fn any(records: &[Bytes], is_wanted: impl Fn(&record::Record<'_>) -> bool) -> bool {
    records
        .iter()
        .filter_map(|bytes| record::decode(bytes, CheckBody::No).ok())
        .any(|record| is_wanted(&record))
}
