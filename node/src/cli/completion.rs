//! `completion`.

use clap::{Args, ValueEnum};
use clap_complete::{Shell, generate};

use super::{Context, tree};
use crate::api::problem::{Exit, Problem};

/// Prints a completion script for a shell
#[derive(Debug, Args)]
pub(super) struct CompletionArgs {
    /// Which shell
    shell: For,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum For {
    /// source <(tidegate completion bash)
    Bash,
    /// tidegate completion zsh > "${fpath[1]}/_tidegate"
    Zsh,
    /// tidegate completion fish > ~/.config/fish/completions/tidegate.fish
    Fish,
}

#[allow(clippy::unnecessary_wraps, reason = "verbs have one shape")]
pub(super) fn run(args: &CompletionArgs, context: &Context) -> Result<Exit, Problem> {
    let shell = match args.shell {
        For::Bash => Shell::Bash,
        For::Zsh => Shell::Zsh,
        For::Fish => Shell::Fish,
    };
    let mut script = Vec::new();
    generate(shell, &mut tree(), "tidegate", &mut script);
    context.out.text(&String::from_utf8_lossy(&script));
    Ok(Exit::Done)
}
