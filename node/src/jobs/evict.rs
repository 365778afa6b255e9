//! Asking the other end, right before an eviction, whether it holds the same: what leaves a target for good must
//! be seen at its source at that very moment.
//!
//! One byte of each content is asked for. The other end sends it only while path, content and stat are those of its
//! own index, so the byte is the proof; an empty content needs none.

use std::collections::BTreeSet;

use tidegate_protocol::file_sync::{Action, PreImage};
use tidegate_protocol::hash::ContentHash;
use tidegate_protocol::id::DeviceId;
use tidegate_protocol::limits::WANTS_PER_FETCH_MAX;
use tidegate_protocol::path::EntryPath;
use tidegate_protocol::wire::Want;
use tidegate_storage::disk::{RootDir, TreePath};

use super::Context;
use super::fetch::{Arrived, Fetching};
use super::pace::Pace;
use crate::core::io::{CopySource, DeleteLeg, JobStop, Work};
use crate::env::Env;

/// Whether an item takes a file away without a trace.
pub(super) fn is_eviction(work: &Work) -> bool {
    asked(work).is_some()
}

/// The content of a file that is to be evicted, and where the other end has it.
fn asked(work: &Work) -> Option<(&EntryPath, ContentHash, u64)> {
    match (&work.item.action, &work.item.expect) {
        (Action::Evict { from }, PreImage::File { content, size }) => Some((from, *content, *size)),
        _ => None,
    }
}

/// Which of the evictions of a batch the other end holds, by their numbers.
pub(super) async fn held_by_source<E: Env>(
    context: &Context<E>,
    leg: &DeleteLeg,
    batch: &[Work],
) -> Result<BTreeSet<u32>, JobStop> {
    let evictions = || batch.iter().filter(|work| is_eviction(work));
    let mut held: BTreeSet<u32> =
        evictions().filter(|work| asked(work).is_some_and(|(_, _, size)| size == 0)).map(|work| work.index).collect();
    let open: Vec<&Work> = evictions().filter(|work| !held.contains(&work.index)).collect();
    match &leg.source {
        CopySource::Here { location, .. } => {
            let root = context.roots.get(*location).ok_or(JobStop::RootLost)?;
            for work in open {
                if stands_here(&root, work).await {
                    held.insert(work.index);
                }
            }
        }
        // What is taken back is never evicted.
        CopySource::Trash { .. } => {}
        CopySource::Device(device) => {
            for part in open.chunks(WANTS_PER_FETCH_MAX) {
                ask(context, leg, *device, part, &mut held).await?;
            }
        }
    }
    Ok(held)
}

async fn stands_here<R: RootDir>(root: &R, work: &Work) -> bool {
    let Some(local) = &work.local else { return false };
    let found = root.metadata(&TreePath::from(&local.path)).await;
    found.is_ok_and(|found| found.is_some_and(|found| found.mark == local.mark))
}

async fn ask<E: Env>(
    context: &Context<E>,
    leg: &DeleteLeg,
    device: DeviceId,
    evictions: &[&Work],
    held: &mut BTreeSet<u32>,
) -> Result<(), JobStop> {
    let want =
        |(from, content, _): (&EntryPath, ContentHash, u64)| Want { path: from.clone(), content, offset: 0, length: 1 };
    let wants: Vec<Want> = evictions.iter().filter_map(|work| asked(work).map(want)).collect();
    if wants.is_empty() {
        return Ok(());
    }
    let pace = Pace::free();
    let unreachable = |_| JobStop::Unreachable;
    let mut fetching = Fetching::begin(&context.env, &pace, device, leg.job, wants).await.map_err(unreachable)?;
    while let Some((want, arrived)) = fetching.next().await.map_err(unreachable)? {
        match arrived {
            Arrived::Bytes(_) => drop(held.insert(evictions[want].index)),
            Arrived::Failed(_) => {}
        }
    }
    Ok(())
}
