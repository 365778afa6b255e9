//! A watcher no better than the system's: hints come late, in heaps, and now and then it says that it lost some.
//!
//! A barrier ([`Watched::drain`]) brings everything that was done before it, however late it would have come.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

use tidegate::env::{Changes, Watch, WatchError, Watched};
use tidegate_protocol::path::EntryPath;

use crate::disk::{Disk, Feed, SimRoot, Subscription};
use crate::executor::{Handle, MILLI, Nanos, Sleep, lock};
use crate::happening::{Ear, What};
use crate::random::Stream;

/// How the watchers of a device behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watching {
    /// Whether roots are watched; with false every root is left to regular scans.
    pub on: bool,
    /// Whether the limit of watches is reached: a root that is opened now is not watched.
    pub limit_reached: bool,
    /// Longest time that a hint takes, in nanoseconds.
    pub delay_max: Nanos,
    /// Hints that may wait; with one more, they are dropped and said to be.
    pub queue_max: usize,
}

impl Default for Watching {
    fn default() -> Self {
        Self { on: true, limit_reached: false, delay_max: 20 * MILLI, queue_max: 100_000 }
    }
}

/// The watchers of one device; outlives its incarnations. Cheap to clone.
#[derive(Clone, Default)]
pub struct Watchers(Arc<Mutex<All>>);

#[derive(Default)]
struct All {
    watching: Watching,
    queues: Vec<std::sync::Weak<Mutex<Queue>>>,
}

impl Watchers {
    /// How they behave from now on.
    pub fn set(&self, watching: Watching) {
        lock(&self.0).watching = watching;
    }

    /// How they behave.
    pub fn get(&self) -> Watching {
        lock(&self.0).watching
    }

    /// Every watcher loses what it has not told yet, and says so.
    pub fn overflow(&self) {
        self.each(Queue::overflow);
    }

    /// Every watch is lost.
    pub fn lose(&self) {
        self.each(|queue| {
            queue.lost = true;
            queue.wake();
        });
    }

    fn each(&self, act: impl Fn(&mut Queue)) {
        let queues: Vec<_> = lock(&self.0).queues.iter().filter_map(std::sync::Weak::upgrade).collect();
        for queue in queues {
            act(&mut lock(&queue));
        }
    }
}

/// What one watcher has seen and not told.
struct Queue {
    /// In the order of the changes: when it is told, which path.
    pending: Vec<(Nanos, EntryPath)>,
    overflow: bool,
    lost: bool,
    waiting: Option<Waker>,
    delays: Stream,
}

impl Queue {
    fn saw(&mut self, now: Nanos, feed: Feed, watching: Watching) {
        match feed {
            Feed::Touched(path) if self.pending.len() < watching.queue_max => {
                let at = now + self.delays.below(watching.delay_max + 1);
                // Hints keep their order: a late one holds up those behind it.
                let at = self.pending.last().map_or(at, |(before, _)| at.max(*before));
                self.pending.push((at, path));
            }
            Feed::Touched(_) | Feed::RootGone => self.overflow(),
        }
        self.wake();
    }

    fn overflow(&mut self) {
        self.pending.clear();
        self.overflow = true;
        self.wake();
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waiting.take() {
            waker.wake();
        }
    }

    /// Takes what is told by `now`; else says when to look again.
    fn take(&mut self, now: Nanos) -> Result<Changes, Option<Nanos>> {
        let due = self.pending.partition_point(|(at, _)| *at <= now);
        if due == 0 && !self.overflow {
            return Err(self.pending.first().map(|(at, _)| *at));
        }
        let paths: BTreeSet<EntryPath> = self.pending.drain(..due).map(|(_, path)| path).collect();
        let overflow = std::mem::take(&mut self.overflow);
        Ok(Changes { paths: if overflow { Vec::new() } else { paths.into_iter().collect() }, overflow })
    }
}

/// The watcher as one incarnation uses it.
#[derive(Clone)]
pub struct SimWatch {
    disk: Disk,
    handle: Handle,
    watchers: Watchers,
    delays: Stream,
    ear: Ear,
}

impl SimWatch {
    /// Watches the disk of one device for the incarnation of `handle`.
    pub const fn new(disk: Disk, handle: Handle, watchers: Watchers, delays: Stream, ear: Ear) -> Self {
        Self { disk, handle, watchers, delays, ear }
    }
}

impl Watch<SimRoot> for SimWatch {
    type Watched = SimWatched;

    async fn watch(&self, root: &SimRoot, path: &Path) -> Result<SimWatched, WatchError> {
        let watching = self.watchers.get();
        if !watching.on {
            return Err(WatchError::Off);
        }
        if watching.limit_reached {
            return Err(WatchError::Limit);
        }
        let key = crate::happening::digest(path.as_os_str().as_encoded_bytes());
        let queue = Queue {
            pending: Vec::new(),
            overflow: false,
            lost: false,
            waiting: None,
            delays: self.delays.below_key(key),
        };
        let queue = Arc::new(Mutex::new(queue));
        {
            let mut all = lock(&self.watchers.0);
            all.queues.retain(|queue| queue.strong_count() > 0);
            all.queues.push(Arc::downgrade(&queue));
        }
        let (seen, watchers, clock) = (Arc::clone(&queue), self.watchers.clone(), self.handle.clone());
        let subscription = self.disk.subscribe(root, move |feed| lock(&seen).saw(clock.now(), feed, watchers.get()));
        Ok(SimWatched { queue, handle: self.handle.clone(), ear: self.ear.clone(), _subscription: subscription })
    }
}

/// A root that is watched.
pub struct SimWatched {
    queue: Arc<Mutex<Queue>>,
    handle: Handle,
    ear: Ear,
    _subscription: Subscription,
}

impl SimWatched {
    fn told(&self, changes: Changes) -> Changes {
        let what = What::Watched { paths: changes.paths.len() as u32, overflow: changes.overflow };
        self.ear.hear(self.handle.now(), self.handle.group().device, what);
        changes
    }
}

impl Watched for SimWatched {
    async fn changes(&mut self) -> Result<Changes, WatchError> {
        let mut sleep: Option<(Nanos, Sleep)> = None;
        let changes = poll_fn(|context| {
            loop {
                let at = {
                    let mut queue = lock(&self.queue);
                    if queue.lost {
                        return Poll::Ready(Err(WatchError::Lost("the watch was lost".to_owned())));
                    }
                    match queue.take(self.handle.now()) {
                        Ok(changes) => return Poll::Ready(Ok(changes)),
                        Err(at) => {
                            queue.waiting = Some(context.waker().clone());
                            at
                        }
                    }
                };
                let Some(at) = at else { return Poll::Pending };
                if sleep.as_ref().is_none_or(|(due, _)| *due != at) {
                    sleep = Some((at, self.handle.sleep_until(at)));
                }
                let Some((_, waiting)) = &mut sleep else { return Poll::Pending };
                if Pin::new(waiting).poll(context).is_pending() {
                    return Poll::Pending;
                }
            }
        })
        .await;
        changes.map(|changes| self.told(changes))
    }

    async fn drain(&mut self) -> Result<Changes, WatchError> {
        let last = lock(&self.queue).pending.last().map(|(at, _)| *at);
        if let Some(at) = last {
            self.handle.sleep_until(at).await;
        }
        let mut queue = lock(&self.queue);
        if queue.lost {
            return Err(WatchError::Lost("the watch was lost".to_owned()));
        }
        let changes = queue.take(self.handle.now()).unwrap_or_default();
        drop(queue);
        Ok(self.told(changes))
    }
}
