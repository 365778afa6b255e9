//! The world: devices, the network between them, and what whoever runs it may do to them.
//!
//! [`World::turn`] makes one thing happen; everything else here is made of it. What users and faults do is done
//! between turns. Nothing is decided here: which device crashes, and when, is the caller's business.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tidegate::core::command::{Command, Fault, Reply};
use tidegate::core::io::Input;
use tidegate_protocol::id::{DeviceId, Label, LibraryId, LocationId, Nonce};

use crate::backend::{PageFile, PageImage};
use crate::clock::Chip;
use crate::device::{Cut, Device, Fall, StartError, Surround, key_of};
use crate::disk::DiskImage;
use crate::executor::{Executor, Group, MILLI, Nanos, Ran, SECOND, lock};
use crate::happening::{DeviceIndex, Ear};
use crate::network::Net;
use crate::network::weather::Weather;
use crate::random::{Draws, Kind, Stream};
use crate::witness::Notes;

/// Longest that [`World::ask`] and [`World::stop`] wait.
const ANSWER_MAX: Nanos = 600 * SECOND;

/// Names a command that was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CallId(u64);

/// What became of a command.
pub type Answer = Result<Reply, Fault>;

type Answers = Arc<Mutex<BTreeMap<CallId, (DeviceIndex, Answer)>>>;

/// A copy of all that is on a device.
#[derive(Clone)]
pub struct DeviceImage {
    /// Its disks.
    pub disk: DiskImage,
    /// Its replica.
    pub pages: PageImage,
}

/// Many devices and one time.
pub struct World {
    /// The network.
    pub net: Net,
    /// What the devices' cores decided and said.
    pub notes: Notes,
    executor: Executor,
    draws: Draws,
    ear: Ear,
    devices: Vec<Device>,
    answers: Answers,
    calls: u64,
    ids: Stream,
}

impl World {
    /// An empty world. `ear` hears of everything that happens in it.
    pub fn new(seed: u64, weather: Weather, ear: Ear) -> Self {
        let draws = Draws::new(seed);
        let executor = Executor::new(draws);
        let net = Net::new(executor.group(Group::WORLD), draws, weather, ear.clone());
        Self {
            net,
            notes: Notes::default(),
            executor,
            draws,
            ear,
            devices: Vec::new(),
            answers: Answers::default(),
            calls: 0,
            ids: draws.stream(Kind::Identity, u64::MAX, 0),
        }
    }

    /// A new device with an empty disk, its clock as given. It is not started.
    pub fn add_device(&mut self, name: &str, chip: Chip) -> DeviceIndex {
        let index = self.devices.len() as DeviceIndex;
        let id = DeviceId::from_bytes(key_of(self.draws, index).verifying_key().to_bytes());
        let placed = self.net.add(id);
        assert_eq!(placed, index, "devices are added here only");
        let device = Device::new(name, index, chip, &self.around());
        self.devices.push(device);
        index
    }

    /// A device.
    pub fn device(&self, device: DeviceIndex) -> &Device {
        &self.devices[device as usize]
    }

    /// A device, to change what it is told at its next start.
    pub fn device_mut(&mut self, device: DeviceIndex) -> &mut Device {
        &mut self.devices[device as usize]
    }

    /// All devices.
    pub fn devices(&self) -> &[Device] {
        &self.devices
    }

    fn around(&self) -> Surround<'_> {
        Surround { executor: &self.executor, net: &self.net, draws: self.draws, ear: &self.ear, notes: &self.notes }
    }

    /// Does something to a device with the world around it.
    fn with<T>(&mut self, device: DeviceIndex, act: impl FnOnce(&mut Device, &Surround<'_>) -> T) -> T {
        let mut devices = std::mem::take(&mut self.devices);
        let done = act(&mut devices[device as usize], &self.around());
        self.devices = devices;
        done
    }

    /// Starts a device.
    pub fn start(&mut self, device: DeviceIndex) -> Result<(), StartError> {
        self.with(device, Device::start)
    }

    /// Stops a device as a person does, and waits until it has. False if it fell instead.
    pub fn stop(&mut self, device: DeviceIndex) -> bool {
        self.devices[device as usize].begin_stop();
        self.run_while(ANSWER_MAX, |world| world.device(device).is_up());
        match self.device(device).ended() {
            Some(None) => {
                self.with(device, Device::finish_stop);
                true
            }
            Some(Some(_)) | None => false,
        }
    }

    /// Cuts a device off, in the middle of whatever it does, or gives one that fell its end.
    pub fn crash(&mut self, device: DeviceIndex, how: Cut) {
        self.with(device, |device, around| device.cut(how, around));
    }

    /// Devices that fell by themselves and have not been given their end by [`World::crash`].
    pub fn fallen(&self) -> Vec<(DeviceIndex, Fall)> {
        self.devices.iter().filter_map(|device| Some((device.index, device.ended()??))).collect()
    }

    /// A copy of all that is on a device, as a backup of the whole machine has it.
    pub fn image(&self, device: DeviceIndex) -> DeviceImage {
        let device = self.device(device);
        DeviceImage { disk: device.disk.image(), pages: device.pages.image() }
    }

    /// Puts a copy back. The device must be down.
    pub fn restore(&self, device: DeviceIndex, image: &DeviceImage) {
        let device = self.device(device);
        device.disk.restore(&image.disk);
        device.pages.restore(&image.pages);
    }

    /// The device loses its replica; its files stay. It must be down.
    pub fn lose_replica(&self, device: DeviceIndex) {
        self.device(device).pages.remove();
    }

    /// Gives a command to a device; the answer comes by [`World::take_answer`]. `None` if it is down.
    pub fn command(&mut self, device: DeviceIndex, command: Command) -> Option<CallId> {
        let (id, done) = self.call(device);
        self.device(device).command(command, done).then_some(id)
    }

    fn call(&mut self, device: DeviceIndex) -> (CallId, impl FnOnce(Answer) + Send + 'static) {
        self.calls += 1;
        let (id, answers) = (CallId(self.calls), Arc::clone(&self.answers));
        (id, move |answer| {
            lock(&answers).insert(id, (device, answer));
        })
    }

    /// What became of a command, once.
    pub fn take_answer(&self, call: CallId) -> Option<Answer> {
        lock(&self.answers).remove(&call).map(|(_, answer)| answer)
    }

    /// All answers that have come, in the order in which the commands were given.
    pub fn take_answers(&self) -> Vec<(CallId, DeviceIndex, Answer)> {
        let answers = std::mem::take(&mut *lock(&self.answers));
        answers.into_iter().map(|(id, (device, answer))| (id, device, answer)).collect()
    }

    /// Gives a command and lets time pass until it is answered. `None` if the device is down or goes down.
    pub fn ask(&mut self, device: DeviceIndex, command: Command) -> Option<Answer> {
        let call = self.command(device, command)?;
        self.await_answer(device, call)
    }

    fn await_answer(&mut self, device: DeviceIndex, call: CallId) -> Option<Answer> {
        self.run_while(ANSWER_MAX, |world| world.device(device).is_up() && !lock(&world.answers).contains_key(&call));
        self.take_answer(call)
    }

    /// Adds a location at an absolute path, which is made if it is not there, and waits for the answer.
    pub fn add_location(&mut self, device: DeviceIndex, name: &str, path: &str) -> Option<Result<LocationId, Fault>> {
        // Refused later if something else stands there.
        let _ = self.device(device).disk.user().make_dirs(path);
        let id = LocationId::from_bytes(self.ids.bytes16());
        let nonce = Nonce::from_bytes(self.ids.bytes16());
        let (call, done) = self.call(device);
        if !self.device(device).add_location((id, nonce), name, path, done) {
            return None;
        }
        Some(self.await_answer(device, call)?.map(|_| id))
    }

    /// `joiner` types the code that `host` shows: the inputs are those of a pairing that was proved on both sides.
    /// False if one of them is down.
    pub fn pair(&mut self, host: DeviceIndex, joiner: DeviceIndex) -> bool {
        let Some(library) = self.library(host) else { return false };
        for (device, other, joined) in [(host, joiner, false), (joiner, host, true)] {
            let name = Label::lossy(&self.device(other).name);
            let paired = Input::Paired { device: self.device(other).id(), name, library, joined };
            if !self.device(device).input(paired) {
                return false;
            }
            self.net.introduce(device, other);
        }
        true
    }

    /// The library of a device, if it is up.
    pub fn library(&mut self, device: DeviceIndex) -> Option<LibraryId> {
        match self.ask(device, Command::Status)? {
            Ok(Reply::Status(status)) => Some(status.library),
            Ok(_) | Err(_) => None,
        }
    }

    /// The present.
    pub fn now(&self) -> Nanos {
        self.executor.now()
    }

    /// The present, in milliseconds.
    pub fn now_ms(&self) -> u64 {
        self.now() / MILLI
    }

    /// Events so far.
    pub const fn events(&self) -> u64 {
        self.executor.events()
    }

    /// Tasks that live.
    pub fn tasks(&self) -> usize {
        self.executor.tasks()
    }

    /// Makes the next thing happen, if one is due at or before `until`; else time is `until` and nothing happened.
    pub fn turn(&mut self, until: Nanos) -> Ran {
        self.executor.step(until)
    }

    /// Lets time pass until `until`.
    pub fn run_until(&mut self, until: Nanos) {
        while self.turn(until) != Ran::Nothing {}
    }

    /// Lets `span` of time pass.
    pub fn run_for(&mut self, span: Nanos) {
        self.run_until(self.now() + span);
    }

    /// Lets time pass while something holds, for at most `span`. True if it does not hold any more.
    pub fn run_while(&mut self, span: Nanos, holds: impl Fn(&Self) -> bool) -> bool {
        let until = self.now() + span;
        while holds(self) {
            if self.turn(until) == Ran::Nothing {
                return !holds(self);
            }
        }
        true
    }

    /// The file of a device's replica.
    pub fn pages(&self, device: DeviceIndex) -> &PageFile {
        &self.device(device).pages
    }
}
