//! Watching with the operating system's events, by `notify`.
//!
//! Events are hints and are coalesced to a set of paths. Whatever may have been lost (a queue overflow, an
//! error, more paths than are worth keeping) becomes `overflow`. Nothing inside `.tidegate/` is reported.
//!
//! `drain` is a barrier in the event stream: it makes a file of a unique name in `.tidegate/cookies/` and waits
//! for its event, which comes after the events of all earlier changes. Two things are still open then, because
//! `notify` watches a new directory only after it has worked off the events it had read. So a message goes
//! through `notify`'s loop, which it handles when new watches are set; and what stands in directories that are
//! new since the last barrier is reported once more, as it may have come before its directory was watched.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_channel::{Receiver, Sender};
use data_encoding::HEXLOWER;
use notify::event::{EventKind, ModifyKind};
use notify::{Config, ErrorKind, EventKindMask, RecommendedWatcher, RecursiveMode, Watcher};
use tidegate_protocol::path::{EntryPath, Name, PathError};
use tidegate_storage::disk::{FileKind, RootDir, TreePath};

use crate::env::{Changes, Watch, WatchError, Watched};

/// Paths kept until somebody takes them; with more, a scan of everything is cheaper.
const PENDING_PATHS_MAX: usize = 100_000;

/// How long the event of a cookie may take. Longer means that events do not arrive any more.
const COOKIE_WAIT_MAX: Duration = Duration::from_secs(10);

const COOKIES: &str = "cookies";

/// The operating system's watcher, or none.
#[derive(Debug, Clone, Copy)]
pub struct OsWatch {
    on: bool,
}

impl OsWatch {
    /// With `on` false every root is left to regular scans.
    pub const fn new(on: bool) -> Self {
        Self { on }
    }
}

impl<R: RootDir> Watch<R> for OsWatch {
    type Watched = OsWatched<R>;

    async fn watch(&self, root: &R, path: &Path) -> Result<OsWatched<R>, WatchError> {
        if !self.on {
            return Err(WatchError::Off);
        }
        for own in [COOKIES, "staging", "trash"] {
            match root.make_dir(&internal(own)).await {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(lost(&error)),
                Ok(()) | Err(_) => {}
            }
        }
        let (wake, woken) = async_channel::bounded(1);
        let shared = Arc::new(Shared { top: path.to_owned(), pending: Mutex::default(), wake });
        let handler = Arc::clone(&shared);
        // Reading is no change: this node reads every file that it hashes, and would be told of it twice.
        let config = Config::default().with_event_kinds(EventKindMask::CORE);
        let mut watcher =
            RecommendedWatcher::new(move |event| handler.saw(event), config).map_err(|error| failure(&error))?;
        watcher.watch(path, RecursiveMode::Recursive).map_err(|error| failure(&error))?;
        for busy in ["staging", "trash"] {
            // Jobs write there all the time and nobody wants to know; if it is watched after all, no harm is done.
            let _ = watcher.unwatch(&path.join(".tidegate").join(busy));
        }
        Ok(OsWatched { root: root.clone(), watcher, shared, woken })
    }
}

/// A root watched by `notify`.
pub struct OsWatched<R> {
    root: R,
    watcher: RecommendedWatcher,
    shared: Arc<Shared>,
    woken: Receiver<()>,
}

impl<R: RootDir> Watched for OsWatched<R> {
    async fn changes(&mut self) -> Result<Changes, WatchError> {
        loop {
            if let Some(changes) = self.shared.take()? {
                return Ok(changes);
            }
            self.woken.recv().await.map_err(|_| WatchError::Lost("the watcher ended".to_owned()))?;
        }
    }

    async fn drain(&mut self) -> Result<Changes, WatchError> {
        self.cookie().await?;
        // Taken before the message: what is fresh by now is watched once the message is through.
        let fresh = std::mem::take(&mut self.shared.lock().fresh);
        self.pass_through_loop()?;
        let mut changes = self.shared.take()?.unwrap_or_default();
        if !changes.overflow {
            self.add_contents(fresh, &mut changes).await;
        }
        Ok(changes)
    }
}

impl<R: RootDir> OsWatched<R> {
    /// Makes a cookie and waits for its event.
    async fn cookie(&self) -> Result<(), WatchError> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(|error| WatchError::Lost(error.to_string()))?;
        let name = HEXLOWER.encode(&bytes).into_bytes();
        let path = internal(COOKIES).child(&Name::new(&name).expect("hexadecimal digits are a name"));
        self.shared.lock().cookie = Some((name, false));
        drop(self.root.create(&path).await.map_err(|error| lost(&error))?);
        self.root.remove_file(&path).await.map_err(|error| lost(&error))?;
        let arrived = tokio::time::timeout(COOKIE_WAIT_MAX, async {
            loop {
                if let Some(lost) = self.shared.lock().lost.clone() {
                    return Err(lost);
                }
                if self.shared.lock().cookie.as_ref().is_none_or(|(_, seen)| *seen) {
                    return Ok(());
                }
                self.woken.recv().await.map_err(|_| WatchError::Lost("the watcher ended".to_owned()))?;
            }
        });
        arrived.await.unwrap_or_else(|_| Err(WatchError::Lost("events do not arrive any more".to_owned())))
    }

    /// Returns when `notify` has set the watches that earlier events made due.
    fn pass_through_loop(&mut self) -> Result<(), WatchError> {
        let cookies = self.shared.top.join(Path::new(".tidegate")).join(COOKIES);
        self.watcher.watch(&cookies, RecursiveMode::NonRecursive).map_err(|error| failure(&error))
    }

    /// Adds all that stands in `fresh` directories.
    async fn add_contents(&self, fresh: BTreeSet<EntryPath>, changes: &mut Changes) {
        let mut found: BTreeSet<EntryPath> = std::mem::take(&mut changes.paths).into_iter().collect();
        let mut open: Vec<EntryPath> = fresh.into_iter().collect();
        while let Some(directory) = open.pop() {
            // What cannot be listed is no directory any more, or is unreadable: its own hint has it looked at.
            let Ok(list) = self.root.list(&TreePath::from(&directory)).await else { continue };
            for entry in list {
                let Ok(path) = Name::new(&entry.name).and_then(|name| directory.child(&name)) else { continue };
                if entry.metadata.is_ok_and(|metadata| metadata.kind == FileKind::Directory) {
                    open.push(path.clone());
                }
                found.insert(path);
            }
            if found.len() > PENDING_PATHS_MAX {
                *changes = Changes { paths: Vec::new(), overflow: true };
                return;
            }
        }
        changes.paths = found.into_iter().collect();
    }
}

/// What the handler of events and the reader of changes share.
struct Shared {
    top: PathBuf,
    pending: Mutex<Pending>,
    wake: Sender<()>,
}

#[derive(Default)]
struct Pending {
    paths: BTreeSet<EntryPath>,
    /// Paths that came into being since the last barrier, directories as far as the events tell.
    fresh: BTreeSet<EntryPath>,
    overflow: bool,
    /// The cookie that is waited for, and whether its event came.
    cookie: Option<(Vec<u8>, bool)>,
    lost: Option<WatchError>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Result<Option<Changes>, WatchError> {
        let mut pending = self.lock();
        if let Some(lost) = &pending.lost {
            return Err(lost.clone());
        }
        if pending.paths.is_empty() && !pending.overflow {
            return Ok(None);
        }
        let overflow = std::mem::take(&mut pending.overflow);
        let paths = std::mem::take(&mut pending.paths);
        Ok(Some(Changes { paths: if overflow { Vec::new() } else { paths.into_iter().collect() }, overflow }))
    }

    /// The handler: runs on `notify`'s thread, for every event.
    fn saw(&self, event: notify::Result<notify::Event>) {
        let mut pending = self.lock();
        match event {
            Ok(event) if event.need_rescan() => pending.overflow = true,
            Ok(event) => {
                let appeared = match event.kind {
                    // Reads, this node's own above all.
                    EventKind::Access(_) => return,
                    EventKind::Create(_) | EventKind::Modify(ModifyKind::Name(_)) => true,
                    EventKind::Any | EventKind::Modify(_) | EventKind::Remove(_) | EventKind::Other => false,
                };
                for path in &event.paths {
                    self.note(&mut pending, path, appeared);
                }
            }
            Err(error) => match error.kind {
                ErrorKind::MaxFilesWatch => pending.lost = Some(WatchError::Limit),
                // The path vanished before it could be looked at; its own removal is an event.
                ErrorKind::PathNotFound | ErrorKind::WatchNotFound => {}
                ErrorKind::Generic(_) | ErrorKind::Io(_) | ErrorKind::InvalidConfig(_) => pending.overflow = true,
            },
        }
        if pending.paths.len() > PENDING_PATHS_MAX || pending.fresh.len() > PENDING_PATHS_MAX {
            pending.paths.clear();
            pending.fresh.clear();
            pending.overflow = true;
        }
        drop(pending);
        // A full channel means that the reader will wake anyway.
        let _ = self.wake.try_send(());
    }

    fn note(&self, pending: &mut Pending, path: &Path, appeared: bool) {
        let Ok(below) = path.strip_prefix(&self.top) else {
            pending.overflow = true;
            return;
        };
        let below = below.as_os_str().as_bytes();
        if below.is_empty() {
            // The root itself was moved, removed or changed: a scan will tell.
            pending.overflow = true;
            return;
        }
        match EntryPath::from_slashes(below) {
            Ok(path) => {
                if appeared {
                    pending.fresh.insert(path.clone());
                }
                pending.paths.insert(path);
            }
            Err(PathError::Internal) => {
                let name = below.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
                if let Some((cookie, seen)) = &mut pending.cookie {
                    *seen |= cookie == name;
                }
            }
            // A name beyond the limits: its directory is looked at.
            Err(
                PathError::TooLong
                | PathError::EmptyName
                | PathError::Relative
                | PathError::Absolute
                | PathError::ForbiddenByte,
            ) => match path.parent() {
                Some(parent) => self.note(pending, parent, false),
                None => pending.overflow = true,
            },
        }
    }
}

fn internal(name: &str) -> TreePath {
    TreePath::internal([&Name::new(name.as_bytes()).expect("a plain word is a name")])
}

fn lost(error: &io::Error) -> WatchError {
    WatchError::Lost(error.to_string())
}

fn failure(error: &notify::Error) -> WatchError {
    match error.kind {
        ErrorKind::MaxFilesWatch => WatchError::Limit,
        ErrorKind::Generic(_)
        | ErrorKind::Io(_)
        | ErrorKind::PathNotFound
        | ErrorKind::WatchNotFound
        | ErrorKind::InvalidConfig(_) => WatchError::Lost(error.to_string()),
    }
}
