//! Tasks and CPU work on threads of the runtime.
//!
//! A job runs on a thread of its own for as long as it lives, so its system calls may block; threads are
//! reused. CPU work is bounded to `hash_threads` at a time; what comes on top waits.

use std::future::Future;
use std::num::NonZeroUsize;
use std::panic::resume_unwind;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};

use crate::env::Spawn;

/// Threads of one tokio runtime.
#[derive(Debug, Clone)]
pub struct OsSpawn {
    runtime: Handle,
    hashing: Arc<Semaphore>,
    width: usize,
    /// How many jobs live.
    jobs: watch::Sender<usize>,
}

impl OsSpawn {
    /// Uses the blocking threads of `runtime`.
    pub fn new(runtime: Handle, hash_threads: NonZeroUsize) -> Self {
        let hashing = Arc::new(Semaphore::new(hash_threads.get()));
        Self { runtime, hashing, width: hash_threads.get(), jobs: watch::Sender::new(0) }
    }

    /// Resolves when no job lives: the moment at which the runtime may go.
    pub async fn idle(&self) {
        // The sender lives as long as `self`, so the wait cannot fail.
        let _ = self.jobs.subscribe().wait_for(|jobs| *jobs == 0).await;
    }
}

/// Counts a job for as long as it lives, however it ends.
struct Living(watch::Sender<usize>);

impl Drop for Living {
    fn drop(&mut self) {
        self.0.send_modify(|jobs| *jobs -= 1);
    }
}

impl Spawn for OsSpawn {
    fn spawn<F>(&self, job: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let runtime = self.runtime.clone();
        self.jobs.send_modify(|jobs| *jobs += 1);
        let living = Living(self.jobs.clone());
        self.runtime.spawn_blocking(move || {
            let _living = living;
            runtime.block_on(job);
        });
    }

    async fn compute<T, F>(&self, work: F) -> T
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let _turn = self.hashing.acquire().await.expect("the semaphore is never closed");
        match self.runtime.spawn_blocking(work).await {
            Ok(value) => value,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => resume_unwind(panic),
                // The runtime is going down and dropped the work: so will this task be.
                Err(_) => std::future::pending().await,
            },
        }
    }

    fn width(&self) -> usize {
        self.width
    }
}
