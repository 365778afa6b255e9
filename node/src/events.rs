//! The stream of events: numbers them, keeps the newest, and hands them to whoever listens.
//!
//! Numbers grow by one within a start, which has a name of its own (`boot`), so a listener that was away says where
//! it was, and gets what it missed or is told that there is a gap. A listener that does not keep up is let go: it
//! comes back with its last number. Nothing here waits for anybody.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_channel::{Receiver, Sender};

use crate::core::events::Event;

/// Events that are kept for listeners that were away.
pub const RING_MAX: usize = 10_000;
/// Listeners at the same time.
pub const LISTENERS_MAX: usize = 32;
/// Events that may wait for one listener: about a megabyte. One that is further behind is let go.
const WAITING_MAX: usize = 4096;

/// An event with its number.
#[derive(Debug, Clone)]
pub struct Numbered {
    /// Counts within the start, from 1.
    pub sequence: u64,
    /// Wall time, in milliseconds.
    pub at_ms: u64,
    /// What happened.
    pub event: Arc<Event>,
}

/// What a listener begins with.
pub struct Listening {
    /// Which start this is.
    pub boot: u64,
    /// The number before the first event that is handed out.
    pub from: u64,
    /// What was asked for is not kept any more: look at the status instead.
    pub gap: bool,
    /// What was missed, in order.
    pub missed: Vec<Numbered>,
    /// What comes; ends when the listener is too slow, or the node ends.
    pub coming: Receiver<Numbered>,
}

/// The stream of one node.
pub struct Stream(Mutex<Inner>);

struct Inner {
    boot: u64,
    sequence: u64,
    ring: VecDeque<Numbered>,
    listeners: Vec<Sender<Numbered>>,
}

impl Stream {
    /// Of a start with this name.
    pub const fn new(boot: u64) -> Self {
        Self(Mutex::new(Inner { boot, sequence: 0, ring: VecDeque::new(), listeners: Vec::new() }))
    }

    /// Numbers an event and hands it out.
    pub fn publish(&self, at_ms: u64, event: Event) {
        let mut inner = self.lock();
        inner.sequence += 1;
        let numbered = Numbered { sequence: inner.sequence, at_ms, event: Arc::new(event) };
        if inner.ring.len() == RING_MAX {
            inner.ring.pop_front();
        }
        inner.ring.push_back(numbered.clone());
        // Whoever is gone or has no room left is let go.
        inner.listeners.retain(|listener| listener.try_send(numbered.clone()).is_ok());
    }

    /// Begins to listen after `last` (start and number); `None` if too many do already. Without `last`, with what
    /// is kept.
    pub fn listen(&self, last: Option<(u64, u64)>) -> Option<Listening> {
        let mut inner = self.lock();
        inner.listeners.retain(|listener| !listener.is_closed());
        if inner.listeners.len() >= LISTENERS_MAX {
            return None;
        }
        let oldest = inner.ring.front().map_or(inner.sequence, |first| first.sequence - 1);
        let (from, gap) = match last {
            None => (oldest, false),
            Some((boot, at)) if boot == inner.boot && (oldest..=inner.sequence).contains(&at) => (at, false),
            Some(_) => (inner.sequence, true),
        };
        let missed = inner.ring.iter().filter(|numbered| numbered.sequence > from).cloned().collect();
        let (sender, coming) = async_channel::bounded(WAITING_MAX);
        inner.listeners.push(sender);
        Some(Listening { boot: inner.boot, from, gap, missed, coming })
    }

    /// Lets all listeners go: the node ends.
    pub fn close(&self) {
        self.lock().listeners.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tidegate_protocol::id::Label;

    use super::*;

    fn online() -> Event {
        Event::DeviceOnline { device: Label::lossy("nas") }
    }

    fn numbers(listening: &Listening) -> Vec<u64> {
        let coming = std::iter::from_fn(|| listening.coming.try_recv().ok());
        listening.missed.iter().cloned().chain(coming).map(|numbered| numbered.sequence).collect()
    }

    #[test]
    fn a_listener_gets_what_it_missed_or_is_told_of_a_gap() {
        let stream = Stream::new(7);
        for _ in 0..5 {
            stream.publish(0, online());
        }
        for (last, gap, missed) in [
            (None, false, &[1, 2, 3, 4, 5, 6][..]),
            (Some((7, 0)), false, &[1, 2, 3, 4, 5, 6]),
            (Some((7, 3)), false, &[4, 5, 6]),
            (Some((7, 5)), false, &[6]),
            (Some((7, 9)), true, &[6]),
            (Some((6, 3)), true, &[6]),
        ] {
            let stream = Stream::new(7);
            for _ in 0..5 {
                stream.publish(0, online());
            }
            let listening = stream.listen(last).unwrap();
            stream.publish(0, online());
            assert_eq!((listening.gap, numbers(&listening).as_slice()), (gap, missed), "{last:?}");
        }
    }

    #[test]
    fn what_is_kept_and_who_listens_is_bounded_and_the_slow_are_let_go() {
        let stream = Stream::new(7);
        let slow = stream.listen(None).unwrap();
        for _ in 0..RING_MAX + 10 {
            stream.publish(0, online());
        }
        assert_eq!(numbers(&slow).len(), WAITING_MAX);
        assert!(slow.coming.is_closed(), "it comes back with its last number");
        assert!(stream.listen(Some((7, 9))).unwrap().gap);
        let again = stream.listen(Some((7, 10))).unwrap();
        assert_eq!((again.gap, again.missed.len()), (false, RING_MAX));
        drop(again);
        let all: Vec<Listening> = std::iter::from_fn(|| stream.listen(None)).take(40).collect();
        assert_eq!(all.len(), LISTENERS_MAX);
    }
}
