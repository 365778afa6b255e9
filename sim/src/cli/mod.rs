//! The command line. Files and real time are touched here and nowhere else in the simulator.
//!
//! Exit codes: 0 fine, 1 a violation, 2 usage, 3 two runs of one plan differ.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this is what a command line is for")]

mod bench;
mod fuzz;
mod mutants;
mod replay;
mod run;
mod scenario;
mod shrink;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::plan::generate::generate;
use crate::plan::profile::Profile;
use crate::plan::{Millis, Plan};
use crate::verdict::Verdict;

/// Runs many simulated Tidegate devices, and looks for anything that breaks a promise.
#[derive(Debug, Parser)]
#[command(name = "tidegate-sim", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Draws the plan of one seed and runs it.
    Run(run::Args),
    /// Runs many seeds; keeps the plan of each that breaks a promise, shrunk.
    Fuzz(fuzz::Args),
    /// Runs a plan again.
    Replay(replay::Args),
    /// Makes a plan that breaks a promise small.
    Shrink(shrink::Args),
    /// Runs written stories, for CI.
    Scenario(scenario::Args),
    /// Plants faults into a scratch copy of the code; each must be found.
    Mutants(mutants::Args),
    /// Measures device-hours per CPU-minute, by profile.
    Bench(bench::Args),
}

/// What a command came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Fine,
    Violation,
    Nondeterminism,
}

/// Why a command could not be carried out; told to the person, exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Usage(String);

/// Carries out what the arguments say.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let came = match cli.command {
        Command::Run(args) => run::main(&args),
        Command::Fuzz(args) => fuzz::main(&args),
        Command::Replay(args) => replay::main(&args),
        Command::Shrink(args) => shrink::main(&args),
        Command::Scenario(args) => scenario::main(&args),
        Command::Mutants(args) => mutants::main(&args),
        Command::Bench(args) => bench::main(&args),
    };
    match came {
        Ok(Outcome::Fine) => ExitCode::SUCCESS,
        Ok(Outcome::Violation) => ExitCode::from(1),
        Ok(Outcome::Nondeterminism) => ExitCode::from(3),
        Err(usage) => {
            eprintln!("error: {usage}");
            ExitCode::from(2)
        }
    }
}

/// A profile by its name, or by the path of its file.
fn profile(name: &str) -> Result<Profile, Usage> {
    let read = if Path::new(name).extension().is_some() {
        Profile::parse(&text(Path::new(name))?)
    } else {
        Profile::named(name)
    };
    read.map_err(|e| Usage(e.to_string()))
}

/// The plan of a seed.
fn drawn(seed: u64, name: &str) -> Result<Plan, Usage> {
    Ok(generate(seed, name, &profile(name)?))
}

/// The plan in a file.
fn plan(path: &Path) -> Result<Plan, Usage> {
    crate::story::read(&text(path)?).map_err(|e| Usage(format!("{}: {e}", path.display())))
}

#[expect(clippy::disallowed_methods, reason = "plans are files; runs touch none")]
fn text(path: &Path) -> Result<String, Usage> {
    std::fs::read_to_string(path).map_err(|e| Usage(format!("{}: {e}", path.display())))
}

#[expect(clippy::disallowed_methods, reason = "plans are files; runs touch none")]
fn write(path: &Path, text: &str) -> Result<(), Usage> {
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        std::fs::create_dir_all(parent).map_err(|e| Usage(format!("{}: {e}", parent.display())))?;
    }
    std::fs::write(path, text).map_err(|e| Usage(format!("{}: {e}", path.display())))
}

/// Real time, for budgets and measurements of the command line.
#[derive(Debug, Clone, Copy)]
struct Stopwatch {
    began: std::time::Instant,
    cpu_began_ms: Option<u64>,
}

impl Stopwatch {
    #[expect(clippy::disallowed_methods, reason = "budgets are real time; runs see none of it")]
    fn start() -> Self {
        Self { began: std::time::Instant::now(), cpu_began_ms: cpu_ms() }
    }

    fn ms(self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    /// CPU time of this process since then, which other programs on the machine do not change; where the system does not
    /// tell, real time.
    fn cpu_ms(self) -> u64 {
        let spent = self.cpu_began_ms.zip(cpu_ms()).map(|(began, now)| now.saturating_sub(began));
        spent.unwrap_or_else(|| self.ms())
    }
}

/// CPU time of this process so far, its own and the kernel's for it, as Linux tells in hundredths of a second.
#[expect(clippy::disallowed_methods, reason = "budgets are real; runs see none of it")]
fn cpu_ms() -> Option<u64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The program's name comes second, in brackets, and may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let (user, system) = (fields.next()?.parse::<u64>().ok()?, fields.next()?.parse::<u64>().ok()?);
    Some((user + system) * 10)
}

/// Seeds `a..b`, or one seed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seeds {
    begin: u64,
    end: u64,
}

impl std::str::FromStr for Seeds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse::<u64>().map_err(|_| format!("`{text}` is no seed: write 0..5000 or 17"));
        match text.split_once("..") {
            Some((begin, end)) => Ok(Self { begin: number(begin)?, end: number(end)? }),
            None => number(text).map(|seed| Self { begin: seed, end: seed + 1 }),
        }
    }
}

/// Prints a violation with everything that helps, and where its plan is.
fn tell(plan: &Plan, verdict: &Verdict, repeat: &str) -> Outcome {
    match &verdict.violation {
        None => Outcome::Fine,
        Some(violation) => {
            println!("{}", crate::report::violation(plan, verdict, violation, repeat));
            Outcome::Violation
        }
    }
}

/// One line that says what a run that was fine came to.
fn summary(verdict: &Verdict) -> String {
    format!(
        "fine: {} simulated, {} events, trace {:016x}",
        Millis(verdict.simulated_ms),
        verdict.fingerprint.events,
        verdict.fingerprint.hash
    )
}

/// This very program.
fn own_path() -> Result<PathBuf, Usage> {
    std::env::current_exe().map_err(|e| Usage(format!("this program cannot be found: {e}")))
}
