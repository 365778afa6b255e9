//! The one list of keys: name, meaning, kind, and how each is read into and shown from [`Settings`].
//!
//! A key's default is what [`Settings::default`] shows; there is no second list of defaults.

use std::net::SocketAddr;
use std::path::PathBuf;

use tidegate_protocol::id::Label;

use super::{LogFormat, LogLevel, Settings, Watcher};
use crate::format::{parse_bytes, parse_duration, plain_bytes, plain_duration};

/// A setting.
#[derive(Debug)]
pub struct Key {
    /// `section.key`.
    pub name: &'static str,
    /// One line of meaning.
    pub doc: &'static str,
    /// What is written for it.
    pub kind: Kind,
    /// Reads a value.
    pub set: fn(&mut Settings, Given) -> Result<(), String>,
    /// Shows the value as it would stand in the file.
    pub show: fn(&Settings) -> String,
}

impl Key {
    /// Its environment variable.
    pub fn variable(&self) -> String {
        format!("TIDEGATE_{}", self.name.replace('.', "_").to_ascii_uppercase())
    }
}

/// What is written for a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Text in quotes.
    Text,
    /// A whole number.
    Number,
    /// `true` or `false`.
    Flag,
    /// Texts in brackets; in the environment, separated by commas.
    List,
}

impl Kind {
    /// For messages.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Text => "text in quotes",
            Self::Number => "a whole number",
            Self::Flag => "true or false",
            Self::List => "a list of texts",
        }
    }
}

/// A value as it was given, of the right kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Given {
    /// For [`Kind::Text`].
    Text(String),
    /// For [`Kind::Number`].
    Number(i64),
    /// For [`Kind::Flag`].
    Flag(bool),
    /// For [`Kind::List`].
    List(Vec<String>),
}

impl Given {
    /// From the plain text of a variable or flag.
    pub fn from_text(kind: Kind, text: &str) -> Result<Self, String> {
        let error = || format!("{text:?} is not {}", kind.words());
        match kind {
            Kind::Text => Ok(Self::Text(text.to_owned())),
            Kind::Number => text.parse().map(Self::Number).map_err(|_| error()),
            Kind::Flag => text.parse().map(Self::Flag).map_err(|_| error()),
            Kind::List => {
                Ok(Self::List(text.split(',').map(str::trim).filter(|s| !s.is_empty()).map(str::to_owned).collect()))
            }
        }
    }
}

/// Every key there is, in the order in which `configs/node.toml` shows them.
pub const KEYS: &[Key] = &[
    Key {
        name: "device.name",
        doc: "what other devices call this one, when its identity is created; the host's name by default",
        kind: Kind::Text,
        set: |s, v| label(v).map(|name| s.device_name = name),
        show: |s| quoted(s.device_name.as_str()),
    },
    Key {
        name: "network.listen",
        doc: "UDP address and port; [::] takes IPv4 as well, port 0 takes any free one",
        kind: Kind::Text,
        set: |s, v| address(&text(v)?).map(|listen| s.listen = listen),
        show: |s| quoted(&s.listen.to_string()),
    },
    Key {
        name: "network.mdns",
        doc: "find other devices on the local network, and be found",
        kind: Kind::Flag,
        set: |s, v| flag(&v).map(|mdns| s.mdns = mdns),
        show: |s| s.mdns.to_string(),
    },
    Key {
        name: "network.peers",
        doc: "addresses to try besides what is found, as \"ip:port\"",
        kind: Kind::List,
        set: |s, v| {
            let addresses = list(v)?.iter().map(|a| address(a)).collect::<Result<_, _>>()?;
            s.peers = addresses;
            Ok(())
        },
        show: |s| quoted_list(s.peers.iter().map(SocketAddr::to_string)),
    },
    Key {
        name: "network.up_limit",
        doc: "bytes per second that this device sends to all others together, as \"10 MB\"; 0 is no limit",
        kind: Kind::Text,
        set: |s, v| parse_bytes(&text(v)?).map(|bytes| s.up_limit = bytes),
        show: |s| quoted(&s.up_limit.to_string()),
    },
    Key {
        name: "network.idle",
        doc: "a connection on which nothing moves for this long is closed; 5s to 10m",
        kind: Kind::Text,
        set: |s, v| duration(v, 5_000, 600_000).map(|ms| s.idle_ms = ms),
        show: |s| quoted(&plain_duration(s.idle_ms)),
    },
    Key {
        name: "api.socket",
        doc: "where the API listens; empty is tidegate.sock in the runtime directory",
        kind: Kind::Text,
        set: |s, v| {
            let path = PathBuf::from(text(v)?);
            if !path.as_os_str().is_empty() && !path.is_absolute() {
                return Err(format!("{} is not an absolute path", path.display()));
            }
            s.socket = Some(path).filter(|path| !path.as_os_str().is_empty());
            Ok(())
        },
        show: |s| quoted(&s.socket.as_ref().map(|path| path.display().to_string()).unwrap_or_default()),
    },
    Key {
        name: "index.hash_threads",
        doc: "threads that hash, 1 to 256; half of the cores by default",
        kind: Kind::Number,
        set: |s, v| number(&v, 1, 256).map(|n| s.hash_threads = n as u32),
        show: |s| s.hash_threads.to_string(),
    },
    Key {
        name: "index.rescan",
        doc: "time between full scans of a watched location; 10s to 30d",
        kind: Kind::Text,
        set: |s, v| duration(v, 10_000, 30 * 86_400_000).map(|ms| s.rescan_ms = ms),
        show: |s| quoted(&plain_duration(s.rescan_ms)),
    },
    Key {
        name: "index.settle",
        doc: "quiet time after a change before it is looked at; 10ms to 1m",
        kind: Kind::Text,
        set: |s, v| duration(v, 10, 60_000).map(|ms| s.settle_ms = ms),
        show: |s| quoted(&plain_duration(s.settle_ms)),
    },
    Key {
        name: "index.max_entries",
        doc: "entries of one other device that are kept; one with more is \"over quota\" and not followed any further",
        kind: Kind::Number,
        set: |s, v| number(&v, 1_000, i64::MAX).map(|n| s.max_entries = n),
        show: |s| s.max_entries.to_string(),
    },
    Key {
        name: "index.max_bytes",
        doc: "what the index of one other device may take; one with more is \"over quota\", too",
        kind: Kind::Text,
        set: |s, v| parse_bytes(&text(v)?).map(|bytes| s.max_index_bytes = bytes),
        show: |s| quoted(&plain_bytes(s.max_index_bytes)),
    },
    Key {
        name: "index.watcher",
        doc: "\"auto\" asks the kernel for changes; \"poll\" only scans",
        kind: Kind::Text,
        set: |s, v| one_of(v, &[("auto", Watcher::Auto), ("poll", Watcher::Poll)]).map(|w| s.watcher = w),
        show: |s| {
            quoted(match s.watcher {
                Watcher::Auto => "auto",
                Watcher::Poll => "poll",
            })
        },
    },
    Key {
        name: "sync.parallel",
        doc: "transfers at the same time, for conduits that do not say; 1 to 64",
        kind: Kind::Number,
        set: |s, v| number(&v, 1, 64).map(|n| s.parallel = n as u32),
        show: |s| s.parallel.to_string(),
    },
    Key {
        name: "sync.min_free",
        doc: "room that a job leaves free on the disk it writes to, or 5 % of that disk if that is less",
        kind: Kind::Text,
        set: |s, v| parse_bytes(&text(v)?).map(|bytes| s.min_free = bytes),
        show: |s| quoted(&plain_bytes(s.min_free)),
    },
    Key {
        name: "sync.gate_timeout",
        doc: "how long plan and sync wait until the index is caught up; 0 refuses at once; at most 1h",
        kind: Kind::Text,
        set: |s, v| duration(v, 0, 3_600_000).map(|ms| s.gate_timeout_ms = ms),
        show: |s| quoted(&plain_duration(s.gate_timeout_ms)),
    },
    Key {
        name: "safety.guard_deletes_min",
        doc: "deletes from which the share below counts",
        kind: Kind::Number,
        set: |s, v| number(&v, 1, i64::MAX).map(|n| s.guard_deletes_min = n),
        show: |s| s.guard_deletes_min.to_string(),
    },
    Key {
        name: "safety.guard_percent",
        doc: "share of a side's files, in percent, above which deletes wait for approval; 1 to 100",
        kind: Kind::Number,
        set: |s, v| number(&v, 1, 100).map(|n| s.guard_percent = n),
        show: |s| s.guard_percent.to_string(),
    },
    Key {
        name: "safety.guard_deletes_max",
        doc: "deletes from which a plan always waits for approval",
        kind: Kind::Number,
        set: |s, v| number(&v, 1, i64::MAX).map(|n| s.guard_deletes_max = n),
        show: |s| s.guard_deletes_max.to_string(),
    },
    Key {
        name: "safety.bulk_deletes",
        doc: "deletes beyond which a plan is believed only after a second look, 5 seconds later",
        kind: Kind::Number,
        set: |s, v| number(&v, 1, i64::MAX).map(|n| s.bulk_deletes = n),
        show: |s| s.bulk_deletes.to_string(),
    },
    Key {
        name: "safety.trash_days",
        doc: "days after which what is in the trash goes for good; 0 keeps it; at most 3650",
        kind: Kind::Number,
        set: |s, v| number(&v, 0, 3650).map(|n| s.trash_days = n),
        show: |s| s.trash_days.to_string(),
    },
    Key {
        name: "safety.trash_max",
        doc: "share of a file system that the trash may take, in percent, beyond which the oldest goes; 0 is no limit",
        kind: Kind::Number,
        set: |s, v| number(&v, 0, 100).map(|n| s.trash_percent = n),
        show: |s| s.trash_percent.to_string(),
    },
    Key {
        name: "log.level",
        doc: "error, warn, info, debug or trace",
        kind: Kind::Text,
        set: |s, v| one_of(v, &LEVELS).map(|level| s.log_level = level),
        show: |s| quoted(level_name(s.log_level)),
    },
    Key {
        name: "log.format",
        doc: "\"auto\" is for people and leaves times to the journal; \"json\" is one document a line",
        kind: Kind::Text,
        set: |s, v| one_of(v, &[("auto", LogFormat::Auto), ("json", LogFormat::Json)]).map(|f| s.log_format = f),
        show: |s| {
            quoted(match s.log_format {
                LogFormat::Auto => "auto",
                LogFormat::Json => "json",
            })
        },
    },
];

const LEVELS: [(&str, LogLevel); 5] = [
    ("error", LogLevel::Error),
    ("warn", LogLevel::Warn),
    ("info", LogLevel::Info),
    ("debug", LogLevel::Debug),
    ("trace", LogLevel::Trace),
];

/// The name of a level, as file and log filter write it.
pub(crate) fn level_name(level: LogLevel) -> &'static str {
    LEVELS.iter().find(|(_, known)| *known == level).map(|(name, _)| *name).expect("every level is in the list")
}

/// Text as TOML writes it: JSON's escapes are a subset of TOML's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn quoted_list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.map(|item| quoted(&item)).collect::<Vec<_>>().join(", "))
}

fn text(given: Given) -> Result<String, String> {
    match given {
        Given::Text(text) => Ok(text),
        Given::Number(_) | Given::Flag(_) | Given::List(_) => Err("not text".to_owned()),
    }
}

fn list(given: Given) -> Result<Vec<String>, String> {
    match given {
        Given::List(list) => Ok(list),
        Given::Text(_) | Given::Number(_) | Given::Flag(_) => Err("not a list".to_owned()),
    }
}

fn flag(given: &Given) -> Result<bool, String> {
    match given {
        Given::Flag(flag) => Ok(*flag),
        Given::Text(_) | Given::Number(_) | Given::List(_) => Err("not true or false".to_owned()),
    }
}

fn number(given: &Given, min: i64, max: i64) -> Result<u64, String> {
    match given {
        Given::Number(n) if (min..=max).contains(n) => Ok(*n as u64),
        Given::Number(n) if max == i64::MAX => Err(format!("{n} is below {min}")),
        Given::Number(n) => Err(format!("{n} is not between {min} and {max}")),
        Given::Text(_) | Given::Flag(_) | Given::List(_) => Err("not a number".to_owned()),
    }
}

fn duration(given: Given, ms_min: u64, ms_max: u64) -> Result<u64, String> {
    let ms = parse_duration(&text(given)?)?;
    if (ms_min..=ms_max).contains(&ms) {
        return Ok(ms);
    }
    Err(format!("{} is not between {} and {}", plain_duration(ms), plain_duration(ms_min), plain_duration(ms_max)))
}

fn label(given: Given) -> Result<Label, String> {
    Label::new(&text(given)?).map_err(|error| error.to_string())
}

/// Reads `ip:port`; names are not resolved, so that a start never hangs on a resolver.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("{text:?} is not ip:port; write for example 0.0.0.0:7421 or [::]:7421"))
}

fn one_of<T: Copy>(given: Given, known: &[(&str, T)]) -> Result<T, String> {
    let text = text(given)?;
    let found = known.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
    found.ok_or_else(|| {
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        format!("{text:?} is not one of {}", names.join(", "))
    })
}
