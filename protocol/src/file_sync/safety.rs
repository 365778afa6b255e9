//! Guards: what is stopped before harm, until a person approves the very plan that was stopped.
//!
//! The coordinator asks them of a plan; the device whose disk changes asks them again of the job it was
//! given, against its own index. Thresholds come from `docs/ARCHITECTURE.md`, "Guards". Counting is in files
//! and symbolic links: directories hold no bytes of their own.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::resolver::Side;
use super::{Action, ConduitView, DirectionalOps, Item, PlanTotals, PreImage, SyncMode, SyncOperations};
use crate::hash::ContentHash;
use crate::limits::BULK_DELETES_MAX;
use crate::path::EntryPath;

/// Top entries that a source must have had for its emptiness to be suspicious.
const EMPTIED_TOP_ENTRIES_MIN: u64 = 2;

/// Why a plan is held. Approval covers the plan that was shown, by its id, and no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Halt {
    /// One side became empty although the baseline had entries.
    #[error("the {side:?} side is empty, and it had {had} entries at its top when last verified")]
    RootEmptied {
        /// Which side.
        side: Side,
        /// How many entries it had directly in the root.
        had: u64,
    },
    /// Most of a side, or very many files, would be deleted.
    #[error("{deletes} of {files} files would be deleted on the {side:?} side")]
    MassDelete {
        /// On which side.
        side: Side,
        /// How many, less those whose content stays elsewhere.
        deletes: u64,
        /// Of how many.
        files: u64,
    },
    /// The first mirror would displace content of the target.
    #[error("the first mirror would displace {displaced} entries that only the target has")]
    FirstMirror {
        /// How many.
        displaced: u64,
    },
    /// The ignore rules of an end changed since the last verified generation, and there is something to do.
    #[error("the ignore rules of the {side:?} side changed")]
    RulesChanged {
        /// Of which end.
        side: Side,
    },
    /// The directory that is a root was deleted, or is no directory any more. Asked for whatever the settings say.
    #[error("the root of the {side:?} side was deleted or is no directory any more")]
    RootGone {
        /// On which side.
        side: Side,
    },
}

impl Halt {
    /// Whether both stop for the same reason, whatever the numbers.
    pub fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::FirstMirror { .. }, Self::FirstMirror { .. }) => true,
            (Self::RootEmptied { side: a, .. }, Self::RootEmptied { side: b, .. })
            | (Self::RootGone { side: a }, Self::RootGone { side: b })
            | (Self::MassDelete { side: a, .. }, Self::MassDelete { side: b, .. })
            | (Self::RulesChanged { side: a }, Self::RulesChanged { side: b }) => a == b,
            (
                Self::RootEmptied { .. }
                | Self::MassDelete { .. }
                | Self::FirstMirror { .. }
                | Self::RulesChanged { .. }
                | Self::RootGone { .. },
                _,
            ) => false,
        }
    }
}

/// Thresholds of the guards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guards {
    /// Whether any guard is asked. A root that is missing or replaced closes the gate whatever this says.
    pub enabled: bool,
    /// Deletes from which the share counts.
    pub deletes_min: u64,
    /// Share of a side's files, in percent, above which deletes are held.
    pub delete_percent: u64,
    /// Deletes from which a plan is always held.
    pub deletes_max: u64,
    /// Deletes beyond which what they rest on is looked at a second time.
    pub bulk_deletes: u64,
}

impl Default for Guards {
    fn default() -> Self {
        Self { enabled: true, deletes_min: 10, delete_percent: 50, deletes_max: 1000, bulk_deletes: BULK_DELETES_MAX }
    }
}

impl Guards {
    /// All of them off.
    pub const OFF: Self = Self { enabled: false, deletes_min: 0, delete_percent: 0, deletes_max: 0, bulk_deletes: 0 };

    /// Whether so many deletes on a side of so many files wait for a person.
    pub const fn is_mass_delete(&self, deletes: u64, files: u64) -> bool {
        let most = deletes.saturating_mul(100) > files.saturating_mul(self.delete_percent);
        self.enabled && ((deletes >= self.deletes_min && most) || deletes >= self.deletes_max)
    }

    /// Whether so many deletes wait for a second look.
    pub const fn is_bulk(&self, deletes: u64) -> bool {
        self.enabled && deletes > self.bulk_deletes
    }

    /// What the device whose disk changes asks of the items it was given, against its own index.
    pub fn check_items(&self, items: &[Item], own: &OwnSide<'_>) -> Result<(), Halt> {
        let deletes = items.iter().map(|item| own.deletes_of(item)).sum();
        if !own.approved && self.is_mass_delete(deletes, own.files) {
            return Err(Halt::MassDelete { side: own.side, deletes, files: own.files });
        }
        Ok(())
    }
}

/// What the applying device knows of the side that it is asked to change.
pub struct OwnSide<'a> {
    /// Which side of the conduit that is.
    pub side: Side,
    /// Files and links below the conduit's root in its own index.
    pub files: u64,
    /// Whether a person approved the plan.
    pub approved: bool,
    /// Files and links below a directory, for one that is to be replaced whole.
    pub files_below: &'a dyn Fn(&EntryPath) -> u64,
    /// Whether this content stays or was put at another path by the same generation.
    pub stays: &'a dyn Fn(&ContentHash) -> bool,
}

impl OwnSide<'_> {
    fn deletes_of(&self, item: &Item) -> u64 {
        match (&item.action, &item.expect) {
            (Action::Remove { .. }, expect) => {
                u64::from(!expect.content_to_find().is_some_and(|content| (self.stays)(&content)))
            }
            (Action::InstallFile { .. } | Action::InstallSymlink { .. }, PreImage::Directory) => {
                (self.files_below)(&item.path)
            }
            (
                Action::InstallFile { .. }
                | Action::InstallSymlink { .. }
                | Action::MakeDirectory { .. }
                | Action::RenameFile { .. }
                | Action::SetMetadata { .. }
                | Action::RemoveDirectory { .. }
                | Action::Adopt { .. }
                | Action::Respell { .. }
                | Action::Evict { .. },
                _,
            ) => 0,
        }
    }
}

/// What a set of operations takes from its place, in files and links.
pub(super) struct Toll {
    /// Removed or displaced with a directory, less what is put elsewhere by the same operations.
    deletes: u64,
    /// Replaced one by one by something else, less what is put elsewhere by the same operations.
    replaces: u64,
    /// Everything that goes to the trash because something else takes its place.
    replaced: u64,
    has_operations: bool,
}

impl Toll {
    /// `displaced` is the content of what goes with directories that are replaced whole.
    pub(super) fn of(ops: &DirectionalOps, displaced: &[Option<ContentHash>]) -> Self {
        let arriving: BTreeSet<ContentHash> = if ops.deletes.is_empty() && !ops.copies.iter().any(Item::displaces) {
            BTreeSet::new()
        } else {
            ops.copies.iter().filter_map(arrival).collect()
        };
        let is_lost = |content: Option<ContentHash>| !content.is_some_and(|content| arriving.contains(&content));
        let lost = |items: &mut dyn Iterator<Item = Option<ContentHash>>| items.filter(|c| is_lost(*c)).count() as u64;
        let leaves = |item: &&Item| item.expect != PreImage::Directory;
        let evicted = |item: &&Item| matches!(item.action, Action::Evict { .. });
        let removed = ops.deletes.iter().filter(leaves).filter(|item| !evicted(item));
        let removed = removed.map(|item| item.expect.content_to_find());
        let replaced = || ops.copies.iter().filter(|item| item.displaces()).filter(leaves);
        Self {
            deletes: lost(&mut removed.chain(displaced.iter().copied())),
            replaces: lost(&mut replaced().map(|item| item.expect.content_to_find())),
            replaced: (replaced().count() + displaced.len()) as u64,
            has_operations: !ops.is_empty(),
        }
    }
}

/// The sums that a plan shows.
pub(super) fn totals(operations: &SyncOperations, tolls: &[Toll; 2], drift_healed: u64) -> PlanTotals {
    let replaced = tolls.iter().map(|toll| toll.replaced).sum();
    let mut totals = PlanTotals { replaced, drift_healed, ..PlanTotals::default() };
    for side in Side::BOTH {
        let ops = operations.on(side);
        totals.copies += ops.copies.len() as u64;
        totals.deletes += ops.deletes.len() as u64;
        for item in ops.copies.iter().chain(&ops.deletes) {
            match &item.action {
                Action::InstallFile { file, .. } => totals.copy_bytes += file.size,
                Action::RenameFile { .. } => totals.renames += 1,
                Action::Adopt { .. } => {
                    totals.adopts += 1;
                    totals.copies -= 1;
                }
                Action::Evict { .. } => {
                    totals.evictions += 1;
                    totals.deletes -= 1;
                }
                Action::MakeDirectory { .. }
                | Action::InstallSymlink { .. }
                | Action::SetMetadata { .. }
                | Action::Respell { .. }
                | Action::Remove { .. }
                | Action::RemoveDirectory { .. } => {}
            }
        }
    }
    totals
}

/// The content that an item puts at a path.
fn arrival(item: &Item) -> Option<ContentHash> {
    match &item.action {
        Action::InstallFile { file, .. } | Action::RenameFile { file, .. } => PreImage::of_file(file).content_to_find(),
        Action::MakeDirectory { .. }
        | Action::InstallSymlink { .. }
        | Action::SetMetadata { .. }
        | Action::Remove { .. }
        | Action::RemoveDirectory { .. }
        | Action::Adopt { .. }
        | Action::Respell { .. }
        | Action::Evict { .. } => None,
    }
}

/// What stops a plan, the gravest first. `unseen` counts what the source of a one-way conduit never had, nor anything
/// after it: what an unverified run of this conduit has put on the target is the source's own, and nobody has to be
/// asked before an edit follows it.
pub(super) fn halts(view: &ConduitView<'_>, tolls: &[Toll; 2], unseen: u64) -> Vec<Halt> {
    let mut halts = Vec::new();
    if !tolls.iter().any(|toll| toll.has_operations) {
        return halts;
    }
    let gone = Side::BOTH.into_iter().filter(|side| !view.side(*side).has_root());
    halts.extend(gone.map(|side| Halt::RootGone { side }));
    if !view.guards.enabled {
        return halts;
    }
    halts.extend(emptied(view));
    for side in Side::BOTH {
        let (deletes, files) = (tolls[side as usize].deletes, view.side(side).file_count());
        if view.guards.is_mass_delete(deletes, files) {
            halts.push(Halt::MassDelete { side, deletes, files });
        }
    }
    match view.baseline {
        None => {
            let toll = &tolls[Side::Target as usize];
            let displaced = (toll.deletes + toll.replaces).min(unseen);
            if view.conduit.mode.is_one_way() && displaced > 0 {
                halts.push(Halt::FirstMirror { displaced });
            }
        }
        Some(baseline) => {
            let rules = [
                (Side::Source, baseline.rules.0, view.source.rules_hash()),
                (Side::Target, baseline.rules.1, view.target.rules_hash()),
            ];
            let changed = rules.into_iter().filter(|(_, then, now)| then != now);
            halts.extend(changed.map(|(side, ..)| Halt::RulesChanged { side }));
        }
    }
    halts
}

/// The one side that became empty, if it could empty the other.
fn emptied(view: &ConduitView<'_>) -> Option<Halt> {
    let baseline = view.baseline?;
    let empty = Side::BOTH.map(|side| view.side(side).top_entries() == 0);
    let (side, had) = match (view.conduit.mode, empty) {
        (SyncMode::Mirror | SyncMode::Selective, [true, _]) | (SyncMode::Bidirectional, [true, false]) => {
            (Side::Source, baseline.top_entries.0)
        }
        (SyncMode::Bidirectional, [false, true]) => (Side::Target, baseline.top_entries.1),
        (SyncMode::Mirror | SyncMode::Selective, [false, _])
        | (SyncMode::Bidirectional, [true, true] | [false, false]) => return None,
    };
    (had >= EMPTIED_TOP_ENTRIES_MIN).then_some(Halt::RootEmptied { side, had })
}
