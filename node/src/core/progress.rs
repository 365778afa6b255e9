//! Speed and time left of an open generation.

use std::collections::VecDeque;

/// Span over which the speed is measured, in milliseconds.
const WINDOW_MS: u64 = 5_000;

/// Bytes over the last seconds.
pub(super) struct Rate {
    samples: VecDeque<(u64, u64)>,
}

impl Rate {
    pub(super) fn new(now_ms: u64) -> Self {
        Self { samples: VecDeque::from([(now_ms, 0)]) }
    }

    /// So many bytes are done by now.
    pub(super) fn note(&mut self, now_ms: u64, bytes: u64) {
        match self.samples.back_mut() {
            Some((at, last)) if now_ms.saturating_sub(*at) < WINDOW_MS / 50 => *last = bytes.max(*last),
            Some(_) | None => self.samples.push_back((now_ms, bytes)),
        }
        while self.samples.len() > 2 && self.samples.front().is_some_and(|(at, _)| now_ms - at > WINDOW_MS) {
            self.samples.pop_front();
        }
    }

    /// Bytes per second.
    pub(super) fn bytes_per_s(&self) -> u64 {
        let (Some((first_ms, first)), Some((last_ms, last))) = (self.samples.front(), self.samples.back()) else {
            return 0;
        };
        last.saturating_sub(*first) * 1000 / (last_ms - first_ms).max(1)
    }

    /// Seconds until `left` bytes are done; `None` while nothing moves.
    pub(super) fn eta_s(&self, left: u64) -> Option<u64> {
        let speed = self.bytes_per_s();
        (speed > 0).then(|| left.div_ceil(speed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speed_is_that_of_the_last_seconds() {
        let mut rate = Rate::new(0);
        assert_eq!((rate.bytes_per_s(), rate.eta_s(100)), (0, None));
        for second in 1..=20 {
            rate.note(
                second * 1000,
                if second <= 10 { second * 1_000_000 } else { 10_000_000 + (second - 10) * 1_000 },
            );
        }
        assert!(rate.bytes_per_s() < 2_000, "{}", rate.bytes_per_s());
        assert!(rate.eta_s(10_000).is_some_and(|eta| (5..=11).contains(&eta)));
    }
}
