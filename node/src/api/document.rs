//! The documents of API and `--json`: what the core's views look like outside.
//!
//! Every document has `v` and `type`. Within version 1 members are only added. Bytes are integers, moments
//! RFC 3339; text that came from a disk is escaped, and exact bytes that are not UTF-8 stand beside it in base64.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tidegate_protocol::file_sync::SyncMode;
use tidegate_protocol::index::Rights;
use tidegate_protocol::path::EntryPath;

use super::words;
use crate::core::command::{
    ConduitView, DeviceView, JobView, LocationView, ProgressView, RefusedView, Started, Statistics, StatusView,
};
use crate::format::{Moment, count};
use crate::timetable::show_limit;

pub use crate::core::past::Window;

pub use super::document_conflict::{ConflictDocument, DiffDocument, SelectionDocument, WhyDocument};
pub use super::document_past::{AuditDocument, ReplayDocument, TrashDocument, TrashedDocument, UndoDocument};
pub use super::document_plan::{GenerationDocument, GenerationItems, PlanDocument, PlanItem};

/// Puts `v` and `type` on a document.
pub fn document<T: Serialize>(kind: &str, body: &T) -> Value {
    let mut value = serde_json::to_value(body).expect("documents are plain data");
    if let Value::Object(members) = &mut value {
        members.insert("v".to_owned(), json!(1));
        members.insert("type".to_owned(), json!(kind));
    }
    value
}

/// Puts a list under a name, with `v` and `type`.
pub fn list<T: Serialize>(kind: &str, items: &[T]) -> Value {
    json!({ "v": 1, "type": kind, kind: items })
}

/// A path for people, and its exact bytes where text cannot hold them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShownPath {
    /// Escaped for display.
    pub path: String,
    /// The exact bytes in base64, when they are not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_b64: Option<String>,
}

impl From<&EntryPath> for ShownPath {
    fn from(path: &EntryPath) -> Self {
        let bytes = path.to_slashes();
        let path_b64 = std::str::from_utf8(&bytes).err().map(|_| data_encoding::BASE64.encode(&bytes));
        Self { path: path.to_string(), path_b64 }
    }
}

/// Everything at a glance.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StatusDocument {
    /// This device.
    pub device: DeviceView,
    /// The library's id.
    pub library: String,
    /// The other devices.
    pub devices: Vec<DeviceView>,
    /// All locations.
    pub locations: Vec<LocationDocument>,
    /// All conduits.
    pub conduits: Vec<ConduitDocument>,
    /// When this was said.
    pub now: Moment,
}

impl From<StatusView> for StatusDocument {
    fn from(view: StatusView) -> Self {
        Self {
            device: view.device,
            library: view.library.to_string(),
            devices: view.devices,
            locations: view.locations.into_iter().map(Into::into).collect(),
            conduits: view.conduits.into_iter().map(Into::into).collect(),
            now: Moment(view.now_ms),
        }
    }
}

/// A location.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LocationDocument {
    /// Full id.
    pub id: String,
    /// Name.
    pub name: String,
    /// The device that holds it.
    pub device: String,
    /// Its root there.
    pub root: String,
    /// Held by this device.
    pub here: bool,
    /// `settled`, `scanning`, `events waiting`, `root missing`, `root replaced` or `unheard`.
    pub state: String,
    /// Files.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Bytes in files.
    pub bytes: u64,
    /// Entries that cannot be read.
    pub unreadable: u64,
    /// Sockets, FIFOs and devices.
    pub special: u64,
    /// The scan that runs now.
    pub scanning: Option<ScanningDocument>,
    /// Who may do what.
    pub grants: Vec<GrantDocument>,
    /// Effective ignore rules.
    pub rules: Vec<String>,
    /// Paths that are unreadable or skipped; 100 at most.
    pub problems: Vec<ProblemDocument>,
}

/// A running scan.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ScanningDocument {
    /// Files hashed so far.
    pub files_hashed: u64,
    /// Bytes hashed so far.
    pub bytes_hashed: u64,
}

/// Rights of one device.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GrantDocument {
    /// Whose.
    pub device: String,
    /// Which.
    #[serde(flatten)]
    pub rights: Rights,
}

/// A path and what is wrong with it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProblemDocument {
    /// Escaped for display.
    pub path: String,
    /// What is wrong.
    pub why: String,
}

impl From<LocationView> for LocationDocument {
    fn from(view: LocationView) -> Self {
        let grants = view.grants.into_iter();
        Self {
            id: view.id,
            name: view.name.to_string(),
            device: view.device.to_string(),
            root: view.root,
            here: view.here,
            state: view.state,
            files: view.files,
            directories: view.directories,
            bytes: view.bytes,
            unreadable: view.unreadable,
            special: view.special,
            scanning: view.scanning.map(|(files_hashed, bytes_hashed)| ScanningDocument { files_hashed, bytes_hashed }),
            grants: grants.map(|(device, rights)| GrantDocument { device: device.to_string(), rights }).collect(),
            rules: view.rules,
            problems: view.problems.into_iter().map(|(path, why)| ProblemDocument { path, why }).collect(),
        }
    }
}

/// A conduit.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ConduitDocument {
    /// Full id.
    pub id: String,
    /// Name.
    pub name: String,
    /// `device:location/dir`.
    pub source: String,
    /// `device:location/dir`.
    pub target: String,
    /// Mode.
    pub mode: String,
    /// Enabled.
    pub enabled: bool,
    /// Paused.
    pub paused: bool,
    /// Schedule.
    pub schedule: String,
    /// Transfers at the same time.
    pub parallel_transfers: u32,
    /// Bytes per second that it may move now; 0 is no limit.
    pub bandwidth_limit: u64,
    /// The limits of a day, such as `08:00,512kB 19:00,off +01:00`, if they are not the same at all times.
    #[serde(default)]
    pub bandwidth_timetable: Option<String>,
    /// Conflict strategy.
    pub strategy: String,
    /// Delete mode.
    pub delete_mode: String,
    /// This device coordinates it.
    pub coordinator: bool,
    /// What it does now.
    pub state: String,
    /// The generation at work.
    pub running: Option<ProgressView>,
    /// The newest generation.
    pub last: Option<GenerationDocument>,
    /// When it was last verified.
    pub verified: Option<Moment>,
    /// The plan that waits for approval.
    pub held: Option<HeldDocument>,
    /// Why it does not run although it exists: an older conduit is in its way.
    #[serde(default)]
    pub refused: Option<RefusedView>,
    /// What the last run left out because it could not be read; the first few.
    #[serde(default)]
    pub unread: Vec<ProblemDocument>,
    /// What is selected (selective).
    pub selection: Option<SelectionDocument>,
    /// Conflicts that wait for a person.
    pub conflicts: u64,
    /// Sums over all generations.
    pub statistics: Statistics,
    /// Sums over the last 24 hours, 7 days and 30 days.
    #[serde(default)]
    pub recent: Vec<Window>,
}

/// A plan that waits for approval.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HeldDocument {
    /// Its short id.
    pub plan: String,
    /// Why it waits.
    pub halts: Vec<String>,
}

impl From<ConduitView> for ConduitDocument {
    fn from(view: ConduitView) -> Self {
        let held = view.held.map(|(plan, halts)| HeldDocument {
            plan,
            halts: halts.iter().map(std::string::ToString::to_string).collect(),
        });
        Self {
            id: view.id,
            name: view.name.to_string(),
            source: view.source,
            target: view.target,
            mode: words::mode(view.mode).to_owned(),
            enabled: view.enabled,
            paused: view.paused,
            schedule: words::schedule(view.schedule),
            parallel_transfers: view.parallel_transfers,
            bandwidth_limit: view.bytes_per_s_now,
            bandwidth_timetable: view
                .bandwidth_limit
                .as_constant()
                .is_none()
                .then(|| show_limit(&view.bandwidth_limit)),
            strategy: words::strategy(view.strategy).to_owned(),
            delete_mode: words::delete_mode(view.delete_mode).to_owned(),
            coordinator: view.coordinator,
            state: view.state,
            running: view.running,
            last: view.last.as_ref().map(Into::into),
            verified: view.verified_ms.map(Moment),
            held,
            refused: view.refused,
            unread: view
                .unread
                .into_iter()
                .map(|(path, why)| ProblemDocument { path: path.to_string(), why })
                .collect(),
            selection: (view.mode == SyncMode::Selective).then(|| view.selection.into()),
            conflicts: view.conflicts,
            statistics: view.statistics,
            recent: view.recent,
        }
    }
}

/// A job.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JobDocument {
    /// Its name.
    pub job: String,
    /// Of which conduit.
    pub conduit: String,
    /// Of which generation.
    pub generation: u64,
    /// `copy` or `delete`.
    pub kind: String,
    /// On whose disk.
    pub device: String,
    /// `waiting`, `running`, `paused`, `ended` or `cancelled`.
    pub state: String,
    /// Items in all.
    pub items: u64,
    /// Items with an outcome.
    pub items_done: u64,
    /// Of these, skipped.
    pub items_skipped: u64,
    /// Bytes in all.
    pub bytes: u64,
    /// Bytes installed.
    pub bytes_done: u64,
    /// Of these, bytes that the device already held.
    pub bytes_reused: u64,
}

impl From<JobView> for JobDocument {
    fn from(view: JobView) -> Self {
        Self {
            job: view.job,
            conduit: view.conduit.to_string(),
            generation: view.generation,
            kind: view.kind,
            device: view.device.to_string(),
            state: words::job_state(view.state).to_owned(),
            items: view.items,
            items_done: view.progress.items_done,
            items_skipped: view.progress.items_skipped,
            bytes: view.bytes,
            bytes_done: view.progress.bytes_done,
            bytes_reused: view.progress.bytes_reused,
        }
    }
}

/// What `sync` began.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StartedDocument {
    /// Which conduit.
    pub conduit: String,
    /// The generation that was opened; absent if there was nothing to do, which is verified.
    pub generation: Option<u64>,
    /// Conflicts that stay where there was nothing to do.
    #[serde(default)]
    pub conflicts: u64,
    /// Paths that were left out where there was nothing to do, as they cannot be read: then it is not verified.
    #[serde(default)]
    pub unread: u64,
}

impl From<Started> for StartedDocument {
    fn from(started: Started) -> Self {
        let Started { conduit, generation, conflicts, unread } = started;
        Self { conduit: conduit.to_string(), generation, conflicts, unread }
    }
}

impl StartedDocument {
    /// How it ended, where there was nothing to do.
    pub fn end(&self) -> String {
        match self.unread {
            0 => "verified".to_owned(),
            unread => format!("NOT verified: {} cannot be read", count(unread, "path", "paths")),
        }
    }
}

/// How pairing stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairingDocument {
    /// Where it stands.
    pub state: PairingState,
    /// The code, while this device shows one.
    pub code: Option<String>,
    /// Until when it holds.
    pub expires: Option<Moment>,
    /// The device that was paired.
    pub device: Option<String>,
    /// Its short id.
    pub short: Option<String>,
    /// Where it is.
    pub address: Option<String>,
    /// Two words that both ends show.
    pub check_words: Option<String>,
    /// Why it ended without a pair.
    pub why: Option<String>,
}

/// Where pairing stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PairingState {
    /// No code was asked for, or it was withdrawn.
    #[default]
    Closed,
    /// A code is shown.
    Open,
    /// A device was paired.
    Paired,
    /// The code is used up or too old.
    Expired,
}

/// One thing that `doctor` looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What was looked at.
    pub what: String,
    /// How it is.
    pub state: CheckState,
    /// What was found.
    pub found: String,
    /// What to do about it.
    pub next: Option<String>,
}

/// How a checked thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckState {
    /// Fine.
    Ok,
    /// Works, but not as well as it could.
    Warn,
    /// Does not work.
    Fail,
}

/// A setting in force.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SettingDocument {
    /// `section.key`.
    pub key: String,
    /// As it would stand in the file.
    pub value: String,
    /// Where it came from.
    pub origin: String,
}

/// The daemon itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonDocument {
    /// Its process.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// Name of this device.
    pub name: String,
    /// Its short id.
    pub short: String,
    /// Its full id.
    pub id: String,
    /// The UDP address it listens on.
    pub listen: String,
    /// The state directory.
    pub state: String,
    /// What a person should know of this start: a replica moved aside, a missing watcher.
    pub warnings: Vec<String>,
}
