//! Reaching members: one task dials what is due, one task per connection serves it while it lasts.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::{ConnectionError, TransportErrorCode};
use tidegate_protocol::id::DeviceId;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::addresses::{Dialled, Origin};
use super::endpoint::{self, End};
use super::links::{CloseCode, Link, Presence};
use super::stream::OsStream;
use super::tls::{Expected, Purpose, identity_of};
use super::{NetworkEvent, Shared};

/// Dials under way at a time.
const DIALS_MAX: usize = 8;
/// How often it is checked whether a second connection can go.
const DUPLICATE_CHECK: Duration = Duration::from_secs(1);
/// The name in the TLS hello; it is not sent, and no certificate has it.
pub(super) const SERVER_NAME: &str = "tidegate";
/// What the accepting side says when it has taken the connection: until then the dialling side does not know
/// whether its own key was accepted.
const WELCOME: &[u8] = b"1";

/// Why a dial did not lead to a connection.
#[derive(Debug)]
pub(super) enum DialError {
    /// Nobody answered.
    Unreachable,
    /// The other end has no place for a handshake just now.
    Crowded,
    /// One of the two ends refused the other.
    Refused(ConnectionError),
}

impl From<ConnectionError> for DialError {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::TimedOut => Self::Unreachable,
            ConnectionError::ConnectionClosed(close) if close.error_code == TransportErrorCode::CONNECTION_REFUSED => {
                Self::Crowded
            }
            error => Self::Refused(error),
        }
    }
}

impl Shared {
    /// Dials what is due, for as long as the network lives.
    pub(super) async fn keep_dialling(self: Arc<Self>) {
        let slots = Arc::new(Semaphore::new(DIALS_MAX));
        loop {
            let free = slots.available_permits();
            let is_connected = |device| self.links.is_connected(device);
            let (due, next) = self.addresses.take_due(free, &self.members, is_connected, Instant::now());
            for (address, expected) in due {
                let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else { break };
                let shared = Arc::clone(&self);
                self.spawn(async move {
                    let outcome = match shared.dial(address, Purpose::Member, expected).await {
                        Ok(connection) => shared.settle_dialled(connection, slot).await,
                        Err(DialError::Unreachable) => Dialled::Unreachable,
                        Err(DialError::Crowded) => Dialled::Crowded,
                        Err(DialError::Refused(why)) => {
                            tracing::debug!(%address, ?why, "dial refused");
                            Dialled::Refused
                        }
                    };
                    shared.addresses.dialled(address, outcome, Instant::now());
                });
            }
            let wait = next.unwrap_or_else(|| Instant::now() + Duration::from_mins(1));
            let idle = async {
                // With all slots taken, what is due waits for one of them.
                if slots.available_permits() == 0 {
                    let _ = slots.acquire().await;
                } else {
                    tokio::time::sleep_until(wait).await;
                }
            };
            tokio::select! {
                () = self.addresses.changed.notified() => {}
                () = idle => {}
            }
        }
    }

    /// One handshake with whoever is at `address`.
    pub(super) async fn dial(
        &self,
        address: SocketAddr,
        purpose: Purpose,
        expected: Expected,
    ) -> Result<quinn::Connection, DialError> {
        let mut config = quinn::ClientConfig::new(Arc::new(self.tls.client(purpose, expected)));
        config.transport_config(endpoint::transport(address.ip(), End::Dialling, self.deadlines.idle));
        let connecting =
            self.endpoint.connect_with(config, address, SERVER_NAME).map_err(|_| DialError::Unreachable)?;
        match tokio::time::timeout(self.deadlines.handshake, connecting).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(DialError::Unreachable),
        }
    }

    /// Waits until the other end has taken the connection, then serves it until it ends.
    async fn settle_dialled(self: &Arc<Self>, connection: quinn::Connection, slot: impl Send) -> Dialled {
        let welcome = async {
            let mut note = connection.accept_uni().await.ok()?;
            note.read_to_end(WELCOME.len()).await.ok().filter(|note| note == WELCOME)
        };
        let welcomed = tokio::time::timeout(self.deadlines.handshake, welcome).await;
        let device = identity_of(&connection).map(|(device, _)| device);
        let (Ok(Some(_)), Some(device)) = (welcomed, device) else {
            connection.close(CloseCode::Protocol.into(), b"");
            return Dialled::Refused;
        };
        drop(slot);
        self.serve(connection, device, self.me).await
    }

    /// Takes a connection that a member dialled, tells it so, and serves it until it ends.
    pub(super) async fn settle_accepted(self: &Arc<Self>, connection: quinn::Connection, device: DeviceId) {
        connection.set_receive_window(endpoint::CONNECTION_WINDOW_BYTES.into());
        connection.set_max_concurrent_bi_streams(tidegate_protocol::limits::STREAMS_PER_PEER_MAX.into());
        if let Ok(mut note) = connection.open_uni().await {
            // A connection that is lost here is noticed below.
            let _ = note.write_all(WELCOME).await;
            let _ = note.finish();
        }
        self.serve(connection, device, device).await;
    }

    /// Serves a connection until it ends: announces the device, hands on its streams, retires a duplicate.
    async fn serve(self: &Arc<Self>, connection: quinn::Connection, device: DeviceId, dialled_by: DeviceId) -> Dialled {
        let link = Link::new(connection, device, dialled_by, &self.counters, self.deadlines);
        self.note_presence(&link, |shared| shared.links.add(&link)).await;
        // Checked after the link is in the table: whoever removes the member now finds it there.
        if self.members.contains(device) {
            self.addresses.learn(link.address(), Some(device), Origin::Known);
            self.hand_on_streams(&link).await;
        } else {
            link.close(CloseCode::NotMember);
        }
        self.note_presence(&link, |shared| shared.links.remove(&link)).await;
        if link.was_cut() {
            // Whoever broke the protocol is not dialled again at once.
            Dialled::Refused
        } else {
            self.addresses.lost(device, Instant::now());
            Dialled::Ended(device)
        }
    }

    async fn hand_on_streams(&self, link: &Arc<Link>) {
        let mut checks = tokio::time::interval(DUPLICATE_CHECK);
        let mut unused_checks = 0_u32;
        loop {
            tokio::select! {
                accepted = link.connection.accept_bi() => {
                    let Ok((send, receive)) = accepted else { return };
                    let stream = OsStream::accepted(Arc::clone(link), send, receive);
                    if self.events.send(NetworkEvent::Incoming(stream)).await.is_err() {
                        link.close(CloseCode::Shutdown);
                        return;
                    }
                }
                // A ping: that it was received is all the other end wants to know.
                note = link.connection.accept_uni() => if note.is_err() { return },
                _ = checks.tick(), if link.dialled_by == self.me => {
                    let preferred = self.links.preferred(link.device).is_none_or(|best| Arc::ptr_eq(&best, link));
                    let used = link.streams.load(std::sync::atomic::Ordering::Relaxed) > 0;
                    unused_checks = if preferred || used { 0 } else { unused_checks + 1 };
                    // Twice, so that a stream that the other end was just opening is seen.
                    if unused_checks > 2 {
                        link.close(CloseCode::Duplicate);
                    }
                }
            }
        }
    }

    /// Changes the table of links and tells of it, in one order for all links.
    async fn note_presence(&self, link: &Link, change: impl FnOnce(&Self) -> Presence) {
        let _in_order = self.presence.lock().await;
        let event = match change(self) {
            Presence::Unchanged => return,
            Presence::Up => {
                self.mesh_wish.send_modify(|wish| _ = wish.wanted.insert(link.device, link.address()));
                NetworkEvent::PeerUp { device: link.device, address: link.address() }
            }
            Presence::Down => {
                self.mesh_wish.send_modify(|wish| _ = wish.wanted.remove(&link.device));
                NetworkEvent::PeerDown { device: link.device }
            }
        };
        // Nobody listens any more only when the node stops.
        let _ = self.events.send(event).await;
    }
}
