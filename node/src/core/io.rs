//! The closed list of what can happen to the core, and of what it can ask for.
//!
//! Inputs are facts; outputs are wishes. An output leaves only after the transaction of its step is durable.
//! Everything here is plain data: a recorded list of inputs replays to the same outputs.

use ::core::net::SocketAddr;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use tidegate_protocol::file_sync::{
    BandwidthLimit, BaseChange, Baseline, Conduit, DeleteMode, Guards, Item, ItemOutcome, JobKey, NameRules, Plan,
    Ruling, Why,
};
use tidegate_protocol::hash::ContentHash;
use tidegate_protocol::id::{ConduitId, DeviceId, Label, LibraryId, LocationId};
use tidegate_protocol::index::{EntryKind, Observation, StatMark, Version};
use tidegate_protocol::library_sync::{LibrarySynced, RootState, SignedHead};
use tidegate_protocol::path::{DirPath, EntryPath};
use tidegate_protocol::wire::{FetchFailure, Finding, JobControl, Request, Response};
use tidegate_storage::disk::{Bin, RootIdentity};

use super::command::{Command, Fault, Reply};
use super::errands::{AuditItem, ReplayWork, TrashDone, TrashWork};
pub use super::errands::{ContentFrom, KeepTexts, PutLeg, ReadContent};
use super::events::Event;
use crate::env::NetworkError;

/// Names a question that waits for one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Something that happened.
#[derive(Debug)]
pub enum Input {
    /// A person, by API or command line. Answered by [`Output::Reply`].
    Command {
        /// For the answer.
        ticket: Ticket,
        /// What is wanted.
        command: Command,
    },
    /// A member is connected.
    PeerUp {
        /// Who.
        device: DeviceId,
        /// Where.
        address: SocketAddr,
    },
    /// A member is not connected any more.
    PeerDown {
        /// Who.
        device: DeviceId,
    },
    /// A gossiped head; from anybody in the mesh, so not trusted.
    Announcement(Vec<u8>),
    /// A member asks. Answered by [`Output::Respond`] or [`Output::Serve`].
    Request {
        /// For the answer.
        ticket: Ticket,
        /// Who, as the transport proved.
        peer: DeviceId,
        /// What.
        request: Request,
    },
    /// The answer to an [`Output::Ask`].
    Answer {
        /// Of the ask.
        ticket: Ticket,
        /// The answer, or why there is none.
        result: Result<Response, NetworkError>,
    },
    /// Another device proved a pairing code (or this one proved it there).
    Paired {
        /// Who.
        device: DeviceId,
        /// Its name.
        name: Label,
        /// Its library.
        library: LibraryId,
        /// Whether this device typed the code, and so joins the other's library.
        joined: bool,
    },
    /// The answer to [`Output::OpenRoot`], or news of an opened root.
    Root {
        /// Which location.
        location: LocationId,
        /// How it stands.
        state: RootState,
        /// Whether a watcher reports its changes; without one every look is a scan.
        watched: bool,
    },
    /// What names a root that is about to be told of can store and tell apart.
    Probed {
        /// Which location.
        location: LocationId,
        /// What its root answered.
        names: NameRules,
    },
    /// What a watcher saw. A hint, not a fact.
    Hints {
        /// Which location.
        location: LocationId,
        /// Paths that may have changed; empty with `overflow`.
        paths: Vec<EntryPath>,
        /// Events were lost: everything may have changed.
        overflow: bool,
    },
    /// Every change made before the matching [`Output::Drain`] has been hinted by now.
    Drained {
        /// Which location.
        location: LocationId,
        /// The number given there.
        barrier: u64,
    },
    /// A batch of a scan: only what differs from what the index held when the scan began.
    Scanned {
        /// Which location.
        location: LocationId,
        /// In path order.
        seen: Vec<Seen>,
        /// For people.
        progress: ScanProgress,
    },
    /// A scan is over.
    ScanEnded {
        /// Which location.
        location: LocationId,
        /// Whether everything that was to be looked at was; if not, why. The location stays unsettled then.
        result: Result<ScanProgress, ScanFailure>,
    },
    /// Items of a job have outcomes, all durable.
    JobMoved {
        /// Which job.
        job: JobKey,
        /// Outcomes by index.
        outcomes: Vec<(u32, ItemOutcome)>,
        /// What was written, for the scanner to recognise.
        announced: Vec<Written>,
        /// Content bytes installed since the last report.
        bytes_done: u64,
        /// Of these, bytes that the device already held.
        bytes_reused: u64,
        /// Paths at work now; at most eight.
        current: Vec<EntryPath>,
    },
    /// The run of a job is over: every item of the leg has an outcome, or it was stopped.
    JobEnded {
        /// Which job.
        job: JobKey,
        /// Whether it was stopped before the end of its leg (control, lost peer, lost root).
        stopped: Option<JobStop>,
    },
    /// The answer to [`Output::Resolve`].
    Resolved {
        /// Of the wish.
        ticket: Ticket,
        /// What was found; or why there is no answer.
        result: Result<Box<Resolved>, String>,
    },
    /// What a person chose about a conflict was written, or was not.
    Put {
        /// Of the wish.
        ticket: Ticket,
        /// What was written, for the scanner to recognise.
        written: Vec<Written>,
        /// Why not all of it was.
        failure: Option<String>,
    },
    /// The answer to [`Output::Trash`].
    Trash {
        /// Of the wish.
        ticket: Ticket,
        /// What it came to.
        done: TrashDone,
    },
    /// The answer to [`Output::Audit`].
    Audited {
        /// Of the wish.
        ticket: Ticket,
        /// What was found, in the order of the items.
        findings: Vec<Finding>,
    },
    /// Time has passed.
    Tick,
}

/// One thing a scan saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Where and what.
    pub observation: Observation,
    /// Chaining values of a large file's chunks, if it was hashed.
    pub chunks: Vec<[u8; 32]>,
}

/// How far a scan is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ScanProgress {
    /// Entries looked at.
    pub entries: u64,
    /// Files read and hashed.
    pub files_hashed: u64,
    /// Bytes read and hashed.
    pub bytes_hashed: u64,
}

/// Why a scan did not see everything.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScanFailure {
    /// The root is gone or is another one; nothing may be concluded.
    #[error("the root is missing or replaced")]
    RootLost,
    /// The ignore file is not valid.
    #[error("{0}")]
    Rules(String),
    /// Anything else.
    #[error("{0}")]
    Io(String),
}

/// What a job wrote at one path, with the stat taken after the write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Below the location.
    pub path: EntryPath,
    /// What is there now; `None` if it was removed.
    pub kind: Option<EntryKind>,
    /// The stat after the write; `None` for kinds without content and removals.
    pub mark: Option<StatMark>,
    /// The version to record.
    pub version: Version,
}

/// Why a job's run stopped before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobStop {
    /// Told to pause.
    Paused,
    /// Told to cancel.
    Cancelled,
    /// The source could not be reached; tried again when it is connected.
    Unreachable,
    /// The root is missing or replaced.
    RootLost,
    /// No room; tried again later.
    NoSpace,
}

/// Something that is to happen.
#[derive(Debug)]
pub enum Output {
    /// Answers a [`Input::Command`].
    Reply {
        /// Of the command.
        ticket: Ticket,
        /// The answer.
        reply: Result<Reply, Fault>,
    },
    /// Answers a [`Input::Request`].
    Respond {
        /// Of the request.
        ticket: Ticket,
        /// The answer.
        response: Response,
    },
    /// Answers a fetch: the content is read from disk and streamed.
    Serve {
        /// Of the request.
        ticket: Ticket,
        /// The location that is read.
        location: LocationId,
        /// What, in the order asked for.
        reads: Vec<Result<Read, FetchFailure>>,
        /// The conduit for which it is read.
        conduit: ConduitId,
        /// Bytes per second that the conduit may move, by time of day.
        bandwidth_limit: BandwidthLimit,
    },
    /// Asks a member. Answered by [`Input::Answer`], within `ANSWER_MS_MAX`.
    Ask {
        /// For the answer.
        ticket: Ticket,
        /// Whom.
        device: DeviceId,
        /// What.
        request: Request,
    },
    /// Gossips a head.
    Publish(SignedHead),
    /// From now on exactly these devices are let in.
    Members {
        /// Of this library.
        library: LibraryId,
        /// Without this device itself.
        devices: BTreeSet<DeviceId>,
    },
    /// A member may be reached there.
    Remember {
        /// Which.
        device: DeviceId,
        /// Where it was reached last, by this device or by another.
        address: SocketAddr,
    },
    /// Opens a root, checks its marker, watches it. Answered by [`Input::Root`].
    OpenRoot {
        /// Which location.
        location: LocationId,
        /// Where it is.
        root: PathBuf,
        /// What it must be.
        identity: RootIdentity,
    },
    /// Lets go of a root.
    CloseRoot {
        /// Which location.
        location: LocationId,
    },
    /// Asks for [`Input::Drained`] once every earlier change has been hinted.
    Drain {
        /// Which location.
        location: LocationId,
        /// A number to tell it by.
        barrier: u64,
    },
    /// Scans. Answered by [`Input::Scanned`], many times, and [`Input::ScanEnded`].
    Scan {
        /// Which location.
        location: LocationId,
        /// What.
        scope: ScanScope,
        /// Whether files are read even when their stat is unchanged.
        deep: bool,
    },
    /// Runs a leg of a copy job. Answered by [`Input::JobMoved`] and [`Input::JobEnded`].
    RunCopy(CopyLeg),
    /// Runs a leg of a delete job. Answered likewise.
    RunDelete(DeleteLeg),
    /// Pauses or cancels a running leg; it ends by [`Input::JobEnded`].
    Control {
        /// Which job.
        job: JobKey,
        /// What.
        control: JobControl,
    },
    /// Clears the staging of an ended job, and the trash of a permanent delete.
    Clean {
        /// Which location.
        location: LocationId,
        /// Which job.
        job: JobKey,
        /// Whether the trash of the generation goes as well.
        purge: bool,
    },
    /// Tells whoever listens what happened.
    Event {
        /// When, in wall milliseconds.
        at_ms: u64,
        /// What.
        event: Box<Event>,
    },
    /// Reads files of a location again. Answered by [`Input::Audited`].
    Audit {
        /// For the answer.
        ticket: Ticket,
        /// Which location.
        location: LocationId,
        /// Which files.
        items: Vec<AuditItem>,
    },
    /// Lists or changes the trash of a location. Answered by [`Input::Trash`].
    Trash {
        /// For the answer.
        ticket: Ticket,
        /// Which location.
        location: LocationId,
        /// What.
        work: TrashWork,
    },
    /// Writes what a person chose. Answered by [`Input::Put`].
    Put(PutLeg),
    /// Keeps texts for merges to come.
    KeepTexts(KeepTexts),
    /// Finds a content and answers a command with it.
    ReadContent(ReadContent),
    /// Resolves a past generation again, and answers a command with how that compares.
    Replay(Box<ReplayWork>),
    /// Resolves over a read snapshot. Answered by [`Input::Resolved`].
    Resolve {
        /// For the answer.
        ticket: Ticket,
        /// The token: what makes the snapshot a fresh one.
        synced: LibrarySynced,
        /// The definition.
        conduit: Box<Conduit>,
        /// What the last verified generation left.
        baseline: Option<Baseline>,
        /// The empty plan that was resolved at the baseline's heads: what an incremental resolve goes on from.
        previous: Option<Box<Plan>>,
        /// The guards.
        guards: Guards,
        /// What is neither row nor definition.
        facts: Box<ResolveFacts>,
        /// The path, if any, whose fate is to be explained.
        why: Option<EntryPath>,
        /// The plan may become a generation: what it is decided from is wanted, too.
        keep: bool,
    },
}

/// What a resolve is given besides rows and definition, as it was when the gate opened.
#[derive(Debug, Clone, Default)]
pub struct ResolveFacts {
    /// Rulings of the conduit.
    pub rulings: Vec<Ruling>,
    /// Names of devices.
    pub labels: BTreeMap<DeviceId, Label>,
    /// The moment, in Unix milliseconds.
    pub now_ms: u64,
    /// How far apart both owners' clocks may be, in milliseconds.
    pub clock_doubt_ms: u64,
}

/// What a resolve found.
#[derive(Debug)]
pub struct Resolved {
    /// The plan.
    pub plan: Plan,
    /// What a baseline at this state would say.
    pub baseline: Baseline,
    /// How the base rows change if the plan is empty.
    pub base: Vec<(EntryPath, BaseChange)>,
    /// The explanation that was asked for.
    pub why: Option<Why>,
    /// What the plan was decided from, encoded; `None` if nobody wants it, or if it is too much to be kept.
    pub inputs: Option<Vec<u8>>,
}

/// What a scan looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScanScope {
    /// The whole location.
    All,
    /// These paths, and what is below those that are new or gone. Sorted.
    Paths(Vec<EntryPath>),
}

/// One read for a fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// Below the location.
    pub path: EntryPath,
    /// The stat that the index knows; the file is not sent if it differs.
    pub mark: StatMark,
    /// The content it must be.
    pub content: ContentHash,
    /// First byte.
    pub offset: u64,
    /// How many.
    pub length: u64,
}

/// A part of a copy job that is run at once: at most `LEG_ITEMS_MAX` items.
#[derive(Debug, Clone)]
pub struct CopyLeg {
    /// Which job.
    pub job: JobKey,
    /// The location that changes.
    pub location: LocationId,
    /// Where content comes from.
    pub source: CopySource,
    /// The items, in order.
    pub items: Vec<Work>,
    /// Transfers at the same time.
    pub parallel_transfers: u32,
    /// Bytes per second, by time of day.
    pub bandwidth_limit: BandwidthLimit,
    /// Free bytes that must remain.
    pub free_bytes_min: u64,
}

/// Where the content of a leg comes from when the device does not hold it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopySource {
    /// Another device, by fetch.
    Device(DeviceId),
    /// Another directory of this device.
    Here {
        /// Its location.
        location: LocationId,
        /// The conduit's source root in it.
        dir: DirPath,
    },
    /// The trash of the location that changes: what stood at the same paths before.
    Trash {
        /// The bins to look into, in this order.
        bins: Vec<Bin>,
    },
}

/// A part of a delete job that is run at once.
#[derive(Debug, Clone)]
pub struct DeleteLeg {
    /// Which job.
    pub job: JobKey,
    /// The location that changes.
    pub location: LocationId,
    /// The other end: asked before anything is evicted.
    pub source: CopySource,
    /// The items, in order.
    pub items: Vec<Work>,
    /// Whether old bytes are kept.
    pub delete_mode: DeleteMode,
}

/// One item, as the applying device sees it.
#[derive(Debug, Clone)]
pub struct Work {
    /// Its index in the job.
    pub index: u32,
    /// Where it acts, below the location (not below the conduit's root).
    pub path: EntryPath,
    /// The item as planned. Its paths are below the conduit's root.
    pub item: Item,
    /// For a rename: the old path below the location.
    pub from: Option<EntryPath>,
    /// The stat under which this device's index knows the pre-image; `None` if the index knows none.
    pub known: Option<StatMark>,
    /// Where this device already holds the content, if it does.
    pub local: Option<LocalContent>,
}

/// Content that this device holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalContent {
    /// In which location.
    pub location: LocationId,
    /// Where.
    pub path: EntryPath,
    /// The stat that the index knows.
    pub mark: StatMark,
}
