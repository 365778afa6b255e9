//! How numbers, sizes, durations and moments are written for people, and read back from them.
//!
//! Nothing here knows what is being written about. Sizes are decimal (1 kB is 1,000 bytes) when shown; typed
//! sizes may be decimal or binary (`1 GiB`). Moments in documents are RFC 3339 in UTC with milliseconds.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// `24,116`.
pub fn number(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 file`, `24,116 files`.
pub fn count(n: u64, one: &str, many: &str) -> String {
    format!("{} {}", number(n), if n == 1 { one } else { many })
}

/// `512 B`, `1.2 kB`, `181.3 GB`.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if n < 1000 {
        return format!("{n} B");
    }
    let mut value = n as f64;
    let mut unit = "B";
    for next in UNITS {
        // 999.95 would be shown as 1000.0: it belongs to the next unit.
        if value < 999.95 {
            break;
        }
        value /= 1000.0;
        unit = next;
    }
    format!("{value:.1} {unit}")
}

/// `0.4 s`, `12 s`, `27:01`, `3:27:01`.
pub fn duration(ms: u64) -> String {
    let s = ms / 1000;
    match s {
        0..10 => format!("{}.{} s", s, ms % 1000 / 100),
        10..60 => format!("{s} s"),
        60..3600 => format!("{}:{:02}", s / 60, s % 60),
        _ => format!("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60),
    }
}

/// `just now`, `12 s ago`, `3 min ago`, `5 h ago`, `9 days ago`.
pub fn ago(ms: u64) -> String {
    match ms / 1000 {
        0..2 => "just now".to_owned(),
        s @ 2..90 => format!("{s} s ago"),
        s @ 90..5400 => format!("{} min ago", s / 60),
        s @ 5400..172_800 => format!("{} h ago", s / 3600),
        s => format!("{} days ago", s / 86_400),
    }
}

/// Reads `250ms`, `30s`, `5m`, `1h`, `1d`, or `0`; answers milliseconds.
pub fn parse_duration(text: &str) -> Result<u64, String> {
    let error = || format!("{text:?} is no duration; write for example 250ms, 30s, 5m, 1h");
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let value: u64 = text[..digits].parse().map_err(|_| error())?;
    let unit = match text[digits..].trim_start() {
        "ms" => 1,
        "s" => 1000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "" if value == 0 => 1,
        _ => return Err(error()),
    };
    value.checked_mul(unit).filter(|ms| *ms <= DURATION_MS_MAX).ok_or_else(error)
}

/// Writes milliseconds so that [`parse_duration`] reads them back.
pub fn plain_duration(ms: u64) -> String {
    for (unit, name) in [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s")] {
        if ms > 0 && ms.is_multiple_of(unit) {
            return format!("{}{name}", ms / unit);
        }
    }
    format!("{ms}ms")
}

/// `4 GiB`, in the largest binary unit that leaves no rest: what [`parse_bytes`] reads.
pub fn plain_bytes(bytes: u64) -> String {
    for (unit, name) in [(1 << 40, " TiB"), (1 << 30, " GiB"), (1 << 20, " MiB"), (1 << 10, " KiB")] {
        if bytes > 0 && bytes.is_multiple_of(unit) {
            return format!("{}{name}", bytes / unit);
        }
    }
    bytes.to_string()
}

/// Reads `1500000`, `100 kB`, `1 GiB`, `10MB`; answers bytes.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let error = || format!("{text:?} is no size; write for example 500 MB or 1 GiB");
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let value: u64 = text[..digits].parse().map_err(|_| error())?;
    let unit = match text[digits..].trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        _ => return Err(error()),
    };
    value.checked_mul(unit).ok_or_else(error)
}

/// Ten years: longer waits are slips of the pen, and timers stay far from overflow.
const DURATION_MS_MAX: u64 = 3650 * 86_400_000;

/// A moment in Unix milliseconds that travels as RFC 3339 text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub u64);

impl std::fmt::Display for Moment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (days, ms) = (self.0 / 86_400_000, self.0 % 86_400_000);
        let (year, month, day) = civil(days);
        let (h, min, s) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{h:02}:{min:02}:{s:02}.{:03}Z", ms % 1000)
    }
}

impl Moment {
    /// Reads exactly what `Display` writes.
    pub fn parse(text: &str) -> Option<Self> {
        let shape = text.len() >= 24 && text.ends_with('Z') && text.is_ascii();
        let field = |from: usize, to: usize| text.get(from..to)?.parse::<u64>().ok();
        let years = text.find('-').filter(|_| shape)?;
        let at = |offset: usize, length: usize| field(years + offset, years + offset + length);
        let (year, month, day) = (field(0, years)?, at(1, 2)?, at(4, 2)?);
        if !(1970..100_000).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
            return None;
        }
        let days = days_from_civil(year, month, day);
        let seconds = at(7, 2)? * 3600 + at(10, 2)? * 60 + at(13, 2)?;
        Some(Self(days * 86_400_000 + seconds * 1000 + at(16, 3)?))
    }

    /// `2026-11-22 10:49`, in UTC.
    pub fn minute(self) -> String {
        let text = self.to_string();
        format!("{} {}", &text[..text.len() - 14], &text[text.len() - 13..text.len() - 8])
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| de::Error::custom("not an RFC 3339 moment in UTC"))
    }
}

/// Days since 1970 to year, month, day (Howard Hinnant, "chrono-compatible low-level date algorithms").
fn civil(days: u64) -> (u64, u64, u64) {
    let z = days + 719_468;
    let (era, doe) = (z / 146_097, z % 146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + u64::from(month <= 2), month, doy - (153 * mp + 2) / 5 + 1)
}

/// The inverse of [`civil`], for years from 1970 on.
fn days_from_civil(year: u64, month: u64, day: u64) -> u64 {
    let y = if month <= 2 { year - 1 } else { year };
    let (era, yoe) = (y / 400, y % 400);
    let mp = if month > 2 { month - 3 } else { month + 9 };
    let doy = (153 * mp + 2) / 5 + day - 1;
    (era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy).saturating_sub(719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_sizes_are_written_as_people_read_them() {
        for (n, want) in [(0, "0"), (999, "999"), (1000, "1,000"), (24_116, "24,116"), (1_234_567, "1,234,567")] {
            assert_eq!(number(n), want);
        }
        for (n, want) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (1204, "1.2 kB"),
            (999_949, "999.9 kB"),
            (999_999, "1.0 MB"),
            (181_300_000_000, "181.3 GB"),
            (u64::MAX, "18.4 EB"),
        ] {
            assert_eq!(bytes(n), want);
        }
    }

    #[test]
    fn durations_are_written_as_people_read_them() {
        for (ms, want) in
            [(0, "0.0 s"), (450, "0.4 s"), (12_000, "12 s"), (1_621_000, "27:01"), (12_421_000, "3:27:01")]
        {
            assert_eq!(duration(ms), want);
        }
        for (ms, want) in [(0, "just now"), (12_000, "12 s ago"), (200_000, "3 min ago"), (864_000_000, "10 days ago")]
        {
            assert_eq!(ago(ms), want);
        }
    }

    #[test]
    fn durations_and_sizes_are_read_with_their_units_only() {
        for (text, want) in
            [("0", 0), ("250ms", 250), ("30s", 30_000), ("5m", 300_000), ("1h", 3_600_000), ("2 d", 172_800_000)]
        {
            assert_eq!(parse_duration(text), Ok(want));
            assert_eq!(parse_duration(&plain_duration(want)), Ok(want));
        }
        for bad in ["", "30", "-1s", "1.5s", "1y", "9999999999999d", "s", "1s;", "4000d"] {
            assert!(parse_duration(bad).is_err(), "{bad:?}");
        }
        for (text, want) in [("0", 0), ("500 MB", 500_000_000), ("1 GiB", 1 << 30), ("10kb", 10_000)] {
            assert_eq!(parse_bytes(text), Ok(want));
        }
        for bad in ["", "-1", "1.5 GB", "99999999999 TiB", "GB", "1 X"] {
            assert!(parse_bytes(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn moments_survive_their_text_form() {
        for (ms, want) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_795_344_581_007, "2026-11-22T10:49:41.007Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (253_402_300_800_000, "10000-01-01T00:00:00.000Z"),
        ] {
            assert_eq!(Moment(ms).to_string(), want);
            assert_eq!(Moment::parse(want), Some(Moment(ms)));
        }
        assert_eq!(Moment(1_795_344_581_007).minute(), "2026-11-22 10:49");
        for bad in
            ["2026-11-22", "2026-13-22T10:49:41.007Z", "2026-11-00T10:49:41.007Z", "x026-11-22T10:49:41.007Z", ""]
        {
            assert_eq!(Moment::parse(bad), None, "{bad:?}");
        }
    }
}
