//! The content of a simulated file: pages that exist where something was written, zeros elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const PAGE_BYTES: usize = 4096;

/// Sparse bytes. Clones share pages until one of them writes.
#[derive(Clone, Debug, Default)]
pub(super) struct Pages {
    pages: BTreeMap<u64, Arc<[u8; PAGE_BYTES]>>,
    len: u64,
}

impl Pages {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn page_numbers(&self) -> BTreeSet<u64> {
        self.pages.keys().copied().collect()
    }

    /// Copies what lies at `offset`; less than asked for at the end.
    pub(super) fn read(&self, buf: &mut [u8], offset: u64) -> usize {
        let count = self.len.saturating_sub(offset).min(buf.len() as u64) as usize;
        let mut done = 0;
        while done < count {
            let (number, within) = place(offset + done as u64);
            let part = (PAGE_BYTES - within).min(count - done);
            let target = &mut buf[done..done + part];
            match self.pages.get(&number) {
                Some(page) => target.copy_from_slice(&page[within..within + part]),
                None => target.fill(0),
            }
            done += part;
        }
        count
    }

    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        let mut done = 0;
        while done < bytes.len() {
            let (number, within) = place(offset + done as u64);
            let part = (PAGE_BYTES - within).min(bytes.len() - done);
            let page = self
                .pages
                .entry(number)
                .or_insert_with(|| Arc::new([0; PAGE_BYTES]));
            Arc::make_mut(page)[within..within + part].copy_from_slice(&bytes[done..done + part]);
            done += part;
        }
        self.len = self.len.max(offset + bytes.len() as u64);
    }

    /// Cuts, or extends with zeros.
    pub(super) fn set_len(&mut self, len: u64) {
        self.len = len;
        let (number, within) = place(len);
        self.pages
            .retain(|page, _| *page < number || (*page == number && within > 0));
        if let Some(page) = self.pages.get_mut(&number) {
            Arc::make_mut(page)[within..].fill(0);
        }
    }
}

fn place(offset: u64) -> (u64, usize) {
    (
        offset / PAGE_BYTES as u64,
        (offset % PAGE_BYTES as u64) as usize,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_reads_as_zeros_when_the_file_grows_again() {
        let mut pages = Pages::default();
        pages.write(4090, b"0123456789");
        pages.set_len(4093);
        pages.set_len(4100);
        let mut buf = [9; 10];
        assert_eq!(pages.read(&mut buf, 4090), 10);
        assert_eq!(&buf, b"012\0\0\0\0\0\0\0");
    }

    #[test]
    fn reads_end_with_the_file() {
        let mut pages = Pages::default();
        pages.write(0, b"abc");
        let mut buf = [0; 8];
        assert_eq!((pages.read(&mut buf, 1), &buf[..2]), (2, b"bc".as_slice()));
        assert_eq!(pages.read(&mut buf, 3), 0);
    }
}
