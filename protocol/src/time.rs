//! Stamps: hybrid logical clocks. They order shared facts; they never decide that a file changed.

use serde::{Deserialize, Serialize};

use crate::id::DeviceId;
use crate::limits::CLOCK_OFFSET_MS_MAX;

/// Hybrid logical clock reading: milliseconds of wall time, a counter within it, and who wrote it.
///
/// A device persists its last stamp before it uses it, and the next is `max(last, wall) + 1`, so stamps of
/// one device only grow, over restarts and clock steps alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Stamp {
    /// Unix time in milliseconds, or the last stamp's if the wall clock is behind it.
    pub ms: u64,
    /// Counts stamps within one millisecond.
    pub counter: u32,
    /// Tie-break between devices.
    pub device: DeviceId,
}

impl Stamp {
    /// The first possible stamp of a device.
    pub const fn zero(device: DeviceId) -> Self {
        Self { ms: 0, counter: 0, device }
    }

    /// The next stamp of `self.device` after `self`, at wall time `wall_ms`.
    #[must_use]
    pub fn next(self, wall_ms: u64) -> Self {
        if wall_ms > self.ms {
            return Self { ms: wall_ms, counter: 0, device: self.device };
        }
        match self.counter.checked_add(1) {
            Some(counter) => Self { counter, ..self },
            None => Self { ms: self.ms + 1, counter: 0, device: self.device },
        }
    }

    /// Moves past a stamp received from elsewhere, so that what this device stamps next comes after it.
    #[must_use]
    pub fn witness(self, other: Self) -> Self {
        if (other.ms, other.counter) > (self.ms, self.counter) {
            Self { ms: other.ms, counter: other.counter, device: self.device }
        } else {
            self
        }
    }

    /// Whether a received stamp is so far ahead of `wall_ms` that its record is refused (bounded drift).
    pub const fn is_ahead_of(&self, wall_ms: u64) -> bool {
        self.ms > wall_ms.saturating_add(CLOCK_OFFSET_MS_MAX)
    }
}

/// Year, month and day in UTC of a Unix time in milliseconds, by the proleptic Gregorian calendar.
pub(crate) const fn civil_date(ms: i64) -> (i64, i64, i64) {
    // Days are counted from 0000-03-01, so that a leap day ends its year; an era is 400 years
    // (howardhinnant.github.io/date_algorithms.html, civil_from_days).
    let days = ms.div_euclid(86_400_000) + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

/// A value with the stamp of its last change: last writer wins, by stamp.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamped<T> {
    /// The value.
    pub value: T,
    /// When it was set, and by whom.
    pub stamp: Stamp,
}

impl<T: Clone + PartialEq> Stamped<T> {
    /// A value set at `stamp`.
    pub const fn new(value: T, stamp: Stamp) -> Self {
        Self { value, stamp }
    }

    /// Takes the later of the two. Commutative, associative and idempotent as stamps are unique.
    pub fn merge(&mut self, other: &Self) {
        if other.stamp > self.stamp {
            *self = other.clone();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        const DAY_MS: i64 = 86_400_000;
        for (days, date) in [
            (0, (1970, 1, 1)),
            (-1, (1969, 12, 31)),
            (59, (1970, 3, 1)),
            (11_016, (2000, 2, 29)),
            (20_779, (2026, 11, 22)),
            (47_540, (2100, 2, 28)),
            (47_541, (2100, 3, 1)),
        ] {
            assert_eq!(civil_date(days * DAY_MS), date);
            assert_eq!(civil_date(days * DAY_MS + DAY_MS - 1), date);
        }
    }

    #[test]
    fn stamps_grow_even_when_the_wall_clock_steps_back() {
        let start = Stamp::zero(DeviceId::from_bytes([1; 32]));
        let mut last = start;
        for wall_ms in [5, 5, 3, 9, 0, 10] {
            let next = last.next(wall_ms);
            assert!(next > last);
            last = next;
        }
        assert_eq!((last.ms, last.counter), (10, 0));
    }
}
