//! Which bits are flipped.

use std::path::{Path, PathBuf};

use anyhow::Result;
use platform::disk::{Disk, OpenMode, SimulatedDisk};

use platform::random::Random;

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    CommitLog,
    Queues,
    Index,
    Checkpoint,
    Other,
}

impl Kind {
    pub(super) const ALL: [Kind; 5] = [
        Kind::CommitLog,
        Kind::Queues,
        Kind::Index,
        Kind::Checkpoint,
        Kind::Other,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::CommitLog => "commitlog",
            Kind::Queues => "consumequeue",
            Kind::Index => "index",
            Kind::Checkpoint => "checkpoint",
            Kind::Other => "lock, abort",
        }
    }

    /// Its part of the flips, in percent. A kind that has fewer bits gets each of them once and leaves the rest to the log.
    fn share(self) -> u64 {
        match self {
            Kind::CommitLog => 40,
            Kind::Queues => 25,
            Kind::Index => 20,
            Kind::Checkpoint => 14,
            Kind::Other => 1,
        }
    }

    fn of(path: &Path) -> Kind {
        let has = |part: &str| path.components().any(|name| name.as_os_str() == part);
        if has("commitlog") {
            Kind::CommitLog
        } else if has("consumequeue") || has("consumequeue_shared") {
            Kind::Queues
        } else if has("index") {
            Kind::Index
        } else if has("checkpoint") {
            Kind::Checkpoint
        } else {
            Kind::Other
        }
    }
}

/// One bit of one file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flip {
    pub(super) kind: Kind,
    /// Number of the file.
    pub(super) file: usize,
    pub(super) bit: u64,
}

/// The files of a store, and the bits that are flipped in them.
pub(super) struct Sample {
    pub(super) files: Vec<PathBuf>,
    pub(super) flips: Vec<Flip>,
}

impl Sample {
    pub(super) fn of(disk: &SimulatedDisk, root: &Path, flips: u64) -> Result<Sample> {
        let mut files = Vec::new();
        collect(disk, root, &mut files)?;
        let mut sample = Sample {
            files,
            flips: Vec::new(),
        };
        let mut random = Random(flips);
        // The log last: it gets what the others leave.
        for kind in Kind::ALL.into_iter().rev() {
            let bits = sample.bits(disk, kind)?;
            let wanted = if kind == Kind::CommitLog {
                flips.saturating_sub(sample.flips.len() as u64)
            } else {
                flips * kind.share() / 100
            };
            if bits.len() as u64 <= wanted {
                sample.flips.extend(bits);
                continue;
            }
            for _ in 0..wanted {
                let bit = bits[random.below(bits.len() as u64) as usize];
                sample.flips.push(bit);
            }
        }
        Ok(sample)
    }

    /// All bits of a kind, without the zeros that end a file.
    fn bits(&self, disk: &SimulatedDisk, kind: Kind) -> Result<Vec<Flip>> {
        let mut bits = Vec::new();
        for (number, path) in self.files.iter().enumerate() {
            if Kind::of(path) != kind {
                continue;
            }
            let file = disk.open(path, OpenMode::Read)?;
            let mut bytes = vec![0; file.len()? as usize];
            file.read_exact_at(&mut bytes, 0)?;
            let used = bytes.iter().rposition(|byte| *byte != 0);
            // A little of the unused space counts too.
            let used = used.map_or(0, |last| last + 1 + 64).min(bytes.len());
            bits.extend((0..used as u64 * 8).map(|bit| Flip {
                kind,
                file: number,
                bit,
            }));
        }
        Ok(bits)
    }
}

fn collect(disk: &SimulatedDisk, dir: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in disk.list(dir)? {
        let path = dir.join(&entry.name);
        if entry.is_dir {
            collect(disk, &path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}
