//! The trash: where replaced and removed bytes wait, per generation, on the same file system.
//!
//! What came from `a/b` is kept at `.tidegate/trash/<conduit>-<generation>/a/b`; where that name is taken, a
//! number follows it. Things get here by a rename that refuses an existing name, so nothing is ever replaced
//! here, and leave by [`purge`] or what `trashed` does for a person.

use std::io;
use std::sync::{Mutex, PoisonError};

use tidegate_protocol::id::ConduitId;
use tidegate_protocol::limits::NAME_BYTES_MAX;
use tidegate_protocol::path::{DirPath, EntryPath, Name};

use super::refused::Refused;
use super::stage::make_own_dir;
use super::{FileKind, RenameMode, RootDir, TreePath};

/// How many numbers are tried where a name is taken.
pub(super) const CLASHES_MAX: u32 = 10_000;

/// The trash of one generation in one location.
pub struct Trash<R> {
    root: R,
    top: TreePath,
    /// The directory used last: neighbours are trashed in a row.
    last: Mutex<Option<(DirPath, TreePath)>>,
}

impl<R: RootDir> Trash<R> {
    pub(super) async fn open(root: R, conduit: ConduitId, generation: u64) -> Result<Self, Refused> {
        let top = trash_of(conduit, generation);
        make_own_dir(&root, &top.parent().expect("the trash of a generation lies in the trash")).await?;
        make_own_dir(&root, &top).await?;
        Ok(Self { root, top, last: Mutex::default() })
    }

    /// Moves `from`, which stood at `path`, into the trash, and says where it is now.
    pub(super) async fn keep(&self, from: &TreePath, path: &EntryPath) -> Result<TreePath, Refused> {
        let moved = match self.directory(&path.parent()).await {
            Ok(dir) => self.move_into(from, &dir, path.name()).await,
            Err(e) => Err(e),
        };
        match moved {
            Ok(to) => Ok(to),
            // Someone tidied the trash up under us; or the path is too long once it lies in here.
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidFilename) => {
                *self.last.lock().unwrap_or_else(PoisonError::into_inner) = None;
                make_own_dir(&self.root, &self.top).await?;
                Ok(self.move_into(from, &self.top, path.name()).await?)
            }
            Err(e) => Err(e.into()),
        }
    }

    /// Moves something of which it is not known where it stood into the trash.
    pub(super) async fn keep_unplaced(&self, from: &TreePath) -> Result<TreePath, Refused> {
        Ok(self.move_into(from, &self.top, from.name()).await?)
    }

    /// The directory of the trash that stands for `dir`, made as needed.
    async fn directory(&self, dir: &DirPath) -> io::Result<TreePath> {
        if let Some((last, at)) = &*self.last.lock().unwrap_or_else(PoisonError::into_inner)
            && last == dir
        {
            return Ok(at.clone());
        }
        let mut at = self.top.clone();
        for name in dir.as_entry().into_iter().flat_map(EntryPath::names) {
            at = self.subdirectory(&at, name).await?;
        }
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((dir.clone(), at.clone()));
        Ok(at)
    }

    async fn subdirectory(&self, at: &TreePath, name: &[u8]) -> io::Result<TreePath> {
        for clash in 0..CLASHES_MAX {
            let path = at.child(&numbered(name, clash));
            match self.root.make_dir(&path).await {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                    if self.root.metadata(&path).await?.is_some_and(|found| found.kind == FileKind::Directory) {
                        return Ok(path);
                    }
                }
                other => return other.map(|()| path),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    async fn move_into(&self, from: &TreePath, dir: &TreePath, name: &[u8]) -> io::Result<TreePath> {
        for clash in 0..CLASHES_MAX {
            let to = dir.child(&numbered(name, clash));
            match self.root.rename(from, &to, RenameMode::NoReplace).await {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                other => return other.map(|()| to),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }
}

/// Removes the trash of a generation for good. Old blocks may remain on SSDs, copy-on-write file systems and
/// snapshots: this releases space, it does not erase.
pub async fn purge<R: RootDir>(root: &R, conduit: ConduitId, generation: u64) -> Result<(), Refused> {
    remove_tree(root, trash_of(conduit, generation)).await
}

/// Puts something from the trash back to `path`, where nothing may stand.
pub async fn restore<R: RootDir>(root: &R, trashed: &TreePath, path: &EntryPath) -> Result<(), Refused> {
    match root.rename(trashed, &path.into(), RenameMode::NoReplace).await {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Err(Refused::CHANGED),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Err(Refused::ParentMissing),
        other => Ok(other?),
    }
}

/// The directory that holds the trash of a generation.
pub fn trash_of(conduit: ConduitId, generation: u64) -> TreePath {
    let name = |text: &str| Name::new(text.as_bytes()).expect("hexadecimal digits and a number are a name");
    TreePath::internal([&name("trash"), &name(&format!("{}-{generation}", conduit.short()))])
}

pub(super) async fn remove_tree<R: RootDir>(root: &R, top: TreePath) -> Result<(), Refused> {
    let mut stack = vec![top];
    while let Some(dir) = stack.last().cloned() {
        let entries = match root.list(&dir).await {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
            other => other?,
        };
        let before = stack.len();
        for entry in entries {
            let Ok(name) = Name::new(&entry.name) else { continue };
            match entry.metadata.map_err(io::Error::from)?.kind {
                FileKind::Directory => stack.push(dir.child(&name)),
                FileKind::File | FileKind::Symlink | FileKind::Special => root.remove_file(&dir.child(&name)).await?,
            }
        }
        if stack.len() == before {
            match root.remove_dir(&dir).await {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
            stack.pop();
        }
    }
    Ok(())
}

/// `name`, or `name~1`, `name~2` … within the length that names may have.
pub(super) fn numbered(name: &[u8], clash: u32) -> Name {
    let mut bytes = name.to_vec();
    if clash > 0 {
        let suffix = format!("~{clash}");
        bytes.truncate(NAME_BYTES_MAX - suffix.len());
        bytes.extend_from_slice(suffix.as_bytes());
    }
    Name::new(&bytes).expect("a name with a number is a name")
}
