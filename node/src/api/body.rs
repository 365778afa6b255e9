//! The bodies of requests, and how they become commands. Unknown members are refused.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tidegate_protocol::id::Label;
use tidegate_protocol::path::DirPath;

use super::problem::{Code, Problem};
use super::words;
use crate::core::command::{ConduitChange, NewConduit, SelectionChange};

/// `POST /locations`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewLocation {
    /// Its root; absolute.
    pub path: PathBuf,
    /// Its name; the directory's name if absent.
    pub name: Option<Label>,
}

/// `POST /locations/{name}/rescan`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rescan {
    /// Reads every file again.
    pub deep: bool,
}

/// `PATCH /devices/{name}`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rename {
    /// The new name.
    pub name: Label,
}

/// `POST /conduits/{name}/plan` and `/sync`, `POST /plans/{id}/approve`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Run {
    /// Only if the plan is still this one.
    pub plan: Option<String>,
    /// How long to wait for the gate, in milliseconds; the configured time if absent.
    pub wait_ms: Option<u64>,
}

/// `POST /pairing/join`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Join {
    /// As typed.
    pub code: String,
    /// Where the other device is, when it cannot be found.
    pub at: Option<SocketAddr>,
}

/// `POST /conduits`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConduitNew {
    /// Its name.
    pub name: Label,
    /// `device:location[/dir]`.
    pub source: String,
    /// `device:location[/dir]`.
    pub target: String,
    /// Its mode.
    pub mode: String,
    /// Settings that differ from the defaults.
    #[serde(default)]
    pub settings: ConduitSet,
}

/// `PATCH /conduits/{name}`: what is absent stays.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConduitSet {
    /// New name.
    pub name: Option<Label>,
    /// Enabled.
    pub enabled: Option<bool>,
    /// Paused.
    pub paused: Option<bool>,
    /// Schedule.
    pub schedule: Option<String>,
    /// Transfers at the same time.
    pub parallel_transfers: Option<u32>,
    /// Bytes per second; 0 is no limit.
    pub bandwidth_limit: Option<u64>,
    /// Conflict strategy.
    pub strategy: Option<String>,
    /// Delete mode.
    pub delete_mode: Option<String>,
    /// What a selective conduit holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selection: Option<SelectionSet>,
}

/// What to change of a selection: what is absent stays, and for numbers 0 is no bound.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SelectionSet {
    /// Whole directories, and single files; `.` is everything.
    pub subtrees: Option<Vec<String>>,
    /// Patterns.
    pub include: Option<Vec<String>>,
    /// Patterns that take candidates out again.
    pub exclude: Option<Vec<String>>,
    /// Smaller files stay away.
    pub size_bytes_min: Option<u64>,
    /// Larger files stay away.
    pub size_bytes_max: Option<u64>,
    /// Files that were modified longer ago stay away.
    pub age_ms_max: Option<u64>,
    /// Room for the most recently used.
    pub budget_bytes: Option<u64>,
}

/// `POST /conduits/{name}/pins`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PinSet {
    /// Below the conduit's roots.
    pub path: String,
    /// Pins, or lets go.
    pub pinned: bool,
}

/// `POST /fetch`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FetchSet {
    /// Below the conduit's roots, or absolute and below a location of this device.
    pub path: String,
    /// In which conduit; found by the path if absent.
    #[serde(default)]
    pub conduit: Option<String>,
    /// How long it stays, in milliseconds.
    pub for_ms: u64,
}

impl SelectionSet {
    fn change(self) -> Result<SelectionChange, Problem> {
        let dir = |text: &String| {
            let text = text.trim_end_matches('/');
            if text == "." || text.is_empty() {
                return Ok(DirPath::TOP);
            }
            DirPath::from_slashes(text.as_bytes()).map_err(|error| usage(format!("{text:?}: {error}")))
        };
        Ok(SelectionChange {
            subtrees: self.subtrees.map(|all| all.iter().map(dir).collect::<Result<_, _>>()).transpose()?,
            include: self.include,
            exclude: self.exclude,
            size_bytes_min: self.size_bytes_min,
            size_bytes_max: self.size_bytes_max,
            age_ms_max: self.age_ms_max,
            budget_bytes: self.budget_bytes,
        })
    }
}

impl ConduitNew {
    /// As the core takes it.
    pub fn command(self) -> Result<NewConduit, Problem> {
        let mode = words::parse_mode(&self.mode).map_err(usage)?;
        let change = self.settings.change()?;
        Ok(NewConduit { name: self.name, source: self.source, target: self.target, mode, change })
    }
}

impl ConduitSet {
    /// As the core takes it.
    pub fn change(self) -> Result<ConduitChange, Problem> {
        Ok(ConduitChange {
            name: self.name,
            enabled: self.enabled,
            paused: self.paused,
            schedule: self.schedule.as_deref().map(words::parse_schedule).transpose().map_err(usage)?,
            parallel_transfers: self.parallel_transfers,
            bandwidth_limit: self.bandwidth_limit,
            strategy: self.strategy.as_deref().map(words::parse_strategy).transpose().map_err(usage)?,
            delete_mode: self.delete_mode.as_deref().map(words::parse_delete_mode).transpose().map_err(usage)?,
            selection: self.selection.unwrap_or_default().change()?,
        })
    }
}

fn usage(why: String) -> Problem {
    Problem::new(Code::Usage, "the request was not understood; nothing was changed", why)
}
