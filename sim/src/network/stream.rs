//! Streams of frames over a connection: in order, with back pressure, cut off when the connection is.
//!
//! A stream is two pipes. What is in a pipe arrives in order; what had not arrived when the way was cut waits
//! until it is open again. A stream that is dropped before [`Stream::finish`] is reset, so that an answer that
//! broke off is never taken for a whole one.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tidegate::env::{NetworkError, Stream};
use tidegate_protocol::id::DeviceId;
use tidegate_protocol::limits::FRAME_BYTES_MAX;

use super::state::State;
use super::{Net, NetworkEvent};
use crate::executor::{Handle, Nanos, SECOND, Sleep};
use crate::happening::{What, digest};

/// Bytes that may wait in a pipe, as QUIC's window of a stream.
const WINDOW_BYTES: usize = 4 << 20;
/// Longest wait for room in it.
const SEND_STALL: Nanos = 60 * SECOND;

/// One direction of a stream.
#[derive(Debug, Default)]
pub(super) struct Pipe {
    /// What is on its way or waits to be read: arrival, frame.
    frames: VecDeque<(Nanos, Bytes)>,
    bytes: usize,
    /// Nothing sent later arrives earlier.
    last_arrival: Nanos,
    /// When the reader learns that no more follows.
    finished: Option<Nanos>,
    /// When the reader learns that the stream was given up.
    reset: Option<Nanos>,
    /// When the writer learns that nobody reads.
    stopped: Option<Nanos>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Pipe {
    /// Nothing more happens here: whoever waits looks.
    pub(super) fn wake(&mut self) {
        for waker in [self.reader.take(), self.writer.take()].into_iter().flatten() {
            waker.wake();
        }
    }

    /// The way is open again: what had not arrived when it was cut is sent anew, and there from `from` on.
    pub(super) fn resend(&mut self, cut_since: Nanos, from: Nanos) {
        let late = |at: &mut Nanos| *at = if *at > cut_since { (*at).max(from) } else { *at };
        self.frames.iter_mut().for_each(|(at, _)| late(at));
        self.finished.iter_mut().for_each(late);
        self.reset.iter_mut().for_each(late);
        self.stopped.iter_mut().for_each(late);
        late(&mut self.last_arrival);
        self.wake();
    }

    /// The next thing that is there by `now`, or when to look again. `cut_since` is of the way it travels.
    fn read(&mut self, now: Nanos, cut_since: Option<Nanos>) -> Result<Result<Option<Bytes>, NetworkError>, Nanos> {
        let arrives = |at: Nanos| if cut_since.is_some_and(|cut| at > cut) { Nanos::MAX } else { at };
        let reset = self.reset.map_or(Nanos::MAX, arrives);
        if reset <= now {
            return Ok(Err(NetworkError::Reset));
        }
        let next = match self.frames.front() {
            Some((at, _)) if arrives(*at) <= now => {
                let (_, frame) = self.frames.pop_front().expect("looked at just now");
                self.bytes -= frame.len();
                if let Some(writer) = self.writer.take() {
                    writer.wake();
                }
                return Ok(Ok(Some(frame)));
            }
            Some((at, _)) => arrives(*at),
            None => match self.finished.map(arrives) {
                Some(at) if at <= now => return Ok(Ok(None)),
                Some(at) => at,
                None => Nanos::MAX,
            },
        };
        Err(next.min(reset))
    }
}

/// Which pipe of which stream of which connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StreamKey {
    pub(super) connection: u64,
    pub(super) stream: u64,
    /// Which end of the connection.
    pub(super) end: usize,
}

/// A stream of frames to or from one member.
pub struct SimStream {
    net: Net,
    handle: Handle,
    key: StreamKey,
    peer: DeviceId,
    finished: bool,
}

impl SimStream {
    pub(super) const fn new(net: Net, handle: Handle, key: StreamKey, peer: DeviceId) -> Self {
        Self { net, handle, key, peer, finished: false }
    }

    fn poll_send(&self, frame: &mut Option<Bytes>, context: &Context<'_>) -> Poll<Result<(), NetworkError>> {
        let now = self.handle.now();
        let mut state = self.net.lock();
        let Some((pipe, _)) = state.pipe(self.key, Flow::Out)? else {
            return Poll::Ready(Err(NetworkError::Disconnected));
        };
        if pipe.stopped.is_some_and(|at| at <= now) {
            return Poll::Ready(Err(NetworkError::Reset));
        }
        if pipe.bytes >= WINDOW_BYTES {
            pipe.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        let Some(frame) = frame.take() else { return Poll::Ready(Ok(())) };
        let first = state.send(self.key, now, frame);
        drop(state);
        if let Some(arrival) = first {
            self.arrive_at(arrival);
        }
        Poll::Ready(Ok(()))
    }

    /// The other end hears of the stream with its first frame.
    fn arrive_at(&self, at: Nanos) {
        let (net, key) = (self.net.clone(), self.key);
        self.net.world.at(at, move || net.arrive(key));
    }
}

impl Net {
    /// The first frame of a stream should be there: if the way was cut meanwhile, later.
    fn arrive(&self, key: StreamKey) {
        let mut state = self.lock();
        let far = StreamKey { end: 1 - key.end, ..key };
        let now = self.world.now();
        let Ok(Some((pipe, cut_since))) = state.pipe(far, Flow::In) else { return };
        let Some(arrival) = pipe.frames.front().map(|(at, _)| *at) else { return };
        if arrival > now || cut_since.is_some_and(|cut| arrival > cut) {
            // Healing moves the arrival, so it is looked at again in a while rather than told.
            let (net, at) = (self.clone(), arrival.max(now + SECOND / 4));
            self.world.at(at, move || net.arrive(key));
            return;
        }
        let Some((handle, events, peer)) = state.greeter(far) else { return };
        drop(state);
        let stream = SimStream::new(self.clone(), handle, far, peer);
        // A node that is going down takes no streams.
        let _ = events.try_send(NetworkEvent::Incoming(stream));
    }
}

/// Which of the two pipes, as one end sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    /// What it sends.
    Out,
    /// What it receives.
    In,
}

impl Stream for SimStream {
    fn peer(&self) -> DeviceId {
        self.peer
    }

    async fn send(&mut self, frame: Bytes) -> Result<(), NetworkError> {
        if frame.is_empty() || frame.len() > FRAME_BYTES_MAX {
            return Err(NetworkError::Protocol(format!("a frame of {} bytes was to be sent", frame.len())));
        }
        let mut frame = Some(frame);
        let mut stalled: Option<Sleep> = None;
        poll_fn(|context| {
            if let Poll::Ready(sent) = self.poll_send(&mut frame, context) {
                return Poll::Ready(sent);
            }
            let sleep = stalled.get_or_insert_with(|| self.handle.sleep_until(self.handle.now() + SEND_STALL));
            Pin::new(sleep).poll(context).map(|()| Err(NetworkError::TimedOut))
        })
        .await
    }

    async fn receive(&mut self) -> Result<Option<Bytes>, NetworkError> {
        let mut sleep: Option<(Nanos, Sleep)> = None;
        poll_fn(|context| {
            loop {
                let now = self.handle.now();
                let at = {
                    let mut state = self.net.lock();
                    let Some((pipe, cut_since)) = state.pipe(self.key, Flow::In)? else {
                        return Poll::Ready(Err(NetworkError::Disconnected));
                    };
                    match pipe.read(now, cut_since) {
                        Ok(read) => return Poll::Ready(read),
                        Err(at) => {
                            pipe.reader = Some(context.waker().clone());
                            at
                        }
                    }
                };
                if at == Nanos::MAX {
                    return Poll::Pending;
                }
                if sleep.as_ref().is_none_or(|(due, _)| *due != at) {
                    sleep = Some((at, self.handle.sleep_until(at)));
                }
                let Some((_, waiting)) = &mut sleep else { return Poll::Pending };
                if Pin::new(waiting).poll(context).is_pending() {
                    return Poll::Pending;
                }
            }
        })
        .await
    }

    async fn finish(&mut self) -> Result<(), NetworkError> {
        self.finished = true;
        let now = self.handle.now();
        let mut state = self.net.lock();
        state.end_pipe(self.key, now, Ending::Finished)
    }
}

/// How a writer ends its pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    Finished,
    Reset,
}

impl Drop for SimStream {
    fn drop(&mut self) {
        let now = self.handle.now();
        let mut state = self.net.lock();
        if !self.finished {
            // There is nobody to tell if the connection has ended.
            let _ = state.end_pipe(self.key, now, Ending::Reset);
        }
        state.leave(self.key, now);
    }
}

impl State {
    /// Sends a frame; if it is the first of its stream, returns when it arrives.
    fn send(&mut self, key: StreamKey, now: Nanos, frame: Bytes) -> Option<Nanos> {
        let (from, to) = self.devices_of(key)?;
        let what = What::Frame { peer: to, bytes: frame.len() as u32, digest: digest(&frame) };
        self.ear.hear(now, from, what);
        let traffic = &mut self.nodes[from as usize].traffic;
        traffic.frames_sent += 1;
        traffic.bytes_sent += frame.len() as u64;
        let way = self.way(from, to);
        let (arrival, breaks) = (way.arrival(now, frame.len()), way.breaks());
        let channel = self.connections.get_mut(&key.connection)?.channels.get_mut(&key.stream)?;
        let opens = key.end == channel.opener && !std::mem::replace(&mut channel.announced, true);
        let pipe = &mut channel.pipes[key.end];
        let arrival = arrival.max(pipe.last_arrival);
        pipe.last_arrival = arrival;
        pipe.bytes += frame.len();
        pipe.frames.push_back((arrival, frame));
        if let Some(reader) = pipe.reader.take() {
            reader.wake();
        }
        if breaks {
            for pipe in &mut channel.pipes {
                pipe.reset = Some(arrival);
                pipe.stopped = Some(arrival);
                pipe.wake();
            }
        }
        opens.then_some(arrival)
    }

    /// Says to the reader that no more follows, or that what there was is void.
    fn end_pipe(&mut self, key: StreamKey, now: Nanos, ending: Ending) -> Result<(), NetworkError> {
        let Some((from, to)) = self.devices_of(key) else { return Err(NetworkError::Disconnected) };
        let latency = self.way(from, to).latency();
        let Some((pipe, _)) = self.pipe(key, Flow::Out)? else { return Err(NetworkError::Disconnected) };
        let at = pipe.last_arrival.max(now + latency);
        match ending {
            Ending::Finished => pipe.finished = Some(at),
            Ending::Reset => pipe.reset = Some(at),
        }
        if let Some(reader) = pipe.reader.take() {
            reader.wake();
        }
        Ok(())
    }

    /// This end has dropped its stream: the other end's writing is in vain, and with both gone nothing is left.
    fn leave(&mut self, key: StreamKey, now: Nanos) {
        if let Some((from, to)) = self.devices_of(key) {
            let latency = self.way(from, to).latency();
            if let Ok(Some((pipe, _))) = self.pipe(key, Flow::In) {
                pipe.stopped = Some(now + latency);
                if let Some(writer) = pipe.writer.take() {
                    writer.wake();
                }
            }
        }
        let Some(connection) = self.connections.get_mut(&key.connection) else { return };
        if let Some(channel) = connection.channels.get_mut(&key.stream) {
            channel.held[key.end] = false;
            // What is on its way to an end that has not heard of the stream yet still arrives.
            if !channel.held[1 - key.end] && (channel.accepted || !channel.announced) {
                connection.channels.remove(&key.stream);
            }
        }
        self.forget_if_over(key.connection);
    }
}
