//! The delete job: takes items away in their order, each to the trash first, with its pre-image checked.
//!
//! Outcomes are reported batch by batch, once the names of the batch are durable. What a permanent delete
//! removes for good is purged from the trash when the generation is over, not here.

use tidegate_protocol::file_sync::SkipReason;
use tidegate_storage::disk::{RootDir, Workshop};

use super::apply::{self, Content};
use super::{Context, Control, IndexView, evict};
use crate::core::io::{DeleteLeg, Input, JobStop, Work};
use crate::env::Env;

/// Items of one batch, and so of one barrier.
const BATCH_ITEMS_MAX: usize = 1000;

/// Runs a leg. `None` if every item has an outcome.
pub(crate) async fn delete<E: Env>(
    context: Context<E>,
    leg: DeleteLeg,
    control: Control,
    known: IndexView,
) -> Option<JobStop> {
    let Some(root) = context.roots.get(leg.location) else { return Some(JobStop::RootLost) };
    let workshop = match Workshop::open(root.clone(), &leg.job).await {
        Ok(workshop) => workshop,
        Err(refused) => return Some(apply::stop_at_start(&refused)),
    };
    if let Err(refused) = apply::recover(&workshop, &leg.items, &known).await {
        return Some(apply::stop_at_start(&refused));
    }
    for batch in leg.items.chunks(BATCH_ITEMS_MAX) {
        // A disk that was swapped under us holds other files under the same names.
        if !context.roots.stands(leg.location).await {
            return Some(JobStop::RootLost);
        }
        if let Some(stop) = delete_batch(&context, &leg, &workshop, &root, batch, &control, &known).await {
            return Some(stop);
        }
    }
    None
}

async fn delete_batch<E: Env, R: RootDir>(
    context: &Context<E>,
    leg: &DeleteLeg,
    workshop: &Workshop<R>,
    root: &R,
    batch: &[Work],
    control: &Control,
    known: &IndexView,
) -> Option<JobStop> {
    let (mut done, mut stop) = (Vec::with_capacity(batch.len()), None);
    let held = match evict::held_by_source(context, leg, batch).await {
        Ok(held) => held,
        Err(stop) => return Some(stop),
    };
    for work in batch {
        stop = control.stop();
        if stop.is_some() {
            break;
        }
        let content = if evict::is_eviction(work) && !held.contains(&work.index) {
            Content::Skipped(SkipReason::SourceChanged)
        } else {
            Content::None
        };
        match apply::apply(workshop, root, known, work, content).await {
            Ok(applied) => done.push((work, applied)),
            Err(found) => {
                stop = Some(found);
                break;
            }
        }
    }
    let durable = workshop.sync_dirs().await;
    let (mut outcomes, mut announced) = (Vec::with_capacity(done.len()), Vec::with_capacity(done.len()));
    for (work, applied) in done {
        let outcome = apply::durable(applied.outcome, durable.as_ref().err());
        if durable.is_ok() {
            announced.extend(applied.written);
        }
        outcomes.push((work.index, outcome));
    }
    if outcomes.is_empty() {
        return stop;
    }
    let current = batch.last().map(|work| work.path.clone()).into_iter().collect();
    let moved = Input::JobMoved { job: leg.job, outcomes, announced, bytes_done: 0, bytes_reused: 0, current };
    if context.tell(moved).await { stop } else { Some(JobStop::Paused) }
}
