//! `run`: draws the plan of one seed and runs it.

use std::path::PathBuf;

use super::{Outcome, Usage, drawn, summary, tell, write};
use crate::plan::Millis;
use crate::run::{Options, run_with};

/// Arguments of `run`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The seed.
    #[arg(long)]
    seed: u64,
    /// A profile by its name, or the path of a profile's file.
    #[arg(long, default_value = "standard")]
    profile: String,
    /// Writes every event to a file.
    #[arg(long)]
    trace: Option<PathBuf>,
    /// Stops at that time, before anything is healed.
    #[arg(long)]
    until: Option<Millis>,
    /// Only writes the plan, to standard output.
    #[arg(long)]
    plan: bool,
    /// Prints what each device did.
    #[arg(long)]
    timeline: bool,
    /// Prints the hashes of the trace and nothing else.
    #[arg(long, hide = true)]
    fingerprint: bool,
}

pub(super) fn main(args: &Args) -> Result<Outcome, Usage> {
    let plan = drawn(args.seed, &args.profile)?;
    if args.plan {
        println!("{plan}");
        return Ok(Outcome::Fine);
    }
    let trace = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
    let lines = args.trace.as_ref().map(|_| {
        let trace = std::sync::Arc::clone(&trace);
        Box::new(move |line: &str| {
            let mut trace = crate::executor::lock(&trace);
            trace.push_str(line);
            trace.push('\n');
        }) as crate::trace::Lines
    });
    let verdict = run_with(&plan, Options { lines, until: args.until, ..Options::default() });
    if args.fingerprint {
        super::replay::print_fingerprint(&verdict.fingerprint);
        return Ok(Outcome::Fine);
    }
    if let Some(path) = &args.trace {
        write(path, &crate::executor::lock(&trace))?;
    }
    if args.timeline {
        println!("{}", crate::report::timeline(&plan, &verdict.timeline));
    }
    let repeat = format!("tidegate-sim run --seed {} --profile {}", args.seed, args.profile);
    match tell(&plan, &verdict, &repeat) {
        Outcome::Fine => {
            println!("{}", summary(&verdict));
            Ok(Outcome::Fine)
        }
        other => Ok(other),
    }
}
