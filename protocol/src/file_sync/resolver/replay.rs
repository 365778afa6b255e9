//! Replay: a plan resolved again from what was kept of the index that it came from, and compared byte for byte.
//!
//! A replica is overwritten as the library goes on, so what a plan was decided from is put aside with it: the definition,
//! the circumstances, and of the rows those that the law needs to come to this very plan. Which these are is not
//! guessed: the law is run over them before they are kept, and if it says anything else, more is kept, at last
//! everything. A replay runs the law once more, over the same rows; it gives a verdict, never a plan to be run, and
//! therefore needs no gate.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use serde::{Deserialize, Serialize};

use super::walk::Span;
use super::{Circumstances, ConduitView, ResolveError, Side, SideView, SyncResolver, scope, touched};
use crate::codec;
use crate::file_sync::{Action, Baseline, Conduit, Guards, Item, NameRules, Plan, Root, Ruling};
use crate::hash::ContentHash;
use crate::id::{DeviceId, Label, LocationId, Sequence};
use crate::index::{EntryKind, EntryState, IgnoreRules};
use crate::library_sync::LibrarySynced;
use crate::limits::REPLAY_ROWS_MAX;
use crate::path::{DirPath, EntryPath};

/// Longest text of one side of a difference, in characters.
const SHOWN_CHARS_MAX: usize = 400;

/// What a plan was decided from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decided {
    conduit: Conduit,
    ends: [DecidedEnd; 2],
    base: BTreeMap<EntryPath, EntryKind>,
    baseline: Option<Baseline>,
    guards: Guards,
    rulings: Vec<Ruling>,
    labels: BTreeMap<DeviceId, Label>,
    reads: BTreeMap<EntryPath, u64>,
    now_ms: u64,
    clock_doubt_ms: u64,
}

/// One end, as far as the plan hung on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct DecidedEnd {
    rows: BTreeMap<EntryPath, (EntryState, Option<Sequence>)>,
    rules: Vec<String>,
    rules_hash: ContentHash,
    files: u64,
    top_entries: u64,
    names: NameRules,
    has_root: bool,
    busy: Vec<EntryPath>,
}

/// What a view does not say of an end, and a replay must know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EndFacts {
    /// The location's ignore rules.
    pub rules: Vec<String>,
    /// Paths of the location that were in constant use, as the token named them.
    pub busy: Vec<EntryPath>,
}

/// What a replay found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Replay {
    /// The same plan, byte for byte.
    Identical,
    /// Another one.
    Differs(Difference),
}

/// Where two plans differ first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// In which part.
    pub part: String,
    /// What the stored plan says.
    pub stored: String,
    /// What the law says now.
    pub again: String,
}

impl EndFacts {
    /// The facts of both ends, from the rules of their locations and the token that the gate granted.
    pub fn of(conduit: &Conduit, rules: [&[String]; 2], synced: &LibrarySynced) -> [Self; 2] {
        Side::BOTH.map(|side| {
            let root = root(conduit, side);
            let busy = synced.busy(root.device, root.location).to_vec();
            Self { rules: rules[side as usize].to_vec(), busy }
        })
    }
}

impl Decided {
    /// What `plan` was decided from, as little of it as leads to that plan; `None` if that is more than is kept.
    pub fn of(view: &ConduitView<'_>, facts: [EndFacts; 2], plan: &Plan) -> Result<Option<Self>, ResolveError> {
        let named = Side::BOTH.map(|side| plan.operations.on(side)).map(|ops| ops.copies.len() + ops.deletes.len());
        if named.iter().sum::<usize>() > REPLAY_ROWS_MAX {
            return Ok(None);
        }
        let mut decided = Self::without_rows(view, facts);
        if !decided.take(view, &decided.spans(view, plan)?) {
            return Ok(None);
        }
        if decided.replay(plan)? == Replay::Identical {
            return Ok(Some(decided));
        }
        // Names that were only thought of for conflict copies, and were taken.
        let missed = decided.missed(view, plan)?;
        if !decided.take(view, &missed) {
            return Ok(None);
        }
        if decided.replay(plan)? == Replay::Identical {
            return Ok(Some(decided));
        }
        if !decided.take(view, &[Span::All]) {
            return Ok(None);
        }
        Ok((decided.replay(plan)? == Replay::Identical).then_some(decided))
    }

    /// Runs the law over what was kept, and compares.
    pub fn replay(&self, plan: &Plan) -> Result<Replay, ResolveError> {
        let [source, target] = [self.end(Side::Source, None)?, self.end(Side::Target, None)?];
        self.compare(plan, &source, &target)
    }

    /// Rows that are kept of the source, of the target, and of what both had agreed on.
    pub fn rows(&self) -> (u64, u64, u64) {
        let rows = |side: Side| self.ends[side as usize].rows.len() as u64;
        (rows(Side::Source), rows(Side::Target), self.base.len() as u64)
    }

    fn without_rows(view: &ConduitView<'_>, facts: [EndFacts; 2]) -> Self {
        let mut sides = Side::BOTH.into_iter();
        let ends = facts.map(|EndFacts { rules, busy }| {
            let side = view.side(sides.next().expect("as many facts as sides"));
            DecidedEnd {
                rows: BTreeMap::new(),
                rules,
                rules_hash: side.rules_hash(),
                files: side.file_count(),
                top_entries: side.top_entries(),
                names: side.names(),
                has_root: side.has_root(),
                busy,
            }
        });
        let Circumstances { rulings, labels, reads, now_ms, clock_doubt_ms } = view.circumstances;
        Self {
            conduit: view.conduit.clone(),
            ends,
            base: BTreeMap::new(),
            baseline: view.baseline.cloned(),
            guards: view.guards,
            rulings: rulings.to_vec(),
            labels: labels.clone(),
            reads: reads.clone(),
            now_ms,
            clock_doubt_ms,
        }
    }

    /// The parts of both ends in which the plan names anything: what an incremental resolve would walk.
    fn spans(&self, view: &ConduitView<'_>, plan: &Plan) -> Result<Vec<Span>, ResolveError> {
        if view.folds() {
            return Ok(vec![Span::All]);
        }
        let ops = Side::BOTH.into_iter().map(|side| plan.operations.on(side));
        let items = ops.flat_map(|ops| ops.copies.iter().chain(&ops.deletes));
        let mut named: BTreeSet<EntryPath> = items.flat_map(paths_of).cloned().collect();
        named.extend(plan.conflicts().iter().map(|conflict| conflict.path.clone()));
        named.extend(plan.skips.iter().map(|skip| skip.path.clone()));
        let busy = Side::BOTH.into_iter().flat_map(|side| {
            let dir = &root(view.conduit, side).dir;
            self.ends[side as usize].busy.iter().filter_map(|path| dir.relative(path))
        });
        let busy: Vec<EntryPath> = busy.collect();
        named.extend(busy.iter().cloned());
        let mut spans = touched::spans(view, scope(view)?.as_ref(), &named, plan);
        spans.extend(busy.into_iter().map(Span::Subtree));
        Ok(spans)
    }

    /// Keeps the rows of these parts, and the directories above them. Says whether that is not too much.
    fn take(&mut self, view: &ConduitView<'_>, spans: &[Span]) -> bool {
        let mut left = REPLAY_ROWS_MAX;
        for side in Side::BOTH {
            let (of, rows) = (view.side(side), &mut self.ends[side as usize].rows);
            for span in spans {
                let found: Box<dyn Iterator<Item = (EntryPath, EntryState)> + '_> = match span {
                    Span::All => of.entries(None),
                    Span::Subtree(top) => {
                        Box::new(of.entries(Some(top)).take_while(|(path, _)| is_at_or_below(path, top)))
                    }
                    Span::Only(path) => Box::new(of.entry(path).map(|row| (path.clone(), row)).into_iter()),
                };
                let above = above(span).filter_map(|dir| Some((dir.clone(), of.entry(&dir)?)));
                for (path, row) in found.chain(above) {
                    let sequence = of.sequence(&path);
                    rows.insert(path, (row, sequence));
                    if rows.len() > left {
                        return false;
                    }
                }
            }
            left -= rows.len();
        }
        for span in spans {
            let found: Box<dyn Iterator<Item = (EntryPath, EntryKind)> + '_> = match span {
                Span::All => view.base.entries(None),
                Span::Subtree(top) => {
                    Box::new(view.base.entries(Some(top)).take_while(|(path, _)| is_at_or_below(path, top)))
                }
                Span::Only(path) => Box::new(view.base.entry(path).map(|kind| (path.clone(), kind)).into_iter()),
            };
            let above = above(span).filter_map(|dir| Some((dir.clone(), view.base.entry(&dir)?)));
            for (path, kind) in found.chain(above) {
                self.base.insert(path, kind);
                if self.base.len() > left {
                    return false;
                }
            }
        }
        true
    }

    /// Single paths at which the law looked, and which were not kept.
    fn missed(&self, view: &ConduitView<'_>, plan: &Plan) -> Result<Vec<Span>, ResolveError> {
        let [source, target] = [self.end(Side::Source, Some(view.source))?, self.end(Side::Target, Some(view.target))?];
        self.compare(plan, &source, &target)?;
        let missed = source.missed.into_inner().into_iter().chain(target.missed.into_inner());
        Ok(missed.map(Span::Only).collect())
    }

    fn end<'a>(&'a self, side: Side, real: Option<&'a dyn SideView>) -> Result<End<'a>, ResolveError> {
        let kept = &self.ends[side as usize];
        let (rules, dir) = (IgnoreRules::new(&kept.rules)?, &root(&self.conduit, side).dir);
        Ok(End { kept, rules, dir, real, missed: RefCell::default() })
    }

    fn compare(&self, plan: &Plan, source: &End<'_>, target: &End<'_>) -> Result<Replay, ResolveError> {
        let circumstances = Circumstances {
            rulings: &self.rulings,
            labels: &self.labels,
            reads: &self.reads,
            now_ms: self.now_ms,
            clock_doubt_ms: self.clock_doubt_ms,
        };
        let view = ConduitView {
            conduit: &self.conduit,
            source,
            target,
            baseline: self.baseline.as_ref(),
            base: &self.base,
            guards: self.guards,
            circumstances,
        };
        let mut busy: BTreeMap<(DeviceId, LocationId), Vec<EntryPath>> = BTreeMap::new();
        for side in Side::BOTH {
            let (root, named) = (root(&self.conduit, side), &self.ends[side as usize].busy);
            if !named.is_empty() {
                busy.insert((root.device, root.location), named.clone());
            }
        }
        let past = LibrarySynced::of_the_past(self.conduit.id, plan.heads.clone(), busy);
        let again = SyncResolver::resolve(past, &view)?;
        Ok(compare(plan, &again))
    }
}

/// An end as it was kept; with the real one behind it, what is asked for and was not kept is noted.
struct End<'a> {
    kept: &'a DecidedEnd,
    rules: IgnoreRules,
    dir: &'a DirPath,
    real: Option<&'a dyn SideView>,
    missed: RefCell<BTreeSet<EntryPath>>,
}

impl SideView for End<'_> {
    fn entries<'a>(&'a self, from: Option<&EntryPath>) -> Box<dyn Iterator<Item = (EntryPath, EntryState)> + 'a> {
        let owned = |(path, (row, _)): (&EntryPath, &(EntryState, Option<Sequence>))| (path.clone(), row.clone());
        match from {
            Some(from) => Box::new(self.kept.rows.range(from.clone()..).map(owned)),
            None => Box::new(self.kept.rows.iter().map(owned)),
        }
    }

    fn entry(&self, path: &EntryPath) -> Option<EntryState> {
        if let Some((row, _)) = self.kept.rows.get(path) {
            return Some(row.clone());
        }
        let row = self.real?.entry(path)?;
        self.missed.borrow_mut().insert(path.clone());
        Some(row)
    }

    fn sequence(&self, path: &EntryPath) -> Option<Sequence> {
        self.kept.rows.get(path)?.1
    }

    fn is_hidden(&self, path: &EntryPath) -> bool {
        self.dir.join(path).ok().is_none_or(|path| self.rules.hides(&path))
    }

    fn rules_hash(&self) -> ContentHash {
        self.kept.rules_hash
    }

    fn file_count(&self) -> u64 {
        self.kept.files
    }

    fn top_entries(&self) -> u64 {
        self.kept.top_entries
    }

    fn names(&self) -> NameRules {
        self.kept.names
    }

    fn has_root(&self) -> bool {
        self.kept.has_root
    }
}

const fn root(conduit: &Conduit, side: Side) -> &Root {
    match side {
        Side::Source => &conduit.source,
        Side::Target => &conduit.target,
    }
}

fn is_at_or_below(path: &EntryPath, top: &EntryPath) -> bool {
    path == top || path.is_below(top)
}

/// The directories above a part.
fn above(span: &Span) -> impl Iterator<Item = EntryPath> {
    let top = match span {
        Span::All => None,
        Span::Subtree(top) | Span::Only(top) => Some(top),
    };
    top.into_iter().flat_map(EntryPath::ancestors)
}

/// The paths that an item names.
fn paths_of(item: &Item) -> impl Iterator<Item = &EntryPath> {
    let from = match &item.action {
        Action::InstallFile { from, .. }
        | Action::RenameFile { from, .. }
        | Action::Respell { from, .. }
        | Action::Evict { from } => Some(from),
        Action::MakeDirectory { .. }
        | Action::InstallSymlink { .. }
        | Action::SetMetadata { .. }
        | Action::Remove { .. }
        | Action::RemoveDirectory { .. }
        | Action::Adopt { .. } => None,
    };
    std::iter::once(&item.path).chain(from)
}

/// Whether two plans are the same bytes.
pub(in crate::file_sync) fn compare(stored: &Plan, again: &Plan) -> Replay {
    first_difference(stored, again).map_or(Replay::Identical, Replay::Differs)
}

/// Where two plans differ first; `None` if they are the same bytes.
fn first_difference(stored: &Plan, again: &Plan) -> Option<Difference> {
    if codec::encode(stored) == codec::encode(again) {
        return None;
    }
    let differs = |part: &str, stored: String, again: String| Some(Difference { part: part.to_owned(), stored, again });
    let of_side = |side: Side| {
        let (old, new) = (stored.operations.on(side), again.operations.on(side));
        let (copies, deletes) = match side {
            Side::Source => ("copies on the source", "deletes on the source"),
            Side::Target => ("copies on the target", "deletes on the target"),
        };
        in_list(copies, &old.copies, &new.copies).or_else(|| in_list(deletes, &old.deletes, &new.deletes))
    };
    of_side(Side::Target)
        .or_else(|| of_side(Side::Source))
        .or_else(|| in_list("conflicts", stored.conflicts(), again.conflicts()))
        .or_else(|| in_list("skips", &stored.skips, &again.skips))
        .or_else(|| in_list("halts", &stored.halts, &again.halts))
        .or_else(|| in_list("heads", &stored.heads, &again.heads))
        .or_else(|| in_list("totals", &[stored.totals], &[again.totals]))
        .or_else(|| differs("definition and id", shown(Some(stored.id)), shown(Some(again.id))))
}

fn in_list<T: PartialEq + Debug>(part: &str, stored: &[T], again: &[T]) -> Option<Difference> {
    let at = (0..stored.len().max(again.len())).find(|at| stored.get(*at) != again.get(*at))?;
    let (stored, again) = (shown(stored.get(at)), shown(again.get(at)));
    Some(Difference { part: format!("{part}, {}", at + 1), stored, again })
}

fn shown(value: Option<impl Debug>) -> String {
    value.map_or_else(|| "nothing".to_owned(), |value| format!("{value:?}").chars().take(SHOWN_CHARS_MAX).collect())
}
