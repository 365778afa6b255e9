//! The walk that all modes share: takes each name's decision from the mode's law and turns it into items.
//!
//! Invariants: nothing is decided about a path that is hidden, special, unknown, not storable or held, nor about
//! anything below it; a directory goes only together with everything that is known to be in it; nothing is put on an
//! end before the directory that holds it; a one-way conduit never writes its source.

use super::decision::{Decision, Fate, Leave};
use super::frames::{Frame, Inside, Kept};
use super::places::Places;
use super::selective::Scope;
use super::walk::{Node, Nodes, Span};
use super::{ConduitView, Findings, Rule, Side, bidirectional, mirror, selective};
use crate::file_sync::{Conflict, ConflictKind, ConflictOutcome, Skip, SkipCause, SyncMode};
use crate::id::Sequence;
use crate::index::{EntryKind, EntryState};
use crate::library_sync::LibrarySynced;
use crate::path::EntryPath;

/// One walk over both ends, in path order.
pub(super) struct Merge<'a> {
    pub(super) view: &'a ConduitView<'a>,
    scope: Option<&'a Scope>,
    /// Rows of the target above this were written after the baseline.
    verified_upto: Option<Sequence>,
    /// The path, if any, below which nothing is decided.
    outside: Option<EntryPath>,
    /// Open directories, outermost first.
    pub(super) frames: Vec<Frame>,
    pub(super) places: Places,
    pub(super) found: Findings,
    /// The one path whose rule is asked for.
    asked: Option<(&'a EntryPath, Option<Rule>)>,
}

impl<'a> Merge<'a> {
    /// Decides every path of the spans, which are disjoint, in order, and rooted in directories on both ends.
    pub(super) fn decide(
        view: &'a ConduitView<'a>,
        synced: Option<&LibrarySynced>,
        scope: Option<&'a Scope>,
        spans: &[Span],
    ) -> Findings {
        let mut merge = Self::new(view, synced, scope);
        merge.run(spans);
        merge.found
    }

    /// Decides the spans, and says which rule decided about `path`.
    pub(super) fn explain(
        view: &'a ConduitView<'a>,
        scope: Option<&'a Scope>,
        spans: &[Span],
        path: &'a EntryPath,
    ) -> (Findings, Option<Rule>) {
        let mut merge = Self::new(view, None, scope);
        merge.asked = Some((path, None));
        merge.run(spans);
        (merge.found, merge.asked.and_then(|(_, rule)| rule))
    }

    fn new(view: &'a ConduitView<'a>, synced: Option<&LibrarySynced>, scope: Option<&'a Scope>) -> Self {
        Self {
            view,
            scope,
            verified_upto: synced.and_then(|synced| verified_upto(view, synced)),
            outside: None,
            frames: Vec::new(),
            places: Places::new(view),
            found: Findings::default(),
            asked: None,
        }
    }

    fn run(&mut self, spans: &[Span]) {
        for span in spans {
            let mut nodes = Nodes::of(self.view, span);
            while let Some(node) = nodes.next() {
                self.visit(&node, &mut nodes);
            }
            self.close_all_but(None);
            self.outside = None;
        }
    }

    fn visit(&mut self, node: &Node, nodes: &mut Nodes<'_>) {
        self.close_all_but(Some(&node.key));
        let shortcut = self.scope.is_none() && node.spelled.is_none() && self.is_in_step(node);
        if shortcut {
            self.note(node, Rule::InStep);
            self.stay(node, Kept::Quietly);
            return;
        }
        self.hold_twins(node);
        if let Some(rule) = self.why_beyond(node) {
            self.note(node, rule);
            return;
        }
        let decision = match self.frames.last().map(|frame| &frame.inside) {
            None | Some(Inside::Law) => self.law(node, nodes),
            Some(Inside::Goes(side, version)) => goes(node, *side, version.join(&node.joined())),
            Some(Inside::Wins(side)) => wins(self.view, node, *side),
            Some(Inside::SetAside(..)) => Decision::stay(Rule::WithItsDirectory),
        };
        self.note(node, decision.rule);
        self.carry_out(node, decision, nodes);
    }

    fn law(&self, node: &Node, nodes: &mut Nodes<'_>) -> Decision {
        match (self.view.conduit.mode, self.scope) {
            (SyncMode::Mirror, _) => mirror::decide(node),
            (SyncMode::Bidirectional, _) => bidirectional::decide(self.view, node, nodes),
            (SyncMode::Selective, Some(scope)) => selective::decide(self.view, scope, node, nodes),
            (SyncMode::Selective, None) => unreachable!("a selective resolve begins with its scope"),
        }
    }

    /// Both ends have it alike, or neither has it. Nothing of the path has to be asked then, not even its rules.
    fn is_in_step(&self, node: &Node) -> bool {
        let versions = self.view.conduit.mode == SyncMode::Mirror
            || (node.entry(Side::Source).is_none() && node.entry(Side::Target).is_none())
            || node.version(Side::Source) == node.version(Side::Target);
        versions
            && match (node.kind(Side::Source), node.kind(Side::Target)) {
                (None, None) | (Some(EntryKind::Directory { .. }), Some(EntryKind::Directory { .. })) => true,
                (Some(EntryKind::File(a)), Some(EntryKind::File(b))) => a == b,
                (Some(EntryKind::Symlink { target: a }), Some(EntryKind::Symlink { target: b })) => a == b,
                (Some(_), _) | (None, Some(_)) => false,
            }
    }

    fn note(&mut self, node: &Node, rule: Rule) {
        if let Some((path, found)) = &mut self.asked
            && (node.path() == *path || node.at(Side::Target) == Some(*path))
        {
            *found = Some(rule);
        }
    }

    /// Why nothing may be decided about a name or below it; lists why, once for the topmost such path.
    fn why_beyond(&mut self, node: &Node) -> Option<Rule> {
        if self.outside.as_ref().is_some_and(|top| node.key.is_below(top)) {
            return Some(Rule::Frozen);
        }
        let spellings = Side::BOTH.into_iter().filter_map(|side| node.at(side));
        let kept = Kept::ByResidue;
        if spellings.into_iter().any(|path| self.view.is_outside(path)) {
            self.hold(node, kept);
            return Some(Rule::Hidden);
        }
        let frozen = Side::BOTH.into_iter().find_map(|side| Some((side, skip_cause(node.kind(side)?)?)));
        let without = |side: Side| self.frames.last().is_some_and(|frame| !frame.has[side as usize]);
        // A row below a directory that its end does not have: the rows contradict one another, so nothing is
        // concluded from either.
        let orphan = Side::BOTH.into_iter().find(|side| node.entry(*side).is_some() && without(*side));
        if let Some((side, cause)) = frozen.or(orphan.map(|side| (side, SkipCause::Orphan))) {
            if orphan.is_some() {
                Side::BOTH.into_iter().for_each(|side| self.keep_on(side, kept));
            }
            self.found.skips.push(Skip { path: node.path().clone(), side, cause });
            self.hold(node, kept);
            return Some(Rule::Frozen);
        }
        let (kind, rule) = self.not_storable(node)?;
        self.list(node, kind, ConflictOutcome::Held);
        self.hold(node, Kept::Quietly);
        Some(rule)
    }

    /// Whether one end has what the other one cannot store.
    fn not_storable(&self, node: &Node) -> Option<(ConflictKind, Rule)> {
        Side::BOTH.into_iter().find_map(|side| {
            let (kind, rules) = (node.kind(side)?, self.view.side(side.other()).names());
            let is_new = node.entry(side.other()).is_none();
            if is_new && !rules.stores(node.at(side)?.name()) {
                Some((ConflictKind::Unrepresentable, Rule::Unrepresentable))
            } else if matches!(kind, EntryKind::Symlink { .. }) && !rules.links {
                Some((ConflictKind::Unsupported, Rule::Unsupported))
            } else {
                None
            }
        })
    }

    /// Lists the other spellings of a name, which are left alone.
    fn hold_twins(&mut self, node: &Node) {
        let twins = node.spelled.iter().flat_map(|spelled| &spelled.twins);
        for (side, path, kind) in twins {
            let row = self.view.side(*side).entry(path);
            let kind_of =
                |of| row.as_ref().filter(|_| of == *side).and_then(EntryState::present).map(|e| e.kind.clone());
            let mut rows = [None, None];
            rows[*side as usize] = row.as_ref();
            self.found.conflicts.push(Conflict {
                path: path.clone(),
                kind: *kind,
                source: kind_of(Side::Source),
                target: kind_of(Side::Target),
                facts: Conflict::facts_of(std::iter::once((path, rows))),
                outcome: ConflictOutcome::Held,
            });
            self.keep_on(*side, Kept::Quietly);
        }
    }

    /// Nothing is done here or below.
    pub(super) fn hold(&mut self, node: &Node, kept: Kept) {
        self.outside = Some(node.key.clone());
        self.stay(node, kept);
    }

    /// What is there on either end stays.
    pub(super) fn stay(&mut self, node: &Node, kept: Kept) {
        for side in Side::BOTH {
            if node.entry(side).is_some() {
                self.keep_on(side, kept);
            }
        }
    }

    pub(super) fn list(&mut self, node: &Node, kind: ConflictKind, outcome: ConflictOutcome) {
        let rows = std::iter::once(bidirectional::rows(node));
        let conflict = self.conflict(node, kind, Conflict::facts_of(rows), outcome);
        self.found.conflicts.push(conflict);
    }

    pub(super) fn conflict(
        &self,
        node: &Node,
        kind: ConflictKind,
        facts: crate::hash::ContentHash,
        outcome: ConflictOutcome,
    ) -> Conflict {
        let [source, target] = Side::BOTH.map(|side| node.kind(side).cloned());
        Conflict { path: node.path().clone(), kind, source, target, facts, outcome }
    }

    /// Whether what the source has not seen was done on the target itself since the last verified run.
    pub(super) fn is_drift(&self, path: &EntryPath) -> bool {
        let is_new = || match self.verified_upto {
            Some(upto) => self.view.target.sequence(path).is_some_and(|at| at > upto),
            None => true,
        };
        self.view.baseline.is_some() && is_new()
    }
}

/// Everything in a directory that goes, goes.
fn goes(node: &Node, side: Side, version: crate::index::Version) -> Decision {
    let rule = Rule::WithItsDirectory;
    match node.kind(side) {
        None => Decision::stay(Rule::InStep),
        Some(EntryKind::Directory { .. }) => Decision::of(rule, Fate::Leave(Leave { side, version, made_again: None })),
        Some(EntryKind::File(_) | EntryKind::Symlink { .. } | EntryKind::Special | EntryKind::Unknown(_)) => {
            Decision::follow(rule, side.other(), version)
        }
    }
}

/// Everything in a directory that won is put on the other end.
fn wins(view: &ConduitView<'_>, node: &Node, side: Side) -> Decision {
    if node.entry(side).is_none() {
        return Decision::stay(Rule::InStep);
    }
    let (own, other) = (node.version(side), node.version(side.other()));
    let mut version = own.join(other);
    if !own.covers(other) {
        version.bump(view.conduit.actor(), 0);
    }
    Decision::follow(Rule::WithItsDirectory, side, version)
}

const fn skip_cause(kind: &EntryKind) -> Option<SkipCause> {
    match kind {
        EntryKind::Special => Some(SkipCause::Special),
        EntryKind::Unknown(cause) => Some(SkipCause::Unknown(*cause)),
        EntryKind::Directory { .. } | EntryKind::File(_) | EntryKind::Symlink { .. } => None,
    }
}

/// The target's sequence at the baseline, if its numbers still count from there.
fn verified_upto(view: &ConduitView<'_>, synced: &LibrarySynced) -> Option<Sequence> {
    let device = view.conduit.target.device;
    let now = synced.heads().iter().find(|head| head.device == device)?;
    let then = view.baseline?.heads.iter().find(|head| head.device == device)?;
    (now.epoch == then.epoch).then_some(then.sequence)
}
