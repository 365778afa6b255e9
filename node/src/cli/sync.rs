//! `sync`.

use clap::Args;
use serde_json::json;

use super::{Context, follow, read};
use crate::api::client::segment;
use crate::api::document::StartedDocument;
use crate::api::problem::{Exit, Problem};
use crate::format::parse_duration;

/// Runs a conduit once and follows it until it is verified
#[derive(Debug, Args)]
pub(super) struct SyncArgs {
    /// The conduit's name
    conduit: String,
    /// Runs only if the plan is still this one
    #[arg(long, value_name = "PLAN")]
    plan: Option<String>,
    /// How long to wait until both ends' indexes are here, for example 60s; 0 refuses at once
    #[arg(long, value_parser = parse_duration, value_name = "TIME")]
    wait: Option<u64>,
    /// Returns once the run has begun
    #[arg(long)]
    detach: bool,
}

pub(super) async fn run(args: SyncArgs, context: &Context) -> Result<Exit, Problem> {
    let path = format!("/conduits/{}/sync", segment(&args.conduit));
    let body = json!({ "plan": args.plan, "wait_ms": args.wait });
    let document = context.client.post(&path, &body).await?;
    let started: StartedDocument = read(&document)?;
    if args.detach {
        begun(&started, &document, context);
        return Ok(Exit::Done);
    }
    follow::run(&started, context).await
}

/// Says that a run has begun.
pub(super) fn begun(started: &StartedDocument, document: &serde_json::Value, context: &Context) {
    if context.out.json() {
        context.out.document(document);
        return;
    }
    match started.generation {
        Some(generation) => context.out.line(&format!("{} gen {generation} has begun.", started.conduit)),
        None => context.out.line(&format!("{}: nothing to do, {}.", started.conduit, started.end())),
    }
}
