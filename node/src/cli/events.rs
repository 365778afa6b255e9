//! `events`.

use std::ops::ControlFlow;

use clap::Args;
use serde_json::Value;

use super::Context;
use crate::api::client::segment;
use crate::api::problem::{Exit, Problem};

/// Shows what happened since the node was started, and what happens
#[derive(Debug, Args)]
pub(super) struct EventsArgs {
    /// Goes on with what happens
    #[arg(short, long)]
    follow: bool,
    /// Only these kinds, for example job,generation.closed
    #[arg(long, value_name = "KINDS")]
    types: Option<String>,
    /// Only what came after this event
    #[arg(long, value_name = "ID")]
    since: Option<String>,
}

pub(super) async fn run(args: &EventsArgs, context: &Context) -> Result<Exit, Problem> {
    let mut path = format!("/events?once={}", !args.follow);
    for (name, value) in [("types", &args.types), ("since", &args.since)] {
        if let Some(value) = value {
            path = format!("{path}&{name}={}", segment(value));
        }
    }
    context
        .client
        .lines(&path, |line| {
            let Some(data) = line.strip_prefix("data: ") else { return ControlFlow::Continue(()) };
            if let Ok(document) = serde_json::from_str::<Value>(data) {
                if context.out.json() { context.out.document(&document) } else { context.out.line(&words(&document)) }
            }
            ControlFlow::Continue(())
        })
        .await?;
    Ok(Exit::Done)
}

/// `2026-11-22T14:00:00.000Z  job.finished  conduit=photos job=…`.
fn words(document: &Value) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut line = format!("{}  {}", text(&document["at"]), text(&document["event"]));
    let hidden = ["v", "type", "id", "at", "event"];
    for (name, value) in document.as_object().into_iter().flatten().filter(|(name, _)| !hidden.contains(&name.as_str()))
    {
        line = format!("{line}  {name}={}", text(value));
    }
    line
}
