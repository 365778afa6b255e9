//! The world of real disks: two running nodes, a location on each, and the command line that people use.
//!
//! The nodes are shared by all scenarios; locations and conduits are made anew for each. Guards cannot be
//! disabled in the product: where a scenario has them off, its user approves at once whatever is held.
//! What cannot be brought about from outside is said by [`RealWorld::cannot`] before anything is begun.

mod disk;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;
use tidegate::api::words;
use tidegate::lab::{self, Device, Done, Lab, LabError};
use tidegate_protocol::file_sync::{ConflictKind, Side};

use super::format::{During, Edit, GuardSetting, Head, Kind, Mode, Moment, Names, Scenario};
use super::runner::{Contents, Report, Tree, World};
use disk::{RealDisk, sure};

const PATIENCE: Duration = Duration::from_mins(1);

/// Bytes per second at which ballast is copied.
const SLOW: &str = "2 MB";

const CONFLICTS: [ConflictKind; 10] = [
    ConflictKind::BothModified,
    ConflictKind::CreateCreate,
    ConflictKind::DeleteModify,
    ConflictKind::TypeMismatch,
    ConflictKind::CaseCollision,
    ConflictKind::UnicodeCollision,
    ConflictKind::Unrepresentable,
    ConflictKind::Unsupported,
    ConflictKind::Drift,
    ConflictKind::DirNotEmpty,
];

/// Two running nodes that know each other.
pub struct Pair {
    nodes: [Device; 2],
    lab: Lab,
    scenarios: u32,
}

/// Two ends on disks, and the conduit between them. Forgotten by the nodes when it is dropped.
pub struct RealWorld<'a> {
    nodes: &'a mut [Device; 2],
    disks: [RealDisk; 2],
    /// Which scenario of these nodes it is.
    number: u32,
    /// Of the conduit and of both locations.
    name: String,
    guards: GuardSetting,
    /// The newest generation that was counted.
    counted: u64,
    /// Conflicts that were counted.
    seen: BTreeSet<String>,
    held: Option<String>,
    missed: Option<String>,
}

impl Pair {
    /// Starts two nodes of `program` and lets one into the other's library.
    pub fn start(program: impl Into<PathBuf>) -> Result<Self, LabError> {
        let lab = Lab::new(program)?;
        let mut nodes = [lab.device("source")?, lab.device("target")?];
        for node in &mut nodes {
            // Scenarios are many and small: most of their time would be waiting for quiet.
            node.set("TIDEGATE_INDEX_SETTLE", "20ms");
            node.start()?;
        }
        nodes[0].pair(&nodes[1])?;
        Ok(Self { nodes, lab, scenarios: 0 })
    }

    /// Both ends as a scenario has them at the start, indexed and linked.
    pub fn world(&mut self, scenario: &Scenario) -> Result<RealWorld<'_>, LabError> {
        let head = &scenario.head;
        self.scenarios += 1;
        let name = format!("{}-{}", head.id.to_lowercase(), self.scenarios);
        let root = |end: &str| self.lab.path().join(format!("{name}.{end}"));
        let disks = ["source", "target"].map(|end| RealDisk::new(root(end), &head.base, &head.ignore));
        if fires(scenario, &Moment::AfterCopies) {
            disks.iter().for_each(RealDisk::add_many);
        }
        for ((node, disk), grant) in self.nodes.iter().zip(&disks).zip(["target=read", "source=delete"]) {
            let root = disk.root().display().to_string();
            node.must(["location", "add", &root, "--name", &name, "--allow", grant])?;
        }
        let [source, target] = &self.nodes;
        source.await_status("the other location known", PATIENCE, |status| {
            let all = status["locations"].as_array().into_iter().flatten();
            all.filter(|location| location["name"] == name.as_str()).count() == 2
        })?;
        let ends = [source, target].map(|node| format!("{}:{name}", node.name()));
        let mode = words::mode(head.mode.into());
        let strategy = words::strategy(head.strategy.into());
        let create = ["conduit", "create", &name, &ends[0], &ends[1], "--mode", mode, "--on-conflict", strategy];
        // Both ends hold the base, selected or not, unless the scenario says otherwise.
        let chosen = if head.base_target.is_some() { selected(&head.select) } else { selected(&[".".to_owned()]) };
        let chosen = if head.mode == Mode::Selective { chosen } else { Vec::new() };
        let create = create.into_iter().map(str::to_owned).chain(["--parallel".to_owned(), "1".to_owned()]);
        source.must(create.chain(chosen))?;
        let ballast = fires(scenario, &Moment::AfterCopies);
        if !head.base.is_empty() || ballast {
            source.must(["sync", &name])?;
        }
        if head.mode == Mode::Selective && head.base_target.is_none() {
            let set = ["conduit", "set", &name].into_iter().map(str::to_owned);
            source.must(set.chain(selected(&head.select)))?;
        }
        if let Some(tree) = &head.base_target {
            disks[1].clear();
            disks[1].add(tree);
        }
        disks[0].add(&head.unmanaged_source);
        disks[1].add(&head.unmanaged_target);
        let (counted, held, missed) = (0, None, None);
        let seen = BTreeSet::new();
        let (number, nodes, guards) = (self.scenarios, &mut self.nodes, head.guards);
        Ok(RealWorld { nodes, disks, number, name, guards, counted, seen, held, missed })
    }

    /// Starts nodes again that do not run any more, and says what they logged last.
    pub fn revive(&mut self) -> Result<Vec<String>, LabError> {
        let mut fallen = Vec::new();
        for node in &mut self.nodes {
            if node.run(["health"])?.code != 0 {
                fallen.push(format!("{} does not run any more:\n{}", node.name(), node.log()));
                node.kill()?;
                node.start()?;
            }
        }
        Ok(fallen)
    }
}

/// Flags that select subtrees, files and patterns; what makes a moment long is selected, too.
fn selected(chosen: &[String]) -> Vec<String> {
    let flag = |text: &String| {
        let is_pattern = text.contains(['*', '?', '[']);
        [if is_pattern { "--include" } else { "--subtree" }.to_owned(), text.clone()]
    };
    let ballast = RealDisk::BALLAST.map(str::to_owned);
    chosen.iter().chain(&ballast).flat_map(flag).collect()
}

fn fires(scenario: &Scenario, moment: &Moment) -> bool {
    scenario.rounds.iter().flat_map(|round| &round.during).any(|during| during.at == *moment)
}

impl RealWorld<'_> {
    /// Why a scenario cannot be brought about on these disks from outside, if it cannot.
    pub fn cannot(scenario: &Scenario) -> Option<String> {
        let Head { fs_source, fs_target, guards, .. } = &scenario.head;
        if [fs_source, fs_target].iter().any(|fs| **fs != Names::Posix) {
            return Some("needs a file system that folds names".to_owned());
        }
        let mut during = scenario.rounds.iter().flat_map(|round| &round.during);
        if *guards == GuardSetting::Default && fires(scenario, &Moment::AfterCopies) {
            return Some("the moment is made long by many deletes, which the guards would hold".to_owned());
        }
        during.find_map(unreachable).or_else(|| scenario.edits().find_map(not_done))
    }

    /// Why the scenario did not take place, if a moment inside it was over before it could be hit.
    pub fn missed(&self) -> Option<&str> {
        self.missed.as_deref()
    }

    fn source(&self) -> &Device {
        &self.nodes[0]
    }

    fn run(&self, words: &[&str]) -> Done {
        sure("run a command", self.source().run(words))
    }

    fn conduit(&self) -> Value {
        sure("look at the conduit", self.source().json(["conduit", "show", &self.name]))
    }

    /// Makes moments of the next generation long, so that edits can fall inside.
    fn weigh_down(&self, during: &[During]) {
        if during.iter().any(|during| heavy(&during.at)) {
            self.disks[0].add_heavy(u64::from(self.number) << 32 | self.counted);
            sure("set a limit", self.source().must(["conduit", "set", &self.name, "--limit", SLOW]));
        }
        if during.iter().any(|during| during.at == Moment::AfterCopies) {
            self.disks[0].remove_many();
        }
    }

    /// Makes edits fall inside the generation that runs.
    fn fire(&mut self, during: &[During]) {
        let inside: Vec<_> = during.iter().filter(|during| during.at != Moment::AfterCommit).collect();
        for During { at, side, op } in inside {
            let hit = if heavy(at) { self.await_copy() } else { self.await_deletes() };
            self.edit(*side, op);
            let hit = hit && (heavy(at) || self.disks[1].deletes_left().is_some_and(|left| left > 0));
            if !hit {
                self.missed = Some(format!("{at:?} was over before anything could be done in it"));
            }
        }
        sure("lift the limit", self.source().must(["conduit", "set", &self.name, "--limit", "0"]));
    }

    fn await_copy(&self) -> bool {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            let conduit = self.conduit();
            if conduit["running"]["bytes_done"].as_u64().is_some_and(|bytes| bytes > 0) {
                return conduit["running"]["bytes_done"] != conduit["running"]["bytes"];
            }
        }
        false
    }

    fn await_deletes(&self) -> bool {
        lab::eventually(PATIENCE, || self.disks[1].deletes_left().is_some())
    }

    /// Waits until nothing runs, follow-ups included.
    fn await_idle(&self) {
        let idle = |status: &Value| {
            let all = status["conduits"].as_array().into_iter().flatten();
            all.filter(|conduit| conduit["name"] == self.name.as_str()).all(|conduit| {
                conduit["running"].is_null() && (conduit["state"] == "idle" || !conduit["held"].is_null())
            })
        };
        sure("wait until it is idle", self.source().await_status("idle", PATIENCE, idle));
    }

    /// Kills a node in the middle of what it does, and starts it again.
    fn crash(&mut self, side: Side) {
        let node = &mut self.nodes[side as usize];
        sure("kill -9", node.kill().and_then(|()| node.start()));
        sure(
            "both online again",
            self.source().await_status("the other device online", PATIENCE, |status| {
                status["devices"].as_array().is_some_and(|all| all.iter().all(|device| device["online"] == true))
            }),
        );
    }

    /// Files that were installed since the last count.
    fn installs(&mut self) -> u64 {
        let newest = self.conduit()["last"]["number"].as_u64().unwrap_or(0);
        let mut installs = 0;
        for number in self.counted + 1..=newest {
            let shown = sure("look at it", self.source().json(["gen", "show", &self.name, &number.to_string()]));
            let items = shown["items"].as_array().into_iter().flatten();
            let installed = |item: &&Value| item["op"] == "install" && item["outcome"] == "done";
            let ballast = |item: &&Value| item["path"].as_str().is_some_and(RealDisk::is_ballast);
            installs += items.filter(|item| installed(item) && !ballast(item)).count() as u64;
        }
        self.counted = newest;
        installs
    }

    /// Conflicts that runs met since the last count; a run may meet more than its first plan showed.
    fn met(&mut self) -> Vec<(String, Kind)> {
        let listed = sure("list conflicts", self.source().json(["conflict", "list", &self.name, "--all"]));
        let all = listed["conflicts"].as_array().cloned().unwrap_or_default();
        let new: Vec<_> = all.iter().filter(|shown| !self.seen.contains(&shown["id"].to_string())).collect();
        let met = new.iter().map(|shown| conflict(shown, "what")).collect();
        self.seen.extend(all.iter().map(|shown| shown["id"].to_string()));
        met
    }

    /// What a refusal of `plan` means in the corpus's words.
    fn refused(&self, done: &Done) -> Report {
        // A root is looked at again every few seconds; while it is, its state is another.
        let is = |wanted: &str| {
            let state = |node: &Device| sure("look at a location", node.json(["location", "show", &self.name]));
            self.nodes.iter().any(|node| state(node)["state"] == wanted)
        };
        let mut held = None;
        lab::eventually(PATIENCE / 4, || {
            held = [("root replaced", "root_replaced"), ("root missing", "root_missing")]
                .into_iter()
                .find(|(state, _)| is(state))
                .map(|(_, name)| name);
            held.is_some()
        });
        let held = held.unwrap_or_else(|| panic!("no plan: {done}"));
        Report { held: Some(held), ..Report::default() }
    }

    /// Carries out what `plan` showed, or leaves it held.
    fn carry_out(&mut self, plan: &Value, during: &[During], approve: bool) -> Option<&'static str> {
        let halts = texts(&plan["halts"]);
        let guarded = self.guards == GuardSetting::Default;
        let to_approve = match (halts.is_empty(), guarded) {
            (true, _) => None,
            (false, false) => plan["plan"].as_str().map(str::to_owned),
            (false, true) => self.held.clone().filter(|_| approve),
        };
        let mut words = match &to_approve {
            Some(plan) => vec!["approve", plan.as_str()],
            None => vec!["sync", self.name.as_str()],
        };
        let detach = !during.is_empty();
        if detach {
            words.push("--detach");
        }
        let done = self.run(&words);
        if detach {
            assert_eq!(done.code, 0, "{done}");
            self.fire(during);
            self.await_idle();
        }
        let held = self.conduit()["held"].clone();
        if !held.is_null() {
            self.held = held["plan"].as_str().map(str::to_owned);
            return texts(&held["halts"]).first().map(|text| halt_name(text));
        }
        let not_verified = done.code == 1 && done.stderr.contains("NOT_VERIFIED");
        assert!(matches!(done.code, 0 | 3 | 4) || not_verified, "{done}");
        None
    }
}

impl World for RealWorld<'_> {
    fn edit(&mut self, side: Side, edit: &Edit) {
        if *edit == Edit::Crash {
            self.crash(side);
        } else {
            self.disks[side as usize].edit(edit);
        }
    }

    fn rule(&mut self, path: &str, answer: &str) {
        let listed = sure("list conflicts", self.source().json(["conflict", "list", &self.name]));
        let all = listed["conflicts"].as_array().into_iter().flatten();
        let found = all.filter(|conflict| conflict["path"] == path).find_map(|conflict| conflict["id"].as_str());
        let id = found.unwrap_or_else(|| panic!("no conflict at {path} waits: {listed}")).to_owned();
        sure("decide", self.source().must(["conflict", "resolve", &id, "--keep", answer, "--no-sync"]));
    }

    fn select(&mut self, chosen: &[String]) {
        let set = ["conduit", "set", &self.name].into_iter().map(str::to_owned);
        sure("select", self.source().must(set.chain(selected(chosen))));
    }

    fn generation(&mut self, during: &[During], approve: bool) -> Report {
        self.weigh_down(during);
        let done = self.run(&["--json", "plan", &self.name]);
        if done.code != 0 {
            return self.refused(&done);
        }
        let plan = sure("read the plan", lab::last_document(&done.stdout));
        let mut conflicts: Vec<_> =
            plan["conflicts"].as_array().into_iter().flatten().map(|shown| conflict(shown, "why")).collect();
        let planned =
            [&plan["items"], &plan["halts"]].iter().any(|list| list.as_array().is_some_and(|l| !l.is_empty()));
        let held = self.carry_out(&plan, during, approve);
        conflicts.extend(self.met());
        for During { side, op, .. } in during.iter().filter(|during| during.at == Moment::AfterCommit) {
            self.edit(*side, op);
        }
        Report { planned, held, conflicts, installs: self.installs(), partial: None }
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

impl Drop for RealWorld<'_> {
    fn drop(&mut self) {
        // Best effort: what stays known only makes the following scenarios slower.
        let _ = self.source().run(["conduit", "remove", &self.name]);
        for node in &*self.nodes {
            let _ = node.run(["location", "remove", &self.name]);
        }
    }
}

/// Moments that are hit while ballast is copied.
const fn heavy(moment: &Moment) -> bool {
    matches!(moment, Moment::AfterPlan | Moment::MidCopy(_))
}

fn unreachable(during: &During) -> Option<String> {
    match (&during.at, &during.op) {
        (Moment::AfterPlan | Moment::AfterCopies | Moment::AfterCommit, _) | (Moment::MidCopy(_), Edit::Crash) => None,
        (Moment::MidCopy(path), _) => Some(format!("the copy of {path}, a few bytes, is over before it can be hit")),
        (Moment::BeforeCommit, _) => Some("nothing outside shows when work ends and verification begins".to_owned()),
    }
}

fn not_done(edit: &Edit) -> Option<String> {
    match edit {
        Edit::DiskFullFor { .. } | Edit::DiskOk => Some("needs a disk that is full for one path alone".to_owned()),
        Edit::RestoredBackup => Some("needs a node whose state is rolled back under it".to_owned()),
        Edit::Unreadable { .. } if runs_as_root() => Some("nothing is unreadable to the superuser".to_owned()),
        Edit::Write { .. }
        | Edit::MakeDirectory { .. }
        | Edit::Remove { .. }
        | Edit::Move { .. }
        | Edit::Copy { .. }
        | Edit::Link { .. }
        | Edit::Executable { .. }
        | Edit::Touch { .. }
        | Edit::MakeFifo { .. }
        | Edit::Unreadable { .. }
        | Edit::RootMissing
        | Edit::RootReplaced
        | Edit::RootOk
        | Edit::Rollback { .. }
        | Edit::Crash => None,
    }
}

fn runs_as_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

fn conflict(shown: &Value, words_at: &str) -> (String, Kind) {
    let text = |key: &str| shown[key].as_str().unwrap_or_default().to_owned();
    let why = text(words_at);
    let kind = CONFLICTS.into_iter().find(|kind| words::conflict(*kind) == why);
    (text("path"), Kind(kind.unwrap_or_else(|| panic!("no such conflict: {why}"))))
}

fn texts(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// The corpus's name of a halt, by the words in which it is shown.
fn halt_name(shown: &str) -> &'static str {
    const NAMES: [(&str, &str); 5] = [
        ("side is empty", "root_emptied"),
        ("side was deleted", "root_deleted"),
        ("files would be deleted", "mass_delete"),
        ("the first mirror", "first_mirror"),
        ("the ignore rules", "rules_changed"),
    ];
    let named = NAMES.iter().find(|(words, _)| shown.contains(words));
    named.map_or_else(|| panic!("no such halt: {shown}"), |(_, name)| name)
}
