//! Where hashing runs: beside the walk on a few threads, or in place.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

/// Runs work beside the caller.
pub trait Lanes: Clone + Send + Sync + 'static {
    /// How many pieces of work run at the same time.
    fn width(&self) -> usize;

    /// Starts `work`, if it can, before the answer is awaited.
    fn run<T, F>(&self, work: F) -> impl Future<Output = T> + Send + 'static
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static;
}

/// Runs work where its answer is awaited: for the simulator and for small scans.
#[derive(Debug, Clone, Copy, Default)]
pub struct InPlace;

impl Lanes for InPlace {
    fn width(&self) -> usize {
        1
    }

    fn run<T, F>(&self, work: F) -> impl Future<Output = T> + Send + 'static
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        work
    }
}

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A few threads. They end when the last clone is dropped.
#[derive(Debug, Clone)]
pub struct ThreadLanes {
    queue: Sender<Work>,
    width: usize,
}

impl ThreadLanes {
    /// Starts `width` threads, at least one.
    pub fn start(width: usize) -> std::io::Result<Self> {
        let (queue, works) = channel();
        let works = Arc::new(Mutex::new(works));
        for _ in 0..width.max(1) {
            let works = Arc::clone(&works);
            std::thread::Builder::new().name("hash".to_owned()).spawn(move || run_lane(&works))?;
        }
        Ok(Self { queue, width: width.max(1) })
    }
}

impl Lanes for ThreadLanes {
    fn width(&self) -> usize {
        self.width
    }

    fn run<T, F>(&self, work: F) -> impl Future<Output = T> + Send + 'static
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let shared = Arc::new(Mutex::new(Shared { answer: None, waiting: None, over: false }));
        let answer = Promise(Arc::clone(&shared));
        let work: Work = Box::pin(async move { answer.keep(work.await) });
        self.queue.send(work).expect("lanes live as long as a handle to them");
        Awaited(shared)
    }
}

fn run_lane(works: &Mutex<Receiver<Work>>) {
    loop {
        let work = works.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(work) = work else { return };
        // A panic is told to the one who waits, by the promise that is dropped; the lane goes on.
        let _ = catch_unwind(AssertUnwindSafe(|| block_on(work)));
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future on this thread. For work whose awaits are system calls made in place.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(answer) => return answer,
            Poll::Pending => std::thread::park(),
        }
    }
}

struct Shared<T> {
    answer: Option<T>,
    waiting: Option<Waker>,
    over: bool,
}

struct Promise<T>(Arc<Mutex<Shared<T>>>);

impl<T> Promise<T> {
    fn keep(self, answer: T) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).answer = Some(answer);
    }
}

impl<T> Drop for Promise<T> {
    fn drop(&mut self) {
        let mut shared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        shared.over = true;
        if let Some(waker) = shared.waiting.take() {
            waker.wake();
        }
    }
}

struct Awaited<T>(Arc<Mutex<Shared<T>>>);

impl<T> Future for Awaited<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let mut shared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match (shared.answer.take(), shared.over) {
            (Some(answer), _) => Poll::Ready(answer),
            (None, true) => panic!("the work on a lane panicked"),
            (None, false) => {
                shared.waiting = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}
