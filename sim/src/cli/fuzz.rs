//! `fuzz`: many seeds, in as many processes as asked for; what breaks a promise is kept and shrunk.
//!
//! Each worker is a process of its own that takes every n-th seed and writes a line of JSON for each, so that a run
//! that takes the process down takes nothing else with it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use serde::{Deserialize, Serialize};

use super::{Outcome, Seeds, Stopwatch, Usage, drawn, own_path, profile, text, write};
use crate::coverage::{Coverage, EXPECTED};
use crate::plan::Plan;
use crate::run::run;

/// A corpus of so many seeds must reach every mark.
const MARKED_SEEDS_MIN: u64 = 300;

/// Arguments of `fuzz`.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Args {
    /// How long, in minutes.
    #[arg(long, required_unless_present = "seeds", conflicts_with = "seeds")]
    minutes: Option<f64>,
    /// Which seeds: `0..5000`.
    #[arg(long)]
    seeds: Option<Seeds>,
    /// The first seed, with `--minutes`.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Processes.
    #[arg(long, default_value_t = 1)]
    jobs: u64,
    /// A profile by its name, or the path of a profile's file.
    #[arg(long, default_value = "standard")]
    profile: String,
    /// Where plans that break a promise go.
    #[arg(long, default_value = "failures")]
    out: PathBuf,
    /// Violations after which a worker ends.
    #[arg(long, default_value_t = 3)]
    stop_after: u64,
    /// Time for shrinking each, in seconds; 0 for none.
    #[arg(long, default_value_t = 30)]
    shrink: u64,
    /// Prints one document of JSON instead of text.
    #[arg(long)]
    json: bool,
    /// Writes JUnit XML.
    #[arg(long)]
    junit: Option<PathBuf>,
    /// Which worker this is.
    #[arg(long, hide = true)]
    worker: Option<u64>,
}

/// What a worker writes for a seed.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    seed: u64,
    device_ms: u64,
    violation: Option<String>,
    class: Option<String>,
    plan: Option<String>,
    steps: usize,
    marks: Vec<(String, u64)>,
}

pub(super) fn main(args: &Args) -> Result<Outcome, Usage> {
    profile(&args.profile)?;
    match args.worker {
        Some(worker) => work(args, worker),
        None => lead(args),
    }
}

fn results(args: &Args, worker: u64) -> PathBuf {
    args.out.join(format!("worker-{worker}.jsonl"))
}

fn work(args: &Args, worker: u64) -> Result<Outcome, Usage> {
    let watch = Stopwatch::start();
    let (begin, end) = args.seeds.as_ref().map_or((args.from, u64::MAX), |seeds| (seeds.begin, seeds.end));
    let ends_ms = args.minutes.map_or(u64::MAX, |minutes| (minutes * 60_000.0) as u64);
    let (mut lines, mut broken) = (String::new(), 0);
    for seed in (begin + worker..end).step_by(args.jobs.max(1) as usize) {
        if watch.ms() >= ends_ms || broken >= args.stop_after {
            break;
        }
        let plan = drawn(seed, &args.profile)?;
        let verdict = run(&plan);
        let mut line = Line {
            seed,
            device_ms: verdict.device_ms,
            violation: verdict.violation.as_ref().map(ToString::to_string),
            class: verdict.violation.as_ref().map(|violation| format!("{}/{}", violation.invariant, violation.kind)),
            plan: None,
            steps: 0,
            marks: verdict.coverage.marks().map(|(mark, count)| (mark.to_owned(), count)).collect(),
        };
        if let Some(violation) = &verdict.violation {
            broken += 1;
            let small = smaller(&plan, violation, args.shrink);
            let path = args.out.join(format!("{}-{seed}.toml", args.profile));
            line.steps = small.steps.len();
            line.plan = Some(path.display().to_string());
            write(&path, &small.to_string())?;
        }
        lines.push_str(&serde_json::to_string(&line).expect("a line is plain data"));
        lines.push('\n');
        // Written whole each time: what is there is never half a line.
        write(&results(args, worker), &lines)?;
    }
    write(&results(args, worker), &lines)?;
    Ok(Outcome::Fine)
}

fn smaller(plan: &Plan, violation: &crate::verdict::Violation, budget_s: u64) -> Plan {
    let watch = Stopwatch::start();
    let may_go_on = || watch.ms() < budget_s * 1_000;
    let mut shrunk = crate::shrink::shrink(plan, violation, may_go_on, |plan| run(plan).violation);
    shrunk.plan.story = shrunk.violation.to_string();
    shrunk.plan
}

fn lead(args: &Args) -> Result<Outcome, Usage> {
    let watch = Stopwatch::start();
    let workers: Vec<(u64, Child)> =
        (0..args.jobs.max(1)).map(|worker| Ok((worker, spawn(args, worker)?))).collect::<Result<_, Usage>>()?;
    let mut found = Vec::new();
    let mut died = Vec::new();
    for (worker, mut child) in workers {
        let status = child.wait().map_err(|e| Usage(format!("a worker was lost: {e}")))?;
        let lines = text(&results(args, worker)).unwrap_or_default();
        found.extend(lines.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok()));
        if !status.success() {
            died.push(format!("worker {worker} ended by {status} after {} seeds", lines.lines().count()));
        }
        remove(&results(args, worker));
    }
    found.sort_by_key(|line| line.seed);
    Ok(tell(args, &found, &died, watch.ms()))
}

fn spawn(args: &Args, worker: u64) -> Result<Child, Usage> {
    let mut command = Command::new(own_path()?);
    command.args(["fuzz", "--profile", &args.profile, "--jobs", &args.jobs.to_string()]);
    command.args(["--worker", &worker.to_string(), "--from", &args.from.to_string()]);
    command.args(["--stop-after", &args.stop_after.to_string(), "--shrink", &args.shrink.to_string()]);
    command.arg("--out").arg(&args.out);
    match (&args.seeds, args.minutes) {
        (Some(seeds), _) => command.args(["--seeds", &format!("{}..{}", seeds.begin, seeds.end)]),
        (None, minutes) => command.args(["--minutes", &minutes.unwrap_or(1.0).to_string()]),
    };
    command.spawn().map_err(|e| Usage(format!("a worker cannot be started: {e}")))
}

fn tell(args: &Args, found: &[Line], died: &[String], ms: u64) -> Outcome {
    let mut coverage = Coverage::default();
    for line in found {
        for (mark, count) in &line.marks {
            coverage.add_to(mark, *count);
        }
    }
    let broken: Vec<&Line> = found.iter().filter(|line| line.violation.is_some()).collect();
    let missing = if found.len() as u64 >= MARKED_SEEDS_MIN { coverage.missing(EXPECTED) } else { Vec::new() };
    let hours = found.iter().map(|line| line.device_ms).sum::<u64>() as f64 / 3_600_000.0;
    if args.json {
        let document = serde_json::json!({
            "v": 1, "type": "fuzz", "profile": args.profile, "seeds": found.len(), "device_hours": hours,
            "violations": broken.iter().map(|line| serde_json::json!({
                "seed": line.seed, "violation": line.violation, "class": line.class, "plan": line.plan,
            })).collect::<Vec<_>>(),
            "marks": coverage.marks().collect::<std::collections::BTreeMap<_, _>>(), "marks_missing": missing, "died": died,
        });
        println!("{document}");
    } else {
        for line in &broken {
            println!("VIOLATION seed {}: {}", line.seed, line.violation.as_deref().unwrap_or_default());
            let repeat = format!("tidegate-sim run --seed {} --profile {}", line.seed, args.profile);
            println!(
                "  repeat: {repeat}\n  small plan, {} steps: {}",
                line.steps,
                line.plan.as_deref().unwrap_or_default()
            );
        }
        for line in died {
            println!("DIED {line}");
        }
        for mark in &missing {
            println!("NEVER REACHED {mark}");
        }
        let rate = hours / (ms.max(1) as f64 / 60_000.0);
        println!("{} seeds, {} violations, {hours:.0} device-hours, {rate:.0} a minute", found.len(), broken.len());
    }
    if let Some(path) = &args.junit {
        let case = |line: &Line| (format!("{} seed {}", args.profile, line.seed), line.violation.clone());
        let cases: Vec<_> =
            found.iter().map(case).chain(died.iter().map(|why| ("worker".to_owned(), Some(why.clone())))).collect();
        if let Err(usage) = write(path, &crate::report::junit("tidegate-sim fuzz", &cases)) {
            eprintln!("error: {usage}");
        }
    }
    if broken.is_empty() && died.is_empty() && missing.is_empty() { Outcome::Fine } else { Outcome::Violation }
}

#[expect(clippy::disallowed_methods, reason = "a worker's results are a file that nobody needs afterwards")]
fn remove(path: &Path) {
    // It is no loss if it stays.
    let _ = std::fs::remove_file(path);
}
