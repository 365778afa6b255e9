//! `down`.

use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::{Context, read};
use crate::api::document::DaemonDocument;
use crate::api::problem::{Code, Exit, Problem};
use crate::state;

/// Stops the daemon and waits until it has ended; what it was doing goes on at the next start
#[derive(Debug, Args)]
pub(super) struct DownArgs {}

/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(30);

pub(super) async fn run(_: &DownArgs, context: &Context) -> Result<Exit, Problem> {
    let daemon: DaemonDocument = match context.client.get("/daemon").await {
        Ok(document) => read(&document)?,
        Err(problem) if problem.code == Code::NotRunning => {
            context.out.talk("The daemon was not running.");
            return Ok(Exit::Done);
        }
        Err(problem) => return Err(problem),
    };
    context.client.post("/stop", &json!({})).await?;
    // The lock, not the socket, says that the process has let go of everything.
    let directory = std::path::Path::new(&daemon.state);
    while state::is_held(directory) {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    context.out.talk(&format!("\"{}\" ({}) is stopped.", daemon.name, daemon.short));
    Ok(Exit::Done)
}
