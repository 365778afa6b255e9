//! Clearing up after a job: its staging, and the trash of a permanent delete.

use std::time::Duration;

use tidegate_protocol::file_sync::JobKey;
use tidegate_protocol::id::LocationId;
use tidegate_storage::disk::{Refused, RootDir, Workshop, purge};

use super::Context;
use crate::env::{Clock, Env};

/// Longest pause before another try, in seconds.
const PAUSE_S_MAX: u64 = 600;

/// Clears up. What is not ours is kept in the trash. A disk that fails says nothing when it works again, so what
/// fails is tried again, ever more rarely.
pub(crate) async fn clean<E: Env>(context: Context<E>, location: LocationId, job: JobKey, purges: bool) {
    let mut pause_s = 5;
    while let Some(root) = context.roots.get(location)
        && !context.inbox.is_closed()
        && let Err(refused) = run(root, &job, purges).await
    {
        tracing::warn!(%job, %refused, "a job's staging could not be cleared; it is tried again");
        context.env.clock().sleep(Duration::from_secs(pause_s)).await;
        pause_s = (pause_s * 2).min(PAUSE_S_MAX);
    }
}

async fn run<R: RootDir>(root: R, job: &JobKey, purges: bool) -> Result<(), Refused> {
    for kept in Workshop::clear(root.clone(), job).await? {
        let kept = String::from_utf8_lossy(kept.as_bytes()).into_owned();
        tracing::warn!(%job, kept, "bytes of unknown origin in a job's staging were kept in the trash");
    }
    if purges { purge(&root, job.conduit, job.generation).await } else { Ok(()) }
}
