//! Runs a plan: builds its world, lets it happen, has every claim checked, heals, and asks for rest.
//!
//! First come the faults: steps are carried out at their times while the world runs, turn by turn, and after each turn
//! the checkers hear what happened. At the end of the plan everything is healed; from then on the world must come to
//! rest within the plan's bound, say so, and stay quiet. A run ends at its first violation. It is a function of the
//! plan alone.

mod deeds;
mod expect;
mod lurking;
mod observe;
mod operator;
mod scene;
mod setup;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tidegate_protocol::id::{ConduitId, LocationId};

use crate::checkers::{Invariant, Seen};
use crate::coverage::Coverage;
use crate::executor::{MILLI, Nanos, Ran};
use crate::ghost::Ghost;
use crate::happening::{Ear, Happening, Listener};
use crate::plan::{Deed, Millis, Place, Plan};

use crate::trace::{Lines, Trace};
use crate::user::{SlowSave, Users};
use crate::verdict::{Moment, Verdict, Violation, names};
use crate::world::{CallId, World};

/// Between two looks at whether the world is at rest, in milliseconds.
const LOOK_EVERY_MS: u64 = 10_000;
/// How long the world is watched once it has come to rest, in milliseconds.
const WATCH_MS: u64 = 150_000;
/// Lines of a timeline that are kept.
const MOMENTS_MAX: usize = 20_000;

/// How a run is carried out, beside its plan.
#[derive(Default)]
pub struct Options {
    /// Where the lines of the trace go.
    pub lines: Option<Lines>,
    /// Ends the run at that time, without healing.
    pub until: Option<Millis>,
    /// Claims of other people, checked beside our own.
    pub invariants: Vec<Box<dyn Invariant>>,
    /// Planted at the seam: which syncs lie.
    pub lies: Lies,
}

/// Faults that are planted at the seam, to see that they are found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lies {
    /// No sync makes a file's content durable.
    pub file_sync: bool,
    /// No sync makes names durable.
    pub dir_sync: bool,
    /// The replica's commits are not durable.
    pub commits: bool,
}

/// Runs a plan.
pub fn run(plan: &Plan) -> Verdict {
    run_with(plan, Options::default())
}

/// Runs a plan in a given way.
pub fn run_with(plan: &Plan, options: Options) -> Verdict {
    Run::new(plan, options).go()
}

/// What happens later, beside the steps of the plan.
enum Later {
    /// A device comes back.
    Start(usize),
    /// A fault ends.
    Mend(usize, Deed),
    /// A slow save goes on.
    Save(Box<SlowSave>),
    /// The operator looks at the conduits.
    Operate,
}

/// What a device is like at the moment, beside what the world knows.
#[expect(clippy::struct_excessive_bools, reason = "independent facts, each by itself")]
#[derive(Debug, Clone, Default)]
struct Standing {
    /// Left, was revoked, or was never let in.
    out: bool,
    /// Off until a later moment.
    off: bool,
    /// Its own rows and locations must be made anew when it is up.
    lost: bool,
    /// Cuts to others that are in force, counted.
    cuts: BTreeMap<(usize, usize), u32>,
    /// Locations that are not there: their volume is away.
    away: BTreeMap<String, u64>,
    /// Kept aside.
    trees: BTreeMap<String, crate::disk::Tree>,
    /// An index kept aside.
    index: Option<crate::backend::PageImage>,
    /// Whether its fall, if it falls, is one that was wished.
    armed: bool,
    /// Whether it was in the middle of a leg when it fell.
    legs: BTreeMap<tidegate_protocol::file_sync::JobKey, Vec<(LocationId, String)>>,
    /// A path on which a leg works, by location.
    active: BTreeMap<String, String>,
    /// A user who waits for a leg.
    lurking: Option<lurking::Lurking>,
}

/// What the world's listener has heard.
#[derive(Debug, Default)]
struct Heard(Vec<Happening>);

impl Listener for Heard {
    fn heard(&mut self, happening: &Happening) {
        self.0.push(*happening);
    }
}

struct Run<'a> {
    plan: &'a Plan,
    world: World,
    users: Users,
    ghost: Ghost,
    checkers: Vec<Box<dyn Invariant>>,
    coverage: Coverage,
    trace: Trace,
    timeline: Vec<Moment>,
    wrong: Vec<Violation>,
    /// When the plan's time began, in the world's.
    began: Nanos,
    standing: Vec<Standing>,
    locations: BTreeMap<(usize, String), LocationId>,
    conduits: BTreeMap<ConduitId, usize>,
    later: BTreeMap<(u64, u64), Later>,
    laters: u64,
    calls: BTreeMap<CallId, operator::Call>,
    until: Option<Millis>,
    healed: bool,
    lies: Lies,
    /// What happened on network and machines since it was traced last.
    happened: Arc<Mutex<Heard>>,
    /// The newest status of each conduit's generation, by conduit of the plan.
    verified: BTreeMap<usize, bool>,
    held: BTreeMap<usize, bool>,
}

impl<'a> Run<'a> {
    fn new(plan: &'a Plan, options: Options) -> Self {
        let happened = Arc::new(Mutex::new(Heard::default()));
        let mut checkers = crate::checkers::all();
        checkers.extend(options.invariants);
        Self {
            plan,
            world: setup::world(plan, Ear::of(happened.clone())),
            users: Users::new(plan.seed),
            ghost: Ghost::default(),
            checkers,
            coverage: Coverage::default(),
            trace: Trace::new(options.lines),
            timeline: Vec::new(),
            wrong: Vec::new(),
            began: 0,
            standing: vec![Standing::default(); plan.devices.len()],
            locations: BTreeMap::new(),
            conduits: BTreeMap::new(),
            later: BTreeMap::new(),
            laters: 0,
            calls: BTreeMap::new(),
            until: options.until,
            healed: false,
            lies: options.lies,
            happened,
            verified: BTreeMap::new(),
            held: BTreeMap::new(),
        }
    }

    fn go(mut self) -> Verdict {
        self.set_up();
        if self.wrong.is_empty() {
            self.faults();
        }
        let stops_early = self.until.is_some_and(|until| until < self.plan.until);
        if self.wrong.is_empty() && !stops_early {
            self.heal();
            self.come_to_rest();
        }
        self.verdict()
    }

    /// The time of the plan.
    fn now(&self) -> Millis {
        Millis(self.world.now().saturating_sub(self.began) / MILLI)
    }

    /// First phase: steps at their times, faults and all.
    fn faults(&mut self) {
        let plan = self.plan;
        let end = self.until.unwrap_or(plan.until).min(plan.until);
        let mut steps = plan.steps.iter().take_while(|step| step.at <= end).peekable();
        let mut expects: Vec<&crate::plan::Expect> = plan.expects.iter().filter(|expect| expect.at.is_some()).collect();
        expects.sort_by_key(|expect| std::cmp::Reverse(expect.at));
        self.later(0, Later::Operate);
        while self.wrong.is_empty() {
            let step = steps.peek().map(|step| step.at);
            let expect = expects.last().and_then(|expect| expect.at);
            let due = [step, expect].into_iter().flatten().min().unwrap_or(end).min(end);
            self.pass_until(due);
            if !self.wrong.is_empty() {
                return;
            }
            if let Some(step) = steps.next_if(|step| step.at <= due) {
                self.act(step);
            } else if expect.is_some_and(|at| at <= due) {
                if let Some(expect) = expects.pop() {
                    self.expect(&expect.what);
                }
            } else {
                return;
            }
            self.observe();
        }
    }

    /// Lets time pass until a moment of the plan, with everything that is due meanwhile.
    fn pass_until(&mut self, moment: Millis) {
        loop {
            let due = self.later.keys().next().map(|(at, _)| Millis(*at)).filter(|at| *at <= moment);
            let until = self.began + due.unwrap_or(moment).0 * MILLI;
            while self.world.turn(until) != Ran::Nothing {
                self.observe();
                if !self.wrong.is_empty() || self.is_too_long() {
                    return;
                }
            }
            if due.is_none() {
                return;
            }
            if let Some((_, later)) = self.later.pop_first() {
                self.happen(later);
                self.observe();
            }
            if !self.wrong.is_empty() {
                return;
            }
        }
    }

    /// A run that makes more events than it may is a livelock.
    fn is_too_long(&mut self) -> bool {
        if self.world.events() < self.plan.events_max {
            return false;
        }
        let says = format!("{} events, and no end", self.world.events());
        self.tell(Violation::new(names::BOUNDED, "events", says));
        true
    }

    /// Does something after a while.
    fn later(&mut self, after_ms: u64, later: Later) {
        self.laters += 1;
        self.later.insert((self.now().0 + after_ms, self.laters), later);
    }

    fn happen(&mut self, later: Later) {
        match later {
            Later::Start(device) => self.start(device),
            Later::Mend(device, deed) => self.mend(device, &deed),
            Later::Save(save) => {
                let pause = save.pause;
                if let Some(save) = Users::go_on(self.now(), save, &mut self.ghost) {
                    self.later(pause.0, Later::Save(save));
                }
            }
            Later::Operate => {
                self.operate();
                self.later(operator::LOOK_EVERY_MS, Later::Operate);
            }
        }
    }

    /// Second phase: the world comes to rest, says so, and stays quiet.
    fn come_to_rest(&mut self) {
        let begin = self.now();
        let mut calm = 0;
        while self.wrong.is_empty() {
            self.pass_until(Millis(self.now().0 + LOOK_EVERY_MS));
            if !self.wrong.is_empty() {
                return;
            }
            let saves = self.later.values().any(|later| matches!(later, Later::Save(_)));
            let rests =
                !saves && self.calls.is_empty() && self.look(|checker, ghost, scene| checker.is_at_rest(ghost, scene));
            calm = if rests { calm + 1 } else { 0 };
            if calm == 4 {
                break;
            }
            if self.now().0 - begin.0 > self.plan.heal.0 {
                self.at_rest();
                if self.wrong.is_empty() {
                    let says =
                        format!("faults ended {} ago, and the world is not at rest", Millis(self.now().0 - begin.0));
                    self.tell(Violation::new(names::BOUNDED, "never-at-rest", says));
                }
                return;
            }
        }
        self.at_rest();
        if self.wrong.is_empty() {
            self.pass_until(Millis(self.now().0 + WATCH_MS));
        }
        if self.wrong.is_empty() {
            self.at_rest();
        }
        for expect in self.plan.expects.iter().filter(|expect| expect.at.is_none()) {
            if self.wrong.is_empty() {
                self.expect(&expect.what);
            }
        }
    }

    fn look(&self, mut asks: impl FnMut(&dyn Invariant, &Ghost, &dyn crate::checkers::Scene) -> bool) -> bool {
        let view = self.view();
        self.checkers.iter().all(|checker| asks(&**checker, &self.ghost, &view))
    }

    fn at_rest(&mut self) {
        self.check(|checker, ghost, scene, wrong| checker.at_rest(ghost, scene, wrong));
    }

    fn check(
        &mut self,
        mut asks: impl FnMut(&mut dyn Invariant, &Ghost, &dyn crate::checkers::Scene, &mut Vec<Violation>),
    ) {
        let mut checkers = std::mem::take(&mut self.checkers);
        let mut found = Vec::new();
        {
            let view = self.view();
            for checker in &mut checkers {
                asks(&mut **checker, &self.ghost, &view, &mut found);
            }
        }
        self.checkers = checkers;
        for violation in found {
            self.tell(violation);
        }
    }

    /// All checkers hear of something.
    fn heard(&mut self, seen: &Seen<'_>) {
        self.check(|checker, ghost, scene, wrong| checker.saw(seen, ghost, scene, wrong));
    }

    fn tell(&mut self, mut violation: Violation) {
        violation.at_ms = self.now().0;
        if let Some((_, path)) = violation.path.as_deref().and_then(|path| path.split_once('/')) {
            violation.history = self.ghost.history(path);
        }
        self.wrong.push(violation);
    }

    fn moment(&mut self, device: usize, what: impl Into<String>) {
        if self.timeline.len() < MOMENTS_MAX {
            self.timeline.push(Moment { at_ms: self.now().0, device, what: what.into() });
        }
    }

    fn place(location: &str) -> Place {
        Place { location: location.to_owned(), path: String::new() }
    }

    fn verdict(self) -> Verdict {
        let simulated_ms = self.now().0;
        Verdict {
            simulated_ms,
            device_ms: simulated_ms * self.plan.devices.len() as u64,
            violation: self.wrong.into_iter().next(),
            fingerprint: self.trace.fingerprint(),
            coverage: self.coverage,
            timeline: self.timeline,
        }
    }
}
