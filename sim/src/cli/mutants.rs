//! `mutants`: faults planted into a scratch copy of the code that ships; each must be found.
//!
//! A mutant is a patch file `sim/mutants/NN-name.patch`. The workspace is copied, the patch applied, the simulator built
//! there with a target directory of its own, and that simulator fuzzes until it finds a violation or its budget is used
//! up. A patch that no longer applies is an error, as it no longer says anything. Faults at the seam (a disk that
//! forgets its syncs) need no patch: they are switches of the simulated disk.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Outcome, Stopwatch, Usage, drawn};
use crate::plan::Millis;
use crate::run::{Lies, Options, run_with};

/// Faults at the seam.
const WRAPPERS: [(&str, Lies); 3] = [
    ("W03-no-file-sync", Lies { file_sync: true, dir_sync: false, commits: false }),
    ("W04-no-dir-sync", Lies { file_sync: false, dir_sync: true, commits: false }),
    ("W10-commits-not-durable", Lies { file_sync: false, dir_sync: false, commits: true }),
];

/// Arguments of `mutants`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only mutants whose name holds this.
    #[arg(long)]
    only: Option<String>,
    /// Time to find each.
    #[arg(long, default_value = "60s")]
    budget: Millis,
    /// The workspace.
    #[arg(long, default_value = ".")]
    workspace: PathBuf,
    /// Where the scratch copy and its build are kept.
    #[arg(long, default_value = "target/mutants")]
    scratch: PathBuf,
    /// A profile by its name.
    #[arg(long, default_value = "standard")]
    profile: String,
    /// Only checks that every patch applies.
    #[arg(long)]
    check: bool,
}

/// What became of a mutant.
enum Fate {
    Found(String),
    Missed(String),
    Stale(String),
    Applies,
}

pub(super) fn main(args: &Args) -> Result<Outcome, Usage> {
    let wanted = |name: &str| args.only.as_deref().is_none_or(|only| name.contains(only));
    let mut fates = Vec::new();
    for (name, lies) in WRAPPERS.into_iter().filter(|(name, _)| wanted(name)) {
        if !args.check {
            fates.push((name.to_owned(), wrapper(args, lies)?));
        }
    }
    for patch in patches(&args.workspace)?.into_iter().filter(|patch| wanted(&stem(patch))) {
        let fate = planted(args, &patch)?;
        fates.push((stem(&patch), fate));
        show(fates.last());
    }
    println!("\n{:<36} what became of it", "mutant");
    for fate in &fates {
        show(Some(fate));
    }
    let fine = fates.iter().all(|(_, fate)| matches!(fate, Fate::Found(_) | Fate::Applies));
    let found = fates.iter().filter(|(_, fate)| matches!(fate, Fate::Found(_))).count();
    println!("{found} of {} found", fates.len());
    Ok(if fine { Outcome::Fine } else { Outcome::Violation })
}

fn show(fate: Option<&(String, Fate)>) {
    if let Some((name, fate)) = fate {
        let (word, says) = match fate {
            Fate::Found(says) => ("found", says.as_str()),
            Fate::Missed(says) => ("MISSED", says.as_str()),
            Fate::Stale(says) => ("STALE", says.as_str()),
            Fate::Applies => ("applies", ""),
        };
        println!("{name:<36} {word} {says}");
    }
}

fn stem(path: &Path) -> String {
    path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
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
fn wrapper(args: &Args, lies: Lies) -> Result<Fate, Usage> {
    let watch = Stopwatch::start();
    let mut seed = 0;
    while watch.ms() < args.budget.0 {
        let plan = drawn(seed, &args.profile)?;
        let verdict = run_with(&plan, Options { lies, ..Options::default() });
        if let Some(violation) = verdict.violation {
            return Ok(Fate::Found(format!("at seed {seed} in {}: {violation}", Millis(watch.ms()))));
        }
        seed += 1;
    }
    Ok(Fate::Missed(format!("{seed} seeds in {}", args.budget)))
}

/// A fault in the code.
fn planted(args: &Args, patch: &Path) -> Result<Fate, Usage> {
    let copy = args.scratch.join("workspace");
    run(Command::new("mkdir").arg("-p").arg(&copy))?;
    let source = format!("{}/", args.workspace.display());
    // Times are kept, so that only what a patch touches is built again.
    let excluded = ["--exclude=/target", "--exclude=.git", "--exclude=/failures"];
    run(Command::new("rsync").args(["-a", "--checksum", "--delete"]).args(excluded).arg(&source).arg(&copy))?;
    let absolute = std::path::absolute(patch).map_err(|e| Usage(e.to_string()))?;
    let applied =
        Command::new("patch").args(["-p1", "--forward", "--silent", "-i"]).arg(&absolute).current_dir(&copy).output();
    let applied = applied.map_err(|e| Usage(format!("patch: {e}")))?;
    if !applied.status.success() {
        return Ok(Fate::Stale(String::from_utf8_lossy(&applied.stdout).lines().next().unwrap_or_default().to_owned()));
    }
    if args.check {
        return Ok(Fate::Applies);
    }
    let target = std::path::absolute(args.scratch.join("build")).map_err(|e| Usage(e.to_string()))?;
    let mut build = Command::new("cargo");
    build.args(["build", "-q", "-p", "tidegate-sim", "--offline"]).current_dir(&copy).env("CARGO_TARGET_DIR", &target);
    let built = build.output().map_err(|e| Usage(format!("cargo: {e}")))?;
    if !built.status.success() {
        let says = String::from_utf8_lossy(&built.stderr);
        let first = says.lines().find(|line| line.starts_with("error")).unwrap_or("it does not build").to_owned();
        return Ok(Fate::Stale(first));
    }
    fuzzed(args, &target.join("debug/tidegate-sim"))
}

fn fuzzed(args: &Args, simulator: &Path) -> Result<Fate, Usage> {
    let out = args.scratch.join("failures");
    let mut command = Command::new(simulator);
    command.args(["fuzz", "--json", "--stop-after", "1", "--shrink", "10", "--profile", &args.profile]);
    command.args(["--minutes", &(args.budget.0 as f64 / 60_000.0).to_string()]).arg("--out").arg(&out);
    let output = command.output().map_err(|e| Usage(format!("{}: {e}", simulator.display())))?;
    let wrong = || Usage("the planted simulator did not say what it came to".to_owned());
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).map_err(|_| wrong())?;
    let seeds = &found["seeds"];
    match found["violations"].as_array().and_then(|all| all.first()) {
        Some(first) => {
            Ok(Fate::Found(format!("at seed {}: {}", first["seed"], first["violation"].as_str().unwrap_or_default())))
        }
        None if found["died"].as_array().is_some_and(|died| !died.is_empty()) => {
            Ok(Fate::Found("the simulator died".to_owned()))
        }
        None => Ok(Fate::Missed(format!("{seeds} seeds"))),
    }
}

fn run(command: &mut Command) -> Result<(), Usage> {
    let output = command.output().map_err(|e| Usage(format!("{command:?}: {e}")))?;
    if output.status.success() { Ok(()) } else { Err(Usage(String::from_utf8_lossy(&output.stderr).into_owned())) }
}
