//! Where members were last reached, kept over restarts: where multicast is blocked, nothing else would say.
//!
//! The file holds hints. It may be lost or be wrong, and nothing but an attempt to connect comes of it: who
//! answers is proved by its key.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tidegate_protocol::id::DeviceId;
use tidegate_protocol::limits::DEVICES_MAX;

/// Name of the file in the state directory.
const FILE: &str = "addresses.json";
/// Largest file that is read, in bytes: an id and an address for each device.
const FILE_BYTES_MAX: u64 = DEVICES_MAX as u64 * 256;

/// The last address of each member.
#[derive(Debug)]
pub(super) struct Addresses {
    path: PathBuf,
    known: BTreeMap<DeviceId, SocketAddr>,
}

impl Addresses {
    /// Reads what was kept; a file that cannot be read is no hint.
    pub(super) fn load(state: &Path) -> Self {
        let path = state.join(FILE);
        let small = std::fs::metadata(&path).is_ok_and(|found| found.len() <= FILE_BYTES_MAX);
        let text = if small { std::fs::read(&path).unwrap_or_default() } else { Vec::new() };
        let kept: BTreeMap<String, SocketAddr> = serde_json::from_slice(&text).unwrap_or_default();
        let known = kept.into_iter().filter_map(|(device, address)| Some((device.parse().ok()?, address))).collect();
        Self { path, known }
    }

    /// What was kept.
    pub(super) fn all(&self) -> impl Iterator<Item = (DeviceId, SocketAddr)> + '_ {
        self.known.iter().map(|(device, address)| (*device, *address))
    }

    /// Keeps where a member was reached just now.
    pub(super) fn keep(&mut self, device: DeviceId, address: SocketAddr) {
        if self.known.insert(device, address) == Some(address) {
            return;
        }
        while self.known.len() > DEVICES_MAX {
            self.known.pop_first();
        }
        if let Err(error) = self.save() {
            tracing::warn!(%error, "where members are is not kept");
        }
    }

    fn save(&self) -> std::io::Result<()> {
        let text: BTreeMap<String, SocketAddr> =
            self.all().map(|(device, address)| (device.to_string(), address)).collect();
        let directory = self.path.parent().unwrap_or(Path::new("."));
        // tempfile creates with mode 0600.
        let mut file = tempfile::Builder::new().prefix(".addresses-").tempfile_in(directory)?;
        file.write_all(&serde_json::to_vec(&text)?)?;
        file.persist(&self.path)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_kept_and_a_broken_file_is_no_hint() {
        let state = tempfile::tempdir().unwrap();
        let device = DeviceId::from_bytes([7; 32]);
        let address: SocketAddr = "192.168.1.20:7421".parse().unwrap();
        Addresses::load(state.path()).keep(device, address);
        assert_eq!(Addresses::load(state.path()).all().collect::<Vec<_>>(), [(device, address)]);
        std::fs::write(state.path().join(FILE), b"{").unwrap();
        assert_eq!(Addresses::load(state.path()).all().count(), 0);
    }
}
