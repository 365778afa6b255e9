//! Paths that running legs are putting in place just now.
//!
//! A watcher sees a file the moment it gets its name, long before the leg may say that it is durable and what
//! it holds; a scan at that moment would read the whole file again to find out. So hints at such a path are
//! kept here. When the leg has reported, what it wrote is looked at by that report, whatever else happened there
//! meanwhile; hints at what it did not write are handed on. A barrier is not held up: it reports every path.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tidegate_protocol::file_sync::JobKey;
use tidegate_protocol::id::LocationId;
use tidegate_protocol::path::EntryPath;

use crate::core::io::{Work, Written};

/// What all running legs have in hand.
#[derive(Debug, Default)]
pub(crate) struct InHand(Mutex<BTreeMap<JobKey, Batch>>);

#[derive(Debug)]
struct Batch {
    location: LocationId,
    /// Each with whether there was a hint at it.
    paths: BTreeMap<EntryPath, bool>,
}

impl InHand {
    /// A leg is about to apply a batch.
    pub(crate) fn take(&self, job: JobKey, location: LocationId, batch: &[Work]) {
        let paths = batch.iter().flat_map(|work| [Some(&work.path), work.from.as_ref()]);
        let paths = paths.flatten().map(|path| (path.clone(), false)).collect();
        self.lock().insert(job, Batch { location, paths });
    }

    /// Keeps the hints that are in hand; answers the others.
    pub(crate) fn keep(&self, location: LocationId, mut hints: Vec<EntryPath>) -> Vec<EntryPath> {
        for batch in self.lock().values_mut().filter(|batch| batch.location == location) {
            hints.retain(|hint| match batch.paths.get_mut(hint) {
                Some(hinted) => {
                    *hinted = true;
                    false
                }
                None => true,
            });
        }
        hints
    }

    /// A batch is over, and `written` is about to be reported. Answers the hints that were kept at anything else,
    /// if there are any.
    pub(crate) fn release(&self, job: &JobKey, written: &[Written]) -> Option<(LocationId, Vec<EntryPath>)> {
        let mut batch = self.lock().remove(job)?;
        for written in written {
            batch.paths.remove(&written.path);
        }
        let hinted: Vec<EntryPath> =
            batch.paths.into_iter().filter(|(_, hinted)| *hinted).map(|(path, _)| path).collect();
        (!hinted.is_empty()).then_some((batch.location, hinted))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<JobKey, Batch>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
