//! The directories that inotify watches, and the paths that its events are about.
//!
//! inotify watches single directories, by inode: what is below has watches of its own, and a watch goes along
//! when its directory is renamed. So whenever a name of a directory appears or vanishes, the watches below that
//! name are taken away and set anew from what stands there now. The path is handed on only afterwards: whoever
//! looks at it then sees all that was done before there was a watch, and events tell of all that comes later.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::ops::Bound;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::inotify::{self, CreateFlags, Event, ReadFlags, WatchFlags};
use rustix::io::Errno;
use tidegate_protocol::path::{DirPath, EntryPath, Name, PathError};

use super::News;
use crate::env::WatchError;

/// Changes only: opening and reading, this node's own above all, is of no interest and costs an event each.
const CHANGES: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR)
    .union(WatchFlags::DONT_FOLLOW);

/// A name came, went, or leads elsewhere now.
const NAMES: ReadFlags =
    ReadFlags::CREATE.union(ReadFlags::DELETE).union(ReadFlags::MOVED_FROM).union(ReadFlags::MOVED_TO);

/// The watched directory itself came to its end, or moved away.
const ITSELF: ReadFlags = ReadFlags::DELETE_SELF.union(ReadFlags::MOVE_SELF).union(ReadFlags::UNMOUNT);

/// What a watch is on.
#[derive(Debug, Clone)]
enum Place {
    /// The root, or a directory below it.
    Dir(DirPath),
    /// Where cookies are made.
    Cookies,
}

/// The watches of one root.
#[derive(Debug)]
pub(super) struct Dirs {
    inotify: Arc<OwnedFd>,
    top: PathBuf,
    by_watch: BTreeMap<i32, Place>,
    /// Without the top.
    by_path: BTreeMap<EntryPath, i32>,
}

impl Dirs {
    /// Watches everything below `top`, and `cookies` besides; nothing else inside `.tidegate/`.
    pub(super) fn watch(top: PathBuf, cookies: &OsStr) -> Result<Self, WatchError> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).map_err(lost)?;
        let mut dirs = Self { inotify: Arc::new(inotify), top, by_watch: BTreeMap::new(), by_path: BTreeMap::new() };
        let place = dirs.top.join(cookies);
        let watch = inotify::add_watch(&dirs.inotify, &place, WatchFlags::CREATE | WatchFlags::ONLYDIR);
        dirs.by_watch.insert(watch.map_err(failure)?, Place::Cookies);
        dirs.set_below(DirPath::TOP)?;
        Ok(dirs)
    }

    /// Where events are read.
    pub(super) fn events(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.inotify)
    }

    /// Works off one event.
    pub(super) fn take(&mut self, event: &Event<'_>, news: &mut News) {
        let what = event.events();
        if what.contains(ReadFlags::QUEUE_OVERFLOW) {
            // Among the events that were lost may be those of new directories.
            news.fail(self.set_below(DirPath::TOP));
            news.overflow = true;
            return;
        }
        if what.contains(ReadFlags::IGNORED) {
            self.forget(event.wd());
            return;
        }
        match self.by_watch.get(&event.wd()) {
            // A watch that was taken away while its event waited.
            None => {}
            Some(Place::Cookies) => {
                news.cookies.extend(event.file_name().map(|name| name.to_bytes().to_vec()));
            }
            Some(Place::Dir(dir)) => match event.file_name() {
                Some(name) => {
                    let path = Name::new(name.to_bytes()).and_then(|name| dir.child(&name));
                    let dir = dir.clone();
                    self.changed(&dir, path, what, news);
                }
                // A directory below has a name, by which the same is told; the top may be another one now.
                None => news.overflow |= *dir == DirPath::TOP && what.intersects(ITSELF | ReadFlags::ATTRIB),
            },
        }
    }

    fn changed(&mut self, dir: &DirPath, path: Result<EntryPath, PathError>, what: ReadFlags, news: &mut News) {
        match path {
            Ok(path) => {
                // A directory that could not be watched may have become readable.
                let unwatched = !self.by_path.contains_key(&path);
                if what.contains(ReadFlags::ISDIR) && (what.intersects(NAMES) || unwatched) {
                    self.unset_below(&path);
                    news.fail(self.set_below(DirPath::below_top(path.clone())));
                }
                news.paths.push(path);
            }
            Err(PathError::Internal) => {}
            // A name beyond the limits: its directory is looked at.
            Err(
                PathError::TooLong
                | PathError::EmptyName
                | PathError::Relative
                | PathError::Absolute
                | PathError::ForbiddenByte,
            ) => match dir.as_entry() {
                Some(dir) => news.paths.push(dir.clone()),
                None => news.overflow = true,
            },
        }
    }

    /// Watches a directory and all below it. What is gone by now, or may not be read, is left out: the look at
    /// its path finds the same.
    fn set_below(&mut self, dir: DirPath) -> Result<(), WatchError> {
        let mut open = vec![dir];
        while let Some(dir) = open.pop() {
            let at = self.on_disk(&dir);
            let watch = match inotify::add_watch(&self.inotify, &at, CHANGES) {
                Ok(watch) => watch,
                Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS | Errno::LOOP) if dir != DirPath::TOP => continue,
                Err(errno) => return Err(failure(errno)),
            };
            self.note(watch, &dir);
            let entries = match std::fs::read_dir(&at) {
                Ok(entries) => entries,
                Err(error) if may_pass(&error) => continue,
                Err(error) => return Err(WatchError::Lost(error.to_string())),
            };
            for entry in entries {
                let entry = entry.map_err(|error| WatchError::Lost(error.to_string()))?;
                if entry.file_type().is_ok_and(|kind| kind.is_dir())
                    && let Ok(path) = Name::new(entry.file_name().as_bytes()).and_then(|name| dir.child(&name))
                {
                    open.push(DirPath::below_top(path));
                }
            }
        }
        Ok(())
    }

    /// Takes the watches of a path and of all below it away.
    fn unset_below(&mut self, path: &EntryPath) {
        let range = (Bound::Included(path), Bound::Unbounded);
        let below =
            self.by_path.range::<EntryPath, _>(range).take_while(|(other, _)| *other == path || other.is_below(path));
        let watches: Vec<i32> = below.map(|(_, watch)| *watch).collect();
        for watch in watches {
            self.forget(watch);
            // The kernel has taken it away itself if the directory is no more.
            let _ = inotify::remove_watch(&self.inotify, watch);
        }
    }

    /// A watch is on a directory, which may have had another name before.
    fn note(&mut self, watch: i32, dir: &DirPath) {
        self.forget(watch);
        self.by_watch.insert(watch, Place::Dir(dir.clone()));
        if let Some(path) = dir.as_entry() {
            self.by_path.insert(path.clone(), watch);
        }
    }

    fn forget(&mut self, watch: i32) {
        if let Some(Place::Dir(dir)) = self.by_watch.remove(&watch)
            && let Some(path) = dir.as_entry()
            && self.by_path.get(path) == Some(&watch)
        {
            self.by_path.remove(path);
        }
    }

    fn on_disk(&self, dir: &DirPath) -> PathBuf {
        match dir.as_entry() {
            Some(path) => self.top.join(std::ffi::OsString::from_vec(path.to_slashes())),
            None => self.top.clone(),
        }
    }
}

fn may_pass(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::PermissionDenied)
}

fn failure(errno: Errno) -> WatchError {
    if errno == Errno::NOSPC { WatchError::Limit } else { lost(errno) }
}

fn lost(errno: Errno) -> WatchError {
    WatchError::Lost(errno.to_string())
}
