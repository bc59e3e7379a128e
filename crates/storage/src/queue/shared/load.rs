//! Opening the shared store: which runs are good, and where each queue begins and ends by them.

use std::io;
use std::path::Path;
use std::sync::Arc;

use platform::disk::Disk;

use super::names::{Names, Snapshot};
use super::run::{self, Run, Slot};
use super::{Shared, min_behind};
use crate::queue::{Queue, Table};

/// What was found.
pub(crate) struct Opened {
    pub(crate) shared: Shared,
    /// All queues that have a name.
    pub(crate) queues: Vec<Arc<Queue>>,
    /// False when the runs do not add up: the entries are to be made again from the log.
    pub(crate) sound: bool,
    /// Where queues went on by the last snapshot, for those whose records are all gone.
    pub(crate) floors: Vec<(Arc<Queue>, u64)>,
}

/// Where a queue begins and ends.
#[derive(Clone, Copy)]
struct Span {
    min: u64,
    max: u64,
}

impl Span {
    /// Adds an entry. The span is right for the records below `right_for`, of which none is in the log.
    fn take(&mut self, slot: &Slot, right_for: u64) {
        // A queue that was noted as empty begins with its next message, which need not be the one that was expected: those in
        // between may have been lost with what was not synced, or have expired before they came into a run.
        let is_empty = self.min >= self.max;
        // A merged run also holds what was over when the span was noted.
        let is_over = if slot.entry.is_filler() {
            is_empty || slot.offset < self.min
        } else {
            slot.entry.physical < right_for
        };
        if is_over {
            return;
        }
        self.min = if is_empty {
            slot.offset
        } else {
            self.min.min(slot.offset)
        };
        self.max = self.max.max(slot.offset + 1);
    }
}

const UNKNOWN: Span = Span {
    min: u64::MAX,
    max: 0,
};

/// Opens the store and puts its queues into the table. Runs that end behind `trusted` are removed; with none, nothing is trusted.
pub(crate) fn open(
    table: &Table,
    dir: &Path,
    trusted: Option<u64>,
    log_min: u64,
) -> io::Result<Opened> {
    let disk = table.files.disk();
    let (names, named) = Names::open(&**disk, dir)?;
    let snapshot = Snapshot::read(&**disk, dir)?;
    let floors = snapshot.as_ref().map(|snapshot| {
        let settled = trusted.is_some_and(|trusted| snapshot.covered <= trusted);
        let kept = snapshot.queues.iter();
        // Of what was not synced it may claim more than the log has; but what was over by then is over.
        kept.filter(|(_, min, max)| settled || min == max)
            .map(|&(number, _, max)| (number, max))
            .collect::<Vec<_>>()
    });
    let found_snapshot = snapshot.is_some();
    // One that covers nothing only says where queues go on: their entries are elsewhere, or are to be made again.
    let snapshot = snapshot
        .filter(|snapshot| snapshot.covered > 0 && snapshot.covered <= trusted.unwrap_or(0));
    let found = remove_untrusted(&**disk, dir, trusted.unwrap_or(0), log_min, &snapshot)?;
    let mut runs = Vec::with_capacity(found.len());
    let mut sound = trusted.is_some() && is_chain(&found, &snapshot, log_min);
    let mut spans: Vec<Span> = Vec::new();
    if sound {
        match read(&**disk, dir, &found, &snapshot, log_min, &mut runs) {
            Ok(read) => spans = read,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                tracing::warn!(%error, "the shared consume queue store is damaged");
                sound = false;
                runs.clear();
            }
            Err(error) => return Err(error),
        }
    }
    if found_snapshot && (snapshot.is_none() || !sound) {
        // A later start must not take it for one of the log that is written from here on.
        let floors = floors.iter().flatten();
        let settled = Snapshot {
            covered: 0,
            log_min: 0,
            queues: floors.map(|&(number, max)| (number, max, max)).collect(),
        };
        settled.write(&**disk, dir)?;
    }
    if !sound {
        for (from, to) in found {
            disk.remove(&dir.join(format!("{from:020}-{to:020}")))?;
        }
    }
    let shared = Shared::new(Arc::clone(disk), dir.to_owned(), names, runs);
    let mut queues = Vec::with_capacity(named.len());
    {
        let mut state = shared.state();
        state.log_min = log_min;
        if shared.runs().is_empty() {
            state.covered = log_min;
        }
        state.snapshot_wanted = snapshot.is_none();
        for named in named {
            let span = spans.get(named.number as usize).copied().unwrap_or(UNKNOWN);
            let topic = table.topic_or_create(&named.topic);
            let queue = Arc::new(Queue::new(
                Arc::clone(&topic),
                named.id,
                span.min.min(span.max),
                span.max,
            ));
            queue.set_number(named.number);
            state.register(&queue);
            table.insert(&topic, &queue);
            queues.push(queue);
        }
    }
    let floors = {
        let state = shared.state();
        let floors = floors.unwrap_or_default().into_iter();
        floors
            .filter_map(|(number, max)| Some((Arc::clone(state.queue(number)?), max)))
            .collect()
    };
    Ok(Opened {
        shared,
        queues,
        sound,
        floors,
    })
}

/// Lists the runs, in order, without those that are not trusted, lie in merged ones, or are long gone from the log; these are removed.
fn remove_untrusted(
    disk: &dyn Disk,
    dir: &Path,
    trusted: u64,
    log_min: u64,
    snapshot: &Option<Snapshot>,
) -> io::Result<Vec<(u64, u64)>> {
    let mut found: Vec<(u64, u64)> = disk
        .list(dir)?
        .iter()
        .filter_map(|entry| run::parse_name(&entry.name))
        .collect();
    // The longer one of those that begin together comes first, so that what lies in it follows.
    found.sort_unstable_by_key(|&(from, to)| (from, u64::MAX - to));
    let gone = |to: u64| {
        to <= log_min
            && snapshot
                .as_ref()
                .is_some_and(|snapshot| to <= snapshot.log_min)
    };
    let mut kept: Vec<(u64, u64)> = Vec::with_capacity(found.len());
    for (from, to) in found {
        let merged = kept.last().is_some_and(|last| to <= last.1);
        if to > trusted || merged || gone(to) {
            disk.remove(&dir.join(format!("{from:020}-{to:020}")))?;
        } else {
            kept.push((from, to));
        }
    }
    Ok(kept)
}

/// Whether the runs cover the log without a hole, as far as the snapshot knows it.
fn is_chain(runs: &[(u64, u64)], snapshot: &Option<Snapshot>, log_min: u64) -> bool {
    let begins = runs.first().map_or(log_min, |first| first.0);
    let ends = runs.last().map_or(log_min, |last| last.1);
    begins <= log_min
        && runs.is_sorted_by(|a, b| a.1 == b.0)
        && snapshot
            .as_ref()
            .is_none_or(|snapshot| snapshot.covered <= ends.max(log_min))
}

/// Opens the runs and finds where each queue begins and ends: from the snapshot, and from the runs behind it.
fn read(
    disk: &dyn Disk,
    dir: &Path,
    found: &[(u64, u64)],
    snapshot: &Option<Snapshot>,
    log_min: u64,
    runs: &mut Vec<Arc<Run>>,
) -> io::Result<Vec<Span>> {
    let mut spans = Vec::new();
    let mut covered = 0;
    let mut right_for = 0;
    if let Some(snapshot) = snapshot {
        covered = snapshot.covered;
        right_for = snapshot.log_min;
        for &(number, min, max) in &snapshot.queues {
            *span(&mut spans, number) = Span { min, max };
        }
    }
    for &(from, to) in found {
        let run = Arc::new(Run::open(disk, dir, from, to)?);
        if to > covered {
            run.for_each(|slot| {
                span(&mut spans, slot.number).take(slot, right_for);
            })?;
        }
        runs.push(run);
    }
    if log_min > right_for {
        for run in runs.iter().filter(|run| run.from < log_min) {
            run.for_each(|slot| {
                let span = span(&mut spans, slot.number);
                span.min = min_behind(span.min, slot, log_min);
            })?;
        }
    }
    Ok(spans)
}

fn span(spans: &mut Vec<Span>, number: u32) -> &mut Span {
    let index = number as usize;
    if spans.len() <= index {
        spans.resize(index + 1, UNKNOWN);
    }
    &mut spans[index]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::Entry;

    fn slot(offset: u64, physical: u64) -> Slot {
        let entry = Entry {
            physical,
            size: 1,
            tags_code: 0,
        };
        Slot {
            number: 1,
            offset,
            entry,
        }
    }

    fn after(mut span: Span, slots: &[Slot], right_for: u64) -> (u64, u64) {
        slots.iter().for_each(|slot| span.take(slot, right_for));
        (span.min, span.max)
    }

    #[test]
    fn a_queue_that_was_noted_as_empty_begins_with_its_next_message() {
        let noted = Span { min: 16, max: 16 };
        assert_eq!(after(noted, &[slot(19, 0), slot(20, 1)], 0), (19, 21));
        let noted = Span { min: 16, max: 18 };
        assert_eq!(after(noted, &[slot(18, 0)], 0), (16, 19));
        assert_eq!(after(UNKNOWN, &[slot(5, 0)], 0), (5, 6));
    }

    #[test]
    fn a_merged_run_does_not_bring_back_what_was_over() {
        let merged = [slot(0, 10), slot(1, 50), slot(2, 120)];
        assert_eq!(after(Span { min: 1, max: 2 }, &merged, 40), (1, 3));
        assert_eq!(after(Span { min: 2, max: 2 }, &merged, 60), (2, 3));
        let filler = Slot {
            number: 1,
            offset: 0,
            entry: Entry::FILLER,
        };
        let behind = [filler, slot(1, 50)];
        assert_eq!(after(Span { min: 1, max: 2 }, &behind, 40), (1, 2));
        assert_eq!(after(UNKNOWN, &behind, 40), (1, 2));
    }
}
