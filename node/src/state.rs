//! The state directory: its mode, its lock, and files that only this user may read.
//!
//! One process holds a state directory at a time. The lock is the kernel's, on a file that stays; its text names
//! the holder for people, and is never believed.

use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::api::problem::{Code, Problem};

/// Name of the lock file.
const LOCK: &str = "lock";

/// The one right to use a state directory. Let go of when dropped, and by the kernel when the process ends.
#[derive(Debug)]
pub struct Held {
    _file: File,
}

/// Creates the directory with mode 0700, or checks that it is this user's and closes it to others.
pub fn make_directory(path: &Path) -> Result<(), Problem> {
    let failed = |why: String| {
        Problem::new(
            Code::Storage,
            format!("the state directory {} cannot be used; nothing was started", path.display()),
            why,
        )
    };
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| failed(error.to_string()))?;
    let found = std::fs::metadata(path).map_err(|error| failed(error.to_string()))?;
    if found.uid() != rustix::process::getuid().as_raw() {
        return Err(failed(format!("it belongs to user {}", found.uid())));
    }
    if found.permissions().mode() & 0o077 != 0 {
        std::fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(|error| failed(error.to_string()))?;
    }
    Ok(())
}

/// Takes the directory, or says who has it.
pub fn hold(directory: &Path) -> Result<Held, Problem> {
    let path = lock_path(directory);
    let failed = |error: std::io::Error| {
        Problem::new(
            Code::Storage,
            "the state directory cannot be locked; nothing was started",
            format!("{}: {error}", path.display()),
        )
    };
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // The text is for people: without it they learn less, and nothing else changes.
            let _ = file.take(32).read_to_string(&mut holder);
            let holder = holder.trim();
            let who = if holder.is_empty() { "another process".to_owned() } else { format!("process {holder}") };
            let what = format!("{} is in use; nothing was started", directory.display());
            return Err(Problem::new(Code::Locked, what, format!("{who} holds it"))
                .next("one daemon per state directory: tidegate status, or tidegate down"));
        }
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    file.set_len(0).map_err(failed)?;
    file.rewind().map_err(failed)?;
    writeln!(file, "{}", std::process::id()).map_err(failed)?;
    Ok(Held { _file: file })
}

/// Whether some process holds the directory now.
pub fn is_held(directory: &Path) -> bool {
    let Ok(file) = File::open(lock_path(directory)) else { return false };
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
}

fn lock_path(directory: &Path) -> PathBuf {
    directory.join(LOCK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_directory_has_one_holder_and_closes_itself_to_others() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("state");
        std::fs::create_dir(&directory).unwrap();
        std::fs::set_permissions(&directory, Permissions::from_mode(0o755)).unwrap();
        make_directory(&directory).unwrap();
        assert_eq!(std::fs::metadata(&directory).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(!is_held(&directory));
        let held = hold(&directory).unwrap();
        assert!(is_held(&directory));
        let refused = hold(&directory).unwrap_err();
        assert_eq!(refused.code, Code::Locked);
        assert!(refused.why.contains(&std::process::id().to_string()), "{}", refused.why);
        drop(held);
        assert!(!is_held(&directory));
        hold(&directory).unwrap();
    }
}
