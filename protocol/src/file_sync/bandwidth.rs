//! How much of the wire a conduit may take: bytes per second, by time of day.
//!
//! Only the law of it. Whoever moves content asks at each moment, by its own wall clock, so a job that began under one
//! limit goes on under the next. Why hours are kept with a fixed offset: `docs/decisions/hours.md`.

use serde::{Deserialize, Serialize};

use crate::limits::{LIMIT_BYTES_PER_S_MIN, LIMIT_STEPS_MAX};

/// Minutes of a day.
const DAY_MINUTES: i64 = 24 * 60;

/// Furthest that any place on earth is ahead of UTC, or behind it, in minutes.
const UTC_OFFSET_MINUTES_MAX: i16 = 14 * 60;

/// Bytes per second for the content of a conduit, by time of day. Without a step there is no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BandwidthLimit {
    /// What holds from which minute of the day on. Before the first one of a day, the last one of the day before holds;
    /// so a single one holds all day.
    pub steps: Vec<LimitStep>,
    /// By how many minutes the day of `steps` is ahead of the day in UTC.
    pub utc_offset_minutes: i16,
}

/// A limit that holds from some minute of the day on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitStep {
    /// Minutes since midnight.
    pub from_minute: u16,
    /// Bytes per second; 0 is no limit.
    pub bytes_per_s: u64,
}

/// Why a limit cannot be kept to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// Too many steps.
    #[error("a day has at most {LIMIT_STEPS_MAX} limits")]
    TooMany,
    /// A minute that no day has.
    #[error("a day has 24 hours of 60 minutes")]
    NoSuchMinute,
    /// Times that do not follow each other.
    #[error("the times of a day follow each other, each named once")]
    OutOfOrder,
    /// An offset that no place has.
    #[error("no place is more than 14 hours ahead of UTC or behind it")]
    NoSuchOffset,
    /// A limit under which nothing would ever arrive.
    #[error("a limit is at least {LIMIT_BYTES_PER_S_MIN} bytes per second; 0 is no limit")]
    TooLow,
}

impl BandwidthLimit {
    /// The same limit at all times; 0 is none.
    pub fn constant(bytes_per_s: u64) -> Self {
        let steps = if bytes_per_s == 0 { Vec::new() } else { vec![LimitStep { from_minute: 0, bytes_per_s }] };
        Self { steps, utc_offset_minutes: 0 }
    }

    /// The limit, if it is the same at all times.
    pub fn as_constant(&self) -> Option<u64> {
        let first = self.steps.first().map_or(0, |step| step.bytes_per_s);
        self.steps.iter().all(|step| step.bytes_per_s == first).then_some(first)
    }

    /// What holds at a wall time in Unix milliseconds: bytes per second, 0 is no limit.
    ///
    /// Any value has an answer, one that [`BandwidthLimit::check`] refuses as well: it may have come from elsewhere.
    pub fn at(&self, wall_ms: u64) -> u64 {
        let minutes = i64::try_from(wall_ms / 60_000).unwrap_or(i64::MAX / 2);
        let now = (minutes + i64::from(self.utc_offset_minutes)).rem_euclid(DAY_MINUTES);
        let latest = |up_to: i64| {
            let begun = self.steps.iter().filter(move |step| i64::from(step.from_minute) <= up_to);
            begun.max_by_key(|step| step.from_minute)
        };
        latest(now).or_else(|| latest(i64::MAX)).map_or(0, |step| step.bytes_per_s)
    }

    /// Whether it is one that a person may set.
    pub fn check(&self) -> Result<(), LimitError> {
        if self.steps.len() > LIMIT_STEPS_MAX {
            return Err(LimitError::TooMany);
        }
        if self.steps.iter().any(|step| i64::from(step.from_minute) >= DAY_MINUTES) {
            return Err(LimitError::NoSuchMinute);
        }
        if !self.steps.is_sorted_by(|a, b| a.from_minute < b.from_minute) {
            return Err(LimitError::OutOfOrder);
        }
        if !(-UTC_OFFSET_MINUTES_MAX..=UTC_OFFSET_MINUTES_MAX).contains(&self.utc_offset_minutes) {
            return Err(LimitError::NoSuchOffset);
        }
        if self.steps.iter().any(|step| (1..LIMIT_BYTES_PER_S_MIN).contains(&step.bytes_per_s)) {
            return Err(LimitError::TooLow);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: u64 = 3_600_000;

    fn day(steps: &[(u16, u64)], utc_offset_minutes: i16) -> BandwidthLimit {
        let steps = steps
            .iter()
            .map(|(from_minute, bytes_per_s)| LimitStep { from_minute: *from_minute, bytes_per_s: *bytes_per_s });
        BandwidthLimit { steps: steps.collect(), utc_offset_minutes }
    }

    #[test]
    fn the_limit_of_an_hour_holds_until_the_next_one_and_over_midnight() {
        let office = [(8 * 60, 512_000), (19 * 60, 0)];
        for (offset, hour, limit) in [
            (0, 0, 0),
            (0, 7, 0),
            (0, 8, 512_000),
            (0, 18, 512_000),
            (0, 19, 0),
            (0, 24 + 12, 512_000),
            (60, 7, 512_000),
            (60, 18, 0),
            (-300, 12, 0),
            (-300, 13, 512_000),
            (14 * 60, 18, 512_000),
        ] {
            assert_eq!(day(&office, offset).at(hour * HOUR_MS), limit, "{hour}:00 in UTC, {offset} minutes ahead");
        }
        assert_eq!(day(&office, 0).at(8 * HOUR_MS - 1), 0, "not a moment before");
        assert_eq!(day(&[(720, 5_000)], 0).at(0), 5_000, "one step holds all day");
        assert_eq!(BandwidthLimit::constant(7_000).at(u64::MAX), 7_000);
        assert_eq!(BandwidthLimit::default().at(HOUR_MS), 0);
        assert_eq!(day(&office, i16::MAX).at(0) % 512_000, 0, "what nobody may set has an answer");
    }

    #[test]
    fn what_cannot_be_kept_to_is_refused() {
        let many: Vec<(u16, u64)> = (0..=LIMIT_STEPS_MAX as u16).map(|minute| (minute, 0)).collect();
        for (limit, checked) in [
            (BandwidthLimit::default(), Ok(())),
            (BandwidthLimit::constant(LIMIT_BYTES_PER_S_MIN), Ok(())),
            (BandwidthLimit::constant(1), Err(LimitError::TooLow)),
            (day(&[(0, 0), (1_439, 2_000)], -720), Ok(())),
            (day(&[(1_440, 0)], 0), Err(LimitError::NoSuchMinute)),
            (day(&[(60, 0), (60, 2_000)], 0), Err(LimitError::OutOfOrder)),
            (day(&[(61, 0), (60, 2_000)], 0), Err(LimitError::OutOfOrder)),
            (day(&[(60, 0)], 15 * 60), Err(LimitError::NoSuchOffset)),
            (day(&many, 0), Err(LimitError::TooMany)),
        ] {
            assert_eq!(limit.check(), checked, "{limit:?}");
        }
        assert_eq!(BandwidthLimit::constant(5_000).as_constant(), Some(5_000));
        assert_eq!(day(&[(0, 5_000), (60, 0)], 0).as_constant(), None);
    }
}
