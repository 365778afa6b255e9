//! The replace sequence and its kin: every change that this node makes to what a user sees.
//!
//! A replacement goes: staged bytes are durable → they take the item's swap name → they are exchanged with what
//! stands at the path → what came out is compared with what the plan expects → it goes to the trash. If a
//! user's edit came out, the exchange is taken back; if the path has changed once more by then, the edit is
//! kept in the trash and its place reported. A crash is allowed between any two steps, see `recover`.
//!
//! On a file system without an exchanging rename, the old content is moved aside before the new one takes
//! its name, both by renames that refuse an existing name: nothing is lost there either, but for a moment the
//! path is absent. Parents are never made here; they are items of their own.

use std::io;

use tidegate_protocol::file_sync::PreImage;
use tidegate_protocol::index::{FileFacts, StatMark};
use tidegate_protocol::path::EntryPath;

use super::inspect::{self, Expect, came_out, holds, same_object};
use super::known::Known;
use super::reading::{self, Reading};
use super::refused::Refused;
use super::stage::{NewContent, Ready, Slot, Staged, Workshop};
use super::{File, FileKind, Metadata, RenameMode, RootDir, TreePath};

/// A change that was made. It is durable after [`Workshop::sync_dirs`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The stat after the write, to recognise it by; `None` if nothing stands there now, or if what stands
    /// there was touched by someone since and must be read.
    pub mark: Option<StatMark>,
    /// Where the old content is.
    pub trashed: Option<TreePath>,
}

impl<R: RootDir> Workshop<R> {
    /// Puts staged content at `path` in place of what is expected there.
    ///
    /// `known` is asked only for what lies below an expected directory, which goes to the trash whole; it
    /// should be the index as the plan saw it.
    pub async fn install<K: Known>(
        &self,
        ready: Ready,
        path: &EntryPath,
        expect: &Expect,
        known: &K,
    ) -> Result<Applied, Refused> {
        let staged = ready.0;
        let target = TreePath::from(path);
        self.touch(&target);
        let trashed = match expect.image {
            PreImage::Absent => {
                self.name_new(&staged, &target).await?;
                None
            }
            PreImage::File { .. } | PreImage::Symlink { .. } | PreImage::Directory => {
                Some(self.replace(&staged, path, expect, known).await?)
            }
        };
        Ok(Applied { mark: self.mark_of(&staged, &target).await?, trashed })
    }

    /// Makes a directory. One that is there already is fine.
    pub async fn make_directory<K: Known>(
        &self,
        item: u32,
        path: &EntryPath,
        expect: &Expect,
        known: &K,
    ) -> Result<Applied, Refused> {
        let target = TreePath::from(path);
        self.touch(&target);
        if self.root.metadata(&target).await?.is_some_and(|found| found.kind == FileKind::Directory) {
            return Ok(Applied { mark: None, trashed: None });
        }
        if expect.image == PreImage::Absent {
            self.root.make_dir(&target).await.map_err(refuse_target)?;
            return Ok(Applied { mark: None, trashed: None });
        }
        let staged = self.stage_directory(item).await?;
        // An empty directory has no content that would have to be durable first.
        self.install(Ready(staged), path, expect, known).await
    }

    /// Renames a file whose old path is to vanish. What is expected at the old path is `facts.content`.
    #[allow(clippy::too_many_arguments, reason = "two paths, each with what is expected there")]
    pub async fn rename_file<K: Known>(
        &self,
        item: u32,
        from: &EntryPath,
        from_mark: Option<StatMark>,
        path: &EntryPath,
        expect: &Expect,
        facts: &FileFacts,
        known: &K,
    ) -> Result<Applied, Refused> {
        let (old, new) = (TreePath::from(from), TreePath::from(path));
        self.touch(&old);
        self.touch(&new);
        let source = Expect { image: PreImage::File { content: facts.content, size: facts.size }, mark: from_mark };
        let Some(moving) = inspect::find(&self.root, &old, from, &source, known).await? else {
            return Err(Refused::SourceChanged);
        };
        let trashed = if expect.image == PreImage::Absent {
            self.root.rename(&old, &new, RenameMode::NoReplace).await.map_err(refuse_target)?;
            if !came_out(&self.root, &new, path, Some(&moving), &source, known).await? {
                // The file is a user's under either name; only the name goes back.
                self.root.rename(&new, &old, RenameMode::NoReplace).await.map_err(refuse_target)?;
                return Err(Refused::SourceChanged);
            }
            None
        } else {
            let Some(before) = inspect::find(&self.root, &new, path, expect, known).await? else {
                return Err(Refused::CHANGED);
            };
            match self.root.rename(&old, &new, RenameMode::Exchange).await {
                Err(e) if e.kind() == io::ErrorKind::Unsupported => {
                    Some(self.rename_in_two(item, &old, path, &before, expect, known).await?)
                }
                Err(e) => return Err(refuse_target(e)),
                Ok(()) => {
                    // What came out bears the old name, under which a user may still reach it, until it has ours.
                    let swap = self.slot(item, Slot::Swap);
                    self.root.rename(&old, &swap, RenameMode::NoReplace).await.map_err(refuse_target)?;
                    let right = came_out(&self.root, &new, path, Some(&moving), &source, known).await?;
                    let expected = came_out(&self.root, &swap, path, Some(&before), expect, known).await?;
                    if !right || !expected {
                        return Err(self.rename_back(&old, path, &swap).await?);
                    }
                    Some(self.trash.keep(&swap, path).await?)
                }
            }
        };
        Ok(Applied { mark: self.settle_metadata(&new, facts).await?, trashed })
    }

    /// Takes an exchange of two users' files back, of which one lies at `swap` by now.
    async fn rename_back(&self, old: &TreePath, path: &EntryPath, swap: &TreePath) -> Result<Refused, Refused> {
        match self.root.rename(swap, old, RenameMode::NoReplace).await {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                return Ok(Refused::TargetChanged { kept: Some(self.trash.keep(swap, path).await?) });
            }
            Err(e) => return Err(refuse_target(e)),
        }
        self.root.rename(&path.into(), old, RenameMode::Exchange).await.map_err(refuse_target)?;
        Ok(Refused::CHANGED)
    }

    /// A rename over an old target where names cannot be exchanged: the target steps aside first.
    async fn rename_in_two<K: Known>(
        &self,
        item: u32,
        old: &TreePath,
        path: &EntryPath,
        before: &Metadata,
        expect: &Expect,
        known: &K,
    ) -> Result<TreePath, Refused> {
        let (new, swap) = (TreePath::from(path), self.slot(item, Slot::Swap));
        self.root.rename(&new, &swap, RenameMode::NoReplace).await.map_err(refuse_target)?;
        if !came_out(&self.root, &swap, path, Some(before), expect, known).await? {
            return Err(Refused::TargetChanged { kept: self.give_back(path, None, &swap, item).await? });
        }
        if let Err(e) = self.root.rename(old, &new, RenameMode::NoReplace).await {
            self.give_back(path, None, &swap, item).await?;
            return Err(refuse_target(e));
        }
        self.trash.keep(&swap, path).await
    }

    /// Sets modification time and executable bit of a file whose content is right.
    pub async fn set_metadata<K: Known>(
        &self,
        path: &EntryPath,
        mark: Option<StatMark>,
        facts: &FileFacts,
        known: &K,
    ) -> Result<Applied, Refused> {
        let target = TreePath::from(path);
        let expect = Expect { image: PreImage::File { content: facts.content, size: facts.size }, mark };
        if inspect::find(&self.root, &target, path, &expect, known).await?.is_none() {
            return Err(Refused::CHANGED);
        }
        self.touch(&target);
        let mark = self.settle_metadata(&target, facts).await?;
        Ok(Applied { mark: Some(mark.ok_or(Refused::CHANGED)?), trashed: None })
    }

    /// Removes a file or link to the trash. One that is gone already is fine.
    pub async fn remove<K: Known>(
        &self,
        item: u32,
        path: &EntryPath,
        expect: &Expect,
        known: &K,
    ) -> Result<Applied, Refused> {
        let target = TreePath::from(path);
        if self.root.metadata(&target).await?.is_none() {
            return Ok(Applied { mark: None, trashed: None });
        }
        let Some(before) = inspect::find(&self.root, &target, path, expect, known).await? else {
            return Err(Refused::CHANGED);
        };
        self.touch(&target);
        let swap = self.slot(item, Slot::Swap);
        self.root.rename(&target, &swap, RenameMode::NoReplace).await.map_err(refuse_target)?;
        let trashed = self.settle(path, None, &swap, Some(&before), expect, known).await?;
        Ok(Applied { mark: None, trashed: Some(trashed) })
    }

    /// Removes a file for good, as the other end holds the same. One that is gone already is fine.
    pub async fn evict<K: Known>(
        &self,
        item: u32,
        path: &EntryPath,
        expect: &Expect,
        known: &K,
    ) -> Result<Applied, Refused> {
        let target = TreePath::from(path);
        if self.root.metadata(&target).await?.is_none() {
            return Ok(Applied { mark: None, trashed: None });
        }
        let Some(before) = inspect::find(&self.root, &target, path, expect, known).await? else {
            return Err(Refused::CHANGED);
        };
        self.touch(&target);
        let swap = self.slot(item, Slot::Swap);
        self.root.rename(&target, &swap, RenameMode::NoReplace).await.map_err(refuse_target)?;
        if !came_out(&self.root, &swap, path, Some(&before), expect, known).await? {
            return Err(Refused::TargetChanged { kept: self.give_back(path, None, &swap, item).await? });
        }
        self.root.remove_file(&swap).await?;
        Ok(Applied { mark: None, trashed: None })
    }

    /// Gives what stands at `from` another spelling of its name, by way of staging: on a file system that folds
    /// names, both spellings name one entry, so neither can be refused for the other's sake.
    pub async fn respell(&self, item: u32, from: &EntryPath, path: &EntryPath) -> Result<Applied, Refused> {
        let (old, new) = (TreePath::from(from), TreePath::from(path));
        self.touch(&old);
        self.touch(&new);
        let swap = self.slot(item, Slot::Swap);
        self.root.rename(&old, &swap, RenameMode::NoReplace).await.map_err(refuse_target)?;
        if let Err(e) = self.root.rename(&swap, &new, RenameMode::NoReplace).await {
            self.give_back(from, None, &swap, item).await?;
            return Err(refuse_target(e));
        }
        Ok(Applied { mark: None, trashed: None })
    }

    /// Removes a directory if it is empty. One that is gone already is fine.
    pub async fn remove_directory(&self, path: &EntryPath) -> Result<Applied, Refused> {
        let target = TreePath::from(path);
        self.touch(&target);
        match self.root.remove_dir(&target).await {
            Ok(()) => Ok(Applied { mark: None, trashed: None }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Applied { mark: None, trashed: None }),
            Err(e) => Err(refuse_target(e)),
        }
    }

    /// Whether `path` already is as an install of `facts` would leave it, and under which stat. Asked before
    /// fetching, it makes an item that was done before a crash a cheap one.
    pub async fn already(&self, path: &EntryPath, facts: &FileFacts) -> Result<Option<StatMark>, Refused> {
        let found = holds(&self.root, &path.into(), &NewContent::File(*facts)).await?;
        let right = found.filter(|m| m.mark.mtime_ns == facts.mtime_ns && m.executable == facts.executable);
        Ok(right.map(|metadata| metadata.mark))
    }

    async fn name_new(&self, staged: &Staged, target: &TreePath) -> Result<(), Refused> {
        let part = self.slot(staged.item, Slot::Part);
        self.root.rename(&part, target, RenameMode::NoReplace).await.map_err(refuse_target)
    }

    async fn replace<K: Known>(
        &self,
        staged: &Staged,
        path: &EntryPath,
        expect: &Expect,
        known: &K,
    ) -> Result<TreePath, Refused> {
        let target = TreePath::from(path);
        let Some(before) = inspect::find(&self.root, &target, path, expect, known).await? else {
            return Err(Refused::CHANGED);
        };
        let (part, swap) = (self.slot(staged.item, Slot::Part), self.slot(staged.item, Slot::Swap));
        if before.kind == FileKind::File && staged.seen.kind == FileKind::File {
            self.root.keep_permissions(&target, &part).await.map_err(refuse_target)?;
        }
        self.root.rename(&part, &swap, RenameMode::NoReplace).await?;
        match self.root.rename(&swap, &target, RenameMode::Exchange).await {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::Unsupported => {
                self.root.rename(&swap, &part, RenameMode::NoReplace).await?;
                self.root.rename(&target, &swap, RenameMode::NoReplace).await.map_err(refuse_target)?;
                if !came_out(&self.root, &swap, path, Some(&before), expect, known).await? {
                    return Err(Refused::TargetChanged { kept: self.give_back(path, None, &swap, staged.item).await? });
                }
                let named = self.name_new(staged, &target).await;
                let trashed = self.trash.keep(&swap, path).await?;
                return named.map(|()| trashed);
            }
            Err(e) => {
                self.root.rename(&swap, &part, RenameMode::NoReplace).await?;
                return Err(refuse_target(e));
            }
        }
        self.settle(path, Some(staged), &swap, Some(&before), expect, known).await
    }

    /// What came out of `path` lies at `swap`: to the trash if it is what was expected, else back.
    pub(super) async fn settle<K: Known>(
        &self,
        path: &EntryPath,
        ours: Option<&Staged>,
        swap: &TreePath,
        before: Option<&Metadata>,
        expect: &Expect,
        known: &K,
    ) -> Result<TreePath, Refused> {
        if came_out(&self.root, swap, path, before, expect, known).await? {
            return self.trash.keep(swap, path).await;
        }
        let item = ours.map_or(0, |staged| staged.item);
        Err(Refused::TargetChanged { kept: self.give_back(path, ours, swap, item).await? })
    }

    /// Puts a user's bytes at `swap` back to `path`, or into the trash if something newer stands there.
    /// Answers where they are if not at `path`.
    pub(super) async fn give_back(
        &self,
        path: &EntryPath,
        ours: Option<&Staged>,
        swap: &TreePath,
        item: u32,
    ) -> Result<Option<TreePath>, Refused> {
        let target = TreePath::from(path);
        let stands = self.root.metadata(&target).await?;
        let ours = ours.filter(|staged| stands.is_some_and(|found| same_object(&found, &staged.seen)));
        let back = match (stands, ours) {
            (None, _) => self.root.rename(swap, &target, RenameMode::NoReplace).await,
            (Some(_), Some(_)) => self.root.rename(swap, &target, RenameMode::Exchange).await,
            (Some(_), None) => Err(io::ErrorKind::AlreadyExists.into()),
        };
        match back {
            Ok(()) => {}
            Err(e) if matches!(e.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) => {
                return Ok(Some(self.trash.keep(swap, path).await?));
            }
            Err(e) => return Err(e.into()),
        }
        let Some(ours) = ours else { return Ok(None) };
        // What came out this time should be ours; if it is not, the user was faster once more.
        match self.root.metadata(swap).await? {
            Some(found) if same_object(&found, &ours.seen) => {
                self.root.rename(swap, &self.slot(item, Slot::Part), RenameMode::NoReplace).await?;
                Ok(None)
            }
            Some(_) => Ok(Some(self.trash.keep(swap, path).await?)),
            None => Ok(None),
        }
    }

    /// The stat of what was just installed, if it still stands there as it was staged.
    async fn mark_of(&self, staged: &Staged, target: &TreePath) -> Result<Option<StatMark>, Refused> {
        let found = self.root.metadata(target).await?;
        Ok(found.filter(|found| same_object(found, &staged.seen)).map(|found| found.mark))
    }

    /// Gives a file in place its metadata, then reads it: only a content that was read *after* the mtime was
    /// set can be told from an edit made in the instant before. `None` if the content is another by now.
    async fn settle_metadata(&self, target: &TreePath, facts: &FileFacts) -> Result<Option<StatMark>, Refused> {
        let file = self.root.open(target).await.map_err(refuse_target)?;
        let found = file.metadata().await?;
        if found.mark.mtime_ns != facts.mtime_ns || found.executable != facts.executable {
            file.set_metadata(facts.mtime_ns, facts.executable).await?;
        }
        match reading::read(&self.root, target, &mut Vec::new()).await {
            Reading::Hashed(read) => Ok((read.facts == *facts).then_some(read.metadata.mark)),
            Reading::Gone | Reading::NotAFile | Reading::Changing => Ok(None),
            Reading::Failed(e) => Err(e.into()),
        }
    }
}

/// Maps an error at the target path.
fn refuse_target(e: io::Error) -> Refused {
    match e.kind() {
        io::ErrorKind::AlreadyExists | io::ErrorKind::InvalidInput | io::ErrorKind::IsADirectory => Refused::CHANGED,
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Refused::ParentMissing,
        _ => e.into(),
    }
}
