//! `version`.

use clap::Args;
use serde_json::json;

use super::Context;
use crate::api::problem::{Exit, Problem};

/// Prints the version
#[derive(Debug, Args)]
pub(super) struct VersionArgs {}

/// Set by packagers at build time.
const COMMIT: Option<&str> = option_env!("TIDEGATE_COMMIT");

#[allow(clippy::unnecessary_wraps, reason = "verbs have one shape")]
pub(super) fn run(_: &VersionArgs, context: &Context) -> Result<Exit, Problem> {
    let version = env!("CARGO_PKG_VERSION");
    if context.out.json() {
        context.out.document(&json!({ "v": 1, "type": "version", "version": version, "commit": COMMIT }));
    } else {
        let commit = COMMIT.map(|commit| format!(" ({commit})")).unwrap_or_default();
        context.out.line(&format!("tidegate {version}{commit}"));
    }
    Ok(Exit::Done)
}
