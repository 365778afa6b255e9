//! The page file under redb and under the replica: thousands of commits, and power cuts at any write.

use redb::{Database, Durability, ReadableDatabase, TableDefinition};
use tidegate_protocol::id::DeviceId;
use tidegate_storage::store::{Store, StoreError};

use super::*;
use crate::random::{Draws, Kind};

const TABLE: TableDefinition<u64, &[u8]> = TableDefinition::new("t");
const LEFT: [DataLeft; 4] = [DataLeft::None, DataLeft::All, DataLeft::Some, DataLeft::Torn];

fn stream(seed: u64) -> Stream {
    Draws::new(seed).stream(Kind::Backend, 1, 0)
}

/// Writes the number of the commit under a few keys.
fn commit(database: &Database, number: u64, keys: &mut Stream) -> Result<(), redb::Error> {
    let mut txn = database.begin_write()?;
    txn.set_durability(Durability::Immediate)?;
    {
        let mut table = txn.open_table(TABLE)?;
        table.insert(0, number.to_le_bytes().as_slice())?;
        for _ in 0..keys.below(8) {
            let value = vec![number as u8; keys.below(3_000) as usize];
            table.insert(1 + keys.below(200), value.as_slice())?;
        }
    }
    Ok(txn.commit()?)
}

fn last(database: &Database) -> u64 {
    let read = || -> Result<Option<u64>, redb::Error> {
        let txn = database.begin_read()?;
        let value = txn.open_table(TABLE)?.get(0)?;
        Ok(value.map(|value| u64::from_le_bytes(value.value().try_into().unwrap())))
    };
    read().ok().flatten().unwrap_or(0)
}

/// Commits until the process dies at some write, again and again. Answers how many commits were acknowledged
/// and how many of those were gone afterwards.
fn commits_and_losses(seed: u64, cuts: u64, lies: bool) -> (u64, u64) {
    let file = PageFile::new(stream(seed));
    let mut chance = stream(seed).below_key(1);
    drop(Store::with_backend(file.open(), DeviceId::from_bytes([1; 32])).unwrap());
    file.created();
    let (mut number, mut acknowledged, mut said, mut lost) = (0, 0, 0, 0);
    file.faults(|faults| faults.lies = lies);
    for _ in 0..cuts {
        let Ok(database) = Database::builder().create_with_backend(file.open()) else { return (said, lost + 1) };
        lost += u64::from(last(&database) < acknowledged);
        acknowledged = last(&database);
        let calls = file.calls();
        file.faults(|faults| faults.die_at = Some(calls + chance.range(1, 200)));
        loop {
            number += 1;
            match commit(&database, number, &mut chance) {
                Ok(()) => (acknowledged, said) = (number, said + 1),
                Err(_) => break,
            }
        }
        drop(database);
        if chance.chance(800_000) { file.power_cut(LEFT[chance.index(4)]) } else { file.kill() }
    }
    (said, lost)
}

#[test]
fn no_acknowledged_commit_is_lost_whatever_a_power_cut_leaves() {
    let all: Vec<(u64, u64)> = (0..8).map(|seed| commits_and_losses(seed, 60, false)).collect();
    assert!(all.iter().all(|(_, lost)| *lost == 0), "{all:?}");
    assert!(all.iter().map(|(said, _)| said).sum::<u64>() > 3_000, "{all:?}");
    assert_eq!(all[0], commits_and_losses(0, 60, false), "the same seed does the same");
}

#[test]
fn a_sync_that_lies_is_found_out() {
    let lost = std::panic::catch_unwind(|| (0..4).map(|seed| commits_and_losses(seed, 10, true).1).sum::<u64>());
    // redb may give up on what such a disk leaves.
    assert!(lost.is_err() || lost.is_ok_and(|lost| lost > 0));
}

#[test]
fn a_cut_at_any_write_of_the_first_commit_leaves_no_file_and_later_ones_a_replica() {
    let device = DeviceId::from_bytes([1; 32]);
    for at in 1..200 {
        let file = PageFile::new(stream(at));
        let backend = file.open();
        file.faults(|faults| faults.die_at = Some(at));
        let first = Store::with_backend(backend, device);
        let whole = first.is_ok() && file.is_alive();
        drop(first);
        if whole {
            return;
        }
        file.power_cut(LEFT[at as usize % 4]);
        assert_eq!(file.bytes(), 0);
        drop(Store::with_backend(file.open(), device).unwrap());
    }
    panic!("it does not end");
}

#[test]
fn a_full_disk_says_so_and_loses_nothing() {
    let file = PageFile::new(stream(1));
    let database = Database::builder().create_with_backend(file.open()).unwrap();
    file.created();
    file.faults(|faults| faults.bytes_max = Some(8 << 20));
    let fill = |number: u64| -> Result<(), redb::Error> {
        let txn = database.begin_write()?;
        txn.open_table(TABLE)?.insert(number, vec![1; 30_000].as_slice())?;
        txn.open_table(TABLE)?.insert(0, number.to_le_bytes().as_slice())?;
        Ok(txn.commit()?)
    };
    let most = (1..1_000).find(|number| fill(*number).is_err()).expect("a disk gets full");
    assert!(most > 100 && file.bytes() <= 8 << 20);
    drop(database);
    let database = Database::builder().create_with_backend(file.open()).unwrap();
    assert!(last(&database) >= most - 1);
    drop(database);
    file.faults(|faults| *faults = PageFaults { fail_with: Some(Errno::NoSpace), ..PageFaults::default() });
    let full = Store::with_backend(file.open(), DeviceId::from_bytes([1; 32]));
    assert!(matches!(full, Err(StoreError::Full)), "{full:?}");
}

#[test]
fn a_copy_comes_back_as_it_was() {
    let file = PageFile::new(stream(1));
    let mut chance = stream(2);
    let database = Database::builder().create_with_backend(file.open()).unwrap();
    file.created();
    commit(&database, 1, &mut chance).unwrap();
    drop(database);
    let image = file.image();
    let database = Database::builder().create_with_backend(file.open()).unwrap();
    commit(&database, 2, &mut chance).unwrap();
    drop(database);
    file.restore(&image);
    assert_eq!(last(&Database::builder().create_with_backend(file.open()).unwrap()), 1);
    file.remove();
    assert_eq!(file.bytes(), 0);
}
