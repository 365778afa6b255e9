//! Bulk deletes: a plan that deletes much is believed only after a second look.
//!
//! A checkout or an unpacking empties directories for a moment, and a scan in that moment sees them empty. So
//! before a generation with many deletes opens, the paths at which something is no longer there are looked at
//! again on the end that the deletes follow: some seconds after the plan, when both ends have been quiet. What
//! counts is the plan that is resolved after that; deletes that were not looked at twice wait once more.
//!
//! Not here: how many are too many for a machine to decide (`tidegate_protocol::file_sync::Guards`).

use std::collections::{BTreeMap, BTreeSet};

use tidegate_protocol::file_sync::{Conduit, DirectionalOps, Plan, Root};
use tidegate_protocol::id::{ConduitId, DeviceId, LocationId};
use tidegate_protocol::limits::{BULK_QUIET_MS, BULK_SETTLE_MS, BULK_SETTLE_MS_MAX, ITEMS_BYTES_MAX};
use tidegate_protocol::path::EntryPath;
use tidegate_protocol::wire::{RefusalCode, Request, Response};

use super::applying::refuse;
use super::command::{Fault, FaultCode};
use super::file_sync::{Purpose, SyncCall};
use super::{Asked, Core, CoreError, Step};
use crate::env::NetworkError;

/// How long the run that was put off waits for the gate, in milliseconds.
const GATE_WAIT_MS: u64 = 30_000;

/// A delete, by the location whose word it follows.
type Follows = (LocationId, EntryPath);

/// What is known of the moment only. Who waits is told nothing if the node stops: it asks again.
#[derive(Default)]
pub(super) struct Bulk {
    waiting: BTreeMap<ConduitId, Waiting>,
    /// What was looked at twice for the run that is under way.
    looked: BTreeMap<ConduitId, BTreeSet<Follows>>,
}

/// A call of `sync_now` that waits for a second look.
#[derive(Clone)]
struct Waiting {
    call: SyncCall,
    deletes: BTreeSet<Follows>,
    first_ms: u64,
    due_ms: u64,
    /// Devices that have been asked to look.
    asked: BTreeSet<DeviceId>,
}

impl Bulk {
    /// Whether a run of the conduit waits for a second look.
    pub(super) fn waits(&self, conduit: ConduitId) -> bool {
        self.waiting.contains_key(&conduit)
    }

    /// A new run begins: nothing was looked at for it.
    pub(super) fn forget(&mut self, conduit: ConduitId) {
        self.looked.remove(&conduit);
    }

    pub(super) fn next_wake(&self) -> Option<u64> {
        self.waiting.values().filter(|waiting| waiting.asked.is_empty()).map(|waiting| waiting.due_ms).min()
    }

    /// Both ends of a conduit have to be quiet for a while; but not for ever.
    fn stir(&mut self, conduit: &Conduit, changed: &BTreeSet<LocationId>, now: u64) {
        if let Some(waiting) = self.waiting.get_mut(&conduit.id)
            && [&conduit.source, &conduit.target].iter().any(|root| changed.contains(&root.location))
        {
            let quiet_ms = waiting.due_ms.max(now + BULK_QUIET_MS);
            waiting.due_ms = quiet_ms.min(waiting.first_ms + BULK_SETTLE_MS_MAX);
        }
    }
}

impl Core {
    /// Whether a plan deletes much that was looked at only once.
    pub(super) fn needs_second_look(&self, conduit: &Conduit, plan: &Plan) -> bool {
        let looked = self.bulk.looked.get(&conduit.id);
        let deletes = follows(conduit, plan);
        let once = deletes.iter().filter(|delete| !looked.is_some_and(|looked| looked.contains(*delete)));
        self.config.guards.is_bulk(once.count() as u64)
    }

    /// Puts a run off until the second look.
    pub(super) fn put_off(&mut self, step: &Step<'_>, conduit: &Conduit, call: SyncCall, plan: &Plan) {
        let now = step.now.monotonic_ms;
        let deletes = follows(conduit, plan);
        tracing::info!(conduit = %conduit.settings.name.value, deletes = deletes.len(), "waits for a second look");
        let waiting = Waiting { call, deletes, first_ms: now, due_ms: now + BULK_SETTLE_MS, asked: BTreeSet::new() };
        self.bulk.waiting.insert(conduit.id, waiting);
    }

    /// Takes the second looks that are due.
    pub(super) fn tend_bulk(&mut self, step: &mut Step<'_>) -> Result<(), CoreError> {
        let now = step.now.monotonic_ms;
        for id in self.bulk.waiting.keys().copied().collect::<Vec<_>>() {
            let conduit = step.txn.conduit(id)?.filter(|conduit| !conduit.removed.value);
            let Some(conduit) = conduit else {
                self.end_wait(step, id, "the conduit was removed meanwhile");
                continue;
            };
            self.bulk.stir(&conduit, &self.locations.changed, now);
            let Some(waiting) = self.bulk.waiting.get(&id).filter(|w| w.due_ms <= now && w.asked.is_empty()) else {
                continue;
            };
            let mut looks: BTreeMap<(DeviceId, LocationId), BTreeSet<EntryPath>> = BTreeMap::new();
            for (location, path) in &waiting.deletes {
                for root in [&conduit.source, &conduit.target].into_iter().filter(|root| root.location == *location) {
                    let paths = looks.entry((root.device, root.location)).or_default();
                    // What is below a path that is gone is gone with it.
                    if !path.ancestors().any(|above| paths.contains(&above)) {
                        paths.insert(path.clone());
                    }
                }
            }
            for ((device, location), paths) in looks {
                self.look(step, id, device, location, paths);
            }
            self.look_again(step, id);
        }
        Ok(())
    }

    fn look(
        &mut self,
        step: &mut Step<'_>,
        conduit: ConduitId,
        device: DeviceId,
        location: LocationId,
        paths: BTreeSet<EntryPath>,
    ) {
        if device == self.me {
            return self.look_at(step, location, paths.into_iter().collect());
        }
        let bytes: usize = paths.iter().map(|path| path.as_stored().len() + 4).sum();
        let paths = if bytes <= ITEMS_BYTES_MAX { paths.into_iter().collect() } else { Vec::new() };
        if let Some(waiting) = self.bulk.waiting.get_mut(&conduit) {
            waiting.asked.insert(device);
        }
        self.ask(step, device, Request::Look { location, paths }, Asked::Look { conduit, device });
    }

    /// The other end will look, or cannot be asked.
    pub(super) fn on_look_answer(
        &mut self,
        step: &mut Step<'_>,
        conduit: ConduitId,
        device: DeviceId,
        result: &Result<Response, NetworkError>,
    ) {
        match result {
            Ok(Response::Looking) => {
                if let Some(waiting) = self.bulk.waiting.get_mut(&conduit) {
                    waiting.asked.remove(&device);
                }
                self.look_again(step, conduit);
            }
            Ok(_) | Err(_) => self.end_wait(step, conduit, "the other end could not be asked to look again"),
        }
    }

    /// Another device plans to delete much because of what is not in this location: it is looked at again.
    pub(super) fn on_look(
        &mut self,
        step: &Step<'_>,
        peer: DeviceId,
        location: LocationId,
        paths: Vec<EntryPath>,
    ) -> Result<Response, CoreError> {
        let ends = |root: &Root| root.device == self.me && root.location == location;
        let asks = |conduit: &Conduit| {
            !conduit.removed.value
                && conduit.coordinator() == peer
                && [&conduit.source, &conduit.target].into_iter().any(ends)
        };
        if !step.txn.conduits()?.iter().any(asks) {
            return Ok(refuse(RefusalCode::NotFound, "no such location in a conduit of the asker"));
        }
        self.look_at(step, location, paths);
        Ok(Response::Looking)
    }

    /// Everybody has been asked to look: the gate opens when they have.
    fn look_again(&mut self, step: &Step<'_>, conduit: ConduitId) {
        if self.bulk.waiting.get(&conduit).is_none_or(|waiting| !waiting.asked.is_empty()) {
            return;
        }
        let Some(waiting) = self.bulk.waiting.remove(&conduit) else { return };
        self.attempt(step, conduit, Purpose::Sync(waiting.call), Some(GATE_WAIT_MS));
        self.bulk.looked.insert(conduit, waiting.deletes);
    }

    fn end_wait(&mut self, step: &mut Step<'_>, conduit: ConduitId, why: &str) {
        let Some(waiting) = self.bulk.waiting.remove(&conduit) else { return };
        if waiting.call.caller.is_none() {
            self.schedule_retry(step, conduit);
        }
        let fault = Fault::new(
            FaultCode::NotCaughtUp,
            "much would be deleted, and it was not seen twice; nothing was changed",
            why,
            &["tidegate status"],
        );
        self.answer(step, waiting.call.caller, Err(fault));
    }
}

/// The deletes of a plan, each by the location where the path is not there any more, below that location.
fn follows(conduit: &Conduit, plan: &Plan) -> BTreeSet<Follows> {
    let of = |root: &Root, ops: &DirectionalOps| -> Vec<Follows> {
        let below = |path: &EntryPath| root.dir.join(path).ok().map(|path| (root.location, path));
        ops.deletes.iter().filter_map(|item| below(&item.path)).collect()
    };
    let mut follows: BTreeSet<Follows> = BTreeSet::new();
    follows.extend(of(&conduit.source, &plan.operations.source_to_target));
    follows.extend(of(&conduit.target, &plan.operations.target_to_source));
    follows
}
