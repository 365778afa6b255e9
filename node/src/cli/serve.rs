//! `serve`.

use clap::Args;

use super::{Context, load_config};
use crate::api::problem::{Exit, Problem};
use crate::serve;

/// Runs the daemon in the foreground until SIGTERM or Ctrl-C; for systemd and containers
#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    /// What other devices call this one, when its identity is created
    #[arg(long)]
    name: Option<String>,
    /// UDP address and port, for example 0.0.0.0:7421
    #[arg(long, value_name = "IP:PORT")]
    listen: Option<String>,
    /// Begins a session of its own; set by `up`
    #[arg(long, hide = true)]
    detached: bool,
}

impl ServeArgs {
    /// The flags that stand for settings: flag, key, value.
    pub(super) fn flags(&self) -> Vec<(&'static str, &'static str, String)> {
        let name = self.name.iter().map(|name| ("--name", "device.name", name.clone()));
        let listen = self.listen.iter().map(|listen| ("--listen", "network.listen", listen.clone()));
        name.chain(listen).collect()
    }
}

pub(super) fn run(args: &ServeArgs, context: &Context) -> Result<Exit, Problem> {
    if args.detached {
        // Fails only if this process leads a session already, and then it needs no other.
        let _ = rustix::process::setsid();
    }
    let config = load_config(&context.layout, &args.flags())?;
    let settings = super::config::settings(&config);
    serve::run(serve::Options {
        state: context.layout.state.clone(),
        socket: context.socket.0.clone(),
        settings: config.settings,
        shown: settings,
    })?;
    Ok(Exit::Done)
}
