//! Rows of several conduits, on as many simulated devices as they name: with the code that ships, one conduit after the
//! other, as a person runs them.

use std::collections::BTreeSet;

use tidegate::core::command::{Command, ConduitChange, ConduitView, Fault, NewConduit, Reply};
use tidegate_protocol::file_sync::Guards;
use tidegate_protocol::id::Label;
use tidegate_protocol::index::Rights;
use tidegate_sim::clock::Chip;
use tidegate_sim::executor::SECOND;
use tidegate_sim::happening::Ear;
use tidegate_sim::network::weather::Weather;
use tidegate_sim::random::mix;
use tidegate_sim::world::World as Devices;

use super::disk::{ROOT, SimDisk};
use super::{CALL_TAKES_NS, LOOK_EVERY, NAME, PATIENCE, WAIT_MS, plain};
use crate::corpus::format::{Edit, Kind, Names};
use crate::corpus::model::{Net, TopologyPair, TopologyRow};
use crate::corpus::runner::Tree;

/// Devices, and the conduits between them by their names.
pub struct SimNet {
    devices: Devices,
    disks: Vec<SimDisk>,
    /// Each with the device that runs it.
    conduits: Vec<(u32, NewConduit)>,
    clock_s: i64,
}

impl SimNet {
    /// All ends as a row has them at the start, indexed, linked and in step.
    pub fn new(row: &TopologyRow) -> Self {
        let seed = row.id.bytes().fold(1, |seed, byte| mix(seed ^ u64::from(byte)));
        let mut devices = Devices::new(seed, Weather::FAIR, Ear::default());
        let mut disks = Vec::new();
        for name in &row.endpoints {
            let device = devices.add_device(name, Chip::new(0, 0));
            let config = &mut devices.device_mut(device).config;
            (config.settle_ms, config.free_bytes_min, config.guards) = (20, 0, Guards::OFF);
            let disk = devices.device(device).disk.clone();
            disk.faults(|faults| faults.call_takes_ns = CALL_TAKES_NS);
            let disk = SimDisk::new(disk, Names::default(), &[]);
            disk.add(&row.base);
            disks.push(disk);
            devices.start(device).unwrap_or_else(|error| panic!("{name} does not start: {error}"));
            assert!(device == 0 || devices.pair(0, device), "both are up");
            devices.run_for(SECOND);
            let added = devices.add_location(device, NAME, ROOT);
            added.unwrap_or_else(|| panic!("a device is off")).unwrap_or_else(|fault| panic!("{fault}: {}", fault.why));
        }
        devices.run_for(5 * SECOND);
        let number = |name: &String| row.endpoints.iter().position(|known| known == name).unwrap_or_default() as u32;
        let conduits = row.conduits.iter().map(|pair| (number(&pair.source), conduit(pair))).collect();
        let mut net = Self { devices, disks, conduits, clock_s: 1_000 };
        let rights = Rights { read: true, write: true, delete: true };
        for (on, name) in (0..).zip(&row.endpoints) {
            for other in row.endpoints.iter().filter(|other| *other != name) {
                net.must(on, Command::Allow { location: NAME.to_owned(), device: other.clone(), rights });
            }
        }
        net.devices.run_for(5 * SECOND);
        for at in 0..net.conduits.len() {
            net.create(at);
        }
        // Twice, so that the versions of all ends have been joined before anything happens.
        for _ in 0..2 {
            for at in 0..net.conduits.len() {
                net.sync(at);
            }
        }
        net
    }

    fn create(&mut self, at: usize) {
        let (on, new) = self.conduits[at].clone();
        self.must(on, Command::CreateConduit(new));
        self.devices.run_for(SECOND);
    }

    fn must(&mut self, device: u32, command: Command) -> Reply {
        let shown = format!("{command:?}");
        let answer: Result<Reply, Fault> =
            self.devices.ask(device, command).unwrap_or_else(|| panic!("{shown}: the device is off"));
        answer.unwrap_or_else(|fault| panic!("{shown}: {fault}: {}", fault.why))
    }

    fn named(&self, at: usize) -> (u32, String) {
        let (on, new) = &self.conduits[at];
        (*on, new.name.to_string())
    }

    fn view(&mut self, at: usize) -> ConduitView {
        let (on, name) = self.named(at);
        match self.must(on, Command::Conduit(name)) {
            Reply::Conduit(view) => *view,
            other => panic!("{other:?}"),
        }
    }
}

impl Net for SimNet {
    fn edit(&mut self, end: usize, edit: &Edit) {
        self.clock_s += 1;
        self.disks[end].clock_s = self.clock_s;
        self.disks[end].edit(edit);
    }

    fn sync(&mut self, at: usize) -> bool {
        let before = self.view(at).last.map(|last| last.number);
        let (on, conduit) = self.named(at);
        self.must(on, Command::Sync { conduit, plan: None, wait_ms: WAIT_MS });
        let until = self.devices.now() + PATIENCE;
        loop {
            self.devices.run_for(LOOK_EVERY);
            let view = self.view(at);
            if view.running.is_none() && view.state == "idle" {
                return view.last.map(|last| last.number) == before;
            }
            assert!(self.devices.now() < until, "nothing comes to an end: {view:?}");
        }
    }

    /// A conduit that is made anew has agreed on nothing yet.
    fn reset(&mut self, at: usize) {
        let (on, name) = self.named(at);
        self.must(on, Command::RemoveConduit(name));
        self.devices.run_for(SECOND);
        self.create(at);
    }

    fn tree(&self, end: usize) -> Tree {
        self.disks[end].tree()
    }

    fn met(&mut self) -> BTreeSet<(String, Kind)> {
        let mut met = BTreeSet::new();
        for at in 0..self.conduits.len() {
            let (on, name) = self.named(at);
            let ask = Command::Conflicts { conduit: Some(name), settled: true };
            let Reply::Conflicts(all) = self.must(on, ask) else { panic!("conflicts were asked for") };
            met.extend(all.iter().map(|conflict| (plain(&conflict.path.to_slashes()), Kind(conflict.kind))));
        }
        met
    }
}

fn conduit(pair: &TopologyPair) -> NewConduit {
    NewConduit {
        name: Label::lossy(&pair.id),
        source: format!("{}:{NAME}", pair.source),
        target: format!("{}:{NAME}", pair.target),
        mode: pair.mode.into(),
        change: ConduitChange { strategy: Some(pair.strategy.into()), ..ConduitChange::default() },
    }
}
