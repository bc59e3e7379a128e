//! Transactions: messages that nobody sees until their producer says how its own work ended. Java 5.3: `TransactionalMessageServiceImpl`.
//!
//! A *half* lies in `RMQ_SYS_TRANS_HALF_TOPIC` with its real topic and queue in its properties. END_TRANSACTION (37) commits it: the message is
//! appended to the real topic, and in the same append an *op message* in `RMQ_SYS_TRANS_OP_HALF_TOPIC` names the half as ended. A rollback is the op
//! message alone. A half that nobody ends is *checked*: a producer of its group is asked (39) every `transactionCheckInterval`, any that is
//! connected, by turns. After `transactionCheckMax` checks, or when it is older than `fileReservedTime`, the message goes to
//! `TRANS_CHECK_MAX_TIME_TOPIC`, from which an operator can take it back (323).
//!
//! Which halves are pending is kept in memory ([`book`]) and read from the two queues at a start ([`rebuild`]), from the offsets of the system
//! group `CID_RMQ_SYS_TRANS` on, as Java does. So a check reads the halves that are due and no others, and a half is stored again only
//! when its record would expire or would hold the offsets back too far ([`check`]).
//!
//! What a crash may leave: the append of a commit and its op message is one write, which `kill -9` does not divide; loss of power
//! may keep the first and lose the second. Before a half that was pending at a start is asked about or ended, the index is therefore searched for its commit
//! ([`past`]), so that a message is not delivered twice. The offsets pass a half only when what ended it is flushed.

mod book;
mod check;
mod message;
mod past;
mod rebuild;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use platform::disk::Disk;
use protocol::code::ResponseCode;
use protocol::properties as names;
use protocol::topic;
use storage::{AppendError, Appended, NewMessage, Store};
use tokio::sync::Notify;

use crate::Broker;
use crate::call::Refusal;
use crate::config::BrokerKeys;
use crate::offsets::Offsets;
use crate::persist::JsonFile;

use book::{Book, Cursors, Half, Take};

pub(crate) use check::run;
pub(crate) use message::{HalfRecord, QUEUE, TIMED_BYTES};
pub(crate) use past::{Past, past_of};

/// The system group whose offsets say from where on both queues count. Java 5.3: `MixAll.CID_SYS_RMQ_TRANS`.
const GROUP: &str = "CID_RMQ_SYS_TRANS";
/// Halves that may be pending. Each takes some 100 bytes of memory. Further ones are refused until some have ended.
pub(crate) const PENDING_MAX: usize = 1 << 20;

/// The transactions of a broker.
pub(crate) struct Transactions {
    store: Arc<Store>,
    book: Mutex<Book>,
    /// Halves in the book, for those who only ask.
    pending: AtomicUsize,
    cursors: Mutex<Published>,
    /// Held while a half that was given up is committed after all.
    late: Mutex<()>,
    counters: Counters,
    /// Whose turn it is to be asked.
    turn: AtomicUsize,
    work: Notify,
    /// How often was asked about halves that are no copies yet.
    times: Mutex<JsonFile>,
    times_changed: AtomicUsize,
}

/// The offsets of the system group, and those that will be once what they stand behind is flushed.
#[derive(Debug, Default)]
struct Published {
    cursors: Cursors,
    staged: Option<(Cursors, u64)>,
}

/// How transactions ended since the start. They only grow.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) committed: AtomicU64,
    pub(crate) rolled_back: AtomicU64,
    /// Ends that say that the producer does not know yet.
    pub(crate) unknown: AtomicU64,
    /// Questions that left for a producer.
    pub(crate) checks: AtomicU64,
    /// Halves that went to `TRANS_CHECK_MAX_TIME_TOPIC`.
    pub(crate) given_up: AtomicU64,
    /// Halves that were stored again.
    pub(crate) moved: AtomicU64,
    /// Halves whose record was gone or could not be read: they are lost, and each has an error in the log.
    pub(crate) lost: AtomicU64,
    /// Halves that were due and had no producer to ask, in the last look.
    pub(crate) without_producer: AtomicU64,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// A half that was just stored.
pub(crate) struct NewHalf<'a> {
    pub(crate) appended: Appended,
    /// Its properties, as they were stored.
    pub(crate) properties: &'a str,
}

/// A half that one caller has alone. Dropped without [`Taken::ended`], it is pending as before.
pub(crate) struct Taken {
    transactions: Arc<Transactions>,
    pub(crate) offset: u64,
    pub(crate) half: Half,
    is_over: bool,
}

impl Taken {
    /// Since the start it is known that no commit of it is in the log.
    pub(crate) fn is_verified(&self) -> bool {
        self.half.verified
    }

    /// The same from here on.
    pub(crate) fn verified(&mut self) {
        self.half.verified = true;
        let offset = self.offset;
        self.transactions
            .book()
            .update(offset, |half| half.verified = true);
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if !self.is_over {
            self.transactions.book().release(self.offset);
        }
    }
}

/// Why a half cannot be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotTaken {
    /// Another request ends it at this moment.
    Busy,
    /// It lies elsewhere in the log.
    Elsewhere,
    /// It is not pending: it has ended, was copied, or never was.
    NotPending,
}

impl std::fmt::Debug for Transactions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transactions")
            .field("pending", &self.pending)
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}

impl Transactions {
    /// Reads which halves are pending. Blocks.
    pub(crate) fn load(
        dir: &Path,
        disk: Arc<dyn Disk>,
        store: Arc<Store>,
        offsets: &Offsets,
        keys: &BrokerKeys,
    ) -> Transactions {
        let file = JsonFile::new(dir.join(rebuild::TIMES_FILE), disk);
        let times: Option<BTreeMap<String, u32>> = file.load().unwrap_or_else(|error| {
            // A hint, without which some producers are asked more often.
            tracing::warn!(%error, "{} is left out", rebuild::TIMES_FILE);
            None
        });
        let at = rebuild::start(&store, offsets);
        let counters = Counters::default();
        let book = rebuild::read(&store, at, &times.unwrap_or_default(), keys, &counters.lost);
        Transactions {
            pending: AtomicUsize::new(book.len()),
            book: Mutex::new(book),
            cursors: Mutex::new(Published {
                cursors: at,
                staged: None,
            }),
            late: Mutex::new(()),
            counters,
            turn: AtomicUsize::new(0),
            work: Notify::new(),
            times: Mutex::new(file),
            times_changed: AtomicUsize::new(0),
            store,
        }
    }

    /// A lock that a panic left behind is usable: each change is complete in itself.
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn late(&self) -> MutexGuard<'_, ()> {
        self.late.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How transactions ended.
    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Halves that wait for their end.
    pub(crate) fn pending(&self) -> usize {
        self.pending.load(Ordering::Relaxed)
    }

    /// When the oldest of them was stored first, in milliseconds since 1970. Looks at all of them.
    pub(crate) fn oldest_ms(&self) -> Option<i64> {
        let book = self.book();
        book.behind(None).map(|(_, half)| half.stored_ms).min()
    }

    /// Whether one more half may be stored.
    pub(crate) fn check_room(&self) -> Result<(), Refusal> {
        if self.pending() < PENDING_MAX {
            return Ok(());
        }
        Err(Refusal::new(
            ResponseCode::SYSTEM_BUSY,
            format!(
                "{PENDING_MAX} transactions wait for their end, which is the most that this broker keeps; commit or roll back some. The producers that \
                 should end them may be down"
            ),
        ))
    }

    /// Halves were stored. Called before their senders are told.
    pub(crate) fn stored<'a>(
        &self,
        halves: impl IntoIterator<Item = NewHalf<'a>>,
        transaction_timeout_ms: u64,
    ) {
        let mut book = self.book();
        for NewHalf {
            appended,
            properties,
        } in halves
        {
            let immunity = names::get(properties, names::CHECK_IMMUNITY_TIME_IN_SECONDS);
            let immunity_ms = message::immunity_ms(immunity, transaction_timeout_ms);
            let group = names::get(properties, names::PRODUCER_GROUP).unwrap_or_default();
            let half = Half {
                physical: appended.physical_offset,
                stored_ms: appended.store_timestamp_ms,
                check_at_ms: appended.store_timestamp_ms.saturating_add(immunity_ms),
                group: book.group(group),
                times: 0,
                taken: false,
                verified: true,
            };
            book.enter(appended.queue_offset, half);
        }
        self.pending.store(book.len(), Ordering::Relaxed);
        drop(book);
        self.work.notify_one();
    }

    /// Takes a half in order to end it.
    pub(crate) fn take(self: &Arc<Self>, offset: u64, physical: u64) -> Result<Taken, NotTaken> {
        match self.book().take(offset, physical) {
            Take::Taken(half) => Ok(Taken {
                transactions: self.clone(),
                offset,
                half,
                is_over: false,
            }),
            Take::Busy => Err(NotTaken::Busy),
            Take::Elsewhere => Err(NotTaken::Elsewhere),
            Take::NotPending => Err(NotTaken::NotPending),
        }
    }

    /// Whether the half at this place is pending.
    pub(crate) fn is_pending(&self, offset: u64, physical: u64) -> bool {
        self.book()
            .get(offset)
            .is_some_and(|half| half.physical == physical)
    }

    /// Appends `messages`, which decide `taken`, and the op message that says so, in one append: the commit before the op. On an error nothing was
    /// stored, and everything is pending as before. Gives what was appended; the op message is the last.
    pub(crate) fn end(
        &self,
        broker: &Broker,
        taken: &mut [&mut Taken],
        messages: Vec<NewMessage<'_>>,
    ) -> Result<Vec<Appended>, AppendError> {
        let body = message::op_body(taken.iter().map(|taken| taken.offset));
        let properties = message::op_properties(&broker.unique_ids.next(broker.now_ms()));
        let store_host = broker.identity().address;
        let mut messages = messages;
        messages.push(NewMessage {
            topic: topic::TRANS_OP_HALF,
            queue_id: QUEUE,
            flag: 0,
            sys_flag: 0,
            born_timestamp_ms: broker.now_ms(),
            born_host: store_host,
            store_host,
            reconsume_times: 0,
            prepared_transaction_offset: 0,
            body: &body,
            properties: &properties,
        });
        let mut appended = Vec::with_capacity(messages.len());
        self.store.append(&messages, &mut appended)?;
        let (first, op) = (appended[0], appended[appended.len() - 1]);
        broker
            .counters
            .put(messages.len(), first.physical_offset, op.end);
        let ended: Vec<u64> = taken.iter().map(|taken| taken.offset).collect();
        let mut book = self.book();
        book.ended(&ended, op.queue_offset);
        self.pending.store(book.len(), Ordering::Relaxed);
        drop(book);
        for taken in taken {
            taken.is_over = true;
        }
        Ok(appended)
    }

    /// Commits what was given up before, once: `commit` looks whether somebody else did, and appends.
    pub(crate) fn commit_late<T>(&self, commit: impl FnOnce() -> T) -> T {
        let _alone = self.late();
        commit()
    }

    /// A half was stored in the place of another, which the same append ended, or of one that had been given up.
    fn enter_copy(&self, appended: &Appended, copy: Half) {
        let mut book = self.book();
        let copy = Half {
            physical: appended.physical_offset,
            group: book.group(&copy.group),
            taken: false,
            ..copy
        };
        book.enter(appended.queue_offset, copy);
        self.pending.store(book.len(), Ordering::Relaxed);
        drop(book);
        self.work.notify_one();
    }

    /// A message that was given up is a half again, and is checked as one that is new.
    pub(crate) fn resumed(&self, broker: &Broker, appended: &Appended, half: &HalfRecord<'_>) {
        let now_ms = appended.store_timestamp_ms;
        let timeout_ms = broker.keys().transaction_time_out;
        let copy = Half {
            physical: appended.physical_offset,
            stored_ms: now_ms,
            check_at_ms: now_ms.saturating_add(half.immunity_ms(timeout_ms)),
            group: Arc::from(half.group),
            times: 0,
            taken: false,
            verified: true,
        };
        self.enter_copy(appended, copy);
    }

    /// Nobody has been asked about the half yet, whatever was.
    pub(crate) fn forget_checks(&self, offset: u64, now_ms: i64) {
        self.book().update(offset, |half| {
            half.times = 0;
            half.check_at_ms = now_ms;
        });
        self.times_changed.fetch_add(1, Ordering::Relaxed);
    }

    /// Says to the system group how far both queues are done, as far as that is flushed. Called by one at a time, at intervals: consumer offsets of the
    /// two topics are written to their file one after the other, so the op messages that one step passes are those of the step before.
    fn publish(&self, offsets: &Offsets) {
        let mut published = self.cursors.lock().unwrap_or_else(PoisonError::into_inner);
        let flushed = self.store.flushed();
        if let Some((cursors, position)) = published.staged
            && position <= flushed
        {
            published.staged = None;
            if published.cursors != cursors {
                published.cursors = cursors;
                let Cursors { half, op } = cursors;
                offsets.commit(GROUP, topic::TRANS_HALF, QUEUE, half as i64);
                offsets.commit(GROUP, topic::TRANS_OP_HALF, QUEUE, op as i64);
            }
        }
        if published.staged.is_none() {
            let cursors = self.book().cursors(published.cursors.half);
            if cursors != published.cursors {
                // Whatever lets the cursors pass lies before this.
                published.staged = Some((cursors, self.store.commit_log_max()));
            }
        }
    }
}
