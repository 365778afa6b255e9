//! A device's clocks: they drift, and the wall clock jumps.
//!
//! Monotonic time counts from the start of the incarnation and is off by a rate only. Wall time runs at the same
//! rate from wherever it was last set, by the world or by a person, and survives restarts.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tidegate::env::{Clock, Now};

use crate::executor::{Handle, MILLI, Nanos};

/// The wall clock at time 0 of the world, in Unix milliseconds.
pub const WALL_BEGIN_MS: u64 = 1_700_000_000_000;

/// Most a clock may be off by rate, in parts per million.
pub const DRIFT_PPM_MAX: i64 = 10_000;

/// The clock chip of one device: outlives its incarnations.
#[derive(Debug, Clone, Default)]
pub struct Chip(Arc<Settings>);

#[derive(Debug, Default)]
struct Settings {
    /// How much faster than the world's it runs, in parts per million.
    drift_ppm: AtomicI64,
    /// By how much the wall clock is ahead, in milliseconds, without what the drift adds.
    ahead_ms: AtomicI64,
}

impl Chip {
    /// A clock that runs `drift_ppm` parts per million fast, and shows a wall time that is ahead by `ahead_ms`.
    pub fn new(drift_ppm: i64, ahead_ms: i64) -> Self {
        let chip = Self::default();
        chip.0.drift_ppm.store(drift_ppm.clamp(-DRIFT_PPM_MAX, DRIFT_PPM_MAX), Ordering::Relaxed);
        chip.0.ahead_ms.store(ahead_ms, Ordering::Relaxed);
        chip
    }

    /// Sets the wall clock forward, or back, by `by_ms`.
    pub fn jump(&self, by_ms: i64) {
        self.0.ahead_ms.fetch_add(by_ms, Ordering::Relaxed);
    }

    /// Sets the wall clock right, but for what the drift adds.
    pub fn set_right(&self) {
        self.0.ahead_ms.store(0, Ordering::Relaxed);
    }

    /// The wall clock at `now` of the world, in Unix milliseconds.
    pub fn wall_ms(&self, now: Nanos) -> u64 {
        let ahead = self.0.ahead_ms.load(Ordering::Relaxed);
        (WALL_BEGIN_MS + self.runs(now) / MILLI).saturating_add_signed(ahead)
    }

    /// The wall clock at `now` of the world, in Unix nanoseconds.
    pub fn wall_ns(&self, now: Nanos) -> i64 {
        let ahead = self.0.ahead_ms.load(Ordering::Relaxed);
        let world = WALL_BEGIN_MS * MILLI + self.runs(now);
        (world as i64).saturating_add(ahead.saturating_mul(MILLI as i64))
    }

    /// The clock of an incarnation that begins now.
    pub fn start(&self, handle: &Handle) -> SimClock {
        SimClock { chip: self.clone(), began: handle.now(), handle: handle.clone() }
    }

    /// How long this clock takes a span of the world's time to be.
    fn runs(&self, span: Nanos) -> Nanos {
        span.saturating_add_signed(span as i64 / 1_000_000 * self.0.drift_ppm.load(Ordering::Relaxed))
    }
}

/// The clocks of one incarnation.
#[derive(Clone)]
pub struct SimClock {
    chip: Chip,
    began: Nanos,
    handle: Handle,
}

impl SimClock {
    /// The world's time, for those parts of the simulator that know a device's clock only.
    pub const fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Clock for SimClock {
    fn now(&self) -> Now {
        let now = self.handle.now();
        Now { monotonic_ms: self.chip.runs(now - self.began) / MILLI, wall_ms: self.chip.wall_ms(now) }
    }

    async fn sleep(&self, duration: Duration) {
        let span = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let drift = self.chip.0.drift_ppm.load(Ordering::Relaxed);
        // Never shorter by this clock than was asked for: a microsecond more for what division cuts off.
        let slack = if drift == 0 { 0 } else { 1_000 };
        let world = span.saturating_sub_signed(span as i64 / (1_000_000 + drift) * drift).saturating_add(slack);
        self.handle.sleep_until(self.handle.now().saturating_add(world)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executor::{Executor, Group, Ran, SECOND, lock};
    use crate::random::Draws;
    use std::sync::Mutex;

    fn slept(drift_ppm: i64, span: Duration) -> (Now, Nanos) {
        let mut executor = Executor::new(Draws::new(0));
        let handle = executor.group(Group { device: 0, incarnation: 0 });
        let clock = Chip::new(drift_ppm, 0).start(&handle);
        let seen = Arc::new(Mutex::new(None));
        let (note, inner) = (Arc::clone(&seen), clock.clone());
        handle.spawn(async move {
            inner.sleep(span).await;
            *lock(&note) = Some((inner.now(), inner.handle().now()));
        });
        while executor.step(1_000 * SECOND) != Ran::Nothing {}
        let seen = *lock(&seen);
        seen.expect("it woke")
    }

    #[test]
    fn a_sleep_is_as_long_as_the_devices_own_clock_says() {
        for drift in [0, 200, -200, DRIFT_PPM_MAX, -DRIFT_PPM_MAX] {
            for ms in [1, 7, 999, 30_000, 600_000] {
                let (now, world) = slept(drift, Duration::from_millis(ms));
                assert!((ms..=ms + 1).contains(&now.monotonic_ms), "{drift} {ms} {now:?}");
                let off = world.abs_diff(ms * MILLI);
                assert!(off <= ms * 11_000 + 2_000, "{drift} {ms} {world}");
            }
        }
    }

    #[test]
    fn the_wall_clock_jumps_and_the_other_one_does_not() {
        let executor = Executor::new(Draws::new(0));
        let handle = executor.group(Group { device: 0, incarnation: 0 });
        let chip = Chip::new(0, -5);
        let clock = chip.start(&handle);
        assert_eq!(clock.now(), Now { monotonic_ms: 0, wall_ms: WALL_BEGIN_MS - 5 });
        chip.jump(-31_536_000_000);
        assert_eq!(clock.now(), Now { monotonic_ms: 0, wall_ms: WALL_BEGIN_MS - 5 - 31_536_000_000 });
        chip.set_right();
        assert_eq!(clock.now().wall_ms, WALL_BEGIN_MS);
    }
}
