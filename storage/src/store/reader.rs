//! Reading: two primitives that a snapshot and a transaction share, and [`Reader`], on which every typed
//! read is written once (beside the writes of its group, in the other files).

use std::ops::{Bound, ControlFlow, Deref};

use redb::{AccessGuard, ReadableTable};
use serde::de::DeserializeOwned;
use tidegate_protocol::id::DeviceId;

use super::error::StoreError;
use super::remembered::Remembered;
use super::tables::{Table, after_prefix};
use super::{Snapshot, Txn, record};

/// Keys from and to.
pub type KeyRange<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// Called with key and value; breaks to end the walk.
pub type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>, StoreError> + 'a;

/// Which way a walk goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Keys grow.
    Forward,
    /// Keys shrink.
    Backward,
}

/// What is needed of tables to read the replica.
pub trait Tables {
    /// The value under a key.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Visits the keys of a range in order.
    fn walk(&self, table: Table, range: KeyRange<'_>, order: Order, visit: &mut Visit<'_>) -> Result<(), StoreError>;

    /// The wall time at which shared facts are merged, in milliseconds; later than any stamp unless it was told.
    fn wall_ms(&self) -> u64 {
        u64::MAX
    }

    /// Where the state of an author is remembered, if what is read here of it is what was committed last.
    fn remembered_author(&self, _: DeviceId) -> Option<&Remembered> {
        None
    }

    /// The same for facts.
    fn remembered_facts(&self) -> Option<&Remembered> {
        None
    }
}

/// Everything that can be read, from a [`Snapshot`] or inside a [`Txn`] (which sees its own writes).
pub type Reader = dyn Tables;

impl dyn Tables {
    /// The record under a key.
    #[track_caller]
    pub(super) fn record<T: DeserializeOwned>(&self, table: Table, key: &[u8]) -> Result<Option<T>, StoreError> {
        self.get(table, key)?.map(|bytes| record::decode(&bytes)).transpose()
    }

    /// Visits all keys that start with `prefix`.
    pub(super) fn walk_prefix(
        &self,
        table: Table,
        prefix: &[u8],
        order: Order,
        visit: &mut Visit<'_>,
    ) -> Result<(), StoreError> {
        let end = after_prefix(prefix);
        self.walk(table, (Bound::Included(prefix), upper(end.as_deref())), order, visit)
    }
}

/// A range's end: before `end`, or nowhere.
pub(super) fn upper(end: Option<&[u8]>) -> Bound<&[u8]> {
    end.map_or(Bound::Unbounded, Bound::Excluded)
}

impl Tables for Snapshot {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.table(table)?.get(key)?.map(|guard| guard.value().to_vec()))
    }

    fn walk(&self, table: Table, range: KeyRange<'_>, order: Order, visit: &mut Visit<'_>) -> Result<(), StoreError> {
        let pairs = self.table(table)?.range::<&[u8]>(range)?;
        match order {
            Order::Forward => visit_all(pairs, visit),
            Order::Backward => visit_all(pairs.rev(), visit),
        }
    }
}

impl Tables for Txn {
    fn wall_ms(&self) -> u64 {
        self.told_wall_ms()
    }

    fn remembered_author(&self, device: DeviceId) -> Option<&Remembered> {
        self.last_of_author(device)
    }

    fn remembered_facts(&self) -> Option<&Remembered> {
        self.last_of_facts()
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        if let Some(before) = self.unchanged(table) {
            return before.get(table, key);
        }
        Ok(self.table(table)?.get(key)?.map(|guard| guard.value().to_vec()))
    }

    fn walk(&self, table: Table, range: KeyRange<'_>, order: Order, visit: &mut Visit<'_>) -> Result<(), StoreError> {
        if let Some(before) = self.unchanged(table) {
            return before.walk(table, range, order, visit);
        }
        let table = self.table(table)?;
        let pairs = table.range::<&[u8]>(range)?;
        match order {
            Order::Forward => visit_all(pairs, visit),
            Order::Backward => visit_all(pairs.rev(), visit),
        }
    }
}

impl Deref for Snapshot {
    type Target = Reader;

    fn deref(&self) -> &Reader {
        self
    }
}

impl Deref for Txn {
    type Target = Reader;

    fn deref(&self) -> &Reader {
        self
    }
}

type Pair<'a> = (AccessGuard<'a, &'static [u8]>, AccessGuard<'a, &'static [u8]>);

fn visit_all<'a>(
    pairs: impl Iterator<Item = Result<Pair<'a>, redb::StorageError>>,
    visit: &mut Visit<'_>,
) -> Result<(), StoreError> {
    for pair in pairs {
        let (key, value) = pair?;
        if visit(key.value(), value.value())?.is_break() {
            break;
        }
    }
    Ok(())
}
