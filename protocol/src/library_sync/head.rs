//! Heads: a device's signed statement of its whole state.

use std::sync::{Arc, OnceLock};

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::codec::{self, DecodeError};
use crate::id::{DeviceId, Epoch, LibraryId, LocationId, Nonce, Sequence};
use crate::limits::HEAD_BYTES_MAX;
use crate::time::Stamp;

const DOMAIN: &[u8] = b"tidegate head v2\0";

/// What a device says of itself at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The library it belongs to; a head of another library is nothing here.
    pub library: LibraryId,
    /// The author.
    pub device: DeviceId,
    /// The author's epoch.
    pub epoch: Epoch,
    /// Its newest row.
    pub sequence: Sequence,
    /// How many live rows it has, tombstones included.
    pub row_count: u64,
    /// The sum of their encoded lengths, in bytes.
    pub row_bytes: u64,
    /// [`super::SetHash::digest`] of those rows.
    pub set_hash: [u8; 32],
    /// The highest membership epoch it has applied.
    pub membership: u64,
    /// When its author first said this. Grows with everything new that it says.
    pub stamp: Stamp,
    /// The author's wall clock in milliseconds, to measure the offset by.
    pub wall_ms: u64,
    /// How its locations stand, sorted by id.
    pub locations: Vec<LocationStatus>,
    /// Set when the head answers a request: what the asker drew for it.
    pub nonce: Option<Nonce>,
}

/// The part of a head that names a state of the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HeadRef {
    /// The author.
    pub device: DeviceId,
    /// Its epoch.
    pub epoch: Epoch,
    /// Its newest row.
    pub sequence: Sequence,
    /// Digest over all its rows.
    pub set_hash: [u8; 32],
}

/// How one location stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocationStatus {
    /// Which.
    pub location: LocationId,
    /// Whether the root is there and is the one that was added.
    pub root: RootState,
    /// Why the index may differ from the disk; empty when settled.
    pub unsettled: Vec<Unsettled>,
    /// Paths waiting to be looked at.
    pub dirty: u64,
}

/// State of a location's root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RootState {
    /// There, with its marker, on its file system.
    Present,
    /// Not there.
    Missing,
    /// Something is there, but marker or file system differ.
    Replaced,
}

/// Why a location is not settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unsettled {
    /// A full scan is due or running: start, overflow, lost watch, or asked for.
    Scan,
    /// Watcher events are waiting to be looked at.
    Events,
}

/// A head with its author's signature: the only form in which heads travel and are stored. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SignedHead(Arc<Signed>);

#[derive(Debug)]
struct Signed {
    bytes: SignedBytes,
    /// What the bytes say, once somebody has asked.
    read: OnceLock<Head>,
}

/// As it travels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct SignedBytes {
    #[serde(with = "serde_bytes")]
    head: Vec<u8>,
    #[serde(with = "serde_bytes")]
    signature: Vec<u8>,
}

impl PartialEq for SignedHead {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.bytes == other.0.bytes
    }
}

impl Eq for SignedHead {}

impl Serialize for SignedHead {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.bytes.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SignedHead {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        SignedBytes::deserialize(deserializer).map(Self::from_bytes)
    }
}

/// Why a signed head was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// Larger than `HEAD_BYTES_MAX`.
    #[error("a head that is too large")]
    TooLarge,
    /// Not a head.
    #[error("a head that does not decode: {0}")]
    Decode(#[from] DecodeError),
    /// The signature is not the author's.
    #[error("a head whose signature does not fit its author")]
    Signature,
}

impl SignedHead {
    /// Signs. The device in the head must be the key's.
    pub fn sign(head: &Head, key: &SigningKey) -> Self {
        debug_assert_eq!(head.device.as_bytes(), key.verifying_key().as_bytes());
        let bytes = codec::encode(head);
        let signature = key.sign(&signed_bytes(&bytes)).to_bytes().to_vec();
        Self(Arc::new(Signed { bytes: SignedBytes { head: bytes, signature }, read: OnceLock::from(head.clone()) }))
    }

    fn from_bytes(bytes: SignedBytes) -> Self {
        Self(Arc::new(Signed { bytes, read: OnceLock::new() }))
    }

    /// What it claims to be: checks size and form, and not the signature.
    pub fn claimed(&self) -> Result<Head, HeadError> {
        let bytes = &self.0.bytes.head;
        if bytes.len() > HEAD_BYTES_MAX {
            return Err(HeadError::TooLarge);
        }
        Ok(codec::decode(bytes)?)
    }

    /// Checks size, form and signature, in this order.
    pub fn verify(&self) -> Result<Head, HeadError> {
        let head = self.claimed()?;
        let key = VerifyingKey::from_bytes(head.device.as_bytes()).map_err(|_| HeadError::Signature)?;
        let SignedBytes { head: bytes, signature } = &self.0.bytes;
        let signature = Signature::from_slice(signature).map_err(|_| HeadError::Signature)?;
        key.verify_strict(&signed_bytes(bytes), &signature).map_err(|_| HeadError::Signature)?;
        Ok(head)
    }

    /// Reads a head that this device verified before it stored it.
    pub fn trusted(&self) -> &Head {
        let read = || codec::decode_stored(&self.0.bytes.head).expect("only verified heads are stored");
        self.0.read.get_or_init(read)
    }
}

impl Head {
    /// Which state of the rows this names.
    pub const fn reference(&self) -> HeadRef {
        HeadRef { device: self.device, epoch: self.epoch, sequence: self.sequence, set_hash: self.set_hash }
    }

    /// Whether two heads prove that one number was used for two states: a fork.
    pub fn forks_from(&self, other: &Self) -> bool {
        (self.device, self.epoch, self.sequence) == (other.device, other.epoch, other.sequence)
            && (self.row_count, self.row_bytes, self.set_hash) != (other.row_count, other.row_bytes, other.set_hash)
    }

    /// Status of one location.
    pub fn location(&self, id: LocationId) -> Option<&LocationStatus> {
        self.locations.iter().find(|status| status.location == id)
    }
}

fn signed_bytes(head: &[u8]) -> Vec<u8> {
    [DOMAIN, head].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(key: &SigningKey) -> Head {
        let device = DeviceId::from_bytes(key.verifying_key().to_bytes());
        Head {
            library: LibraryId::from_bytes([1; 16]),
            device,
            epoch: Epoch(3),
            sequence: Sequence(9),
            row_count: 5,
            row_bytes: 700,
            set_hash: [4; 32],
            membership: 2,
            stamp: Stamp::zero(device).next(77),
            wall_ms: 77,
            locations: Vec::new(),
            nonce: None,
        }
    }

    #[test]
    fn a_head_is_accepted_only_as_its_author_signed_it() {
        let (key, other) = (SigningKey::from_bytes(&[1; 32]), SigningKey::from_bytes(&[2; 32]));
        let head = head(&key);
        let signed = SignedHead::sign(&head, &key);
        assert_eq!(signed.verify(), Ok(head.clone()));
        let mut tampered = signed.0.bytes.clone();
        tampered.head[60] ^= 1;
        assert!(SignedHead::from_bytes(tampered).verify().is_err());
        let bytes = signed.0.bytes.clone();
        let signature = other.sign(&signed_bytes(&bytes.head)).to_bytes().to_vec();
        let forged = SignedHead::from_bytes(SignedBytes { signature, ..bytes });
        assert_eq!(forged.verify(), Err(HeadError::Signature));
    }

    #[test]
    fn two_states_under_one_number_are_a_fork_and_two_statuses_are_not() {
        let head = head(&SigningKey::from_bytes(&[1; 32]));
        let status = Head { wall_ms: 99, nonce: Some(Nonce::from_bytes([1; 16])), ..head.clone() };
        assert!(!head.forks_from(&status));
        assert!(head.forks_from(&Head { set_hash: [5; 32], ..head.clone() }));
        assert!(!head.forks_from(&Head { sequence: Sequence(10), set_hash: [5; 32], ..head.clone() }));
    }
}
