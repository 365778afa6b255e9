//! Several trees and the conduits between them, worked one generation at a time.

use std::collections::{BTreeMap, BTreeSet};

use super::super::*;
use super::tree::{Tree, conduit, synced};
use crate::file_sync::{Action, Baseline, Conduit, ConflictStrategy, Guards, PreImage, Root, Ruling};
use crate::hash::ContentHash;
use crate::id::{DeviceId, Label, LocationId};
use crate::index::EntryKind;
use crate::path::DirPath;

/// Rounds over all conduits after which they do not come to rest.
const ROUNDS_MAX: usize = 12;

/// Trees, one a device, and the conduits between them.
pub(super) struct Net {
    pub(super) trees: Vec<Tree>,
    pub(super) links: Vec<Link>,
    labels: BTreeMap<DeviceId, Label>,
    /// Contents that a user wrote and no user who had them superseded.
    pub(super) wanted: BTreeSet<ContentHash>,
    /// Contents that a user who had them removed or replaced.
    pub(super) done_with: BTreeSet<ContentHash>,
    written: u64,
    /// Conflicts that plans have listed so far.
    pub(super) conflicts: usize,
}

/// What was not done in a generation, and what must not be done for it.
#[derive(Default)]
struct Failed {
    contents: BTreeSet<ContentHash>,
    paths: BTreeSet<(Side, EntryPath)>,
}

impl Failed {
    fn add(&mut self, side: Side, item: &Item) {
        match &item.action {
            Action::InstallFile { file, .. } => drop(self.contents.insert(file.content)),
            Action::RenameFile { file, from, .. } => {
                self.contents.insert(file.content);
                self.paths.insert((side, from.clone()));
            }
            Action::MakeDirectory { .. }
            | Action::InstallSymlink { .. }
            | Action::SetMetadata { .. }
            | Action::Remove { .. }
            | Action::RemoveDirectory { .. }
            | Action::Adopt { .. }
            | Action::Respell { .. }
            | Action::Evict { .. } => {}
        }
    }

    /// Whether bytes would leave their place that were to be somewhere else by now.
    fn holds_up(&self, side: Side, item: &Item) -> bool {
        let is_delete = matches!(item.action, Action::Remove { .. });
        let is_wanted = item.expect.content_to_find().is_some_and(|content| self.contents.contains(&content));
        let below = |(of, path): &(Side, EntryPath)| *of == side && path.is_below(&item.path);
        ((is_delete || item.displaces()) && is_wanted)
            || (item.expect == PreImage::Directory && item.displaces() && self.paths.iter().any(below))
    }
}

/// A conduit and what its coordinator remembers.
pub(super) struct Link {
    pub(super) conduit: Conduit,
    pub(super) ends: [usize; 2],
    pub(super) base: BTreeMap<EntryPath, EntryKind>,
    pub(super) baseline: Option<Baseline>,
    pub(super) rulings: Vec<Ruling>,
    verified: Option<Plan>,
}

pub(super) const fn device_of(tree: usize) -> DeviceId {
    DeviceId::from_bytes([tree as u8 + 1; 32])
}

impl Net {
    pub(super) fn new(trees: usize, links: &[(usize, usize, SyncMode, ConflictStrategy)]) -> Self {
        let root = |tree: usize| Root {
            device: device_of(tree),
            location: LocationId::from_bytes([tree as u8 + 1; 16]),
            dir: DirPath::TOP,
        };
        let made = links.iter().enumerate().map(|(number, (source, target, mode, strategy))| {
            let mut conduit = conduit();
            conduit.id = ConduitId::from_bytes([number as u8 + 1; 16]);
            (conduit.source, conduit.target, conduit.mode) = (root(*source), root(*target), *mode);
            conduit.settings.strategy.value = *strategy;
            let (base, rulings) = (BTreeMap::new(), Vec::new());
            Link { conduit, ends: [*source, *target], base, baseline: None, rulings, verified: None }
        });
        let label = |tree: usize| Label::lossy(&format!("device {tree}"));
        Self {
            trees: (0..trees).map(|tree| Tree::of(device_of(tree))).collect(),
            links: made.collect(),
            labels: (0..trees).map(|tree| (device_of(tree), label(tree))).collect(),
            wanted: BTreeSet::new(),
            done_with: BTreeSet::new(),
            written: 0,
            conflicts: 0,
        }
    }

    /// A user writes a file with content that nobody ever wrote.
    pub(super) fn write(&mut self, tree: usize, path: &EntryPath) {
        self.written += 1;
        let kind = super::tree::file(&format!("{:05}", self.written), self.written as i64, false);
        self.edit(tree, path, Some(kind));
    }

    /// A user's edit; `None` removes.
    pub(super) fn edit(&mut self, tree: usize, path: &EntryPath, kind: Option<EntryKind>) {
        let before = contents(&self.trees[tree]);
        match kind {
            Some(kind) => self.trees[tree].put(path, kind),
            None => self.trees[tree].remove(path),
        }
        let after = contents(&self.trees[tree]);
        for gone in before.difference(&after) {
            self.wanted.remove(gone);
            self.done_with.insert(*gone);
        }
        self.wanted.extend(after.difference(&before));
    }

    pub(super) fn view(&self, at: usize) -> ConduitView<'_> {
        let link = &self.links[at];
        let circumstances =
            Circumstances { rulings: &link.rulings, labels: &self.labels, now_ms: 1_000_000, ..Circumstances::NONE };
        ConduitView {
            conduit: &link.conduit,
            source: &self.trees[link.ends[0]],
            target: &self.trees[link.ends[1]],
            baseline: link.baseline.as_ref(),
            base: &link.base,
            guards: Guards::OFF,
            circumstances,
        }
    }

    /// The plan of a conduit with all guards on.
    pub(super) fn plan_guarded(&self, at: usize) -> Plan {
        let view = ConduitView { guards: Guards::default(), ..self.view(at) };
        let [source, target] = self.links[at].ends.map(|end| &self.trees[end]);
        SyncResolver::resolve(synced(&self.links[at].conduit, source, target), &view).expect("a valid selection")
    }

    /// The plan of a conduit, resolved in full and from what changed: both must say the same.
    pub(super) fn plan(&self, at: usize) -> Plan {
        let (view, link) = (self.view(at), &self.links[at]);
        let [source, target] = link.ends.map(|end| &self.trees[end]);
        let token = || synced(&link.conduit, source, target);
        let plan = SyncResolver::resolve(token(), &view).expect("a valid selection");
        assert_eq!(Ok(&plan), SyncResolver::resolve(token(), &view).as_ref(), "a pure function of its view");
        if let (Some(verified), Some(baseline)) = (&link.verified, &link.baseline) {
            let since = |end: &Tree| {
                let head = baseline.heads.iter().find(|head| head.device == end.device).expect("a head of both ends");
                end.touched_since(head.sequence)
            };
            let touched = since(source).union(&since(target)).cloned().collect();
            let fast = SyncResolver::resolve_touched(token(), &view, &touched, verified);
            assert_eq!(fast.as_ref(), Ok(&plan), "what was touched since {touched:?}");
            let all = SyncResolver::base_changes(&view, None).expect("as resolved");
            let few = SyncResolver::base_changes(&view, Some(&touched)).expect("as resolved");
            assert_eq!(few, all, "base rows change where something was touched: {touched:?}");
        }
        plan
    }

    /// One generation of a conduit, of which every item is done whose number `does` admits and whose pre-image still
    /// stands. An empty plan is verified. Says whether it was empty.
    pub(super) fn sync(&mut self, at: usize, does: &dyn Fn(usize) -> bool) -> bool {
        let plan = self.plan(at);
        if plan.is_empty() {
            self.verify(at, plan);
            return true;
        }
        let ends = self.links[at].ends;
        let all = does(usize::MAX);
        self.conflicts += plan.conflicts().len();
        let (mut number, mut failed) = (0, Failed::default());
        let ops = &plan.operations;
        for (side, items) in [
            (Side::Source, &ops.target_to_source.copies),
            (Side::Target, &ops.source_to_target.copies),
            (Side::Source, &ops.target_to_source.deletes),
            (Side::Target, &ops.source_to_target.deletes),
        ] {
            for item in items {
                number += 1;
                let is_done = (all || does(number))
                    && !failed.holds_up(side, item)
                    && self.trees[ends[side as usize]].apply_item(item, all);
                if !is_done {
                    failed.add(side, item);
                }
            }
        }
        false
    }

    fn verify(&mut self, at: usize, plan: Plan) {
        let changes = SyncResolver::base_changes(&self.view(at), None).expect("as resolved");
        let [source, target] = self.links[at].ends.map(|end| &self.trees[end]);
        let baseline = super::tree::baseline(source, target);
        let link = &mut self.links[at];
        for (path, change) in changes {
            match change {
                BaseChange::Set(kind) => drop(link.base.insert(path, kind)),
                BaseChange::Drop => drop(link.base.remove(&path)),
            }
        }
        (link.baseline, link.verified) = (Some(baseline), Some(plan));
    }

    /// Works all conduits in turn until none has anything to do; how many rounds that took, if it came to rest.
    pub(super) fn settle(&mut self) -> Option<usize> {
        (0..ROUNDS_MAX).find(|_| {
            let quiet: Vec<bool> = (0..self.links.len()).map(|at| self.sync(at, &|_| true)).collect();
            quiet.into_iter().all(|quiet| quiet)
        })
    }

    /// The coordinator loses what it remembers of a conduit.
    pub(super) fn forget(&mut self, at: usize) {
        let link = &mut self.links[at];
        (link.base, link.baseline, link.verified) = (BTreeMap::new(), None, None);
    }

    /// What a user sees in a tree.
    pub(super) fn shown(&self, tree: usize) -> Vec<(EntryPath, EntryKind)> {
        self.trees[tree].present().map(|(path, kind)| (path.clone(), kind.clone())).collect()
    }

    /// Contents in place anywhere.
    pub(super) fn in_place(&self) -> BTreeSet<ContentHash> {
        self.trees.iter().flat_map(contents).collect()
    }
}

fn contents(tree: &Tree) -> BTreeSet<ContentHash> {
    let content = |kind: &EntryKind| match kind {
        EntryKind::File(file) => Some(file.content),
        EntryKind::Directory { .. } | EntryKind::Symlink { .. } | EntryKind::Special | EntryKind::Unknown(_) => None,
    };
    tree.present().filter_map(|(_, kind)| content(kind)).collect()
}
