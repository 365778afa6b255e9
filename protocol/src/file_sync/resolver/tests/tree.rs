//! One side in memory, edited as a scan would write it, and plans applied to it as a job would.

use std::collections::{BTreeMap, BTreeSet};

use super::super::*;
use crate::file_sync::{
    Action, BandwidthLimit, Baseline, Conduit, ConduitSettings, ConflictStrategy, DeleteMode, Guards, NameRules,
    PreImage, Root, Schedule, Selection,
};
use crate::id::{DeviceId, Epoch, Label, LocationId, Sequence};
use crate::index::{Entry, EntryKind, EntryState, FileFacts, UnknownCause, Version};
use crate::library_sync::HeadRef;
use crate::library_sync::gate::{self, GateView, LocationView, OwnerView};
use crate::path::DirPath;
use crate::time::{Stamp, Stamped};

pub(super) const CONDUIT: ConduitId = ConduitId::from_bytes([7; 16]);

pub(super) fn path(text: &str) -> EntryPath {
    EntryPath::from_slashes(text.as_bytes()).expect("test paths are valid")
}

pub(super) fn device(side: Side) -> DeviceId {
    DeviceId::from_bytes([1 + side as u8; 32])
}

/// A side: rows by path, with the sequence of each. Names in `hide` are hidden by its rules.
#[derive(Clone)]
pub(super) struct Tree {
    pub(super) device: DeviceId,
    pub(super) rows: BTreeMap<EntryPath, (EntryState, Sequence)>,
    pub(super) hide: BTreeSet<Vec<u8>>,
    pub(super) names: NameRules,
    pub(super) has_root: bool,
    pub(super) last: u64,
    /// Events are numbered over all paths, as by a clock, not path by path.
    pub(super) numbers_grow: bool,
    pub(super) touched: BTreeSet<EntryPath>,
}

impl Tree {
    pub(super) fn new(side: Side) -> Self {
        Self::of(device(side))
    }

    pub(super) const fn of(device: DeviceId) -> Self {
        Self {
            device,
            rows: BTreeMap::new(),
            hide: BTreeSet::new(),
            names: NameRules::POSIX,
            has_root: true,
            last: 0,
            numbers_grow: false,
            touched: BTreeSet::new(),
        }
    }

    /// `a=1` file, `a=1@5` with mtime, `a=1x` executable, `d/` directory, `d/+` with residue, `l>t` link,
    /// `u?` unknown, `s!` special, `-a` deleted.
    pub(super) fn with(side: Side, lines: &[&str]) -> Self {
        let mut tree = Self::new(side);
        for line in lines {
            if let Some(gone) = line.strip_prefix('-') {
                tree.put(&path(gone), file("", 0, false));
                tree.remove(&path(gone));
                continue;
            }
            let (at, kind) = parse(line);
            tree.put(&at, kind);
        }
        tree
    }

    pub(super) fn kind(&self, path: &EntryPath) -> Option<&EntryKind> {
        self.rows.get(path).and_then(|(row, _)| row.present()).map(|entry| &entry.kind)
    }

    pub(super) fn present(&self) -> impl Iterator<Item = (&EntryPath, &EntryKind)> {
        self.rows.iter().filter_map(|(path, (row, _))| Some((path, &row.present()?.kind)))
    }

    /// An edit of this side's own user, with its directories.
    pub(super) fn put(&mut self, path: &EntryPath, kind: EntryKind) {
        for above in path.ancestors() {
            if !matches!(self.kind(&above), Some(EntryKind::Directory { .. })) {
                self.own(&above, |version| EntryState::Present(Entry { kind: directory(false), version }));
            }
        }
        if !matches!(kind, EntryKind::Directory { .. }) {
            self.remove_below(path);
        }
        self.own(path, |version| EntryState::Present(Entry { kind, version }));
    }

    pub(super) fn remove(&mut self, path: &EntryPath) {
        self.remove_below(path);
        if self.kind(path).is_some() {
            self.own(path, EntryState::Deleted);
        }
    }

    fn remove_below(&mut self, path: &EntryPath) {
        let below: Vec<EntryPath> =
            self.present().map(|(below, _)| below.clone()).filter(|below| below.is_below(path)).collect();
        for below in below {
            self.own(&below, EntryState::Deleted);
        }
    }

    fn own(&mut self, path: &EntryPath, row: impl FnOnce(Version) -> EntryState) {
        let mut version = self.rows.get(path).map_or(Version::NONE, |(row, _)| row.version().clone());
        version.bump(self.device, if self.numbers_grow { self.last + 1 } else { 0 });
        self.write(path, row(version));
    }

    fn write(&mut self, path: &EntryPath, row: EntryState) {
        self.last += 1;
        self.rows.insert(path.clone(), (row, Sequence(self.last)));
        self.touched.insert(path.clone());
    }

    /// Does what the plan says for this side, and insists on every pre-image.
    pub(super) fn apply(&mut self, ops: &DirectionalOps) {
        ops.copies.iter().chain(&ops.deletes).for_each(|item| assert!(self.apply_item(item, true)));
    }

    /// Does one item. If its pre-image does not stand, nothing is done, or, if it must, that is a failure.
    pub(super) fn apply_item(&mut self, Item { path, expect, action }: &Item, must: bool) -> bool {
        let at = if let Action::Respell { from, .. } = action { from } else { path };
        let stands = self.kind(at).map_or(Some(PreImage::Absent), PreImage::of);
        let parent = path.parent();
        let above = parent.as_entry().map(|dir| self.kind(dir));
        let is_row_only = matches!(action, Action::Adopt { .. });
        let has_parent = is_row_only || above.is_none_or(|kind| matches!(kind, Some(EntryKind::Directory { .. })));
        let below = self.present().any(|(below, _)| below.is_below(path));
        let is_full = matches!(action, Action::RemoveDirectory { .. } | Action::Evict { .. }) && below;
        let is_moved = match action {
            Action::RenameFile { from, file, .. } => {
                matches!(self.kind(from), Some(EntryKind::File(old)) if old.content == file.content)
            }
            _ => true,
        };
        if !must && (stands.as_ref() != Some(expect) || !has_parent || is_full || !is_moved) {
            return false;
        }
        assert_eq!(stands.as_ref(), Some(expect), "{path}");
        assert!(has_parent, "{path} has no parent for {action:?}");
        {
            if let Action::RenameFile { from, file, gone, .. } = action {
                let Some(EntryKind::File(old)) = self.kind(from) else { panic!("{from} is no file") };
                assert_eq!(old.content, file.content);
                self.write(from, EntryState::Deleted(gone.clone()));
            }
            if let Action::Adopt { version } = action {
                let row = self.rows.get(path).map(|(row, _)| row.clone());
                let old = row.as_ref().map_or(Version::NONE, |row| row.version().clone());
                assert!(version.covers(&old) && *version != old, "{path} adopts nothing new");
                let row = match row.as_ref().and_then(EntryState::present) {
                    Some(entry) => EntryState::Present(Entry { version: version.clone(), ..entry.clone() }),
                    None => EntryState::Deleted(version.clone()),
                };
                self.write(path, row);
                return true;
            }
            if let Action::Respell { from, version } = action {
                self.respell(from, path, version);
                return true;
            }
            if let Action::Evict { .. } = action {
                let version = self.rows[path].0.version().clone();
                self.write(path, EntryState::Deleted(version));
                return true;
            }
            if *expect == PreImage::Directory {
                let is_removal = matches!(action, Action::RemoveDirectory { .. });
                let below = self.present().any(|(below, _)| below.is_below(path));
                assert!(!is_removal || !below, "{path} is removed before what is in it");
                assert!(self.is_free_of_strangers(path), "{path} holds what is outside the conduit");
                self.remove_below(path);
            }
            self.write(path, after(action));
        }
        true
    }

    /// Renames in place, with everything below; the old spelling gets a tombstone of this end's own.
    fn respell(&mut self, from: &EntryPath, to: &EntryPath, version: &Version) {
        let moved: Vec<EntryPath> = self.present().map(|(at, _)| at.clone()).collect();
        for at in moved.into_iter().filter(|at| at == from || at.is_below(from)) {
            let tail = &at.as_stored()[from.as_stored().len()..];
            let new = EntryPath::from_stored([to.as_stored(), tail].concat()).expect("a path moved is a path");
            let (row, _) = self.rows[&at].clone();
            let row = match row {
                EntryState::Present(entry) if at == *from => {
                    EntryState::Present(Entry { version: version.clone(), ..entry })
                }
                row => row,
            };
            self.own(&at, EntryState::Deleted);
            self.write(&new, row);
        }
    }

    /// Paths whose rows were written after that.
    pub(super) fn touched_since(&self, sequence: Sequence) -> BTreeSet<EntryPath> {
        self.rows.iter().filter(|(_, (_, at))| *at > sequence).map(|(path, _)| path.clone()).collect()
    }

    fn is_free_of_strangers(&self, dir: &EntryPath) -> bool {
        self.present().filter(|(path, _)| *path == dir || path.is_below(dir)).all(|(path, kind)| {
            !kind.is_frozen() && !matches!(kind, EntryKind::Directory { residue: true }) && !self.is_hidden(path)
        })
    }

    pub(super) fn head(&self) -> HeadRef {
        HeadRef { device: self.device, epoch: Epoch(1), sequence: Sequence(self.last), set_hash: [0; 32] }
    }
}

fn after(action: &Action) -> EntryState {
    let present = |kind, version: &Version| EntryState::Present(Entry { kind, version: version.clone() });
    match action {
        Action::MakeDirectory { version } => present(directory(false), version),
        Action::InstallFile { file, version, .. }
        | Action::RenameFile { file, version, .. }
        | Action::SetMetadata { file, version } => present(EntryKind::File(*file), version),
        Action::InstallSymlink { target, version } => present(EntryKind::Symlink { target: target.clone() }, version),
        Action::Remove { version } | Action::RemoveDirectory { version } => EntryState::Deleted(version.clone()),
        Action::Adopt { .. } | Action::Respell { .. } | Action::Evict { .. } => {
            unreachable!("what only changes rows is done before")
        }
    }
}

impl SideView for Tree {
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
        path.names().any(|name| self.hide.contains(name))
    }

    fn rules_hash(&self) -> ContentHash {
        ContentHash::of(&self.hide.iter().flatten().copied().collect::<Vec<u8>>())
    }

    fn file_count(&self) -> u64 {
        self.present().filter(|(_, kind)| matches!(kind, EntryKind::File(_) | EntryKind::Symlink { .. })).count() as u64
    }

    fn top_entries(&self) -> u64 {
        self.present().filter(|(path, _)| path.depth() == 1).count() as u64
    }

    fn names(&self) -> NameRules {
        self.names
    }

    fn has_root(&self) -> bool {
        self.has_root
    }
}

pub(super) const fn directory(residue: bool) -> EntryKind {
    EntryKind::Directory { residue }
}

pub(super) fn file(content: &str, mtime_ns: i64, executable: bool) -> EntryKind {
    let content = content.as_bytes();
    EntryKind::File(FileFacts { content: ContentHash::of(content), size: content.len() as u64, mtime_ns, executable })
}

pub(super) fn parse(line: &str) -> (EntryPath, EntryKind) {
    if let Some((at, target)) = line.split_once('>') {
        return (path(at), EntryKind::Symlink { target: target.into() });
    }
    if let Some((at, content)) = line.split_once('=') {
        let (content, mtime_ns) = content.split_once('@').unwrap_or((content, "0"));
        let executable = content.ends_with('x');
        return (path(at), file(content.trim_end_matches('x'), mtime_ns.parse().expect("a number"), executable));
    }
    match line.split_at(line.len() - 1) {
        (at, "?") => (path(at), EntryKind::Unknown(UnknownCause::Unreadable)),
        (at, "!") => (path(at), EntryKind::Special),
        (at, "+") => (path(at.trim_end_matches('/')), directory(true)),
        (at, _) => (path(at), directory(false)),
    }
}

pub(super) fn conduit() -> Conduit {
    let stamp = Stamp::zero(device(Side::Source));
    let root =
        |side| Root { device: device(side), location: LocationId::from_bytes([side as u8; 16]), dir: DirPath::TOP };
    let settings = ConduitSettings {
        name: Stamped::new(Label::lossy("m"), stamp),
        enabled: Stamped::new(true, stamp),
        paused: Stamped::new(false, stamp),
        schedule: Stamped::new(Schedule::Manual, stamp),
        selection: Stamped::new(Selection::default(), stamp),
        parallel_transfers: Stamped::new(4, stamp),
        bandwidth_limit: Stamped::new(BandwidthLimit::default(), stamp),
        strategy: Stamped::new(ConflictStrategy::default(), stamp),
        delete_mode: Stamped::new(DeleteMode::default(), stamp),
    };
    Conduit {
        id: CONDUIT,
        created: stamp,
        source: root(Side::Source),
        target: root(Side::Target),
        mode: SyncMode::Mirror,
        settings,
        removed: Stamped::new(false, stamp),
    }
}

/// A token as the gate grants it when both trees are all that their devices have signed.
pub(super) fn synced(conduit: &Conduit, source: &Tree, target: &Tree) -> LibrarySynced {
    let owner = |root: &Root, tree: &Tree| OwnerView {
        device: root.device,
        locations: vec![LocationView {
            location: root.location,
            root_ok: true,
            scan_complete: true,
            dirty: 0,
            busy: Vec::new(),
        }],
        authorized: true,
        quarantined: false,
        over_quota: false,
        online: true,
        evidence_age_ms: Some(0),
        relayed: false,
        head: Some(tree.head()),
        applied: Some(tree.head()),
        gossiped: None,
        bootstrapped: true,
        clock_offset_ms: 0,
    };
    gate::open(&GateView {
        conduit: conduit.id,
        resolver: conduit.source.device,
        ends: [&conduit.source, &conduit.target].map(|root| (root.device, root.location)),
        owners: vec![owner(&conduit.source, source), owner(&conduit.target, target)],
        others: Vec::new(),
        membership: 0,
        owners_membership: 0,
        newer_generation_at: None,
        evidence_age_ms_max: 0,
    })
    .expect("nothing is missing")
}

/// A view without a base, on whose circumstances nothing hangs.
pub(super) fn view<'a>(
    conduit: &'a Conduit,
    source: &'a Tree,
    target: &'a Tree,
    baseline: Option<&'a Baseline>,
    guards: Guards,
) -> ConduitView<'a> {
    let circumstances = Circumstances::NONE;
    ConduitView { conduit, source, target, baseline, base: &NoBase, guards, circumstances }
}

/// Mirrors `source` onto `target`.
pub(super) fn resolve(source: &Tree, target: &Tree, baseline: Option<&Baseline>, guards: Guards) -> Plan {
    let conduit = conduit();
    let view = view(&conduit, source, target, baseline, guards);
    let plan = SyncResolver::resolve(synced(&conduit, source, target), &view).expect("a mirror has no selection");
    assert_replays(&view, source, target, &plan);
    plan
}

/// A plan comes out of what is kept of its view, byte for byte.
pub(super) fn assert_replays(view: &ConduitView<'_>, source: &Tree, target: &Tree, plan: &Plan) {
    let facts = [source, target].map(|tree| {
        let rules = tree.hide.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
        EndFacts { rules, busy: Vec::new() }
    });
    let decided = Decided::of(view, facts, plan).expect("the rules are valid").expect("few rows");
    assert_eq!(decided.replay(plan), Ok(Replay::Identical));
    let bytes = crate::codec::encode(&decided);
    assert_eq!(crate::codec::decode_stored(&bytes), Ok(decided));
}

/// What a verified generation leaves behind.
pub(super) fn baseline(source: &Tree, target: &Tree) -> Baseline {
    Baseline {
        generation: 1,
        heads: vec![source.head(), target.head()],
        top_entries: (source.top_entries(), target.top_entries()),
        files: (source.file_count(), target.file_count()),
        rules: (source.rules_hash(), target.rules_hash()),
    }
}
