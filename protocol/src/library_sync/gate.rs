//! The gate: whether this replica is caught up with both ends of a conduit.
//!
//! [`open`] is the only maker of [`LibrarySynced`], and the resolver takes that by value: skipping the gate
//! does not compile. (A replay makes one of the past, of which no plan leaves this crate.) The order of the reasons is the order of `docs/ARCHITECTURE.md`, "The gate"; the first
//! one is what people are shown. What is not known closes the gate: an end without an owner, an owner
//! without a head, a location that the head does not name.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::HeadRef;
use crate::id::{ConduitId, DeviceId, Epoch, LocationId, Sequence};
use crate::limits::{CLOCK_OFFSET_MS_MAX, CONFIG_EVIDENCE_AGE_MS_MAX};
use crate::path::EntryPath;

/// Proof that the replica was caught up with both ends of one conduit, and with which heads.
///
/// Not `Clone`: one proof, one resolve.
#[derive(Debug, PartialEq, Eq)]
pub struct LibrarySynced {
    conduit: ConduitId,
    heads: Vec<HeadRef>,
    busy: BTreeMap<(DeviceId, LocationId), Vec<EntryPath>>,
}

impl LibrarySynced {
    /// The conduit it was granted for.
    pub const fn conduit(&self) -> ConduitId {
        self.conduit
    }

    /// The heads of the owners, sorted by device: one if both ends are on one device.
    pub fn heads(&self) -> &[HeadRef] {
        &self.heads
    }

    /// Paths of a location that are in constant use: nothing is known of them, nor of what is below them.
    pub fn busy(&self, device: DeviceId, location: LocationId) -> &[EntryPath] {
        self.busy.get(&(device, location)).map_or(&[], Vec::as_slice)
    }

    /// Whether any path is in constant use.
    pub fn names_busy(&self) -> bool {
        !self.busy.is_empty()
    }

    /// A token of the past, for a replay: what comes of it is compared with a stored plan, and never run.
    pub(crate) const fn of_the_past(
        conduit: ConduitId,
        heads: Vec<HeadRef>,
        busy: BTreeMap<(DeviceId, LocationId), Vec<EntryPath>>,
    ) -> Self {
        Self { conduit, heads, busy }
    }

    /// The heads, for the plan that is made from them.
    pub(crate) fn into_heads(self) -> Vec<HeadRef> {
        self.heads
    }
}

/// Grants the token if the replica is caught up with both ends, or says everything that is missing.
///
/// Reasons come in the order of [`GateReason`]; for one reason, in the order of the view's devices.
pub fn open(view: &GateView) -> Result<LibrarySynced, GateClosed> {
    let mut reasons = Vec::new();
    for (device, location) in &view.ends {
        let Some(owner) = view.owners.iter().find(|owner| owner.device == *device) else {
            reasons.push(GateReason::Unheard { device: *device });
            continue;
        };
        if !owner.locations.iter().any(|status| status.location == *location) {
            reasons.push(GateReason::RootMissing { device: *device, location: *location });
        }
    }
    for owner in &view.owners {
        check_standing(view, owner, &mut reasons);
        check_replica(owner, &mut reasons);
        check_locations(owner, &mut reasons);
        check_clock(view, owner, &mut reasons);
    }
    if view.membership < view.owners_membership {
        reasons.push(GateReason::Membership);
    }
    for other in view.others.iter().filter(|other| other.authorized && other.online) {
        let age_ms = other.config_evidence_age_ms.unwrap_or(u64::MAX);
        if age_ms > CONFIG_EVIDENCE_AGE_MS_MAX || !other.config_applied {
            reasons.push(GateReason::ConfigStale { device: other.device });
        }
    }
    if let Some(device) = view.newer_generation_at {
        reasons.push(GateReason::NewerGeneration { device });
    }
    if reasons.is_empty() {
        let mut heads: Vec<HeadRef> = view.owners.iter().filter_map(|owner| owner.head).collect();
        heads.sort();
        let named = |owner: &OwnerView| {
            let device = owner.device;
            let locations = owner.locations.iter().filter(|location| !location.busy.is_empty());
            locations.map(|location| ((device, location.location), location.busy.clone())).collect::<Vec<_>>()
        };
        let busy = view.owners.iter().flat_map(named).collect();
        return Ok(LibrarySynced { conduit: view.conduit, heads, busy });
    }
    reasons.sort_by_key(GateReason::rank);
    reasons.dedup();
    Err(GateClosed { reasons })
}

/// Whether the owner is who may be heard, and was heard, itself and just now.
fn check_standing(view: &GateView, owner: &OwnerView, reasons: &mut Vec<GateReason>) {
    let device = owner.device;
    if !owner.authorized {
        reasons.push(GateReason::Unauthorized { device });
    }
    if owner.quarantined {
        reasons.push(GateReason::Quarantined { device });
    }
    if owner.over_quota {
        reasons.push(GateReason::OverQuota { device });
    }
    if device == view.resolver {
        return;
    }
    if !owner.online {
        reasons.push(GateReason::Offline { device });
    }
    match owner.evidence_age_ms {
        None => reasons.push(GateReason::Unheard { device }),
        Some(age_ms) if age_ms > view.evidence_age_ms_max => reasons.push(GateReason::StaleEvidence { device, age_ms }),
        Some(_) => {}
    }
    if owner.relayed {
        reasons.push(GateReason::Relayed { device });
    }
}

/// Whether the replica holds exactly what the owner signed.
fn check_replica(owner: &OwnerView, reasons: &mut Vec<GateReason>) {
    let device = owner.device;
    if !owner.bootstrapped {
        reasons.push(GateReason::Bootstrapping { device });
    }
    let Some(head) = owner.head.filter(|head| head.device == device) else {
        reasons.push(GateReason::Unheard { device });
        return;
    };
    if let Some(gossiped) = owner.gossiped.filter(|gossiped| *gossiped > head.sequence) {
        reasons.push(GateReason::Regressed { device, claimed: head.sequence, gossiped });
    }
    let applied = owner.applied.filter(|applied| applied.device == device);
    let Some(applied) = applied else {
        reasons.push(GateReason::Behind { device, have: Sequence::ZERO, head: head.sequence });
        return;
    };
    if applied.epoch != head.epoch {
        reasons.push(GateReason::Epoch { device, head: head.epoch });
    } else if applied.sequence < head.sequence {
        reasons.push(GateReason::Behind { device, have: applied.sequence, head: head.sequence });
    } else if applied.sequence > head.sequence {
        // Rows that the owner signed once and now denies: the replica itself has seen more than it claims.
        let (claimed, gossiped) = (head.sequence, applied.sequence);
        reasons.push(GateReason::Regressed { device, claimed, gossiped });
    } else if applied.set_hash != head.set_hash {
        reasons.push(GateReason::Mismatch { device });
    }
}

/// Whether the owner's index is what is on its disk.
fn check_locations(owner: &OwnerView, reasons: &mut Vec<GateReason>) {
    let device = owner.device;
    for LocationView { location, root_ok, scan_complete, dirty, busy } in &owner.locations {
        if !root_ok {
            reasons.push(GateReason::RootMissing { device, location: *location });
        }
        if !scan_complete {
            reasons.push(GateReason::Unscanned { device, location: *location });
        }
        // Liveness: what has been waiting for long is named, all of it, and left out of the plan.
        if *dirty > 0 && busy.len() as u64 != *dirty {
            reasons.push(GateReason::Dirty { device, location: *location, dirty: *dirty });
        }
    }
}

fn check_clock(view: &GateView, owner: &OwnerView, reasons: &mut Vec<GateReason>) {
    let (device, offset_ms) = (owner.device, owner.clock_offset_ms);
    if device != view.resolver && offset_ms.unsigned_abs() > CLOCK_OFFSET_MS_MAX {
        reasons.push(GateReason::Clock { device, offset_ms });
    }
}

/// What the deciding device knows when the gate is asked. Times are in milliseconds.
#[derive(Debug, Clone)]
pub struct GateView {
    /// For which conduit.
    pub conduit: ConduitId,
    /// Who resolves.
    pub resolver: DeviceId,
    /// Device and location of the source and of the target.
    pub ends: [(DeviceId, LocationId); 2],
    /// The owners of both ends: one or two devices, sorted.
    pub owners: Vec<OwnerView>,
    /// Devices that own neither end. Only those that are members and online can close the gate.
    pub others: Vec<OtherView>,
    /// The resolver's membership epoch.
    pub membership: u64,
    /// The highest membership epoch that an owner signed.
    pub owners_membership: u64,
    /// An owner that has seen a higher generation of the conduit than the resolver has.
    pub newer_generation_at: Option<DeviceId>,
    /// How old evidence may be; [`crate::limits::EVIDENCE_AGE_MS_MAX`] unless configured or the path is slow.
    pub evidence_age_ms_max: u64,
}

/// What is known of one owner.
#[expect(clippy::struct_excessive_bools, reason = "independent facts, each of which closes the gate by itself")]
#[derive(Debug, Clone)]
pub struct OwnerView {
    /// Who.
    pub device: DeviceId,
    /// The location of the conduit's end, or ends, on this device.
    pub locations: Vec<LocationView>,
    /// A member of the library.
    pub authorized: bool,
    /// Caught in a fork.
    pub quarantined: bool,
    /// Has more rows than this replica keeps of one device.
    pub over_quota: bool,
    /// Connected now. Not looked at for the resolver itself.
    pub online: bool,
    /// Age of the head that this owner signed over the resolver's own nonce; `None` if there is none.
    /// Not looked at for the resolver itself.
    pub evidence_age_ms: Option<u64>,
    /// The evidence came over a third device.
    pub relayed: bool,
    /// The owner's own claim; for the resolver, its own state. `None` when it was never heard.
    pub head: Option<HeadRef>,
    /// What the replica holds: epoch, contiguous prefix, and whether count and set hash equalled the head's.
    pub applied: Option<HeadRef>,
    /// The highest sequence of the head's epoch that anybody else claims for this owner.
    pub gossiped: Option<Sequence>,
    /// The replica of this owner's rows has been whole at least once in this epoch.
    pub bootstrapped: bool,
    /// Wall clock of the owner less the resolver's, in milliseconds. Not looked at for the resolver itself.
    pub clock_offset_ms: i64,
}

/// What an owner's evidence says of one location.
#[derive(Debug, Clone)]
pub struct LocationView {
    /// Which.
    pub location: LocationId,
    /// The root is there and is the one that was added.
    pub root_ok: bool,
    /// A scan has finished since the watcher (re)started or overflowed.
    pub scan_complete: bool,
    /// Paths waiting to be looked at.
    pub dirty: u64,
    /// All of these paths by name, if they have been waiting for longer than [`crate::limits::BUSY_MS`].
    pub busy: Vec<EntryPath>,
}

/// What is known of a device that owns neither end.
#[derive(Debug, Clone)]
pub struct OtherView {
    /// Who.
    pub device: DeviceId,
    /// A member of the library.
    pub authorized: bool,
    /// Connected now.
    pub online: bool,
    /// Age of its last confirmed head; `None` if it has not been heard since it came online.
    pub config_evidence_age_ms: Option<u64>,
    /// Its rows, up to that head, are in the replica.
    pub config_applied: bool,
}

/// Everything that keeps the gate closed, in order; never empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("not caught up: {}", .reasons[0])]
pub struct GateClosed {
    /// The reasons, most important first.
    pub reasons: Vec<GateReason>,
}

/// One reason why the gate is closed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum GateReason {
    /// The owner is not, or no longer, a member.
    #[error("{device:?} is not a member of the library")]
    Unauthorized {
        /// Who.
        device: DeviceId,
    },
    /// The owner has signed two states under one number.
    #[error("{device:?} is quarantined: it signed two states under one number")]
    Quarantined {
        /// Who.
        device: DeviceId,
    },
    /// The owner has more rows than are kept of one device.
    #[error("{device:?} is over quota: its index is larger than what is kept of one device")]
    OverQuota {
        /// Who.
        device: DeviceId,
    },
    /// The owner is not connected.
    #[error("{device:?} is offline")]
    Offline {
        /// Who.
        device: DeviceId,
    },
    /// The owner has not answered this request.
    #[error("{device:?} has not answered")]
    Unheard {
        /// Who.
        device: DeviceId,
    },
    /// The owner's answer is too old.
    #[error("the answer of {device:?} is {age_ms} ms old")]
    StaleEvidence {
        /// Who.
        device: DeviceId,
        /// Its age in milliseconds.
        age_ms: u64,
    },
    /// The owner's answer did not come from the owner itself.
    #[error("the answer of {device:?} was relayed")]
    Relayed {
        /// Who.
        device: DeviceId,
    },
    /// The owner has begun a new epoch that the replica does not hold yet.
    #[error("{device:?} has begun a new epoch")]
    Epoch {
        /// Who.
        device: DeviceId,
        /// The epoch of its head.
        head: Epoch,
    },
    /// Somebody has seen more of the owner's log than the owner itself claims: it was rolled back.
    #[error("{device:?} claims {claimed:?}, but {gossiped:?} of it has been seen")]
    Regressed {
        /// Who.
        device: DeviceId,
        /// What the owner claims.
        claimed: Sequence,
        /// What has been seen.
        gossiped: Sequence,
    },
    /// The replica lacks rows of the owner.
    #[error("{device:?} has signed {head:?}, the replica holds {have:?}")]
    Behind {
        /// Who.
        device: DeviceId,
        /// What the replica holds.
        have: Sequence,
        /// What the owner signed.
        head: Sequence,
    },
    /// Same number, other rows: the replica's copy is wrong and is being fetched anew.
    #[error("the replica's rows of {device:?} do not add up to its head")]
    Mismatch {
        /// Who.
        device: DeviceId,
    },
    /// The first copy of the owner's rows is still loading.
    #[error("the index of {device:?} is still loading")]
    Bootstrapping {
        /// Who.
        device: DeviceId,
    },
    /// The root is missing or is another one.
    #[error("the root of {location:?} on {device:?} is missing or replaced")]
    RootMissing {
        /// Who.
        device: DeviceId,
        /// Which.
        location: LocationId,
    },
    /// No scan has finished since the watcher started or lost events.
    #[error("{device:?} has not finished scanning {location:?}")]
    Unscanned {
        /// Who.
        device: DeviceId,
        /// Which.
        location: LocationId,
    },
    /// Paths wait to be looked at.
    #[error("{device:?} has {dirty} paths of {location:?} waiting to be looked at")]
    Dirty {
        /// Who.
        device: DeviceId,
        /// Which.
        location: LocationId,
        /// How many.
        dirty: u64,
    },
    /// The owner's wall clock is too far from ours.
    #[error("the clock of {device:?} is off by {offset_ms} ms")]
    Clock {
        /// Who.
        device: DeviceId,
        /// By how much, in milliseconds.
        offset_ms: i64,
    },
    /// An owner knows of a membership change that the resolver does not.
    #[error("the list of members is older than the owners'")]
    Membership,
    /// The shared facts of an online device were not confirmed lately, or not applied.
    #[error("the shared facts of {device:?} are not confirmed")]
    ConfigStale {
        /// Who.
        device: DeviceId,
    },
    /// An owner has seen a generation that the resolver has not.
    #[error("{device:?} has seen a newer generation of this conduit")]
    NewerGeneration {
        /// Who.
        device: DeviceId,
    },
}

impl GateReason {
    /// Place of the reason in the order of declaration.
    const fn rank(&self) -> u8 {
        match self {
            Self::Unauthorized { .. } => 0,
            Self::Quarantined { .. } => 1,
            Self::OverQuota { .. } => 2,
            Self::Offline { .. } => 3,
            Self::Unheard { .. } => 4,
            Self::StaleEvidence { .. } => 5,
            Self::Relayed { .. } => 6,
            Self::Epoch { .. } => 7,
            Self::Regressed { .. } => 8,
            Self::Behind { .. } => 9,
            Self::Mismatch { .. } => 10,
            Self::Bootstrapping { .. } => 11,
            Self::RootMissing { .. } => 12,
            Self::Unscanned { .. } => 13,
            Self::Dirty { .. } => 14,
            Self::Clock { .. } => 15,
            Self::Membership => 16,
            Self::ConfigStale { .. } => 17,
            Self::NewerGeneration { .. } => 18,
        }
    }
}

#[cfg(test)]
mod tests;
