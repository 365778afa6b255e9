//! What happens in a world, as whoever writes it down or judges it hears of it.
//!
//! A listener hears of everything in the order in which it happened; two runs of one seed are the same run when
//! their listeners heard the same. It changes nothing: there is no way back from here into the world.

use std::sync::{Arc, Mutex};

use tidegate_protocol::id::DeviceId;

use crate::executor::{Nanos, lock};
use crate::random::mix;

/// Number of a device in its world, counted from 0.
pub type DeviceIndex = u32;

/// Something that happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Happening {
    /// When.
    pub at: Nanos,
    /// To which device.
    pub device: DeviceIndex,
    /// What.
    pub what: What,
}

/// What can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// An incarnation began.
    Started {
        /// Which.
        incarnation: u32,
    },
    /// An incarnation ended as it was told to.
    Stopped,
    /// An incarnation ended in the middle of whatever it did.
    Crashed,
    /// A member is connected.
    PeerUp {
        /// Which.
        peer: DeviceIndex,
    },
    /// A member is not connected any more.
    PeerDown {
        /// Which.
        peer: DeviceIndex,
    },
    /// A stream was opened to a member.
    Opened {
        /// Which.
        peer: DeviceIndex,
    },
    /// A frame was sent.
    Frame {
        /// To whom.
        peer: DeviceIndex,
        /// Its length in bytes.
        bytes: u32,
        /// A digest of what is in it.
        digest: u64,
    },
    /// A head was gossiped.
    Gossip {
        /// Its length in bytes.
        bytes: u32,
        /// A digest of it.
        digest: u64,
    },
    /// The core made a step.
    Stepped {
        /// Inputs it took.
        inputs: u32,
        /// Outputs it gave.
        outputs: u32,
        /// A digest of which they were.
        digest: u64,
    },
    /// The watcher told of changes.
    Watched {
        /// How many paths.
        paths: u32,
        /// Whether it lost some.
        overflow: bool,
    },
}

/// Hears what happens.
pub trait Listener: Send {
    /// Something happened.
    fn heard(&mut self, happening: &Happening);
}

/// The way to the listener of a world. Cheap to clone.
#[derive(Clone, Default)]
pub struct Ear(Option<Arc<Mutex<dyn Listener>>>);

impl Ear {
    /// Whatever happens is told to `listener`.
    pub fn of(listener: Arc<Mutex<dyn Listener>>) -> Self {
        Self(Some(listener))
    }

    pub(crate) fn hear(&self, at: Nanos, device: DeviceIndex, what: What) {
        if let Some(listener) = &self.0 {
            lock(listener).heard(&Happening { at, device, what });
        }
    }
}

/// A digest of bytes that is quick rather than strong: of their length, their beginning and their end.
pub(crate) fn digest(bytes: &[u8]) -> u64 {
    let fold = |digest: u64, part: &[u8]| {
        part.chunks(8).fold(digest, |digest, chunk| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            mix(digest ^ u64::from_le_bytes(word))
        })
    };
    let head = &bytes[..bytes.len().min(64)];
    let tail = &bytes[bytes.len().saturating_sub(64)..];
    fold(fold(bytes.len() as u64, head), tail)
}

/// A device's place in a world, and its name there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Who {
    /// Its number.
    pub index: DeviceIndex,
    /// Its id.
    pub id: DeviceId,
}
