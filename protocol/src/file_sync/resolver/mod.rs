//! The resolver: from the index of both ends to what is to be done. No disk, no clock, no randomness.
//!
//! The same index gives the same plan, byte for byte; a plan lists copies in walk order (a directory before
//! what is in it) and deletes in reverse (what is in a directory before it). What is not known is never
//! taken for absent. Only mirror mode is decided here so far; the others are refused by [`ResolveError`].

mod mirror;
mod moves;
mod rule;
mod touched;
mod view;
mod walk;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

pub use self::rule::{Rule, Why};
pub use self::view::{BaseChange, BaseView, Circumstances, ConduitView, NoBase, Side, SideView};

pub(super) use self::moves::pair as pair_moves;

use self::mirror::Mirror;
use self::walk::Span;
use super::{Conflict, Item, Plan, Skip, SyncMode, safety};
use crate::hash::ContentHash;
use crate::id::ConduitId;
use crate::library_sync::LibrarySynced;
use crate::path::EntryPath;

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
    /// What one end's device is to do.
    pub const fn on(&self, side: Side) -> &DirectionalOps {
        match side {
            Side::Source => &self.target_to_source,
            Side::Target => &self.source_to_target,
        }
    }

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

/// Why nothing was resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// The token was granted for another conduit.
    #[error("the gate was opened for {opened:?}, not for {asked:?}")]
    OtherConduit {
        /// For which it was granted.
        opened: ConduitId,
        /// Which was to be resolved.
        asked: ConduitId,
    },
    /// No law for this mode yet.
    #[error("{0:?} mode is not supported by this version")]
    ModeNotSupported(SyncMode),
}

/// What a resolve found, before guards and sums.
#[derive(Default)]
struct Findings {
    ops: DirectionalOps,
    conflicts: Vec<Conflict>,
    skips: Vec<Skip>,
    /// The content of every file or link that goes to the trash with a directory that is replaced whole;
    /// `None` for what has no content to look up again.
    displaced: Vec<Option<ContentHash>>,
    drift_healed: u64,
    /// Files and links that would be displaced in a state that the source's does not follow from.
    unseen: u64,
}

/// The one function from index to plan.
pub struct SyncResolver;

impl SyncResolver {
    /// Resolves one conduit. The token proves that the view is not stale; its heads go into the plan's id.
    pub fn resolve(synced: LibrarySynced, view: &ConduitView<'_>) -> Result<Plan, ResolveError> {
        check(&synced, view)?;
        let findings = Mirror::decide(view, &synced, [Span::All]);
        Ok(conclude(synced, view, findings))
    }

    /// Resolves one conduit at the cost of what changed. Gives the plan that [`SyncResolver::resolve`] gives.
    ///
    /// `touched` holds at least every path of which either end's row changed since the heads of
    /// `view.baseline`; `previous` is the plan that was resolved at those heads and found empty. If there is
    /// no such plan to go on from, or rules changed since, everything is visited.
    pub fn resolve_touched(
        synced: LibrarySynced,
        view: &ConduitView<'_>,
        touched: &BTreeSet<EntryPath>,
        previous: &Plan,
    ) -> Result<Plan, ResolveError> {
        check(&synced, view)?;
        if !touched::can_follow(view, previous) {
            return Self::resolve(synced, view);
        }
        let spans = touched::spans(view, touched, previous);
        let mut findings = Mirror::decide(view, &synced, spans.iter().cloned().map(Span::Subtree));
        touched::carry_over(&mut findings, &spans, previous);
        Ok(conclude(synced, view, findings))
    }
}

/// What follows a verified plan, and what answers questions.
impl SyncResolver {
    /// How the base rows change when an empty plan is verified over `view`: at the `touched` paths, or everywhere.
    pub fn base_changes(view: &ConduitView<'_>, touched: Option<&BTreeSet<EntryPath>>) -> Vec<(EntryPath, BaseChange)> {
        let _ = (view, touched);
        Vec::new()
    }

    /// Which facts and which rule decide the fate of one path.
    pub fn why(synced: &LibrarySynced, view: &ConduitView<'_>, path: &EntryPath) -> Why {
        let _ = synced;
        let (source, target, base) = (view.source.entry(path), view.target.entry(path), view.base.entry(path));
        Why { source, target, base, rule: Rule::InStep, conflict: None }
    }
}

fn check(synced: &LibrarySynced, view: &ConduitView<'_>) -> Result<(), ResolveError> {
    if synced.conduit() != view.conduit.id {
        return Err(ResolveError::OtherConduit { opened: synced.conduit(), asked: view.conduit.id });
    }
    match view.conduit.mode {
        SyncMode::Mirror => Ok(()),
        mode @ (SyncMode::Bidirectional | SyncMode::Selective) => Err(ResolveError::ModeNotSupported(mode)),
    }
}

fn conclude(synced: LibrarySynced, view: &ConduitView<'_>, mut findings: Findings) -> Plan {
    moves::pair(&mut findings.ops);
    let toll = safety::Toll::of(&findings.ops, &findings.displaced);
    let halts = safety::halts(view, &toll, findings.unseen);
    let totals = toll.totals(&findings.ops, findings.drift_healed);
    let operations = SyncOperations {
        source_to_target: findings.ops,
        target_to_source: DirectionalOps::default(),
        conflicts: findings.conflicts,
    };
    let definition = view.conduit.definition();
    Plan::new(view.conduit.id, definition, synced.into_heads(), operations, halts, findings.skips, totals)
}
