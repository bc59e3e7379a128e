//! What a simulated file holds: its bytes as the page cache shows them, and what of them a power failure may undo.
//!
//! A sector that was written since the last sync keeps its earlier versions, the durable one first. After a power failure
//! each such sector holds any of its versions; a sector is never torn itself. A length that was not synced is any
//! length between the durable one and the last.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::random::Random;

/// The unit of the page cache and of allocation.
pub(super) const PAGE_BYTES: u64 = 4096;
/// What a device writes whole or not at all.
pub(super) const SECTOR_BYTES: u64 = 512;
/// Versions of one sector that are kept; the durable one is always among them.
const VERSIONS_MAX: usize = 4;

type Page = [u8; PAGE_BYTES as usize];
type Sector = [u8; SECTOR_BYTES as usize];

#[derive(Clone, Debug)]
struct Unsynced {
    /// What the device may hold, the durable version first.
    versions: Vec<Arc<Sector>>,
    /// A sync failed: the kernel holds the sector clean, so a later sync does not write it.
    doubtful: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Content {
    len: u64,
    pages: BTreeMap<u64, Arc<Page>>,
    /// Room is taken for all bytes below.
    reserved: u64,
    durable_len: u64,
    len_doubtful: bool,
    unsynced: BTreeMap<u64, Unsynced>,
    /// Pages that a read must fetch from the device.
    cold: BTreeSet<u64>,
    zeros: Arc<Sector>,
}

impl Content {
    pub(super) fn new() -> Self {
        Self {
            len: 0,
            pages: BTreeMap::new(),
            reserved: 0,
            durable_len: 0,
            len_doubtful: false,
            unsynced: BTreeMap::new(),
            cold: BTreeSet::new(),
            zeros: Arc::new([0; SECTOR_BYTES as usize]),
        }
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Bytes taken from the file system.
    pub(super) fn allocated(&self) -> u64 {
        let reserved_pages = self.reserved.div_ceil(PAGE_BYTES);
        let others = self.pages.range(reserved_pages..).count() as u64;
        (reserved_pages + others) * PAGE_BYTES
    }

    /// Bytes that writing `buf_len` bytes would take, for the longest part of them that takes at most `room`.
    pub(super) fn fitting(&self, offset: u64, buf_len: u64, mut room: u64) -> u64 {
        let end = offset + buf_len;
        let reserved_pages = self.reserved.div_ceil(PAGE_BYTES);
        for page in offset / PAGE_BYTES..end.div_ceil(PAGE_BYTES) {
            if page >= reserved_pages && !self.pages.contains_key(&page) {
                if room < PAGE_BYTES {
                    return (page * PAGE_BYTES).max(offset) - offset;
                }
                room -= PAGE_BYTES;
            }
        }
        buf_len
    }

    pub(super) fn read(&mut self, buf: &mut [u8], offset: u64) -> usize {
        let count = self.len.saturating_sub(offset).min(buf.len() as u64) as usize;
        let buf = &mut buf[..count];
        each_piece(offset, count, PAGE_BYTES, |page, within, piece| {
            match self.pages.get(&page) {
                Some(bytes) => {
                    buf[piece.clone()].copy_from_slice(&bytes[within..within + piece.len()])
                }
                None => buf[piece].fill(0),
            }
            self.cold.remove(&page);
        });
        count
    }

    /// How many of `buf_len` bytes can be read before the first cold page.
    pub(super) fn warm(&self, offset: u64, buf_len: usize) -> usize {
        let count = self.len.saturating_sub(offset).min(buf_len as u64);
        if count == 0 {
            return 0;
        }
        let first_cold = self
            .cold
            .range(offset / PAGE_BYTES..(offset + count).div_ceil(PAGE_BYTES))
            .next();
        first_cold.map_or(count, |page| (page * PAGE_BYTES).saturating_sub(offset)) as usize
    }

    /// The pages of the range must be fetched from the device at the next read.
    pub(super) fn cool(&mut self, start: u64, end: u64) {
        let pages = self
            .pages
            .range(start / PAGE_BYTES..end.div_ceil(PAGE_BYTES).max(start / PAGE_BYTES));
        self.cold.extend(pages.map(|(page, _)| *page));
    }

    pub(super) fn write(&mut self, buf: &[u8], offset: u64) {
        if buf.is_empty() {
            return;
        }
        let end = offset + buf.len() as u64;
        for sector in offset / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES) {
            self.keep_version(sector);
        }
        each_piece(offset, buf.len(), PAGE_BYTES, |page, within, piece| {
            let bytes = self
                .pages
                .entry(page)
                .or_insert_with(|| Arc::new([0; PAGE_BYTES as usize]));
            Arc::make_mut(bytes)[within..within + piece.len()].copy_from_slice(&buf[piece]);
            self.cold.remove(&page);
        });
        if end > self.len {
            self.change_len(end);
        }
    }

    pub(super) fn set_len(&mut self, len: u64) {
        if len < self.len {
            self.forget_from(len);
            self.reserved = self.reserved.min(len);
        }
        if len != self.len {
            self.change_len(len);
        }
    }

    pub(super) fn reserve(&mut self, len: u64) {
        self.reserved = self.reserved.max(len);
        if len > self.len {
            self.change_len(len);
        }
    }

    pub(super) fn sync(&mut self) {
        self.unsynced.retain(|_, unsynced| unsynced.doubtful);
        if !self.len_doubtful {
            self.durable_len = self.len;
        }
    }

    /// The device refused: what was to be written is in doubt for ever, unless it is written again.
    pub(super) fn sync_failed(&mut self) {
        for unsynced in self.unsynced.values_mut() {
            unsynced.doubtful = true;
        }
        self.len_doubtful = self.len != self.durable_len;
    }

    /// What the device holds after a power failure.
    pub(super) fn after_power_failure(&self, random: &mut Random) -> Self {
        let mut survivor = self.clone();
        let outcome = Outcome::choose(random, self.unsynced.len() as u64);
        let mut kept_end = 0;
        for (index, (sector, unsynced)) in self.unsynced.iter().enumerate() {
            match outcome.version(random, index as u64, unsynced.versions.len()) {
                Some(version) => survivor.put_sector(*sector, &unsynced.versions[version]),
                None => kept_end = (sector + 1) * SECTOR_BYTES,
            }
        }
        let (short, long) = (
            self.len.min(self.durable_len),
            self.len.max(self.durable_len),
        );
        let len = match outcome {
            Outcome::Lost => self.durable_len,
            Outcome::Kept => self.len,
            Outcome::Prefix(_) if self.len >= self.durable_len => kept_end.clamp(short, long),
            _ => match random.below(3) {
                0 => self.durable_len,
                1 => self.len,
                _ => ((short + random.below(long - short + 1)) / SECTOR_BYTES * SECTOR_BYTES)
                    .clamp(short, long),
            },
        };
        survivor.len = len.max(self.len);
        survivor.forget_from(len);
        survivor.len = len;
        survivor.durable_len = len;
        survivor.len_doubtful = false;
        survivor.reserved = survivor.reserved.min(len);
        survivor.unsynced.clear();
        survivor.cold = survivor.pages.keys().copied().collect();
        survivor
    }

    fn change_len(&mut self, len: u64) {
        self.len = len;
        self.len_doubtful = false;
    }

    fn keep_version(&mut self, sector: u64) {
        let current = self.sector(sector);
        let unsynced = self.unsynced.entry(sector).or_insert_with(|| Unsynced {
            versions: Vec::new(),
            doubtful: false,
        });
        if unsynced.versions.len() == VERSIONS_MAX {
            // The durable version must stay; among the others the oldest goes.
            unsynced.versions.remove(1);
        }
        unsynced.versions.push(current);
        unsynced.doubtful = false;
    }

    fn sector(&self, sector: u64) -> Arc<Sector> {
        let start = sector * SECTOR_BYTES;
        match self.pages.get(&(start / PAGE_BYTES)) {
            Some(page) => {
                let within = (start % PAGE_BYTES) as usize;
                let mut bytes = [0; SECTOR_BYTES as usize];
                bytes.copy_from_slice(&page[within..within + SECTOR_BYTES as usize]);
                Arc::new(bytes)
            }
            None => Arc::clone(&self.zeros),
        }
    }

    fn put_sector(&mut self, sector: u64, bytes: &Sector) {
        let start = sector * SECTOR_BYTES;
        let within = (start % PAGE_BYTES) as usize;
        let page = self
            .pages
            .entry(start / PAGE_BYTES)
            .or_insert_with(|| Arc::new([0; PAGE_BYTES as usize]));
        Arc::make_mut(page)[within..within + SECTOR_BYTES as usize].copy_from_slice(bytes);
    }

    /// Bytes from `len` on become a hole, with their earlier versions kept.
    fn forget_from(&mut self, len: u64) {
        let first = len / PAGE_BYTES;
        let pages: Vec<u64> = self.pages.range(first..).map(|(page, _)| *page).collect();
        for page in pages {
            let sectors = PAGE_BYTES / SECTOR_BYTES;
            for sector in (page * sectors).max(len / SECTOR_BYTES)..(page + 1) * sectors {
                self.keep_version(sector);
            }
            let from = len.saturating_sub(page * PAGE_BYTES);
            if from == 0 {
                self.pages.remove(&page);
                self.cold.remove(&page);
            } else if let Some(bytes) = self.pages.get_mut(&page) {
                Arc::make_mut(bytes)[from as usize..].fill(0);
            }
        }
    }
}

/// What became of one file's unsynced sectors.
enum Outcome {
    /// None reached the device.
    Lost,
    /// All did.
    Kept,
    /// The first ones did, in the file's order: a torn tail.
    Prefix(u64),
    /// Each as it happened.
    Mixed,
}

impl Outcome {
    fn choose(random: &mut Random, sectors: u64) -> Self {
        match random.below(4) {
            0 => Self::Lost,
            1 => Self::Kept,
            2 => Self::Prefix(random.below(sectors + 1)),
            _ => Self::Mixed,
        }
    }

    /// The earlier version that the device holds; `None` is the last one written.
    fn version(&self, random: &mut Random, index: u64, versions: usize) -> Option<usize> {
        match self {
            Self::Lost => Some(0),
            Self::Kept => None,
            Self::Prefix(kept) => (index >= *kept).then_some(0),
            Self::Mixed => Some(random.below(versions as u64 + 1) as usize)
                .filter(|version| *version < versions),
        }
    }
}

/// Calls `piece(unit, offset within the unit, range of the buffer)` for each unit that the range touches.
fn each_piece(
    offset: u64,
    count: usize,
    unit: u64,
    mut piece: impl FnMut(u64, usize, std::ops::Range<usize>),
) {
    let mut done = 0;
    while done < count {
        let at = offset + done as u64;
        let within = at % unit;
        let length = ((unit - within) as usize).min(count - done);
        piece(at / unit, within as usize, done..done + length);
        done += length;
    }
}
