//! The binary `tidegate-sim`: reads its arguments and leaves with the exit code of what came of them.

use std::process::ExitCode;

fn main() -> ExitCode {
    tidegate_sim::cli::main()
}
