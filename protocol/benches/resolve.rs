//! What a resolve costs: ten thousand to a million entries a side, in full and after a hundred changes.
//!
//! Both sides are sorted vectors in memory, so this is the resolver's own cost; a store adds its reads. Memory is counted too:
//! *max alloc* is what a resolve holds at most at one moment, its plan included and both sides not.

use std::collections::{BTreeMap, BTreeSet};

use divan::{AllocProfiler, Bencher};
use tidegate_protocol::file_sync::{
    BandwidthLimit, Baseline, Circumstances, Conduit, ConduitSettings, ConduitView, ConflictStrategy, DeleteMode,
    Guards, NameRules, Plan, Root, Schedule, Selection, Side, SideView, SyncMode, SyncResolver,
};
use tidegate_protocol::hash::ContentHash;
use tidegate_protocol::id::{ConduitId, DeviceId, Epoch, Label, LocationId, Sequence};
use tidegate_protocol::index::{Entry, EntryKind, EntryState, FileFacts, Version};
use tidegate_protocol::library_sync::gate::{self, GateView, LocationView, OwnerView};
use tidegate_protocol::library_sync::{HeadRef, LibrarySynced};
use tidegate_protocol::path::{DirPath, EntryPath};
use tidegate_protocol::time::{Stamp, Stamped};

const ENTRIES: [usize; 3] = [10_000, 100_000, 1_000_000];
const FILES_PER_DIRECTORY: usize = 100;
const CHANGES: usize = 100;

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

/// Nothing to do: the price of a full resolve at rest.
#[divan::bench(sample_count = 5, sample_size = 1, args = ENTRIES)]
fn mirror_full_in_step(bencher: Bencher<'_, '_>, entries: usize) {
    let world = World::new(SyncMode::Mirror, entries, 0, true);
    bencher.with_inputs(|| world.token()).bench_local_values(|token| world.resolve(token));
}

/// The same between two ends that follow each other, with a base row for every path.
#[divan::bench(sample_count = 5, sample_size = 1, args = ENTRIES)]
fn bidirectional_full_in_step(bencher: Bencher<'_, '_>, entries: usize) {
    let world = World::new(SyncMode::Bidirectional, entries, 0, true);
    bencher.with_inputs(|| world.token()).bench_local_values(|token| world.resolve(token));
}

/// A hundred files changed, and everything is visited.
#[divan::bench(sample_count = 5, sample_size = 1, args = ENTRIES)]
fn bidirectional_full_after_100_changes(bencher: Bencher<'_, '_>, entries: usize) {
    let world = World::new(SyncMode::Bidirectional, entries, CHANGES, true);
    bencher.with_inputs(|| world.token()).bench_local_values(|token| world.resolve(token));
}

/// Nothing changed, and that is known: the price of asking.
#[divan::bench(sample_count = 100, sample_size = 1, args = ENTRIES)]
fn bidirectional_touched_nothing(bencher: Bencher<'_, '_>, entries: usize) {
    let world = World::new(SyncMode::Bidirectional, entries, 0, true);
    let (previous, touched) = (world.resolve(world.token()), BTreeSet::new());
    bencher.with_inputs(|| world.token()).bench_local_values(|token| world.resolve_touched(token, &touched, &previous));
}

/// A hundred files changed, and only they are visited.
#[divan::bench(sample_count = 100, sample_size = 1, args = ENTRIES)]
fn bidirectional_touched_100_changes(bencher: Bencher<'_, '_>, entries: usize) {
    touched_100_changes(bencher, SyncMode::Bidirectional, entries);
}

/// The same for a mirror.
#[divan::bench(sample_count = 100, sample_size = 1, args = ENTRIES)]
fn mirror_touched_100_changes(bencher: Bencher<'_, '_>, entries: usize) {
    touched_100_changes(bencher, SyncMode::Mirror, entries);
}

/// Nothing on the target: a plan of as many copies, with its id.
#[divan::bench(sample_count = 3, sample_size = 1, args = ENTRIES)]
fn full_first_copy(bencher: Bencher<'_, '_>, entries: usize) {
    let world = World::new(SyncMode::Bidirectional, entries, 0, false);
    bencher.with_inputs(|| world.token()).bench_local_values(|token| world.resolve(token));
}

fn touched_100_changes(bencher: Bencher<'_, '_>, mode: SyncMode, entries: usize) {
    let previous = World::new(mode, entries, 0, true);
    let previous = previous.resolve(previous.token());
    let world = World::new(mode, entries, CHANGES, true);
    let touched = touched(entries);
    bencher.with_inputs(|| world.token()).bench_local_values(|token| {
        let plan = world.resolve_touched(token, &touched, &previous);
        assert_eq!(plan.totals.copies, CHANGES as u64);
        plan
    });
}

struct World {
    conduit: Conduit,
    source: Index,
    target: Index,
    baseline: Option<Baseline>,
    base: BTreeMap<EntryPath, EntryKind>,
}

/// A side as a sorted vector.
struct Index {
    rows: Vec<(EntryPath, EntryState)>,
    files: u64,
}

impl Index {
    /// So many rows in directories of `FILES_PER_DIRECTORY`; the content of `changed` files is another.
    fn new(entries: usize, changed: usize) -> Self {
        let changed: BTreeSet<EntryPath> = if changed == 0 { BTreeSet::new() } else { touched(entries) };
        let mut version = Version::NONE;
        version.bump(device(Side::Source), 1);
        let mut later = version.clone();
        later.bump(device(Side::Source), 2);
        let row = |kind, version: &Version| EntryState::Present(Entry { kind, version: version.clone() });
        let mut rows = Vec::with_capacity(entries);
        for directory in 0..entries / (FILES_PER_DIRECTORY + 1) {
            let path = path(&format!("d{directory:05}"));
            rows.push((path, row(EntryKind::Directory { residue: false }, &version)));
            for file in 0..FILES_PER_DIRECTORY {
                let path = file_path(directory, file);
                let content = ContentHash::of(&[path.as_stored(), &[u8::from(changed.contains(&path))]].concat());
                let facts = FileFacts { content, size: 1_000, mtime_ns: 0, executable: false };
                let version = if changed.contains(&path) { &later } else { &version };
                rows.push((path, row(EntryKind::File(facts), version)));
            }
        }
        let files = rows.len() as u64;
        Self { rows, files }
    }

    fn at(&self, path: &EntryPath) -> Option<usize> {
        self.rows.binary_search_by(|(at, _)| at.cmp(path)).ok()
    }
}

impl SideView for Index {
    fn entries<'a>(&'a self, from: Option<&EntryPath>) -> Box<dyn Iterator<Item = (EntryPath, EntryState)> + 'a> {
        let start = from.map_or(0, |from| self.rows.partition_point(|(at, _)| at < from));
        Box::new(self.rows[start..].iter().cloned())
    }

    fn entry(&self, path: &EntryPath) -> Option<EntryState> {
        self.at(path).map(|at| self.rows[at].1.clone())
    }

    fn sequence(&self, path: &EntryPath) -> Option<Sequence> {
        self.at(path).map(|at| Sequence(at as u64))
    }

    fn is_hidden(&self, _: &EntryPath) -> bool {
        false
    }

    fn rules_hash(&self) -> ContentHash {
        ContentHash::empty()
    }

    fn file_count(&self) -> u64 {
        self.files
    }

    fn top_entries(&self) -> u64 {
        (self.rows.len() / (FILES_PER_DIRECTORY + 1)) as u64
    }

    fn names(&self) -> NameRules {
        NameRules::POSIX
    }

    fn has_root(&self) -> bool {
        true
    }
}

impl World {
    /// `changed` files of the source are others than the target's and the base's; or there is no target yet.
    fn new(mode: SyncMode, entries: usize, changed: usize, has_target: bool) -> Self {
        let source = Index::new(entries, changed);
        let target = if has_target { Index::new(entries, 0) } else { Index { rows: Vec::new(), files: 0 } };
        let baseline = has_target.then(|| Baseline {
            generation: 1,
            heads: vec![head(Side::Source), head(Side::Target)],
            top_entries: (source.top_entries(), target.top_entries()),
            files: (source.file_count(), target.file_count()),
            rules: (source.rules_hash(), target.rules_hash()),
        });
        let agreed = target.rows.iter().filter(|_| mode == SyncMode::Bidirectional);
        let base = agreed.filter_map(|(path, row)| Some((path.clone(), row.present()?.kind.clone()))).collect();
        Self { conduit: conduit(mode), source, target, baseline, base }
    }

    fn view(&self) -> ConduitView<'_> {
        ConduitView {
            conduit: &self.conduit,
            source: &self.source,
            target: &self.target,
            baseline: self.baseline.as_ref(),
            base: &self.base,
            guards: Guards::default(),
            circumstances: Circumstances::NONE,
        }
    }

    fn resolve(&self, token: LibrarySynced) -> Plan {
        SyncResolver::resolve(token, &self.view()).expect("nothing is selected")
    }

    fn resolve_touched(&self, token: LibrarySynced, touched: &BTreeSet<EntryPath>, previous: &Plan) -> Plan {
        SyncResolver::resolve_touched(token, &self.view(), touched, previous).expect("nothing is selected")
    }

    fn token(&self) -> LibrarySynced {
        let owner = |side, root: &Root| OwnerView {
            device: root.device,
            locations: vec![LocationView {
                location: root.location,
                root_ok: true,
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
            head: Some(head(side)),
            applied: Some(head(side)),
            gossiped: None,
            bootstrapped: true,
            clock_offset_ms: 0,
        };
        let roots = [&self.conduit.source, &self.conduit.target];
        gate::open(&GateView {
            conduit: self.conduit.id,
            resolver: device(Side::Source),
            ends: roots.map(|root| (root.device, root.location)),
            owners: vec![owner(Side::Source, roots[0]), owner(Side::Target, roots[1])],
            others: Vec::new(),
            membership: 0,
            owners_membership: 0,
            newer_generation_at: None,
            evidence_age_ms_max: 0,
        })
        .expect("nothing is missing")
    }
}

fn path(text: &str) -> EntryPath {
    EntryPath::from_slashes(text.as_bytes()).expect("a plain path")
}

fn file_path(directory: usize, file: usize) -> EntryPath {
    path(&format!("d{directory:05}/f{file:03}.dat"))
}

/// `CHANGES` files, spread over the whole tree.
fn touched(entries: usize) -> BTreeSet<EntryPath> {
    let step = entries / (FILES_PER_DIRECTORY + 1) / CHANGES;
    (0..CHANGES)
        .map(|change| {
            file_path(change * step.max(1) % (entries / (FILES_PER_DIRECTORY + 1)), change % FILES_PER_DIRECTORY)
        })
        .collect()
}

const fn device(side: Side) -> DeviceId {
    DeviceId::from_bytes([side as u8 + 1; 32])
}

const fn head(side: Side) -> HeadRef {
    HeadRef { device: device(side), epoch: Epoch(1), sequence: Sequence(1), set_hash: [0; 32] }
}

fn conduit(mode: SyncMode) -> Conduit {
    let stamp = Stamp::zero(device(Side::Source));
    let root =
        |side| Root { device: device(side), location: LocationId::from_bytes([side as u8; 16]), dir: DirPath::TOP };
    let settings = ConduitSettings {
        name: Stamped::new(Label::lossy("bench"), stamp),
        enabled: Stamped::new(true, stamp),
        paused: Stamped::new(false, stamp),
        schedule: Stamped::new(Schedule::Manual, stamp),
        selection: Stamped::new(Selection::default(), stamp),
        parallel_transfers: Stamped::new(4, stamp),
        bandwidth_limit: Stamped::new(BandwidthLimit::default(), stamp),
        strategy: Stamped::new(ConflictStrategy::default(), stamp),
        delete_mode: Stamped::new(DeleteMode::default(), stamp),
    };
    Conduit {
        id: ConduitId::from_bytes([7; 16]),
        created: stamp,
        source: root(Side::Source),
        target: root(Side::Target),
        mode,
        settings,
        removed: Stamped::new(false, stamp),
    }
}
