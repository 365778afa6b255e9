//! What was read of the last commit and is needed in every transaction, decoded once: states of authors, whose set hash
//! alone has 2 KiB, the facts that are merged again and again, and the snapshot itself with its tables open. The tables
//! are the truth: what a transaction has changed is read from them in it, and forgotten here before its commit.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidegate_protocol::id::DeviceId;
use tidegate_protocol::library_sync::Fact;

use super::Snapshot;
use super::authors::AuthorState;
use super::error::StoreError;
use super::tables::FactKind;

/// What each author says of one thing, or of all things of a kind.
pub(super) type Facts = Arc<Vec<(DeviceId, Fact)>>;

/// One for each open replica.
#[derive(Debug, Default)]
pub struct Remembered(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    /// `None` for an author of which nothing is stored.
    authors: BTreeMap<DeviceId, Option<Arc<AuthorState>>>,
    /// By the prefix of their keys.
    facts: BTreeMap<Vec<u8>, Facts>,
    snapshot: Option<Arc<Snapshot>>,
}

impl Remembered {
    /// The last commit, for whoever holds the write transaction.
    pub(super) fn snapshot(
        &self,
        read: impl FnOnce() -> Result<Snapshot, StoreError>,
    ) -> Result<Arc<Snapshot>, StoreError> {
        let mut kept = self.lock();
        if let Some(snapshot) = &kept.snapshot {
            return Ok(Arc::clone(snapshot));
        }
        let snapshot = Arc::new(read()?);
        kept.snapshot = Some(Arc::clone(&snapshot));
        Ok(snapshot)
    }

    /// The state of an author, read if it is not known.
    pub(super) fn author(
        &self,
        device: DeviceId,
        read: impl FnOnce() -> Result<Option<Arc<AuthorState>>, StoreError>,
    ) -> Result<Option<Arc<AuthorState>>, StoreError> {
        if let Some(state) = self.lock().authors.get(&device) {
            return Ok(state.clone());
        }
        let state = read()?;
        self.lock().authors.insert(device, state.clone());
        Ok(state)
    }

    /// Facts under a prefix, read if they are not known. Only of kinds of which there are few.
    pub(super) fn facts(
        &self,
        prefix: &[u8],
        read: impl FnOnce() -> Result<Facts, StoreError>,
    ) -> Result<Facts, StoreError> {
        if !is_kept(prefix) {
            return read();
        }
        if let Some(facts) = self.lock().facts.get(prefix) {
            return Ok(Arc::clone(facts));
        }
        let facts = read()?;
        self.lock().facts.insert(prefix.to_vec(), Arc::clone(&facts));
        Ok(facts)
    }

    /// These are about to be changed by a commit. The pages that only the snapshot still sees need not be kept.
    pub(super) fn forget(&self, authors: &BTreeSet<Vec<u8>>, facts: bool) {
        let mut kept = self.lock();
        kept.authors.retain(|device, _| !authors.contains(&device.as_bytes()[..]));
        if facts {
            kept.facts.clear();
        }
        kept.snapshot = None;
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Devices, locations, conduits: what limits bound. History and conflicts grow.
fn is_kept(prefix: &[u8]) -> bool {
    let kinds = [FactKind::Device, FactKind::Location, FactKind::Conduit];
    prefix.first().is_some_and(|first| kinds.iter().any(|kind| *kind as u8 == *first))
}
