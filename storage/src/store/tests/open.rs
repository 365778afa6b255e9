//! Opening: what is kept, what is refused, what is moved aside.

use std::fs;
use std::path::Path;

use super::super::migrate::FORMAT;
use super::super::tables::Table;
use super::super::{Foreign, StoreError, meta};
use super::*;

fn create(path: &Path) {
    let store = Store::open(path, device(1)).unwrap();
    let mut txn = store.write().unwrap();
    txn.start_epoch(device(1), EPOCH).unwrap();
    txn.put_own(vec![Change::fact(location(device(1), HOME, "/a", false))]).unwrap();
    txn.put_own((0..500).map(|n| put(HOME, &format!("{n}"), file(n))).collect()).unwrap();
    txn.commit().unwrap();
}

#[test]
fn what_was_committed_is_there_when_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index.redb");
    create(&path);
    let store = Store::open(&path, device(1)).unwrap();
    audit(&store);
    assert_eq!((upto(&store, 1), rows(&store, 1).len()), (Sequence(501), 501));
    assert!(store.db_bytes().unwrap().unwrap() > 0);
    assert!(!dir.path().join("index.redb.new").exists());
}

#[test]
fn what_a_crash_left_of_a_creation_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index.redb");
    fs::write(dir.path().join("index.redb.new"), b"redb\x1a\x0a\xa9\x0d\x0a and nothing more").unwrap();
    create(&path);
    assert_eq!(rows(&Store::open(&path, device(1)).unwrap(), 1).len(), 501);
}

#[test]
fn a_replica_in_use_is_locked() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index.redb");
    let first = Store::open(&path, device(1)).unwrap();
    assert!(matches!(Store::open(&path, device(1)), Err(StoreError::Locked)));
    assert!(matches!(Store::move_aside(&path, "corrupt"), Err(StoreError::Locked)));
    drop(first);
    Store::open(&path, device(1)).unwrap();
}

/// What happens to the file, and what opening it says.
type Accident = (&'static str, fn(&Path), fn(&StoreError) -> bool);

#[test]
fn a_file_that_is_not_a_whole_replica_of_this_device_is_refused_and_not_changed() {
    fn cut(path: &Path, keep: fn(u64) -> u64) {
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_len(keep(file.metadata().unwrap().len())).unwrap();
    }
    fn corrupt(error: &StoreError) -> bool {
        matches!(error, StoreError::Corrupt(_))
    }
    fn not_a_replica(error: &StoreError) -> bool {
        matches!(error, StoreError::Foreign(Foreign::NotAReplica))
    }
    let cases: [Accident; 10] = [
        ("emptied", |path| cut(path, |_| 0), corrupt),
        ("zeroed", |path| fs::write(path, vec![0; 8192]).unwrap(), corrupt),
        ("cut in its header", |path| cut(path, |_| 100), corrupt),
        ("cut to half", |path| cut(path, |length| length / 2), corrupt),
        (
            "garbage after its header",
            |path| {
                let mut bytes = fs::read(path).unwrap();
                bytes[320..].fill(0xa5);
                fs::write(path, bytes).unwrap();
            },
            corrupt,
        ),
        ("text", |path| fs::write(path, "dear diary").unwrap(), not_a_replica),
        (
            "another program's database",
            |path| {
                fs::remove_file(path).unwrap();
                let database = redb::Database::create(path).unwrap();
                let txn = database.begin_write().unwrap();
                txn.open_table(redb::TableDefinition::<u64, u64>::new("meta")).unwrap();
                txn.commit().unwrap();
            },
            not_a_replica,
        ),
        (
            "another device's",
            |path| {
                fs::remove_file(path).unwrap();
                Store::open(path, device(2)).unwrap();
            },
            |error| matches!(error, StoreError::Foreign(Foreign::OtherDevice(other)) if *other == device(2)),
        ),
        (
            "a newer version's",
            |path| {
                let store = Store::open(path, device(1)).unwrap();
                let txn = store.write().unwrap();
                txn.put(Table::Meta, meta::FORMAT_KEY, &(FORMAT + 1).to_be_bytes()).unwrap();
                txn.commit().unwrap();
            },
            |error| matches!(error, StoreError::NewerFormat { found, known: FORMAT } if *found == FORMAT + 1),
        ),
        (
            "of a version before the first release",
            |path| {
                let store = Store::open(path, device(1)).unwrap();
                let txn = store.write().unwrap();
                txn.put(Table::Meta, meta::FORMAT_KEY, &1_u32.to_be_bytes()).unwrap();
                txn.commit().unwrap();
            },
            |error| matches!(error, StoreError::OlderFormat { found: 1, .. }),
        ),
    ];
    for (name, happen, expected) in cases {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index.redb");
        create(&path);
        happen(&path);
        let error = Store::open(&path, device(1)).map(drop).expect_err(name);
        assert!(expected(&error), "{name}: {error:?}");
        let aside = Store::move_aside(&path, "corrupt").unwrap();
        assert_eq!(aside, dir.path().join("index.redb.corrupt-1"));
        assert!(aside.exists() && !path.exists());
        Store::open(&path, device(1)).unwrap();
        assert_eq!(Store::move_aside(&path, "corrupt").unwrap(), dir.path().join("index.redb.corrupt-2"));
    }
}

#[test]
fn a_missing_directory_is_an_io_error_and_nothing_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let error = Store::open(&dir.path().join("no/index.redb"), device(1)).map(drop).unwrap_err();
    assert!(matches!(error, StoreError::Io(_)));
}

#[cfg(unix)]
#[test]
fn nobody_but_the_user_may_read_the_replica() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index.redb");
    create(&path);
    for name in ["index.redb", "index.redb.lock"] {
        assert_eq!(fs::metadata(dir.path().join(name)).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
