//! Sequences: what takes many steps over disk and wire. Plain `async fn`s over one [`Env`].
//!
//! A job gets a description of its work, never the replica, and reports by [`Input`]s. It decides nothing that
//! the core could decide. Every `.await` is a point at which a user's edit or a crash may fall.
//!
//! A job that cannot report any more (the driver is gone) ends at its next report.

mod answer;
mod ask;
mod copy;
mod control;
mod delete;
mod fetch;
mod pace;
mod roots;
mod scan;
mod serve;
mod tickets;
pub(crate) mod wait;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use async_channel::Sender;

pub(crate) use answer::{Decided, answer};
pub(crate) use ask::ask;
pub(crate) use control::{Control, Controls};
pub(crate) use copy::copy;
pub(crate) use delete::delete;
pub(crate) use roots::{Roots, keep};
pub(crate) use scan::scan;
pub(crate) use tickets::Tickets;

use crate::core::command::{Fault, Reply};
use crate::core::io::Input;
use crate::env::Env;

/// What every job of a node shares.
pub(crate) struct Shared<E: Env> {
    /// The world.
    pub(crate) env: E,
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
    /// What was refused.
    pub(crate) counters: Counters,
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
    /// Reports to the core; false when there is no core any more.
    pub(crate) async fn tell(&self, input: Input) -> bool {
        self.inbox.send(input).await.is_ok()
    }
}
