//! A disk in memory that does what real disks do on bad days: it loses and reorders what was not synced, tears writes at
//! sectors, forgets names of unsynced directories, fails, fills up.

mod content;
mod fault;
mod file;
mod names;
mod random;

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::fault::{EIO, error};
use self::file::SimulatedFile;
use self::names::{Names, NodeId};
use self::random::Random;
use super::{Disk, Entry, File, Lock, OpenMode, Space};

pub use self::fault::{Fault, Operation};

/// Size of a disk to which no capacity was given.
const CAPACITY_BYTES_DEFAULT: u64 = 1 << 50;

/// A disk in memory. Clones are the same disk.
///
/// [`crash`](Self::crash) and [`kill`](Self::kill) give the disk that the next process finds; handles and threads of the
/// old one go on in a world of their own and change nothing in it.
#[derive(Clone, Debug)]
pub struct SimulatedDisk {
    world: Arc<Mutex<World>>,
}

#[derive(Clone, Debug)]
struct World {
    names: Names,
    locked: BTreeSet<NodeId>,
    faults: Vec<Fault>,
    random: Random,
    capacity: u64,
    occupied: u64,
    /// Changes made so far.
    changes: u64,
    /// Changes after which the power fails.
    changes_max: u64,
}

impl SimulatedDisk {
    /// An empty disk. The seed decides how much of a failing write is written.
    pub fn new(seed: u64) -> Self {
        Self::with(World {
            names: Names::new(),
            locked: BTreeSet::new(),
            faults: Vec::new(),
            random: Random::new(seed),
            capacity: CAPACITY_BYTES_DEFAULT,
            occupied: 0,
            changes: 0,
            changes_max: u64::MAX,
        })
    }

    /// The disk after a power failure at this moment; the seed decides what became of everything that was not synced.
    /// It is healthy, with the same capacity.
    pub fn crash(&self, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let names = self.world().names.after_power_failure(&mut random);
        self.successor(names, random)
    }

    /// The disk after the process was killed at this moment: everything written is there, and still unsynced. It is
    /// healthy, with the same capacity.
    pub fn kill(&self) -> Self {
        let (names, random) = {
            let world = self.world();
            (world.names.clone(), world.random.clone())
        };
        self.successor(names, random)
    }

    /// Lets operations fail. Several faults may wait at once; the first that matches strikes.
    pub fn inject(&self, fault: Fault) {
        self.world().faults.push(fault);
    }

    /// Takes all injected faults back.
    pub fn heal(&self) {
        self.world().faults.clear();
    }

    /// The disk has `bytes` in all; beyond, writes and reservations fail with ENOSPC.
    pub fn set_capacity(&self, bytes: u64) {
        self.world().capacity = bytes;
    }

    /// Other programs hold `bytes` of the capacity.
    pub fn set_occupied(&self, bytes: u64) {
        self.world().occupied = bytes;
    }

    /// Bytes that files hold.
    pub fn used_bytes(&self) -> u64 {
        self.world().used()
    }

    /// How often something was changed or synced so far: the points at which a power failure makes a difference.
    pub fn changes(&self) -> u64 {
        self.world().changes
    }

    /// The power fails after `count` further changes: from then on everything fails with EIO and changes nothing, so that
    /// a program with threads can be stopped at an exact point, and then [`crash`](Self::crash) shows what is left.
    pub fn cut_power_after(&self, count: u64) {
        let mut world = self.world();
        world.changes_max = world.changes.saturating_add(count);
    }

    /// Whether the power has failed.
    pub fn is_off(&self) -> bool {
        self.world().is_off()
    }

    /// Forgets what is in memory of the files: reads that do not wait are refused until another read has fetched it.
    pub fn drop_page_cache(&self) {
        self.world()
            .names
            .files_mut()
            .for_each(|content| content.cool(0, u64::MAX));
    }

    fn with(world: World) -> Self {
        Self {
            world: Arc::new(Mutex::new(world)),
        }
    }

    fn successor(&self, names: Names, random: Random) -> Self {
        let world = self.world();
        Self::with(World {
            names,
            locked: BTreeSet::new(),
            faults: Vec::new(),
            random,
            capacity: world.capacity,
            occupied: world.occupied,
            changes: 0,
            changes_max: u64::MAX,
        })
    }

    fn world(&self) -> MutexGuard<'_, World> {
        enter(&self.world)
    }
}

fn enter(world: &Mutex<World>) -> MutexGuard<'_, World> {
    // A test that panicked in between shall report its own failure, not this one.
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    fn is_off(&self) -> bool {
        self.changes >= self.changes_max
    }

    /// Before an operation that changes nothing.
    fn look(&mut self, operation: Operation, path: &Path) -> io::Result<()> {
        if self.is_off() {
            return Err(error(EIO));
        }
        self.faults
            .iter_mut()
            .find_map(|fault| fault.strikes(operation, path))
            .map_or(Ok(()), Err)
    }

    /// Before an operation that changes something.
    fn change(&mut self, operation: Operation, path: &Path) -> io::Result<()> {
        self.look(operation, path)?;
        self.changes += 1;
        Ok(())
    }

    fn used(&self) -> u64 {
        self.names
            .named_files()
            .map(content::Content::allocated)
            .sum()
    }

    /// Room left. Counting what is used is slow with many files, and without need on a disk that nobody made small.
    fn room(&self) -> u64 {
        if self.capacity == CAPACITY_BYTES_DEFAULT {
            return CAPACITY_BYTES_DEFAULT;
        }
        self.capacity
            .saturating_sub(self.occupied)
            .saturating_sub(self.used())
    }
}

impl Disk for SimulatedDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let mut world = self.world();
        world.look(Operation::Open, path)?;
        if mode == OpenMode::Create && world.names.find(path).is_err() {
            world.changes += 1;
        }
        let node = world.names.open(path, mode == OpenMode::Create)?;
        Ok(Arc::new(SimulatedFile {
            world: Arc::clone(&self.world),
            node,
            path: path.to_owned(),
            writable: mode != OpenMode::Read,
        }))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.change(Operation::Remove, path)?;
        world.names.remove_file(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.change(Operation::Rename, from)?;
        world.names.rename(from, to)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.change(Operation::Open, path)?;
        world.names.create_dir_all(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.change(Operation::Remove, path)?;
        world.names.remove_dir(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let mut world = self.world();
        world.look(Operation::List, dir)?;
        let entries = world.names.list(dir)?.into_iter();
        Ok(entries
            .map(|(name, is_dir, len)| Entry { name, is_dir, len })
            .collect())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.change(Operation::SyncDir, dir)?;
        world.names.sync_dir(dir)
    }

    fn exists(&self, path: &Path) -> bool {
        self.world().names.find(path).is_ok()
    }

    fn space(&self, dir: &Path) -> io::Result<Space> {
        let world = self.world();
        world.names.find(dir)?;
        Ok(Space {
            total_bytes: world.capacity,
            free_bytes: world.room(),
        })
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        let mut world = self.world();
        world.look(Operation::Open, path)?;
        let node = world.names.open(path, true)?;
        if !world.locked.insert(node) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(SimulatedLock {
            world: Arc::clone(&self.world),
            node,
        }))
    }
}

#[derive(Debug)]
struct SimulatedLock {
    world: Arc<Mutex<World>>,
    node: NodeId,
}

impl Lock for SimulatedLock {}

impl Drop for SimulatedLock {
    fn drop(&mut self) {
        enter(&self.world).locked.remove(&self.node);
    }
}
