//! Healing what rotted: from what a reading of both disks found, and the rows there, to a plan that puts the sound content of
//! the other end in the place of the rotten one.
//!
//! The very facts from which such a plan is made are what is kept of it for a replay. Who reads the disks is not here.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Action, Item, Plan, PlanTotals, PreImage, Side, SyncOperations};
use crate::hash::ContentHash;
use crate::id::{ConduitId, DeviceId};
use crate::index::{EntryKind, EntryState};
use crate::library_sync::HeadRef;
use crate::path::EntryPath;
use crate::time::Stamp;

/// A file that is not as the index says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unsound {
    /// On which end.
    pub side: Side,
    /// Below the conduit's root.
    pub path: EntryPath,
    /// What it holds, if that changed while size and time stayed; `None` for what is gone, edited or cannot be read.
    pub rotten: Option<ContentHash>,
    /// The row of this end.
    pub here: Option<EntryState>,
    /// The row of the other end.
    pub there: Option<EntryState>,
}

/// What a plan that heals is made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Healed {
    /// Who heals: a new event is its own.
    pub device: DeviceId,
    /// The conduit's definition.
    pub definition: Stamp,
    /// Everything that was found unsound, on both ends.
    pub found: Vec<Unsound>,
}

impl Healed {
    /// The plan; empty if nothing that rotted is sound at the other end.
    pub fn plan(&self, conduit: ConduitId, heads: Vec<HeadRef>) -> Plan {
        let bad: BTreeSet<(Side, &EntryPath)> = self.found.iter().map(|found| (found.side, &found.path)).collect();
        let mut operations = SyncOperations::default();
        let mut totals = PlanTotals::default();
        for found in self.found.iter().filter(|found| !bad.contains(&(found.side.other(), &found.path))) {
            let Some(item) = self.item(found) else { continue };
            totals.copies += 1;
            totals.replaced += 1;
            match found.side {
                Side::Source => operations.target_to_source.copies.push(item),
                Side::Target => operations.source_to_target.copies.push(item),
            }
        }
        Plan::new(conduit, self.definition, heads, operations, Vec::new(), Vec::new(), totals)
    }

    /// Rows that it was made from, of the source and of the target.
    pub(super) fn rows(&self) -> (u64, u64) {
        let of = |side: Side| {
            let rows = self.found.iter().map(|found| if found.side == side { &found.here } else { &found.there });
            rows.flatten().count() as u64
        };
        (of(Side::Source), of(Side::Target))
    }

    /// Puts what the other end holds in the place of what rotted. If a scan has taken the rot for an edit meanwhile, that
    /// is a new event over both; else it is none: nobody edited.
    fn item(&self, found: &Unsound) -> Option<Item> {
        let rotten = found.rotten?;
        let (here, there) = (found.here.as_ref()?.present()?, found.there.as_ref()?.present()?);
        let (EntryKind::File(file), EntryKind::File(sound)) = (&here.kind, &there.kind) else { return None };
        let mut version = here.version.clone();
        if file.content != sound.content {
            if file.content != rotten {
                return None;
            }
            version = version.join(&there.version);
            version.bump(self.device, 0);
        }
        Some(Item {
            path: found.path.clone(),
            expect: PreImage::File { content: rotten, size: file.size },
            action: Action::InstallFile { file: *sound, version, from: found.path.clone() },
        })
    }
}
