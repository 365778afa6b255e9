//! The hash of a file's content; of a large file, on several lanes at once.
//!
//! Chunks are handed out in order to whoever has time: to the one who wants the hash, and to helpers on other lanes.
//! Nobody waits for a helper that has not begun, so lanes that are all busy only mean that nobody helps.

use std::future::poll_fn;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use tidegate_protocol::hash::ContentHash;
use tidegate_protocol::limits::{CHUNK_BYTES, chunk_bytes};

use super::File;
use super::chunks::{Outline, begun, chunk_count, ended};
use super::lanes::Lanes;
use super::reading::fill;

/// From this size on, others are asked to help.
const HELPED_BYTES_MIN: u64 = 16 << 20;
/// The most helpers of one file: together they hash faster than most disks are read.
const HELPERS_MAX: usize = 3;

/// The content hash of exactly `size` bytes, and the chunk hashes if there is more than one chunk; `None` if the file
/// ends earlier or goes on. `buffer` is scratch space that is grown and kept.
pub(super) async fn hash<F: File>(
    file: &F,
    size: u64,
    buffer: &mut Vec<u8>,
) -> io::Result<Option<(ContentHash, Vec<[u8; 32]>)>> {
    finish(file, size, buffer, &Shares::of(size)).await
}

/// The same, with the help of other lanes if that is worth it.
pub(super) async fn hash_on<F: File, L: Lanes>(
    file: F,
    size: u64,
    buffer: &mut Vec<u8>,
    lanes: &L,
) -> io::Result<Option<(ContentHash, Vec<[u8; 32]>)>> {
    if size < HELPED_BYTES_MIN || lanes.width() < 2 {
        return hash(&file, size, buffer).await;
    }
    let (file, shares) = (Arc::new(file), Arc::new(Shares::of(size)));
    for _ in 1..lanes.width().min(HELPERS_MAX + 1) {
        let (file, shares) = (Arc::clone(&file), Arc::clone(&shares));
        drop(lanes.run(async move { hash_chunks(&*file, size, &shares, &mut Vec::new()).await }));
    }
    finish(&*file, size, buffer, &shares).await
}

async fn finish<F: File>(
    file: &F,
    size: u64,
    buffer: &mut Vec<u8>,
    shares: &Shares,
) -> io::Result<Option<(ContentHash, Vec<[u8; 32]>)>> {
    hash_chunks(file, size, shares, buffer).await;
    let Some(chunks) = shares.whole().await? else { return Ok(None) };
    if fill(file, &mut [0], size).await? > 0 {
        return Ok(None);
    }
    let outline = Outline::of_chunks(size, chunks);
    let chunks = if outline.chunks().len() > 1 { outline.chunks().to_vec() } else { Vec::new() };
    Ok(Some((outline.content(), chunks)))
}

/// Hashes chunk after chunk until none is left.
async fn hash_chunks<F: File>(file: &F, size: u64, shares: &Shares, buffer: &mut Vec<u8>) {
    let wanted = size.min(CHUNK_BYTES) as usize;
    buffer.resize(buffer.len().max(wanted), 0);
    while let Some(mut share) = shares.next() {
        share.hash = hash_chunk(file, size, share.index, &mut buffer[..wanted]).await;
    }
}

/// `None` if the file ends before the chunk does.
async fn hash_chunk<F: File>(file: &F, size: u64, index: u64, buffer: &mut [u8]) -> io::Result<Option<[u8; 32]>> {
    let mut offset = index * chunk_bytes(size);
    let end = (offset + chunk_bytes(size)).min(size);
    let mut hasher = begun(offset);
    while offset < end {
        let wanted = buffer.len().min((end - offset) as usize);
        let got = fill(file, &mut buffer[..wanted], offset).await?;
        if got < wanted {
            return Ok(None);
        }
        hasher.update(&buffer[..got]);
        offset += got as u64;
    }
    Ok(Some(ended(&hasher, chunk_count(size) == 1)))
}

/// The chunks of one file, handed out one by one.
struct Shares(Mutex<State>);

struct State {
    chunks: Vec<[u8; 32]>,
    /// Chunks before this one were handed out.
    next: usize,
    /// Handed out, and not told of yet.
    out: usize,
    /// Why the hash will not be whole; no more is handed out then.
    fault: Option<io::Result<()>>,
    waiting: Option<Waker>,
}

/// One chunk that somebody has taken.
struct Share<'a> {
    shares: &'a Shares,
    index: u64,
    hash: io::Result<Option<[u8; 32]>>,
}

impl Shares {
    fn of(size: u64) -> Self {
        let chunks = vec![[0; 32]; chunk_count(size) as usize];
        Self(Mutex::new(State { chunks, next: 0, out: 0, fault: None, waiting: None }))
    }

    fn next(&self) -> Option<Share<'_>> {
        let mut state = self.lock();
        if state.fault.is_some() || state.next == state.chunks.len() {
            return None;
        }
        let index = state.next as u64;
        state.next += 1;
        state.out += 1;
        Some(Share { shares: self, index, hash: Err(io::ErrorKind::Interrupted.into()) })
    }

    /// Waits for those who have taken a chunk. To be asked when none is left to take.
    async fn whole(&self) -> io::Result<Option<Vec<[u8; 32]>>> {
        poll_fn(|context| {
            let mut state = self.lock();
            if state.out > 0 {
                state.waiting = Some(context.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(match state.fault.take() {
                None => Ok(Some(std::mem::take(&mut state.chunks))),
                Some(Ok(())) => Ok(None),
                Some(Err(error)) => Err(error),
            })
        })
        .await
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        let mut state = self.shares.lock();
        match std::mem::replace(&mut self.hash, Ok(None)) {
            Ok(Some(hash)) => state.chunks[self.index as usize] = hash,
            Ok(None) => state.fault = state.fault.take().or(Some(Ok(()))),
            Err(error) => state.fault = Some(Err(error)),
        }
        state.out -= 1;
        if state.out == 0
            && let Some(waker) = state.waiting.take()
        {
            waker.wake();
        }
    }
}
