//! Keeping to a bandwidth limit: a token bucket over the environment's clock, one for each conduit of this device.
//!
//! What a device receives for a conduit and what it serves for it, over however many streams and jobs, draws on
//! one bucket.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tidegate_protocol::id::ConduitId;

use crate::env::Clock;

/// Longest single sleep, in milliseconds, so that a pause or a lost peer is noticed.
const SLEEP_MS_MAX: u64 = 500;

/// What may be used at once after a time of rest, in milliseconds of the limit.
const BURST_MS: u64 = 200;

/// The limits of the conduits for which content moves.
#[derive(Debug, Default)]
pub(crate) struct Paces(Mutex<BTreeMap<ConduitId, Arc<Pace>>>);

impl Paces {
    /// The limit of a conduit, as whoever moves content for it shares it. A new limit counts from now on.
    pub(crate) fn of(&self, conduit: ConduitId, bytes_per_s: u64) -> Arc<Pace> {
        let mut paces = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        paces.retain(|id, pace| *id == conduit || Arc::strong_count(pace) > 1);
        let pace = paces.entry(conduit).or_insert_with(|| Arc::new(Pace::new(bytes_per_s)));
        if pace.bytes_per_s != bytes_per_s {
            *pace = Arc::new(Pace::new(bytes_per_s));
        }
        Arc::clone(pace)
    }
}

/// A limit of bytes per second; 0 is no limit.
#[derive(Debug)]
pub(crate) struct Pace {
    bytes_per_s: u64,
    /// The moment up to which bytes have been given out, in microseconds of the clock.
    spent_until_us: Mutex<u64>,
}

impl Pace {
    pub(crate) const fn new(bytes_per_s: u64) -> Self {
        Self { bytes_per_s, spent_until_us: Mutex::new(0) }
    }

    /// Takes `bytes` and waits until the limit allows what was taken before.
    pub(crate) async fn take(&self, clock: &impl Clock, bytes: u64) {
        if self.bytes_per_s == 0 || bytes == 0 {
            return;
        }
        let until_us = {
            let mut spent = self.spent_until_us.lock().unwrap_or_else(PoisonError::into_inner);
            let now_us = clock.now().monotonic_ms * 1000;
            let cost_us = bytes.saturating_mul(1_000_000) / self.bytes_per_s;
            *spent = (*spent).max(now_us.saturating_sub(BURST_MS * 1000)).saturating_add(cost_us);
            *spent
        };
        loop {
            let now_ms = clock.now().monotonic_ms;
            let wait_ms = (until_us / 1000).saturating_sub(now_ms);
            if wait_ms == 0 {
                return;
            }
            clock.sleep(Duration::from_millis(wait_ms.min(SLEEP_MS_MAX))).await;
        }
    }

    /// A sensible size of one frame of content under this limit: about half a second of it.
    pub(crate) fn frame_bytes(&self, max: usize) -> usize {
        if self.bytes_per_s == 0 { max } else { usize::try_from(self.bytes_per_s / 2).unwrap_or(max).clamp(4096, max) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_moves_for_a_conduit_shares_one_limit_and_conduits_do_not() {
        let paces = Paces::default();
        let [one, other] = [1, 2].map(|n| ConduitId::from_bytes([n; 16]));
        let first = paces.of(one, 1000);
        assert!(Arc::ptr_eq(&first, &paces.of(one, 1000)));
        assert!(!Arc::ptr_eq(&first, &paces.of(other, 1000)));
        assert_eq!(paces.of(one, 500).bytes_per_s, 500, "a new limit counts");
    }
}
