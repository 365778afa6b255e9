//! The one write transaction, and the primitives on which every typed write is written.

use std::cell::Cell;

use redb::{ReadableTable, WriteTransaction};
use tidegate_protocol::id::DeviceId;

use super::Snapshot;
use super::error::StoreError;
use super::reader::upper;
use super::tables::{Table, after_prefix};

/// A write transaction. [`Txn::commit`] makes it durable; dropping it undoes all of it.
pub struct Txn {
    redb: WriteTransaction,
    /// What was there when it began. It is read from as long as nothing was changed: that is much cheaper.
    before: Snapshot,
    device: DeviceId,
    wall_ms: u64,
    /// Whether anything was changed so far.
    changed: Cell<bool>,
}

/// A table open for writing. A table is open once at a time, so it is never held across another method.
pub(super) type WriteTable<'a> = redb::Table<'a, &'static [u8], &'static [u8]>;

impl Txn {
    /// `before` was begun after `redb`, so no commit lies between them.
    pub(super) const fn new(redb: WriteTransaction, before: Snapshot, device: DeviceId) -> Self {
        Self { redb, before, device, wall_ms: u64::MAX, changed: Cell::new(false) }
    }

    /// What a table's reads see, as long as nothing was changed. A table that a migration has yet to make is not in it.
    pub(super) fn unchanged(&self, table: Table) -> Option<&Snapshot> {
        Some(&self.before).filter(|before| !self.changed.get() && before.table(table).is_ok())
    }

    /// Whose replica this is.
    pub const fn device(&self) -> DeviceId {
        self.device
    }

    /// Tells the wall time, in milliseconds: shared facts that are stamped too far ahead of it win against none.
    pub const fn set_wall_ms(&mut self, wall_ms: u64) {
        self.wall_ms = wall_ms;
    }

    pub(super) const fn told_wall_ms(&self) -> u64 {
        self.wall_ms
    }

    /// Commits. When it returns, everything is on the disk; on an error nothing of it is. Where nothing was
    /// changed there is nothing to make durable, and the disk is left alone.
    pub fn commit(self) -> Result<(), StoreError> {
        // The pages that it alone still sees need not be kept.
        drop(self.before);
        if self.changed.get() { Ok(self.redb.commit()?) } else { Ok(self.redb.abort()?) }
    }

    /// A table to change.
    pub(super) fn table_mut(&self, table: Table) -> Result<WriteTable<'_>, StoreError> {
        self.changed.set(true);
        Ok(self.redb.open_table(table.definition())?)
    }

    /// A table to read, as this transaction sees it. Its type has no writes: a write that does not say so would be lost.
    pub(super) fn table(&self, table: Table) -> Result<impl ReadableTable<&'static [u8], &'static [u8]>, StoreError> {
        Ok(self.redb.open_table(table.definition())?)
    }

    pub(super) fn put(&self, table: Table, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.table_mut(table)?.insert(key, value)?;
        Ok(())
    }

    /// Removes a key. Says whether it was there.
    pub(super) fn remove(&self, table: Table, key: &[u8]) -> Result<bool, StoreError> {
        Ok(self.table_mut(table)?.remove(key)?.is_some())
    }

    /// Removes all keys that start with `prefix`.
    pub(super) fn remove_prefix(&self, table: Table, prefix: &[u8]) -> Result<(), StoreError> {
        let end = after_prefix(prefix);
        let range = (std::ops::Bound::Included(prefix), upper(end.as_deref()));
        self.table_mut(table)?.retain_in::<&[u8], _>(range, |_, _| false)?;
        Ok(())
    }
}

impl std::fmt::Debug for Txn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Txn")
    }
}
