//! One device's world behind the seam: [`tidegate::env::Env`] over simulated parts.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use tidegate::env::{Env, Spawn};

use crate::clock::{Chip, SimClock};
use crate::disk::{Moment, SimFileSystem, Surroundings};
use crate::executor::{Handle, MILLI, Nanos, lock};
use crate::network::SimNetwork;
use crate::random::Stream;
use crate::watch::SimWatch;

/// The world as one incarnation of a device sees it. Cheap to clone.
#[derive(Clone)]
pub struct SimEnv(Arc<Parts>);

struct Parts {
    clock: SimClock,
    spawner: SimSpawn,
    network: SimNetwork,
    disk: SimFileSystem,
    watch: SimWatch,
    entropy: Mutex<Stream>,
}

impl SimEnv {
    /// Puts the parts together.
    pub fn new(
        clock: SimClock,
        spawner: SimSpawn,
        network: SimNetwork,
        disk: SimFileSystem,
        watch: SimWatch,
        entropy: Stream,
    ) -> Self {
        Self(Arc::new(Parts { clock, spawner, network, disk, watch, entropy: Mutex::new(entropy) }))
    }
}

impl Env for SimEnv {
    type Clock = SimClock;
    type Spawn = SimSpawn;
    type Network = SimNetwork;
    type FileSystem = SimFileSystem;
    type Watch = SimWatch;

    fn clock(&self) -> &SimClock {
        &self.0.clock
    }

    fn spawner(&self) -> &SimSpawn {
        &self.0.spawner
    }

    fn network(&self) -> &SimNetwork {
        &self.0.network
    }

    fn disk(&self) -> &SimFileSystem {
        &self.0.disk
    }

    fn watch(&self) -> &SimWatch {
        &self.0.watch
    }

    fn entropy(&self) -> [u8; 32] {
        lock(&self.0.entropy).bytes32()
    }
}

/// Longest that a piece of CPU work takes.
const WORK_MAX: Nanos = 2 * MILLI;

/// Tasks of one incarnation. CPU work is done at once, after a moment in which others may go on.
#[derive(Clone)]
pub struct SimSpawn {
    handle: Handle,
    moments: Arc<Mutex<Stream>>,
}

impl SimSpawn {
    /// Starts tasks in the group of `handle`.
    pub fn new(handle: Handle, moments: Stream) -> Self {
        Self { handle, moments: Arc::new(Mutex::new(moments)) }
    }
}

impl Spawn for SimSpawn {
    fn spawn<F>(&self, job: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.handle.spawn(job);
    }

    async fn compute<T, F>(&self, work: F) -> T
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let moment = lock(&self.moments).below(WORK_MAX);
        self.handle.sleep_until(self.handle.now() + moment).await;
        work()
    }

    fn width(&self) -> usize {
        2
    }
}

/// What a disk needs of the world: its clock, and time that passes during slow calls.
pub(crate) struct Around {
    pub(crate) handle: Handle,
    pub(crate) chip: Chip,
}

impl Surroundings for Around {
    fn moment(&self) -> Moment {
        let now = self.handle.now();
        Moment { monotonic_ns: now, wall_ns: self.chip.wall_ns(now) }
    }

    fn sleep(&self, span_ns: u64) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(self.handle.sleep_until(self.handle.now() + span_ns))
    }
}
