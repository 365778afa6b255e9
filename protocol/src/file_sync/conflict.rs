//! Conflicts: paths on which both ends changed in ways that differ, and what is done about them.
//!
//! Nothing here looks at rows: the resolver finds a conflict, [`ConflictResolver`] says who keeps the path. Whatever it
//! says, the loser's bytes stay reachable: in a conflict copy, or in the trash.

use serde::{Deserialize, Serialize};

use crate::hash::ContentHash;
use crate::id::ConduitId;
use crate::index::{EntryKind, FileFacts};
use crate::path::EntryPath;
use crate::time::Stamped;

/// A path that was not simply carried over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conflict {
    /// Below the conduit's roots, in the spelling of the source if it has one.
    pub path: EntryPath,
    /// Of which kind.
    pub kind: ConflictKind,
    /// What the source has there.
    pub source: Option<EntryKind>,
    /// What the target has there.
    pub target: Option<EntryKind>,
    /// Identifies the rows of both ends at and below the path: a ruling is about these and no others.
    pub facts: ContentHash,
    /// What the plan does about it.
    pub outcome: ConflictOutcome,
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

/// What a plan does about a conflict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConflictOutcome {
    /// Nothing: the path stays on both ends as it is, with everything below it.
    Held,
    /// The source's version takes the path; the target's goes to the trash.
    Source,
    /// The target's version takes the path; the source's goes to the trash.
    Target,
    /// The source's version keeps the path; the target's is kept beside it on both ends.
    Both {
        /// Under this name.
        copy: EntryPath,
    },
    /// A content that a person gave takes the path; both versions go to the trash.
    Given,
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

/// A person's decision about one conflict: a shared fact. It holds as long as the conflict's facts are the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ruling {
    /// Of which conduit.
    pub conduit: ConduitId,
    /// Which facts it decides: [`Conflict::facts`].
    pub facts: ContentHash,
    /// At which path, for people and for the incremental resolve.
    pub path: EntryPath,
    /// The decision, with who made it and when.
    pub decision: Stamped<Decision>,
}

/// What a person decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Decision {
    /// The source's version.
    Source,
    /// The target's version.
    Target,
    /// Both, as with [`ConflictStrategy::CreateConflictFile`].
    Both,
    /// The later modification time; both, if that is in doubt.
    Newest,
    /// This content, which a member holds.
    Given(FileFacts),
}

impl Ruling {
    /// Joins what two devices say of one conflict. Commutative, associative, idempotent.
    pub fn merge(&mut self, other: &Self) {
        self.decision.merge(&other.decision);
    }
}
