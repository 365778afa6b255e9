//! What people ask of a node, and what they are told: the vocabulary of API and command line.
//!
//! Views are shaped for reading; they serialise to the JSON that `--json` and the API show. Times are Unix
//! milliseconds, sizes are bytes.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tidegate_protocol::file_sync::{
    BandwidthLimit, ConflictStrategy, DeleteMode, Generation, Halt, JobProgress, JobState, Plan, Schedule, Selection,
    SyncMode,
};
use tidegate_protocol::id::{DeviceId, Label, LibraryId};
use tidegate_protocol::index::Rights;
use tidegate_protocol::path::EntryPath;
use tidegate_protocol::wire::JobControl;
use tidegate_storage::disk::RootIdentity;

pub use super::decisions::{
    Choice, ConflictView, DoneView, PlannedView, SelectionChange, VersionOf, VersionView, WhyView,
};
pub use super::fault::{Fault, FaultCode};
use super::past::{AuditView, ReplayView, TrashAsk, TrashView, UndoView, Window};

/// Something a person wants.
#[derive(Debug, Clone)]
pub enum Command {
    /// Everything at a glance.
    Status,
    /// One device.
    Device(String),
    /// Renames a device of the library.
    RenameDevice {
        /// Which, by name or id.
        device: String,
        /// New name.
        name: Label,
    },
    /// Revokes a device.
    RevokeDevice(String),
    /// Admits a device by its full id, as the config's allow-list does.
    AdmitDevice {
        /// Who.
        id: DeviceId,
        /// What to call it.
        name: Label,
    },
    /// Leaves the library: forgets the other devices and begins a library of its own.
    LeaveLibrary,
    /// Adds a location; its root was checked and marked by the caller.
    AddLocation {
        /// Drawn for it.
        id: tidegate_protocol::id::LocationId,
        /// Its name.
        name: Label,
        /// Where it is; absolute and canonical.
        root: PathBuf,
        /// What it is.
        identity: RootIdentity,
        /// Effective ignore rules.
        rules: Vec<String>,
    },
    /// One location.
    Location(String),
    /// Scans a location.
    RescanLocation {
        /// Which.
        location: String,
        /// Reads every file.
        deep: bool,
    },
    /// New effective ignore rules, as found on disk.
    SetRules {
        /// Which.
        location: tidegate_protocol::id::LocationId,
        /// The rules.
        rules: Vec<String>,
    },
    /// Sets the rights of a device in a location; no rights is deny.
    Allow {
        /// Which location.
        location: String,
        /// Whom.
        device: String,
        /// What.
        rights: Rights,
    },
    /// Removes a location from the index; files and marker stay on disk.
    RemoveLocation(String),
    /// Creates a conduit.
    CreateConduit(NewConduit),
    /// One conduit.
    Conduit(String),
    /// Changes settings of a conduit.
    SetConduit {
        /// Which.
        conduit: String,
        /// What.
        change: ConduitChange,
    },
    /// Pins a path of a selective conduit, or lets go of it.
    Pin {
        /// Which conduit.
        conduit: String,
        /// Below its roots.
        path: EntryPath,
        /// Pins, or lets go.
        pinned: bool,
    },
    /// Has a path brought to the target of a selective conduit for a while.
    Fetch {
        /// Which conduit; found by the path if absent.
        conduit: Option<String>,
        /// Below the conduit's roots, or absolute and below a location of this device.
        path: String,
        /// For how long, in milliseconds.
        for_ms: u64,
    },
    /// Removes a conduit; no file is touched.
    RemoveConduit(String),
    /// Resolves and shows; changes nothing.
    Plan {
        /// Which conduit.
        conduit: String,
        /// How long to wait for the gate, in milliseconds.
        wait_ms: u64,
    },
    /// Explains the fate of one path; changes nothing.
    Why {
        /// Which conduit; found by the path if absent.
        conduit: Option<String>,
        /// Below the conduit's roots, or absolute and below a location of this device.
        path: String,
        /// How long to wait for the gate, in milliseconds.
        wait_ms: u64,
    },
    /// Runs a conduit once.
    Sync {
        /// Which conduit.
        conduit: String,
        /// Only if the plan is still this one (short form).
        plan: Option<String>,
        /// How long to wait for the gate, in milliseconds; 0 refuses at once.
        wait_ms: u64,
    },
    /// Approves a held plan by its id and runs it.
    Approve {
        /// The short form.
        plan: String,
        /// How long to wait for the gate, in milliseconds.
        wait_ms: u64,
    },
    /// Jobs of this device and of the conduits it coordinates.
    Jobs,
    /// Pauses, resumes or cancels a job.
    ControlJob {
        /// As shown by [`Command::Jobs`].
        job: String,
        /// What.
        control: JobControl,
    },
    /// Conflicts of a conduit, or of all.
    Conflicts {
        /// Which conduit.
        conduit: Option<String>,
        /// Those that are settled, too.
        settled: bool,
    },
    /// One conflict, as `conduit:number`.
    Conflict(String),
    /// The content of one version of a conflict.
    ConflictContent {
        /// As `conduit:number`.
        conflict: String,
        /// Which version.
        version: VersionOf,
    },
    /// Decides a conflict.
    ResolveConflict {
        /// As `conduit:number`.
        conflict: String,
        /// How.
        choice: Choice,
    },
    /// Generations of a conduit, newest first.
    History {
        /// Which conduit.
        conduit: String,
    },
    /// One generation, with its items.
    Generation {
        /// Which conduit.
        conduit: String,
        /// Which number; the newest if absent.
        number: Option<u64>,
    },
    /// Begins to read again what the index says of both disks.
    Verify {
        /// Of which conduit.
        conduit: String,
        /// The files of this generation; all if absent.
        number: Option<u64>,
        /// Whether what rotted is replaced by what the other end holds.
        heal: bool,
    },
    /// How the newest reading stands.
    Verified {
        /// Of which conduit.
        conduit: String,
    },
    /// Undoes a generation by a new one.
    Undo {
        /// Of which conduit.
        conduit: String,
        /// Which generation.
        number: u64,
        /// Only says what would be done.
        dry_run: bool,
        /// The held plan that a person approves, in its short form.
        approve: Option<String>,
        /// How long to wait for the gate, in milliseconds.
        wait_ms: u64,
    },
    /// Resolves a generation again from what was kept of it, and compares; changes nothing.
    Replay {
        /// Of which conduit.
        conduit: String,
        /// Which generation; the newest if absent.
        number: Option<u64>,
    },
    /// Lists, restores or purges what is in the trash of this device.
    Trash(TrashAsk),
}

/// What a new conduit is to be.
#[derive(Debug, Clone)]
pub struct NewConduit {
    /// Its name.
    pub name: Label,
    /// `device:location[/dir]`.
    pub source: String,
    /// `device:location[/dir]`.
    pub target: String,
    /// Its mode.
    pub mode: SyncMode,
    /// Its settings, where they differ from the defaults.
    pub change: ConduitChange,
}

/// Settings to change; what is absent stays.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConduitChange {
    /// New name.
    pub name: Option<Label>,
    /// Enabled.
    pub enabled: Option<bool>,
    /// Paused.
    pub paused: Option<bool>,
    /// Schedule.
    pub schedule: Option<Schedule>,
    /// Transfers at the same time.
    pub parallel_transfers: Option<u32>,
    /// Bytes per second.
    pub bandwidth_limit: Option<BandwidthLimit>,
    /// Conflict strategy.
    pub strategy: Option<ConflictStrategy>,
    /// Delete mode.
    pub delete_mode: Option<DeleteMode>,
    /// Selection (selective).
    pub selection: SelectionChange,
}

/// An answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Reply {
    /// Done; nothing to show.
    Done,
    /// To `Status`.
    Status(Box<StatusView>),
    /// To `Device`.
    Device(Box<DeviceView>),
    /// To the location commands.
    Location(Box<LocationView>),
    /// To the conduit commands.
    Conduit(Box<ConduitView>),
    /// To `Plan`.
    Plan(Box<PlanView>),
    /// To `Why`.
    Why(Box<WhyView>),
    /// To `Sync` and `Approve`.
    Started(Started),
    /// To `Conflicts`.
    Conflicts(Vec<ConflictView>),
    /// To `Conflict`.
    Conflict(Box<ConflictView>),
    /// To `ConflictContent`.
    Content(Vec<u8>),
    /// To `Jobs`.
    Jobs(Vec<JobView>),
    /// To `History`.
    History(Vec<Generation>),
    /// To `Generation`.
    Generation(Box<GenerationView>),
    /// To `Verify` and `Verified`.
    Audit(Box<AuditView>),
    /// To `Undo`.
    Undo(Box<UndoView>),
    /// To `Replay`.
    Replay(Box<ReplayView>),
    /// To `Trash`.
    Trash(Box<TrashView>),
}

/// What `sync_now` did.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Started {
    /// Which conduit.
    pub conduit: Label,
    /// The generation that was opened; `None` if there was nothing to do, which is verified if nothing is unread.
    pub generation: Option<u64>,
    /// Conflicts that stay where there was nothing to do.
    pub conflicts: u64,
    /// Paths that were left out where there was nothing to do, as they cannot be read.
    pub unread: u64,
}

/// Everything at a glance.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StatusView {
    /// This device.
    pub device: DeviceView,
    /// The library.
    pub library: LibraryId,
    /// All devices of the library but this one.
    pub devices: Vec<DeviceView>,
    /// All locations.
    pub locations: Vec<LocationView>,
    /// All conduits.
    pub conduits: Vec<ConduitView>,
    /// Wall time of the answer.
    pub now_ms: u64,
}

/// A device.
#[expect(clippy::struct_excessive_bools, reason = "independent facts, each shown by itself")]
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DeviceView {
    /// Full id.
    pub id: String,
    /// Short id.
    pub short: String,
    /// Name.
    pub name: Label,
    /// Member, or revoked.
    pub member: bool,
    /// Connected now.
    pub online: bool,
    /// Where, if connected.
    pub address: Option<String>,
    /// Newest sequence it has signed, as far as this device has heard.
    pub signed: u64,
    /// Sequence that this device's replica holds of it.
    pub held: u64,
    /// Whether the replica is level with the newest head heard of it.
    pub caught_up: bool,
    /// Live rows that the replica holds of it.
    pub rows: u64,
    /// Milliseconds since it was last heard; `None` if never.
    pub heard_ms_ago: Option<u64>,
    /// Caught in a fork.
    pub quarantined: bool,
    /// It has more entries than are kept of one device: what it changes is not followed any more.
    pub over_quota: bool,
}

/// A location.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LocationView {
    /// Full id.
    pub id: String,
    /// Name.
    pub name: Label,
    /// The device that holds it.
    pub device: Label,
    /// Its root on that device's disk.
    pub root: String,
    /// Held by this device.
    pub here: bool,
    /// `settled`, `scanning`, `events waiting`, `root missing`, `root replaced`, or `unheard`.
    pub state: String,
    /// Files.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Bytes in files.
    pub bytes: u64,
    /// Entries that are there and cannot be read.
    pub unreadable: u64,
    /// Sockets, FIFOs and devices.
    pub special: u64,
    /// Files hashed and bytes hashed by the scan that runs now.
    pub scanning: Option<(u64, u64)>,
    /// Who may do what: device name, rights.
    pub grants: Vec<(Label, Rights)>,
    /// Effective ignore rules.
    pub rules: Vec<String>,
    /// Up to 100 paths that are unreadable or skipped, with the reason.
    pub problems: Vec<(String, String)>,
}

/// A conduit.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ConduitView {
    /// Full id.
    pub id: String,
    /// Name.
    pub name: Label,
    /// `device:location/dir`.
    pub source: String,
    /// `device:location/dir`.
    pub target: String,
    /// Mode.
    pub mode: SyncMode,
    /// Enabled.
    pub enabled: bool,
    /// Paused.
    pub paused: bool,
    /// Schedule.
    pub schedule: Schedule,
    /// Transfers at the same time.
    pub parallel_transfers: u32,
    /// Bytes per second, by time of day.
    pub bandwidth_limit: BandwidthLimit,
    /// Bytes per second that it may move now, by the wall clock of this device; 0 is no limit.
    pub bytes_per_s_now: u64,
    /// Conflict strategy.
    pub strategy: ConflictStrategy,
    /// Delete mode.
    pub delete_mode: DeleteMode,
    /// Selection (selective).
    pub selection: Selection,
    /// This device coordinates it.
    pub coordinator: bool,
    /// What it does now: `idle`, `waiting`, `copying`, `deleting`, `verifying`, `held`, `refused`.
    pub state: String,
    /// The generation at work, with progress.
    pub running: Option<ProgressView>,
    /// The newest generation.
    pub last: Option<Generation>,
    /// When it was last verified.
    pub verified_ms: Option<u64>,
    /// The held plan that waits for approval, and why.
    pub held: Option<(String, Vec<Halt>)>,
    /// Why it does not run although it exists.
    pub refused: Option<RefusedView>,
    /// What the ends' last agreement left out because it could not be read, path and cause; the first few.
    pub unread: Vec<(EntryPath, String)>,
    /// Conflicts that wait for a person.
    pub conflicts: u64,
    /// Statistics over all generations.
    pub statistics: Statistics,
    /// What was done within the last day, week and month.
    pub recent: Vec<Window>,
}

/// A conduit that exists and that the rules refuse beside an older one: both were created before their devices had heard of
/// one another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedView {
    /// What commands call it: its id, where both have one name.
    pub name: String,
    /// The same of the older one.
    pub older: String,
    /// Which rule, in words.
    pub why: String,
}

/// Sums over all generations of a conduit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statistics {
    /// Generations.
    pub generations: u64,
    /// Of these, verified.
    pub verified: u64,
    /// Files copied.
    pub copied: u64,
    /// Files deleted.
    pub deleted: u64,
    /// Bytes installed.
    pub bytes: u64,
}

/// Progress of a generation.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProgressView {
    /// Which generation.
    pub generation: u64,
    /// `copying`, `deleting`, `verifying`.
    pub phase: String,
    /// Items with an outcome.
    pub items_done: u64,
    /// Items in all.
    pub items: u64,
    /// Bytes installed.
    pub bytes_done: u64,
    /// Bytes in all.
    pub bytes: u64,
    /// Bytes per second over the last seconds.
    pub bytes_per_s: u64,
    /// Seconds left; `None` while unknown.
    pub eta_s: Option<u64>,
    /// Items skipped so far.
    pub skipped: u64,
    /// Paths at work now.
    pub current: Vec<String>,
}

/// A plan, as people see it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PlanView {
    /// Of which conduit.
    pub conduit: Label,
    /// `device:location/dir`.
    pub source: String,
    /// `device:location/dir`.
    pub target: String,
    /// Name of the target's device.
    pub target_device: Label,
    /// Per owner: name and sequence that it was resolved at.
    pub heads: Vec<(Label, u64)>,
    /// The plan itself.
    pub plan: Plan,
}

/// A job.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JobView {
    /// Its name.
    pub job: String,
    /// Of which conduit.
    pub conduit: Label,
    /// Of which generation.
    pub generation: u64,
    /// `copy` or `delete`.
    pub kind: String,
    /// On whose disk.
    pub device: Label,
    /// Its state.
    pub state: JobState,
    /// Items in all.
    pub items: u64,
    /// Bytes in all.
    pub bytes: u64,
    /// How far it is.
    pub progress: JobProgress,
}

/// A generation with its items.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GenerationView {
    /// The generation.
    pub generation: Generation,
    /// Its items, in order: what, where, and what became of it. At most 10,000; `items_total` says how many.
    pub items: Vec<ItemView>,
    /// Items in all.
    pub items_total: u64,
}

/// One item of a generation.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ItemView {
    /// `install`, `link`, `mkdir`, `rename`, `metadata`, `trash`, `rmdir`, `adopt`, `respell`, `evict`.
    pub op: String,
    /// Path below the root, escaped for display.
    pub path: String,
    /// The exact path in base64, when it is not UTF-8.
    pub path_b64: Option<String>,
    /// `done`, `pending`, or why it was skipped.
    pub outcome: String,
}
