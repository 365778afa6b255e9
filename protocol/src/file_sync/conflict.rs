//! Conflicts: paths on which both ends changed in ways that differ, and what is done about them.
//!
//! Nothing here looks at rows: the resolver finds a conflict, [`ConflictResolver`] says who keeps the path. Whatever it
//! says, the loser's bytes stay reachable: in a conflict copy, or in the trash.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use crate::codec;
use crate::hash::ContentHash;
use crate::id::{ConduitId, Sequence};
use crate::index::{EntryKind, EntryState, FileFacts};
use crate::limits::{CLOCK_OFFSET_MS_MAX, MTIME_GRANULARITY_MS};
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

/// Rulings that decide nothing any more, as the conflicts that they were about are settled, and settled conflicts that are
/// long past: those of this row's author about one conduit, up to a place of its log. Wherever this row is applied they drop
/// out of the author's rows, so its count and set hash say the same on every replica. A later row of an author takes
/// all that an earlier one took: who missed the earlier one arrives at the same rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    /// Of which conduit.
    pub conduit: ConduitId,
    /// Up to where in the author's log.
    pub upto: Sequence,
    /// Except those that stand here.
    pub kept: Vec<Sequence>,
}

impl Spent {
    /// Whether it takes away the ruling or conflict that stands at a place of the author's log.
    pub fn takes(&self, at: Sequence) -> bool {
        at <= self.upto && !self.kept.contains(&at)
    }
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
    /// Joins what two devices say of one conflict, at wall time `wall_ms`. Commutative, associative, idempotent.
    pub fn merge(&mut self, other: &Self, wall_ms: u64) {
        self.decision.merge_at(&other.decision, wall_ms);
    }
}

impl Conflict {
    /// Identifies what both ends hold at and below a path: what a ruling is about.
    pub(super) fn facts_of<'a>(
        rows: impl Iterator<Item = (&'a EntryPath, [Option<&'a EntryState>; 2])>,
    ) -> ContentHash {
        let mut hasher = blake3::Hasher::new_derive_key("tidegate 2026-11 facts of a conflict v1");
        for row in rows {
            codec::encode_to(&row, &mut hasher).expect("a hasher takes every byte");
        }
        ContentHash::from_bytes(*hasher.finalize().as_bytes())
    }
}

/// Says who keeps a path that both ends changed: a person if one has ruled, else the strategy.
#[derive(Debug, Clone, Copy)]
pub struct ConflictResolver {
    /// The conduit's.
    pub strategy: ConflictStrategy,
    /// The moment the gate opened, in Unix milliseconds.
    pub now_ms: u64,
    /// How far apart both owners' clocks may be, in milliseconds.
    pub clock_doubt_ms: u64,
}

/// How a conflict is settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// Not at all: it waits for a person.
    Held,
    /// The source's.
    Source,
    /// The target's.
    Target,
    /// Both stay; the source's keeps the path.
    Both,
    /// A content that a person gave.
    Given(FileFacts),
}

impl ConflictResolver {
    /// Decides between what the ends have; `None` is a deletion. At least one of them has something.
    pub fn settle(&self, ruling: Option<Decision>, source: Option<&EntryKind>, target: Option<&EntryKind>) -> Settled {
        let wanted = match ruling {
            Some(Decision::Source) => ConflictStrategy::SourceWins,
            Some(Decision::Target) => ConflictStrategy::TargetWins,
            Some(Decision::Both) => ConflictStrategy::CreateConflictFile,
            Some(Decision::Newest) => ConflictStrategy::NewestWins,
            Some(Decision::Given(file)) => return Settled::Given(file),
            None => self.strategy,
        };
        match wanted {
            ConflictStrategy::PromptUser => Settled::Held,
            ConflictStrategy::SourceWins => Settled::Source,
            ConflictStrategy::TargetWins => Settled::Target,
            ConflictStrategy::CreateConflictFile | ConflictStrategy::NewestWins | ConflictStrategy::LargestWins => {
                match (source, target) {
                    // A deletion has no time, no size, and nothing to keep: the edit wins.
                    (Some(_), None) => Settled::Source,
                    (None, _) => Settled::Target,
                    (Some(EntryKind::File(source)), Some(EntryKind::File(target))) => {
                        self.between_files(wanted, source, target)
                    }
                    (Some(_), Some(_)) => Settled::Both,
                }
            }
        }
    }

    fn between_files(&self, strategy: ConflictStrategy, source: &FileFacts, target: &FileFacts) -> Settled {
        match (strategy, source.size.cmp(&target.size)) {
            (ConflictStrategy::NewestWins, _) => self.newest(source, target),
            (ConflictStrategy::LargestWins, Ordering::Greater) => Settled::Source,
            (ConflictStrategy::LargestWins, Ordering::Less) => Settled::Target,
            (
                ConflictStrategy::LargestWins
                | ConflictStrategy::CreateConflictFile
                | ConflictStrategy::SourceWins
                | ConflictStrategy::TargetWins
                | ConflictStrategy::PromptUser,
                _,
            ) => Settled::Both,
        }
    }

    /// The later time, if it is later beyond the granularity of file systems and the doubt about the clocks.
    fn newest(&self, source: &FileFacts, target: &FileFacts) -> Settled {
        let is_known = |file: &FileFacts| {
            let limit_ms = i128::from(self.now_ms) + i128::from(CLOCK_OFFSET_MS_MAX);
            i128::from(file.mtime_ns) <= limit_ms * 1_000_000
        };
        let doubt_ns = i128::from(MTIME_GRANULARITY_MS + self.clock_doubt_ms) * 1_000_000;
        let later_ns = i128::from(source.mtime_ns) - i128::from(target.mtime_ns);
        if later_ns.abs() <= doubt_ns || !is_known(source) || !is_known(target) {
            Settled::Both
        } else if later_ns > 0 {
            Settled::Source
        } else {
            Settled::Target
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(size: u64, mtime_s: i64) -> EntryKind {
        EntryKind::File(FileFacts {
            content: ContentHash::of(&size.to_be_bytes()),
            size,
            mtime_ns: mtime_s * 1_000_000_000,
            executable: false,
        })
    }

    #[test]
    fn a_strategy_decides_only_what_its_evidence_decides() {
        use ConflictStrategy as S;
        let link = EntryKind::Symlink { target: b"t".to_vec() };
        let directory = EntryKind::Directory { residue: false };
        let (old, new, near, future) = (file(9, 100), file(1, 200), file(5, 102), file(7, 100_000));
        for (strategy, source, target, expected) in [
            (S::CreateConflictFile, Some(&old), Some(&new), Settled::Both),
            (S::CreateConflictFile, None, Some(&new), Settled::Target),
            (S::NewestWins, Some(&old), Some(&new), Settled::Target),
            (S::NewestWins, Some(&new), Some(&old), Settled::Source),
            (S::NewestWins, Some(&old), Some(&near), Settled::Both),
            (S::NewestWins, Some(&old), Some(&future), Settled::Both),
            (S::NewestWins, Some(&link), Some(&new), Settled::Both),
            (S::NewestWins, Some(&old), None, Settled::Source),
            (S::LargestWins, Some(&old), Some(&new), Settled::Source),
            (S::LargestWins, Some(&new), Some(&near), Settled::Target),
            (S::LargestWins, Some(&old), Some(&file(9, 0)), Settled::Both),
            (S::LargestWins, Some(&directory), Some(&new), Settled::Both),
            (S::LargestWins, None, Some(&new), Settled::Target),
            (S::SourceWins, None, Some(&new), Settled::Source),
            (S::TargetWins, None, Some(&new), Settled::Target),
            (S::SourceWins, Some(&old), None, Settled::Source),
            (S::TargetWins, Some(&old), None, Settled::Target),
            (S::CreateConflictFile, Some(&old), None, Settled::Source),
            (S::PromptUser, None, Some(&new), Settled::Held),
        ] {
            let resolver = ConflictResolver { strategy, now_ms: 1_000, clock_doubt_ms: 0 };
            assert_eq!(resolver.settle(None, source, target), expected, "{strategy:?} {source:?} {target:?}");
        }
        let resolver = ConflictResolver { strategy: S::PromptUser, now_ms: 1_000_000, clock_doubt_ms: 98_000 };
        assert_eq!(resolver.settle(Some(Decision::Newest), Some(&old), Some(&new)), Settled::Both, "clocks in doubt");
        assert_eq!(resolver.settle(Some(Decision::Target), Some(&old), None), Settled::Target, "a person may delete");
        assert_eq!(resolver.settle(Some(Decision::Both), Some(&old), None), Settled::Source);
    }
}
