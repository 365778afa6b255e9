//! What is said when something was refused or failed: code, what, why, what next, what not; and the exit code.
//!
//! The same value is a problem document (RFC 9457) on the API and an error on the command line. It may carry
//! text that came from a peer or a disk: whoever shows it on a terminal escapes it.

use std::fmt;

use serde_json::{Value, json};

use crate::core::command::{Fault, FaultCode};

/// How a process ends. Stable; anything unknown is a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// All of it was done.
    Done = 0,
    /// It failed.
    Failed = 1,
    /// The arguments do not fit.
    Usage = 2,
    /// Done, but some items were skipped.
    Partial = 3,
    /// Conflicts wait for a person.
    Conflicts = 4,
    /// The gate stayed closed.
    NotCaughtUp = 5,
    /// A guard holds the plan until it is approved.
    SafetyStop = 6,
    /// Another device could not be reached.
    Unreachable = 7,
    /// Refused: pairing, rights, rules.
    Refused = 8,
    /// The daemon is not running.
    NotRunning = 9,
    /// There is nothing of that name.
    NoSuchName = 10,
    /// Another process holds the state.
    Locked = 11,
    /// The disk or the database.
    Storage = 12,
    /// The configuration, or a file it names.
    Config = 13,
    /// `plan --detailed-exitcode`: there is something to do.
    ChangesPending = 20,
    /// Ctrl-C.
    Interrupted = 130,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident $text:literal $exit:ident $status:literal,)*) => {
        /// Codes of problems. Stable; the text is what scripts match.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Code {
            $($(#[$doc])* $name,)*
        }

        impl Code {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// As scripts match it.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }

            /// How a process that reports it ends.
            pub const fn exit(self) -> Exit {
                match self {
                    $(Self::$name => Exit::$exit,)*
                }
            }

            /// The HTTP status that goes with it.
            pub const fn status(self) -> u16 {
                match self {
                    $(Self::$name => $status,)*
                }
            }
        }
    };
}

codes! {
    /// No such device, location, conduit, plan, job or generation.
    NoSuchName "NO_SUCH_NAME" NoSuchName 404,
    /// The name is taken.
    NameTaken "NAME_TAKEN" Refused 409,
    /// The arguments do not fit.
    Usage "USAGE" Usage 400,
    /// The gate stayed closed.
    NotCaughtUp "NOT_CAUGHT_UP" NotCaughtUp 409,
    /// A guard holds the plan.
    SafetyStop "SAFETY_STOP" SafetyStop 409,
    /// The plan is not the plan any more.
    PlanStale "PLAN_STALE" Failed 409,
    /// It runs already.
    AlreadyRunning "ALREADY_RUNNING" Failed 409,
    /// The conduit is disabled or paused.
    ConduitDisabled "CONDUIT_DISABLED" Refused 409,
    /// A rule refuses the conduit.
    ConduitRule "CONDUIT_RULE" Refused 409,
    /// The root is missing or replaced.
    RootMissing "ROOT_MISSING" SafetyStop 409,
    /// The other device cannot be reached.
    Unreachable "UNREACHABLE" Unreachable 503,
    /// No right to do this.
    Refused "REFUSED" Refused 403,
    /// The disk is full, read-only, or failed.
    Storage "STORAGE" Storage 507,
    /// Something inside failed.
    Internal "INTERNAL" Failed 500,
    /// A root that cannot become a location.
    RootRefused "ROOT_REFUSED" Refused 409,
    /// The pairing code is not right.
    PairCode "PAIR_CODE" Refused 403,
    /// No code is open, or it is used up.
    PairClosed "PAIR_CLOSED" Refused 409,
    /// The daemon does not answer.
    NotRunning "NOT_RUNNING" NotRunning 503,
    /// The daemon did not come up.
    StartFailed "START_FAILED" Failed 500,
    /// Another process holds the state directory.
    Locked "LOCKED" Locked 423,
    /// The configuration.
    Config "CONFIG" Config 500,
    /// The key file.
    KeyFile "KEY_FILE" Config 500,
    /// The database was written by a newer version.
    DatabaseNewer "DATABASE_NEWER" Storage 500,
    /// The database was written by a version before the first release.
    DatabaseOlder "DATABASE_OLDER" Storage 500,
    /// The database is another device's.
    DatabaseForeign "DATABASE_FOREIGN" Storage 500,
    /// The run ended, and the ends are not proven equal.
    NotVerified "NOT_VERIFIED" Failed 500,
    /// It took longer than `--timeout`.
    TimedOut "TIMED_OUT" Failed 504,
    /// Ctrl-C.
    Interrupted "INTERRUPTED" Interrupted 500,
    /// A question would have to be asked, and nobody is there to answer.
    NeedsAnswer "NEEDS_ANSWER" Usage 400,
    /// The demo found something that does not hold.
    DemoFailed "DEMO_FAILED" Failed 500,
    /// Something that `doctor` looked at is broken.
    Unhealthy "UNHEALTHY" Failed 503,
}

impl From<FaultCode> for Code {
    fn from(code: FaultCode) -> Self {
        match code {
            FaultCode::NoSuchName => Self::NoSuchName,
            FaultCode::NameTaken => Self::NameTaken,
            FaultCode::Usage => Self::Usage,
            FaultCode::NotCaughtUp => Self::NotCaughtUp,
            FaultCode::SafetyStop => Self::SafetyStop,
            FaultCode::PlanStale => Self::PlanStale,
            FaultCode::AlreadyRunning => Self::AlreadyRunning,
            FaultCode::ConduitDisabled => Self::ConduitDisabled,
            FaultCode::ConduitRule => Self::ConduitRule,
            FaultCode::RootMissing => Self::RootMissing,
            FaultCode::Unreachable => Self::Unreachable,
            FaultCode::Refused => Self::Refused,
            FaultCode::Storage => Self::Storage,
            FaultCode::Internal => Self::Internal,
        }
    }
}

/// A refusal or failure, as API and command line show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Which.
    pub code: Code,
    /// What happened, and whether anything was changed.
    pub message: String,
    /// Why.
    pub why: String,
    /// What to do next.
    pub next: Vec<String>,
    /// What not to do, where it is dangerous.
    pub do_not: Option<String>,
    /// Whether something was changed before it failed.
    pub changed: bool,
}

impl Problem {
    /// A problem before anything was changed.
    pub fn new(code: Code, message: impl Into<String>, why: impl Into<String>) -> Self {
        Self { code, message: message.into(), why: why.into(), next: Vec::new(), do_not: None, changed: false }
    }

    /// Adds something to do next.
    #[must_use]
    pub fn next(mut self, step: impl Into<String>) -> Self {
        self.next.push(step.into());
        self
    }

    /// Says what not to do.
    #[must_use]
    pub fn do_not(mut self, what: impl Into<String>) -> Self {
        self.do_not = Some(what.into());
        self
    }

    /// The document of the command line (`type` is `error`).
    pub fn document(&self) -> Value {
        let mut document = self.members();
        document["v"] = json!(1);
        document["type"] = json!("error");
        document
    }

    /// The problem document of the API (RFC 9457).
    pub fn http_document(&self) -> Value {
        let mut document = self.members();
        document["type"] = json!("about:blank");
        document["title"] = json!(self.message);
        document["status"] = json!(self.code.status());
        document
    }

    /// Reads a problem document; `None` if it is none of ours.
    pub fn from_http(document: &Value) -> Option<Self> {
        let text = |key: &str| document.get(key).and_then(Value::as_str).map(str::to_owned);
        let code = text("code")?;
        Some(Self {
            code: Code::ALL.iter().copied().find(|known| known.as_str() == code).unwrap_or(Code::Internal),
            message: text("message")?,
            why: text("why").unwrap_or_default(),
            next: document
                .get("next")
                .and_then(Value::as_array)
                .map(|steps| steps.iter().filter_map(|s| s.as_str().map(str::to_owned)).collect())
                .unwrap_or_default(),
            do_not: text("do_not"),
            changed: document.get("changed").and_then(Value::as_bool).unwrap_or(false),
        })
    }

    fn members(&self) -> Value {
        let mut members = json!({
            "code": self.code.as_str(),
            "message": self.message,
            "why": self.why,
            "next": self.next,
            "exit": self.code.exit() as u8,
            "changed": self.changed,
        });
        if let Some(what) = &self.do_not {
            members["do_not"] = json!(what);
        }
        members
    }
}

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        Self {
            code: fault.code.into(),
            message: fault.message,
            why: fault.why,
            next: fault.next,
            do_not: fault.do_not,
            changed: false,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.as_str(), self.message)
    }
}

impl std::error::Error for Problem {}
