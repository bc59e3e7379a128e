//! How far the log survives loss of power, and the thread that carries it on.
//!
//! Group commit without a timer: a sync takes everything that was appended while the last one ran.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::Thread;
use std::time::Duration;
use std::{fmt, io};

use tokio::sync::watch;

use crate::config::FlushMode;
use crate::queue::Queue;
use crate::store::Inner;

/// What is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlushState {
    /// Position of the log up to which everything survives loss of power.
    pub flushed: u64,
    /// A write or a sync failed: `flushed` will not grow again.
    pub failed: bool,
}

/// Who is told of each change of the watermark, by the thread that made it.
pub(crate) type Listener = Box<dyn Fn(FlushState) + Send + Sync>;

/// The watermark and what waits for it.
pub(crate) struct Flush {
    state: watch::Sender<FlushState>,
    listener: OnceLock<Listener>,
    thread: OnceLock<Thread>,
    requested: AtomicBool,
    /// Watched queues with records that consumers may not see yet, and the position that shows them. Used under `Sync` only.
    hidden: Mutex<Vec<(u64, Arc<Queue>)>>,
    syncs: AtomicU64,
}

impl Flush {
    pub(crate) fn new(flushed: u64) -> Flush {
        Flush {
            state: watch::Sender::new(FlushState {
                flushed,
                failed: false,
            }),
            listener: OnceLock::new(),
            thread: OnceLock::new(),
            requested: AtomicBool::new(false),
            hidden: Mutex::default(),
            syncs: AtomicU64::new(0),
        }
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<FlushState> {
        self.state.subscribe()
    }

    /// Tells the flusher that there is work. Costs no system call while it is busy.
    pub(crate) fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    pub(crate) fn request(&self) {
        self.requested.store(true, Ordering::Release);
        self.wake();
    }

    pub(crate) fn syncs(&self) -> u64 {
        self.syncs.load(Ordering::Relaxed)
    }

    /// Those who wait for the watermark learn that it will not come.
    pub(crate) fn fail(&self) {
        self.change(|state| state.failed = true);
    }

    /// The first listener stays. It is told of the present state at once.
    pub(crate) fn listen(&self, listener: Listener) {
        let listener = self.listener.get_or_init(|| listener);
        let state = *self.state.borrow();
        listener(state);
    }

    fn change(&self, change: impl FnOnce(&mut FlushState)) {
        self.state.send_modify(change);
        if let Some(listener) = self.listener.get() {
            let state = *self.state.borrow();
            listener(state);
        }
    }

    /// Remembers to tell of `queue` once the watermark reaches `end`. Called with the append lock held, before `appended` shows the records,
    /// so that no flush can pass them unseen.
    pub(crate) fn hide(&self, queues: &mut Vec<Arc<Queue>>, end: u64) {
        let mut hidden = self
            .hidden
            .lock()
            .expect("no code panics while it changes the list of hidden queues");
        hidden.extend(queues.drain(..).map(|queue| (end, queue)));
    }

    fn revealed(&self, flushed: u64) -> Vec<Arc<Queue>> {
        let mut hidden = self
            .hidden
            .lock()
            .expect("no code panics while it changes the list of hidden queues");
        let mut queues = Vec::new();
        hidden.retain(|(end, queue)| {
            let hide = *end > flushed;
            if !hide {
                queues.push(Arc::clone(queue));
            }
            hide
        });
        queues.sort_unstable_by_key(|queue| Arc::as_ptr(queue) as usize);
        queues.dedup_by(|a, b| Arc::ptr_eq(a, b));
        queues
    }
}

impl fmt::Debug for Flush {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Flush")
            .field("state", &*self.state.borrow())
            .finish_non_exhaustive()
    }
}

/// The flusher's life.
pub(crate) fn run(inner: &Inner) {
    let _ = inner.flush.thread.set(std::thread::current());
    let mut last = inner.clock.monotonic();
    let interval = Duration::from_millis(inner.config.flush_interval_ms.max(1));
    loop {
        if inner.stop.is_abandoned() || inner.health.failure().is_some() {
            return;
        }
        let stopping = inner.stop.is_requested();
        let behind = inner.log.flushed() < inner.log.appended();
        if !behind {
            inner.flush.requested.store(false, Ordering::Release);
            if inner.log.flushed() < inner.log.appended() {
                continue;
            }
            if stopping {
                return;
            }
            // Under `Async` nobody wakes the flusher for an append; it looks by itself.
            match inner.config.flush {
                FlushMode::Sync => std::thread::park(),
                FlushMode::Async => std::thread::park_timeout(interval),
            }
            continue;
        }
        if inner.config.flush == FlushMode::Async
            && !stopping
            && !inner.flush.requested.swap(false, Ordering::AcqRel)
        {
            let since = inner.clock.monotonic().saturating_sub(last);
            if since < interval {
                std::thread::park_timeout(interval - since);
                continue;
            }
        }
        last = inner.clock.monotonic();
        if let Err(error) = sync_appended(inner) {
            inner.fail(&format!("syncing the commit log: {error}"));
            return;
        }
    }
}

/// One sync of everything that is appended at this moment.
fn sync_appended(inner: &Inner) -> io::Result<()> {
    let from = inner.log.flushed();
    let to = inner.log.appended();
    for segment in inner.log.segments.overlapping(from, to) {
        segment.file.sync_data()?;
    }
    inner.flush.syncs.fetch_add(1, Ordering::Relaxed);
    inner.log.ahead.note_sync(to - from);
    inner.log.publish_flushed(to);
    inner.flush.change(|state| state.flushed = to);
    inner.writer.flushed();
    for queue in inner.flush.revealed(to) {
        inner.tell_arrival(&queue);
    }
    Ok(())
}
