//! `why`.

use clap::Args;

use super::{Context, read};
use crate::api::conflicts::Question;
use crate::api::document::WhyDocument;
use crate::api::problem::{Exit, Problem};
use crate::core::command::VersionView;
use crate::format::{bytes, parse_duration};

/// Explains one path: which rows, which agreement and which rule decide about it
#[derive(Debug, Args)]
pub(super) struct WhyArgs {
    /// Below the conduit's roots, or a path on this device
    path: String,
    /// In which conduit, where several have such a path
    #[arg(long, value_name = "NAME")]
    conduit: Option<String>,
    /// How long to wait until both ends' indexes are here, for example 60s
    #[arg(long, value_parser = parse_duration, value_name = "TIME")]
    wait: Option<u64>,
}

pub(super) async fn run(args: WhyArgs, context: &Context) -> Result<Exit, Problem> {
    let question = Question { path: args.path, conduit: args.conduit, wait_ms: args.wait };
    let document = context.client.post("/why", &question).await?;
    if context.out.json() {
        context.out.document(&document);
    } else {
        show(&read(&document)?, context);
    }
    Ok(Exit::Done)
}

fn show(why: &WhyDocument, context: &Context) {
    let out = &context.out;
    out.line(&format!("{}  in {}: {} and {}", why.path, why.conduit, why.source_root, why.target_root));
    let mut rows = Vec::new();
    for (end, row) in [("source", &why.source), ("target", &why.target)] {
        let (what, version) = match row {
            None => ("nothing, and no trace of it".to_owned(), String::new()),
            Some(row) => {
                let events: Vec<String> =
                    row.version.iter().map(|(device, number)| format!("{device}:{number}")).collect();
                let what = row.entry.as_ref().map_or_else(|| "deleted".to_owned(), describe);
                (what, events.join(" "))
            }
        };
        rows.push(vec![format!("  {end}"), what, version]);
    }
    let base = why.base.as_ref().map_or_else(|| "nothing".to_owned(), describe);
    rows.push(vec!["  agreed".to_owned(), base, String::new()]);
    out.table(&rows);
    out.line(&format!("  because: {} ({})", why.because, why.rule));
    if let Some(conflict) = &why.conflict {
        out.line(&format!("  conflict: {conflict}"));
    }
    for planned in &why.planned {
        out.line(&format!("  next: {} {} on the {:?} side", planned.op, planned.path, planned.side).to_lowercase());
    }
    if why.planned.is_empty() {
        out.line("  next: nothing");
    }
    for halt in &why.held {
        out.line(&format!("  held: {halt}"));
    }
    for done in &why.last {
        let side = format!("{:?}", done.side).to_lowercase();
        out.line(&format!("  gen {}: {} {} on the {side} side: {}", done.generation, done.op, done.path, done.outcome));
    }
}

fn describe(version: &VersionView) -> String {
    let content = version.content.as_deref().map(|hash| hash.chars().take(8).collect::<String>());
    let text = version.text.as_ref().map(|text| format!("-> {text}"));
    let parts = [Some(version.what.clone()), content, version.bytes.map(bytes), text].into_iter().flatten();
    parts.collect::<Vec<_>>().join(" ")
}
