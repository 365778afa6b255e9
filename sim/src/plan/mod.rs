//! A plan: everything that will happen in a run, as data. The simulator runs a plan, never a seed.
//!
//! Devices, locations with their first files, conduits, the weather of the network, and steps: deeds at their times.
//! A plan is a TOML file that reads like a story ([`crate::story`] reads it, [`write`](mod@write) writes it). What is left to
//! chance while it runs (latencies, which task goes first, what a crash leaves) comes from streams keyed by `seed`
//! and by what they decide, so that removing one step leaves the rest as it was.

pub mod deed;
pub mod generate;
mod grammar;
mod moment;
pub mod profile;
pub mod words;
mod write;

use std::collections::BTreeMap;
use std::fmt;

use tidegate_protocol::file_sync::{BandwidthLimit, ConflictStrategy, DeleteMode, Schedule, SyncMode};

pub use deed::{Content, Deed, Doer, Keep, Place, Style};
pub use grammar::{Chosen, Spanned, VERBS, step};
pub use moment::{Clock, Millis, TimeError};

/// Everything that will happen.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// What this is about, for people.
    pub story: String,
    /// Keys every small decision.
    pub seed: u64,
    /// The profile it was drawn from, if it was.
    pub profile: String,
    /// Until then things go wrong; then everything heals.
    pub until: Millis,
    /// Within this time after that, everything must be level and quiet.
    pub heal: Millis,
    /// Events after which a run that has not ended is a livelock.
    pub events_max: u64,
    /// Who is there.
    pub devices: Vec<DevicePlan>,
    /// What they hold.
    pub locations: Vec<LocationPlan>,
    /// How it is linked.
    pub conduits: Vec<ConduitPlan>,
    /// The weather.
    pub network: NetworkPlan,
    /// What happens, in order of time.
    pub steps: Vec<Step>,
    /// What must be seen besides the invariants.
    pub expects: Vec<Expect>,
}

/// One device.
#[expect(clippy::struct_excessive_bools, reason = "independent quirks, each by itself")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DevicePlan {
    /// Its name.
    pub name: String,
    /// Whether it is in the library from the start; else by a step.
    pub member: bool,
    /// How far its wall clock is ahead at the start, in milliseconds; negative if behind.
    pub skew_ms: i64,
    /// How much faster than right its clock runs, in millionths.
    pub drift_ppm: i64,
    /// Quiet time before a path is looked at.
    pub settle: Millis,
    /// Whether its disks treat names as equal that differ by case only.
    pub folds_case: bool,
    /// Modification times are whole multiples of this many nanoseconds.
    pub mtime_step_ns: u64,
    /// Whether its disks can exchange two names.
    pub exchange: bool,
    /// Whether a new file may get the number of one that is gone.
    pub reuses_inodes: bool,
}

/// One location.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocationPlan {
    /// The device that holds it.
    pub device: String,
    /// Its name, unique on the device.
    pub name: String,
    /// Its files at the start.
    pub files: BTreeMap<String, Content>,
    /// Its own ignore rules.
    pub rules: Vec<String>,
}

/// One conduit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConduitPlan {
    /// Its name.
    pub name: String,
    /// Where from.
    pub source: End,
    /// Where to.
    pub target: End,
    /// Mode.
    pub mode: SyncMode,
    /// When it runs by itself.
    pub schedule: Schedule,
    /// What becomes of old bytes.
    pub delete_mode: DeleteMode,
    /// What becomes of conflicts.
    pub strategy: ConflictStrategy,
    /// How much it may move, by time of day.
    pub limit: BandwidthLimit,
    /// Chosen subtrees, files and patterns (selective).
    pub select: Vec<String>,
    /// Whether a plan that a guard holds is approved by the operator, some time after.
    pub approves: bool,
}

/// One end of a conduit: `device:location[/dir]`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct End {
    /// The device.
    pub device: String,
    /// The location and the directory in it.
    pub place: Place,
}

/// The weather of the network while things go wrong. When they heal, only the latency stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NetworkPlan {
    /// Shortest and longest way of a frame, in milliseconds.
    pub latency_ms: (u64, u64),
    /// Announcements lost, per million.
    pub gossip_loss_ppm: u32,
    /// Announcements that arrive twice, per million.
    pub gossip_repeat_ppm: u32,
    /// Streams that break, per million frames.
    pub reset_ppm: u32,
    /// Bytes per second of a link; 0 is no limit.
    pub bytes_per_s: u64,
}

/// One deed at its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// When.
    pub at: Millis,
    /// On which device.
    pub on: String,
    /// What.
    pub deed: Deed,
    /// Names it for the streams that it draws from, and for content that nobody else writes. 0 if it has none yet.
    pub number: u32,
}

/// What must be seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expect {
    /// When; at the end, when all is at rest, if absent.
    pub at: Option<Millis>,
    /// What.
    pub what: Expected,
}

/// What can be expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// The files below an end, and nothing else there. A name that ends in `/` is an empty directory.
    Tree(End, BTreeMap<String, String>),
    /// Two ends hold the same.
    Same(End, End),
    /// These texts are in the trash of a location.
    Trash(End, Vec<String>),
    /// The newest generation of a conduit is verified.
    Verified(String),
    /// A guard holds the plan of a conduit.
    Held(String),
}

impl Default for NetworkPlan {
    fn default() -> Self {
        Self { latency_ms: (1, 5), gossip_loss_ppm: 0, gossip_repeat_ppm: 0, reset_ppm: 0, bytes_per_s: 0 }
    }
}

impl DevicePlan {
    /// A device without any quirk.
    pub fn plain(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            member: true,
            skew_ms: 0,
            drift_ppm: 0,
            settle: Millis(100),
            folds_case: false,
            mtime_step_ns: 1,
            exchange: true,
            reuses_inodes: false,
        }
    }
}

impl Plan {
    /// A plan in which nothing happens.
    pub fn empty(seed: u64) -> Self {
        Self {
            story: String::new(),
            seed,
            profile: String::new(),
            until: Millis(0),
            heal: Millis(20 * 60_000),
            events_max: 20_000_000,
            devices: Vec::new(),
            locations: Vec::new(),
            conduits: Vec::new(),
            network: NetworkPlan::default(),
            steps: Vec::new(),
            expects: Vec::new(),
        }
    }

    /// Which device has this name.
    pub fn device(&self, name: &str) -> Option<usize> {
        self.devices.iter().position(|device| device.name == name)
    }

    /// Which location of a device has this name.
    pub fn location(&self, device: &str, name: &str) -> Option<usize> {
        self.locations.iter().position(|location| location.device == device && location.name == name)
    }

    /// Which conduit has this name.
    pub fn conduit(&self, name: &str) -> Option<usize> {
        self.conduits.iter().position(|conduit| conduit.name == name)
    }

    /// Puts the steps in order and gives a number to each that has none.
    pub fn settle_steps(&mut self) {
        self.steps.sort_by_key(|step| step.at);
        let mut next = self.steps.iter().map(|step| step.number).max().unwrap_or(0);
        for step in self.steps.iter_mut().filter(|step| step.number == 0) {
            next += 1;
            step.number = next;
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.at.clock(), words::quoted(&self.on), self.deed)?;
        if self.number == 0 { Ok(()) } else { write!(f, " #{}", self.number) }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.device, self.place.location)?;
        if self.place.path.is_empty() { Ok(()) } else { write!(f, "/{}", self.place.path) }
    }
}

impl std::str::FromStr for End {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (device, place) = text
            .split_once(':')
            .ok_or_else(|| format!("`{text}` is no end: write device:location or device:location/dir"))?;
        if device.is_empty() {
            return Err(format!("`{text}` names no device"));
        }
        Ok(Self { device: device.to_owned(), place: place.parse()? })
    }
}
