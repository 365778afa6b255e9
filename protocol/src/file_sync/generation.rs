//! Generations: runs of a conduit, kept as history; and the baseline that a verified one leaves.

use serde::{Deserialize, Serialize};

use super::PlanId;
use crate::hash::ContentHash;
use crate::id::{ConduitId, DeviceId};
use crate::library_sync::HeadRef;

/// One run of a conduit, as its coordinator stores it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// Of which conduit.
    pub conduit: ConduitId,
    /// 1, 2, 3 …
    pub number: u64,
    /// The plan, stored beside it.
    pub plan: PlanId,
    /// The heads the plan was resolved from.
    pub heads: Vec<HeadRef>,
    /// The generation it follows up, if the one before failed to verify.
    pub follows: Option<u64>,
    /// What it is doing.
    pub phase: Phase,
    /// Every verification status it had, with the wall time in milliseconds.
    pub statuses: Vec<(u64, Verification)>,
    /// Wall time of its opening, in milliseconds.
    pub opened_ms: u64,
    /// Wall time of its closing, in milliseconds.
    pub closed_ms: Option<u64>,
    /// Sums.
    pub totals: GenerationTotals,
}

impl Generation {
    /// Whether it is over, and something was left to do.
    pub fn failed(&self) -> bool {
        matches!(self.statuses.last(), Some((_, Verification::Failed { .. })))
    }
}

/// What a generation is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Copy jobs are out.
    Copying,
    /// All copies are durable or recorded as failed; delete jobs are out.
    Deleting,
    /// Waiting until the watchers have seen what the jobs did and the replica is caught up.
    Verifying,
    /// Over.
    Closed,
}

/// How far a generation is from being proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verification {
    /// Jobs are not done.
    Unverified,
    /// Jobs are done; the watchers of both ends have not reported the touched paths yet.
    WaitingWatcher,
    /// The watchers have; the replica is not caught up yet.
    WaitingLibrarySync,
    /// The resolver, run again, found nothing left to do.
    Verified,
    /// The resolver, run again, found this many items left.
    Failed {
        /// How many.
        remaining: u64,
    },
}

/// Sums over a generation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenerationTotals {
    /// Copy items done.
    pub copied: u64,
    /// Delete items done.
    pub deleted: u64,
    /// Items skipped.
    pub skipped: u64,
    /// Conflicts listed.
    pub conflicts: u64,
    /// Content bytes installed.
    pub bytes: u64,
    /// Of these, bytes the device already held.
    pub bytes_reused: u64,
}

/// What the library remembers of a closed generation: a row of the coordinator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenerationRecord {
    /// Of which conduit.
    pub conduit: ConduitId,
    /// Its number.
    pub number: u64,
    /// Who ran it.
    pub coordinator: DeviceId,
    /// How it ended.
    pub verification: Verification,
    /// Wall time of its closing, in milliseconds.
    pub closed_ms: u64,
    /// Sums.
    pub totals: GenerationTotals,
}

/// What both ends last agreed on, as verified.
///
/// This is the summary: what the guards and the incremental resolve ask for. What was agreed on path by path stands
/// beside it, behind [`super::BaseView`]; a mirror needs none of that, as its target equalled its source at `heads`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Baseline {
    /// The generation that was verified.
    pub generation: u64,
    /// The heads at which the resolver found nothing to do.
    pub heads: Vec<HeadRef>,
    /// Entries directly in the roots of source and target.
    pub top_entries: (u64, u64),
    /// Files and links below the roots of source and target.
    pub files: (u64, u64),
    /// The rules of source and target at that time.
    pub rules: (ContentHash, ContentHash),
}
