//! One bit of one file of a closed store is flipped, the store is opened and everything read: what is served as good must be what was stored.

mod sample;
mod verdict;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use platform::clock::ManualClock;
use platform::disk::{Disk, OpenMode, SimulatedDisk};
use storage::{Config, FlushMode, Store};

use crate::crash_images::block_on;
use crate::crash_images::messages::{Message, settled};
use crate::crash_images::traffic::{END_MS, config};
use sample::{Kind, Sample};
use verdict::{Original, Verdict};

/// Messages of the store. They fill several segments, queue files and index files.
const MESSAGES: u64 = 180;
/// Messages that arrive behind the last checkpoint of a store that dies.
const MESSAGES_LAST: u64 = 20;

/// What became of the flips in one kind of file.
#[derive(Clone, Copy, Default)]
struct Tally([u64; Verdict::ALL.len()]);

/// The stores whose bits are flipped, each with its part of the flips in percent.
const STORES: [(&str, How, u64); 5] = [
    (
        "closed cleanly",
        How {
            dies: false,
            record_checksum: false,
            shares: false,
        },
        30,
    ),
    (
        "with checksums",
        How {
            dies: false,
            record_checksum: true,
            shares: false,
        },
        20,
    ),
    (
        "killed",
        How {
            dies: true,
            record_checksum: false,
            shares: false,
        },
        30,
    ),
    (
        "shared queues",
        How {
            dies: false,
            record_checksum: false,
            shares: true,
        },
        10,
    ),
    (
        "shared, killed",
        How {
            dies: true,
            record_checksum: false,
            shares: true,
        },
        10,
    ),
];

/// What became of a store before a bit was flipped.
#[derive(Clone, Copy)]
struct How {
    dies: bool,
    /// `enabledAppendPropCRC`.
    record_checksum: bool,
    /// The entries of all queues lie in the shared store.
    shares: bool,
}

/// Flips `flips` bits, in a store that was closed, in one whose records have checksums, and in one that died.
///
/// # Errors
/// The first flip that is served as good, hides a message without a word, or makes something panic; any changed field of a record that has a
/// checksum.
pub(crate) fn campaign(flips: u64) -> Result<()> {
    let begun = Instant::now();
    for (name, how, percent) in STORES {
        let config = Config {
            record_checksum: how.record_checksum,
            queue_files_max: if how.shares { 0 } else { usize::MAX },
            ..config(FlushMode::Sync)
        };
        let disk = block_on(fill(&config, how.dies))?;
        let original = Original::read(&*open(&disk.kill(), &config)?, how.dies)?;
        let sample = Sample::of(&disk, &config.root, flips * percent / 100)?;
        let tallies = flip_all(&disk, &config, &original, &sample)
            .with_context(|| format!("in a store, {name}"))?;
        print(name, &tallies);
        let changed = tallies[Kind::CommitLog as usize].0[Verdict::Unprotected as usize];
        ensure!(
            !how.record_checksum || changed == 0,
            "{changed} records with a checksum came out changed"
        );
    }
    println!("{flips} flips, {:.0} s", begun.elapsed().as_secs_f64());
    Ok(())
}

/// A disk with the files of a store that is not open.
async fn fill(config: &Config, dies: bool) -> Result<SimulatedDisk> {
    let disk = SimulatedDisk::new();
    let store = open(&disk, config)?;
    for number in 0..MESSAGES {
        send(&store, number)?;
        if number % 8 == 0 {
            ensure!(settled(&store).await, "a sync failed");
        }
    }
    if !dies {
        store.close();
        return Ok(disk.kill());
    }
    // The second life begins with a complete checkpoint and is too short for another.
    store.close();
    drop(store);
    let slow = Config {
        write_behind_interval_ms: 600_000,
        checkpoint_interval_ms: 600_000,
        ..config.clone()
    };
    let store = open(&disk, &slow)?;
    for number in MESSAGES..MESSAGES + MESSAGES_LAST {
        send(&store, number)?;
    }
    ensure!(settled(&store).await, "a sync failed");
    Ok(disk.kill())
}

fn send(store: &Store, number: u64) -> Result<()> {
    let message = Message::of(number);
    Ok(store.append(&[message.new_message()], &mut Vec::new())?)
}

fn open(disk: &SimulatedDisk, config: &Config) -> Result<Arc<Store>> {
    let clock = Arc::new(ManualClock::new(END_MS));
    let disk = Arc::new(disk.clone()) as Arc<dyn Disk>;
    Ok(Store::open(config.clone(), disk, clock)?)
}

/// The processors share the flips.
fn flip_all(
    disk: &SimulatedDisk,
    config: &Config,
    original: &Original,
    sample: &Sample,
) -> Result<[Tally; Kind::ALL.len()]> {
    let workers = std::thread::available_parallelism().map_or(1, |count| count.get());
    let next = AtomicU64::new(0);
    let work = || -> Result<[Tally; Kind::ALL.len()]> {
        let mut tallies = [Tally::default(); Kind::ALL.len()];
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed) as usize;
            let Some(flip) = sample.flips.get(index) else {
                return Ok(tallies);
            };
            let path = &sample.files[flip.file];
            let disk = disk.kill();
            flip_bit(&disk, path, flip.bit)?;
            let checked = AssertUnwindSafe(|| verdict::of(&disk, config, original));
            let verdict = catch_unwind(checked)
                .unwrap_or_else(|_| Err(anyhow!("panicked")))
                .with_context(|| format!("bit {} of {}", flip.bit, path.display()))
                .inspect_err(|_| next.store(u64::MAX / 2, Ordering::Relaxed))?;
            tallies[flip.kind as usize].0[verdict as usize] += 1;
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        let mut all = [Tally::default(); Kind::ALL.len()];
        for thread in threads {
            let tallies = thread.join().expect("a check that panics is caught")?;
            for (sum, tally) in all.iter_mut().zip(tallies) {
                for (sum, count) in sum.0.iter_mut().zip(tally.0) {
                    *sum += count;
                }
            }
        }
        Ok(all)
    })
}

fn flip_bit(disk: &SimulatedDisk, path: &Path, bit: u64) -> Result<()> {
    let file = disk.open(path, OpenMode::ReadWrite)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, bit / 8)?;
    file.write_all_at(&[byte[0] ^ 1 << (bit % 8)], bit / 8)?;
    Ok(())
}

fn print(name: &str, tallies: &[Tally; Kind::ALL.len()]) {
    print!("{name:<14}");
    Verdict::ALL
        .iter()
        .for_each(|verdict| print!(" {:>12}", verdict.name()));
    println!();
    for (kind, tally) in Kind::ALL.iter().zip(tallies) {
        print!("{:<14}", kind.name());
        tally.0.iter().for_each(|count| print!(" {count:>12}"));
        println!();
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_flipped_bit_is_served() {
        super::campaign(600).unwrap();
    }
}
