//! `fetch`.

use clap::Args;
use serde_json::json;

use super::{Context, follow, read};
use crate::api::document::StartedDocument;
use crate::api::problem::{Exit, Problem};
use crate::format::parse_duration;

/// Brings what a selective conduit has left at its source, and keeps it for a while
#[derive(Debug, Args)]
pub(super) struct FetchArgs {
    /// Below the conduit's roots, or a path on this device
    path: String,
    /// In which conduit, where several have such a path
    #[arg(long, value_name = "NAME")]
    conduit: Option<String>,
    /// How long it stays, for example 7d
    #[arg(long = "for", value_parser = parse_duration, value_name = "TIME", default_value = "7d")]
    stays: u64,
}

pub(super) async fn run(args: FetchArgs, context: &Context) -> Result<Exit, Problem> {
    let body = json!({ "path": args.path, "conduit": args.conduit, "for_ms": args.stays });
    let conduit = context.client.post("/fetch", &body).await?["conduit"].as_str().unwrap_or_default().to_owned();
    let route = format!("/conduits/{}/sync", crate::api::client::segment(&conduit));
    let started: StartedDocument = read(&context.client.post(&route, &json!({})).await?)?;
    follow::run(&started, context).await
}
