//! What happens to the two sides of a scenario, and when: the corpus's operations as types.

use serde::Deserialize;
use tidegate_protocol::file_sync::Side;

/// An edit inside a generation.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct During {
    /// When.
    pub at: Moment,
    /// On which side.
    #[serde(with = "SideName")]
    pub side: Side,
    /// What.
    pub op: Edit,
}

#[derive(Deserialize)]
#[serde(remote = "Side", rename_all = "snake_case")]
enum SideName {
    Source,
    Target,
}

/// Points inside a generation.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Moment {
    /// The plan is made, nothing is done.
    AfterPlan,
    /// While this path is being copied.
    MidCopy(String),
    /// Copies are durable, deletes have not begun.
    AfterCopies,
    /// Everything is done, nothing is verified.
    BeforeCommit,
    /// Everything is done and verified.
    AfterCommit,
}

/// What a person, or fate, does to one side.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Vec<String>")]
#[expect(missing_docs, reason = "explained at the head of the corpus")]
pub enum Edit {
    Write { path: String, content: String, mtime_s: Option<i64> },
    MakeDirectory { path: String },
    Remove { path: String },
    Move { from: String, to: String },
    Copy { from: String, to: String },
    Link { path: String, target: String },
    Executable { path: String, on: bool },
    Touch { path: String, mtime_s: i64 },
    MakeFifo { path: String },
    Unreadable { path: String, on: bool },
    RootMissing,
    RootReplaced,
    RootOk,
    DiskFullFor { path: String },
    DiskOk,
    Rollback { path: String, content: String },
    RestoredBackup,
    Crash,
}

impl Edit {
    /// The path that it makes, if it makes one.
    pub fn makes(&self) -> Option<&str> {
        match self {
            Self::Write { path, .. }
            | Self::MakeDirectory { path }
            | Self::Move { to: path, .. }
            | Self::Copy { to: path, .. }
            | Self::Link { path, .. }
            | Self::MakeFifo { path }
            | Self::Rollback { path, .. } => Some(path),
            Self::Remove { .. }
            | Self::Executable { .. }
            | Self::Touch { .. }
            | Self::Unreadable { .. }
            | Self::RootMissing
            | Self::RootReplaced
            | Self::RootOk
            | Self::DiskFullFor { .. }
            | Self::DiskOk
            | Self::RestoredBackup
            | Self::Crash => None,
        }
    }
}

impl TryFrom<Vec<String>> for Edit {
    type Error = String;

    fn try_from(words: Vec<String>) -> Result<Self, String> {
        let text = |word: &&str| (*word).to_owned();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        Ok(match words.as_slice() {
            ["write", path, content] => Self::Write { path: text(path), content: text(content), mtime_s: None },
            ["write", path, content, at] => {
                Self::Write { path: text(path), content: text(content), mtime_s: Some(seconds(at)?) }
            }
            ["mkdir", path] => Self::MakeDirectory { path: text(path) },
            ["rm", path] => Self::Remove { path: text(path) },
            ["mv", from, to] => Self::Move { from: text(from), to: text(to) },
            ["cp", from, to] => Self::Copy { from: text(from), to: text(to) },
            ["ln", path, target] => Self::Link { path: text(path), target: text(target) },
            ["chmod", path, "+x"] => Self::Executable { path: text(path), on: true },
            ["chmod", path, "-x"] => Self::Executable { path: text(path), on: false },
            ["touch", path, at] => Self::Touch { path: text(path), mtime_s: seconds(at)? },
            ["mkfifo", path] => Self::MakeFifo { path: text(path) },
            ["fault", "unreadable", path] => Self::Unreadable { path: text(path), on: true },
            ["fault", "readable", path] => Self::Unreadable { path: text(path), on: false },
            ["fault", "root_missing"] => Self::RootMissing,
            ["fault", "root_replaced"] => Self::RootReplaced,
            ["fault", "root_ok"] => Self::RootOk,
            ["fault", "disk_full_for", path] => Self::DiskFullFor { path: text(path) },
            ["fault", "disk_ok"] => Self::DiskOk,
            ["fault", "rollback", path, content] => Self::Rollback { path: text(path), content: text(content) },
            ["fault", "restored_backup"] => Self::RestoredBackup,
            ["crash"] => Self::Crash,
            other => return Err(format!("no such edit: {other:?}")),
        })
    }
}

fn seconds(word: &str) -> Result<i64, String> {
    word.strip_prefix('@').and_then(|digits| digits.parse().ok()).ok_or_else(|| format!("not a time: {word}"))
}

impl TryFrom<String> for Moment {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Ok(match (text.as_str(), text.split_once(':')) {
            ("after_plan", _) => Self::AfterPlan,
            ("after_copies", _) => Self::AfterCopies,
            ("before_commit", _) => Self::BeforeCommit,
            ("after_commit", _) => Self::AfterCommit,
            (_, Some(("mid_copy", path))) => Self::MidCopy(path.to_owned()),
            _ => return Err(format!("no such moment: {text}")),
        })
    }
}
