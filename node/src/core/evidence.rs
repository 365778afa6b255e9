//! What the gate looks at: everything known of both ends, and of the others, at one moment.

use std::collections::BTreeMap;

use tidegate_protocol::file_sync::Conduit;
use tidegate_protocol::id::{DeviceId, LocationId};
use tidegate_protocol::library_sync::gate::{GateView, LocationView, OtherView, OwnerView};
use tidegate_protocol::library_sync::{RootState, Unsettled};
use tidegate_protocol::path::EntryPath;

use super::gate::{Attempt, Evidence};
use super::pull::is_forked;
use super::{Core, CoreError, Step};

impl Evidence {
    /// Whether the location was level with its disk, but for paths that are named.
    pub(super) fn is_settled(&self, location: LocationId) -> bool {
        self.head.location(location).is_some_and(|status| {
            let level = status.unsettled.is_empty() && status.dirty == 0;
            let named =
                !status.unsettled.contains(&Unsettled::Scan) && self.busy(location).len() as u64 == status.dirty;
            status.root == RootState::Present && (level || (status.dirty > 0 && named))
        })
    }

    /// The paths of a location that are in constant use.
    pub(super) fn busy(&self, location: LocationId) -> Vec<EntryPath> {
        self.busy.iter().filter(|(id, _)| *id == location).map(|(_, path)| path.clone()).collect()
    }
}

impl Core {
    pub(super) fn gate_view(
        &self,
        step: &Step<'_>,
        attempt: &Attempt,
        conduit: &Conduit,
    ) -> Result<GateView, CoreError> {
        let mut views = Vec::new();
        let mut owners_membership = 0;
        let owners = owners(conduit);
        for (device, locations) in &owners {
            let view = if *device == self.me {
                self.own_view(step, attempt, locations)?
            } else {
                let view = self.owner_view(step, attempt, *device, locations)?;
                let claimed = attempt.evidence.get(device).map_or(0, |evidence| evidence.head.membership);
                owners_membership = owners_membership.max(claimed);
                view
            };
            views.push(view);
        }
        for root in [&conduit.source, &conduit.target] {
            // If the whole end is in use, there is nothing to plan.
            let holds = |path: &EntryPath| root.dir.as_entry().is_some_and(|dir| dir == path || dir.is_below(path));
            let locations = views.iter_mut().filter(|view| view.device == root.device).flat_map(|v| &mut v.locations);
            for location in locations.filter(|location| location.location == root.location) {
                if location.busy.iter().any(holds) {
                    location.busy.clear();
                }
            }
        }
        let now = step.now.monotonic_ms;
        let mut others = Vec::new();
        for (device, peer) in &self.library.peers {
            if owners.contains_key(device) || !peer.greeted {
                continue;
            }
            let applied = match &peer.confirmed {
                Some(head) => step.txn.author(*device)?.is_some_and(|state| {
                    state.epoch == head.epoch && state.upto >= head.sequence && state.rests.is_some()
                }),
                None => false,
            };
            others.push(OtherView {
                device: *device,
                authorized: self.library.members.contains(device),
                online: true,
                config_evidence_age_ms: peer.confirmed_ms.map(|at| now - at),
                config_applied: applied,
            });
        }
        Ok(GateView {
            conduit: conduit.id,
            resolver: self.me,
            ends: [&conduit.source, &conduit.target].map(|root| (root.device, root.location)),
            owners: views,
            others,
            membership: self.library.membership,
            owners_membership,
            newer_generation_at: attempt.newer.first().copied(),
            evidence_age_ms_max: self.config.evidence_age_ms_max,
        })
    }

    fn own_view(&self, step: &Step<'_>, attempt: &Attempt, ids: &[LocationId]) -> Result<OwnerView, CoreError> {
        let reference = step.own_author()?.reference(self.me);
        let looked_at = attempt.own_ms.is_some();
        let statuses = self.locations.statuses();
        let view = |id: &LocationId| {
            let status = statuses.iter().find(|status| status.location == *id);
            LocationView {
                location: *id,
                root_ok: status.is_some_and(|status| status.root == RootState::Present),
                scan_complete: looked_at && status.is_some_and(|s| !s.unsettled.contains(&Unsettled::Scan)),
                dirty: status.map_or(0, |status| status.dirty),
                busy: self.locations.busy(*id, step.now.monotonic_ms),
            }
        };
        Ok(OwnerView {
            device: self.me,
            locations: ids.iter().map(view).collect(),
            authorized: true,
            quarantined: self.library.past.is_cloned(),
            over_quota: false,
            online: true,
            evidence_age_ms: Some(0),
            relayed: false,
            head: Some(reference),
            applied: Some(reference),
            gossiped: self.library.gossiped(self.me, reference.epoch),
            bootstrapped: true,
            clock_offset_ms: 0,
        })
    }

    fn owner_view(
        &self,
        step: &Step<'_>,
        attempt: &Attempt,
        device: DeviceId,
        ids: &[LocationId],
    ) -> Result<OwnerView, CoreError> {
        let state = step.txn.author(device)?;
        let evidence = attempt.evidence.get(&device);
        let status = |id: &LocationId| {
            let status = evidence.and_then(|evidence| evidence.head.location(*id));
            LocationView {
                location: *id,
                root_ok: status.is_none_or(|status| status.root == RootState::Present),
                scan_complete: status.is_some_and(|s| !s.unsettled.contains(&Unsettled::Scan)),
                dirty: status.map_or(1, |s| if s.unsettled.is_empty() { s.dirty } else { s.dirty.max(1) }),
                busy: evidence.map(|evidence| evidence.busy(*id)).unwrap_or_default(),
            }
        };
        let resting = state.as_ref().filter(|state| state.rests.is_some());
        Ok(OwnerView {
            device,
            locations: ids.iter().map(status).collect(),
            authorized: self.library.members.contains(&device),
            quarantined: state.as_deref().is_some_and(is_forked),
            over_quota: evidence.is_some_and(|evidence| self.is_over_quota(&evidence.head)),
            online: self.library.peers.get(&device).is_some_and(|peer| peer.greeted),
            evidence_age_ms: evidence.map(|evidence| step.now.monotonic_ms - evidence.at_ms),
            // Only a third device has told of it: that shows what there was, not what there is.
            relayed: evidence.is_none()
                && state.as_ref().is_some_and(|state| self.library.gossiped(device, state.epoch).is_some()),
            head: evidence.map(|evidence| evidence.head.reference()),
            applied: state.as_ref().map(|state| state.reference(device)),
            gossiped: evidence.and_then(|evidence| self.library.gossiped(device, evidence.head.epoch)),
            bootstrapped: resting.is_some() || state.as_ref().is_some_and(|state| state.bootstrapped),
            clock_offset_ms: evidence.map_or(0, |evidence| evidence.offset_ms),
        })
    }

    /// Whether all owners of an attempt have been looked at and only the replica is behind.
    pub(super) fn watchers_have_spoken(&self, attempt: &Attempt, conduit: &Conduit) -> bool {
        owners(conduit).iter().all(|(device, locations)| {
            if *device == self.me {
                attempt.own_ms.is_some()
            } else {
                attempt.evidence.get(device).is_some_and(|evidence| locations.iter().all(|l| evidence.is_settled(*l)))
            }
        })
    }
}

/// The owners of both ends, each with its locations.
pub(super) fn owners(conduit: &Conduit) -> BTreeMap<DeviceId, Vec<LocationId>> {
    let mut owners: BTreeMap<DeviceId, Vec<LocationId>> = BTreeMap::new();
    for root in [&conduit.source, &conduit.target] {
        let locations = owners.entry(root.device).or_default();
        if !locations.contains(&root.location) {
            locations.push(root.location);
        }
    }
    owners
}
