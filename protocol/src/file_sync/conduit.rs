//! Conduits: durable links between two roots, and the rules under which one may be created.

mod rules;

#[cfg(test)]
mod tests;

pub use rules::{Clash, ConduitError, SettingError, check, check_settings, clash};

use serde::{Deserialize, Serialize};

use super::{BandwidthLimit, ConflictStrategy, DeleteMode};
use crate::id::{ConduitId, DeviceId, Label, LocationId};
use crate::path::{DirPath, EntryPath};
use crate::time::{Stamp, Stamped};

/// A conduit: a shared fact. Its ends and mode never change; the rest merges field by field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conduit {
    /// Its id.
    pub id: ConduitId,
    /// When and by whom it was created.
    pub created: Stamp,
    /// Where changes come from. Its device coordinates.
    pub source: Root,
    /// Where they go.
    pub target: Root,
    /// What "in step" means.
    pub mode: SyncMode,
    /// Everything that can be set later, each field with its own stamp.
    pub settings: ConduitSettings,
    /// Set once it is removed.
    pub removed: Stamped<bool>,
}

/// One end of a conduit: a directory inside a location.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Root {
    /// The device that holds it.
    pub device: DeviceId,
    /// The location on it.
    pub location: LocationId,
    /// The directory in that location.
    pub dir: DirPath,
}

/// What a conduit keeps true.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SyncMode {
    /// The target becomes the source.
    Mirror,
    /// Both ends follow each other: three-way merge against the baseline.
    Bidirectional,
    /// The target holds the part of the source that the selection admits.
    Selective,
}

/// What can be changed after creation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConduitSettings {
    /// Name, unique in the library by convention; a clash is shown, not merged.
    pub name: Stamped<Label>,
    /// A disabled conduit refuses `sync_now`.
    pub enabled: Stamped<bool>,
    /// A paused conduit keeps its schedule but starts nothing.
    pub paused: Stamped<bool>,
    /// When it runs by itself.
    pub schedule: Stamped<Schedule>,
    /// Which part of the source is wanted (selective).
    pub selection: Stamped<Selection>,
    /// Transfers at the same time, 1 to 64.
    pub parallel_transfers: Stamped<u32>,
    /// Bytes per second for content, both directions together, by time of day.
    pub bandwidth_limit: Stamped<BandwidthLimit>,
    /// What happens on a conflict.
    pub strategy: Stamped<ConflictStrategy>,
    /// What happens to bytes that are replaced or deleted.
    pub delete_mode: Stamped<DeleteMode>,
}

/// When a conduit runs by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Schedule {
    /// Only when asked.
    Manual,
    /// Some quiet time after the last change of either end.
    Instant {
        /// Milliseconds of quiet; 100 at least.
        settle_ms: u32,
    },
    /// At a fixed interval, never overlapping.
    Every {
        /// Milliseconds between starts; 1,000 at least.
        interval_ms: u64,
    },
}

/// What a selective conduit admits. A file is a candidate if it is at or below one of `subtrees`, or one of `globs`
/// matches; a candidate is admitted if it is within all the bounds that are set. What is pinned or fetched is
/// admitted whatever the rest says. An empty selection admits nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// Whole directories, or single files; the top chooses everything.
    pub subtrees: Vec<DirPath>,
    /// Patterns, read as ignore rules are: without `/` against each name of a path, with one against each prefix.
    pub globs: Vec<String>,
    /// Patterns, read alike: what they match is no candidate.
    pub exclude: Vec<String>,
    /// Smaller files stay away.
    pub size_bytes_min: Option<u64>,
    /// Larger files stay away.
    pub size_bytes_max: Option<u64>,
    /// Files that were modified longer ago stay away.
    pub age_ms_max: Option<u64>,
    /// The most recently used candidates whose sizes add up to this; pins count first.
    pub budget_bytes: Option<u64>,
    /// What always stays, with everything below.
    pub pins: Vec<EntryPath>,
    /// What was fetched for a while, with everything below.
    pub fetched: Vec<Fetched>,
}

/// A pin that ends by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetched {
    /// What was fetched.
    pub path: EntryPath,
    /// Until when it stays, in Unix milliseconds.
    pub until_ms: u64,
}

impl SyncMode {
    /// Whether nothing is ever written to the source.
    pub const fn is_one_way(self) -> bool {
        match self {
            Self::Mirror | Self::Selective => true,
            Self::Bidirectional => false,
        }
    }
}

impl Root {
    /// Whether `other` is this directory or lies below it. Locations of one device never hold one another
    /// (adding one that would is refused), so two locations have nothing in common.
    pub fn contains(&self, other: &Self) -> bool {
        self.device == other.device && self.location == other.location && self.dir.contains(&other.dir)
    }

    /// Whether one of the two holds the other.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.contains(other) || other.contains(self)
    }
}

impl Conduit {
    /// Joins what two devices say of one conduit. Commutative, associative, idempotent.
    ///
    /// At wall time `wall_ms`: what is stamped too far ahead of it counts for nothing beside anything else.
    pub fn merge(&mut self, other: &Self, wall_ms: u64) {
        self.settings.name.merge_at(&other.settings.name, wall_ms);
        self.settings.enabled.merge_at(&other.settings.enabled, wall_ms);
        self.settings.paused.merge_at(&other.settings.paused, wall_ms);
        self.settings.schedule.merge_at(&other.settings.schedule, wall_ms);
        self.settings.selection.merge_at(&other.settings.selection, wall_ms);
        self.settings.parallel_transfers.merge_at(&other.settings.parallel_transfers, wall_ms);
        self.settings.bandwidth_limit.merge_at(&other.settings.bandwidth_limit, wall_ms);
        self.settings.strategy.merge_at(&other.settings.strategy, wall_ms);
        self.settings.delete_mode.merge_at(&other.settings.delete_mode, wall_ms);
        self.removed.merge_at(&other.removed, wall_ms);
    }

    /// The device that resolves and dispatches: the source's.
    pub const fn coordinator(&self) -> DeviceId {
        self.source.device
    }

    /// Whose events the decisions of this conduit are, in versions. It is an author of its own, as its device numbers
    /// edits of its user at the same time, and two events must never have one number.
    pub fn actor(&self) -> DeviceId {
        DeviceId::from_bytes(blake3::derive_key("tidegate 2026-11 decisions of a conduit v1", self.id.as_bytes()))
    }

    /// Every stamp in the definition.
    pub fn stamps(&self) -> [Stamp; 11] {
        let s = &self.settings;
        [
            self.created,
            s.name.stamp,
            s.enabled.stamp,
            s.paused.stamp,
            s.schedule.stamp,
            s.selection.stamp,
            s.parallel_transfers.stamp,
            s.bandwidth_limit.stamp,
            s.strategy.stamp,
            s.delete_mode.stamp,
            self.removed.stamp,
        ]
    }

    /// Both ends on one device: jobs need no wire.
    pub fn is_local(&self) -> bool {
        self.source.device == self.target.device
    }

    /// The newest stamp in the definition. A job of an older definition is refused.
    pub fn definition(&self) -> Stamp {
        self.stamps().into_iter().fold(self.created, Stamp::max)
    }
}
