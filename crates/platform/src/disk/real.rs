//! The machine's file system.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, IoSliceMut};
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{Advice, FallocateFlags, FlockOperation};
use rustix::io::{Errno, ReadWriteFlags};

use super::{Disk, Entry, File, Lock, OpenMode, Space};

/// Zeros written at once where the file system cannot reserve room.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// The machine's file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

#[derive(Debug)]
struct RealFile {
    file: fs::File,
    /// Cleared at the first refusal: not every file system knows reads that do not wait.
    nowait: AtomicBool,
}

/// Device and inode.
type Identity = (u64, u64);

/// Files that this process has locked.
static HELD: Mutex<BTreeSet<Identity>> = Mutex::new(BTreeSet::new());

fn identity(metadata: &fs::Metadata) -> Identity {
    (metadata.dev(), metadata.ino())
}

/// The kernel gives the lock back with the descriptor.
#[derive(Debug)]
struct RealLock {
    file: Option<fs::File>,
    identity: Identity,
}

impl Lock for RealLock {}

impl Drop for RealLock {
    fn drop(&mut self) {
        let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        // Closed first, or the next holder would lose the lock to this close.
        self.file = None;
        held.remove(&self.identity);
    }
}

impl Disk for RealDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let mut options = fs::OpenOptions::new();
        options.read(true);
        match mode {
            OpenMode::Read => {}
            OpenMode::ReadWrite => {
                options.write(true);
            }
            OpenMode::Create => {
                options.write(true).create(true).truncate(false);
            }
        }
        Ok(Arc::new(RealFile {
            file: options.open(path)?,
            nowait: AtomicBool::new(true),
        }))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if let Ok(name) = entry.file_name().into_string() {
                entries.push(Entry {
                    name,
                    is_dir: metadata.is_dir(),
                    len: metadata.len(),
                });
            }
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        fs::File::open(dir)?.sync_all()
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn space(&self, dir: &Path) -> io::Result<Space> {
        let stat = rustix::fs::statvfs(dir)?;
        // Blocks that are kept for others are neither used nor ours: counted as used they would make a disk look full
        // that is not.
        let used = stat.f_blocks.saturating_sub(stat.f_bfree);
        let usable = used.saturating_add(stat.f_bavail);
        Ok(Space {
            total_bytes: usable.saturating_mul(stat.f_frsize),
            free_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
        })
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        // Looked up by `stat`, since closing any descriptor of the file would give a record lock of this process back.
        if let Ok(metadata) = fs::metadata(path)
            && held.contains(&identity(&metadata))
        {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        // A record lock, since that is what Java's FileChannel takes; the kernel does not see it within one process.
        rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).map_err(
            |errno| match errno {
                Errno::AGAIN | Errno::ACCESS => io::Error::from(io::ErrorKind::WouldBlock),
                other => other.into(),
            },
        )?;
        let identity = identity(&file.metadata()?);
        held.insert(identity);
        Ok(Box::new(RealLock {
            file: Some(file),
            identity,
        }))
    }
}

impl File for RealFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }

    fn read_at_nowait(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        if !self.nowait.load(Ordering::Relaxed) {
            return self.file.read_at(buf, offset);
        }
        let slices = &mut [IoSliceMut::new(buf)];
        match rustix::io::preadv2(&self.file, slices, offset, ReadWriteFlags::NOWAIT) {
            Ok(count) => Ok(count),
            Err(Errno::INTR) => self.read_at_nowait(buf, offset),
            Err(Errno::AGAIN) => Err(io::ErrorKind::WouldBlock.into()),
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                self.nowait.store(false, Ordering::Relaxed);
                self.file.read_at(buf, offset)
            }
            Err(errno) => Err(errno.into()),
        }
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(buf, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn reserve(&self, len: u64) -> io::Result<()> {
        if len == 0 {
            return Ok(());
        }
        let before = self.file.metadata()?.len();
        let reserved = loop {
            match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), 0, len) {
                Ok(()) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => break self.fill_with_zeros(before, len),
                Err(errno) => break Err(errno.into()),
            }
        };
        if reserved.is_err() {
            // What was taken before the room ended would otherwise stay taken, and keep the disk full. The caller
            // learns the first error; that the cut failed too would tell it nothing else.
            let _ = self.file.set_len(before);
        }
        reserved
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn advise_cold(&self, range: Range<u64>) {
        let len = std::num::NonZeroU64::new(range.end.saturating_sub(range.start));
        // Advice that is not taken changes nothing that a caller could act on.
        let _ = rustix::fs::fadvise(&self.file, range.start, len, Advice::DontNeed);
    }

    fn advise_read_ahead(&self, ahead: bool) {
        let advice = if ahead {
            Advice::Normal
        } else {
            Advice::Random
        };
        // As above. No length is the whole file.
        let _ = rustix::fs::fadvise(&self.file, 0, None, advice);
    }
}

impl RealFile {
    /// Reservation where the file system has none: the bytes are written. What exists already is left alone.
    fn fill_with_zeros(&self, mut at: u64, len: u64) -> io::Result<()> {
        while at < len {
            let count = (len - at).min(ZEROS.len() as u64) as usize;
            self.file.write_all_at(&ZEROS[..count], at)?;
            at += count as u64;
        }
        Ok(())
    }
}
