//! The `tidegate` binary: a command line, and the daemon behind it.

use std::process::ExitCode;

fn main() -> ExitCode {
    tidegate::cli::run(std::env::args_os())
}
