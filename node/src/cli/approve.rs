//! `approve`.

use clap::Args;
use serde_json::json;

use super::{Context, follow, read, sync};
use crate::api::client::segment;
use crate::api::document::StartedDocument;
use crate::api::problem::{Exit, Problem};
use crate::format::parse_duration;

/// Approves the very plan that a guard holds, and runs it
#[derive(Debug, Args)]
pub(super) struct ApproveArgs {
    /// The plan's id, as `plan` and `sync` show it
    plan: String,
    /// How long to wait until both ends' indexes are here, for example 60s
    #[arg(long, value_parser = parse_duration, value_name = "TIME")]
    wait: Option<u64>,
    /// Returns once the run has begun
    #[arg(long)]
    detach: bool,
}

pub(super) async fn run(args: ApproveArgs, context: &Context) -> Result<Exit, Problem> {
    let path = format!("/plans/{}/approve", segment(&args.plan));
    let document = context.client.post(&path, &json!({ "wait_ms": args.wait })).await?;
    let started: StartedDocument = read(&document)?;
    if args.detach {
        sync::begun(&started, &document, context);
        return Ok(Exit::Done);
    }
    follow::run(&started, context).await
}
