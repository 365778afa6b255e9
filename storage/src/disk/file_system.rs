//! The seam to the disk: asynchronous primitives beneath a root.
//!
//! Every `.await` on one of these is a point at which a user's edit or a crash may fall; code above is
//! written for that. Errors are `std::io::Error` with the operating system's kind, as the caller maps them by
//! what it was doing.

use std::future::Future;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use tidegate_protocol::index::StatMark;
use tidegate_protocol::path::{DirPath, EntryPath, INTERNAL, Name};

/// A path beneath a root, including the node's own `.tidegate/` directory, which no [`EntryPath`] can name.
/// The empty path is the root itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TreePath(Vec<u8>);

impl TreePath {
    /// The root itself.
    pub const ROOT: Self = Self(Vec::new());

    /// `.tidegate` followed by `names`.
    pub fn internal<'a>(names: impl IntoIterator<Item = &'a Name>) -> Self {
        let mut bytes = INTERNAL.to_vec();
        for name in names {
            bytes.push(b'/');
            bytes.extend_from_slice(name.as_bytes());
        }
        Self(bytes)
    }

    /// This path with one more name.
    #[must_use]
    pub fn child(&self, name: &Name) -> Self {
        let mut bytes = self.0.clone();
        if !bytes.is_empty() {
            bytes.push(b'/');
        }
        bytes.extend_from_slice(name.as_bytes());
        Self(bytes)
    }

    /// The directory that holds it; `None` for the root.
    pub fn parent(&self) -> Option<Self> {
        if self.0.is_empty() {
            return None;
        }
        Some(Self(self.0.iter().rposition(|b| *b == b'/').map_or_else(Vec::new, |end| self.0[..end].to_vec())))
    }

    /// The last name; empty for the root.
    pub fn name(&self) -> &[u8] {
        self.0.rsplit(|b| *b == b'/').next().unwrap_or_default()
    }

    /// Whether it lies in the node's own directory, or is that directory.
    pub fn is_internal(&self) -> bool {
        self.0.starts_with(INTERNAL) && matches!(self.0.get(INTERNAL.len()), None | Some(b'/'))
    }

    /// Whether it is the node's own directory itself.
    pub fn is_internal_top(&self) -> bool {
        self.0 == INTERNAL
    }

    /// The bytes with `/` between names; empty for the root.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<&EntryPath> for TreePath {
    fn from(path: &EntryPath) -> Self {
        Self(path.to_slashes())
    }
}

impl From<&DirPath> for TreePath {
    fn from(path: &DirPath) -> Self {
        path.as_entry().map_or(Self::ROOT, Self::from)
    }
}

/// Kind of a directory entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A socket, FIFO or device.
    Special,
}

/// What `lstat` says of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metadata {
    /// What it is.
    pub kind: FileKind,
    /// Size, times and inode.
    pub mark: StatMark,
    /// Whether the owner may execute it.
    pub executable: bool,
    /// The file system it is on; a mount point differs from its parent.
    pub device: u64,
}

/// One name in a directory, as listing it showed.
#[derive(Debug, Clone)]
pub struct DirEntry {
    /// The bytes of the name as the disk gave them; may be more than a [`Name`] allows.
    pub name: Vec<u8>,
    /// Its metadata, or why there is none.
    pub metadata: Result<Metadata, io::ErrorKind>,
}

/// How a rename treats what stands at the new path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RenameMode {
    /// Fails with `AlreadyExists` if anything stands there.
    NoReplace,
    /// Swaps the two atomically; fails with `NotFound` if nothing stands there.
    Exchange,
}

/// Identifies a root beyond its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootIdentity {
    /// Id of the file system, stable over mounts where the system offers one.
    pub file_system: u64,
    /// Inode of the root directory.
    pub inode: u64,
}

/// Room on the file system of a root, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Room that this process may use.
    pub free: u64,
    /// Size of the file system.
    pub total: u64,
}

/// The disk of one device.
pub trait FileSystem: Clone + Send + Sync + 'static {
    /// A held root.
    type Root: RootDir;

    /// Opens an existing directory as a root and holds it: later operations stay beneath this very directory
    /// wherever its path may lead by then.
    fn open_root(&self, path: &Path) -> impl Future<Output = io::Result<Self::Root>> + Send;
}

/// A held root. All paths are relative to it; no operation follows a symbolic link, leaves the root, or
/// crosses into another file system.
pub trait RootDir: Clone + Send + Sync + 'static {
    /// An open file.
    type File: File;

    /// Identity of the directory to which the root's path leads now: another than the held one once the root
    /// was moved, unmounted or replaced; `NotFound` once nothing is there.
    fn identity(&self) -> impl Future<Output = io::Result<RootIdentity>> + Send;
    /// Room on its file system.
    fn space(&self) -> impl Future<Output = io::Result<Space>> + Send;
    /// `lstat`. `Ok(None)` only if the path is certainly absent (its parent was there to say so, or some
    /// parent is absent or not a directory); every doubt is an error.
    fn metadata(&self, path: &TreePath) -> impl Future<Output = io::Result<Option<Metadata>>> + Send;
    /// Lists a directory with the metadata of each entry, without `.` and `..`, in byte order of names.
    fn list(&self, path: &TreePath) -> impl Future<Output = io::Result<Vec<DirEntry>>> + Send;
    /// Text of a symbolic link.
    fn read_link(&self, path: &TreePath) -> impl Future<Output = io::Result<Vec<u8>>> + Send;
    /// Opens a regular file for reading; anything else is `InvalidInput` and is never opened blocking.
    fn open(&self, path: &TreePath) -> impl Future<Output = io::Result<Self::File>> + Send;
    /// Opens a regular file that this node made for reading and writing (resuming a staged file).
    fn open_staged(&self, path: &TreePath) -> impl Future<Output = io::Result<Self::File>> + Send;
    /// Creates a file that must not exist, mode 0600 until [`File::set_metadata`].
    fn create(&self, path: &TreePath) -> impl Future<Output = io::Result<Self::File>> + Send;
    /// Creates a directory that must not exist.
    fn make_dir(&self, path: &TreePath) -> impl Future<Output = io::Result<()>> + Send;
    /// Creates a symbolic link that must not exist.
    fn make_symlink(&self, path: &TreePath, target: &[u8]) -> impl Future<Output = io::Result<()>> + Send;
    /// Renames beneath the same root, atomically. `Unsupported` where the file system has no such rename.
    fn rename(&self, from: &TreePath, to: &TreePath, mode: RenameMode) -> impl Future<Output = io::Result<()>> + Send;
    /// Gives the staged file `to` the read and write permissions of `from`, which it is about to replace, and
    /// leaves its executable bit: a private file stays private. Nothing where permissions are not modelled.
    fn keep_permissions(&self, from: &TreePath, to: &TreePath) -> impl Future<Output = io::Result<()>> + Send {
        let _ = (from, to);
        std::future::ready(Ok(()))
    }
    /// Removes a file or link for good. Only for what this node staged or a person purged.
    fn remove_file(&self, path: &TreePath) -> impl Future<Output = io::Result<()>> + Send;
    /// Removes an empty directory.
    fn remove_dir(&self, path: &TreePath) -> impl Future<Output = io::Result<()>> + Send;
    /// Makes names in a directory durable.
    fn sync_dir(&self, path: &TreePath) -> impl Future<Output = io::Result<()>> + Send;
    /// One barrier: all content and names written beneath this root before the call are durable after it.
    fn sync_all(&self) -> impl Future<Output = io::Result<()>> + Send;
}

/// An open file.
pub trait File: Send + Sync + 'static {
    /// `fstat`.
    fn metadata(&self) -> impl Future<Output = io::Result<Metadata>> + Send;
    /// Reads up to `buffer.len()` bytes at `offset`; 0 only at the end.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> impl Future<Output = io::Result<usize>> + Send;
    /// Writes all of `bytes` at `offset`.
    fn write_at(&self, bytes: &[u8], offset: u64) -> impl Future<Output = io::Result<()>> + Send;
    /// Copies `length` bytes from another file of the same file system, sharing blocks where it can.
    fn copy_from(
        &self,
        source: &Self,
        source_offset: u64,
        offset: u64,
        length: u64,
    ) -> impl Future<Output = io::Result<u64>> + Send;
    /// Cuts or extends.
    fn set_len(&self, length: u64) -> impl Future<Output = io::Result<()>> + Send;
    /// Sets modification time and executable bit, never a special bit. A file from [`RootDir::create`] or
    /// [`RootDir::open_staged`] gets 0666 or 0777 less the umask; any other keeps who may read and write it.
    fn set_metadata(&self, mtime_ns: i64, executable: bool) -> impl Future<Output = io::Result<()>> + Send;
    /// Makes content and metadata durable.
    fn sync(&self) -> impl Future<Output = io::Result<()>> + Send;
}
