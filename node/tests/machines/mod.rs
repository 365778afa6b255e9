//! Two nodes in one process: real disks, replicas and threads; streams in memory; a script for a core.
//!
//! The script does what a test tells it: it hands on inputs, wishes what the test wishes, and answers
//! requests by a function of the test. What the core would decide is not here.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_channel::{Receiver, Sender};
use bytes::Bytes;
use tempfile::TempDir;
use tidegate::core::io::{CopyLeg, CopySource, Input, JobStop, Output, Read, Ticket, Work, Written};
use tidegate::driver::{Driver, Handle, Machine};
use tidegate::env::{Network, NetworkError, Now, Stream};
use tidegate::os::{OsClock, OsEnv, OsSpawn, OsWatch};
use tidegate_protocol::file_sync::{
    Action, BandwidthLimit, Item, ItemOutcome, JobKey, JobKind, NameRules, PreImage, Side,
};
use tidegate_protocol::hash::ContentHash;
use tidegate_protocol::id::{ConduitId, DeviceId, LocationId, Nonce};
use tidegate_protocol::index::{FileFacts, StatMark, Version};
use tidegate_protocol::library_sync::RootState;
use tidegate_protocol::path::EntryPath;
use tidegate_protocol::wire::{Request, Response};
use tidegate_storage::disk::os::OsFileSystem;
use tidegate_storage::disk::{FileSystem, Marker, Outline, RootDir, mark_root};
use tidegate_storage::store::{Store, StoreError};

/// Longest wait for anything; only a failed test waits that long.
const PATIENCE: Duration = Duration::from_mins(1);

pub type TestEnv = OsEnv<Wires>;

/// Streams in memory. Clones share everything.
#[derive(Clone, Default)]
pub struct Wires(Arc<Wired>);

type Hook = Arc<dyn Fn(u64) + Send + Sync>;

#[derive(Default)]
struct Wired {
    nodes: Mutex<BTreeMap<DeviceId, Handle<TestEnv>>>,
    /// Bytes that arrived at whoever opened a stream.
    received: AtomicU64,
    /// Breaks every stream once that many bytes have arrived; 0 for never.
    cut_after: AtomicU64,
    /// Called with the bytes that have arrived so far, before each frame is handed over.
    on_frame: Mutex<Option<Hook>>,
}

impl Wires {
    pub fn received(&self) -> u64 {
        self.0.received.load(Ordering::SeqCst)
    }

    pub fn cut_after(&self, bytes: u64) {
        self.0.cut_after.store(bytes, Ordering::SeqCst);
    }

    pub fn on_frame(&self, hook: impl Fn(u64) + Send + Sync + 'static) {
        *self.0.on_frame.lock().unwrap() = Some(Arc::new(hook));
    }
}

pub struct Wire {
    peer: DeviceId,
    sending: Option<Sender<Bytes>>,
    receiving: Receiver<Bytes>,
    /// Set at the end that opened it.
    wires: Option<Wires>,
}

impl Network for Wires {
    type Stream = Wire;

    fn publish(&self, _announcement: Bytes) {}

    fn remember(&self, _device: DeviceId, _address: std::net::SocketAddr) {}

    async fn open(&self, device: DeviceId) -> Result<Wire, NetworkError> {
        let handle = self.0.nodes.lock().unwrap().get(&device).cloned().ok_or(NetworkError::Disconnected)?;
        let ((to, from_us), (to_us, from)) = (async_channel::bounded(8), async_channel::bounded(8));
        handle.accept(Wire { peer: id(0), sending: Some(to_us), receiving: from_us, wires: None });
        Ok(Wire { peer: device, sending: Some(to), receiving: from, wires: Some(self.clone()) })
    }
}

impl Stream for Wire {
    fn peer(&self) -> DeviceId {
        self.peer
    }

    async fn send(&mut self, frame: Bytes) -> Result<(), NetworkError> {
        let sending = self.sending.as_ref().ok_or(NetworkError::Reset)?;
        sending.send(frame).await.map_err(|_| NetworkError::Reset)
    }

    async fn receive(&mut self) -> Result<Option<Bytes>, NetworkError> {
        let Ok(frame) = self.receiving.recv().await else { return Ok(None) };
        if let Some(wires) = &self.wires {
            let hook = wires.0.on_frame.lock().unwrap().clone();
            if let Some(hook) = hook {
                hook(wires.received());
            }
            let limit = wires.0.cut_after.load(Ordering::SeqCst);
            if limit > 0 && wires.received() + frame.len() as u64 > limit {
                return Err(NetworkError::Reset);
            }
            wires.0.received.fetch_add(frame.len() as u64, Ordering::SeqCst);
        }
        Ok(Some(frame))
    }

    async fn finish(&mut self) -> Result<(), NetworkError> {
        self.sending = None;
        Ok(())
    }
}

type Decide = Box<dyn Fn(Ticket, Request) -> Output + Send>;

/// Stands in for the core.
pub struct Script {
    store: Store,
    wishes: Receiver<Output>,
    seen: Sender<Input>,
    decide: Decide,
}

impl Machine for Script {
    type Error = StoreError;

    fn step(&mut self, _now: Now, inputs: Vec<Input>, outputs: &mut Vec<Output>) -> Result<(), StoreError> {
        for input in inputs {
            match input {
                Input::Request { ticket, request, .. } => outputs.push((self.decide)(ticket, request)),
                Input::Tick => {}
                // A test that has ended reads no more.
                other => drop(self.seen.try_send(other)),
            }
        }
        while let Ok(wish) = self.wishes.try_recv() {
            outputs.push(wish);
        }
        Ok(())
    }

    fn next_wake(&self) -> Option<u64> {
        None
    }

    fn store(&self) -> &Store {
        &self.store
    }
}

/// A node over temporary directories, with one location.
pub struct Node {
    pub device: DeviceId,
    pub location: LocationId,
    pub root: PathBuf,
    pub handle: Handle<TestEnv>,
    wish: Sender<Output>,
    seen: Receiver<Input>,
    _state: TempDir,
    _directory: Option<TempDir>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.handle.stop();
    }
}

/// The world of one test.
pub struct World {
    pub runtime: tokio::runtime::Runtime,
    pub wires: Wires,
}

impl World {
    pub fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        Self { runtime, wires: Wires::default() }
    }

    /// A node that answers requests from its own disk.
    pub fn node(&self, number: u8) -> Node {
        let directory = TempDir::new().unwrap();
        let root = directory.path().to_owned();
        self.start(number, root.clone(), Some(directory), serves(number, root))
    }

    /// The same over a directory that the test looks after.
    pub fn node_on(&self, number: u8, root: &Path) -> Node {
        self.start(number, root.to_owned(), None, serves(number, root.to_owned()))
    }

    /// A node that answers requests as the test says.
    pub fn node_that(&self, number: u8, decide: impl Fn(Ticket, Request) -> Output + Send + 'static) -> Node {
        let directory = TempDir::new().unwrap();
        self.start(number, directory.path().to_owned(), Some(directory), Box::new(decide))
    }

    fn start(&self, number: u8, root: PathBuf, directory: Option<TempDir>, decide: Decide) -> Node {
        let (device, location) = (id(number), LocationId::from_bytes([number; 16]));
        let state = TempDir::new().unwrap();
        let store = Store::open(&state.path().join("replica.redb"), device).unwrap();
        let (wish, wishes) = async_channel::unbounded();
        let (saw, seen) = async_channel::unbounded();
        let spawner = OsSpawn::new(self.runtime.handle().clone(), NonZeroUsize::new(2).unwrap());
        let env = OsEnv::new(OsClock::start(), spawner, self.wires.clone(), OsWatch::new(true));
        let script = Script { store, wishes, seen: saw, decide };
        let (driver, handle) = Driver::new(env, script, Box::new(|_, _| {}));
        self.runtime.spawn(driver.run(Vec::new()));
        self.wires.0.nodes.lock().unwrap().insert(device, handle.clone());
        let node = Node { device, location, root, handle, wish, seen, _state: state, _directory: directory };
        self.open(&node);
        node
    }

    fn open(&self, node: &Node) {
        let marker = Marker { location: node.location, device: node.device, nonce: Nonce::from_bytes([7; 16]) };
        let identity = self.runtime.block_on(async {
            let root = OsFileSystem.open_root(&node.root).await.unwrap();
            mark_root(&root, marker).await.unwrap();
            root.identity().await.unwrap()
        });
        self.wish(node, Output::OpenRoot { location: node.location, root: node.root.clone(), identity });
        let probed = self.next(node);
        assert!(matches!(probed, Input::Probed { names: NameRules::POSIX, .. }), "{probed:?}");
        let opened = self.next(node);
        assert!(matches!(opened, Input::Root { state: RootState::Present, watched: true, .. }), "{opened:?}");
    }

    pub fn wish(&self, node: &Node, output: Output) {
        node.wish.try_send(output).unwrap();
        assert!(self.runtime.block_on(node.handle.send(Input::Tick)));
    }

    /// What the core is told next.
    pub fn next(&self, node: &Node) -> Input {
        self.runtime.block_on(async { tokio::time::timeout(PATIENCE, node.seen.recv()).await.unwrap().unwrap() })
    }

    /// Runs a leg to its end.
    pub fn run(&self, node: &Node, leg: CopyLeg) -> Ran {
        self.wish(node, Output::RunCopy(leg));
        self.ended(node)
    }

    /// What was reported until a leg ended.
    pub fn ended(&self, node: &Node) -> Ran {
        let mut ran = Ran::default();
        loop {
            match self.next(node) {
                Input::JobMoved { outcomes, announced, bytes_done, bytes_reused, .. } => {
                    ran.outcomes.extend(outcomes);
                    ran.announced.extend(announced);
                    ran.bytes_done += bytes_done;
                    ran.bytes_reused += bytes_reused;
                }
                Input::JobEnded { stopped, .. } => {
                    ran.stopped = stopped;
                    return ran;
                }
                // The watcher sees what the job does.
                Input::Hints { .. } => {}
                other => panic!("unexpected: {other:?}"),
            }
        }
    }
}

/// What a leg reported.
#[derive(Debug, Default)]
pub struct Ran {
    pub outcomes: BTreeMap<u32, ItemOutcome>,
    pub announced: Vec<Written>,
    pub bytes_done: u64,
    pub bytes_reused: u64,
    pub stopped: Option<JobStop>,
}

impl Ran {
    /// Asserts that every item of so many is done, and the leg was not stopped.
    pub fn all_done(&self, items: usize) {
        assert_eq!(self.stopped, None, "{self:?}");
        assert_eq!(self.outcomes.len(), items, "{self:?}");
        assert!(self.outcomes.values().all(|outcome| *outcome == ItemOutcome::Done), "{:?}", self.outcomes);
    }
}

pub fn id(number: u8) -> DeviceId {
    DeviceId::from_bytes([number; 32])
}

pub fn path(text: &str) -> EntryPath {
    EntryPath::from_slashes(text.as_bytes()).unwrap()
}

pub fn mark(file: &Path) -> StatMark {
    let stat = std::fs::symlink_metadata(file).unwrap();
    let ns = |s: i64, ns: i64| s * 1_000_000_000 + ns;
    StatMark {
        size: stat.len(),
        mtime_ns: ns(stat.mtime(), stat.mtime_nsec()),
        ctime_ns: ns(stat.ctime(), stat.ctime_nsec()),
        inode: stat.ino(),
    }
}

pub fn facts(file: &Path) -> FileFacts {
    let mark = mark(file);
    let content = ContentHash::of(&std::fs::read(file).unwrap());
    FileFacts { content, size: mark.size, mtime_ns: mark.mtime_ns, executable: false }
}

/// Bytes that do not compress and differ by seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

pub fn image(content: &[u8]) -> PreImage {
    PreImage::File { content: ContentHash::of(content), size: content.len() as u64 }
}

pub fn work(index: u32, at: &str, expect: PreImage, action: Action) -> Work {
    let item = Item { path: path(at), expect, action };
    Work { index, path: path(at), item, from: None, known: None, local: None }
}

/// The item that brings a file of a node to the same path elsewhere.
pub fn install(index: u32, from: &Node, at: &str, expect: PreImage) -> Work {
    let file = facts(&from.root.join(at));
    work(index, at, expect, Action::InstallFile { file, version: Version::NONE, from: path(at) })
}

pub fn job(node: &Node, kind: JobKind) -> JobKey {
    JobKey { conduit: ConduitId::from_bytes([9; 16]), generation: 1, device: node.device, side: Side::Target, kind }
}

pub fn leg(source: &Node, target: &Node, items: Vec<Work>) -> CopyLeg {
    CopyLeg {
        job: job(target, JobKind::Copy),
        location: target.location,
        source: CopySource::Device(source.device),
        items,
        parallel_transfers: 4,
        bandwidth_limit: BandwidthLimit::default(),
        free_bytes_min: 0,
    }
}

fn serves(number: u8, root: PathBuf) -> Decide {
    Box::new(move |ticket, request| serve(&root, LocationId::from_bytes([number; 16]), ticket, request))
}

/// What a core decides that trusts everybody: the mark is what stands on disk now.
fn serve(root: &Path, location: LocationId, ticket: Ticket, request: Request) -> Output {
    match request {
        Request::Fetch(fetch) => {
            let conduit = fetch.job.conduit;
            let reads = fetch.wants.into_iter().map(|want| {
                let mark = mark(&root.join(want.path.to_string()));
                let (offset, length, content) = (want.offset, want.length, want.content);
                Ok(Read { path: want.path, mark, content, offset, length })
            });
            Output::Serve {
                ticket,
                location,
                reads: reads.collect(),
                conduit,
                bandwidth_limit: BandwidthLimit::default(),
            }
        }
        Request::Outline { path, .. } => {
            let outline = Outline::of(&std::fs::read(root.join(path.to_string())).unwrap());
            Output::Respond { ticket, response: Response::Outline { chunks: outline.chunks().to_vec() } }
        }
        other => panic!("no test asks this: {other:?}"),
    }
}
