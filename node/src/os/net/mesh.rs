//! libp2p: finding devices by multicast, and gossiping announcements among members.
//!
//! A stranger never reaches the gossip: the allow list refuses it as soon as its key is known, before any
//! protocol runs. Everything here is best effort; no correctness hangs on it. Multicast tells only that some
//! device is at some address, and whatever it tells is proved by a handshake before it is used.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use libp2p::allow_block_list::{self, AllowedPeers};
use libp2p::core::transport::ListenerId;
use libp2p::gossipsub::{self, IdentTopic, MessageAcceptance, MessageAuthenticity, ValidationMode};
use libp2p::multiaddr::Protocol;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{FromSwarm, ListenError, NetworkBehaviour, NewListenAddr, SwarmEvent};
use libp2p::{
    Multiaddr, PeerId, Swarm, SwarmBuilder, TransportError, connection_limits, identify, mdns, ping, tcp, tls, yamux,
};
use tidegate_protocol::id::{DeviceId, LibraryId};
use tidegate_protocol::limits::{DEVICES_MAX, HEAD_BYTES_MAX, UNAUTHENTICATED_CONNECTIONS_MAX};
use tokio::sync::{mpsc, watch};

use super::addresses::Origin;
use super::counters::Reject;
use super::identity::{DeviceKey, device_of, peer_of};
use super::{MeshWish, NetworkEvent, Shared};

/// Largest announcement, in bytes: a head and the envelope around it.
const ANNOUNCEMENT_BYTES_MAX: usize = HEAD_BYTES_MAX + 1024;
/// Largest gossip message, in bytes: an announcement with topic, author, number and signature.
const GOSSIP_BYTES_MAX: usize = ANNOUNCEMENT_BYTES_MAX + 1024;
/// Names that multicast may show at a time. Beyond it somebody is flooding, and we start over.
const SHOWN_MAX: usize = 512;
/// Addresses that are taken from what one device says of itself.
const LISTEN_ADDRESSES_MAX: usize = 8;
/// How often members that are connected by QUIC, but not in the mesh, are dialled.
const DIAL_EVERY: Duration = Duration::from_secs(5);

#[derive(NetworkBehaviour)]
struct Behaviour {
    // The order matters: whoever is not allowed is refused before anything else is made for it.
    allowed: allow_block_list::Behaviour<AllowedPeers>,
    limits: connection_limits::Behaviour,
    gossip: gossipsub::Behaviour,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    multicast: Toggle<mdns::tokio::Behaviour>,
}

/// The libp2p side of the network.
pub(super) struct Mesh {
    swarm: Swarm<Behaviour>,
    listening: BTreeMap<Multiaddr, ListenerId>,
    wish: MeshWish,
    topic: Option<IdentTopic>,
}

impl Mesh {
    /// Listens on the TCP port with the number of `address`.
    pub(super) fn listen(address: SocketAddr, key: &DeviceKey, multicast: bool) -> io::Result<Self> {
        let keypair = key.keypair();
        let swarm = SwarmBuilder::with_existing_identity(keypair)
            .with_tokio()
            .with_tcp(tcp::Config::default(), tls::Config::new, yamux::Config::default)
            .map_err(io::Error::other)?
            .with_behaviour(|keypair| behaviour(keypair, multicast))
            .map_err(io::Error::other)?
            .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_mins(1)))
            .build();
        let mut mesh = Self { swarm, listening: BTreeMap::new(), wish: MeshWish::default(), topic: None };
        let mut ips = vec![address.ip()];
        if address.ip() == IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED) {
            // The UDP socket serves both families; TCP needs a listener for each.
            ips.push(Ipv4Addr::UNSPECIFIED.into());
        }
        for ip in ips {
            mesh.swarm.listen_on(multiaddr(SocketAddr::new(ip, address.port()))).map_err(|error| match error {
                TransportError::Other(error) => underlying(error),
                TransportError::MultiaddrNotSupported(_) => io::ErrorKind::Unsupported.into(),
            })?;
        }
        Ok(mesh)
    }

    /// Runs until the network shuts down.
    pub(super) async fn run(
        mut self,
        shared: Arc<Shared>,
        mut wish: watch::Receiver<MeshWish>,
        mut to_gossip: mpsc::Receiver<Bytes>,
    ) {
        let mut dials = tokio::time::interval(DIAL_EVERY);
        loop {
            tokio::select! {
                event = self.swarm.select_next_some() => self.on_event(event, &shared),
                changed = wish.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let wish = wish.borrow_and_update().clone();
                    self.follow(wish);
                }
                announcement = to_gossip.recv() => {
                    let Some(announcement) = announcement else { return };
                    if let Some(topic) = self.topic.clone() {
                        // Nobody in the mesh yet, or a queue is full: the next announcement replaces this one.
                        if let Err(why) = self.swarm.behaviour_mut().gossip.publish(topic, announcement.to_vec()) {
                            tracing::trace!(%why, "announcement not gossiped");
                        }
                    }
                }
                _ = dials.tick() => self.dial_missing(),
            }
        }
    }

    /// Makes the mesh what it is to be.
    fn follow(&mut self, wish: MeshWish) {
        let behaviour = self.swarm.behaviour_mut();
        for peer in self.wish.members.difference(&wish.members).filter_map(|device| peer_of(*device)) {
            behaviour.allowed.disallow_peer(peer);
        }
        for peer in wish.members.difference(&self.wish.members).filter_map(|device| peer_of(*device)) {
            behaviour.allowed.allow_peer(peer);
        }
        if wish.library != self.wish.library {
            if let Some(topic) = self.topic.take() {
                behaviour.gossip.unsubscribe(&topic);
            }
            self.topic = wish.library.map(topic_of);
            if let Some(topic) = &self.topic
                && let Err(error) = behaviour.gossip.subscribe(topic)
            {
                tracing::warn!(%error, "the announcement topic was not joined");
            }
        }
        self.wish = wish;
        self.dial_missing();
    }

    /// Dials members that QUIC reaches and the mesh does not. The smaller device id dials, the other one only
    /// accepts, so that there is one connection.
    fn dial_missing(&mut self) {
        let me = *self.swarm.local_peer_id();
        let wanted: Vec<_> = self.wish.wanted.iter().map(|(device, address)| (*device, *address)).collect();
        for (device, address) in wanted {
            let Some(peer) = peer_of(device).filter(|peer| device_of(&me).is_some_and(|me| me < device) && *peer != me)
            else {
                continue;
            };
            if self.swarm.is_connected(&peer) {
                continue;
            }
            let dial = DialOpts::peer_id(peer)
                .condition(PeerCondition::DisconnectedAndNotDialing)
                .addresses(vec![multiaddr(address)])
                .allocate_new_port()
                .build();
            if let Err(error) = self.swarm.dial(dial) {
                tracing::trace!(%error, "mesh dial");
            }
        }
    }

    fn on_event(&mut self, event: SwarmEvent<BehaviourEvent>, shared: &Shared) {
        match event {
            SwarmEvent::Behaviour(BehaviourEvent::Gossip(gossipsub::Event::Message {
                propagation_source,
                message_id,
                message,
            })) => {
                let source = message.source.and_then(|peer| device_of(&peer));
                let source = source.filter(|source| self.wish.members.contains(source));
                let fine = source.filter(|_| message.data.len() <= ANNOUNCEMENT_BYTES_MAX);
                let verdict = if fine.is_some() { MessageAcceptance::Accept } else { MessageAcceptance::Reject };
                let gossip = &mut self.swarm.behaviour_mut().gossip;
                gossip.report_message_validation_result(&message_id, &propagation_source, verdict);
                match fine {
                    // A full queue drops it: heads are exchanged on other ways, too.
                    Some(source) => {
                        _ = shared.events.try_send(NetworkEvent::Announcement { source, bytes: message.data.into() });
                    }
                    None => shared.counters.reject(Reject::MeshMessage),
                }
            }
            SwarmEvent::Behaviour(BehaviourEvent::Ping(ping::Event { connection, result: Err(_), .. })) => {
                // A dead connection would keep its device out of the mesh.
                self.swarm.close_connection(connection);
            }
            SwarmEvent::Behaviour(BehaviourEvent::Identify(identify::Event::Received { peer_id, info, .. })) => {
                // Its own addresses are hints for the dialler, as multicast's are; whoever answers proves its key.
                let listening = info.listen_addrs.into_iter().take(LISTEN_ADDRESSES_MAX);
                for (address, device) in listening.filter_map(|address| reachable((peer_id, address))) {
                    if self.wish.members.contains(&device) {
                        shared.addresses.learn(address, Some(device), Origin::Known);
                    }
                }
            }
            SwarmEvent::Behaviour(BehaviourEvent::Multicast(event)) => self.on_multicast(event, shared),
            SwarmEvent::NewListenAddr { listener_id, address } => _ = self.listening.insert(address, listener_id),
            SwarmEvent::ExpiredListenAddr { address, .. } => _ = self.listening.remove(&address),
            SwarmEvent::IncomingConnectionError { error: ListenError::Denied { .. }, peer_id, .. } => {
                let known =
                    peer_id.and_then(|peer| device_of(&peer)).is_some_and(|device| shared.members.contains(device));
                if !known {
                    shared.counters.reject(Reject::MeshStranger);
                }
            }
            // Foreign enums: what is not named here needs no answer.
            _ => {}
        }
    }

    fn on_multicast(&mut self, event: mdns::Event, shared: &Shared) {
        match event {
            mdns::Event::Discovered(shown) => {
                for (address, device) in shown.into_iter().filter_map(reachable) {
                    shared.addresses.see(address, device);
                    if shared.members.contains(device) {
                        shared.addresses.learn(address, Some(device), Origin::Discovered);
                    }
                }
                self.bound_multicast();
            }
            mdns::Event::Expired(gone) => {
                for (address, _) in gone.into_iter().filter_map(reachable) {
                    shared.addresses.forget_seen(address);
                }
            }
        }
    }

    /// libp2p keeps every name it is shown for as long as the sender says. Too many, and we start over.
    fn bound_multicast(&mut self) {
        let me = *self.swarm.local_peer_id();
        let listening = self.listening.clone();
        let Some(multicast) = self.swarm.behaviour_mut().multicast.as_mut() else { return };
        if multicast.discovered_nodes().len() <= SHOWN_MAX {
            return;
        }
        tracing::warn!("multicast shows more than {SHOWN_MAX} names; forgetting them all");
        match mdns::tokio::Behaviour::new(mdns::Config::default(), me) {
            Ok(mut fresh) => {
                for (addr, listener_id) in &listening {
                    fresh.on_swarm_event(FromSwarm::NewListenAddr(NewListenAddr { listener_id: *listener_id, addr }));
                }
                *multicast = fresh;
            }
            Err(error) => tracing::warn!(%error, "multicast was not restarted"),
        }
    }
}

fn behaviour(
    keypair: &libp2p::identity::Keypair,
    multicast: bool,
) -> Result<Behaviour, Box<dyn std::error::Error + Send + Sync>> {
    let gossip = gossipsub::ConfigBuilder::default()
        .validation_mode(ValidationMode::Strict)
        .validate_messages()
        .max_transmit_size(GOSSIP_BYTES_MAX)
        // A library is small: a handful of direct neighbours reaches it all.
        .mesh_outbound_min(1)
        .mesh_n_low(2)
        .mesh_n(4)
        .mesh_n_high(6)
        .build()?;
    let devices = u32::try_from(DEVICES_MAX)?;
    let limits = connection_limits::ConnectionLimits::default()
        .with_max_pending_incoming(Some(u32::try_from(UNAUTHENTICATED_CONNECTIONS_MAX)?))
        .with_max_pending_outgoing(Some(devices))
        .with_max_established(Some(2 * devices))
        .with_max_established_per_peer(Some(2));
    let identity = identify::Config::new("/tidegate/1".to_owned(), keypair.public())
        .with_agent_version(concat!("tidegate/", env!("CARGO_PKG_VERSION")).to_owned());
    let multicast = if multicast {
        Some(mdns::tokio::Behaviour::new(mdns::Config::default(), keypair.public().to_peer_id())?)
    } else {
        None
    };
    Ok(Behaviour {
        allowed: allow_block_list::Behaviour::default(),
        limits: connection_limits::Behaviour::new(limits),
        gossip: gossipsub::Behaviour::new(MessageAuthenticity::Signed(keypair.clone()), gossip)?,
        identify: identify::Behaviour::new(identity),
        ping: ping::Behaviour::default(),
        multicast: multicast.into(),
    })
}

/// The topic of a library. A hash, so that the topic does not tell the id by which the library is joined.
fn topic_of(library: LibraryId) -> IdentTopic {
    let hash = blake3::derive_key("tidegate 1 announcement topic", library.as_bytes());
    IdentTopic::new(format!("tidegate/1/{}", blake3::Hash::from_bytes(hash).to_hex()))
}

fn multiaddr(address: SocketAddr) -> Multiaddr {
    Multiaddr::from(address.ip()).with(Protocol::Tcp(address.port()))
}

/// Where a device that multicast shows can be dialled: QUIC has the port number that TCP has.
fn reachable((peer, address): (PeerId, Multiaddr)) -> Option<(SocketAddr, DeviceId)> {
    let mut parts = address.iter();
    let ip: IpAddr = match parts.next()? {
        Protocol::Ip4(ip) => ip.into(),
        Protocol::Ip6(ip) => ip.into(),
        _ => return None,
    };
    match parts.next()? {
        Protocol::Tcp(port) if !ip.is_unspecified() && !ip.is_multicast() => {
            Some((SocketAddr::new(ip, port), device_of(&peer)?))
        }
        _ => None,
    }
}

/// libp2p wraps the error of the socket; its kind is what the caller acts on.
fn underlying(error: io::Error) -> io::Error {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(current) = source {
        if let Some(kind) = current.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
            return io::Error::from_raw_os_error(kind);
        }
        source = current.source();
    }
    error
}
