//! The smallest world: two trees in memory, the real gate, resolver and guards, and a generation in a loop.
//!
//! There is no replica, no job and no durability here; a crash only ends the generation.

mod apply;
mod disk;
mod scan;

use std::collections::BTreeSet;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use tidegate_protocol::file_sync::{
    Baseline, Conduit, ConduitView, Guards, Halt, Item, Plan, ResolveError, Root, Side, SideView, SyncResolver,
};
use tidegate_protocol::id::{DeviceId, LocationId};
use tidegate_protocol::library_sync::gate::{self, GateView, LocationView, OwnerView};
use tidegate_protocol::library_sync::{GateClosed, LibrarySynced};
use tidegate_protocol::path::DirPath;

use super::format::{During, Edit, GuardSetting, Head, Kind, Moment};
use super::runner::{Contents, Report, Tree, World};
use apply::Applied;
pub(super) use disk::Disk;
use disk::RootFault;
use scan::Index;

/// Two ends in memory.
pub struct ModelWorld {
    conduit: Conduit,
    ends: [End; 2],
    baseline: Option<Baseline>,
    guards: Guards,
    held: Option<Plan>,
    generation: u64,
    clock_s: i64,
}

/// One end: what is on its disk, and what its index believes of that.
struct End {
    disk: Disk,
    index: Index,
}

/// The node stopped here.
struct Crashed;

impl ModelWorld {
    /// Both ends as a scenario has them at the start. A base that is not empty was verified once.
    pub fn new(head: &Head) -> Self {
        let root = |side: Side| Root {
            device: DeviceId::from_bytes([side as u8 + 1; 32]),
            location: LocationId::from_bytes([side as u8 + 1; 16]),
            dir: DirPath::TOP,
        };
        let conduit = super::conduits::plain(1, root(Side::Source), root(Side::Target), head.mode.into());
        let hide = patterns(&head.ignore);
        let ends = [Side::Source, Side::Target].map(|side| {
            let tree = match side {
                Side::Source => &head.base,
                Side::Target => head.base_target.as_ref().unwrap_or(&head.base),
            };
            let mut end = End { disk: Disk::new(tree), index: Index::new(root(side).device, side, hide.clone()) };
            end.index.scan(&end.disk);
            end
        });
        let guards = match head.guards {
            GuardSetting::Off => Guards::OFF,
            GuardSetting::Default => Guards::default(),
        };
        let mut world = Self { conduit, ends, baseline: None, guards, held: None, generation: 0, clock_s: 1_000 };
        if !head.base.is_empty() {
            world.verify();
        }
        for (side, unmanaged) in [(Side::Source, &head.unmanaged_source), (Side::Target, &head.unmanaged_target)] {
            world.ends[side as usize].disk.add(unmanaged);
        }
        world
    }

    fn verify(&mut self) {
        let [source, target] = &self.ends;
        self.generation += 1;
        self.baseline = Some(Baseline {
            generation: self.generation,
            heads: vec![source.index.head(), target.index.head()],
            top_entries: source.index.top_entries(),
            files: source.index.file_count(),
            rules: (source.index.rules_hash(), target.index.rules_hash()),
        });
    }

    /// Asks the real gate.
    fn open(&self) -> Result<LibrarySynced, GateClosed> {
        let roots = [&self.conduit.source, &self.conduit.target];
        let owners = self.ends.iter().zip(roots).map(|(end, root)| OwnerView {
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

    fn resolve(&self, synced: LibrarySynced) -> Result<Plan, ResolveError> {
        let [source, target] = &self.ends;
        let view = ConduitView {
            conduit: &self.conduit,
            source: &source.index,
            target: &target.index,
            baseline: self.baseline.as_ref(),
            guards: self.guards,
        };
        SyncResolver::resolve(synced, &view)
    }

    /// Applies a plan to the target, with the edits that fall inside.
    fn carry_out(&mut self, plan: &Plan, during: &[During], report: &mut Report) -> Result<(), Crashed> {
        let ops = &plan.operations.source_to_target;
        self.fire(during, &Moment::AfterPlan)?;
        let mut failed: BTreeSet<_> = BTreeSet::new();
        for item in &ops.copies {
            self.fire(during, &Moment::MidCopy(item.path.to_string()))?;
            let applied = self.apply(item);
            report.installs += u64::from(applied == Applied::Installed);
            if applied == Applied::Skipped {
                failed.extend(apply::content_put_by(item));
            }
        }
        self.fire(during, &Moment::AfterCopies)?;
        for item in &ops.deletes {
            if !item.expect.content_to_find().is_some_and(|content| failed.contains(&content)) {
                self.apply(item);
            }
        }
        self.fire(during, &Moment::BeforeCommit)
    }

    fn apply(&mut self, item: &Item) -> Applied {
        let [source, target] = &mut self.ends;
        apply::apply(item, &source.disk, &mut target.disk, &mut target.index)
    }

    fn fire(&mut self, during: &[During], now: &Moment) -> Result<(), Crashed> {
        for During { side, op, .. } in during.iter().filter(|during| during.at == *now) {
            if *op == Edit::Crash {
                return Err(Crashed);
            }
            self.edit(*side, op);
        }
        Ok(())
    }

    fn scan(&mut self) {
        for end in self.ends.iter_mut().filter(|end| end.disk.root == RootFault::None) {
            end.index.scan(&end.disk);
        }
    }
}

impl World for ModelWorld {
    fn edit(&mut self, side: Side, edit: &Edit) {
        self.clock_s += 1;
        self.ends[side as usize].disk.edit(edit, self.clock_s);
    }

    fn generation(&mut self, during: &[During], approve: bool) -> Report {
        self.scan();
        let Ok(synced) = self.open() else {
            return Report { held: Some(self.root_fault()), ..Report::default() };
        };
        let plan = self.resolve(synced).expect("the scenario's mode is supported");
        let conflicts = plan
            .conflicts()
            .iter()
            .map(|c| (String::from_utf8_lossy(&c.path.to_slashes()).into_owned(), Kind(c.kind)))
            .collect();
        let mut report = Report { planned: !plan.is_empty(), conflicts, ..Report::default() };
        if plan.is_empty() {
            self.verify();
            return report;
        }
        let approved = approve && self.held.as_ref().is_some_and(|held| plan.is_within(held));
        if let Some(halt) = plan.halts.first().filter(|_| !approved) {
            report.held = Some(halt_name(halt));
            self.held = Some(plan);
            return report;
        }
        if self.carry_out(&plan, during, &mut report).is_ok() {
            self.scan();
            // A crash after the commit is a crash of a generation that is over.
            let _: Result<(), Crashed> = self.fire(during, &Moment::AfterCommit);
        }
        report
    }

    fn tree(&self, side: Side) -> Tree {
        self.ends[side as usize].disk.tree()
    }

    fn executable(&self, side: Side) -> BTreeSet<String> {
        self.ends[side as usize].disk.executable()
    }

    fn trash(&self, side: Side) -> Contents {
        self.ends[side as usize].disk.trash.clone()
    }
}

impl ModelWorld {
    fn root_fault(&self) -> &'static str {
        let replaced = self.ends.iter().any(|end| end.disk.root == RootFault::Replaced);
        if replaced { "root_replaced" } else { "root_missing" }
    }
}

const fn halt_name(halt: &Halt) -> &'static str {
    match halt {
        Halt::RootEmptied { .. } => "root_emptied",
        Halt::MassDelete { .. } => "mass_delete",
        Halt::FirstMirror { .. } => "first_mirror",
        Halt::RulesChanged { .. } => "rules_changed",
    }
}

/// Patterns over names and over the path of every directory above.
fn patterns(texts: &[String]) -> GlobSet {
    let mut set = GlobSetBuilder::new();
    for text in texts {
        set.add(GlobBuilder::new(text).literal_separator(true).build().expect("patterns of the corpus are valid"));
    }
    set.build().expect("a few patterns")
}
