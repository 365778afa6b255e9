//! Documents of the past: the trash, and what was done.

use serde::{Deserialize, Serialize};
use tidegate_protocol::file_sync::{Difference, Replay};

use super::document::ShownPath;
use crate::core::past::{AuditView, ReplayView, TrashThing, TrashView, UndoView};
use crate::format::Moment;

/// What is in the trash of this device, or what became of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TrashDocument {
    /// The things that were selected; at most 10,000.
    pub things: Vec<TrashedDocument>,
    /// Things that were selected.
    pub count: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// Of these, things with which nothing was or could be done.
    pub kept: u64,
    /// Locations whose trash could not be looked at.
    pub unseen: Vec<UnseenDocument>,
}

/// One thing in the trash.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TrashedDocument {
    /// In which location.
    pub location: String,
    /// The conduit that put it there.
    pub conduit: String,
    /// Of its generations, which.
    pub generation: u64,
    /// Where it stood.
    #[serde(flatten)]
    pub path: ShownPath,
    /// Its length in bytes.
    pub bytes: u64,
    /// When it was put there, to about a minute.
    pub trashed: Moment,
    /// What was done with it, or would be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
}

/// A location whose trash could not be looked at.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UnseenDocument {
    /// Which.
    pub location: String,
    /// Why.
    pub why: String,
}

impl From<TrashView> for TrashDocument {
    fn from(view: TrashView) -> Self {
        Self {
            things: view.things.into_iter().map(Into::into).collect(),
            count: view.count,
            bytes: view.bytes,
            kept: view.kept,
            unseen: view
                .unseen
                .into_iter()
                .map(|(location, why)| UnseenDocument { location: location.to_string(), why })
                .collect(),
        }
    }
}

impl From<TrashThing> for TrashedDocument {
    fn from(thing: TrashThing) -> Self {
        Self {
            location: thing.location.to_string(),
            conduit: thing.conduit,
            generation: thing.generation,
            path: ShownPath { path: thing.path, path_b64: thing.path_b64 },
            bytes: thing.bytes,
            trashed: Moment(thing.trashed_ms),
            outcome: thing.outcome,
        }
    }
}

/// What undoing a generation does, or would do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UndoDocument {
    /// Of which conduit.
    pub conduit: String,
    /// The generation that is undone.
    pub undoes: u64,
    /// The generation that was opened for it.
    pub generation: Option<u64>,
    /// The number that such a generation has.
    pub next: u64,
    /// Its plan.
    pub plan: String,
    /// Guards that hold it until it is approved.
    pub halts: Vec<String>,
    /// What is taken back, in order; at most 10,000.
    pub items: Vec<UndoneDocument>,
    /// Items in all.
    pub items_total: u64,
    /// What stays as it is.
    pub kept: Vec<KeptDocument>,
    /// The conduit is paused by it, as it would do again what is undone.
    pub pauses: bool,
}

/// One thing that is taken back.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UndoneDocument {
    /// On whose disk.
    pub device: String,
    /// As in a generation: `install`, `trash` …
    pub op: String,
    /// Where.
    #[serde(flatten)]
    pub path: ShownPath,
}

/// One path that stays as it is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct KeptDocument {
    /// On whose disk.
    pub device: String,
    /// Where.
    #[serde(flatten)]
    pub path: ShownPath,
    /// Why.
    pub why: String,
}

impl From<UndoView> for UndoDocument {
    fn from(view: UndoView) -> Self {
        let items = view.items.iter().map(|item| UndoneDocument {
            device: item.device.to_string(),
            op: item.op.clone(),
            path: (&item.path).into(),
        });
        let kept = view.kept.iter().map(|kept| KeptDocument {
            device: kept.device.to_string(),
            path: (&kept.path).into(),
            why: kept.why.clone(),
        });
        Self {
            conduit: view.conduit.to_string(),
            undoes: view.undoes,
            generation: view.generation,
            next: view.next,
            plan: view.plan,
            halts: view.halts,
            items: items.collect(),
            items_total: view.items_total,
            kept: kept.collect(),
            pauses: view.pauses,
        }
    }
}

/// How a generation's plan compares with what the law makes of the same facts now.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReplayDocument {
    /// Of which conduit.
    pub conduit: String,
    /// Its number.
    pub generation: u64,
    /// The stored plan.
    pub plan: String,
    /// `device:location/dir`.
    pub source: String,
    /// `device:location/dir`.
    pub target: String,
    /// What each owner's index stood at, as `device@sequence`.
    pub heads: Vec<String>,
    /// Rows that were kept of the source: those that the plan hangs on.
    pub rows_source: u64,
    /// The same of the target.
    pub rows_target: u64,
    /// The same of what both had agreed on.
    pub rows_base: u64,
    /// The same bytes came of it.
    pub identical: bool,
    /// Where the two differ first.
    pub difference: Option<Difference>,
}

impl From<ReplayView> for ReplayDocument {
    fn from(view: ReplayView) -> Self {
        let difference = match view.found {
            Replay::Identical => None,
            Replay::Differs(difference) => Some(difference),
        };
        Self {
            conduit: view.conduit.to_string(),
            generation: view.generation,
            plan: view.plan,
            source: view.source,
            target: view.target,
            heads: view.heads.iter().map(|(device, sequence)| format!("{device}@{sequence}")).collect(),
            rows_source: view.rows.0,
            rows_target: view.rows.1,
            rows_base: view.rows.2,
            identical: difference.is_none(),
            difference,
        }
    }
}

/// How reading both disks again stands.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AuditDocument {
    /// Of which conduit.
    pub conduit: String,
    /// The files of this generation; all if absent.
    pub generation: Option<u64>,
    /// Nothing is left to be read or healed.
    pub is_over: bool,
    /// Files read so far.
    pub checked: u64,
    /// Files still to be read.
    pub todo: u64,
    /// Files that hold what the index says.
    pub sound: u64,
    /// What was found besides; at most 10,000.
    pub found: Vec<FoundDocument>,
    /// How much that is in all.
    pub found_total: u64,
    /// The generation that heals.
    pub healed_by: Option<u64>,
    /// Why it ended early, or nothing was healed.
    pub failure: Option<String>,
}

/// A file that does not hold what the index says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FoundDocument {
    /// On whose disk.
    pub device: String,
    /// Where.
    #[serde(flatten)]
    pub path: ShownPath,
    /// What is wrong with it.
    pub what: String,
    /// Its content changed while size and time stayed.
    pub is_rot: bool,
}

impl From<AuditView> for AuditDocument {
    fn from(view: AuditView) -> Self {
        let found = view.found.iter().map(|found| FoundDocument {
            device: found.device.to_string(),
            path: (&found.path).into(),
            what: found.what.clone(),
            is_rot: found.is_rot,
        });
        Self {
            conduit: view.conduit.to_string(),
            generation: view.generation,
            is_over: view.is_over,
            checked: view.checked,
            todo: view.todo,
            sound: view.sound,
            found: found.collect(),
            found_total: view.found_total,
            healed_by: view.healed_by,
            failure: view.failure,
        }
    }
}
