//! Numbers that must be unpredictable, all following from the entropy of one start.

use tidegate_protocol::id::{ConduitId, Epoch, LibraryId, Nonce};

/// A stream of random numbers: BLAKE3 keyed by the start's entropy over a counter.
#[derive(Debug)]
pub(super) struct Draw {
    key: [u8; 32],
    counter: u64,
}

impl Draw {
    pub(super) const fn new(entropy: [u8; 32]) -> Self {
        Self { key: entropy, counter: 0 }
    }

    fn next(&mut self) -> [u8; 32] {
        self.counter += 1;
        *blake3::keyed_hash(&self.key, &self.counter.to_le_bytes()).as_bytes()
    }

    fn sixteen(&mut self) -> [u8; 16] {
        let bytes = self.next();
        std::array::from_fn(|i| bytes[i])
    }

    pub(super) fn nonce(&mut self) -> Nonce {
        Nonce::from_bytes(self.sixteen())
    }

    pub(super) fn conduit(&mut self) -> ConduitId {
        ConduitId::from_bytes(self.sixteen())
    }

    pub(super) fn library(&mut self) -> LibraryId {
        LibraryId::from_bytes(self.sixteen())
    }

    pub(super) fn epoch(&mut self) -> Epoch {
        let bytes = self.next();
        Epoch(u64::from_le_bytes(std::array::from_fn(|i| bytes[i])))
    }

    /// A number below `bound`, to spread periodic work.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.epoch().0 % bound.max(1)
    }
}
