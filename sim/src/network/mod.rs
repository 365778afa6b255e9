//! The simulated network: what [`tidegate::env::Network`] promises, and nothing better.
//!
//! | module | what |
//! |---|---|
//! | [`weather`] | latency, loss, repeats, delays, bandwidth |
//! | `links` | connections: dialling, idle time, cuts, restarts |
//! | `stream` | frames in order, with back pressure |
//! | `gossip` | announcements, best effort at its worst |
//!
//! Not here: QUIC, TLS, multicast, the mesh's own protocol. A device is let in if and only if both ends name each
//! other as members, which is what the TLS handshake proves in production (`node/tests/net.rs`).

mod gossip;
mod links;
mod state;
mod stream;
pub mod weather;

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};

use async_channel::Receiver;
use bytes::Bytes;
use tidegate::env::{Network, NetworkError};
use tidegate_protocol::id::{DeviceId, LibraryId};

use self::state::{Channel, Life, Node, STREAMS_MAX, State};
use self::stream::{Pipe, StreamKey};
use self::weather::Weather;
use crate::executor::{Handle, MILLI, lock};
use crate::happening::{DeviceIndex, Ear, What};
use crate::random::Draws;

pub use self::stream::SimStream;

/// Where every device listens, on an address of its own.
const PORT: u16 = 7447;
/// How long opening a stream may wait for room.
const OPEN_TRIES: u32 = 100;
/// Time between two tries.
const OPEN_TRY_MS: u64 = 100;

/// What happens to a device on the network.
pub enum NetworkEvent {
    /// A member is connected.
    PeerUp {
        /// Which.
        device: DeviceId,
        /// Where it is.
        address: SocketAddr,
    },
    /// The last connection to a member ended.
    PeerDown {
        /// Which.
        device: DeviceId,
    },
    /// A member gossiped something.
    Announcement(Bytes),
    /// A member opened a stream; its first frame is there.
    Incoming(SimStream),
}

/// How a device leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It says good-bye.
    Told,
    /// It is gone.
    PowerCut,
}

/// What a device has sent and received since the world began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Streams it opened.
    pub streams_opened: u64,
    /// Frames it sent.
    pub frames_sent: u64,
    /// Bytes in them.
    pub bytes_sent: u64,
    /// Heads it gossiped.
    pub gossip_sent: u64,
    /// Heads that came by gossip.
    pub gossip_received: u64,
}

/// The network of a world. Cheap to clone.
#[derive(Clone)]
pub struct Net {
    state: Arc<Mutex<State>>,
    /// For what happens by itself.
    world: Handle,
}

impl Net {
    /// A network without devices, under one weather.
    pub fn new(world: Handle, draws: Draws, weather: Weather, ear: Ear) -> Self {
        Self { state: Arc::new(Mutex::new(State::new(draws, weather, ear))), world }
    }

    /// Makes a place for a device, and says where it is.
    pub fn add(&self, id: DeviceId) -> DeviceIndex {
        let mut state = self.lock();
        let index = state.nodes.len() as DeviceIndex;
        let [.., third, fourth] = index.to_be_bytes();
        let address = SocketAddr::from((Ipv4Addr::new(10, 0, third, fourth.wrapping_add(1)), PORT));
        state.nodes.push(Node { id, address, multicast: true, life: None, traffic: Traffic::default() });
        index
    }

    /// Where a device is.
    pub fn address(&self, device: DeviceIndex) -> SocketAddr {
        self.lock().nodes[device as usize].address
    }

    /// A device learns where another one is, as by pairing.
    pub fn introduce(&self, device: DeviceIndex, other: DeviceIndex) {
        let (id, address) = {
            let state = self.lock();
            let node = &state.nodes[other as usize];
            (node.id, node.address)
        };
        self.learn(device, id, address);
    }

    /// Whether multicast shows a device to others, and others to it.
    pub fn set_multicast(&self, device: DeviceIndex, on: bool) {
        self.lock().nodes[device as usize].multicast = on;
    }

    /// An incarnation of a device comes up: its network, and what will happen on it.
    pub fn start(&self, device: DeviceIndex, handle: &Handle) -> (SimNetwork, Receiver<NetworkEvent>) {
        let (events, happened) = async_channel::unbounded();
        let mut state = self.lock();
        state.nodes[device as usize].life = Some(Life {
            handle: handle.clone(),
            events,
            members: BTreeSet::new(),
            library: None,
            known: std::collections::BTreeMap::new(),
            dials: std::collections::BTreeMap::new(),
        });
        self.came_up(&mut state, device, self.world.now());
        drop(state);
        (SimNetwork { net: self.clone(), device, handle: handle.clone() }, happened)
    }

    /// The incarnation of a device that is up goes down.
    pub fn end(&self, device: DeviceIndex, how: Ending) {
        let mut state = self.lock();
        // Taken first: nobody is left who could hear of what follows. Dropped last, without the lock: streams that
        // nobody took are in there.
        let Some(life) = state.nodes[device as usize].life.take() else { return };
        self.went_down(&mut state, device, life.handle.group().incarnation, how, self.world.now());
        drop(state);
        drop(life);
    }

    /// The weather everywhere, from now on.
    pub fn set_weather(&self, weather: Weather) {
        self.lock().set_weather(weather);
    }

    /// The weather of one direction, from now on.
    pub fn set_way(&self, from: DeviceIndex, to: DeviceIndex, weather: Weather) {
        self.lock().way(from, to).weather = weather;
    }

    /// Nothing goes from one device to another any more.
    pub fn cut(&self, from: DeviceIndex, to: DeviceIndex) {
        self.set_cut(from, to, true);
    }

    /// It does again.
    pub fn mend(&self, from: DeviceIndex, to: DeviceIndex) {
        self.set_cut(from, to, false);
    }

    /// Cuts every way between devices of different sides, and mends the others. Devices on no side are alone.
    pub fn partition(&self, sides: &[Vec<DeviceIndex>]) {
        let count = self.lock().nodes.len() as DeviceIndex;
        for from in 0..count {
            for to in (0..count).filter(|to| *to != from) {
                let together = sides.iter().any(|side| side.contains(&from) && side.contains(&to));
                self.set_cut(from, to, !together);
            }
        }
    }

    /// Mends every way.
    pub fn mend_all(&self) {
        let count = self.lock().nodes.len() as DeviceIndex;
        self.partition(&[(0..count).collect()]);
    }

    /// Breaks every connection between two devices; the ways stay as they are.
    pub fn break_connections(&self, a: DeviceIndex, b: DeviceIndex) {
        self.break_between(a, b);
    }

    /// Whether a device has a connection to another, as far as it knows.
    pub fn is_connected(&self, device: DeviceIndex, peer: DeviceIndex) -> bool {
        !self.lock().open_ends(device, peer).is_empty()
    }

    /// What a device has sent and received.
    pub fn traffic(&self, device: DeviceIndex) -> Traffic {
        self.lock().nodes[device as usize].traffic
    }

    /// Streams that are open, over all devices.
    pub fn streams(&self) -> usize {
        self.lock().connections.values().map(|connection| connection.channels.len()).sum()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

/// The network as one incarnation of a device uses it.
#[derive(Clone)]
pub struct SimNetwork {
    net: Net,
    device: DeviceIndex,
    handle: Handle,
}

impl SimNetwork {
    /// Lets in exactly these devices from now on, and gossips among the members of `library`.
    pub fn allow(&self, library: LibraryId, members: &BTreeSet<DeviceId>) {
        if self.handle.lives() {
            self.net.allow(self.device, library, members);
        }
    }

    /// Opens a stream, or says that there is no room yet.
    fn try_open(&self, peer: DeviceIndex, id: DeviceId) -> Result<Option<SimStream>, NetworkError> {
        let mut state = self.net.lock();
        let (number, end) = state.preferred(self.device, peer).ok_or(NetworkError::Disconnected)?;
        let connection = state.connections.get(&number).expect("the preferred one exists");
        if connection.channels.values().filter(|channel| channel.opener == end).count() >= STREAMS_MAX {
            return Ok(None);
        }
        state.streams_made += 1;
        let stream = state.streams_made;
        let mut held = [false; 2];
        held[end] = true;
        let pipes = [Pipe::default(), Pipe::default()];
        let channel = Channel { opener: end, pipes, held, announced: false, accepted: false };
        let connection = state.connections.get_mut(&number).expect("the preferred one exists");
        connection.channels.insert(stream, channel);
        state.nodes[self.device as usize].traffic.streams_opened += 1;
        state.ear.hear(self.handle.now(), self.device, What::Opened { peer });
        drop(state);
        let key = StreamKey { connection: number, stream, end };
        Ok(Some(SimStream::new(self.net.clone(), self.handle.clone(), key, id)))
    }
}

impl Network for SimNetwork {
    type Stream = SimStream;

    fn publish(&self, announcement: Bytes) {
        if self.handle.lives() {
            self.net.gossip(self.device, &announcement);
        }
    }

    fn remember(&self, device: DeviceId, address: SocketAddr) {
        if self.handle.lives() {
            self.net.learn(self.device, device, address);
        }
    }

    async fn open(&self, device: DeviceId) -> Result<SimStream, NetworkError> {
        let peer = self.net.lock().index_of(device).ok_or(NetworkError::Disconnected)?;
        for _ in 0..OPEN_TRIES {
            if let Some(stream) = self.try_open(peer, device)? {
                return Ok(stream);
            }
            self.handle.sleep_until(self.handle.now() + OPEN_TRY_MS * MILLI).await;
        }
        Err(NetworkError::TimedOut)
    }
}

#[cfg(test)]
mod tests;
