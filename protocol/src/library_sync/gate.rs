//! The gate: whether this replica is caught up with both ends of a conduit.
//!
//! [`open`] is the only maker of [`LibrarySynced`], and the resolver takes that by value: skipping the gate
//! does not compile. The order of the reasons is the order of `docs/ARCHITECTURE.md`, "The gate"; the first
//! one is what people are shown.

use serde::{Deserialize, Serialize};

use super::HeadRef;
use crate::id::{ConduitId, DeviceId, Epoch, LocationId, Sequence};

/// Proof that the replica was caught up with both ends of one conduit, and with which heads.
///
/// Not `Clone`: one proof, one resolve.
#[derive(Debug, PartialEq, Eq)]
pub struct LibrarySynced {
    conduit: ConduitId,
    heads: Vec<HeadRef>,
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
}

/// What the deciding device knows when the gate is asked. Times are in milliseconds.
#[derive(Debug, Clone)]
pub struct GateView {
    /// For which conduit.
    pub conduit: ConduitId,
    /// Who resolves.
    pub resolver: DeviceId,
    /// The owners of both ends: one or two devices, sorted.
    pub owners: Vec<OwnerView>,
    /// Online, authorised devices that own neither end.
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
    /// Connected now. True for the resolver itself.
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
    /// Wall clock of the owner less the resolver's.
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
}

/// What is known of a device that owns neither end.
#[derive(Debug, Clone)]
pub struct OtherView {
    /// Who.
    pub device: DeviceId,
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
