//! `history`.

use clap::Args;

use super::{Context, read_list};
use crate::api::client::segment;
use crate::api::document::GenerationDocument;
use crate::api::problem::{Exit, Problem};
use crate::format::{bytes, number};

/// Lists the generations of a conduit, newest first
#[derive(Debug, Args)]
pub(super) struct HistoryArgs {
    /// The conduit's name
    conduit: String,
}

pub(super) async fn run(args: &HistoryArgs, context: &Context) -> Result<Exit, Problem> {
    let document = context.client.get(&format!("/generations?conduit={}", segment(&args.conduit))).await?;
    if context.out.json() {
        context.out.document(&document);
        return Ok(Exit::Done);
    }
    let generations: Vec<GenerationDocument> = read_list(&document, "generations")?;
    let titles = ["gen", "opened (UTC)", "phase", "copied", "trashed", "skipped", "conflicts", "bytes", "verification"];
    let rows = generations.iter().map(|g| {
        vec![
            g.number.to_string(),
            g.opened.minute(),
            g.phase.clone(),
            number(g.totals.copied),
            number(g.totals.deleted),
            number(g.totals.skipped),
            number(g.totals.conflicts),
            bytes(g.totals.bytes),
            g.verification.clone(),
        ]
    });
    context.out.table(&std::iter::once(titles.map(str::to_owned).to_vec()).chain(rows).collect::<Vec<_>>());
    Ok(Exit::Done)
}
