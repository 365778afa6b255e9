//! The words of the face for the protocol's enums: one table each, read and written by API and command line.

use tidegate_protocol::file_sync::{
    ConflictKind, ConflictStrategy, DeleteMode, JobState, Phase, Rule, Schedule, SyncMode, Verification,
};
use tidegate_protocol::index::Rights;

use crate::format::{parse_duration, plain_duration};

/// Quiet time of `instant` when none is given, in milliseconds.
pub const INSTANT_SETTLE_MS: u32 = 500;

const MODES: [(&str, SyncMode); 3] =
    [("mirror", SyncMode::Mirror), ("bidirectional", SyncMode::Bidirectional), ("selective", SyncMode::Selective)];

const STRATEGIES: [(&str, ConflictStrategy); 6] = [
    ("create-conflict-file", ConflictStrategy::CreateConflictFile),
    ("newest-wins", ConflictStrategy::NewestWins),
    ("source-wins", ConflictStrategy::SourceWins),
    ("target-wins", ConflictStrategy::TargetWins),
    ("largest-wins", ConflictStrategy::LargestWins),
    ("prompt", ConflictStrategy::PromptUser),
];

const DELETE_MODES: [(&str, DeleteMode); 2] = [("trash", DeleteMode::Trash), ("permanent", DeleteMode::Permanent)];

fn find<T: Copy>(table: &[(&str, T)], what: &str, word: &str) -> Result<T, String> {
    table.iter().find(|(known, _)| *known == word).map(|(_, value)| *value).ok_or_else(|| {
        let known: Vec<&str> = table.iter().map(|(known, _)| *known).collect();
        format!("{word:?} is no {what}; there are: {}", known.join(", "))
    })
}

fn word<T: Copy + PartialEq>(table: &[(&'static str, T)], value: T) -> &'static str {
    table.iter().find(|(_, known)| *known == value).map(|(word, _)| *word).expect("every value has a word")
}

/// Reads a mode.
pub fn parse_mode(text: &str) -> Result<SyncMode, String> {
    find(&MODES, "mode", text)
}

/// Writes a mode.
pub fn mode(mode: SyncMode) -> &'static str {
    word(&MODES, mode)
}

/// Reads a conflict strategy.
pub fn parse_strategy(text: &str) -> Result<ConflictStrategy, String> {
    find(&STRATEGIES, "conflict strategy", text)
}

/// Writes a conflict strategy.
pub fn strategy(strategy: ConflictStrategy) -> &'static str {
    word(&STRATEGIES, strategy)
}

/// Reads a delete mode.
pub fn parse_delete_mode(text: &str) -> Result<DeleteMode, String> {
    find(&DELETE_MODES, "delete mode", text)
}

/// Writes a delete mode.
pub fn delete_mode(mode: DeleteMode) -> &'static str {
    word(&DELETE_MODES, mode)
}

/// Reads `manual`, `instant`, `instant 2s` or `every 5m`.
pub fn parse_schedule(text: &str) -> Result<Schedule, String> {
    let (word, rest) = text.split_once(' ').map_or((text, None), |(word, rest)| (word, Some(rest.trim())));
    match (word, rest) {
        ("manual", None) => Ok(Schedule::Manual),
        ("instant", None) => Ok(Schedule::Instant { settle_ms: INSTANT_SETTLE_MS }),
        ("instant", Some(quiet)) => {
            let settle_ms = parse_duration(quiet)?;
            if !(100..=600_000).contains(&settle_ms) {
                return Err(format!("{quiet} of quiet is not between 100ms and 10m"));
            }
            Ok(Schedule::Instant { settle_ms: settle_ms as u32 })
        }
        ("every", Some(interval)) => {
            let interval_ms = parse_duration(interval)?;
            if interval_ms < 1000 {
                return Err(format!("{interval} is shorter than 1s"));
            }
            Ok(Schedule::Every { interval_ms })
        }
        _ => Err(format!("{text:?} is no schedule; there are: manual, instant, instant 2s, every 5m")),
    }
}

/// Writes a schedule so that [`parse_schedule`] reads it back.
pub fn schedule(schedule: Schedule) -> String {
    match schedule {
        Schedule::Manual => "manual".to_owned(),
        Schedule::Instant { settle_ms: INSTANT_SETTLE_MS } => "instant".to_owned(),
        Schedule::Instant { settle_ms } => format!("instant {}", plain_duration(settle_ms.into())),
        Schedule::Every { interval_ms } => format!("every {}", plain_duration(interval_ms)),
    }
}

/// Reads `read`, `write`, `delete`, `all`, or several with `+`. Whoever may write may read, and whoever may
/// delete may write: the rights of a sync partner, as people mean them.
pub fn parse_rights(text: &str) -> Result<Rights, String> {
    let mut rights = Rights::NONE;
    for word in text.split('+') {
        match word {
            "read" => rights.read = true,
            "write" => rights = Rights { read: true, write: true, ..rights },
            "delete" | "all" => rights = Rights { read: true, write: true, delete: true },
            _ => return Err(format!("{word:?} is no right; there are: read, write, delete")),
        }
    }
    Ok(rights)
}

/// Writes rights.
pub fn rights(rights: Rights) -> String {
    let words = [("read", rights.read), ("write", rights.write), ("delete", rights.delete)];
    let held: Vec<&str> = words.iter().filter(|(_, held)| *held).map(|(word, _)| *word).collect();
    if held.is_empty() { "none".to_owned() } else { held.join("+") }
}

/// Writes what a generation is doing.
pub const fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Copying => "copying",
        Phase::Deleting => "deleting",
        Phase::Verifying => "verifying",
        Phase::Closed => "closed",
    }
}

/// Writes how far a generation is proven: `verified`, `failed:3`.
pub fn verification(verification: Verification) -> String {
    match verification {
        Verification::Unverified => "unverified".to_owned(),
        Verification::WaitingWatcher => "waiting_watcher".to_owned(),
        Verification::WaitingLibrarySync => "waiting_library_sync".to_owned(),
        Verification::Verified => "verified".to_owned(),
        Verification::Failed { remaining } => format!("failed:{remaining}"),
    }
}

/// Writes where a job stands.
pub const fn job_state(state: JobState) -> &'static str {
    match state {
        JobState::Waiting => "waiting",
        JobState::Running => "running",
        JobState::Paused => "paused",
        JobState::Ended => "ended",
        JobState::Cancelled => "cancelled",
    }
}

/// Writes the kind of a conflict.
pub const fn conflict(kind: ConflictKind) -> &'static str {
    match kind {
        ConflictKind::BothModified => "both modified",
        ConflictKind::CreateCreate => "both created",
        ConflictKind::DeleteModify => "deleted and modified",
        ConflictKind::TypeMismatch => "kinds differ",
        ConflictKind::CaseCollision => "names differ only by case",
        ConflictKind::UnicodeCollision => "names differ only in Unicode form",
        ConflictKind::Unrepresentable => "name not possible there",
        ConflictKind::Unsupported => "kind not possible there",
        ConflictKind::Drift => "changed on the target",
        ConflictKind::DirNotEmpty => "directory holds other content",
    }
}

/// Says what a rule decided, and why.
pub const fn rule(rule: Rule) -> &'static str {
    match rule {
        Rule::InStep => "both ends hold the same, or neither holds anything",
        Rule::Adopted => "both ends hold the same content; only times, rights or the record of changes differ",
        Rule::LaterVersion => "one end's version has seen the other's, so it is the later one",
        Rule::OneSided => "only one end changed since both last agreed",
        Rule::New => "only one end has it, and nothing says that it was deleted",
        Rule::KindReplacesDeletion => {
            "it was deleted on one end, and something of another kind was put there on the other"
        }
        Rule::Strategy => "both ends changed it; the conduit's strategy decides",
        Rule::Ruled => "both ends changed it; a person decided",
        Rule::WaitsForRuling => "both ends changed it; it waits for a person",
        Rule::DirectoryGoes => "the directory was deleted on the other end, and nothing in it stays",
        Rule::DirectoryStays => "the directory was deleted on one end, and something in it stays",
        Rule::HoldsSelected => "the directory is not selected, and holds what is",
        Rule::WithItsDirectory => "the directory above it is moved as a whole",
        Rule::EvictedElsewhere => "it was evicted here by another conduit; nobody deleted it",
        Rule::SourceIsLaw => "a mirror's target becomes its source",
        Rule::Selected => "it is selected, and the target does not hold it as the source does",
        Rule::DeletedOnSource => "it was deleted on the source, and the target has it as it was",
        Rule::Evicted => "it is not selected any more, and the source holds the same",
        Rule::DeselectedLastCopy => {
            "it is not selected any more, and the source does not hold the same: it goes to the trash"
        }
        Rule::NotOurs => "the target's own; left alone",
        Rule::Drift => "changed on the target of a one-way conduit; held",
        Rule::Hidden => "an ignore rule of one end puts it outside the conduit",
        Rule::Frozen => "special or not known on one end, or below such: left alone",
        Rule::NameHeld => "another spelling of the same name has its place",
        Rule::Unrepresentable => "the other end cannot store the name",
        Rule::Unsupported => "the other end cannot store links",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_read_back_as_it_is_written() {
        for (text, value) in MODES {
            assert_eq!((parse_mode(text), mode(value)), (Ok(value), text));
        }
        for (text, value) in STRATEGIES {
            assert_eq!((parse_strategy(text), strategy(value)), (Ok(value), text));
        }
        for text in ["manual", "instant", "instant 2s", "every 5m", "every 90s"] {
            assert_eq!(schedule(parse_schedule(text).unwrap()), text);
        }
        for bad in ["", "never", "every", "every 10ms", "instant 1ms", "manual 5s", "every -1s"] {
            assert!(parse_schedule(bad).is_err(), "{bad:?}");
        }
        assert_eq!(rights(parse_rights("write").unwrap()), "read+write");
        assert_eq!(rights(parse_rights("read+delete").unwrap()), "read+write+delete");
        assert!(parse_rights("").is_err() && parse_rights("root").is_err());
    }
}
