//! `conduit`.

use std::time::Duration;

use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::json;
use tidegate_protocol::file_sync::BandwidthLimit;

use super::status::conduit_row;
use super::{Context, follow, read, read_list};
use crate::api::body::{ConduitNew, ConduitSet, PinSet, SelectionSet};
use crate::api::client::segment;
use crate::api::document::{ConduitDocument, PlanDocument, SelectionDocument};
use crate::api::problem::{Code, Exit, Problem};
use crate::format::{Moment, bytes, count, number, parse_bytes, parse_duration, plain_duration};
use crate::timetable::{parse_limit, show_offset};

/// Creates and changes conduits: durable links from a source directory to a target directory
#[derive(Debug, Args)]
pub(super) struct ConduitArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Links two directories
    Create {
        /// Its name
        name: String,
        /// DEVICE:LOCATION or DEVICE:LOCATION/DIR
        source: String,
        /// DEVICE:LOCATION or DEVICE:LOCATION/DIR
        target: String,
        /// What "in step" means: mirror, bidirectional or selective
        #[arg(long, default_value = "mirror")]
        mode: String,
        #[command(flatten)]
        settings: SettingArgs,
    },
    /// Lists all conduits
    List,
    /// Shows one conduit
    Show {
        /// Its name
        conduit: String,
        /// Adds what it did in the last day, week and month
        #[arg(long)]
        stats: bool,
    },
    /// Changes settings
    Set {
        /// Its name
        conduit: String,
        /// Gives it another name
        #[arg(long)]
        name: Option<String>,
        /// Lets it run, or not: true or false
        #[arg(long)]
        enabled: Option<bool>,
        #[command(flatten)]
        settings: SettingArgs,
    },
    /// Starts nothing until resumed; what runs goes on
    Pause {
        /// Its name
        conduit: String,
    },
    /// Lets it run again
    Resume {
        /// Its name
        conduit: String,
    },
    /// Keeps something on the target of a selective conduit, whatever is selected
    Pin {
        /// Its name
        conduit: String,
        /// Below its roots
        path: String,
    },
    /// Lets go of a pin or of what was fetched
    Unpin {
        /// Its name
        conduit: String,
        /// Below its roots
        path: String,
    },
    /// Forgets a conduit; no file is touched
    Remove {
        /// Its name
        conduit: String,
    },
    /// Returns when the conduit is idle and a fresh resolve finds nothing left to do
    Wait {
        /// Its name
        conduit: String,
        /// The default; named for scripts that want to say what they wait for
        #[arg(long)]
        verified: bool,
    },
}

#[derive(Debug, Args)]
struct SettingArgs {
    /// manual, instant, "instant 2s" or "every 5m"
    #[arg(long)]
    schedule: Option<String>,
    /// Transfers at the same time
    #[arg(long, value_name = "N")]
    parallel: Option<u32>,
    /// Bytes per second, for example "10 MB", or by time of day, "08:00,512kB 19:00,off"; 0 is no limit
    ///
    /// Times of day are those of this machine as its clock shows them now, unless a zone follows ("08:00,1MB
    /// 19:00,off +01:00", or UTC). They stay where they are in UTC: when summer time begins or ends, give them again.
    #[arg(long, visible_alias = "bandwidth-limit", value_parser = limit_here, value_name = "LIMIT")]
    limit: Option<BandwidthLimit>,
    /// create-conflict-file, newest-wins, source-wins, target-wins, largest-wins or prompt
    #[arg(long, value_name = "STRATEGY")]
    on_conflict: Option<String>,
    /// What happens to replaced and deleted bytes: trash or permanent
    #[arg(long, value_name = "MODE")]
    delete_mode: Option<String>,
    #[command(flatten)]
    selection: SelectionArgs,
}

/// What a selective conduit holds on its target.
#[derive(Debug, Args)]
struct SelectionArgs {
    /// Selects a directory or file below the root, "." for everything; may be given more than once
    #[arg(long, value_name = "PATH")]
    subtree: Vec<String>,
    /// Selects what matches a pattern, such as "*.md"; may be given more than once
    #[arg(long, value_name = "GLOB")]
    include: Vec<String>,
    /// Leaves out what matches a pattern; may be given more than once
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,
    /// Leaves out smaller files; 0 is no bound
    #[arg(long, value_parser = parse_bytes, value_name = "BYTES")]
    min_size: Option<u64>,
    /// Leaves out larger files; 0 is no bound
    #[arg(long, value_parser = parse_bytes, value_name = "BYTES")]
    max_size: Option<u64>,
    /// Leaves out files that were modified longer ago; 0 is no bound
    #[arg(long, value_parser = parse_duration, value_name = "TIME")]
    max_age: Option<u64>,
    /// Room for the most recently used files; 0 is no bound
    #[arg(long, value_parser = parse_bytes, value_name = "BYTES")]
    budget: Option<u64>,
}

impl SelectionArgs {
    fn body(self) -> Option<SelectionSet> {
        let list = |all: Vec<String>| (!all.is_empty()).then_some(all);
        let set = SelectionSet {
            subtrees: list(self.subtree),
            include: list(self.include),
            exclude: list(self.exclude),
            size_bytes_min: self.min_size,
            size_bytes_max: self.max_size,
            age_ms_max: self.max_age,
            budget_bytes: self.budget,
        };
        (set != SelectionSet::default()).then_some(set)
    }
}

impl SettingArgs {
    /// Whose hours the limits of a day are.
    fn say_zone(&self, context: &Context) {
        if let Some(limit) = self.limit.as_ref().filter(|limit| limit.as_constant().is_none()) {
            let zone = show_offset(limit.utc_offset_minutes);
            context.out.talk(&format!("Limits by time of day are kept in {zone}; summer time does not move them."));
        }
    }

    fn body(self) -> ConduitSet {
        ConduitSet {
            schedule: self.schedule,
            parallel_transfers: self.parallel,
            bandwidth_limit: self.limit.map(Into::into),
            strategy: self.on_conflict,
            delete_mode: self.delete_mode,
            selection: self.selection.body(),
            ..ConduitSet::default()
        }
    }
}

pub(super) async fn run(args: ConduitArgs, context: &Context) -> Result<Exit, Problem> {
    let (client, out) = (&context.client, &context.out);
    match args.what {
        What::Create { name, source, target, mode, settings } => {
            let label = label(&name)?;
            settings.say_zone(context);
            let body = ConduitNew { name: label, source, target, mode, settings: settings.body() };
            client.post("/conduits", &body).await?;
            out.talk(&format!("Next: {}", context.command(&format!("plan {name}"))));
        }
        What::List => {
            let document = client.get("/conduits").await?;
            if out.json() {
                out.document(&document);
            } else {
                let conduits: Vec<ConduitDocument> = read_list(&document, "conduits")?;
                out.table(&conduits.iter().map(|c| conduit_row(c, now())).collect::<Vec<_>>());
            }
        }
        What::Show { conduit, stats } => {
            let document = follow::look(&conduit, context).await?;
            if out.json() { out.document(&document) } else { show(&read(&document)?, stats, context) }
        }
        What::Set { conduit, name, enabled, settings } => {
            let name = name.as_deref().map(label).transpose()?;
            settings.say_zone(context);
            set(&conduit, &ConduitSet { name, enabled, ..settings.body() }, context).await?;
        }
        What::Pause { conduit } => {
            set(&conduit, &ConduitSet { paused: Some(true), ..ConduitSet::default() }, context).await?;
        }
        What::Resume { conduit } => {
            set(&conduit, &ConduitSet { paused: Some(false), ..ConduitSet::default() }, context).await?;
        }
        What::Pin { conduit, path } => pin(&conduit, path, true, context).await?,
        What::Unpin { conduit, path } => pin(&conduit, path, false, context).await?,
        What::Remove { conduit } => {
            client.request(Method::DELETE, &format!("/conduits/{}", segment(&conduit)), &json!({})).await?;
            out.talk(&format!("{conduit} is no conduit any more. No file was touched."));
        }
        What::Wait { conduit, verified: _ } => return wait(&conduit, context).await,
    }
    Ok(Exit::Done)
}

async fn set(conduit: &str, body: &ConduitSet, context: &Context) -> Result<(), Problem> {
    context.client.request(Method::PATCH, &format!("/conduits/{}", segment(conduit)), body).await.map(|_| ())
}

async fn pin(conduit: &str, path: String, pinned: bool, context: &Context) -> Result<(), Problem> {
    let route = format!("/conduits/{}/pins", segment(conduit));
    context.client.post(&route, &PinSet { path, pinned }).await?;
    context.out.talk(&format!("Next: {}", context.command(&format!("sync {conduit}"))));
    Ok(())
}

fn label(text: &str) -> Result<tidegate_protocol::id::Label, Problem> {
    tidegate_protocol::id::Label::new(text)
        .map_err(|error| Problem::new(Code::Usage, "the name cannot be used; nothing was changed", error.to_string()))
}

/// An idle conduit may have missed an edit of a moment ago, so a fresh plan is what proves it: the gate drains
/// the watchers of both ends before the resolver looks.
async fn wait(conduit: &str, context: &Context) -> Result<Exit, Problem> {
    let progress = context.out.progress();
    loop {
        let view: ConduitDocument = read(&follow::look(conduit, context).await?)?;
        if let Some(running) = &view.running {
            follow::draw(&progress, &view.name, running);
        } else if let Some(held) = &view.held {
            progress.clear();
            return Err(follow::held(&view.name, held, context));
        } else {
            match context.client.post(&format!("/conduits/{}/plan", segment(conduit)), &json!({ "items_max": 1 })).await
            {
                Ok(document) => {
                    let plan: PlanDocument = read(&document)?;
                    if plan.items.is_empty() && plan.halts.is_empty() {
                        progress.clear();
                        context.out.talk(&format!("{}: in step, nothing is left to do", view.name));
                        return Ok(Exit::Done);
                    }
                }
                // Not caught up or not reachable now is what is waited out.
                Err(problem)
                    if matches!(problem.code, Code::NotCaughtUp | Code::Unreachable | Code::AlreadyRunning) => {}
                Err(problem) => return Err(problem),
            }
        }
        tokio::time::sleep(follow::LOOK_EVERY.min(Duration::from_millis(100))).await;
    }
}

fn show(view: &ConduitDocument, stats: bool, context: &Context) {
    let row = |key: &str, value: String| vec![key.to_owned(), value];
    let cells = conduit_row(view, now());
    let limit =
        if view.bandwidth_limit == 0 { "none".to_owned() } else { format!("{}/s", bytes(view.bandwidth_limit)) };
    let limit = match &view.bandwidth_timetable {
        Some(timetable) => format!("{limit} now, by time of day {timetable}"),
        None => limit,
    };
    let sums = &view.statistics;
    let mut rows = vec![
        row("conduit", view.name.clone()),
        row("id", view.id.clone()),
        row("from", view.source.clone()),
        row("to", view.target.clone()),
        row("mode", view.mode.clone()),
        row("schedule", view.schedule.clone()),
        row("state", format!("{}, {}", cells[4], cells[5])),
        row("coordinator", if view.coordinator { "this device" } else { "the source's device" }.to_owned()),
        row("transfers", format!("{} at a time, limit {limit}", view.parallel_transfers)),
        row("on conflict", view.strategy.clone()),
        row("deleted bytes", view.delete_mode.clone()),
        row(
            "so far",
            format!(
                "{} generations, {} verified, {} copied, {} deleted, {}",
                number(sums.generations),
                number(sums.verified),
                number(sums.copied),
                number(sums.deleted),
                bytes(sums.bytes)
            ),
        ),
    ];
    for window in view.recent.iter().filter(|_| stats) {
        let days = window.hours / 24;
        let sums = format!(
            "{}, {} verified, {} failed, {} copied, {} deleted, {}, {} ({} reused)",
            count(window.runs, "generation", "generations"),
            number(window.verified),
            number(window.failed),
            number(window.copied),
            number(window.deleted),
            count(window.conflicts, "conflict", "conflicts"),
            bytes(window.bytes),
            bytes(window.reused)
        );
        rows.push(row(&format!("last {}", count(days, "day", "days")), sums));
    }
    rows.extend(view.selection.iter().flat_map(selection_rows));
    if view.conflicts > 0 {
        rows.push(row("conflicts", format!("{} wait (tidegate conflict list {})", number(view.conflicts), view.name)));
    }
    for halt in view.held.iter().flat_map(|held| &held.halts) {
        rows.push(row("held", halt.clone()));
    }
    if let Some(refused) = &view.refused {
        rows.push(row("refused", refused.why.clone()));
        let remove = |name: &str| context.command(&format!("conduit remove {name}"));
        rows.push(row("next", format!("{}, or: {}", remove(&refused.name), remove(&refused.older))));
    }
    context.out.table(&rows);
}

fn selection_rows(selection: &SelectionDocument) -> Vec<Vec<String>> {
    let size = |bound: Option<u64>| bound.map(bytes);
    let list = |all: &[String]| (!all.is_empty()).then(|| all.join(", "));
    let fetched: Vec<String> =
        selection.fetched.iter().map(|(path, until)| format!("{path} until {}", until.minute())).collect();
    [
        ("selected", list(&selection.subtrees)),
        ("include", list(&selection.include)),
        ("exclude", list(&selection.exclude)),
        ("at least", size(selection.size_bytes_min)),
        ("at most", size(selection.size_bytes_max)),
        ("modified within", selection.age_ms_max.map(plain_duration)),
        ("budget", size(selection.budget_bytes)),
        ("pinned", list(&selection.pins)),
        ("fetched", list(&fetched)),
    ]
    .into_iter()
    .filter_map(|(key, value)| Some(vec![key.to_owned(), value?]))
    .collect()
}

/// Times of day are those of this machine, where nothing else is said.
fn limit_here(text: &str) -> Result<BandwidthLimit, String> {
    parse_limit(text, crate::cli::zone::utc_offset_minutes())
}

fn now() -> Moment {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Moment(since.as_millis() as u64)
}
