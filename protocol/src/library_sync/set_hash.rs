//! LtHash: an additive, collision-resistant hash over the set of all live rows of one device.
//!
//! Each row expands by BLAKE3-XOF to 1,024 lanes of 16 bits; the set's hash is the lane-wise sum modulo
//! 2^16. Adding or removing a row costs one expansion, in any order, whoever brings the row. The
//! construction and its parameters are those of Lewi et al., "Securing Update Propagation with Homomorphic
//! Hashing" (2019): lthash16 with 1,024 lanes.

use super::row::Row;
use crate::codec;

const LANES: usize = 1024;
const DOMAIN: &str = "tidegate 2026-11 set hash row v1";

/// Sum over a set of rows. Equal digests mean equal sets.
#[derive(Clone, PartialEq, Eq)]
pub struct SetHash(Box<[u16; LANES]>);

impl SetHash {
    /// Length of [`SetHash::to_bytes`].
    pub const BYTES: usize = LANES * 2;

    /// Of the empty set.
    pub fn empty() -> Self {
        Self(Box::new([0; LANES]))
    }

    /// Adds a row that is not in the set, and says how long its encoding is, in bytes.
    pub fn add(&mut self, row: &Row) -> u64 {
        self.each_lane(row, u16::wrapping_add)
    }

    /// Removes a row that is in the set, and says how long its encoding is, in bytes.
    pub fn remove(&mut self, row: &Row) -> u64 {
        self.each_lane(row, u16::wrapping_sub)
    }

    /// The 32 bytes that a head signs.
    pub fn digest(&self) -> [u8; 32] {
        *blake3::hash(&self.to_bytes()).as_bytes()
    }

    /// The lanes, little-endian: the stored form.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|lane| lane.to_le_bytes()).collect()
    }

    /// From the stored form; `None` if it has another length.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != Self::BYTES {
            return None;
        }
        let mut lanes = Box::new([0; LANES]);
        for (lane, pair) in lanes.iter_mut().zip(bytes.chunks_exact(2)) {
            *lane = u16::from_le_bytes([pair[0], pair[1]]);
        }
        Some(Self(lanes))
    }

    fn each_lane(&mut self, row: &Row, combine: impl Fn(u16, u16) -> u16) -> u64 {
        let mut expanded = [0; Self::BYTES];
        let mut hasher = blake3::Hasher::new_derive_key(DOMAIN);
        let encoded = codec::encode(row);
        hasher.update(&encoded);
        hasher.finalize_xof().fill(&mut expanded);
        for (lane, pair) in self.0.iter_mut().zip(expanded.chunks_exact(2)) {
            *lane = combine(*lane, u16::from_le_bytes([pair[0], pair[1]]));
        }
        encoded.len() as u64
    }
}

impl std::fmt::Debug for SetHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SetHash({})", data_encoding::HEXLOWER.encode(&self.digest()[..4]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{LocationId, Sequence};
    use crate::index::{EntryState, Version};
    use crate::library_sync::{RowBody, RowKey};
    use crate::path::EntryPath;

    fn row(sequence: u64, path: &str) -> Row {
        let location = LocationId::from_bytes([7; 16]);
        Row {
            sequence: Sequence(sequence),
            key: RowKey::Entry(location, EntryPath::from_slashes(path.as_bytes()).unwrap()),
            body: RowBody::Entry(EntryState::Deleted(Version::NONE)),
        }
    }

    #[test]
    fn the_hash_depends_on_the_set_alone() {
        let (mut one, mut two) = (SetHash::empty(), SetHash::empty());
        for row in [row(1, "a"), row(2, "b"), row(3, "c")] {
            one.add(&row);
        }
        for row in [row(3, "c"), row(9, "x"), row(2, "b"), row(1, "a")] {
            two.add(&row);
        }
        assert_ne!(one.digest(), two.digest());
        two.remove(&row(9, "x"));
        assert_eq!(one, two);
        two.remove(&row(1, "a"));
        two.add(&row(4, "a"));
        assert_ne!(one.digest(), two.digest(), "a row's sequence is part of it");
        assert_eq!(SetHash::from_bytes(&one.to_bytes()), Some(one));
    }
}
