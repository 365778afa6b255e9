//! The seam as one incarnation of the node sees it. Before each call others may get their turn or time may pass;
//! then the whole call happens at once, unless a fault says otherwise.

use std::future::Future;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tidegate_storage::disk::{
    DirEntry, File, FileKind, FileSystem, Metadata, RenameMode, RootDir, RootIdentity, Space, TreePath,
};

use super::Shared;
use super::content::Content;
use super::errno::{Errno, Result};
use super::faults::Fate;
use super::machine::{Address, Machine, Removal, Spot};
use super::object::{Access, Body, Entries};
use super::observe::Actor;
use super::volume::{Moment, Onto};

/// The disks of a device, as one incarnation of its node sees them.
#[derive(Clone)]
pub struct SimFileSystem(Process);

/// A held root.
#[derive(Clone)]
pub struct SimRoot(Arc<Held>);

/// An open file.
pub struct SimFile {
    process: Process,
    address: Address,
    writable: bool,
}

#[derive(Clone)]
struct Process {
    shared: Arc<Shared>,
    incarnation: u64,
}

struct Held {
    process: Process,
    spot: Spot,
    path: Vec<u8>,
}

/// Lets whoever is ready go first, once.
struct Turn(bool);

impl Future for Turn {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.0, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

fn dead() -> io::Error {
    io::Error::other("the process is dead")
}

impl Process {
    /// One call, on a volume as soon as that is known. `act` gets a number if the process dies within it.
    async fn call<T>(
        &self,
        volume: Option<u64>,
        act: impl FnOnce(&mut Machine, Moment, Option<u64>) -> Result<T> + Send,
    ) -> io::Result<T> {
        let (takes_ns, yields) = self.shared.with(|Machine { faults, stream, .. }| {
            let takes_ns = if faults.call_takes_ns > 0 { 1 + stream.around(faults.call_takes_ns) } else { 0 };
            (takes_ns, faults.yield_ppm > 0 && stream.chance(faults.yield_ppm))
        });
        if takes_ns > 0 {
            self.shared.world.sleep(takes_ns).await;
        } else if yields {
            Turn(false).await;
        }
        while self.shared.with(|machine| machine.alive && machine.faults.halts()) {
            Turn(false).await;
        }
        let now = self.shared.world.moment();
        self.shared.with(|machine| {
            if machine.incarnation != self.incarnation || !machine.alive {
                return Err(dead());
            }
            machine.counts.calls += 1;
            match machine.faults.meet(volume, &mut machine.stream) {
                Fate::Happens => return Ok(act(machine, now, None)?),
                Fate::Fails(errno) => return Err(errno.into()),
                // Whatever it came to, nobody lives to hear it.
                Fate::DiesBefore => {}
                Fate::DiesAfter => drop(act(machine, now, None)),
                Fate::DiesWithin(number) => drop(act(machine, now, Some(number))),
            }
            machine.end();
            machine.died = true;
            Err(dead())
        })
    }
}

impl Machine {
    /// The process is gone.
    pub(super) fn end(&mut self) {
        self.alive = false;
        for volume in self.volumes.values_mut() {
            volume.forget_handles(Actor::Node);
        }
        self.faults.die_at = None;
        self.faults.halt_at = None;
    }

    pub(super) fn identity(&self, path: &[u8]) -> Result<RootIdentity> {
        let (spot, rest) = self.locate(path)?;
        let volume = self.volume(spot.volume)?;
        let object = volume.object(volume.find(spot.top, rest)?);
        object.entries().ok_or(Errno::NotDirectory)?;
        Ok(RootIdentity { file_system: volume.spec.id, inode: object.inode })
    }

    /// What stands in a directory that may be read.
    fn entries(&self, spot: Spot, path: &[u8]) -> Result<&Entries> {
        let object = self.volume(spot.volume)?.object(self.find(spot, path)?);
        match object.access {
            Access::Nothing => Err(Errno::Access),
            Access::Full | Access::LookOnly => object.entries().ok_or(Errno::NotDirectory),
        }
    }

    fn stat(&self, (volume, id): Address) -> Result<Metadata> {
        Ok(self.volume(volume)?.metadata(id))
    }

    fn content(&self, (volume, id): Address) -> Result<&Content> {
        self.volume(volume)?.object(id).content().ok_or(Errno::Invalid)
    }

    fn open_file(&mut self, spot: Spot, path: &[u8], for_writing: bool) -> Result<Address> {
        let id = self.find(spot, path)?;
        let volume = self.volume(spot.volume)?;
        let object = volume.object(id);
        let (kind, access, read_only) = (object.kind(), object.access, volume.read_only);
        if kind != FileKind::File {
            return Err(Errno::Invalid);
        }
        match access {
            Access::Full if for_writing && read_only => return Err(Errno::ReadOnly),
            Access::Full => {}
            Access::LookOnly if !for_writing => {}
            Access::LookOnly | Access::Nothing => return Err(Errno::Access),
        }
        self.open(Actor::Node, (spot.volume, id))?;
        Ok((spot.volume, id))
    }
}

impl SimFileSystem {
    pub(super) const fn new(shared: Arc<Shared>, incarnation: u64) -> Self {
        Self(Process { shared, incarnation })
    }
}

impl FileSystem for SimFileSystem {
    type Root = SimRoot;

    async fn open_root(&self, path: &Path) -> io::Result<SimRoot> {
        let path = path.as_os_str().as_bytes();
        let open = |machine: &mut Machine, _, _| {
            let (spot, rest) = machine.locate(path)?;
            let top = machine.find(spot, rest)?;
            machine.volume(spot.volume)?.object(top).entries().ok_or(Errno::NotDirectory)?;
            machine.open(Actor::Node, (spot.volume, top))?;
            Ok(Spot { volume: spot.volume, top })
        };
        let spot = self.0.call(None, open).await?;
        Ok(SimRoot(Arc::new(Held { process: self.0.clone(), spot, path: path.to_vec() })))
    }
}

impl SimRoot {
    pub(super) fn spot(&self) -> Spot {
        self.0.spot
    }

    pub(super) fn path(&self) -> &[u8] {
        &self.0.path
    }

    fn file(&self, address: Address, writable: bool) -> SimFile {
        SimFile { process: self.0.process.clone(), address, writable }
    }

    async fn call<T>(&self, act: impl FnOnce(&mut Machine, Moment, Option<u64>) -> Result<T> + Send) -> io::Result<T> {
        self.0.process.call(Some(self.0.spot.volume), act).await
    }

    async fn make(&self, path: &TreePath, body: Body) -> io::Result<Address> {
        let spot = self.0.spot;
        self.call(move |m, now, _| {
            self.has_room_for(m, path)?;
            m.create(Actor::Node, spot, path.as_bytes(), body, now)
        })
        .await
    }

    fn has_room_for(&self, machine: &Machine, path: &TreePath) -> Result<()> {
        let full = &machine.faults.no_room_for;
        let at = || [self.0.path.as_slice(), path.as_bytes()].join(b"/".as_slice());
        if !full.is_empty() && full.contains(&at()) { Err(Errno::NoSpace) } else { Ok(()) }
    }

    async fn take(&self, path: &TreePath, what: Removal) -> io::Result<()> {
        let spot = self.0.spot;
        self.call(move |m, now, _| m.remove(Actor::Node, spot, path.as_bytes(), what, now)).await
    }
}

impl RootDir for SimRoot {
    type File = SimFile;

    async fn identity(&self) -> io::Result<RootIdentity> {
        self.call(|m, _, _| m.identity(&self.0.path)).await
    }

    async fn space(&self) -> io::Result<Space> {
        let space = |m: &mut Machine, _, _| {
            let volume = m.volume(self.0.spot.volume)?;
            Ok(Space { free: volume.free_bytes(), total: volume.spec.capacity_bytes })
        };
        self.call(space).await
    }

    async fn metadata(&self, path: &TreePath) -> io::Result<Option<Metadata>> {
        let spot = self.0.spot;
        let look = |m: &mut Machine, _, _| match m.find(spot, path.as_bytes()) {
            Ok(id) => m.stat((spot.volume, id)).map(Some),
            Err(Errno::NoEntry | Errno::NotDirectory | Errno::Loop) => Ok(None),
            Err(other) => Err(other),
        };
        self.call(look).await
    }

    async fn list(&self, path: &TreePath) -> io::Result<Vec<DirEntry>> {
        let spot = self.0.spot;
        let look = |m: &mut Machine, _, _| {
            let mut listed = Vec::new();
            for entry in m.entries(spot, path.as_bytes())?.values() {
                let metadata = m.stat((spot.volume, entry.object))?;
                listed.push(DirEntry { name: entry.spelling.to_vec(), metadata: Ok(metadata) });
            }
            listed.sort_unstable_by(|a, b| a.name.cmp(&b.name));
            Ok(listed)
        };
        self.call(look).await
    }

    async fn read_link(&self, path: &TreePath) -> io::Result<Vec<u8>> {
        let spot = self.0.spot;
        let look = |m: &mut Machine, _, _| {
            let id = m.find(spot, path.as_bytes())?;
            match &m.volume(spot.volume)?.object(id).body {
                Body::Symlink(target) => Ok(target.to_vec()),
                Body::File { .. } | Body::Directory { .. } | Body::Special => Err(Errno::Invalid),
            }
        };
        self.call(look).await
    }

    async fn open(&self, path: &TreePath) -> io::Result<SimFile> {
        let spot = self.0.spot;
        let address = self.call(|m, _, _| m.open_file(spot, path.as_bytes(), false)).await?;
        Ok(self.file(address, false))
    }

    async fn open_staged(&self, path: &TreePath) -> io::Result<SimFile> {
        let spot = self.0.spot;
        let address = self.call(|m, _, _| m.open_file(spot, path.as_bytes(), true)).await?;
        Ok(self.file(address, true))
    }

    async fn create(&self, path: &TreePath) -> io::Result<SimFile> {
        let spot = self.0.spot;
        let make = |m: &mut Machine, now, _| {
            let body = Body::File { content: Content::default(), saved: None, low: 0 };
            self.has_room_for(m, path)?;
            let address = m.create(Actor::Node, spot, path.as_bytes(), body, now)?;
            m.open(Actor::Node, address)?;
            Ok(address)
        };
        let address = self.call(make).await?;
        Ok(self.file(address, true))
    }

    async fn make_dir(&self, path: &TreePath) -> io::Result<()> {
        let body = Body::Directory { live: Entries::new(), durable: Entries::new() };
        self.make(path, body).await.map(drop)
    }

    async fn make_symlink(&self, path: &TreePath, target: &[u8]) -> io::Result<()> {
        self.make(path, Body::Symlink(target.into())).await.map(drop)
    }

    async fn rename(&self, from: &TreePath, to: &TreePath, mode: RenameMode) -> io::Result<()> {
        let spot = self.0.spot;
        let onto = match mode {
            RenameMode::NoReplace => Onto::Nothing,
            RenameMode::Exchange => Onto::Exchange,
        };
        let rename = |m: &mut Machine, now, _| {
            self.has_room_for(m, to)?;
            m.rename(Actor::Node, (spot, from.as_bytes()), (spot, to.as_bytes()), onto, now)
        };
        self.call(rename).await
    }

    async fn remove_file(&self, path: &TreePath) -> io::Result<()> {
        self.take(path, Removal::Name).await
    }

    async fn remove_dir(&self, path: &TreePath) -> io::Result<()> {
        self.take(path, Removal::EmptyDirectory).await
    }

    async fn sync_dir(&self, path: &TreePath) -> io::Result<()> {
        self.call(|m, _, _| m.sync_dir(self.0.spot, path.as_bytes())).await
    }

    async fn sync_all(&self) -> io::Result<()> {
        self.call(|m, _, _| m.sync_all(self.0.spot.volume)).await
    }
}

impl SimFile {
    async fn call<T>(&self, act: impl FnOnce(&mut Machine, Moment, Option<u64>) -> Result<T> + Send) -> io::Result<T> {
        self.process.call(Some(self.address.0), act).await
    }

    async fn change(&self, change: impl FnOnce(&mut Content, Option<u64>) + Send) -> io::Result<()> {
        if !self.writable {
            return Err(Errno::Access.into());
        }
        let edit =
            |m: &mut Machine, now, within| m.edit(Actor::Node, self.address, now, |content| change(content, within));
        self.call(edit).await
    }
}

impl File for SimFile {
    async fn metadata(&self) -> io::Result<Metadata> {
        self.call(|m, _, _| m.stat(self.address)).await
    }

    async fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.call(|m, _, _| Ok(m.content(self.address)?.read(buffer, offset))).await
    }

    async fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let write = |content: &mut Content, within: Option<u64>| {
            let length = within.map_or(bytes.len(), |number| number as usize % (bytes.len() + 1));
            content.write(&bytes[..length], offset);
        };
        self.change(write).await
    }

    async fn copy_from(&self, source: &Self, source_offset: u64, offset: u64, length: u64) -> io::Result<u64> {
        if !self.writable {
            return Err(Errno::Access.into());
        }
        let copy = |m: &mut Machine, now, within: Option<u64>| {
            let from = m.content(source.address)?;
            let most = from.len().saturating_sub(source_offset).min(length);
            let mut bytes = vec![0; most as usize];
            from.read(&mut bytes, source_offset);
            bytes.truncate(within.map_or(most, |number| number % (most + 1)) as usize);
            m.edit(Actor::Node, self.address, now, |content| content.write(&bytes, offset))?;
            Ok(most)
        };
        self.call(copy).await
    }

    async fn set_len(&self, length: u64) -> io::Result<()> {
        self.change(|content, _| content.set_len(length)).await
    }

    async fn set_metadata(&self, mtime_ns: i64, executable: bool) -> io::Result<()> {
        let set = |m: &mut Machine, now, _| m.set_metadata(Actor::Node, self.address, mtime_ns, executable, now);
        self.call(set).await
    }

    async fn sync(&self) -> io::Result<()> {
        self.call(|m, _, _| m.sync_file(self.address)).await
    }
}

impl Process {
    fn close(&self, address: Address) {
        self.shared.with(|machine| {
            if machine.alive && machine.incarnation == self.incarnation {
                machine.close(Actor::Node, address);
            }
        });
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        self.process.close(self.address);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.process.close((self.spot.volume, self.spot.top));
    }
}
