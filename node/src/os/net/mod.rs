//! The network as members see it: QUIC streams of frames, announcements, discovery, pairing.
//!
//! [`OsNetwork`] is the production [`crate::env::Network`]. It decides nothing about libraries: whoever starts it
//! says who the members are ([`OsNetwork::allow`]) and hears of everything else as [`NetworkEvent`]s. A device
//! that is not a member ends inside the TLS handshake; the one door for strangers is [`pairing`].
//!
//! | module | what |
//! |---|---|
//! | [`identity`] | the key file; device id and libp2p name |
//! | `tls` | who is let in, inside the handshake |
//! | `endpoint`, `accept`, `dial`, `links`, `addresses` | sockets and connections |
//! | `stream` | frames |
//! | `mesh` | libp2p: multicast discovery, gossiped announcements |
//! | [`pairing`] | how a stranger becomes a member |

mod accept;
mod addresses;
mod counters;
mod dial;
mod endpoint;
pub mod identity;
mod links;
mod mesh;
pub mod pairing;
mod start;
mod stream;
mod tls;

use std::collections::BTreeSet;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tidegate_protocol::id::{DeviceId, LibraryId};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

pub use self::counters::{Counters, Reject};
pub use self::start::{NetworkOptions, StartError};
pub use self::stream::OsStream;

use self::addresses::{Addresses, Origin};
use self::links::{CloseCode, Link, Links};
use self::pairing::Paired;
use self::pairing::door::{Burned, Door};
use self::tls::{Members, Tls};
use crate::env::{Network, NetworkError};

/// Longest wait for a stream to open or a ping to return.
const OPEN_MAX: Duration = Duration::from_secs(10);
/// Longest wait for connections to say good-bye.
const SHUTDOWN_MAX: Duration = Duration::from_secs(2);

/// Time limits towards peers. A peer never suggests any of them.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    /// A connection without a sign of life ends after this.
    pub idle: Duration,
    /// A handshake must be done within this.
    pub handshake: Duration,
    /// The first frame of a stream that a peer opened must be whole within this.
    pub first_frame: Duration,
    /// Any other frame must be whole within this, counted from its first byte.
    pub frame: Duration,
    /// Inside a frame some byte must arrive within this.
    pub stall: Duration,
    /// A peer must take some byte of what is sent within this.
    pub send_stall: Duration,
    /// One attempt to prove a pairing code must be done within this.
    pub pairing: Duration,
    /// A pairing code lives this long.
    pub code: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(30),
            handshake: Duration::from_secs(10),
            first_frame: Duration::from_secs(10),
            frame: Duration::from_mins(1),
            stall: Duration::from_secs(10),
            send_stall: Duration::from_mins(1),
            pairing: Duration::from_secs(10),
            code: Duration::from_millis(tidegate_protocol::limits::PAIRING_CODE_AGE_MS_MAX),
        }
    }
}

/// What happened on the network.
#[derive(Debug)]
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
    /// A member gossiped something, perhaps through others.
    Announcement {
        /// Who signed the message.
        source: DeviceId,
        /// What.
        bytes: Bytes,
    },
    /// A member opened a stream; its first frame is a request.
    Incoming(OsStream),
    /// Somebody proved the code that is shown; the code is used up. It is for the driver to let the device in.
    PairingProved(Paired),
    /// Somebody tried a wrong code.
    PairingFailed {
        /// How many more may be tried before the code is dropped.
        tries_left: u32,
    },
    /// The code is dropped, and was not used.
    PairingBurned(Burned),
}

/// A connected member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerInfo {
    /// Which.
    pub device: DeviceId,
    /// Where it is.
    pub address: SocketAddr,
    /// Round trip as QUIC sees it.
    pub rtt: Duration,
    /// Largest UDP payload in use, in bytes.
    pub payload_bytes: u16,
    /// Bytes of frames received from it since the start.
    pub bytes_received: u64,
    /// Bytes of frames sent to it since the start.
    pub bytes_sent: u64,
}

/// What the mesh of announcements is to be; the mesh follows it.
#[derive(Debug, Clone, Default)]
struct MeshWish {
    members: BTreeSet<DeviceId>,
    library: Option<LibraryId>,
    wanted: std::collections::BTreeMap<DeviceId, SocketAddr>,
}

#[derive(Debug)]
struct Shared {
    me: DeviceId,
    address: SocketAddr,
    deadlines: Deadlines,
    endpoint: quinn::Endpoint,
    server_config: quinn::ServerConfig,
    tls: Tls,
    members: Members,
    counters: Arc<Counters>,
    links: Links,
    addresses: Addresses,
    porch: Arc<accept::Porch>,
    door: Door,
    events: mpsc::Sender<NetworkEvent>,
    /// Held while presence changes and is told, so that both have one order.
    presence: tokio::sync::Mutex<()>,
    mesh_wish: watch::Sender<MeshWish>,
    announcements: mpsc::Sender<Bytes>,
    runtime: tokio::runtime::Handle,
    /// `None` once the network is shut down.
    tasks: Mutex<Option<JoinSet<()>>>,
}

impl Shared {
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(tasks) = &mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner) {
            // What has ended is let go here, so that the set does not grow.
            while tasks.try_join_next().is_some() {}
            tasks.spawn_on(task, &self.runtime);
        }
    }
}

/// The network of this device. Clones are one network; it runs until [`OsNetwork::shutdown`].
#[derive(Debug, Clone)]
pub struct OsNetwork {
    shared: Arc<Shared>,
}

impl OsNetwork {
    /// This device.
    pub fn device(&self) -> DeviceId {
        self.shared.me
    }

    /// Where this device accepts connections: UDP for QUIC, TCP for the mesh.
    pub fn local_addr(&self) -> SocketAddr {
        self.shared.address
    }

    /// Replaces the set of members. Connections to devices that are no longer in it end at once.
    pub fn allow(&self, mut members: BTreeSet<DeviceId>) {
        let shared = &self.shared;
        members.remove(&shared.me);
        shared.members.replace(members.clone());
        shared.links.close_unless(CloseCode::NotMember, |device| members.contains(&device));
        shared.mesh_wish.send_modify(|wish| wish.members = members);
        shared.addresses.members_changed(&shared.members);
    }

    /// Tries `address` for `device` from now on, beside what multicast and the configuration say.
    pub fn remember(&self, device: DeviceId, address: SocketAddr) {
        self.shared.addresses.learn(address, Some(device), Origin::Known);
    }

    /// Gossips from now on among the members of `library`.
    pub fn join_mesh(&self, library: LibraryId) {
        self.shared.mesh_wish.send_modify(|wish| wish.library = Some(library));
    }

    /// The members that are connected.
    pub fn peers(&self) -> Vec<PeerInfo> {
        let info = |link: Arc<Link>| {
            let path = link.connection.stats().path;
            PeerInfo {
                device: link.device,
                address: link.address(),
                rtt: path.rtt,
                payload_bytes: path.current_mtu,
                bytes_received: link.traffic.received.load(std::sync::atomic::Ordering::Relaxed),
                bytes_sent: link.traffic.sent.load(std::sync::atomic::Ordering::Relaxed),
            }
        };
        self.shared.links.all().into_iter().map(info).collect()
    }

    /// Devices that multicast shows, members or not. Nothing about them is proved.
    pub fn seen(&self) -> Vec<(SocketAddr, DeviceId)> {
        self.shared.addresses.seen()
    }

    /// What was refused, and how much was sent.
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// One round trip to a connected member.
    pub async fn ping(&self, device: DeviceId) -> Result<Duration, NetworkError> {
        let link = self.shared.links.preferred(device).ok_or(NetworkError::Disconnected)?;
        let began = tokio::time::Instant::now();
        let round_trip = async {
            let mut note = link.connection.open_uni().await.map_err(|_| NetworkError::Disconnected)?;
            note.write_all(b"?").await.map_err(|_| NetworkError::Disconnected)?;
            let _ = note.finish();
            // Resolves when the other end has the byte, or has said that it does not care for it.
            note.stopped().await.map_err(|_| NetworkError::Disconnected)?;
            Ok(began.elapsed())
        };
        tokio::time::timeout(OPEN_MAX, round_trip).await.unwrap_or(Err(NetworkError::TimedOut))
    }

    /// Ends all connections, telling the peers, and releases the port.
    pub async fn shutdown(&self) {
        let tasks = self.shared.tasks.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.shared.endpoint.close(CloseCode::Shutdown.into(), b"");
        if let Some(mut tasks) = tasks {
            tasks.shutdown().await;
        }
        // Peers that are gone cannot hold us up.
        let _ = tokio::time::timeout(SHUTDOWN_MAX, self.shared.endpoint.wait_idle()).await;
    }
}

impl Network for OsNetwork {
    type Stream = OsStream;

    fn publish(&self, announcement: Bytes) {
        // Best effort: with the queue full, a newer announcement will follow.
        let _ = self.shared.announcements.try_send(announcement);
    }

    fn remember(&self, device: DeviceId, address: SocketAddr) {
        Self::remember(self, device, address);
    }

    async fn open(&self, device: DeviceId) -> Result<OsStream, NetworkError> {
        let link = self.shared.links.preferred(device).ok_or(NetworkError::Disconnected)?;
        let opening = {
            let _inside = link.runtime.enter();
            tokio::time::timeout(OPEN_MAX, link.connection.open_bi())
        };
        match opening.await {
            Ok(Ok((send, receive))) => Ok(OsStream::opened(Arc::clone(&link), send, receive)),
            Ok(Err(_)) => Err(NetworkError::Disconnected),
            Err(_) => Err(NetworkError::TimedOut),
        }
    }
}
