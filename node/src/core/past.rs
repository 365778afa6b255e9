//! What people ask about the past, and what they are told: the trash, and what was done.

use serde::{Deserialize, Serialize};
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
