//! Watching with the operating system's events: inotify, read by one thread for each root.
//!
//! Events are hints and are coalesced to a set of paths. Whatever may have been lost (a queue overflow, an
//! error, more paths than are worth keeping) becomes `overflow`. Nothing inside `.tidegate/` is reported.
//!
//! `drain` is a barrier in the event stream: it makes a file of a unique name in `.tidegate/cookies/` and waits
//! for its event, which comes after the events of all earlier changes. What was made in a directory before it
//! was watched has no event, but the directory's own path is handed on, and is looked at with all below it.

mod dirs;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_channel::{Receiver, Sender};
use data_encoding::HEXLOWER;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::inotify::Reader;
use rustix::io::Errno;
use tidegate_protocol::path::{EntryPath, Name};
use tidegate_storage::disk::{RootDir, TreePath};

use self::dirs::Dirs;
use crate::env::{Changes, Watch, WatchError, Watched};

/// Paths kept until somebody takes them; with more, a scan of everything is cheaper.
const PENDING_PATHS_MAX: usize = 100_000;

/// How long the event of a cookie may take. Longer means that events do not arrive any more.
const COOKIE_WAIT_MAX: Duration = Duration::from_secs(10);

/// How long events gather in the kernel before they are read, unless a barrier waits: a thread that wakes for
/// each of them costs more than the work they tell of.
const GATHER: Timespec = Timespec { tv_sec: 0, tv_nsec: 2_000_000 };

/// Bytes of events read at once, and paths after which they are handed on.
const READ_BYTES: usize = 64 << 10;
const NEWS_PATHS_MAX: usize = 4096;

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
        match root.make_dir(&cookies()).await {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(lost(&error)),
            Ok(()) | Err(_) => {}
        }
        let dirs = Dirs::watch(path.to_owned(), OsStr::from_bytes(cookies().as_bytes()))?;
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(|errno| lost(&errno.into()))?;
        let (wake, woken) = async_channel::bounded(1);
        let shared = Arc::new(Shared { pending: Mutex::default(), wake, bell });
        let reading = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("watch".to_owned());
        thread.spawn(move || read_events(dirs, &reading)).map_err(|error| lost(&error))?;
        Ok(OsWatched { root: root.clone(), shared, woken })
    }
}

/// A watched root.
pub struct OsWatched<R> {
    root: R,
    shared: Arc<Shared>,
    woken: Receiver<()>,
}

impl<R> Drop for OsWatched<R> {
    fn drop(&mut self) {
        self.shared.lock().over = true;
        self.shared.ring();
    }
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
        Ok(self.shared.take()?.unwrap_or_default())
    }
}

impl<R: RootDir> OsWatched<R> {
    /// Makes a cookie and waits for its event.
    async fn cookie(&self) -> Result<(), WatchError> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(|error| WatchError::Lost(error.to_string()))?;
        let name = HEXLOWER.encode(&bytes).into_bytes();
        let path = cookies().child(&Name::new(&name).expect("hexadecimal digits are a name"));
        self.shared.lock().cookie = Some(name);
        drop(self.root.create(&path).await.map_err(|error| lost(&error))?);
        self.root.remove_file(&path).await.map_err(|error| lost(&error))?;
        self.shared.ring();
        let arrived = tokio::time::timeout(COOKIE_WAIT_MAX, async {
            loop {
                {
                    let pending = self.shared.lock();
                    if let Some(lost) = &pending.lost {
                        return Err(lost.clone());
                    }
                    if pending.cookie.is_none() {
                        return Ok(());
                    }
                }
                self.woken.recv().await.map_err(|_| WatchError::Lost("the watcher ended".to_owned()))?;
            }
        });
        arrived.await.unwrap_or_else(|_| Err(WatchError::Lost("events do not arrive any more".to_owned())))
    }
}

/// What some events told.
#[derive(Debug, Default)]
struct News {
    paths: Vec<EntryPath>,
    overflow: bool,
    /// Names of cookies that were made.
    cookies: Vec<Vec<u8>>,
    lost: Option<WatchError>,
}

impl News {
    fn fail(&mut self, result: Result<(), WatchError>) {
        if let Err(error) = result {
            self.lost.get_or_insert(error);
        }
    }
}

/// What the thread of a root and the reader of its changes share.
struct Shared {
    pending: Mutex<Pending>,
    wake: Sender<()>,
    /// Rung when the thread is wanted before the next event.
    bell: OwnedFd,
}

#[derive(Default)]
struct Pending {
    paths: BTreeSet<EntryPath>,
    overflow: bool,
    /// The cookie that is waited for.
    cookie: Option<Vec<u8>>,
    lost: Option<WatchError>,
    /// Nobody reads any more.
    over: bool,
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

    fn put(&self, news: News) {
        let mut pending = self.lock();
        pending.paths.extend(news.paths);
        pending.overflow |= news.overflow || pending.paths.len() > PENDING_PATHS_MAX;
        if pending.overflow {
            pending.paths.clear();
        }
        if pending.cookie.as_ref().is_some_and(|cookie| news.cookies.contains(cookie)) {
            pending.cookie = None;
        }
        pending.lost = pending.lost.take().or(news.lost);
        drop(pending);
        // A full channel means that the reader will wake anyway.
        let _ = self.wake.try_send(());
    }

    fn ring(&self) {
        // It fails only when it has been rung more often than a number can count, and then it still rings.
        let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
    }

    /// Waits until there are events to read; false when nobody wants them any more.
    fn wait(&self, events: &OwnedFd) -> Result<bool, Errno> {
        loop {
            let mut ready = [PollFd::new(events, PollFlags::IN), PollFd::new(&self.bell, PollFlags::IN)];
            poll_again(&mut ready, None)?;
            let (news, rung) = (!ready[0].revents().is_empty(), !ready[1].revents().is_empty());
            if rung {
                let _ = rustix::io::read(&self.bell, &mut [0; 8]);
            }
            let hurry = {
                let pending = self.lock();
                if pending.over {
                    return Ok(false);
                }
                pending.cookie.is_some()
            };
            if news {
                if !hurry {
                    poll_again(&mut [PollFd::new(&self.bell, PollFlags::IN)], Some(&GATHER))?;
                }
                return Ok(true);
            }
        }
    }
}

/// The thread of one root. It ends with its reader, or when the kernel gives no more events.
fn read_events(mut dirs: Dirs, shared: &Shared) {
    let events = dirs.events();
    let mut room = vec![MaybeUninit::uninit(); READ_BYTES];
    let mut reader = Reader::new(events.as_fd(), &mut room);
    loop {
        let mut news = News::default();
        match shared.wait(&events) {
            Ok(true) => {}
            Ok(false) => return,
            Err(errno) => news.lost = Some(lost(&errno.into())),
        }
        while news.lost.is_none() && (news.paths.len() < NEWS_PATHS_MAX || !reader.is_buffer_empty()) {
            match reader.next() {
                Ok(event) => dirs.take(&event, &mut news),
                Err(Errno::INTR) => {}
                Err(Errno::WOULDBLOCK) => break,
                Err(errno) => news.lost = Some(lost(&errno.into())),
            }
        }
        let over = news.lost.is_some();
        shared.put(news);
        if over {
            return;
        }
    }
}

fn poll_again(ready: &mut [PollFd<'_>], timeout: Option<&Timespec>) -> Result<(), Errno> {
    loop {
        match poll(ready, timeout) {
            Err(Errno::INTR) => {}
            other => return other.map(|_| ()),
        }
    }
}

/// The directory of cookies.
fn cookies() -> TreePath {
    TreePath::internal([&Name::new(COOKIES.as_bytes()).expect("a plain word is a name")])
}

fn lost(error: &io::Error) -> WatchError {
    WatchError::Lost(error.to_string())
}
