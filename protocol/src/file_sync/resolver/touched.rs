//! Incremental resolve: which part of both ends has to be walked again after some rows changed.
//!
//! It rests on this: at the baseline the plan was empty, so a path whose rows did not change since, and
//! above and below which nothing changed that matters to it, has nothing to be done. What the plan of that
//! time listed about it (conflicts, skips) still holds. What matters from above is that all directories
//! are directories on both ends (and selected); what matters from below is whether a directory that has to go can go.

use std::collections::BTreeSet;

use super::selective::{self, Scope};
use super::walk::Span;
use super::{ConduitView, Findings, Side};
use crate::file_sync::{ConflictKind, Plan};
use crate::index::{EntryKind, EntryState};
use crate::path::EntryPath;

/// Whether `previous` is a state to go on from.
pub(super) fn can_follow(view: &ConduitView<'_>, scope: Option<&Scope>, previous: &Plan) -> bool {
    view.baseline.is_some_and(|baseline| {
        previous.is_empty()
            && previous.conduit == view.conduit.id
            && previous.definition == view.conduit.definition()
            && previous.heads == baseline.heads
            && baseline.rules == (view.source.rules_hash(), view.target.rules_hash())
            && !view.folds()
            && !scope.is_some_and(Scope::moves)
    })
}

/// What changed besides rows: paths that a person has ruled on, and those whose base row went with the last plan.
pub(super) fn with_listed(
    view: &ConduitView<'_>,
    touched: &BTreeSet<EntryPath>,
    previous: &Plan,
) -> BTreeSet<EntryPath> {
    let ruled = view.circumstances.rulings.iter().map(|ruling| &ruling.path);
    let drift = previous.conflicts().iter().filter(|conflict| conflict.kind == ConflictKind::Drift);
    touched.iter().chain(ruled).chain(drift.map(|conflict| &conflict.path)).cloned().collect()
}

/// The subtrees to walk: disjoint, in path order, all directories above them being directories on both ends.
pub(super) fn spans(
    view: &ConduitView<'_>,
    scope: Option<&Scope>,
    touched: &BTreeSet<EntryPath>,
    previous: &Plan,
) -> Vec<Span> {
    let listed: BTreeSet<&EntryPath> = listed(previous).collect();
    let mut spans: Vec<Span> = Vec::new();
    let mut common: Vec<EntryPath> = Vec::new();
    for path in touched {
        if spans.last().is_some_and(|span| covers(span, path)) {
            continue;
        }
        let Some(top) = topmost_mismatch(view, scope, path, &mut common) else {
            // A directory on both ends. What is in it has to be walked only if it was something else before.
            let was_listed = listed.contains(path);
            spans.push(if was_listed { Span::Subtree(path.clone()) } else { Span::Only(path.clone()) });
            continue;
        };
        // The topmost mismatch of a path is that of everything below it, so spans are disjoint and in order.
        // What rules put outside is never listed and keeps nothing above it, as that is in step.
        if !view.is_outside(&top) {
            spans.push(Span::Subtree(top));
        }
    }
    spans
}

/// The span that decides about one path.
pub(super) fn span_of(view: &ConduitView<'_>, scope: Option<&Scope>, path: &EntryPath) -> Span {
    if view.folds() {
        return Span::All;
    }
    topmost_mismatch(view, scope, path, &mut Vec::new()).map_or_else(|| Span::Only(path.clone()), Span::Subtree)
}

fn covers(span: &Span, path: &EntryPath) -> bool {
    match span {
        Span::All => true,
        Span::Subtree(top) => path == top || path.is_below(top),
        Span::Only(only) => path == only,
    }
}

/// The topmost of `path` and its ancestors that is not a directory on both ends, or not a selected one; `None` if all
/// of them are.
///
/// `common` keeps the ancestors of the path before that are known to be such directories, so that many touched
/// paths of one directory ask for it once.
fn topmost_mismatch(
    view: &ConduitView<'_>,
    scope: Option<&Scope>,
    path: &EntryPath,
    common: &mut Vec<EntryPath>,
) -> Option<EntryPath> {
    while common.last().is_some_and(|dir| !path.is_below(dir)) {
        common.pop();
    }
    let known = common.len();
    let mut ancestors: Vec<EntryPath> = path.ancestors().collect();
    ancestors.reverse();
    for dir in ancestors.into_iter().skip(known).chain([path.clone()]) {
        let is_directory = |side| {
            let row = view.side(side).entry(&dir);
            let entry = row.as_ref().and_then(EntryState::present);
            entry.is_some_and(|entry| matches!(entry.kind, EntryKind::Directory { .. }))
        };
        let is_passed = scope.is_none_or(|scope| selective::passes(scope, &dir));
        if !is_passed || !Side::BOTH.into_iter().all(is_directory) {
            return Some(dir);
        }
        common.push(dir);
    }
    None
}

/// Adds what `previous` listed outside the spans.
pub(super) fn carry_over(findings: &mut Findings, spans: &[Span], previous: &Plan) {
    let top = |span: &Span| match span {
        Span::All => None,
        Span::Subtree(top) | Span::Only(top) => Some(top.clone()),
    };
    let tops: Vec<Option<EntryPath>> = spans.iter().map(top).collect();
    let is_old = |path: &EntryPath| {
        let next = tops.partition_point(|top| top.as_ref().is_none_or(|top| top <= path));
        next == 0 || !covers(&spans[next - 1], path)
    };
    findings.conflicts.extend(previous.conflicts().iter().filter(|old| is_old(&old.path)).cloned());
    findings.skips.extend(previous.skips.iter().filter(|old| is_old(&old.path)).cloned());
}

fn listed(plan: &Plan) -> impl Iterator<Item = &EntryPath> {
    plan.conflicts().iter().map(|conflict| &conflict.path).chain(plan.skips.iter().map(|skip| &skip.path))
}
