//! `plan`.

use clap::Args;
use serde_json::json;

use super::{Context, read};
use crate::api::client::segment;
use crate::api::document::PlanDocument;
use crate::api::problem::{Exit, Problem};
use crate::format::{bytes, count, number, parse_duration};

/// Shows what a conduit would do, and changes nothing
#[derive(Debug, Args)]
pub(super) struct PlanArgs {
    /// The conduit's name
    conduit: String,
    /// How long to wait until both ends' indexes are here, for example 60s
    #[arg(long, value_parser = parse_duration, value_name = "TIME")]
    wait: Option<u64>,
    /// Exits with 20 when there is something to do
    #[arg(long)]
    detailed_exitcode: bool,
    /// Lists every item
    #[arg(long)]
    items: bool,
}

/// Skips and conflicts that are named.
const NAMED_MAX: usize = 5;

pub(super) async fn run(args: PlanArgs, context: &Context) -> Result<Exit, Problem> {
    let path = format!("/conduits/{}/plan", segment(&args.conduit));
    let document = context.client.post(&path, &json!({ "wait_ms": args.wait })).await?;
    let plan: PlanDocument = read(&document)?;
    if context.out.json() {
        context.out.document(&document);
    } else {
        show(&plan, args.items, context);
    }
    let pending = !plan.items.is_empty() || !plan.halts.is_empty();
    Ok(if args.detailed_exitcode && pending { Exit::ChangesPending } else { Exit::Done })
}

/// What is done on one end: sums by kind. The target's are shown even when there is nothing.
fn direction(plan: &PlanDocument, side: &str) -> Vec<Vec<String>> {
    let source = plan.source.split(':').next().unwrap_or_default();
    let (from, on) =
        if side == "target" { (source, plan.target_device.as_str()) } else { (plan.target_device.as_str(), source) };
    let of = |ops: &[&str]| {
        let items = plan.items.iter().filter(|item| item.side == side && ops.contains(&item.op.as_str()));
        items.fold((0_u64, 0_u64), |(n, sum), item| (n + 1, sum + item.bytes.unwrap_or(0)))
    };
    let (copies, sent) = of(&["install", "link", "mkdir", "metadata"]);
    let (renames, _) = of(&["rename", "respell"]);
    let (deletes, _) = of(&["trash", "rmdir"]);
    let (evictions, _) = of(&["evict"]);
    let always = side == "target";
    let rows = [
        ("copy", copies, format!("{}   {from} -> {on}", bytes(sent)), always),
        ("rename", renames, format!("on {on}, nothing is sent"), false),
        ("to trash", deletes, format!("on {on}"), always),
        ("evict", evictions, format!("on {on}, {from} holds the same"), false),
    ];
    let shown = rows.into_iter().filter(|(_, n, _, always)| *always || *n > 0);
    shown.map(|(what, n, more, _)| vec![format!("  {what}"), number(n), more]).collect()
}

fn show(plan: &PlanDocument, items: bool, context: &Context) {
    let out = &context.out;
    let heads: Vec<String> = plan.heads.iter().map(|head| format!("{}@{}", head.device, head.sequence)).collect();
    out.line(&format!(
        "Plan {}  {}: {} -> {}   index {}, caught up",
        plan.plan,
        plan.conduit,
        plan.source,
        plan.target,
        heads.join(" ")
    ));
    let totals = &plan.totals;
    let row = |what: &str, n: String, more: String| vec![format!("  {what}"), n, more];
    let mut rows = Vec::new();
    for side in ["target", "source"] {
        rows.extend(direction(plan, side));
    }
    if totals.replaced > 0 {
        rows.push(row("of these replace", number(totals.replaced), "old bytes go to the trash".to_owned()));
    }
    if totals.adopts > 0 {
        rows.push(row("record", number(totals.adopts), "equal on both ends; nothing is sent".to_owned()));
    }
    for (what, list) in [("skip", &plan.skips), ("conflict", &plan.conflicts)] {
        if !list.is_empty() {
            let named: Vec<String> = list.iter().take(NAMED_MAX).map(|p| format!("{} ({})", p.path, p.why)).collect();
            let more = if list.len() > NAMED_MAX { " ..." } else { "" };
            rows.push(row(what, number(list.len() as u64), format!("{}{more}", named.join(" - "))));
        }
    }
    if totals.drift_healed > 0 {
        rows.push(row("set back", number(totals.drift_healed), format!("changed on {} alone", plan.target_device)));
    }
    out.table(&rows);
    if items {
        for item in &plan.items {
            let size = item.bytes.map(|n| format!("  {}", bytes(n))).unwrap_or_default();
            let from = item.from.as_ref().map(|from| format!("{} -> ", from.path)).unwrap_or_default();
            out.line(&format!("  {:<8} {from}{}{size}", item.op, item.path.path));
        }
    }
    for halt in &plan.halts {
        out.line(&format!("  HELD: {halt}"));
    }
    out.line("Nothing was changed.");
    if plan.items.is_empty() && plan.halts.is_empty() {
        out.line(&format!("{} is in step: nothing is left to do.", plan.conduit));
    } else if plan.halts.is_empty() {
        out.talk(&format!("Run it: {}", context.command(&format!("sync {} --plan {}", plan.conduit, plan.plan))));
    } else {
        let held = count(plan.halts.len() as u64, "guard holds it", "guards hold it");
        out.talk(&format!("{held}. If that is what you want: {}", context.command(&format!("approve {}", plan.plan))));
    }
}
