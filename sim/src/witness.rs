//! A witness beside each core: what a device decided and said, as facts for the checkers.
//!
//! [`Watched`] stands where the driver expects a machine, hands everything on to the core, and notes what went in
//! and what came out. So the code that ships needs no hook, and the checkers see decisions at the moment of their
//! commit. Notes are facts of that moment; nothing here judges.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidegate::core::command::{Fault, Reply};
use tidegate::core::io::{Input, JobStop, Output, ScanScope};
use tidegate::core::{Core, CoreError};
use tidegate::driver::Machine;
use tidegate::env::Now;
use tidegate_protocol::file_sync::{Item, ItemOutcome, JobKey, Plan, Root, Verification};
use tidegate_protocol::id::{ConduitId, DeviceId, Epoch, LocationId};
use tidegate_protocol::library_sync::{Head, HeadRef, Row};
use tidegate_protocol::path::EntryPath;
use tidegate_protocol::wire::{Request, Response};
use tidegate_storage::store::{Order, Snapshot, Store, StoreError, Table, Tables as _};

use crate::backend::PageFile;

/// One fact, from one device.
#[derive(Debug)]
pub struct Noted {
    /// Which device of the plan.
    pub device: usize,
    /// Its clocks.
    pub now: Now,
    /// What.
    pub said: Said,
}

/// What a device decided or said.
#[derive(Debug)]
pub enum Said {
    /// Its own rows have this state now, and it is committed.
    State(HeadRef),
    /// A head of its own left it.
    Head(Box<Head>),
    /// Rows of some author left it.
    Rows {
        /// Whose.
        author: DeviceId,
        /// Of which epoch.
        epoch: Epoch,
        /// The rows.
        rows: Vec<Row>,
    },
    /// It asked an owner for evidence.
    AskedHeads {
        /// Whom.
        owner: DeviceId,
        /// For which conduit, if for one.
        conduit: Option<ConduitId>,
    },
    /// The gate has opened and a resolve begins over this replica.
    Resolves {
        /// Of which conduit.
        conduit: ConduitId,
        /// The heads of the token.
        token: Vec<HeadRef>,
        /// What the replica holds of the same devices.
        replica: Vec<HeadRef>,
        /// Paths in constant use, which the plan leaves out.
        busy: Vec<(LocationId, EntryPath)>,
    },
    /// A resolve has an answer.
    Resolved(Box<Plan>),
    /// A leg of a job begins on its disk.
    Leg {
        /// Which job.
        job: JobKey,
        /// In which location.
        location: LocationId,
        /// Where each item acts, below the location, and the item.
        items: Vec<(u32, EntryPath, Item)>,
    },
    /// Items of a job have outcomes.
    Moved {
        /// Which job.
        job: JobKey,
        /// The outcomes.
        outcomes: Vec<(u32, ItemOutcome)>,
    },
    /// A leg is over.
    LegEnded {
        /// Which job.
        job: JobKey,
        /// Why it stopped before its end, if it did.
        stopped: Option<JobStop>,
    },
    /// A generation has a new status.
    Status {
        /// Of which conduit.
        conduit: ConduitId,
        /// Its number.
        generation: u64,
        /// The status.
        status: Verification,
    },
    /// It asked the watcher of an own location for everything that was done until now.
    AskedDisk(LocationId),
    /// A scan begins.
    Scan {
        /// Of which location.
        location: LocationId,
        /// Whether of all of it.
        whole: bool,
    },
    /// A watcher has lost events.
    Overflowed(LocationId),
    /// A command has its answer.
    Replied(Box<Result<Reply, Fault>>),
    /// A step: how many inputs it took and outputs it gave, and a number that stands for them.
    Step {
        /// Inputs.
        inputs: u64,
        /// Outputs.
        outputs: u64,
        /// What they were, as far as their kinds go.
        kinds: u64,
        /// It did nothing, and wants to be woken at a moment that has come already.
        restless: bool,
    },
}

/// Where notes go. Cheap to clone; one for the whole world.
#[derive(Debug, Clone, Default)]
pub struct Notes(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    notes: Vec<Noted>,
    /// Replicas of the devices whose cores live.
    stores: BTreeMap<usize, Store>,
}

impl Notes {
    /// Takes the notes since the last time, in order.
    pub fn take(&self) -> Vec<Noted> {
        std::mem::take(&mut self.lock().notes)
    }

    /// What the replica of a device holds, as of its last commit; `None` while no core of it lives.
    pub fn replica(&self, device: usize) -> Option<Snapshot> {
        let store = self.lock().stores.get(&device).cloned();
        store.and_then(|store| store.read().ok())
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Statuses = BTreeMap<ConduitId, (u64, Option<Verification>)>;

/// A core with its witness.
pub struct Watched {
    core: Core,
    device: usize,
    notes: Notes,
    /// The file of its replica.
    pages: PageFile,
    /// Calls that had changed that file when the replica was last looked at.
    calls: u64,
    /// The own state that was noted last.
    state: Option<HeadRef>,
    /// The newest status of each generation that was noted, by conduit.
    statuses: Statuses,
}

impl Watched {
    /// Puts a witness beside the core of a device. `first` is what the core wished when it was made.
    pub fn new(core: Core, device: usize, (notes, pages): (Notes, PageFile), now: Now, first: &[Output]) -> Self {
        notes.lock().stores.insert(device, core.store().clone());
        let mut watched = Self { core, device, notes, pages, calls: 0, state: None, statuses: Statuses::new() };
        // What an earlier incarnation has brought about is no news.
        watched.statuses = watched.newest_statuses();
        watched.after(now, 0, 0, first);
        watched
    }

    /// The replica.
    pub const fn store(&self) -> &Store {
        self.core.store()
    }

    fn note(&self, now: Now, said: Said) {
        self.notes.lock().notes.push(Noted { device: self.device, now, said });
    }

    fn before(&self, now: Now, input: &Input) {
        match input {
            Input::Resolved { result: Ok(resolved), .. } => {
                self.note(now, Said::Resolved(Box::new(resolved.plan.clone())));
            }
            Input::JobMoved { job, outcomes, .. } => {
                self.note(now, Said::Moved { job: *job, outcomes: outcomes.clone() });
            }
            Input::JobEnded { job, stopped } => self.note(now, Said::LegEnded { job: *job, stopped: *stopped }),
            Input::Hints { location, overflow: true, .. } => self.note(now, Said::Overflowed(*location)),
            _ => {}
        }
    }

    fn after(&mut self, now: Now, inputs: u64, kinds: u64, outputs: &[Output]) {
        let kinds = outputs.iter().fold(kinds, |kinds, output| crate::random::mix(kinds ^ kind_of_output(output)));
        let restless = outputs.is_empty() && self.core.next_wake().is_some_and(|at| at <= now.monotonic_ms);
        self.note(now, Said::Step { inputs, outputs: outputs.len() as u64, kinds, restless });
        // A replica whose file nobody has written to says what it said.
        let calls = self.pages.calls();
        let changed = std::mem::replace(&mut self.calls, calls) != calls || self.state.is_none();
        if changed {
            self.note_state(now);
        }
        for output in outputs {
            self.note_output(now, output);
        }
        if changed {
            self.note_statuses(now);
        }
    }

    fn note_state(&mut self, now: Now) {
        let me = self.core.device();
        let Ok(Some(author)) = self.core.store().read().and_then(|replica| replica.author(me)) else { return };
        if self.state.is_none_or(|state| state.epoch != author.epoch || state.sequence != author.upto) {
            let state = author.reference(me);
            self.state = Some(state);
            self.note(now, Said::State(state));
        }
    }

    fn note_output(&self, now: Now, output: &Output) {
        match output {
            Output::Publish(head) | Output::Respond { response: Response::Heads { own: head, .. }, .. } => {
                self.note(now, Said::Head(Box::new(head.trusted().clone())));
            }
            Output::Respond { response: Response::Rows(rows), .. } => {
                let epoch = rows.head.trusted().epoch;
                self.note(now, Said::Rows { author: rows.device, epoch, rows: rows.rows.clone() });
            }
            Output::Ask { device, request: Request::Heads { conduit, .. }, .. } => {
                self.note(now, Said::AskedHeads { owner: *device, conduit: *conduit });
            }
            Output::Resolve { synced, conduit, .. } => {
                let replica = self.core.store().read();
                let held = |head: &HeadRef| {
                    let author = replica.as_ref().ok().and_then(|replica| replica.author(head.device).ok().flatten());
                    author.map(|author| author.reference(head.device))
                };
                let token = synced.heads().to_vec();
                let replica = token.iter().filter_map(held).collect();
                let named = |end: &Root| {
                    let paths = synced.busy(end.device, end.location).iter().cloned();
                    paths.map(|path| (end.location, path)).collect::<Vec<_>>()
                };
                let busy = [&conduit.source, &conduit.target].into_iter().flat_map(named).collect();
                self.note(now, Said::Resolves { conduit: synced.conduit(), token, replica, busy });
            }
            Output::RunCopy(leg) => self.note_leg(now, leg.job, leg.location, &leg.items),
            Output::RunDelete(leg) => self.note_leg(now, leg.job, leg.location, &leg.items),
            Output::Drain { location, .. } => self.note(now, Said::AskedDisk(*location)),
            Output::Scan { location, scope, .. } => {
                self.note(now, Said::Scan { location: *location, whole: *scope == ScanScope::All });
            }
            Output::Reply { reply, .. } => self.note(now, Said::Replied(Box::new(reply.clone()))),
            _ => {}
        }
    }

    fn note_leg(&self, now: Now, job: JobKey, location: LocationId, items: &[tidegate::core::io::Work]) {
        let items = items.iter().map(|work| (work.index, work.path.clone(), work.item.clone())).collect();
        self.note(now, Said::Leg { job, location, items });
    }

    /// The newest generation of each conduit that this device runs, and its status.
    fn newest_statuses(&self) -> Statuses {
        let found = self.core.store().read().and_then(|replica| {
            let (mut found, mut below) = (Statuses::new(), None);
            // From the last conduit to the first; the last generation of each is the newest.
            while let Some(conduit) = last_conduit(&replica, below)? {
                if let Some(newest) = replica.generations(conduit, 1)?.pop() {
                    found.insert(conduit, (newest.number, newest.statuses.last().map(|(_, status)| *status)));
                }
                below = Some(conduit);
            }
            Ok(found)
        });
        found.unwrap_or_default()
    }

    fn note_statuses(&mut self, now: Now) {
        let newest = self.newest_statuses();
        for (conduit, (generation, status)) in &newest {
            let known = self.statuses.get(conduit) == Some(&(*generation, *status));
            if let Some(status) = status.filter(|_| !known) {
                self.note(now, Said::Status { conduit: *conduit, generation: *generation, status });
            }
        }
        self.statuses = newest;
    }
}

/// The last conduit before `below` of which there is a generation.
fn last_conduit(replica: &Snapshot, below: Option<ConduitId>) -> Result<Option<ConduitId>, StoreError> {
    let end = below.as_ref().map_or(Bound::Unbounded, |below| Bound::Excluded(&below.as_bytes()[..]));
    let mut found = None;
    replica.walk(Table::Generations, (Bound::Unbounded, end), Order::Backward, &mut |key, _| {
        found = key.first_chunk().map(|id| ConduitId::from_bytes(*id));
        Ok(ControlFlow::Break(()))
    })?;
    Ok(found)
}

impl Drop for Watched {
    fn drop(&mut self) {
        // The core is the last to let go of its replica.
        self.notes.lock().stores.remove(&self.device);
    }
}

impl Machine for Watched {
    type Error = CoreError;

    fn step(&mut self, now: Now, inputs: Vec<Input>, outputs: &mut Vec<Output>) -> Result<(), CoreError> {
        let count = inputs.len() as u64;
        let kinds = inputs.iter().fold(0, |kinds, input| crate::random::mix(kinds ^ kind_of_input(input)));
        for input in &inputs {
            self.before(now, input);
        }
        let begin = outputs.len();
        self.core.step(now, inputs, outputs)?;
        self.after(now, count, kinds, &outputs[begin..]);
        Ok(())
    }

    fn next_wake(&self) -> Option<u64> {
        self.core.next_wake()
    }

    fn store(&self) -> &Store {
        self.core.store()
    }
}

const fn kind_of_input(input: &Input) -> u64 {
    match input {
        Input::Command { .. } => 1,
        Input::PeerUp { .. } => 2,
        Input::PeerDown { .. } => 3,
        Input::Announcement(bytes) => 4 + ((bytes.len() as u64) << 8),
        Input::Request { .. } => 5,
        Input::Answer { result: Ok(_), .. } => 6,
        Input::Answer { result: Err(_), .. } => 7,
        Input::Paired { .. } => 8,
        Input::Root { .. } => 9,
        Input::Hints { paths, .. } => 10 + ((paths.len() as u64) << 8),
        Input::Drained { .. } => 11,
        Input::Scanned { seen, .. } => 12 + ((seen.len() as u64) << 8),
        Input::ScanEnded { .. } => 13,
        Input::JobMoved { outcomes, .. } => 14 + ((outcomes.len() as u64) << 8),
        Input::JobEnded { .. } => 15,
        Input::Resolved { .. } => 16,
        Input::Tick => 17,
        Input::Put { .. } => 18,
        Input::Trash { .. } => 19,
        Input::Audited { .. } => 20,
        Input::Probed { .. } => 21,
    }
}

const fn kind_of_output(output: &Output) -> u64 {
    match output {
        Output::Reply { .. } => 1,
        Output::Respond { .. } => 2,
        Output::Serve { .. } => 3,
        Output::Ask { .. } => 4,
        Output::Publish(_) => 5,
        Output::Members { .. } => 6,
        Output::Remember { .. } => 7,
        Output::OpenRoot { .. } => 8,
        Output::CloseRoot { .. } => 9,
        Output::Drain { .. } => 10,
        Output::Scan { .. } => 11,
        Output::RunCopy(leg) => 12 + ((leg.items.len() as u64) << 8),
        Output::RunDelete(leg) => 13 + ((leg.items.len() as u64) << 8),
        Output::Control { .. } => 14,
        Output::Clean { .. } => 15,
        Output::Resolve { .. } => 16,
        Output::Event { .. } => 17,
        Output::Audit { .. } => 18,
        Output::Trash { .. } => 19,
        Output::Put(_) => 20,
        Output::KeepTexts(_) => 21,
        Output::ReadContent(_) => 22,
        Output::Replay(_) => 23,
    }
}
