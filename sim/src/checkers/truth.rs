//! TRUE: verified means verified. When a generation becomes verified, its ends hold the same at every path that no
//! user has touched since the evidence for it was asked for, and that could be read when it was looked at.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_protocol::file_sync::Verification;
use tidegate_protocol::index::EntryKind;
use tidegate_protocol::path::EntryPath;
use tidegate_storage::store::Snapshot;

use super::{Invariant, Scene, Seen, differences};
use crate::ghost::Ghost;
use crate::plan::{Deed, End, Millis};
use crate::verdict::{Violation, names};
use crate::witness::Said;

/// The claim.
#[derive(Debug, Default)]
pub(super) struct Truth {
    /// When a device asked anybody for evidence last, and the time before.
    asked: BTreeMap<usize, Millis>,
    /// Conduits of which a person has a generation undone: the one that does it is verified by what stands again, and
    /// the run after it brings both ends in step.
    undone: BTreeSet<String>,
}

/// Evidence may be this old when the gate opens, and a resolve takes its time.
const EVIDENCE_MS: u64 = 15_000;

impl Invariant for Truth {
    fn name(&self) -> &'static str {
        names::TRUE
    }

    fn saw(&mut self, seen: &Seen<'_>, ghost: &Ghost, scene: &dyn Scene, wrong: &mut Vec<Violation>) {
        match seen {
            Seen::Did { deed: Deed::Undo(conduit), .. } => drop(self.undone.insert(conduit.clone())),
            Seen::Said { device, said: Said::AskedHeads { .. } } => {
                self.asked.insert(*device, scene.now());
            }
            Seen::Said { device, said: Said::Status { conduit, generation, status: Verification::Verified } } => {
                let Some(conduit) = scene.conduit_of(*conduit).map(|at| &scene.plan().conduits[at]) else { return };
                if self.undone.remove(&conduit.name) {
                    return;
                }
                let asked = self.asked.get(device).copied().unwrap_or_else(|| scene.now());
                let since = Millis(asked.0.min(scene.now().0.saturating_sub(EVIDENCE_MS)));
                let replica = scene.replica(*device);
                let touched = |path: &str| {
                    [&conduit.source, &conduit.target].into_iter().any(|end| {
                        let whole = match (end.place.path.as_str(), path) {
                            ("", path) => path.to_owned(),
                            (dir, path) => format!("{dir}/{path}"),
                        };
                        let device = scene.plan().device(&end.device).unwrap_or_default();
                        let index = replica.as_ref();
                        ghost.user_changed(device, &end.place.location, &whole).is_some_and(|at| at >= since)
                            || index.is_some_and(|index| is_unknown(index, scene, end, &whole))
                    })
                };
                // What differs nowhere needs no excuse.
                if differences(scene, conduit, &|_| false).is_none_or(|found| found.is_empty()) {
                    return;
                }
                let found = differences(scene, conduit, &touched).unwrap_or_default();
                if let Some((path, says)) = found.into_iter().next() {
                    let says = format!("generation {generation} of {} is said to be verified: {says}", conduit.name);
                    let violation = Violation::new(names::TRUE, "verified", says);
                    wrong.push(violation.on(conduit.target.device.as_str()).at(&conduit.target.place.location, &path));
                }
            }
            _ => {}
        }
    }
}

/// Whether the index says that a path, or a directory above it, could not be read. That is told, and left alone.
fn is_unknown(index: &Snapshot, scene: &dyn Scene, end: &End, path: &str) -> bool {
    let kind = |path: &str| -> Option<EntryKind> {
        let owner = scene.plan().device(&end.device)?;
        let location = scene.location_id(owner, &end.place.location)?;
        let tree = index.tree(scene.id_of(owner), location).ok()?;
        let row = index.entry(tree, &EntryPath::from_slashes(path.as_bytes()).ok()?).ok()??;
        Some(row.state.present()?.kind.clone())
    };
    let above = path.match_indices('/').map(|(at, _)| &path[..at]);
    above.chain([path]).any(|path| matches!(kind(path), Some(EntryKind::Unknown(_))))
}
