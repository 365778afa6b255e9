//! Identity and replica: opened if they are right, refused or moved aside if they are not. Never regenerated.

use std::path::Path;

use tidegate_protocol::id::DeviceId;
use tidegate_storage::store::{Foreign, Store, StoreError};

use crate::api::problem::{Code, Problem};
use crate::core::CoreError;
use crate::os::net::identity::{DeviceKey, KeyError};

/// Name of the replica in the state directory.
pub(super) const REPLICA: &str = "index.redb";
const KEY: &str = "identity.key";
/// What a damaged replica's name ends with.
const DAMAGED: &str = "damaged";

/// A replica, and what a person should know of its opening.
pub(super) struct Opened {
    pub(super) store: Store,
    pub(super) warnings: Vec<String>,
}

/// Why a node ended.
pub(super) enum Failure {
    /// For people.
    Problem(Problem),
    /// The replica cannot be trusted any more.
    Damaged(String),
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl From<CoreError> for Failure {
    fn from(error: CoreError) -> Self {
        let CoreError::Store(error) = error;
        match error {
            StoreError::Corrupt(why) => Self::Damaged(why),
            other => Self::Problem(refused(&other, "the node ended")),
        }
    }
}

/// The key of this device. Created with the first start, and never again: a missing key beside a replica is a loss
/// that a person must know of.
pub(super) fn identity(state: &Path) -> Result<DeviceKey, Problem> {
    let path = state.join(KEY);
    match DeviceKey::load(&path) {
        Ok(key) => Ok(key),
        Err(KeyError::Missing(_)) if state.join(REPLICA).exists() => {
            let why = format!("{} is missing, and {REPLICA} beside it belongs to it", path.display());
            Err(Problem::new(Code::KeyFile, "nothing was started or changed", why)
                .next(format!("restore {KEY} from a backup"))
                .next(format!(
                    "if it is lost, this is a new device: move {} away, start, and pair again",
                    state.join(REPLICA).display()
                ))
                .do_not("copy the key of another device: two devices with one key are a fork"))
        }
        Err(KeyError::Missing(_)) => DeviceKey::create(&path).map_err(|error| key_refused(&error, &path)),
        Err(error) => Err(key_refused(&error, &path)),
    }
}

fn key_refused(error: &KeyError, path: &Path) -> Problem {
    let problem =
        Problem::new(Code::KeyFile, "the device key was refused; nothing was started or changed", error.to_string());
    match error {
        KeyError::TooOpen { .. } => problem
            .next(format!("chmod 600 {}", path.display()))
            .next("if others may have read it: pair this device anew with a new state directory"),
        KeyError::WrongOwner { .. } => {
            problem.next(format!("chown it to the user that runs Tidegate: {}", path.display()))
        }
        KeyError::WrongLength { .. } => problem.next(format!("restore {} from a backup", path.display())),
        KeyError::Missing(_) | KeyError::Exists(_) | KeyError::Io { .. } => problem,
    }
}

/// Opens the replica of `device`. One that is damaged is moved aside and begun anew: the locations are added again
/// by the person, files are scanned, and peers bring the rest; nothing is deleted meanwhile.
pub(super) fn replica(state: &Path, device: DeviceId) -> Result<Opened, Problem> {
    let path = state.join(REPLICA);
    match Store::open(&path, device) {
        Ok(store) => Ok(Opened { store, warnings: Vec::new() }),
        Err(StoreError::Corrupt(why)) => {
            let aside = Store::move_aside(&path, DAMAGED).map_err(|error| refused(&error, "nothing was started"))?;
            let store = Store::open(&path, device).map_err(|error| refused(&error, "nothing was started"))?;
            let warning = moved(&why, &aside);
            tracing::error!("{warning}");
            Ok(Opened { store, warnings: vec![warning] })
        }
        Err(error) => Err(refused(&error, "nothing was started or changed")),
    }
}

/// Makes a failure a problem; a replica that was found damaged while the node ran is moved aside, now that
/// nobody holds it.
pub(super) fn set_right(failure: Failure, path: &Path) -> Problem {
    let why = match failure {
        Failure::Problem(problem) => return problem,
        Failure::Damaged(why) => why,
    };
    let problem =
        |next: String| Problem::new(Code::Storage, "the index is damaged; the node ended", why.clone()).next(next);
    match Store::move_aside(path, DAMAGED) {
        Ok(aside) => problem(format!("{}; start again: tidegate up", moved(&why, &aside))),
        Err(error) => problem(format!("move {} away ({error}), then start again: tidegate up", path.display())),
    }
}

fn moved(why: &str, aside: &Path) -> String {
    format!(
        "the index was damaged ({why}) and was moved to {}; a new one is built from disks and peers, add this device's locations again",
        aside.display()
    )
}

fn refused(error: &StoreError, what: &str) -> Problem {
    let why = error.to_string();
    match error {
        StoreError::Locked => {
            Problem::new(Code::Locked, what, why).next("one daemon per state directory: tidegate status")
        }
        StoreError::NewerFormat { .. } => Problem::new(Code::DatabaseNewer, what, why)
            .next("start the Tidegate version that wrote it, or a newer one"),
        StoreError::OlderFormat { .. } => Problem::new(Code::DatabaseOlder, what, why)
            .next("move index.redb away and start again: the index is built anew from disks and peers, add this device's locations again"),
        StoreError::Foreign(Foreign::OtherDevice(_)) => Problem::new(Code::DatabaseForeign, what, why)
            .next("give each device a state directory of its own; this one was copied")
            .do_not("copy identity.key along: two devices with one key are a fork"),
        StoreError::Foreign(Foreign::NotAReplica) => {
            Problem::new(Code::DatabaseForeign, what, why).next("move that file away, if it does not belong here")
        }
        StoreError::Full => Problem::new(Code::Storage, what, why).next("make room, then start again"),
        StoreError::Corrupt(_) | StoreError::Io(_) | StoreError::Own(_) => Problem::new(Code::Storage, what, why),
    }
}
