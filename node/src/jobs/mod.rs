//! Sequences: what takes many steps over disk and wire. Plain `async fn`s over one [`Env`].
//!
//! A job gets a description of its work, never the replica, and reports by [`Input`]s. It decides nothing that
//! the core could decide. Every `.await` is a point at which a user's edit or a crash may fall.
//!
//! A job that cannot report any more (the driver is gone) ends at its next report.

mod answer;
mod apply;
mod ask;
mod audit;
mod clean;
mod content;
mod control;
mod copy;
mod delete;
mod evict;
mod fetch;
mod in_hand;
mod index;
mod pace;
mod put;
mod replay;
mod resolve;
mod room;
mod roots;
mod scan;
mod serve;
mod texts;
mod tickets;
mod trash;
pub(crate) mod wait;

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use async_channel::Sender;

use tidegate_protocol::file_sync::JobKey;
use tidegate_protocol::id::DeviceId;
use tidegate_storage::store::StoreError;

pub(crate) use answer::{Decided, answer};
pub(crate) use apply::needs_index;
pub(crate) use ask::ask;
pub(crate) use audit::audit;
pub(crate) use clean::clean;
pub(crate) use content::read_content;
pub(crate) use control::{Control, Controls};
pub(crate) use copy::copy;
pub(crate) use delete::delete;
use in_hand::InHand;
pub(crate) use index::IndexView;
use pace::Paces;
pub(crate) use put::put;
pub(crate) use replay::replay;
pub(crate) use resolve::{Known, Unresolved, resolve};
use room::Rooms;
pub(crate) use roots::{Roots, keep};
pub(crate) use scan::scan;
pub(crate) use texts::keep_texts;
pub(crate) use tickets::Tickets;
pub(crate) use trash::trash;

use crate::core::command::{Command, Fault, FaultCode, Reply};
use crate::core::io::Input;
use crate::env::{Clock, Env, Spawn};
use crate::events::Stream;

/// What every job of a node shares.
pub(crate) struct Shared<E: Env> {
    /// The world.
    pub(crate) env: E,
    /// This device.
    pub(crate) device: DeviceId,
    /// The way to the core. Bounded: whoever reports waits for room.
    pub(crate) inbox: Sender<Input>,
    /// The roots that are held open.
    pub(crate) roots: Roots<E>,
    /// Commands that wait for a reply.
    pub(crate) commands: Tickets<Result<Reply, Fault>>,
    /// Requests that wait for a decision.
    pub(crate) requests: Tickets<Decided>,
    /// Legs that run.
    pub(crate) controls: Controls,
    /// Bandwidth limits, by conduit.
    pub(crate) paces: Paces,
    /// Room that running legs have taken.
    pub(crate) rooms: Arc<Rooms>,
    /// Who listens to what happens.
    pub(crate) events: Stream,
    /// What they put in place just now.
    in_hand: InHand,
    /// What was refused.
    pub(crate) counters: Counters,
    /// Why the replica cannot be read any more.
    broken: Mutex<Option<StoreError>>,
}

/// A handle on [`Shared`].
pub(crate) type Context<E> = Arc<Shared<E>>;

/// Counts of what jobs refused.
#[derive(Debug, Default)]
pub struct Counters {
    /// Frames that were no request.
    pub undecodable: AtomicU64,
    /// Jobs that ended by a panic.
    pub panicked: AtomicU64,
}

impl<E: Env> Shared<E> {
    /// What the jobs of `device` share, reporting to `inbox`.
    pub(crate) fn new(env: E, device: DeviceId, inbox: Sender<Input>) -> Self {
        // Two starts within a millisecond do not happen, and a clock that was set back makes a gap at most.
        let events = Stream::new(env.clock().now().wall_ms);
        Self {
            events,
            env,
            device,
            inbox,
            roots: Roots::default(),
            commands: Tickets::default(),
            requests: Tickets::default(),
            controls: Controls::default(),
            paces: Paces::default(),
            rooms: Arc::default(),
            in_hand: InHand::default(),
            counters: Counters::default(),
            broken: Mutex::default(),
        }
    }

    /// Reports to the core; false when there is no core any more.
    pub(crate) async fn tell(&self, input: Input) -> bool {
        self.inbox.send(input).await.is_ok()
    }

    /// A leg has nothing in hand any more: what its report did not see to is looked at now.
    pub(crate) async fn let_go(&self, job: &JobKey) {
        if let Some((location, paths)) = self.in_hand.release(job) {
            self.tell(Input::Hints { location, paths, overflow: false }).await;
        }
    }

    /// Has the core carry out a command, and waits for its answer.
    pub(crate) async fn command(&self, command: Command) -> Result<Reply, Fault> {
        let waiting = self.commands.open();
        let ticket = waiting.ticket();
        if !self.tell(Input::Command { ticket, command }).await {
            return Err(ended());
        }
        waiting.wait().await.unwrap_or_else(|| Err(ended()))
    }

    /// The replica cannot be read: the node is to end.
    pub(crate) fn broke(&self, error: StoreError) {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        self.inbox.close();
    }

    /// Why the replica cannot be read, once.
    pub(crate) fn broken(&self) -> Option<StoreError> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl<E: Env> Shared<E> {
    /// Runs a job beside the caller. A job that panics is over, and counted; the node lives.
    pub(crate) fn spawn(self: &Arc<Self>, job: impl Future<Output = ()> + Send + 'static) {
        let guarded = self.guard(job);
        self.env.spawner().spawn(async move {
            guarded.await;
        });
    }

    /// Runs a job; `None` if it panicked.
    pub(crate) fn guard<T>(
        self: &Arc<Self>,
        job: impl Future<Output = T> + Send + 'static,
    ) -> impl Future<Output = Option<T>> + Send + 'static {
        let context = Arc::clone(self);
        let mut job = Box::pin(job);
        std::future::poll_fn(move |cx| {
            if let Ok(poll) = catch_unwind(AssertUnwindSafe(|| job.as_mut().poll(cx))) {
                return poll.map(Some);
            }
            context.counters.panicked.fetch_add(1, Ordering::Relaxed);
            tracing::error!("a job ended by a panic; this is a bug");
            Poll::Ready(None)
        })
    }
}

fn ended() -> Fault {
    Fault {
        code: FaultCode::Internal,
        message: "the node is ending; it is not known whether the command was carried out".to_owned(),
        why: "it was stopped, or its replica failed".to_owned(),
        next: vec!["start it again and look at the status".to_owned()],
        do_not: None,
    }
}
