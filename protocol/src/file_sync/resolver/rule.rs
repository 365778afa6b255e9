//! The rules by name: what decided a path's fate.

use serde::{Deserialize, Serialize};

use crate::file_sync::Conflict;
use crate::index::{EntryKind, EntryState};

/// What decided about a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Rule {
    /// Both ends hold the same, or neither holds anything.
    InStep,
    /// Both hold the same content, with different versions, times or executable bits.
    Adopted,
    /// One end's version has seen the other's.
    LaterVersion,
    /// Only one end changed since the baseline.
    OneSided,
    /// Nothing is known of an agreement, and only one end has it.
    New,
    /// Deleted on one end, something of another kind on the other.
    KindReplacesDeletion,
    /// Both changed; the strategy decided.
    Strategy,
    /// Both changed; a person decided.
    Ruled,
    /// Both changed; it waits for a person.
    WaitsForRuling,
    /// The other end's directory goes, as nothing in it stays.
    DirectoryGoes,
    /// The directory was deleted on one end, and something in it stays.
    DirectoryStays,
    /// The directory that is not selected holds what is.
    HoldsSelected,
    /// A directory has taken or lost its place as a whole.
    WithItsDirectory,
    /// The target was evicted by another conduit; nobody deleted it.
    EvictedElsewhere,
    /// The source's state is the law (mirror).
    SourceIsLaw,
    /// Selected, and not yet on the target as the source has it.
    Selected,
    /// Deleted on the source, and the target has it as it was.
    DeletedOnSource,
    /// Deselected; the source holds the same.
    Evicted,
    /// Deselected; the source does not hold the same, so the target's goes to the trash.
    DeselectedLastCopy,
    /// The target's own; left alone.
    NotOurs,
    /// Changed on the target; held.
    Drift,
    /// Hidden by a rule of either end.
    Hidden,
    /// Special or unknown on either end, or below such.
    Frozen,
    /// Another spelling of the same name has the place.
    NameHeld,
    /// The other end cannot store the name.
    Unrepresentable,
    /// The other end cannot store links.
    Unsupported,
}

/// Which facts and which rule decided a path's fate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Why {
    /// The source's row.
    pub source: Option<EntryState>,
    /// The target's row.
    pub target: Option<EntryState>,
    /// What both last agreed on.
    pub base: Option<EntryKind>,
    /// The rule.
    pub rule: Rule,
    /// The conflict, if it is one.
    pub conflict: Option<Conflict>,
}
