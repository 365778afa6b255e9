//! Incremental resolve: which part of both ends has to be walked again after some rows changed.
//!
//! It rests on this: at the baseline the plan was empty, so a path whose rows did not change since, and
//! above and below which nothing changed that matters to it, has nothing to be done. What the plan of that
//! time listed about it (conflicts, skips) still holds. What matters from above is that all directories
//! are directories on both ends; what matters from below is whether a directory that has to go can go.

use std::collections::BTreeSet;

use super::{ConduitView, Findings};
use crate::file_sync::Plan;
use crate::index::{EntryKind, EntryState};
use crate::path::EntryPath;

/// Whether `previous` is a state to go on from.
pub(super) fn can_follow(view: &ConduitView<'_>, previous: &Plan) -> bool {
    view.baseline.is_some_and(|baseline| {
        previous.is_empty()
            && previous.conduit == view.conduit.id
            && previous.heads == baseline.heads
            && baseline.rules == (view.source.rules_hash(), view.target.rules_hash())
    })
}

/// The subtrees to walk: disjoint, in path order, all directories above them being directories on both ends.
pub(super) fn spans(view: &ConduitView<'_>, touched: &BTreeSet<EntryPath>, previous: &Plan) -> Vec<EntryPath> {
    let listed: BTreeSet<&EntryPath> = listed(previous).collect();
    let mut spans: Vec<EntryPath> = Vec::new();
    let mut common: Vec<EntryPath> = Vec::new();
    for path in touched {
        if spans.last().is_some_and(|span| path == span || path.is_below(span)) {
            continue;
        }
        let Some(top) = topmost_mismatch(view, path, &mut common) else {
            // A directory on both ends. It has to be walked only if it was something else before.
            if listed.contains(path) {
                spans.push(path.clone());
            }
            continue;
        };
        // The topmost mismatch of a path is that of everything below it, so spans are disjoint and in order.
        // What rules put outside is never listed and keeps nothing above it, as that is in step.
        if !view.is_outside(&top) {
            spans.push(top);
        }
    }
    spans
}

/// The topmost of `path` and its ancestors that is not a directory on both ends; `None` if all of them are.
///
/// `common` keeps the ancestors of the path before that are known to be directories on both ends, so that
/// many touched paths of one directory ask for it once.
fn topmost_mismatch(view: &ConduitView<'_>, path: &EntryPath, common: &mut Vec<EntryPath>) -> Option<EntryPath> {
    while common.last().is_some_and(|dir| !path.is_below(dir)) {
        common.pop();
    }
    let known = common.len();
    let mut ancestors: Vec<EntryPath> = path.ancestors().collect();
    ancestors.reverse();
    for dir in ancestors.into_iter().skip(known).chain([path.clone()]) {
        let is_directory = |row: Option<EntryState>| {
            row.as_ref()
                .and_then(EntryState::present)
                .is_some_and(|entry| matches!(entry.kind, EntryKind::Directory { .. }))
        };
        if !is_directory(view.source.entry(&dir)) || !is_directory(view.target.entry(&dir)) {
            return Some(dir);
        }
        common.push(dir);
    }
    None
}

/// Adds what `previous` listed outside the spans.
pub(super) fn carry_over(findings: &mut Findings, spans: &[EntryPath], previous: &Plan) {
    let is_old = |path: &EntryPath| {
        let next = spans.partition_point(|span| span <= path);
        next == 0 || !(spans[next - 1] == *path || path.is_below(&spans[next - 1]))
    };
    findings.conflicts.extend(previous.conflicts().iter().filter(|old| is_old(&old.path)).cloned());
    findings.skips.extend(previous.skips.iter().filter(|old| is_old(&old.path)).cloned());
}

fn listed(plan: &Plan) -> impl Iterator<Item = &EntryPath> {
    plan.conflicts().iter().map(|conflict| &conflict.path).chain(plan.skips.iter().map(|skip| &skip.path))
}
