//! Entries: what the index believes of one path; observations: what the disk showed at one moment.

use serde::{Deserialize, Serialize};

use super::Version;
use crate::hash::ContentHash;
use crate::path::EntryPath;

/// What the index believes of one path, with the version that travels along.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// What it is.
    pub kind: EntryKind,
    /// Who changed it, as a version vector.
    pub version: Version,
}

/// The state of a path's row: an entry, or the tombstone of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EntryState {
    /// The path exists.
    Present(Entry),
    /// The path was deleted; the version says which events the deletion had seen.
    Deleted(Version),
}

impl EntryState {
    /// The entry, if the path exists.
    pub const fn present(&self) -> Option<&Entry> {
        match self {
            Self::Present(entry) => Some(entry),
            Self::Deleted(_) => None,
        }
    }

    /// The version, of the entry or of its tombstone.
    pub const fn version(&self) -> &Version {
        match self {
            Self::Present(entry) => &entry.version,
            Self::Deleted(version) => version,
        }
    }
}

/// Kind and content of an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EntryKind {
    /// A directory. `residue` says that something below it is hidden from the index (ignored, special), so it
    /// cannot be removed however empty it looks. Times, size and link count of directories are never compared.
    Directory {
        /// Something hidden lives directly in it.
        residue: bool,
    },
    /// A regular file.
    File(FileFacts),
    /// A symbolic link, carried as text, never followed.
    Symlink {
        /// The text, in bytes.
        #[serde(with = "serde_bytes")]
        target: Vec<u8>,
    },
    /// A socket, FIFO or device: never read, never written, never removed.
    Special,
    /// Something is there, and what it is or holds is not known. Never taken for absent.
    Unknown(UnknownCause),
}

impl EntryKind {
    /// Same kind and same content; mtime, executable bit and residue excluded.
    pub fn same_content(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Directory { .. }, Self::Directory { .. }) => true,
            (Self::File(a), Self::File(b)) => a.content == b.content,
            (Self::Symlink { target: a }, Self::Symlink { target: b }) => a == b,
            (Self::Directory { .. } | Self::File(_) | Self::Symlink { .. } | Self::Special | Self::Unknown(_), _) => {
                false
            }
        }
    }

    /// Whether nothing may be concluded from it and nothing done to it.
    pub const fn is_frozen(&self) -> bool {
        match self {
            Self::Special | Self::Unknown(_) => true,
            Self::Directory { .. } | Self::File(_) | Self::Symlink { .. } => false,
        }
    }
}

/// Why an existing path is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, thiserror::Error)]
pub enum UnknownCause {
    /// Permission denied or an I/O error while reading it; for a directory, everything below is unknown too.
    #[error("it cannot be read")]
    Unreadable,
    /// It kept changing while it was being hashed.
    #[error("it kept changing while it was read")]
    Changing,
    /// A name, path or link text beyond the limits.
    #[error("its name, path or link text is too long")]
    TooLong,
    /// Another file system is mounted here.
    #[error("another file system is mounted there")]
    OtherFileSystem,
    /// It is in constant use: the disk has been ahead of the index there for long. Never in a row; the resolver
    /// takes what the gate names for this.
    #[error("it is in constant use and waits to be looked at")]
    InUse,
}

/// Facts about a regular file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileFacts {
    /// BLAKE3-256 of the whole content.
    pub content: ContentHash,
    /// Length in bytes.
    pub size: u64,
    /// Modification time in nanoseconds since 1970; may be negative.
    pub mtime_ns: i64,
    /// Whether the owner may execute it.
    pub executable: bool,
}

/// What tells whether a file may have changed without reading it: (size, mtime, inode, ctime). It stays on
/// the device; it is never replicated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatMark {
    /// Length in bytes.
    pub size: u64,
    /// Modification time in nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Status change time in nanoseconds since 1970.
    pub ctime_ns: i64,
    /// Inode number.
    pub inode: u64,
}

/// What the disk showed at one path at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// Where, below the location.
    pub path: EntryPath,
    /// What was there.
    pub observed: Observed,
}

/// What was seen at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observed {
    /// Nothing is there: its directory was read whole and does not list it.
    Absent,
    /// This is there. The mark is the stat taken around the reading; `None` for kinds without content.
    Present(EntryKind, Option<StatMark>),
}
