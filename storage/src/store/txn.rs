//! The one write transaction, and the primitives on which every typed write is written.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::sync::Arc;

use redb::{ReadableTable, WriteTransaction};
use tidegate_protocol::id::DeviceId;

use super::Snapshot;
use super::error::StoreError;
use super::reader::{Tables as _, upper};
use super::remembered::Remembered;
use super::tables::{Table, after_prefix};

/// A write transaction. [`Txn::commit`] makes it durable; dropping it undoes all of it.
pub struct Txn {
    redb: WriteTransaction,
    /// What was there when it began. A table is read from it until it is changed: that is much cheaper.
    before: Arc<Snapshot>,
    device: DeviceId,
    wall_ms: u64,
    /// Tables that were changed so far: one bit for each.
    changed: Cell<u32>,
    /// What is remembered of the last commit, and authors of which it is something else here.
    remembered: Arc<Remembered>,
    authors_changed: RefCell<BTreeSet<Vec<u8>>>,
}

const _: () = assert!(Table::ALL.len() <= 32, "a bit for each table");

/// A table open for writing. A table is open once at a time, so it is never held across another method.
pub(super) type WriteTable<'a> = redb::Table<'a, &'static [u8], &'static [u8]>;

impl Txn {
    /// `before` was begun after `redb`, so no commit lies between them.
    pub(super) const fn new(
        redb: WriteTransaction,
        before: Arc<Snapshot>,
        device: DeviceId,
        remembered: Arc<Remembered>,
    ) -> Self {
        let authors_changed = RefCell::new(BTreeSet::new());
        Self { redb, before, device, wall_ms: u64::MAX, changed: Cell::new(0), remembered, authors_changed }
    }

    /// What a table's reads see, as long as it was not changed. A table that a migration has yet to make is not in it.
    pub(super) fn unchanged(&self, table: Table) -> Option<&Snapshot> {
        Some(&*self.before).filter(|before| !self.has_changed(table) && before.table(table).is_ok())
    }

    fn has_changed(&self, table: Table) -> bool {
        self.changed.get() & (1 << table as u32) != 0
    }

    /// What is remembered of the last commit, unless it is something else here: for the state of an author.
    pub(super) fn last_of_author(&self, device: DeviceId) -> Option<&Remembered> {
        let changed = self.authors_changed.borrow().contains(&device.as_bytes()[..]);
        (!changed).then_some(&self.remembered)
    }

    /// The same for facts, of which those that are arriving are not shown.
    pub(super) fn last_of_facts(&self) -> Option<&Remembered> {
        let changed = self.has_changed(Table::Facts) || self.has_changed(Table::Arriving);
        (!changed).then_some(&self.remembered)
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
        if self.changed.get() == 0 {
            return Ok(self.redb.abort()?);
        }
        let facts = self.changed.get() & (1 << Table::Facts as u32 | 1 << Table::Arriving as u32) != 0;
        self.remembered.forget(&self.authors_changed.borrow(), facts);
        drop(self.before);
        Ok(self.redb.commit()?)
    }

    /// A table to change.
    pub(super) fn table_mut(&self, table: Table) -> Result<WriteTable<'_>, StoreError> {
        self.changed.set(self.changed.get() | (1 << table as u32));
        Ok(self.redb.open_table(table.definition())?)
    }

    /// A table to read, as this transaction sees it. Its type has no writes: a write that does not say so would be lost.
    pub(super) fn table(&self, table: Table) -> Result<impl ReadableTable<&'static [u8], &'static [u8]>, StoreError> {
        Ok(self.redb.open_table(table.definition())?)
    }

    /// Sets a key. What says what is there already changes nothing, and needs no commit.
    pub(super) fn put(&self, table: Table, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        if let Some(before) = self.unchanged(table)
            && before.get(table, key)?.as_deref() == Some(value)
        {
            return Ok(());
        }
        self.note_author(table, key);
        self.table_mut(table)?.insert(key, value)?;
        Ok(())
    }

    /// Removes a key. Says whether it was there.
    pub(super) fn remove(&self, table: Table, key: &[u8]) -> Result<bool, StoreError> {
        if let Some(before) = self.unchanged(table)
            && before.get(table, key)?.is_none()
        {
            return Ok(false);
        }
        self.note_author(table, key);
        Ok(self.table_mut(table)?.remove(key)?.is_some())
    }

    fn note_author(&self, table: Table, key: &[u8]) {
        if table == Table::Authors {
            self.authors_changed.borrow_mut().insert(key.to_vec());
        }
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
