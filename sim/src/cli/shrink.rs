//! `shrink`: makes a plan that breaks a promise small.

use std::path::PathBuf;

use super::{Outcome, Stopwatch, Usage, plan, tell, write};
use crate::plan::Millis;
use crate::run::run;

/// Arguments of `shrink`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The plan.
    plan: PathBuf,
    /// How long to try.
    #[arg(long, default_value = "60s")]
    budget: Millis,
    /// Where the small plan goes; beside the plan, as `….small.toml`, if not said.
    #[arg(long)]
    out: Option<PathBuf>,
}

pub(super) fn main(args: &Args) -> Result<Outcome, Usage> {
    let before = plan(&args.plan)?;
    let Some(violation) = run(&before).violation else {
        println!("this plan breaks nothing");
        return Ok(Outcome::Fine);
    };
    let watch = Stopwatch::start();
    let may_go_on = || watch.ms() < args.budget.0;
    let mut shrunk = crate::shrink::shrink(&before, &violation, may_go_on, |plan| run(plan).violation);
    shrunk.plan.story = shrunk.violation.to_string();
    let out = args.out.clone().unwrap_or_else(|| args.plan.with_extension("small.toml"));
    write(&out, &shrunk.plan.to_string())?;
    println!("{} steps became {}, in {} tries", before.steps.len(), shrunk.plan.steps.len(), shrunk.tries);
    let verdict = run(&shrunk.plan);
    println!("{}", shrunk.plan);
    Ok(tell(&shrunk.plan, &verdict, &format!("tidegate-sim replay {}", out.display())))
}
