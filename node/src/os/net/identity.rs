//! The device key: one Ed25519 seed in one file, and the two names it gives a device.
//!
//! A key is created once and never regenerated: a file that is damaged, readable by others or of the wrong
//! length is refused with what to do about it. The seed is wiped from memory when it is dropped, and it is
//! never printed.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;
use libp2p::PeerId;
use libp2p::identity::{self, PublicKey};
use tidegate_protocol::id::DeviceId;
use zeroize::Zeroizing;

/// Bytes of a key file: the seed, nothing else.
const SEED_BYTES: usize = 32;

/// Why a key file was not used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// There is none at this path.
    #[error("there is no device key at {}", .0.display())]
    Missing(PathBuf),
    /// There is one already; a key is never replaced.
    #[error("there is a device key at {} already", .0.display())]
    Exists(PathBuf),
    /// Others could read or change it.
    #[error("the device key is open to others (mode {mode:04o}); run: chmod 600 {}", path.display())]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It belongs to another user.
    #[error("the device key {} belongs to uid {uid}, not to this process", path.display())]
    WrongOwner {
        /// The file.
        path: PathBuf,
        /// Its owner.
        uid: u32,
    },
    /// It is not a regular file of 32 bytes.
    #[error("{} is not a device key: {length} bytes instead of 32; restore it from a backup", path.display())]
    WrongLength {
        /// The file.
        path: PathBuf,
        /// Its length in bytes.
        length: u64,
    },
    /// The file system said no.
    #[error("the device key {} cannot be used", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        #[source]
        source: std::io::Error,
    },
}

/// The secret key of this device.
#[derive(Clone)]
pub struct DeviceKey(SigningKey);

impl DeviceKey {
    /// The key of a seed.
    pub fn from_seed(seed: &[u8; SEED_BYTES]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// Reads the key at `path`.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let io = |source| KeyError::Io { path: path.to_owned(), source };
        let opened =
            OpenOptions::new().read(true).custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed()).open(path);
        let mut file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(KeyError::Missing(path.to_owned()));
            }
            Err(error) => return Err(io(error)),
        };
        let facts = file.metadata().map_err(io)?;
        let mode = facts.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(KeyError::TooOpen { path: path.to_owned(), mode });
        }
        if facts.uid() != rustix::process::geteuid().as_raw() && facts.uid() != 0 {
            return Err(KeyError::WrongOwner { path: path.to_owned(), uid: facts.uid() });
        }
        if !facts.is_file() || facts.len() != SEED_BYTES as u64 {
            return Err(KeyError::WrongLength { path: path.to_owned(), length: facts.len() });
        }
        let mut seed = Zeroizing::new([0; SEED_BYTES]);
        file.read_exact(&mut *seed).map_err(io)?;
        Ok(Self::from_seed(&seed))
    }

    /// Creates the key at `path`, mode 600. The name appears only when the whole seed is on disk, and never
    /// takes the place of another file.
    pub fn create(path: &Path) -> Result<Self, KeyError> {
        let io = |source| KeyError::Io { path: path.to_owned(), source };
        let mut seed = Zeroizing::new([0; SEED_BYTES]);
        getrandom::fill(&mut *seed).map_err(|error| io(error.into()))?;
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let staged = tempfile::Builder::new().prefix(".identity-").tempfile_in(directory).map_err(io)?;
        // tempfile creates with O_EXCL and mode 600.
        staged.as_file().write_all(&*seed).and_then(|()| staged.as_file().sync_all()).map_err(io)?;
        staged.persist_noclobber(path).map_err(|error| {
            if error.error.kind() == std::io::ErrorKind::AlreadyExists {
                KeyError::Exists(path.to_owned())
            } else {
                io(error.error)
            }
        })?;
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(io)?;
        Ok(Self::from_seed(&seed))
    }

    /// Reads the key at `path`, or creates it where there is none.
    pub fn load_or_create(path: &Path) -> Result<Self, KeyError> {
        match Self::load(path) {
            Err(KeyError::Missing(_)) => Self::create(path),
            other => other,
        }
    }

    /// The public half: the name of this device.
    pub fn id(&self) -> DeviceId {
        DeviceId::from_bytes(self.0.verifying_key().to_bytes())
    }

    /// The key as heads are signed with it.
    pub fn signing(&self) -> &SigningKey {
        &self.0
    }

    /// The key as libp2p wants it.
    pub(super) fn keypair(&self) -> identity::Keypair {
        // libp2p wipes the copy that it is given.
        let mut seed = Zeroizing::new(self.0.to_bytes());
        identity::Keypair::ed25519_from_bytes(&mut *seed).expect("32 bytes are a seed")
    }

    /// A key that only this device can derive, for `purpose`.
    pub(super) fn derive(&self, purpose: &str) -> [u8; 32] {
        blake3::derive_key(purpose, &*Zeroizing::new(self.0.to_bytes()))
    }
}

impl std::fmt::Debug for DeviceKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DeviceKey({})", self.id().short())
    }
}

/// The device behind a libp2p name; `None` for a key that is not Ed25519 or stands there only as a hash.
pub fn device_of(peer: &PeerId) -> Option<DeviceId> {
    let multihash = peer.as_ref();
    // Code 0 is the identity hash: the digest is the protobuf of the key itself.
    if multihash.code() != 0 {
        return None;
    }
    let key = PublicKey::try_decode_protobuf(multihash.digest()).ok()?.try_into_ed25519().ok()?;
    Some(DeviceId::from_bytes(key.to_bytes()))
}

/// The libp2p name of a device; `None` when its bytes are no Ed25519 key.
pub fn peer_of(device: DeviceId) -> Option<PeerId> {
    let key = identity::ed25519::PublicKey::try_from_bytes(device.as_bytes()).ok()?;
    Some(PublicKey::from(key).to_peer_id())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_device_and_its_libp2p_name_are_one_key() {
        let key = DeviceKey::from_seed(&[7; 32]);
        let peer = peer_of(key.id()).unwrap();
        assert_eq!(peer, key.keypair().public().to_peer_id());
        assert_eq!(device_of(&peer), Some(key.id()));
    }

    #[test]
    fn a_key_file_is_created_once_and_refused_when_it_is_not_as_created() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("identity.key");
        let created = DeviceKey::load_or_create(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(DeviceKey::load_or_create(&path).unwrap().id(), created.id());
        assert!(matches!(DeviceKey::create(&path), Err(KeyError::Exists(_))));

        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
        let error = DeviceKey::load_or_create(&path).unwrap_err();
        assert!(error.to_string().contains(&format!("chmod 600 {}", path.display())), "{error}");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();

        for length in [0_usize, 31, 33] {
            std::fs::write(&path, vec![1; length]).unwrap();
            assert!(matches!(DeviceKey::load_or_create(&path), Err(KeyError::WrongLength { .. })), "{length}");
            assert_eq!(std::fs::read(&path).unwrap().len(), length, "a damaged key is left as it is");
        }
    }
}
