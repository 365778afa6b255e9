//! What a mode's law answers about one name, before it becomes items.

use super::{Rule, Side};
use crate::file_sync::ConflictKind;
use crate::index::{FileFacts, Version};

/// The answer about one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Decision {
    pub(super) rule: Rule,
    pub(super) fate: Fate,
    /// Listed as this.
    pub(super) conflict: Option<ConflictKind>,
}

/// What becomes of one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    /// Both ends stay as they are, and whatever is below is decided by itself.
    Stay,
    /// Both ends stay as they are, with everything below.
    Hold,
    /// Both have the same content and are to end with this version and, for a file, these facts.
    Agree(Version, Option<FileFacts>),
    /// The other end takes over what this end has, or that it has nothing.
    Follow(Winner),
    /// The directory that only this end has is removed, unless something below it stays.
    Leave(Leave),
    /// The directory is made on the target if something below it is put there, and removed from there if
    /// nothing below it stays.
    Wrap,
    /// The source's keeps the path, the target's is kept beside it on both ends.
    KeepBoth(Version),
    /// This takes the path on both ends.
    Give(Version, FileFacts),
    /// The target's goes, as the source has the same.
    Evict,
    /// The target's goes to the trash.
    Discard,
}

/// Which end's state the other one takes over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Winner {
    pub(super) side: Side,
    /// The version that both ends end with.
    pub(super) version: Version,
    /// What a file ends as, where that is not what the winner has.
    pub(super) file: Option<FileFacts>,
    /// A directory that wins does so with everything in it.
    pub(super) whole: bool,
}

/// A directory that goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Leave {
    pub(super) side: Side,
    /// The version of the tombstone.
    pub(super) version: Version,
    /// The version it has if something below is carried to the other end, and it is made there again.
    pub(super) made_again: Option<Version>,
}

impl Decision {
    pub(super) const fn of(rule: Rule, fate: Fate) -> Self {
        Self { rule, fate, conflict: None }
    }

    pub(super) const fn stay(rule: Rule) -> Self {
        Self::of(rule, Fate::Stay)
    }

    pub(super) const fn follow(rule: Rule, side: Side, version: Version) -> Self {
        Self::of(rule, Fate::Follow(Winner { side, version, file: None, whole: false }))
    }

    pub(super) const fn listed(mut self, kind: ConflictKind) -> Self {
        self.conflict = Some(kind);
        self
    }
}
