//! The roots that are held open, and the job that keeps one: opens it, checks what it is, watches it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_channel::{Receiver, Sender};
use tidegate_protocol::id::LocationId;
use tidegate_protocol::library_sync::RootState;
use tidegate_storage::disk::{FileSystem, RootBinding, RootDir, RootIdentity, check_root, probe_names, read_marker};

use super::Context;
use super::wait::{First, race};
use crate::core::io::Input;
use crate::env::{Changes, Clock, Env, RootOf, Watch, WatchError, Watched};

/// Barriers that may wait at one root; the core asks for one at a time.
const BARRIERS_MAX: usize = 64;

/// Time between two looks at whether a quiet root is still the one that was opened.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// The roots that are held open, by location.
pub(crate) struct Roots<E: Env>(Mutex<BTreeMap<LocationId, Held<E>>>);

struct Held<E: Env> {
    /// What is held, and what it must be; `None` until it is opened.
    root: Option<(RootOf<E>, RootBinding)>,
    barriers: Sender<u64>,
}

impl<E: Env> Default for Roots<E> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<E: Env> Roots<E> {
    /// The root of a location, if it is held.
    pub(crate) fn get(&self, location: LocationId) -> Option<RootOf<E>> {
        self.held(location).map(|(root, _)| root)
    }

    /// The root of a location and what it must be, if it is held.
    pub(crate) fn held(&self, location: LocationId) -> Option<(RootOf<E>, RootBinding)> {
        self.lock().get(&location).and_then(|held| held.root.clone())
    }

    /// Whether the root of a location is held and is still what it was opened as.
    pub(crate) async fn stands(&self, location: LocationId) -> bool {
        match self.held(location) {
            Some((root, binding)) => stands(&root, &binding).await == RootState::Present,
            None => false,
        }
    }

    /// Makes room for a root that is about to be opened; whoever kept it before ends.
    pub(crate) fn open(&self, location: LocationId) -> Receiver<u64> {
        let (barriers, asked) = async_channel::bounded(BARRIERS_MAX);
        self.lock().insert(location, Held { root: None, barriers });
        asked
    }

    /// Lets go of a root.
    pub(crate) fn close(&self, location: LocationId) {
        self.lock().remove(&location);
    }

    /// Lets go of a root that its keeper found gone, unless it was opened anew meanwhile.
    fn close_if(&self, location: LocationId, asked: &Receiver<u64>) {
        let mut held = self.lock();
        if !asked.is_closed() {
            held.remove(&location);
        }
    }

    /// Lets go of all.
    pub(crate) fn close_all(&self) {
        self.lock().clear();
    }

    /// Passes a barrier to whoever keeps the root. One that cannot be passed is never answered; the core asks
    /// again, or has been told that the root is gone.
    pub(crate) fn drain(&self, location: LocationId, barrier: u64) {
        if let Some(held) = self.lock().get(&location) {
            let _ = held.barriers.try_send(barrier);
        }
    }

    /// Puts an opened root in its place, unless that has been closed or opened anew meanwhile.
    fn hold(&self, location: LocationId, root: (RootOf<E>, RootBinding), asked: &Receiver<u64>) {
        if let Some(held) = self.lock().get_mut(&location)
            && !asked.is_closed()
        {
            held.root = Some(root);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<LocationId, Held<E>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens a root, says how it stands, and reports its changes until it is closed, opened anew, or gone.
pub(crate) async fn keep<E: Env>(
    context: Context<E>,
    location: LocationId,
    path: PathBuf,
    identity: RootIdentity,
    asked: Receiver<u64>,
) {
    let (root, binding) = match open(&context, location, &path, identity).await {
        Ok(opened) => opened,
        Err(state) => {
            context.roots.close_if(location, &asked);
            context.tell(Input::Root { location, state, watched: false }).await;
            return;
        }
    };
    let watched = context.env.watch().watch(&root, &path).await;
    if let Err(error) = &watched {
        tracing::warn!(root = %path.display(), %error, "a root is not watched; it is scanned regularly");
    }
    // Before the first scan is asked for: a scan of a root that folds names looks twice.
    match probe_names(&root).await {
        Ok(names) => drop(context.tell(Input::Probed { location, names }).await),
        Err(error) => {
            tracing::warn!(root = %path.display(), %error, "which names are one here cannot be tried; as before");
        }
    }
    context.roots.hold(location, (root.clone(), binding), &asked);
    let keeper = Keeper { context, location, root, binding, asked };
    if keeper.state(RootState::Present, watched.is_ok()).await {
        keeper.run(watched.ok()).await;
    }
}

/// Opens a root and makes sure that it is the one that was added here.
async fn open<E: Env>(
    context: &Context<E>,
    location: LocationId,
    path: &Path,
    identity: RootIdentity,
) -> Result<(RootOf<E>, RootBinding), RootState> {
    let unusable = |error: io::Error| {
        tracing::warn!(root = %path.display(), %error, "a root cannot be opened");
        RootState::Missing
    };
    let root = context.env.disk().open_root(path).await.map_err(unusable)?;
    let marker = read_marker(&root).await.map_err(unusable)?;
    let marker = marker.filter(|marker| marker.location == location && marker.device == context.device);
    let binding = RootBinding { identity, marker: marker.ok_or(RootState::Replaced)? };
    match stands(&root, &binding).await {
        RootState::Present => Ok((root, binding)),
        state @ (RootState::Missing | RootState::Replaced) => Err(state),
    }
}

/// Looks whether a held root is still what it must be. A root that cannot be looked at is as good as missing.
async fn stands<R: RootDir>(root: &R, binding: &RootBinding) -> RootState {
    check_root(root, binding).await.unwrap_or(RootState::Missing)
}

struct Keeper<E: Env> {
    context: Context<E>,
    location: LocationId,
    root: RootOf<E>,
    binding: RootBinding,
    asked: Receiver<u64>,
}

impl<E: Env> Keeper<E> {
    async fn run(self, mut watched: Option<<E::Watch as Watch<RootOf<E>>>::Watched>) {
        loop {
            let events = async {
                match &mut watched {
                    Some(watched) => watched.changes().await,
                    None => std::future::pending().await,
                }
            };
            let goes_on = match race(race(self.asked.recv(), events), self.context.env.clock().sleep(LOOK_EVERY)).await
            {
                First::Left(First::Left(Err(_))) => return,
                First::Left(First::Left(Ok(barrier))) => self.drain(&mut watched, barrier).await,
                First::Left(First::Right(changes)) => {
                    let changes = changes.map(|changes| self.without_in_hand(changes));
                    self.seen(&mut watched, changes).await
                }
                First::Right(()) => self.look(watched.is_some()).await,
            };
            if !goes_on {
                return;
            }
        }
    }

    async fn drain<W: Watched>(&self, watched: &mut Option<W>, barrier: u64) -> bool {
        // Without a watcher there is nothing that could be on its way.
        if let Some(watcher) = watched {
            let kept = self.context.in_hand.kept(self.location);
            let changes = watcher.drain().await.map(|mut changes| {
                changes.paths.extend(kept);
                changes
            });
            if !self.seen(watched, changes).await {
                return false;
            }
        }
        self.context.tell(Input::Drained { location: self.location, barrier }).await
    }

    /// Leaves the hints that running legs see to.
    fn without_in_hand(&self, changes: Changes) -> Changes {
        Changes { paths: self.context.in_hand.keep(self.location, changes.paths), overflow: changes.overflow }
    }

    /// Reports changes. A lost watch is said, and everything may have changed.
    async fn seen<W: Watched>(&self, watched: &mut Option<W>, changes: Result<Changes, WatchError>) -> bool {
        let Changes { paths, overflow } = match changes {
            Ok(changes) => changes,
            Err(error) => {
                tracing::warn!(location = %self.location.short(), %error, "a watch is lost; the root is scanned regularly");
                *watched = None;
                if !self.state(RootState::Present, false).await {
                    return false;
                }
                Changes { paths: Vec::new(), overflow: true }
            }
        };
        if overflow && !self.look(watched.is_some()).await {
            return false;
        }
        if paths.is_empty() && !overflow {
            return true;
        }
        self.context.tell(Input::Hints { location: self.location, paths, overflow }).await
    }

    /// Looks whether the root is still what it was; says so and ends if it is not.
    async fn look(&self, watched: bool) -> bool {
        match stands(&self.root, &self.binding).await {
            RootState::Present => true,
            state @ (RootState::Missing | RootState::Replaced) => {
                tracing::warn!(location = %self.location.short(), ?state, watched, "a root is gone");
                self.context.roots.close_if(self.location, &self.asked);
                self.state(state, false).await;
                false
            }
        }
    }

    async fn state(&self, state: RootState, watched: bool) -> bool {
        self.context.tell(Input::Root { location: self.location, state, watched }).await
    }
}
