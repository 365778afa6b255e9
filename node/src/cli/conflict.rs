//! `conflict`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use super::{Context, follow, read, read_list};
use crate::api::client::segment;
use crate::api::conflicts::Resolution;
use crate::api::document::{ConflictDocument, DiffDocument, StartedDocument};
use crate::api::problem::{Code, Exit, Problem};
use crate::core::command::VersionView;
use crate::format::bytes;

/// Shows and decides conflicts: paths that both ends of a conduit changed in ways that differ
#[derive(Debug, Args)]
pub(super) struct ConflictArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Lists conflicts that wait
    List {
        /// Of this conduit alone
        conduit: Option<String>,
        /// Those that are settled, too
        #[arg(long)]
        all: bool,
    },
    /// Shows one conflict with its versions
    Show {
        /// CONDUIT:NUMBER
        conflict: String,
    },
    /// Shows how the target's version differs from the source's
    Diff {
        /// CONDUIT:NUMBER
        conflict: String,
    },
    /// Shows what a merge would make of it; nothing is changed
    Preview {
        /// CONDUIT:NUMBER
        conflict: String,
    },
    /// Decides, and runs the conduit; what loses goes to the trash
    Resolve {
        /// CONDUIT:NUMBER
        #[arg(required_unless_present = "all")]
        conflict: Option<String>,
        #[command(flatten)]
        how: How,
        /// All conflicts that wait, of --conduit or of every conduit; asks first
        #[arg(long, conflicts_with_all = ["conflict", "with"])]
        all: bool,
        /// With --all: of this conduit alone
        #[arg(long, requires = "all", value_name = "NAME")]
        conduit: Option<String>,
        /// Only records the decision; the next run carries it out
        #[arg(long)]
        no_sync: bool,
    },
}

#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = false)]
struct How {
    /// source, target, both, newest, or the name of the device whose version stays
    #[arg(long, value_name = "WHICH")]
    keep: Option<String>,
    /// Joins the edits of both sides, where they touch different lines
    #[arg(long)]
    merge: bool,
    /// Takes the content of this file instead
    #[arg(long, value_name = "FILE")]
    with: Option<PathBuf>,
}

pub(super) async fn run(args: ConflictArgs, context: &Context) -> Result<Exit, Problem> {
    match args.what {
        What::List { conduit, all } => list(conduit.as_deref(), all, context).await,
        What::Show { conflict } => {
            let document = context.client.get(&route(&conflict)?).await?;
            if context.out.json() {
                context.out.document(&document);
            } else {
                show(&read(&document)?, context).await;
            }
            Ok(Exit::Done)
        }
        What::Diff { conflict } => {
            let document = context.client.get(&format!("{}/diff", route(&conflict)?)).await?;
            if context.out.json() {
                context.out.document(&document);
                return Ok(Exit::Done);
            }
            let found: DiffDocument = read(&document)?;
            let diff = found.diff.ok_or_else(|| cannot(&conflict, "shown", found.why))?;
            diff.lines().for_each(|line| context.out.line(line));
            Ok(Exit::Done)
        }
        What::Preview { conflict } => {
            let document = context.client.get(&format!("{}/diff", route(&conflict)?)).await?;
            let found: DiffDocument = read(&document)?;
            let merged = found.merged.ok_or_else(|| cannot(&conflict, "merged", found.why))?;
            merged.lines().for_each(|line| context.out.line(line));
            context.out.talk(&format!(
                "Nothing was changed. Do it: {}",
                context.command(&format!("conflict resolve {conflict} --merge"))
            ));
            Ok(Exit::Done)
        }
        What::Resolve { conflict, how, all, conduit, no_sync } => {
            let chosen = match (conflict, all) {
                (Some(conflict), _) => vec![read(&context.client.get(&route(&conflict)?).await?)?],
                (None, _) => waiting(conduit.as_deref(), context).await?,
            };
            resolve(&chosen, &how, all, no_sync, context).await
        }
    }
}

fn cannot(conflict: &str, done: &str, why: Option<String>) -> Problem {
    let what = format!("{conflict} cannot be {done}; nothing was changed");
    Problem::new(Code::Usage, what, why.unwrap_or_default()).next(format!("tidegate conflict show {conflict}"))
}

fn route(conflict: &str) -> Result<String, Problem> {
    let (conduit, number) = conflict.rsplit_once(':').ok_or_else(|| {
        Problem::new(Code::Usage, format!("{conflict} names no conflict; nothing was changed"), "")
            .next("name it by conduit and number, as in notes:1".to_owned())
    })?;
    Ok(format!("/conflicts/{}/{}", segment(conduit), segment(number)))
}

async fn list(conduit: Option<&str>, all: bool, context: &Context) -> Result<Exit, Problem> {
    let of = conduit.map(|name| format!("&conduit={}", segment(name))).unwrap_or_default();
    let document = context.client.get(&format!("/conflicts?all={all}{of}")).await?;
    if context.out.json() {
        context.out.document(&document);
        return Ok(Exit::Done);
    }
    let conflicts: Vec<ConflictDocument> = read_list(&document, "conflicts")?;
    if conflicts.is_empty() {
        context.out.talk("No conflict waits.");
        return Ok(Exit::Done);
    }
    let rows: Vec<Vec<String>> = conflicts
        .iter()
        .map(|conflict| vec![conflict.id.clone(), conflict.path.path.clone(), conflict.what.clone(), state(conflict)])
        .collect();
    context.out.table(&rows);
    context.out.talk(&format!("Look: {}", context.command(&format!("conflict show {}", conflicts[0].id))));
    Ok(Exit::Done)
}

fn state(conflict: &ConflictDocument) -> String {
    let done = match (conflict.outcome.as_str(), &conflict.copy) {
        ("both", Some(copy)) => format!("both kept, the target's as {}", copy.path),
        ("held", _) => "held on both ends".to_owned(),
        ("given", _) => "a given content took the path".to_owned(),
        (side, _) => format!("the {side}'s version won"),
    };
    match (&conflict.decided, conflict.open, &conflict.settled) {
        (_, _, Some(_)) => format!("{done}; settled"),
        (Some(decided), _, None) => format!("{done}; decided: {decided}"),
        (None, _, None) => done,
    }
}

async fn show(conflict: &ConflictDocument, context: &Context) {
    let out = &context.out;
    out.line(&format!("{}  {}: {}", conflict.id, conflict.path.path, conflict.what));
    out.line(&format!("  {}", state(conflict)));
    let found: Option<DiffDocument> = match route(&conflict.id) {
        Ok(route) => context.client.get(&format!("{route}/diff")).await.ok().and_then(|d| read(&d).ok()),
        Err(_) => None,
    };
    let changed = found.as_ref().and_then(|found| found.changed);
    let lines = |(added, removed): (u64, u64)| format!("+{added} -{removed} lines vs base");
    let version = |name: &str, view: Option<&VersionView>, lines: Option<String>| {
        vec![format!("  {name}"), view.map_or_else(|| "nothing".to_owned(), describe), lines.unwrap_or_default()]
    };
    out.table(&[
        version("base", conflict.base.as_ref(), None),
        version(&conflict.source_device, conflict.source.as_ref(), changed.map(|[source, _]| lines(source))),
        version(&conflict.target_device, conflict.target.as_ref(), changed.map(|[_, target]| lines(target))),
    ]);
    match &found {
        Some(DiffDocument { merged: Some(_), .. }) => out.line("  text merge: clean"),
        Some(DiffDocument { why: Some(why), .. }) => out.line(&format!("  text merge: no ({why})")),
        Some(_) | None => {}
    }
    if conflict.open {
        let verb = format!("conflict resolve {}", conflict.id);
        out.talk(&format!(
            "Decide: {} --keep source|target|both|newest   or --merge   or --with FILE",
            context.command(&verb)
        ));
    }
}

fn describe(version: &VersionView) -> String {
    let content = version.content.as_deref().map(|hash| hash.chars().take(8).collect::<String>());
    let size = version.bytes.map(bytes);
    let text = version.text.as_ref().map(|text| format!("-> {text}"));
    let parts = [Some(version.what.clone()), content, size, text].into_iter().flatten();
    parts.collect::<Vec<_>>().join("  ")
}

async fn waiting(conduit: Option<&str>, context: &Context) -> Result<Vec<ConflictDocument>, Problem> {
    let of = conduit.map(|name| format!("?conduit={}", segment(name))).unwrap_or_default();
    read_list(&context.client.get(&format!("/conflicts{of}")).await?, "conflicts")
}

async fn resolve(
    conflicts: &[ConflictDocument],
    how: &How,
    all: bool,
    no_sync: bool,
    context: &Context,
) -> Result<Exit, Problem> {
    if all {
        let named: Vec<&str> = conflicts.iter().take(5).map(|conflict| conflict.id.as_str()).collect();
        let more = if conflicts.len() > named.len() { " ..." } else { "" };
        context.confirm(&format!("decide {} conflicts alike ({}{more})?", conflicts.len(), named.join(", ")))?;
    }
    let mut failed = None;
    for conflict in conflicts {
        let body = resolution(conflict, how)?;
        match context.client.post(&format!("{}/resolve", route(&conflict.id)?), &body).await {
            Ok(_) => context.out.talk(&format!("{}: decided", conflict.id)),
            Err(problem) if all => {
                context.out.talk(&format!("{}: {}", conflict.id, problem.why));
                failed = Some(problem);
            }
            Err(problem) => return Err(problem),
        }
    }
    let mut conduits: Vec<&str> = conflicts.iter().map(|conflict| conflict.conduit.as_str()).collect();
    conduits.dedup();
    let mut exit = Exit::Done;
    for conduit in conduits.into_iter().filter(|_| !no_sync) {
        let document = context.client.post(&format!("/conduits/{}/sync", segment(conduit)), &json!({})).await?;
        let started: StartedDocument = read(&document)?;
        exit = follow::run(&started, context).await?;
    }
    failed.map_or(Ok(exit), Err)
}

fn resolution(conflict: &ConflictDocument, how: &How) -> Result<Resolution, Problem> {
    if let Some(path) = &how.with {
        let unread = |error: std::io::Error| {
            Problem::new(
                Code::Usage,
                format!("{} was not read; nothing was changed", path.display()),
                error.to_string(),
            )
        };
        let content = std::fs::read(path).map_err(unread)?;
        return Ok(Resolution { content_b64: Some(data_encoding::BASE64.encode(&content)), ..Resolution::default() });
    }
    let keep = how.keep.as_deref().map(|word| match word {
        device if device == conflict.source_device => "source".to_owned(),
        device if device == conflict.target_device => "target".to_owned(),
        word => word.to_owned(),
    });
    Ok(Resolution { keep, merge: how.merge, content_b64: None })
}
