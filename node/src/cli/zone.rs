//! The time zone of the machine at which a person types: of all the program, the command line alone asks for it.

use std::env;

use tz::TimeZone;

/// By how many minutes it is ahead of UTC at this moment. `TZ` says which zone it is, else the system does; where
/// neither is known it is UTC.
pub(super) fn utc_offset_minutes() -> i16 {
    let named = env::var("TZ").ok().filter(|name| !name.is_empty());
    let zone = named.map_or_else(TimeZone::local, |name| TimeZone::from_posix_tz(&name));
    let seconds = zone.ok().and_then(|zone| zone.find_current_local_time_type().map(tz::LocalTimeType::ut_offset).ok());
    seconds.and_then(|seconds| i16::try_from(seconds / 60).ok()).unwrap_or(0)
}
