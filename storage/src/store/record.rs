//! The stored records: what stands in the values of the tables. Encoded by `tidegate_protocol::codec`; a
//! change of any of them is a new format (see [`super::migrate`]), and golden bytes in the tests say so.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tidegate_protocol::codec;
use tidegate_protocol::file_sync::{JobProgress, JobSpec, JobState};
use tidegate_protocol::id::{DeviceId, Epoch, Sequence};
use tidegate_protocol::index::{EntryKind, EntryState, StatMark, Version};
use tidegate_protocol::library_sync::{Fact, SignedHead};

use super::error::StoreError;

/// Encodes a record.
pub(super) fn encode<T: Serialize>(record: &T) -> Vec<u8> {
    codec::encode(record)
}

/// Decodes a record that this device stored.
#[track_caller]
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, StoreError> {
    Ok(codec::decode_stored(bytes)?)
}

/// A row of an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct EntryRecord {
    pub(super) sequence: Sequence,
    pub(super) state: EntryState,
    /// Own entries only; never replicated, and so never part of the set hash.
    pub(super) mark: Option<StatMark>,
}

/// A row of another fact. The author's id saves a second look-up when facts of all authors are merged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FactRecord {
    pub(super) sequence: Sequence,
    pub(super) author: DeviceId,
    pub(super) fact: Fact,
}

/// State of one author.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct AuthorRecord {
    pub(super) number: u32,
    pub(super) epoch: Epoch,
    pub(super) upto: Sequence,
    pub(super) row_count: u64,
    pub(super) row_bytes: u64,
    #[serde(with = "serde_bytes")]
    pub(super) set_hash: Vec<u8>,
    pub(super) rests: Option<SignedHead>,
    pub(super) newest: Option<SignedHead>,
    pub(super) bootstrapped: bool,
    pub(super) fork: Option<(SignedHead, SignedHead)>,
}

/// One location's tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TreeRecord {
    pub(super) number: u32,
    pub(super) counters: Counters,
}

/// Counts over the entries of one location, kept with every change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// All rows, tombstones included.
    pub rows: u64,
    /// Regular files.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Symbolic links.
    pub links: u64,
    /// Sum of the files' lengths, in bytes.
    pub bytes: u64,
    /// Paths of which nothing more is known than that something is there.
    pub unknown: u64,
    /// Sockets, FIFOs and devices.
    pub special: u64,
}

impl Counters {
    /// Whether nothing exists below the root.
    pub const fn is_empty(&self) -> bool {
        self.files == 0 && self.directories == 0 && self.links == 0 && self.unknown == 0 && self.special == 0
    }

    pub(super) fn add(&mut self, state: &EntryState) {
        self.rows += 1;
        if let Some((count, bytes)) = self.of(state) {
            *count += 1;
            // Sizes are an author's claims: their sum may not end a replica that counts along.
            self.bytes = self.bytes.wrapping_add(bytes);
        }
    }

    pub(super) fn remove(&mut self, state: &EntryState) {
        self.rows -= 1;
        if let Some((count, bytes)) = self.of(state) {
            *count -= 1;
            self.bytes = self.bytes.wrapping_sub(bytes);
        }
    }

    fn of(&mut self, state: &EntryState) -> Option<(&mut u64, u64)> {
        Some(match &state.present()?.kind {
            EntryKind::File(file) => (&mut self.files, file.size),
            EntryKind::Directory { .. } => (&mut self.directories, 0),
            EntryKind::Symlink { .. } => (&mut self.links, 0),
            EntryKind::Special => (&mut self.special, 0),
            EntryKind::Unknown(_) => (&mut self.unknown, 0),
        })
    }
}

/// What a job of this device wrote at a path: the scanner takes content and version from it if the stat is
/// still the same, without reading the file again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announced {
    /// What the job verified and wrote.
    pub kind: EntryKind,
    /// The stat after the write; `None` for kinds without content.
    pub mark: Option<StatMark>,
    /// The version that travelled along.
    pub version: Version,
}

/// How a job stands, on the device that applies it and on its coordinator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRecord {
    /// What was asked for.
    pub spec: JobSpec,
    /// Where it stands.
    pub state: JobState,
    /// How far it is.
    pub progress: JobProgress,
    /// Items stored, the first ones without a gap.
    pub items_stored: u32,
}

/// One block of [`OUTCOMES_PER_BLOCK`] outcomes.
pub(super) type OutcomeBlock = Vec<Option<tidegate_protocol::file_sync::ItemOutcome>>;

/// Outcomes come out of order and in batches: a block is small enough to be written again with each batch
/// (1–2 KiB), and large enough that a job of 100,000 items has a hundred blocks.
pub(super) const OUTCOMES_PER_BLOCK: u32 = 1024;
