//! The seam between what decides and what happens: clock, entropy, tasks, network, disk and watchers.
//!
//! Production implements it in `os` (feature `os`); the simulator implements it over one seed. Jobs are
//! written against [`Env`] alone. Drivers behind it decide nothing.

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use tidegate_protocol::id::DeviceId;
use tidegate_protocol::path::EntryPath;
use tidegate_storage::disk::{FileSystem, RootDir};

/// The held roots of an environment's disk.
pub type RootOf<E> = <<E as Env>::FileSystem as FileSystem>::Root;

/// Everything a job may use of the world.
pub trait Env: Clone + Send + Sync + 'static {
    /// Time.
    type Clock: Clock;
    /// Tasks and CPU work.
    type Spawn: Spawn;
    /// Other devices.
    type Network: Network;
    /// The disk.
    type FileSystem: FileSystem;
    /// Who says what changes on it.
    type Watch: Watch<RootOf<Self>>;

    /// Time.
    fn clock(&self) -> &Self::Clock;
    /// Tasks and CPU work.
    fn spawner(&self) -> &Self::Spawn;
    /// Other devices.
    fn network(&self) -> &Self::Network;
    /// The disk.
    fn disk(&self) -> &Self::FileSystem;
    /// Who says what changes on it.
    fn watch(&self) -> &Self::Watch;
    /// 32 unpredictable bytes.
    fn entropy(&self) -> [u8; 32];
}

/// A moment: monotonic for timers, wall for stamps and people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since the node started; never goes back.
    pub monotonic_ms: u64,
    /// Unix time in milliseconds; may jump.
    pub wall_ms: u64,
}

/// Time.
pub trait Clock: Clone + Send + Sync + 'static {
    /// This moment.
    fn now(&self) -> Now;
    /// Resolves after `duration` of monotonic time.
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send;
}

/// Tasks and CPU work.
pub trait Spawn: Clone + Send + Sync + 'static {
    /// Runs a job beside the caller. Production gives it a thread on which blocking is fine.
    fn spawn<F>(&self, job: F)
    where
        F: Future<Output = ()> + Send + 'static;

    /// Runs CPU work (hashing) on a bounded pool.
    fn compute<T, F>(&self, work: F) -> impl Future<Output = T> + Send
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static;

    /// How many tasks of CPU work are worth running at the same time.
    fn width(&self) -> usize {
        1
    }
}

/// Other devices of the library. Only members are ever reached or heard through it.
pub trait Network: Clone + Send + Sync + 'static {
    /// A stream of frames.
    type Stream: Stream;

    /// Gossips an announcement to whoever is in the mesh. Best effort; correctness never depends on it.
    fn publish(&self, announcement: Bytes);

    /// A member may be reached at an address: it is tried there while it is not connected.
    fn remember(&self, device: DeviceId, address: SocketAddr);

    /// Opens a stream to a connected member.
    fn open(&self, device: DeviceId) -> impl Future<Output = Result<Self::Stream, NetworkError>> + Send;
}

/// A bidirectional stream of frames to one member, in order, with back pressure.
pub trait Stream: Send + 'static {
    /// Who is at the other end, as the transport proved it.
    fn peer(&self) -> DeviceId;
    /// Sends one frame of 1 to `FRAME_BYTES_MAX` bytes; waits for room.
    fn send(&mut self, frame: Bytes) -> impl Future<Output = Result<(), NetworkError>> + Send;
    /// Receives one frame; `None` when the other end has finished.
    fn receive(&mut self) -> impl Future<Output = Result<Option<Bytes>, NetworkError>> + Send;
    /// Says that no more frames follow; what was sent still arrives.
    fn finish(&mut self) -> impl Future<Output = Result<(), NetworkError>> + Send;
}

/// Why a peer could not be reached or heard.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// Not connected, or the connection ended.
    #[error("the device is not connected")]
    Disconnected,
    /// No progress within the time allowed.
    #[error("the device did not answer in time")]
    TimedOut,
    /// The peer broke the framing; its connection was cut.
    #[error("the device broke the protocol: {0}")]
    Protocol(String),
    /// The peer ended the stream early.
    #[error("the device ended the stream early")]
    Reset,
}

/// Watches roots.
pub trait Watch<R: RootDir>: Clone + Send + Sync + 'static {
    /// A watched root; dropping it ends the watch.
    type Watched: Watched;

    /// Watches everything below `root`, which was opened at `path`. Changes made after this returns are reported.
    fn watch(&self, root: &R, path: &Path) -> impl Future<Output = Result<Self::Watched, WatchError>> + Send;
}

/// A watched root.
pub trait Watched: Send + 'static {
    /// Waits for changes and takes all there are. Nothing is lost if the wait is given up.
    fn changes(&mut self) -> impl Future<Output = Result<Changes, WatchError>> + Send;

    /// Takes every change made before the call, however long it still has to travel.
    fn drain(&mut self) -> impl Future<Output = Result<Changes, WatchError>> + Send;
}

/// What a watcher saw. Hints, not facts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Paths that may have changed, sorted, each once.
    pub paths: Vec<EntryPath>,
    /// Events were lost: everything may have changed.
    pub overflow: bool,
}

/// Why a root is not, or no longer, watched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WatchError {
    /// Watching is switched off.
    #[error("watching is switched off")]
    Off,
    /// The system's limit of watches is reached.
    #[error("the system's limit of watches is reached (Linux: fs.inotify.max_user_watches)")]
    Limit,
    /// Anything else.
    #[error("{0}")]
    Lost(String),
}
