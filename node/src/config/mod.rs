//! Settings: one table of keys drives file, environment, defaults, checks and what `config show` prints.
//!
//! A key is in [`KEYS`] or it does not exist: not in the file, not in the environment, not in the code. The
//! order is flag, environment, file, default. A value outside its bounds is refused with where it came from;
//! nothing is clamped in silence. Where files live is in [`layout`]; how the file is read is in `file`.

pub mod file;
mod keys;
pub mod layout;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use tidegate_protocol::file_sync::Guards;
use tidegate_protocol::id::{DeviceId, Label};
use tidegate_protocol::limits::{INDEX_BYTES_MAX, INDEX_ROWS_MAX};

use crate::api::problem::{Code, Problem};

pub(crate) use keys::level_name;
pub use keys::{Given, KEYS, Key};

/// How a watched tree is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watcher {
    /// By the kernel's events, with scans in between.
    Auto,
    /// By scans alone.
    Poll,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people; without times where the journal adds them.
    Auto,
    /// One JSON document a line.
    Json,
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// Errors alone.
    Error,
    /// And warnings.
    Warn,
    /// And what happens.
    Info,
    /// And how.
    Debug,
    /// Everything.
    Trace,
}

/// A device that the configuration admits without a code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// Its whole id.
    pub id: DeviceId,
    /// What to call it.
    pub name: Label,
    /// Where to try it, besides what discovery finds.
    pub addresses: Vec<SocketAddr>,
}

/// Everything that can be set. Sizes are bytes, durations milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Name of this device when its identity is created.
    pub device_name: Label,
    /// UDP address to listen on; `[::]` takes IPv4 as well.
    pub listen: SocketAddr,
    /// Finds and is found on the local network.
    pub mdns: bool,
    /// Addresses to try, besides what discovery finds.
    pub peers: Vec<SocketAddr>,
    /// Bytes per second that this device sends, all together; 0 is no limit.
    pub up_limit: u64,
    /// A connection on which nothing moves for this long is closed.
    pub idle_ms: u64,
    /// Where the API listens; `None` is the place that the layout gives.
    pub socket: Option<PathBuf>,
    /// Threads that hash.
    pub hash_threads: u32,
    /// Time between full scans of a watched location.
    pub rescan_ms: u64,
    /// Quiet time after a change before it is looked at.
    pub settle_ms: u64,
    /// Rows that are kept of one other device.
    pub max_entries: u64,
    /// Bytes of rows that are kept of one other device.
    pub max_index_bytes: u64,
    /// How locations are watched.
    pub watcher: Watcher,
    /// Transfers at the same time, for new conduits.
    pub parallel: u32,
    /// Room that a job leaves free.
    pub min_free: u64,
    /// How long `plan` and `sync` wait for the gate by default.
    pub gate_timeout_ms: u64,
    /// Deletes from which the share counts.
    pub guard_deletes_min: u64,
    /// Share of files, in percent, above which deletes are held.
    pub guard_percent: u64,
    /// Deletes from which a plan is always held.
    pub guard_deletes_max: u64,
    /// Deletes beyond which a second look is taken.
    pub bulk_deletes: u64,
    /// Days for which the trash keeps things; 0 is no limit.
    pub trash_days: u64,
    /// Share of a file system that the trash may take, in percent; 0 is no limit.
    pub trash_percent: u64,
    /// How much is logged.
    pub log_level: LogLevel,
    /// How it is logged.
    pub log_format: LogFormat,
    /// Devices admitted by their full id.
    pub admitted: Vec<Admitted>,
}

impl Default for Settings {
    fn default() -> Self {
        let guards = Guards::default();
        Self {
            device_name: Label::lossy(&host_name()),
            listen: "[::]:7421".parse().expect("a socket address"),
            mdns: true,
            peers: Vec::new(),
            up_limit: 0,
            idle_ms: 30_000,
            socket: None,
            hash_threads: std::thread::available_parallelism().map_or(1, |n| (n.get() / 2).max(1) as u32),
            rescan_ms: 3_600_000,
            settle_ms: 250,
            max_entries: INDEX_ROWS_MAX,
            max_index_bytes: INDEX_BYTES_MAX,
            watcher: Watcher::Auto,
            parallel: 4,
            min_free: 2 << 30,
            gate_timeout_ms: 30_000,
            guard_deletes_min: guards.deletes_min,
            guard_percent: guards.delete_percent,
            guard_deletes_max: guards.deletes_max,
            bulk_deletes: guards.bulk_deletes,
            trash_days: 30,
            trash_percent: 10,
            log_level: LogLevel::Info,
            log_format: LogFormat::Auto,
            admitted: Vec::new(),
        }
    }
}

impl Settings {
    /// The thresholds that the resolver is given.
    pub fn guards(&self) -> Guards {
        Guards {
            enabled: true,
            deletes_min: self.guard_deletes_min,
            delete_percent: self.guard_percent,
            deletes_max: self.guard_deletes_max,
            bulk_deletes: self.bulk_deletes,
        }
    }
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// The file, at this line.
    File {
        /// Which file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
    },
    /// This variable.
    Environment(String),
    /// This flag.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) => write!(f, "${name}"),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}

/// Settings, and where each came from.
#[derive(Debug, Clone)]
pub struct Config {
    /// The values.
    pub settings: Settings,
    /// By key; what is not in here is the default.
    pub origins: BTreeMap<&'static str, Origin>,
}

/// Environment variables that are no settings.
const OTHER_VARIABLES: [&str; 4] = ["TIDEGATE_HOME", "TIDEGATE_CONFIG", "TIDEGATE_SOCKET", "TIDEGATE_PROGRESS"];

impl Config {
    /// Puts flags over environment over file over defaults. `file` is path and text, if there is a file.
    pub fn load(
        file: Option<(PathBuf, &[u8])>,
        environment: impl IntoIterator<Item = (String, String)>,
        flags: &[(&'static str, &'static str, String)],
    ) -> Result<Self, Problem> {
        let mut config = Self { settings: Settings::default(), origins: BTreeMap::new() };
        if let Some((path, text)) = file {
            file::apply(&mut config, &path, text)?;
        }
        for (name, text) in environment {
            config.apply_variable(&name, &text)?;
        }
        for (flag, key, text) in flags {
            let key = KEYS.iter().find(|k| k.name == *key).expect("flags name keys of the table");
            let given = Given::from_text(key.kind, text).and_then(|given| (key.set)(&mut config.settings, given));
            given.map_err(|why| problem(&format!("{flag}: not a value for {}", key.name), why))?;
            config.origins.insert(key.name, Origin::Flag(flag));
        }
        Ok(config)
    }

    /// Where a key's value came from.
    pub fn origin(&self, key: &str) -> Origin {
        self.origins.get(key).cloned().unwrap_or(Origin::Default)
    }

    fn apply_variable(&mut self, name: &str, text: &str) -> Result<(), Problem> {
        let Some(rest) = name.strip_prefix("TIDEGATE_") else { return Ok(()) };
        if OTHER_VARIABLES.contains(&name) {
            return Ok(());
        }
        let Some(key) = KEYS.iter().find(|key| key.variable() == name) else {
            let known = KEYS.iter().map(Key::variable).chain(OTHER_VARIABLES.map(str::to_owned));
            let nearest = nearest(name, known);
            return Err(problem(&format!("${name} is not a setting"), format!("no section has a key for {rest}"))
                .next(nearest.map_or_else(|| format!("unset {name}"), |near| format!("did you mean {near}?"))));
        };
        let given = Given::from_text(key.kind, text).and_then(|given| (key.set)(&mut self.settings, given));
        given.map_err(|why| problem(&format!("${name}: not a value for {}", key.name), why))?;
        self.origins.insert(key.name, Origin::Environment(name.to_owned()));
        Ok(())
    }
}

pub(crate) fn problem(message: &str, why: impl Into<String>) -> Problem {
    Problem::new(Code::Config, format!("{message}; nothing was started or changed"), why)
}

/// The known word nearest to `word` by edit distance, if it is near enough to be what was meant.
pub(crate) fn nearest(word: &str, known: impl IntoIterator<Item = String>) -> Option<String> {
    let distance = |a: &str, b: &str| {
        let b: Vec<char> = b.chars().collect();
        let mut row: Vec<usize> = (0..=b.len()).collect();
        for (i, x) in a.chars().enumerate() {
            let mut diagonal = row[0];
            row[0] = i + 1;
            for (j, y) in b.iter().enumerate() {
                let above = row[j + 1];
                row[j + 1] = (diagonal + usize::from(x != *y)).min(above + 1).min(row[j] + 1);
                diagonal = above;
            }
        }
        row[b.len()]
    };
    let short: String = word.chars().take(80).collect();
    let scored = known.into_iter().map(|k| (distance(&short, &k), k)).min()?;
    (scored.0 <= scored.1.len() / 3).then_some(scored.1)
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().split('.').next().unwrap_or_default().to_owned()
}
