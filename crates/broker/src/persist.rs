//! What is kept in `config/`: the tables of topics, groups and offsets, and the task that writes what changed.
//!
//! The JSON files are Java's (5.3: `ConfigManager`), text and names, so that a Java broker opens them. Writing one costs as much
//! as the table is large, so a change goes to a journal beside it first (`kept`). Whatever moment the process or the
//! machine dies at, JSON file or `.bak`, with the journal, are every change that was acknowledged.
//!
//! The last member of a JSON file is a checksum of the others, which Java passes over. What does not fit it is taken as it stands, since a
//! person may have edited it, and the log says so.

mod journal;
mod json_file;
mod kept;
mod pretty;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use platform::clock::{Clock, RealClock};
use protocol::body::DataVersion;
use protocol::json::BodyError;
use tokio::time::{Instant, MissedTickBehavior};

use crate::Broker;

pub(crate) use journal::Position;
pub(crate) use json_file::JsonFile;
pub(crate) use kept::{Kept, Snapshot};

/// How often silent clients are looked for. Java 5.3: `ClientHousekeepingService`.
const CLIENT_SCAN_INTERVAL: Duration = Duration::from_secs(10);
/// Between two looks at the counters of messages. Java 5.3: `StoreStatsService`.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);
/// Between two writings of the filters, if they changed. Java 5.3: `BrokerController`.
const FILTERS_INTERVAL: Duration = Duration::from_secs(10);
/// Between two writings of what is popped in order, at least; and how many times the duration of the last one, so that they take a twentieth of the time at most.
const ORDERS_REST: Duration = Duration::from_millis(100);
const ORDERS_REST_TIMES: u32 = 20;
/// How long a failed write waits for its next attempt.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// A file of `config/` that cannot be read. The operator repairs or removes it; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The system does not give it.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Neither the file nor its `.bak` holds what it should.
    #[error("cannot understand {} and there is no usable copy beside it (.bak): {source}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: BodyError,
    },
}

/// A table changed: its version moves on. Java 5.3: `DataVersion.nextVersion`.
pub(crate) fn next_version(version: &mut DataVersion) {
    version.counter += 1;
    version.timestamp = RealClock::new().now_ms();
}

/// The version of a table that is new.
pub(crate) fn first_version() -> DataVersion {
    DataVersion {
        timestamp: RealClock::new().now_ms(),
        ..DataVersion::default()
    }
}

/// The task that writes changed tables: topics and groups at once, offsets every `flushConsumerOffsetInterval`. It also
/// forgets clients that went silent and what they locked, and tells consumers of each other.
pub(crate) async fn run(broker: Arc<Broker>) {
    tokio::join!(
        crate::notify::run(broker.clone()),
        crate::locks::run(broker.clone()),
        crate::broadcast::run(broker.clone()),
        crate::cold::run(broker.clone()),
        sample(&broker),
        write_changes(&broker)
    );
}

/// Takes note of how many messages came and went, for the rates that tools print.
async fn sample(broker: &Arc<Broker>) {
    let mut interval = tokio::time::interval(SAMPLE_INTERVAL);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let counters = &broker.counters;
        broker.rates.sample(
            broker.now_ms(),
            counters.messages_in(),
            counters.messages_out(),
        );
        broker.stats.sample(broker.now_ms());
    }
}

/// Looks for silent clients, and writes what changed.
async fn write_changes(broker: &Arc<Broker>) {
    tokio::join!(
        scan_clients(broker),
        keep(
            broker,
            |broker| broker.topics.kept(),
            |broker| broker.topics.commit(),
            |broker| broker.topics.fold()
        ),
        keep(
            broker,
            |broker| broker.groups.kept(),
            |broker| broker.groups.commit(),
            |broker| broker.groups.fold()
        ),
        keep_offsets(broker),
        keep_filters(broker),
        keep_orders(broker),
    );
}

async fn scan_clients(broker: &Broker) {
    let mut interval = tokio::time::interval(CLIENT_SCAN_INTERVAL);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        crate::clients::scan(broker);
    }
}

type Write = fn(&Broker) -> io::Result<()>;

/// Commits the changes of a table that nobody waits for, and folds it into its JSON file as often as that may cost.
async fn keep(broker: &Arc<Broker>, kept: fn(&Broker) -> &Kept, commit: Write, fold: Write) {
    let mut fold_at = Some(Instant::now());
    let mut next_fold = Instant::now();
    let mut failing = false;
    loop {
        let is_due = tokio::select! {
            () = kept(broker).changed() => {
                fold_at.get_or_insert(next_fold);
                Instant::now() >= next_fold
            }
            () = until(fold_at) => true,
        };
        // A fold makes durable what a commit would.
        let written = blocking(broker, if is_due { fold } else { commit }).await;
        note(&mut failing, &written);
        if written.is_err() {
            next_fold = Instant::now() + RETRY_INTERVAL;
            fold_at = Some(next_fold);
        } else if is_due {
            fold_at = None;
            next_fold = Instant::now() + kept(broker).rest();
        }
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// Offsets are written at intervals: `flushConsumerOffsetInterval`, or longer when the table is so large that writing it would
/// take more than a twentieth of the time.
async fn keep_offsets(broker: &Arc<Broker>) {
    let mut failing = false;
    let mut wait = offsets_interval(broker);
    loop {
        tokio::time::sleep(wait).await;
        let written = blocking(broker, |broker| broker.offsets.fold()).await;
        note(&mut failing, &written);
        wait = match written {
            Ok(()) => offsets_interval(broker).max(broker.offsets.kept().rest()),
            Err(_) => RETRY_INTERVAL,
        };
    }
}

/// What is lost of the filters comes back with heartbeats: they are written at intervals.
async fn keep_filters(broker: &Arc<Broker>) {
    let mut failing = false;
    loop {
        tokio::time::sleep(FILTERS_INTERVAL).await;
        let written = blocking(broker, |broker| broker.filters.save()).await;
        note(&mut failing, &written);
    }
}

/// Which queues stand still in order is written soon: what is not written when the process dies is free at once.
async fn keep_orders(broker: &Arc<Broker>) {
    let mut failing = false;
    loop {
        broker.pop.order_file.changed().await;
        let began = Instant::now();
        let written = blocking(broker, |broker| broker.pop.order_file.save(broker)).await;
        note(&mut failing, &written);
        let rest = match written {
            Ok(()) => ORDERS_REST.max(began.elapsed() * ORDERS_REST_TIMES),
            Err(_) => RETRY_INTERVAL,
        };
        tokio::time::sleep(rest).await;
    }
}

async fn blocking(broker: &Arc<Broker>, write: Write) -> io::Result<()> {
    let broker = broker.clone();
    match tokio::task::spawn_blocking(move || write(&broker)).await {
        Ok(written) => written,
        // The process ends, or a bug was reported where it happened.
        Err(_) => Ok(()),
    }
}

/// Logs once when writing begins to fail, and once when it ends.
fn note(failing: &mut bool, written: &io::Result<()>) {
    match written {
        Ok(()) if *failing => {
            *failing = false;
            tracing::info!("configuration tables can be written again");
        }
        Err(error) if !*failing => {
            *failing = true;
            tracing::error!(%error, "cannot write a configuration table; topics, groups and offsets are kept in memory only. Trying again every second");
        }
        Ok(()) | Err(_) => {}
    }
}

fn offsets_interval(broker: &Broker) -> Duration {
    Duration::from_millis(broker.keys().flush_consumer_offset_interval)
}

/// Writes the JSON file of every table that changed; their journals go. The first error is given back after all of them
/// were tried. Blocks.
pub(crate) fn fold_all(broker: &Broker) -> io::Result<()> {
    let folded = [
        broker.topics.fold(),
        broker.groups.fold(),
        broker.pop.order_file.save(broker),
        broker.offsets.fold(),
        broker.filters.save(),
    ];
    folded.into_iter().collect()
}
