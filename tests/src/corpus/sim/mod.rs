//! The world of simulated devices: two of them with the code that ships, and everything under it made to measure.
//!
//! A disk folds names or refuses them, a name has no room, the power goes at an exact moment, an index is put back as
//! it was: what cannot be brought about on real disks from outside happens here, at the turn at which it is wanted.
//! People act by the commands that the face gives the core. A row is a function of itself: it ends alike every time.

mod disk;
mod moments;
mod topology;

use std::collections::BTreeSet;

use tidegate::core::command::{
    Choice, Command, ConduitChange, ConduitView, Fault, FaultCode, NewConduit, PlanView, Reply, SelectionChange,
};
use tidegate_protocol::file_sync::{Decision, Guards, Plan, Side, SkipReason};
use tidegate_protocol::id::{ConduitId, Label};
use tidegate_protocol::index::Rights;
use tidegate_protocol::path::DirPath;
use tidegate_sim::backend::PageImage;
use tidegate_sim::clock::Chip;
use tidegate_sim::device::Cut;
use tidegate_sim::disk::Survival;
use tidegate_sim::executor::{MILLI, Nanos, SECOND};
use tidegate_sim::happening::Ear;
use tidegate_sim::network::weather::Weather;
use tidegate_sim::random::mix;
use tidegate_sim::world::World as Devices;

use super::format::{During, Edit, GuardSetting, Kind, Mode, Moment, Scenario};
use super::model::halt_name;
use super::runner::{Contents, Report, Tree, World};
use disk::{ROOT, SimDisk};
use moments::Moments;
pub use topology::SimNet;

/// How long the gate may stay closed, in milliseconds.
const WAIT_MS: u64 = 60_000;
/// How long anything else may take.
const PATIENCE: Nanos = 600 * SECOND;
/// Between two looks at whether everything is done.
const LOOK_EVERY: Nanos = 50 * MILLI;
/// About how long a call of a disk takes, so that something can happen between two of them.
const CALL_TAKES_NS: u64 = 2_000;

/// Of the location on both devices, and of the conduit between them.
const NAME: &str = "corpus";
const ENDS: [&str; 2] = ["source", "target"];

/// Two simulated devices and the conduit between them.
pub struct SimWorld {
    devices: Devices,
    disks: [SimDisk; 2],
    /// Indexes as they were before anything was in them.
    early: [PageImage; 2],
    conduit: ConduitId,
    held: Option<String>,
    /// The newest generation that was counted.
    counted: u64,
    /// Conflicts that were counted.
    seen: BTreeSet<String>,
    /// How often the power went.
    cuts: u64,
    seed: u64,
}

impl SimWorld {
    /// Both ends as a scenario has them at the start, indexed and linked.
    pub fn new(scenario: &Scenario) -> Self {
        let head = &scenario.head;
        let seed = head.id.bytes().fold(1, |seed, byte| mix(seed ^ u64::from(byte)));
        let mut devices = Devices::new(seed, Weather::FAIR, Ear::default());
        let mut disks = Vec::new();
        for (end, names) in ENDS.iter().zip([head.fs_source, head.fs_target]) {
            let device = devices.add_device(end, Chip::new(0, 0));
            let config = &mut devices.device_mut(device).config;
            config.settle_ms = 20;
            config.free_bytes_min = 0;
            config.guards = match head.guards {
                GuardSetting::Off => Guards::OFF,
                GuardSetting::Default => Guards::default(),
            };
            let disk = devices.device(device).disk.clone();
            disk.faults(|faults| faults.call_takes_ns = CALL_TAKES_NS);
            disks.push(SimDisk::new(disk, names, &head.ignore));
            devices.start(device).unwrap_or_else(|error| panic!("{end} does not start: {error}"));
        }
        let disks: [SimDisk; 2] = disks.try_into().unwrap_or_else(|_| panic!("there are two ends"));
        assert!(devices.pair(0, 1), "both are up");
        for device in [0, 1] {
            devices.run_for(SECOND);
            let added = devices.add_location(device, NAME, ROOT);
            added.unwrap_or_else(|| panic!("a device is off")).unwrap_or_else(|fault| panic!("{fault}: {}", fault.why));
        }
        let conduit = ConduitId::from_bytes([0; 16]);
        let early = [0, 1].map(|device| devices.pages(device).image());
        let (held, seen) = (None, BTreeSet::new());
        let mut world = Self { devices, disks, early, conduit, held, counted: 0, seen, cuts: 0, seed };
        world.link(scenario);
        world
    }

    /// Grants, conduit, and the base that both ends agree on.
    fn link(&mut self, scenario: &Scenario) {
        let head = &scenario.head;
        let read = Rights { read: true, ..Rights::NONE };
        let all = Rights { read: true, write: true, delete: true };
        for (device, other, rights) in [(0, ENDS[1], read), (1, ENDS[0], all)] {
            self.must(device, Command::Allow { location: NAME.to_owned(), device: other.to_owned(), rights });
        }
        self.devices.run_for(5 * SECOND);
        // Both ends hold the base, selected or not, unless the scenario says otherwise.
        let chosen = match head.mode {
            Mode::Selective if head.base_target.is_some() => selected(&head.select),
            Mode::Selective => selected(&[".".to_owned()]),
            Mode::Mirror | Mode::Bidirectional => SelectionChange::default(),
        };
        let [source, target] = ENDS.map(|end| format!("{end}:{NAME}"));
        let strategy = Some(head.strategy.into());
        let change = ConduitChange { strategy, selection: chosen, ..ConduitChange::default() };
        let new = NewConduit { name: Label::lossy(NAME), source, target, mode: head.mode.into(), change };
        self.must(0, Command::CreateConduit(new));
        self.conduit = self.view().id.parse().unwrap_or_else(|_| panic!("a conduit has an id"));
        self.devices.run_for(SECOND);
        self.early = [0, 1].map(|device| self.devices.pages(device).image());
        self.disks.iter().for_each(|disk| disk.add(&head.base));
        if !head.base.is_empty() {
            self.must(0, self.sync());
            self.await_idle(&mut Moments::none());
        }
        if head.mode == Mode::Selective && head.base_target.is_none() {
            self.select(&head.select);
        }
        if let Some(tree) = &head.base_target {
            self.disks[1].clear();
            self.disks[1].add(tree);
        }
        self.disks[0].add(&head.unmanaged_source);
        self.disks[1].add(&head.unmanaged_target);
        self.counted = self.view().last.map_or(0, |last| last.number);
        self.met();
    }

    fn sync(&self) -> Command {
        Command::Sync { conduit: NAME.to_owned(), plan: None, wait_ms: WAIT_MS }
    }

    fn ask(&mut self, device: u32, command: Command) -> Result<Reply, Fault> {
        let shown = format!("{command:?}");
        self.devices.ask(device, command).unwrap_or_else(|| panic!("{shown}: the device is off"))
    }

    fn must(&mut self, device: u32, command: Command) -> Reply {
        let shown = format!("{command:?}");
        self.ask(device, command).unwrap_or_else(|fault| panic!("{shown}: {fault}: {}", fault.why))
    }

    fn view(&mut self) -> ConduitView {
        match self.must(0, Command::Conduit(NAME.to_owned())) {
            Reply::Conduit(view) => *view,
            other => panic!("{other:?}"),
        }
    }

    /// Waits until nothing runs, follow-ups included, and lets edits fall inside what runs.
    fn await_idle(&mut self, moments: &mut Moments) {
        let until = self.devices.now() + PATIENCE;
        while self.devices.now() < until {
            self.pass(moments);
            let view = self.view();
            if view.running.is_none() && (view.state == "idle" || view.held.is_some()) {
                return;
            }
        }
        panic!("nothing comes to an end: {:?}", self.view());
    }

    /// Lets a little time pass, turn by turn, and edits fall where they belong.
    fn pass(&mut self, moments: &mut Moments) {
        let until = self.devices.now() + LOOK_EVERY;
        loop {
            let done = self.devices.turn(until) == tidegate_sim::executor::Ran::Nothing;
            for noted in self.devices.notes.take() {
                moments.noted(&noted);
            }
            for device in 0..ENDS.len() {
                for change in self.disks[device].disk.take_changes() {
                    moments.changed(device, &change);
                }
            }
            for (side, edit) in moments.due() {
                self.edit(side, &edit);
            }
            if done {
                return;
            }
        }
    }

    /// The power of a device goes in the middle of what it does, and comes back.
    fn crash(&mut self, side: Side) {
        self.cuts += 1;
        let survival = Survival::ALL[mix(self.seed ^ self.cuts) as usize % Survival::ALL.len()];
        self.devices.crash(side as u32, Cut::Power(survival));
        self.start(side);
    }

    fn start(&mut self, side: Side) {
        self.devices.start(side as u32).unwrap_or_else(|error| panic!("{side:?} does not start: {error}"));
    }

    /// A device's index is put back as it was when it knew locations and conduit, and nothing of what is in them.
    fn restore(&mut self, side: Side) {
        let device = side as u32;
        assert!(self.devices.stop(device), "{side:?} stops when it is told to");
        self.devices.pages(device).restore(&self.early[side as usize]);
        self.start(side);
        self.devices.run_for(SECOND);
    }

    /// Files that were installed since the last count, and whether one could not be for want of room.
    fn installs(&mut self) -> (u64, Option<&'static str>) {
        let newest = self.view().last.map_or(0, |last| last.number);
        let (mut installs, mut partial) = (0, None);
        for number in self.counted + 1..=newest {
            let ask = Command::Generation { conduit: NAME.to_owned(), number: Some(number) };
            let Reply::Generation(view) = self.must(0, ask) else { panic!("a generation was asked for") };
            let done = view.items.iter().filter(|item| item.op == "install" && item.outcome == "done");
            installs += done.count() as u64;
            let no_room = SkipReason::NoSpace.to_string();
            partial = view.items.iter().any(|item| item.outcome == no_room).then_some("disk_full");
        }
        self.counted = newest;
        (installs, partial)
    }

    /// Conflicts that runs met since the last count; a run may meet more than its first plan showed.
    fn met(&mut self) -> Vec<(String, Kind)> {
        let ask = Command::Conflicts { conduit: Some(NAME.to_owned()), settled: true };
        let Reply::Conflicts(all) = self.must(0, ask) else { panic!("conflicts were asked for") };
        let new = all.iter().filter(|conflict| !self.seen.contains(&conflict.id));
        let met = new.map(|conflict| (plain(&conflict.path.to_slashes()), Kind(conflict.kind))).collect();
        self.seen.extend(all.into_iter().map(|conflict| conflict.id));
        met
    }

    fn plan(&mut self) -> Result<Plan, Report> {
        match self.ask(0, Command::Plan { conduit: NAME.to_owned(), wait_ms: WAIT_MS }) {
            Ok(Reply::Plan(view)) => {
                let PlanView { plan, .. } = *view;
                Ok(plan)
            }
            Ok(other) => panic!("{other:?}"),
            Err(fault) => Err(self.refused(&fault)),
        }
    }

    /// What a refusal to plan means in the corpus's words.
    fn refused(&mut self, fault: &Fault) -> Report {
        let until = self.devices.now() + PATIENCE;
        // A root is looked at again every few seconds; while it is, its state is another.
        while self.devices.now() < until {
            for (device, end) in [0, 1].into_iter().zip(ENDS) {
                let Reply::Location(view) = self.must(device, Command::Location(format!("{end}:{NAME}"))) else {
                    panic!("a location was asked for")
                };
                let held = match view.state.as_str() {
                    "root replaced" => "root_replaced",
                    "root missing" => "root_missing",
                    _ => continue,
                };
                return Report { held: Some(held), ..Report::default() };
            }
            self.devices.run_for(LOOK_EVERY);
        }
        panic!("no plan: {fault}: {}", fault.why);
    }

    /// Carries out what a plan showed, or leaves it held.
    fn carry_out(&mut self, plan: &Plan, during: &[During], approve: bool) -> Option<&'static str> {
        let mut moments = Moments::new(during);
        let approved = self.held.clone().filter(|_| approve && !plan.halts.is_empty());
        let command = match approved {
            Some(plan) => Command::Approve { plan, wait_ms: WAIT_MS },
            None => self.sync(),
        };
        let call = self.devices.command(0, command).unwrap_or_else(|| panic!("the source is off"));
        let until = self.devices.now() + PATIENCE;
        let incarnation = self.devices.device(0).incarnation();
        // A source that falls meanwhile never answers.
        while self.devices.now() < until && self.devices.device(0).incarnation() == incarnation {
            self.pass(&mut moments);
            match self.devices.take_answer(call) {
                None => {}
                Some(Ok(_)) => break,
                Some(Err(fault)) => {
                    let held = [FaultCode::SafetyStop, FaultCode::NotCaughtUp, FaultCode::PlanStale];
                    assert!(held.contains(&fault.code), "{fault}: {}", fault.why);
                    break;
                }
            }
        }
        self.await_idle(&mut moments);
        let view = self.view();
        if let Some((plan, halts)) = view.held {
            self.held = Some(plan);
            return halts.first().map(halt_name);
        }
        assert!(moments.missed().is_none(), "a moment never came: {:?}", moments.missed());
        None
    }
}

impl World for SimWorld {
    fn edit(&mut self, side: Side, edit: &Edit) {
        match edit {
            Edit::Crash => self.crash(side),
            Edit::RestoredBackup => self.restore(side),
            _ => self.disks[side as usize].edit(edit),
        }
    }

    fn rule(&mut self, path: &str, answer: &str) {
        let decision = match answer {
            "source" => Decision::Source,
            "target" => Decision::Target,
            "both" => Decision::Both,
            "newest" => Decision::Newest,
            other => panic!("no such answer: {other}"),
        };
        let ask = Command::Conflicts { conduit: Some(NAME.to_owned()), settled: false };
        let Reply::Conflicts(all) = self.must(0, ask) else { panic!("conflicts were asked for") };
        let found = all.iter().find(|conflict| plain(&conflict.path.to_slashes()) == path);
        let conflict = found.unwrap_or_else(|| panic!("no conflict at {path} waits: {all:?}")).id.clone();
        self.must(0, Command::ResolveConflict { conflict, choice: Choice::Keep(decision) });
    }

    fn select(&mut self, chosen: &[String]) {
        let change = ConduitChange { selection: selected(chosen), ..ConduitChange::default() };
        self.must(0, Command::SetConduit { conduit: NAME.to_owned(), change });
    }

    fn generation(&mut self, during: &[During], approve: bool) -> Report {
        let plan = match self.plan() {
            Ok(plan) => plan,
            Err(report) => return report,
        };
        let listed = plan.conflicts().iter();
        let mut conflicts: Vec<_> = listed.map(|c| (plain(&c.path.to_slashes()), Kind(c.kind))).collect();
        let held = self.carry_out(&plan, during, approve);
        conflicts.extend(self.met());
        for During { side, op, .. } in during.iter().filter(|during| during.at == Moment::AfterCommit) {
            self.edit(*side, op);
        }
        let (installs, partial) = self.installs();
        Report { planned: !plan.is_empty(), held, conflicts, installs, partial }
    }

    fn tree(&self, side: Side) -> Tree {
        self.disks[side as usize].tree()
    }

    fn executable(&self, side: Side) -> BTreeSet<String> {
        self.disks[side as usize].executable()
    }

    fn trash(&self, side: Side) -> Contents {
        self.disks[side as usize].trash()
    }
}

/// Subtrees, files and patterns.
fn selected(chosen: &[String]) -> SelectionChange {
    let (patterns, subtrees): (Vec<String>, Vec<String>) =
        chosen.iter().cloned().partition(|text| text.contains(['*', '?', '[']));
    let dir = |text: &String| match text.as_str() {
        "." => DirPath::TOP,
        text => DirPath::from_slashes(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}")),
    };
    let subtrees = Some(subtrees.iter().map(dir).collect());
    SelectionChange { subtrees, include: Some(patterns), ..SelectionChange::default() }
}

fn plain(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}
