//! `mutants`: faults planted into a scratch copy of the code that ships; each must be found.
//!
//! A mutant is a patch file `sim/mutants/NN-name.patch`. The workspace is copied, the patch applied, the simulator built
//! there with a target directory of its own, and that simulator fuzzes until it finds a violation or its budget is used
//! up. The plan it found is run here once more, without the fault: only what is fine then was found because of it. A patch
//! that no longer applies is an error, as it no longer says anything. Faults at the seam (a disk that forgets its syncs)
//! need no patch: they are switches of the simulated disk.

mod patch;
mod scratch;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Outcome, Stopwatch, Usage, drawn, plan, text};
use crate::plan::Millis;
use crate::run::{Lies, Options, run, run_with};
use crate::verdict::Violation;
use patch::Patch;

/// What a plan that shows a fault may have of steps, once it is shrunk.
const STEPS_MAX: u64 = 20;
/// Time for shrinking one, in seconds.
const SHRINK_S: u64 = 30;

/// Faults at the seam.
const WRAPPERS: [(&str, Lies); 3] = [
    ("03-no-file-sync (switch)", Lies { file_sync: true, dir_sync: false, commits: false }),
    ("04-no-directory-sync (switch)", Lies { file_sync: false, dir_sync: true, commits: false }),
    ("10-commits-not-durable (switch)", Lies { file_sync: false, dir_sync: false, commits: true }),
];

/// Arguments of `mutants`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only mutants whose name holds this.
    #[arg(long)]
    only: Option<String>,
    /// CPU time to find each.
    #[arg(long, default_value = "60s")]
    budget: Millis,
    /// The workspace.
    #[arg(long, default_value = ".")]
    workspace: PathBuf,
    /// Where the scratch copy and its build are kept.
    #[arg(long, default_value = "target/mutants")]
    scratch: PathBuf,
    /// A profile by its name.
    #[arg(long, default_value = "dense")]
    profile: String,
    /// Only checks that every patch applies.
    #[arg(long)]
    check: bool,
}

/// What became of a mutant.
enum Fate {
    Found(Find),
    /// The same plan is red without the fault.
    RedAnyway(Find),
    Missed(u64),
    Stale(String),
    Applies,
}

/// How a mutant was found.
struct Find {
    /// `INVARIANT/kind`.
    class: String,
    seed: u64,
    cpu_ms: u64,
    steps: u64,
    says: String,
}

impl Fate {
    fn is_fine(&self) -> bool {
        match self {
            Self::Found(find) => find.steps <= STEPS_MAX,
            Self::Applies => true,
            Self::RedAnyway(_) | Self::Missed(_) | Self::Stale(_) => false,
        }
    }

    fn row(&self, name: &str) -> String {
        let found = |word: &str, find: &Find| {
            let Find { class, seed, cpu_ms, steps, says } = find;
            let cpu = format!("{:.1} s", *cpu_ms as f64 / 1_000.0);
            format!("{word:<8} {class:<30} {seed:>5} {cpu:>8} {steps:>5}  {says}")
        };
        let rest = match self {
            Self::Found(find) if find.steps > STEPS_MAX => found("LONG", find),
            Self::Found(find) => found("found", find),
            Self::RedAnyway(find) => found("ANYWAY", find),
            Self::Missed(seeds) => format!("MISSED   in {seeds} seeds"),
            Self::Stale(why) => format!("STALE    {why}"),
            Self::Applies => "applies".to_owned(),
        };
        format!("{name:<42} {rest}")
    }
}

pub(super) fn main(args: &Args) -> Result<Outcome, Usage> {
    let wanted = |name: &str| args.only.as_deref().is_none_or(|only| name.contains(only));
    let mut fates = Vec::new();
    let mut done = |name: &str, fate: Fate| {
        println!("{}", fate.row(name));
        fates.push(fate);
    };
    if !args.check {
        let columns = ["mutant", "", "found by", "seed", "CPU", "steps"];
        let [mutant, word, by, seed, cpu, steps] = columns;
        println!("{mutant:<42} {word:<8} {by:<30} {seed:>5} {cpu:>8} {steps:>5}");
        for (name, lies) in WRAPPERS.into_iter().filter(|(name, _)| wanted(name)) {
            done(name, wrapper(args, name, lies)?);
        }
    }
    for file in patches(&args.workspace)? {
        let name = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        if wanted(&name) {
            done(&name, planted(args, &name, &file)?);
        }
    }
    let good = fates.iter().filter(|fate| fate.is_fine()).count();
    println!("{good} of {} {}", fates.len(), if args.check { "apply" } else { "found" });
    Ok(if good == fates.len() { Outcome::Fine } else { Outcome::Violation })
}

#[expect(clippy::disallowed_methods, reason = "patches are files of the workspace")]
fn patches(workspace: &Path) -> Result<Vec<PathBuf>, Usage> {
    let dir = workspace.join("sim/mutants");
    let listed = std::fs::read_dir(&dir).map_err(|e| Usage(format!("{}: {e}", dir.display())))?;
    let mut found: Vec<PathBuf> = listed.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    found.retain(|path| path.extension().is_some_and(|extension| extension == "patch"));
    found.sort();
    Ok(found)
}

/// A fault at the seam, in this very process.
fn wrapper(args: &Args, name: &str, lies: Lies) -> Result<Fate, Usage> {
    let with_fault = |plan: &crate::plan::Plan| run_with(plan, Options { lies, ..Options::default() }).violation;
    let watch = Stopwatch::start();
    let mut seed = 0;
    while watch.cpu_ms() < args.budget.0 {
        let plan = drawn(seed, &args.profile)?;
        if let Some(violation) = with_fault(&plan) {
            let cpu_ms = watch.cpu_ms();
            let shrinking = Stopwatch::start();
            let may_go_on = || shrinking.cpu_ms() < SHRINK_S * 1_000;
            let shrunk = crate::shrink::shrink(&plan, &violation, may_go_on, with_fault);
            let Violation { invariant, kind, .. } = &shrunk.violation;
            let (class, steps) = (format!("{invariant}/{kind}"), shrunk.plan.steps.len() as u64);
            let says = shrunk.violation.to_string();
            super::write(&args.scratch.join("failures").join(name).with_extension("toml"), &shrunk.plan.to_string())?;
            let anyway = run(&shrunk.plan).violation.is_some();
            let find = Find { class, seed, cpu_ms, steps, says };
            return Ok(if anyway { Fate::RedAnyway(find) } else { Fate::Found(find) });
        }
        seed += 1;
    }
    Ok(Fate::Missed(seed))
}

/// A fault in the code.
fn planted(args: &Args, name: &str, file: &Path) -> Result<Fate, Usage> {
    let in_workspace = |path: &Path| text(&args.workspace.join(path)).ok();
    let changed: BTreeMap<PathBuf, String> =
        match Patch::parse(&text(file)?).and_then(|patch| patch.apply(in_workspace)) {
            Ok(changed) => changed,
            Err(stale) => return Ok(Fate::Stale(stale.to_string())),
        };
    if args.check {
        return Ok(Fate::Applies);
    }
    let copy = args.scratch.join("workspace");
    scratch::make(&args.workspace, &copy, &changed)?;
    let target = std::path::absolute(args.scratch.join("build")).map_err(|e| Usage(e.to_string()))?;
    let mut build = Command::new("cargo");
    build.args(["build", "-q", "-p", "tidegate-sim", "--offline"]).current_dir(&copy);
    // What a patch touches is built quickly; what nobody reads is left out.
    build.env("CARGO_TARGET_DIR", &target).envs([("CARGO_INCREMENTAL", "1"), ("CARGO_PROFILE_DEV_DEBUG", "0")]);
    let built = build.output().map_err(|e| Usage(format!("cargo: {e}")))?;
    if !built.status.success() {
        let says = String::from_utf8_lossy(&built.stderr);
        let first = says.lines().find(|line| line.starts_with("error")).unwrap_or("it does not build").to_owned();
        return Ok(Fate::Stale(first));
    }
    fuzzed(args, name, &target.join("debug/tidegate-sim"))
}

/// Seeds until one shows the fault. Those that are red without it prove nothing and are passed over; their time counts.
fn fuzzed(args: &Args, name: &str, simulator: &Path) -> Result<Fate, Usage> {
    let (mut from, mut spent_ms) = (0, 0);
    loop {
        match fuzzed_from(args, name, simulator, from, args.budget.0 - spent_ms)? {
            Fate::RedAnyway(find) if spent_ms + find.cpu_ms < args.budget.0 => {
                from = find.seed + 1;
                spent_ms += find.cpu_ms;
            }
            Fate::Found(find) => return Ok(Fate::Found(Find { cpu_ms: spent_ms + find.cpu_ms, ..find })),
            Fate::Missed(seeds) => return Ok(Fate::Missed(from + seeds)),
            fate @ (Fate::RedAnyway(_) | Fate::Stale(_) | Fate::Applies) => return Ok(fate),
        }
    }
}

fn fuzzed_from(args: &Args, name: &str, simulator: &Path, from: u64, budget_ms: u64) -> Result<Fate, Usage> {
    let out = args.scratch.join("failures").join(name);
    let mut command = Command::new(simulator);
    command.args(["fuzz", "--json", "--cpu", "--stop-after", "1", "--shrink", &SHRINK_S.to_string()]);
    command.args(["--profile", &args.profile, "--minutes", &(budget_ms as f64 / 60_000.0).to_string()]);
    command.args(["--from", &from.to_string()]);
    let output = command.arg("--out").arg(&out).output();
    let output = output.map_err(|e| Usage(format!("{}: {e}", simulator.display())))?;
    let wrong = || Usage("the planted simulator did not say what it came to".to_owned());
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).map_err(|_| wrong())?;
    let words = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let number = |value: &serde_json::Value| value.as_u64().unwrap_or_default();
    if let Some(first) = found["violations"].as_array().and_then(|all| all.first()) {
        let anyway = run(&plan(Path::new(&words(&first["plan"])))?).violation.is_some();
        let find = Find {
            class: words(&first["class"]),
            seed: number(&first["seed"]),
            cpu_ms: number(&first["cpu_ms"]),
            steps: number(&first["steps"]),
            says: words(&first["violation"]),
        };
        return Ok(if anyway { Fate::RedAnyway(find) } else { Fate::Found(find) });
    }
    let seeds = number(&found["seeds"]);
    if found["died"].as_array().is_some_and(|died| !died.is_empty()) {
        let says = "the simulator died".to_owned();
        return Ok(Fate::Found(Find { class: "died".to_owned(), seed: seeds, cpu_ms: 0, steps: 0, says }));
    }
    Ok(Fate::Missed(seeds))
}
