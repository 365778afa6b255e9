//! The bodies of requests, and how they become commands. Unknown members are refused.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tidegate_protocol::file_sync::BandwidthLimit;
use tidegate_protocol::id::Label;
use tidegate_protocol::path::{DirPath, EntryPath};

use super::problem::{Code, Problem};
use super::words;
use crate::core::command::{ConduitChange, NewConduit, SelectionChange};
use crate::core::past::{TrashAsk, TrashSelect, TrashWhat};
use crate::timetable::{parse_limit, show_limit};

/// `POST /locations`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewLocation {
    /// Its root; absolute.
    pub path: PathBuf,
    /// Its name; the directory's name if absent.
    pub name: Option<Label>,
}

/// `POST /locations/{name}/rescan`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rescan {
    /// Reads every file again.
    pub deep: bool,
}

/// `PATCH /devices/{name}`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rename {
    /// The new name.
    pub name: Label,
}

/// `POST /conduits/{name}/plan`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// How long to wait for the gate, in milliseconds; the configured time if absent.
    pub wait_ms: Option<u64>,
    /// How many of the plan's items to show; all if absent. Sums are of all.
    pub items_max: Option<usize>,
}

/// `POST /conduits/{name}/sync`, `POST /plans/{id}/approve`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Run {
    /// Only if the plan is still this one.
    pub plan: Option<String>,
    /// How long to wait for the gate, in milliseconds; the configured time if absent.
    pub wait_ms: Option<u64>,
}

/// `POST /pairing/join`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Join {
    /// As typed.
    pub code: String,
    /// Where the other device is, when it cannot be found.
    pub at: Option<SocketAddr>,
}

/// `POST /conduits/{conduit}/verify` and `/generations/{conduit}/{number}/verify`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VerifyBody {
    /// Puts what the other end holds in the place of what rotted.
    pub heal: bool,
}

/// `POST /generations/{conduit}/{number}/undo`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UndoBody {
    /// Only says what would be done.
    pub dry_run: bool,
    /// The held plan that a person approves.
    pub approve: Option<String>,
    /// How long to wait for the gate, in milliseconds; the configured time if absent.
    pub wait_ms: Option<u64>,
}

/// `POST /trash`, `/trash/restore` and `/trash/purge`: what is absent does not narrow the selection.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrashBody {
    /// Put there by this conduit.
    pub conduit: Option<String>,
    /// Put there by this generation.
    pub generation: Option<u64>,
    /// In this location.
    pub location: Option<String>,
    /// In the trash for longer than this.
    pub older_than_ms: Option<u64>,
    /// At, or below, one of these.
    pub paths: Vec<TrashPath>,
    /// Only says what would be done.
    pub dry_run: bool,
}

/// A path, as text or as its exact bytes in base64.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrashPath {
    /// Text with `/` between names.
    Path(String),
    /// Bytes in base64.
    PathB64(String),
}

impl TrashPath {
    /// The path that these bytes are.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Path(text.to_owned()),
            Err(_) => Self::PathB64(data_encoding::BASE64.encode(bytes)),
        }
    }

    fn parse(&self) -> Result<EntryPath, Problem> {
        let bytes = match self {
            Self::Path(text) => text.clone().into_bytes(),
            Self::PathB64(text) => {
                data_encoding::BASE64.decode(text.as_bytes()).map_err(|error| usage(error.to_string()))?
            }
        };
        EntryPath::from_slashes(&bytes).map_err(|error| usage(error.to_string()))
    }
}

impl TrashBody {
    /// As the core takes it.
    pub fn ask(self, what: TrashWhat) -> Result<TrashAsk, Problem> {
        let paths = self.paths.iter().map(TrashPath::parse).collect::<Result<_, _>>()?;
        let select = TrashSelect {
            conduit: self.conduit,
            generation: self.generation,
            location: self.location,
            paths,
            older_than_ms: self.older_than_ms,
        };
        Ok(TrashAsk { what, select, dry_run: self.dry_run })
    }
}

/// `POST /conduits`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConduitNew {
    /// Its name.
    pub name: Label,
    /// `device:location[/dir]`.
    pub source: String,
    /// `device:location[/dir]`.
    pub target: String,
    /// Its mode.
    pub mode: String,
    /// Settings that differ from the defaults.
    #[serde(default)]
    pub settings: ConduitSet,
}

/// `PATCH /conduits/{name}`: what is absent stays.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConduitSet {
    /// New name.
    pub name: Option<Label>,
    /// Enabled.
    pub enabled: Option<bool>,
    /// Paused.
    pub paused: Option<bool>,
    /// Schedule.
    pub schedule: Option<String>,
    /// Transfers at the same time.
    pub parallel_transfers: Option<u32>,
    /// How much it may move.
    pub bandwidth_limit: Option<LimitSet>,
    /// Conflict strategy.
    pub strategy: Option<String>,
    /// Delete mode.
    pub delete_mode: Option<String>,
    /// What a selective conduit holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selection: Option<SelectionSet>,
}

/// A limit of bandwidth.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "a limit is a number of bytes per second, or a text such as \"08:00,512kB 19:00,off +01:00\""
)]
pub enum LimitSet {
    /// Bytes per second; 0 is no limit.
    BytesPerS(u64),
    /// By time of day, as [`crate::timetable`] writes it; in UTC, if it names no zone.
    ByTime(String),
}

/// What to change of a selection: what is absent stays, and for numbers 0 is no bound.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SelectionSet {
    /// Whole directories, and single files; `.` is everything.
    pub subtrees: Option<Vec<String>>,
    /// Patterns.
    pub include: Option<Vec<String>>,
    /// Patterns that take candidates out again.
    pub exclude: Option<Vec<String>>,
    /// Smaller files stay away.
    pub size_bytes_min: Option<u64>,
    /// Larger files stay away.
    pub size_bytes_max: Option<u64>,
    /// Files that were modified longer ago stay away.
    pub age_ms_max: Option<u64>,
    /// Room for the most recently used.
    pub budget_bytes: Option<u64>,
}

/// `POST /conduits/{name}/pins`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PinSet {
    /// Below the conduit's roots.
    pub path: String,
    /// Pins, or lets go.
    pub pinned: bool,
}

/// `POST /fetch`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FetchSet {
    /// Below the conduit's roots, or absolute and below a location of this device.
    pub path: String,
    /// In which conduit; found by the path if absent.
    #[serde(default)]
    pub conduit: Option<String>,
    /// How long it stays, in milliseconds.
    pub for_ms: u64,
}

impl LimitSet {
    fn limit(self) -> Result<BandwidthLimit, Problem> {
        match self {
            Self::BytesPerS(bytes_per_s) => Ok(BandwidthLimit::constant(bytes_per_s)),
            Self::ByTime(text) => parse_limit(&text, 0).map_err(usage),
        }
    }
}

impl From<BandwidthLimit> for LimitSet {
    fn from(limit: BandwidthLimit) -> Self {
        limit.as_constant().map_or_else(|| Self::ByTime(show_limit(&limit)), Self::BytesPerS)
    }
}

impl SelectionSet {
    fn change(self) -> Result<SelectionChange, Problem> {
        let dir = |text: &String| {
            let text = text.trim_end_matches('/');
            if text == "." || text.is_empty() {
                return Ok(DirPath::TOP);
            }
            DirPath::from_slashes(text.as_bytes()).map_err(|error| usage(format!("{text:?}: {error}")))
        };
        Ok(SelectionChange {
            subtrees: self.subtrees.map(|all| all.iter().map(dir).collect::<Result<_, _>>()).transpose()?,
            include: self.include,
            exclude: self.exclude,
            size_bytes_min: self.size_bytes_min,
            size_bytes_max: self.size_bytes_max,
            age_ms_max: self.age_ms_max,
            budget_bytes: self.budget_bytes,
        })
    }
}

impl ConduitNew {
    /// As the core takes it.
    pub fn command(self) -> Result<NewConduit, Problem> {
        let mode = words::parse_mode(&self.mode).map_err(usage)?;
        let change = self.settings.change()?;
        Ok(NewConduit { name: self.name, source: self.source, target: self.target, mode, change })
    }
}

impl ConduitSet {
    /// As the core takes it.
    pub fn change(self) -> Result<ConduitChange, Problem> {
        Ok(ConduitChange {
            name: self.name,
            enabled: self.enabled,
            paused: self.paused,
            schedule: self.schedule.as_deref().map(words::parse_schedule).transpose().map_err(usage)?,
            parallel_transfers: self.parallel_transfers,
            bandwidth_limit: self.bandwidth_limit.map(LimitSet::limit).transpose()?,
            strategy: self.strategy.as_deref().map(words::parse_strategy).transpose().map_err(usage)?,
            delete_mode: self.delete_mode.as_deref().map(words::parse_delete_mode).transpose().map_err(usage)?,
            selection: self.selection.unwrap_or_default().change()?,
        })
    }
}

fn usage(why: String) -> Problem {
    Problem::new(Code::Usage, "the request was not understood; nothing was changed", why)
}
