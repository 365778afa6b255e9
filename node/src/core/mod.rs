//! What decides: one synchronous state machine over the replica.
//!
//! [`Core::step`] takes a batch of inputs, runs them in one redb transaction, and hands out what is to happen
//! after that transaction is durable. There is no clock, randomness, task or file in here: time comes with the
//! call, entropy came once at the start, and everything that touches the world leaves as an [`Output`].
//!
//! What must survive a crash is in the replica; the fields of [`Core`] are what may be forgotten, and
//! [`Core::new`] finds out from the replica alone what is left to do.
//!
//! The rooms: `library_sync` keeps replicas level, `locations` brings the own disk into the index,
//! `gate` asks both ends and opens the gate, `file_sync` runs generations, `applying` serves as the
//! device whose disk changes, `trash` looks after what was replaced and removed, `conduits` and `people`
//! answer people.

mod applying;
mod audit;
mod bulk;
mod business;
mod choices;
mod clash;
pub mod command;
mod conduits;
mod conflicts;
mod creations;
mod decisions;
mod dispatch;
mod draw;
pub mod errands;
pub mod events;
mod evidence;
mod fault;
mod file_sync;
mod gate;
mod heads;
mod history;
pub mod io;
mod legs;
mod library_sync;
mod locations;
mod membership;
mod names;
mod offers;
mod opening;
pub mod past;
mod people;
mod progress;
mod pull;
mod renewal;
mod replay;
mod schedule;
mod selection;
mod step;
mod telemetry;
mod trash;
mod trash_choice;
mod undo;
mod unread;
mod verify;
mod views;
mod why;

use std::collections::BTreeMap;

use ed25519_dalek::SigningKey;
use tidegate_protocol::file_sync::Guards;
use tidegate_protocol::id::{ConduitId, DeviceId, Label};
use tidegate_protocol::time::Stamp;
use tidegate_storage::store::{Store, StoreError};

use self::applying::Applying;
use self::audit::AuditRoom;
use self::bulk::Bulk;
use self::creations::Creations;
use self::draw::Draw;
use self::file_sync::FileSyncService;
use self::gate::Gate;
use self::heads::Said;
use self::io::{Input, Output, Ticket};
use self::library_sync::LibrarySync;
use self::locations::Locations;
use self::schedule::Due;
use self::step::Step;
use self::trash::TrashRoom;
use crate::env::Now;

/// What the core is told once.
#[derive(Debug, Clone)]
pub struct CoreConfig {
    /// Name of this device, used when its replica is created and when the config names another.
    pub name: Label,
    /// Devices that are admitted by their full id, on both sides, without a code.
    pub admitted: Vec<(DeviceId, Label)>,
    /// How long a path must be quiet before it is looked at, in milliseconds.
    pub settle_ms: u64,
    /// Time between full scans, in milliseconds; 0 for never.
    pub rescan_ms: u64,
    /// How old an owner's evidence may be, in milliseconds.
    pub evidence_age_ms_max: u64,
    /// Thresholds of the guards.
    pub guards: Guards,
    /// Free bytes that a copy job must leave.
    pub free_bytes_min: u64,
    /// Rows that are kept of one other device. What has more is not followed any further.
    pub index_rows_max: u64,
    /// The sum of their encoded lengths, in bytes.
    pub index_bytes_max: u64,
    /// Transfers at the same time, for new conduits.
    pub parallel_transfers: u32,
    /// What the trash may hold.
    pub trash: TrashLimits,
}

/// What the trash may hold: what is older, or beyond the share, goes at a quiet time, the oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrashLimits {
    /// Oldest age, in milliseconds; 0 is no limit.
    pub age_ms_max: u64,
    /// Largest share of the file system, in percent; 0 is no limit.
    pub percent_max: u64,
}

/// Why the core cannot go on. The node ends; nothing that was not committed has left it.
#[derive(Debug, thiserror::Error)]
pub enum CoreError {
    /// The replica failed.
    #[error("the replica failed: {0}")]
    Store(#[from] StoreError),
}

/// The state machine of one device.
pub struct Core {
    store: Store,
    key: SigningKey,
    me: DeviceId,
    config: CoreConfig,
    draw: Draw,
    tickets: u64,
    library: LibrarySync,
    locations: Locations,
    gate: Gate,
    creations: Creations,
    service: FileSyncService,
    applying: Applying,
    bulk: Bulk,
    trash: TrashRoom,
    audit: AuditRoom,
    due: Due,
    asked: BTreeMap<Ticket, Asked>,
    /// When the progress of each job was last told.
    told: BTreeMap<tidegate_protocol::file_sync::JobKey, u64>,
    said: Option<Said>,
}

/// What an outstanding ask was about.
#[derive(Debug, Clone)]
enum Asked {
    Hello(DeviceId),
    Heads(gate::HeadsAsked),
    Rows(pull::RowsAsked),
    Job(tidegate_protocol::file_sync::JobKey),
    Coordinate(Ticket, Label),
    Control(Ticket),
    Shown(Ticket),
    Look { conduit: ConduitId, device: DeviceId },
    Audit(ConduitId),
}

impl Core {
    /// Wakes up over a replica. `entropy` is drawn for this start; every random number of the core follows
    /// from it. What the replica says is unfinished is taken up again.
    pub fn new(
        store: Store,
        key: SigningKey,
        config: CoreConfig,
        entropy: [u8; 32],
        now: Now,
        out: &mut Vec<Output>,
    ) -> Result<Self, CoreError> {
        let me = DeviceId::from_bytes(key.verifying_key().to_bytes());
        let mut core = Self {
            store,
            key,
            me,
            config,
            draw: Draw::new(entropy),
            tickets: 0,
            library: LibrarySync::default(),
            locations: Locations::default(),
            gate: Gate::default(),
            creations: Creations::default(),
            service: FileSyncService::default(),
            applying: Applying::default(),
            bulk: Bulk::default(),
            trash: TrashRoom::new(now),
            audit: AuditRoom::default(),
            due: Due::default(),
            asked: BTreeMap::new(),
            told: BTreeMap::new(),
            said: None,
        };
        let mut step = Step::begin(now, &core.store, out)?;
        core.begin_library(&mut step)?;
        core.begin_locations(&mut step)?;
        core.begin_applying(&mut step)?;
        core.begin_service(&mut step)?;
        core.pass_time(&mut step)?;
        core.finish(step)?;
        Ok(core)
    }

    /// This device.
    pub const fn device(&self) -> DeviceId {
        self.me
    }

    /// The replica, for snapshots to read.
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// Takes a batch of inputs. What is pushed to `out` may happen once this has returned: it is durable.
    pub fn step(&mut self, now: Now, inputs: Vec<Input>, out: &mut Vec<Output>) -> Result<(), CoreError> {
        let nothing_due = self.next_wake().is_none_or(|at| at > now.monotonic_ms);
        if nothing_due && inputs.iter().all(|input| self.is_old_news(input)) {
            return Ok(());
        }
        let mut wishes = Vec::new();
        let mut step = Step::begin(now, &self.store, &mut wishes)?;
        for input in inputs {
            self.take(&mut step, input)?;
        }
        self.pass_time(&mut step)?;
        self.finish(step)?;
        out.append(&mut wishes);
        Ok(())
    }

    /// When the core wants a [`Input::Tick`] if nothing else happens, in monotonic milliseconds.
    pub fn next_wake(&self) -> Option<u64> {
        [
            self.library.next_wake(),
            self.locations.next_wake(),
            self.gate.next_wake(),
            self.creations.next_wake(),
            self.service.next_wake(),
            self.due.next_wake(),
            self.applying.next_wake(),
            self.bulk.next_wake(),
            self.trash.next_wake(),
            self.audit.next_wake(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn take(&mut self, step: &mut Step<'_>, input: Input) -> Result<(), CoreError> {
        match input {
            Input::Command { ticket, command } => self.on_command(step, ticket, command),
            Input::PeerUp { device, address } => self.on_peer_up(step, device, address),
            Input::PeerDown { device } => self.on_peer_down(step, device),
            Input::Announcement(bytes) => self.on_announcement(step, &bytes),
            Input::Request { ticket, peer, request } => self.on_request(step, ticket, peer, request),
            Input::Answer { ticket, result } => self.on_answer(step, ticket, result),
            Input::Paired { device, name, library, joined } => self.on_paired(step, device, &name, library, joined),
            Input::Root { location, state, watched } => self.on_root(step, location, state, watched),
            Input::Probed { location, names } => self.on_probed(step, location, names),
            Input::Hints { location, paths, overflow } => self.on_hints(step, location, paths, overflow),
            Input::Drained { location, barrier } => {
                self.on_drained(location, barrier);
                Ok(())
            }
            Input::Scanned { location, seen, progress } => self.on_scanned(step, location, seen, progress),
            Input::ScanEnded { location, result } => self.on_scan_ended(step, location, result),
            Input::JobMoved { job, outcomes, announced, bytes_done, bytes_reused, current } => {
                let moved = applying::Moved { outcomes, announced, bytes_done, bytes_reused, current };
                self.on_job_moved(step, job, moved)
            }
            Input::JobEnded { job, stopped } => self.on_job_ended(step, job, stopped),
            Input::Resolved { ticket, result } => self.on_resolved(step, ticket, result),
            Input::Audited { ticket, findings } => self.on_audited(step, ticket, findings),
            Input::Trash { ticket, done } => self.on_trash(step, ticket, done),
            Input::Put { ticket, written, failure } => self.on_put(step, ticket, written, failure),
            Input::Tick => Ok(()),
        }
    }

    /// Everything that is due by now, or became possible by this batch.
    ///
    /// Each room may wish something of those after it: a run that is due begins an attempt, an attempt asks the
    /// own disk, and the last room signs and announces what all of them wrote.
    fn pass_time(&mut self, step: &mut Step<'_>) -> Result<(), CoreError> {
        self.tend_applying(step)?;
        self.tend_bulk(step)?;
        self.tend_trash(step)?;
        self.tend_audit(step)?;
        self.tend_creations(step)?;
        self.tend_schedule(step)?;
        self.tend_service(step)?;
        self.tend_gate(step)?;
        self.tend_locations(step)?;
        self.tend_library(step)
    }

    /// Signs the new state if rows were written, then commits.
    fn finish(&mut self, mut step: Step<'_>) -> Result<(), CoreError> {
        if step.own_rows_changed {
            self.rest_own(&mut step)?;
        }
        step.txn.commit()?;
        Ok(())
    }

    /// Signs the own state and rests on it, so that it can be served.
    fn rest_own(&mut self, step: &mut Step<'_>) -> Result<(), CoreError> {
        let head = self.head_to_publish(step)?;
        step.txn.set_newest(self.me, &head)?;
        step.txn.rest(self.me, &head)?.expect("the own head was signed over this very state");
        step.own_rows_changed = false;
        self.library.own_head_changed = true;
        Ok(())
    }

    /// The next stamp, persisted in this step's transaction, and so before use.
    fn stamp(&mut self, step: &mut Step<'_>) -> Result<Stamp, CoreError> {
        let next = step.txn.last_stamp()?.next(step.now.wall_ms);
        step.txn.persist_stamp(next)?;
        Ok(next)
    }

    fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }

    /// Asks a member, remembering what for.
    fn ask(
        &mut self,
        step: &mut Step<'_>,
        device: DeviceId,
        request: tidegate_protocol::wire::Request,
        about: Asked,
    ) -> Ticket {
        let ticket = self.ticket();
        self.asked.insert(ticket, about);
        step.out.push(Output::Ask { ticket, device, request });
        ticket
    }
}
