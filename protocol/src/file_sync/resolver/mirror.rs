//! Mirror: the target becomes the source. The law of one path, and of directories that have to go.
//!
//! Invariants: the source is never written; nothing is decided about a path that is hidden, special or
//! unknown on either end, nor about anything below it; a directory of the target goes only together with
//! everything that is known to be in it.

use super::walk::{Pair, Span, Walk};
use super::{ConduitView, Findings, Side};
use crate::file_sync::{Action, Conflict, ConflictKind, ConflictOutcome, Item, PreImage, Skip, SkipCause};
use crate::hash::ContentHash;
use crate::id::Sequence;
use crate::index::{Entry, EntryKind, EntryState, FileFacts, Version};
use crate::library_sync::LibrarySynced;
use crate::path::EntryPath;

/// One walk over both ends, in path order.
pub(super) struct Mirror<'a> {
    view: &'a ConduitView<'a>,
    /// Rows of the target above this were written after the baseline.
    verified_upto: Option<Sequence>,
    /// The path, if any, below which nothing is decided.
    outside: Option<EntryPath>,
    /// Directories of the target that have to go and whose content is being walked, outermost first.
    leaving: Vec<Leaving>,
    found: Findings,
}

/// A directory of the target that is not one on the source.
struct Leaving {
    path: EntryPath,
    /// Something below it, or hidden in it, stays; so it does too.
    kept: bool,
    end: End,
}

/// What becomes of a directory that leaves.
enum End {
    /// It is removed after what was in it.
    Removed(Version),
    /// A file or link takes its place, and it goes to the trash in one piece.
    Replaced {
        /// What is put there.
        action: Action,
        /// How many deletes were planned before its content was walked.
        deletes_before: usize,
    },
}

impl<'a> Mirror<'a> {
    /// Decides every path of the spans, which are disjoint, in order, and rooted in directories on both ends.
    pub(super) fn decide(
        view: &'a ConduitView<'a>,
        synced: &LibrarySynced,
        spans: impl IntoIterator<Item = Span>,
    ) -> Findings {
        let verified_upto = verified_upto(view, synced);
        let mut mirror = Self { view, verified_upto, outside: None, leaving: Vec::new(), found: Findings::default() };
        for span in spans {
            for pair in Walk::new(view, span) {
                mirror.visit(pair);
            }
            mirror.leave_all_but(None);
            mirror.outside = None;
        }
        mirror.found
    }

    fn visit(&mut self, pair: Pair) {
        let Pair { path, source, target } = pair;
        self.leave_all_but(Some(&path));
        let source_entry = source.as_ref().and_then(EntryState::present);
        let target_entry = target.as_ref().and_then(EntryState::present);
        if is_in_step(source_entry, target_entry) {
            if target_entry.is_some() {
                self.keep_leaving();
            }
            return;
        }
        if self.is_outside(&path, source_entry, target_entry) {
            if target_entry.is_some() {
                self.keep_leaving();
            }
            return;
        }
        let version = join(source.as_ref(), target.as_ref());
        let unseen = is_unseen(source.as_ref(), target.as_ref());
        let drift = unseen && self.is_drift(&path);
        match (source_entry.map(|e| &e.kind), target_entry.map(|e| &e.kind)) {
            (None, None) => {}
            (None, Some(EntryKind::Directory { residue })) => {
                self.leaving.push(Leaving { path, kept: *residue, end: End::Removed(version) });
            }
            (None, Some(kind)) => {
                self.found.unseen += u64::from(unseen);
                self.remove(path, kind, Action::Remove { version }, drift);
            }
            (Some(kind), Some(EntryKind::Directory { residue })) => {
                let Some(action) = put(&path, kind, version) else { return };
                let deletes_before = self.found.ops.deletes.len();
                self.leaving.push(Leaving { path, kept: *residue, end: End::Replaced { action, deletes_before } });
            }
            (Some(EntryKind::File(file)), Some(EntryKind::File(old))) if file.content == old.content => {
                self.copy(path, PreImage::of_file(old), Action::SetMetadata { file: *file, version }, drift);
            }
            (Some(kind), old) => {
                self.found.unseen += u64::from(unseen && old.is_some());
                let expect = old.map_or(Some(PreImage::Absent), PreImage::of);
                if let Some((expect, action)) = expect.zip(put(&path, kind, version)) {
                    self.copy(path, expect, action, drift);
                }
            }
        }
    }

    /// Whether nothing may be decided about `path` or below it; lists why, once for the topmost such path.
    fn is_outside(&mut self, path: &EntryPath, source: Option<&Entry>, target: Option<&Entry>) -> bool {
        if self.outside.as_ref().is_some_and(|top| path.is_below(top)) {
            return true;
        }
        if self.view.is_outside(path) {
            self.outside = Some(path.clone());
            return true;
        }
        let frozen = [(Side::Source, source), (Side::Target, target)]
            .into_iter()
            .find_map(|(side, entry)| Some((side, skip_cause(&entry?.kind)?)));
        // A source row below a directory that the source does not have: the rows contradict one another,
        // so nothing is concluded from either.
        let orphan = source.is_some() && !self.leaving.is_empty();
        let (side, cause) = match frozen {
            Some(found) => found,
            None if orphan => (Side::Source, SkipCause::Orphan),
            None => return false,
        };
        if orphan {
            self.keep_leaving();
        }
        self.found.skips.push(Skip { path: path.clone(), side, cause });
        self.outside = Some(path.clone());
        true
    }

    fn copy(&mut self, path: EntryPath, expect: PreImage, action: Action, drift: bool) {
        self.found.drift_healed += u64::from(drift);
        self.found.ops.copies.push(Item { path, expect, action });
    }

    fn remove(&mut self, path: EntryPath, kind: &EntryKind, action: Action, drift: bool) {
        let Some(expect) = PreImage::of(kind) else { return };
        self.found.drift_healed += u64::from(drift);
        self.found.ops.deletes.push(Item { path, expect, action });
    }

    /// Something below the directories that are leaving stays, so they stay.
    fn keep_leaving(&mut self) {
        if let Some(last) = self.leaving.last_mut() {
            last.kept = true;
        }
    }

    /// Concludes the leaving directories that do not hold `next`, innermost first.
    fn leave_all_but(&mut self, next: Option<&EntryPath>) {
        while self.leaving.last().is_some_and(|dir| !next.is_some_and(|path| path.is_below(&dir.path))) {
            let Some(dir) = self.leaving.pop() else { return };
            if dir.kept {
                let (source, target) = (None, Some(EntryKind::Directory { residue: true }));
                let (kind, outcome) = (ConflictKind::DirNotEmpty, ConflictOutcome::Held);
                let facts = ContentHash::empty();
                self.found.conflicts.push(Conflict { path: dir.path, kind, source, target, facts, outcome });
                self.keep_leaving();
                continue;
            }
            let (path, expect) = (dir.path, PreImage::Directory);
            match dir.end {
                End::Removed(version) => {
                    let action = Action::RemoveDirectory { version };
                    self.found.ops.deletes.push(Item { path, expect, action });
                }
                End::Replaced { action, deletes_before } => {
                    let inside = self.found.ops.deletes.split_off(deletes_before);
                    let leaves = inside.iter().filter(|item| item.expect != PreImage::Directory);
                    self.found.displaced.extend(leaves.map(|item| item.expect.content_to_find()));
                    self.found.ops.copies.push(Item { path, expect, action });
                }
            }
        }
    }

    /// Whether what the source has not seen was done on the target itself since the last verified run.
    fn is_drift(&self, path: &EntryPath) -> bool {
        let is_new = || match self.verified_upto {
            Some(upto) => self.view.target.sequence(path).is_some_and(|at| at > upto),
            None => true,
        };
        self.view.baseline.is_some() && is_new()
    }
}

/// The target holds a state of the path that the source's own state does not follow from.
fn is_unseen(source: Option<&EntryState>, target: Option<&EntryState>) -> bool {
    target.is_some_and(|target| !source.is_some_and(|source| source.version().covers(target.version())))
}

/// Both ends have it alike, or neither has it. Nothing of the path has to be asked then, not even its rules.
fn is_in_step(source: Option<&Entry>, target: Option<&Entry>) -> bool {
    match (source.map(|e| &e.kind), target.map(|e| &e.kind)) {
        (None, None) | (Some(EntryKind::Directory { .. }), Some(EntryKind::Directory { .. })) => true,
        (Some(EntryKind::File(a)), Some(EntryKind::File(b))) => a == b,
        (Some(EntryKind::Symlink { target: a }), Some(EntryKind::Symlink { target: b })) => a == b,
        (Some(_), _) | (None, Some(_)) => false,
    }
}

fn skip_cause(kind: &EntryKind) -> Option<SkipCause> {
    match kind {
        EntryKind::Special => Some(SkipCause::Special),
        EntryKind::Unknown(cause) => Some(SkipCause::Unknown(*cause)),
        EntryKind::Directory { .. } | EntryKind::File(_) | EntryKind::Symlink { .. } => None,
    }
}

/// What puts `kind` at `path`; `None` for what is never carried.
fn put(path: &EntryPath, kind: &EntryKind, version: Version) -> Option<Action> {
    match kind {
        EntryKind::Directory { .. } => Some(Action::MakeDirectory { version }),
        EntryKind::File(file) => Some(install(path, *file, version)),
        EntryKind::Symlink { target } => Some(Action::InstallSymlink { target: target.clone(), version }),
        EntryKind::Special | EntryKind::Unknown(_) => None,
    }
}

fn install(path: &EntryPath, file: FileFacts, version: Version) -> Action {
    Action::InstallFile { file, version, from: path.clone() }
}

fn join(source: Option<&EntryState>, target: Option<&EntryState>) -> Version {
    match (source, target) {
        (Some(source), Some(target)) => source.version().join(target.version()),
        (Some(row), None) | (None, Some(row)) => row.version().clone(),
        (None, None) => Version::NONE,
    }
}

/// The target's sequence at the baseline, if its numbers still count from there.
fn verified_upto(view: &ConduitView<'_>, synced: &LibrarySynced) -> Option<Sequence> {
    let device = view.conduit.target.device;
    let now = synced.heads().iter().find(|head| head.device == device)?;
    let then = view.baseline?.heads.iter().find(|head| head.device == device)?;
    (now.epoch == then.epoch).then_some(then.sequence)
}
