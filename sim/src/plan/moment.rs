//! Times of a plan: moments since the start of a run and spans, as people write them.
//!
//! `00:12:31.250`, `90s`, `1h30m`, `250ms`. What is shown reads back as itself.

use std::fmt;
use std::str::FromStr;

/// Milliseconds: since the start of the run, or how long something lasts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Millis(pub u64);

/// Units of spans, the longest first; a year is 365 days.
const UNITS: [(&str, u64); 6] =
    [("y", 31_536_000_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Not a time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a time: write 00:12:31.250, 90s, 1h30m or 250ms")]
pub struct TimeError(pub String);

impl Millis {
    /// The moment as a clock shows it.
    pub fn clock(self) -> Clock {
        Clock(self)
    }
}

/// Shows a moment as `00:12:31.250`, without the fraction where it is zero.
#[derive(Debug, Clone, Copy)]
pub struct Clock(Millis);

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.0;
        write!(f, "{:02}:{:02}:{:02}", ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60)?;
        if ms.is_multiple_of(1_000) { Ok(()) } else { write!(f, ".{:03}", ms % 1_000) }
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0s");
        }
        let mut left = self.0;
        for (name, length) in UNITS {
            if left >= length {
                write!(f, "{}{name}", left / length)?;
                left %= length;
            }
        }
        Ok(())
    }
}

impl FromStr for Millis {
    type Err = TimeError;

    fn from_str(text: &str) -> Result<Self, TimeError> {
        let parsed = if text.contains(':') { clock(text) } else { units(text) };
        parsed.map(Self).ok_or_else(|| TimeError(text.to_owned()))
    }
}

fn clock(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut seconds = 0_u64;
    let parts: Vec<&str> = whole.split(':').collect();
    if parts.len() > 3 {
        return None;
    }
    for (at, part) in parts.iter().enumerate() {
        let number: u64 = part.parse().ok().filter(|_| part.bytes().all(|b| b.is_ascii_digit()))?;
        if at > 0 && number > 59 {
            return None;
        }
        seconds = seconds.checked_mul(60)?.checked_add(number)?;
    }
    if fraction.len() > 3 || !fraction.bytes().all(|b| b.is_ascii_digit()) || text.ends_with('.') {
        return None;
    }
    let ms: u64 = if fraction.is_empty() { 0 } else { format!("{fraction:0<3}").parse().ok()? };
    seconds.checked_mul(1_000)?.checked_add(ms)
}

fn units(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut sum = 0_u64;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_lowercase()).len();
        let (_, length) = UNITS.iter().find(|(name, _)| *name == &rest[..letters])?;
        rest = &rest[letters..];
        sum = sum.checked_add(number.checked_mul(*length)?)?;
    }
    (!text.is_empty()).then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        let cases = [
            ("00:12:31.250", 751_250),
            ("12:31", 751_000),
            ("1:00:00", 3_600_000),
            ("90s", 90_000),
            ("1h30m", 5_400_000),
            ("250ms", 250),
            ("1y", 31_536_000_000),
            ("0:00.5", 500),
        ];
        for (text, ms) in cases {
            assert_eq!(text.parse(), Ok(Millis(ms)), "{text}");
        }
        for bad in ["", "5", "s", "5 s", "1:60", "1:2:3:4", "5x", "-1s", "1:00.", "99999999999999999999s", "1s5", ":5"]
        {
            assert!(bad.parse::<Millis>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_shown_reads_back_as_itself() {
        for ms in [0, 1, 999, 1_000, 61_001, 86_400_000, 31_536_000_000, 123_456_789_012] {
            assert_eq!(Millis(ms).to_string().parse(), Ok(Millis(ms)));
            assert_eq!(Millis(ms).clock().to_string().parse(), Ok(Millis(ms)));
        }
    }
}
