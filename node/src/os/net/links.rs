//! The connections to members: at most a few per device, one of which is used for new streams.
//!
//! Two devices that dial each other at once get two connections. Both then prefer the one that the smaller
//! device id dialled, and whoever dialled the other closes it once no stream uses it. A connection that has
//! not been heard since a newer one came up is not preferred: its peer may have restarted.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quinn::VarInt;
use tidegate_protocol::id::DeviceId;
use tokio::runtime::Handle;

use super::Deadlines;
use super::counters::{Counters, Traffic};

/// Connections to one device at a time; the oldest yields.
const LINKS_PER_DEVICE_MAX: usize = 4;

/// Why a connection or stream was ended, as the peer is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum CloseCode {
    /// The node stops.
    Shutdown = 0,
    /// The peer broke the protocol, or was too slow.
    Protocol = 1,
    /// The peer is not a member any more.
    NotMember = 2,
    /// Another connection serves.
    Duplicate = 3,
    /// The stream was given up before its end.
    Dropped = 4,
    /// The pairing session is over.
    PairingOver = 5,
}

impl From<CloseCode> for VarInt {
    fn from(code: CloseCode) -> Self {
        Self::from_u32(code as u32)
    }
}

/// One connection to a member.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) device: DeviceId,
    pub(super) connection: quinn::Connection,
    pub(super) dialled_by: DeviceId,
    pub(super) streams: AtomicUsize,
    pub(super) traffic: Arc<Traffic>,
    pub(super) counters: Arc<Counters>,
    pub(super) deadlines: Deadlines,
    pub(super) runtime: Handle,
    /// Whether we ended it because the peer broke the protocol.
    cut: AtomicBool,
    /// Datagrams that had been received when a newer connection came up; `u64::MAX` marks the newest.
    heard_at_newer: AtomicU64,
}

impl Link {
    pub(super) fn new(
        connection: quinn::Connection,
        device: DeviceId,
        dialled_by: DeviceId,
        counters: &Arc<Counters>,
        deadlines: Deadlines,
    ) -> Arc<Self> {
        Arc::new(Self {
            device,
            connection,
            dialled_by,
            streams: AtomicUsize::new(0),
            traffic: counters.traffic(device),
            counters: Arc::clone(counters),
            deadlines,
            runtime: Handle::current(),
            cut: AtomicBool::new(false),
            heard_at_newer: AtomicU64::new(u64::MAX),
        })
    }

    /// Where the peer is, IPv4 in its own form.
    pub(super) fn address(&self) -> SocketAddr {
        let address = self.connection.remote_address();
        SocketAddr::new(address.ip().to_canonical(), address.port())
    }

    pub(super) fn close(&self, code: CloseCode) {
        if code == CloseCode::Protocol {
            self.cut.store(true, Ordering::Relaxed);
        }
        self.connection.close(code.into(), b"");
    }

    /// Whether we ended it because the peer broke the protocol.
    pub(super) fn was_cut(&self) -> bool {
        self.cut.load(Ordering::Relaxed)
    }

    fn heard(&self) -> u64 {
        self.connection.stats().udp_rx.datagrams
    }

    /// Alive as far as is known: open, and the newest or heard since a newer one came up.
    fn is_alive(&self) -> bool {
        let mark = self.heard_at_newer.load(Ordering::Relaxed);
        self.connection.close_reason().is_none() && (mark == u64::MAX || self.heard() > mark)
    }
}

/// What became of the set of connected devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    /// The device was or is reached by another connection, too.
    Unchanged,
    /// It is connected now.
    Up,
    /// It was the last connection.
    Down,
}

/// All connections to members.
#[derive(Debug, Default)]
pub(super) struct Links(Mutex<BTreeMap<DeviceId, Vec<Arc<Link>>>>);

impl Links {
    fn table(&self) -> MutexGuard<'_, BTreeMap<DeviceId, Vec<Arc<Link>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, link: &Arc<Link>) -> Presence {
        let mut table = self.table();
        let of_device = table.entry(link.device).or_default();
        for older in &*of_device {
            older.heard_at_newer.store(older.heard(), Ordering::Relaxed);
        }
        of_device.push(Arc::clone(link));
        if of_device.len() > LINKS_PER_DEVICE_MAX {
            of_device.remove(0).close(CloseCode::Duplicate);
        }
        if of_device.len() == 1 { Presence::Up } else { Presence::Unchanged }
    }

    pub(super) fn remove(&self, link: &Arc<Link>) -> Presence {
        let mut table = self.table();
        let Some(of_device) = table.get_mut(&link.device) else { return Presence::Unchanged };
        of_device.retain(|other| !Arc::ptr_eq(other, link));
        if of_device.is_empty() {
            table.remove(&link.device);
            Presence::Down
        } else {
            Presence::Unchanged
        }
    }

    /// The connection for new streams.
    pub(super) fn preferred(&self, device: DeviceId) -> Option<Arc<Link>> {
        let table = self.table();
        let of_device = table.get(&device)?;
        let alive = of_device.iter().rev().filter(|link| link.is_alive());
        // Of those that the smaller id dialled, the newest; `min_by_key` keeps the first of equals.
        alive.min_by_key(|link| link.dialled_by).or(of_device.last()).cloned()
    }

    pub(super) fn is_connected(&self, device: DeviceId) -> bool {
        self.table().contains_key(&device)
    }

    /// The preferred connection of every connected device.
    pub(super) fn all(&self) -> Vec<Arc<Link>> {
        let devices: Vec<DeviceId> = self.table().keys().copied().collect();
        devices.into_iter().filter_map(|device| self.preferred(device)).collect()
    }

    /// Closes every connection to devices that `stays` does not name.
    pub(super) fn close_unless(&self, code: CloseCode, stays: impl Fn(DeviceId) -> bool) {
        for link in self.table().values().flatten().filter(|link| !stays(link.device)) {
            link.close(code);
        }
    }
}
