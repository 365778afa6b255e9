//! Keeping the texts that both ends have just agreed on, for merges to come. Best effort: nothing waits for it.

use tidegate_storage::disk::{TreePath, keep_text, tidy_texts};

use super::Context;
use super::content::read;
use crate::core::io::KeepTexts;
use crate::env::Env;

/// Keeps what still stands as it was agreed.
pub(crate) async fn keep_texts<E: Env>(context: Context<E>, wanted: KeepTexts) {
    let Some(root) = context.roots.get(wanted.location) else { return };
    for (path, content, size) in &wanted.files {
        let Some(bytes) = read(&root, &TreePath::from(path), *size).await else { continue };
        if let Err(refused) = keep_text(&root, content, &bytes).await {
            tracing::debug!(%refused, "a text was not kept for later merges");
            return;
        }
    }
    if let Err(refused) = tidy_texts(&root).await {
        tracing::debug!(%refused, "old texts were not tidied up");
    }
}
