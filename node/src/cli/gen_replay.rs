//! `gen replay`.

use clap::Args;

use super::{Context, read};
use crate::api::client::segment;
use crate::api::document::ReplayDocument;
use crate::api::problem::{Code, Exit, Problem};
use crate::format::count;

/// What `gen replay` takes.
#[derive(Debug, Args)]
pub(super) struct ReplayArgs {
    /// The conduit's name
    conduit: String,
    /// The generation's number; the newest by default
    number: Option<u64>,
}

pub(super) async fn run(args: ReplayArgs, context: &Context) -> Result<Exit, Problem> {
    let number = args.number.map_or_else(|| "latest".to_owned(), |number| number.to_string());
    let document = context.client.get(&format!("/generations/{}/{number}/replay", segment(&args.conduit))).await?;
    let replay: ReplayDocument = read(&document)?;
    if context.out.json() {
        context.out.document(&document);
    } else {
        let rows = |rows: u64| count(rows, "row", "rows");
        context.out.line(&format!(
            "gen {} of {}: plan {} made again from what was kept of the index at {}",
            replay.generation,
            replay.conduit,
            replay.plan,
            replay.heads.join(" ")
        ));
        context.out.line(&format!(
            "  {} of {}, {} of {}, {} of what both had agreed on: those that the plan hangs on",
            rows(replay.rows_source),
            replay.source,
            rows(replay.rows_target),
            replay.target,
            rows(replay.rows_base)
        ));
    }
    let Some(difference) = replay.difference else {
        if !context.out.json() {
            context.out.line("identical");
        }
        return Ok(Exit::Done);
    };
    let what = format!("generation {} of {} comes out otherwise now", replay.generation, replay.conduit);
    let why = format!("{}: stored {}; made again {}", difference.part, difference.stored, difference.again);
    Err(Problem::new(Code::NotVerified, what + "; nothing was changed", why)
        .next("the law changed with the version of Tidegate, or what was kept is damaged")
        .next(context.command(&format!("gen show {} {}", replay.conduit, replay.generation))))
}
