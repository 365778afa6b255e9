//! TRUE: verified means verified. When a generation becomes verified, its ends hold the same at every path that neither
//! a user nor a job of another conduit has touched since the evidence for it was asked for.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_protocol::file_sync::{JobKey, Verification};
use tidegate_protocol::id::ConduitId;

use super::{Invariant, Scene, Seen, differences, text};
use crate::disk::Actor;
use crate::ghost::{Ghost, is_below};
use crate::plan::{Deed, Millis};
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
    /// Where jobs act that are at work, by device.
    at_work: BTreeMap<(usize, JobKey), Vec<(String, String)>>,
    /// When the jobs of a conduit last changed a path of a location of a device.
    by_jobs: BTreeMap<(usize, String), BTreeMap<(String, ConduitId), Millis>>,
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
            Seen::Said { device, said: Said::Leg { job, location, items } } => {
                let Some((_, name)) = scene.location_of(*location) else { return };
                let places = items.iter().map(|(_, path, _)| (name.clone(), text(&path.to_slashes())));
                self.at_work.entry((*device, *job)).or_default().extend(places);
            }
            Seen::Said { device, said: Said::LegEnded { job, .. } } => drop(self.at_work.remove(&(*device, *job))),
            Seen::PowerCut(device) | Seen::Stopped(device) => self.at_work.retain(|(of, _), _| of != device),
            Seen::Disk { device, change, places } if change.who == Actor::Node => {
                for (location, path) in [&places.at, &places.other].into_iter().flatten() {
                    self.changed(*device, location, path, scene.now());
                }
            }
            Seen::Said { device, said: Said::Status { conduit: id, generation, status: Verification::Verified } } => {
                let Some(conduit) = scene.conduit_of(*id).map(|at| &scene.plan().conduits[at]) else { return };
                if self.undone.remove(&conduit.name) {
                    return;
                }
                let asked = self.asked.get(device).copied().unwrap_or_else(|| scene.now());
                let since = Millis(asked.0.min(scene.now().0.saturating_sub(EVIDENCE_MS)));
                let touched = |path: &str| {
                    [&conduit.source, &conduit.target].into_iter().any(|end| {
                        let whole = match (end.place.path.as_str(), path) {
                            ("", path) => path.to_owned(),
                            (dir, path) => format!("{dir}/{path}"),
                        };
                        let device = scene.plan().device(&end.device).unwrap_or_default();
                        let location = &end.place.location;
                        ghost.user_changed(device, location, &whole).is_some_and(|at| at >= since)
                            || self.others_changed((device, location), &whole, *id, since)
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

impl Truth {
    /// A node changed a path: whichever conduits' jobs are at work there did it.
    fn changed(&mut self, device: usize, location: &str, path: &str, now: Millis) {
        let names = |places: &[(String, String)]| {
            places.iter().any(|(of, at)| of == location && (at == path || is_below(at, path) || is_below(path, at)))
        };
        let jobs = self.at_work.iter().filter(|((of, _), places)| *of == device && names(places));
        let conduits: Vec<ConduitId> = jobs.map(|((_, job), _)| job.conduit).collect();
        let paths = self.by_jobs.entry((device, location.to_owned())).or_default();
        paths.extend(conduits.into_iter().map(|conduit| ((path.to_owned(), conduit), now)));
    }

    /// Whether a job of another conduit has changed a path, or anything above or below it, since then.
    fn others_changed(&self, (device, location): (usize, &str), path: &str, conduit: ConduitId, since: Millis) -> bool {
        let Some(paths) = self.by_jobs.get(&(device, location.to_owned())) else { return false };
        paths.iter().any(|((at, of), when)| {
            *of != conduit && *when >= since && (at == path || is_below(at, path) || is_below(path, at))
        })
    }
}
