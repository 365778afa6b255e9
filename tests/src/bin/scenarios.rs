//! Judges a file of the corpus's format: `scenarios FILE` by the law and the model, with `--sim` on simulated
//! devices, with `--real` on disks. One line a row, sums at the end; exit code 1 if a row failed.

use std::env;
use std::fs;
use std::process::ExitCode;

use tidegate_tests::corpus::judge::{Ground, judge};
use tidegate_tests::corpus::real::Pair;

fn main() -> ExitCode {
    // The nodes of `--real` run this very program, so that they are always what is in the tree.
    if env::args_os().nth(1).is_some_and(|first| first == "--home") {
        return tidegate::cli::run(env::args_os());
    }
    let arguments: Vec<String> = env::args().skip(1).collect();
    let (flags, files): (Vec<String>, Vec<String>) = arguments.into_iter().partition(|word| word.starts_with("--"));
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let ([file], [] | ["--sim" | "--real"]) = (files.as_slice(), flags.as_slice()) else {
        eprintln!("usage: scenarios FILE [--sim | --real]");
        return ExitCode::from(2);
    };
    match run(file, flags.first().copied()) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{file}: {error}");
            ExitCode::from(2)
        }
    }
}

/// How many rows failed.
fn run(file: &str, flag: Option<&str>) -> Result<usize, Box<dyn std::error::Error>> {
    let text = fs::read_to_string(file)?;
    let mut pair = match flag {
        Some("--real") => Some(Pair::start(env::current_exe()?)?),
        Some(_) | None => None,
    };
    let mut ground = match (&mut pair, flag) {
        (Some(pair), _) => Ground::Real(pair),
        (None, Some(_)) => Ground::Sim,
        (None, None) => Ground::Model,
    };
    let table = judge(&text, &mut ground, |row| println!("{row}"))?;
    let (passed, failed, not_applicable) = table.sums();
    println!("{} rows: {passed} passed, {failed} failed, {not_applicable} not applicable", table.0.len());
    Ok(failed)
}
