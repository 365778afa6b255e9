//! What people ask and are told of conflicts, selections and single paths: the part of the vocabulary of
//! [`super::command`] that came with two-way and selective conduits.

use serde::{Deserialize, Serialize};
use tidegate_protocol::file_sync::{ConflictKind, ConflictOutcome, Decision, Halt, Side, Why};
use tidegate_protocol::id::Label;
use tidegate_protocol::path::{DirPath, EntryPath};

/// A version of a conflict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VersionOf {
    /// What both ends had agreed on.
    Base,
    /// The source's.
    Source,
    /// The target's.
    Target,
}

/// What a person chose about a conflict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// One of the versions, or both.
    Keep(Decision),
    /// Another content in their place.
    Content(Vec<u8>),
}

/// A conflict, as people see it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ConflictView {
    /// `conduit:number`.
    pub id: String,
    /// Of which conduit.
    pub conduit: Label,
    /// Its number there.
    pub number: u64,
    /// The generation that met it.
    pub generation: u64,
    /// When, in Unix milliseconds.
    pub met_ms: u64,
    /// Where.
    pub path: EntryPath,
    /// Of which kind.
    pub kind: ConflictKind,
    /// What was done about it.
    pub outcome: ConflictOutcome,
    /// It waits for a person.
    pub open: bool,
    /// When nothing of it was left.
    pub settled_ms: Option<u64>,
    /// What a person decided.
    pub ruling: Option<Decision>,
    /// Name of the source's device.
    pub source_device: Label,
    /// Name of the target's device.
    pub target_device: Label,
    /// What the source had.
    pub source: Option<VersionView>,
    /// What the target had.
    pub target: Option<VersionView>,
    /// What both had agreed on.
    pub base: Option<VersionView>,
}

/// One version of a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionView {
    /// `file`, `link`, `directory` …
    pub what: String,
    /// Hash of its content.
    pub content: Option<String>,
    /// Its length.
    pub bytes: Option<u64>,
    /// When it was modified, in Unix milliseconds.
    pub mtime_ms: Option<u64>,
    /// Text of a link.
    pub text: Option<String>,
}

/// Which facts and which rule decide about a path.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WhyView {
    /// In which conduit.
    pub conduit: Label,
    /// Below its roots, escaped for display.
    pub path: String,
    /// `device:location/dir`.
    pub source: String,
    /// `device:location/dir`.
    pub target: String,
    /// Rows, agreement and rule.
    pub why: Why,
    /// What a run would do about it now.
    pub planned: Vec<PlannedView>,
    /// What would hold that run.
    pub held: Vec<Halt>,
    /// What the newest generation did about it.
    pub last: Vec<DoneView>,
}

/// Something that a run would do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PlannedView {
    /// At which end.
    pub side: Side,
    /// As in [`super::command::ItemView`].
    pub op: String,
    /// At this path or above it, escaped for display.
    pub path: String,
}

/// Something that a generation did.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DoneView {
    /// Which generation.
    pub generation: u64,
    /// At which end.
    pub side: Side,
    /// As in [`super::command::ItemView`].
    pub op: String,
    /// At this path or above it, escaped for display.
    pub path: String,
    /// `done`, `pending`, or why it was skipped.
    pub outcome: String,
}

/// What to change of a selection; what is absent stays. For numbers, 0 is no bound.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SelectionChange {
    /// Whole directories, and single files.
    pub subtrees: Option<Vec<DirPath>>,
    /// Patterns.
    pub include: Option<Vec<String>>,
    /// Patterns that take candidates out again.
    pub exclude: Option<Vec<String>>,
    /// Smaller files stay away.
    pub size_bytes_min: Option<u64>,
    /// Larger files stay away.
    pub size_bytes_max: Option<u64>,
    /// Files that were modified longer ago stay away.
    pub age_ms_max: Option<u64>,
    /// Room for the most recently used.
    pub budget_bytes: Option<u64>,
}
