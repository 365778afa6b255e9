//! Starting the network: options, ports, tasks.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::addresses::{Addresses, Origin};
use super::counters::Counters;
use super::identity::DeviceKey;
use super::links::Links;
use super::mesh::Mesh;
use super::pairing::door::Door;
use super::tls::{Members, Tls};
use super::{Deadlines, MeshWish, NetworkEvent, OsNetwork, Shared, accept, endpoint};

/// Port 0 takes a UDP port for which TCP must be free, too; this many are tried.
const PORTS_TRIED_MAX: usize = 16;
/// Announcements that wait to be gossiped. More would only be outdated.
const ANNOUNCEMENTS_WAITING_MAX: usize = 64;

/// What the network is started with.
#[derive(Debug)]
pub struct NetworkOptions {
    /// The key of this device.
    pub key: DeviceKey,
    /// Where to accept connections; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Whether to find and be found by multicast.
    pub mdns: bool,
    /// Addresses of members that are tried in any case.
    pub peers: Vec<SocketAddr>,
    /// Time limits.
    pub deadlines: Deadlines,
}

impl NetworkOptions {
    /// Without multicast, with no fixed peers, with the default limits.
    pub fn new(key: DeviceKey, listen: SocketAddr) -> Self {
        Self { key, listen, mdns: false, peers: Vec::new(), deadlines: Deadlines::default() }
    }
}

/// Why the network did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another process listens there.
    #[error("{0} is in use by another process")]
    AddressInUse(SocketAddr),
    /// The address is not one of this machine.
    #[error("{0} is not an address of this machine")]
    AddressNotAvailable(SocketAddr),
    /// The system said no.
    #[error("cannot listen on {listen}")]
    Io {
        /// Where.
        listen: SocketAddr,
        /// What it said.
        #[source]
        source: io::Error,
    },
}

impl StartError {
    pub(super) fn new(listen: SocketAddr, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::AddrInUse => Self::AddressInUse(listen),
            io::ErrorKind::AddrNotAvailable => Self::AddressNotAvailable(listen),
            _ => Self::Io { listen, source },
        }
    }
}

impl OsNetwork {
    /// Starts the network. What happens arrives at `events`; a full queue holds back the peers.
    /// Must be called within a tokio runtime. Nobody is a member until [`OsNetwork::allow`] says so.
    pub fn start(options: NetworkOptions, events: mpsc::Sender<NetworkEvent>) -> Result<Self, StartError> {
        let NetworkOptions { key, listen, mdns, peers, deadlines } = options;
        let error = |source| StartError::new(listen, source);
        let (socket, mesh) = bind_both(listen, &key, mdns).map_err(error)?;
        let address = socket.local_addr().map_err(error)?;

        let members = Members::default();
        let counters = Arc::new(Counters::default());
        let tls = Tls::new(&key, members.clone(), Arc::clone(&counters));
        let server_config = quinn::ServerConfig::with_crypto(Arc::new(tls.server(false)));
        let endpoint = endpoint::endpoint(socket, &key, &tls).map_err(error)?;
        let (mesh_wish, wish) = watch::channel(MeshWish::default());
        let (announcements, to_gossip) = mpsc::channel(ANNOUNCEMENTS_WAITING_MAX);
        let shared = Arc::new(Shared {
            me: key.id(),
            address,
            deadlines,
            endpoint,
            server_config,
            tls,
            members,
            counters,
            links: Links::default(),
            addresses: Addresses::default(),
            porch: Arc::new(accept::Porch::default()),
            door: Door::default(),
            events,
            presence: tokio::sync::Mutex::new(()),
            mesh_wish,
            announcements,
            runtime: tokio::runtime::Handle::current(),
            tasks: Mutex::new(Some(JoinSet::new())),
        });
        for peer in peers {
            shared.addresses.learn(peer, None, Origin::Configured);
        }
        shared.spawn(Arc::clone(&shared).keep_accepting());
        shared.spawn(Arc::clone(&shared).keep_dialling());
        shared.spawn(mesh.run(Arc::clone(&shared), wish, to_gossip));
        Ok(Self { shared })
    }
}

/// Binds UDP for QUIC and TCP for the mesh to one port number.
fn bind_both(listen: SocketAddr, key: &DeviceKey, mdns: bool) -> io::Result<(std::net::UdpSocket, Mesh)> {
    let mut tries_left = if listen.port() == 0 { PORTS_TRIED_MAX } else { 1 };
    loop {
        let socket = endpoint::bind(listen)?;
        tries_left -= 1;
        match Mesh::listen(socket.local_addr()?, key, mdns) {
            Ok(mesh) => return Ok((socket, mesh)),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && tries_left > 0 => {}
            Err(error) => return Err(error),
        }
    }
}
