//! `scenario`: runs written stories, for people's own CI.

use std::path::PathBuf;

use super::{Outcome, Usage, plan, tell, write};
use crate::run::run;

/// Arguments of `scenario`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The stories.
    #[arg(required = true)]
    stories: Vec<PathBuf>,
    /// Prints one document of JSON instead of text.
    #[arg(long)]
    json: bool,
    /// Writes JUnit XML.
    #[arg(long)]
    junit: Option<PathBuf>,
    /// Other seeds for what a story leaves to chance: each story is run so many times.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
}

pub(super) fn main(args: &Args) -> Result<Outcome, Usage> {
    let (mut cases, mut documents, mut came) = (Vec::new(), Vec::new(), Outcome::Fine);
    for path in &args.stories {
        let story = plan(path)?;
        for seed in story.seed..story.seed + args.seeds.max(1) {
            let mut plan = story.clone();
            plan.seed = seed;
            let verdict = run(&plan);
            let name =
                if args.seeds > 1 { format!("{} seed {seed}", path.display()) } else { path.display().to_string() };
            let why = verdict.violation.as_ref().map(ToString::to_string);
            if args.json {
                documents.push(serde_json::json!({ "story": name, "violation": verdict.violation, "simulated_ms": verdict.simulated_ms }));
            } else if why.is_some() {
                tell(&plan, &verdict, &format!("tidegate-sim scenario {}", path.display()));
            } else {
                println!("ok {name}");
            }
            if why.is_some() {
                came = Outcome::Violation;
            }
            cases.push((name, why));
        }
    }
    if args.json {
        println!("{}", serde_json::json!({ "v": 1, "type": "scenarios", "stories": documents }));
    }
    if let Some(path) = &args.junit {
        write(path, &crate::report::junit("tidegate-sim scenario", &cases))?;
    }
    Ok(came)
}
