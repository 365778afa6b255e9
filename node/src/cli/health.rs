//! `health`.

use clap::Args;
use serde_json::json;

use super::Context;
use crate::api::problem::{Exit, Problem};

/// Exits with 0 if the daemon runs and serves; for health checks
#[derive(Debug, Args)]
pub(super) struct HealthArgs {}

pub(super) async fn run(_: &HealthArgs, context: &Context) -> Result<Exit, Problem> {
    context.client.ready().await?;
    if context.out.json() {
        context.out.document(&json!({ "v": 1, "type": "health", "ready": true }));
    } else {
        context.out.line("ready");
    }
    Ok(Exit::Done)
}
