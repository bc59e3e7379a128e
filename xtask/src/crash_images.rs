//! Power cuts at every moment of recorded traffic: the disk as it may be found then is opened, read and written.

mod check;
pub(crate) mod messages;
pub(crate) mod traffic;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};
use platform::disk::{Operation, Replay};
use tokio::runtime;

use crate::cargo::target_dir;
use check::Known;
use platform::random::Random;

/// Images made of one recording; the next ones get traffic of their own.
const IMAGES_PER_RECORDING: u64 = 2_000;
/// A line of progress after so many images.
const PROGRESS_IMAGES: u64 = 10_000;

/// Totals of a campaign.
#[derive(Default)]
struct Totals {
    images: u64,
    positions: u64,
    positions_covered: u64,
    acknowledged: usize,
}

/// [`campaign`] with the words of the command line.
///
/// # Errors
/// Those of the campaign, and words that are no numbers.
pub(crate) fn from_words(images: &str, seed: &str) -> Result<()> {
    campaign(images.parse()?, seed.parse()?)
}

/// Makes and checks `images` images, from recordings with the seeds `seed`, `seed` + 1, ….
///
/// # Errors
/// The first image that breaks a promise, and how to look at it again.
pub(crate) fn campaign(images: u64, seed: u64) -> Result<()> {
    let begun = Instant::now();
    let mut totals = Totals::default();
    let mut recording = seed;
    while totals.images < images {
        let wanted = (images - totals.images).min(IMAGES_PER_RECORDING);
        let operations = block_on(traffic::record(recording))?;
        let checked = check_recording(&operations, recording, wanted);
        checked.map_err(|failure| failure.explain(&operations, recording))?;
        let positions = operations.iter().filter(|at| is_change(at)).count() as u64;
        totals.images += wanted;
        totals.positions += positions;
        totals.positions_covered += positions.min(wanted);
        totals.acknowledged += acknowledged(&operations)?;
        recording += 1;
        if totals.images % PROGRESS_IMAGES == 0 {
            eprintln!(
                "{} of {images} images, {:.0} s",
                totals.images,
                begun.elapsed().as_secs_f64()
            );
        }
    }
    eprintln!(
        "{} images of {} recordings (seeds {seed}..{recording}): {} of {} moments covered, {} acknowledged messages, {:.0} s",
        totals.images,
        recording - seed,
        totals.positions_covered,
        totals.positions,
        totals.acknowledged,
        begun.elapsed().as_secs_f64()
    );
    Ok(())
}

/// Checks one image of a recording that an earlier campaign kept.
///
/// # Errors
/// What is wrong with the image.
pub(crate) fn again(journal: &str, position: &str, image: &str) -> Result<()> {
    let (position, image) = (position.parse()?, image.parse()?);
    let text = fs::read_to_string(journal)?;
    let mut lines = text.lines();
    let seed = lines.next().and_then(|line| line.strip_prefix("seed "));
    let seed: u64 = seed
        .context("the file does not begin with its seed")?
        .parse()?;
    let operations: Vec<Operation> = lines.map(str::parse).collect::<Result<_, _>>()?;
    let mut player = Player::new(&operations, seed);
    while player.position < position {
        player.step()?;
    }
    player.check(image)?;
    eprintln!("the image is good");
    Ok(())
}

/// An image that breaks a promise.
#[derive(Debug)]
struct Failure {
    position: usize,
    image: u64,
    error: anyhow::Error,
}

impl Failure {
    /// Keeps the recording, since the threads of the store make each one different, and says how to come back to the image.
    fn explain(self, operations: &[Operation], seed: u64) -> anyhow::Error {
        let kept = keep(operations, seed).map_or_else(
            |error| format!("the recording could not be kept: {error:#}"),
            |path| {
                format!(
                    "to see it again: cargo xtask crash-images --journal {} {} {}",
                    path.display(),
                    self.position,
                    self.image
                )
            },
        );
        self.error.context(format!(
            "seed {seed}, power cut after operation {}, image {}; {kept}",
            self.position, self.image
        ))
    }
}

fn keep(operations: &[Operation], seed: u64) -> Result<PathBuf> {
    let dir = target_dir().join("crash-images");
    fs::create_dir_all(&dir)?;
    let path = dir.join(format!("journal-{seed}"));
    let lines = operations.iter().map(|operation| format!("{operation}\n"));
    fs::write(&path, format!("seed {seed}\n") + &lines.collect::<String>())?;
    Ok(path)
}

/// Spreads the images over the moments of the recording: each gets one before any gets two. The processors share the moments.
fn check_recording(operations: &[Operation], seed: u64, images: u64) -> Result<(), Failure> {
    let changes = operations.iter().filter(|at| is_change(at)).count() as u64;
    let workers = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
    let stop = AtomicBool::new(false);
    let turn = AtomicU64::new(0);
    let work = || -> Result<(), Failure> {
        let mut player = Player::new(operations, seed);
        let mut change = 0;
        let mut mine = turn.fetch_add(1, Ordering::Relaxed);
        while player.position < operations.len() && !stop.load(Ordering::Relaxed) {
            let is_change = is_change(&operations[player.position]);
            player.step().map_err(|error| player.failure(0, error))?;
            if !is_change {
                continue;
            }
            // The moments are dealt in turn, so that a slow image does not keep the others waiting.
            if change == mine {
                for image in share(images, changes, change) {
                    player
                        .check(image)
                        .map_err(|error| player.failure(image, error))?;
                }
                mine = turn.fetch_add(1, Ordering::Relaxed);
            }
            change += 1;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let work = || {
            let result = work();
            if result.is_err() {
                stop.store(true, Ordering::Relaxed);
            }
            result
        };
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().expect("a check that panics is caught"))
    })
}

/// Numbers of the images of one moment: all images are dealt as evenly as they go.
fn share(images: u64, changes: u64, change: u64) -> std::ops::Range<u64> {
    images * change / changes..images * (change + 1) / changes
}

fn is_change(operation: &Operation) -> bool {
    !matches!(operation, Operation::Note(_))
}

fn acknowledged(operations: &[Operation]) -> Result<usize> {
    let mut known = Known::default();
    for operation in operations {
        known.learn(operation, 0)?;
    }
    Ok(known.acknowledged())
}

/// Runs a future that waits for time and other threads only.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = runtime::Builder::new_current_thread().enable_time().build();
    runtime
        .expect("a runtime without sockets needs nothing")
        .block_on(future)
}

/// A recording on its way, with what is known of it.
struct Player<'a> {
    operations: &'a [Operation],
    position: usize,
    replay: Replay,
    known: Known,
    config: storage::Config,
}

impl<'a> Player<'a> {
    fn new(operations: &'a [Operation], seed: u64) -> Self {
        Self {
            operations,
            position: 0,
            replay: Replay::new(),
            known: Known::default(),
            config: traffic::config(traffic::flush_mode(seed)),
        }
    }

    fn step(&mut self) -> Result<()> {
        let operation = self.operations.get(self.position);
        let operation = operation.context("the recording has no such position")?;
        self.replay.apply(operation)?;
        self.known.learn(operation, self.config.segment_bytes)?;
        self.position += 1;
        Ok(())
    }

    /// Checks one of the disks that a power cut may leave at this moment.
    fn check(&self, image: u64) -> Result<()> {
        let mut known = self.known.clone();
        // What was acknowledged up to the next change was acknowledged before it.
        for operation in &self.operations[self.position..] {
            if is_change(operation) {
                break;
            }
            known.learn(operation, self.config.segment_bytes)?;
        }
        let mut random = Random(image ^ (self.position as u64) << 32);
        let disk = self.replay.disk().crash(random.next_u64());
        let checked =
            AssertUnwindSafe(|| block_on(check::check(disk, &self.config, known, &mut random)));
        match catch_unwind(checked) {
            Ok(result) => result,
            Err(panic) => bail!(panic_text(&*panic)),
        }
    }

    fn failure(&self, image: u64, error: anyhow::Error) -> Failure {
        Failure {
            position: self.position,
            image,
            error,
        }
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> anyhow::Error {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    anyhow!("panicked: {}", text.unwrap_or("without a word"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn power_cuts_lose_nothing_acknowledged() {
        campaign(300, 1).unwrap();
    }

    #[test]
    fn a_store_that_does_not_sync_is_found_out() {
        let mut operations = block_on(traffic::record(1)).unwrap();
        operations.retain(|operation| !matches!(operation, Operation::Sync(_)));
        check_recording(&operations, 1, 500).unwrap_err();
    }

    #[test]
    fn every_moment_gets_an_image_before_any_gets_two() {
        let counts: Vec<_> = (0..7).map(|change| share(10, 7, change).count()).collect();
        assert_eq!(counts.iter().sum::<usize>(), 10);
        assert!(
            counts.iter().all(|count| (1..=2).contains(count)),
            "{counts:?}"
        );
    }
}
