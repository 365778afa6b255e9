//! Bandwidth limits as people write them: `10MB`, or a timetable as in `08:00,512kB 19:00,off +01:00`.
//!
//! Only their text; what they mean is law (`tidegate_protocol::file_sync::BandwidthLimit`).

use tidegate_protocol::file_sync::{BandwidthLimit, LimitStep};

use crate::format::parse_bytes;

/// What to write, at the end of every refusal.
const EXAMPLE: &str = "write for example 10MB, off, or by time of day \"08:00,512kB 19:00,off\"";

/// Reads a limit. Times without a zone are those of `utc_offset_minutes`; a zone is written at the end, as `UTC` or
/// `+01:00`.
pub fn parse_limit(text: &str, utc_offset_minutes: i16) -> Result<BandwidthLimit, String> {
    if !text.contains([',', ':']) {
        return rate(text.trim()).map(BandwidthLimit::constant).and_then(checked);
    }
    let mut words: Vec<&str> = text.split_whitespace().collect();
    let mut limit = BandwidthLimit { steps: Vec::new(), utc_offset_minutes };
    if let Some(offset) = words.last().and_then(|word| parse_offset(word)) {
        limit.utc_offset_minutes = offset?;
        words.pop();
    }
    let mut steps: Vec<String> = Vec::new();
    for word in words {
        match steps.last_mut() {
            // A unit stands apart from its number.
            Some(last) if word.bytes().all(|byte| byte.is_ascii_alphabetic()) => last.push_str(word),
            Some(_) | None => steps.push(word.to_owned()),
        }
    }
    for step in steps {
        let (time, bytes) =
            step.split_once(',').ok_or_else(|| format!("{step:?} is no time with a limit; {EXAMPLE}"))?;
        limit.steps.push(LimitStep { from_minute: minute(time)?, bytes_per_s: rate(bytes)? });
    }
    checked(limit)
}

/// Writes a limit so that [`parse_limit`] reads it back, wherever it does so.
pub fn show_limit(limit: &BandwidthLimit) -> String {
    if let Some(constant) = limit.as_constant() {
        return plain_rate(constant);
    }
    let steps = limit.steps.iter().map(|step| {
        format!("{:02}:{:02},{}", step.from_minute / 60, step.from_minute % 60, plain_rate(step.bytes_per_s))
    });
    let steps: Vec<String> = steps.collect();
    format!("{} {}", steps.join(" "), show_offset(limit.utc_offset_minutes))
}

/// `+01:00`, or `UTC`.
pub fn show_offset(utc_offset_minutes: i16) -> String {
    let (sign, minutes) = (if utc_offset_minutes < 0 { '-' } else { '+' }, utc_offset_minutes.unsigned_abs());
    if minutes == 0 { "UTC".to_owned() } else { format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60) }
}

fn checked(limit: BandwidthLimit) -> Result<BandwidthLimit, String> {
    limit.check().map_err(|error| format!("{error}; {EXAMPLE}"))?;
    Ok(limit)
}

/// `None` if a word is no zone.
fn parse_offset(word: &str) -> Option<Result<i16, String>> {
    if word.eq_ignore_ascii_case("utc") || word == "Z" {
        return Some(Ok(0));
    }
    let (sign, clock) = match word.split_at_checked(1)? {
        ("+", clock) => (1, clock),
        ("-", clock) => (-1, clock),
        _ => return None,
    };
    Some(minute(clock).map(|minutes| sign * minutes as i16))
}

fn minute(text: &str) -> Result<u16, String> {
    let two = |digits: &str| (digits.len() == 2).then(|| digits.parse::<u16>().ok()).flatten();
    let read = text.split_once(':').and_then(|(h, m)| Some((two(h)?, two(m)?)));
    read.filter(|(h, m)| *h < 24 && *m < 60)
        .map(|(h, m)| h * 60 + m)
        .ok_or_else(|| format!("{text:?} is no time of day from 00:00 to 23:59; {EXAMPLE}"))
}

fn rate(text: &str) -> Result<u64, String> {
    if text.eq_ignore_ascii_case("off") || text.eq_ignore_ascii_case("none") {
        return Ok(0);
    }
    let number = text.trim_end_matches("/s");
    // The best known tool writes `512k`.
    let size = match number.as_bytes() {
        [.., b'0'..=b'9', b'k' | b'K' | b'm' | b'M' | b'g' | b'G'] => parse_bytes(&format!("{number}B")),
        _ => parse_bytes(number),
    };
    size.map_err(|_| format!("{text:?} is no limit; {EXAMPLE}"))
}

/// Whole units only, so that nothing is lost.
fn plain_rate(bytes_per_s: u64) -> String {
    const UNITS: [(u64, &str); 6] =
        [(1_000_000_000, "GB"), (1 << 30, "GiB"), (1_000_000, "MB"), (1 << 20, "MiB"), (1_000, "kB"), (1 << 10, "KiB")];
    if bytes_per_s == 0 {
        return "off".to_owned();
    }
    let whole = UNITS.iter().find(|(unit, _)| bytes_per_s.is_multiple_of(*unit));
    whole.map_or_else(|| format!("{bytes_per_s}B"), |(unit, name)| format!("{}{name}", bytes_per_s / unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_read_as_it_is_written() {
        for (text, written) in [
            ("0", "off"),
            ("off", "off"),
            ("10 MB", "10MB"),
            ("512k", "512kB"),
            ("1 GiB", "1GiB"),
            ("1536", "1536B"),
            ("08:00,512k 19:00,off", "08:00,512kB 19:00,off -02:30"),
            ("08:00,512 kB 19:00,0 UTC", "08:00,512kB 19:00,off UTC"),
            ("00:00,1MiB/s  23:59,2MB +05:45", "00:00,1MiB 23:59,2MB +05:45"),
            ("08:00,1MB +01:00", "1MB"),
            ("12:00,1500000 13:00,off Z", "12:00,1500kB 13:00,off UTC"),
        ] {
            let limit = parse_limit(text, -150).unwrap();
            assert_eq!(show_limit(&limit), written, "{text}");
            let again = parse_limit(written, 0).unwrap();
            assert_eq!(show_limit(&again), written);
            assert!(limit.as_constant().is_some() || again == limit);
        }
    }

    #[test]
    fn a_bad_timetable_is_refused_with_the_word_that_is_wrong_and_what_to_write() {
        for (text, says) in [
            ("", "\"\" is no limit"),
            ("fast", "\"fast\" is no limit"),
            ("08:00", "\"08:00\" is no time with a limit"),
            ("24:00,1MB", "\"24:00\" is no time of day"),
            ("8:00,1MB", "\"8:00\" is no time of day"),
            ("08:60,1MB", "\"08:60\" is no time of day"),
            ("08:00,much 19:00,off", "\"much\" is no limit"),
            ("08:00,-1", "\"-1\" is no limit"),
            ("19:00,off 08:00,1MB", "follow each other"),
            ("08:00,1MB 08:00,2MB", "follow each other"),
            ("08:00,1MB +25:00", "\"25:00\" is no time of day"),
            ("08:00,1MB +15:00", "14 hours"),
            ("08:00,10B 19:00,off", "at least 1000 bytes per second"),
            ("Mon-08:00,1MB", "\"Mon-08:00\" is no time of day"),
            ("08:00,1MB;19:00,off", "is no limit"),
        ] {
            let refused = parse_limit(text, 0).unwrap_err();
            assert!(refused.contains(says) && refused.ends_with(EXAMPLE), "{text}: {refused}");
        }
    }
}
