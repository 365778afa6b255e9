//! Devices on loopback for the tests of the network: real sockets, bounded waits, no sleeps.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, missing_docs, reason = "each test file uses a part of it")]

pub mod raw;

use std::collections::BTreeSet;
use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use tidegate::os::net::identity::DeviceKey;
use tidegate::os::net::{Deadlines, NetworkEvent, NetworkOptions, OsNetwork, OsStream, StartError};
use tidegate_protocol::id::DeviceId;
use tokio::sync::mpsc;

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running network and what it reports.
pub struct Device {
    pub network: OsNetwork,
    pub events: mpsc::Receiver<NetworkEvent>,
}

/// The key of the `n`th device of this test. Tests run side by side and ports are used again, so a device of one
/// test may well knock at a device of another; their keys must differ for it to be a stranger there.
pub fn key(n: u8) -> DeviceKey {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or_default();
    DeviceKey::from_seed(blake3::hash(format!("{test} {n}").as_bytes()).as_bytes())
}

pub fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

pub async fn soon<F: Future>(what: &str, work: F) -> F::Output {
    tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(|_| panic!("{what} did not happen in time"))
}

pub fn start(n: u8) -> Device {
    start_with(n, 0, Vec::new(), Deadlines::default()).expect("loopback is there")
}

pub fn start_with(n: u8, port: u16, peers: Vec<SocketAddr>, deadlines: Deadlines) -> Result<Device, StartError> {
    let (sender, events) = mpsc::channel(64);
    let mut options = NetworkOptions::new(key(n), loopback(port));
    options.peers = peers;
    options.deadlines = deadlines;
    Ok(Device { network: OsNetwork::start(options, sender)?, events })
}

/// Starts on a port that an earlier network is about to release.
pub async fn start_again(n: u8, port: u16) -> Device {
    soon("release of the port", async {
        loop {
            match start_with(n, port, Vec::new(), Deadlines::default()) {
                Ok(device) => return device,
                Err(StartError::AddressInUse(_)) => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        }
    })
    .await
}

impl Device {
    pub fn id(&self) -> DeviceId {
        self.network.device()
    }

    pub fn address(&self) -> SocketAddr {
        self.network.local_addr()
    }

    pub fn allow(&self, others: &[DeviceId]) {
        self.network.allow(others.iter().copied().collect::<BTreeSet<_>>());
    }

    /// The next event that `pick` takes; others are dropped.
    pub async fn event<T>(&mut self, what: &str, mut pick: impl FnMut(NetworkEvent) -> Option<T>) -> T {
        soon(what, async {
            loop {
                let event = self.events.recv().await.expect("the network runs");
                if let Some(picked) = pick(event) {
                    return picked;
                }
            }
        })
        .await
    }

    pub async fn up(&mut self, other: DeviceId) {
        self.event("connection", |event| match event {
            NetworkEvent::PeerUp { device, .. } if device == other => Some(()),
            _ => None,
        })
        .await;
    }

    pub async fn down(&mut self, other: DeviceId) {
        self.event("disconnection", |event| match event {
            NetworkEvent::PeerDown { device } if device == other => Some(()),
            _ => None,
        })
        .await;
    }

    pub async fn incoming(&mut self) -> OsStream {
        self.event("incoming stream", |event| match event {
            NetworkEvent::Incoming(stream) => Some(stream),
            _ => None,
        })
        .await
    }
}

/// Two connected members: the first one dials.
pub async fn pair_of(deadlines: Deadlines) -> (Device, Device) {
    let mut b = start_with(2, 0, Vec::new(), deadlines).expect("loopback is there");
    let mut a = start_with(1, 0, vec![b.address()], deadlines).expect("loopback is there");
    b.allow(&[a.id()]);
    a.allow(&[b.id()]);
    a.up(b.id()).await;
    b.up(a.id()).await;
    (a, b)
}

/// Waits for a counter; there is nothing to wait on but the value.
pub async fn until(what: &str, reached: impl Fn() -> bool) {
    soon(what, async {
        while !reached() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}
