//! One device's disks together: which volume is mounted where, who did what to them, who watches, and what is
//! about to go wrong. Everything that happens to a tree, by the node or by a user, happens through here.

use std::collections::BTreeMap;

use tidegate_storage::disk::FileKind;

use super::content::Content;
use super::errno::{Errno, Result};
use super::faults::{Faults, Lies};
use super::object::{Body, ObjectId};
use super::observe::{Actor, Change, Counts, Deed, Feed, Held, nameable};
use super::volume::{Moment, Onto, Volume};
use crate::random::Stream;

/// A directory of a volume; paths are relative to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spot {
    pub(super) volume: u64,
    pub(super) top: ObjectId,
}

/// An object of a volume.
pub(super) type Address = (u64, ObjectId);

pub(super) struct Machine {
    pub(super) volumes: BTreeMap<u64, Volume>,
    /// By path, without a slash at the end.
    pub(super) mounts: BTreeMap<Vec<u8>, u64>,
    /// How often the power went.
    pub(super) cuts: u64,
    pub(super) incarnation: u64,
    /// Whether the process of this incarnation runs.
    pub(super) alive: bool,
    pub(super) faults: Faults,
    pub(super) lies: Lies,
    pub(super) stream: Stream,
    pub(super) changes: Vec<Change>,
    /// Grows with every change.
    pub(super) revision: u64,
    /// Who is told of changes below which root, opened at which path.
    pub(super) subscriptions: BTreeMap<u64, (Spot, Vec<u8>)>,
    pub(super) subscribed: u64,
    /// What they are to be told.
    pub(super) feed: Vec<(u64, Feed)>,
    /// Whether the process has just died at a call.
    pub(super) died: bool,
    pub(super) counts: Counts,
}

impl Machine {
    pub(super) fn volume(&self, id: u64) -> Result<&Volume> {
        // A disk that was pulled answers nothing any more.
        if self.mounts.values().any(|mounted| *mounted == id) {
            self.volumes.get(&id).ok_or(Errno::Io)
        } else {
            Err(Errno::Io)
        }
    }

    fn volume_mut(&mut self, id: u64) -> Result<&mut Volume> {
        if self.mounts.values().any(|mounted| *mounted == id) {
            self.volumes.get_mut(&id).ok_or(Errno::Io)
        } else {
            Err(Errno::Io)
        }
    }

    /// The mounted volume that an absolute path leads to, and the path below its root.
    pub(super) fn locate<'a>(&self, path: &'a [u8]) -> Result<(Spot, &'a [u8])> {
        let path = path.strip_suffix(b"/").unwrap_or(path);
        let below = |mount: &Vec<u8>| {
            let rest = path.strip_prefix(mount.as_slice())?;
            (rest.is_empty() || rest[0] == b'/').then(|| rest.strip_prefix(b"/").unwrap_or(rest))
        };
        let found = self.mounts.iter().rev().find_map(|(mount, id)| Some((*id, below(mount)?)));
        let (volume, rest) = found.ok_or(Errno::NoEntry)?;
        Ok((Spot { volume, top: self.volume(volume)?.root }, rest))
    }

    pub(super) fn find(&self, spot: Spot, path: &[u8]) -> Result<ObjectId> {
        self.volume(spot.volume)?.find(spot.top, path)
    }

    pub(super) fn create(&mut self, who: Actor, spot: Spot, path: &[u8], body: Body, now: Moment) -> Result<Address> {
        let volume = self.volume_mut(spot.volume)?;
        let (dir, name) = volume.dir_of(spot.top, path)?;
        volume.write_back(now);
        let id = volume.create(dir, name, body, now)?;
        let kind = volume.object(id).kind();
        let at = self.saw(spot.volume, dir, name);
        self.log(who, now, at, Deed::Created { kind });
        Ok((spot.volume, id))
    }

    pub(super) fn remove(&mut self, who: Actor, spot: Spot, path: &[u8], kind: Removal, now: Moment) -> Result<()> {
        let volume = self.volume_mut(spot.volume)?;
        let (dir, name) = volume.dir_of(spot.top, path)?;
        volume.write_back(now);
        let id = volume.entry(dir, name)?.ok_or(Errno::NoEntry)?.object;
        let held = held(volume, id);
        volume.unlink(dir, name, kind == Removal::EmptyDirectory, now)?;
        let at = self.saw(spot.volume, dir, name);
        if kind == Removal::EmptyDirectory {
            self.look_for_roots();
        }
        self.log(who, now, at, Deed::Removed { held });
        Ok(())
    }

    pub(super) fn rename(
        &mut self,
        who: Actor,
        (from_spot, from): (Spot, &[u8]),
        (to_spot, to): (Spot, &[u8]),
        onto: Onto,
        now: Moment,
    ) -> Result<()> {
        if from_spot.volume != to_spot.volume {
            return Err(Errno::Invalid);
        }
        let id = from_spot.volume;
        let volume = self.volume_mut(id)?;
        let (from_dir, from_name) = volume.dir_of(from_spot.top, from)?;
        let (to_dir, to_name) = volume.dir_of(to_spot.top, to)?;
        volume.write_back(now);
        let moving = volume.entry(from_dir, from_name)?.ok_or(Errno::NoEntry)?.object;
        let moving = held(volume, moving);
        let standing = volume.entry(to_dir, to_name)?.map(|entry| held(volume, entry.object));
        let replaced = volume.rename((from_dir, from_name), (to_dir, to_name), onto, now)?;
        let old = self.saw(id, from_dir, from_name);
        let new = self.saw(id, to_dir, to_name);
        self.look_for_roots();
        let deed = match standing {
            Some(other) if onto == Onto::Exchange => Deed::Exchanged { with: old, held: moving, other },
            standing => Deed::Moved { from: old, held: moving, replaced: standing.filter(|_| replaced.is_some()) },
        };
        self.log(who, now, new, deed);
        Ok(())
    }

    /// Changes the content of a file. What was there before goes into the log if the change took any of it.
    pub(super) fn edit(
        &mut self,
        who: Actor,
        (volume, id): Address,
        now: Moment,
        change: impl FnOnce(&mut Content),
    ) -> Result<()> {
        let tree = self.volume_mut(volume)?;
        tree.write_back(now);
        let before = tree.object(id).content().cloned().unwrap_or_default();
        tree.edit(id, now, change)?;
        self.wrote(who, (volume, id), before, now);
        Ok(())
    }

    pub(super) fn set_metadata(
        &mut self,
        who: Actor,
        (volume, id): Address,
        mtime_ns: i64,
        executable: bool,
        now: Moment,
    ) -> Result<()> {
        let tree = self.volume_mut(volume)?;
        tree.write_back(now);
        tree.set_metadata(id, mtime_ns, executable, now)?;
        let at = self.saw_object((volume, id));
        self.log(who, now, at, Deed::Marked);
        Ok(())
    }

    pub(super) fn sync_file(&mut self, (volume, id): Address) -> Result<()> {
        self.counts.syncs += 1;
        let lies = self.lies;
        let volume = self.volume_mut(volume)?;
        if !lies.skip_file_sync {
            volume.save(id);
        }
        if !lies.skip_dir_sync {
            volume.save_moves_of(id);
        }
        Ok(())
    }

    pub(super) fn sync_dir(&mut self, spot: Spot, path: &[u8]) -> Result<()> {
        self.counts.syncs += 1;
        let lie = self.lies.skip_dir_sync;
        let volume = self.volume_mut(spot.volume)?;
        let dir = volume.find(spot.top, path)?;
        if volume.object(dir).kind() != FileKind::Directory {
            return Err(Errno::NotDirectory);
        }
        if !lie {
            volume.save_names_of(dir);
        }
        Ok(())
    }

    pub(super) fn sync_all(&mut self, volume: u64) -> Result<()> {
        self.counts.syncs += 1;
        let Lies { skip_file_sync, skip_dir_sync } = self.lies;
        let volume = self.volume_mut(volume)?;
        if !skip_file_sync {
            volume.save_all();
        }
        if !skip_dir_sync {
            volume.save_all_names();
        }
        Ok(())
    }

    pub(super) fn open(&mut self, who: Actor, (volume, id): Address) -> Result<()> {
        self.volume_mut(volume)?.object_mut(id).handles[who as usize] += 1;
        Ok(())
    }

    pub(super) fn close(&mut self, who: Actor, (volume, id): Address) {
        let Some(volume) = self.volumes.get_mut(&volume) else { return };
        if let Some(object) = volume.objects.get_mut(&id) {
            let handles = &mut object.handles[who as usize];
            *handles = handles.saturating_sub(1);
        }
        volume.free_if_unused(id);
    }

    /// The absolute path of a name in a directory.
    pub(super) fn path(&self, volume: u64, dir: ObjectId, name: &[u8]) -> Vec<u8> {
        let mount = self.mounts.iter().find(|(_, mounted)| **mounted == volume);
        let mut path = mount.map(|(path, _)| path.clone()).unwrap_or_default();
        let below = self.volumes.get(&volume).and_then(|tree| tree.path_below(tree.root, dir, name));
        if let Some(below) = below.filter(|below| !below.is_empty()) {
            path.push(b'/');
            path.extend_from_slice(&below);
        }
        path
    }

    /// Tells the watchers of a name that something happened to it; answers its absolute path.
    fn saw(&mut self, volume: u64, dir: ObjectId, name: &[u8]) -> Vec<u8> {
        if let Some(tree) = self.volumes.get(&volume) {
            for (number, (spot, _)) in self.subscriptions.iter().filter(|(_, (spot, _))| spot.volume == volume) {
                let path = tree.path_below(spot.top, dir, name).as_deref().and_then(nameable);
                self.feed.extend(path.map(|path| (*number, Feed::Touched(path))));
            }
        }
        self.path(volume, dir, name)
    }

    /// Tells those whose root is no longer where it was.
    pub(super) fn look_for_roots(&mut self) {
        let stands = |spot: &Spot, path: &[u8]| {
            self.locate(path).is_ok_and(|(at, rest)| at.volume == spot.volume && self.find(at, rest) == Ok(spot.top))
        };
        let gone = self.subscriptions.iter().filter(|(_, (spot, path))| !stands(spot, path));
        let gone: Vec<_> = gone.map(|(number, _)| (*number, Feed::RootGone)).collect();
        self.feed.extend(gone);
    }

    /// Tells the watchers that something about an object changed; answers its absolute path.
    pub(super) fn saw_object(&mut self, (volume, id): Address) -> Vec<u8> {
        let tree = self.volumes.get(&volume);
        let place = tree.and_then(|tree| {
            let (dir, key) = tree.object(id).place.clone()?;
            Some((dir, tree.object(dir).entries()?.get(&key)?.spelling.clone()))
        });
        place.map(|(dir, name)| self.saw(volume, dir, &name)).unwrap_or_default()
    }

    fn wrote(&mut self, who: Actor, address: Address, before: Content, now: Moment) {
        let after = self.volumes.get(&address.0).and_then(|tree| tree.object(address.1).content().cloned());
        let at = self.saw_object(address);
        let kept = after.is_some_and(|after| after.starts_with(&before));
        self.log(who, now, at, if kept { Deed::Added } else { Deed::Overwrote { before } });
    }

    fn log(&mut self, who: Actor, now: Moment, path: Vec<u8>, deed: Deed) {
        self.revision += 1;
        if who == Actor::Node {
            self.counts.changes += 1;
        }
        self.changes.push(Change { at_ns: now.monotonic_ns, who, path, deed });
    }
}

/// What a removal may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Removal {
    Name,
    EmptyDirectory,
}

fn held(volume: &Volume, id: ObjectId) -> Held {
    let object = volume.object(id);
    let link = match &object.body {
        Body::Symlink(target) => Some(target.to_vec()),
        Body::File { .. } | Body::Directory { .. } | Body::Special => None,
    };
    Held { kind: object.kind(), content: object.content().cloned(), link }
}
