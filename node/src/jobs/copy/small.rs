//! Staging small files: many in one fetch, each hashed whole before it is staged.

use tidegate_protocol::file_sync::{Action, SkipReason};
use tidegate_protocol::id::DeviceId;
use tidegate_protocol::index::FileFacts;
use tidegate_protocol::path::EntryPath;
use tidegate_protocol::wire::{FetchFailure, Refusal, RefusalCode, Want};
use tidegate_storage::disk::Refused;

use super::stage::{Prepared, Results, already, copy_here, copy_local};
use super::{Leg, lock};
use crate::core::io::{CopySource, JobStop, Work};
use crate::env::Env;
use crate::jobs::fetch::{Arrived, FetchError, Fetching};

/// Times that a content is asked for; the second time is for bytes that arrived wrong.
const ATTEMPTS: u32 = 2;

/// The facts of an item that installs a file, and where the source has it.
pub(super) fn wanted(work: &Work) -> Option<(&FileFacts, &EntryPath)> {
    match &work.item.action {
        Action::InstallFile { file, from, .. } => Some((file, from)),
        Action::MakeDirectory { .. }
        | Action::InstallSymlink { .. }
        | Action::RenameFile { .. }
        | Action::SetMetadata { .. }
        | Action::Remove { .. }
        | Action::RemoveDirectory { .. }
        | Action::Adopt { .. }
        | Action::Respell { .. }
        | Action::Evict { .. } => None,
    }
}

/// Stages the content of small files.
pub(super) async fn stage<E: Env>(leg: &Leg<E>, positions: Vec<usize>, results: &Results) {
    let Some(first) = positions.first().map(|position| &leg.items[*position]) else { return };
    lock(&leg.moved.current).insert(first.index, first.path.clone());
    let mut missing = Vec::with_capacity(positions.len());
    for position in positions {
        let work = &leg.items[position];
        let Some((file, from)) = wanted(work) else { continue };
        if leg.stopping().is_some() {
            break;
        }
        if let Some(mark) = already(leg, &work.path, file).await {
            results.put(position, Prepared::Already(mark));
        } else if file.size == 0 {
            results.put_staged(position, leg.workshop.stage_bytes(work.index, &[], file).await, false);
        } else if let Some(staged) = copy_local(leg, work, file).await {
            results.put_staged(position, staged, true);
        } else if let Some(staged) = copy_here(leg, work, file, from).await {
            results.put(position, staged);
        } else {
            missing.push(position);
        }
    }
    if let CopySource::Device(device) = leg.source {
        for attempt in 1..=ATTEMPTS {
            if missing.is_empty() || leg.stopping().is_some() {
                break;
            }
            missing = fetch(leg, device, missing, attempt == ATTEMPTS, results).await;
        }
    }
    lock(&leg.moved.current).remove(&first.index);
}

/// Fetches and stages; answers what arrived wrong and may be asked for again.
async fn fetch<E: Env>(
    leg: &Leg<E>,
    device: DeviceId,
    positions: Vec<usize>,
    last: bool,
    results: &Results,
) -> Vec<usize> {
    let files: Vec<(&Work, &FileFacts, &EntryPath)> = positions
        .iter()
        .filter_map(|position| wanted(&leg.items[*position]).map(|(file, from)| (&leg.items[*position], file, from)))
        .collect();
    let bytes = files.iter().map(|(_, file, _)| file.size).sum();
    if !leg.has_room(bytes).await {
        leg.stop(JobStop::NoSpace);
        return Vec::new();
    }
    let wants = files.iter().map(|(_, file, from)| Want {
        path: (*from).clone(),
        content: file.content,
        offset: 0,
        length: file.size,
    });
    let wants = wants.collect();
    let mut again = Vec::new();
    let mut fetching = match Fetching::begin(&leg.context.env, &leg.pace, device, leg.job, wants).await {
        Ok(fetching) => fetching,
        Err(error) => {
            broke_off(leg, &error, &positions, results);
            return again;
        }
    };
    let (mut at, mut whole) = (0, Vec::new());
    loop {
        let (want, arrived) = match fetching.next().await {
            Ok(Some(next)) => next,
            Ok(None) => return again,
            Err(error) => {
                broke_off(leg, &error, &positions[at..], results);
                return again;
            }
        };
        let (position, (work, file, _)) = (positions[want], files[want]);
        match arrived {
            Arrived::Failed(failure) => {
                whole.clear();
                results.put(position, Prepared::Skipped(skip_of(failure)));
            }
            Arrived::Bytes(bytes) => {
                if whole.is_empty() {
                    whole = bytes;
                } else {
                    whole.extend_from_slice(&bytes);
                }
                if (whole.len() as u64) < file.size {
                    continue;
                }
                match leg.workshop.stage_bytes(work.index, &whole, file).await {
                    Err(Refused::WrongContent) if !last => again.push(position),
                    Err(Refused::NoSpace) => leg.stop(JobStop::NoSpace),
                    staged => results.put_staged(position, staged, false),
                }
                whole.clear();
            }
        }
        at = want + 1;
        if leg.stopping().is_some() {
            return again;
        }
    }
}

/// A fetch ended early: the source is gone, or it refuses what is left.
pub(super) fn broke_off<E: Env>(leg: &Leg<E>, error: &FetchError, positions: &[usize], results: &Results) {
    match error {
        FetchError::Network(error) => {
            tracing::info!(job = %leg.job, %error, "the source cannot be reached");
            leg.stop(JobStop::Unreachable);
        }
        FetchError::Refused(refusal) => match skip_of_refusal(refusal) {
            Some(reason) => {
                for position in positions {
                    results.put(*position, Prepared::Skipped(reason.clone()));
                }
            }
            None => leg.stop(JobStop::Unreachable),
        },
    }
}

/// What a source's word about one content means for its item.
pub(super) fn skip_of(failure: FetchFailure) -> SkipReason {
    match failure {
        FetchFailure::NotFound => SkipReason::SourceGone,
        FetchFailure::Changed => SkipReason::SourceChanged,
        FetchFailure::Unreadable => SkipReason::Io("the source cannot read it".to_owned()),
    }
}

/// What a refusal means for the items; `None` if it is to be tried again later.
fn skip_of_refusal(refusal: &Refusal) -> Option<SkipReason> {
    match refusal.code {
        RefusalCode::NotFound => Some(SkipReason::SourceGone),
        RefusalCode::NotAllowed => Some(SkipReason::NotAllowed),
        RefusalCode::Fenced | RefusalCode::Held | RefusalCode::PlanStale | RefusalCode::Disabled => {
            Some(SkipReason::Io(format!("the source refused: {}", refusal.why)))
        }
        RefusalCode::Malformed | RefusalCode::Internal => {
            Some(SkipReason::Io(format!("the source failed: {}", refusal.why)))
        }
        RefusalCode::Version | RefusalCode::Library | RefusalCode::NotCaughtUp | RefusalCode::Busy => None,
    }
}
