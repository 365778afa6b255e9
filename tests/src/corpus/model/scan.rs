//! An index in memory, and the scan that keeps it true.

use std::collections::{BTreeMap, BTreeSet};

use globset::GlobSet;
use tidegate_protocol::file_sync::{NameRules, SideView};
use tidegate_protocol::hash::ContentHash;
use tidegate_protocol::id::{DeviceId, Epoch, Sequence};
use tidegate_protocol::index::{Entry, EntryKind, EntryState, FileFacts, UnknownCause, Version};
use tidegate_protocol::library_sync::HeadRef;
use tidegate_protocol::path::EntryPath;

use super::disk::{Disk, Node};

/// What a device believes of one of its trees.
pub(super) struct Index {
    device: DeviceId,
    hide: GlobSet,
    rows: BTreeMap<EntryPath, (EntryState, Sequence)>,
    last: u64,
    names: NameRules,
    /// Numbers of events never repeat, not even over a restore.
    events: u64,
    /// What jobs said they would leave at a path, with the version that travelled along.
    announced: BTreeMap<EntryPath, EntryState>,
}

impl Index {
    pub(super) const fn new(device: DeviceId, names: NameRules, hide: GlobSet) -> Self {
        Self { device, hide, rows: BTreeMap::new(), last: 0, names, events: 0, announced: BTreeMap::new() }
    }

    /// The device lost its index.
    pub(super) fn forget(&mut self) {
        self.rows.clear();
    }

    /// Records another version for what is there, or was.
    pub(super) fn adopt(&mut self, path: &EntryPath, version: &Version) {
        let row = match self.rows.get(path).and_then(|(row, _)| row.present()) {
            Some(entry) => EntryState::Present(Entry { kind: entry.kind.clone(), version: version.clone() }),
            None => EntryState::Deleted(version.clone()),
        };
        self.record(path, row);
    }

    /// The row as a job found it, for one that leaves without an event.
    pub(super) fn version(&self, path: &EntryPath) -> Version {
        self.rows.get(path).map_or(Version::NONE, |(row, _)| row.version().clone())
    }

    fn record(&mut self, path: &EntryPath, row: EntryState) {
        self.last += 1;
        self.rows.insert(path.clone(), (row, Sequence(self.last)));
    }

    /// Paths whose rows were written after that.
    pub(super) fn touched_since(&self, sequence: Sequence) -> BTreeSet<EntryPath> {
        self.rows.iter().filter(|(_, (_, at))| *at > sequence).map(|(path, _)| path.clone()).collect()
    }

    pub(super) fn announce(&mut self, path: &EntryPath, row: EntryState) {
        self.announced.insert(path.clone(), row);
    }

    /// Brings the rows in line with the disk.
    pub(super) fn scan(&mut self, disk: &Disk) {
        let mut seen: BTreeMap<EntryPath, EntryKind> = BTreeMap::new();
        for (path, node) in &disk.nodes {
            if self.is_hidden(path) {
                let parent = path.parent();
                if let Some(EntryKind::Directory { residue }) = parent.as_entry().and_then(|dir| seen.get_mut(dir)) {
                    *residue = true;
                }
            } else if disk.unreadable.contains(path) {
                seen.insert(path.clone(), EntryKind::Unknown(UnknownCause::Unreadable));
            } else if !disk.is_unreadable(path) {
                seen.insert(path.clone(), observe(node));
            }
        }
        let below_unreadable = |path: &EntryPath| path.ancestors().any(|above| disk.unreadable.contains(&above));
        let gone: Vec<EntryPath> = self
            .rows
            .iter()
            .filter(|(path, (row, _))| row.present().is_some() && !seen.contains_key(*path) && !below_unreadable(path))
            .map(|(path, _)| path.clone())
            .collect();
        for path in gone {
            self.write(&path, None);
        }
        for (path, kind) in seen {
            self.write(&path, Some(kind));
        }
        self.announced.clear();
    }

    /// Writes a row if it says something new; with the announced version if it says what was announced.
    fn write(&mut self, path: &EntryPath, kind: Option<EntryKind>) {
        let old = self.rows.get(path).map(|(row, _)| row);
        let known = old.and_then(EntryState::present).map(|entry| &entry.kind);
        if known == kind.as_ref() {
            return;
        }
        let written = self.announced.get(path);
        // What a job wrote was there before whatever else is there now.
        let old_version = [old, written].into_iter().flatten().fold(Version::NONE, |all, row| all.join(row.version()));
        let announced = written.filter(|row| row.present().map(|entry| &entry.kind) == kind.as_ref());
        let is_directory = |kind: Option<&EntryKind>| matches!(kind, Some(EntryKind::Directory { .. }));
        let version = match announced {
            Some(_) => old_version,
            // Hidden content that came or went is no event of the directory.
            None if is_directory(known) && is_directory(kind.as_ref()) => old_version,
            None => {
                self.events += 1;
                let mut version = old_version;
                version.bump(self.device, self.events);
                version
            }
        };
        self.record(
            path,
            match kind {
                Some(kind) => EntryState::Present(Entry { kind, version }),
                None => EntryState::Deleted(version),
            },
        );
    }

    pub(super) fn head(&self) -> HeadRef {
        let set_hash = [self.device.as_bytes()[0]; 32];
        HeadRef { device: self.device, epoch: Epoch(1), sequence: Sequence(self.last), set_hash }
    }

    fn present(&self) -> impl Iterator<Item = (&EntryPath, &EntryKind)> {
        self.rows.iter().filter_map(|(path, (row, _))| row.present().map(|entry| (path, &entry.kind)))
    }
}

/// What a scan makes of a node.
pub(super) fn observe(node: &Node) -> EntryKind {
    match node {
        Node::Directory => EntryKind::Directory { residue: false },
        Node::File { content, mtime_ns, executable } => EntryKind::File(FileFacts {
            content: ContentHash::of(content.as_bytes()),
            size: content.len() as u64,
            mtime_ns: *mtime_ns,
            executable: *executable,
        }),
        Node::Link(target) => EntryKind::Symlink { target: target.as_bytes().to_vec() },
        Node::Fifo => EntryKind::Special,
    }
}

impl SideView for Index {
    fn entries<'a>(&'a self, from: Option<&EntryPath>) -> Box<dyn Iterator<Item = (EntryPath, EntryState)> + 'a> {
        let owned = |(path, (row, _)): (&EntryPath, &(EntryState, Sequence))| (path.clone(), row.clone());
        match from {
            Some(from) => Box::new(self.rows.range(from.clone()..).map(owned)),
            None => Box::new(self.rows.iter().map(owned)),
        }
    }

    fn entry(&self, path: &EntryPath) -> Option<EntryState> {
        self.rows.get(path).map(|(row, _)| row.clone())
    }

    fn sequence(&self, path: &EntryPath) -> Option<Sequence> {
        self.rows.get(path).map(|(_, sequence)| *sequence)
    }

    fn is_hidden(&self, path: &EntryPath) -> bool {
        let matches = |path: &EntryPath| {
            let name = String::from_utf8_lossy(path.name()).into_owned();
            self.hide.is_match(name) || self.hide.is_match(path.to_string())
        };
        matches(path) || path.ancestors().any(|above| matches(&above))
    }

    fn rules_hash(&self) -> ContentHash {
        ContentHash::empty()
    }

    fn file_count(&self) -> u64 {
        let leaf = |kind: &EntryKind| matches!(kind, EntryKind::File(_) | EntryKind::Symlink { .. });
        self.present().filter(|(_, kind)| leaf(kind)).count() as u64
    }

    fn top_entries(&self) -> u64 {
        self.present().filter(|(path, _)| path.depth() == 1).count() as u64
    }

    fn names(&self) -> NameRules {
        self.names
    }

    fn has_root(&self) -> bool {
        true
    }
}
