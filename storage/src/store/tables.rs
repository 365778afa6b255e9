//! The tables and their keys. Values are in [`super::record`]; the drawing is in `docs/STORAGE.md`.
//!
//! Keys are bytes whose order is the order of a walk: numbers are big-endian, and whatever is asked for as
//! one range shares a prefix. Devices and locations get a short local number each, so that a row of an entry
//! costs 4 bytes of prefix instead of 48. Local numbers never leave this device.

use redb::TableDefinition;
use tidegate_protocol::file_sync::{JobKey, JobKind, Side};
use tidegate_protocol::id::{ConduitId, LocationId, Sequence};
use tidegate_protocol::library_sync::FactKey;
use tidegate_protocol::path::EntryPath;

use super::error::StoreError;

/// Every table is from bytes to bytes: order and meaning are ours, redb only keeps them.
pub(super) type Definition = TableDefinition<'static, &'static [u8], &'static [u8]>;

/// The tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// Format, identity, stamp, local numbers. Its shape is fixed for all formats.
    Meta,
    /// Small opaque values of the layers above.
    Settings,
    /// device → state of that author.
    Authors,
    /// device → state of what is on its way of that author.
    Arriving,
    /// author, location → number and counters of a tree.
    Trees,
    /// tree, path → row of an entry, with this device's stat mark.
    Entries,
    /// kind, id, author → row of any other fact.
    Facts,
    /// author, sequence → key of the row in `Entries` or `Facts`.
    BySequence,
    /// tree, path → what a job of this device wrote there.
    Announced,
    /// content → hashes of its chunks.
    Outlines,
    /// conduit → baseline.
    Baselines,
    /// conduit, path → what both ends last agreed on.
    Bases,
    /// plan id → plan.
    Plans,
    /// plan id → when a person approved it.
    Approvals,
    /// conduit, number → generation.
    Generations,
    /// conduit → highest generation seen.
    GenerationsSeen,
    /// conduit, number, part, chunk → what the generation was decided from.
    Deciding,
    /// job → record.
    Jobs,
    /// job, index of the last item → batch of items.
    JobItems,
    /// job, block → outcomes of that block.
    JobOutcomes,
}

impl Table {
    /// All of them, in the order of their declaration.
    pub const ALL: [Self; 20] = [
        Self::Meta,
        Self::Settings,
        Self::Authors,
        Self::Arriving,
        Self::Trees,
        Self::Entries,
        Self::Facts,
        Self::BySequence,
        Self::Announced,
        Self::Outlines,
        Self::Baselines,
        Self::Bases,
        Self::Plans,
        Self::Approvals,
        Self::Generations,
        Self::GenerationsSeen,
        Self::Deciding,
        Self::Jobs,
        Self::JobItems,
        Self::JobOutcomes,
    ];

    pub(super) const fn definition(self) -> Definition {
        TableDefinition::new(match self {
            Self::Meta => "meta",
            Self::Settings => "settings",
            Self::Authors => "authors",
            Self::Arriving => "arriving",
            Self::Trees => "trees",
            Self::Entries => "entries",
            Self::Facts => "facts",
            Self::BySequence => "by_sequence",
            Self::Announced => "announced",
            Self::Outlines => "outlines",
            Self::Baselines => "baselines",
            Self::Bases => "bases",
            Self::Plans => "plans",
            Self::Approvals => "approvals",
            Self::Generations => "generations",
            Self::GenerationsSeen => "generations_seen",
            Self::Deciding => "deciding",
            Self::Jobs => "jobs",
            Self::JobItems => "job_items",
            Self::JobOutcomes => "job_outcomes",
        })
    }
}

/// First byte of a value in `BySequence` that names an entry; facts start with their kind instead.
const ENTRY_TAG: u8 = 0;

/// Kinds of facts, as the first byte of their keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FactKind {
    /// Devices of the library.
    Device = 1,
    /// Locations.
    Location = 2,
    /// Conduits.
    Conduit = 3,
    /// Closed generations.
    Generation = 4,
    /// Rulings.
    Ruling = 5,
    /// Conflicts that were met.
    Conflict = 6,
    /// Which rulings and conflicts are spent.
    Spent = 7,
}

impl FactKind {
    /// The kind of a key.
    pub const fn of(key: &FactKey) -> Self {
        match key {
            FactKey::Device(_) => Self::Device,
            FactKey::Location(_) => Self::Location,
            FactKey::Conduit(_) => Self::Conduit,
            FactKey::Generation(..) => Self::Generation,
            FactKey::Ruling(..) => Self::Ruling,
            FactKey::Conflict(..) => Self::Conflict,
            FactKey::Spent(_) => Self::Spent,
        }
    }
}

/// Prefix of all rows of one tree.
pub(super) fn tree_prefix(tree: u32) -> [u8; 4] {
    tree.to_be_bytes()
}

/// Key of a path in `Entries` and `Announced`.
pub(super) fn path_key(tree: u32, path: &EntryPath) -> Vec<u8> {
    [&tree_prefix(tree), path.as_stored()].concat()
}

/// The path in a key of `Entries` or `Announced`.
pub(super) fn path_of(key: &[u8]) -> Result<EntryPath, StoreError> {
    let bytes = key.get(4..).ok_or_else(|| StoreError::damaged("a key of an entry is too short"))?;
    EntryPath::from_stored(bytes.to_vec()).map_err(|_| StoreError::damaged("a key of an entry is no path"))
}

/// Key of a location in `Trees`.
pub(super) fn tree_key(author: u32, location: LocationId) -> Vec<u8> {
    [&author.to_be_bytes()[..], location.as_bytes()].concat()
}

/// What all authors say under one key.
pub(super) fn fact_prefix(key: &FactKey) -> Vec<u8> {
    let kind = [FactKind::of(key) as u8];
    match key {
        FactKey::Device(id) => [&kind[..], id.as_bytes()].concat(),
        FactKey::Location(id) => [&kind[..], id.as_bytes()].concat(),
        FactKey::Conduit(id) | FactKey::Spent(id) => [&kind[..], id.as_bytes()].concat(),
        FactKey::Generation(id, number) | FactKey::Conflict(id, number) => {
            [&kind[..], id.as_bytes(), &number.to_be_bytes()].concat()
        }
        FactKey::Ruling(id, facts) => [&kind[..], id.as_bytes(), facts.as_bytes()].concat(),
    }
}

/// What one author says under one key. The author comes last, so that what is merged stands together.
pub(super) fn fact_key(key: &FactKey, author: u32) -> Vec<u8> {
    [&fact_prefix(key)[..], &author.to_be_bytes()].concat()
}

/// Key in `BySequence`.
pub(super) fn sequence_key(author: u32, sequence: Sequence) -> [u8; 12] {
    let mut key = [0; 12];
    key[..4].copy_from_slice(&author.to_be_bytes());
    key[4..].copy_from_slice(&sequence.0.to_be_bytes());
    key
}

/// The sequence in a key of `BySequence`.
pub(super) fn sequence_of(key: &[u8]) -> Result<Sequence, StoreError> {
    let number = key.get(4..).and_then(|bytes| bytes.try_into().ok());
    number.map(|n| Sequence(u64::from_be_bytes(n))).ok_or_else(|| StoreError::damaged("a sequence key is malformed"))
}

/// Where a row stands: its table and key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum RowPlace {
    /// Key in `Entries`.
    Entry(Vec<u8>),
    /// Key in `Facts`.
    Fact(Vec<u8>),
}

impl RowPlace {
    /// The value in `BySequence`.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Entry(key) => [&[ENTRY_TAG][..], key].concat(),
            Self::Fact(key) => key.clone(),
        }
    }

    /// From a value in `BySequence`.
    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, StoreError> {
        match bytes.split_first() {
            Some((&ENTRY_TAG, key)) => Ok(Self::Entry(key.to_vec())),
            Some(_) => Ok(Self::Fact(bytes.to_vec())),
            None => Err(StoreError::damaged("an empty place of a row")),
        }
    }
}

/// Key of a base row.
pub(super) fn base_key(conduit: ConduitId, path: &EntryPath) -> Vec<u8> {
    [conduit.as_bytes(), path.as_stored()].concat()
}

/// The path in the key of a base row.
pub(super) fn base_path(key: &[u8]) -> Result<EntryPath, StoreError> {
    let bytes = key.get(16..).ok_or_else(|| StoreError::damaged("a key of a base row is too short"))?;
    EntryPath::from_stored(bytes.to_vec()).map_err(|_| StoreError::damaged("a key of a base row is no path"))
}

/// Key of a generation.
pub(super) fn generation_key(conduit: ConduitId, number: u64) -> Vec<u8> {
    [&conduit.as_bytes()[..], &number.to_be_bytes()].concat()
}

/// Key of a job, and prefix of its items and outcomes: jobs of one conduit in the order of generations.
pub(super) fn job_key(job: &JobKey) -> Vec<u8> {
    let kind = match (job.side, job.kind) {
        (Side::Target, JobKind::Copy) => 0,
        (Side::Target, JobKind::Delete) => 1,
        (Side::Source, JobKind::Copy) => 2,
        (Side::Source, JobKind::Delete) => 3,
    };
    [&generation_key(job.conduit, job.generation)[..], job.device.as_bytes(), &[kind]].concat()
}

/// Key of a batch of items, or of a block of outcomes.
pub(super) fn job_part_key(job: &JobKey, part: u32) -> Vec<u8> {
    [&job_key(job)[..], &part.to_be_bytes()].concat()
}

/// The first key after every key that starts with `prefix`; `None` if there is none such.
pub(super) fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}
