//! `up`.

use std::fs::OpenOptions;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::Value;

use super::serve::ServeArgs;
use super::{Context, load_config, read};
use crate::api::document::DaemonDocument;
use crate::api::problem::{Code, Exit, Problem};
use crate::state;

/// Starts the daemon in the background and returns once it serves
#[derive(Debug, Args)]
pub(super) struct UpArgs {
    #[command(flatten)]
    serve: ServeArgs,
    /// Stays in the foreground, as `serve` does
    #[arg(long)]
    foreground: bool,
}

impl UpArgs {
    pub(super) const fn foreground(&self) -> bool {
        self.foreground
    }

    pub(super) fn serve(self) -> ServeArgs {
        self.serve
    }
}

/// Time between two looks at a daemon that starts.
const LOOK_EVERY: Duration = Duration::from_millis(30);
/// How long a start may take: a replica of a million entries that crashed needs a few seconds.
const START_MAX: Duration = Duration::from_mins(1);
/// How much of the log is looked at for the reason of a failed start, in bytes.
const LOG_TAIL_BYTES: u64 = 64 << 10;

pub(super) async fn run(args: UpArgs, context: &Context) -> Result<Exit, Problem> {
    if let Ok(document) = context.client.get("/daemon").await {
        return running(&document, context);
    }
    // What is wrong with the configuration is said here, not in a log.
    load_config(&context.layout, &args.serve.flags())?;
    state::make_directory(&context.layout.state)?;
    let log = context.layout.state.join("tidegate.log");
    let (mut child, log_start) = spawn(&args.serve, &log, context)?;
    let began = Instant::now();
    loop {
        match context.client.ready().await {
            Ok(()) => return running(&context.client.get("/daemon").await?, context),
            Err(problem) if began.elapsed() > START_MAX => {
                let what = format!("the daemon (process {}) does not serve yet", child.id());
                return Err(Problem::new(Code::StartFailed, what, problem.why).next(format!("read {}", log.display())));
            }
            Err(_) => {}
        }
        if let Ok(Some(_)) = child.try_wait() {
            return Err(reason(&log, log_start));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The process goes into a session of its own as its first act (`serve --detached`), so that closing the
/// terminal does not end it.
fn spawn(args: &ServeArgs, log: &Path, context: &Context) -> Result<(Child, u64), Problem> {
    let failed =
        |error: std::io::Error| Problem::new(Code::StartFailed, "the daemon was not started", error.to_string());
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(log).map_err(failed)?;
    let log_start = file.metadata().map_err(failed)?.len();
    let mut command = Command::new(std::env::current_exe().map_err(failed)?);
    if let Some(home) = &context.globals.home {
        command.arg("--home").arg(std::path::absolute(home).map_err(failed)?);
    }
    if context.socket.1 {
        command.arg("--socket").arg(std::path::absolute(&context.socket.0).map_err(failed)?);
    }
    command.arg("--json").arg("serve").arg("--detached");
    for (flag, _, value) in args.flags() {
        command.arg(flag).arg(value);
    }
    let errors = file.try_clone().map_err(failed)?;
    let child = command.stdin(Stdio::null()).stdout(file).stderr(errors).current_dir("/").spawn().map_err(failed)?;
    Ok((child, log_start))
}

fn running(document: &Value, context: &Context) -> Result<Exit, Problem> {
    if context.out.json() {
        context.out.document(document);
        return Ok(Exit::Done);
    }
    let daemon: DaemonDocument = read(document)?;
    context.out.line(&format!("Running as \"{}\" ({}).", daemon.name, daemon.short));
    for warning in &daemon.warnings {
        context.out.talk(&format!("warning: {warning}"));
    }
    context.out.talk(&format!("Next: {}", context.command("pair")));
    Ok(Exit::Done)
}

/// The last error document that the daemon wrote, if it wrote one since it was started.
fn reason(log: &Path, log_start: u64) -> Problem {
    let mut tail = Vec::new();
    let read = std::fs::File::open(log).and_then(|mut file| {
        let end = file.seek(SeekFrom::End(0))?;
        file.seek(SeekFrom::Start(log_start.max(end.saturating_sub(LOG_TAIL_BYTES))))?;
        file.read_to_end(&mut tail)
    });
    let text = String::from_utf8_lossy(&tail);
    let document = text.lines().rev().find_map(|line| {
        serde_json::from_str::<Value>(line).ok().filter(|v| v["type"] == "error").and_then(|v| Problem::from_http(&v))
    });
    document.unwrap_or_else(|| {
        let why = match read {
            Ok(_) => text.lines().last().unwrap_or("it gave no reason").to_owned(),
            Err(error) => error.to_string(),
        };
        Problem::new(Code::StartFailed, "the daemon ended at once", why).next(format!("read {}", log.display()))
    })
}
