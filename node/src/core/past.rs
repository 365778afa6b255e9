//! What people ask about the past, and what they are told: the trash, and what was done.

use serde::{Deserialize, Serialize};
use tidegate_protocol::file_sync::Replay;
use tidegate_protocol::id::Label;
use tidegate_protocol::path::EntryPath;

/// What is wanted of the trash.
#[derive(Debug, Clone)]
pub struct TrashAsk {
    /// What to do.
    pub what: TrashWhat,
    /// With which things.
    pub select: TrashSelect,
    /// Only says what would be done.
    pub dry_run: bool,
}

/// What to do with the trash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrashWhat {
    /// Shows it.
    List,
    /// Puts things back to where they stood; the newest of each path, unless a generation is named.
    Restore,
    /// Removes things for good.
    Purge,
}

/// Which things in the trash; what is absent does not narrow it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrashSelect {
    /// Put there by this conduit.
    pub conduit: Option<String>,
    /// Put there by this generation.
    pub generation: Option<u64>,
    /// In this location.
    pub location: Option<String>,
    /// At, or below, one of these paths.
    pub paths: Vec<EntryPath>,
    /// In the trash for longer than this.
    pub older_than_ms: Option<u64>,
}

/// The answer about the trash.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TrashView {
    /// The things that were selected; at most 10,000.
    pub things: Vec<TrashThing>,
    /// Things that were selected.
    pub count: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// Of these, things with which nothing was or could be done.
    pub kept: u64,
    /// Locations whose trash could not be looked at, and why.
    pub unseen: Vec<(Label, String)>,
}

/// One thing in the trash.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TrashThing {
    /// In which location.
    pub location: Label,
    /// The conduit that put it there; the short id of one that this device does not know.
    pub conduit: String,
    /// Of its generations, which.
    pub generation: u64,
    /// Where it stood, escaped for display.
    pub path: String,
    /// The exact path in base64, when it is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_b64: Option<String>,
    /// Its length in bytes.
    pub bytes: u64,
    /// When it was put there, in wall milliseconds.
    pub trashed_ms: u64,
    /// What was done with it, or would be; absent in a list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
}

/// What undoing a generation does, or would do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UndoView {
    /// Of which conduit.
    pub conduit: Label,
    /// The generation that is undone.
    pub undoes: u64,
    /// The generation that was opened for it; `None` for a dry run, or if nothing is left to take back.
    pub generation: Option<u64>,
    /// The number that such a generation has.
    pub next: u64,
    /// Its plan, in the short form.
    pub plan: String,
    /// Guards that hold it until it is approved.
    pub halts: Vec<String>,
    /// What is taken back, in order; at most 10,000.
    pub items: Vec<UndoneItem>,
    /// Items in all.
    pub items_total: u64,
    /// What stays as it is, and why.
    pub kept: Vec<KeptView>,
    /// The conduit is paused by it, as it would do again what is undone.
    pub pauses: bool,
}

/// How a generation's plan compares with what the law makes of the same facts now.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReplayView {
    /// Of which conduit.
    pub conduit: Label,
    /// Its number.
    pub generation: u64,
    /// The stored plan, in the short form.
    pub plan: String,
    /// `device:location/dir`.
    pub source: String,
    /// `device:location/dir`.
    pub target: String,
    /// Per owner: name and sequence that it was resolved at.
    pub heads: Vec<(Label, u64)>,
    /// Rows that were kept of the source, of the target, and of what both had agreed on.
    pub rows: (u64, u64, u64),
    /// What came of it.
    pub found: Replay,
}

/// One thing that is taken back.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UndoneItem {
    /// On whose disk.
    pub device: Label,
    /// As in a generation: `install`, `trash` …
    pub op: String,
    /// Where, below the conduit's root.
    pub path: EntryPath,
}

/// One path that stays as it is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct KeptView {
    /// On whose disk.
    pub device: Label,
    /// Where, below the conduit's root.
    pub path: EntryPath,
    /// Why.
    pub why: String,
}

/// Sums over the generations of a conduit that were closed within a time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// How far back, in hours.
    pub hours: u64,
    /// Generations.
    pub runs: u64,
    /// Of these, verified.
    pub verified: u64,
    /// Of these, not.
    pub failed: u64,
    /// Copy items done.
    pub copied: u64,
    /// Delete items done.
    pub deleted: u64,
    /// Items skipped.
    pub skipped: u64,
    /// Conflicts listed.
    pub conflicts: u64,
    /// Content bytes installed.
    pub bytes: u64,
    /// Of these, bytes that the device already held.
    pub reused: u64,
}

/// How reading both disks again stands.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AuditView {
    /// Of which conduit.
    pub conduit: Label,
    /// The files of this generation; all if absent.
    pub generation: Option<u64>,
    /// Nothing is left to be read or healed.
    pub is_over: bool,
    /// Files read so far.
    pub checked: u64,
    /// Files still to be read.
    pub todo: u64,
    /// Files that hold what the index says.
    pub sound: u64,
    /// What was found besides; at most 10,000.
    pub found: Vec<FoundView>,
    /// How much that is in all.
    pub found_total: u64,
    /// The generation that heals.
    pub healed_by: Option<u64>,
    /// Why it ended early, or nothing was healed.
    pub failure: Option<String>,
}

/// A file that does not hold what the index says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FoundView {
    /// On whose disk.
    pub device: Label,
    /// Where, below the conduit's root.
    pub path: EntryPath,
    /// What is wrong with it.
    pub what: String,
    /// Its content changed while size and time stayed.
    pub is_rot: bool,
}
