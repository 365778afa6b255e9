//! Short names for what tests name often. A device is a number; its key, id and name follow from it.

use ed25519_dalek::SigningKey;
use tidegate_protocol::id::{DeviceId, Label};
use tidegate_protocol::path::EntryPath;

/// First device.
pub(crate) const A: usize = 0;
/// Second device.
pub(crate) const B: usize = 1;
/// Third device.
pub(crate) const C: usize = 2;

pub(crate) fn label(text: &str) -> Label {
    Label::new(text).unwrap()
}

pub(crate) fn path(text: &str) -> EntryPath {
    EntryPath::from_slashes(text.as_bytes()).unwrap()
}

pub(crate) fn file(path: &str, content: &str) -> (String, String) {
    (path.to_owned(), content.to_owned())
}

pub(crate) fn key(node: usize) -> SigningKey {
    SigningKey::from_bytes(&[node as u8 + 1; 32])
}

pub(crate) fn id(node: usize) -> DeviceId {
    DeviceId::from_bytes(key(node).verifying_key().to_bytes())
}

pub(crate) fn name(node: usize) -> Label {
    label(["A", "B", "C", "D"][node])
}
