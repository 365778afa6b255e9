//! Bidirectional: both ends follow each other. The law of one name, by evidence in this order: equal content; the
//! later version; the only side that changed since the base; the strategy, or a person's ruling.
//!
//! Invariants: a result that not all its inputs led to carries a new event of the conduit, so no other conduit takes
//! it for one of them; what is decided depends on facts alone, never on which end is called source, but where a
//! strategy says so.

use super::decision::{Decision, Fate, Leave, Winner};
use super::walk::{Node, Nodes};
use super::{ConduitView, Rule, Side};
use crate::file_sync::conflict::{ConflictResolver, Settled};
use crate::file_sync::names::same_spelling;
use crate::file_sync::{Conflict, ConflictKind};
use crate::index::{EntryKind, EntryState, FileFacts, Version, VersionOrder};
use crate::path::EntryPath;

/// Decides a name. `nodes` are those that follow it.
pub(super) fn decide(view: &ConduitView<'_>, node: &Node, nodes: &mut Nodes<'_>) -> Decision {
    let case = Case { view, node };
    let directory = Side::BOTH.map(|side| node.is_directory(side));
    match (directory, node.kind(Side::Source), node.kind(Side::Target)) {
        (_, None, None) => Decision::stay(Rule::InStep),
        ([true, true], ..) => case.agree(),
        ([true, false], _, None) => case.only_directory(Side::Source),
        ([false, true], None, _) => case.only_directory(Side::Target),
        ([true, false], ..) => case.directory_and_leaf(Side::Source, nodes),
        ([false, true], ..) => case.directory_and_leaf(Side::Target, nodes),
        ([false, false], ..) => case.leaves(),
    }
}

/// One name and everything that decides it.
struct Case<'a, 'v> {
    view: &'a ConduitView<'v>,
    node: &'a Node,
}

impl Case<'_, '_> {
    /// The version of a result: `version`, if it has seen everything the other side has; else a new event on top.
    fn above(&self, version: &Version, other: &Version) -> Version {
        if version.covers(other) { version.clone() } else { self.stamped(&version.join(other)) }
    }

    fn stamped(&self, version: &Version) -> Version {
        let mut version = version.clone();
        version.bump(self.view.conduit.actor(), 0);
        version
    }

    fn won_by(&self, rule: Rule, side: Side) -> Decision {
        let version = self.above(self.node.version(side), self.node.version(side.other()));
        Decision::follow(rule, side, version)
    }

    /// How the versions relate, as far as they speak of the same name. Where names fold, what was agreed on under one
    /// spelling carries its events into another; so both ends must have agreed on this very spelling.
    fn order(&self) -> Option<VersionOrder> {
        let (source, target) = (self.node.row(Side::Source)?, self.node.row(Side::Target)?);
        if let Some(spelled) = &self.node.spelled {
            let base = spelled.base.as_ref()?;
            let is_base =
                |at: &Option<EntryPath>| at.as_ref().is_some_and(|at| same_spelling(at.as_stored(), base.as_stored()));
            if !spelled.at.iter().all(is_base) {
                return None;
            }
        }
        Some(source.version().compare(target.version()))
    }

    fn base_is(&self, side: Side) -> bool {
        let kinds = self.node.base.as_ref().zip(self.node.kind(side));
        kinds.is_some_and(|(base, kind)| base.same_content(kind))
    }

    /// Both have the same content: versions are joined, and times and bits merged.
    fn agree(&self) -> Decision {
        let node = self.node;
        let joined = node.joined();
        let (EntryKind::File(source), EntryKind::File(target)) = (self.known(Side::Source), self.known(Side::Target))
        else {
            return Decision::of(Rule::Adopted, Fate::Agree(joined, None));
        };
        let order = self.order();
        let file = match order {
            Some(VersionOrder::After) => *source,
            Some(VersionOrder::Before) => *target,
            Some(VersionOrder::Equal | VersionOrder::Concurrent) | None => self.merged(source, target),
        };
        let is_merge = source != target && !matches!(order, Some(VersionOrder::After | VersionOrder::Before));
        let version = if is_merge { self.stamped(&joined) } else { joined };
        Decision::of(Rule::Adopted, Fate::Agree(version, Some(file)))
    }

    /// The content of `winner` with the bits of both merged against the base, and the later time.
    fn merged(&self, winner: &FileFacts, other: &FileFacts) -> FileFacts {
        let same_content = winner.content == other.content;
        let Some(EntryKind::File(base)) = &self.node.base else {
            let executable = winner.executable || (same_content && other.executable);
            let mtime_ns = if same_content { winner.mtime_ns.max(other.mtime_ns) } else { winner.mtime_ns };
            return FileFacts { mtime_ns, executable, ..*winner };
        };
        let executable = if winner.executable == base.executable { other.executable } else { winner.executable };
        let mtime_ns = match (winner.mtime_ns == base.mtime_ns, other.mtime_ns == base.mtime_ns) {
            _ if !same_content => winner.mtime_ns,
            (true, _) => other.mtime_ns,
            (false, true) => winner.mtime_ns,
            (false, false) => winner.mtime_ns.max(other.mtime_ns),
        };
        FileFacts { mtime_ns, executable, ..*winner }
    }

    fn known(&self, side: Side) -> &EntryKind {
        self.node.kind(side).expect("asked of a side that has the entry")
    }

    /// Neither side has a directory, and at least one has something.
    fn leaves(&self) -> Decision {
        let node = self.node;
        let kinds = (node.kind(Side::Source), node.kind(Side::Target));
        if let (Some(source), Some(target)) = kinds
            && source.same_content(target)
        {
            return self.agree();
        }
        match self.order() {
            Some(VersionOrder::After) => return self.won_by(Rule::LaterVersion, Side::Source),
            Some(VersionOrder::Before) => return self.won_by(Rule::LaterVersion, Side::Target),
            // The same events, and only one end has it: the other was emptied without an event.
            Some(VersionOrder::Equal) if kinds.0.is_none() || kinds.1.is_none() => {
                return Decision::of(Rule::EvictedElsewhere, Fate::Hold);
            }
            Some(VersionOrder::Equal | VersionOrder::Concurrent) | None => {}
        }
        if let Some(base) = &node.base {
            return self.against_base(base);
        }
        match kinds {
            (Some(source), Some(target)) if is_same_kind(source, target) => self.conflict(ConflictKind::CreateCreate),
            (Some(_), Some(_)) => self.conflict(ConflictKind::TypeMismatch),
            (Some(_), None) => self.only_leaf(Side::Source),
            (None, _) => self.only_leaf(Side::Target),
        }
    }

    /// Only one side has it, and nothing is known of an agreement.
    fn only_leaf(&self, side: Side) -> Decision {
        let is_related = self.node.version(side).is_related(self.node.version(side.other()));
        if is_related { self.conflict(ConflictKind::DeleteModify) } else { self.won_by(Rule::New, side) }
    }

    fn against_base(&self, base: &EntryKind) -> Decision {
        let kinds = (self.node.kind(Side::Source), self.node.kind(Side::Target));
        match (self.base_is(Side::Source), self.base_is(Side::Target)) {
            (true, _) => self.one_sided(Side::Target),
            (false, true) => self.one_sided(Side::Source),
            (false, false) => match kinds {
                (Some(source), Some(target)) if is_same_kind(source, target) && is_same_kind(source, base) => {
                    self.conflict(ConflictKind::BothModified)
                }
                (Some(_), Some(_)) => self.conflict(ConflictKind::TypeMismatch),
                (None, Some(kind)) if !is_same_kind(kind, base) => {
                    self.won_by(Rule::KindReplacesDeletion, Side::Target)
                }
                (Some(kind), None) if !is_same_kind(kind, base) => {
                    self.won_by(Rule::KindReplacesDeletion, Side::Source)
                }
                (None, _) | (_, None) => self.conflict(ConflictKind::DeleteModify),
            },
        }
    }

    /// Only `side` changed; a bit that the other one set stays set.
    fn one_sided(&self, side: Side) -> Decision {
        let mut decision = self.won_by(Rule::OneSided, side);
        if let (Some(EntryKind::File(new)), Some(EntryKind::File(old)), Fate::Follow(winner)) =
            (self.node.kind(side), self.node.kind(side.other()), &mut decision.fate)
        {
            winner.file = Some(self.merged(new, old));
        }
        decision
    }

    /// A directory on `side`, nothing on the other.
    fn only_directory(&self, side: Side) -> Decision {
        let (version, other) = (self.node.version(side), self.node.version(side.other()));
        let is_known = self.order().is_some();
        let is_gone = is_known && other.covers(version);
        if is_gone && version.covers(other) {
            return Decision::stay(Rule::EvictedElsewhere);
        }
        let was_one = matches!(self.node.base, Some(EntryKind::Directory { .. }));
        let is_later = is_known && version.covers(other);
        if is_gone || (was_one && !is_later) {
            let leave = Leave {
                side,
                version: self.above(other, version),
                made_again: Some(self.stamped(&self.node.joined())),
            };
            return Decision::of(Rule::DirectoryGoes, Fate::Leave(leave));
        }
        let rule = if is_later { Rule::LaterVersion } else { Rule::New };
        self.won_by(rule, side)
    }

    /// A directory on `side`, a file or link on the other.
    fn directory_and_leaf(&self, side: Side, nodes: &mut Nodes<'_>) -> Decision {
        let node = self.node;
        let (directory, leaf) = (node.version(side), node.version(side.other()));
        // Versions speak of one path. Whether the leaf's end has seen what is below the directory is said by its own
        // rows there: tombstones of what it had, or of what it won over.
        let is_known = self.order().is_some();
        let mut covers_all = is_known && leaf.covers(directory);
        let mut all_seen = covers_all || matches!(node.base, Some(EntryKind::Directory { .. }));
        for below in nodes.below(&node.key) {
            let Some(entry) = below.entry(side) else { continue };
            let is_covered = is_known && below.version(side.other()).covers(&entry.version);
            covers_all &= is_covered;
            all_seen &= is_covered || below.base.as_ref().is_some_and(|base| base.same_content(&entry.kind));
        }
        let leaf_wins = |rule| self.won_by(rule, side.other());
        if covers_all {
            leaf_wins(Rule::LaterVersion)
        } else if is_known && directory.covers(leaf) {
            self.won_by(Rule::LaterVersion, side)
        } else if all_seen {
            leaf_wins(Rule::OneSided)
        } else if self.base_is(side.other()) {
            self.won_by(Rule::OneSided, side)
        } else {
            let below: Vec<&Node> = nodes.below(&node.key).collect();
            let facts = Conflict::facts_of(std::iter::once(node).chain(below.iter().copied()).map(rows));
            let (decision, settled) = self.settle(ConflictKind::TypeMismatch, facts);
            let version = self.stamped(&node.joined());
            let fate = match settled {
                Settled::Held => Fate::Hold,
                Settled::Source => Fate::Follow(Winner { side: Side::Source, version, file: None, whole: true }),
                Settled::Target => Fate::Follow(Winner { side: Side::Target, version, file: None, whole: true }),
                Settled::Both => Fate::KeepBoth(version),
                Settled::Given(file) => Fate::Give(version, file),
            };
            Decision { fate, ..decision }
        }
    }

    /// Both sides changed in ways that differ, and neither has a directory.
    fn conflict(&self, kind: ConflictKind) -> Decision {
        let (decision, settled) = self.settle(kind, Conflict::facts_of(std::iter::once(rows(self.node))));
        let version = self.stamped(&self.node.joined());
        let follow = |side| Fate::Follow(Winner { side, version: version.clone(), file: None, whole: false });
        let fate = match settled {
            Settled::Held => Fate::Hold,
            Settled::Source => follow(Side::Source),
            Settled::Target => follow(Side::Target),
            Settled::Both => Fate::KeepBoth(version),
            Settled::Given(file) => Fate::Give(version, file),
        };
        Decision { fate, ..decision }
    }

    /// Who decides, and how; the fate is for the caller to fill in.
    fn settle(&self, kind: ConflictKind, facts: crate::hash::ContentHash) -> (Decision, Settled) {
        let circumstances = &self.view.circumstances;
        let rulings = circumstances.rulings.iter();
        let ruling =
            rulings.filter(|r| r.facts == facts && r.conduit == self.view.conduit.id).max_by_key(|r| r.decision.stamp);
        let resolver = ConflictResolver {
            strategy: self.view.conduit.settings.strategy.value,
            now_ms: circumstances.now_ms,
            clock_doubt_ms: circumstances.clock_doubt_ms,
        };
        let (source, target) = (self.node.kind(Side::Source), self.node.kind(Side::Target));
        let settled = resolver.settle(ruling.map(|ruling| ruling.decision.value), source, target);
        let rule = match (&settled, ruling) {
            (Settled::Held, _) => Rule::WaitsForRuling,
            (Settled::Source | Settled::Target | Settled::Both | Settled::Given(_), Some(_)) => Rule::Ruled,
            (Settled::Source | Settled::Target | Settled::Both | Settled::Given(_), None) => Rule::Strategy,
        };
        (Decision::of(rule, Fate::Hold).listed(kind), settled)
    }
}

/// The rows of a name, for a conflict's facts.
pub(super) fn rows(node: &Node) -> (&EntryPath, [Option<&EntryState>; 2]) {
    (&node.key, Side::BOTH.map(|side| node.row(side)))
}

const fn is_same_kind(a: &EntryKind, b: &EntryKind) -> bool {
    use EntryKind::{Directory, File, Special, Symlink, Unknown};
    matches!(
        (a, b),
        (File(_), File(_))
            | (Symlink { .. }, Symlink { .. })
            | (Directory { .. }, Directory { .. })
            | (Special, Special)
            | (Unknown(_), Unknown(_))
    )
}
