//! Before the plan's time begins: devices with their disks, one library, locations with their first files, grants and
//! conduits. All of it in fair weather, and by the commands that people give.

use tidegate::core::command::{Command, ConduitChange, NewConduit, Reply, SelectionChange};
use tidegate_protocol::id::Label;
use tidegate_protocol::index::Rights;
use tidegate_protocol::path::DirPath;

use super::Run;
use crate::clock::Chip;
use crate::disk::{Naming, VolumeSpec};
use crate::executor::{MILLI, Nanos, SECOND};
use crate::happening::Ear;
use crate::network::weather::Weather;
use crate::plan::{ConduitPlan, Millis, NetworkPlan, Place, Plan};
use crate::user::absolute;
use crate::verdict::{Violation, names};
use crate::world::World;

/// Volumes of locations are numbered from here; the main volume of a device has a lower number.
const VOLUMES_BEGIN: u64 = 10;
/// A volume that takes a root's place has this much more.
pub(super) const OTHER_VOLUME: u64 = 1_000;
/// Gossip that is late comes this late at most.
const GOSSIP_LATE: Nanos = 120 * SECOND;
/// How long to wait for the first of everything.
const SETTLED_MAX: Nanos = 120 * SECOND;

/// The world of a plan, empty.
pub(super) fn world(plan: &Plan, ear: Ear) -> World {
    let mut world = World::new(plan.seed, Weather::FAIR, ear);
    for device in &plan.devices {
        let index = world.add_device(&device.name, Chip::new(device.drift_ppm, device.skew_ms));
        world.device_mut(index).config.settle_ms = device.settle.0;
        world.device_mut(index).config.free_bytes_min = 0;
    }
    world
}

/// The weather of a plan.
pub(super) fn weather(network: &NetworkPlan) -> Weather {
    Weather {
        latency_min: network.latency_ms.0 * MILLI,
        latency_max: network.latency_ms.1.max(network.latency_ms.0) * MILLI,
        loss_ppm: network.gossip_loss_ppm,
        repeat_ppm: network.gossip_repeat_ppm,
        delay_ppm: network.gossip_repeat_ppm,
        delay_max: GOSSIP_LATE,
        reset_ppm: network.reset_ppm,
        bytes_per_s: network.bytes_per_s,
    }
}

/// Subtrees and files as they are, the rest as patterns.
fn selected(chosen: &[String]) -> SelectionChange {
    if chosen.is_empty() {
        return SelectionChange::default();
    }
    let (patterns, paths): (Vec<&String>, Vec<&String>) = chosen.iter().partition(|text| is_pattern(text));
    let dir = |text: &&String| match text.as_str() {
        "." => DirPath::TOP,
        text => DirPath::from_slashes(text.as_bytes()).expect("it was read as a path"),
    };
    let (subtrees, include) = (paths.iter().map(dir).collect(), patterns.into_iter().cloned().collect());
    SelectionChange { subtrees: Some(subtrees), include: Some(include), ..SelectionChange::default() }
}

/// Whether a selected text is a pattern.
fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

impl Run<'_> {
    pub(super) fn set_up(&mut self) {
        let plan = self.plan;
        for device in 0..plan.devices.len() {
            self.set_lies(device);
            if let Err(error) = self.world.start(device as u32) {
                self.fail(&format!("{} does not start: {error}", plan.devices[device].name));
                return;
            }
        }
        self.world.run_for(SECOND);
        let host = plan.devices.iter().position(|device| device.member).unwrap_or(0);
        for (device, it) in plan.devices.iter().enumerate() {
            self.standing[device].out = !it.member;
            if device != host && it.member && !self.world.pair(host as u32, device as u32) {
                self.fail("two devices cannot be paired");
                return;
            }
        }
        self.world.run_for(10 * SECOND);
        for location in 0..plan.locations.len() {
            self.furnish(location);
            let it = &plan.locations[location];
            if let Some(device) = plan.device(&it.device)
                && let Err(why) = self.add_location(device, &it.name)
            {
                self.fail(&why);
                return;
            }
        }
        self.world.run_for(5 * SECOND);
        for conduit in &plan.conduits {
            if let Err(why) = self.grant(conduit).and_then(|()| self.create(conduit)) {
                self.fail(&why);
                return;
            }
        }
        self.world.net.set_weather(weather(&plan.network));
        self.began = self.world.now();
        self.observe();
    }

    fn fail(&mut self, why: &str) {
        self.tell(Violation::new(names::ALIVE, "setup", why.to_owned()));
    }

    pub(super) fn set_lies(&self, device: usize) {
        let lies = crate::disk::Lies { skip_file_sync: self.lies.file_sync, skip_dir_sync: self.lies.dir_sync };
        let device = self.world.device(device as u32);
        device.disk.set_lies(lies);
        let commits = self.lies.commits;
        device.pages.faults(|faults| faults.lies = commits);
    }

    /// Which volume a location of the plan is on.
    pub(super) fn volume(&self, device: usize, location: &str) -> u64 {
        let name = &self.plan.devices[device].name;
        VOLUMES_BEGIN + self.plan.location(name, location).unwrap_or_default() as u64
    }

    /// What the disks of a device are like.
    pub(super) fn spec(&self, device: usize, volume: u64) -> VolumeSpec {
        let it = &self.plan.devices[device];
        VolumeSpec {
            time_step_ns: it.mtime_step_ns,
            naming: Naming { ignores_case: it.folds_case, ..Naming::default() },
            exchanges: it.exchange,
            reuses_inodes: it.reuses_inodes,
            ..VolumeSpec::plain(volume)
        }
    }

    /// Mounts the volume of a location and puts its first files there.
    fn furnish(&mut self, location: usize) {
        let it = &self.plan.locations[location];
        let Some(device) = self.plan.device(&it.device) else { return };
        let disk = self.world.device(device as u32).disk.clone();
        let path = absolute(&Self::place(&it.name));
        // What is seen there while the volume is not.
        let _ = disk.user().make_dirs(&path);
        disk.mount(&path, self.spec(device, self.volume(device, &it.name)));
        for (number, (path, content)) in it.files.iter().enumerate() {
            let place = Place { location: it.name.clone(), path: path.clone() };
            let number = (location * 100_000 + number) as u32;
            self.users.furnish(device, &disk, &place, content, number, &mut self.ghost);
        }
        if !it.rules.is_empty() {
            let deed = crate::plan::Deed::Rules(it.name.clone(), it.rules.clone());
            let _ = self.users.act(
                Millis(0),
                (device, &disk),
                (&deed, u32::MAX / 2 - location as u32),
                None,
                &mut self.ghost,
            );
        }
    }

    /// Adds a location on its device, and remembers under which id.
    pub(super) fn add_location(&mut self, device: usize, name: &str) -> Result<(), String> {
        let path = absolute(&Self::place(name));
        match self.world.add_location(device as u32, name, &path) {
            Some(Ok(id)) => {
                self.locations.insert((device, name.to_owned()), id);
                Ok(())
            }
            Some(Err(fault)) => {
                Err(format!("location {name} on {}: {fault}: {}", self.plan.devices[device].name, fault.why))
            }
            None => Err(format!("location {name}: {} is off", self.plan.devices[device].name)),
        }
    }

    /// Lets the two owners of a conduit do what it needs.
    pub(super) fn grant(&mut self, conduit: &ConduitPlan) -> Result<(), String> {
        let both = !conduit.mode.is_one_way();
        let read = Rights { read: true, write: both, delete: both };
        let all = Rights { read: both, write: true, delete: true };
        for (end, other, rights) in [(&conduit.source, &conduit.target, read), (&conduit.target, &conduit.source, all)]
        {
            if end.device == other.device {
                continue;
            }
            let device = self.device_named(&end.device);
            let before = self.rights(device, &end.place.location, &other.device);
            let rights = Rights {
                read: rights.read || before.read,
                write: rights.write || before.write,
                delete: rights.delete || before.delete,
            };
            let command = Command::Allow { location: end.place.location.clone(), device: other.device.clone(), rights };
            match self.world.ask(device as u32, command) {
                Some(Ok(_)) => {}
                Some(Err(fault)) => return Err(format!("grant on {end}: {fault}: {}", fault.why)),
                None => return Err(format!("grant on {end}: the device is off")),
            }
        }
        Ok(())
    }

    fn rights(&mut self, device: usize, location: &str, other: &str) -> Rights {
        match self.world.ask(device as u32, Command::Location(location.to_owned())) {
            Some(Ok(Reply::Location(view))) => {
                let found = view.grants.iter().find(|(name, _)| name.as_str() == other);
                found.map_or(Rights::NONE, |(_, rights)| *rights)
            }
            _ => Rights::NONE,
        }
    }

    pub(super) fn device_named(&self, name: &str) -> usize {
        self.plan.device(name).expect("names were checked when the plan was read")
    }

    fn create(&mut self, conduit: &ConduitPlan) -> Result<(), String> {
        let device = self.device_named(&conduit.source.device) as u32;
        let at = self.plan.conduit(&conduit.name).unwrap_or_default();
        let new = || NewConduit {
            name: Label::lossy(&conduit.name),
            source: conduit.source.to_string(),
            target: conduit.target.to_string(),
            mode: conduit.mode,
            change: ConduitChange {
                schedule: Some(conduit.schedule),
                strategy: Some(conduit.strategy),
                delete_mode: Some(conduit.delete_mode),
                bandwidth_limit: Some(conduit.limit.clone()),
                selection: selected(&conduit.select),
                ..ConduitChange::default()
            },
        };
        // The other end's location must be known here first.
        let end = self.world.now() + SETTLED_MAX;
        loop {
            let why = match self.world.ask(device, Command::CreateConduit(new())) {
                Some(Ok(Reply::Conduit(view))) => {
                    let id = view.id.parse().map_err(|_| "a conduit without an id".to_owned())?;
                    self.conduits.insert(id, at);
                    return Ok(());
                }
                Some(Ok(_)) => return Err("another answer than a conduit".to_owned()),
                Some(Err(fault)) => format!("conduit {}: {fault}: {}", conduit.name, fault.why),
                None => format!("conduit {}: the device is off", conduit.name),
            };
            if self.world.now() > end {
                return Err(why);
            }
            self.world.run_for(SECOND);
        }
    }
}
