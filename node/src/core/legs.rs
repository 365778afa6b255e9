//! Legs: bounded parts of a job, made from stored items and the own index; and reads for others' legs.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use tidegate_protocol::file_sync::{Action, BandwidthLimit, Item, ItemOutcome, JobKind, JobSpec, PreImage, SkipReason};
use tidegate_protocol::hash::ContentHash;
use tidegate_protocol::id::{DeviceId, LocationId};
use tidegate_protocol::index::{Entry, EntryKind, EntryState, IgnoreRules, Rights, StatMark, Version};
use tidegate_protocol::path::{DirPath, EntryPath};
use tidegate_protocol::wire::{Fetch, FetchFailure, RefusalCode, Response, Want};
use tidegate_storage::disk::Bin;
use tidegate_storage::store::{Change, JobRecord, Tree};

use super::applying::refuse;
use super::io::{CopyLeg, CopySource, DeleteLeg, LocalContent, Output, Read, Ticket, Work};
use super::{Core, CoreError, Step};

/// Items of one leg: bounds what a job holds in memory.
const LEG_ITEMS_MAX: usize = 8192;
/// Bins that are looked into for a content: as many generations as history keeps the items of.
const BINS_MAX: usize = 100;

impl Core {
    /// Items from `first` on that have no outcome, ready for work; and outcomes for those that need none.
    pub(super) fn make_leg(&self, step: &Step<'_>, spec: &JobSpec, first: u32) -> Result<Leg, CoreError> {
        let items = step.txn.job_items(&spec.key, first, LEG_ITEMS_MAX)?;
        let known = step.txn.job_outcomes(&spec.key, first, items.len())?;
        let tree = step.txn.tree(self.me, spec.target.location)?;
        let location = step.txn.location(self.me, spec.target.location)?;
        let rules = location
            .map_or_else(IgnoreRules::none, |l| IgnoreRules::new(&l.rules).unwrap_or_else(|_| IgnoreRules::none()));
        let (mut work, mut settled, mut adopted) = (Vec::new(), Vec::new(), Vec::new());
        let next = first + items.len() as u32;
        for (offset, item) in items.into_iter().enumerate() {
            let index = first + offset as u32;
            if known.get(offset).is_some_and(Option::is_some) {
                continue;
            }
            let path = match spec.target.dir.join(&item.path) {
                Ok(path) if !rules.hides(&path) => path,
                Ok(_) => {
                    settled.push((index, ItemOutcome::Skipped(SkipReason::NotAllowed)));
                    continue;
                }
                Err(_) => {
                    settled.push((index, ItemOutcome::Skipped(SkipReason::BadName)));
                    continue;
                }
            };
            if let Action::Adopt { version } = &item.action {
                let outcome = adopt(step, tree, spec.target.location, &path, &item.expect, version, &mut adopted)?;
                settled.push((index, outcome));
                continue;
            }
            let from = old_path(&item.action).and_then(|from| spec.target.dir.join(from).ok());
            let known = match (&item.expect, &item.action) {
                (_, Action::SetMetadata { file, .. }) => known_mark(step, tree, &path, file.content)?,
                (PreImage::File { content, .. }, _) => known_mark(step, tree, &path, *content)?,
                (PreImage::Absent | PreImage::Directory | PreImage::Symlink { .. }, _) => None,
            };
            let local = self.local_of(step, spec, tree, &item, from.as_ref())?;
            work.push(Work { index, path, item, from, known, local });
        }
        if spec.key.kind == JobKind::Copy {
            self.find_local(step, &mut work)?;
        }
        Ok(Leg { next, work, settled, adopted })
    }

    /// Content of this device that an item rests on: what a rename moves, at the old path; what an eviction
    /// leaves behind, at the other end if that is on this device, too.
    fn local_of(
        &self,
        step: &Step<'_>,
        spec: &JobSpec,
        tree: Tree,
        item: &Item,
        from: Option<&EntryPath>,
    ) -> Result<Option<LocalContent>, CoreError> {
        match (&item.action, &item.expect) {
            (Action::RenameFile { file, .. }, _) => {
                let Some(from) = from else { return Ok(None) };
                let mark = known_mark(step, tree, from, file.content)?;
                Ok(mark.map(|mark| LocalContent { location: spec.target.location, path: from.clone(), mark }))
            }
            (Action::Evict { from }, PreImage::File { content, .. }) if spec.source.device == self.me => {
                let Ok(path) = spec.source.dir.join(from) else { return Ok(None) };
                let mark = known_mark(step, step.txn.tree(self.me, spec.source.location)?, &path, *content)?;
                Ok(mark.map(|mark| LocalContent { location: spec.source.location, path, mark }))
            }
            _ => Ok(None),
        }
    }

    /// Finds contents that this device already holds, by one walk over the own index if the filter says that
    /// there may be any.
    fn find_local(&self, step: &Step<'_>, work: &mut [Work]) -> Result<(), CoreError> {
        let mut wanted: BTreeMap<ContentHash, Option<LocalContent>> = BTreeMap::new();
        for item in work.iter() {
            if let Action::InstallFile { file, .. } = &item.item.action
                && file.size > 0
                && self.applying.contents.may_hold(file.content)
            {
                wanted.insert(file.content, None);
            }
        }
        if wanted.is_empty() {
            return Ok(());
        }
        for id in self.locations.own.keys() {
            let tree = step.txn.tree(self.me, *id)?;
            let mut missing = wanted.values().filter(|found| found.is_none()).count();
            step.txn.each_entry(tree, &DirPath::TOP, &mut |row| {
                if let Some(EntryKind::File(file)) = row.state.present().map(|entry| &entry.kind)
                    && let Some(found @ None) = wanted.get_mut(&file.content)
                    && let Some(mark) = row.mark
                {
                    *found = Some(LocalContent { location: *id, path: row.path.clone(), mark });
                    missing -= 1;
                }
                if missing > 0 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })?;
        }
        for item in work.iter_mut() {
            if let Action::InstallFile { file, .. } = &item.item.action {
                item.local = wanted.get(&file.content).cloned().flatten();
            }
        }
        Ok(())
    }

    /// The wish to run a leg.
    pub(super) fn leg(&self, step: &Step<'_>, spec: &JobSpec, items: Vec<Work>) -> Result<Output, CoreError> {
        let (job, location) = (spec.key, spec.target.location);
        let source = if spec.source == spec.target {
            CopySource::Trash { bins: bins_before(step, spec)? }
        } else if spec.source.device == self.me {
            CopySource::Here { location: spec.source.location, dir: spec.source.dir.clone() }
        } else {
            CopySource::Device(spec.source.device)
        };
        Ok(match spec.key.kind {
            JobKind::Copy => Output::RunCopy(CopyLeg {
                job,
                location,
                source,
                items,
                parallel_transfers: spec.parallel_transfers,
                bandwidth_limit: spec.bandwidth_limit.clone(),
                free_bytes_min: self.config.free_bytes_min,
            }),
            JobKind::Delete => {
                Output::RunDelete(DeleteLeg { job, location, source, items, delete_mode: spec.delete_mode })
            }
        })
    }

    /// Another device wants content. It gets what its conduit and a grant give it, and of anything else it
    /// learns nothing: what does not exist and what is not granted are answered alike.
    pub(super) fn on_fetch(
        &mut self,
        step: &mut Step<'_>,
        ticket: Ticket,
        peer: DeviceId,
        fetch: &Fetch,
    ) -> Result<(), CoreError> {
        let Some((tree, location, dir, bandwidth_limit)) = self.readable_root(step, peer, &fetch.job.conduit)? else {
            let reads = fetch.wants.iter().map(|_| Err(FetchFailure::NotFound)).collect();
            let location = tidegate_protocol::id::LocationId::from_bytes([0; 16]);
            let bandwidth_limit = BandwidthLimit::default();
            step.out.push(Output::Serve { ticket, location, reads, conduit: fetch.job.conduit, bandwidth_limit });
            return Ok(());
        };
        let mut reads = Vec::with_capacity(fetch.wants.len());
        for want in fetch.wants.iter().take(tidegate_protocol::limits::WANTS_PER_FETCH_MAX) {
            reads.push(self.readable(step, tree, &dir, want)?);
        }
        step.out.push(Output::Serve { ticket, location, reads, conduit: fetch.job.conduit, bandwidth_limit });
        Ok(())
    }

    fn readable(
        &self,
        step: &Step<'_>,
        tree: Tree,
        dir: &DirPath,
        want: &Want,
    ) -> Result<Result<Read, FetchFailure>, CoreError> {
        let Ok(path) = dir.join(&want.path) else { return Ok(Err(FetchFailure::NotFound)) };
        let row = step.txn.entry(tree, &path)?;
        let Some((state, mark)) = row.map(|row| (row.state, row.mark)) else { return Ok(Err(FetchFailure::NotFound)) };
        let file = match state.present().map(|entry| &entry.kind) {
            Some(EntryKind::File(file)) => *file,
            Some(_) => return Ok(Err(FetchFailure::Changed)),
            None => return Ok(Err(FetchFailure::NotFound)),
        };
        let fits = want.offset.checked_add(want.length).is_some_and(|end| end <= file.size);
        let Some(mark) = mark.filter(|_| file.content == want.content && fits) else {
            return Ok(Err(FetchFailure::Changed));
        };
        Ok(Ok(Read { path, mark, content: want.content, offset: want.offset, length: want.length }))
    }

    /// The root that `peer` may read for a conduit: this device's end, when the peer holds the other one and
    /// is granted reading.
    fn readable_root(
        &self,
        step: &Step<'_>,
        peer: DeviceId,
        conduit: &tidegate_protocol::id::ConduitId,
    ) -> Result<Option<(Tree, tidegate_protocol::id::LocationId, DirPath, BandwidthLimit)>, CoreError> {
        let Some(conduit) = step.txn.conduit(*conduit)?.filter(|conduit| !conduit.removed.value) else {
            return Ok(None);
        };
        let (mine, theirs) = if conduit.source.device == self.me {
            (&conduit.source, &conduit.target)
        } else {
            (&conduit.target, &conduit.source)
        };
        let read = Rights { read: true, write: false, delete: false };
        if mine.device != self.me || theirs.device != peer || !self.allows(step, peer, mine.location, read)? {
            return Ok(None);
        }
        let tree = step.txn.tree(self.me, mine.location)?;
        Ok(Some((tree, mine.location, mine.dir.clone(), conduit.settings.bandwidth_limit.value)))
    }

    /// Chunk hashes of a large content, under the same rights as the content itself.
    pub(super) fn on_outline(
        &mut self,
        step: &mut Step<'_>,
        peer: DeviceId,
        conduit: &tidegate_protocol::id::ConduitId,
        path: &EntryPath,
        content: &ContentHash,
    ) -> Result<Response, CoreError> {
        let not_found = || refuse(RefusalCode::NotFound, "no such content");
        let Some((tree, _, dir, _)) = self.readable_root(step, peer, conduit)? else { return Ok(not_found()) };
        let Ok(path) = dir.join(path) else { return Ok(not_found()) };
        let holds = step.txn.entry(tree, &path)?.is_some_and(|row| {
            matches!(row.state.present().map(|e| &e.kind), Some(EntryKind::File(file)) if file.content == *content)
        });
        let outline = if holds { step.txn.outline(content)? } else { None };
        Ok(outline.map_or_else(not_found, |chunks| Response::Outline { chunks }))
    }
}

/// A part of a job, made from stored items and the own index.
pub(super) struct Leg {
    /// Where the next one begins.
    pub(super) next: u32,
    /// What is to be done on disk.
    pub(super) work: Vec<Work>,
    /// Outcomes of items that need no work.
    pub(super) settled: Vec<(u32, ItemOutcome)>,
    /// Rows that get another version.
    pub(super) adopted: Vec<Change>,
}

/// Where, on the device that changes, an item's content stood before.
pub(super) const fn old_path(action: &Action) -> Option<&EntryPath> {
    match action {
        Action::RenameFile { from, .. } | Action::Respell { from, .. } => Some(from),
        Action::MakeDirectory { .. }
        | Action::InstallFile { .. }
        | Action::InstallSymlink { .. }
        | Action::SetMetadata { .. }
        | Action::Remove { .. }
        | Action::RemoveDirectory { .. }
        | Action::Adopt { .. }
        | Action::Evict { .. } => None,
    }
}

/// Gives a row another version, if the row still is what the plan saw. No disk is looked at: an edit that the
/// index has not seen yet is a later event all the same.
pub(super) fn adopt(
    step: &Step<'_>,
    tree: Tree,
    location: LocationId,
    path: &EntryPath,
    expect: &PreImage,
    version: &Version,
    adopted: &mut Vec<Change>,
) -> Result<ItemOutcome, CoreError> {
    let row = step.txn.entry(tree, path)?;
    let (state, mark) = row.map_or((None, None), |row| (Some(row.state), row.mark));
    let found = match state.as_ref().and_then(EntryState::present) {
        Some(entry) => PreImage::of(&entry.kind),
        None => Some(PreImage::Absent),
    };
    if found.as_ref() != Some(expect) {
        return Ok(ItemOutcome::Skipped(SkipReason::TargetChanged));
    }
    let adopted_state = match state {
        Some(EntryState::Present(entry)) => {
            EntryState::Present(Entry { version: entry.version.join(version), ..entry })
        }
        Some(EntryState::Deleted(own)) => EntryState::Deleted(own.join(version)),
        None => EntryState::Deleted(version.clone()),
    };
    adopted.push(Change::entry(location, path.clone(), adopted_state, mark));
    Ok(ItemOutcome::Done)
}

/// The bins that earlier generations of the conduit may have filled here, the newest first.
fn bins_before(step: &Step<'_>, spec: &JobSpec) -> Result<Vec<Bin>, CoreError> {
    let earlier = |record: &JobRecord| {
        let key = &record.spec.key;
        key.conduit == spec.key.conduit && key.device == spec.key.device && key.generation < spec.key.generation
    };
    let jobs = step.txn.jobs()?;
    let mut numbers: Vec<u64> = jobs.iter().filter(|job| earlier(job)).map(|job| job.spec.key.generation).collect();
    numbers.sort_unstable();
    numbers.dedup();
    Ok(numbers.into_iter().rev().take(BINS_MAX).map(|number| Bin::of(spec.key.conduit, number)).collect())
}

/// The stat under which the own index knows a path to hold a content.
pub(super) fn known_mark(
    step: &Step<'_>,
    tree: Tree,
    path: &EntryPath,
    content: ContentHash,
) -> Result<Option<StatMark>, CoreError> {
    let Some(row) = step.txn.entry(tree, path)? else { return Ok(None) };
    Ok(match row.state.present().map(|entry| &entry.kind) {
        Some(EntryKind::File(file)) if file.content == content => row.mark,
        Some(_) | None => None,
    })
}
