//! Paths in constant use: an index that can never be level with the disk at them must not stop everything else.
//!
//! The gate names, with its token, the paths that wait to be looked at and have been doing so for long. To the
//! resolver each of them is something unknown, whatever the index says, and so nothing is decided about it, about
//! what is below it, or about a directory that it keeps. What the index last knew to be there may be on its way
//! to another name, or may have come from one: no delete of that content is made either.

use std::collections::{BTreeMap, BTreeSet};

use super::{ConduitView, DirectionalOps, Findings, SideView};
use crate::file_sync::{Action, NameRules, Root};
use crate::hash::ContentHash;
use crate::id::Sequence;
use crate::index::{Entry, EntryKind, EntryState, UnknownCause, Version};
use crate::library_sync::LibrarySynced;
use crate::path::EntryPath;

/// One end, with paths of it unknown.
pub(super) struct Calm<'a> {
    side: &'a dyn SideView,
    unknown: BTreeMap<EntryPath, EntryState>,
}

impl<'a> Calm<'a> {
    /// The end at `root`, without what the token says is in constant use there.
    pub(super) fn new(side: &'a dyn SideView, root: &Root, synced: &LibrarySynced) -> Self {
        let mut unknown = BTreeMap::new();
        for path in synced.busy(root.device, root.location).iter().filter_map(|path| root.dir.relative(path)) {
            // Directories that the index does not hold yet are as unknown as what is being written in them.
            let mut steps: Vec<EntryPath> = path.ancestors().collect();
            steps.reverse();
            let is_directory = |step: &EntryPath| {
                let state = side.entry(step);
                let entry = state.as_ref().and_then(EntryState::present);
                entry.is_some_and(|entry| matches!(entry.kind, EntryKind::Directory { .. }))
            };
            let top = steps.into_iter().find(|step| !is_directory(step)).unwrap_or(path);
            let version = side.entry(&top).map_or(Version::NONE, |state| state.version().clone());
            let kind = EntryKind::Unknown(UnknownCause::InUse);
            unknown.insert(top, EntryState::Present(Entry { kind, version }));
        }
        let nested: Vec<EntryPath> =
            unknown.keys().filter(|path| path.ancestors().any(|above| unknown.contains_key(&above))).cloned().collect();
        for path in nested {
            unknown.remove(&path);
        }
        Self { side, unknown }
    }

    /// Whether all of the end is known as the index has it.
    pub(super) fn is_whole(&self) -> bool {
        self.unknown.is_empty()
    }

    /// The contents that the index last knew at and below the unknown paths.
    fn contents(&self) -> BTreeSet<ContentHash> {
        let mut contents = BTreeSet::new();
        for top in self.unknown.keys() {
            let rows = self.side.entries(Some(top)).take_while(|(path, _)| path == top || path.is_below(top));
            contents.extend(rows.filter_map(|(_, state)| match &state.present()?.kind {
                EntryKind::File(file) if file.size > 0 => Some(file.content),
                EntryKind::File(_)
                | EntryKind::Directory { .. }
                | EntryKind::Symlink { .. }
                | EntryKind::Special
                | EntryKind::Unknown(_) => None,
            }));
        }
        contents
    }

    fn covers(&self, path: &EntryPath) -> bool {
        self.unknown.contains_key(path) || path.ancestors().any(|above| self.unknown.contains_key(&above))
    }
}

/// Leaves out deletes of content that an unknown path of either end may have to do with, and the directories that
/// stay because of them.
pub(super) fn spare(findings: &mut Findings, ends: [&Calm<'_>; 2]) {
    let contents: BTreeSet<ContentHash> = ends.into_iter().flat_map(Calm::contents).collect();
    for ops in &mut findings.ops {
        spare_deletes(ops, &contents);
    }
}

fn spare_deletes(ops: &mut DirectionalOps, contents: &BTreeSet<ContentHash>) {
    let mut kept: BTreeSet<EntryPath> = BTreeSet::new();
    ops.deletes.retain(|item| {
        let spared = match &item.action {
            Action::RemoveDirectory { .. } => kept.contains(&item.path),
            Action::Remove { .. }
            | Action::MakeDirectory { .. }
            | Action::InstallFile { .. }
            | Action::InstallSymlink { .. }
            | Action::RenameFile { .. }
            | Action::SetMetadata { .. }
            | Action::Adopt { .. }
            | Action::Respell { .. }
            | Action::Evict { .. } => {
                kept.contains(&item.path) || item.expect.content_to_find().is_some_and(|c| contents.contains(&c))
            }
        };
        if spared {
            kept.extend(item.path.ancestors());
        }
        !spared
    });
}

impl SideView for Calm<'_> {
    fn entries<'a>(&'a self, from: Option<&EntryPath>) -> Box<dyn Iterator<Item = (EntryPath, EntryState)> + 'a> {
        let mut rows = self.side.entries(from).filter(|(path, _)| !self.covers(path)).peekable();
        let start = from.cloned();
        let unknown = self.unknown.iter().filter(move |(path, _)| start.as_ref().is_none_or(|from| *path >= from));
        let mut unknown = unknown.map(|(path, state)| (path.clone(), state.clone())).peekable();
        Box::new(std::iter::from_fn(move || match (rows.peek(), unknown.peek()) {
            (Some((row, _)), Some((path, _))) if row < path => rows.next(),
            (Some(_), None) => rows.next(),
            (_, Some(_)) => unknown.next(),
            (None, None) => None,
        }))
    }

    fn entry(&self, path: &EntryPath) -> Option<EntryState> {
        match self.unknown.get(path) {
            Some(state) => Some(state.clone()),
            None if self.covers(path) => None,
            None => self.side.entry(path),
        }
    }

    fn sequence(&self, path: &EntryPath) -> Option<Sequence> {
        self.side.sequence(path)
    }

    fn is_hidden(&self, path: &EntryPath) -> bool {
        self.side.is_hidden(path)
    }

    fn rules_hash(&self) -> ContentHash {
        self.side.rules_hash()
    }

    fn file_count(&self) -> u64 {
        self.side.file_count()
    }

    fn top_entries(&self) -> u64 {
        self.side.top_entries().max(self.unknown.len().min(1) as u64)
    }

    fn names(&self) -> NameRules {
        self.side.names()
    }

    fn has_root(&self) -> bool {
        self.side.has_root()
    }
}

/// Both ends of a view, with the paths that the token names unknown.
pub(super) fn calm<'a>(view: &'a ConduitView<'a>, synced: &LibrarySynced) -> [Calm<'a>; 2] {
    [(view.source, &view.conduit.source), (view.target, &view.conduit.target)]
        .map(|(side, root)| Calm::new(side, root, synced))
}
