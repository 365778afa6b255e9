//! Locations in constant use: an end that never rests must not keep everything else from being synced.
//!
//! When paths of a location have been waiting to be looked at for long, without a rest in between that is worth
//! the name, they are named instead of waited for, all of them or none; the resolver then leaves them out.

use tidegate_protocol::id::LocationId;
use tidegate_protocol::library_sync::RootState;
use tidegate_protocol::limits::{BUSY_BYTES_MAX, BUSY_MS, BUSY_PATHS_MAX};
use tidegate_protocol::path::EntryPath;

use super::io::ScanScope;
use super::locations::{Locations, OwnLocation};

/// A rest that is shorter does not end the time for which a location has been busy, in milliseconds.
const REST_MS: u64 = 5_000;

/// Since when a location has paths to look at, and since when it has none.
#[derive(Debug, Default)]
pub(super) struct Business {
    busy_ms: Option<u64>,
    rest_ms: Option<u64>,
}

impl Business {
    /// Notes whether anything waits at this moment.
    pub(super) fn note(&mut self, waits: bool, now: u64) {
        if waits {
            self.rest_ms = None;
            self.busy_ms.get_or_insert(now);
        } else if now >= *self.rest_ms.get_or_insert(now) + REST_MS {
            self.busy_ms = None;
        }
    }
}

impl OwnLocation {
    /// The paths that wait to be looked at, and those that are being looked at.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &EntryPath> {
        let scanning = match &self.scanning {
            Some(ScanScope::Paths(paths)) => paths.as_slice(),
            Some(ScanScope::All) | None => &[],
        };
        let again = scanning.iter().filter(|path| !self.dirty.contains_key(*path));
        self.dirty.keys().chain(again)
    }

    /// All paths that wait, if the location has been busy for long and it is only a matter of these paths.
    pub(super) fn busy(&self, now: u64) -> Option<Vec<EntryPath>> {
        let long = self.business.busy_ms.is_some_and(|since| now >= since + BUSY_MS);
        if !long || self.root != RootState::Present || self.is_scanning() {
            return None;
        }
        let paths: Vec<EntryPath> = self.waiting().take(BUSY_PATHS_MAX + 1).cloned().collect();
        let bytes: usize = paths.iter().map(|path| path.as_stored().len()).sum();
        (!paths.is_empty() && paths.len() <= BUSY_PATHS_MAX && bytes <= BUSY_BYTES_MAX).then_some(paths)
    }
}

impl Locations {
    /// What is named of a location instead of being waited for; nothing if it is quiet, or may soon be.
    pub(super) fn busy(&self, id: LocationId, now: u64) -> Vec<EntryPath> {
        self.own.get(&id).and_then(|own| own.busy(now)).unwrap_or_default()
    }
}
