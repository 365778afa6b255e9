//! A scratch copy of the workspace, in which patches are tried one after the other.
//!
//! A file is written only where it differs from what the copy holds, so its time tells the builder the truth and only what a
//! patch touches is built again.
#![expect(clippy::disallowed_methods, reason = "the copy is made of files")]

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use super::Usage;

/// What no build needs, by its name at the top of the workspace.
const LEFT_OUT: [&str; 4] = ["target", ".git", "failures", ".ci"];

/// Makes `copy` equal to the workspace, but for the files of which `changed` tells another text.
pub(super) fn make(workspace: &Path, copy: &Path, changed: &BTreeMap<PathBuf, String>) -> Result<(), Usage> {
    let wrong = |e: io::Error| Usage(format!("the scratch copy {}: {e}", copy.display()));
    let avoid = std::path::absolute(copy).map_err(wrong)?;
    let (mut wanted, mut held) = (BTreeSet::new(), BTreeSet::new());
    list(workspace, Path::new(""), &avoid, &mut wanted).map_err(wrong)?;
    if copy.exists() {
        list(copy, Path::new(""), Path::new(""), &mut held).map_err(wrong)?;
    }
    for path in held.difference(&wanted) {
        std::fs::remove_file(copy.join(path)).map_err(wrong)?;
    }
    for path in &wanted {
        let bytes = match changed.get(path) {
            Some(text) => text.as_bytes().to_vec(),
            None => std::fs::read(workspace.join(path)).map_err(wrong)?,
        };
        let to = copy.join(path);
        if std::fs::read(&to).ok().as_ref() != Some(&bytes) {
            std::fs::create_dir_all(to.parent().unwrap_or(copy)).map_err(wrong)?;
            std::fs::write(&to, bytes).map_err(wrong)?;
        }
    }
    Ok(())
}

/// All files below `at`, as paths in `root`.
fn list(root: &Path, at: &Path, avoid: &Path, found: &mut BTreeSet<PathBuf>) -> io::Result<()> {
    for entry in std::fs::read_dir(root.join(at))? {
        let entry = entry?;
        let path = at.join(entry.file_name());
        let left_out = at.as_os_str().is_empty() && LEFT_OUT.iter().any(|name| entry.file_name() == *name);
        if left_out || std::path::absolute(entry.path())? == avoid {
            continue;
        }
        let kind = entry.file_type()?;
        if kind.is_dir() {
            list(root, &path, avoid, found)?;
        } else if kind.is_file() {
            found.insert(path);
        }
    }
    Ok(())
}
