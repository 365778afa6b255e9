//! `conduit`.

use std::time::Duration;

use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::json;

use super::status::conduit_row;
use super::{Context, follow, read, read_list};
use crate::api::body::{ConduitNew, ConduitSet};
use crate::api::client::segment;
use crate::api::document::{ConduitDocument, PlanDocument};
use crate::api::problem::{Code, Exit, Problem};
use crate::format::{Moment, bytes, number, parse_bytes};

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
        /// What "in step" means: mirror
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
    /// Bytes per second, for example "10 MB"; 0 is no limit
    #[arg(long, value_parser = parse_bytes, value_name = "BYTES")]
    limit: Option<u64>,
    /// create-conflict-file, newest-wins, source-wins, target-wins, largest-wins or prompt
    #[arg(long, value_name = "STRATEGY")]
    on_conflict: Option<String>,
    /// What happens to replaced and deleted bytes: trash or permanent
    #[arg(long, value_name = "MODE")]
    delete_mode: Option<String>,
}

impl SettingArgs {
    fn body(self) -> ConduitSet {
        ConduitSet {
            schedule: self.schedule,
            parallel_transfers: self.parallel,
            bandwidth_limit: self.limit,
            strategy: self.on_conflict,
            delete_mode: self.delete_mode,
            ..ConduitSet::default()
        }
    }
}

pub(super) async fn run(args: ConduitArgs, context: &Context) -> Result<Exit, Problem> {
    let (client, out) = (&context.client, &context.out);
    match args.what {
        What::Create { name, source, target, mode, settings } => {
            let label = label(&name)?;
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
        What::Show { conduit } => {
            let document = follow::look(&conduit, context).await?;
            if out.json() { out.document(&document) } else { show(&read(&document)?, context) }
        }
        What::Set { conduit, name, enabled, settings } => {
            let name = name.as_deref().map(label).transpose()?;
            set(&conduit, &ConduitSet { name, enabled, ..settings.body() }, context).await?;
        }
        What::Pause { conduit } => {
            set(&conduit, &ConduitSet { paused: Some(true), ..ConduitSet::default() }, context).await?;
        }
        What::Resume { conduit } => {
            set(&conduit, &ConduitSet { paused: Some(false), ..ConduitSet::default() }, context).await?;
        }
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

fn show(view: &ConduitDocument, context: &Context) {
    let row = |key: &str, value: String| vec![key.to_owned(), value];
    let cells = conduit_row(view, now());
    let limit =
        if view.bandwidth_limit == 0 { "none".to_owned() } else { format!("{}/s", bytes(view.bandwidth_limit)) };
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
    for halt in view.held.iter().flat_map(|held| &held.halts) {
        rows.push(row("held", halt.clone()));
    }
    context.out.table(&rows);
}

fn now() -> Moment {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Moment(since.as_millis() as u64)
}
