//! What can go wrong with the replica, by what the caller can do about it; and why rows are refused.
//!
//! A [`StoreError`] is about this device's disk. A [`Refusal`] or a [`Mismatch`] is about what somebody sent:
//! it is a verdict, not a fault, and nothing was changed.

use std::io;
use std::panic::Location;

use tidegate_protocol::codec::DecodeError;
use tidegate_protocol::id::{DeviceId, Sequence};

/// Why the replica could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process holds it. Wait for that process, or end it.
    #[error("the replica is in use by another process")]
    Locked,
    /// Its content cannot be trusted. Move it aside ([`super::Store::move_aside`]) and rebuild from scan and peers.
    #[error("the replica is damaged: {0}")]
    Corrupt(String),
    /// A newer Tidegate wrote it. Use that version; nothing was changed.
    #[error("the replica has format {found}, and this version knows up to {known}")]
    NewerFormat {
        /// Format in the file.
        found: u32,
        /// Newest format known here.
        known: u32,
    },
    /// A version before the first release wrote it. Move it aside and rebuild; nothing was changed.
    #[error("the replica has format {found} of a version before the first release; this version reads from {known} on")]
    OlderFormat {
        /// Format in the file.
        found: u32,
        /// Oldest format read here.
        known: u32,
    },
    /// The file is not this device's replica. Nothing was changed.
    #[error("not the replica of this device: {0}")]
    Foreign(Foreign),
    /// No space left for it. Make room; what was committed is whole.
    #[error("no space left for the replica")]
    Full,
    /// The operating system refused. What was committed is whole.
    #[error("the replica cannot be read or written: {0}")]
    Io(#[source] io::Error),
    /// An own change that no replica would accept: a mistake of the caller, and nothing was changed.
    #[error("own change refused: {0}")]
    Own(#[source] Refusal),
}

/// Whose file it is, if not this device's replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Foreign {
    /// Something else than a replica.
    #[error("the file is something else")]
    NotAReplica,
    /// Another device's replica: the state directory was copied from there.
    #[error("it belongs to device {}", .0.short())]
    OtherDevice(DeviceId),
}

/// Why rows were refused. Nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The rows are of another epoch than the replica follows, or no epoch was started.
    #[error("rows of another epoch")]
    Epoch,
    /// The rows do not start where the replica's prefix ends.
    #[error("rows that do not follow on {have:?}")]
    Gap {
        /// End of the prefix.
        have: Sequence,
    },
    /// Sequences that do not grow, or leave the stated range.
    #[error("rows out of order")]
    Order,
    /// Key and body do not fit together, or one key occurs twice, or a removed location has entries.
    #[error("rows that contradict one another")]
    Incoherent,
    /// The author may not write such a row.
    #[error("a row that its author may not write")]
    NotTheirs,
    /// Entries of a location that the author does not have or has removed, or a removed location that returns.
    #[error("entries of a location that is not there")]
    NoLocation,
    /// More locations than `LOCATIONS_PER_DEVICE_MAX`.
    #[error("too many locations")]
    TooManyLocations,
    /// The state after the rows is not the one that the head signs.
    #[error("rows that do not add up to the head: {0}")]
    Head(#[source] Mismatch),
}

/// In what a replica's state of one device differs from a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// Another device, or another epoch.
    #[error("another epoch")]
    Epoch,
    /// The prefix ends elsewhere.
    #[error("another sequence")]
    Sequence,
    /// Another number of rows.
    #[error("another number of rows")]
    RowCount,
    /// The rows have another length.
    #[error("the rows have another length")]
    RowBytes,
    /// The same number of rows, but others.
    #[error("other rows")]
    SetHash,
    /// Entries of a location for which the author has no row.
    #[error("entries without their location")]
    NoLocation,
}

impl StoreError {
    /// Damage that a decoder found in what this device stored.
    #[track_caller]
    pub(super) fn damaged(what: &str) -> Self {
        let at = Location::caller();
        Self::Corrupt(format!("{what} ({}:{})", at.file().rsplit('/').next().unwrap_or_default(), at.line()))
    }
}

impl From<DecodeError> for StoreError {
    #[track_caller]
    fn from(error: DecodeError) -> Self {
        Self::damaged(&format!("a stored record has a {error}"))
    }
}

impl From<io::Error> for StoreError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => Self::Full,
            _ => Self::Io(error),
        }
    }
}

impl From<redb::Error> for StoreError {
    fn from(error: redb::Error) -> Self {
        match error {
            redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => Self::Locked,
            redb::Error::Io(error) if is_damage(&error) => Self::Corrupt(error.to_string()),
            redb::Error::Io(error) => error.into(),
            redb::Error::PreviousIo => Self::Io(io::Error::other("an earlier write failed; it must be opened again")),
            redb::Error::DatabaseClosed => Self::Io(io::Error::other("it was closed")),
            // redb's enum is open; what is left speaks of the content of the file or of its tables.
            other => Self::Corrupt(other.to_string()),
        }
    }
}

/// Errors by which redb says that a file is not what it wrote, or not all of it.
fn is_damage(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
}

macro_rules! from_redb {
    ($($error:ident),*) => {
        $(impl From<redb::$error> for StoreError {
            fn from(error: redb::$error) -> Self {
                redb::Error::from(error).into()
            }
        })*
    };
}

from_redb!(DatabaseError, TransactionError, TableError, StorageError, CommitError);
