//! A user of the machine, with whatever programs: what they do happens at once, is seen by watchers, and never
//! meets a fault. Paths are absolute. What editors do is put together from these.

use std::sync::Arc;

use tidegate_storage::disk::{FileKind, Metadata};

use super::Shared;
use super::content::Content;
use super::errno::{Errno, Result};
use super::machine::{Address, Machine, Removal, Spot};
use super::object::{Access, Body, Entries};
use super::observe::{Actor, Tree};
use super::volume::{Moment, Onto};

/// A user of one device's disks. Cheap to clone.
#[derive(Clone)]
pub struct User(pub(super) Arc<Shared>);

/// A file that a user's program has open; it stays the same file wherever its name goes. Dropping it closes it.
pub struct UserFile {
    shared: Arc<Shared>,
    address: Address,
    /// A file that was open when the power went is open no more.
    cuts: u64,
}

impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("User")
    }
}

impl std::fmt::Debug for UserFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "UserFile {:?}", self.address)
    }
}

impl User {
    /// Writes a file whole, in place: cut to nothing, then written. It is made if it is not there.
    pub fn write(&self, path: &str, bytes: &[u8]) -> Result<()> {
        let file = self.open_or_create(path)?;
        file.truncate(0)?;
        file.write_at(bytes, 0)
    }

    /// Writes `bytes` to `temporary`, synced if `synced`, and renames it over `path`.
    pub fn save_by_rename(&self, path: &str, temporary: &str, bytes: &[u8], synced: bool) -> Result<()> {
        self.write(temporary, bytes)?;
        if synced {
            self.sync(temporary)?;
        }
        self.rename(temporary, path)
    }

    /// Adds to the end of a file, making it if it is not there.
    pub fn append(&self, path: &str, bytes: &[u8]) -> Result<()> {
        self.open_or_create(path)?.append(bytes)
    }

    /// Opens a file for writing.
    pub fn open(&self, path: &str) -> Result<UserFile> {
        self.on(path, |machine, spot, rest, _| {
            let id = machine.find(spot, rest)?;
            if machine.volume(spot.volume)?.object(id).kind() != FileKind::File {
                return Err(Errno::IsDirectory);
            }
            machine.open(Actor::User, (spot.volume, id))?;
            Ok(((spot.volume, id), machine.cuts))
        })
        .map(|(address, cuts)| UserFile { shared: Arc::clone(&self.0), address, cuts })
    }

    /// Makes an empty file, which must not exist, and opens it.
    pub fn create(&self, path: &str) -> Result<UserFile> {
        let file = || Body::File { content: Content::default(), saved: None, low: 0 };
        self.make(path, file())?;
        self.open(path)
    }

    /// Renames over whatever may be replaced there.
    pub fn rename(&self, from: &str, to: &str) -> Result<()> {
        self.rename_onto(from, to, Onto::Anything)
    }

    /// Renames where nothing stands.
    pub fn rename_no_replace(&self, from: &str, to: &str) -> Result<()> {
        self.rename_onto(from, to, Onto::Nothing)
    }

    /// Lets two names change places, at once where the volume can, else by way of `temporary`.
    pub fn swap(&self, one: &str, other: &str, temporary: &str) -> Result<()> {
        match self.rename_onto(one, other, Onto::Exchange) {
            Err(Errno::Unsupported) => {}
            done => return done,
        }
        self.rename(one, temporary)?;
        self.rename(other, one)?;
        self.rename(temporary, other)
    }

    /// Removes anything but a directory.
    pub fn remove(&self, path: &str) -> Result<()> {
        self.on(path, |machine, spot, rest, now| machine.remove(Actor::User, spot, rest, Removal::Name, now))
    }

    /// Makes a directory.
    pub fn make_dir(&self, path: &str) -> Result<()> {
        self.make(path, Body::Directory { live: Entries::new(), durable: Entries::new() })
    }

    /// Makes a directory and those above it, as far as they are missing.
    pub fn make_dirs(&self, path: &str) -> Result<()> {
        let ends = path.match_indices('/').map(|(end, _)| end).chain([path.len()]);
        for end in ends.filter(|end| *end > 0) {
            match self.kind(&path[..end]) {
                Ok(_) => {}
                Err(_) => match self.make_dir(&path[..end]) {
                    // Above the mount there is nothing to be made.
                    Err(Errno::NoEntry | Errno::Invalid) if end < path.len() => {}
                    made => made?,
                },
            }
        }
        Ok(())
    }

    /// Removes an empty directory.
    pub fn remove_dir(&self, path: &str) -> Result<()> {
        self.on(path, |machine, spot, rest, now| machine.remove(Actor::User, spot, rest, Removal::EmptyDirectory, now))
    }

    /// Removes a directory and everything in it, or something else.
    pub fn remove_tree(&self, path: &str) -> Result<()> {
        self.on(path, remove_tree)
    }

    /// Makes a symbolic link.
    pub fn make_symlink(&self, path: &str, target: &[u8]) -> Result<()> {
        self.make(path, Body::Symlink(target.into()))
    }

    /// Makes a FIFO.
    pub fn make_special(&self, path: &str) -> Result<()> {
        self.make(path, Body::Special)
    }

    /// Sets the executable bit.
    pub fn set_executable(&self, path: &str, executable: bool) -> Result<()> {
        self.mark(path, |found| (found.mark.mtime_ns, executable))
    }

    /// Sets the modification time.
    pub fn set_mtime(&self, path: &str, mtime_ns: i64) -> Result<()> {
        self.mark(path, |found| (mtime_ns, found.executable))
    }

    /// Says what may be done with a file or directory from now on, by the node as by users.
    pub fn set_access(&self, path: &str, access: Access) -> Result<()> {
        self.on(path, |machine, spot, rest, now| {
            let id = machine.find(spot, rest)?;
            if let Some(volume) = machine.volumes.get_mut(&spot.volume) {
                volume.set_access(id, access, now);
            }
            machine.saw_object((spot.volume, id));
            Ok(())
        })
    }

    /// Makes content and metadata of a file durable, or the names in a directory.
    pub fn sync(&self, path: &str) -> Result<()> {
        self.on(path, |machine, spot, rest, _| {
            let id = machine.find(spot, rest)?;
            match machine.volume(spot.volume)?.object(id).kind() {
                FileKind::Directory => machine.sync_dir(spot, rest),
                FileKind::File | FileKind::Symlink | FileKind::Special => machine.sync_file((spot.volume, id)),
            }
        })
    }

    /// Makes everything on the volume at `path` durable.
    pub fn sync_all(&self, path: &str) -> Result<()> {
        self.on(path, |machine, spot, _, _| machine.sync_all(spot.volume))
    }

    /// What a file holds.
    pub fn read(&self, path: &str) -> Result<Content> {
        self.on(path, |machine, spot, rest, _| {
            let object = machine.volume(spot.volume)?.object(machine.find(spot, rest)?);
            object.content().cloned().ok_or(Errno::IsDirectory)
        })
    }

    /// Text of a symbolic link.
    pub fn read_link(&self, path: &str) -> Result<Vec<u8>> {
        self.on(path, |machine, spot, rest, _| {
            match &machine.volume(spot.volume)?.object(machine.find(spot, rest)?).body {
                Body::Symlink(target) => Ok(target.to_vec()),
                Body::File { .. } | Body::Directory { .. } | Body::Special => Err(Errno::Invalid),
            }
        })
    }

    /// What a path is.
    pub fn kind(&self, path: &str) -> Result<FileKind> {
        self.metadata(path).map(|found| found.kind)
    }

    /// `lstat`.
    pub fn metadata(&self, path: &str) -> Result<Metadata> {
        self.on(path, |machine, spot, rest, _| {
            let id = machine.find(spot, rest)?;
            Ok(machine.volume(spot.volume)?.metadata(id))
        })
    }

    /// Names in a directory, as they are spelled, in byte order.
    pub fn list(&self, path: &str) -> Result<Vec<Vec<u8>>> {
        self.on(path, |machine, spot, rest, _| {
            let object = machine.volume(spot.volume)?.object(machine.find(spot, rest)?);
            let entries = object.entries().ok_or(Errno::NotDirectory)?;
            let mut names: Vec<Vec<u8>> = entries.values().map(|entry| entry.spelling.to_vec()).collect();
            names.sort_unstable();
            Ok(names)
        })
    }

    /// Makes a tree as a backup puts it back: everything in it under its name, with its times and executable bits.
    /// `path` is an existing directory; what stands in the way is written over.
    pub fn put_tree(&self, path: &str, tree: &Tree) -> Result<()> {
        for (below, shown) in tree {
            let below = std::str::from_utf8(below).map_err(|_| Errno::Invalid)?;
            let at = format!("{path}/{below}");
            match shown.metadata.kind {
                FileKind::Directory => self.make_dirs(&at)?,
                FileKind::Special => self.make_special(&at)?,
                FileKind::Symlink => self.make_symlink(&at, shown.link.as_deref().unwrap_or_default())?,
                FileKind::File => {
                    self.write(&at, &shown.content.as_ref().map(Content::bytes).unwrap_or_default())?;
                    self.set_executable(&at, shown.metadata.executable)?;
                    self.set_mtime(&at, shown.metadata.mark.mtime_ns)?;
                }
            }
        }
        Ok(())
    }

    fn open_or_create(&self, path: &str) -> Result<UserFile> {
        match self.open(path) {
            Err(Errno::NoEntry) => self.create(path),
            opened => opened,
        }
    }

    fn make(&self, path: &str, body: Body) -> Result<()> {
        self.on(path, |machine, spot, rest, now| machine.create(Actor::User, spot, rest, body, now).map(drop))
    }

    fn mark(&self, path: &str, marks: impl FnOnce(Metadata) -> (i64, bool)) -> Result<()> {
        self.on(path, |machine, spot, rest, now| {
            let id = machine.find(spot, rest)?;
            let (mtime_ns, executable) = marks(machine.volume(spot.volume)?.metadata(id));
            machine.set_metadata(Actor::User, (spot.volume, id), mtime_ns, executable, now)
        })
    }

    fn rename_onto(&self, from: &str, to: &str, onto: Onto) -> Result<()> {
        let now = self.0.world.moment();
        self.0.with(|machine| {
            let from = machine.locate(from.as_bytes())?;
            let to = machine.locate(to.as_bytes())?;
            machine.rename(Actor::User, from, to, onto, now)
        })
    }

    fn on<T>(&self, path: &str, act: impl FnOnce(&mut Machine, Spot, &[u8], Moment) -> Result<T>) -> Result<T> {
        let now = self.0.world.moment();
        self.0.with(|machine| {
            let (spot, rest) = machine.locate(path.as_bytes())?;
            act(machine, spot, rest, now)
        })
    }
}

impl UserFile {
    /// What it holds, wherever its name has gone.
    pub fn read(&self) -> Result<Content> {
        self.shared.with(|machine| {
            let objects = &machine.volume(self.address.0)?.objects;
            objects.get(&self.address.1).and_then(|object| object.content().cloned()).ok_or(Errno::Io)
        })
    }

    /// Writes at an offset.
    pub fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.change(|content| content.write(bytes, offset))
    }

    /// Writes at the end.
    pub fn append(&self, bytes: &[u8]) -> Result<()> {
        self.change(|content| content.write(bytes, content.len()))
    }

    /// Cuts or extends.
    pub fn truncate(&self, length: u64) -> Result<()> {
        self.change(|content| content.set_len(length))
    }

    fn change(&self, change: impl FnOnce(&mut Content)) -> Result<()> {
        let now = self.shared.world.moment();
        self.shared.with(|machine| {
            if machine.cuts != self.cuts {
                return Err(Errno::Io);
            }
            machine.edit(Actor::User, self.address, now, change)
        })
    }
}

impl Drop for UserFile {
    fn drop(&mut self) {
        self.shared.with(|machine| {
            if machine.cuts == self.cuts {
                machine.close(Actor::User, self.address);
            }
        });
    }
}

fn remove_tree(machine: &mut Machine, spot: Spot, path: &[u8], now: Moment) -> Result<()> {
    let object = machine.volume(spot.volume)?.object(machine.find(spot, path)?);
    let Some(entries) = object.entries() else {
        return machine.remove(Actor::User, spot, path, Removal::Name, now);
    };
    let names: Vec<Arc<[u8]>> = entries.values().map(|entry| Arc::clone(&entry.spelling)).collect();
    for name in names {
        let below = if path.is_empty() { name.to_vec() } else { [path, &name].join(b"/".as_slice()) };
        remove_tree(machine, spot, &below, now)?;
    }
    if path.is_empty() {
        return Ok(());
    }
    machine.remove(Actor::User, spot, path, Removal::EmptyDirectory, now)
}
