//! Clearing up after a job: its staging, and the trash of a permanent delete.

use tidegate_protocol::file_sync::JobKey;
use tidegate_protocol::id::LocationId;
use tidegate_storage::disk::{Refused, RootDir, Workshop, purge};

use super::Context;
use crate::env::Env;

/// Clears up. What is not ours is kept in the trash; what fails is tried again with the next job's end.
pub(crate) async fn clean<E: Env>(context: Context<E>, location: LocationId, job: JobKey, purges: bool) {
    let Some(root) = context.roots.get(location) else { return };
    if let Err(refused) = run(root, &job, purges).await {
        tracing::warn!(%job, %refused, "a job's staging could not be cleared");
    }
}

async fn run<R: RootDir>(root: R, job: &JobKey, purges: bool) -> Result<(), Refused> {
    for kept in Workshop::open(root.clone(), job).await?.clean().await? {
        let kept = String::from_utf8_lossy(kept.as_bytes()).into_owned();
        tracing::warn!(%job, kept, "bytes of unknown origin in a job's staging were kept in the trash");
    }
    if purges { purge(&root, job.conduit, job.generation).await } else { Ok(()) }
}
