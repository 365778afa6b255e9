//! One device: what survives its incarnations, and how one of them begins and ends.
//!
//! An incarnation is put together as `node/src/serve.rs` puts together a real node: replica, core, driver, and a
//! pump that brings the core what happens on the network. How it ends decides what is left: told to stop, killed,
//! cut off from power, or fallen by itself.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;

use async_channel::Receiver;
use ed25519_dalek::SigningKey;
use tidegate::core::command::{Command, Fault, FaultCode, Reply};
use tidegate::core::io::Input;
use tidegate::core::{Core, CoreConfig, CoreError, TrashLimits};
use tidegate::driver::{Driver, Handle as NodeHandle};
use tidegate::env::{Clock, Env};
use tidegate_protocol::file_sync::Guards;
use tidegate_protocol::id::{DeviceId, Label, LocationId, Nonce};
use tidegate_protocol::limits::EVIDENCE_AGE_MS_MAX;
use tidegate_storage::disk::{FileSystem, Marker, load_rules, mark_root};
use tidegate_storage::store::{Store, StoreError};

use crate::backend::PageFile;
use crate::clock::Chip;
use crate::disk::{Disk, Survival, VolumeSpec};
use crate::env::{Around, SimEnv, SimSpawn};
use crate::executor::{Executor, Group, Handle, lock};
use crate::happening::{DeviceIndex, Ear, What};
use crate::network::{Ending, Net, NetworkEvent};
use crate::random::{Draws, Kind};
use crate::watch::{SimWatch, Watchers};
use crate::witness::{Notes, Watched};

/// The volume that every device has, mounted at its top.
pub const MAIN_VOLUME: u64 = 1;

/// Settings as a node has them that nobody configured.
pub fn default_config(name: &str) -> CoreConfig {
    CoreConfig {
        name: Label::lossy(name),
        admitted: Vec::new(),
        settle_ms: 250,
        rescan_ms: 3_600_000,
        evidence_age_ms_max: EVIDENCE_AGE_MS_MAX,
        guards: Guards::default(),
        free_bytes_min: 1 << 30,
        parallel_transfers: 4,
        index_rows_max: 10_000_000,
        index_bytes_max: 4 << 30,
        // What the trash held is evidence: it is not purged in a run.
        trash: TrashLimits { age_ms_max: 0, percent_max: 0 },
    }
}

/// How a device is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The power goes; this is left of what was not on the platter.
    Power(Survival),
    /// The process is killed; the machine runs on.
    Process,
}

/// Why an incarnation ended by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fall {
    /// At a call of its disk or its replica, as it was told to.
    Armed,
    /// Its replica failed.
    Replica(String),
    /// It gave up in the middle of a step: a bug, unless its replica's disk lies.
    Panic,
}

/// Why a device did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its replica cannot be opened; the device stays down.
    #[error(transparent)]
    Replica(#[from] CoreError),
    /// It runs.
    #[error("the device runs")]
    Running,
}

/// One device of a world.
pub struct Device {
    /// Its number.
    pub index: DeviceIndex,
    /// Its name.
    pub name: String,
    /// Its disks.
    pub disk: Disk,
    /// The file of its replica.
    pub pages: PageFile,
    /// Its clock.
    pub chip: Chip,
    /// Its watchers.
    pub watchers: Watchers,
    /// What its core is told at the next start.
    pub config: CoreConfig,
    /// How often its replica was found damaged and begun anew.
    pub replicas_lost: u64,
    key: SigningKey,
    incarnation: u32,
    running: Option<Running>,
}

/// An incarnation.
struct Running {
    handle: Handle,
    env: SimEnv,
    node: NodeHandle<SimEnv>,
    /// How the driver ended.
    ended: Ended,
}

/// Set when the driver has ended: `None` in it if it was told to.
type Ended = Arc<Mutex<Option<Option<Fall>>>>;

/// What a device is built from.
pub(crate) struct Surround<'a> {
    pub(crate) executor: &'a Executor,
    pub(crate) net: &'a Net,
    pub(crate) draws: Draws,
    pub(crate) ear: &'a Ear,
    pub(crate) notes: &'a Notes,
}

impl Device {
    pub(crate) fn new(name: &str, index: DeviceIndex, chip: Chip, around: &Surround<'_>) -> Self {
        let number = u64::from(index);
        let world = around.executor.group(Group::WORLD);
        let surroundings = Arc::new(Around { handle: world, chip: chip.clone() });
        let disk = Disk::new(surroundings, around.draws.stream(Kind::Disk, number, 0));
        disk.mount("/", VolumeSpec::plain(MAIN_VOLUME));
        Self {
            index,
            name: name.to_owned(),
            disk,
            pages: PageFile::new(around.draws.stream(Kind::Backend, number, 0)),
            chip,
            watchers: Watchers::default(),
            config: default_config(name),
            replicas_lost: 0,
            key: key_of(around.draws, index),
            incarnation: 0,
            running: None,
        }
    }

    /// Its id.
    pub fn id(&self) -> DeviceId {
        DeviceId::from_bytes(self.key.verifying_key().to_bytes())
    }

    /// Whether an incarnation runs.
    pub fn is_up(&self) -> bool {
        self.running.as_ref().is_some_and(|running| lock(&running.ended).is_none())
    }

    /// How many incarnations there were.
    pub const fn incarnation(&self) -> u32 {
        self.incarnation
    }

    /// The way to the running core.
    pub fn node(&self) -> Option<&NodeHandle<SimEnv>> {
        self.running.as_ref().filter(|_| self.is_up()).map(|running| &running.node)
    }

    /// Starts an incarnation.
    pub(crate) fn start(&mut self, around: &Surround<'_>) -> Result<(), StartError> {
        if self.is_up() {
            return Err(StartError::Running);
        }
        self.incarnation += 1;
        let (device, number) = (u64::from(self.index), u64::from(self.incarnation));
        let draw = |kind| around.draws.stream(kind, device, number);
        let handle = around.executor.group(Group { device: self.index, incarnation: self.incarnation });
        let disk = self.disk.start();
        let store = self.open_store().map_err(CoreError::from)?;
        let (network, happened) = around.net.start(self.index, &handle);
        let clock = self.chip.start(&handle);
        let watch = SimWatch::new(
            self.disk.clone(),
            handle.clone(),
            self.watchers.clone(),
            draw(Kind::Watch),
            around.ear.clone(),
        );
        let spawner = SimSpawn::new(handle.clone(), draw(Kind::Schedule));
        let env = SimEnv::new(clock, spawner, network, disk, watch, draw(Kind::Entropy));
        let mut first = Vec::new();
        let now = env.clock().now();
        let core = match Core::new(store, self.key.clone(), self.config.clone(), env.entropy(), now, &mut first) {
            Ok(core) => core,
            Err(error) => {
                around.net.end(self.index, Ending::PowerCut);
                handle.end();
                return Err(error.into());
            }
        };
        let machine = Watched::new(core, self.index as usize, (around.notes.clone(), self.pages.clone()), now, &first);
        let admitting = env.network().clone();
        let admit = Box::new(move |library, devices| admitting.allow(library, &devices));
        let (driver, node) = Driver::new(env.clone(), machine, admit);
        handle.spawn(pump(happened, node.clone()));
        let ended = Ended::default();
        let (over, pages, falls, net, index) =
            (Arc::clone(&ended), self.pages.clone(), handle.clone(), around.net.clone(), self.index);
        let driving = guarded(Box::pin(driver.run(first)));
        handle.spawn(async move {
            let fall = match driving.await {
                Some(Ok(())) => None,
                Some(Err(_)) | None if !pages.is_alive() => Some(Fall::Armed),
                Some(Err(CoreError::Store(error))) => Some(Fall::Replica(error.to_string())),
                None => Some(Fall::Panic),
            };
            // Jobs may not go on without a core: a real process would be gone by now.
            if fall.is_some() {
                net.end(index, Ending::PowerCut);
                falls.end();
            }
            *lock(&over) = Some(fall);
        });
        let (over, net, falls) = (Arc::clone(&ended), around.net.clone(), handle.clone());
        self.disk.on_death(move || {
            net.end(index, Ending::PowerCut);
            falls.end();
            lock(&over).get_or_insert(Some(Fall::Armed));
        });
        around.ear.hear(handle.now(), self.index, What::Started { incarnation: self.incarnation });
        self.running = Some(Running { handle, env, node, ended });
        Ok(())
    }

    /// Opens the replica. A damaged one gives way to a new one, as in production.
    fn open_store(&mut self) -> Result<Store, StoreError> {
        let store = match Store::with_backend(self.pages.open(), self.id()) {
            Err(StoreError::Corrupt(_)) if self.pages.is_alive() => {
                self.replicas_lost += 1;
                self.pages.remove();
                Store::with_backend(self.pages.open(), self.id())?
            }
            opened => opened?,
        };
        self.pages.created();
        Ok(store)
    }

    /// Tells the incarnation to stop.
    pub(crate) fn begin_stop(&self) {
        if let Some(running) = &self.running {
            running.node.stop();
        }
    }

    /// Whether the driver has ended, and if it fell, why.
    pub fn ended(&self) -> Option<Option<Fall>> {
        self.running.as_ref().and_then(|running| lock(&running.ended).clone())
    }

    /// Puts away an incarnation that has been told to stop and has.
    pub(crate) fn finish_stop(&mut self, around: &Surround<'_>) {
        let Some(running) = self.running.take() else { return };
        around.net.end(self.index, Ending::Told);
        running.handle.end();
        self.disk.kill();
        self.pages.kill();
        around.ear.hear(running.handle.now(), self.index, What::Stopped);
    }

    /// Ends an incarnation in the middle of whatever it does, or gives one that fell its end.
    pub(crate) fn cut(&mut self, how: Cut, around: &Surround<'_>) {
        if let Some(running) = self.running.take() {
            around.net.end(self.index, Ending::PowerCut);
            running.handle.end();
            around.ear.hear(running.handle.now(), self.index, What::Crashed);
        }
        match how {
            Cut::Power(survival) => {
                self.disk.power_cut(survival);
                self.pages.power_cut(survival.data);
            }
            Cut::Process => {
                self.disk.kill();
                self.pages.kill();
            }
        }
    }

    /// Has the core carry out a command; `done` hears the answer, unless the incarnation ends first.
    pub(crate) fn command(&self, command: Command, done: impl FnOnce(Result<Reply, Fault>) + Send + 'static) -> bool {
        let Some(running) = self.running.as_ref().filter(|_| self.is_up()) else { return false };
        let node = running.node.clone();
        running.handle.spawn(async move { done(node.command(command).await) });
        true
    }

    /// Brings the core an input, as the network or pairing would.
    pub(crate) fn input(&self, input: Input) -> bool {
        let Some(running) = self.running.as_ref().filter(|_| self.is_up()) else { return false };
        let node = running.node.clone();
        running.handle.spawn(async move {
            // Nobody is there to be told that the node has ended.
            let _ = node.send(input).await;
        });
        true
    }

    /// Adds a location as the node's face does: reads rules, marks the root, commands the core.
    pub(crate) fn add_location(
        &self,
        (id, nonce): (LocationId, Nonce),
        name: &str,
        path: &str,
        done: impl FnOnce(Result<Reply, Fault>) + Send + 'static,
    ) -> bool {
        let Some(running) = self.running.as_ref().filter(|_| self.is_up()) else { return false };
        let (env, node, device) = (running.env.clone(), running.node.clone(), self.id());
        let (name, root) = (Label::lossy(name), std::path::PathBuf::from(path));
        running.handle.spawn(async move {
            let prepared = async {
                let held = env.disk().open_root(&root).await.map_err(|error| error.to_string())?;
                let (rules, _) = load_rules(&held).await.map_err(|error| error.to_string())?;
                let marker = Marker { location: id, device, nonce };
                let binding = mark_root(&held, marker).await.map_err(|error| error.to_string())?;
                Ok((binding.identity, rules))
            };
            done(match prepared.await {
                Ok((identity, rules)) => node.command(Command::AddLocation { id, name, root, identity, rules }).await,
                Err(why) => Err(refused(why)),
            });
        });
        true
    }
}

fn refused(why: String) -> Fault {
    Fault {
        code: FaultCode::Storage,
        message: "the directory was not added".to_owned(),
        why,
        next: Vec::new(),
        do_not: None,
    }
}

/// The key of a device; the same in every run of a seed, whatever else happens.
pub(crate) fn key_of(draws: Draws, index: DeviceIndex) -> SigningKey {
    SigningKey::from_bytes(&draws.stream(Kind::Identity, u64::from(index), 0).bytes32())
}

/// Brings the core what happens on the network, as `node/src/serve/network.rs` does.
async fn pump(happened: Receiver<NetworkEvent>, node: NodeHandle<SimEnv>) {
    while let Ok(event) = happened.recv().await {
        match event {
            NetworkEvent::PeerUp { device, address } => {
                node.send(Input::PeerUp { device, address }).await;
            }
            NetworkEvent::PeerDown { device } => {
                node.send(Input::PeerDown { device }).await;
            }
            NetworkEvent::Announcement(bytes) => node.offer(Input::Announcement(bytes.to_vec())),
            NetworkEvent::Incoming(stream) => node.accept(stream),
        }
    }
}

/// A future whose panic is its end: `None`.
fn guarded<T>(mut job: Pin<Box<dyn Future<Output = T> + Send>>) -> impl Future<Output = Option<T>> + Send {
    poll_fn(move |context| match catch_unwind(AssertUnwindSafe(|| job.as_mut().poll(context))) {
        Ok(poll) => poll.map(Some),
        Err(_) => Poll::Ready(None),
    })
}
