//! Errands: small pieces of work on an own disk that belong to no generation, as plain data.
//!
//! The core wishes them and decides by their answers; `jobs` carries them out.

use tidegate_protocol::file_sync::{JobKey, Plan};
use tidegate_protocol::hash::ContentHash;
use tidegate_protocol::id::{ConduitId, DeviceId, LocationId};
use tidegate_protocol::index::StatMark;
use tidegate_protocol::path::EntryPath;
use tidegate_storage::disk::{Bin, TrashListing};

use super::io::{Ticket, Work};
use super::past::ReplayView;

/// Something in the trash of a location.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrashItem {
    /// In which bin.
    pub bin: Bin,
    /// Where in it.
    pub path: EntryPath,
}

/// What is to be done with a location's trash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrashWork {
    /// Lists it.
    List,
    /// Hashes these.
    Hash(Vec<TrashItem>),
    /// Puts these back, beside what stands there now under a name that ends with the mark.
    Restore {
        /// Which.
        items: Vec<TrashItem>,
        /// For example `(restored 2026-11-22)`.
        mark: String,
    },
    /// Removes these for good.
    Purge(Vec<TrashItem>),
}

/// What that came to. Answers about items are in the order in which they were given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrashDone {
    /// To `List`.
    Listed(TrashListing),
    /// To `Hash`: the contents; `None` where it is not known.
    Hashed(Vec<Option<ContentHash>>),
    /// To `Restore`: where each is now, or why it stayed.
    Restored(Vec<Result<EntryPath, String>>),
    /// To `Purge`: or why it stayed.
    Purged(Vec<Result<(), String>>),
    /// The location's root is not there, or its trash cannot be read; nothing was changed.
    Failed(String),
}

/// A file that is to be read again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditItem {
    /// Below the location.
    pub path: EntryPath,
    /// Content and stat by the index; `None` if it holds no file there.
    pub known: Option<(ContentHash, StatMark)>,
}

/// Something that a person chose, to be written at an own end. Answered by [`super::io::Input::Put`].
#[derive(Debug, Clone)]
pub struct PutLeg {
    /// For the answer.
    pub ticket: Ticket,
    /// Names its staging and trash.
    pub job: JobKey,
    /// The location that changes.
    pub location: LocationId,
    /// What to do, in order.
    pub items: Vec<Work>,
    /// The content of the item that installs a file.
    pub content: Vec<u8>,
}

/// Texts that both ends have agreed on, to be kept for merges.
#[derive(Debug, Clone)]
pub struct KeepTexts {
    /// Where they stand.
    pub location: LocationId,
    /// Below the location, with what stands there and how long it is.
    pub files: Vec<(EntryPath, ContentHash, u64)>,
}

/// A content that a person wants to see. Answers the command of this ticket.
#[derive(Debug, Clone)]
pub struct ReadContent {
    /// Of the command.
    pub ticket: Ticket,
    /// What it must hash to.
    pub content: ContentHash,
    /// Its length in bytes.
    pub size: u64,
    /// Where it may be, in the order to be tried.
    pub from: Vec<ContentFrom>,
}

/// Where a content may be.
#[derive(Debug, Clone)]
pub enum ContentFrom {
    /// At a path of this device.
    Here {
        /// In which location.
        location: LocationId,
        /// Below the location.
        path: EntryPath,
    },
    /// Among the texts that are kept for merges on this device.
    Texts {
        /// In which location.
        location: LocationId,
    },
    /// In the trash of a conduit's generations on this device.
    Trash {
        /// Of which location.
        location: LocationId,
        /// Of which conduit.
        conduit: ConduitId,
        /// Where it stood, below the location.
        path: EntryPath,
    },
    /// At the conduit's end on another device.
    There {
        /// On which.
        device: DeviceId,
        /// Under which name it is asked for.
        job: JobKey,
        /// Below the conduit's root.
        path: EntryPath,
    },
}

/// A past generation whose plan is to be made again. Answers the command of this ticket.
#[derive(Debug, Clone)]
pub struct ReplayWork {
    /// Of the command.
    pub ticket: Ticket,
    /// What its plan was decided from, as it was kept.
    pub inputs: Vec<u8>,
    /// The plan, as it was kept.
    pub plan: Plan,
    /// The answer, but for what is found.
    pub view: ReplayView,
}
