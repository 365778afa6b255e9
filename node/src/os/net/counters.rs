//! What was refused, and how many bytes each member sent and got. Counting only; nothing is decided by it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tidegate_protocol::id::DeviceId;

/// Why something from the network was refused. The names are metric labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(usize)]
pub enum Reject {
    /// A key that is no member's, in the handshake between members.
    Stranger,
    /// Another device answered than the one that was dialled.
    WrongDevice,
    /// A certificate that does not prove a device key.
    Certificate,
    /// None, several or unknown protocols offered; the pairing door was closed.
    Alpn,
    /// Too many connections that had not shown a member's key.
    Unauthenticated,
    /// A handshake that took too long or broke.
    Handshake,
    /// A frame of length 0.
    FrameEmpty,
    /// A frame longer than the limit.
    FrameTooLarge,
    /// A stream that ended inside a frame.
    FrameTruncated,
    /// A frame that did not arrive in time.
    FrameSlow,
    /// A message that the layer above refused.
    Message,
    /// A stranger on the announcement mesh.
    MeshStranger,
    /// An announcement that was too large, or not by a member.
    MeshMessage,
    /// A pairing session beyond the one, or one that broke the protocol.
    Pairing,
}

impl Reject {
    /// Every reason, in order.
    pub const ALL: [Self; 14] = [
        Self::Stranger,
        Self::WrongDevice,
        Self::Certificate,
        Self::Alpn,
        Self::Unauthenticated,
        Self::Handshake,
        Self::FrameEmpty,
        Self::FrameTooLarge,
        Self::FrameTruncated,
        Self::FrameSlow,
        Self::Message,
        Self::MeshStranger,
        Self::MeshMessage,
        Self::Pairing,
    ];

    /// The label of the metric.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stranger => "stranger",
            Self::WrongDevice => "wrong_device",
            Self::Certificate => "certificate",
            Self::Alpn => "alpn",
            Self::Unauthenticated => "unauthenticated",
            Self::Handshake => "handshake",
            Self::FrameEmpty => "frame_empty",
            Self::FrameTooLarge => "frame_too_large",
            Self::FrameTruncated => "frame_truncated",
            Self::FrameSlow => "frame_slow",
            Self::Message => "message",
            Self::MeshStranger => "mesh_stranger",
            Self::MeshMessage => "mesh_message",
            Self::Pairing => "pairing",
        }
    }

    /// Whether it counts as a failed authentication.
    pub const fn is_authentication(self) -> bool {
        match self {
            Self::Stranger | Self::WrongDevice | Self::Certificate | Self::MeshStranger => true,
            Self::Alpn
            | Self::Unauthenticated
            | Self::Handshake
            | Self::FrameEmpty
            | Self::FrameTooLarge
            | Self::FrameTruncated
            | Self::FrameSlow
            | Self::Message
            | Self::MeshMessage
            | Self::Pairing => false,
        }
    }
}

/// Bytes of frames to and from one member since the start.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    pub(super) received: AtomicU64,
    pub(super) sent: AtomicU64,
}

/// All counters of the network.
#[derive(Debug, Default)]
pub struct Counters {
    rejects: [AtomicU64; Reject::ALL.len()],
    frames_received: AtomicU64,
    pairings_proved: AtomicU64,
    pairings_failed: AtomicU64,
    traffic: Mutex<BTreeMap<DeviceId, Arc<Traffic>>>,
}

impl Counters {
    /// How often something was refused for `reason`.
    pub fn rejects(&self, reason: Reject) -> u64 {
        self.rejects[reason as usize].load(Ordering::Relaxed)
    }

    /// Frames that were handed to the layer above.
    pub fn frames_received(&self) -> u64 {
        self.frames_received.load(Ordering::Relaxed)
    }

    /// Pairings that were proved.
    pub fn pairings_proved(&self) -> u64 {
        self.pairings_proved.load(Ordering::Relaxed)
    }

    /// Proofs of a pairing code that were wrong.
    pub fn pairings_failed(&self) -> u64 {
        self.pairings_failed.load(Ordering::Relaxed)
    }

    /// Bytes received from and sent to each member since the start.
    pub fn bytes(&self) -> Vec<(DeviceId, u64, u64)> {
        let traffic = self.traffic.lock().unwrap_or_else(PoisonError::into_inner);
        let one = |(device, bytes): (&DeviceId, &Arc<Traffic>)| {
            (*device, bytes.received.load(Ordering::Relaxed), bytes.sent.load(Ordering::Relaxed))
        };
        traffic.iter().map(one).collect()
    }

    pub(super) fn reject(&self, reason: Reject) {
        self.rejects[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn frame_received(&self) {
        self.frames_received.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn pairing_proved(&self) {
        self.pairings_proved.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn pairing_failed(&self) {
        self.pairings_failed.fetch_add(1, Ordering::Relaxed);
    }

    /// The counters of one member. Only members get an entry, so there are few.
    pub(super) fn traffic(&self, device: DeviceId) -> Arc<Traffic> {
        Arc::clone(self.traffic.lock().unwrap_or_else(PoisonError::into_inner).entry(device).or_default())
    }
}
