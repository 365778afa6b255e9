//! Both ends of a conduit as a replica has them, put before the resolver.

use std::collections::BTreeMap;

use tidegate::core::io::{ResolveFacts, Resolved};
use tidegate_protocol::codec;
use tidegate_protocol::file_sync::{
    Baseline, Circumstances, Conduit, ConduitView, Decided, EndFacts, Grounds, Guards, NameRules, Root, SideView,
    SyncResolver,
};
use tidegate_protocol::hash::ContentHash;
use tidegate_protocol::id::Sequence;
use tidegate_protocol::index::{EntryKind, EntryState, IgnoreRules, Location};
use tidegate_protocol::library_sync::LibrarySynced;
use tidegate_protocol::path::EntryPath;
use tidegate_storage::store::{Snapshot, Store, Tree};

/// The plan, and the baseline that an empty one would leave.
#[expect(clippy::too_many_arguments, reason = "the fields of one wish, taken apart at its only place")]
pub(crate) fn resolve(
    store: &Store,
    synced: LibrarySynced,
    conduit: &Conduit,
    baseline: Option<&Baseline>,
    guards: Guards,
    facts: &ResolveFacts,
    why: Option<&EntryPath>,
    keep: bool,
) -> Result<Box<Resolved>, String> {
    let snapshot = store.read().unwrap();
    let [source, target] = [&conduit.source, &conduit.target].map(|root| End::of(&snapshot, root));
    let rows: BTreeMap<EntryPath, EntryKind> = match baseline {
        Some(_) => snapshot.base_entries(conduit.id, None).unwrap().map(Result::unwrap).collect(),
        None => BTreeMap::new(),
    };
    let reads = BTreeMap::new();
    let circumstances = Circumstances {
        rulings: &facts.rulings,
        labels: &facts.labels,
        reads: &reads,
        now_ms: facts.now_ms,
        clock_doubt_ms: facts.clock_doubt_ms,
    };
    let view = ConduitView { conduit, source: &source, target: &target, baseline, base: &rows, guards, circumstances };
    let why = why.map(|path| SyncResolver::why(&view, path).unwrap());
    let rules = [&source.location.rules[..], &target.location.rules[..]];
    let ends = EndFacts::of(conduit, rules, &synced);
    let plan = SyncResolver::resolve(synced, &view).map_err(|error| error.to_string())?;
    let base = if plan.is_empty() { SyncResolver::base_changes(&view, None).unwrap() } else { Vec::new() };
    let next = Baseline {
        generation: 0,
        heads: plan.heads.clone(),
        top_entries: (source.top_entries(), target.top_entries()),
        files: (source.file_count(), target.file_count()),
        rules: (source.rules_hash(), target.rules_hash()),
    };
    let decided = (keep && !plan.is_empty()).then(|| Decided::of(&view, ends, &plan).unwrap().expect("few rows"));
    let inputs = decided.map(|decided| codec::encode(&Grounds::Resolved(Box::new(decided))));
    Ok(Box::new(Resolved { plan, baseline: next, base, why, inputs }))
}

struct End<'a> {
    snapshot: &'a Snapshot,
    root: &'a Root,
    tree: Tree,
    location: Location,
    rules: IgnoreRules,
}

impl<'a> End<'a> {
    fn of(snapshot: &'a Snapshot, root: &'a Root) -> Self {
        let location = snapshot.location(root.device, root.location).unwrap().expect("the gate was open");
        let rules = IgnoreRules::new(&location.rules).unwrap();
        Self { snapshot, root, tree: snapshot.tree(root.device, root.location).unwrap(), location, rules }
    }
}

impl SideView for End<'_> {
    fn entries<'a>(&'a self, from: Option<&EntryPath>) -> Box<dyn Iterator<Item = (EntryPath, EntryState)> + 'a> {
        let from = from.map(|path| self.root.dir.join(path).unwrap());
        let rows = self.snapshot.entries(self.tree, &self.root.dir, from.as_ref()).unwrap();
        Box::new(rows.map(|row| {
            let row = row.unwrap();
            (self.root.dir.relative(&row.path).unwrap(), row.state)
        }))
    }

    fn entry(&self, path: &EntryPath) -> Option<EntryState> {
        let row = self.snapshot.entry(self.tree, &self.root.dir.join(path).unwrap()).unwrap();
        row.map(|row| row.state)
    }

    fn sequence(&self, path: &EntryPath) -> Option<Sequence> {
        self.snapshot.entry_sequence(self.tree, &self.root.dir.join(path).unwrap()).unwrap()
    }

    fn is_hidden(&self, path: &EntryPath) -> bool {
        self.rules.hides(&self.root.dir.join(path).unwrap())
    }

    fn rules_hash(&self) -> ContentHash {
        self.location.rules_hash()
    }

    fn file_count(&self) -> u64 {
        let files = |(_, state): &(EntryPath, EntryState)| {
            matches!(state.present().map(|entry| &entry.kind), Some(EntryKind::File(_) | EntryKind::Symlink { .. }))
        };
        self.entries(None).filter(files).count() as u64
    }

    fn top_entries(&self) -> u64 {
        self.snapshot.top_entries(self.tree, &self.root.dir).unwrap()
    }

    fn names(&self) -> NameRules {
        NameRules::POSIX
    }

    fn has_root(&self) -> bool {
        true
    }
}
