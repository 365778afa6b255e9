//! Staging one large file: by chunks, each proven by its own hash, from wherever it is cheapest.
//!
//! Chunks that an interrupted run left are kept; chunks that the target's old file holds at the same place
//! are taken from there; the rest comes from the source in ranges, over several streams at once. Each stream is a task
//! of its own, as hashing and writing what arrives keeps one processor busy.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use tidegate_protocol::file_sync::{PreImage, SkipReason};
use tidegate_protocol::id::DeviceId;
use tidegate_protocol::index::FileFacts;
use tidegate_protocol::limits::{FILE_BYTES_MAX, chunk_bytes};
use tidegate_protocol::path::EntryPath;
use tidegate_protocol::wire::Want;
use tidegate_storage::disk::{Download, Outline, Refused, RootDir, TreePath};

use super::small::{broke_off, skip_of, wanted};
use super::stage::{Prepared, Results, already, copy_here, copy_local};
use super::{Leg, lock};
use crate::core::io::{CopySource, JobStop, Work};
use crate::env::{Env, RootOf};
use crate::jobs::fetch::{Arrived, FetchError, Fetching, outline};
use crate::jobs::serve::read_exact;

/// Bytes of one fetch, unless a single chunk has more: enough to keep a stream busy, few enough that streams end
/// together.
const RANGE_BYTES_MAX: u64 = 16 << 20;

/// Times that the missing chunks are asked for; the second time is for bytes that arrived wrong.
const ATTEMPTS: u32 = 2;

type Part<E> = Download<<RootOf<E> as RootDir>::File>;

/// Stages the content of one large file.
pub(super) async fn stage<E: Env>(leg: &Arc<Leg<E>>, position: usize, streams: usize, results: &Results) {
    let work = &leg.items[position];
    let Some((file, from)) = wanted(work) else { return };
    lock(&leg.moved.current).insert(work.index, work.path.clone());
    if let Some(mark) = already(leg, &work.path, file).await {
        results.put(position, Prepared::Already(mark));
    } else if let Some(staged) = copy_local(leg, work, file).await {
        results.put_staged(position, staged, true);
    } else if let Some(prepared) = copy_here(leg, work, file, from).await {
        results.put(position, prepared);
    } else if let CopySource::Device(device) = leg.source
        && let Some(prepared) = download(leg, position, file, from, device, streams, results).await
    {
        results.put(position, prepared);
    }
    lock(&leg.moved.current).remove(&work.index);
}

/// `None` if the leg stopped before the end, or the reason was put already.
async fn download<E: Env>(
    leg: &Arc<Leg<E>>,
    position: usize,
    file: &FileFacts,
    from: &EntryPath,
    device: DeviceId,
    streams: usize,
    results: &Results,
) -> Option<Prepared> {
    let work = &leg.items[position];
    if file.size > FILE_BYTES_MAX {
        let reason = "files of more than 1 TiB cannot be carried by this version";
        return Some(Prepared::Skipped(SkipReason::Io(reason.to_owned())));
    }
    let chunks = match outline(&leg.context.env, device, leg.job, from.clone(), file.content).await {
        Ok(chunks) => chunks,
        Err(error) => {
            broke_off(leg, &error, &[position], results);
            return None;
        }
    };
    let Ok(outline) = Outline::new(file.content, file.size, chunks) else {
        return Some(Prepared::Skipped(SkipReason::WrongContent));
    };
    let part = match leg.workshop.stage_chunks(work.index, file, outline).await {
        Ok(part) => part,
        Err(refused) => return Some(Prepared::Skipped(refused.into())),
    };
    // What an earlier run left and is proven again is not sent again; it was counted as moved then.
    let missing: u64 =
        part.missing().into_iter().filter_map(|index| part.outline().range(index)).map(|r| r.1 as u64).sum();
    leg.moved.reused.fetch_add(file.size - missing, Ordering::Relaxed);
    if let Err(stop) = reuse_old(leg, work, &part).await {
        leg.stop(stop);
        return None;
    }
    let transfer =
        Transfer { leg: Arc::clone(leg), device, position, part, ranges: Mutex::default(), broken: Mutex::default() };
    let transfer = Arc::new(transfer);
    for _ in 0..ATTEMPTS {
        let missing = transfer.part.missing();
        if missing.is_empty() || leg.stopping().is_some() {
            break;
        }
        if !leg.has_room(missing.len() as u64 * chunk_bytes(file.size)).await {
            leg.stop(JobStop::NoSpace);
            break;
        }
        *lock(&transfer.ranges) = ranges(&missing, chunk_bytes(file.size));
        fetch_all(&transfer, streams).await;
        match lock(&transfer.broken).take() {
            None => {}
            Some(Broken::Content(reason)) => return Some(Prepared::Skipped(reason)),
            Some(Broken::Fetch(error)) => {
                broke_off(leg, &error, &[position], results);
                return None;
            }
        }
    }
    if leg.stopping().is_some() {
        return None;
    }
    let transfer = Arc::into_inner(transfer)?;
    Some(match transfer.part.finish().await {
        Ok(staged) => Prepared::Staged { staged, local: false },
        Err(refused) => Prepared::Skipped(refused.into()),
    })
}

/// Takes over the chunks that the file to be replaced has at the same places. What the old file is does not
/// matter: every chunk is proven by its hash.
async fn reuse_old<E: Env>(leg: &Leg<E>, work: &Work, part: &Part<E>) -> Result<(), JobStop> {
    let PreImage::File { size, .. } = work.item.expect else { return Ok(()) };
    let missing = part.missing();
    let Ok(old) = leg.root.open(&TreePath::from(&work.path)).await else { return Ok(()) };
    let mut buffer = Vec::new();
    for index in missing {
        if leg.stopping().is_some() {
            return Ok(());
        }
        let Some((offset, length)) = part.outline().range(index) else { continue };
        if offset + length as u64 > size {
            return Ok(());
        }
        // All chunks but the last are of one length.
        buffer.resize(buffer.len().max(length), 0);
        match read_exact(&old, &mut buffer[..length], offset).await {
            Ok(true) => {}
            Ok(false) | Err(_) => return Ok(()),
        }
        match part.write_chunk(index, &buffer[..length]).await {
            Ok(()) => {
                leg.moved.bytes.fetch_add(length as u64, Ordering::Relaxed);
                leg.room.used(length as u64);
                leg.moved.reused.fetch_add(length as u64, Ordering::Relaxed);
            }
            Err(Refused::NoSpace) => return Err(JobStop::NoSpace),
            Err(_) => {}
        }
    }
    Ok(())
}

/// Runs of consecutive chunks: the first, and how many.
fn ranges(missing: &[u64], chunk: u64) -> VecDeque<(u64, usize)> {
    let count_max = (RANGE_BYTES_MAX / chunk).max(1) as usize;
    let mut ranges: VecDeque<(u64, usize)> = VecDeque::new();
    for index in missing {
        match ranges.back_mut() {
            Some((first, count)) if *first + *count as u64 == *index && *count < count_max => *count += 1,
            _ => ranges.push_back((*index, 1)),
        }
    }
    ranges
}

/// One file on its way in: what the tasks of its streams share.
struct Transfer<E: Env> {
    leg: Arc<Leg<E>>,
    device: DeviceId,
    position: usize,
    part: Part<E>,
    /// What no stream has taken yet.
    ranges: Mutex<VecDeque<(u64, usize)>>,
    /// Why there will be no more of it; the first reason counts.
    broken: Mutex<Option<Broken>>,
}

/// Why the rest of a file will not come.
enum Broken {
    /// The source or this disk will not have it.
    Content(SkipReason),
    /// The source is lost, or refuses.
    Fetch(FetchError),
}

/// Fetches all ranges that were put down, over several streams.
async fn fetch_all<E: Env>(transfer: &Arc<Transfer<E>>, streams: usize) {
    // Closed when the last task has let go of the transfer.
    let (running, over) = async_channel::bounded::<Infallible>(1);
    let ranges = lock(&transfer.ranges).len();
    for _ in 0..streams.min(ranges) {
        let (own, running) = (Arc::clone(transfer), running.clone());
        transfer.leg.context.spawn(async move {
            fetch_ranges(own).await;
            drop(running);
        });
    }
    drop(running);
    let Err(_) = over.recv().await;
}

/// One stream: fetches range after range until none is left.
async fn fetch_ranges<E: Env>(transfer: Arc<Transfer<E>>) {
    while transfer.leg.stopping().is_none() {
        let Some((first, count)) = lock(&transfer.ranges).pop_front() else { return };
        if let Err(broken) = fetch_range(&transfer, first, count).await {
            lock(&transfer.ranges).clear();
            lock(&transfer.broken).get_or_insert(broken);
        }
    }
}

/// Fetches one range and writes its chunks as they are whole. A chunk that arrives wrong stays missing.
async fn fetch_range<E: Env>(transfer: &Transfer<E>, first: u64, count: usize) -> Result<(), Broken> {
    let Transfer { leg, device, position, part, .. } = transfer;
    let Some((file, from)) = wanted(&leg.items[*position]) else { return Ok(()) };
    let chunk = chunk_bytes(file.size);
    let offset = first * chunk;
    let length = (count as u64 * chunk).min(file.size - offset);
    let wants = vec![Want { path: from.clone(), content: file.content, offset, length }];
    let begun = Fetching::begin(&leg.context.env, &leg.pace, *device, leg.job, wants).await;
    let mut fetching = begun.map_err(Broken::Fetch)?;
    let mut index = first;
    let mut growing = part.outline().hasher(index);
    while let Some((_, arrived)) = fetching.next().await.map_err(Broken::Fetch)? {
        let bytes = match arrived {
            Arrived::Failed(failure) => return Err(Broken::Content(skip_of(failure))),
            Arrived::Bytes(bytes) => bytes,
        };
        let mut rest = bytes.as_slice();
        while let Some(chunk) = growing.as_mut().filter(|_| !rest.is_empty()) {
            let (now, later) = rest.split_at(rest.len().min(chunk.left(part.outline())));
            rest = later;
            let mut written = part.write_next(chunk, now).await;
            if written.is_ok() && chunk.left(part.outline()) == 0 {
                written = part.end_chunk(chunk);
                if written.is_ok() {
                    let length = chunk.offset() - index * chunk_bytes(file.size);
                    leg.moved.bytes.fetch_add(length, Ordering::Relaxed);
                    leg.room.used(length);
                }
                index += 1;
                growing = part.outline().hasher(index);
            }
            match written {
                Ok(()) => {}
                Err(Refused::WrongContent) => tracing::warn!(index, "a chunk arrived wrong; it is asked for again"),
                Err(Refused::NoSpace) => {
                    leg.stop(JobStop::NoSpace);
                    return Ok(());
                }
                Err(refused) => return Err(Broken::Content(refused.into())),
            }
        }
        if leg.stopping().is_some() {
            return Ok(());
        }
    }
    Ok(())
}
