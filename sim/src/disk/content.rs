//! What a file holds: pages that copies share, so that a snapshot of a tree costs little and a write costs its
//! pages. Pages that were never written read as zeros and take no room.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use tidegate_protocol::hash::ContentHash;

/// Bytes of a page.
pub const PAGE_BYTES: u64 = 4096;

/// Bytes that a disk writes whole or not at all.
pub const SECTOR_BYTES: u64 = 512;

/// Bytes, cheap to copy. Equality is that of the bytes.
#[derive(Clone, Default)]
pub struct Content(Arc<Inner>);

#[derive(Clone, Default)]
struct Inner {
    length: u64,
    /// By number. A page may be shorter than it could be; what is missing is zeros. Nothing lies beyond the length.
    pages: BTreeMap<u64, Arc<Vec<u8>>>,
    hash: OnceLock<ContentHash>,
}

impl Content {
    /// A copy of `bytes`.
    pub fn new(bytes: &[u8]) -> Self {
        let mut content = Self::default();
        content.write(bytes, 0);
        content
    }

    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.0.length
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.length == 0
    }

    /// Pages that take room.
    pub fn pages(&self) -> u64 {
        self.0.pages.len() as u64
    }

    /// All bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.0.length as usize];
        self.read(&mut bytes, 0);
        bytes
    }

    /// Its identity; found once for all copies.
    pub fn hash(&self) -> ContentHash {
        *self.0.hash.get_or_init(|| ContentHash::of(&self.bytes()))
    }

    /// Whether it holds all of `other` at its beginning.
    pub fn starts_with(&self, other: &Self) -> bool {
        let end = other.len();
        let numbers = |content: &Self| -> Vec<u64> {
            content.0.pages.range(..end.div_ceil(PAGE_BYTES)).map(|(number, _)| *number).collect()
        };
        let same = |number: u64| {
            let (mine, theirs) = (self.0.pages.get(&number), other.0.pages.get(&number));
            if let (Some(mine), Some(theirs)) = (mine, theirs)
                && Arc::ptr_eq(mine, theirs)
            {
                return true;
            }
            let most = (end - number * PAGE_BYTES).min(PAGE_BYTES) as usize;
            let (mut a, mut b) = ([0; PAGE_BYTES as usize], [0; PAGE_BYTES as usize]);
            self.read(&mut a[..most], number * PAGE_BYTES);
            other.read(&mut b[..most], number * PAGE_BYTES);
            a == b
        };
        self.len() >= end && numbers(self).into_iter().chain(numbers(other)).all(same)
    }

    /// Whether it is a copy of `other` that nobody has written to, nor to the other one.
    pub(super) fn is_copy_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Fills `buffer` from `offset` as far as there is content; answers how far.
    pub fn read(&self, buffer: &mut [u8], offset: u64) -> usize {
        let length = self.0.length.saturating_sub(offset).min(buffer.len() as u64) as usize;
        let buffer = &mut buffer[..length];
        let mut done = 0;
        while done < length {
            let (page, within, part) = split(offset + done as u64, length - done);
            let target = &mut buffer[done..done + part];
            target.fill(0);
            if let Some(bytes) = self.0.pages.get(&page) {
                let end = bytes.len().min(within + part);
                if within < end {
                    target[..end - within].copy_from_slice(&bytes[within..end]);
                }
            }
            done += part;
        }
        length
    }

    /// Writes `bytes` at `offset`; a gap before them reads as zeros.
    pub fn write(&mut self, bytes: &[u8], offset: u64) {
        if bytes.is_empty() {
            return;
        }
        let inner = self.change();
        inner.length = inner.length.max(offset + bytes.len() as u64);
        let mut done = 0;
        while done < bytes.len() {
            let (page, within, part) = split(offset + done as u64, bytes.len() - done);
            let held = Arc::make_mut(inner.pages.entry(page).or_default());
            if held.len() < within + part {
                held.resize(within + part, 0);
            }
            held[within..within + part].copy_from_slice(&bytes[done..done + part]);
            done += part;
        }
    }

    /// Cuts or extends.
    pub fn set_len(&mut self, length: u64) {
        if length == self.0.length {
            return;
        }
        let inner = self.change();
        if length < inner.length {
            let (last, within) = (length / PAGE_BYTES, (length % PAGE_BYTES) as usize);
            drop(inner.pages.split_off(&(last + u64::from(within > 0))));
            if let Some(page) = inner.pages.get_mut(&last)
                && page.len() > within
            {
                Arc::make_mut(page).truncate(within);
            }
        }
        inner.length = length;
    }

    fn change(&mut self) -> &mut Inner {
        let inner = Arc::make_mut(&mut self.0);
        inner.hash.take();
        inner
    }
}

/// Page, offset within it, and how much of `length` bytes at `offset` lies in it.
fn split(offset: u64, length: usize) -> (u64, usize, usize) {
    let within = (offset % PAGE_BYTES) as usize;
    (offset / PAGE_BYTES, within, length.min(PAGE_BYTES as usize - within))
}

impl PartialEq for Content {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || (self.len() == other.len() && self.hash() == other.hash())
    }
}

impl Eq for Content {}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes {}", self.len(), self.hash().short())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_is_what_a_plain_vector_would_be() {
        let (mut content, mut plain) = (Content::default(), Vec::new());
        let steps = [(0, 10), (4090, 20), (9000, 5), (3, 8200), (20_000, 1)];
        for (n, (offset, length)) in steps.into_iter().enumerate() {
            let bytes = vec![n as u8 + 1; length];
            content.write(&bytes, offset as u64);
            plain.resize(plain.len().max(offset + length), 0);
            plain[offset..offset + length].copy_from_slice(&bytes);
            assert_eq!(content.bytes(), plain);
            let before = content.clone();
            for cut in [offset + length / 2, 4096, 5000, 12_000] {
                content.set_len(cut as u64);
                plain.resize(cut, 0);
                assert_eq!((content.bytes(), content.hash()), (plain.clone(), ContentHash::of(&plain)));
            }
            assert_eq!(before.hash(), ContentHash::of(&before.bytes()), "a copy stays what it was");
        }
        assert_eq!(content.read(&mut [0; 4], 1 << 40), 0);
    }

    #[test]
    fn a_beginning_is_known_by_its_bytes() {
        let whole = Content::new(&[7; 10_000]);
        for length in [0, 1, 4096, 5000, 10_000] {
            assert!(whole.starts_with(&Content::new(&vec![7; length])));
        }
        let mut other = Content::new(&[7; 9_000]);
        other.write(b"x", 8_999);
        let mut hole = Content::default();
        hole.set_len(9_000);
        assert!(!whole.starts_with(&other) && !whole.starts_with(&hole) && !hole.starts_with(&whole));
        assert!(hole.starts_with(&Content::new(&[0; 100])) && Content::new(&[0; 9_001]).starts_with(&hole));
    }

    #[test]
    fn what_was_never_written_takes_no_room() {
        let mut content = Content::default();
        content.set_len(1 << 62);
        content.write(b"x", 1 << 61);
        assert_eq!((content.len(), content.pages()), (1 << 62, 1));
    }
}
