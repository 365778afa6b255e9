//! The operating system's implementation of the seam: Linux system calls beneath a held directory handle.
//!
//! Every path is resolved by `openat2` with `RESOLVE_BENEATH`, `NO_SYMLINKS`, `NO_MAGICLINKS` and `NO_XDEV`,
//! so that no operation leaves the root, follows a link or enters another file system, whatever a racing
//! process does to the directories on the way. Handles of parent directories are not kept between calls: a
//! kept handle would follow a directory that a user has moved, and write where the path no longer leads.
//!
//! System calls are made in place: callers run on threads that may block.

mod file;

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, RenameFlags, ResolveFlags, Statx, StatxFlags};
use rustix::io::Errno;
use tidegate_protocol::index::StatMark;

pub use self::file::OsFile;
use super::{DirEntry, FileKind, FileSystem, Metadata, RenameMode, RootDir, RootIdentity, Space, TreePath};

const BENEATH: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

const UMASK_IF_UNKNOWN: u32 = 0o077;

/// The disks of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsFileSystem;

impl FileSystem for OsFileSystem {
    type Root = OsRoot;

    async fn open_root(&self, path: &Path) -> io::Result<OsRoot> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let handle = rustix::fs::open(path, flags, Mode::empty())?;
        Ok(OsRoot(Arc::new(Held { handle, path: path.to_owned(), umask: umask() })))
    }
}

/// A held directory of this machine.
#[derive(Debug, Clone)]
pub struct OsRoot(Arc<Held>);

#[derive(Debug)]
struct Held {
    handle: OwnedFd,
    path: PathBuf,
    umask: u32,
}

impl OsRoot {
    fn open_beneath(&self, path: &TreePath, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
        let bytes = if path.as_bytes().is_empty() { b"." } else { path.as_bytes() };
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        rustix::fs::openat2(&self.0.handle, bytes, flags, mode, BENEATH)
    }

    /// The directory that holds `path`, and the last name.
    fn parent<'a>(&self, path: &'a TreePath) -> Result<(OwnedFd, &'a [u8]), Errno> {
        let parent = path.parent().ok_or(Errno::INVAL)?;
        let handle = self.open_beneath(&parent, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
        Ok((handle, path.name()))
    }

    fn open_regular(&self, path: &TreePath, flags: OFlags, ours: bool) -> io::Result<OsFile> {
        // A FIFO must not block, a terminal must not become ours, before `fstat` says what this is.
        let handle = self.open_beneath(path, flags | OFlags::NONBLOCK | OFlags::NOCTTY, Mode::empty());
        let handle = match handle {
            // What a socket, a device without driver, a directory opened for writing or a link answers.
            Err(Errno::NXIO | Errno::NODEV | Errno::ISDIR | Errno::LOOP) => {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            other => other?,
        };
        let file = OsFile::new(handle, self.0.umask, ours);
        if file.stat()?.kind == FileKind::File { Ok(file) } else { Err(io::ErrorKind::InvalidInput.into()) }
    }

    /// `rename` that refuses an existing name, for file systems without `RENAME_NOREPLACE`.
    fn link_then_unlink(&self, from: &TreePath, to: &TreePath) -> io::Result<()> {
        let (from_dir, from_name) = self.parent(from)?;
        let (to_dir, to_name) = self.parent(to)?;
        let stat = rustix::fs::statx(&from_dir, from_name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS)?;
        if metadata(&stat).kind == FileKind::Directory {
            // A plain rename of a directory replaces nothing but an empty directory.
            match rustix::fs::statx(&to_dir, to_name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::TYPE) {
                Err(Errno::NOENT) => Ok(rustix::fs::renameat(&from_dir, from_name, &to_dir, to_name)?),
                Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
                Err(other) => Err(other.into()),
            }
        } else {
            rustix::fs::linkat(&from_dir, from_name, &to_dir, to_name, AtFlags::empty())?;
            Ok(rustix::fs::unlinkat(&from_dir, from_name, AtFlags::empty())?)
        }
    }
}

impl RootDir for OsRoot {
    type File = OsFile;

    async fn identity(&self) -> io::Result<RootIdentity> {
        let stat = rustix::fs::statx(CWD, &self.0.path, AtFlags::empty(), StatxFlags::BASIC_STATS)?;
        let volume = rustix::fs::statvfs(&self.0.path)?;
        // Some file systems report no id of their own; the device number is the next best.
        let file_system = if volume.f_fsid == 0 { metadata(&stat).device } else { volume.f_fsid };
        Ok(RootIdentity { file_system, inode: stat.stx_ino })
    }

    async fn space(&self) -> io::Result<Space> {
        let volume = rustix::fs::fstatvfs(&self.0.handle)?;
        Ok(Space {
            free: volume.f_bavail.saturating_mul(volume.f_frsize),
            total: volume.f_blocks.saturating_mul(volume.f_frsize),
        })
    }

    async fn metadata(&self, path: &TreePath) -> io::Result<Option<Metadata>> {
        let stat = if path.as_bytes().is_empty() {
            rustix::fs::statx(&self.0.handle, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)
        } else {
            self.parent(path).and_then(|(parent, name)| lstat(&parent, name))
        };
        match stat {
            Ok(stat) => {
                check_owner(path, &stat)?;
                Ok(Some(metadata(&stat)))
            }
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(other) => Err(other.into()),
        }
    }

    async fn list(&self, path: &TreePath) -> io::Result<Vec<DirEntry>> {
        let handle = self.open_beneath(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty());
        let handle = match handle {
            Err(Errno::LOOP) => return Err(io::ErrorKind::NotADirectory.into()),
            other => other?,
        };
        let mut dir = Dir::new(handle)?;
        let mut entries = Vec::new();
        while let Some(entry) = dir.read() {
            let entry = entry?;
            let name: &CStr = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let stat = rustix::fs::statx(
                dir.fd()?,
                name,
                AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT,
                StatxFlags::BASIC_STATS,
            );
            match stat {
                Ok(stat) => entries.push(DirEntry { name: name.to_bytes().to_vec(), metadata: Ok(metadata(&stat)) }),
                // Removed since it was listed.
                Err(Errno::NOENT) => {}
                Err(other) => entries.push(DirEntry { name: name.to_bytes().to_vec(), metadata: Err(other.kind()) }),
            }
        }
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    async fn read_link(&self, path: &TreePath) -> io::Result<Vec<u8>> {
        let (parent, name) = self.parent(path)?;
        Ok(rustix::fs::readlinkat(&parent, name, Vec::new())?.into_bytes())
    }

    async fn open(&self, path: &TreePath) -> io::Result<OsFile> {
        self.open_regular(path, OFlags::RDONLY, false)
    }

    async fn open_staged(&self, path: &TreePath) -> io::Result<OsFile> {
        self.open_regular(path, OFlags::RDWR, true)
    }

    async fn create(&self, path: &TreePath) -> io::Result<OsFile> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        let handle = self.open_beneath(path, flags, Mode::RUSR | Mode::WUSR)?;
        Ok(OsFile::new(handle, self.0.umask, true))
    }

    async fn make_dir(&self, path: &TreePath) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        // The node's own directory shuts other users out of all that lies in it.
        let mode = if path.is_internal_top() { 0o700 } else { 0o777 };
        Ok(rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(mode))?)
    }

    async fn make_symlink(&self, path: &TreePath, target: &[u8]) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        Ok(rustix::fs::symlinkat(target, &parent, name)?)
    }

    async fn rename(&self, from: &TreePath, to: &TreePath, mode: RenameMode) -> io::Result<()> {
        let flags = match mode {
            RenameMode::NoReplace => RenameFlags::NOREPLACE,
            RenameMode::Exchange => RenameFlags::EXCHANGE,
        };
        let renamed = {
            let (from_dir, from_name) = self.parent(from)?;
            let (to_dir, to_name) = self.parent(to)?;
            rustix::fs::renameat_with(&from_dir, from_name, &to_dir, to_name, flags)
        };
        match (renamed, mode) {
            (Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP), RenameMode::NoReplace) => {
                self.link_then_unlink(from, to)
            }
            (Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP), RenameMode::Exchange) => {
                Err(io::ErrorKind::Unsupported.into())
            }
            (other, _) => Ok(other?),
        }
    }

    async fn keep_permissions(&self, from: &TreePath, to: &TreePath) -> io::Result<()> {
        let (from_dir, from_name) = self.parent(from)?;
        let old = u32::from(lstat(&from_dir, from_name)?.stx_mode) & 0o777;
        let file = self.open_staged(to).await?;
        file.keep_permissions(old)
    }

    async fn remove_file(&self, path: &TreePath) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        Ok(rustix::fs::unlinkat(&parent, name, AtFlags::empty())?)
    }

    async fn remove_dir(&self, path: &TreePath) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        match rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR) {
            // POSIX lets a file system say either.
            Err(Errno::EXIST | Errno::NOTEMPTY) => Err(io::ErrorKind::DirectoryNotEmpty.into()),
            other => Ok(other?),
        }
    }

    async fn sync_dir(&self, path: &TreePath) -> io::Result<()> {
        let handle = self.open_beneath(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
        Ok(rustix::fs::fsync(handle)?)
    }

    async fn sync_all(&self) -> io::Result<()> {
        Ok(rustix::fs::syncfs(&self.0.handle)?)
    }
}

fn lstat(parent: &OwnedFd, name: &[u8]) -> Result<Statx, Errno> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    rustix::fs::statx(parent, name, flags, StatxFlags::BASIC_STATS)
}

/// Refuses a directory for staging or trash that another user has planted.
fn check_owner(path: &TreePath, stat: &Statx) -> io::Result<()> {
    if path.is_internal() && stat.stx_uid != rustix::process::geteuid().as_raw() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    Ok(())
}

fn fstat(handle: impl AsFd) -> Result<Statx, Errno> {
    rustix::fs::statx(handle, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)
}

fn metadata(stat: &Statx) -> Metadata {
    let kind = match FileType::from_raw_mode(stat.stx_mode.into()) {
        FileType::RegularFile => FileKind::File,
        FileType::Directory => FileKind::Directory,
        FileType::Symlink => FileKind::Symlink,
        _ => FileKind::Special,
    };
    let ns = |seconds: i64, nanoseconds: u32| seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds.into());
    Metadata {
        kind,
        mark: StatMark {
            size: stat.stx_size,
            mtime_ns: ns(stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
            ctime_ns: ns(stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec),
            inode: stat.stx_ino,
        },
        executable: stat.stx_mode & 0o100 != 0,
        device: rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor),
    }
}

/// The process's umask. Asking the kernel by `umask(2)` would change it for a moment under other threads.
fn umask() -> u32 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    line.and_then(|text| u32::from_str_radix(text.trim(), 8).ok()).unwrap_or(UMASK_IF_UNKNOWN)
}

#[cfg(test)]
mod tests;
