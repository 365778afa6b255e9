//! The own locations: bringing the disk into the index, and saying how far that is.
//!
//! A location is settled when its root is there, no full scan is due or running, and no path waits to be
//! looked at. Watcher events only name paths to look at; what a scan observes becomes rows. Evidence for the
//! gate is given after a barrier: every change made before the question has been hinted, and looked at.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_protocol::file_sync::NameRules;
use tidegate_protocol::id::LocationId;
use tidegate_protocol::index::{Entry, EntryKind, EntryState, Location, Observation, Observed, StatMark};
use tidegate_protocol::library_sync::{LocationStatus, RootState, Unsettled};
use tidegate_protocol::limits::ANSWER_MS_MAX;
use tidegate_protocol::path::EntryPath;
use tidegate_storage::store::{Announced, Change, Known};

use super::business::Business;
use super::events::Event;
use super::io::{Output, ScanFailure, ScanProgress, ScanScope, Seen, Written};
use super::unread::Unread;
use super::{Core, CoreError, Step};
use crate::env::Now;

/// Waiting paths beyond which one full scan is cheaper than looking at each.
const DIRTY_PATHS_MAX: usize = 200_000;
/// A path that keeps changing is looked at after this many settle times, however busy it is.
const SETTLES_MAX: u64 = 20;
/// How long a job may keep a path to itself before it is looked at all the same, in milliseconds. It tells within
/// one batch what it wrote.
const EXPECTED_MS: u64 = 10_000;
/// Pause before a failed scan or a missing root is tried again, in milliseconds.
const RETRY_MS: u64 = 5_000;

/// All own locations.
#[derive(Default)]
pub(super) struct Locations {
    pub(super) own: BTreeMap<LocationId, OwnLocation>,
    /// Locations of any device whose rows changed in this step.
    pub(super) changed: BTreeSet<LocationId>,
}

/// What is known of the moment only.
pub(super) struct OwnLocation {
    pub(super) root: RootState,
    /// The root was opened, or is being opened.
    opening: bool,
    open_again_ms: Option<u64>,
    watched: bool,
    scan_due: Option<ScanDue>,
    pub(super) scanning: Option<ScanScope>,
    deep: bool,
    pub(super) progress: ScanProgress,
    /// Paths to look at, with the moments of their first and newest hint.
    pub(super) dirty: BTreeMap<EntryPath, Hint>,
    pub(super) business: Business,
    pub(super) unread: Unread,
    /// Barriers are numbered; all up to `drained` have been answered.
    barrier: u64,
    asked_barrier: u64,
    drained: u64,
    /// Without a watcher: the barrier that the running scan will answer.
    scan_answers: u64,
    rescan_ms: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Hint {
    first_ms: u64,
    due_ms: u64,
}

#[derive(Debug, Clone, Copy)]
struct ScanDue {
    at_ms: u64,
}

impl OwnLocation {
    fn new() -> Self {
        Self {
            root: RootState::Missing,
            opening: true,
            open_again_ms: None,
            watched: false,
            scan_due: None,
            scanning: None,
            deep: false,
            progress: ScanProgress::default(),
            dirty: BTreeMap::new(),
            business: Business::default(),
            unread: Unread::default(),
            barrier: 0,
            asked_barrier: 0,
            drained: 0,
            scan_answers: 0,
            rescan_ms: None,
        }
    }

    fn unsettled(&self) -> Vec<Unsettled> {
        let mut reasons = Vec::new();
        if self.scan_due.is_some() || self.scanning == Some(ScanScope::All) || self.opening {
            reasons.push(Unsettled::Scan);
        }
        let unanswered = self.drained < self.barrier;
        if unanswered || !self.dirty.is_empty() || matches!(self.scanning, Some(ScanScope::Paths(_))) {
            reasons.push(Unsettled::Events);
        }
        reasons
    }

    pub(super) fn is_scanning(&self) -> bool {
        self.scanning == Some(ScanScope::All) || self.scan_due.is_some() || self.opening
    }

    /// Nothing that a moment's wait would change: settled, or without a root.
    fn is_quiet(&self) -> bool {
        self.unsettled().is_empty() || (self.root != RootState::Present && !self.opening)
    }

    /// Asks for everything that happened before now to be looked at; the number to wait for.
    fn want_barrier(&mut self) -> u64 {
        self.barrier += 1;
        self.barrier
    }

    /// When [`Core::tend_locations`] has something to do here. While there is no root to look at, that is only to
    /// try again to open it, whatever else is due.
    fn wake(&self) -> Option<u64> {
        if self.root != RootState::Present || self.opening {
            return self.open_again_ms;
        }
        let scan = self.scan_due.filter(|_| self.scanning.is_none()).map(|due| due.at_ms);
        let hint = self.dirty.values().map(|hint| hint.due_ms).min().filter(|_| self.scanning.is_none());
        [scan, hint, self.open_again_ms, self.rescan_ms, self.unread.wake()].into_iter().flatten().min()
    }
}

impl Locations {
    pub(super) fn next_wake(&self) -> Option<u64> {
        self.own.values().filter_map(OwnLocation::wake).min()
    }

    pub(super) fn statuses(&self) -> Vec<LocationStatus> {
        let status = |(id, own): (&LocationId, &OwnLocation)| LocationStatus {
            location: *id,
            root: own.root,
            unsettled: own.unsettled(),
            dirty: own.waiting().count() as u64,
        };
        self.own.iter().map(status).collect()
    }

    /// Numbers to wait for before evidence about `ids` can be given.
    pub(super) fn want_barriers(&mut self, ids: &[LocationId]) -> Vec<(LocationId, u64)> {
        ids.iter().filter_map(|id| self.own.get_mut(id).map(|own| (*id, own.want_barrier()))).collect()
    }

    /// Looks at once at what was hinted of these paths: nothing more is to be waited for.
    pub(super) fn look_now(&mut self, now: Now, id: LocationId, paths: &[EntryPath]) {
        let Some(own) = self.own.get_mut(&id) else { return };
        for path in paths {
            if let Some(hint) = own.dirty.get_mut(path) {
                hint.due_ms = now.monotonic_ms;
            }
        }
    }

    /// Puts the full scan that is due off, for something that is about to be written there and told.
    fn scan_later(&mut self, now: Now, id: LocationId) {
        if let Some(due) = self.own.get_mut(&id).and_then(|own| own.scan_due.as_mut()) {
            due.at_ms = now.monotonic_ms + ANSWER_MS_MAX;
        }
    }

    /// A full scan that is due need not wait any more.
    pub(super) fn scan_now(&mut self, now: Now, id: LocationId) {
        if let Some(due) = self.own.get_mut(&id).and_then(|own| own.scan_due.as_mut()) {
            due.at_ms = due.at_ms.min(now.monotonic_ms);
        }
    }

    /// Whether all of these barriers were answered and nothing is left to look at.
    pub(super) fn are_quiet(&self, barriers: &[(LocationId, u64)]) -> bool {
        self.have_answered(barriers, OwnLocation::is_quiet)
    }

    /// Whether all of these barriers were answered and what is left to look at is named.
    pub(super) fn are_named(&self, barriers: &[(LocationId, u64)], now: u64) -> bool {
        self.have_answered(barriers, |own| own.is_quiet() || own.busy(now).is_some())
    }

    /// Whether watchers answer these barriers, and not scans.
    pub(super) fn are_watched(&self, barriers: &[(LocationId, u64)]) -> bool {
        barriers.iter().all(|(id, _)| self.own.get(id).is_some_and(|own| own.watched))
    }

    fn have_answered(&self, barriers: &[(LocationId, u64)], fine: impl Fn(&OwnLocation) -> bool) -> bool {
        barriers.iter().all(|(id, barrier)| {
            self.own.get(id).is_none_or(|own| {
                (own.drained >= *barrier || (own.root != RootState::Present && !own.opening)) && fine(own)
            })
        })
    }
}

impl Core {
    pub(super) fn begin_locations(&mut self, step: &mut Step<'_>) -> Result<(), CoreError> {
        let me = self.me;
        for location in step.txn.locations()?.into_iter().filter(|l| l.owner == me && !l.removed) {
            self.open_location(step, location.id)?;
        }
        Ok(())
    }

    /// Begins to hold a location: its root is opened, watched and scanned.
    pub(super) fn open_location(&mut self, step: &mut Step<'_>, id: LocationId) -> Result<(), CoreError> {
        let Some((root, identity)) = step.root(id)? else { return Ok(()) };
        let own = self.locations.own.entry(id).or_insert_with(OwnLocation::new);
        own.opening = true;
        own.open_again_ms = None;
        step.out.push(Output::OpenRoot { location: id, root, identity });
        Ok(())
    }

    pub(super) fn close_location(&mut self, step: &mut Step<'_>, id: LocationId) {
        self.locations.own.remove(&id);
        step.out.push(Output::CloseRoot { location: id });
    }

    pub(super) fn on_root(
        &mut self,
        step: &mut Step<'_>,
        id: LocationId,
        state: RootState,
        watched: bool,
    ) -> Result<(), CoreError> {
        let now = step.now.monotonic_ms;
        let Some(own) = self.locations.own.get_mut(&id) else { return Ok(()) };
        own.opening = false;
        let news = own.root != state;
        own.root = state;
        let blind = own.watched && !watched;
        own.watched = watched;
        // Whoever was asked before is gone with the old root.
        own.asked_barrier = own.drained;
        if state == RootState::Present {
            own.open_again_ms = None;
            own.scan_due = Some(ScanDue { at_ms: now });
        } else {
            own.open_again_ms = Some(now + RETRY_MS);
            own.scan_due = None;
            own.dirty.clear();
        }
        if news {
            let state = match state {
                RootState::Present => "present",
                RootState::Missing => "missing",
                RootState::Replaced => "replaced",
            };
            self.say_location(step, id, |location| Event::Location { location, state })?;
        }
        if blind {
            self.say_location(step, id, |location| Event::WatcherLost { location })?;
        }
        if news && state == RootState::Present {
            self.clean_again(step, id)?;
            if self.put_again(step, id)? {
                self.locations.scan_later(step.now, id);
            }
        }
        Ok(())
    }

    /// What a root can store and tell apart is a fact of its location, for whoever plans.
    pub(super) fn on_probed(&mut self, step: &mut Step<'_>, id: LocationId, names: NameRules) -> Result<(), CoreError> {
        let known = step.txn.location(self.me, id)?.filter(|known| !known.removed && known.names != names);
        let Some(known) = known else { return Ok(()) };
        self.put_location(step, Location { names, ..known })?;
        Ok(())
    }

    pub(super) fn on_hints(
        &mut self,
        step: &mut Step<'_>,
        id: LocationId,
        paths: Vec<EntryPath>,
        overflow: bool,
    ) -> Result<(), CoreError> {
        let now = step.now.monotonic_ms;
        let settle_ms = self.config.settle_ms;
        let Some(own) = self.locations.own.get_mut(&id) else { return Ok(()) };
        if overflow || own.dirty.len() + paths.len() > DIRTY_PATHS_MAX {
            own.scan_due.get_or_insert(ScanDue { at_ms: now });
            own.dirty.clear();
            return self.say_location(step, id, |location| Event::WatcherLost { location });
        }
        let tree = step.txn.tree(self.me, id)?;
        for path in paths {
            // What a job has just written needs no quiet time: its stat is known.
            let wait_ms = if self.applying.is_expected(id, &path) {
                EXPECTED_MS
            } else if step.txn.announced(tree, &path)?.is_some() {
                0
            } else {
                settle_ms
            };
            let hint = own.dirty.entry(path).or_insert(Hint { first_ms: now, due_ms: now });
            hint.due_ms = (now + wait_ms).min(hint.first_ms + wait_ms * SETTLES_MAX);
        }
        Ok(())
    }

    /// Paths are to be looked at again, whatever any watcher says; without paths, everything.
    pub(super) fn look_at(&mut self, step: &Step<'_>, id: LocationId, paths: Vec<EntryPath>) {
        let now = step.now.monotonic_ms;
        let Some(own) = self.locations.own.get_mut(&id) else { return };
        if paths.is_empty() || own.dirty.len() + paths.len() > DIRTY_PATHS_MAX {
            own.scan_due.get_or_insert(ScanDue { at_ms: now });
            return;
        }
        for path in paths {
            own.dirty.entry(path).or_insert(Hint { first_ms: now, due_ms: now }).due_ms = now;
        }
    }

    pub(super) fn on_drained(&mut self, id: LocationId, barrier: u64) {
        if let Some(own) = self.locations.own.get_mut(&id) {
            own.drained = own.drained.max(barrier);
        }
    }

    /// Scans everything again, because what the index says may not be what the disk holds.
    pub(super) fn rescan_everything(&mut self, step: &Step<'_>) {
        for id in self.locations.own.keys().copied().collect::<Vec<_>>() {
            self.rescan(step, id, false);
        }
    }

    pub(super) fn rescan(&mut self, step: &Step<'_>, id: LocationId, deep: bool) {
        if let Some(own) = self.locations.own.get_mut(&id) {
            own.scan_due = Some(ScanDue { at_ms: step.now.monotonic_ms });
            own.deep |= deep;
            // Whoever asks has perhaps just mounted it.
            own.open_again_ms = own.open_again_ms.map(|_| step.now.monotonic_ms);
        }
    }

    pub(super) fn on_scanned(
        &mut self,
        step: &mut Step<'_>,
        id: LocationId,
        seen: Vec<Seen>,
        progress: ScanProgress,
    ) -> Result<(), CoreError> {
        let Some(own) = self.locations.own.get_mut(&id) else { return Ok(()) };
        own.progress = progress;
        let tree = step.txn.tree(self.me, id)?;
        let mut changes = Vec::new();
        for Seen { observation: Observation { path, observed }, chunks } in seen {
            let known = step.txn.known(tree, &path)?;
            if let Some(own) = self.locations.own.get_mut(&id) {
                let kind = match &observed {
                    Observed::Absent => None,
                    Observed::Present(kind, _) => Some(kind),
                };
                own.unread.note(&path, kind, step.now.monotonic_ms);
            }
            let change = match observed {
                Observed::Absent => self.gone(step, id, &path, known)?,
                Observed::Present(kind, mark) => {
                    // What a job took away has come back: when it goes again, that is news.
                    self.applying.removed.remove(&(id, path.clone()));
                    if let EntryKind::File(file) = &kind {
                        self.applying.contents.add(file.content);
                        if !chunks.is_empty() {
                            step.txn.put_outline(&file.content, &chunks)?;
                        }
                    }
                    let entry = self.seen(step, id, &path, kind, known)?;
                    Some((EntryState::Present(entry), mark))
                }
            };
            if let Some((state, mark)) = change {
                changes.push(Change::entry(id, path, state, mark));
            }
        }
        let before = step.own_author()?.upto;
        let paths: Vec<EntryPath> = changes.iter().filter_map(Change::path).cloned().collect();
        step.put(changes)?;
        step.txn.forget_announced(id, &paths)?;
        if step.own_author()?.upto != before {
            self.locations.changed.insert(id);
        }
        Ok(())
    }

    /// The tombstone of what a scan no longer found; `None` if the index holds nothing there.
    fn gone(
        &mut self,
        step: &Step<'_>,
        id: LocationId,
        path: &EntryPath,
        known: Option<Known>,
    ) -> Result<Option<(EntryState, Option<StatMark>)>, CoreError> {
        let Some(EntryState::Present(Entry { mut version, .. })) = known.and_then(|known| known.state) else {
            return Ok(None);
        };
        let removed = match self.applying.removed.remove(&(id, path.clone())) {
            Some(removed) => Some(removed),
            None => self.version_at_work(step, id, path, None)?,
        };
        match removed {
            Some(removed) => version = version.join(&removed),
            None => version.bump(self.me, step.now.wall_ms),
        }
        Ok(Some((EntryState::Deleted(version), None)))
    }

    /// The entry for what a scan found. It keeps its version if nothing changed, takes the job's if a job wrote
    /// exactly this, and gets a new event otherwise.
    fn seen(
        &self,
        step: &Step<'_>,
        id: LocationId,
        path: &EntryPath,
        kind: EntryKind,
        known: Option<Known>,
    ) -> Result<Entry, CoreError> {
        let (state, announced) = known.map_or((None, None), |known| (known.state, known.announced));
        if let Some(EntryState::Present(entry)) = &state
            && entry.kind == kind
        {
            return Ok(entry.clone());
        }
        let mut version = state.map(|state| state.version().clone()).unwrap_or_default();
        let written = match announced.filter(|announced| announced.kind.same_content(&kind)) {
            Some(announced) => Some(announced.version),
            None => self.version_at_work(step, id, path, Some(&kind))?,
        };
        match written {
            Some(written) => version = version.join(&written),
            None => version.bump(self.me, step.now.wall_ms),
        }
        Ok(Entry { kind, version })
    }

    pub(super) fn on_scan_ended(
        &mut self,
        step: &mut Step<'_>,
        id: LocationId,
        result: Result<ScanProgress, ScanFailure>,
    ) -> Result<(), CoreError> {
        let now = step.now.monotonic_ms;
        let rescan_ms = self.config.rescan_ms;
        let spread = self.draw.below(rescan_ms / 2 + 1);
        let Some(own) = self.locations.own.get_mut(&id) else { return Ok(()) };
        let scope = own.scanning.take();
        let failure = result.as_ref().err().map(ToString::to_string);
        let told = scope == Some(ScanScope::All) || failure.is_some();
        match result {
            Ok(progress) => {
                own.progress = progress;
                own.drained = own.drained.max(own.scan_answers);
                match scope {
                    Some(ScanScope::All) => {
                        own.deep = false;
                        own.rescan_ms = (rescan_ms > 0).then(|| now + rescan_ms - rescan_ms / 4 + spread);
                    }
                    Some(ScanScope::Paths(paths)) => step.txn.forget_announced(id, &paths)?,
                    None => {}
                }
            }
            Err(failure) => {
                tracing::warn!(location = %id.short(), %failure, "a scan did not see everything");
                if failure == ScanFailure::RootLost {
                    own.root = RootState::Missing;
                    own.open_again_ms = Some(now);
                    own.scan_due = None;
                    own.dirty.clear();
                } else {
                    own.scan_due = Some(ScanDue { at_ms: now + RETRY_MS });
                }
            }
        }
        if told {
            self.say_location(step, id, |location| Event::Scanned { location, failure })?;
        }
        Ok(())
    }

    /// What a job wrote: hints like any other, and marks by which the scan recognises them.
    pub(super) fn note_written(
        &mut self,
        step: &mut Step<'_>,
        id: LocationId,
        written: Vec<Written>,
    ) -> Result<(), CoreError> {
        let now = step.now.monotonic_ms;
        let mut announced = Vec::new();
        for Written { path, kind, mark, version } in &written {
            let at = (id, path.clone());
            match kind {
                Some(kind) => {
                    let announcement = Announced { kind: kind.clone(), mark: *mark, version: version.clone() };
                    announced.push((path.clone(), announcement));
                    self.applying.removed.remove(&at);
                }
                None => drop(self.applying.removed.insert(at, version.clone())),
            }
        }
        step.txn.announce(id, announced)?;
        if let Some(own) = self.locations.own.get_mut(&id) {
            for Written { path, .. } in written {
                let hint = own.dirty.entry(path).or_insert(Hint { first_ms: now, due_ms: now });
                hint.due_ms = now;
            }
        }
        Ok(())
    }

    /// Opens, drains and scans what is due.
    pub(super) fn tend_locations(&mut self, step: &mut Step<'_>) -> Result<(), CoreError> {
        let now = step.now.monotonic_ms;
        for id in self.locations.own.keys().copied().collect::<Vec<_>>() {
            let own = self.locations.own.get_mut(&id).expect("just listed");
            let waits = own.waiting().next().is_some();
            own.business.note(waits, now);
            if own.open_again_ms.is_some_and(|at| at <= now) {
                self.open_location(step, id)?;
                continue;
            }
            if own.root != RootState::Present || own.opening {
                continue;
            }
            if own.rescan_ms.is_some_and(|at| at <= now) {
                own.rescan_ms = None;
                own.scan_due = Some(ScanDue { at_ms: now });
            }
            for path in own.unread.due(now) {
                own.dirty.entry(path).or_insert(Hint { first_ms: now, due_ms: now });
            }
            if own.barrier > own.asked_barrier {
                own.asked_barrier = own.barrier;
                if own.watched {
                    step.out.push(Output::Drain { location: id, barrier: own.barrier });
                } else {
                    own.scan_due.get_or_insert(ScanDue { at_ms: now });
                }
            }
            if own.scanning.is_some() {
                continue;
            }
            if own.scan_due.is_some_and(|due| due.at_ms <= now) {
                own.scan_due = None;
                own.dirty.clear();
                own.progress = ScanProgress::default();
                own.scan_answers = if own.watched { own.drained } else { own.asked_barrier };
                own.scanning = Some(ScanScope::All);
                step.out.push(Output::Scan { location: id, scope: ScanScope::All, deep: own.deep });
                continue;
            }
            let due: Vec<EntryPath> =
                own.dirty.iter().filter(|(_, hint)| hint.due_ms <= now).map(|(path, _)| path.clone()).collect();
            if !due.is_empty() {
                own.dirty.retain(|_, hint| hint.due_ms > now);
                own.scanning = Some(ScanScope::Paths(due.clone()));
                step.out.push(Output::Scan { location: id, scope: ScanScope::Paths(due), deep: false });
            }
        }
        Ok(())
    }
}
