//! Serving content: reads files beneath a held root and streams them, many small ones in one frame.
//!
//! A file is sent only while its stat is the one that the index knows: the stat is compared before the first
//! and after the last byte. What differs is told as changed, and the asker throws away what it got. Sending
//! waits only for room in the transport's window, so the disk is read ahead of the wire by that much.

use std::sync::Arc;

use bytes::Bytes;
use tidegate_protocol::id::LocationId;
use tidegate_protocol::limits::{CHUNK_BYTES, PIECE_BYTES_MAX};
use tidegate_protocol::wire::{FetchFailure, Part, Piece, Response};
use tidegate_storage::disk::{File, RootDir, TreePath};

use super::Context;
use super::pace::Pace;
use crate::core::io::Read;
use crate::env::{Env, NetworkError, RootOf, Stream};

/// Content of one frame: its copies on the way stay in a core's cache, and a chunk comes in whole frames.
const CONTENT_BYTES: usize = 256 << 10;

/// Bytes that a piece costs in a frame besides its content: three integers of at most 5 bytes each.
const PIECE_OVERHEAD: usize = 16;

const _: () =
    assert!(CONTENT_BYTES + PIECE_OVERHEAD <= PIECE_BYTES_MAX && CHUNK_BYTES.is_multiple_of(CONTENT_BYTES as u64));

/// Answers a fetch: every read in order, each complete or failed.
pub(crate) async fn serve<E: Env, S: Stream>(
    context: &Context<E>,
    stream: &mut S,
    location: LocationId,
    reads: Vec<Result<Read, FetchFailure>>,
    pace: &Arc<Pace>,
) -> Result<(), NetworkError> {
    let root = context.roots.get(location);
    let mut frame = Packed { room: 0, used: 0, pieces: Vec::new(), content: 0 };
    frame.make_room(context, pace);
    for (want, read) in reads.into_iter().enumerate() {
        let want = want as u32;
        let failure = match (read, &root) {
            (Ok(read), Some(root)) => send_one(context, stream, pace, &mut frame, root, want, &read).await?,
            (Ok(_), None) => Some(FetchFailure::Unreadable),
            (Err(failure), _) => Some(failure),
        };
        if let Some(failure) = failure {
            if frame.left() < PIECE_OVERHEAD {
                frame.flush(context, stream, pace).await?;
            }
            frame.push(want, Part::Failed(failure), 0);
        }
    }
    frame.flush(context, stream, pace).await
}

/// Sends one read; what is wrong with the file is returned, what is wrong with the wire is the error.
async fn send_one<E: Env, S: Stream>(
    context: &Context<E>,
    stream: &mut S,
    pace: &Arc<Pace>,
    frame: &mut Packed,
    root: &RootOf<E>,
    want: u32,
    read: &Read,
) -> Result<Option<FetchFailure>, NetworkError> {
    let file = match root.open(&TreePath::from(&read.path)).await {
        Ok(file) => file,
        // It was a file when the index looked.
        Err(error) => match error.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory | std::io::ErrorKind::InvalidInput => {
                return Ok(Some(FetchFailure::Changed));
            }
            _ => return Ok(Some(FetchFailure::Unreadable)),
        },
    };
    if let Some(failure) = differs(&file, read).await {
        return Ok(Some(failure));
    }
    let end = read.offset.saturating_add(read.length).min(read.mark.size);
    let mut offset = read.offset;
    while offset < end {
        // A small file is not split for the sake of a full frame.
        let whole = end - read.offset <= (frame.room / 4) as u64;
        if frame.left() < PIECE_OVERHEAD + 1 || (whole && (frame.left() as u64) < end - offset + PIECE_OVERHEAD as u64)
        {
            frame.flush(context, stream, pace).await?;
        }
        let length = (end - offset).min((frame.left() - PIECE_OVERHEAD) as u64) as usize;
        let mut bytes = vec![0; length];
        match read_exact(&file, &mut bytes, offset).await {
            Ok(true) => {}
            Ok(false) => return Ok(Some(FetchFailure::Changed)),
            Err(_) => return Ok(Some(FetchFailure::Unreadable)),
        }
        offset += length as u64;
        // The last bytes leave only if the file was the same to the end.
        if offset == end
            && let Some(failure) = differs(&file, read).await
        {
            return Ok(Some(failure));
        }
        frame.push(want, Part::Bytes(bytes), length);
    }
    if offset < read.offset.saturating_add(read.length) { Ok(Some(FetchFailure::Changed)) } else { Ok(None) }
}

async fn differs(file: &impl File, read: &Read) -> Option<FetchFailure> {
    match file.metadata().await {
        Ok(metadata) if metadata.mark == read.mark => None,
        Ok(_) => Some(FetchFailure::Changed),
        Err(_) => Some(FetchFailure::Unreadable),
    }
}

/// Fills `buffer`; false if the file ends before.
pub(super) async fn read_exact(file: &impl File, buffer: &mut [u8], offset: u64) -> std::io::Result<bool> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64).await? {
            0 => return Ok(false),
            more => filled += more,
        }
    }
    Ok(true)
}

/// A frame that is being filled.
struct Packed {
    room: usize,
    used: usize,
    pieces: Vec<Piece>,
    content: u64,
}

impl Packed {
    /// The limit may be another one by now.
    fn make_room<E: Env>(&mut self, context: &Context<E>, pace: &Arc<Pace>) {
        self.room = pace.frame_bytes(context.env.clock(), CONTENT_BYTES) + PIECE_OVERHEAD;
    }

    const fn left(&self) -> usize {
        self.room.saturating_sub(self.used)
    }

    fn push(&mut self, want: u32, part: Part, length: usize) {
        self.used += length + PIECE_OVERHEAD;
        self.content += length as u64;
        self.pieces.push(Piece { want, part });
    }

    async fn flush<E: Env, S: Stream>(
        &mut self,
        context: &Context<E>,
        stream: &mut S,
        pace: &Arc<Pace>,
    ) -> Result<(), NetworkError> {
        if self.pieces.is_empty() {
            return Ok(());
        }
        pace.take(context.env.clock(), self.content).await;
        let response = Response::Pieces(std::mem::take(&mut self.pieces));
        (self.used, self.content) = (0, 0);
        self.make_room(context, pace);
        stream.send(Bytes::from(response.encode())).await
    }
}
