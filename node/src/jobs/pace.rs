//! Keeping to a bandwidth limit: a token bucket over the environment's clock, one for each conduit of this device.
//!
//! What a device receives for a conduit and what it serves for it, over however many streams and jobs, draws on
//! one bucket. Which limit holds is asked again at every look, so that one by time of day takes effect at its hour in
//! the middle of a job, within [`SLEEP_MS_MAX`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tidegate_protocol::file_sync::BandwidthLimit;
use tidegate_protocol::id::ConduitId;
use tidegate_protocol::limits::{ANSWER_MS_MAX, LIMIT_BYTES_PER_S_MIN, PARALLEL_TRANSFERS_MAX};

use crate::env::{Clock, Now};

/// Longest single sleep, in milliseconds, so that another limit is noticed.
const SLEEP_MS_MAX: u64 = 500;

/// What may be used at once after a time of rest, in milliseconds of the limit.
const BURST_MS: u64 = 200;

/// How far a frame looks ahead, in milliseconds: as far as limits are apart at least, and beyond the time in which the
/// other end waits for it.
const AHEAD_MS: u64 = 60_000;

/// Smallest frame of content, in bytes: less is all overhead.
const FRAME_BYTES_MIN: usize = 64;

/// The lowest limit brings the smallest frames of as many streams as there may be before anybody gives up waiting.
const _: () =
    assert!(PARALLEL_TRANSFERS_MAX as u64 * FRAME_BYTES_MIN as u64 * 1_000 / LIMIT_BYTES_PER_S_MIN < ANSWER_MS_MAX);

/// The limits of the conduits for which content moves.
#[derive(Debug, Default)]
pub(crate) struct Paces(Mutex<BTreeMap<ConduitId, Arc<Pace>>>);

impl Paces {
    /// The limit of a conduit, as whoever moves content for it shares it. A new limit counts from now on.
    pub(crate) fn of(&self, conduit: ConduitId, limit: BandwidthLimit) -> Arc<Pace> {
        let mut paces = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        paces.retain(|id, pace| *id == conduit || Arc::strong_count(pace) > 1);
        match paces.get(&conduit) {
            Some(pace) if pace.limit == limit => Arc::clone(pace),
            Some(_) | None => {
                let pace = Arc::new(Pace::new(limit));
                paces.insert(conduit, Arc::clone(&pace));
                pace
            }
        }
    }
}

/// A limit of bytes per second, by time of day.
#[derive(Debug)]
pub(crate) struct Pace {
    limit: BandwidthLimit,
    bucket: Mutex<Bucket>,
}

/// Bytes in millionths, so that nothing is lost to rounding however often somebody looks.
#[derive(Debug, Default)]
struct Bucket {
    /// What was taken since the beginning.
    taken: u128,
    /// What was allowed since the beginning; ahead of what was taken by a burst at most.
    allowed: u128,
    /// Up to when it was reckoned, in milliseconds of the monotonic clock.
    reckoned_ms: u64,
    /// The limit that held then, in bytes per second; 0 is none.
    bytes_per_s: u64,
}

impl Bucket {
    /// Allows what the limit of the last look gives for the time since then. From now on this one holds.
    fn reckon(&mut self, now: Now, bytes_per_s: u64) {
        let passed_ms = now.monotonic_ms.saturating_sub(self.reckoned_ms);
        let given = |ms: u64| u128::from(self.bytes_per_s) * u128::from(ms) * 1_000;
        self.allowed = if self.bytes_per_s == 0 {
            self.allowed.max(self.taken)
        } else {
            self.allowed.saturating_add(given(passed_ms)).min(self.taken + given(BURST_MS))
        };
        (self.reckoned_ms, self.bytes_per_s) = (now.monotonic_ms, bytes_per_s);
    }
}

impl Pace {
    pub(crate) const fn new(limit: BandwidthLimit) -> Self {
        Self { limit, bucket: Mutex::new(Bucket { taken: 0, allowed: 0, reckoned_ms: 0, bytes_per_s: 0 }) }
    }

    /// No limit.
    pub(crate) fn free() -> Self {
        Self::new(BandwidthLimit::default())
    }

    /// Takes `bytes` and waits until the limit allows what was taken so far.
    pub(crate) async fn take(&self, clock: &impl Clock, bytes: u64) {
        if self.limit.steps.is_empty() || bytes == 0 {
            return;
        }
        let mut own = None;
        loop {
            let wait_ms = {
                let now = clock.now();
                let bytes_per_s = self.limit.at(now.wall_ms);
                let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
                bucket.reckon(now, bytes_per_s);
                let due = *own.get_or_insert_with(|| {
                    bucket.taken += u128::from(bytes) * 1_000_000;
                    bucket.taken
                });
                if bytes_per_s == 0 || bucket.allowed >= due {
                    return;
                }
                let lacking = (due - bucket.allowed).div_ceil(u128::from(bytes_per_s) * 1_000);
                u64::try_from(lacking).unwrap_or(SLEEP_MS_MAX)
            };
            clock.sleep(Duration::from_millis(wait_ms.min(SLEEP_MS_MAX))).await;
        }
    }

    /// A sensible size of one frame of content: about half a second of the limit that holds, or will in a moment, for
    /// all that share it. Whoever waits for a frame waits for those of the others as well, and gives up in the end.
    pub(crate) fn frame_bytes(self: &Arc<Self>, clock: &impl Clock, max: usize) -> usize {
        let wall_ms = clock.now().wall_ms;
        let limits = [wall_ms, wall_ms.saturating_add(AHEAD_MS)].map(|at| self.limit.at(at));
        let lowest = limits.into_iter().filter(|bytes_per_s| *bytes_per_s > 0).min();
        // One of those that hold it is the table of all limits.
        let sharing = Arc::strong_count(self).saturating_sub(1).max(1) as u64;
        let frame = |bytes_per_s: u64| usize::try_from(bytes_per_s / 2 / sharing).unwrap_or(max);
        lowest.map_or(max, |bytes_per_s| frame(bytes_per_s).clamp(FRAME_BYTES_MIN, max))
    }
}

#[cfg(test)]
mod tests {
    use std::future::{Future, Ready, ready};
    use std::pin::pin;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::task::{Context, Poll, Waker};

    use tidegate_protocol::file_sync::LimitStep;

    use super::*;

    /// A clock that jumps to the end of every sleep; the wall clock shows 18:59 when it begins.
    #[derive(Clone, Default)]
    struct Jumping(Arc<AtomicU64>);

    const BEGIN_MS: u64 = (18 * 60 + 59) * 60_000;

    impl Clock for Jumping {
        fn now(&self) -> Now {
            let monotonic_ms = self.0.load(Ordering::SeqCst);
            Now { monotonic_ms, wall_ms: BEGIN_MS + monotonic_ms }
        }

        fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send {
            self.0.fetch_add(duration.as_millis() as u64, Ordering::SeqCst);
            let slept: Ready<()> = ready(());
            slept
        }
    }

    /// Takes these bytes one after the other; when each of them was given, in milliseconds.
    fn given(limit: &[(u16, u64)], takes: &[u64]) -> Vec<u64> {
        let steps = limit
            .iter()
            .map(|(from_minute, bytes_per_s)| LimitStep { from_minute: *from_minute, bytes_per_s: *bytes_per_s });
        let pace = Pace::new(BandwidthLimit { steps: steps.collect(), utc_offset_minutes: 0 });
        let clock = Jumping::default();
        let take = |bytes: &u64| {
            let polled = pin!(pace.take(&clock, *bytes)).poll(&mut Context::from_waker(Waker::noop()));
            assert_eq!(polled, Poll::Ready(()));
            clock.now().monotonic_ms
        };
        takes.iter().map(take).collect()
    }

    #[test]
    fn a_limit_takes_effect_at_its_hour_in_the_middle_of_what_moves() {
        for (limit, takes, moments) in [
            (&[(0, 1_000)][..], &[10_000, 10_000][..], &[10_000, 20_000][..]),
            (&[], &[10_000_000], &[0]),
            (&[(0, 10_000), (19 * 60, 1_000)], &[600_000, 5_000], &[60_000, 65_000]),
            // A minute at the slow rate, the rest at the fast one.
            (&[(0, 1_000), (19 * 60, 10_000)], &[60_000, 60_000], &[60_000, 66_000]),
            // What waits at the hour goes on at once when there is no limit any more, and within a look.
            (&[(0, 1_000), (19 * 60, 0)], &[30_000, 10_000_000, 5], &[30_000, 60_000, 60_000]),
            // No limit until the hour; what was taken then is not paid for.
            (&[(0, 0), (19 * 60, 1_000)], &[1_000_000, 1_000_000], &[0, 0]),
        ] {
            assert_eq!(given(limit, takes), moments, "{limit:?} {takes:?}");
        }
    }

    #[test]
    fn after_a_rest_there_is_a_burst_and_no_more() {
        let pace = Pace::new(BandwidthLimit::constant(1_000));
        let clock = Jumping::default();
        for (bytes, takes_ms) in [(1_000, 1_000), (10_200, 10_000)] {
            let before = clock.now().monotonic_ms;
            let polled = pin!(pace.take(&clock, bytes)).poll(&mut Context::from_waker(Waker::noop()));
            assert_eq!(polled, Poll::Ready(()));
            assert_eq!(clock.now().monotonic_ms - before, takes_ms);
            drop(clock.sleep(Duration::from_hours(1)));
        }
    }

    #[test]
    fn frames_are_small_where_a_low_limit_holds_or_is_near() {
        let steps = [(0, 0), (19 * 60, 20_000), (20 * 60, 0)]
            .map(|(from_minute, bytes_per_s)| LimitStep { from_minute, bytes_per_s });
        let pace = Arc::new(Pace::new(BandwidthLimit { steps: steps.to_vec(), utc_offset_minutes: 0 }));
        let clock = Jumping::default();
        for (wait_s, frame) in [(0, 10_000), (61, 10_000), (3_600, 1 << 18)] {
            drop(clock.sleep(Duration::from_secs(wait_s)));
            assert_eq!(pace.frame_bytes(&clock, 1 << 18), frame, "{wait_s} s later");
        }
        assert_eq!(Arc::new(Pace::free()).frame_bytes(&clock, 77), 77);
        let shared = Arc::new(Pace::new(BandwidthLimit::constant(20_000)));
        let sharing: Vec<_> = (0..5).map(|_| Arc::clone(&shared)).collect();
        assert_eq!(shared.frame_bytes(&clock, 1 << 18), 10_000 / sharing.len());
    }

    #[test]
    fn all_that_moves_for_a_conduit_shares_one_limit_and_conduits_do_not() {
        let paces = Paces::default();
        let [one, other] = [1, 2].map(|n| ConduitId::from_bytes([n; 16]));
        let [fast, slow] = [10_000, 5_000].map(BandwidthLimit::constant);
        let first = paces.of(one, fast.clone());
        assert!(Arc::ptr_eq(&first, &paces.of(one, fast.clone())));
        assert!(!Arc::ptr_eq(&first, &paces.of(other, fast)));
        assert_eq!(paces.of(one, slow.clone()).limit, slow, "a new limit counts");
    }
}
