//! The resolver: from the index of both ends to what is to be done. No disk, no clock, no randomness.
//!
//! The same index gives the same plan, byte for byte; a plan lists copies in walk order (a directory before
//! what is in it) and deletes in reverse (what is in a directory before it). What is not known is never
//! taken for absent. Each mode has a law of one name (`mirror`, `bidirectional`, `selective`), all share one walk (`merge`).

mod base;
mod bidirectional;
mod busy;
mod copies;
mod decision;
mod fold;
mod frames;
mod items;
mod merge;
mod mirror;
mod moves;
mod places;
mod replay;
mod rule;
mod scope;
mod selective;
mod touched;
mod view;
mod walk;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

pub use self::replay::{Decided, Difference, EndFacts, Replay};
pub use self::rule::{Rule, Why};
pub use self::view::{BaseChange, BaseView, Circumstances, ConduitView, NoBase, Side, SideView};

pub(super) use self::moves::pair as pair_moves;
pub(super) use self::replay::compare;

use self::merge::Merge;
use self::scope::Scope;
use self::walk::Span;
use super::safety::{self, Toll};
use super::{Conflict, Item, Plan, Skip, SyncMode};
use crate::hash::ContentHash;
use crate::id::ConduitId;
use crate::index::RuleError;
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
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// The token was granted for another conduit.
    #[error("the gate was opened for {opened:?}, not for {asked:?}")]
    OtherConduit {
        /// For which it was granted.
        opened: ConduitId,
        /// Which was to be resolved.
        asked: ConduitId,
    },
    /// A pattern of the selection, or of rules that were kept.
    #[error("a pattern is not understood: {0}")]
    Selection(#[from] RuleError),
}

/// What a resolve found, before guards and sums.
#[derive(Default)]
struct Findings {
    /// By the end that changes.
    ops: [DirectionalOps; 2],
    conflicts: Vec<Conflict>,
    skips: Vec<Skip>,
    /// By end, the content of every file or link that goes to the trash with a directory that is replaced whole;
    /// `None` for what has no content to look up again.
    displaced: [Vec<Option<ContentHash>>; 2],
    drift_healed: u64,
    /// Files and links of a one-way target that would be displaced in a state that the source's does not follow from.
    unseen: u64,
}

impl Findings {
    const fn on(&mut self, side: Side) -> &mut DirectionalOps {
        &mut self.ops[side as usize]
    }
}

/// The one function from index to plan.
pub struct SyncResolver;

impl SyncResolver {
    /// Resolves one conduit. The token proves that the view is not stale; its heads go into the plan's id.
    pub fn resolve(synced: LibrarySynced, view: &ConduitView<'_>) -> Result<Plan, ResolveError> {
        check(&synced, view)?;
        let scope = scope(view)?;
        let [source, target] = busy::calm(view, &synced);
        if source.is_whole() && target.is_whole() {
            let findings = Merge::decide(view, Some(&synced), scope.as_ref(), &[Span::All]);
            return Ok(conclude(synced, view, findings));
        }
        let view = ConduitView { source: &source, target: &target, ..*view };
        let mut findings = Merge::decide(&view, Some(&synced), scope.as_ref(), &[Span::All]);
        busy::spare(&mut findings, [&source, &target]);
        Ok(conclude(synced, &view, findings))
    }

    /// Resolves one conduit at the cost of what changed. Gives the plan that [`SyncResolver::resolve`] gives.
    ///
    /// `touched` holds at least every path of which either end's row changed since the heads of
    /// `view.baseline`; `previous` is the plan that was resolved at those heads and found empty, and `view.base` is
    /// what [`SyncResolver::base_changes`] made of it. If there is no such plan to go on from, or rules changed
    /// since, or what is selected hangs on more than each path, or paths are in constant use, everything is visited.
    pub fn resolve_touched(
        synced: LibrarySynced,
        view: &ConduitView<'_>,
        touched: &BTreeSet<EntryPath>,
        previous: &Plan,
    ) -> Result<Plan, ResolveError> {
        check(&synced, view)?;
        let scope = scope(view)?;
        if synced.names_busy() || !touched::can_follow(view, scope.as_ref(), previous) {
            return Self::resolve(synced, view);
        }
        let touched = touched::with_listed(view, touched, previous);
        let spans = touched::spans(view, scope.as_ref(), &touched, previous);
        let mut findings = Merge::decide(view, Some(&synced), scope.as_ref(), &spans);
        touched::carry_over(&mut findings, &spans, previous);
        Ok(conclude(synced, view, findings))
    }

    /// How the base rows change when an empty plan is verified over `view`: at the `touched` paths, or everywhere.
    /// In path order; only real changes are named.
    pub fn base_changes(
        view: &ConduitView<'_>,
        touched: Option<&BTreeSet<EntryPath>>,
    ) -> Result<Vec<(EntryPath, BaseChange)>, ResolveError> {
        Ok(base::changes(view, scope(view)?.as_ref(), touched).into_iter().collect())
    }

    /// Which facts and which rule decide the fate of one path. Nothing is planned, so no gate is asked.
    pub fn why(view: &ConduitView<'_>, path: &EntryPath) -> Result<Why, ResolveError> {
        let scope = scope(view)?;
        let span = touched::span_of(view, scope.as_ref(), path);
        let (findings, rule) = Merge::explain(view, scope.as_ref(), &[span], path);
        let (source, target, base) = (view.source.entry(path), view.target.entry(path), view.base.entry(path));
        let about = |conflict: &&Conflict| conflict.path == *path || path.is_below(&conflict.path);
        let rule = rule.unwrap_or_else(|| if view.is_outside(path) { Rule::Hidden } else { Rule::InStep });
        Ok(Why { source, target, base, rule, conflict: findings.conflicts.iter().find(about).cloned() })
    }
}

fn check(synced: &LibrarySynced, view: &ConduitView<'_>) -> Result<(), ResolveError> {
    if synced.conduit() != view.conduit.id {
        return Err(ResolveError::OtherConduit { opened: synced.conduit(), asked: view.conduit.id });
    }
    Ok(())
}

fn scope(view: &ConduitView<'_>) -> Result<Option<Scope>, ResolveError> {
    match view.conduit.mode {
        SyncMode::Selective => Ok(Some(Scope::new(view)?)),
        SyncMode::Mirror | SyncMode::Bidirectional => Ok(None),
    }
}

fn conclude(synced: LibrarySynced, view: &ConduitView<'_>, mut findings: Findings) -> Plan {
    findings.ops.iter_mut().for_each(moves::pair);
    let tolls = Side::BOTH.map(|side| Toll::of(&findings.ops[side as usize], &findings.displaced[side as usize]));
    let halts = safety::halts(view, &tolls, findings.unseen);
    let [target_to_source, source_to_target] = findings.ops;
    let operations = SyncOperations { source_to_target, target_to_source, conflicts: findings.conflicts };
    let totals = safety::totals(&operations, &tolls, findings.drift_healed);
    let definition = view.conduit.definition();
    Plan::new(view.conduit.id, definition, synced.into_heads(), operations, halts, findings.skips, totals)
}
