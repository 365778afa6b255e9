//! Reading own files again, to see whether they still are what the index says. Nothing is written or stated.

use tidegate_protocol::id::LocationId;
use tidegate_protocol::wire::Finding;
use tidegate_storage::disk::{Checked, RootDir, TreePath, check_content};

use super::Context;
use crate::core::errands::AuditItem;
use crate::core::io::{Input, Ticket};
use crate::env::Env;

/// Reads the files and answers.
pub(crate) async fn audit<E: Env>(context: Context<E>, ticket: Ticket, location: LocationId, items: Vec<AuditItem>) {
    let root = context.roots.get(location);
    let stands = context.roots.stands(location).await;
    let mut findings = Vec::with_capacity(items.len());
    for item in items {
        findings.push(match &root {
            Some(root) if stands => look(root, &item).await,
            Some(_) | None => Finding::Unreadable,
        });
    }
    context.tell(Input::Audited { ticket, findings }).await;
}

async fn look<R: RootDir>(root: &R, item: &AuditItem) -> Finding {
    let Some((content, mark)) = item.known else { return Finding::NotIndexed };
    match check_content(root, &TreePath::from(&item.path)).await {
        Checked::Read { content: found, mark: at } if at.size == mark.size && at.mtime_ns == mark.mtime_ns => {
            if found == content { Finding::Sound } else { Finding::Rotten { content: found } }
        }
        Checked::Read { .. } | Checked::Changing => Finding::Edited,
        Checked::Gone => Finding::Gone,
        Checked::Unreadable => Finding::Unreadable,
    }
}
