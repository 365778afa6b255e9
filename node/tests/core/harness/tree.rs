//! A fake directory tree: what a scan sees of it, and what items do to it.

use std::collections::{BTreeMap, BTreeSet};

use tidegate::core::errands::{AuditItem, TrashDone, TrashItem, TrashWork};
use tidegate::core::io::{ScanScope, Seen, Work, Written};
use tidegate_protocol::file_sync::{Action, ItemOutcome, PreImage, SkipReason};
use tidegate_protocol::hash::ContentHash;
use tidegate_protocol::id::{DeviceId, LocationId};
use tidegate_protocol::index::{
    EntryKind, FileFacts, IgnoreRules, Observation, Observed, StatMark, UnknownCause, Version,
};
use tidegate_protocol::path::EntryPath;
use tidegate_protocol::wire::Finding;
use tidegate_storage::disk::{Bin, FileKind, TrashListing, Trashed};
use tidegate_storage::store::Store;

/// What stands at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Thing {
    Dir,
    File { bytes: Vec<u8>, mark: StatMark },
}

/// One root.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) things: BTreeMap<EntryPath, Thing>,
    pub(crate) present: bool,
    pub(crate) watched: bool,
    /// Paths that cannot be read.
    pub(crate) unread: BTreeSet<EntryPath>,
    /// Changes that the watcher names only when it is asked.
    pub(crate) late: Vec<EntryPath>,
    pub(crate) trash: Vec<(EntryPath, Vec<u8>)>,
    /// The bin of each thing in the trash, and the bin that is filled now.
    pub(crate) bins: Vec<Bin>,
    pub(crate) bin: Bin,
    stats: i64,
}

impl Tree {
    pub(crate) fn new() -> Self {
        Self {
            things: BTreeMap::new(),
            present: true,
            watched: true,
            unread: BTreeSet::new(),
            late: Vec::new(),
            trash: Vec::new(),
            bins: Vec::new(),
            bin: Bin { conduit: String::new(), generation: 0 },
            stats: 0,
        }
    }

    fn mark(&mut self, size: usize, mtime_ns: Option<i64>) -> StatMark {
        self.stats += 1;
        let at = self.stats;
        StatMark { size: size as u64, mtime_ns: mtime_ns.unwrap_or(at), ctime_ns: at, inode: at as u64 }
    }

    /// Writes a file with the directories above it; returns what a watcher would name.
    pub(crate) fn write(&mut self, path: &EntryPath, bytes: &[u8]) -> Vec<EntryPath> {
        let mut touched: Vec<EntryPath> =
            path.ancestors().filter(|above| self.things.insert(above.clone(), Thing::Dir).is_none()).collect();
        let mark = self.mark(bytes.len(), None);
        self.things.insert(path.clone(), Thing::File { bytes: bytes.to_vec(), mark });
        touched.push(path.clone());
        touched
    }

    /// Removes a path with everything below it.
    pub(crate) fn remove(&mut self, path: &EntryPath) -> Vec<EntryPath> {
        self.things.retain(|at, _| at != path && !at.is_below(path));
        vec![path.clone()]
    }

    /// Files by path, for comparing.
    pub(crate) fn files(&self) -> BTreeMap<String, String> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let file = |(path, thing): (&EntryPath, &Thing)| match thing {
            Thing::File { bytes, .. } => Some((path.to_string(), text(bytes))),
            Thing::Dir => None,
        };
        self.things.iter().filter_map(file).collect()
    }

    /// What differs from the index.
    pub(crate) fn scan(&self, store: &Store, owner: DeviceId, location: LocationId, scope: &ScanScope) -> Vec<Seen> {
        let snapshot = store.read().unwrap();
        let Some(fact) = snapshot.location(owner, location).unwrap() else { return Vec::new() };
        let rules = IgnoreRules::new(&fact.rules).unwrap();
        let handle = snapshot.tree(owner, location).unwrap();
        let mut known = BTreeMap::new();
        for row in snapshot.entries(handle, &tidegate_protocol::path::DirPath::TOP, None).unwrap() {
            let row = row.unwrap();
            if let Some(entry) = row.state.present() {
                known.insert(row.path.clone(), (entry.kind.clone(), row.mark));
            }
        }
        let all: BTreeSet<&EntryPath> = known.keys().chain(self.things.keys()).collect();
        let inside = |path: &EntryPath| match scope {
            ScanScope::All => true,
            ScanScope::Paths(paths) => paths.iter().any(|top| path == top || path.is_below(top)),
        };
        let mut seen = Vec::new();
        for path in all.into_iter().filter(|path| inside(path) && !rules.hides(path)) {
            let unread = || (EntryKind::Unknown(UnknownCause::Unreadable), None);
            let now =
                self.things.get(path).map(|thing| if self.unread.contains(path) { unread() } else { look(thing) });
            let observed = match (now, known.get(path)) {
                (Some(now), Some(known)) if now == *known => continue,
                (Some((kind, mark)), _) => Observed::Present(kind, mark),
                (None, Some(_)) => Observed::Absent,
                (None, None) => continue,
            };
            seen.push(Seen { observation: Observation { path: path.clone(), observed }, chunks: Vec::new() });
        }
        seen
    }

    /// Bytes of a file that still is as the index knows it.
    pub(crate) fn read(&self, path: &EntryPath, known: &StatMark) -> Option<Vec<u8>> {
        match self.things.get(path)? {
            Thing::File { bytes, mark } if mark == known => Some(bytes.clone()),
            Thing::File { .. } | Thing::Dir => None,
        }
    }

    /// The content at a path.
    pub(crate) fn content(&self, path: &EntryPath) -> Option<(ContentHash, Vec<u8>)> {
        match self.things.get(path)? {
            Thing::File { bytes, .. } => Some((ContentHash::of(bytes), bytes.clone())),
            Thing::Dir => None,
        }
    }

    fn stands(&self, path: &EntryPath, expect: &PreImage) -> bool {
        match (self.things.get(path), expect) {
            (None, PreImage::Absent) | (Some(Thing::Dir), PreImage::Directory) => true,
            (Some(Thing::File { bytes, .. }), PreImage::File { content, .. }) => ContentHash::of(bytes) == *content,
            (_, PreImage::Absent | PreImage::Directory | PreImage::File { .. } | PreImage::Symlink { .. }) => false,
        }
    }

    fn discard(&mut self, path: &EntryPath) {
        let gone: Vec<EntryPath> = self.things.keys().filter(|at| *at == path || at.is_below(path)).cloned().collect();
        for at in gone {
            if let Some(Thing::File { bytes, .. }) = self.things.remove(&at) {
                self.trash.push((at, bytes));
                self.bins.push(self.bin.clone());
            }
        }
    }

    fn put(&mut self, path: &EntryPath, bytes: Vec<u8>, file: &FileFacts) -> StatMark {
        let mark = self.mark(bytes.len(), Some(file.mtime_ns));
        self.things.insert(path.clone(), Thing::File { bytes, mark });
        mark
    }

    fn trashed(&self, item: &TrashItem) -> Option<usize> {
        (0..self.trash.len()).find(|at| self.bins[*at] == item.bin && self.trash[*at].0 == item.path)
    }

    /// Changes a content and nothing that a stat shows.
    pub(crate) fn rot(&mut self, path: &EntryPath, content: &str) {
        let Some(Thing::File { bytes, .. }) = self.things.get_mut(path) else { panic!("no file") };
        assert_eq!(bytes.len(), content.len());
        *bytes = content.as_bytes().to_vec();
    }

    /// Reads a file again, whatever the index knows.
    pub(crate) fn look_again(&self, item: &AuditItem) -> Finding {
        let Some((content, known)) = item.known else { return Finding::NotIndexed };
        match self.things.get(&item.path) {
            None | Some(Thing::Dir) => Finding::Gone,
            Some(Thing::File { mark, .. }) if *mark != known => Finding::Edited,
            Some(Thing::File { bytes, .. }) if ContentHash::of(bytes) == content => Finding::Sound,
            Some(Thing::File { bytes, .. }) => Finding::Rotten { content: ContentHash::of(bytes) },
        }
    }

    /// What stood at a path before, from the first of these bins that has this content.
    pub(crate) fn find_trashed(&self, bins: &[Bin], path: &EntryPath, content: &ContentHash) -> Option<Vec<u8>> {
        let held = |bin: &Bin| {
            let all = self.trash.iter().zip(&self.bins);
            all.filter(|((at, bytes), of)| *of == bin && at == path && ContentHash::of(bytes) == *content)
                .map(|((_, bytes), _)| bytes.clone())
                .next()
        };
        bins.iter().find_map(held)
    }

    fn take_trashed(&mut self, item: &TrashItem) -> Option<Vec<u8>> {
        let at = self.trashed(item)?;
        self.bins.remove(at);
        Some(self.trash.remove(at).1)
    }

    /// Carries out an errand. What is restored is named to the watcher by the caller.
    pub(crate) fn errand(&mut self, work: TrashWork) -> TrashDone {
        if !self.present {
            return TrashDone::Failed("no root".to_owned());
        }
        match work {
            TrashWork::List => {
                let thing = |((path, bytes), bin): (&(EntryPath, Vec<u8>), &Bin)| Trashed {
                    bin: bin.clone(),
                    path: path.clone(),
                    kind: FileKind::File,
                    size: bytes.len() as u64,
                    ctime_ns: 0,
                };
                let things: Vec<Trashed> = self.trash.iter().zip(&self.bins).map(thing).collect();
                let (count, bytes) = (things.len() as u64, things.iter().map(|thing| thing.size).sum());
                TrashDone::Listed(TrashListing { things, count, bytes, disk_bytes: Some(1000) })
            }
            TrashWork::Hash(items) => TrashDone::Hashed(
                items.iter().map(|item| self.trashed(item).map(|at| ContentHash::of(&self.trash[at].1))).collect(),
            ),
            TrashWork::Restore { items, mark } => {
                let mut put = |item: &TrashItem| {
                    let bytes = self.take_trashed(item).ok_or("gone")?;
                    let stands = self.things.contains_key(&item.path);
                    let beside = format!("{} {mark}", item.path);
                    let to = if stands { super::names::path(&beside) } else { item.path.clone() };
                    self.write(&to, &bytes);
                    Ok(to)
                };
                TrashDone::Restored(items.iter().map(&mut put).collect())
            }
            TrashWork::Purge(items) => TrashDone::Purged(
                items.iter().map(|item| self.take_trashed(item).map(drop).ok_or_else(|| "gone".to_owned())).collect(),
            ),
        }
    }

    /// Does one item, if what stands there is what it expects or what it would leave.
    pub(crate) fn apply(&mut self, work: &Work, content: Option<Vec<u8>>) -> (ItemOutcome, Vec<Written>) {
        let path = &work.path;
        let skip = |reason| (ItemOutcome::Skipped(reason), Vec::new());
        let wrote = |kind, mark, version: &Version| {
            (ItemOutcome::Done, vec![Written { path: path.clone(), kind, mark, version: version.clone() }])
        };
        match &work.item.action {
            Action::MakeDirectory { version } => {
                if self.things.get(path) == Some(&Thing::Dir) || self.stands(path, &work.item.expect) {
                    self.things.insert(path.clone(), Thing::Dir);
                    return wrote(Some(EntryKind::Directory { residue: false }), None, version);
                }
                skip(SkipReason::TargetChanged)
            }
            Action::InstallFile { file, version, .. } => {
                let there = self.content(path).is_some_and(|(hash, _)| hash == file.content);
                let Some(bytes) = content else { return skip(SkipReason::SourceGone) };
                if ContentHash::of(&bytes) != file.content {
                    return skip(SkipReason::WrongContent);
                }
                if !there {
                    if !self.stands(path, &work.item.expect) {
                        return skip(SkipReason::TargetChanged);
                    }
                    self.discard(path);
                }
                let mark = self.put(path, bytes, file);
                wrote(Some(EntryKind::File(*file)), Some(mark), version)
            }
            Action::RenameFile { file, version, gone, .. } => {
                let from = work.from.as_ref().expect("a rename has an old path");
                let moved = self.content(from).filter(|(hash, _)| *hash == file.content);
                if let Some((_, bytes)) = moved.filter(|_| self.stands(path, &work.item.expect)) {
                    self.discard(path);
                    self.things.remove(from);
                    let mark = self.put(path, bytes, file);
                    let (outcome, mut written) = wrote(Some(EntryKind::File(*file)), Some(mark), version);
                    written.push(Written { path: from.clone(), kind: None, mark: None, version: gone.clone() });
                    return (outcome, written);
                }
                match self.content(path) {
                    Some((hash, _)) if hash == file.content => (ItemOutcome::Done, Vec::new()),
                    Some(_) | None => skip(SkipReason::TargetChanged),
                }
            }
            Action::SetMetadata { file, version } => match self.content(path) {
                Some((hash, bytes)) if hash == file.content => {
                    let mark = self.put(path, bytes, file);
                    wrote(Some(EntryKind::File(*file)), Some(mark), version)
                }
                Some(_) | None => skip(SkipReason::TargetChanged),
            },
            Action::Remove { version } => {
                if self.things.contains_key(path) {
                    if !self.stands(path, &work.item.expect) {
                        return skip(SkipReason::TargetChanged);
                    }
                    self.discard(path);
                }
                wrote(None, None, version)
            }
            Action::RemoveDirectory { version } => {
                if self.things.keys().any(|at| at.is_below(path)) {
                    return skip(SkipReason::DirNotEmpty);
                }
                self.things.remove(path);
                wrote(None, None, version)
            }
            Action::Evict { .. } => {
                if self.things.contains_key(path) {
                    if !self.stands(path, &work.item.expect) {
                        return skip(SkipReason::TargetChanged);
                    }
                    self.things.remove(path);
                }
                wrote(None, None, &Version::NONE)
            }
            Action::InstallSymlink { .. } | Action::Respell { .. } | Action::Adopt { .. } => skip(SkipReason::BadName),
        }
    }
}

fn look(thing: &Thing) -> (EntryKind, Option<StatMark>) {
    match thing {
        Thing::Dir => (EntryKind::Directory { residue: false }, None),
        Thing::File { bytes, mark } => {
            let (content, size) = (ContentHash::of(bytes), bytes.len() as u64);
            (EntryKind::File(FileFacts { content, size, mtime_ns: mark.mtime_ns, executable: false }), Some(*mark))
        }
    }
}
