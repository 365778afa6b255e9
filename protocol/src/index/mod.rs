//! What the index holds of a location: entries, and the facts about the location itself.

mod entry;
mod location;
mod rules;
mod version;

pub use entry::{Entry, EntryKind, EntryState, FileFacts, Observation, Observed, StatMark, UnknownCause};
pub use location::{Device, DeviceState, Grant, Location, Rights};
pub use rules::{DEFAULT_RULES, IgnoreRules, RuleError, parse_rules};
pub use version::{Version, VersionOrder};
