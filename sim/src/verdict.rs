//! What a run came to: fine, or the first thing that was wrong, with everything a person needs to understand it.

use std::fmt;

use serde::Serialize;

use crate::coverage::Coverage;
use crate::plan::Millis;
use crate::trace::Fingerprint;

/// The invariants of `docs/ARCHITECTURE.md`, by the names that reports use.
pub mod names {
    /// Every content a user wrote and did not himself supersede exists whole somewhere.
    pub const NO_LOSS: &str = "NO_LOSS";
    /// Every path shows the old or the new whole content.
    pub const ATOMIC: &str = "ATOMIC";
    /// No plan is made from an index that lacks a row of either end, or what was on disk when it was asked.
    pub const GATED: &str = "GATED";
    /// No delete of a generation before all its copies have outcomes.
    pub const ORDER: &str = "ORDER";
    /// Nothing is replaced or removed but what the plan saw.
    pub const PRE_IMAGE: &str = "PRE_IMAGE";
    /// What was deleted with all edits seen stays deleted.
    pub const NO_RESURRECTION: &str = "NO_RESURRECTION";
    /// When faults stop, ends become equal, replicas too, and nothing is left staged.
    pub const CONVERGE: &str = "CONVERGE";
    /// At rest nothing happens but heartbeats.
    pub const QUIET: &str = "QUIET";
    /// What left a device is on its disk.
    pub const DURABLE_BEFORE_SAID: &str = "DURABLE_BEFORE_SAID";
    /// A number never names two rows; stamps grow.
    pub const ONE_NUMBER_ONE_ROW: &str = "ONE_NUMBER_ONE_ROW";
    /// A node writes only what a job names, below its roots.
    pub const CONFINED: &str = "CONFINED";
    /// Memory, queues, streams, staging, time have bounds.
    pub const BOUNDED: &str = "BOUNDED";
    /// Verified means verified.
    pub const TRUE: &str = "TRUE";
    /// A node must not fall by itself.
    pub const ALIVE: &str = "ALIVE";
    /// What a story expects.
    pub const EXPECTED: &str = "EXPECTED";
}

/// Something that was wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// Which invariant.
    pub invariant: String,
    /// Which kind of breach of it: with the invariant, the class that a shrinker keeps to.
    pub kind: String,
    /// When, in milliseconds of the run.
    pub at_ms: u64,
    /// On which device.
    pub device: Option<String>,
    /// At which path: `location/path`.
    pub path: Option<String>,
    /// What, as a sentence.
    pub says: String,
    /// What is known of the path, oldest first.
    pub history: Vec<String>,
}

impl Violation {
    /// A violation; when, where and its history are filled in by whoever knows.
    pub fn new(invariant: &str, kind: &str, says: impl Into<String>) -> Self {
        Self {
            invariant: invariant.to_owned(),
            kind: kind.to_owned(),
            at_ms: 0,
            device: None,
            path: None,
            says: says.into(),
            history: Vec::new(),
        }
    }

    /// On a device.
    #[must_use]
    pub fn on(mut self, device: impl Into<String>) -> Self {
        self.device = Some(device.into());
        self
    }

    /// At a path of a location.
    #[must_use]
    pub fn at(mut self, location: &str, path: &str) -> Self {
        self.path = Some(if path.is_empty() { location.to_owned() } else { format!("{location}/{path}") });
        self
    }

    /// What makes two violations the same for a shrinker.
    pub fn class(&self) -> (&str, &str) {
        (&self.invariant, &self.kind)
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}) at {}", self.invariant, self.kind, Millis(self.at_ms).clock())?;
        if let Some(device) = &self.device {
            write!(f, " on {device}")?;
        }
        if let Some(path) = &self.path {
            write!(f, ", {path}")?;
        }
        write!(f, ": {}", self.says)
    }
}

/// What a run came to.
#[derive(Debug, Clone, Default)]
pub struct Verdict {
    /// The first violation; `None` is fine.
    pub violation: Option<Violation>,
    /// What happened, in short.
    pub fingerprint: Fingerprint,
    /// What was reached.
    pub coverage: Coverage,
    /// Time that the run simulated.
    pub simulated_ms: u64,
    /// Devices times simulated time.
    pub device_ms: u64,
    /// What each device did, for people.
    pub timeline: Vec<Moment>,
}

/// One line of a timeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// When.
    pub at_ms: u64,
    /// On which device.
    pub device: usize,
    /// What.
    pub what: String,
}
