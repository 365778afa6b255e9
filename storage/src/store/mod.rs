//! The replica: one device's copy, in redb, of the index of the whole library, and what the device must not
//! forget of its conduits, generations and jobs. `docs/STORAGE.md` draws the tables.
//!
//! [`Store`] is opened once per process; [`Store::write`] is the one write transaction, [`Store::read`] a
//! snapshot that other threads may keep. Both dereference to [`Reader`], which holds everything that can be
//! read. Nothing here decides what is to be done, knows a clock or draws a random number.
//!
//! Invariants:
//! - the rows of an author, its sequence, row count and set hash, and the by-sequence table change together;
//! - a (device, epoch, sequence) never names two rows;
//! - what was sent by others is checked whole before any of it is written;
//! - a local number (of an author or a tree) is never given twice.

mod arriving;
mod authors;
mod bases;
mod conduits;
mod entries;
mod error;
mod facts;
mod history;
mod jobs;
mod log;
mod long;
mod meta;
pub mod migrate;
mod open;
mod reader;
mod record;
mod remembered;
mod stage;
mod tables;
#[cfg(test)]
mod tests;
mod txn;

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use self::remembered::Remembered;

use redb::{ReadOnlyTable, ReadTransaction, ReadableDatabase};
use tidegate_protocol::id::DeviceId;

pub use authors::AuthorState;
pub use bases::BaseEntries;
pub use conduits::{PlanRest, StoredPlan};
pub use entries::{Entries, EntryRow, Known, Tree};
pub use error::{Foreign, Mismatch, Refusal, StoreError};
pub use history::DecidingRows;
pub use log::{Change, RowsPage};
pub use meta::Identity;
pub use reader::{KeyRange, Order, Reader, Tables, Visit};
pub use record::{Announced, Counters, JobRecord};
pub use tables::{FactKind, Table};
pub use txn::Txn;

/// The replica of this device, held against other processes. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store(Arc<Held>);

#[derive(Debug)]
struct Held {
    /// Holds a snapshot: dropped before the database.
    remembered: Arc<Remembered>,
    database: redb::Database,
    device: DeviceId,
    /// `None` over a backend.
    path: Option<PathBuf>,
    /// Released by the operating system with the process, however it ends. Declared last: dropped last.
    _lock: Option<std::fs::File>,
}

impl Store {
    /// Begins the one write transaction; waits while another one is open. Dropping it undoes it.
    pub fn write(&self) -> Result<Txn, StoreError> {
        let txn = self.0.database.begin_write()?;
        let before = self.0.remembered.snapshot(|| self.read())?;
        Ok(Txn::new(txn, before, self.0.device, Arc::clone(&self.0.remembered)))
    }

    /// A snapshot of the last commit. It stays as it is whatever is committed later, and may be sent to and
    /// shared by threads; while it lives, redb keeps the pages it sees.
    pub fn read(&self) -> Result<Snapshot, StoreError> {
        Ok(Snapshot::new(self.0.database.begin_read()?))
    }

    /// Whose replica this is.
    pub fn device(&self) -> DeviceId {
        self.0.device
    }

    /// Length of the database file in bytes; `None` over a backend, which knows its own.
    pub fn db_bytes(&self) -> Result<Option<u64>, StoreError> {
        match &self.0.path {
            Some(path) => Ok(Some(std::fs::metadata(path)?.len())),
            None => Ok(None),
        }
    }
}

type OpenTable = ReadOnlyTable<&'static [u8], &'static [u8]>;

/// A state of the replica that does not change.
pub struct Snapshot {
    txn: ReadTransaction,
    tables: [OnceLock<OpenTable>; Table::ALL.len()],
}

impl Snapshot {
    fn new(txn: ReadTransaction) -> Self {
        Self { txn, tables: std::array::from_fn(|_| OnceLock::new()) }
    }

    /// Opening a table costs a look-up, so each is opened once.
    fn table(&self, table: Table) -> Result<&OpenTable, StoreError> {
        let slot = &self.tables[table as usize];
        if let Some(open) = slot.get() {
            return Ok(open);
        }
        let open = self.txn.open_table(table.definition())?;
        Ok(slot.get_or_init(|| open))
    }
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Snapshot")
    }
}

const _: () = {
    const fn crosses_threads<T: Send + Sync>() {}
    crosses_threads::<Snapshot>();
    crosses_threads::<Store>();
};
