//! Errands in a location's trash. Each thing is tried by itself; what fails stays where it is.

use tidegate_protocol::id::LocationId;
use tidegate_storage::disk::{RootDir, hash_trashed, list_trash, purge_trashed, restore_beside};

use super::Context;
use crate::core::errands::{TrashDone, TrashWork};
use crate::core::io::{Input, Ticket};
use crate::env::Env;

/// Carries out an errand and answers it.
pub(crate) async fn trash<E: Env>(context: Context<E>, ticket: Ticket, location: LocationId, work: TrashWork) {
    let done = match context.roots.get(location) {
        // Another disk on the same path has another trash.
        Some(root) if context.roots.stands(location).await => run(&root, work).await,
        Some(_) | None => TrashDone::Failed("the root is missing or replaced".to_owned()),
    };
    context.tell(Input::Trash { ticket, done }).await;
}

async fn run<R: RootDir>(root: &R, work: TrashWork) -> TrashDone {
    match work {
        TrashWork::List => match list_trash(root).await {
            Ok(listing) => TrashDone::Listed(listing),
            Err(refused) => TrashDone::Failed(refused.to_string()),
        },
        TrashWork::Hash(items) => {
            let mut hashed = Vec::with_capacity(items.len());
            for item in items {
                // What cannot be read is not known, and so is taken for the only copy.
                hashed.push(hash_trashed(root, &item.bin, &item.path).await.unwrap_or(None));
            }
            TrashDone::Hashed(hashed)
        }
        TrashWork::Restore { items, mark } => {
            let mut restored = Vec::with_capacity(items.len());
            for item in items {
                let put = restore_beside(root, &item.bin, &item.path, &mark).await;
                restored.push(put.map_err(|refused| refused.to_string()));
            }
            TrashDone::Restored(restored)
        }
        TrashWork::Purge(items) => {
            let mut purged = Vec::with_capacity(items.len());
            for item in items {
                let gone = purge_trashed(root, &item.bin, &item.path).await;
                purged.push(gone.map_err(|refused| refused.to_string()));
            }
            TrashDone::Purged(purged)
        }
    }
}
