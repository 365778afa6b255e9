//! Two real nodes, desk and nas, and what tests of trust, of hostile peers and of the face ask of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tidegate::lab::{self, Device, Done, Lab, LabError, Tree, last_document};

/// Longest wait for anything.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// Two devices with a directory each; fields are dropped in order, so processes end before their files go.
pub struct Two {
    /// Holds `photos`.
    pub desk: Device,
    /// Holds `backup`.
    pub nas: Device,
    /// The source's directory.
    pub photos: PathBuf,
    /// The target's directory.
    pub backup: PathBuf,
    /// Where it all is.
    pub lab: Lab,
}

impl Two {
    /// Neither started nor paired.
    pub fn apart(program: &str) -> Result<Self, LabError> {
        let lab = Lab::new(program)?;
        let (desk, nas) = (lab.device("desk")?, lab.device("nas")?);
        let (photos, backup) = (lab.directory("Photos")?, lab.directory("Backup")?);
        Ok(Self { desk, nas, photos, backup, lab })
    }

    /// Started and paired by a code.
    pub fn paired(program: &str) -> Result<Self, LabError> {
        let mut two = Self::apart(program)?;
        two.desk.start()?;
        two.nas.start()?;
        two.desk.pair(&two.nas)?;
        Ok(two)
    }

    /// Paired, with three files in `photos` and the conduit `photos` that may read and delete.
    pub fn mirrored(program: &str) -> Result<Self, LabError> {
        let two = Self::paired(program)?;
        for name in ["a", "b", "dir/c"] {
            lab::write(&two.photos, name, name.as_bytes())?;
        }
        two.link(Some("read"), Some("delete"))?;
        Ok(two)
    }

    /// Adds both locations under these grants, and the conduit, which both devices know then.
    pub fn link(&self, read: Option<&str>, write: Option<&str>) -> Result<(), LabError> {
        add(&self.desk, &self.photos, "Photos", read.map(|right| format!("nas={right}")))?;
        add(&self.nas, &self.backup, "Backup", write.map(|right| format!("desk={right}")))?;
        self.desk.await_status("both locations with their grants", PATIENCE, |status| {
            let granted = |location: &Value| location["grants"].as_array().map_or(0, Vec::len);
            let all = status["locations"].as_array();
            all.is_some_and(|all| {
                let grants: usize = all.iter().map(granted).sum();
                all.len() == 2 && grants == usize::from(read.is_some()) + usize::from(write.is_some())
            })
        })?;
        self.desk.must(["conduit", "create", "photos", "desk:Photos", "nas:Backup", "--mode", "mirror"])?;
        self.nas.await_conduit("photos", PATIENCE)
    }

    /// What both directories hold.
    pub fn disks(&self) -> Result<(Tree, Tree), LabError> {
        Ok((lab::read(&self.photos)?, lab::read(&self.backup)?))
    }
}

/// Adds a location, with a grant if there is one.
pub fn add(device: &Device, path: &Path, name: &str, grant: Option<String>) -> Result<(), LabError> {
    let path = path.to_str().ok_or_else(|| LabError::new("the temporary directory's name is not UTF-8"))?;
    let mut words = vec!["location".to_owned(), "add".to_owned(), path.to_owned()];
    words.extend(["--name".to_owned(), name.to_owned()]);
    if let Some(grant) = grant {
        words.extend(["--allow".to_owned(), grant]);
    }
    device.must(words).map(drop)
}

/// Waits until `device` knows of a device of this name that `is_it`.
pub fn await_device(device: &Device, name: &str, is_it: impl Fn(&Value) -> bool) -> Result<(), LabError> {
    let what = format!("the awaited state of {name}");
    device
        .await_status(&what, PATIENCE, |status| {
            status["devices"].as_array().is_some_and(|all| all.iter().any(|one| one["name"] == name && is_it(one)))
        })
        .map(drop)
}

/// The full id of a running device.
pub fn id_of(device: &Device) -> Result<String, LabError> {
    let status = device.json(["status"])?;
    status["device"]["id"].as_str().map(ToOwned::to_owned).ok_or_else(|| LabError::new("a status without an id"))
}

/// Writes a configuration into a device's home.
pub fn configure(device: &Device, text: &str) -> Result<(), LabError> {
    Ok(fs::write(device.home().join("config.toml"), text)?)
}

/// The error document of a command that was run with `--json`.
pub fn error_of(done: &Done) -> Result<Value, LabError> {
    last_document(&done.stderr)
}

/// Asserts how a command ended, and that it said all of this on stderr.
pub fn assert_refused(done: &Done, code: i32, says: &[&str]) {
    assert_eq!(done.code, code, "{done}");
    for part in says {
        assert!(done.stderr.contains(part), "{part:?} is not in\n{done}");
    }
}
