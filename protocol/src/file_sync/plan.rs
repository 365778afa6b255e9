//! Plans: what the resolver answers, in the order it would be done, with an id that covers all of it.

use std::collections::BTreeSet;
use std::fmt;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use super::{Conflict, Halt, Side, SyncOperations};
use crate::codec;
use crate::hash::ContentHash;
use crate::id::ConduitId;
use crate::index::{EntryKind, FileFacts, UnknownCause, Version};
use crate::library_sync::HeadRef;
use crate::limits::DELETES_AT_A_GLANCE_MAX;
use crate::path::{DirPath, EntryPath};
use crate::time::Stamp;

/// Hash of a plan's content and of the heads it was resolved from.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PlanId([u8; 32]);

impl PlanId {
    /// The form people see and type: `p-` and twelve hexadecimal digits.
    pub fn short(&self) -> String {
        format!("p-{}", HEXLOWER.encode(&self.0[..6]))
    }
}

impl fmt::Display for PlanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())
    }
}

impl fmt::Debug for PlanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())
    }
}

/// What is to be done for one conduit, and from which state of the index that follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Covers everything below.
    pub id: PlanId,
    /// For which conduit.
    pub conduit: ConduitId,
    /// Its definition at that moment.
    pub definition: Stamp,
    /// The heads it was resolved from, sorted by device.
    pub heads: Vec<HeadRef>,
    /// What to do.
    pub operations: SyncOperations,
    /// What stops it until a person approves; empty if nothing does.
    pub halts: Vec<Halt>,
    /// What it leaves alone, and why.
    pub skips: Vec<Skip>,
    /// Totals over both directions.
    pub totals: PlanTotals,
}

/// One path for one device, relative to the conduit's root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// Where.
    pub path: EntryPath,
    /// What must stand there now, or nothing is done.
    pub expect: PreImage,
    /// What to do.
    pub action: Action,
}

/// What an item does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Creates a directory.
    MakeDirectory {
        /// The version to record.
        version: Version,
    },
    /// Puts a file there, replacing what `expect` says.
    InstallFile {
        /// Content and metadata.
        file: FileFacts,
        /// The version that travels along.
        version: Version,
        /// The path of the same content on the source, relative to its root.
        from: EntryPath,
    },
    /// Puts a symbolic link there, replacing what `expect` says.
    InstallSymlink {
        /// Its text.
        #[serde(with = "serde_bytes")]
        target: Vec<u8>,
        /// The version that travels along.
        version: Version,
    },
    /// Renames a file of the same device whose old path is to vanish: a move.
    RenameFile {
        /// The old path; must hold `file.content`.
        from: EntryPath,
        /// Content and metadata it must end with.
        file: FileFacts,
        /// The version that travels along.
        version: Version,
        /// The version of the tombstone at the old path.
        gone: Version,
    },
    /// Sets modification time and executable bit of a file whose content is right.
    SetMetadata {
        /// Content it must have, and metadata it gets.
        file: FileFacts,
        /// The version that travels along.
        version: Version,
    },
    /// Removes a file or link.
    Remove {
        /// The version of the tombstone.
        version: Version,
    },
    /// Removes a directory that is empty by then.
    RemoveDirectory {
        /// The version of the tombstone.
        version: Version,
    },
    /// Records another version for what stands there: no disk is written. Both ends hold the same, and this
    /// end's version lacks events of the other's.
    Adopt {
        /// The version to record; covers the one recorded before.
        version: Version,
    },
    /// Gives an entry another spelling of its name, with everything below it: one rename in place. On a file
    /// system that folds names, both spellings name the same entry; `expect` is what stands at `from`.
    Respell {
        /// The path as it is spelled now.
        from: EntryPath,
        /// The version that travels along.
        version: Version,
    },
    /// Removes a file, link or empty directory of which the other end holds the same at this very moment: no
    /// trash, and a tombstone of the entry's own version, which says that nobody deleted it.
    Evict {
        /// Where the other end holds it; asked again right before.
        from: EntryPath,
    },
}

/// What the plan expects to find at a path before it acts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PreImage {
    /// Nothing.
    Absent,
    /// A directory. For an install, one whose whole subtree goes to the trash first.
    Directory,
    /// A file with this content.
    File {
        /// Its hash.
        content: ContentHash,
        /// Its length in bytes.
        size: u64,
    },
    /// A symbolic link with this text.
    Symlink {
        /// The text.
        #[serde(with = "serde_bytes")]
        target: Vec<u8>,
    },
}

impl PreImage {
    /// The pre-image that an entry is; `None` for what may not be touched.
    pub fn of(kind: &EntryKind) -> Option<Self> {
        match kind {
            EntryKind::Directory { .. } => Some(Self::Directory),
            EntryKind::File(file) => Some(Self::of_file(file)),
            EntryKind::Symlink { target } => Some(Self::Symlink { target: target.clone() }),
            EntryKind::Special | EntryKind::Unknown(_) => None,
        }
    }

    /// The pre-image that a file is.
    pub const fn of_file(file: &FileFacts) -> Self {
        Self::File { content: file.content, size: file.size }
    }

    /// The content by which a file can be found again elsewhere. An empty file is found everywhere, so it
    /// proves nothing.
    pub const fn content_to_find(&self) -> Option<ContentHash> {
        match self {
            Self::File { content, size: 1.. } => Some(*content),
            Self::File { .. } | Self::Absent | Self::Directory | Self::Symlink { .. } => None,
        }
    }
}

/// A path that the plan leaves alone, with everything below it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, thiserror::Error)]
#[error("{path}: {cause} ({side:?})")]
pub struct Skip {
    /// Below the conduit's roots.
    pub path: EntryPath,
    /// On which side the cause lies.
    pub side: Side,
    /// Why.
    pub cause: SkipCause,
}

impl Skip {
    /// Whether something is there that would be the conduit's to carry, if it could be read.
    pub const fn is_unread(&self) -> bool {
        match self.cause {
            SkipCause::Unknown(UnknownCause::Unreadable | UnknownCause::Changing | UnknownCause::TooLong) => true,
            SkipCause::Unknown(UnknownCause::InUse | UnknownCause::OtherFileSystem)
            | SkipCause::Special
            | SkipCause::Orphan => false,
        }
    }
}

/// Why a path is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, thiserror::Error)]
pub enum SkipCause {
    /// A socket, FIFO or device.
    #[error("a special file is never read, written or removed")]
    Special,
    /// What is there is not known.
    #[error("not known: {0}")]
    Unknown(UnknownCause),
    /// The index holds it below a directory that the index does not hold.
    #[error("indexed below a directory that is not")]
    Orphan,
}

/// Sums over a plan.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanTotals {
    /// Items that install, rename, link, make or set something.
    pub copies: u64,
    /// Bytes of content to install, before reuse.
    pub copy_bytes: u64,
    /// Of the copies, renames.
    pub renames: u64,
    /// Items that remove something.
    pub deletes: u64,
    /// Files and links that go to the trash because something else takes their place.
    pub replaced: u64,
    /// Items that only record another version; not among the copies.
    pub adopts: u64,
    /// Files and links that leave a target because they were deselected; not among the deletes.
    pub evictions: u64,
    /// Paths at which a mirror sets back what was done on the target itself since the last verified run.
    pub drift_healed: u64,
}

impl Plan {
    /// Builds a plan and its id. The order of heads, conflicts and skips does not matter.
    pub fn new(
        conduit: ConduitId,
        definition: Stamp,
        mut heads: Vec<HeadRef>,
        mut operations: SyncOperations,
        halts: Vec<Halt>,
        mut skips: Vec<Skip>,
        totals: PlanTotals,
    ) -> Self {
        heads.sort();
        operations.conflicts.sort_by(|a, b| (&a.path, a.kind).cmp(&(&b.path, b.kind)));
        skips.sort();
        let mut plan = Self { id: PlanId([0; 32]), conduit, definition, heads, operations, halts, skips, totals };
        let mut hasher = blake3::Hasher::new_derive_key("tidegate 2026-11 plan id v2");
        codec::encode_to(&plan, &mut hasher).expect("a hasher takes every byte");
        plan.id = PlanId(*hasher.finalize().as_bytes());
        plan
    }

    /// Whether nothing is left to do and nothing is held: the resolver's word for "in step".
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty() && self.halts.is_empty()
    }

    /// How many paths it leaves alone because they are in constant use. An empty plan with such paths proves nothing
    /// about them.
    pub fn in_use(&self) -> u64 {
        self.skips.iter().filter(|skip| skip.cause == SkipCause::Unknown(UnknownCause::InUse)).count() as u64
    }

    /// How many paths it leaves alone because what is there could not be found out. An empty plan agrees on everything
    /// else; of these it proves nothing. A socket, or what another file system holds, is not part of a conduit.
    pub fn unread(&self) -> u64 {
        self.skips.iter().filter(|skip| skip.is_unread()).count() as u64
    }

    /// All conflicts.
    pub fn conflicts(&self) -> &[Conflict] {
        &self.operations.conflicts
    }

    /// Whether everything that this plan takes from its place was taken by `shown` too, for the same reasons.
    ///
    /// So a person's approval of `shown` covers this plan: it may do less, never more. What is only added
    /// needs no approval.
    pub fn is_within(&self, shown: &Self) -> bool {
        let shown_displacing: BTreeSet<Vec<u8>> = shown.displacing().map(codec::encode).collect();
        let same_kind = |halt: &Halt| shown.halts.iter().any(|other| other.is_like(halt));
        self.conduit == shown.conduit
            && self.definition == shown.definition
            && self.halts.iter().all(same_kind)
            && self.totals.replaced <= shown.totals.replaced
            && self.displacing().all(|item| shown_displacing.contains(&codec::encode(item)))
    }

    /// Directories to be scanned a second time, and on which side, before anything is deleted: those that held what is
    /// to be deleted on the other side. Empty unless a side would lose more than a glance takes in; approval does not
    /// stand in for it, as what a person approves may be a tree that was being swapped at that moment.
    pub fn second_look(&self) -> BTreeSet<(Side, DirPath)> {
        let deletes = |side| {
            let deletes = self.operations.on(side).deletes.iter();
            deletes.filter(|item| matches!(item.action, Action::Remove { .. } | Action::RemoveDirectory { .. }))
        };
        let many = Side::BOTH.into_iter().filter(|side| deletes(*side).count() > DELETES_AT_A_GLANCE_MAX);
        many.flat_map(|side| deletes(side).map(move |item| (side.other(), item.path.parent()))).collect()
    }

    fn displacing(&self) -> impl Iterator<Item = &Item> {
        let both = [&self.operations.source_to_target, &self.operations.target_to_source];
        both.into_iter().flat_map(|ops| ops.copies.iter().filter(|item| item.displaces()).chain(&ops.deletes))
    }
}

impl Item {
    /// Whether bytes leave their place by it: something is replaced, or a directory goes to the trash.
    pub const fn displaces(&self) -> bool {
        match (&self.expect, &self.action) {
            (PreImage::Absent, _)
            | (_, Action::SetMetadata { .. } | Action::Adopt { .. } | Action::Respell { .. } | Action::Evict { .. }) => {
                false
            }
            (PreImage::Directory | PreImage::File { .. } | PreImage::Symlink { .. }, _) => true,
        }
    }
}
