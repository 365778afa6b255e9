//! Several devices of one library as real processes, each with one directory that all of them may use: what tests of
//! two-way and selective conduits begin with.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tidegate::lab::{self, Device, Done, Lab, Tree};

use crate::ends::{Failed, Outcome, PATIENCE, same};

/// Name of every location.
const LOCATION: &str = "Dir";

/// Devices that know each other.
pub struct Mesh {
    /// The first one lets the others in.
    pub devices: Vec<Device>,
    /// Root of each device's location.
    pub roots: Vec<PathBuf>,
    /// Last, so that it is removed after the processes have ended.
    pub lab: Lab,
}

impl Mesh {
    /// Devices of these names.
    pub fn new(program: &str, names: &[&str]) -> Result<Self, Failed> {
        let lab = Lab::new(program)?;
        let (mut devices, mut roots) = (Vec::new(), Vec::new());
        for name in names {
            let mut device = lab.device(name)?;
            device.start()?;
            devices.push(device);
            roots.push(lab.directory(name)?);
        }
        let (first, others) = devices.split_first().ok_or_else(|| Failed::new("a mesh has devices"))?;
        for other in others {
            first.pair(other)?;
        }
        let mesh = Self { devices, roots, lab };
        mesh.introduce(names)?;
        Ok(mesh)
    }

    fn introduce(&self, names: &[&str]) -> Outcome {
        for (device, root) in self.devices.iter().zip(&self.roots) {
            device.await_status("all devices online", PATIENCE, |status| {
                let all = status["devices"].as_array().into_iter().flatten();
                all.filter(|device| device["online"] == true).count() + 1 == names.len()
            })?;
            let root = root.to_str().ok_or_else(|| Failed::new("a root is no text"))?;
            device.must(["location", "add", root, "--name", LOCATION])?;
            for name in names.iter().filter(|name| **name != device.name()) {
                device.must([
                    "location",
                    "allow",
                    &format!("{}:{LOCATION}", device.name()),
                    &format!("{name}=delete"),
                ])?;
            }
        }
        for device in &self.devices {
            device.await_status("all locations known", PATIENCE, |status| {
                status["locations"].as_array().is_some_and(|all| all.len() == names.len())
            })?;
        }
        Ok(())
    }

    /// Links two devices' directories; the first one coordinates. Every device knows of it then.
    pub fn link(&self, name: &str, source: usize, target: usize, settings: &[&str]) -> Outcome {
        let end = |at: usize| format!("{}:{LOCATION}", self.devices[at].name());
        let (source_end, target_end) = (end(source), end(target));
        let create = ["conduit", "create", name, &source_end, &target_end];
        self.devices[source].must([&create[..], settings].concat())?;
        self.devices.iter().try_for_each(|device| device.await_conduit(name, PATIENCE))?;
        Ok(())
    }

    /// Runs a conduit once; fails unless it ends with this exit code.
    pub fn sync(&self, on: usize, conduit: &str, exit: i32) -> Result<Done, Failed> {
        let done = self.devices[on].run(["sync", conduit])?;
        if done.code == exit {
            return Ok(done);
        }
        Err(Failed::new(format!("sync was to end with {exit}: {done}\n{}", self.devices[on].log())))
    }

    /// What is on a device's disk.
    pub fn tree(&self, at: usize) -> Result<Tree, Failed> {
        Ok(lab::read(&self.roots[at])?)
    }

    /// Fails with the differences unless these devices hold the same.
    pub fn equal(&self, among: &[usize]) -> Outcome {
        among.windows(2).try_for_each(|pair| same(&self.tree(pair[0])?, &self.tree(pair[1])?))
    }

    /// Waits until these devices hold the same and `done` holds.
    pub fn settle(&self, among: &[usize], done: impl Fn() -> bool) -> Outcome {
        if lab::eventually(PATIENCE, || done() && self.equal(among).is_ok()) {
            return Ok(());
        }
        self.equal(among)?;
        Err(Failed::new("the devices hold the same, and not what they must"))
    }

    /// A file of a device's directory.
    pub fn file(&self, at: usize, path: &str) -> PathBuf {
        self.roots[at].join(path)
    }

    /// Writes a file, with the directories above it.
    pub fn write(&self, at: usize, path: &str, content: &str) -> Outcome {
        let file = self.file(at, path);
        fs::create_dir_all(file.parent().unwrap_or(Path::new("/")))?;
        Ok(fs::write(file, content)?)
    }

    /// Reads a file; `None` if there is none.
    pub fn read(&self, at: usize, path: &str) -> Option<String> {
        fs::read_to_string(self.file(at, path)).ok()
    }

    /// Whether a device's trash holds this content.
    pub fn trashed(&self, at: usize, content: &str) -> bool {
        fn holds(dir: &Path, content: &[u8]) -> bool {
            let entries = fs::read_dir(dir).into_iter().flatten().flatten();
            entries.map(|entry| entry.path()).any(|path| {
                if path.is_dir() { holds(&path, content) } else { fs::read(path).is_ok_and(|bytes| bytes == content) }
            })
        }
        holds(&self.roots[at].join(".tidegate/trash"), content.as_bytes())
    }

    /// Newest generation of a conduit.
    pub fn newest(&self, on: usize, conduit: &str) -> Result<Value, Failed> {
        Ok(self.devices[on].json(["gen", "show", conduit])?)
    }

    /// Conflicts that wait, as a device sees them.
    pub fn conflicts(&self, on: usize) -> Result<Vec<Value>, Failed> {
        let listed = self.devices[on].json(["conflict", "list"])?;
        Ok(listed["conflicts"].as_array().cloned().unwrap_or_default())
    }

    /// Waits until a device lists so many conflicts that wait.
    pub fn await_conflicts(&self, on: usize, count: usize) -> Result<Vec<Value>, Failed> {
        lab::eventually(Duration::from_secs(20), || self.conflicts(on).is_ok_and(|all| all.len() == count));
        let all = self.conflicts(on)?;
        if all.len() == count { Ok(all) } else { Err(Failed::new(format!("{count} conflicts were to wait: {all:?}"))) }
    }
}
