//! Every chance of a run: streams of numbers keyed by what they decide.
//!
//! A stream is named by (seed, kind, device, incarnation, thread of decisions), and its n-th number depends on
//! nothing else. So a decision that is left out, or one more of them, leaves all other streams as they were: a
//! plan from which an event was removed still meets the same weather. Nothing here is unpredictable, and nothing
//! here is for keys that guard anything.

/// What a stream decides. The number is part of its key, so it never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u64)]
pub enum Kind {
    /// Which of the tasks that are ready goes first.
    Schedule = 1,
    /// What a device's `entropy` gives.
    Entropy = 2,
    /// Latency, loss and order of frames and gossip on a link.
    Network = 3,
    /// Faults and durations of disk operations.
    Disk = 4,
    /// What a crash leaves of what was not synced.
    Crash = 5,
    /// The page file of the replica.
    Backend = 6,
    /// What watchers see, and when.
    Watch = 7,
    /// Drift and jumps of clocks.
    Clock = 8,
    /// What users do.
    User = 9,
    /// What a plan consists of.
    Plan = 10,
    /// Content of files.
    Content = 11,
    /// The identity of a device.
    Identity = 12,
}

/// All streams of one seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Draws {
    seed: u64,
}

impl Draws {
    /// The streams of `seed`.
    pub const fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// The stream that decides `kind` for one device and one of its incarnations. What belongs to no device or
    /// to all incarnations uses 0 there.
    pub const fn stream(&self, kind: Kind, device: u64, incarnation: u64) -> Stream {
        let key = mix(mix(mix(mix(self.seed) ^ kind as u64) ^ device) ^ incarnation);
        Stream { key, counter: 0 }
    }
}

/// A stream of numbers. A copy goes on from where the original was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stream {
    key: u64,
    counter: u64,
}

impl Stream {
    /// The stream of one thread of decisions below this one; independent of how far this one is.
    #[must_use]
    pub const fn below_key(&self, key: u64) -> Self {
        Self { key: mix(self.key ^ mix(key)), counter: 0 }
    }

    /// The next number.
    pub const fn next_u64(&mut self) -> u64 {
        self.counter += 1;
        mix(self.key ^ self.counter)
    }

    /// A number below `bound`; 0 if `bound` is 0.
    pub const fn below(&mut self, bound: u64) -> u64 {
        ((self.next_u64() as u128 * bound as u128) >> 64) as u64
    }

    /// An index into something of `length`, which is not empty.
    pub const fn index(&mut self, length: usize) -> usize {
        self.below(length as u64) as usize
    }

    /// A number of `low..=high`; `low` if they are out of order.
    pub const fn range(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low).saturating_add(1))
    }

    /// True with a probability of `parts_per_million`.
    pub const fn chance(&mut self, parts_per_million: u32) -> bool {
        // Drawn even when the answer is known, so that a rate can change without moving the stream.
        self.below(1_000_000) < parts_per_million as u64
    }

    /// A span around `mean`: about exponentially distributed, at most 16 times as long. Integers only, so that it
    /// is the same on every machine.
    pub const fn around(&mut self, mean: u64) -> u64 {
        let number = self.next_u64();
        let zeros = number.leading_zeros() as u64;
        // -log2 of a fraction is its leading zeros and, nearly, one less what follows the first one bit.
        let after = (number << (zeros as u32 & 63) << 1) >> 48;
        let sixteenths = (zeros << 16) + (1 << 16) - after;
        let span = (mean as u128 * sixteenths as u128 * 2 / 3) >> 16;
        let most = mean as u128 * 16;
        (if span < most { span } else { most }) as u64
    }

    /// Fills `bytes`.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let number = self.next_u64().to_le_bytes();
            chunk.copy_from_slice(&number[..chunk.len()]);
        }
    }

    /// 32 bytes.
    pub fn bytes32(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        self.fill(&mut bytes);
        bytes
    }

    /// Sixteen bytes.
    pub fn bytes16(&mut self) -> [u8; 16] {
        let mut bytes = [0; 16];
        self.fill(&mut bytes);
        bytes
    }

    /// Puts `items` into an order of chance.
    pub const fn shuffle<T>(&mut self, items: &mut [T]) {
        let mut end = items.len();
        while end > 1 {
            let other = self.index(end);
            end -= 1;
            items.swap(end, other);
        }
    }
}

/// The finaliser of splitmix64 after one Weyl step: a bijection that spreads every bit.
pub const fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(mut stream: Stream) -> [u64; 4] {
        std::array::from_fn(|_| stream.next_u64())
    }

    #[test]
    fn streams_repeat_and_differ_by_every_part_of_their_key() {
        let draws = Draws::new(7);
        let base = draws.stream(Kind::Disk, 1, 1);
        assert_eq!(first(base), first(Draws::new(7).stream(Kind::Disk, 1, 1)));
        let others = [
            Draws::new(8).stream(Kind::Disk, 1, 1),
            draws.stream(Kind::Network, 1, 1),
            draws.stream(Kind::Disk, 2, 1),
            draws.stream(Kind::Disk, 1, 2),
            base.below_key(0),
        ];
        for other in others {
            assert!(first(base).iter().all(|n| !first(other).contains(n)), "{other:?}");
        }
    }

    #[test]
    fn numbers_keep_to_their_bounds_and_use_all_of_them() {
        let mut stream = Draws::new(1).stream(Kind::User, 0, 0);
        let mut seen = [0_u32; 7];
        for _ in 0..7_000 {
            seen[stream.below(7) as usize] += 1;
        }
        assert!(seen.iter().all(|n| (800..1_200).contains(n)), "{seen:?}");
        assert!((0..1_000).all(|_| (3..=5).contains(&stream.range(3, 5))));
        assert_eq!((stream.below(0), stream.range(9, 2)), (0, 9));
        let hits = (0..100_000).filter(|_| stream.chance(250_000)).count();
        assert!((24_000..26_000).contains(&hits), "{hits}");
        assert!((0..1_000).all(|_| !stream.chance(0) && stream.chance(1_000_000)));
        let mean = (0..10_000).map(|_| stream.around(1_000)).sum::<u64>() / 10_000;
        assert!((900..1_100).contains(&mean), "{mean}");
    }

    #[test]
    fn a_shuffle_keeps_every_item() {
        let mut items: Vec<u32> = (0..50).collect();
        Draws::new(3).stream(Kind::Plan, 0, 0).shuffle(&mut items);
        assert_ne!(items, (0..50).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..50).collect::<Vec<_>>());
    }
}
