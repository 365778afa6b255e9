//! One conduit at work between two disks in memory: the real gate, resolver and guards, and a generation in a loop.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_protocol::file_sync::{
    Action, BaseChange, Baseline, Circumstances, Conduit, ConduitView, Decision, Guards, Halt, Item, Plan, PreImage,
    Ruling, Side, SideView, SyncMode, SyncResolver,
};
use tidegate_protocol::hash::ContentHash;
use tidegate_protocol::id::{DeviceId, Label};
use tidegate_protocol::index::{EntryKind, EntryState};
use tidegate_protocol::library_sync::gate::{self, GateView, LocationView, OwnerView};
use tidegate_protocol::library_sync::{GateClosed, LibrarySynced};
use tidegate_protocol::path::EntryPath;
use tidegate_protocol::time::{Stamp, Stamped};

use super::apply::{self, Applied};
use super::disk::{Disk, RootFault};
use super::scan::Index;
use crate::corpus::format::{During, Edit, Kind, Moment};
use crate::corpus::runner::Report;

/// One end: what is on its disk, and what its index believes of that.
pub(super) struct End {
    pub(super) disk: Disk,
    pub(super) index: Index,
}

/// A conduit with everything that its coordinator remembers.
pub(super) struct Link {
    pub(super) conduit: Conduit,
    pub(super) guards: Guards,
    labels: BTreeMap<DeviceId, Label>,
    base: BTreeMap<EntryPath, EntryKind>,
    baseline: Option<Baseline>,
    /// The empty plan that was verified last.
    verified: Option<Plan>,
    /// The last plan, held or not.
    last: Option<Plan>,
    rulings: Vec<Ruling>,
    generation: u64,
}

/// The node stopped here.
pub(super) struct Crashed;

/// A generation's report, and the clock by which edits inside it are dated.
struct Run<'a> {
    during: &'a [During],
    clock_s: &'a mut i64,
    report: Report,
    /// Contents that copies failed to put somewhere.
    failed: BTreeSet<ContentHash>,
    /// Files that stand where they were to be moved from.
    not_moved: Vec<(Side, EntryPath)>,
}

impl Link {
    pub(super) fn new(conduit: Conduit, guards: Guards, labels: BTreeMap<DeviceId, Label>) -> Self {
        let (base, rulings) = (BTreeMap::new(), Vec::new());
        Self { conduit, guards, labels, base, baseline: None, verified: None, last: None, rulings, generation: 0 }
    }

    /// Both ends agree on everything that they have alike.
    pub(super) fn agree(&mut self, ends: &mut [&mut End; 2]) {
        if self.conduit.mode != SyncMode::Mirror {
            let [source, target] = ends;
            let folds = source.index.names().folds || target.index.names().folds;
            let key = |path: &EntryPath| apply::folding(folds).key(path);
            let targets: BTreeMap<EntryPath, (EntryPath, EntryState)> =
                target.index.entries(None).map(|(path, row)| (key(&path), (path, row))).collect();
            let sources: Vec<(EntryPath, EntryState)> = source.index.entries(None).collect();
            for (path, row) in sources {
                let Some((at, other)) = targets.get(&key(&path)) else { continue };
                let (Some(entry), Some(twin)) = (row.present(), other.present()) else { continue };
                if entry.kind.same_content(&twin.kind) {
                    let joined = entry.version.join(&twin.version);
                    source.index.adopt(&path, &joined);
                    target.index.adopt(at, &joined);
                    self.base.insert(path, entry.kind.clone());
                }
            }
        }
        self.remember(&ends.each_ref().map(|end| &**end));
    }

    fn remember(&mut self, ends: &[&End; 2]) {
        let [source, target] = ends;
        self.generation += 1;
        self.baseline = Some(Baseline {
            generation: self.generation,
            heads: vec![source.index.head(), target.index.head()],
            top_entries: (source.index.top_entries(), target.index.top_entries()),
            files: (source.index.file_count(), target.index.file_count()),
            rules: (source.index.rules_hash(), target.index.rules_hash()),
        });
    }

    /// The coordinator lost what it remembers of this conduit.
    pub(super) fn forget(&mut self) {
        (self.base, self.baseline, self.verified) = (BTreeMap::new(), None, None);
    }

    /// A person decides about the conflict at a path.
    pub(super) fn rule(&mut self, path: &str, decision: Decision) {
        let conflicts = self.last.iter().flat_map(Plan::conflicts);
        let Some(conflict) = conflicts.into_iter().find(|conflict| apply::plain(&conflict.path) == path) else {
            return;
        };
        self.rulings.push(Ruling {
            conduit: self.conduit.id,
            facts: conflict.facts,
            path: conflict.path.clone(),
            decision: Stamped::new(decision, Stamp::zero(self.conduit.source.device)),
        });
    }

    /// Asks the real gate.
    fn open(&self, ends: &[&End; 2]) -> Result<LibrarySynced, GateClosed> {
        let roots = [&self.conduit.source, &self.conduit.target];
        let owners = ends.iter().zip(roots).map(|(end, root)| OwnerView {
            device: root.device,
            locations: vec![LocationView {
                location: root.location,
                root_ok: end.disk.root == RootFault::None,
                scan_complete: true,
                dirty: 0,
                busy: Vec::new(),
            }],
            authorized: true,
            quarantined: false,
            over_quota: false,
            online: true,
            evidence_age_ms: Some(0),
            relayed: false,
            head: Some(end.index.head()),
            applied: Some(end.index.head()),
            gossiped: None,
            bootstrapped: true,
            clock_offset_ms: 0,
        });
        gate::open(&GateView {
            conduit: self.conduit.id,
            resolver: self.conduit.coordinator(),
            ends: roots.map(|root| (root.device, root.location)),
            owners: owners.collect(),
            others: Vec::new(),
            membership: 0,
            owners_membership: 0,
            newer_generation_at: None,
            evidence_age_ms_max: 0,
        })
    }

    fn view<'a>(&'a self, ends: &[&'a End; 2], now_s: i64) -> ConduitView<'a> {
        const NOTHING_READ: &BTreeMap<EntryPath, u64> = &BTreeMap::new();
        ConduitView {
            conduit: &self.conduit,
            source: &ends[0].index,
            target: &ends[1].index,
            baseline: self.baseline.as_ref(),
            base: &self.base,
            guards: self.guards,
            circumstances: Circumstances {
                rulings: &self.rulings,
                labels: &self.labels,
                reads: NOTHING_READ,
                now_ms: u64::try_from(now_s).unwrap_or(0) * 1000,
                clock_doubt_ms: 0,
            },
        }
    }

    /// Resolves in full and, where that is possible, from what changed alone: both must say the same.
    fn resolve(&self, ends: &[&End; 2], now_s: i64) -> Result<Plan, GateClosed> {
        let view = self.view(ends, now_s);
        let plan = SyncResolver::resolve(self.open(ends)?, &view).expect("selections of the corpus are valid");
        if let (Some(verified), Some(baseline)) = (&self.verified, &self.baseline) {
            let since = |end: &End| {
                let head = baseline.heads.iter().find(|head| head.device == end.index.head().device);
                end.index.touched_since(head.expect("a baseline has the heads of both ends").sequence)
            };
            let touched = ends.iter().flat_map(|end| since(end)).collect();
            let fast = SyncResolver::resolve_touched(self.open(ends)?, &view, &touched, verified);
            assert_eq!(fast.as_ref(), Ok(&plan), "an incremental resolve says what a full one says");
        }
        Ok(plan)
    }

    /// An empty plan is verified: it becomes the baseline.
    fn verify(&mut self, ends: &[&End; 2], plan: Plan, now_s: i64) {
        let changes = SyncResolver::base_changes(&self.view(ends, now_s), None).expect("as resolved");
        for (path, change) in changes {
            match change {
                BaseChange::Set(kind) => drop(self.base.insert(path, kind)),
                BaseChange::Drop => drop(self.base.remove(&path)),
            }
        }
        self.remember(ends);
        self.verified = Some(plan);
    }

    pub(super) fn generation(
        &mut self,
        ends: &mut [&mut End; 2],
        during: &[During],
        approve: bool,
        clock_s: &mut i64,
    ) -> Report {
        scan(ends);
        let seen = ends.each_ref().map(|end| &**end);
        let Ok(plan) = self.resolve(&seen, *clock_s) else {
            let replaced = seen.iter().any(|end| end.disk.root == RootFault::Replaced);
            let why = if replaced { "root_replaced" } else { "root_missing" };
            return Report { held: Some(why), ..Report::default() };
        };
        let conflicts = plan.conflicts().iter().map(|c| (apply::plain(&c.path), Kind(c.kind))).collect();
        let mut report = Report { planned: !plan.is_empty(), conflicts, ..Report::default() };
        let shown = self.last.replace(plan.clone());
        if plan.is_empty() {
            self.verify(&seen, plan, *clock_s);
            return report;
        }
        let approved = approve && shown.is_some_and(|held| plan.is_within(&held));
        if let Some(halt) = plan.halts.first().filter(|_| !approved) {
            report.held = Some(halt_name(halt));
            return report;
        }
        let mut run = Run { during, clock_s, report, failed: BTreeSet::new(), not_moved: Vec::new() };
        if run.carry_out(&plan, ends).is_ok() {
            scan(ends);
            // A crash after the commit is a crash of a generation that is over.
            let _: Result<(), Crashed> = run.fire(ends, &Moment::AfterCommit);
        }
        run.report
    }
}

impl Run<'_> {
    /// Copies of both directions, then deletes, with the edits that fall inside.
    fn carry_out(&mut self, plan: &Plan, ends: &mut [&mut End; 2]) -> Result<(), Crashed> {
        self.fire(ends, &Moment::AfterPlan)?;
        for side in Side::BOTH {
            for item in &plan.operations.on(side).copies {
                self.fire(ends, &Moment::MidCopy(apply::plain(&item.path)))?;
                self.copy(side, item, ends);
            }
        }
        self.fire(ends, &Moment::AfterCopies)?;
        for side in Side::BOTH {
            for item in &plan.operations.on(side).deletes {
                if !item.expect.content_to_find().is_some_and(|content| self.failed.contains(&content)) {
                    self.apply(side, item, ends);
                }
            }
        }
        self.fire(ends, &Moment::BeforeCommit)
    }

    /// What is displaced stays in place if its own copy failed.
    fn copy(&mut self, side: Side, item: &Item, ends: &mut [&mut End; 2]) {
        let is_wanted = item.expect.content_to_find().is_some_and(|content| self.failed.contains(&content));
        let has_left = |(of, from): &(Side, EntryPath)| *of == side && from.is_below(&item.path);
        let would_lose = is_wanted || (item.expect == PreImage::Directory && self.not_moved.iter().any(has_left));
        let applied = if item.displaces() && would_lose { Applied::Skipped } else { self.apply(side, item, ends) };
        self.report.installs += u64::from(applied == Applied::Installed);
        if matches!(applied, Applied::Skipped | Applied::NoSpace) {
            self.failed.extend(apply::content_put_by(item));
            if let Action::RenameFile { from, .. } = &item.action {
                self.not_moved.push((side, from.clone()));
            }
        }
    }

    fn apply(&mut self, side: Side, item: &Item, ends: &mut [&mut End; 2]) -> Applied {
        let [source, target] = ends;
        let (own, other) = match side {
            Side::Source => (source, &target.disk),
            Side::Target => (target, &source.disk),
        };
        let applied = apply::apply(item, other, &mut own.disk, &mut own.index);
        if applied == Applied::NoSpace {
            self.report.partial = Some("disk_full");
        }
        applied
    }

    fn fire(&mut self, ends: &mut [&mut End; 2], now: &Moment) -> Result<(), Crashed> {
        for During { side, op, .. } in self.during.iter().filter(|during| during.at == *now) {
            if *op == Edit::Crash {
                return Err(Crashed);
            }
            *self.clock_s += 1;
            ends[*side as usize].disk.edit(op, *self.clock_s);
        }
        Ok(())
    }
}

fn scan(ends: &mut [&mut End; 2]) {
    for end in ends.iter_mut().filter(|end| end.disk.root == RootFault::None) {
        end.index.scan(&end.disk);
    }
}

/// The corpus's name of a halt.
pub(in crate::corpus) const fn halt_name(halt: &Halt) -> &'static str {
    match halt {
        Halt::RootEmptied { .. } => "root_emptied",
        Halt::MassDelete { .. } => "mass_delete",
        Halt::FirstMirror { .. } => "first_mirror",
        Halt::RulesChanged { .. } => "rules_changed",
        Halt::RootGone { .. } => "root_gone",
    }
}
