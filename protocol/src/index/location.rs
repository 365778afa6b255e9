//! Facts of the library other than entries: devices and locations.

use serde::{Deserialize, Serialize};

use crate::file_sync::NameRules;
use crate::hash::ContentHash;
use crate::id::{DeviceId, Label, LocationId};
use crate::time::{Stamp, Stamped};

/// A location: one directory tree on one device. Only its owner writes this row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Location {
    /// Its id, also in the marker on disk.
    pub id: LocationId,
    /// The device that holds it.
    pub owner: DeviceId,
    /// Unique among the owner's locations.
    pub name: Label,
    /// The root on the owner's disk, for people only; nobody opens it by this text but its owner.
    pub root: String,
    /// Effective ignore rules, defaults first; what they match is outside every conduit.
    pub rules: Vec<String>,
    /// What names its file system can store and tell apart, as the owner found at its root.
    pub names: NameRules,
    /// Who may read or write, sorted by device. Nobody else may.
    pub grants: Vec<Grant>,
    /// When it was last changed.
    pub stamp: Stamp,
    /// Set once it is removed; its entry rows are dropped from every replica with this row.
    pub removed: bool,
}

impl Location {
    /// Rights of `device`; the owner has all.
    pub fn rights(&self, device: DeviceId) -> Rights {
        if device == self.owner {
            return Rights { read: true, write: true, delete: true };
        }
        self.grants.iter().find(|g| g.device == device).map_or(Rights::NONE, |g| g.rights)
    }

    /// Identifies the rules, so that a change of rules is noticed.
    pub fn rules_hash(&self) -> ContentHash {
        ContentHash::of(&crate::codec::encode(&self.rules))
    }
}

/// What one device may do in a location.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// To whom.
    pub device: DeviceId,
    /// What.
    pub rights: Rights,
}

/// Rights of another device in a location, checked by the owner at request and at apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rights {
    /// May fetch content.
    pub read: bool,
    /// May have files created, replaced or renamed.
    pub write: bool,
    /// May have files removed to the trash.
    pub delete: bool,
}

impl Rights {
    /// The default.
    pub const NONE: Self = Self { read: false, write: false, delete: false };
}

/// A device of the library: a shared fact, last writer wins field by field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Whom this is about.
    pub id: DeviceId,
    /// Its name.
    pub name: Stamped<Label>,
    /// Member or revoked. A revocation wins over an older membership.
    pub state: Stamped<DeviceState>,
    /// The membership epoch that the change of `state` opened: one more than the highest its author knew.
    pub membership: u64,
}

/// Standing of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeviceState {
    /// Belongs to the library.
    Member,
    /// Does not any more; nothing it says after its revocation counts.
    Revoked,
}

impl Device {
    /// Joins what two devices say of one, at wall time `wall_ms`. Commutative, associative, idempotent.
    ///
    /// A name from the future counts for nothing beside any other. Of states the latest stamp holds whatever its
    /// date: a revocation must outlive every date that the revoked device could name, and is stamped to do so. At one
    /// moment a revocation wins.
    pub fn merge(&mut self, other: &Self, wall_ms: u64) {
        self.name.merge_at(&other.name, wall_ms);
        let rank = |state: &Stamped<DeviceState>| {
            let revoked = state.value == DeviceState::Revoked;
            (state.stamp.ms, state.stamp.counter, revoked, state.stamp.device)
        };
        if rank(&other.state) > rank(&self.state) {
            self.state = other.state.clone();
        }
        self.membership = self.membership.max(other.membership);
    }
}
