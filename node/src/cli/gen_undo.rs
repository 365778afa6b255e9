//! `gen undo`.

use clap::Args;
use serde_json::json;

use super::{Context, follow, read};
use crate::api::client::segment;
use crate::api::document::UndoDocument;
use crate::api::problem::{Exit, Problem};
use crate::format::{count, number, parse_duration};

/// Items that are named before a run.
const NAMED_MAX: usize = 20;

/// What `gen undo` takes.
#[derive(Debug, Args)]
pub(super) struct UndoArgs {
    /// The conduit's name
    conduit: String,
    /// The generation to take back
    number: u64,
    /// Only says what would be done
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Approves the plan that a guard held
    #[arg(long, value_name = "PLAN")]
    approve: Option<String>,
    /// How long to wait until both ends' indexes are here, for example 60s; 0 refuses at once
    #[arg(long, value_parser = parse_duration, value_name = "TIME")]
    wait: Option<u64>,
}

pub(super) async fn run(args: UndoArgs, context: &Context) -> Result<Exit, Problem> {
    let path = format!("/generations/{}/{}/undo", segment(&args.conduit), args.number);
    let body = json!({ "dry_run": args.dry_run, "approve": args.approve, "wait_ms": args.wait });
    let document = context.client.post(&path, &body).await?;
    let undo: UndoDocument = read(&document)?;
    let partial = if undo.kept.is_empty() { Exit::Done } else { Exit::Partial };
    if context.out.json() && (args.dry_run || undo.generation.is_none()) {
        context.out.document(&document);
        return Ok(if args.dry_run { Exit::Done } else { partial });
    }
    show(&undo, args.dry_run, context);
    let Some(generation) = undo.generation else {
        return Ok(if args.dry_run { Exit::Done } else { partial });
    };
    let ended = follow::to_its_end(&undo.conduit, generation, context).await;
    if undo.pauses {
        context.out.talk(&format!("{} is paused: its next run would do again what was undone.", undo.conduit));
        context.out.talk(&format!("Resume it: {}", context.command(&format!("conduit resume {}", undo.conduit))));
    }
    match ended? {
        Exit::Done => Ok(partial),
        other => Ok(other),
    }
}

fn show(undo: &UndoDocument, dry_run: bool, context: &Context) {
    let taken = match undo.items_total {
        0 => "nothing is left to take back".to_owned(),
        total => count(total, "change is taken back", "changes are taken back"),
    };
    let kept = match undo.kept.len() as u64 {
        0 => String::new(),
        kept => format!("; {} as it is", count(kept, "path stays", "paths stay")),
    };
    let head = format!("Undo of gen {} (as a new generation {}): {taken}{kept}", undo.undoes, undo.next);
    if !context.out.json() {
        if dry_run { context.out.line(&head) } else { context.out.talk(&head) }
    }
    let line = |text: &str| {
        if !context.out.json() {
            if dry_run { context.out.line(text) } else { context.out.talk(text) }
        }
    };
    for kept in &undo.kept {
        line(&format!("  stays    {}  on {}: {}", kept.path.path, kept.device, kept.why));
    }
    if !dry_run {
        return;
    }
    let shown = if context.out.verbose() { usize::MAX } else { NAMED_MAX };
    for item in undo.items.iter().take(shown) {
        line(&format!("  {:<8} {}  on {}", item.op, item.path.path, item.device));
    }
    if undo.items_total > shown.min(undo.items.len()) as u64 {
        line(&format!("  ... {} in all (-v names them)", number(undo.items_total)));
    }
    for halt in &undo.halts {
        line(&format!("  held     {halt}; approve with --approve {}", undo.plan));
    }
    line("Nothing was changed.");
}
