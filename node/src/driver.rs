//! Drives the core: collects inputs, steps, and sets outputs going. It decides nothing.
//!
//! One task owns the core. Inputs come by one bounded inbox; whoever reports waits for room, and the driver
//! itself never waits for anybody, so nothing can lock up. Outputs of a step are performed in order after the
//! step has returned, when its transaction is durable. A replica that fails ends the node: what it said last
//! cannot be trusted.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_channel::Receiver;
use bytes::Bytes;
use tidegate_protocol::codec;
use tidegate_protocol::file_sync::JobKey;
use tidegate_protocol::id::{DeviceId, LibraryId, LocationId};
use tidegate_storage::store::{Store, StoreError};

use crate::core::command::{Command, Fault, Reply};
use crate::core::io::{Input, JobStop, Output, Work};
use crate::core::{Core, CoreError};
use crate::env::{Clock, Env, Network, Now, Spawn};
use crate::events::Stream;
use crate::jobs::wait::{First, race};
use crate::jobs::{self, Context, Control, Counters, Decided, IndexView, Shared, Unresolved};

/// Inputs that may wait. The largest are batches of a scan, of some hundred kilobytes each.
const INBOX_MAX: usize = 256;

/// Inputs of one step, and so of one transaction.
const INPUTS_PER_STEP_MAX: usize = 256;

/// What is driven: the core; in tests, a script.
pub trait Machine: Send + 'static {
    /// Why it cannot go on.
    type Error: From<StoreError> + Send;

    /// Takes a batch of inputs; what it pushes to `outputs` may happen once it has returned.
    fn step(&mut self, now: Now, inputs: Vec<Input>, outputs: &mut Vec<Output>) -> Result<(), Self::Error>;

    /// When it wants an [`Input::Tick`] if nothing else happens, in monotonic milliseconds.
    fn next_wake(&self) -> Option<u64>;

    /// The replica, for snapshots.
    fn store(&self) -> &Store;
}

/// Lets devices in: called with the library and exactly the devices that belong to it, without this one.
pub type Admit = Box<dyn FnMut(LibraryId, BTreeSet<DeviceId>) + Send>;

/// The task that owns the core.
pub struct Driver<E: Env, M: Machine> {
    machine: M,
    inbox: Receiver<Input>,
    context: Context<E>,
    admit: Admit,
}

/// The way to a running core, for whoever brings it inputs. Cheap to clone.
pub struct Handle<E: Env>(Context<E>);

impl<E: Env> Clone for Handle<E> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<E: Env> Handle<E> {
    /// Has the core carry out a command, and waits for its answer.
    pub async fn command(&self, command: Command) -> Result<Reply, Fault> {
        self.0.command(command).await
    }

    /// Brings an input, waiting for room. False if the node has ended.
    pub async fn send(&self, input: Input) -> bool {
        self.0.tell(input).await
    }

    /// Brings an input that may be lost, such as gossip; drops it when there is no room.
    pub fn offer(&self, input: Input) {
        let _ = self.0.inbox.try_send(input);
    }

    /// Serves a stream that a member opened.
    pub fn accept(&self, stream: <E::Network as Network>::Stream) {
        let context = Arc::clone(&self.0);
        self.0.spawn(jobs::answer(context, stream));
    }

    /// The stream of what happens.
    pub fn events(&self) -> &Stream {
        &self.0.events
    }

    /// What was refused so far.
    pub fn counters(&self) -> &Counters {
        &self.0.counters
    }

    /// Ends the node after the inputs that wait already.
    pub fn stop(&self) {
        self.0.inbox.close();
    }
}

impl<E: Env, M: Machine> Driver<E, M> {
    /// A driver that has not started, and the handle to it.
    pub fn new(env: E, machine: M, admit: Admit) -> (Self, Handle<E>) {
        let (sender, inbox) = async_channel::bounded(INBOX_MAX);
        let context = Arc::new(Shared::new(env, machine.store().device(), sender));
        let handle = Handle(Arc::clone(&context));
        (Self { machine, inbox, context, admit }, handle)
    }

    /// Performs `first` (what the core wished when it was made), then drives until [`Handle::stop`] or until
    /// the core cannot go on.
    pub async fn run(mut self, first: Vec<Output>) -> Result<(), M::Error> {
        let result = self.drive(first).await;
        // Jobs end at their next report; whoever waits for an answer is told that there is none.
        self.inbox.close();
        self.context.commands.close();
        self.context.requests.close();
        self.context.roots.close_all();
        self.context.events.close();
        result
    }

    async fn drive(&mut self, first: Vec<Output>) -> Result<(), M::Error> {
        self.perform_all(first)?;
        while let Some(inputs) = collect(&self.inbox, self.context.env.clock(), self.machine.next_wake()).await {
            if let Some(error) = self.context.broken() {
                return Err(error.into());
            }
            let mut outputs = Vec::new();
            self.machine.step(self.context.env.clock().now(), inputs, &mut outputs)?;
            self.perform_all(outputs)?;
        }
        self.context.broken().map_or(Ok(()), |error| Err(error.into()))
    }

    fn perform_all(&mut self, outputs: Vec<Output>) -> Result<(), M::Error> {
        outputs.into_iter().try_for_each(|output| self.perform(output))
    }

    fn perform(&mut self, output: Output) -> Result<(), M::Error> {
        let context = &self.context;
        match output {
            Output::Reply { ticket, reply } => context.commands.answer(ticket, reply),
            Output::Respond { ticket, response } => context.requests.answer(ticket, Decided::Respond(response)),
            Output::Serve { ticket, location, reads, conduit, bandwidth_limit } => {
                let pace = context.paces.of(conduit, bandwidth_limit);
                context.requests.answer(ticket, Decided::Serve { location, reads, pace });
            }
            Output::Ask { ticket, device, request } => {
                let asking = Arc::clone(context);
                context.spawn(async move {
                    let result = jobs::ask(&asking.env, device, &request).await;
                    asking.tell(Input::Answer { ticket, result }).await;
                });
            }
            Output::Publish(head) => context.env.network().publish(Bytes::from(codec::encode(&head))),
            Output::Members { library, devices } => (self.admit)(library, devices),
            Output::Remember { device, address } => context.env.network().remember(device, address),
            Output::OpenRoot { location, root, identity } => {
                let barriers = context.roots.open(location);
                context.spawn(jobs::keep(Arc::clone(context), location, root, identity, barriers));
            }
            Output::CloseRoot { location } => context.roots.close(location),
            Output::Drain { location, barrier } => context.roots.drain(location, barrier),
            Output::Scan { location, scope, deep } => {
                let index = IndexView::of(self.machine.store(), location)?;
                context.spawn(jobs::scan(Arc::clone(context), location, scope, deep, index));
            }
            Output::RunCopy(leg) => {
                let index = self.index_for(leg.location, &leg.items)?;
                run_leg(context, leg.job, |control| jobs::copy(Arc::clone(context), leg, control, index));
            }
            Output::RunDelete(leg) => {
                let index = self.index_for(leg.location, &leg.items)?;
                run_leg(context, leg.job, |control| jobs::delete(Arc::clone(context), leg, control, index));
            }
            Output::Put(leg) => {
                let index = self.index_for(leg.location, &leg.items)?;
                context.spawn(jobs::put(Arc::clone(context), leg, index));
            }
            Output::KeepTexts(wanted) => context.spawn(jobs::keep_texts(Arc::clone(context), wanted)),
            Output::ReadContent(wanted) => context.spawn(jobs::read_content(Arc::clone(context), wanted)),
            Output::Replay(work) => {
                let replaying = Arc::clone(context);
                context.spawn(async move {
                    let ticket = work.ticket;
                    let reply = replaying.env.spawner().compute(move || jobs::replay(*work)).await;
                    replaying.commands.answer(ticket, reply);
                });
            }
            Output::Control { job, control } => context.controls.set(&job, control),
            Output::Clean { location, job, purge } => {
                context.spawn(jobs::clean(Arc::clone(context), location, job, purge));
            }
            Output::Event { at_ms, event } => context.events.publish(at_ms, *event),
            Output::Audit { ticket, location, items } => {
                context.spawn(jobs::audit(Arc::clone(context), ticket, location, items));
            }
            Output::Trash { ticket, location, work } => {
                context.spawn(jobs::trash(Arc::clone(context), ticket, location, work));
            }
            Output::Resolve { ticket, synced, conduit, baseline, previous, guards, facts, why, keep } => {
                // Taken here, before the next step: it holds exactly what the token speaks of.
                let snapshot = self.machine.store().read()?;
                let work = move || {
                    let known =
                        jobs::Known { baseline: baseline.as_ref(), previous: previous.as_deref(), facts: &facts };
                    jobs::resolve(&snapshot, synced, &conduit, &known, guards, why.as_ref(), keep)
                };
                let resolving = Arc::clone(context);
                context.spawn(async move {
                    let result = match resolving.env.spawner().compute(work).await {
                        Ok(resolved) => Ok(Box::new(resolved)),
                        Err(Unresolved::Store(error)) => return resolving.broke(error),
                        Err(error) => Err(error.to_string()),
                    };
                    resolving.tell(Input::Resolved { ticket, result }).await;
                });
            }
        }
        Ok(())
    }

    /// The index as legs may see it; a snapshot is kept open only for legs that ask.
    fn index_for(&self, location: LocationId, items: &[Work]) -> Result<IndexView, StoreError> {
        if items.iter().any(jobs::needs_index) {
            IndexView::of(self.machine.store(), location)
        } else {
            Ok(IndexView::empty())
        }
    }
}

/// Starts a leg, unless one of that job runs: a repeated wish changes nothing. However a leg ends, it is said.
fn run_leg<E, F>(context: &Context<E>, job: JobKey, start: impl FnOnce(Control) -> F)
where
    E: Env,
    F: Future<Output = Option<JobStop>> + Send + 'static,
{
    let Some(control) = context.controls.begin(job) else { return };
    let leg = context.guard(start(control));
    let ending = Arc::clone(context);
    context.spawn(async move {
        // A leg that panicked did not lose its source, but what is done about it is the same: it is taken up again.
        let stopped = leg.await.unwrap_or(Some(JobStop::Unreachable));
        ending.let_go(&job).await;
        ending.controls.end(&job);
        ending.tell(Input::JobEnded { job, stopped }).await;
    });
}

/// Waits for inputs, or for the time at which the core wants to be woken. `None` at the end.
async fn collect(inbox: &Receiver<Input>, clock: &impl Clock, wake: Option<u64>) -> Option<Vec<Input>> {
    let first = match wake {
        None => inbox.recv().await.ok()?,
        Some(at) => {
            let wait = Duration::from_millis(at.saturating_sub(clock.now().monotonic_ms));
            match race(inbox.recv(), clock.sleep(wait)).await {
                First::Left(input) => input.ok()?,
                First::Right(()) => Input::Tick,
            }
        }
    };
    let mut inputs = vec![first];
    while inputs.len() < INPUTS_PER_STEP_MAX {
        let Ok(input) = inbox.try_recv() else { break };
        inputs.push(input);
    }
    Some(inputs)
}

impl Machine for Core {
    type Error = CoreError;

    fn step(&mut self, now: Now, inputs: Vec<Input>, outputs: &mut Vec<Output>) -> Result<(), CoreError> {
        Self::step(self, now, inputs, outputs)
    }

    fn next_wake(&self) -> Option<u64> {
        Self::next_wake(self)
    }

    fn store(&self) -> &Store {
        Self::store(self)
    }
}
