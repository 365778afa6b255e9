//! From a decision about one name to items for the two ends.

use super::Side;
use super::decision::{Decision, Fate, Leave, Winner};
use super::frames::{End, Frame, Going, Inside, Kept, Lacking, is_leaf, moved_below};
use super::merge::Merge;
use super::places::Place;
use super::walk::{Node, Nodes};
use super::{bidirectional, copies};
use crate::file_sync::{Action, Conflict, ConflictKind, ConflictOutcome, Item, PreImage, SyncMode};
use crate::index::{EntryKind, EntryState, FileFacts, Version};
use crate::path::{EntryPath, Name};

impl Merge<'_> {
    pub(super) fn carry_out(&mut self, node: &Node, decision: Decision, nodes: &mut Nodes<'_>) {
        if let Some(Inside::SetAside(copy)) = self.frames.last().map(|frame| frame.inside.clone()) {
            self.set_aside(node, &copy);
            return;
        }
        let merges = matches!(decision.fate, Fate::Agree(..) | Fate::Follow(..));
        let place = self.places.place(node, merges);
        if let Some(kind) = decision.conflict {
            self.list_decided(node, kind, &decision.fate, nodes);
        }
        match decision.fate {
            Fate::Stay => {
                self.stay(node, Kept::Quietly);
                self.open(node, Inside::Law, |_| ());
            }
            Fate::Hold => self.hold(node, Kept::Quietly),
            Fate::Agree(version, file) => {
                self.stay(node, Kept::Quietly);
                let version = self.put_over(node, version);
                for side in Side::BOTH {
                    self.settle(side, node, &place, &version, file);
                }
            }
            Fate::Follow(winner) => self.follow(node, &place, winner),
            Fate::Leave(leave) => self.leave(node, &place, leave),
            Fate::Wrap => self.wrap(node, &place),
            Fate::KeepBoth(version) => self.keep_both(node, &place, &version, nodes),
            Fate::Give(version, file) => self.give(node, &place, &version, file),
            Fate::Evict => self.evict(node, &place),
            Fate::Discard => self.discard(node, &place),
        }
    }

    pub(super) fn copy(&mut self, side: Side, item: Item) {
        self.found.on(side).copies.push(item);
    }

    pub(super) fn delete(&mut self, side: Side, item: Item) {
        self.found.on(side).deletes.push(item);
    }

    /// Pushes a directory that is not one on both ends, if it is a directory at all.
    fn open(&mut self, node: &Node, inside: Inside, fill: impl FnOnce(&mut Frame)) {
        let has = Side::BOTH.map(|side| node.is_directory(side));
        if has != [true, true] && has != [false, false] {
            let mut frame = Frame::new(node.key.clone(), has, inside);
            fill(&mut frame);
            self.frames.push(frame);
        }
    }

    /// An end keeps its content, and is to end with this version, these facts and this spelling.
    fn settle(&mut self, side: Side, node: &Node, place: &Place, version: &Version, file: Option<FileFacts>) {
        let Some(entry) = node.entry(side) else { return self.settle_absent(side, node, place, version) };
        let at = &place.at[side as usize];
        if side == Side::Source && self.is_one_way() {
            return;
        }
        let Some(expect) = PreImage::of(&entry.kind) else { return };
        let from = place.respelled[side as usize].clone();
        let is_respelled = from.is_some();
        if let Some(from) = from {
            let action = Action::Respell { from, version: version.clone() };
            self.copy(side, Item { path: at.clone(), expect: expect.clone(), action });
        }
        let facts = file.filter(|file| !matches!(&entry.kind, EntryKind::File(now) if now == file));
        if let Some(file) = facts.filter(|_| matches!(entry.kind, EntryKind::File(_))) {
            self.count_drift(node);
            let action = Action::SetMetadata { file, version: version.clone() };
            self.copy(side, Item { path: at.clone(), expect, action });
        } else if !is_respelled && self.adopts() && entry.version != *version {
            let action = Action::Adopt { version: version.clone() };
            self.copy(side, Item { path: at.clone(), expect, action });
        }
    }

    /// An end has nothing, and that won: its tombstone has seen what the other end's has.
    fn settle_absent(&mut self, side: Side, node: &Node, place: &Place, version: &Version) {
        let path = place.at[side as usize].clone();
        if let Some(item) = self.tombstone(side, node, path, version) {
            self.copy(side, item);
        }
    }

    /// Records a tombstone's version where it says anything new.
    fn tombstone(&self, side: Side, node: &Node, path: EntryPath, version: &Version) -> Option<Item> {
        // Where names fold, the tombstone of the very path may be of another life of the name than the row compared.
        let row = node.spelled.as_ref().and_then(|_| self.view.side(side).entry(&path));
        let known = row.as_ref().map_or_else(|| node.version(side), EntryState::version);
        let version = version.join(known);
        let is_news = self.adopts() && version != *known;
        is_news.then_some(Item { path, expect: PreImage::Absent, action: Action::Adopt { version } })
    }

    fn adopts(&self) -> bool {
        self.view.conduit.mode == SyncMode::Bidirectional
    }

    fn is_one_way(&self) -> bool {
        self.view.conduit.mode.is_one_way()
    }

    fn count_drift(&mut self, node: &Node) {
        if self.view.conduit.mode == SyncMode::Mirror && self.is_unseen(node) && self.is_drift(&node.key) {
            self.found.drift_healed += 1;
        }
    }

    /// The target holds a state of the path that the source's own state does not follow from.
    fn is_unseen(&self, node: &Node) -> bool {
        self.is_one_way() && node.row(Side::Target).is_some_and(|row| !node.version(Side::Source).covers(row.version()))
    }

    /// One end takes over what the other one has.
    fn follow(&mut self, node: &Node, place: &Place, winner: Winner) {
        let Winner { side, version, file, whole } = winner;
        let (loser, now) = (side.other(), side.other() as usize);
        if node.entry(side).is_some() {
            for side in Side::BOTH {
                self.keep_on(side, Kept::Quietly);
            }
        }
        let expect = node.kind(loser).map_or(Some(PreImage::Absent), PreImage::of);
        let Some(expect) = expect else { return };
        if self.is_one_way() && expect != PreImage::Directory {
            self.count_drift(node);
            self.found.unseen += u64::from(is_leaf(&expect) && self.is_unseen(node));
        }
        if node.entry(side).is_some() && expect != PreImage::Directory {
            self.need(loser);
        }
        let version = if node.kind(side).is_some() { self.put_over(node, version) } else { version };
        self.settle(side, node, place, &version, file);
        let path = place.at[now].clone();
        let Some(kind) = node.kind(side) else {
            if node.entry(loser).is_some() {
                let version = self.gone(node, loser, version);
                self.delete(loser, Item { path, expect, action: Action::Remove { version } });
            }
            return;
        };
        if let Some(from) = place.respelled[now].clone() {
            // Its content is still the old one, and so is its version.
            let action = Action::Respell { from, version: node.version(loser).clone() };
            self.copy(loser, Item { path: path.clone(), expect: expect.clone(), action });
        }
        let Some(action) = put(kind, file, &place.at[side as usize], version.clone()) else { return };
        let item = Item { path, expect, action };
        if node.is_directory(loser) {
            let inside = Inside::Goes(loser);
            self.replace_directory(node, loser, inside, item);
            return;
        }
        self.copy(loser, item);
        self.open(node, if whole { Inside::Wins(side) } else { Inside::Law }, |frame| frame.has = [true, true]);
    }

    /// A copy takes the place of a directory, when everything in it has gone.
    fn replace_directory(&mut self, node: &Node, side: Side, inside: Inside, item: Item) {
        let listed = self.residue_of(node);
        let deletes_before = self.found.on(side).deletes.len();
        let kept = own_residue(node, side);
        self.open(node, inside, |frame| {
            frame.going = Some(Going { side, end: End::Replaced(item), deletes_before, listed });
            frame.kept = kept;
        });
    }

    fn residue_of(&self, node: &Node) -> Option<Conflict> {
        let facts = Conflict::facts_of(std::iter::once(bidirectional::rows(node)));
        Some(self.conflict(node, ConflictKind::DirNotEmpty, facts, ConflictOutcome::Held))
    }

    fn leave(&mut self, node: &Node, place: &Place, leave: Leave) {
        let Leave { side, version, made_again } = leave;
        let (own, other) = (place.at[side as usize].clone(), place.at[side.other() as usize].clone());
        let version = self.gone(node, side, version);
        let remove = Action::RemoveDirectory { version: version.clone() };
        let removed = Item { path: own.clone(), expect: PreImage::Directory, action: remove };
        let told = self.tombstone(side.other(), node, other.clone(), &version);
        let lacking = made_again.map(|version| Lacking {
            side: side.other(),
            make: Item {
                path: other,
                expect: PreImage::Absent,
                action: Action::MakeDirectory { version: version.clone() },
            },
            adopt: Some(Item { path: own, expect: PreImage::Directory, action: Action::Adopt { version } }),
            otherwise: None,
            made: false,
        });
        let listed = self.residue_of(node);
        let deletes_before = self.found.on(side).deletes.len();
        let inside = match self.frames.last().map(|frame| &frame.inside) {
            Some(inside @ Inside::Goes(..)) => inside.clone(),
            Some(Inside::Law | Inside::Wins(_) | Inside::SetAside(..)) | None => Inside::Law,
        };
        let kept = own_residue(node, side);
        self.open(node, inside, |frame| {
            frame.going = Some(Going { side, end: End::Removed(removed, told), deletes_before, listed });
            frame.lacking = lacking;
            frame.kept = kept;
        });
    }

    /// A directory of the source that is not selected itself.
    fn wrap(&mut self, node: &Node, place: &Place) {
        let [source, target] = place.at.clone();
        let version = self.put_over(node, node.joined());
        let deletes_before = self.found.on(Side::Target).deletes.len();
        let has = Side::BOTH.map(|side| node.is_directory(side));
        let mut frame = Frame::new(node.key.clone(), has, Inside::Law);
        if node.is_directory(Side::Target) {
            let action = Action::Evict { from: source };
            let item = Item { path: target, expect: PreImage::Directory, action };
            frame.going =
                Some(Going { side: Side::Target, end: End::Removed(item, None), deletes_before, listed: None });
            frame.kept = if own_residue(node, Side::Target) == Kept::No { Kept::No } else { Kept::Quietly };
        } else {
            let expect = node.kind(Side::Target).map_or(Some(PreImage::Absent), PreImage::of);
            let Some(expect) = expect else { return };
            let otherwise = is_leaf(&expect).then(|| {
                let action = Action::Remove { version: self.gone(node, Side::Target, node.joined()) };
                Item { path: target.clone(), expect: expect.clone(), action }
            });
            let make = Item { path: target, expect, action: Action::MakeDirectory { version } };
            frame.lacking = Some(Lacking { side: Side::Target, make, adopt: None, otherwise, made: false });
        }
        self.frames.push(frame);
    }

    fn evict(&mut self, node: &Node, place: &Place) {
        let [from, path] = place.at.clone();
        if let Some(expect) = node.kind(Side::Target).and_then(PreImage::of) {
            self.delete(Side::Target, Item { path, expect, action: Action::Evict { from } });
        }
    }

    fn discard(&mut self, node: &Node, place: &Place) {
        if let Some(expect) = node.kind(Side::Target).and_then(PreImage::of) {
            let version = self.gone(node, Side::Target, node.joined());
            let item = Item { path: place.at[1].clone(), expect, action: Action::Remove { version } };
            self.delete(Side::Target, item);
        }
    }

    /// A content that a person gave takes the path on both ends.
    fn give(&mut self, node: &Node, place: &Place, version: &Version, file: FileFacts) {
        for side in Side::BOTH {
            let Some(expect) = node.kind(side).map_or(Some(PreImage::Absent), PreImage::of) else { return };
            let path = place.at[side as usize].clone();
            let from = place.at[side.other() as usize].clone();
            let item = Item { path, expect, action: Action::InstallFile { file, version: version.clone(), from } };
            if node.is_directory(side) {
                self.replace_directory(node, side, Inside::Goes(side), item);
            } else {
                self.need(side);
                self.copy(side, item);
            }
        }
    }

    /// The source's keeps the path; the target's is kept under a name of its own on both ends.
    fn keep_both(&mut self, node: &Node, place: &Place, version: &Version, nodes: &mut Nodes<'_>) {
        let Some(copy) = copies::name(self.view, node, place, nodes) else { return self.hold(node, Kept::Quietly) };
        self.stay(node, Kept::Quietly);
        // The source records the decision's version only when the target has what was decided, in the next generation:
        // a source that outranked the target before the copy is safe would take its place without one.
        let (from, path) = (place.at[0].clone(), place.at[1].clone());
        let (Some(kept), Some(set_aside)) = (node.kind(Side::Source), node.kind(Side::Target)) else { return };
        let (Some(expect), Some(action)) = (PreImage::of(set_aside), put(kept, None, &from, version.clone())) else {
            return;
        };
        let install = Item { path: path.clone(), expect, action };
        let copy_at = copy_at(&copy, place);
        // Where the copy stands already, on one end or both, its own name is decided by itself.
        for side in Side::BOTH.into_iter().filter(|_| copies::is_free(self.view, &copy)) {
            if let Some(action) = put(set_aside, None, &path, copies::version(self.view, &copy)) {
                self.need(side);
                let path = copy_at[side as usize].clone();
                self.copy(side, Item { path, expect: PreImage::Absent, action });
            }
        }
        if node.is_directory(Side::Target) {
            self.replace_directory(node, Side::Target, Inside::SetAside(copy_at), install);
        } else {
            self.copy(Side::Target, install);
            self.open(node, Inside::Wins(Side::Source), |frame| frame.has = [true, true]);
        }
    }

    /// Something in a directory of the target that is set aside.
    fn set_aside(&mut self, node: &Node, copy_at: &[EntryPath; 2]) {
        let place = self.places.place(node, false);
        let top = self.frames.iter().find(|frame| matches!(frame.inside, Inside::SetAside(..)));
        let top = match top.and_then(|frame| frame.going.as_ref()).map(|going| &going.end) {
            Some(End::Replaced(item)) => item.path.clone(),
            Some(End::Removed(..)) | None => return,
        };
        let at = &place.at[Side::Target as usize];
        let [to_source, to] = copy_at.each_ref().map(|copy| moved_below(at, &top, copy));
        let (Some(kind), Some(to_source), Some(to)) = (node.kind(Side::Target), to_source, to) else { return };
        let kept = own_residue(node, Side::Target);
        if kept != Kept::No {
            self.keep_on(Side::Target, kept);
        }
        let fresh = copies::version(self.view, &to);
        let Some(put) = put(kind, None, at, fresh.clone()) else { return };
        if !copies::is_free(self.view, &to) {
            // Another conduit has set the same aside already; here it goes with its directory.
            return;
        }
        self.copy(Side::Source, Item { path: to_source, expect: PreImage::Absent, action: put.clone() });
        let action = match kind {
            EntryKind::File(file) => {
                let gone = self.stamped(node);
                Action::RenameFile { from: at.clone(), file: *file, version: fresh, gone }
            }
            EntryKind::Directory { .. } | EntryKind::Symlink { .. } | EntryKind::Special | EntryKind::Unknown(_) => put,
        };
        self.copy(Side::Target, Item { path: to, expect: PreImage::Absent, action });
    }

    /// The version of a tombstone on `side`: later than what is removed there. Where no end has seen a later event, as when a
    /// mirror clears what only its target has, the removal is an event of the conduit: a tombstone of the very version that
    /// the entry had is an eviction, and no other conduit would follow it, nor bring the entry back.
    fn gone(&self, node: &Node, side: Side, version: Version) -> Version {
        if node.version(side).covers(&version) { self.stamped(node) } else { version }
    }

    /// The version of what a one-way conduit puts on its target. Where that end's own events are later, what the source has is
    /// put over them by an event of the conduit: other conduits have carried that version on already, with what it named.
    fn put_over(&self, node: &Node, version: Version) -> Version {
        let covers = |side: Side| node.version(side).covers(&version);
        let is_overruled = self.is_one_way() && covers(Side::Target) && !covers(Side::Source);
        if is_overruled { self.stamped(node) } else { version }
    }

    /// All events of a name and a new one: of what a decision made.
    fn stamped(&self, node: &Node) -> Version {
        let mut version = node.joined();
        version.bump(self.view.conduit.actor(), 0);
        version
    }

    fn list_decided(&mut self, node: &Node, kind: ConflictKind, fate: &Fate, nodes: &mut Nodes<'_>) {
        let copy = |copy| ConflictOutcome::Both { copy };
        let outcome = match fate {
            Fate::Follow(winner) => match winner.side {
                Side::Source => ConflictOutcome::Source,
                Side::Target => ConflictOutcome::Target,
            },
            Fate::KeepBoth(_) => {
                let place = self.places.place(node, false);
                copies::name(self.view, node, &place, nodes).map_or(ConflictOutcome::Held, copy)
            }
            Fate::Give(..) => ConflictOutcome::Given,
            Fate::Stay | Fate::Hold | Fate::Agree(..) | Fate::Leave(_) | Fate::Wrap | Fate::Evict | Fate::Discard => {
                ConflictOutcome::Held
            }
        };
        let below: Vec<_> = nodes.below(&node.key).map(bidirectional::rows).collect();
        let is_subtree = Side::BOTH.into_iter().any(|side| node.is_directory(side));
        let rows = std::iter::once(bidirectional::rows(node)).chain(below.into_iter().filter(|_| is_subtree));
        let conflict = self.conflict(node, kind, Conflict::facts_of(rows), outcome);
        self.found.conflicts.push(conflict);
    }
}

/// A copy's path as each end spells the directory that holds it.
fn copy_at(copy: &EntryPath, place: &Place) -> [EntryPath; 2] {
    let name = Name::new(copy.name()).expect("a name of a path is a name");
    Side::BOTH.map(|side| place.at[side as usize].parent().child(&name).unwrap_or_else(|_| copy.clone()))
}

/// Whether hidden content of a directory keeps it.
fn own_residue(node: &Node, side: Side) -> Kept {
    match node.kind(side) {
        Some(EntryKind::Directory { residue: true }) => Kept::ByResidue,
        Some(
            EntryKind::Directory { residue: false }
            | EntryKind::File(_)
            | EntryKind::Symlink { .. }
            | EntryKind::Special
            | EntryKind::Unknown(_),
        )
        | None => Kept::No,
    }
}

/// What puts `kind` somewhere, with these facts if given; `None` for what is never carried.
fn put(kind: &EntryKind, facts: Option<FileFacts>, from: &EntryPath, version: Version) -> Option<Action> {
    match kind {
        EntryKind::Directory { .. } => Some(Action::MakeDirectory { version }),
        EntryKind::File(file) => {
            Some(Action::InstallFile { file: facts.unwrap_or(*file), version, from: from.clone() })
        }
        EntryKind::Symlink { target } => Some(Action::InstallSymlink { target: target.clone(), version }),
        EntryKind::Special | EntryKind::Unknown(_) => None,
    }
}
