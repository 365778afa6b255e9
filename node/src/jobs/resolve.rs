//! Resolving a conduit over a snapshot: puts both ends of the replica before the resolver.
//!
//! A row that cannot be read must not look like a row that is not there: the first failure makes the whole
//! answer void.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use tidegate_protocol::codec;
use tidegate_protocol::file_sync::{
    BaseView, Baseline, Circumstances, Conduit, ConduitView, Decided, EndFacts, Grounds, Guards, NameRules, NoBase,
    Plan, ResolveError, Root, SideView, SyncResolver,
};
use tidegate_protocol::hash::ContentHash;
use tidegate_protocol::id::{ConduitId, Sequence};
use tidegate_protocol::index::{EntryKind, EntryState, IgnoreRules, Location, RuleError};
use tidegate_protocol::library_sync::{HeadRef, LibrarySynced};
use tidegate_protocol::path::{DirPath, EntryPath};
use tidegate_storage::store::{Snapshot, StoreError, Tree};

use crate::core::io::{ResolveFacts, Resolved};

/// Changed rows beyond which a full resolve is made.
const TOUCHED_ROWS_MAX: usize = 10_000;

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unresolved {
    /// The replica cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The resolver has no answer.
    #[error(transparent)]
    Resolver(#[from] ResolveError),
    /// The replica holds no such location.
    #[error("an end's location is not in the index")]
    NoLocation,
    /// An end's rules do not compile here.
    #[error("an end's ignore rules are not understood: {0}")]
    Rules(#[from] RuleError),
}

/// What the resolver goes on from.
pub(crate) struct Known<'a> {
    /// What the last verified generation left.
    pub(crate) baseline: Option<&'a Baseline>,
    /// The empty plan that was resolved at the baseline's heads.
    pub(crate) previous: Option<&'a Plan>,
    /// Rulings, names and clocks.
    pub(crate) facts: &'a ResolveFacts,
}

/// Resolves, and says what a baseline at this state would be; explains the fate of a path if one is asked about, and
/// puts aside what the plan was decided from if it is to be kept.
pub(crate) fn resolve(
    snapshot: &Snapshot,
    synced: LibrarySynced,
    conduit: &Conduit,
    known: &Known<'_>,
    guards: Guards,
    why: Option<&EntryPath>,
    keep: bool,
) -> Result<Resolved, Unresolved> {
    let Known { baseline, previous, facts } = *known;
    let failure = RefCell::new(None);
    let source = End::of(snapshot, &conduit.source, &failure)?;
    let target = End::of(snapshot, &conduit.target, &failure)?;
    let agreed = Agreed { snapshot, conduit: conduit.id, failure: &failure };
    // Without a baseline the base rows are about an index that is no more.
    let base: &dyn BaseView = if baseline.is_some() { &agreed } else { &NoBase };
    let reads = BTreeMap::new();
    let circumstances = Circumstances {
        rulings: &facts.rulings,
        labels: &facts.labels,
        reads: &reads,
        now_ms: facts.now_ms,
        clock_doubt_ms: facts.clock_doubt_ms,
    };
    let view = ConduitView { conduit, source: &source, target: &target, baseline, base, guards, circumstances };
    let touched: Option<BTreeSet<EntryPath>> = match (baseline, previous) {
        (Some(baseline), Some(_)) => touched_since(&[&source, &target], baseline, synced.heads())?,
        (Some(_) | None, _) => None,
    };
    // A ruling is news about a path of which no row changed.
    let ruled = facts.rulings.iter().map(|ruling| ruling.path.clone());
    let touched: Option<BTreeSet<EntryPath>> = touched.map(|touched| touched.into_iter().chain(ruled).collect());
    let why = why.map(|path| SyncResolver::why(&view, path)).transpose()?;
    let rules = [&source.location.rules[..], &target.location.rules[..]];
    let ends = keep.then(|| EndFacts::of(conduit, rules, &synced));
    let plan = match (&touched, previous) {
        (Some(touched), Some(previous)) => SyncResolver::resolve_touched(synced, &view, touched, previous)?,
        (Some(_) | None, _) => SyncResolver::resolve(synced, &view)?,
    };
    let changes = if plan.is_empty() { SyncResolver::base_changes(&view, touched.as_ref())? } else { Vec::new() };
    let decided = match ends.filter(|_| !plan.is_empty()) {
        Some(ends) => Decided::of(&view, ends, &plan)?,
        None => None,
    };
    let inputs = decided.map(|decided| codec::encode(&Grounds::Resolved(Box::new(decided))));
    if let Some(error) = failure.take() {
        return Err(error.into());
    }
    let next = Baseline {
        generation: baseline.map_or(0, |baseline| baseline.generation),
        heads: plan.heads.clone(),
        top_entries: (source.top_entries, target.top_entries),
        files: (source.files, target.files),
        rules: (source.location.rules_hash(), target.location.rules_hash()),
    };
    Ok(Resolved { plan, baseline: next, base: changes, why, inputs })
}

/// Every path below the roots whose row changed at either end since the baseline; `None` if so many did that a
/// full look is cheaper, or if an owner has begun a new epoch since: its numbers say nothing about the old one.
fn touched_since(
    ends: &[&End<'_>],
    baseline: &Baseline,
    heads: &[HeadRef],
) -> Result<Option<BTreeSet<EntryPath>>, StoreError> {
    let mut touched = BTreeSet::new();
    for end in ends {
        let owner = end.location.owner;
        let Some(head) = baseline.heads.iter().find(|head| head.device == owner) else { return Ok(None) };
        if !heads.iter().any(|now| now.device == owner && now.epoch == head.epoch) {
            return Ok(None);
        }
        let Some(paths) = end.snapshot.entries_since(end.tree, head.sequence, TOUCHED_ROWS_MAX)? else {
            return Ok(None);
        };
        touched.extend(paths.iter().filter_map(|path| end.dir.relative(path)));
    }
    Ok(Some(touched))
}

/// The base rows, as the coordinator has them.
struct Agreed<'a> {
    snapshot: &'a Snapshot,
    conduit: ConduitId,
    failure: &'a RefCell<Option<StoreError>>,
}

impl BaseView for Agreed<'_> {
    fn entries<'a>(&'a self, from: Option<&EntryPath>) -> Box<dyn Iterator<Item = (EntryPath, EntryKind)> + 'a> {
        let Some(mut rows) = kept(self.failure, self.snapshot.base_entries(self.conduit, from)) else {
            return Box::new(std::iter::empty());
        };
        Box::new(std::iter::from_fn(move || kept(self.failure, rows.next()?)))
    }

    fn entry(&self, path: &EntryPath) -> Option<EntryKind> {
        kept(self.failure, self.snapshot.base_entry(self.conduit, path))?
    }
}

/// Keeps the first failure; the answer is void by it.
fn kept<T>(failure: &RefCell<Option<StoreError>>, result: Result<T, StoreError>) -> Option<T> {
    result.map_err(|error| failure.borrow_mut().get_or_insert(error).to_string()).ok()
}

/// One end, as the replica has it.
struct End<'a> {
    snapshot: &'a Snapshot,
    tree: Tree,
    dir: &'a DirPath,
    location: Location,
    rules: IgnoreRules,
    files: u64,
    top_entries: u64,
    has_root: bool,
    failure: &'a RefCell<Option<StoreError>>,
}

impl<'a> End<'a> {
    fn of(
        snapshot: &'a Snapshot,
        root: &'a Root,
        failure: &'a RefCell<Option<StoreError>>,
    ) -> Result<Self, Unresolved> {
        let location = snapshot.location(root.device, root.location)?.ok_or(Unresolved::NoLocation)?;
        let tree = snapshot.tree(root.device, root.location)?;
        let rules = IgnoreRules::new(&location.rules)?;
        let files = if root.dir == DirPath::TOP {
            tree.counters.files + tree.counters.links
        } else {
            count_files(snapshot, tree, &root.dir)?
        };
        let top_entries = snapshot.top_entries(tree, &root.dir)?;
        let has_root = match root.dir.as_entry() {
            None => true,
            Some(dir) => snapshot.entry(tree, dir)?.is_some_and(|row| is_directory(&row.state)),
        };
        Ok(Self { snapshot, tree, dir: &root.dir, location, rules, files, top_entries, has_root, failure })
    }

    /// The path below the location; `None` if it would be too long to exist there.
    fn below_location(&self, path: &EntryPath) -> Option<EntryPath> {
        self.dir.join(path).ok()
    }

    /// Keeps the first failure; the answer is void by it.
    fn kept<T>(&self, result: Result<T, StoreError>) -> Option<T> {
        kept(self.failure, result)
    }
}

impl SideView for End<'_> {
    fn entries<'a>(&'a self, from: Option<&EntryPath>) -> Box<dyn Iterator<Item = (EntryPath, EntryState)> + 'a> {
        let from = match from.map(|path| self.below_location(path)) {
            None => None,
            Some(Some(path)) => Some(path),
            Some(None) => return Box::new(std::iter::empty()),
        };
        let Some(mut rows) = self.kept(self.snapshot.entries(self.tree, self.dir, from.as_ref())) else {
            return Box::new(std::iter::empty());
        };
        Box::new(std::iter::from_fn(move || {
            let row = self.kept(rows.next()?)?;
            let path = self.dir.relative(&row.path).expect("rows below a directory lie below it");
            Some((path, row.state))
        }))
    }

    fn entry(&self, path: &EntryPath) -> Option<EntryState> {
        let path = self.below_location(path)?;
        Some(self.kept(self.snapshot.entry(self.tree, &path))??.state)
    }

    fn sequence(&self, path: &EntryPath) -> Option<Sequence> {
        let path = self.below_location(path)?;
        self.kept(self.snapshot.entry_sequence(self.tree, &path))?
    }

    fn is_hidden(&self, path: &EntryPath) -> bool {
        // What cannot exist there is outside the conduit.
        self.below_location(path).is_none_or(|path| self.rules.hides(&path))
    }

    fn rules_hash(&self) -> ContentHash {
        self.location.rules_hash()
    }

    fn file_count(&self) -> u64 {
        self.files
    }

    fn top_entries(&self) -> u64 {
        self.top_entries
    }

    fn names(&self) -> NameRules {
        self.location.names
    }

    fn has_root(&self) -> bool {
        self.has_root
    }
}

fn is_directory(state: &EntryState) -> bool {
    state.present().is_some_and(|entry| matches!(entry.kind, EntryKind::Directory { .. }))
}

/// Files and links below a directory that is not the top: the store counts whole locations only.
fn count_files(snapshot: &Snapshot, tree: Tree, dir: &DirPath) -> Result<u64, StoreError> {
    let mut files = 0;
    for row in snapshot.entries(tree, dir, None)? {
        files += match row?.state.present().map(|entry| &entry.kind) {
            Some(EntryKind::File(_) | EntryKind::Symlink { .. }) => 1,
            Some(EntryKind::Directory { .. } | EntryKind::Special | EntryKind::Unknown(_)) | None => 0,
        };
    }
    Ok(files)
}
