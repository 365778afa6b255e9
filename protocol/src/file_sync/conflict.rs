//! Conflicts: paths on which both ends changed in ways that differ, and what is done about them.

use serde::{Deserialize, Serialize};

use crate::path::EntryPath;

/// A path that was not simply carried over.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Conflict {
    /// Below the conduit's roots.
    pub path: EntryPath,
    /// Of which kind.
    pub kind: ConflictKind,
}

/// Kinds of conflict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ConflictKind {
    /// Both sides edited.
    BothModified,
    /// Both sides created, with different content.
    CreateCreate,
    /// One side deleted what the other edited.
    DeleteModify,
    /// The kinds differ.
    TypeMismatch,
    /// Two names that one side cannot tell apart by case.
    CaseCollision,
    /// Two names that differ only in Unicode form.
    UnicodeCollision,
    /// A name that one side cannot store.
    Unrepresentable,
    /// A kind that one side cannot store.
    Unsupported,
    /// The target of a selective conduit was changed there.
    Drift,
    /// A directory that should go holds content outside the conduit; it stays as residue.
    DirNotEmpty,
}

/// What to do when both sides changed. Whatever wins, the loser's bytes stay reachable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConflictStrategy {
    /// The later modification time, when the difference is beyond doubt.
    NewestWins,
    /// The source's version.
    SourceWins,
    /// The target's version.
    TargetWins,
    /// The larger file.
    LargestWins,
    /// Both: the source keeps the path, the target's version becomes a conflict copy.
    #[default]
    CreateConflictFile,
    /// Hold this path alone until a person decides.
    PromptUser,
}
