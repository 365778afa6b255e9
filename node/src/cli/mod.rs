//! The command line: parsing, what all verbs share, and how a process ends.
//!
//! One file per verb; the doc comment of its arguments is its help text. Verbs speak to the daemon by the API
//! alone. Data goes to stdout, talk and progress to stderr; a closed stdout is no error.

mod approve;
mod completion;
mod conduit;
mod config;
mod conflict;
mod demo;
mod device;
mod doctor;
mod down;
mod events;
mod fetch;
mod follow;
mod gen_replay;
mod gen_show;
mod gen_undo;
mod gen_verify;
mod health;
mod history;
mod job;
mod library;
mod location;
pub mod out;
mod pair;
mod plan;
mod serve;
mod status;
mod sync;
mod trash;
mod up;
mod version;
mod why;
mod zone;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::api::client::Client;
use crate::api::problem::{Code, Exit, Problem};
use crate::config::Config;
use crate::config::file;
use crate::config::layout::{Layout, Surroundings};
use crate::format::parse_duration;
use out::{Out, ProgressStyle};

/// Keeps directories in step between your own devices, peer to peer, and never acts on a stale view.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, propagate_version = true, max_term_width = 100, arg_required_else_help = true)]
pub struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    verb: Verb,
}

/// Flags that every verb takes.
#[derive(Debug, Clone, Args)]
#[allow(clippy::struct_excessive_bools, reason = "flags are bools")]
struct Globals {
    /// Prints documents instead of text
    #[arg(long, global = true)]
    json: bool,
    /// Leaves out talk and progress
    #[arg(short, long, global = true)]
    quiet: bool,
    /// Says more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// How progress is shown: a bar on a terminal, else a line every 10 s
    #[arg(long, global = true, value_enum, env = "TIDEGATE_PROGRESS", value_name = "STYLE")]
    progress: Option<ProgressStyle>,
    /// Leaves out colours
    #[arg(long, global = true)]
    no_color: bool,
    /// Never asks; fails where it would have to
    #[arg(long, global = true)]
    no_input: bool,
    /// Answers questions with yes
    #[arg(short = 'y', long, global = true)]
    yes: bool,
    /// One directory for configuration, state and socket
    #[arg(long, global = true, env = "TIDEGATE_HOME", value_name = "DIR")]
    home: Option<PathBuf>,
    /// Where the daemon listens
    #[arg(long, global = true, env = "TIDEGATE_SOCKET", value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Gives up after this long, for example 30s
    #[arg(long, global = true, value_parser = parse_duration, value_name = "TIME")]
    timeout: Option<u64>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Demo(demo::DemoArgs),
    Up(up::UpArgs),
    Down(down::DownArgs),
    Serve(serve::ServeArgs),
    Status(status::StatusArgs),
    Health(health::HealthArgs),
    Doctor(doctor::DoctorArgs),
    Pair(pair::PairArgs),
    Device(device::DeviceArgs),
    Library(library::LibraryArgs),
    Location(location::LocationArgs),
    Conduit(conduit::ConduitArgs),
    Plan(plan::PlanArgs),
    Sync(sync::SyncArgs),
    Approve(approve::ApproveArgs),
    Conflict(conflict::ConflictArgs),
    Why(why::WhyArgs),
    Fetch(fetch::FetchArgs),
    Job(job::JobArgs),
    History(history::HistoryArgs),
    Gen(gen_show::GenArgs),
    Trash(trash::TrashArgs),
    Events(events::EventsArgs),
    Config(config::ConfigArgs),
    Completion(completion::CompletionArgs),
    Version(version::VersionArgs),
}

/// What every verb is given.
pub struct Context {
    /// Where its words go.
    out: Out,
    /// The daemon.
    client: Client,
    /// Where things are.
    layout: Layout,
    /// The socket in force, and whether `--socket` gave it.
    socket: (PathBuf, bool),
    globals: Globals,
}

impl Context {
    fn new(globals: Globals) -> Result<Self, Problem> {
        let layout = Surroundings::here(globals.home.clone()).layout().ok_or_else(|| {
            Problem::new(Code::Config, "nothing was done", "neither HOME nor --home says where the files are")
                .next("tidegate --home DIR ...")
        })?;
        let out = Out::new(globals.json, globals.quiet, globals.verbose, globals.progress);
        let socket = match &globals.socket {
            Some(path) => (path.clone(), true),
            // A broken configuration must not keep a person from a running daemon; `up` and `config` report it.
            None => match load_config(&layout, &[]).ok().and_then(|config| config.settings.socket) {
                Some(path) => (path, false),
                None => (layout.socket.clone(), false),
            },
        };
        let client = Client::new(&socket.0, command_line(&globals, "up"));
        Ok(Self { out, client, layout, socket, globals })
    }

    /// Asks before something that cannot be taken back.
    fn confirm(&self, question: &str) -> Result<(), Problem> {
        use std::io::{BufRead, IsTerminal, Read};
        if self.globals.yes {
            return Ok(());
        }
        if self.globals.no_input || self.globals.json || !std::io::stdin().is_terminal() {
            return Err(Problem::new(Code::NeedsAnswer, "nothing was done", question).next("say yes with -y"));
        }
        self.out.talk_text(&format!("{} [y/N] ", out::printable(question)));
        let mut line = String::new();
        // What cannot be read is no.
        let _ = std::io::stdin().lock().take(16).read_line(&mut line);
        if matches!(line.trim(), "y" | "Y" | "yes") {
            return Ok(());
        }
        Err(Problem::new(Code::NeedsAnswer, "nothing was done", "the answer was not yes"))
    }

    /// How a person would call another verb on the same daemon.
    fn command(&self, verb: &str) -> String {
        command_line(&self.globals, verb)
    }
}

fn command_line(globals: &Globals, verb: &str) -> String {
    match (&globals.home, std::env::var_os("TIDEGATE_HOME")) {
        (Some(home), None) => format!("tidegate --home {} {verb}", home.display()),
        _ => format!("tidegate {verb}"),
    }
}

/// Reads file and environment under flags of the form (flag, key, value).
fn load_config(layout: &Layout, flags: &[(&'static str, &'static str, String)]) -> Result<Config, Problem> {
    let text = file::read(&layout.config)?;
    let file = text.as_deref().map(|text| (layout.config.clone(), text));
    let variables = std::env::vars_os().filter_map(|(name, value)| {
        let name = name.into_string().ok().filter(|name| name.starts_with("TIDEGATE_"))?;
        Some((name, value.to_string_lossy().into_owned()))
    });
    Config::load(file, variables, flags)
}

/// Runs a command line as given to the process.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => return refused_by_parser(&error, arguments.iter().any(|a| a == "--json")),
    };
    let json = cli.globals.json;
    let failed = |problem: &Problem| {
        Out::new(json, false, 0, None).problem(problem);
        ExitCode::from(problem.code.exit() as u8)
    };
    let context = match Context::new(cli.globals) {
        Ok(context) => context,
        Err(problem) => return failed(&problem),
    };
    match execute(cli.verb, &context) {
        Ok(exit) => ExitCode::from(exit as u8),
        Err(problem) => failed(&problem),
    }
}

fn execute(verb: Verb, context: &Context) -> Result<Exit, Problem> {
    // The node sets up its own runtime and handles signals itself.
    match verb {
        Verb::Serve(args) => return serve::run(&args, context),
        Verb::Up(args) if args.foreground() => return serve::run(&args.serve(), context),
        Verb::Demo(args) => return demo::run(&args, context),
        Verb::Completion(args) => return completion::run(&args, context),
        Verb::Version(args) => return version::run(&args, context),
        Verb::Config(args) if args.is_local() => return config::run_local(&args, context),
        _ => {}
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Problem::new(Code::Internal, "nothing was done", error.to_string()))?;
    runtime.block_on(async {
        let pairing = matches!(verb, Verb::Pair(_));
        let limit = context.globals.timeout.map_or(Duration::MAX, Duration::from_millis);
        let ended = tokio::select! {
            ended = tokio::time::timeout(limit, dispatch(verb, context)) => ended,
            _ = tokio::signal::ctrl_c() => {
                Ok(Err(Problem::new(Code::Interrupted, "interrupted", "what the daemon has begun goes on without this command")))
            }
        };
        let ended = ended.unwrap_or_else(|_| {
            let why = "what the daemon has begun goes on without this command";
            Err(Problem::new(Code::TimedOut, "it took longer than --timeout allows", why).next(context.command("status")))
        });
        let cut_off = |p: &Problem| matches!(p.code, Code::Interrupted | Code::TimedOut);
        if pairing && ended.as_ref().is_err_and(cut_off) {
            // A code nobody watches must not stay open; if the daemon is gone, so is the code.
            let _ = context.client.post("/pairing/cancel", &serde_json::json!({})).await;
        }
        ended
    })
}

async fn dispatch(verb: Verb, context: &Context) -> Result<Exit, Problem> {
    match verb {
        Verb::Demo(args) => demo::run(&args, context),
        Verb::Up(args) => up::run(args, context).await,
        Verb::Down(args) => down::run(&args, context).await,
        Verb::Status(args) => status::run(&args, context).await,
        Verb::Health(args) => health::run(&args, context).await,
        Verb::Doctor(args) => doctor::run(&args, context).await,
        Verb::Pair(args) => pair::run(args, context).await,
        Verb::Device(args) => device::run(args, context).await,
        Verb::Library(args) => library::run(args, context).await,
        Verb::Location(args) => location::run(args, context).await,
        Verb::Conduit(args) => conduit::run(args, context).await,
        Verb::Plan(args) => plan::run(args, context).await,
        Verb::Sync(args) => sync::run(args, context).await,
        Verb::Approve(args) => approve::run(args, context).await,
        Verb::Conflict(args) => conflict::run(args, context).await,
        Verb::Why(args) => why::run(args, context).await,
        Verb::Fetch(args) => fetch::run(args, context).await,
        Verb::Job(args) => job::run(args, context).await,
        Verb::History(args) => history::run(&args, context).await,
        Verb::Gen(args) => gen_show::run(args, context).await,
        Verb::Trash(args) => trash::run(args, context).await,
        Verb::Events(args) => events::run(&args, context).await,
        Verb::Config(args) => config::run(&args, context).await,
        Verb::Serve(args) => serve::run(&args, context),
        Verb::Completion(args) => completion::run(&args, context),
        Verb::Version(args) => version::run(&args, context),
    }
}

/// Help and version are answers; everything else is a usage error in the house's form.
fn refused_by_parser(error: &clap::Error, json: bool) -> ExitCode {
    use clap::error::ErrorKind;
    let out = Out::new(json, false, 0, None);
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            out.text(&error.render().to_string());
            return ExitCode::SUCCESS;
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            out.talk_text(&error.render().to_string());
            return ExitCode::from(Exit::Usage as u8);
        }
        _ => {}
    }
    let text = error.render().to_string();
    let mut paragraphs = text.strip_prefix("error: ").unwrap_or(&text).trim().splitn(2, "\n\n");
    let message = paragraphs.next().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
    let hint = paragraphs.next().unwrap_or_default();
    let mut problem = Problem::new(Code::Usage, message, "");
    for line in hint.lines().map(str::trim).filter(|line| !line.is_empty()) {
        problem = problem.next(line.replace("For more information, try '--help'.", "tidegate --help"));
    }
    out.problem(&problem);
    ExitCode::from(Exit::Usage as u8)
}

/// The whole tree of verbs, for completion and tests.
pub fn tree() -> clap::Command {
    Cli::command()
}

/// Reads a document of the API into its type.
fn read<T: serde::de::DeserializeOwned>(document: &serde_json::Value) -> Result<T, Problem> {
    serde::Deserialize::deserialize(document).map_err(|error: serde_json::Error| unreadable(&error))
}

/// Reads the list of a document.
fn read_list<T: serde::de::DeserializeOwned>(document: &serde_json::Value, name: &str) -> Result<Vec<T>, Problem> {
    read(&document[name])
}

fn unreadable(error: &serde_json::Error) -> Problem {
    Problem::new(Code::Internal, "the daemon's answer was not understood", error.to_string())
        .next("restart the daemon after an upgrade: tidegate down, then tidegate up")
}
