//! Two ends of a mirror as real processes: what most end-to-end tests begin with.
//!
//! Everything is driven by the command line and read back from the disks; nothing here looks inside a node.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tidegate::lab::{self, Device, Done, Lab, LabError, Leaf, Tree};

/// How long anything may take. It bounds a test that fails; no test that passes waits for it.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// Differences that are named when two trees are not equal.
const NAMED_MAX: usize = 10;

/// Why a test failed. Shown with its lines as they are, because the harness prints the debug form.
pub struct Failed(String);

/// What a test returns.
pub type Outcome = Result<(), Failed>;

impl Failed {
    /// With a message.
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl fmt::Debug for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<LabError> for Failed {
    fn from(error: LabError) -> Self {
        Self(error.to_string())
    }
}

impl From<std::io::Error> for Failed {
    fn from(error: std::io::Error) -> Self {
        Self(error.to_string())
    }
}

/// Two paired devices, a location on each, and the conduit `mirror` from desk to nas.
pub struct Pair {
    /// Holds the source and coordinates.
    pub desk: Device,
    /// Holds the target.
    pub nas: Device,
    /// Root of `desk:Source`.
    pub source: PathBuf,
    /// Root of `nas:Target`.
    pub target: PathBuf,
    /// Last, so that it is removed after the processes have ended.
    pub lab: Lab,
}

impl Pair {
    /// With two empty directories.
    pub fn new(program: &str) -> Result<Self, Failed> {
        Self::over(program, |_| Ok(()))
    }

    /// With directories as `prepare` leaves them before anything is indexed; it may also set variables.
    pub fn over(program: &str, prepare: impl FnOnce(&mut Self) -> Outcome) -> Result<Self, Failed> {
        let lab = Lab::new(program)?;
        let (desk, nas) = (lab.device("desk")?, lab.device("nas")?);
        let (source, target) = (lab.directory("source")?, lab.directory("target")?);
        let mut pair = Self { desk, nas, source, target, lab };
        prepare(&mut pair)?;
        pair.desk.start()?;
        pair.nas.start()?;
        pair.desk.pair(&pair.nas)?;
        pair.desk.must(["location", "add", text(&pair.source)?, "--name", "Source", "--allow", "nas=read"])?;
        pair.nas.must(["location", "add", text(&pair.target)?, "--name", "Target", "--allow", "desk=delete"])?;
        locations_known(&pair.desk, 2)?;
        pair.desk.must(["conduit", "create", "mirror", "desk:Source", "nas:Target"])?;
        pair.nas.await_conduit("mirror", PATIENCE)?;
        Ok(pair)
    }

    /// Runs the conduit once, however it ends.
    pub fn try_sync(&self, arguments: &[&str]) -> Result<Done, Failed> {
        Ok(self.desk.run([&["sync", "mirror"], arguments].concat())?)
    }

    /// Runs the conduit once; fails unless it ends with this exit code.
    pub fn sync(&self, exit: i32) -> Result<Done, Failed> {
        let done = self.try_sync(&[])?;
        if done.code == exit {
            return Ok(done);
        }
        Err(Failed(format!("sync was to end with {exit}: {done}\n{}", self.newest()?)))
    }

    /// Begins a run and leaves it to itself.
    pub fn begin(&self) -> Outcome {
        let begun = self.desk.json(["sync", "mirror", "--detach"])?;
        check(begun["generation"].is_u64(), &format!("a run was to begin: {begun}"))
    }

    /// Waits until nothing is left to do.
    pub fn rest(&self) -> Outcome {
        let limit = PATIENCE.as_secs().to_string() + "s";
        self.desk.must(["--timeout", &limit, "conduit", "wait", "mirror"])?;
        Ok(())
    }

    /// The newest generation with its items.
    pub fn newest(&self) -> Result<Value, Failed> {
        Ok(self.desk.json(["gen", "show", "mirror"])?)
    }

    /// A sum of the newest generation, such as `bytes`.
    pub fn total(&self, name: &str) -> Result<u64, Failed> {
        let newest = self.newest()?;
        let total = newest["totals"][name].as_u64();
        total.ok_or_else(|| Failed(format!("no total {name} in {newest:#}")))
    }

    /// The plan that waits for approval.
    pub fn held(&self) -> Result<String, Failed> {
        let status = self.desk.json(["status"])?;
        let plan = status["conduits"][0]["held"]["plan"].as_str();
        plan.map(ToOwned::to_owned).ok_or_else(|| Failed(format!("no plan is held:\n{status:#}")))
    }

    /// Fails with the differences unless both disks hold the same.
    pub fn equal(&self) -> Outcome {
        same(&lab::read(&self.source)?, &lab::read(&self.target)?)
    }

    /// Whether the target's trash holds a file with this content.
    pub fn trashed(&self, content: &[u8]) -> Result<bool, Failed> {
        let trash = self.target.join(".tidegate/trash");
        if !trash.exists() {
            return Ok(false);
        }
        Ok(lab::read(&trash)?.values().any(|leaf| *leaf == Leaf::file(content)))
    }

    /// Fails if a staged file was left behind at the target.
    pub fn nothing_is_staged(&self) -> Outcome {
        let staged = lab::read(&self.target.join(".tidegate/staging"))?;
        check(staged.values().all(|leaf| *leaf == Leaf::Directory), &format!("left behind: {staged:?}"))
    }

    /// Waits until the conduit, seen from desk, runs and satisfies `is_it`.
    pub fn await_run(&self, what: &str, is_it: impl Fn(&Value) -> bool) -> Outcome {
        self.desk.await_status(what, PATIENCE, |status| is_it(&status["conduits"][0]["running"]))?;
        Ok(())
    }
}

/// Fails with `what` unless it holds.
pub fn check(holds: bool, what: &str) -> Outcome {
    if holds { Ok(()) } else { Err(Failed(what.to_owned())) }
}

/// Fails with the first differences unless two trees are equal.
pub fn same(expected: &Tree, found: &Tree) -> Outcome {
    let paths = expected.keys().chain(found.keys().filter(|path| !expected.contains_key(*path)));
    let different = paths.filter(|path| expected.get(*path) != found.get(*path)).map(|path| {
        let shown = String::from_utf8_lossy(path).into_owned();
        format!("{shown}: expected {:?}, found {:?}", expected.get(path), found.get(path))
    });
    let different: Vec<String> = different.take(NAMED_MAX).collect();
    check(different.is_empty(), &format!("the trees differ:\n{}", different.join("\n")))
}

/// A path as an argument.
pub fn text(path: &Path) -> Result<&str, Failed> {
    path.to_str().ok_or_else(|| Failed("the temporary directory's name is not UTF-8".to_owned()))
}

/// Waits until a device knows so many locations.
pub fn locations_known(device: &Device, number: usize) -> Outcome {
    let known = |status: &Value| status["locations"].as_array().is_some_and(|all| all.len() >= number);
    device.await_status("all locations known", PATIENCE, known)?;
    Ok(())
}

/// Waits until a location of this device is in a state.
pub fn location_is(device: &Device, name: &str, is_it: impl Fn(&str) -> bool) -> Outcome {
    let found = |status: &Value| {
        let mut all = status["locations"].as_array().into_iter().flatten();
        all.any(|l| l["name"] == name && l["here"] == true && l["state"].as_str().is_some_and(&is_it))
    };
    device.await_status(&format!("the state of {name}"), PATIENCE, found)?;
    Ok(())
}

/// Waits until a device sees another one, or sees it gone.
pub fn online(device: &Device, other: &str, is_online: bool) -> Outcome {
    let found = |status: &Value| {
        status["devices"].as_array().into_iter().flatten().any(|d| d["name"] == other && d["online"] == is_online)
    };
    device.await_status(&format!("{other} online: {is_online}"), PATIENCE, found)?;
    Ok(())
}

/// Makes something immutable, also for root, until it is dropped.
pub struct Immutable(PathBuf);

impl Immutable {
    /// `None`, with a printed reason, where the file system or the user cannot.
    pub fn new(path: &Path) -> Option<Self> {
        if chattr("+i", path) {
            return Some(Self(path.to_owned()));
        }
        println!("skipped: chattr +i is not possible here");
        None
    }
}

impl Drop for Immutable {
    fn drop(&mut self) {
        chattr("-i", &self.0);
    }
}

fn chattr(flag: &str, path: &Path) -> bool {
    let ended = Command::new("chattr").arg(flag).arg(path).output();
    ended.is_ok_and(|output| output.status.success())
}

/// A memory file system of a size, mounted on a directory until it is dropped.
pub struct Mount(PathBuf);

impl Mount {
    /// `None`, with a printed reason, where mounting is not permitted.
    pub fn new(on: &Path, size: &str) -> Result<Option<Self>, Failed> {
        fs::create_dir_all(on)?;
        let options = format!("size={size}");
        let ended = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "none"]).arg(on).output();
        if ended.is_ok_and(|output| output.status.success()) {
            return Ok(Some(Self(on.to_owned())));
        }
        println!("skipped: mounting a memory file system is not permitted here");
        Ok(None)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily, because a node may still hold it open; the namespace of the test is cleaned all the same.
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}
