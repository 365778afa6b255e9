//! The copy job: brings the content of a leg's items in, and puts it in place.
//!
//! Batch by batch: the content of a batch is staged by several tasks at once, then one barrier makes it
//! durable, then the items are applied in their order with their pre-images checked, then one barrier makes
//! the names durable, and only then outcomes are reported. While one batch is applied the next is staged.
//!
//! Running a leg again is safe at any point: what a crash left in staging is sorted first, and an item whose
//! result already stands there is done.

mod large;
mod small;
mod stage;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidegate_protocol::file_sync::{Action, ItemOutcome, JobKey, SkipReason};
use tidegate_protocol::id::LocationId;
use tidegate_protocol::limits::PARALLEL_TRANSFERS_MAX;
use tidegate_protocol::path::EntryPath;
use tidegate_storage::disk::{RootDir, Workshop};

use self::stage::{Prepared, Staging};
use super::apply::{self, Content, Done};
use super::pace::Pace;
use super::room::Lease;
use super::wait::{First, race};
use super::{Context, Control, IndexView};
use crate::core::io::{CopyLeg, CopySource, Input, JobStop, Work, Written};
use crate::env::{Clock, Env, RootOf};

/// Items of one batch: enough to make a barrier cheap, few enough to report often.
const BATCH_ITEMS_MAX: usize = 1000;

/// Bytes staged for one batch, unless a single file is larger.
const BATCH_BYTES_MAX: u64 = 64 << 20;

/// Time between two reports while content arrives.
const REPORT_EVERY: Duration = Duration::from_millis(200);

/// Paths shown as being at work.
const CURRENT_MAX: usize = 8;

/// What the tasks of a running leg share.
struct Leg<E: Env> {
    context: Context<E>,
    job: JobKey,
    location: LocationId,
    source: CopySource,
    items: Vec<Work>,
    root: RootOf<E>,
    workshop: Workshop<RootOf<E>>,
    known: IndexView,
    control: Control,
    pace: Arc<Pace>,
    streams: usize,
    room: Lease,
    stop: Mutex<Option<JobStop>>,
    moved: Moved,
}

/// What was moved since the last report, and what is at work.
#[derive(Debug, Default)]
struct Moved {
    bytes: AtomicU64,
    reused: AtomicU64,
    current: Mutex<BTreeMap<u32, EntryPath>>,
}

/// Runs a leg. `None` if every item has an outcome.
pub(crate) async fn copy<E: Env>(
    context: Context<E>,
    leg: CopyLeg,
    control: Control,
    known: IndexView,
) -> Option<JobStop> {
    let Some(root) = context.roots.get(leg.location) else { return Some(JobStop::RootLost) };
    let workshop = match Workshop::open(root.clone(), &leg.job).await {
        Ok(workshop) => workshop,
        Err(refused) => return Some(apply::stop_at_start(&refused)),
    };
    let recovered = match apply::recover(&workshop, &leg.items, &known).await {
        Ok(recovered) => recovered,
        Err(refused) => return Some(apply::stop_at_start(&refused)),
    };
    // What is staged already needs no room any more; then each piece of work looks for itself.
    let bytes = if recovered.resumable == 0 { leg.items.iter().map(bytes_of).sum() } else { 0 };
    let file_system = root.identity().await.map_or(0, |identity| identity.file_system);
    let space = root.space().await.ok();
    let Some(room) = context.rooms.take(leg.job, file_system, bytes, space, leg.free_bytes_min) else {
        return Some(JobStop::NoSpace);
    };
    let leg = Arc::new(Leg {
        job: leg.job,
        location: leg.location,
        source: leg.source,
        items: leg.items,
        root,
        workshop,
        known,
        control,
        pace: context.paces.of(leg.job.conduit, leg.bandwidth_limit),
        streams: leg.parallel_transfers.clamp(1, PARALLEL_TRANSFERS_MAX) as usize,
        room,
        stop: Mutex::default(),
        moved: Moved::default(),
        context,
    });
    run(&leg).await
}

async fn run<E: Env>(leg: &Arc<Leg<E>>) -> Option<JobStop> {
    let mut batches = batches(&leg.items).into_iter();
    let mut staging = batches.next().map(|batch| Staging::begin(leg, batch));
    while let Some(running) = staging.take() {
        let range = running.range();
        let prepared = gather(leg, running).await;
        if leg.stopping().is_none() {
            staging = batches.next().map(|batch| Staging::begin(leg, batch));
        }
        if !leg.context.roots.stands(leg.location).await {
            leg.stop(JobStop::RootLost);
            break;
        }
        apply_batch(leg, &leg.items[range], prepared).await;
        if let Some(stop) = leg.stopping() {
            if let Some(running) = staging.take() {
                // Its tasks see the stop, too; what they still finish stays staged.
                drop(gather(leg, running).await);
            }
            leg.report(Vec::new(), Vec::new()).await;
            return Some(stop);
        }
    }
    leg.stopping()
}

/// Waits for a batch to be staged, reporting what arrives meanwhile.
async fn gather<E: Env>(leg: &Leg<E>, mut staging: Staging) -> Vec<Prepared> {
    loop {
        match race(staging.wait(), leg.context.env.clock().sleep(REPORT_EVERY)).await {
            First::Left(()) => return staging.into_prepared(),
            First::Right(()) => leg.report(Vec::new(), Vec::new()).await,
        }
    }
}

/// Makes a batch durable, applies it in order, makes the names durable, reports.
async fn apply_batch<E: Env>(leg: &Leg<E>, items: &[Work], prepared: Vec<Prepared>) {
    let mut staged = Vec::new();
    let mut contents: Vec<Option<Content>> = Vec::with_capacity(items.len());
    let mut reused = vec![false; items.len()];
    for (position, prepared) in prepared.into_iter().enumerate() {
        contents.push(match prepared {
            Prepared::NotNeeded => Some(Content::None),
            Prepared::Already(mark) => Some(Content::Already(mark)),
            Prepared::Skipped(reason) => Some(Content::Skipped(reason)),
            Prepared::NotReached => None,
            Prepared::Staged { staged: content, local } => {
                reused[position] = local;
                staged.push((position, content));
                None
            }
        });
    }
    let (positions, batch): (Vec<usize>, Vec<_>) = staged.into_iter().unzip();
    match leg.workshop.barrier(batch).await {
        Ok(ready) => {
            for (position, ready) in positions.into_iter().zip(ready) {
                contents[position] = Some(Content::Ready(Box::new(ready)));
            }
        }
        Err(refused) => {
            tracing::error!(job = %leg.job, %refused, "staged content could not be made durable; it is thrown away");
            let reason = SkipReason::from(refused);
            if reason == SkipReason::NoSpace {
                leg.stop(JobStop::NoSpace);
                return;
            }
            for position in positions {
                contents[position] = Some(Content::Skipped(reason.clone()));
            }
        }
    }
    leg.context.in_hand.take(leg.job, leg.location, items);
    let mut done = Vec::new();
    for (position, content) in contents.into_iter().enumerate() {
        if leg.control.stop().is_some() {
            break;
        }
        let Some(content) = content else { continue };
        let work = &items[position];
        match apply::apply(&leg.workshop, &leg.root, &leg.known, work, content).await {
            Ok(applied) => done.push((work, applied, reused[position])),
            Err(stop) => leg.stop(stop),
        }
    }
    settle(leg, done).await;
}

/// Makes what was applied durable, then reports it.
async fn settle<E: Env>(leg: &Leg<E>, done: Vec<(&Work, Done, bool)>) {
    if done.is_empty() {
        leg.context.let_go(&leg.job).await;
        return;
    }
    let durable = leg.workshop.sync_dirs().await;
    let (mut outcomes, mut announced) = (Vec::with_capacity(done.len()), Vec::with_capacity(done.len()));
    for (work, applied, local) in done {
        let outcome = apply::durable(applied.outcome, durable.as_ref().err());
        if outcome == ItemOutcome::Done {
            leg.count(work, local);
            announced.extend(applied.written);
        }
        outcomes.push((work.index, outcome));
    }
    leg.context.in_hand.reporting(&leg.job, &announced);
    leg.report(outcomes, announced).await;
    leg.context.let_go(&leg.job).await;
}

impl<E: Env> Leg<E> {
    /// Why the leg is to stop: told by a person, or found by a task.
    fn stopping(&self) -> Option<JobStop> {
        let found = *lock(&self.stop);
        found.or_else(|| self.control.stop())
    }

    /// Stops the leg; the first reason counts.
    fn stop(&self, stop: JobStop) {
        lock(&self.stop).get_or_insert(stop);
    }

    /// Whether `bytes` more leave the room that must remain. Where the disk does not say, it is tried.
    async fn has_room(&self, bytes: u64) -> bool {
        match self.root.space().await {
            Ok(space) => self.room.has_room(bytes, space),
            Err(_) => true,
        }
    }

    /// Counts an item that is done. Large files counted their chunks as they came.
    fn count(&self, work: &Work, local: bool) {
        match &work.item.action {
            Action::InstallFile { file, .. } if local || !stage::is_large(file) => {
                self.moved.bytes.fetch_add(file.size, Ordering::Relaxed);
                self.room.used(file.size);
                if local {
                    self.moved.reused.fetch_add(file.size, Ordering::Relaxed);
                }
            }
            Action::InstallFile { .. }
            | Action::MakeDirectory { .. }
            | Action::InstallSymlink { .. }
            | Action::RenameFile { .. }
            | Action::SetMetadata { .. }
            | Action::Remove { .. }
            | Action::RemoveDirectory { .. }
            | Action::Adopt { .. }
            | Action::Respell { .. }
            | Action::Evict { .. } => {}
        }
    }

    async fn report(&self, outcomes: Vec<(u32, ItemOutcome)>, announced: Vec<Written>) {
        let bytes_done = self.moved.bytes.swap(0, Ordering::Relaxed);
        let bytes_reused = self.moved.reused.swap(0, Ordering::Relaxed);
        if outcomes.is_empty() && bytes_done == 0 {
            return;
        }
        let current = lock(&self.moved.current).values().take(CURRENT_MAX).cloned().collect();
        let moved = Input::JobMoved { job: self.job, outcomes, announced, bytes_done, bytes_reused, current };
        if !self.context.tell(moved).await {
            // Nobody is left to report to: the node is ending, and the next start takes the leg up again.
            self.stop(JobStop::Paused);
        }
    }
}

/// Splits a leg into batches of consecutive items.
fn batches(items: &[Work]) -> Vec<std::ops::Range<usize>> {
    let (mut batches, mut begin, mut bytes) = (Vec::new(), 0, 0_u64);
    for (position, work) in items.iter().enumerate() {
        let more = bytes_of(work);
        let full = position - begin == BATCH_ITEMS_MAX || bytes.saturating_add(more) > BATCH_BYTES_MAX;
        if full && position > begin {
            batches.push(begin..position);
            (begin, bytes) = (position, 0);
        }
        bytes = bytes.saturating_add(more);
    }
    if begin < items.len() {
        batches.push(begin..items.len());
    }
    batches
}

/// Bytes of content that an item brings in.
fn bytes_of(work: &Work) -> u64 {
    match &work.item.action {
        Action::InstallFile { file, .. } => file.size,
        Action::MakeDirectory { .. }
        | Action::InstallSymlink { .. }
        | Action::RenameFile { .. }
        | Action::SetMetadata { .. }
        | Action::Remove { .. }
        | Action::RemoveDirectory { .. }
        | Action::Adopt { .. }
        | Action::Respell { .. }
        | Action::Evict { .. } => 0,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
