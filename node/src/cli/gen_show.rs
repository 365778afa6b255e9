//! `gen`.

use clap::{Args, Subcommand};

use super::{Context, read};
use crate::api::client::segment;
use crate::api::document::GenerationItems;
use crate::api::problem::{Exit, Problem};
use crate::format::{bytes, count, number};

/// Shows what one run of a conduit did, and takes it back
#[derive(Debug, Args)]
pub(super) struct GenArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Shows a generation with its items
    Show {
        /// The conduit's name
        conduit: String,
        /// The generation's number; the newest by default
        number: Option<u64>,
        /// Lists only items that were skipped
        #[arg(long)]
        skips: bool,
    },
    /// Reads files again on both disks and compares them with the index
    Verify(super::gen_verify::VerifyArgs),
    /// Resolves a run again from what was kept of the index it was decided from, and compares the plans
    Replay(super::gen_replay::ReplayArgs),
    /// Takes back what a generation did, as a new generation; later edits stay
    Undo(super::gen_undo::UndoArgs),
}

pub(super) async fn run(args: GenArgs, context: &Context) -> Result<Exit, Problem> {
    let (conduit, number, skips) = match args.what {
        What::Show { conduit, number, skips } => (conduit, number, skips),
        What::Verify(args) => return super::gen_verify::run(args, context).await,
        What::Replay(args) => return super::gen_replay::run(args, context).await,
        What::Undo(args) => return super::gen_undo::run(args, context).await,
    };
    let number = number.map_or_else(|| "latest".to_owned(), |number| number.to_string());
    let document = context.client.get(&format!("/generations/{}/{number}", segment(&conduit))).await?;
    if context.out.json() {
        context.out.document(&document);
    } else {
        show(&read(&document)?, skips, context);
    }
    Ok(Exit::Done)
}

fn show(view: &GenerationItems, skips: bool, context: &Context) {
    let (out, generation) = (&context.out, &view.generation);
    let totals = &generation.totals;
    out.line(&format!(
        "gen {} of plan {}: {}, {}",
        generation.number, generation.plan, generation.phase, generation.verification
    ));
    if let Some(before) = generation.follows {
        out.line(&format!("  follows gen {before}, which was not verified"));
    }
    out.line(&format!(
        "  {} copied, {} to trash, {} skipped, {}, {} ({} reused)",
        number(totals.copied),
        number(totals.deleted),
        number(totals.skipped),
        count(totals.conflicts, "conflict", "conflicts"),
        bytes(totals.bytes),
        bytes(totals.bytes_reused)
    ));
    for status in &generation.statuses {
        out.line(&format!("  {}  {}", status.at, status.status));
    }
    let settled = |outcome: &str| outcome == "done" || outcome == "pending";
    for item in view.items.iter().filter(|item| !skips || !settled(&item.outcome)) {
        out.line(&format!("  {:<8} {}  {}", item.op, item.path, item.outcome));
    }
    if view.items_total > view.items.len() as u64 {
        out.line(&format!("  ... {} items in all", number(view.items_total)));
    }
}
