//! A disk in memory that fails as real ones do: it loses what was not synced, tears writes, runs full, and breaks.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use super::pages::Pages;
use super::{Disk, Entry, File, Lock, OpenMode, Space};
use crate::random::Random;

/// Devices write this much or nothing: sectors of old ones, pages of new ones. A crash takes one of them for each write.
const TEAR_BYTES: [usize; 2] = [512, 4096];
/// Room is given out in blocks of this size.
const BLOCK_BYTES: u64 = 4096;
/// Capacity of a disk that nobody bounded.
const CAPACITY_BYTES: u64 = 1 << 40;

/// A simulated disk. Clones are the same disk.
///
/// * [`kill`](Self::kill) gives the disk as the next process finds it after `kill -9`: every write is there.
/// * [`crash`](Self::crash) gives it as found after power failure: what was synced is there; of the rest any subset, torn at
///   512 bytes or 4 KiB, in any order; names whose directory was not synced may be missing, those of directories and with
///   them everything below included.
#[derive(Clone, Debug)]
pub struct SimulatedDisk {
    state: Arc<Mutex<State>>,
    /// Told when faults change.
    healed: Arc<Condvar>,
}

/// What to break, changed at any time.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Syncs fail with EIO. What was written since the last good sync is never made durable by a later one.
    pub sync_fails: bool,
    /// Syncs of files do not return until this is over.
    pub sync_hangs: bool,
    /// Writes fail with EIO, having written nothing.
    pub write_fails: bool,
    /// Reads fail with EIO.
    pub read_fails: bool,
    /// Reads that must not wait find nothing in memory.
    pub reads_are_cold: bool,
    /// Bytes that fit; writing and reserving beyond them fails with ENOSPC.
    pub capacity_bytes: Option<u64>,
    /// After this many more changes (writes, syncs, renames, …) the power is gone: everything fails with EIO.
    pub power_off_after: Option<u64>,
}

#[derive(Clone, Debug, Default)]
struct State {
    nodes: BTreeMap<u64, Node>,
    next_node: u64,
    names: BTreeMap<PathBuf, u64>,
    dirs: BTreeSet<PathBuf>,
    durable_names: BTreeMap<PathBuf, u64>,
    durable_dirs: BTreeSet<PathBuf>,
    /// Changes of names since their directory was synced, in order.
    name_changes: Vec<NameChange>,
    locked: BTreeSet<PathBuf>,
    faults: Faults,
    changes: u64,
}

#[derive(Clone, Debug)]
enum NameChange {
    Created(PathBuf, u64),
    Removed(PathBuf),
    Renamed(PathBuf, PathBuf, u64),
    DirCreated(PathBuf),
    DirRemoved(PathBuf),
}

#[derive(Clone, Debug, Default)]
struct Node {
    live: Pages,
    synced: Pages,
    /// Changes since the last good sync, in order.
    unsynced: Vec<Change>,
    /// Changes that a failed sync covered: no later sync makes them durable.
    abandoned: Vec<Change>,
    blocks: BTreeSet<u64>,
}

#[derive(Clone, Debug)]
enum Change {
    Write(u64, Vec<u8>),
    Length(u64),
}

#[derive(Debug)]
struct SimulatedFile {
    state: Arc<Mutex<State>>,
    healed: Arc<Condvar>,
    node: u64,
}

#[derive(Debug)]
struct SimulatedLock {
    state: Arc<Mutex<State>>,
    path: PathBuf,
}

impl Lock for SimulatedLock {}

impl Drop for SimulatedLock {
    fn drop(&mut self) {
        self.state
            .lock()
            .expect("no holder panics")
            .locked
            .remove(&self.path);
    }
}

impl SimulatedDisk {
    /// An empty disk without faults.
    pub fn new() -> Self {
        Self::of(State::default())
    }

    fn of(state: State) -> Self {
        Self {
            state: Arc::new(Mutex::new(state)),
            healed: Arc::default(),
        }
    }

    /// Changes what is broken.
    pub fn set_faults(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.lock_state().faults);
        self.healed.notify_all();
    }

    /// Changes made so far: writes, syncs, creations, removals, renames, lengths.
    pub fn changes(&self) -> u64 {
        self.lock_state().changes
    }

    /// The disk as the next process finds it after this one was killed. This one goes on unconnected.
    #[must_use]
    pub fn kill(&self) -> Self {
        let mut state = self.lock_state().clone();
        state.locked.clear();
        state.faults = Faults::default();
        Self::of(state)
    }

    /// The disk as found after power failure; `seed` decides which unsynced changes made it. This one goes on
    /// unconnected.
    #[must_use]
    pub fn crash(&self, seed: u64) -> Self {
        let mut random = Random(seed);
        let before = self.lock_state();
        let mut names = before.durable_names.clone();
        let mut dirs = before.durable_dirs.clone();
        // Journals keep the order of names, so a prefix of their changes survives.
        let surviving = random.below(before.name_changes.len() as u64 + 1) as usize;
        for change in &before.name_changes[..surviving] {
            change.apply(&mut names, &mut dirs);
        }
        let reachable = |path: &Path, dirs: &BTreeSet<PathBuf>| {
            let mut above = path.ancestors().skip(1);
            above.all(|dir| is_root(dir) || dirs.contains(dir))
        };
        let all_dirs = dirs.clone();
        dirs.retain(|dir| reachable(dir, &all_dirs));
        names.retain(|path, _| reachable(path, &all_dirs));
        let named: BTreeSet<u64> = names.values().copied().collect();
        let survivors = before.nodes.iter().filter(|(id, _)| named.contains(id));
        let nodes = survivors
            .map(|(id, node)| (*id, node.after_crash(&mut random)))
            .collect();
        Self::of(State {
            nodes,
            next_node: before.next_node,
            durable_names: names.clone(),
            names,
            durable_dirs: dirs.clone(),
            dirs,
            ..State::default()
        })
    }

    fn lock_state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }
}

impl Default for SimulatedDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<PathBuf, u64>, dirs: &mut BTreeSet<PathBuf>) {
        match self {
            Self::DirCreated(path) => {
                dirs.insert(path.clone());
            }
            Self::DirRemoved(path) => {
                dirs.remove(path);
            }
            Self::Created(path, node) => {
                names.insert(path.clone(), *node);
            }
            Self::Removed(path) => {
                names.remove(path);
            }
            Self::Renamed(from, to, node) => {
                names.remove(from);
                names.insert(to.clone(), *node);
            }
        }
    }

    fn is_in(&self, dir: &Path) -> bool {
        let path = match self {
            Self::Created(path, _)
            | Self::Removed(path)
            | Self::Renamed(_, path, _)
            | Self::DirCreated(path)
            | Self::DirRemoved(path) => path,
        };
        path.parent() == Some(dir)
    }
}

impl Node {
    fn change(&mut self, change: Change) {
        change.apply(&mut self.live);
        self.unsynced.push(change);
    }

    fn sync(&mut self) {
        for change in self.unsynced.drain(..) {
            change.apply(&mut self.synced);
        }
    }

    /// The kernel marks pages clean after a failed sync: what they held is neither durable nor retried.
    fn fail_sync(&mut self) {
        self.abandoned.append(&mut self.unsynced);
    }

    fn after_crash(&self, random: &mut Random) -> Self {
        let mut survived = self.synced.clone();
        for change in self.abandoned.iter().chain(&self.unsynced) {
            change.apply_partly(&mut survived, random);
        }
        Self {
            blocks: survived.page_numbers(),
            live: survived.clone(),
            synced: survived,
            ..Self::default()
        }
    }

    fn allocate(&mut self, range: Range<u64>) -> u64 {
        let blocks = range.start / BLOCK_BYTES..range.end.div_ceil(BLOCK_BYTES);
        blocks.filter(|block| self.blocks.insert(*block)).count() as u64
    }
}

impl Change {
    fn apply(&self, pages: &mut Pages) {
        match self {
            Self::Write(offset, bytes) => pages.write(*offset, bytes),
            Self::Length(len) => pages.set_len(*len),
        }
    }

    /// All, nothing, or any of its parts.
    fn apply_partly(&self, pages: &mut Pages, random: &mut Random) {
        match (self, random.below(3)) {
            (_, 0) => {}
            (_, 1) | (Self::Length(_), _) => self.apply(pages),
            (Self::Write(offset, bytes), _) => {
                let mut at = *offset;
                let mut rest = bytes.as_slice();
                let part_bytes = TEAR_BYTES[random.below(TEAR_BYTES.len() as u64) as usize];
                while !rest.is_empty() {
                    let to_boundary = part_bytes - (at % part_bytes as u64) as usize;
                    let (part, behind) = rest.split_at(to_boundary.min(rest.len()));
                    if random.below(2) == 0 {
                        pages.write(at, part);
                    }
                    at += part.len() as u64;
                    rest = behind;
                }
            }
        }
    }
}

impl State {
    /// Counts a change; fails when the power is gone.
    fn count_change(&mut self) -> io::Result<()> {
        if let Some(left) = &mut self.faults.power_off_after {
            if *left == 0 {
                return Err(broken());
            }
            *left -= 1;
        }
        self.changes += 1;
        Ok(())
    }

    fn check_power(&self) -> io::Result<()> {
        if self.faults.power_off_after == Some(0) {
            Err(broken())
        } else {
            Ok(())
        }
    }

    fn used_bytes(&self) -> u64 {
        let named: BTreeSet<u64> = self.names.values().copied().collect();
        let blocks = self.nodes.iter().filter(|(id, _)| named.contains(id));
        blocks
            .map(|(_, node)| node.blocks.len() as u64 * BLOCK_BYTES)
            .sum()
    }

    fn capacity_bytes(&self) -> u64 {
        self.faults.capacity_bytes.unwrap_or(CAPACITY_BYTES)
    }

    /// Takes room for a range of a file, or fails having taken none.
    fn allocate(&mut self, id: u64, range: Range<u64>) -> io::Result<()> {
        let used = self.used_bytes();
        let capacity = self.capacity_bytes();
        let node = self.nodes.get_mut(&id).expect("an open file has a node");
        let before = node.blocks.clone();
        let taken = node.allocate(range);
        if taken > 0 && used + taken * BLOCK_BYTES > capacity {
            node.blocks = before;
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn has_dir(&self, path: &Path) -> bool {
        is_root(path) || self.dirs.contains(path)
    }

    fn node_of(&self, path: &Path) -> io::Result<u64> {
        self.names
            .get(path)
            .copied()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn change_name(&mut self, change: NameChange) -> io::Result<()> {
        self.count_change()?;
        change.apply(&mut self.names, &mut self.dirs);
        self.name_changes.push(change);
        Ok(())
    }
}

impl Disk for SimulatedDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let mut state = self.lock_state();
        state.check_power()?;
        let node = match (state.node_of(path), mode) {
            (Ok(node), _) => node,
            (Err(_), OpenMode::Create) => {
                if path.parent().is_none_or(|dir| !state.has_dir(dir)) {
                    return Err(io::ErrorKind::NotFound.into());
                }
                let node = state.next_node;
                state.change_name(NameChange::Created(path.to_owned(), node))?;
                state.next_node += 1;
                state.nodes.insert(node, Node::default());
                node
            }
            (Err(error), _) => return Err(error),
        };
        Ok(Arc::new(SimulatedFile {
            state: Arc::clone(&self.state),
            healed: Arc::clone(&self.healed),
            node,
        }))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock_state();
        state.node_of(path)?;
        state.change_name(NameChange::Removed(path.to_owned()))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.lock_state();
        let node = state.node_of(from)?;
        state.change_name(NameChange::Renamed(from.to_owned(), to.to_owned(), node))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock_state();
        state.check_power()?;
        let missing: Vec<PathBuf> = path
            .ancestors()
            .take_while(|dir| !state.has_dir(dir))
            .map(Path::to_owned)
            .collect();
        for dir in missing.into_iter().rev() {
            state.change_name(NameChange::DirCreated(dir))?;
        }
        Ok(())
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        if !self.list(path)?.is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        self.lock_state()
            .change_name(NameChange::DirRemoved(path.to_owned()))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let state = self.lock_state();
        state.check_power()?;
        if !state.has_dir(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let name = |path: &Path| {
            path.file_name()
                .map(|name| name.to_string_lossy().into_owned())
        };
        let in_dir = |path: &&PathBuf| path.parent() == Some(dir);
        let files = state
            .names
            .iter()
            .filter(|(path, _)| in_dir(path))
            .filter_map(|(path, node)| {
                Some(Entry {
                    name: name(path)?,
                    is_dir: false,
                    len: state.nodes[node].live.len(),
                })
            });
        let dirs = state.dirs.iter().filter(in_dir).filter_map(|path| {
            Some(Entry {
                name: name(path)?,
                is_dir: true,
                len: 0,
            })
        });
        let mut entries: Vec<Entry> = files.chain(dirs).collect();
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.lock_state();
        state.count_change()?;
        if state.faults.sync_fails {
            return Err(broken());
        }
        let (here, elsewhere): (Vec<NameChange>, Vec<NameChange>) =
            std::mem::take(&mut state.name_changes)
                .into_iter()
                .partition(|change| change.is_in(dir));
        let State {
            durable_names,
            durable_dirs,
            ..
        } = &mut *state;
        for change in &here {
            change.apply(durable_names, durable_dirs);
        }
        state.name_changes = elsewhere;
        Ok(())
    }

    fn exists(&self, path: &Path) -> bool {
        let state = self.lock_state();
        state.names.contains_key(path) || state.has_dir(path)
    }

    fn space(&self, _dir: &Path) -> io::Result<Space> {
        let state = self.lock_state();
        state.check_power()?;
        let total_bytes = state.capacity_bytes();
        Ok(Space {
            total_bytes,
            free_bytes: total_bytes.saturating_sub(state.used_bytes()),
        })
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        drop(self.open(path, OpenMode::Create)?);
        if !self.lock_state().locked.insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(SimulatedLock {
            state: Arc::clone(&self.state),
            path: path.to_owned(),
        }))
    }
}

impl SimulatedFile {
    fn lock_state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    fn with_node<R>(&self, f: impl FnOnce(&mut Node) -> R) -> R {
        let mut state = self.lock_state();
        f(state
            .nodes
            .get_mut(&self.node)
            .expect("an open file has a node"))
    }
}

impl File for SimulatedFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.lock_state();
        state.check_power()?;
        if state.faults.read_fails {
            return Err(broken());
        }
        Ok(state.nodes[&self.node].live.read(buf, offset))
    }

    fn read_at_nowait(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        if self.lock_state().faults.reads_are_cold {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.read_at(buf, offset)
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.lock_state();
        state.count_change()?;
        if state.faults.write_fails {
            return Err(broken());
        }
        state.allocate(self.node, offset..offset + buf.len() as u64)?;
        let node = state
            .nodes
            .get_mut(&self.node)
            .expect("an open file has a node");
        node.change(Change::Write(offset, buf.to_vec()));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self
            .healed
            .wait_while(self.lock_state(), |state| state.faults.sync_hangs)
            .expect("no holder panics");
        state.count_change()?;
        let fails = state.faults.sync_fails;
        let node = state
            .nodes
            .get_mut(&self.node)
            .expect("an open file has a node");
        if fails {
            node.fail_sync();
            return Err(broken());
        }
        node.sync();
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.lock_state().count_change()?;
        self.with_node(|node| {
            node.blocks
                .retain(|block| *block < len.div_ceil(BLOCK_BYTES));
            node.change(Change::Length(len));
        });
        Ok(())
    }

    fn reserve(&self, len: u64) -> io::Result<()> {
        let mut state = self.lock_state();
        state.count_change()?;
        state.allocate(self.node, 0..len)?;
        let node = state
            .nodes
            .get_mut(&self.node)
            .expect("an open file has a node");
        if node.live.len() < len {
            node.change(Change::Length(len));
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        self.lock_state().check_power()?;
        Ok(self.with_node(|node| node.live.len()))
    }

    fn advise_cold(&self, _range: Range<u64>) {}

    fn advise_read_ahead(&self, _ahead: bool) {}
}

/// Where paths begin is always there.
fn is_root(path: &Path) -> bool {
    path.parent().is_none()
}

fn broken() -> io::Error {
    io::Error::other("simulated input/output error")
}
