//! What of a volume is on the platter, and what a power cut leaves of the rest.
//!
//! Changes of names wait in the order in which they were made; each is kept or lost whole, on both its ends. What
//! a cut keeps of them respects what they rest on: a name in a directory that was lost is lost. Contents wait by
//! file, and are not tied to names: a name may outlive a cut whose content did not, and the other way round.
//! Links and directories have no content that could be lost apart from their name.

use std::collections::BTreeSet;

use super::content::{Content, PAGE_BYTES, SECTOR_BYTES};
use super::names::Key;
use super::object::{Body, Entry, ObjectId, Saved};
use super::volume::{Moment, Slot, Volume};
use crate::random::Stream;

/// A change of names that is not on the platter.
#[derive(Debug, Clone)]
pub(super) struct NameOp {
    pub(super) at_ns: u64,
    pub(super) slots: Vec<Slot>,
}

impl NameOp {
    fn objects(&self) -> impl Iterator<Item = ObjectId> + '_ {
        self.slots.iter().flat_map(|slot| slot.was.iter().chain(&slot.now)).map(|entry| entry.object)
    }

    fn dirs(&self) -> impl Iterator<Item = ObjectId> + '_ {
        self.slots.iter().map(|slot| slot.dir)
    }
}

/// Which unsynced changes of names outlive a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamesLeft {
    /// None.
    None,
    /// All.
    All,
    /// Those before some moment: a journal that was cut.
    Earlier,
    /// Any, in order within each directory: directories that are written one by one.
    PerDirectory,
    /// Any, in order for each name and each object.
    PerName,
    /// All but one, and what rests on that.
    ButOne,
}

/// Which unsynced contents outlive a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataLeft {
    /// None: a file that was never synced is empty.
    None,
    /// All.
    All,
    /// Those of some files.
    Some,
    /// Any sectors of each file, under an old or a new length; what is missing is old, or zeros.
    Torn,
}

/// What a power cut leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Survival {
    /// Of names.
    pub names: NamesLeft,
    /// Of contents.
    pub data: DataLeft,
}

impl Survival {
    /// Every combination.
    pub const ALL: [Self; 24] = {
        let names = [
            NamesLeft::None,
            NamesLeft::All,
            NamesLeft::Earlier,
            NamesLeft::PerDirectory,
            NamesLeft::PerName,
            NamesLeft::ButOne,
        ];
        let data = [DataLeft::None, DataLeft::All, DataLeft::Some, DataLeft::Torn];
        let mut all = [Self { names: NamesLeft::None, data: DataLeft::None }; 24];
        let mut n = 0;
        while n < all.len() {
            all[n] = Self { names: names[n / data.len()], data: data[n % data.len()] };
            n += 1;
        }
        all
    };

    /// One of them.
    pub fn draw(stream: &mut Stream) -> Self {
        Self::ALL[stream.index(Self::ALL.len())]
    }
}

/// What lost changes keep later ones from.
#[derive(Default)]
struct Lost {
    slots: BTreeSet<(ObjectId, Key)>,
    objects: BTreeSet<ObjectId>,
    dirs: BTreeSet<ObjectId>,
}

impl Lost {
    fn bars(&self, op: &NameOp, names: NamesLeft) -> bool {
        op.slots.iter().any(|slot| self.slots.contains(&(slot.dir, slot.key.clone())))
            || op.objects().any(|id| self.objects.contains(&id) || self.dirs.contains(&id))
            || op.dirs().any(|id| self.objects.contains(&id))
            || (names == NamesLeft::PerDirectory && op.dirs().any(|id| self.dirs.contains(&id)))
    }

    fn add(&mut self, op: &NameOp) {
        self.slots.extend(op.slots.iter().map(|slot| (slot.dir, slot.key.clone())));
        self.objects.extend(op.objects());
        self.dirs.extend(op.dirs());
    }
}

impl Volume {
    pub(super) fn remember(&mut self, op: NameOp) {
        for id in op.objects().chain(op.dirs()).collect::<Vec<_>>() {
            self.object_mut(id).pending += 1;
        }
        self.unsynced.push_back(op);
    }

    /// Content and metadata of a file reach the platter.
    pub(super) fn save(&mut self, id: ObjectId) {
        let object = self.object_mut(id);
        let since = object.dirty_since_ns.take();
        let (mtime_ns, executable) = (object.mtime_ns, object.executable);
        if let Body::File { content, saved, low } = &mut object.body {
            *low = content.len();
            *saved = Some(Saved { content: content.clone(), mtime_ns, executable });
        }
        if let Some(since) = since {
            self.dirty.remove(&(since, id));
        }
    }

    /// A file that is synced keeps the name it was moved to: journals know no other way. The name under which it was
    /// made is another matter, and nobody promises it.
    pub(super) fn save_moves_of(&mut self, id: ObjectId) {
        let moved = |slot: &Slot| slot.was.as_ref().is_some_and(|was| was.object == id);
        if self.unsynced.iter().any(|op| op.slots.iter().any(moved)) {
            self.save_names_of(id);
        }
    }

    pub(super) fn save_all(&mut self) {
        while let Some((_, id)) = self.dirty.first().copied() {
            self.save(id);
        }
    }

    /// The names in a directory, or of an object, reach the platter, and whatever they rest on.
    pub(super) fn save_names_of(&mut self, id: ObjectId) {
        let mut reached = BTreeSet::from([id]);
        let mut waiting = std::mem::take(&mut self.unsynced);
        let mut now = Vec::new();
        let mut later = std::collections::VecDeque::new();
        while let Some(op) = waiting.pop_back() {
            if op.objects().chain(op.dirs()).any(|id| reached.contains(&id)) {
                reached.extend(op.objects().chain(op.dirs()));
                now.push(op);
            } else {
                later.push_front(op);
            }
        }
        self.unsynced = later;
        for op in now.into_iter().rev() {
            self.write_names(&op);
        }
    }

    pub(super) fn save_all_names(&mut self) {
        while let Some(op) = self.unsynced.pop_front() {
            self.write_names(&op);
        }
    }

    /// What nobody synced for long is written by the system itself.
    pub(super) fn write_back(&mut self, now: Moment) {
        let due = now.monotonic_ns.saturating_sub(self.spec.writeback_ns);
        if due == 0 {
            return;
        }
        while self.unsynced.front().is_some_and(|op| op.at_ns < due) {
            if let Some(op) = self.unsynced.pop_front() {
                self.write_names(&op);
            }
        }
        while let Some((_, id)) = self.dirty.first().copied().filter(|(since, _)| *since < due) {
            self.save(id);
        }
    }

    /// The power goes and comes back: what is left is what is seen now.
    pub(super) fn power_cut(&mut self, survival: Survival, stream: &mut Stream) {
        self.choose_names(survival.names, stream);
        let dirty: Vec<ObjectId> = std::mem::take(&mut self.dirty).into_iter().map(|(_, id)| id).collect();
        for id in dirty {
            self.choose_data(id, survival.data, stream);
        }
        let mut reached = BTreeSet::from([self.root]);
        let mut open = vec![self.root];
        while let Some(dir) = open.pop() {
            let Body::Directory { live, durable } = &mut self.object_mut(dir).body else { continue };
            live.clone_from(durable);
            let names: Vec<(Key, Entry)> = live.iter().map(|(key, entry)| (key.clone(), entry.clone())).collect();
            for (key, entry) in names {
                self.object_mut(entry.object).place = Some((dir, key));
                reached.insert(entry.object);
                open.push(entry.object);
            }
        }
        for id in self.objects.keys().copied().collect::<Vec<_>>() {
            let object = self.object_mut(id);
            (object.handles, object.pending) = ([0; 2], 0);
            if !reached.contains(&id) {
                object.place = None;
                self.free_if_unused(id);
            }
        }
    }

    fn choose_names(&mut self, names: NamesLeft, stream: &mut Stream) {
        let ops = std::mem::take(&mut self.unsynced);
        let cut = stream.index(ops.len() + 1);
        // Of half of them one of the last: what is done last is what is synced least.
        let lost_one = if stream.chance(500_000) { cut } else { ops.len().saturating_sub(1 + stream.index(4)) };
        let mut lost = Lost::default();
        for (n, op) in ops.into_iter().enumerate() {
            let chance = stream.chance(500_000);
            let kept = match names {
                NamesLeft::None => false,
                NamesLeft::All => true,
                NamesLeft::Earlier => n < cut,
                NamesLeft::PerDirectory | NamesLeft::PerName => chance && !lost.bars(&op, names),
                NamesLeft::ButOne => n != lost_one && !lost.bars(&op, names),
            };
            if kept {
                self.write_names(&op);
            } else {
                lost.add(&op);
            }
        }
    }

    fn choose_data(&mut self, id: ObjectId, data: DataLeft, stream: &mut Stream) {
        let mut stream = stream.below_key(id.0);
        let (kept, meta_kept) = (stream.chance(500_000), stream.chance(500_000));
        let object = self.object_mut(id);
        object.dirty_since_ns = None;
        let Body::File { content, saved, low } = &mut object.body else { return };
        let before = content.pages();
        let old =
            saved.take().unwrap_or(Saved { content: Content::default(), mtime_ns: object.mtime_ns, executable: false });
        let (new, meta_kept) = match data {
            DataLeft::None => (old.content, false),
            DataLeft::All => (content.clone(), true),
            DataLeft::Some => (if kept { content.clone() } else { old.content }, kept),
            // Only its metadata changed.
            DataLeft::Torn if content.is_copy_of(&old.content) => (old.content, meta_kept),
            DataLeft::Torn => (torn(&old.content, content, *low, &mut stream), meta_kept),
        };
        if !meta_kept {
            (object.mtime_ns, object.executable) = (old.mtime_ns, old.executable);
        }
        let after = new.pages();
        *low = new.len();
        *content = new.clone();
        *saved = Some(Saved { content: new, mtime_ns: object.mtime_ns, executable: object.executable });
        self.used_bytes = self.used_bytes - before * PAGE_BYTES + after * PAGE_BYTES;
    }

    fn write_names(&mut self, op: &NameOp) {
        for slot in &op.slots {
            if let Body::Directory { durable, .. } = &mut self.object_mut(slot.dir).body {
                match &slot.now {
                    Some(entry) => durable.insert(slot.key.clone(), entry.clone()),
                    None => durable.remove(&slot.key),
                };
            }
        }
        for id in op.objects().chain(op.dirs()) {
            if let Some(object) = self.objects.get_mut(&id) {
                object.pending = object.pending.saturating_sub(1);
            }
            self.free_if_unused(id);
        }
    }
}

/// A mixture of an old content and a new one.
fn torn(old: &Content, new: &Content, low: u64, stream: &mut Stream) -> Content {
    let partly = stream.below(new.len() + 1);
    let length = [old.len(), new.len(), low, partly][stream.index(4)];
    let mut left = Content::default();
    let mut offset = 0;
    while offset < length.min(old.len().max(new.len())) {
        let choice = stream.below(8);
        // Sectors that were never written are zeros; most that were are there.
        let from = match choice {
            0..=3 => Some(new),
            4..=6 => Some(old),
            _ => None,
        };
        let mut sector = [0; SECTOR_BYTES as usize];
        let got = from.map_or(0, |content| content.read(&mut sector, offset));
        left.write(&sector[..got], offset);
        offset += SECTOR_BYTES;
    }
    left.set_len(length);
    left
}
