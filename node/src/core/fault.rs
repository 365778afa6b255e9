//! Refusals and failures, in the words that people are told: what happened, why, and what to do about it.

use serde::{Deserialize, Serialize};

/// A refusal or failure, with what to do about it. The face adds the exit code by `code`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    /// Which.
    pub code: FaultCode,
    /// What happened, and whether anything was changed.
    pub message: String,
    /// Why.
    pub why: String,
    /// What to do next: commands or advice.
    pub next: Vec<String>,
    /// What not to do, where it is dangerous.
    pub do_not: Option<String>,
}

/// Codes of faults, stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum FaultCode {
    /// No such device, location, conduit, plan, job or generation.
    NoSuchName,
    /// The name is taken.
    NameTaken,
    /// The arguments do not fit.
    Usage,
    /// The gate stayed closed.
    NotCaughtUp,
    /// A guard holds the plan.
    SafetyStop,
    /// The plan that was named is not the plan any more.
    PlanStale,
    /// It runs already.
    AlreadyRunning,
    /// The conduit is disabled or paused.
    ConduitDisabled,
    /// A rule refuses the conduit.
    ConduitRule,
    /// The root is missing or replaced.
    RootMissing,
    /// The other device cannot be reached.
    Unreachable,
    /// No right to do this.
    Refused,
    /// The disk is full, read-only, or failed.
    Storage,
    /// Something inside failed.
    Internal,
}
