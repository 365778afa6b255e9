//! How one direction of a link behaves, and what comes of it for what is sent.

use crate::executor::{MILLI, Nanos, SECOND};
use crate::random::Stream;

/// What one direction of a link does to what goes over it. Rates are in parts per million.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weather {
    /// Shortest way, in nanoseconds.
    pub latency_min: Nanos,
    /// Longest way, in nanoseconds.
    pub latency_max: Nanos,
    /// Packets lost. Gossip is gone then; a stream sends again, which takes time.
    pub loss_ppm: u32,
    /// Gossip that arrives a second time, some time later.
    pub repeat_ppm: u32,
    /// Gossip that is held up for as long as [`Weather::delay_max`], and so overtaken.
    pub delay_ppm: u32,
    /// Longest that gossip is held up, in nanoseconds.
    pub delay_max: Nanos,
    /// Streams that break off, per frame.
    pub reset_ppm: u32,
    /// Bytes per second; 0 is no limit.
    pub bytes_per_s: u64,
}

impl Weather {
    /// A good LAN: a fraction of a millisecond, nothing lost.
    pub const FAIR: Self = Self {
        latency_min: MILLI / 5,
        latency_max: MILLI,
        loss_ppm: 0,
        repeat_ppm: 0,
        delay_ppm: 0,
        delay_max: 0,
        reset_ppm: 0,
        bytes_per_s: 0,
    };

    /// A bad one: slow and jittery; gossip is lost, repeated and minutes late; streams break.
    pub const FOUL: Self = Self {
        latency_min: MILLI,
        latency_max: 200 * MILLI,
        loss_ppm: 100_000,
        repeat_ppm: 50_000,
        delay_ppm: 50_000,
        delay_max: 300 * SECOND,
        reset_ppm: 2_000,
        bytes_per_s: 1_000_000,
    };
}

impl Default for Weather {
    fn default() -> Self {
        Self::FAIR
    }
}

/// One direction of a link between two devices.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) weather: Weather,
    /// Since when nothing goes through.
    pub(super) cut_since: Option<Nanos>,
    /// Up to when its bandwidth is given out.
    busy_until: Nanos,
    frames: Stream,
    gossip: Stream,
}

impl Way {
    pub(super) const fn new(weather: Weather, draws: Stream) -> Self {
        Self { weather, cut_since: None, busy_until: 0, frames: draws.below_key(1), gossip: draws.below_key(2) }
    }

    /// How long one small packet takes.
    pub(super) const fn latency(&mut self) -> Nanos {
        self.frames.range(self.weather.latency_min, self.weather.latency_max)
    }

    /// When `bytes` of a stream are there, if nothing more comes between.
    pub(super) fn arrival(&mut self, now: Nanos, bytes: usize) -> Nanos {
        let takes = match self.weather.bytes_per_s {
            0 => 0,
            rate => (bytes as u64).saturating_mul(SECOND) / rate,
        };
        self.busy_until = self.busy_until.max(now).saturating_add(takes);
        let latency = self.latency();
        // Lost packets are sent again after about a round trip; so may be those.
        let mut again = 0;
        while again < 6 && self.frames.chance(self.weather.loss_ppm) {
            again += 1;
        }
        self.busy_until + latency + (latency + self.weather.latency_max) * again
    }

    /// Whether the stream breaks off with this frame.
    pub(super) const fn breaks(&mut self) -> bool {
        self.frames.chance(self.weather.reset_ppm)
    }

    /// A number of this direction's stream of chances.
    pub(super) const fn below(&mut self, bound: u64) -> u64 {
        self.frames.below(bound)
    }

    /// When a gossiped message comes, which may be never, late, or more than once.
    pub(super) fn gossip(&mut self, now: Nanos) -> [Option<Nanos>; 2] {
        let Weather { latency_min, latency_max, loss_ppm, repeat_ppm, delay_ppm, delay_max, .. } = self.weather;
        let gossip = &mut self.gossip;
        let latency = now + gossip.range(latency_min, latency_max);
        let lost = gossip.chance(loss_ppm);
        let late = gossip.chance(delay_ppm);
        let delay = gossip.below(delay_max + 1);
        let repeated = gossip.chance(repeat_ppm);
        let after = gossip.below(delay_max + 1);
        let first = if late { latency + delay } else { latency };
        [(!lost).then_some(first), repeated.then_some(latency + after)]
    }
}
