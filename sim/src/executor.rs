//! Time and tasks: one thread, one clock that jumps from event to event.
//!
//! Every task belongs to a [`Group`]: an incarnation of a device, or the world itself. A crash ends a group, and
//! with it all its tasks at once, wherever they stand. Time moves only when no task can go on. Which of the tasks
//! that are ready goes first is decided by a rank that is drawn for each time a task becomes ready, from a stream
//! of that very task: what other tasks do does not change it.
//!
//! [`Executor`] is the world's; [`Handle`] is for whoever lives in it. No lock is held while a task runs.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use crate::random::{Draws, Kind, Stream};

/// Simulated time in nanoseconds since the world began.
pub type Nanos = u64;

/// Nanoseconds of a millisecond.
pub const MILLI: Nanos = 1_000_000;
/// Nanoseconds of a second.
pub const SECOND: Nanos = 1_000 * MILLI;

/// What ends together: an incarnation of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group {
    /// Which device; [`Group::WORLD`] has a number that no device has.
    pub device: u32,
    /// Which of its incarnations.
    pub incarnation: u32,
}

impl Group {
    /// What belongs to no device, and never ends.
    pub const WORLD: Self = Self { device: u32::MAX, incarnation: 0 };
}

/// What the executor has just done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ran {
    /// Let a task go on.
    Task {
        /// Of which group.
        group: Group,
        /// The how-manieth task of that group.
        task: u64,
    },
    /// Came to the time of a timer or an action.
    Time,
    /// Nothing: nothing is due at or before the time given.
    Nothing,
}

type Job = Pin<Box<dyn Future<Output = ()> + Send>>;
type Action = Box<dyn FnOnce() + Send>;

/// Tasks that were woken since the last look: slot and serial number.
type Rings = Arc<Mutex<Vec<(usize, u64)>>>;

/// A task between two times that it is run.
struct Task {
    group: Group,
    /// The how-manieth of its group.
    number: u64,
    ranks: Stream,
    /// `None` while it runs.
    job: Option<Job>,
    bell: Arc<Bell>,
}

/// Wakes one task, once until it has run.
struct Bell {
    slot: usize,
    /// Slots are used again; the task that had this one before is nobody's business.
    serial: u64,
    rung: AtomicBool,
    rings: Rings,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.rung.swap(true, Ordering::Relaxed) {
            lock(&self.rings).push((self.slot, self.serial));
        }
    }
}

enum Due {
    Wake(Waker),
    Act(Action),
}

/// Names a timer: when, and the how-manieth.
type TimerKey = (Nanos, u64);

struct State {
    now: Nanos,
    timers: BTreeMap<TimerKey, Due>,
    timers_made: u64,
    tasks: Vec<Option<Task>>,
    tasks_made: u64,
    free: Vec<usize>,
    /// Tasks that can go on: lowest rank first.
    ready: BinaryHeap<Reverse<(u64, usize)>>,
    /// How many tasks each living group has begun.
    groups: BTreeMap<Group, u64>,
    draws: Draws,
}

struct Shared {
    state: Mutex<State>,
    rings: Rings,
}

/// The world's side: makes time pass.
pub struct Executor {
    shared: Arc<Shared>,
    events: u64,
}

/// A group's side: starts tasks, sleeps, knows the time. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
    group: Group,
}

impl Executor {
    /// An executor at time 0. Tasks that are ready together take turns as `draws` says.
    pub fn new(draws: Draws) -> Self {
        let state = State {
            now: 0,
            timers: BTreeMap::new(),
            timers_made: 0,
            tasks: Vec::new(),
            tasks_made: 0,
            free: Vec::new(),
            ready: BinaryHeap::new(),
            groups: BTreeMap::from([(Group::WORLD, 0)]),
            draws,
        };
        Self { shared: Arc::new(Shared { state: Mutex::new(state), rings: Arc::default() }), events: 0 }
    }

    /// Begins a group, or finds it if it lives.
    pub fn group(&self, group: Group) -> Handle {
        lock(&self.shared.state).groups.entry(group).or_default();
        Handle { shared: Arc::clone(&self.shared), group }
    }

    /// The present.
    pub fn now(&self) -> Nanos {
        lock(&self.shared.state).now
    }

    /// Events so far: tasks let go on, and timers.
    pub const fn events(&self) -> u64 {
        self.events
    }

    /// Tasks that live, over all groups.
    pub fn tasks(&self) -> usize {
        let state = lock(&self.shared.state);
        state.tasks.len() - state.free.len()
    }

    /// Does one thing: lets one ready task go on, or, if none is ready, moves to the next timer that is due at or
    /// before `until`. With nothing to do it moves to `until` itself.
    pub fn step(&mut self, until: Nanos) -> Ran {
        let mut state = lock(&self.shared.state);
        state.take_rings(&self.shared.rings);
        while let Some(Reverse((_, slot))) = state.ready.pop() {
            let Some(task) = &mut state.tasks[slot] else { continue };
            let Some(job) = task.job.take() else { continue };
            task.bell.rung.store(false, Ordering::Relaxed);
            let (group, number) = (task.group, task.number);
            let bell = Arc::clone(&task.bell);
            drop(state);
            self.events += 1;
            self.run(job, slot, bell);
            return Ran::Task { group, task: number };
        }
        let due = match state.timers.first_key_value() {
            Some((&(at, _), _)) if at <= until => state.timers.pop_first(),
            Some(_) | None => None,
        };
        let Some(((at, _), due)) = due else {
            state.now = state.now.max(until);
            return Ran::Nothing;
        };
        state.now = state.now.max(at);
        drop(state);
        self.events += 1;
        match due {
            Due::Wake(waker) => waker.wake(),
            Due::Act(action) => action(),
        }
        Ran::Time
    }

    fn run(&self, mut job: Job, slot: usize, bell: Arc<Bell>) {
        let waker = Waker::from(bell);
        let poll = job.as_mut().poll(&mut Context::from_waker(&waker));
        let mut state = lock(&self.shared.state);
        let group = state.tasks[slot].as_ref().map(|task| task.group);
        // Its group may have ended while it ran: by a crash that one of its own disk operations set off.
        let lives = group.is_some_and(|group| state.groups.contains_key(&group));
        if poll.is_pending() && lives {
            if let Some(task) = &mut state.tasks[slot] {
                task.job = Some(job);
            }
            return;
        }
        let ended = state.remove(slot);
        drop(state);
        drop((ended, job));
    }

    /// Ends a group: its tasks are dropped where they stand, and none can be started in it any more.
    pub fn end(&self, group: Group) {
        self.group(group).end();
    }
}

impl State {
    /// Ranks the tasks that were woken since.
    fn take_rings(&mut self, rings: &Mutex<Vec<(usize, u64)>>) {
        let mut rings = lock(rings);
        for (slot, serial) in rings.drain(..) {
            if let Some(task) = self.tasks[slot].as_mut().filter(|task| task.bell.serial == serial) {
                let rank = task.ranks.next_u64();
                self.ready.push(Reverse((rank, slot)));
            }
        }
    }

    fn remove(&mut self, slot: usize) -> Option<Task> {
        let task = self.tasks[slot].take();
        if task.is_some() {
            self.free.push(slot);
        }
        task
    }

    fn next_timer(&mut self, at: Nanos) -> TimerKey {
        self.timers_made += 1;
        (at.max(self.now), self.timers_made)
    }
}

impl Handle {
    /// The present.
    pub fn now(&self) -> Nanos {
        lock(&self.shared.state).now
    }

    /// The group that tasks started here belong to.
    pub const fn group(&self) -> Group {
        self.group
    }

    /// Whether the group lives.
    pub fn lives(&self) -> bool {
        lock(&self.shared.state).groups.contains_key(&self.group)
    }

    /// Starts a task in this group. In a group that has ended, nothing is started.
    pub fn spawn(&self, job: impl Future<Output = ()> + Send + 'static) {
        let job: Job = Box::pin(job);
        let mut state = lock(&self.shared.state);
        let Some(begun) = state.groups.get_mut(&self.group) else {
            drop(state);
            drop(job);
            return;
        };
        *begun += 1;
        let number = *begun;
        let group = self.group;
        let ranks = state.draws.stream(Kind::Schedule, u64::from(group.device), u64::from(group.incarnation));
        let slot = state.free.pop().unwrap_or_else(|| {
            state.tasks.push(None);
            state.tasks.len() - 1
        });
        state.tasks_made += 1;
        let serial = state.tasks_made;
        let bell = Arc::new(Bell { slot, serial, rung: AtomicBool::new(false), rings: Arc::clone(&self.shared.rings) });
        let task = Task { group, number, ranks: ranks.below_key(number), job: Some(job), bell: Arc::clone(&bell) };
        state.tasks[slot] = Some(task);
        drop(state);
        bell.wake();
    }

    /// Resolves at `at`, or at once if that is past.
    pub fn sleep_until(&self, at: Nanos) -> Sleep {
        Sleep { handle: self.clone(), at, timer: None }
    }

    /// Resolves after `duration`.
    pub fn sleep(&self, duration: Duration) -> Sleep {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.sleep_until(self.now().saturating_add(nanos))
    }

    /// Does `action` at `at`, whatever becomes of the group meanwhile. Between tasks, so it may do anything but
    /// make time pass.
    pub fn at(&self, at: Nanos, action: impl FnOnce() + Send + 'static) {
        let mut state = lock(&self.shared.state);
        let key = state.next_timer(at);
        state.timers.insert(key, Due::Act(Box::new(action)));
    }

    /// Ends the group: its tasks are dropped where they stand, and none can be started in it any more. The task
    /// that calls this is dropped as soon as it waits or ends.
    pub fn end(&self) {
        let mut state = lock(&self.shared.state);
        if self.group == Group::WORLD || state.groups.remove(&self.group).is_none() {
            return;
        }
        let of_group = |task: &Option<Task>| task.as_ref().is_some_and(|task| task.group == self.group);
        let slots: Vec<usize> = (0..state.tasks.len()).filter(|slot| of_group(&state.tasks[*slot])).collect();
        let mut ended = Vec::new();
        for slot in slots {
            // The one that runs now has no job here; it is removed when it has stopped.
            if state.tasks[slot].as_ref().is_some_and(|task| task.job.is_some()) {
                ended.push(state.remove(slot));
            }
        }
        drop(state);
        // Dropping what a task held may wake others, or let go of timers.
        drop(ended);
    }
}

/// Waits for a time.
pub struct Sleep {
    handle: Handle,
    at: Nanos,
    timer: Option<TimerKey>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut state = lock(&self.handle.shared.state);
        // One that is due at once lets others go first: who sleeps for nothing again and again must not stop the world.
        if self.timer.is_some() && state.now >= self.at {
            return Poll::Ready(());
        }
        let key = self.timer.unwrap_or_else(|| state.next_timer(self.at));
        state.timers.insert(key, Due::Wake(context.waker().clone()));
        drop(state);
        self.timer = Some(key);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.timer {
            let dropped = lock(&self.handle.shared.state).timers.remove(&key);
            drop(dropped);
        }
    }
}

pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
