//! Staging one batch by several tasks at once: each takes the next piece of work until none is left.
//!
//! Content comes from where it is cheapest: it stands at its path already, this device holds it elsewhere, or
//! the source sends it. A copy of what the device holds is hashed, and falls back to the source.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use async_channel::{Receiver, Sender};
use tidegate_protocol::file_sync::{Action, SkipReason};
use tidegate_protocol::index::{FileFacts, StatMark};
use tidegate_protocol::limits::SMALL_FILE_BYTES_MAX;
use tidegate_protocol::path::EntryPath;
use tidegate_storage::disk::{FileKind, Refused, RootDir, Staged, TreePath, find_trashed};

use super::{Leg, large, lock, small};
use crate::core::io::{CopySource, JobStop, Work};
use crate::env::Env;

/// Wants of one fetch: some hundred keep a stream busy, and several streams share a batch.
const UNIT_ITEMS_MAX: usize = 128;

/// Bytes of one fetch of small files.
const UNIT_BYTES_MAX: u64 = 4 << 20;

/// What staging came to, for one item.
#[derive(Debug)]
pub(super) enum Prepared {
    /// The item brings no content.
    NotNeeded,
    /// It stands at its path already, under this stat.
    Already(StatMark),
    /// Staged.
    Staged {
        /// What.
        staged: Staged,
        /// It was copied from what this device holds.
        local: bool,
    },
    /// There is no content, and why.
    Skipped(SkipReason),
    /// The leg stopped before.
    NotReached,
}

/// A piece of work for one task; positions in the leg.
enum Unit {
    Small(Vec<usize>),
    Large(usize),
    Link(usize),
}

/// A batch that is being staged beside the caller.
pub(super) struct Staging {
    range: Range<usize>,
    prepared: Arc<Mutex<Vec<Prepared>>>,
    /// Closed when the last task is over; nothing is ever sent, so that nobody wakes for a single item.
    over: Receiver<Infallible>,
}

impl Staging {
    /// Starts the tasks.
    pub(super) fn begin<E: Env>(leg: &Arc<Leg<E>>, range: Range<usize>) -> Self {
        let mut prepared = Vec::with_capacity(range.len());
        let mut units = VecDeque::new();
        let (mut small, mut bytes) = (Vec::new(), 0);
        for position in range.clone() {
            prepared.push(Prepared::NotReached);
            match &leg.items[position].item.action {
                Action::InstallFile { file, .. } if is_large(file) => units.push_back(Unit::Large(position)),
                Action::InstallFile { file, .. } => {
                    if small.len() == UNIT_ITEMS_MAX || bytes + file.size > UNIT_BYTES_MAX {
                        units.push_back(Unit::Small(std::mem::take(&mut small)));
                        bytes = 0;
                    }
                    small.push(position);
                    bytes += file.size;
                }
                Action::InstallSymlink { .. } => units.push_back(Unit::Link(position)),
                Action::MakeDirectory { .. }
                | Action::RenameFile { .. }
                | Action::SetMetadata { .. }
                | Action::Remove { .. }
                | Action::RemoveDirectory { .. }
                | Action::Adopt { .. }
                | Action::Respell { .. }
                | Action::Evict { .. } => prepared[position - range.start] = Prepared::NotNeeded,
            }
        }
        if !small.is_empty() {
            units.push_back(Unit::Small(small));
        }
        let prepared = Arc::new(Mutex::new(prepared));
        let (running, over) = async_channel::bounded(1);
        let tasks = units.len().min(leg.streams);
        // A lone large file has all streams for itself.
        let large = units.iter().filter(|unit| matches!(unit, Unit::Large(_))).count();
        let streams = if large == 1 { leg.streams } else { 1 };
        let units = Arc::new(Mutex::new(units));
        for _ in 0..tasks {
            let results = Results { first: range.start, prepared: Arc::clone(&prepared), _running: running.clone() };
            leg.context.spawn(work_off(Arc::clone(leg), Arc::clone(&units), results, streams));
        }
        Self { range, prepared, over }
    }

    /// Positions of the batch in the leg.
    pub(super) fn range(&self) -> Range<usize> {
        self.range.clone()
    }

    /// Waits until all tasks are over. May be given up and called again.
    pub(super) async fn wait(&mut self) {
        let Err(_) = self.over.recv().await;
    }

    /// What it came to, by item.
    pub(super) fn into_prepared(self) -> Vec<Prepared> {
        std::mem::take(&mut *lock(&self.prepared))
    }
}

/// Where tasks put what they prepared.
pub(super) struct Results {
    /// Position of the first item of the batch in the leg.
    first: usize,
    prepared: Arc<Mutex<Vec<Prepared>>>,
    /// The task is at work for as long as it holds this.
    _running: Sender<Infallible>,
}

impl Results {
    pub(super) fn put(&self, position: usize, prepared: Prepared) {
        lock(&self.prepared)[position - self.first] = prepared;
    }

    pub(super) fn put_staged(&self, position: usize, staged: Result<Staged, Refused>, local: bool) {
        self.put(
            position,
            match staged {
                Ok(staged) => Prepared::Staged { staged, local },
                Err(refused) => Prepared::Skipped(refused.into()),
            },
        );
    }
}

async fn work_off<E: Env>(leg: Arc<Leg<E>>, units: Arc<Mutex<VecDeque<Unit>>>, results: Results, streams: usize) {
    while leg.stopping().is_none() {
        let Some(unit) = lock(&units).pop_front() else { return };
        match unit {
            Unit::Small(positions) => small::stage(&leg, positions, &results).await,
            Unit::Large(position) => large::stage(&leg, position, streams, &results).await,
            Unit::Link(position) => {
                let work = &leg.items[position];
                if let Action::InstallSymlink { target, .. } = &work.item.action {
                    results.put_staged(position, leg.workshop.stage_symlink(work.index, target).await, false);
                }
            }
        }
    }
}

/// Whether a content travels in ranges, with an outline.
pub(super) const fn is_large(file: &FileFacts) -> bool {
    file.size > SMALL_FILE_BYTES_MAX
}

/// Whether an item's result stands at its path already; looks into the file only if the stat says it may.
pub(super) async fn already<E: Env>(leg: &Leg<E>, path: &EntryPath, file: &FileFacts) -> Option<StatMark> {
    let found = leg.root.metadata(&TreePath::from(path)).await.ok()??;
    let likely = found.kind == FileKind::File && found.mark.size == file.size && found.mark.mtime_ns == file.mtime_ns;
    if likely { leg.workshop.already(path, file).await.ok()? } else { None }
}

/// Copies content that this device holds, if it does and still does.
pub(super) async fn copy_local<E: Env>(leg: &Leg<E>, work: &Work, file: &FileFacts) -> Option<Result<Staged, Refused>> {
    let local = work.local.as_ref()?;
    let source = leg.context.roots.get(local.location)?;
    match leg.workshop.stage_copy(work.index, &source, &TreePath::from(&local.path), file).await {
        Err(Refused::NoSpace) => Some(Err(Refused::NoSpace)),
        // It changed, or cannot be read: the source has it.
        Err(_) => None,
        Ok(staged) => Some(Ok(staged)),
    }
}

/// Copies from the source's root on this device, or from its own trash; `None` if the source is another device.
pub(super) async fn copy_here<E: Env>(
    leg: &Leg<E>,
    work: &Work,
    file: &FileFacts,
    from: &EntryPath,
) -> Option<Prepared> {
    let staged = match &leg.source {
        CopySource::Device(_) => return None,
        CopySource::Here { location, dir } => {
            let (Some(source), Ok(path)) = (leg.context.roots.get(*location), dir.join(from)) else {
                leg.stop(JobStop::RootLost);
                return Some(Prepared::Skipped(SkipReason::SourceChanged));
            };
            leg.workshop.stage_copy(work.index, &source, &TreePath::from(&path), file).await
        }
        CopySource::Trash { bins } => match find_trashed(&leg.root, bins, &work.path, file).await {
            Some(trashed) => leg.workshop.stage_copy(work.index, &leg.root, &trashed, file).await,
            None => return Some(Prepared::Skipped(SkipReason::SourceGone)),
        },
    };
    Some(match staged {
        Ok(staged) => Prepared::Staged { staged, local: true },
        Err(refused) => Prepared::Skipped(refused.into()),
    })
}
