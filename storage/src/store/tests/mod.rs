//! Tests of the replica, and what they share: devices with keys, small rows, a pull between two stores, and
//! an audit that recomputes everything that the store keeps incrementally.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod bases;
mod entries;
mod format;
mod local;
mod log;
mod open;

use ed25519_dalek::SigningKey;
use redb::backends::InMemoryBackend;
use tidegate_protocol::file_sync::NameRules;
use tidegate_protocol::hash::ContentHash;
use tidegate_protocol::id::{DeviceId, Epoch, Label, LibraryId, LocationId, Sequence};
use tidegate_protocol::index::{Entry, EntryKind, EntryState, FileFacts, Location, StatMark, UnknownCause, Version};
use tidegate_protocol::library_sync::{Fact, Head, Row, RowBody, RowKey, SetHash, SignedHead};
use tidegate_protocol::path::{DirPath, EntryPath};
use tidegate_protocol::time::Stamp;

use super::{Change, Counters, Reader, Refusal, RowsPage, Store};

pub(super) const EPOCH: Epoch = Epoch(7);
pub(super) const HOME: LocationId = LocationId::from_bytes([0x10; 16]);
pub(super) const OTHER: LocationId = LocationId::from_bytes([0x20; 16]);

pub(super) fn key(n: u8) -> SigningKey {
    SigningKey::from_bytes(&[n; 32])
}

pub(super) fn device(n: u8) -> DeviceId {
    DeviceId::from_bytes(key(n).verifying_key().to_bytes())
}

pub(super) fn path(text: &str) -> EntryPath {
    EntryPath::from_slashes(text.as_bytes()).unwrap()
}

pub(super) fn dir(text: &str) -> DirPath {
    DirPath::from_slashes(text.as_bytes()).unwrap()
}

pub(super) fn version(n: u64) -> Version {
    let mut version = Version::NONE;
    version.bump(DeviceId::from_bytes([9; 32]), n);
    version
}

pub(super) fn present(kind: EntryKind) -> EntryState {
    EntryState::Present(Entry { kind, version: version(1) })
}

/// A file of `n` bytes.
pub(super) fn file(n: u64) -> EntryState {
    let content = ContentHash::of(&n.to_le_bytes());
    present(EntryKind::File(FileFacts { content, size: n, mtime_ns: -1, executable: false }))
}

pub(super) fn directory() -> EntryState {
    present(EntryKind::Directory { residue: false })
}

pub(super) fn deleted() -> EntryState {
    EntryState::Deleted(version(2))
}

pub(super) fn unknown() -> EntryState {
    present(EntryKind::Unknown(UnknownCause::Unreadable))
}

pub(super) fn mark(n: u64) -> StatMark {
    StatMark { size: n, mtime_ns: -1, ctime_ns: 5, inode: n }
}

pub(super) fn location(owner: DeviceId, id: LocationId, root: &str, removed: bool) -> Fact {
    Fact::Location(Location {
        id,
        owner,
        name: Label::new("home").unwrap(),
        root: root.to_owned(),
        rules: Vec::new(),
        grants: Vec::new(),
        stamp: Stamp::zero(owner),
        names: NameRules::POSIX,
        removed,
    })
}

pub(super) fn put(id: LocationId, text: &str, state: EntryState) -> Change {
    Change::entry(id, path(text), state, None)
}

/// An empty replica in memory.
pub(super) fn memory(n: u8) -> Store {
    Store::with_backend(InMemoryBackend::new(), device(n)).unwrap()
}

/// A replica in memory whose device has an epoch and the location `HOME`.
pub(super) fn author(n: u8) -> Store {
    let store = memory(n);
    let mut txn = store.write().unwrap();
    txn.start_epoch(device(n), EPOCH).unwrap();
    txn.put_own(vec![Change::fact(location(device(n), HOME, "/a", false))]).unwrap();
    txn.commit().unwrap();
    store
}

pub(super) fn put_own(store: &Store, changes: Vec<Change>) -> Sequence {
    let mut txn = store.write().unwrap();
    let upto = txn.put_own(changes).unwrap();
    txn.commit().unwrap();
    upto
}

/// The head of what `store` holds of device `n`, signed by that device.
pub(super) fn head(store: &Store, n: u8) -> SignedHead {
    let state = store.read().unwrap().author(device(n)).unwrap().unwrap();
    let head = Head {
        library: LibraryId::from_bytes([3; 16]),
        device: device(n),
        epoch: state.epoch,
        sequence: state.upto,
        row_count: state.row_count,
        row_bytes: state.row_bytes,
        set_hash: state.set_hash.digest(),
        membership: 0,
        stamp: Stamp::zero(device(n)),
        wall_ms: 0,
        locations: Vec::new(),
        nonce: None,
    };
    SignedHead::sign(&head, &key(n))
}

pub(super) fn page(store: &Store, n: u8, from: Sequence, rows_max: usize) -> RowsPage {
    store.read().unwrap().rows_after(device(n), from, rows_max, usize::MAX).unwrap()
}

pub(super) fn rows(store: &Store, n: u8) -> Vec<Row> {
    page(store, n, Sequence::ZERO, usize::MAX - 1).rows
}

/// Applies one page; the head goes with the page that ends at it.
pub(super) fn apply(to: &Store, n: u8, from: Sequence, page: RowsPage, head: &SignedHead) -> Result<(), Refusal> {
    let mut txn = to.write().unwrap();
    txn.start_epoch(device(n), EPOCH).unwrap();
    let rests = (page.upto == head.trusted().sequence).then_some(head);
    let verdict = txn.apply_rows(device(n), EPOCH, from, page.upto, page.rows, rests).unwrap();
    txn.commit().unwrap();
    verdict
}

pub(super) fn upto(store: &Store, n: u8) -> Sequence {
    store.read().unwrap().author(device(n)).unwrap().map_or(Sequence::ZERO, |author| author.upto)
}

/// Brings `to` level with what `from` holds of device `n`, in pages of `rows_max`.
pub(super) fn pull(from: &Store, to: &Store, n: u8, rows_max: usize) {
    let head = head(from, n);
    while upto(to, n) != head.trusted().sequence {
        let at = upto(to, n);
        apply(to, n, at, page(from, n, at, rows_max), &head).unwrap();
        audit(to);
    }
}

/// Recomputes what the store keeps incrementally, from the rows themselves.
pub(super) fn audit(store: &Store) {
    let reader = store.read().unwrap();
    for (device, author) in reader.authors().unwrap() {
        let rows = reader.rows_after(device, Sequence::ZERO, usize::MAX - 1, usize::MAX).unwrap().rows;
        let mut hash = SetHash::empty();
        let mut counters = std::collections::BTreeMap::<LocationId, Counters>::new();
        let mut bytes = 0;
        for row in &rows {
            bytes += hash.add(row);
            if let (RowKey::Entry(location, _), RowBody::Entry(state)) = (&row.key, &row.body) {
                counters.entry(*location).or_default().add(state);
            }
        }
        assert!(rows.is_sorted_by(|a, b| a.sequence < b.sequence));
        assert!(rows.last().is_none_or(|row| row.sequence <= author.upto));
        assert_eq!((rows.len() as u64, bytes, hash), (author.row_count, author.row_bytes, author.set_hash.clone()));
        for location in [HOME, OTHER] {
            let tree = reader.tree(device, location).unwrap();
            assert_eq!(tree.counters, counters.remove(&location).unwrap_or_default());
            let stored = reader.entries(tree, &DirPath::TOP, None).unwrap().map(Result::unwrap);
            assert_eq!(stored.count() as u64, tree.counters.rows);
        }
        assert!(counters.is_empty());
        if let Some(rests) = &author.rests {
            assert_eq!(rests.trusted().reference().set_hash, hash_of(&reader, device));
        }
    }
}

fn hash_of(reader: &Reader, device: DeviceId) -> [u8; 32] {
    reader.author(device).unwrap().unwrap().set_hash.digest()
}
