//! The replica at 100,000 and 1,000,000 entries, on a real disk: own changes, rows of others, rows for others,
//! scans, commits. `TMPDIR` says on which disk.

use divan::Bencher;
use tempfile::TempDir;
use tidegate_protocol::file_sync::NameRules;
use tidegate_protocol::hash::ContentHash;
use tidegate_protocol::id::{DeviceId, Epoch, Label, LocationId, Sequence};
use tidegate_protocol::index::{Entry, EntryKind, EntryState, FileFacts, Location, Version};
use tidegate_protocol::library_sync::{Fact, Row};
use tidegate_protocol::limits::{ROWS_BYTES_MAX, ROWS_PER_ANSWER_MAX};
use tidegate_protocol::path::{DirPath, EntryPath};
use tidegate_protocol::time::Stamp;
use tidegate_storage::store::{Change, Store};

const AUTHOR: DeviceId = DeviceId::from_bytes([1; 32]);
const OTHER: DeviceId = DeviceId::from_bytes([2; 32]);
const HOME: LocationId = LocationId::from_bytes([0x10; 16]);
const EPOCH: Epoch = Epoch(7);
/// Rows of one own commit, as a scan makes it.
const BATCH: usize = 10_000;
const SIZES: [u64; 2] = [100_000, 1_000_000];

fn main() {
    divan::main();
}

fn entry(n: u64, edit: u64) -> Change {
    let text = format!("photos/{:04}/holiday-{:08}.jpeg", n / 1000, n);
    let path = EntryPath::from_slashes(text.as_bytes()).expect("a plain path");
    let mut version = Version::NONE;
    version.bump(AUTHOR, 1_700_000_000_000 + edit);
    let content = ContentHash::of(&n.to_le_bytes());
    let file = FileFacts { content, size: n, mtime_ns: 1_700_000_000_000_000_000, executable: false };
    Change::entry(HOME, path, EntryState::Present(Entry { kind: EntryKind::File(file), version }), None)
}

fn empty() -> (TempDir, Store) {
    let dir = TempDir::new().expect("a temporary directory");
    let store = Store::open(&dir.path().join("index.redb"), AUTHOR).expect("a new store");
    let mut txn = store.write().expect("a transaction");
    txn.start_epoch(AUTHOR, EPOCH).expect("an epoch");
    let location = Location {
        id: HOME,
        owner: AUTHOR,
        name: Label::lossy("home"),
        root: "/home".to_owned(),
        rules: Vec::new(),
        grants: Vec::new(),
        stamp: Stamp::zero(AUTHOR),
        names: NameRules::POSIX,
        removed: false,
    };
    txn.put_own(vec![Change::fact(Fact::Location(location))]).expect("a location");
    txn.commit().expect("a commit");
    (dir, store)
}

fn fill(store: &Store, entries: u64) {
    for first in (0..entries).step_by(BATCH) {
        let changes = (first..entries.min(first + BATCH as u64)).map(|n| entry(n, 0)).collect();
        let mut txn = store.write().expect("a transaction");
        txn.put_own(changes).expect("own rows");
        txn.commit().expect("a commit");
    }
}

fn filled(entries: u64) -> (TempDir, Store) {
    let (dir, store) = empty();
    fill(&store, entries);
    (dir, store)
}

fn pages(store: &Store) -> Vec<(Vec<Row>, Sequence)> {
    let reader = store.read().expect("a snapshot");
    let end = reader.author(AUTHOR).expect("a read").expect("the author").upto;
    let (mut at, mut pages) = (Sequence::ZERO, Vec::new());
    while at != end {
        let page = reader.rows_after(AUTHOR, at, ROWS_PER_ANSWER_MAX, ROWS_BYTES_MAX).expect("rows");
        at = page.upto;
        pages.push((page.rows, page.upto));
    }
    pages
}

#[divan::bench(args = SIZES, sample_count = 1, sample_size = 1)]
fn put_own_sorted(bencher: Bencher, entries: u64) {
    bencher.with_inputs(empty).bench_refs(|(_, store)| fill(store, entries));
}

#[divan::bench(args = SIZES, sample_count = 1, sample_size = 1)]
fn apply_rows_of_another(bencher: Bencher, entries: u64) {
    let (_dir, source) = filled(entries);
    let prepare = || {
        let dir = TempDir::new().expect("a temporary directory");
        let store = Store::open(&dir.path().join("index.redb"), OTHER).expect("a new store");
        (dir, store, pages(&source))
    };
    bencher.with_inputs(prepare).bench_values(|(dir, store, pages)| {
        let mut at = Sequence::ZERO;
        for (rows, upto) in pages {
            let mut txn = store.write().expect("a transaction");
            txn.start_epoch(AUTHOR, EPOCH).expect("an epoch");
            txn.apply_rows(AUTHOR, EPOCH, at, upto, rows, None).expect("a write").expect("honest rows");
            txn.commit().expect("a commit");
            at = upto;
        }
        (dir, store)
    });
}

#[divan::bench(args = SIZES, sample_count = 1, sample_size = 1)]
fn rows_for_another(bencher: Bencher, entries: u64) {
    let (_dir, store) = filled(entries);
    bencher.bench_local(|| pages(&store).len());
}

#[divan::bench(args = SIZES, sample_count = 3, sample_size = 1)]
fn walk_all_entries(bencher: Bencher, entries: u64) {
    let (_dir, store) = filled(entries);
    bencher.bench_local(|| {
        let reader = store.read().expect("a snapshot");
        let tree = reader.tree(AUTHOR, HOME).expect("a tree");
        let rows = reader.entries(tree, &DirPath::TOP, None).expect("a walk");
        rows.map(|row| row.expect("a row").path.as_stored().len()).sum::<usize>()
    });
}

#[divan::bench(args = SIZES, sample_count = 3, sample_size = 1)]
fn look_up_every_directory(bencher: Bencher, entries: u64) {
    let (_dir, store) = filled(entries);
    bencher.bench_local(|| {
        let reader = store.read().expect("a snapshot");
        let tree = reader.tree(AUTHOR, HOME).expect("a tree");
        let known = |n: u64| {
            let dir = DirPath::from_slashes(format!("photos/{n:04}").as_bytes()).expect("a plain path");
            reader.known_children(tree, &dir).expect("a read").len()
        };
        (0..entries / 1000).map(known).sum::<usize>()
    });
}

#[divan::bench(args = SIZES, sample_count = 20, sample_size = 1)]
fn commit_one_edit(bencher: Bencher, entries: u64) {
    let (_dir, store) = filled(entries);
    let mut edit = 0;
    bencher.bench_local(|| {
        edit += 1;
        let mut txn = store.write().expect("a transaction");
        txn.put_own(vec![entry(entries / 2, edit)]).expect("an own row");
        txn.commit().expect("a commit");
    });
}
