//! One file system: a tree of objects, found by name, changed by operations that each take effect at once.
//!
//! Every change of names goes through [`Volume::alter`], which is what makes it visible, and what remembers that
//! it is not yet on the platter. What a crash leaves is decided in `durable`. Who acts, and whether a call fails,
//! is decided above, in `machine`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tidegate_protocol::index::StatMark;
use tidegate_protocol::limits::{NAME_BYTES_MAX, PATH_BYTES_MAX};
use tidegate_storage::disk::{FileKind, Metadata};

use super::content::{Content, PAGE_BYTES};
use super::durable::NameOp;
use super::errno::{Errno, Result};
use super::names::{Key, Naming};
use super::object::{Access, Body, Entry, Object, ObjectId};
use super::observe::Actor;

/// What an object takes beside its pages.
const OBJECT_BYTES: u64 = 256;

/// What a file system is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VolumeSpec {
    /// Its id, as `statvfs` tells it; the metadata of everything on it shows the same as device number.
    pub id: u64,
    /// Room, in bytes.
    pub capacity_bytes: u64,
    /// Times are multiples of it. With 1, two changes never bear the same time.
    pub time_step_ns: u64,
    /// Which names are the same.
    pub naming: Naming,
    /// Whether two names can be exchanged.
    pub exchanges: bool,
    /// Whether it knows symbolic links.
    pub symlinks: bool,
    /// Whether the number of a removed inode is given again, lowest first.
    pub reuses_inodes: bool,
    /// After how long the system writes by itself what nobody synced.
    pub writeback_ns: u64,
}

impl VolumeSpec {
    /// What a Linux machine has today.
    pub const fn plain(id: u64) -> Self {
        Self {
            id,
            capacity_bytes: 1 << 40,
            time_step_ns: 1,
            naming: Naming { ignores_case: false, normalises: false, refuses: false },
            exchanges: true,
            symlinks: true,
            reuses_inodes: false,
            writeback_ns: 30_000_000_000,
        }
    }
}

/// The two times of a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Since the world began; never goes back.
    pub monotonic_ns: u64,
    /// Unix time; may jump.
    pub wall_ns: i64,
}

/// One name before and after a change.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    pub(super) dir: ObjectId,
    pub(super) key: Key,
    pub(super) was: Option<Entry>,
    pub(super) now: Option<Entry>,
}

/// How a rename treats what stands at the new name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Onto {
    Nothing,
    Anything,
    Exchange,
}

#[derive(Debug, Clone)]
pub(super) struct Volume {
    pub(super) spec: VolumeSpec,
    pub(super) root: ObjectId,
    pub(super) objects: BTreeMap<ObjectId, Object>,
    /// Changes of names that are not on the platter, oldest first.
    pub(super) unsynced: VecDeque<NameOp>,
    /// Files that are not on the platter as they are, by since when.
    pub(super) dirty: BTreeSet<(u64, ObjectId)>,
    pub(super) read_only: bool,
    pub(super) used_bytes: u64,
    made: u64,
    free_inodes: BTreeSet<u64>,
    inodes: u64,
    /// The wall time of the last change, and how many came after it at the same time.
    stamped: (i64, i64),
}

impl Volume {
    pub(super) fn new(spec: VolumeSpec, now: Moment) -> Self {
        let mut volume = Self {
            spec,
            root: ObjectId(0),
            objects: BTreeMap::new(),
            unsynced: VecDeque::new(),
            dirty: BTreeSet::new(),
            read_only: false,
            used_bytes: 0,
            made: 0,
            free_inodes: BTreeSet::new(),
            inodes: 1,
            stamped: (i64::MIN, 0),
        };
        volume.root = volume.make(Body::Directory { live: BTreeMap::new(), durable: BTreeMap::new() }, now);
        volume
    }

    pub(super) fn object(&self, id: ObjectId) -> &Object {
        self.objects.get(&id).expect("an object stays while a name, a handle or an unsynced change leads to it")
    }

    pub(super) fn object_mut(&mut self, id: ObjectId) -> &mut Object {
        self.objects.get_mut(&id).expect("an object stays while a name, a handle or an unsynced change leads to it")
    }

    /// What stands at `names` below `top`.
    pub(super) fn find(&self, top: ObjectId, path: &[u8]) -> Result<ObjectId> {
        if path.is_empty() {
            return Ok(top);
        }
        let (dir, name) = self.dir_of(top, path)?;
        Ok(self.entry(dir, name)?.ok_or(Errno::NoEntry)?.object)
    }

    /// The directory that holds the last name of `path`, and that name.
    pub(super) fn dir_of<'a>(&self, top: ObjectId, path: &'a [u8]) -> Result<(ObjectId, &'a [u8])> {
        if path.len() >= PATH_BYTES_MAX {
            return Err(Errno::NameTooLong);
        }
        let (above, name) = match path.iter().rposition(|b| *b == b'/') {
            Some(end) => (&path[..end], &path[end + 1..]),
            None => (&path[..0], path),
        };
        if name.is_empty() {
            return Err(Errno::Invalid);
        }
        let mut dir = top;
        let mut rest = above.split(|b| *b == b'/').filter(|name| !name.is_empty()).peekable();
        while let Some(name) = rest.next() {
            let next = self.entry(dir, name)?.ok_or(Errno::NoEntry)?.object;
            dir = match self.object(next).kind() {
                FileKind::Directory => next,
                // A link as the last of the parents is no directory; before it, it would have to be followed.
                FileKind::Symlink if rest.peek().is_some() => return Err(Errno::Loop),
                FileKind::Symlink | FileKind::File | FileKind::Special => return Err(Errno::NotDirectory),
            };
        }
        Ok((dir, name))
    }

    /// What bears `name` in a directory.
    pub(super) fn entry(&self, dir: ObjectId, name: &[u8]) -> Result<Option<&Entry>> {
        let object = self.object(dir);
        let entries = object.entries().ok_or(Errno::NotDirectory)?;
        match object.access {
            Access::Nothing => Err(Errno::Access),
            Access::Full | Access::LookOnly if name.len() > NAME_BYTES_MAX => Err(Errno::NameTooLong),
            Access::Full | Access::LookOnly => Ok(entries.get(&self.spec.naming.key(name))),
        }
    }

    pub(super) fn metadata(&self, id: ObjectId) -> Metadata {
        let object = self.object(id);
        let (mtime_ns, ctime_ns) = (object.mtime_ns, object.ctime_ns);
        let mark = StatMark { size: object.size(), mtime_ns, ctime_ns, inode: object.inode };
        Metadata { kind: object.kind(), mark, executable: object.executable, device: self.spec.id }
    }

    /// Makes an object under a new name.
    pub(super) fn create(&mut self, dir: ObjectId, name: &[u8], body: Body, now: Moment) -> Result<ObjectId> {
        if self.entry(dir, name)?.is_some() {
            return Err(Errno::Exists);
        }
        self.may_change(dir)?;
        self.may_be_called(name)?;
        self.has_room(OBJECT_BYTES)?;
        if matches!(body, Body::Symlink(_)) && !self.spec.symlinks {
            return Err(Errno::Unsupported);
        }
        let object = self.make(body, now);
        let entry = Entry { spelling: name.into(), object };
        self.alter(vec![Slot { dir, key: self.spec.naming.key(name), was: None, now: Some(entry) }], now);
        Ok(object)
    }

    /// Takes the name from something that is no directory, or from an empty one.
    pub(super) fn unlink(&mut self, dir: ObjectId, name: &[u8], directory: bool, now: Moment) -> Result<()> {
        let entry = self.entry(dir, name)?.ok_or(Errno::NoEntry)?.clone();
        match (self.object(entry.object).entries(), directory) {
            (Some(entries), true) if entries.is_empty() => {}
            (Some(_), true) => return Err(Errno::NotEmpty),
            (Some(_), false) => return Err(Errno::IsDirectory),
            (None, true) => return Err(Errno::NotDirectory),
            (None, false) => {}
        }
        self.may_change(dir)?;
        self.alter(vec![Slot { dir, key: self.spec.naming.key(name), was: Some(entry), now: None }], now);
        Ok(())
    }

    /// Renames; answers what lost its name by it.
    pub(super) fn rename(
        &mut self,
        (from_dir, from): (ObjectId, &[u8]),
        (to_dir, to): (ObjectId, &[u8]),
        onto: Onto,
        now: Moment,
    ) -> Result<Option<ObjectId>> {
        let moving = self.entry(from_dir, from)?.ok_or(Errno::NoEntry)?.clone();
        self.may_be_called(to)?;
        let standing = self.entry(to_dir, to)?.cloned();
        let (from_key, to_key) = (self.spec.naming.key(from), self.spec.naming.key(to));
        let respelled = Entry { spelling: to.into(), object: moving.object };
        match (&standing, onto) {
            (Some(_), Onto::Nothing) => return Err(Errno::Exists),
            (_, Onto::Exchange) if !self.spec.exchanges => return Err(Errno::Unsupported),
            (None, Onto::Exchange) => return Err(Errno::NoEntry),
            (Some(there), Onto::Anything | Onto::Exchange) if there.object == moving.object => {
                self.may_change(to_dir)?;
                if onto == Onto::Anything && there.spelling != respelled.spelling {
                    // Only the spelling of the name changes.
                    self.alter(vec![Slot { dir: to_dir, key: to_key, was: standing, now: Some(respelled) }], now);
                }
                return Ok(None);
            }
            (Some(there), Onto::Anything) => self.may_replace(moving.object, there.object)?,
            (None, Onto::Nothing | Onto::Anything) | (Some(_), Onto::Exchange) => {}
        }
        let into_itself = self.is_at_or_below(to_dir, moving.object);
        let swallowed =
            onto == Onto::Exchange && standing.as_ref().is_some_and(|e| self.is_at_or_below(from_dir, e.object));
        if into_itself || swallowed {
            return Err(Errno::Invalid);
        }
        self.may_change(from_dir)?;
        self.may_change(to_dir)?;
        let replaced = standing.as_ref().map(|e| e.object).filter(|_| onto == Onto::Anything);
        let back = standing.clone().filter(|_| onto == Onto::Exchange);
        let back = back.map(|e| Entry { spelling: moving.spelling.clone(), object: e.object });
        let arriving = match &standing {
            Some(there) => Entry { spelling: there.spelling.clone(), object: moving.object },
            None => respelled,
        };
        self.alter(
            vec![
                Slot { dir: from_dir, key: from_key, was: Some(moving), now: back },
                Slot { dir: to_dir, key: to_key, was: standing, now: Some(arriving) },
            ],
            now,
        );
        Ok(replaced)
    }

    /// Changes the content of a file.
    pub(super) fn edit(&mut self, id: ObjectId, now: Moment, change: impl FnOnce(&mut Content)) -> Result<()> {
        if self.read_only {
            return Err(Errno::ReadOnly);
        }
        let Body::File { content, .. } = &self.object(id).body else { return Err(Errno::Invalid) };
        let mut new = content.clone();
        let before = new.pages();
        change(&mut new);
        self.has_room(new.pages().saturating_sub(before) * PAGE_BYTES)?;
        self.used_bytes = self.used_bytes - before * PAGE_BYTES + new.pages() * PAGE_BYTES;
        let stamp = self.stamp(now);
        let object = self.object_mut(id);
        (object.mtime_ns, object.ctime_ns) = (stamp, stamp);
        if let Body::File { content, low, .. } = &mut object.body {
            *low = (*low).min(new.len());
            *content = new;
        }
        self.soil(id, now);
        Ok(())
    }

    /// Sets the modification time, as far as the volume can hold it, and the executable bit.
    pub(super) fn set_metadata(&mut self, id: ObjectId, mtime_ns: i64, executable: bool, now: Moment) -> Result<()> {
        if self.read_only {
            return Err(Errno::ReadOnly);
        }
        let (mtime_ns, ctime_ns) = (self.coarse(mtime_ns), self.stamp(now));
        let object = self.object_mut(id);
        (object.mtime_ns, object.ctime_ns, object.executable) = (mtime_ns, ctime_ns, executable);
        if object.kind() == FileKind::File {
            self.soil(id, now);
        }
        Ok(())
    }

    /// Says what may be done with an object. Like any change of permissions it shows in the time of the last change.
    pub(super) fn set_access(&mut self, id: ObjectId, access: Access, now: Moment) {
        if self.object(id).access != access {
            let stamp = self.stamp(now);
            let object = self.object_mut(id);
            (object.access, object.ctime_ns) = (access, stamp);
        }
    }

    pub(super) fn free_bytes(&self) -> u64 {
        self.spec.capacity_bytes.saturating_sub(self.used_bytes)
    }

    /// Whether `id` is `top` or stands below it.
    pub(super) fn is_at_or_below(&self, id: ObjectId, top: ObjectId) -> bool {
        let mut at = Some(id);
        while let Some(here) = at {
            if here == top {
                return true;
            }
            at = self.object(here).place.as_ref().map(|(dir, _)| *dir);
        }
        false
    }

    /// The path of `name` in the directory `dir`, from `top`; `None` if it is not below it.
    pub(super) fn path_below(&self, top: ObjectId, dir: ObjectId, name: &[u8]) -> Option<Vec<u8>> {
        let mut names: Vec<&[u8]> = if name.is_empty() { Vec::new() } else { vec![name] };
        let mut at = dir;
        while at != top {
            let (above, key) = self.object(at).place.as_ref()?;
            names.push(&self.object(*above).entries()?.get(key)?.spelling);
            at = *above;
        }
        names.reverse();
        Some(names.join(b"/".as_slice()))
    }

    /// Makes a change of names visible, and remembers that it is not on the platter.
    fn alter(&mut self, slots: Vec<Slot>, now: Moment) {
        let stamp = self.stamp(now);
        for slot in &slots {
            if let Some(was) = &slot.was {
                self.object_mut(was.object).place = None;
            }
            let dir = self.object_mut(slot.dir);
            (dir.mtime_ns, dir.ctime_ns) = (stamp, stamp);
            if let Body::Directory { live, .. } = &mut dir.body {
                match &slot.now {
                    Some(entry) => live.insert(slot.key.clone(), entry.clone()),
                    None => live.remove(&slot.key),
                };
            }
        }
        for slot in &slots {
            if let Some(entry) = &slot.now {
                let object = self.object_mut(entry.object);
                object.place = Some((slot.dir, slot.key.clone()));
                object.ctime_ns = stamp;
            }
        }
        self.remember(NameOp { at_ns: now.monotonic_ns, slots });
    }

    fn make(&mut self, body: Body, now: Moment) -> ObjectId {
        self.made += 1;
        let id = ObjectId(self.made);
        let inode = self.free_inodes.pop_first().unwrap_or_else(|| {
            self.inodes += 1;
            self.inodes
        });
        let stamp = self.stamp(now);
        let object = Object {
            inode,
            place: None,
            body,
            mtime_ns: stamp,
            ctime_ns: stamp,
            executable: false,
            access: Access::Full,
            handles: [0; 2],
            pending: 0,
            dirty_since_ns: None,
        };
        self.used_bytes += OBJECT_BYTES + object.pages() * PAGE_BYTES;
        self.objects.insert(id, object);
        id
    }

    /// Removes an object to which nothing leads any more.
    pub(super) fn free_if_unused(&mut self, id: ObjectId) {
        let unused = |object: &Object| object.place.is_none() && object.handles == [0; 2] && object.pending == 0;
        if id == self.root || !self.objects.get(&id).is_some_and(unused) {
            return;
        }
        let Some(object) = self.objects.remove(&id) else { return };
        self.used_bytes -= OBJECT_BYTES + object.pages() * PAGE_BYTES;
        if let Some(since) = object.dirty_since_ns {
            self.dirty.remove(&(since, id));
        }
        if self.spec.reuses_inodes {
            self.free_inodes.insert(object.inode);
        }
    }

    fn soil(&mut self, id: ObjectId, now: Moment) {
        if self.object(id).dirty_since_ns.is_none() {
            self.object_mut(id).dirty_since_ns = Some(now.monotonic_ns);
            self.dirty.insert((now.monotonic_ns, id));
        }
    }

    /// The process of an actor is gone, and whatever it had open is closed.
    pub(super) fn forget_handles(&mut self, who: Actor) {
        for id in self.objects.keys().copied().collect::<Vec<_>>() {
            let object = self.object_mut(id);
            if std::mem::take(&mut object.handles[who as usize]) > 0 {
                self.free_if_unused(id);
            }
        }
    }

    fn may_change(&self, dir: ObjectId) -> Result<()> {
        let object = self.object(dir);
        match object.access {
            // A directory that was removed, and that somebody still holds.
            _ if object.place.is_none() && dir != self.root => Err(Errno::NoEntry),
            _ if self.read_only => Err(Errno::ReadOnly),
            Access::Full => Ok(()),
            Access::LookOnly | Access::Nothing => Err(Errno::Access),
        }
    }

    fn may_replace(&self, moving: ObjectId, standing: ObjectId) -> Result<()> {
        match (self.object(moving).entries(), self.object(standing).entries()) {
            (Some(_), Some(entries)) if !entries.is_empty() => Err(Errno::NotEmpty),
            (Some(_), None) => Err(Errno::NotDirectory),
            (None, Some(_)) => Err(Errno::IsDirectory),
            (Some(_), Some(_)) | (None, None) => Ok(()),
        }
    }

    fn may_be_called(&self, name: &[u8]) -> Result<()> {
        if self.spec.naming.stores(name) { Ok(()) } else { Err(Errno::Invalid) }
    }

    fn has_room(&self, bytes: u64) -> Result<()> {
        if bytes > self.free_bytes() { Err(Errno::NoSpace) } else { Ok(()) }
    }

    fn coarse(&self, time_ns: i64) -> i64 {
        let step = self.spec.time_step_ns.max(1) as i64;
        time_ns.div_euclid(step) * step
    }

    /// The time that a change bears.
    fn stamp(&mut self, now: Moment) -> i64 {
        if self.spec.time_step_ns > 1 {
            return self.coarse(now.wall_ns);
        }
        let (wall, after) = self.stamped;
        self.stamped = if wall == now.wall_ns { (wall, after + 1) } else { (now.wall_ns, 0) };
        self.stamped.0 + self.stamped.1
    }
}
