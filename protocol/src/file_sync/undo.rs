//! Undoing a generation: from what it did, what stood there before and what stands there now, to what takes it back.
//!
//! State against state, path by path: where what stands there is what the generation left, what stood there before
//! comes back. Where anything else stands, somebody has worked there since, and it stays. Every path that is taken
//! back gets a new event, so in a two-way conduit the reversal travels like an edit and never resurrects. Contents come from the trash of
//! the device that holds it; whether they still are there is found out by its job.

use std::collections::{BTreeMap, BTreeSet};

use super::{Action, DirectionalOps, Guards, Item, OwnSide, Plan, PlanTotals, PreImage, Side, SyncOperations};
use crate::id::{ConduitId, DeviceId};
use crate::index::{Entry, EntryKind, EntryState, FileFacts, Version};
use crate::library_sync::HeadRef;
use crate::path::{DirPath, EntryPath};
use crate::time::Stamp;

/// Rows of one end, by path below the conduit's root.
pub type Rows = BTreeMap<EntryPath, EntryState>;

/// What is looked at to undo a generation on one end.
pub struct UndoView<'a> {
    /// What the generation did there and was done, in any order.
    pub done: &'a [Item],
    /// The rows there when it was resolved: of every path that an item names, and of everything below a directory
    /// that was replaced whole.
    pub before: &'a Rows,
    /// The row of a path now.
    pub now: &'a dyn Fn(&EntryPath) -> Option<EntryState>,
    /// What exists below a directory now.
    pub below: &'a dyn Fn(&EntryPath) -> Vec<EntryPath>,
    /// Who undoes: the new events are its own.
    pub device: DeviceId,
}

/// A path that is not taken back.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kept {
    /// Below the conduit's root.
    pub path: EntryPath,
    /// On which end.
    pub side: Side,
    /// Why.
    pub cause: KeptCause,
}

/// Why a path is not taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum KeptCause {
    /// What stands there is not what the generation left.
    #[error("edited since; kept")]
    Edited,
    /// The directory holds what came later.
    #[error("holds what came later; kept")]
    NotEmpty,
    /// Something that is no directory stands where one would have to be.
    #[error("something else stands above it; kept")]
    Blocked,
}

/// What takes a generation back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Undo {
    /// What is to be done.
    pub operations: SyncOperations,
    /// What is left as it is.
    pub kept: Vec<Kept>,
}

impl Undo {
    /// Undoes a generation on both ends.
    pub fn of(source: &UndoView<'_>, target: &UndoView<'_>) -> Self {
        let mut kept = Vec::new();
        let operations = SyncOperations {
            source_to_target: Reversal::of(target).operations(Side::Target, &mut kept),
            target_to_source: Reversal::of(source).operations(Side::Source, &mut kept),
            conflicts: Vec::new(),
        };
        kept.sort();
        Self { operations, kept }
    }

    /// The plan that does it, stopped where a guard says so; `files` are those of each end, for the guards.
    pub fn plan(
        &self,
        conduit: ConduitId,
        definition: Stamp,
        heads: Vec<HeadRef>,
        guards: Guards,
        files: [u64; 2],
    ) -> Plan {
        let mut halts = Vec::new();
        for side in Side::BOTH {
            let ops = self.operations.on(side);
            let items: Vec<Item> = ops.copies.iter().chain(&ops.deletes).cloned().collect();
            // What is replaced whole holds only what the undone generation brought.
            let own =
                OwnSide { side, files: files[side as usize], approved: false, files_below: &|_| 0, stays: &|_| false };
            halts.extend(guards.check_items(&items, &own).err());
        }
        Plan::new(conduit, definition, heads, self.operations.clone(), halts, Vec::new(), self.totals())
    }

    /// Sums for its plan.
    fn totals(&self) -> PlanTotals {
        let mut totals = PlanTotals::default();
        for ops in [&self.operations.source_to_target, &self.operations.target_to_source] {
            totals.copies += ops.copies.len() as u64;
            totals.deletes += ops.deletes.len() as u64;
            for item in &ops.copies {
                match &item.action {
                    Action::InstallFile { file, .. } => totals.copy_bytes += file.size,
                    Action::RenameFile { .. } => totals.renames += 1,
                    Action::MakeDirectory { .. }
                    | Action::InstallSymlink { .. }
                    | Action::SetMetadata { .. }
                    | Action::Adopt { .. }
                    | Action::Respell { .. }
                    | Action::Remove { .. }
                    | Action::RemoveDirectory { .. }
                    | Action::Evict { .. } => {}
                }
                totals.replaced += u64::from(item.displaces());
            }
        }
        totals
    }
}

/// What a generation left at a path; `None` is nothing.
type Left = Option<EntryKind>;

struct Reversal<'a> {
    view: &'a UndoView<'a>,
    /// Paths that are taken back, with what is there now.
    back: BTreeMap<EntryPath, Option<Entry>>,
    kept: Vec<(EntryPath, KeptCause)>,
}

impl<'a> Reversal<'a> {
    fn of(view: &'a UndoView<'a>) -> Self {
        let mut reversal = Self { view, back: BTreeMap::new(), kept: Vec::new() };
        for (path, left) in left_by(view) {
            let now = reversal.now(&path);
            let before = reversal.before(&path).map(|entry| entry.kind);
            if now.as_ref().map(|entry| &entry.kind) == before.as_ref() {
                continue;
            }
            if same(now.as_ref().map(|entry| &entry.kind), left.as_ref()) {
                reversal.back.insert(path, now);
            } else {
                reversal.kept.push((path, KeptCause::Edited));
            }
        }
        reversal
    }

    fn now(&self, path: &EntryPath) -> Option<Entry> {
        (self.view.now)(path).and_then(|state| state.present().cloned())
    }

    fn before(&self, path: &EntryPath) -> Option<Entry> {
        self.view.before.get(path).and_then(|state| state.present().cloned())
    }

    /// The version of what is taken back: after all that is known of the path, and a new event.
    fn version(&self, path: &EntryPath) -> Version {
        let of = |state: Option<&EntryState>| state.map(|state| state.version().clone()).unwrap_or_default();
        let mut version = of((self.view.now)(path).as_ref()).join(&of(self.view.before.get(path)));
        version.bump(self.view.device, 0);
        version
    }

    fn keep(&mut self, path: &EntryPath, cause: KeptCause) {
        self.back.remove(path);
        self.kept.push((path.clone(), cause));
    }

    fn operations(mut self, side: Side, kept: &mut Vec<Kept>) -> DirectionalOps {
        self.settle_directories();
        let mut ops = DirectionalOps::default();
        let parents = self.missing_parents();
        let paths: BTreeSet<EntryPath> = self.back.keys().cloned().chain(parents).collect();
        let mut displaced: Option<EntryPath> = None;
        for path in paths {
            // What lies in a directory that is replaced whole goes with it.
            if displaced.as_ref().is_some_and(|dir| path.is_below(dir)) {
                continue;
            }
            let now = self.now(&path);
            let before = if self.back.contains_key(&path) {
                self.before(&path).map(|entry| entry.kind)
            } else {
                Some(EntryKind::Directory { residue: false })
            };
            let Some(item) = self.item(&path, now.as_ref().map(|entry| &entry.kind), before.as_ref()) else { continue };
            if item.expect == PreImage::Directory && before.is_some() {
                displaced = Some(path);
            }
            match item.action {
                Action::Remove { .. } | Action::RemoveDirectory { .. } => ops.deletes.push(item),
                _ => ops.copies.push(item),
            }
        }
        ops.deletes.reverse();
        super::resolver::pair_moves(&mut ops);
        kept.extend(self.kept.into_iter().map(|(path, cause)| Kept { path, side, cause }));
        ops
    }

    /// A directory goes, or is replaced, only with all that is in it now; what comes back needs its place.
    fn settle_directories(&mut self) {
        for path in self.back.keys().rev().cloned().collect::<Vec<_>>() {
            let is_dir = |kind: Option<&EntryKind>| matches!(kind, Some(EntryKind::Directory { .. }));
            let now = self.back[&path].as_ref().map(|entry| &entry.kind);
            if !is_dir(now) || is_dir(self.before(&path).map(|entry| entry.kind).as_ref()) {
                continue;
            }
            let residue = matches!(now, Some(EntryKind::Directory { residue: true }));
            let goes = |below: &EntryPath| self.back.contains_key(below) && self.before(below).is_none();
            if residue || !(self.view.below)(&path).iter().all(goes) {
                self.keep(&path, KeptCause::NotEmpty);
            }
        }
        for path in self.back.keys().cloned().collect::<Vec<_>>() {
            if self.before(&path).is_some() && path.ancestors().any(|above| self.blocks(&above)) {
                self.keep(&path, KeptCause::Blocked);
            }
        }
    }

    /// Whether something that is no directory stands at a path, and stays.
    fn blocks(&self, above: &EntryPath) -> bool {
        let stays = !self.back.contains_key(above);
        let kind = if stays { self.now(above) } else { self.before(above) }.map(|entry| entry.kind);
        match kind {
            // A directory that nobody needs any more is made again.
            Some(EntryKind::Directory { .. }) | None => false,
            Some(EntryKind::File(_) | EntryKind::Symlink { .. } | EntryKind::Special | EntryKind::Unknown(_)) => true,
        }
    }

    /// Directories that were removed since, or by the generation without an item of their own.
    fn missing_parents(&self) -> BTreeSet<EntryPath> {
        let comes = self.back.keys().filter(|path| self.before(path).is_some());
        let above = comes.flat_map(|path| path.ancestors().collect::<Vec<_>>());
        above.filter(|dir| !self.back.contains_key(dir) && self.now(dir).is_none()).collect()
    }

    fn item(&self, path: &EntryPath, now: Option<&EntryKind>, before: Option<&EntryKind>) -> Option<Item> {
        let expect = match now {
            None => PreImage::Absent,
            Some(kind) => PreImage::of(kind)?,
        };
        let version = self.version(path);
        let action = match (before, now) {
            (None, Some(EntryKind::Directory { .. })) => Action::RemoveDirectory { version },
            (None, Some(_)) => Action::Remove { version },
            (None, None)
            | (Some(EntryKind::Directory { .. }), Some(EntryKind::Directory { .. }))
            | (Some(EntryKind::Special | EntryKind::Unknown(_)), _) => return None,
            (Some(EntryKind::Directory { .. }), _) => Action::MakeDirectory { version },
            (Some(EntryKind::File(file)), Some(EntryKind::File(there))) if file.content == there.content => {
                Action::SetMetadata { file: *file, version }
            }
            (Some(EntryKind::File(file)), _) => Action::InstallFile { file: *file, version, from: path.clone() },
            (Some(EntryKind::Symlink { target }), _) => Action::InstallSymlink { target: target.clone(), version },
        };
        Some(Item { path: path.clone(), expect, action })
    }
}

/// What the generation left, at every path that it touched.
fn left_by(view: &UndoView<'_>) -> BTreeMap<EntryPath, Left> {
    let file = |file: &FileFacts| Some(EntryKind::File(*file));
    let mut left = BTreeMap::new();
    for item in view.done {
        if item.expect == PreImage::Directory {
            let below = DirPath::below_top(item.path.clone());
            let gone = view.before.keys().filter(|path| below.as_entry().is_some_and(|dir| path.is_below(dir)));
            left.extend(gone.map(|path| (path.clone(), None)));
        }
    }
    for item in view.done {
        let path = item.path.clone();
        match &item.action {
            Action::MakeDirectory { .. } => left.insert(path, Some(EntryKind::Directory { residue: false })),
            Action::InstallFile { file: facts, .. } | Action::SetMetadata { file: facts, .. } => {
                left.insert(path, file(facts))
            }
            Action::InstallSymlink { target, .. } => {
                left.insert(path, Some(EntryKind::Symlink { target: target.clone() }))
            }
            Action::RenameFile { from, file: facts, .. } => {
                left.entry(from.clone()).or_insert(None);
                left.insert(path, file(facts))
            }
            Action::Remove { .. } | Action::RemoveDirectory { .. } => left.insert(path, None),
            // No content moved: another version was recorded, a name was spelled anew, or a copy that the other
            // end holds left a selection, from where it is fetched again.
            Action::Adopt { .. } | Action::Respell { .. } | Action::Evict { .. } => None,
        };
    }
    left
}

/// Whether what stands there is what was left there. Times and bits are nobody's edit.
fn same(now: Option<&EntryKind>, left: Option<&EntryKind>) -> bool {
    match (now, left) {
        (None, None) => true,
        (Some(now), Some(left)) => now.same_content(left),
        (Some(_), None) | (None, Some(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::ContentHash;

    fn path(text: &str) -> EntryPath {
        EntryPath::from_slashes(text.as_bytes()).unwrap()
    }

    fn facts(content: &str) -> FileFacts {
        let (content, size) = (ContentHash::of(content.as_bytes()), content.len() as u64);
        FileFacts { content, size, mtime_ns: 1, executable: false }
    }

    /// `d` is a directory, `=text` a file.
    fn rows(text: &str) -> Rows {
        let row = |word: &str| {
            let (at, kind) = match word.split_once('=') {
                Some((at, content)) => (at, EntryKind::File(facts(content))),
                None => (word, EntryKind::Directory { residue: false }),
            };
            (path(at), EntryState::Present(Entry { kind, version: Version::NONE }))
        };
        text.split_whitespace().map(row).collect()
    }

    /// The items that make `after` of `before`, as a resolver would write them.
    fn deeds(before: &Rows, after: &Rows) -> Vec<Item> {
        let paths: BTreeSet<&EntryPath> = before.keys().chain(after.keys()).collect();
        let kind = |rows: &Rows, at: &EntryPath| rows.get(at).and_then(EntryState::present).map(|e| e.kind.clone());
        let mut items = Vec::new();
        let mut whole: Option<EntryPath> = None;
        for at in paths {
            if whole.as_ref().is_some_and(|dir| at.is_below(dir)) {
                continue;
            }
            let (was, is, version) = (kind(before, at), kind(after, at), Version::NONE);
            if was == is {
                continue;
            }
            let expect = was.as_ref().map_or(PreImage::Absent, |was| PreImage::of(was).unwrap());
            let action = match &is {
                Some(EntryKind::File(file)) => Action::InstallFile { file: *file, version, from: at.clone() },
                Some(_) => Action::MakeDirectory { version },
                None if expect == PreImage::Directory => Action::RemoveDirectory { version },
                None => Action::Remove { version },
            };
            if is.is_some() && expect == PreImage::Directory {
                whole = Some(at.clone());
            }
            items.push(Item { path: at.clone(), expect, action });
        }
        items
    }

    fn words(ops: &DirectionalOps) -> Vec<String> {
        let word = |item: &Item| match &item.action {
            Action::MakeDirectory { .. } => format!("mkdir {}", item.path),
            Action::InstallFile { .. } => format!("put {}", item.path),
            Action::RenameFile { from, .. } => format!("mv {from} {}", item.path),
            Action::SetMetadata { .. } => format!("set {}", item.path),
            Action::Remove { .. } => format!("rm {}", item.path),
            Action::RemoveDirectory { .. } => format!("rmdir {}", item.path),
            other => format!("{other:?}"),
        };
        ops.copies.iter().chain(&ops.deletes).map(word).collect()
    }

    #[test]
    fn a_generation_is_taken_back_where_nothing_was_done_since() {
        for (before, after, now, expected, kept) in [
            ("a=1", "a=2", "a=2", "put a", ""),
            ("a=1", "a=2", "a=3", "", "a edited"),
            ("a=1", "a=2", "", "", "a edited"),
            ("a=1", "a=2", "a=1", "", ""),
            ("", "a=1", "a=1", "rm a", ""),
            ("", "a=1", "", "", ""),
            ("a=1", "", "", "put a", ""),
            ("a=1", "", "a=2", "", "a edited"),
            ("d d/a=1", "", "", "mkdir d, put d/a", ""),
            ("", "d d/a=1", "d d/a=1", "rm d/a, rmdir d", ""),
            ("", "d d/a=1", "d d/a=1 d/b=2", "rm d/a", "d holds"),
            ("", "d d/a=1", "d d/a=2", "", "d holds, d/a edited"),
            ("d d/a=1 d/b=2", "d d/b=2", "", "mkdir d, put d/a", ""),
            ("d d/a=1", "d", "d=file", "", "d/a above"),
            ("d d/a=1", "d=x", "d=x", "mkdir d, put d/a", ""),
            ("d=x", "d d/a=1", "d d/a=1", "put d", ""),
            ("d=x", "d d/a=1", "d d/a=1 d/b=2", "rm d/a", "d holds"),
            ("a=1", "b=1", "b=1", "mv b a", ""),
            ("a=1 b=2", "a=2 b=1", "a=2 b=1", "put a, put b", ""),
        ] {
            let (before, after, now) = (rows(before), rows(after), rows(now));
            let done = deeds(&before, &after);
            let below = |dir: &EntryPath| now.keys().filter(|at| at.is_below(dir)).cloned().collect();
            let device = DeviceId::from_bytes([1; 32]);
            let target =
                UndoView { done: &done, before: &before, now: &|at| now.get(at).cloned(), below: &below, device };
            let nothing = Rows::new();
            let source = UndoView { done: &[], before: &nothing, now: &|_| None, below: &|_| Vec::new(), device };
            let undo = Undo::of(&source, &target);
            assert_eq!(words(&undo.operations.source_to_target).join(", "), expected, "{before:?} {now:?}");
            let said = |cause| match cause {
                KeptCause::Edited => "edited",
                KeptCause::NotEmpty => "holds",
                KeptCause::Blocked => "above",
            };
            let left: Vec<String> = undo.kept.iter().map(|k| format!("{} {}", k.path, said(k.cause))).collect();
            assert_eq!(left.join(", "), kept, "{before:?} {now:?}");
        }
    }

    #[test]
    fn what_is_taken_back_is_a_new_event_after_all_that_is_known() {
        let (me, other) = (DeviceId::from_bytes([1; 32]), DeviceId::from_bytes([2; 32]));
        let with = |device, content| {
            let mut version = Version::NONE;
            version.bump(device, 5);
            EntryState::Present(Entry { kind: EntryKind::File(facts(content)), version })
        };
        let before: Rows = [(path("a"), with(other, "1"))].into();
        let now: Rows = [(path("a"), with(me, "2"))].into();
        let done = deeds(&before, &now);
        let view = UndoView {
            done: &done,
            before: &before,
            now: &|at| now.get(at).cloned(),
            below: &|_| Vec::new(),
            device: me,
        };
        let ops = Reversal::of(&view).operations(Side::Target, &mut Vec::new());
        let Action::InstallFile { version, .. } = &ops.copies[0].action else { panic!("{ops:?}") };
        assert_eq!((version.get(me), version.get(other)), (6, 5));
    }
}
