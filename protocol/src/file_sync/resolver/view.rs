//! What the resolver looks at: both ends, what they agreed on, and a few circumstances. Traits over rows; who
//! implements them decides where the rows live.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::file_sync::{Baseline, Conduit, Guards, NameRules, Ruling};
use crate::hash::ContentHash;
use crate::id::{DeviceId, Label, Sequence};
use crate::index::{EntryKind, EntryState};
use crate::path::EntryPath;

/// One end of a conduit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Side {
    /// Where changes come from.
    Source,
    /// Where they go.
    Target,
}

impl Side {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Source, Self::Target];

    /// The opposite end.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Source => Self::Target,
            Self::Target => Self::Source,
        }
    }
}

/// What the replica holds of one end, relative to the conduit's root.
///
/// Every row that is present has present directories above it, as a scan writes them.
pub trait SideView {
    /// Every row below the root, tombstones included, in path order, starting at `from` if given.
    fn entries<'a>(&'a self, from: Option<&EntryPath>) -> Box<dyn Iterator<Item = (EntryPath, EntryState)> + 'a>;

    /// The row of one path.
    fn entry(&self, path: &EntryPath) -> Option<EntryState>;

    /// Where in the owner's log the newest change of this path stands.
    fn sequence(&self, path: &EntryPath) -> Option<Sequence>;

    /// Whether the location's rules hide `path` (or a directory above it).
    fn is_hidden(&self, path: &EntryPath) -> bool;

    /// Identifies the location's rules.
    fn rules_hash(&self) -> ContentHash;

    /// Files and symbolic links below the root: a number that the store keeps, not a count on demand.
    fn file_count(&self) -> u64;

    /// Entries of any kind directly in the root: likewise kept by the store.
    fn top_entries(&self) -> u64;

    /// What names this end can store and tell apart, as probed at its root.
    fn names(&self) -> NameRules;

    /// Whether the root itself is a directory: always for the top of a location, by its row for one below.
    fn has_root(&self) -> bool;
}

/// What both ends last agreed on, path by path, as verified: the ancestor of the three-way merge.
///
/// A path without a row was absent on both ends, or they never agreed on it. [`super::SyncResolver::base_changes`]
/// says how rows change; a mirror has none.
pub trait BaseView {
    /// Every row, in path order, starting at `from` if given. Paths are spelled as on the source.
    fn entries<'a>(&'a self, from: Option<&EntryPath>) -> Box<dyn Iterator<Item = (EntryPath, EntryKind)> + 'a>;

    /// The row of one path.
    fn entry(&self, path: &EntryPath) -> Option<EntryKind>;
}

/// Nothing was ever agreed on, or is remembered.
pub struct NoBase;

impl BaseView for NoBase {
    fn entries<'a>(&'a self, _: Option<&EntryPath>) -> Box<dyn Iterator<Item = (EntryPath, EntryKind)> + 'a> {
        Box::new(std::iter::empty())
    }

    fn entry(&self, _: &EntryPath) -> Option<EntryKind> {
        None
    }
}

impl BaseView for BTreeMap<EntryPath, EntryKind> {
    fn entries<'a>(&'a self, from: Option<&EntryPath>) -> Box<dyn Iterator<Item = (EntryPath, EntryKind)> + 'a> {
        let owned = |(path, kind): (&EntryPath, &EntryKind)| (path.clone(), kind.clone());
        match from {
            Some(from) => Box::new(self.range(from.clone()..).map(owned)),
            None => Box::new(self.iter().map(owned)),
        }
    }

    fn entry(&self, path: &EntryPath) -> Option<EntryKind> {
        self.get(path).cloned()
    }
}

/// How a base row changes when a generation is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BaseChange {
    /// Both ends hold this.
    Set(EntryKind),
    /// Both ends hold nothing, or the path left the conduit.
    Drop,
}

/// What is neither row nor definition, and comes from outside as it was when the gate opened.
#[derive(Debug, Clone, Copy)]
pub struct Circumstances<'a> {
    /// Rulings of this conduit; those about other facts do nothing.
    pub rulings: &'a [Ruling],
    /// Names of devices, for conflict copies.
    pub labels: &'a BTreeMap<DeviceId, Label>,
    /// When the target's files were last read, in Unix milliseconds, where that is known (selective).
    pub reads: &'a BTreeMap<EntryPath, u64>,
    /// The moment the gate opened, in Unix milliseconds.
    pub now_ms: u64,
    /// How far apart both owners' clocks may be: offset and half a round trip, in milliseconds.
    pub clock_doubt_ms: u64,
}

impl Circumstances<'_> {
    /// Nothing ruled, named or read, at the beginning of time.
    pub const NONE: Self =
        Self { rulings: &[], labels: &BTreeMap::new(), reads: &BTreeMap::new(), now_ms: 0, clock_doubt_ms: 0 };
}

/// Everything a resolve looks at besides the token.
pub struct ConduitView<'a> {
    /// The definition.
    pub conduit: &'a Conduit,
    /// The source's end.
    pub source: &'a dyn SideView,
    /// The target's end.
    pub target: &'a dyn SideView,
    /// What the last verified generation left; `None` on the first run.
    pub baseline: Option<&'a Baseline>,
    /// The same, path by path.
    pub base: &'a dyn BaseView,
    /// The guards.
    pub guards: Guards,
    /// The rest.
    pub circumstances: Circumstances<'a>,
}

impl<'a> ConduitView<'a> {
    /// One end.
    pub fn side(&self, side: Side) -> &'a dyn SideView {
        match side {
            Side::Source => self.source,
            Side::Target => self.target,
        }
    }

    /// Whether the rules of either end put `path` outside the conduit.
    pub(super) fn is_outside(&self, path: &EntryPath) -> bool {
        self.source.is_hidden(path) || self.target.is_hidden(path)
    }

    /// Whether paths are compared by what is left of them when case and Unicode form are folded.
    pub(super) fn folds(&self) -> bool {
        self.source.names().folds || self.target.names().folds
    }
}
