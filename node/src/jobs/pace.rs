//! Keeping to a bandwidth limit: a token bucket over the environment's clock, shared by the transfers of a leg.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::env::Clock;

/// Longest single sleep, in milliseconds, so that a pause or a lost peer is noticed.
const SLEEP_MS_MAX: u64 = 500;

/// What may be used at once after a time of rest, in milliseconds of the limit.
const BURST_MS: u64 = 200;

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
