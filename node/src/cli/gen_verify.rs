//! `gen verify`.

use clap::Args;
use serde_json::json;

use super::{Context, follow, read};
use crate::api::client::segment;
use crate::api::document::AuditDocument;
use crate::api::problem::{Code, Exit, Problem};
use crate::format::{count, number};

/// What `gen verify` takes.
#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    /// The conduit's name
    conduit: String,
    /// Only the files of this generation
    number: Option<u64>,
    /// Puts what the other end holds in the place of what rotted; the rotten bytes go to the trash
    #[arg(long)]
    heal: bool,
    /// Only reads; the default, for scripts that want to say so
    #[arg(short = 'n', long, conflicts_with = "heal")]
    dry_run: bool,
}

pub(super) async fn run(args: VerifyArgs, context: &Context) -> Result<Exit, Problem> {
    let conduit = segment(&args.conduit);
    let path = match args.number {
        Some(number) => format!("/generations/{conduit}/{number}/verify"),
        None => format!("/conduits/{conduit}/verify"),
    };
    let mut document = context.client.post(&path, &json!({ "heal": args.heal })).await?;
    let progress = context.out.progress();
    let audit = loop {
        let audit: AuditDocument = read(&document)?;
        if audit.is_over {
            break audit;
        }
        let total = audit.checked + audit.todo;
        let words = format!("{}/{} files", number(audit.checked), number(total));
        progress.show(&format!("verify {}", audit.conduit), audit.checked, total, &words, &json!(audit));
        tokio::time::sleep(follow::LOOK_EVERY).await;
        document = context.client.get(&format!("/conduits/{conduit}/verify")).await?;
    };
    progress.clear();
    if context.out.json() {
        context.out.document(&document);
    } else {
        for found in &audit.found {
            context.out.line(&format!("{}  {}: {}", found.device, found.path.path, found.what));
        }
        let checked = count(audit.checked, "file", "files");
        context.out.line(&format!("{checked} read, {} sound, {} not", number(audit.sound), number(audit.found_total)));
    }
    if let Some(why) = &audit.failure {
        let failed = Problem::new(Code::NotVerified, format!("{} was not verified or healed", audit.conduit), why);
        return Err(failed.next(context.command(&format!("gen verify {}", audit.conduit))));
    }
    if let Some(generation) = audit.healed_by {
        return follow::to_its_end(&audit.conduit, generation, context).await;
    }
    let rotten = audit.found.iter().filter(|found| found.is_rot).count() as u64;
    if rotten > 0 {
        let what = format!("{} of {} rotted; nothing was changed", count(rotten, "file", "files"), audit.conduit);
        let why = "the content changed while size and time stayed: a disk, a cable or a program that hides its edits";
        return Err(Problem::new(Code::NotVerified, what, why)
            .next(format!(
                "what the other end holds: {}",
                context.command(&format!("gen verify {} --heal", audit.conduit))
            ))
            .do_not("run location rescan --deep first: it would take the rotten content for an edit"));
    }
    Ok(if audit.found_total > 0 { Exit::Partial } else { Exit::Done })
}
