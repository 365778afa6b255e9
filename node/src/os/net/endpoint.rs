//! The UDP socket and the QUIC settings: windows, timers, packet sizes.
//!
//! Numbers come from measurements on two shared cores (see `docs/BENCHMARKS.md`): packet size is what decides
//! bulk throughput, so discovery searches up to what the interface towards the peer offers.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use quinn::congestion::CubicConfig;
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, ConnectionId, EndpointConfig, MtuDiscoveryConfig, TransportConfig, UdpPoller, VarInt};
use socket2::{Domain, Protocol, Socket, Type};
use tidegate_protocol::limits::STREAMS_PER_PEER_MAX;

use super::identity::DeviceKey;
use super::tls::Tls;

/// Receive window of one stream, in bytes.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
/// Receive and send window of one connection, in bytes. Larger ones cost losses.
pub(super) const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// Receive window of a connection that has not shown a member's key, in bytes.
const STRANGER_WINDOW_BYTES: u32 = 16 << 10;
/// First congestion window, in bytes (RFC 9002, section 7.2).
const INITIAL_WINDOW_BYTES: u64 = 14_720;
/// Kernel buffers of the UDP socket, in bytes.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;
/// Shortest time without traffic after which a connection is kept alive.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// Largest UDP payload that is tried, in bytes: beyond it, loopback gains nothing.
const PAYLOAD_BYTES_MAX: u16 = 32_000;
/// Largest UDP payload that is accepted, in bytes: all that fits.
const PAYLOAD_RECEIVED_BYTES_MAX: u16 = 65_527;
/// Where the interface does not tell: jumbo frames are tried, and discovery finds what goes through.
const PAYLOAD_UNKNOWN_BYTES: u16 = 8_952;
/// Bytes that one batch of segments may have; the kernel refuses more than 64 KiB with headers.
const BATCH_BYTES_MAX: usize = 65_000;
/// One-directional streams a peer may have open: a welcome and pings.
pub(super) const NOTES_PER_PEER_MAX: u32 = 4;

const _: () = assert!(STREAM_WINDOW_BYTES <= CONNECTION_WINDOW_BYTES);
const _: () = assert!(PAYLOAD_BYTES_MAX as usize * 2 <= BATCH_BYTES_MAX);

/// Which end of a connection the settings are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// We dialled, and know whom.
    Dialling,
    /// We accept, and do not know yet whom: it gets room only once it has shown its key.
    Accepting,
}

/// Binds the UDP socket.
pub(super) fn bind(listen: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(listen), Type::DGRAM, Some(Protocol::UDP))?;
    if listen.is_ipv6() {
        // One socket for both families when listening on `[::]`.
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
    socket.set_send_buffer_size(SOCKET_BUFFER_BYTES)?;
    for (buffer, bytes) in [("receive", socket.recv_buffer_size()?), ("send", socket.send_buffer_size()?)] {
        if bytes < SOCKET_BUFFER_BYTES {
            tracing::warn!(
                buffer,
                bytes,
                wanted = SOCKET_BUFFER_BYTES,
                "the kernel limits the UDP buffer; raise net.core.rmem_max and net.core.wmem_max for full speed"
            );
        }
    }
    socket.bind(&listen.into())?;
    Ok(socket.into())
}

/// The QUIC endpoint on a bound socket.
pub(super) fn endpoint(socket: UdpSocket, key: &DeviceKey, tls: &Tls) -> io::Result<quinn::Endpoint> {
    // A key of the device, not of the process: after a crash and a restart, the first packet of a peer that
    // still believes in the old connection is answered with a reset that it can check, and it dials anew.
    let mut config = EndpointConfig::new(Arc::new(ResetKey(key.derive("tidegate 1 quic stateless reset"))));
    config
        .max_udp_payload_size(PAYLOAD_RECEIVED_BYTES_MAX)
        .expect("within the range that QUIC allows")
        .cid_generator(|| Box::new(RandomIds));
    let runtime = quinn::default_runtime().expect("called within a tokio runtime");
    let socket = Arc::new(BatchedSocket(runtime.wrap_udp_socket(socket)?));
    let mut server = quinn::ServerConfig::with_crypto(Arc::new(tls.server(false)));
    server.max_incoming(64).incoming_buffer_size(16 << 10).incoming_buffer_size_total(1 << 20);
    quinn::Endpoint::new_with_abstract_socket(config, Some(server), socket, runtime)
}

/// The settings of one connection to or from `remote`.
pub(super) fn transport(remote: IpAddr, end: End, idle: Duration) -> Arc<TransportConfig> {
    let (streams, window) = match end {
        End::Dialling => (STREAMS_PER_PEER_MAX, CONNECTION_WINDOW_BYTES),
        End::Accepting => (1, STRANGER_WINDOW_BYTES),
    };
    let payload = payload_bytes(remote);
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.upper_bound(payload);
    // A probe of a large packet counts as bytes under way. Were it alone to fill the first congestion window, nothing
    // else could be sent until it is answered, not even that the connection closes.
    let mut congestion = CubicConfig::default();
    congestion.initial_window(INITIAL_WINDOW_BYTES.max(4 * u64::from(payload)));
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(streams.into())
        .max_concurrent_uni_streams(NOTES_PER_PEER_MAX.into())
        .stream_receive_window(STREAM_WINDOW_BYTES.into())
        .receive_window(window.into())
        .send_window(CONNECTION_WINDOW_BYTES.into())
        .datagram_receive_buffer_size(None)
        .keep_alive_interval(Some(KEEP_ALIVE.min(idle / 3)))
        .max_idle_timeout(Some(idle.try_into().unwrap_or(VarInt::MAX.into())))
        // A LAN answers in milliseconds; the default of a third of a second makes a lost first packet costly.
        .initial_rtt(Duration::from_millis(100))
        .congestion_controller_factory(Arc::new(congestion))
        .mtu_discovery_config(Some(discovery));
    Arc::new(config)
}

/// The largest UDP payload that the interface towards `remote` can carry, in bytes.
fn payload_bytes(remote: IpAddr) -> u16 {
    let (any, headers): (IpAddr, u32) = match remote {
        IpAddr::V4(_) => (Ipv4Addr::UNSPECIFIED.into(), 20 + 8),
        IpAddr::V6(_) => (Ipv6Addr::UNSPECIFIED.into(), 40 + 8),
    };
    // Connecting a UDP socket sends nothing; it makes the kernel choose the route.
    let mtu = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect((remote, 9))?;
        interface_mtu(&socket, remote)
    });
    let bytes = mtu.ok().and_then(|mtu| u16::try_from(mtu.saturating_sub(headers)).ok());
    bytes.unwrap_or(PAYLOAD_UNKNOWN_BYTES).clamp(1_200, PAYLOAD_BYTES_MAX)
}

#[cfg(target_os = "linux")]
fn interface_mtu(socket: &UdpSocket, remote: IpAddr) -> io::Result<u32> {
    Ok(match remote {
        IpAddr::V4(_) => rustix::net::sockopt::ip_mtu(socket)?,
        IpAddr::V6(_) => rustix::net::sockopt::ipv6_mtu(socket)?,
    })
}

#[cfg(not(target_os = "linux"))]
fn interface_mtu(_: &UdpSocket, _: IpAddr) -> io::Result<u32> {
    Err(io::ErrorKind::Unsupported.into())
}

/// A socket that hands the kernel at most 64 KiB of segments at a time. quinn counts segments, not bytes, and
/// with large packets the kernel would drop the whole batch.
#[derive(Debug)]
struct BatchedSocket(Arc<dyn AsyncUdpSocket>);

impl AsyncUdpSocket for BatchedSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.0).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let Some(segment) = transmit.segment_size.filter(|_| transmit.contents.len() > BATCH_BYTES_MAX) else {
            return self.0.try_send(transmit);
        };
        // When the socket is full in the middle, quinn repeats the whole; a packet seen twice does no harm.
        for batch in transmit.contents.chunks(segment * (BATCH_BYTES_MAX / segment).max(1)) {
            self.0.try_send(&Transmit {
                destination: transmit.destination,
                ecn: transmit.ecn,
                contents: batch,
                segment_size: Some(segment).filter(|segment| *segment < batch.len()),
                src_ip: transmit.src_ip,
            })?;
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_recv(context, buffers, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.0.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        // quinn sizes its buffers by this times the largest payload; one such buffer already holds all that
        // the kernel can coalesce.
        1
    }

    fn may_fragment(&self) -> bool {
        self.0.may_fragment()
    }
}

/// Signs stateless resets.
struct ResetKey([u8; 32]);

impl quinn::crypto::HmacKey for ResetKey {
    fn sign(&self, data: &[u8], signature: &mut [u8]) {
        signature.copy_from_slice(blake3::keyed_hash(&self.0, data).as_bytes());
    }

    fn signature_len(&self) -> usize {
        blake3::OUT_LEN
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), quinn::crypto::CryptoError> {
        // Comparison of BLAKE3 hashes takes constant time.
        if blake3::keyed_hash(&self.0, data) == *signature { Ok(()) } else { Err(quinn::crypto::CryptoError) }
    }
}

/// Connection ids of 8 random bytes. quinn's own generator ignores ids of an earlier process, and so would
/// never send the resets that [`ResetKey`] is for.
#[derive(Debug)]
struct RandomIds;

impl quinn::ConnectionIdGenerator for RandomIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = [0; 8];
        getrandom::fill(&mut id).expect("the kernel has entropy");
        ConnectionId::new(&id)
    }

    fn cid_len(&self) -> usize {
        8
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_as_large_as_the_interface_towards_the_peer_allows() {
        assert_eq!(payload_bytes(Ipv4Addr::LOCALHOST.into()), PAYLOAD_BYTES_MAX);
        assert!(payload_bytes(Ipv4Addr::new(192, 0, 2, 1).into()) >= 1_200);
    }
}
