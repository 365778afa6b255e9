//! Documents of the past: the trash.

use serde::{Deserialize, Serialize};

use super::document::ShownPath;
use crate::core::past::{TrashThing, TrashView};
use crate::format::Moment;

/// What is in the trash of this device, or what became of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TrashDocument {
    /// The things that were selected; at most 10,000.
    pub things: Vec<TrashedDocument>,
    /// Things that were selected.
    pub count: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// Of these, things with which nothing was or could be done.
    pub kept: u64,
    /// Locations whose trash could not be looked at.
    pub unseen: Vec<UnseenDocument>,
}

/// One thing in the trash.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TrashedDocument {
    /// In which location.
    pub location: String,
    /// The conduit that put it there.
    pub conduit: String,
    /// Of its generations, which.
    pub generation: u64,
    /// Where it stood.
    #[serde(flatten)]
    pub path: ShownPath,
    /// Its length in bytes.
    pub bytes: u64,
    /// When it was put there, to about a minute.
    pub trashed: Moment,
    /// What was done with it, or would be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
}

/// A location whose trash could not be looked at.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UnseenDocument {
    /// Which.
    pub location: String,
    /// Why.
    pub why: String,
}

impl From<TrashView> for TrashDocument {
    fn from(view: TrashView) -> Self {
        Self {
            things: view.things.into_iter().map(Into::into).collect(),
            count: view.count,
            bytes: view.bytes,
            kept: view.kept,
            unseen: view
                .unseen
                .into_iter()
                .map(|(location, why)| UnseenDocument { location: location.to_string(), why })
                .collect(),
        }
    }
}

impl From<TrashThing> for TrashedDocument {
    fn from(thing: TrashThing) -> Self {
        Self {
            location: thing.location.to_string(),
            conduit: thing.conduit,
            generation: thing.generation,
            path: ShownPath { path: thing.path, path_b64: thing.path_b64 },
            bytes: thing.bytes,
            trashed: Moment(thing.trashed_ms),
            outcome: thing.outcome,
        }
    }
}
