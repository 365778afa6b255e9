//! The composition root: builds a node from its settings and runs it until it is told to stop.
//!
//! Order matters: the state directory is held before anything in it is touched, the identity is known before the
//! replica is opened, and the API answers last, when the node can. What each part does is in its own room: the
//! API's face in [`face`], pairing in [`pairing`], what often goes wrong in [`doctor`], the service manager in
//! [`notify`], identity and replica in [`open`].

mod doctor;
mod face;
mod network;
mod notify;
mod open;
mod pairing;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use crate::api::document::SettingDocument;
use crate::api::problem::{Code, Problem};
use crate::api::server::{self, Door};
use crate::config::{LogFormat, Settings, Watcher, level_name};
use crate::core::{Core, CoreConfig, TrashLimits};
use crate::driver::{Driver, Handle};
use crate::env::{Clock, Env};
use crate::os::net::{Deadlines, NetworkOptions, OsNetwork};
use crate::os::{OsClock, OsEnv, OsSpawn, OsWatch, keep_buffers};
use face::NodeFace;
use network::PacedNetwork;

/// The environment of a real node.
type NodeEnv = OsEnv<PacedNetwork>;

/// Events of the network that may wait; a full queue holds back the peers.
const EVENTS_MAX: usize = 256;
/// How long parts may take to end once the node stops.
const END_MAX: Duration = Duration::from_secs(10);
/// Threads on which jobs may block. A job has one for as long as it lives.
const BLOCKING_THREADS_MAX: usize = 512;

/// What a node is built from.
#[derive(Debug)]
pub struct Options {
    /// The state directory.
    pub state: PathBuf,
    /// Where the API listens.
    pub socket: PathBuf,
    /// Everything that can be set.
    pub settings: Settings,
    /// The settings as they are shown.
    pub shown: Vec<SettingDocument>,
}

/// How far a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Running,
    Stopping,
}

/// Runs a node until SIGTERM, SIGINT or the API stops it.
pub fn run(options: Options) -> Result<(), Problem> {
    log(&options.settings);
    no_core_dumps();
    keep_buffers();
    crate::state::make_directory(&options.state)?;
    let _held = crate::state::hold(&options.state)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .build()
        .map_err(|error| Problem::new(Code::Internal, "nothing was started", error.to_string()))?;
    let replica = options.state.join(open::REPLICA);
    let ended = runtime.block_on(live(options));
    // Jobs end at their next report; whoever sits in a system call is not waited for for ever.
    runtime.shutdown_timeout(END_MAX);
    ended.map_err(|failure| open::set_right(failure, &replica))
}

async fn live(options: Options) -> Result<(), open::Failure> {
    let Options { state, socket, settings, shown } = options;
    let key = open::identity(&state)?;
    let opened = open::replica(&state, key.id())?;
    let (events, happened) = mpsc::channel(EVENTS_MAX);
    let clock = OsClock::start();
    let network = start_network(&settings, &key, events)?;

    let paced = PacedNetwork::new(network.clone(), settings.up_limit);
    let width = NonZeroUsize::new(settings.hash_threads as usize).unwrap_or(NonZeroUsize::MIN);
    let spawner = OsSpawn::new(tokio::runtime::Handle::current(), width);
    let watch_disk = OsWatch::new(settings.watcher == Watcher::Auto);
    let env = NodeEnv::new(clock, spawner.clone(), paced.clone(), watch_disk);
    let mut first = Vec::new();
    let core =
        Core::new(opened.store, key.signing().clone(), core_config(&settings), env.entropy(), clock.now(), &mut first)
            .map_err(open::Failure::from)?;
    let admitting = network.clone();
    let admit = Box::new(move |library, devices| {
        admitting.allow(devices);
        admitting.join_mesh(library);
    });
    let (driver, handle) = Driver::new(env, core, admit);

    let (life, changes) = watch::channel(Life::Running);
    let life = Arc::new(life);
    let pairing = Arc::new(pairing::Pairing::new(network.clone(), handle.clone()));
    let pump = tokio::spawn(network::pump(happened, handle.clone(), Arc::clone(&pairing), paced));
    // Commits block, so the core has a thread of its own.
    let runtime = tokio::runtime::Handle::current();
    let mut driving = tokio::task::spawn_blocking(move || runtime.block_on(driver.run(first)));
    let parts = face::Parts { state, settings, shown, warnings: opened.warnings, device: key.id() };
    let face = Arc::new(NodeFace::new(parts, handle.clone(), pairing, Arc::clone(&life), network.clone()).await);
    let door = Door::open(&socket).map_err(|error| socket_failed(&socket, &error))?;
    let stopped = stopped(changes).boxed().shared();
    let serving = tokio::spawn(server::serve(door, face, stopped.clone()));
    notify::tell("READY=1");
    tracing::info!(listen = %network.local_addr(), socket = %socket.display(), device = %key.id().short(), "serving");
    let watching = tokio::spawn(notify::watch_over(handle.clone()));

    let ended = tokio::select! {
        ended = &mut driving => Some(ended),
        () = asked_to_stop() => None,
        () = stopped => None,
    };
    notify::tell("STOPPING=1");
    tracing::info!("stopping");
    watching.abort();
    life.send_replace(Life::Stopping);
    handle.stop();
    let ended = match ended {
        Some(ended) => Some(ended),
        None => tokio::time::timeout(END_MAX, driving).await.ok(),
    };
    pump.abort();
    network.shutdown().await;
    // Jobs hold timers and sockets of the runtime: they end before it does.
    let _ = tokio::time::timeout(END_MAX, spawner.idle()).await;
    // The answers that were under way get their moment; what is left then is cut off with the runtime.
    let _ = tokio::time::timeout(END_MAX, serving).await;
    // Left-overs do no harm: the next start takes the place of a socket that nobody holds.
    let _ = std::fs::remove_file(&socket);
    match ended {
        Some(Ok(Ok(()))) => Ok(()),
        Some(Ok(Err(error))) => Err(open::Failure::from(error)),
        Some(Err(panic)) => Err(Problem::new(Code::Internal, "the node ended", panic.to_string()).into()),
        None => Err(Problem::new(
            Code::Internal,
            "the node did not end in time and was cut off",
            "a commit takes very long",
        )
        .into()),
    }
}

fn start_network(
    settings: &Settings,
    key: &crate::os::net::identity::DeviceKey,
    events: mpsc::Sender<crate::os::net::NetworkEvent>,
) -> Result<OsNetwork, open::Failure> {
    let options = NetworkOptions {
        key: key.clone(),
        listen: settings.listen,
        mdns: settings.mdns,
        peers: settings.peers.clone(),
        deadlines: Deadlines { idle: Duration::from_millis(settings.idle_ms), ..Deadlines::default() },
    };
    let network = OsNetwork::start(options, events).map_err(|error| {
        let why = match std::error::Error::source(&error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        };
        Problem::new(Code::Config, "the network was not started; nothing was changed", why)
            .next("choose another address: network.listen in the configuration, or --listen IP:PORT")
    })?;
    for device in &settings.admitted {
        for address in &device.addresses {
            network.remember(device.id, *address);
        }
    }
    Ok(network)
}

fn core_config(settings: &Settings) -> CoreConfig {
    CoreConfig {
        name: settings.device_name.clone(),
        admitted: settings.admitted.iter().map(|device| (device.id, device.name.clone())).collect(),
        settle_ms: settings.settle_ms,
        rescan_ms: settings.rescan_ms,
        evidence_age_ms_max: tidegate_protocol::limits::EVIDENCE_AGE_MS_MAX,
        guards: settings.guards(),
        free_bytes_min: settings.min_free,
        index_rows_max: settings.max_entries,
        index_bytes_max: settings.max_index_bytes,
        parallel_transfers: settings.parallel,
        trash: TrashLimits { age_ms_max: settings.trash_days * 86_400_000, percent_max: settings.trash_percent },
    }
}

fn socket_failed(socket: &Path, error: &std::io::Error) -> Problem {
    Problem::new(
        Code::Storage,
        "the API socket cannot be made; nothing was changed",
        format!("{}: {error}", socket.display()),
    )
    .next("choose another place: api.socket in the configuration, or --socket PATH")
}

async fn stopped(mut changes: watch::Receiver<Life>) {
    // Both mean the end: a wish to stop, and nobody left to wish anything.
    let _ = changes.wait_for(|life| *life == Life::Stopping).await;
}

async fn asked_to_stop() {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::warn!("signals cannot be heard; only the API stops this node");
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// Keys and the names of a person's files are in memory: they must not end up in a file.
fn no_core_dumps() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    if let Err(error) = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }) {
        tracing::warn!(%error, "core dumps cannot be switched off");
    }
}

fn log(settings: &Settings) {
    let level = level_name(settings.log_level);
    let filter = tracing_subscriber::EnvFilter::new(format!(
        "warn,tidegate={level},tidegate_storage={level},tidegate_protocol={level}"
    ));
    let base = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    // A second subscriber in one process (tests) changes nothing.
    let _ = match settings.log_format {
        LogFormat::Json => base.json().try_init(),
        LogFormat::Auto if std::env::var_os("JOURNAL_STREAM").is_some() => base.without_time().try_init(),
        LogFormat::Auto => base.try_init(),
    };
}

/// Asks the core something that touches its replica, to know that it lives.
async fn alive<E: Env>(handle: &Handle<E>) -> bool {
    const ANSWER_MAX: Duration = Duration::from_secs(10);
    let asked = handle.command(crate::core::command::Command::Jobs);
    matches!(tokio::time::timeout(ANSWER_MAX, asked).await, Ok(Ok(_)))
}
