//! The walk: one directory's listing merged with what is known in it, names in byte order, depth first.

use std::io;

use tidegate_protocol::index::{EntryKind, UnknownCause};
use tidegate_protocol::limits::LINK_BYTES_MAX;
use tidegate_protocol::path::{DirPath, EntryPath, Name};

use super::super::known::{Known, KnownEntry};
use super::super::lanes::Lanes;
use super::super::{FileKind, Metadata, RootDir, TreePath};
use super::report::{Reporter, cause};
use super::{ScanError, ScanSpec, Sink};

/// How often a path that changes its kind under the walk is looked at again.
const LOOKS_MAX: u32 = 3;

/// What listing a directory said of a name.
type Listed = Result<Metadata, io::ErrorKind>;

/// What a look at a path itself said: nothing is there, if it is `None`.
pub(super) type Looked = Result<Option<Metadata>, io::ErrorKind>;

pub(super) struct Walk<'a, R, K, S, L> {
    pub(super) root: &'a R,
    pub(super) spec: &'a ScanSpec,
    pub(super) known: &'a K,
    /// The file system of the root.
    pub(super) device: u64,
    pub(super) reporter: Reporter<'a, R, S, L>,
}

/// A path to be looked at.
pub(super) struct Step {
    pub(super) path: EntryPath,
    /// `None` if it was not looked at yet.
    pub(super) looked: Option<Looked>,
    pub(super) known: Option<KnownEntry>,
}

/// What is left of one directory.
pub(super) struct Frame {
    steps: std::vec::IntoIter<Step>,
    /// The directory itself is gone, and so, for certain, is all of this.
    gone: bool,
}

/// What is visible in a directory, and whether something else is in it.
pub(super) struct Listing {
    visible: Vec<(EntryPath, Listed)>,
    pub(super) residue: bool,
}

impl<R: RootDir, K: Known, S: Sink, L: Lanes> Walk<'_, R, K, S, L> {
    /// Walks everything.
    pub(super) async fn top(&mut self) -> Result<(), ScanError> {
        let listing = self.list(&DirPath::TOP).await.map_err(ScanError::Root)?;
        let known = self.known.children(&DirPath::TOP).await?;
        let frame = self.frame(&DirPath::TOP, listing, known);
        self.run(frame).await
    }

    /// Walks a frame and all that it leads to.
    pub(super) async fn run(&mut self, frame: Frame) -> Result<(), ScanError> {
        let mut stack = vec![frame];
        while let Some(frame) = stack.last_mut() {
            let gone = frame.gone;
            match frame.steps.next() {
                None => {
                    stack.pop();
                }
                Some(step) => stack.extend(if gone { self.vanish(step).await? } else { self.visit(step).await? }),
            }
        }
        Ok(())
    }

    /// Looks at one path. Answers what is to be looked at below it.
    pub(super) async fn visit(&mut self, step: Step) -> Result<Option<Frame>, ScanError> {
        let Step { path, mut looked, known } = step;
        let at = TreePath::from(&path);
        for _ in 0..LOOKS_MAX {
            let now = match looked.take() {
                Some(looked) => looked,
                // A name that was not listed may have been renamed over while the directory was read: only a look
                // at the path itself says that it is gone.
                None => self.look(&path).await,
            };
            let metadata = match now {
                Ok(Some(metadata)) => metadata,
                Ok(None) => return self.vanish(Step { path, looked: None, known }).await,
                Err(kind) => return self.unknown(path, cause(kind), known).await,
            };
            self.reporter.count().await?;
            if metadata.device != self.device {
                return self.unknown(path, UnknownCause::OtherFileSystem, known).await;
            }
            match metadata.kind {
                FileKind::Special => return self.leaf(path, EntryKind::Special, known).await,
                FileKind::Symlink => match self.root.read_link(&at).await {
                    Ok(target) if target.len() <= LINK_BYTES_MAX => {
                        return self.leaf(path, EntryKind::Symlink { target }, known).await;
                    }
                    Ok(_) => return self.unknown(path, UnknownCause::TooLong, known).await,
                    Err(e) if changed_kind(&e) => {}
                    Err(e) => return self.unknown(path, cause(e.kind()), known).await,
                },
                FileKind::Directory => match self.list(&DirPath::below_top(path.clone())).await {
                    Ok(listing) => return self.enter(path, listing, known).await.map(Some),
                    Err(e) if changed_kind(&e) => {}
                    Err(e) => return self.unknown(path, cause(e.kind()), known).await,
                },
                FileKind::File => return self.file(path, &metadata, known).await,
            }
        }
        self.unknown(path, UnknownCause::Changing, known).await
    }

    /// Looks at one path. Where names are folded, only the list of its directory says under which one it stands.
    pub(super) async fn look(&mut self, path: &EntryPath) -> Looked {
        let at = TreePath::from(path);
        let found = self.root.metadata(&at).await.map_err(|e| e.kind())?;
        if !self.spec.folds || found.is_none() {
            return Ok(found);
        }
        let mut above = TreePath::ROOT;
        for name in path.names() {
            match self.root.list(&above).await {
                Ok(entries) if entries.iter().any(|entry| entry.name == name) => {}
                Err(e) if !changed_kind(&e) => return Err(e.kind()),
                Ok(_) | Err(_) => return Ok(None),
            }
            above = above.child(&Name::new(name).expect("a name of a path"));
        }
        Ok(found)
    }

    /// Lists a directory: what is visible in it in order, and whether anything else is.
    pub(super) async fn list(&mut self, dir: &DirPath) -> io::Result<Listing> {
        let entries = self.root.list(&dir.into()).await?;
        let mut listing = Listing { visible: Vec::with_capacity(entries.len()), residue: false };
        for entry in entries {
            let path = Name::new(&entry.name).ok().and_then(|name| dir.child(&name).ok());
            match path {
                Some(path) if !self.spec.rules.hides_last(&path) => {
                    listing.residue |= entry.metadata.as_ref().is_ok_and(|m| m.kind == FileKind::Special);
                    listing.visible.push((path, entry.metadata));
                }
                Some(_) => listing.residue = true,
                None => {
                    listing.residue = true;
                    let own = *dir == DirPath::TOP && entry.name == tidegate_protocol::path::INTERNAL;
                    if !own {
                        self.reporter.skip(dir, entry.name);
                    }
                }
            }
        }
        Ok(listing)
    }

    async fn enter(
        &mut self,
        path: EntryPath,
        listing: Listing,
        known: Option<KnownEntry>,
    ) -> Result<Frame, ScanError> {
        let kind = EntryKind::Directory { residue: listing.residue };
        let dir = DirPath::below_top(path.clone());
        self.reporter.present(path, kind, None, known.as_ref()).await?;
        let children = if may_hold(known.as_ref()) { self.known.children(&dir).await? } else { Vec::new() };
        Ok(self.frame(&dir, listing, children))
    }

    async fn file(
        &mut self,
        path: EntryPath,
        metadata: &Metadata,
        known: Option<KnownEntry>,
    ) -> Result<Option<Frame>, ScanError> {
        let mark = metadata.mark;
        let below = self.below_gone(&path, known.as_ref()).await?;
        if !self.spec.deep {
            let trusted = |known: &KnownEntry| matches!(known.kind, EntryKind::File(_)) && known.mark == Some(mark);
            if known.as_ref().is_some_and(trusted) {
                return Ok(below);
            }
            if let Some(announced) = self.known.announced(&path).await?.filter(trusted) {
                self.reporter.present(path, announced.kind, Some(mark), known.as_ref()).await?;
                return Ok(below);
            }
        }
        self.reporter.read(path, mark.size, known).await?;
        Ok(below)
    }

    async fn leaf(
        &mut self,
        path: EntryPath,
        kind: EntryKind,
        known: Option<KnownEntry>,
    ) -> Result<Option<Frame>, ScanError> {
        let below = self.below_gone(&path, known.as_ref()).await?;
        self.reporter.present(path, kind, None, known.as_ref()).await?;
        Ok(below)
    }

    /// Nothing below it is told: it may all still be there.
    pub(super) async fn unknown(
        &mut self,
        path: EntryPath,
        cause: UnknownCause,
        known: Option<KnownEntry>,
    ) -> Result<Option<Frame>, ScanError> {
        self.reporter.present(path, EntryKind::Unknown(cause), None, known.as_ref()).await?;
        Ok(None)
    }

    async fn vanish(&mut self, step: Step) -> Result<Option<Frame>, ScanError> {
        let below = self.below_gone(&step.path, step.known.as_ref()).await?;
        if step.known.is_some() {
            self.reporter.absent(step.path).await?;
        }
        Ok(below)
    }

    /// What is known below a path that is no directory now.
    async fn below_gone(&mut self, path: &EntryPath, known: Option<&KnownEntry>) -> Result<Option<Frame>, ScanError> {
        if !may_hold(known) {
            return Ok(None);
        }
        let dir = DirPath::below_top(path.clone());
        let children = self.known.children(&dir).await?.into_iter();
        let step = |(name, known)| {
            let path = dir.child(&name).expect("the index holds paths only");
            Step { path, looked: None, known: Some(known) }
        };
        let steps: Vec<Step> = children.map(step).collect();
        Ok((!steps.is_empty()).then(|| Frame { steps: steps.into_iter(), gone: true }))
    }

    /// Merges a listing with what is known; both are in byte order of names.
    fn frame(&self, dir: &DirPath, listing: Listing, known: Vec<(Name, KnownEntry)>) -> Frame {
        let mut steps = Vec::with_capacity(listing.visible.len().max(known.len()));
        let mut known = known
            .into_iter()
            .map(|(name, entry)| (dir.child(&name).expect("the index holds paths only"), entry))
            // What a rule hides by now is neither there nor absent.
            .filter(|(path, _)| !self.spec.rules.hides_last(path))
            .peekable();
        for (path, listed) in listing.visible {
            while let Some((gone, entry)) = known.next_if(|(other, _)| *other < path) {
                steps.push(Step { path: gone, looked: None, known: Some(entry) });
            }
            let entry = known.next_if(|(other, _)| *other == path).map(|(_, entry)| entry);
            steps.push(Step { path, looked: Some(listed.map(Some)), known: entry });
        }
        steps.extend(known.map(|(path, entry)| Step { path, looked: None, known: Some(entry) }));
        Frame { steps: steps.into_iter(), gone: false }
    }
}

/// Whether the index may hold something below such an entry.
fn may_hold(known: Option<&KnownEntry>) -> bool {
    known.is_some_and(|known| match known.kind {
        EntryKind::Directory { .. } | EntryKind::Unknown(_) => true,
        EntryKind::File(_) | EntryKind::Symlink { .. } | EntryKind::Special => false,
    })
}

/// Whether an error says that the path is not any more what it was a moment ago.
fn changed_kind(e: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(e.kind(), Kind::NotFound | Kind::NotADirectory | Kind::InvalidInput)
}
