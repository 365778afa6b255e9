//! The seam between what decides and what happens: clock, entropy, tasks, network and disk.
//!
//! Production implements it in `os` (feature `os`); the simulator implements it over one seed. Jobs are
//! written against [`Env`] alone. Drivers behind it decide nothing.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use tidegate_protocol::id::DeviceId;
use tidegate_storage::disk::FileSystem;

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

    /// Time.
    fn clock(&self) -> &Self::Clock;
    /// Tasks and CPU work.
    fn spawner(&self) -> &Self::Spawn;
    /// Other devices.
    fn network(&self) -> &Self::Network;
    /// The disk.
    fn disk(&self) -> &Self::FileSystem;
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
}

/// Other devices of the library. Only members are ever reached or heard through it.
pub trait Network: Clone + Send + Sync + 'static {
    /// A stream of frames.
    type Stream: Stream;

    /// Gossips an announcement to whoever is in the mesh. Best effort; correctness never depends on it.
    fn publish(&self, announcement: Bytes);

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
