//! Paths that running legs are putting in place just now.
//!
//! A watcher sees a file the moment it gets its name, long before the leg may say that it is durable and what
//! it holds; a scan at that moment would read the whole file again to find out. So hints at such a path are
//! kept here. When the leg has reported, what it wrote is looked at by that report, whatever else happened there
//! meanwhile; hints at what it did not write are handed on. A barrier hands them on at once: it must miss nothing.

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
    paths: BTreeMap<EntryPath, Hinted>,
}

/// Whether there was a hint at a path, and who sees to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hinted {
    No,
    /// The report does.
    Reported,
    /// Nobody does yet.
    Open,
}

impl InHand {
    /// A leg is about to apply a batch.
    pub(crate) fn take(&self, job: JobKey, location: LocationId, batch: &[Work]) {
        let paths = batch.iter().flat_map(|work| [Some(&work.path), work.from.as_ref()]);
        let paths = paths.flatten().map(|path| (path.clone(), Hinted::No)).collect();
        self.lock().insert(job, Batch { location, paths });
    }

    /// Keeps the hints that are in hand; answers the others.
    pub(crate) fn keep(&self, location: LocationId, mut hints: Vec<EntryPath>) -> Vec<EntryPath> {
        for batch in self.lock().values_mut().filter(|batch| batch.location == location) {
            hints.retain(|hint| match batch.paths.get_mut(hint) {
                Some(hinted) => {
                    *hinted = Hinted::Open;
                    false
                }
                None => true,
            });
        }
        hints
    }

    /// Answers the hints that were kept so far, for a barrier; they are kept no more.
    pub(crate) fn kept(&self, location: LocationId) -> Vec<EntryPath> {
        let mut kept = Vec::new();
        for batch in self.lock().values_mut().filter(|batch| batch.location == location) {
            let hinted = batch.paths.iter_mut().filter(|(_, hinted)| **hinted != Hinted::No);
            kept.extend(hinted.map(|(path, hinted)| {
                *hinted = Hinted::No;
                path.clone()
            }));
        }
        kept
    }

    /// A batch is applied, and `written` is about to be reported: it is looked at by that.
    pub(crate) fn reporting(&self, job: &JobKey, written: &[Written]) {
        if let Some(batch) = self.lock().get_mut(job) {
            for written in written {
                if let Some(hinted @ Hinted::Open) = batch.paths.get_mut(&written.path) {
                    *hinted = Hinted::Reported;
                }
            }
        }
    }

    /// A batch is over, and reported. Answers the hints that nobody has seen to, if there are any.
    pub(crate) fn release(&self, job: &JobKey) -> Option<(LocationId, Vec<EntryPath>)> {
        let batch = self.lock().remove(job)?;
        let open = batch.paths.into_iter().filter(|(_, hinted)| *hinted == Hinted::Open).map(|(path, _)| path);
        let open: Vec<EntryPath> = open.collect();
        (!open.is_empty()).then_some((batch.location, open))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<JobKey, Batch>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
