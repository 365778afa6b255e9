//! The simulated disk of a device: file systems in memory, with a live picture, a platter, and what lies between
//! them.
//!
//! [`Disk`] belongs to whoever runs the world: it starts incarnations of the node's process, lets them fall, cuts
//! the power, mounts and pulls volumes, and says what goes wrong. [`SimFileSystem`] is what one incarnation sees:
//! the seam of `tidegate_storage::disk`. [`User`] is everybody else on that machine; what a user does takes effect
//! at once and is never counted, failed or delayed. The operating system of the simulated machine has one more
//! promise than the seam asks for: a rename is one change, on both its ends, in every power cut.
//!
//! Not modelled: hard links, owners and permissions beyond [`Access`], mounts below a root.

mod content;
mod durable;
mod errno;
mod faults;
mod machine;
mod names;
mod object;
mod observe;
mod seam;
mod user;
mod volume;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tidegate_protocol::hash::ContentHash;
use tidegate_storage::disk::RootIdentity;

pub use content::{Content, PAGE_BYTES, SECTOR_BYTES};
pub use durable::{DataLeft, NamesLeft, Survival};
pub use errno::Errno;
pub use faults::{Faults, Lies};
pub use names::Naming;
pub use object::Access;
pub use observe::{Actor, Change, Counts, Deed, Feed, Held, Picture, Shown, Tree};
pub use seam::{SimFile, SimFileSystem, SimRoot};
pub use user::{User, UserFile};
pub use volume::{Moment, VolumeSpec};

use self::machine::Machine;
use self::volume::Volume;
use crate::random::Stream;

/// What a disk needs of the world around it.
pub trait Surroundings: Send + Sync + 'static {
    /// This moment.
    fn moment(&self) -> Moment;
    /// Resolves after this long.
    fn sleep(&self, span_ns: u64) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// The disks of one device, as whoever runs the world sees them. Cheap to clone.
#[derive(Clone)]
pub struct Disk(Arc<Shared>);

struct Shared {
    machine: Mutex<Machine>,
    sinks: Mutex<BTreeMap<u64, Sink>>,
    hook: Mutex<Option<Hook>>,
    world: Arc<dyn Surroundings>,
}

type Sink = Box<dyn FnMut(Feed) + Send>;
type Hook = Arc<dyn Fn() + Send + Sync>;

impl Shared {
    /// Does something with the machine; what others want to know of it they are told when the lock is free.
    fn with<T>(&self, act: impl FnOnce(&mut Machine) -> T) -> T {
        let (done, feed, died) = {
            let mut machine = self.machine.lock().unwrap_or_else(PoisonError::into_inner);
            let done = act(&mut machine);
            (done, std::mem::take(&mut machine.feed), std::mem::take(&mut machine.died))
        };
        for (number, event) in feed {
            let sink = self.sinks.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
            let Some(mut sink) = sink else { continue };
            sink(event);
            self.sinks.lock().unwrap_or_else(PoisonError::into_inner).insert(number, sink);
        }
        if died {
            let hook = self.hook.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some(hook) = hook {
                hook();
            }
        }
        done
    }
}

/// A copy of everything that is on the disks of a device.
#[derive(Clone)]
pub struct DiskImage {
    volumes: BTreeMap<u64, Volume>,
    mounts: BTreeMap<Vec<u8>, u64>,
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Disk")
    }
}

impl fmt::Debug for DiskImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DiskImage")
    }
}

impl Disk {
    /// A device without volumes and without a process. All its chances come from `stream`.
    pub fn new(world: Arc<dyn Surroundings>, stream: Stream) -> Self {
        let machine = Machine {
            volumes: BTreeMap::new(),
            mounts: BTreeMap::new(),
            cuts: 0,
            incarnation: 0,
            alive: false,
            faults: Faults::default(),
            lies: Lies::default(),
            stream,
            changes: Vec::new(),
            revision: 0,
            subscriptions: BTreeMap::new(),
            subscribed: 0,
            feed: Vec::new(),
            died: false,
            counts: Counts::default(),
        };
        Self(Arc::new(Shared { machine: Mutex::new(machine), sinks: Mutex::default(), hook: Mutex::default(), world }))
    }

    /// Mounts a volume at an absolute path, over whatever stands there. A volume that this device has had before
    /// under this id comes back as it was; else it is new and empty.
    pub fn mount(&self, path: &str, spec: VolumeSpec) {
        let now = self.0.world.moment();
        self.0.with(|machine| {
            machine.volumes.entry(spec.id).or_insert_with(|| Volume::new(spec, now));
            machine.mounts.insert(path.trim_end_matches('/').as_bytes().to_vec(), spec.id);
            machine.revision += 1;
            machine.look_for_roots();
        });
    }

    /// Pulls the volume mounted at a path: whoever holds a directory of it gets errors, and the path leads to
    /// whatever is beneath it. What was not synced is written first if `cleanly`. Answers whether one was there.
    pub fn unmount(&self, path: &str, cleanly: bool) -> bool {
        self.0.with(|machine| {
            let Some(id) = machine.mounts.remove(path.trim_end_matches('/').as_bytes()) else { return false };
            machine.revision += 1;
            machine.cuts += 1;
            let mut stream = machine.stream.below_key(machine.cuts);
            if let Some(volume) = machine.volumes.get_mut(&id) {
                if cleanly {
                    volume.save_all();
                    volume.save_all_names();
                } else {
                    volume.power_cut(Survival::draw(&mut stream), &mut stream);
                }
            }
            machine.look_for_roots();
            true
        })
    }

    /// Starts the node's process anew and answers its view. The one before is over.
    pub fn start(&self) -> SimFileSystem {
        let incarnation = self.0.with(|machine| {
            machine.end();
            machine.incarnation += 1;
            machine.alive = true;
            machine.faults.calls = 0;
            machine.incarnation
        });
        SimFileSystem::new(Arc::clone(&self.0), incarnation)
    }

    /// Ends the node's process; the machine runs on, so nothing is lost.
    pub fn kill(&self) {
        self.0.with(Machine::end);
    }

    /// The power goes: the process ends, and of what was not on the platter `survival` is left. Answers the files
    /// that are no longer what they were, by absolute path, and what they held.
    pub fn power_cut(&self, survival: Survival) -> Vec<(Vec<u8>, Content)> {
        let now = self.0.world.moment();
        self.0.with(|machine| {
            machine.end();
            machine.revision += 1;
            machine.cuts += 1;
            let mut stream = machine.stream.below_key(machine.cuts);
            let before = machine.all_files();
            for volume in machine.volumes.values_mut() {
                volume.write_back(now);
                volume.power_cut(survival, &mut stream);
            }
            let after = machine.all_files();
            before.into_iter().filter(|(path, content)| after.get(path) != Some(content)).collect()
        })
    }

    /// Whether a process runs; not after [`Faults::die_at`].
    pub fn is_alive(&self) -> bool {
        self.0.with(|machine| machine.alive)
    }

    /// Calls `hook`, with no lock held, whenever a process dies at a call.
    pub fn on_death(&self, hook: impl Fn() + Send + Sync + 'static) {
        *self.0.hook.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(hook));
    }

    /// Looks at, or changes, what goes wrong.
    pub fn faults<T>(&self, look: impl FnOnce(&mut Faults) -> T) -> T {
        self.0.with(|machine| look(&mut machine.faults))
    }

    /// Which syncs lie from now on.
    pub fn set_lies(&self, lies: Lies) {
        self.0.with(|machine| machine.lies = lies);
    }

    /// Gives a volume another size; it may be less than what is used.
    pub fn set_capacity(&self, volume: u64, bytes: u64) {
        self.0.with(|machine| {
            if let Some(volume) = machine.volumes.get_mut(&volume) {
                volume.spec.capacity_bytes = bytes;
            }
        });
    }

    /// What a volume holds, in bytes; 0 for one that was never there.
    pub fn used_bytes(&self, volume: u64) -> u64 {
        self.0.with(|machine| machine.volumes.get(&volume).map_or(0, |volume| volume.used_bytes))
    }

    /// Mounts a volume for reading only, or for writing again.
    pub fn set_read_only(&self, volume: u64, read_only: bool) {
        self.0.with(|machine| {
            if let Some(volume) = machine.volumes.get_mut(&volume) {
                volume.read_only = read_only;
            }
        });
    }

    /// Everybody else on this machine.
    pub fn user(&self) -> User {
        User(Arc::clone(&self.0))
    }

    /// The whole tree below an absolute path, without the path itself; `.tidegate` is part of it.
    pub fn tree(&self, path: &str, picture: Picture) -> Result<Tree, Errno> {
        self.0.with(|machine| machine.tree(path.as_bytes(), picture))
    }

    /// Which directory an absolute path leads to.
    pub fn identity(&self, path: &str) -> Result<RootIdentity, Errno> {
        self.0.with(|machine| machine.identity(path.as_bytes()))
    }

    /// Every content that is anywhere on these disks, also on volumes that are not mounted.
    pub fn contents(&self, picture: Picture) -> BTreeSet<ContentHash> {
        self.0.with(|machine| machine.contents(picture))
    }

    /// Takes the log of what was done since it was taken last, in order.
    pub fn take_changes(&self) -> Vec<Change> {
        self.0.with(|machine| std::mem::take(&mut machine.changes))
    }

    /// A number that grows with everything that changes on these disks.
    pub fn revision(&self) -> u64 {
        self.0.with(|machine| machine.revision)
    }

    /// What the node did with these disks so far, over all incarnations.
    pub fn counts(&self) -> Counts {
        self.0.with(|machine| machine.counts)
    }

    /// Tells `sink` of every change below a root, whoever made it, until the answer is dropped. It is called when
    /// the change has happened, and with no lock held.
    pub fn subscribe(&self, root: &SimRoot, sink: impl FnMut(Feed) + Send + 'static) -> Subscription {
        let number = self.0.with(|machine| {
            machine.subscribed += 1;
            machine.subscriptions.insert(machine.subscribed, (root.spot(), root.path().to_vec()));
            machine.subscribed
        });
        self.0.sinks.lock().unwrap_or_else(PoisonError::into_inner).insert(number, Box::new(sink));
        Subscription { shared: Arc::downgrade(&self.0), number }
    }

    /// A copy of all disks.
    pub fn image(&self) -> DiskImage {
        self.0.with(|machine| DiskImage { volumes: machine.volumes.clone(), mounts: machine.mounts.clone() })
    }

    /// Puts a copy back in place of everything, as after [`Disk::kill`] and a night of restoring.
    pub fn restore(&self, image: &DiskImage) {
        self.0.with(|machine| {
            machine.end();
            machine.cuts += 1;
            machine.revision += 1;
            machine.volumes.clone_from(&image.volumes);
            machine.mounts.clone_from(&image.mounts);
            for volume in machine.volumes.values_mut() {
                volume.save_all();
                volume.save_all_names();
                volume.forget_handles(Actor::Node);
                volume.forget_handles(Actor::User);
            }
            machine.look_for_roots();
        });
    }
}

/// As long as it lives, a sink is told of changes.
pub struct Subscription {
    shared: Weak<Shared>,
    number: u64,
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Subscription {}", self.number)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let Some(shared) = self.shared.upgrade() else { return };
        shared.with(|machine| machine.subscriptions.remove(&self.number));
        shared.sinks.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.number);
    }
}

#[cfg(test)]
mod tests;
