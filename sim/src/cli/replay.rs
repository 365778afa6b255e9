//! `replay`: runs a plan again, if asked twice in two processes, whose traces must be equal.

use std::path::PathBuf;
use std::process::Command;

use super::{Outcome, Usage, own_path, plan, summary, tell};
use crate::plan::Millis;
use crate::run::{Options, run, run_with};
use crate::trace::Fingerprint;

/// Arguments of `replay`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The plan.
    plan: PathBuf,
    /// Runs it once more in another process and compares the traces.
    #[arg(long)]
    twice: bool,
    /// Prints what each device did.
    #[arg(long)]
    timeline: bool,
    /// Stops at that time, before anything is healed.
    #[arg(long)]
    until: Option<Millis>,
    /// Prints the hashes of the trace and nothing else.
    #[arg(long, hide = true)]
    fingerprint: bool,
}

pub(super) fn main(args: &Args) -> Result<Outcome, Usage> {
    let plan = plan(&args.plan)?;
    let verdict = match args.until {
        Some(_) => run_with(&plan, Options { until: args.until, ..Options::default() }),
        None => run(&plan),
    };
    let mine = &verdict.fingerprint;
    if args.fingerprint {
        print_fingerprint(mine);
        return Ok(Outcome::Fine);
    }
    if args.timeline {
        println!("{}", crate::report::timeline(&plan, &verdict.timeline));
    }
    if args.twice {
        let other = elsewhere(args)?;
        if let Some(difference) = mine.difference(&other) {
            println!(
                "NONDETERMINISM: two runs of this plan part between events {} and {}",
                difference.after, difference.before
            );
            return Ok(Outcome::Nondeterminism);
        }
    }
    match tell(&plan, &verdict, &format!("tidegate-sim replay {}", args.plan.display())) {
        Outcome::Fine => {
            println!("{}{}", summary(&verdict), if args.twice { ", the same in two processes" } else { "" });
            Ok(Outcome::Fine)
        }
        other => Ok(other),
    }
}

/// The fingerprint of the same plan in a process of its own.
fn elsewhere(args: &Args) -> Result<Fingerprint, Usage> {
    let mut command = Command::new(own_path()?);
    command.arg("replay").arg(&args.plan).arg("--fingerprint");
    if let Some(until) = args.until {
        command.arg("--until").arg(until.clock().to_string());
    }
    fingerprint_of(&mut command)
}

/// Tells another process what a run here came to.
pub(super) fn print_fingerprint(mine: &Fingerprint) {
    println!("{}", serde_json::json!({ "hash": mine.hash, "events": mine.events, "checkpoints": mine.checkpoints }));
}

/// What a process that prints a fingerprint came to.
pub(super) fn fingerprint_of(command: &mut Command) -> Result<Fingerprint, Usage> {
    let output = command.output().map_err(|e| Usage(format!("a second process cannot be started: {e}")))?;
    let wrong = || Usage("the second process did not say what it came to".to_owned());
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).map_err(|_| wrong())?;
    let checkpoints = value["checkpoints"].as_array().ok_or_else(wrong)?;
    Ok(Fingerprint {
        hash: value["hash"].as_u64().ok_or_else(wrong)?,
        events: value["events"].as_u64().ok_or_else(wrong)?,
        checkpoints: checkpoints.iter().filter_map(serde_json::Value::as_u64).collect(),
    })
}
