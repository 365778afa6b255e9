//! Writing what a person chose at an own end: one content at most, with the same care as any other replacement.

use tidegate_protocol::file_sync::{Action, ItemOutcome};
use tidegate_storage::disk::{Ready, Refused, RootDir, Workshop};

use super::apply::{self, Content};
use super::{Context, IndexView};
use crate::core::io::{Input, PutLeg, Work, Written};
use crate::env::{Env, RootOf};

/// Writes, and says what was written and what was not.
pub(crate) async fn put<E: Env>(context: Context<E>, leg: PutLeg, known: IndexView) {
    let mut written = Vec::new();
    let failure = match context.roots.get(leg.location) {
        Some(root) => write::<E>(&root, &leg, &known, &mut written).await.err(),
        None => Some("the root is missing or replaced".to_owned()),
    };
    context.tell(Input::Put { ticket: leg.ticket, written, failure }).await;
}

async fn write<E: Env>(
    root: &RootOf<E>,
    leg: &PutLeg,
    known: &IndexView,
    written: &mut Vec<Written>,
) -> Result<(), String> {
    let said = |refused: Refused| refused.to_string();
    let workshop = Workshop::open(root.clone(), &leg.job).await.map_err(said)?;
    // What an interrupted one left belongs to no item of this one: it goes to the trash.
    workshop.recover(|_| None, known).await.map_err(said)?;
    for work in &leg.items {
        let content = stage(&workshop, work, &leg.content).await.map_err(said)?;
        let done = apply::apply(&workshop, root, known, work, content).await;
        let done = done.map_err(|_| "the disk is full, or the root is gone".to_owned())?;
        workshop.sync_dirs().await.map_err(said)?;
        match done.outcome {
            ItemOutcome::Done => written.extend(done.written),
            ItemOutcome::Skipped(reason) => return Err(reason.to_string()),
        }
    }
    workshop.clean().await.map_err(said)?;
    Ok(())
}

async fn stage<R: RootDir>(workshop: &Workshop<R>, work: &Work, content: &[u8]) -> Result<Content, Refused> {
    let Action::InstallFile { file, .. } = &work.item.action else { return Ok(Content::None) };
    let staged = workshop.stage_bytes(work.index, content, file).await?;
    let ready: Option<Ready> = workshop.barrier(vec![staged]).await?.pop();
    Ok(ready.map_or(Content::None, |ready| Content::Ready(Box::new(ready))))
}
