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
use crate::trace::Fingerprint;

/// A corpus of so many seeds must reach every mark.
const MARKED_SEEDS_MIN: u64 = 300;

/// Arguments of `fuzz`.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Args {
    /// How long, in minutes.
    #[arg(long, required_unless_present = "seeds", conflicts_with = "seeds")]
    minutes: Option<f64>,
    /// Counts minutes and seconds of each process's CPU time instead of the clock's.
    #[arg(long)]
    cpu: bool,
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
    /// Runs each seed once more in a process of its own; the traces must be equal.
    #[arg(long)]
    twice: bool,
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
    /// CPU time of its worker until it was over, in milliseconds.
    cpu_ms: u64,
    violation: Option<String>,
    /// Where two runs of it part.
    parts: Option<String>,
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
        if spent_ms(args, watch) >= ends_ms || broken >= args.stop_after {
            break;
        }
        let plan = drawn(seed, &args.profile)?;
        let verdict = run(&plan);
        let mut line = Line {
            seed,
            device_ms: verdict.device_ms,
            cpu_ms: watch.cpu_ms(),
            violation: verdict.violation.as_ref().map(ToString::to_string),
            parts: if args.twice { parts(args, seed, &verdict.fingerprint)? } else { None },
            class: verdict.violation.as_ref().map(|violation| format!("{}/{}", violation.invariant, violation.kind)),
            plan: None,
            steps: 0,
            marks: verdict.coverage.marks().map(|(mark, count)| (mark.to_owned(), count)).collect(),
        };
        if let Some(violation) = &verdict.violation {
            broken += 1;
            let small = smaller(args, &plan, violation);
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

/// Where the run of a seed in another process parts from this one, if it does.
fn parts(args: &Args, seed: u64, mine: &Fingerprint) -> Result<Option<String>, Usage> {
    let mut command = Command::new(own_path()?);
    command.args(["run", "--fingerprint", "--profile", &args.profile, "--seed", &seed.to_string()]);
    let difference = mine.difference(&super::replay::fingerprint_of(&mut command)?);
    Ok(difference.map(|found| format!("two runs part between events {} and {}", found.after, found.before)))
}

/// What of a budget is used up.
fn spent_ms(args: &Args, watch: Stopwatch) -> u64 {
    if args.cpu { watch.cpu_ms() } else { watch.ms() }
}

fn smaller(args: &Args, plan: &Plan, violation: &crate::verdict::Violation) -> Plan {
    let watch = Stopwatch::start();
    let may_go_on = || spent_ms(args, watch) < args.shrink * 1_000;
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
    command.arg("--out").arg(&args.out).args(args.cpu.then_some("--cpu")).args(args.twice.then_some("--twice"));
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
    let parting: Vec<(u64, &str)> = found.iter().filter_map(|line| Some((line.seed, line.parts.as_deref()?))).collect();
    let missing = if found.len() as u64 >= MARKED_SEEDS_MIN { coverage.missing(EXPECTED) } else { Vec::new() };
    let hours = found.iter().map(|line| line.device_ms).sum::<u64>() as f64 / 3_600_000.0;
    if args.json {
        let document = serde_json::json!({
            "v": 1, "type": "fuzz", "profile": args.profile, "seeds": found.len(), "device_hours": hours,
            "violations": broken.iter().map(|line| serde_json::json!({
                "seed": line.seed, "violation": line.violation, "class": line.class, "plan": line.plan,
                "steps": line.steps, "cpu_ms": line.cpu_ms,
            })).collect::<Vec<_>>(),
            "marks": coverage.marks().collect::<std::collections::BTreeMap<_, _>>(), "marks_missing": missing, "died": died,
            "parting": parting.iter().map(|(seed, parts)| format!("seed {seed}: {parts}")).collect::<Vec<_>>(),
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
        for (seed, parts) in &parting {
            println!("NONDETERMINISM seed {seed}: {parts}");
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
        let wrong = |line: &Line| line.violation.clone().or_else(|| line.parts.clone());
        let case = |line: &Line| (format!("{} seed {}", args.profile, line.seed), wrong(line));
        let cases: Vec<_> =
            found.iter().map(case).chain(died.iter().map(|why| ("worker".to_owned(), Some(why.clone())))).collect();
        if let Err(usage) = write(path, &crate::report::junit("tidegate-sim fuzz", &cases)) {
            eprintln!("error: {usage}");
        }
    }
    if !parting.is_empty() {
        return Outcome::Nondeterminism;
    }
    if broken.is_empty() && died.is_empty() && missing.is_empty() { Outcome::Fine } else { Outcome::Violation }
}

#[expect(clippy::disallowed_methods, reason = "a worker's results are a file that nobody needs afterwards")]
fn remove(path: &Path) {
    // It is no loss if it stays.
    let _ = std::fs::remove_file(path);
}
