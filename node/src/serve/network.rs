//! The network as the node uses it: events become inputs, and what is sent keeps to the upload limit.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidegate_protocol::id::DeviceId;
use tokio::sync::{Mutex, mpsc};
use tokio::time::Instant;

use super::NodeEnv;
use super::pairing::Pairing;
use crate::core::io::Input;
use crate::driver::Handle;
use crate::env::{Network, NetworkError, Stream};
use crate::os::net::{NetworkEvent, OsNetwork, OsStream};

/// Brings the core what happens on the network.
pub(super) async fn pump(
    mut events: mpsc::Receiver<NetworkEvent>,
    handle: Handle<NodeEnv>,
    pairing: Arc<Pairing>,
    network: PacedNetwork,
) {
    while let Some(event) = events.recv().await {
        match event {
            NetworkEvent::PeerUp { device, address } => {
                handle.send(Input::PeerUp { device, address }).await;
            }
            NetworkEvent::PeerDown { device } => {
                handle.send(Input::PeerDown { device }).await;
            }
            NetworkEvent::Announcement { source: _, bytes } => handle.offer(Input::Announcement(bytes.to_vec())),
            NetworkEvent::Incoming(stream) => handle.accept(network.paced(stream)),
            NetworkEvent::PairingProved(paired) => pairing.proved(&paired).await,
            NetworkEvent::PairingFailed { tries_left } => {
                tracing::warn!(tries_left, "a wrong pairing code was tried");
            }
            NetworkEvent::PairingBurned(why) => pairing.burned(why),
        }
    }
}

/// The network under one limit for all that is sent.
#[derive(Debug, Clone)]
pub(super) struct PacedNetwork {
    network: OsNetwork,
    limit: Option<Arc<Limit>>,
}

#[derive(Debug)]
struct Limit {
    bytes_per_s: u64,
    /// The moment up to which bytes have been given out.
    spent_until: Mutex<Instant>,
}

impl PacedNetwork {
    /// `bytes_per_s` of 0 is no limit.
    pub(super) fn new(network: OsNetwork, bytes_per_s: u64) -> Self {
        let limit = (bytes_per_s > 0).then(|| Arc::new(Limit { bytes_per_s, spent_until: Mutex::new(Instant::now()) }));
        Self { network, limit }
    }

    fn paced(&self, stream: OsStream) -> PacedStream {
        PacedStream { stream, limit: self.limit.clone() }
    }
}

impl Network for PacedNetwork {
    type Stream = PacedStream;

    fn publish(&self, announcement: Bytes) {
        self.network.publish(announcement);
    }

    fn remember(&self, device: DeviceId, address: SocketAddr) {
        self.network.remember(device, address);
    }

    async fn open(&self, device: DeviceId) -> Result<PacedStream, NetworkError> {
        Ok(self.paced(self.network.open(device).await?))
    }
}

/// A stream whose sending keeps to the limit.
pub(super) struct PacedStream {
    stream: OsStream,
    limit: Option<Arc<Limit>>,
}

impl Stream for PacedStream {
    fn peer(&self) -> DeviceId {
        self.stream.peer()
    }

    async fn send(&mut self, frame: Bytes) -> Result<(), NetworkError> {
        if let Some(limit) = &self.limit {
            limit.take(frame.len() as u64).await;
        }
        self.stream.send(frame).await
    }

    async fn receive(&mut self) -> Result<Option<Bytes>, NetworkError> {
        self.stream.receive().await
    }

    async fn finish(&mut self) -> Result<(), NetworkError> {
        self.stream.finish().await
    }
}

impl Limit {
    /// Waits until what was sent before is paid for, then takes `bytes`.
    async fn take(&self, bytes: u64) {
        let due = {
            let mut spent = self.spent_until.lock().await;
            let due = (*spent).max(Instant::now());
            *spent = due + Duration::from_micros(bytes.saturating_mul(1_000_000) / self.bytes_per_s);
            due
        };
        tokio::time::sleep_until(due).await;
    }
}
