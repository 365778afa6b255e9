//! ORDER: no delete of a generation begins before every copy of it has an outcome, in both directions.
//!
//! How many copies there are is taken from the plan as its resolver gave it; outcomes are counted where they are
//! reported, on the device whose disk changed. A leg of deletes that begins earlier is wrong.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_protocol::file_sync::{JobKey, JobKind, Side};
use tidegate_protocol::id::{ConduitId, DeviceId};

use super::{Invariant, Scene, Seen};
use crate::ghost::Ghost;
use crate::verdict::{Violation, names};
use crate::witness::Said;

/// Outcomes that the device whose disk changes has stored: items of a job that was given up have one, too, and are
/// never reported.
fn recorded(scene: &dyn Scene, job: &JobKey) -> usize {
    let replica = scene.device_of(job.device).and_then(|device| scene.replica(device));
    let outcomes = replica.and_then(|replica| replica.job_outcomes(job, 0, usize::MAX).ok());
    outcomes.map_or(0, |outcomes| outcomes.iter().filter(|outcome| outcome.is_some()).count())
}

/// The claim.
#[derive(Debug, Default)]
pub(super) struct Order {
    /// Copies of the newest plan of a conduit that has any operation, by device and the end that changes.
    copies: BTreeMap<ConduitId, BTreeMap<(DeviceId, Side), usize>>,
    outcomes: BTreeMap<JobKey, BTreeSet<u32>>,
}

impl Invariant for Order {
    fn name(&self) -> &'static str {
        names::ORDER
    }

    fn saw(&mut self, seen: &Seen<'_>, _ghost: &Ghost, scene: &dyn Scene, wrong: &mut Vec<Violation>) {
        let Seen::Said { device, said } = seen else { return };
        match said {
            Said::Resolved(plan) if !plan.operations.is_empty() => {
                let Some(conduit) = scene.conduit_of(plan.conduit) else { return };
                let conduit = &scene.plan().conduits[conduit];
                let id = |name: &str| scene.plan().device(name).map(|device| scene.id_of(device));
                let mut copies = BTreeMap::new();
                let ends = [
                    (&conduit.target.device, Side::Target, &plan.operations.source_to_target),
                    (&conduit.source.device, Side::Source, &plan.operations.target_to_source),
                ];
                for (name, side, operations) in ends {
                    if let Some(id) = id(name) {
                        copies.insert((id, side), operations.copies.len());
                    }
                }
                self.copies.insert(plan.conduit, copies);
            }
            Said::Moved { job, outcomes } if job.kind == JobKind::Copy => {
                self.outcomes.entry(*job).or_default().extend(outcomes.iter().map(|(index, _)| *index));
                // Older generations of the conduit are over.
                self.outcomes.retain(|other, _| other.conduit != job.conduit || other.generation + 4 > job.generation);
            }
            Said::Leg { job, items, .. } if job.kind == JobKind::Delete => {
                for ((owner, side), copies) in self.copies.get(&job.conduit).into_iter().flatten() {
                    let key = JobKey { device: *owner, side: *side, kind: JobKind::Copy, ..*job };
                    let known = self.outcomes.get(&key).map_or(0, BTreeSet::len).max(recorded(scene, &key));
                    if known < *copies {
                        let says = format!(
                            "{} deletes of generation {} begin while {} of {copies} copies have no outcome",
                            items.len(),
                            job.generation,
                            copies - known,
                        );
                        let name = scene.plan().devices[*device].name.as_str();
                        let path = items.first().map(|(_, path, _)| path.to_string()).unwrap_or_default();
                        let location = scene.conduit_of(job.conduit).map_or("?", |at| &scene.plan().conduits[at].name);
                        wrong.push(Violation::new(names::ORDER, "delete-first", says).on(name).at(location, &path));
                    }
                }
            }
            _ => {}
        }
    }
}
