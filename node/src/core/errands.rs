//! Errands: small pieces of work on an own disk that belong to no generation, as plain data.
//!
//! The core wishes them and decides by their answers; `jobs` carries them out.

use tidegate_protocol::hash::ContentHash;
use tidegate_protocol::index::StatMark;
use tidegate_protocol::path::EntryPath;
use tidegate_storage::disk::{Bin, TrashListing};

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
