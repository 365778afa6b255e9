//! Selective: the target holds what a selection admits of the source. The law of one name.
//!
//! The source is never written. What the target's own user changed or made is never replaced or removed, unless the
//! strategy says that the source wins. What is merely deselected leaves only if the source holds the same.

use super::decision::{Decision, Fate, Leave};
use super::walk::{Node, Nodes};
use super::{ConduitView, Rule, Side};
use crate::file_sync::{ConflictKind, ConflictStrategy};
use crate::index::EntryKind;
use crate::path::EntryPath;

pub(super) use super::scope::Scope;

/// Decides a name. `nodes` are those that follow it.
pub(super) fn decide(view: &ConduitView<'_>, scope: &Scope, node: &Node, nodes: &mut Nodes<'_>) -> Decision {
    let case = Case { node, is_admitted: admits(scope, node), source_wins: source_wins(view) };
    let [source, target] = Side::BOTH.map(|side| node.kind(side));
    let directories = Side::BOTH.map(|side| node.is_directory(side));
    match (source, target, directories) {
        (None, None, _) => Decision::stay(Rule::InStep),
        (Some(_), Some(_), [true, true]) if case.is_admitted => Decision::stay(Rule::InStep),
        (Some(_), Some(_), [true, true]) if is_ours(node) => Decision::of(Rule::HoldsSelected, Fate::Wrap),
        (Some(_), None, [true, _]) if !case.is_admitted => Decision::of(Rule::HoldsSelected, Fate::Wrap),
        (Some(_), Some(_), [true, false]) => case.directory_over_leaf(scope, nodes),
        (Some(_), Some(_), [false, true]) if case.is_admitted => case.leaf_over_directory(nodes),
        (_, Some(_), [_, true]) if is_ours(node) => {
            let leave = Leave { side: Side::Target, version: node.joined(), made_again: None };
            let rule = if case.is_admitted { Rule::DeletedOnSource } else { Rule::DeselectedLastCopy };
            Decision::of(rule, Fate::Leave(leave))
        }
        (_, Some(_), [_, true]) => Decision::stay(Rule::NotOurs),
        (source, target, _) if case.is_admitted => case.admitted(source, target),
        (source, target, _) => case.deselected(source, target),
    }
}

/// Whether the target has what it got from the source: what both last agreed on, or a state that the source's own
/// follows from, which an unverified run has put there.
pub(super) fn is_ours(node: &Node) -> bool {
    let is_base = node.base.as_ref().zip(node.kind(Side::Target)).is_some_and(|(base, kind)| base.same_content(kind));
    let is_known = node.spelled.is_none() && node.row(Side::Source).is_some();
    is_base || (is_known && node.version(Side::Source).covers(node.version(Side::Target)))
}

/// Whether the selection admits a name.
pub(super) fn admits(scope: &Scope, node: &Node) -> bool {
    let kind = node.kind(Side::Source).or_else(|| node.kind(Side::Target));
    scope.admits(node.path(), kind)
}

fn source_wins(view: &ConduitView<'_>) -> bool {
    match view.conduit.settings.strategy.value {
        ConflictStrategy::SourceWins => true,
        ConflictStrategy::NewestWins
        | ConflictStrategy::TargetWins
        | ConflictStrategy::LargestWins
        | ConflictStrategy::CreateConflictFile
        | ConflictStrategy::PromptUser => false,
    }
}

struct Case<'a> {
    node: &'a Node,
    is_admitted: bool,
    source_wins: bool,
}

impl Case<'_> {
    fn put(&self, rule: Rule) -> Decision {
        Decision::follow(rule, Side::Source, self.node.joined())
    }

    /// The target's own is in the way.
    fn drift(&self) -> Decision {
        if self.source_wins {
            return self.put(Rule::Strategy);
        }
        Decision::of(Rule::Drift, Fate::Hold).listed(ConflictKind::Drift)
    }

    fn admitted(&self, source: Option<&EntryKind>, target: Option<&EntryKind>) -> Decision {
        match (source, target) {
            (Some(EntryKind::File(file)), Some(kind @ EntryKind::File(_)))
                if EntryKind::File(*file).same_content(kind) =>
            {
                Decision::of(Rule::Adopted, Fate::Agree(self.node.joined(), Some(*file)))
            }
            (Some(source), Some(target)) if source.same_content(target) => Decision::stay(Rule::InStep),
            (Some(_), None) => self.put(Rule::Selected),
            (Some(_), Some(_)) if is_ours(self.node) => self.put(Rule::Selected),
            (Some(_), Some(_)) => self.drift(),
            (None, _) if is_ours(self.node) => self.put(Rule::DeletedOnSource),
            (None, _) if self.node.base.is_some() => Decision::stay(Rule::Drift).listed(ConflictKind::Drift),
            (None, _) => Decision::stay(Rule::NotOurs),
        }
    }

    fn deselected(&self, source: Option<&EntryKind>, target: Option<&EntryKind>) -> Decision {
        match (source, target) {
            (_, None) => Decision::stay(Rule::InStep),
            (_, Some(_)) if !is_ours(self.node) => Decision::stay(Rule::NotOurs),
            (Some(source), Some(target)) if source.same_content(target) => Decision::of(Rule::Evicted, Fate::Evict),
            (_, Some(_)) => Decision::of(Rule::DeselectedLastCopy, Fate::Discard),
        }
    }

    /// A directory on the source, a file or link on the target.
    fn directory_over_leaf(&self, scope: &Scope, nodes: &mut Nodes<'_>) -> Decision {
        if is_ours(self.node) {
            let wrap = Decision::of(Rule::HoldsSelected, Fate::Wrap);
            return if self.is_admitted { self.put(Rule::Selected) } else { wrap };
        }
        let is_wanted = self.is_admitted
            || nodes.below(&self.node.key).any(|below| below.entry(Side::Source).is_some() && admits(scope, below));
        if is_wanted { self.drift() } else { Decision::of(Rule::NotOurs, Fate::Hold) }
    }

    /// A file or link on the source, a directory on the target.
    fn leaf_over_directory(&self, nodes: &mut Nodes<'_>) -> Decision {
        let all_ours = is_ours(self.node)
            && nodes.below(&self.node.key).all(|below| below.entry(Side::Target).is_none() || is_ours(below));
        if all_ours { self.put(Rule::Selected) } else { self.drift() }
    }
}

/// Whether a directory that both ends have is passed through without a thought.
pub(super) fn passes(scope: &Scope, path: &EntryPath) -> bool {
    scope.admits(path, Some(&EntryKind::Directory { residue: false }))
}
