//! The very command line of `tidegate`, built beside the tests so that they always run what is in the tree.

use std::process::ExitCode;

fn main() -> ExitCode {
    tidegate::cli::run(std::env::args_os())
}
