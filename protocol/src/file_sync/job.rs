//! Jobs: batches of items for the one device whose disk changes.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{BandwidthLimit, PlanId, Root, Side};
use crate::id::{ConduitId, DeviceId};
use crate::index::Rights;
use crate::time::Stamp;

/// Names a job. A generation has at most one job of each kind for each end, so no other id is needed and a
/// repeated dispatch is recognised. The end is named, as one device may hold both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct JobKey {
    /// Of which conduit.
    pub conduit: ConduitId,
    /// Of which of its generations.
    pub generation: u64,
    /// On whose disk.
    pub device: DeviceId,
    /// Which end of the conduit changes.
    pub side: Side,
    /// Copies, or deletes.
    pub kind: JobKind,
}

impl fmt::Display for JobKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match (self.kind, self.side) {
            (JobKind::Copy, Side::Target) => "copy",
            (JobKind::Delete, Side::Target) => "delete",
            (JobKind::Copy, Side::Source) => "copyback",
            (JobKind::Delete, Side::Source) => "deleteback",
        };
        write!(f, "{}-{}-{kind}-{}", self.conduit.short(), self.generation, self.device.short())
    }
}

/// Kind of a job. All copies of a generation are durable, or recorded as failed, before its first delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum JobKind {
    /// Installs, renames, links, directories, metadata.
    Copy,
    /// Removals.
    Delete,
}

/// What the applying device is asked to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSpec {
    /// Its name.
    pub key: JobKey,
    /// Who asks; must be the conduit's coordinator.
    pub coordinator: DeviceId,
    /// The definition of the conduit that was resolved; an owner that knows a newer one refuses.
    pub definition: Stamp,
    /// The plan it belongs to.
    pub plan: PlanId,
    /// Whether a person approved the plan, and so the guards of the applying device stand aside.
    pub approved: bool,
    /// The root that changes; on `key.device`.
    pub target: Root,
    /// The root that content comes from.
    pub source: Root,
    /// Transfers at the same time.
    pub parallel_transfers: u32,
    /// Bytes per second, by time of day.
    pub bandwidth_limit: BandwidthLimit,
    /// What happens to replaced and deleted bytes.
    pub delete_mode: DeleteMode,
    /// How many items follow.
    pub items: u32,
    /// Bytes that the items install.
    pub bytes: u64,
}

/// What happens to bytes that are replaced or deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeleteMode {
    /// Kept in `.tidegate/trash/` of their location.
    #[default]
    Trash,
    /// Removed once the generation is verified.
    Permanent,
}

/// What became of one item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ItemOutcome {
    /// Done and durable.
    Done,
    /// Not done, and nothing changed; tried again by the next generation.
    Skipped(SkipReason),
}

/// Why an item was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum SkipReason {
    /// The target path was not what the plan saw; the user's bytes were kept.
    #[error("changed on the target after the plan; kept")]
    TargetChanged,
    /// The source path was not what the plan saw, or changed while it was read.
    #[error("changed on the source while it was read")]
    SourceChanged,
    /// The source no longer has this content.
    #[error("the source no longer has this content")]
    SourceGone,
    /// The bytes that arrived do not have the announced hash.
    #[error("the bytes that arrived do not have the announced hash")]
    WrongContent,
    /// The operating system refused.
    #[error("permission denied")]
    PermissionDenied,
    /// No space left.
    #[error("no space left on the device")]
    NoSpace,
    /// The name cannot be stored there.
    #[error("the name cannot be stored there")]
    BadName,
    /// The directory holds content outside the conduit.
    #[error("the directory holds content outside the conduit")]
    DirNotEmpty,
    /// The device has no right to do this there.
    #[error("no grant for this")]
    NotAllowed,
    /// A copy that this delete depends on failed.
    #[error("a copy of the same content failed; the delete waits")]
    CopyFailed,
    /// The job was cancelled.
    #[error("cancelled")]
    Cancelled,
    /// The other device could not be reached.
    #[error("the other device could not be reached")]
    Unreachable,
    /// Anything else, as the operating system says it.
    #[error("{0}")]
    Io(String),
}

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobState {
    /// Items are still arriving, or it waits for its turn.
    Waiting,
    /// At work.
    Running,
    /// Held by a person; goes on with `resume`.
    Paused,
    /// Every item has an outcome.
    Ended,
    /// Ended by a person; what was not done is `Skipped(Cancelled)`.
    Cancelled,
}

/// How far a job is. Monotone, and exact at the end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobProgress {
    /// Items with an outcome.
    pub items_done: u64,
    /// Of these, skipped.
    pub items_skipped: u64,
    /// Content bytes installed.
    pub bytes_done: u64,
    /// Of these, bytes that the device already held (moves, local copies, resumed chunks).
    pub bytes_reused: u64,
}

impl JobKind {
    /// Rights that a job of this kind needs on the target.
    pub const fn rights_needed(self) -> Rights {
        match self {
            Self::Copy => Rights { read: false, write: true, delete: false },
            Self::Delete => Rights { read: false, write: true, delete: true },
        }
    }
}
