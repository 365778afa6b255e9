//! `trash`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::{Context, read};
use crate::api::body::{TrashBody, TrashPath};
use crate::api::document::{TrashDocument, TrashedDocument};
use crate::api::problem::{Code, Exit, Problem};
use crate::format::{bytes, count, number, parse_duration};

/// What purging does and does not do. Said each time, because people expect more of it.
const HONEST: &str = "The space is free. The bytes may stay readable on SSDs, copy-on-write file systems and snapshots; this is no secure erase.";

/// Shows, restores and purges what runs replaced and removed on this device
#[derive(Debug, Args)]
pub(super) struct TrashArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Lists what is in the trash
    List {
        #[command(flatten)]
        select: SelectArgs,
    },
    /// Puts things back to where they stood; what stands there now stays, and the restored one gets a name that says so
    Restore {
        #[command(flatten)]
        select: SelectArgs,
        /// Restores everything that is selected, without naming paths
        #[arg(long)]
        all: bool,
        /// Only says what would be done
        #[arg(short = 'n', long)]
        dry_run: bool,
    },
    /// Removes things for good; an only copy younger than a day stays
    Purge {
        #[command(flatten)]
        select: SelectArgs,
        /// Purges everything that is selected, without naming paths
        #[arg(long)]
        all: bool,
        /// Only says what would be done
        #[arg(short = 'n', long)]
        dry_run: bool,
    },
}

#[derive(Debug, Args)]
struct SelectArgs {
    /// What this conduit put there
    conduit: Option<String>,
    /// These paths as the list shows them, and what is below them
    paths: Vec<OsString>,
    /// What this generation put there
    #[arg(long = "gen", value_name = "N")]
    generation: Option<u64>,
    /// Only in this LOCATION
    #[arg(long)]
    location: Option<String>,
    /// What is there for longer, for example 7d
    #[arg(long, value_parser = parse_duration, value_name = "TIME")]
    older_than: Option<u64>,
}

impl SelectArgs {
    fn body(&self, dry_run: bool) -> TrashBody {
        TrashBody {
            conduit: self.conduit.clone(),
            generation: self.generation,
            location: self.location.clone(),
            older_than_ms: self.older_than,
            paths: self.paths.iter().map(|path| TrashPath::from_bytes(path.as_bytes())).collect(),
            dry_run,
        }
    }

    /// Everything at once has to be meant.
    fn is_meant(&self, all: bool) -> Result<(), Problem> {
        if all || !self.paths.is_empty() {
            return Ok(());
        }
        let why = "no path is named, and --all is not given";
        Err(Problem::new(Code::Usage, "nothing was changed", why).next("tidegate trash list").next("--all"))
    }
}

pub(super) async fn run(args: TrashArgs, context: &Context) -> Result<Exit, Problem> {
    match args.what {
        What::List { select } => {
            let document = context.client.post("/trash", &select.body(false)).await?;
            if context.out.json() {
                context.out.document(&document);
                return Ok(Exit::Done);
            }
            list(&read(&document)?, context);
            Ok(Exit::Done)
        }
        What::Restore { select, all, dry_run } => {
            select.is_meant(all)?;
            let document = context.client.post("/trash/restore", &select.body(dry_run)).await?;
            report(&document, context, if dry_run { "Nothing was changed." } else { "" })
        }
        What::Purge { select, all, dry_run } => {
            select.is_meant(all)?;
            if !dry_run {
                context.confirm("Purging cannot be taken back. Go on?")?;
            }
            let document = context.client.post("/trash/purge", &select.body(dry_run)).await?;
            report(&document, context, if dry_run { "Nothing was changed." } else { HONEST })
        }
    }
}

fn list(trash: &TrashDocument, context: &Context) {
    let row = |thing: &TrashedDocument| {
        let of = format!("{} gen {}", thing.conduit, thing.generation);
        vec![thing.trashed.minute(), of, bytes(thing.bytes), thing.location.clone(), thing.path.path.clone()]
    };
    context.out.table(&trash.things.iter().map(row).collect::<Vec<_>>());
    if trash.count > trash.things.len() as u64 {
        context.out.talk(&format!("  ... {} things in all", number(trash.count)));
    }
    context.out.talk(&format!("{}, {} on this device", count(trash.count, "thing", "things"), bytes(trash.bytes)));
    unseen(trash, context);
}

fn unseen(trash: &TrashDocument, context: &Context) {
    for location in &trash.unseen {
        context.out.talk(&format!("  the trash of {} was not looked at: {}", location.location, location.why));
    }
}

/// Says what became of each thing; exit 3 if something stayed, and a refusal if all of it did.
fn report(document: &Value, context: &Context, end: &str) -> Result<Exit, Problem> {
    let trash: TrashDocument = read(document)?;
    let exit = if trash.kept > 0 { Exit::Partial } else { Exit::Done };
    if trash.kept == trash.count {
        let mut reasons: Vec<String> = trash.things.iter().filter_map(|thing| thing.outcome.clone()).collect();
        reasons.sort();
        reasons.dedup();
        let refused = Problem::new(Code::Refused, "nothing in the trash was changed", reasons.join("; "));
        return Err(refused.next(context.command("trash list")));
    }
    if context.out.json() {
        let mut document = document.clone();
        document["exit"] = (exit as u8).into();
        context.out.document(&document);
        return Ok(exit);
    }
    for thing in &trash.things {
        let outcome = thing.outcome.as_deref().unwrap_or_default();
        context.out.line(&format!("{} gen {}  {}  {outcome}", thing.conduit, thing.generation, thing.path.path));
    }
    unseen(&trash, context);
    if !end.is_empty() {
        context.out.talk(end);
    }
    Ok(exit)
}
