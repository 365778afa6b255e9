//! Documents of conflicts, of what decided about a path, and of what a selective conduit holds.

use serde::{Deserialize, Serialize};
use tidegate_protocol::file_sync::{ConflictOutcome, Decision, Selection};
use tidegate_protocol::index::EntryState;

use super::document::ShownPath;
use super::words;
use crate::core::command::{ConflictView, DoneView, PlannedView, VersionView, WhyView};
use crate::format::Moment;

/// A conflict.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ConflictDocument {
    /// `conduit:number`.
    pub id: String,
    /// Of which conduit.
    pub conduit: String,
    /// The generation that met it.
    pub generation: u64,
    /// When it was met.
    pub met: Moment,
    /// Where.
    #[serde(flatten)]
    pub path: ShownPath,
    /// What it is, in words.
    pub what: String,
    /// `held`, `source`, `target`, `both` or `given`: what was done about it.
    pub outcome: String,
    /// Where the target's version was kept beside the source's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy: Option<ShownPath>,
    /// It waits for a person.
    pub open: bool,
    /// When nothing of it was left.
    pub settled: Option<Moment>,
    /// `source`, `target`, `both`, `newest` or `given`: what a person decided.
    pub decided: Option<String>,
    /// Name of the source's device.
    pub source_device: String,
    /// Name of the target's device.
    pub target_device: String,
    /// What the source had; absent if nothing.
    pub source: Option<VersionView>,
    /// What the target had; absent if nothing.
    pub target: Option<VersionView>,
    /// What both had agreed on; absent if nothing, or not known.
    pub base: Option<VersionView>,
}

impl From<ConflictView> for ConflictDocument {
    fn from(view: ConflictView) -> Self {
        let (outcome, copy) = match &view.outcome {
            ConflictOutcome::Held => ("held", None),
            ConflictOutcome::Source => ("source", None),
            ConflictOutcome::Target => ("target", None),
            ConflictOutcome::Both { copy } => ("both", Some(ShownPath::from(copy))),
            ConflictOutcome::Given => ("given", None),
        };
        Self {
            id: view.id,
            conduit: view.conduit.to_string(),
            generation: view.generation,
            met: Moment(view.met_ms),
            path: ShownPath::from(&view.path),
            what: words::conflict(view.kind).to_owned(),
            outcome: outcome.to_owned(),
            copy,
            open: view.open,
            settled: view.settled_ms.map(Moment),
            decided: view.ruling.map(|decision| decided(decision).to_owned()),
            source_device: view.source_device.to_string(),
            target_device: view.target_device.to_string(),
            source: view.source,
            target: view.target,
            base: view.base,
        }
    }
}

const fn decided(decision: Decision) -> &'static str {
    match decision {
        Decision::Source => "source",
        Decision::Target => "target",
        Decision::Both => "both",
        Decision::Newest => "newest",
        Decision::Given(_) => "given",
    }
}

/// How two versions of a conflict differ, and whether they join.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DiffDocument {
    /// `conduit:number`.
    pub id: String,
    /// From the source's version to the target's, as a unified diff; absent if they are no texts.
    pub diff: Option<String>,
    /// Lines added and removed since the base: by the source, by the target.
    pub changed: Option<[(u64, u64); 2]>,
    /// What both sides made of the base, if that is clean.
    pub merged: Option<String>,
    /// Why there is no diff or no merge.
    pub why: Option<String>,
}

/// What decided about a path.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WhyDocument {
    /// In which conduit.
    pub conduit: String,
    /// Below its roots.
    pub path: String,
    /// `device:location/dir`.
    pub source_root: String,
    /// `device:location/dir`.
    pub target_root: String,
    /// What the source's row says; absent if there is none.
    pub source: Option<RowDocument>,
    /// What the target's row says; absent if there is none.
    pub target: Option<RowDocument>,
    /// What both last agreed on.
    pub base: Option<VersionView>,
    /// Name of the rule that decides.
    pub rule: String,
    /// The rule, in words.
    pub because: String,
    /// The conflict, if it is one, in words.
    pub conflict: Option<String>,
    /// What a run would do about it now.
    pub planned: Vec<PlannedView>,
    /// What would hold that run.
    pub held: Vec<String>,
    /// What the newest generation did about it.
    pub last: Vec<DoneView>,
}

/// A row of the index.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RowDocument {
    /// It exists; else it is the trace of a deletion.
    pub present: bool,
    /// What it is.
    pub entry: Option<VersionView>,
    /// Per device, the number of its newest event.
    pub version: Vec<(String, u64)>,
}

impl From<&EntryState> for RowDocument {
    fn from(state: &EntryState) -> Self {
        let events: Vec<(tidegate_protocol::id::DeviceId, u64)> = state.version().clone().into();
        Self {
            present: state.present().is_some(),
            entry: state.present().map(|entry| VersionView::of(&entry.kind)),
            version: events.into_iter().map(|(device, number)| (device.short(), number)).collect(),
        }
    }
}

impl From<WhyView> for WhyDocument {
    fn from(view: WhyView) -> Self {
        Self {
            conduit: view.conduit.to_string(),
            path: view.path,
            source_root: view.source,
            target_root: view.target,
            source: view.why.source.as_ref().map(RowDocument::from),
            target: view.why.target.as_ref().map(RowDocument::from),
            base: view.why.base.as_ref().map(VersionView::of),
            rule: format!("{:?}", view.why.rule),
            because: words::rule(view.why.rule).to_owned(),
            conflict: view.why.conflict.map(|conflict| words::conflict(conflict.kind).to_owned()),
            planned: view.planned,
            held: view.held.iter().map(ToString::to_string).collect(),
            last: view.last,
        }
    }
}

/// What a selective conduit holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SelectionDocument {
    /// Whole directories and single files; `.` is everything.
    pub subtrees: Vec<String>,
    /// Patterns.
    pub include: Vec<String>,
    /// Patterns that take candidates out again.
    pub exclude: Vec<String>,
    /// Bounds in bytes, age in milliseconds, room in bytes; absent is none.
    pub size_bytes_min: Option<u64>,
    /// See `size_bytes_min`.
    pub size_bytes_max: Option<u64>,
    /// See `size_bytes_min`.
    pub age_ms_max: Option<u64>,
    /// See `size_bytes_min`.
    pub budget_bytes: Option<u64>,
    /// What always stays.
    pub pins: Vec<String>,
    /// What was fetched, and until when it stays.
    pub fetched: Vec<(String, Moment)>,
}

impl From<Selection> for SelectionDocument {
    fn from(selection: Selection) -> Self {
        let subtree =
            |dir: &tidegate_protocol::path::DirPath| dir.as_entry().map_or_else(|| ".".to_owned(), ToString::to_string);
        Self {
            subtrees: selection.subtrees.iter().map(subtree).collect(),
            include: selection.globs,
            exclude: selection.exclude,
            size_bytes_min: selection.size_bytes_min,
            size_bytes_max: selection.size_bytes_max,
            age_ms_max: selection.age_ms_max,
            budget_bytes: selection.budget_bytes,
            pins: selection.pins.iter().map(ToString::to_string).collect(),
            fetched: selection.fetched.iter().map(|f| (f.path.to_string(), Moment(f.until_ms))).collect(),
        }
    }
}
