//! Rows: the facts of the index, each written by one device at one place of its log.

use serde::{Deserialize, Serialize};

use crate::file_sync::{Conduit, GenerationRecord, MetConflict, Ruling, Spent};
use crate::hash::ContentHash;
use crate::id::{ConduitId, DeviceId, LocationId, Sequence};
use crate::index::{Device, EntryState, Location};
use crate::path::EntryPath;
use crate::time::Stamp;

/// One fact, as its author last stated it. The log is compacted by nature: a key has one row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Where in the author's log its newest change stands.
    pub sequence: Sequence,
    /// What it is about.
    pub key: RowKey,
    /// What it says.
    pub body: RowBody,
}

/// What a row is about. Entries of a location are written by its owner alone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum RowKey {
    /// One path of one location.
    Entry(LocationId, EntryPath),
    /// Anything else.
    Fact(FactKey),
}

/// What a fact is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum FactKey {
    /// A device of the library: shared, merged by stamp.
    Device(DeviceId),
    /// A location: its owner's.
    Location(LocationId),
    /// A conduit: shared, merged by stamp.
    Conduit(ConduitId),
    /// A closed generation of a conduit: its coordinator's.
    Generation(ConduitId, u64),
    /// A ruling about a conflict of a conduit, by the conflict's facts: shared, merged by stamp.
    Ruling(ConduitId, ContentHash),
    /// A conflict that a run of a conduit met: its coordinator's.
    Conflict(ConduitId, u64),
    /// Which rulings and conflicts of a conduit are spent: of each author its own.
    Spent(ConduitId),
}

/// What a row says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RowBody {
    /// State of a path.
    Entry(EntryState),
    /// Any other fact.
    Fact(Fact),
}

/// A fact other than an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fact {
    /// A device.
    Device(Device),
    /// A location.
    Location(Location),
    /// A conduit.
    Conduit(Box<Conduit>),
    /// A closed generation.
    Generation(GenerationRecord),
    /// A ruling.
    Ruling(Box<Ruling>),
    /// A conflict that was met.
    Conflict(Box<MetConflict>),
    /// Rulings and conflicts that are spent.
    Spent(Box<Spent>),
}

impl Fact {
    /// The key under which this fact stands.
    pub fn key(&self) -> FactKey {
        match self {
            Self::Device(device) => FactKey::Device(device.id),
            Self::Location(location) => FactKey::Location(location.id),
            Self::Conduit(conduit) => FactKey::Conduit(conduit.id),
            Self::Generation(record) => FactKey::Generation(record.conduit, record.number),
            Self::Ruling(ruling) => FactKey::Ruling(ruling.conduit, ruling.facts),
            Self::Conflict(met) => FactKey::Conflict(met.conduit, met.number),
            Self::Spent(spent) => FactKey::Spent(spent.conduit),
        }
    }

    /// Whether every stamp in it is one that a clock can give.
    fn is_possible(&self) -> bool {
        match self {
            Self::Device(device) => device.name.stamp.is_possible() && device.state.stamp.is_possible(),
            Self::Location(location) => location.stamp.is_possible(),
            Self::Conduit(conduit) => conduit.stamps().iter().all(Stamp::is_possible),
            Self::Ruling(ruling) => ruling.decision.stamp.is_possible(),
            Self::Generation(_) | Self::Conflict(_) | Self::Spent(_) => true,
        }
    }

    /// Merges what another author says under the same key into this.
    ///
    /// Devices, conduits and rulings merge field by field, at wall time `wall_ms`; of the others each author's
    /// stands for itself.
    pub fn merge(&mut self, other: &Self, wall_ms: u64) {
        match (self, other) {
            (Self::Device(mine), Self::Device(theirs)) => mine.merge(theirs, wall_ms),
            (Self::Conduit(mine), Self::Conduit(theirs)) => mine.merge(theirs, wall_ms),
            (Self::Ruling(mine), Self::Ruling(theirs)) => mine.merge(theirs, wall_ms),
            (
                Self::Device(_)
                | Self::Location(_)
                | Self::Conduit(_)
                | Self::Generation(_)
                | Self::Ruling(_)
                | Self::Conflict(_)
                | Self::Spent(_),
                _,
            ) => {}
        }
    }
}

impl Row {
    /// Whether key and body fit together, and every stamp is one that a clock can give: the one check that a decoded
    /// row needs besides authorship.
    pub fn is_coherent(&self) -> bool {
        match (&self.key, &self.body) {
            (RowKey::Entry(..), RowBody::Entry(_)) => true,
            (RowKey::Fact(key), RowBody::Fact(fact)) => fact.key() == *key && fact.is_possible(),
            (RowKey::Entry(..), RowBody::Fact(_)) | (RowKey::Fact(_), RowBody::Entry(_)) => false,
        }
    }

    /// Whether `author` may write this row as far as the row alone tells; that an entry's location is the
    /// author's is for the replica to check.
    pub fn may_be_from(&self, author: DeviceId) -> bool {
        match &self.body {
            RowBody::Entry(_)
            | RowBody::Fact(Fact::Device(_) | Fact::Conduit(_) | Fact::Ruling(_) | Fact::Spent(_)) => true,
            RowBody::Fact(Fact::Location(location)) => location.owner == author,
            RowBody::Fact(Fact::Generation(record)) => record.coordinator == author,
            RowBody::Fact(Fact::Conflict(met)) => met.coordinator == author,
        }
    }
}
