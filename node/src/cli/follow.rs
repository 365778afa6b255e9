//! Following a run of a conduit: progress while it lasts, one line and an exit code at the end.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidegate_protocol::file_sync::SkipReason;

use super::out::Progress;
use super::{Context, read, read_list};
use crate::api::client::segment;
use crate::api::document::{
    ConduitDocument, ConflictDocument, GenerationDocument, GenerationItems, HeldDocument, StartedDocument,
};
use crate::api::problem::{Code, Exit, Problem};
use crate::core::command::ProgressView;
use crate::format::{bytes, count, duration, number};

/// Time between two looks at a run.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(150);

/// Skipped items that are named after a run.
const NAMED_MAX: usize = 10;

/// The conduit as it is now.
pub(super) async fn look(conduit: &str, context: &Context) -> Result<Value, Problem> {
    context.client.get(&format!("/conduits/{}", segment(conduit))).await
}

/// Follows the run that was begun to its end, follow-ups included.
pub(super) async fn run(started: &StartedDocument, context: &Context) -> Result<Exit, Problem> {
    let Some(first) = started.generation else {
        let view: ConduitDocument = read(&look(&started.conduit, context).await?)?;
        return Ok(nothing_to_do(started, &view, context));
    };
    to_its_end(&started.conduit, first, context).await
}

/// Follows a generation of a conduit to its end, follow-ups included.
pub(super) async fn to_its_end(conduit: &str, first: u64, context: &Context) -> Result<Exit, Problem> {
    let progress = context.out.progress();
    let began = Instant::now();
    let view = loop {
        let view: ConduitDocument = read(&look(conduit, context).await?)?;
        if let Some(running) = &view.running {
            draw(&progress, &view.name, running);
        } else if is_over(&view, first) {
            break view;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    };
    progress.clear();
    if let Some(held) = &view.held {
        let problem = self::held(&view.name, held, context);
        // A full disk is what ended the run; that the rest waits for approval comes after it.
        if !ran_out_of_space(&view, context).await? {
            return Err(problem);
        }
        context.out.talk(&problem.to_string());
    }
    sum_up(&view, first, began.elapsed(), context).await
}

async fn ran_out_of_space(view: &ConduitDocument, context: &Context) -> Result<bool, Problem> {
    let Some(last) = view.last.as_ref().filter(|last| last.totals.skipped > 0) else { return Ok(false) };
    let skipped = skipped_items(&view.name, last.number, context).await?;
    Ok(skipped.iter().any(|(_, why)| *why == SkipReason::NoSpace.to_string()))
}

/// Both ends are in step, but for conflicts that wait and for what cannot be read.
fn nothing_to_do(started: &StartedDocument, view: &ConduitDocument, context: &Context) -> Exit {
    let StartedDocument { conduit, conflicts, unread, .. } = started;
    let verified = *unread == 0;
    let exit = match (*conflicts, verified) {
        (0, true) => Exit::Done,
        (0, false) => Exit::Partial,
        (1.., _) => Exit::Conflicts,
    };
    if context.out.json() {
        context.out.document(&json!({
            "v": 1, "type": "summary", "conduit": conduit, "generation": null, "conflicts": conflicts,
            "unread": unread, "verified": verified, "exit": exit as u8,
        }));
        return exit;
    }
    let end = started.end();
    let waiting = if *conflicts == 0 {
        String::new()
    } else {
        format!("; {}", count(*conflicts, "conflict waits", "conflicts wait"))
    };
    context.out.line(&format!("{conduit}: nothing to do, {end}{waiting}."));
    name_unread(view, context);
    if *conflicts > 0 {
        context.out.talk(&format!("Look: {}", context.command(&format!("conflict list {conduit}"))));
    }
    exit
}

/// Names what was left out.
fn name_unread(view: &ConduitDocument, context: &Context) {
    for left in &view.unread {
        context.out.talk(&format!("  left alone {}: {}", left.path, left.why));
    }
}

/// Closed, and nothing follows it up.
fn is_over(view: &ConduitDocument, first: u64) -> bool {
    let Some(last) = view.last.as_ref().filter(|last| last.number >= first && last.closed.is_some()) else {
        return false;
    };
    last.verification == "verified" || view.held.is_some() || matches!(view.state.as_str(), "idle" | "refused")
}

/// What the generations from `first` on did, taken together.
async fn sum_up(view: &ConduitDocument, first: u64, took: Duration, context: &Context) -> Result<Exit, Problem> {
    let document = context.client.get(&format!("/generations?conduit={}", segment(&view.name))).await?;
    let mut run: Vec<GenerationDocument> = read_list(&document, "generations")?;
    run.retain(|generation| generation.number >= first);
    let newest = run.iter().max_by_key(|generation| generation.number).ok_or_else(|| {
        Problem::new(Code::Internal, format!("generation {first} of {} is not in its history", view.name), "")
    })?;
    let (copied, deleted) = (sum(&run, |g| g.totals.copied), sum(&run, |g| g.totals.deleted));
    let moved = sum(&run, |g| g.totals.bytes);
    let verified = newest.verification == "verified";
    let skipped = newest.totals.skipped;
    let conflicts = run.iter().map(|generation| generation.totals.conflicts).max().unwrap_or(0);
    let named = if skipped > 0 { skipped_items(&view.name, newest.number, context).await? } else { Vec::new() };
    // What a strategy has decided is told, and waits for nobody.
    let waiting = if conflicts > 0 { waiting_of(&view.name, first, context).await? } else { 0 };
    let exit = match (waiting, skipped, verified) {
        _ if named.iter().any(|(_, why)| *why == SkipReason::NoSpace.to_string()) => Exit::Storage,
        _ if named.iter().any(|(_, why)| *why == SkipReason::Unreachable.to_string()) => Exit::Unreachable,
        (1.., _, _) => Exit::Conflicts,
        (0, 1.., _) => Exit::Partial,
        (0, 0, true) => Exit::Done,
        (0, 0, false) => Exit::Failed,
    };
    if context.out.json() {
        context.out.document(&json!({
            "v": 1, "type": "summary", "conduit": view.name, "generation": newest.number, "first": first,
            "copied": copied, "deleted": deleted, "skipped": skipped, "conflicts": conflicts, "bytes": moved,
            "took_ms": took.as_millis() as u64, "verification": newest.verification, "verified": verified, "exit": exit as u8,
        }));
        return Ok(exit);
    }
    let target = view.target.split(':').next().unwrap_or_default();
    let mut line = format!("gen {}: {} copied", newest.number, number(copied));
    if deleted > 0 {
        let _ = write!(line, ", {} to trash", number(deleted));
    }
    let _ = write!(
        line,
        ", {} skipped, {}, {}, {}",
        number(skipped),
        count(conflicts, "conflict", "conflicts"),
        bytes(moved),
        duration(took.as_millis() as u64)
    );
    let both = if view.mode == "bidirectional" { " and " } else { "" };
    let source = if both.is_empty() { "" } else { view.source.split(':').next().unwrap_or_default() };
    let end = if verified {
        format!("verified on {source}{both}{target}")
    } else {
        format!("NOT verified ({})", newest.verification)
    };
    let _ = write!(line, ", {end}.");
    context.out.line(&line);
    for (path, why) in named.iter().take(NAMED_MAX) {
        context.out.talk(&format!("  skipped {path}: {why}"));
    }
    if !verified && skipped > 0 {
        name_unread(view, context);
    }
    if named.len() > NAMED_MAX {
        context
            .out
            .talk(&format!("  all of them: {}", context.command(&format!("gen show {} {}", view.name, newest.number))));
    }
    if exit == Exit::Conflicts {
        context.out.talk(&format!("  look: {}", context.command(&format!("conflict list {}", view.name))));
    }
    if exit == Exit::Failed {
        let problem = Problem::new(
            Code::NotVerified,
            format!("{} ran, and the ends are not proven equal", view.name),
            format!("a fresh resolve found more to do ({}); something changes while it runs", newest.verification),
        );
        return Err(problem.next(context.command(&format!("sync {}", view.name))));
    }
    Ok(exit)
}

/// Conflicts that wait for a person: those that a run from `first` on met, and those that are held since before.
async fn waiting_of(conduit: &str, first: u64, context: &Context) -> Result<u64, Problem> {
    let document = context.client.get(&format!("/conflicts?conduit={}", segment(conduit))).await?;
    let open: Vec<ConflictDocument> = read_list(&document, "conflicts")?;
    Ok(open.iter().filter(|conflict| conflict.generation >= first || conflict.outcome == "held").count() as u64)
}

fn sum(run: &[GenerationDocument], of: impl Fn(&GenerationDocument) -> u64) -> u64 {
    run.iter().map(of).sum()
}

async fn skipped_items(conduit: &str, generation: u64, context: &Context) -> Result<Vec<(String, String)>, Problem> {
    let document = context.client.get(&format!("/generations/{}/{generation}", segment(conduit))).await?;
    let items: GenerationItems = read(&document)?;
    let skipped = items.items.into_iter().filter(|item| item.outcome != "done" && item.outcome != "pending");
    Ok(skipped.map(|item| (item.path, item.outcome)).collect())
}

/// Draws the progress of a generation.
pub(super) fn draw(progress: &Progress, conduit: &str, running: &ProgressView) {
    let mut words = format!(
        "{}/{}  {}/{} items  {}/s",
        bytes(running.bytes_done),
        bytes(running.bytes),
        number(running.items_done),
        number(running.items),
        bytes(running.bytes_per_s)
    );
    if let Some(eta) = running.eta_s {
        let _ = write!(words, "  ETA {}", duration(eta * 1000));
    }
    if running.phase != "copying" {
        let _ = write!(words, "  {}", running.phase);
    }
    if running.skipped > 0 {
        let _ = write!(words, "  skipped {}", number(running.skipped));
    }
    if let Some(path) = running.current.first() {
        let _ = write!(words, "  {path}");
    }
    let (done, total) =
        if running.bytes > 0 { (running.bytes_done, running.bytes) } else { (running.items_done, running.items) };
    progress.show(&format!("{conduit} gen {}", running.generation), done, total, &words, &json!(running));
}

/// A guard holds the plan.
pub(super) fn held(conduit: &str, held: &HeldDocument, context: &Context) -> Problem {
    let what = format!("{conduit} is held before harm; nothing of plan {} was done", held.plan);
    Problem::new(Code::SafetyStop, what, held.halts.join("; "))
        .next(format!("look at it: {}", context.command(&format!("plan {conduit}"))))
        .next(format!("if that is what you want: {}", context.command(&format!("approve {}", held.plan))))
}
