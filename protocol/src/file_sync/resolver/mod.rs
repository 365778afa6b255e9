//! The resolver: from the index of both ends to what is to be done. No disk, no clock, no randomness.

use serde::{Deserialize, Serialize};

use super::{Baseline, Conduit, Conflict, Guards, Item, Plan};
use crate::index::{Entry, EntryState};
use crate::library_sync::LibrarySynced;
use crate::path::EntryPath;

/// One end of a conduit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Side {
    /// Where changes come from.
    Source,
    /// Where they go.
    Target,
}

/// What the replica holds of one end, relative to the conduit's root.
pub trait SideView {
    /// Every row below the root, tombstones included, in path order, starting at `from` if given.
    fn entries<'a>(&'a self, from: Option<&EntryPath>) -> Box<dyn Iterator<Item = (EntryPath, EntryState)> + 'a>;

    /// The row of one path.
    fn entry(&self, path: &EntryPath) -> Option<EntryState>;

    /// Whether the location's rules hide `path` (or a directory above it).
    fn is_hidden(&self, path: &EntryPath) -> bool;

    /// Some path below the root, not hidden, that holds this content.
    fn find_content(&self, entry: &Entry) -> Option<EntryPath>;
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
    /// The guards.
    pub guards: Guards,
}

/// What is to be done, by direction.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncOperations {
    /// For the target's device.
    pub source_to_target: DirectionalOps,
    /// For the source's device.
    pub target_to_source: DirectionalOps,
    /// Paths that both ends changed, or that cannot be carried over.
    pub conflicts: Vec<Conflict>,
}

/// What is to be done in one direction. All copies come before any delete.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectionalOps {
    /// In the order to be done: a directory before what is in it.
    pub copies: Vec<Item>,
    /// In the order to be done: what is in a directory before it.
    pub deletes: Vec<Item>,
}

impl SyncOperations {
    /// Nothing to do. Conflicts that are only listed do not count.
    pub fn is_empty(&self) -> bool {
        self.source_to_target.is_empty() && self.target_to_source.is_empty()
    }
}

impl DirectionalOps {
    /// Nothing to do.
    pub fn is_empty(&self) -> bool {
        self.copies.is_empty() && self.deletes.is_empty()
    }
}

/// The one function from index to plan.
pub struct SyncResolver;

impl SyncResolver {
    /// Resolves one conduit. The token proves that the view is not stale; its heads go into the plan's id.
    pub fn resolve(synced: LibrarySynced, view: &ConduitView<'_>) -> Plan {
        let _ = (synced, view);
        unreachable!("replaced below")
    }
}
