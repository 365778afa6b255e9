//! Staging: new content is whole and proven under `.tidegate/staging/<job>/` before anything shows it.
//!
//! Each item of a job has at most two names there. `<item>.part` holds bytes of ours alone, partial or whole;
//! it may be thrown away at any time. `<item>.swap` is the name under which content is exchanged with what
//! stands at the target, so after a crash it may hold the only copy of a user's bytes, and is never thrown
//! away unless its content is proven to be the new one. Nothing else belongs into the directory.
//!
//! [`Staged`] is whole and right, [`Ready`] is also durable; only the latter can be installed.

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use tidegate_protocol::file_sync::JobKey;
use tidegate_protocol::hash::ContentHash;
use tidegate_protocol::index::FileFacts;
use tidegate_protocol::limits::chunk_bytes;
use tidegate_protocol::path::Name;

use super::chunks::{ChunkHasher, Outline};
use super::refused::Refused;
use super::trash::Trash;
use super::{File, FileKind, Metadata, RootDir, TreePath};
use super::{hashing, reading};

/// The staging and trash of one job in one location.
pub struct Workshop<R> {
    pub(super) root: R,
    pub(super) staging: TreePath,
    pub(super) trash: Trash<R>,
    /// Directories whose names changed since the last [`Workshop::sync_dirs`].
    pub(super) touched: Mutex<BTreeSet<TreePath>>,
    /// Whether metadata of files in place changed since then, which no sync of a directory makes durable.
    pub(super) marked: AtomicBool,
}

/// Which of an item's two names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    /// Bytes of ours.
    Part,
    /// Ours or a user's.
    Swap,
}

/// What is put at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NewContent {
    /// A file.
    File(FileFacts),
    /// A symbolic link.
    Symlink {
        /// Its text.
        target: Vec<u8>,
    },
    /// An empty directory.
    Directory,
}

/// New content that is whole and has the right hash, but may not be durable yet.
#[derive(Debug)]
#[must_use]
pub struct Staged {
    pub(super) item: u32,
    /// As it was when it was staged; tells it from anything else that may stand in its place later.
    pub(super) seen: Metadata,
}

/// Staged content that is durable.
#[derive(Debug)]
#[must_use]
pub struct Ready(pub(super) Staged);

/// More directories than this are synced by one barrier instead of one by one.
const SYNC_ONE_BY_ONE_MAX: usize = 8;

impl<R: RootDir> Workshop<R> {
    /// Opens the staging of `job`, making its directories. After a crash, or whenever the staging existed,
    /// call [`Workshop::recover`] before anything else.
    ///
    /// `.tidegate` itself is never made here: a root without it is not the root that was added.
    pub async fn open(root: R, job: &JobKey) -> Result<Self, Refused> {
        check_own_dir(&root, &TreePath::internal([])).await?;
        make_own_dir(&root, &staging_top()).await?;
        let staging = Self::staging_of(job);
        make_own_dir(&root, &staging).await?;
        let trash = Trash::open(root.clone(), job.conduit, job.generation).await?;
        Ok(Self { root, staging, trash, touched: Mutex::default(), marked: AtomicBool::new(false) })
    }

    /// Where a job stages.
    pub(super) fn staging_of(job: &JobKey) -> TreePath {
        staging_top().child(&plain_name(&job.to_string()))
    }

    /// Stages content that is in memory.
    pub async fn stage_bytes(&self, item: u32, bytes: &[u8], facts: &FileFacts) -> Result<Staged, Refused> {
        if bytes.len() as u64 != facts.size || ContentHash::of(bytes) != facts.content {
            return Err(Refused::WrongContent);
        }
        let file = self.new_part(item).await?;
        file.write_at(bytes, 0).await?;
        finish(file, item, facts).await
    }

    /// Stages the content of a file of this device: from this root, or from another one. Blocks are shared
    /// where the file system can. What was copied is read back and hashed, so a source that changes meanwhile
    /// is found out.
    pub async fn stage_copy(
        &self,
        item: u32,
        source: &R,
        from: &TreePath,
        facts: &FileFacts,
    ) -> Result<Staged, Refused> {
        let source = source.open(from).await.map_err(|e| match e.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::InvalidInput => {
                Refused::SourceChanged
            }
            _ => e.into(),
        })?;
        if source.metadata().await?.mark.size != facts.size {
            return Err(Refused::SourceChanged);
        }
        let file = self.new_part(item).await?;
        file.copy_from(&source, 0, 0, facts.size).await?;
        let hashed = hashing::hash(&file, facts.size, &mut Vec::new()).await?;
        if hashed.is_none_or(|(content, _)| content != facts.content) {
            return Err(Refused::SourceChanged);
        }
        finish(file, item, facts).await
    }

    /// Opens a large content for staging chunk by chunk. Chunks that an earlier, interrupted run left are
    /// hashed again, and only if they are right they count.
    pub async fn stage_chunks(
        &self,
        item: u32,
        facts: &FileFacts,
        outline: Outline,
    ) -> Result<Download<R::File>, Refused> {
        if outline.content() != facts.content || outline.size() != facts.size {
            return Err(Refused::WrongContent);
        }
        let part = self.slot(item, Slot::Part);
        let mut missing: BTreeSet<u64> = (0..outline.chunks().len() as u64).collect();
        let file = match self.root.open_staged(&part).await {
            Ok(file) => {
                // Whatever lies beyond the end is not part of the content.
                if file.metadata().await?.mark.size > facts.size {
                    file.set_len(facts.size).await?;
                }
                let chunk = chunk_bytes(facts.size);
                let mut buffer = vec![0; chunk.min(facts.size) as usize];
                let present = file.metadata().await?.mark.size;
                for index in 0..present.div_ceil(chunk) {
                    let Some((offset, length)) = outline.range(index) else { break };
                    let got = reading::fill(&file, &mut buffer[..length], offset).await?;
                    if outline.verify(index, &buffer[..got]) {
                        missing.remove(&index);
                    }
                }
                file
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => self.new_part(item).await?,
            Err(e) if e.kind() == io::ErrorKind::InvalidInput => self.new_part(item).await?,
            Err(e) => return Err(e.into()),
        };
        if facts.size == 0 {
            missing.clear();
        }
        Ok(Download { file, item, facts: *facts, outline, missing: Mutex::new(missing) })
    }

    /// Stages a symbolic link. Its text is only ever text.
    pub async fn stage_symlink(&self, item: u32, target: &[u8]) -> Result<Staged, Refused> {
        let part = self.slot(item, Slot::Part);
        self.discard_part(&part).await?;
        self.root.make_symlink(&part, target).await?;
        self.staged(item).await
    }

    pub(super) async fn stage_directory(&self, item: u32) -> Result<Staged, Refused> {
        let part = self.slot(item, Slot::Part);
        self.discard_part(&part).await?;
        self.root.make_dir(&part).await?;
        self.staged(item).await
    }

    /// One barrier for a batch: after it, all of it is durable.
    ///
    /// After an error the batch is thrown away: a kernel that failed to write pages may have dropped them, so
    /// trying the barrier again would prove nothing. The items are staged anew.
    pub async fn barrier(&self, batch: Vec<Staged>) -> Result<Vec<Ready>, Refused> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        if let Err(e) = self.root.sync_all().await {
            for staged in &batch {
                self.discard_part(&self.slot(staged.item, Slot::Part)).await?;
            }
            return Err(e.into());
        }
        Ok(batch.into_iter().map(Ready).collect())
    }

    /// Makes the names and metadata that were changed since the last call durable. An item is done only after it.
    pub async fn sync_dirs(&self) -> Result<(), Refused> {
        let touched = std::mem::take(&mut *self.touched.lock().unwrap_or_else(PoisonError::into_inner));
        if self.marked.swap(false, Ordering::Relaxed) || touched.len() > SYNC_ONE_BY_ONE_MAX {
            return Ok(self.root.sync_all().await?);
        }
        for dir in touched {
            match self.root.sync_dir(&dir).await {
                // Whoever removed or replaced it did so after us.
                Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                    self.root.sync_all().await?;
                }
                other => other?,
            }
        }
        Ok(())
    }

    pub(super) fn slot(&self, item: u32, slot: Slot) -> TreePath {
        let name = match slot {
            Slot::Part => format!("{item}.part"),
            Slot::Swap => format!("{item}.swap"),
        };
        self.staging.child(&Name::new(name.as_bytes()).expect("digits and a suffix are a name"))
    }

    /// Removes bytes of ours. A directory goes only if it is empty; else it is kept in the trash.
    pub(super) async fn discard_part(&self, part: &TreePath) -> Result<(), Refused> {
        match self.root.metadata(part).await? {
            None => Ok(()),
            Some(found) if found.kind == FileKind::Directory => match self.root.remove_dir(part).await {
                Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => {
                    self.trash.keep_unplaced(part).await.map(|_| ())
                }
                other => Ok(other?),
            },
            Some(_) => Ok(self.root.remove_file(part).await?),
        }
    }

    pub(super) fn touch(&self, path: &TreePath) {
        let parent = path.parent().unwrap_or_default();
        self.touched.lock().unwrap_or_else(PoisonError::into_inner).insert(parent);
    }

    async fn new_part(&self, item: u32) -> Result<R::File, Refused> {
        let part = self.slot(item, Slot::Part);
        match self.root.create(&part).await {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                self.discard_part(&part).await?;
                Ok(self.root.create(&part).await?)
            }
            other => Ok(other?),
        }
    }

    async fn staged(&self, item: u32) -> Result<Staged, Refused> {
        let seen = self.root.metadata(&self.slot(item, Slot::Part)).await?;
        let seen = seen.ok_or_else(|| Refused::Io(io::ErrorKind::NotFound.into()))?;
        Ok(Staged { item, seen })
    }
}

/// A large content on its way in. Chunks may be written in any order, from several tasks.
#[derive(Debug)]
pub struct Download<F> {
    file: F,
    item: u32,
    facts: FileFacts,
    outline: Outline,
    missing: Mutex<BTreeSet<u64>>,
}

impl<F: File> Download<F> {
    /// Chunks that are still to be fetched, in order.
    pub fn missing(&self) -> Vec<u64> {
        self.missing.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }

    /// The outline it is checked against.
    pub const fn outline(&self) -> &Outline {
        &self.outline
    }

    /// Writes one whole chunk, if its bytes are the right ones. A chunk that is already there is left.
    pub async fn write_chunk(&self, index: u64, bytes: &[u8]) -> Result<(), Refused> {
        if !self.outline.verify(index, bytes) {
            return Err(Refused::WrongContent);
        }
        if !self.missing.lock().unwrap_or_else(PoisonError::into_inner).contains(&index) {
            return Ok(());
        }
        self.file.write_at(bytes, index * chunk_bytes(self.facts.size)).await?;
        self.missing.lock().unwrap_or_else(PoisonError::into_inner).remove(&index);
        Ok(())
    }

    /// Writes the next bytes of a chunk as they come. They count once all of it is there and
    /// [`Download::end_chunk`] finds it right; until then, and after a crash, the chunk is missing.
    pub async fn write_next(&self, chunk: &mut ChunkHasher, bytes: &[u8]) -> Result<(), Refused> {
        self.file.write_at(bytes, chunk.offset()).await?;
        chunk.push(bytes);
        Ok(())
    }

    /// A chunk that was written is not missing any more, if it is the right one.
    pub fn end_chunk(&self, chunk: &ChunkHasher) -> Result<(), Refused> {
        if !chunk.is_right(&self.outline) {
            return Err(Refused::WrongContent);
        }
        self.missing.lock().unwrap_or_else(PoisonError::into_inner).remove(&chunk.index());
        Ok(())
    }

    /// The staged content, once no chunk is missing; [`Refused::WrongContent`] before.
    pub async fn finish(self) -> Result<Staged, Refused> {
        if !self.missing().is_empty() {
            return Err(Refused::WrongContent);
        }
        finish(self.file, self.item, &self.facts).await
    }
}

async fn finish<F: File>(file: F, item: u32, facts: &FileFacts) -> Result<Staged, Refused> {
    file.set_metadata(facts.mtime_ns, facts.executable).await?;
    let seen = file.metadata().await?;
    Ok(Staged { item, seen })
}

/// Makes a directory of the node's own, or accepts the one that is there if it is one and is ours.
pub(super) async fn make_own_dir<R: RootDir>(root: &R, path: &TreePath) -> Result<(), Refused> {
    match root.make_dir(path).await {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => check_own_dir(root, path).await,
        other => Ok(other?),
    }
}

fn plain_name(text: &str) -> Name {
    Name::new(text.as_bytes()).expect("job keys are short and plain")
}

fn staging_top() -> TreePath {
    TreePath::internal([]).child(&plain_name("staging"))
}

async fn check_own_dir<R: RootDir>(root: &R, path: &TreePath) -> Result<(), Refused> {
    // A planted link or a directory of another user is not ours, whatever it leads to.
    match root.metadata(path).await {
        Ok(Some(found)) if found.kind == FileKind::Directory => Ok(()),
        Ok(_) => Err(Refused::NotPrepared(path.clone())),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Err(Refused::NotPrepared(path.clone())),
        Err(e) => Err(e.into()),
    }
}
