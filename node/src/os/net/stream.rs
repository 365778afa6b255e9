//! Frames over one QUIC stream: a length (u32, big-endian) and that many bytes.
//!
//! The length is checked before anything is allocated. A frame that has begun must keep coming and be whole
//! in time; waiting for the next one has no limit of its own, because the caller knows how long it may take.
//! A peer that breaks the framing loses its connection. A stream that is dropped before [`OsStream::finish`]
//! is reset, so an answer that broke off is never taken for a whole one.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use quinn::{ReadError, RecvStream, SendStream, WriteError};
use tidegate_protocol::id::DeviceId;
use tidegate_protocol::limits::FRAME_BYTES_MAX;
use tidegate_protocol::wire::{FrameError, frame_length};
use tokio::time::Instant;

use super::counters::Reject;
use super::links::{CloseCode, Link};
use crate::env::{NetworkError, Stream};

/// Pieces taken from QUIC in one call.
const PIECES_PER_READ: usize = 32;
/// A frame up to this size is copied even when it arrived in one piece, so that a kept frame does not hold
/// the whole batch of packets it came in, in bytes.
const COPIED_BYTES_MAX: usize = 4096;
/// Bytes of the length.
const PREFIX_BYTES: usize = 4;

/// A stream of frames to or from one member.
#[derive(Debug)]
pub struct OsStream {
    link: Arc<Link>,
    send: SendStream,
    receive: RecvStream,
    /// What arrived and was not handed on; `buffered` is its length in bytes.
    pieces: VecDeque<Bytes>,
    buffered: usize,
    /// When the first frame must be whole, on a stream that the peer opened.
    first_by: Option<Instant>,
    finished: bool,
}

impl OsStream {
    pub(super) fn opened(link: Arc<Link>, send: SendStream, receive: RecvStream) -> Self {
        link.streams.fetch_add(1, Ordering::Relaxed);
        Self { link, send, receive, pieces: VecDeque::new(), buffered: 0, first_by: None, finished: false }
    }

    pub(super) fn accepted(link: Arc<Link>, send: SendStream, receive: RecvStream) -> Self {
        let first_by = Instant::now() + link.deadlines.first_frame;
        let mut stream = Self::opened(link, send, receive);
        stream.first_by = Some(first_by);
        stream
    }

    /// Ends the whole connection because the peer's message makes no sense; the error is for the caller.
    pub fn cut(&self, error: FrameError) -> NetworkError {
        let reason = match error {
            FrameError::Empty => Reject::FrameEmpty,
            FrameError::TooLarge(_) => Reject::FrameTooLarge,
            FrameError::Decode(_) => Reject::Message,
        };
        self.break_off(reason, error.to_string())
    }

    fn break_off(&self, reason: Reject, why: String) -> NetworkError {
        self.link.counters.reject(reason);
        self.link.close(CloseCode::Protocol);
        NetworkError::Protocol(why)
    }

    /// Takes what has arrived, or waits for it; `false` when the other end has finished.
    async fn fill(&mut self) -> Result<bool, NetworkError> {
        let mut room = [const { Bytes::new() }; PIECES_PER_READ];
        let Some(count) = self.receive.read_chunks(&mut room).await.map_err(|error| read_error(&error))? else {
            return Ok(false);
        };
        for piece in room.into_iter().take(count) {
            self.buffered += piece.len();
            self.pieces.push_back(piece);
        }
        Ok(true)
    }

    /// As `fill`, inside a frame: no progress, a late frame and an end are all faults of the peer.
    async fn fill_frame(&mut self, by: Instant) -> Result<(), NetworkError> {
        let by = by.min(Instant::now() + self.link.deadlines.stall);
        let link = Arc::clone(&self.link);
        match link.until(by, self.fill()).await {
            Some(Ok(true)) => Ok(()),
            Some(Ok(false)) => Err(self.break_off(Reject::FrameTruncated, "a stream that ends inside a frame".into())),
            Some(Err(error)) => Err(error),
            None => Err(self.too_slow()),
        }
    }

    fn too_slow(&self) -> NetworkError {
        self.link.counters.reject(Reject::FrameSlow);
        self.link.close(CloseCode::Protocol);
        NetworkError::TimedOut
    }

    async fn begin_frame(&mut self) -> Result<bool, NetworkError> {
        while self.buffered == 0 {
            let more = match self.first_by {
                None => self.fill().await?,
                Some(by) => {
                    let link = Arc::clone(&self.link);
                    match link.until(by, self.fill()).await {
                        Some(more) => more?,
                        None => return Err(self.too_slow()),
                    }
                }
            };
            if !more {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The next `length` bytes, all of which are buffered or still to come.
    async fn take(&mut self, length: usize, by: Instant) -> Result<Bytes, NetworkError> {
        if let Some(piece) = self.pieces.front_mut().filter(|piece| piece.len() >= length && length > COPIED_BYTES_MAX)
        {
            let frame = piece.split_to(length);
            self.buffered -= length;
            if self.pieces.front().is_some_and(Bytes::is_empty) {
                self.pieces.pop_front();
            }
            return Ok(frame);
        }
        let mut frame = BytesMut::with_capacity(length);
        while frame.len() < length {
            let Some(piece) = self.pieces.front_mut() else {
                self.fill_frame(by).await?;
                continue;
            };
            let count = piece.len().min(length - frame.len());
            frame.put_slice(&piece[..count]);
            piece.advance(count);
            self.buffered -= count;
            if piece.is_empty() {
                self.pieces.pop_front();
            }
        }
        Ok(frame.freeze())
    }
}

impl Stream for OsStream {
    fn peer(&self) -> DeviceId {
        self.link.device
    }

    async fn send(&mut self, frame: Bytes) -> Result<(), NetworkError> {
        if frame.is_empty() || frame.len() > FRAME_BYTES_MAX {
            return Err(NetworkError::Protocol(format!("a frame of {} bytes was to be sent", frame.len())));
        }
        let length = frame.len();
        let prefix = Bytes::copy_from_slice(&(length as u32).to_be_bytes());
        let mut parts = [prefix, frame];
        let mut rest = &mut parts[..];
        while !rest.is_empty() {
            let by = Instant::now() + self.link.deadlines.send_stall;
            match self.link.until(by, self.send.write_chunks(rest)).await {
                Some(Ok(written)) => rest = &mut rest[written.chunks..],
                Some(Err(error)) => return Err(write_error(&error)),
                None => {
                    let _ = self.send.reset(CloseCode::Protocol.into());
                    return Err(NetworkError::TimedOut);
                }
            }
        }
        self.link.traffic.sent.fetch_add((length + PREFIX_BYTES) as u64, Ordering::Relaxed);
        Ok(())
    }

    async fn receive(&mut self) -> Result<Option<Bytes>, NetworkError> {
        if !self.begin_frame().await? {
            return Ok(None);
        }
        let whole_by = Instant::now() + self.link.deadlines.frame;
        let by = self.first_by.map_or(whole_by, |first| first.min(whole_by));
        let prefix = self.take(PREFIX_BYTES, by).await?;
        let prefix = prefix[..].try_into().expect("take gives as many bytes as it was asked for");
        let length = frame_length(prefix).map_err(|error| self.cut(error))?;
        let frame = self.take(length, by).await?;
        self.first_by = None;
        self.link.counters.frame_received();
        self.link.traffic.received.fetch_add((length + PREFIX_BYTES) as u64, Ordering::Relaxed);
        Ok(Some(frame))
    }

    async fn finish(&mut self) -> Result<(), NetworkError> {
        self.finished = true;
        // Only a stream that was finished or reset before says no, and for those there is nothing to do.
        let _ = self.send.finish();
        match self.link.connection.close_reason() {
            None => Ok(()),
            Some(_) => Err(NetworkError::Disconnected),
        }
    }
}

impl Drop for OsStream {
    fn drop(&mut self) {
        if !self.finished {
            let _ = self.send.reset(CloseCode::Dropped.into());
        }
        self.link.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Link {
    /// Runs `work` until `by`; `None` when it was not done by then. Jobs may poll it from threads of their
    /// own, so the timer is made in the runtime of the network.
    async fn until<F: Future>(&self, by: Instant, work: F) -> Option<F::Output> {
        let timed = {
            let _inside = self.runtime.enter();
            tokio::time::timeout_at(by, work)
        };
        timed.await.ok()
    }
}

fn read_error(error: &ReadError) -> NetworkError {
    match error {
        ReadError::Reset(_) => NetworkError::Reset,
        ReadError::ConnectionLost(quinn::ConnectionError::TimedOut) => NetworkError::TimedOut,
        ReadError::ConnectionLost(_)
        | ReadError::ClosedStream
        | ReadError::IllegalOrderedRead
        | ReadError::ZeroRttRejected => NetworkError::Disconnected,
    }
}

fn write_error(error: &WriteError) -> NetworkError {
    match error {
        WriteError::Stopped(_) | WriteError::ClosedStream => NetworkError::Reset,
        WriteError::ConnectionLost(quinn::ConnectionError::TimedOut) => NetworkError::TimedOut,
        WriteError::ConnectionLost(_) | WriteError::ZeroRttRejected => NetworkError::Disconnected,
    }
}
