//! What both ends of a conduit last agreed on, path by path: the ancestor of the three-way merge. Kept by the
//! coordinator alone; a device that loses it resolves by versions, and deletes nothing from absence.
//!
//! Invariant: a path's base row changes only in the transaction that records the agreement.

use std::ops::Bound;

use redb::Range;
use tidegate_protocol::file_sync::BaseChange;
use tidegate_protocol::id::ConduitId;
use tidegate_protocol::index::EntryKind;
use tidegate_protocol::path::EntryPath;

use super::error::StoreError;
use super::reader::{KeyRange, upper};
use super::tables::{Table, after_prefix, base_key, base_path};
use super::{Reader, Snapshot, Txn, record};

impl Reader {
    /// What both ends last agreed on at one path.
    pub fn base_entry(&self, conduit: ConduitId, path: &EntryPath) -> Result<Option<EntryKind>, StoreError> {
        self.record(Table::Bases, &base_key(conduit, path))
    }
}

/// Base rows in path order, as [`Snapshot::base_entries`] gives them.
pub struct BaseEntries(Range<'static, &'static [u8], &'static [u8]>);

impl Snapshot {
    /// Every base row of a conduit, in path order, starting at `from` if given.
    pub fn base_entries(&self, conduit: ConduitId, from: Option<&EntryPath>) -> Result<BaseEntries, StoreError> {
        let start = from.map_or_else(|| conduit.as_bytes().to_vec(), |from| base_key(conduit, from));
        let end = after_prefix(conduit.as_bytes());
        let range: KeyRange<'_> = (Bound::Included(&start), upper(end.as_deref()));
        Ok(BaseEntries(self.table(Table::Bases)?.range::<&[u8]>(range)?))
    }
}

impl Iterator for BaseEntries {
    type Item = Result<(EntryPath, EntryKind), StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = |pair: Result<_, redb::StorageError>| {
            let (key, value): (redb::AccessGuard<'_, &[u8]>, redb::AccessGuard<'_, &[u8]>) = pair?;
            Ok((base_path(key.value())?, record::decode(value.value())?))
        };
        self.0.next().map(row)
    }
}

impl Txn {
    /// Changes base rows as an agreement says.
    pub fn change_base(&mut self, conduit: ConduitId, changes: &[(EntryPath, BaseChange)]) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        let mut table = self.table_mut(Table::Bases)?;
        for (path, change) in changes {
            let key = base_key(conduit, path);
            match change {
                BaseChange::Set(kind) => drop(table.insert(&key[..], &record::encode(kind)[..])?),
                BaseChange::Drop => drop(table.remove(&key[..])?),
            }
        }
        Ok(())
    }

    /// Forgets every base row of a conduit: it was removed, or its baseline is void.
    pub fn drop_base(&mut self, conduit: ConduitId) -> Result<(), StoreError> {
        self.remove_prefix(Table::Bases, conduit.as_bytes())
    }
}
