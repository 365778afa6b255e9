//! Telling whether what stands at a path, or came out of it, is what the plan expects there.

use tidegate_protocol::file_sync::PreImage;
use tidegate_protocol::index::{EntryKind, StatMark};
use tidegate_protocol::path::{EntryPath, Name};

use super::known::{Known, KnownEntry};
use super::reading::{self, Reading};
use super::refused::Refused;
use super::stage::NewContent;
use super::{FileKind, Metadata, RootDir, TreePath};

/// What an item expects to find.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expect {
    /// What the plan saw.
    pub image: PreImage,
    /// The stat under which the index knows just that; an equal stat spares reading the file.
    pub mark: Option<StatMark>,
}

impl Expect {
    /// Nothing stands there.
    pub const ABSENT: Self = Self { image: PreImage::Absent, mark: None };
}

/// What is at `at`, if it is what is expected at `path`; `None` if it is anything else, or nothing.
///
/// Of an expected directory, everything in it must be known to the index and unchanged.
pub(super) async fn find<R: RootDir, K: Known>(
    root: &R,
    at: &TreePath,
    path: &EntryPath,
    expect: &Expect,
    known: &K,
) -> Result<Option<Metadata>, Refused> {
    let Some(found) = root.metadata(at).await? else { return Ok(None) };
    let right = match (&expect.image, found.kind) {
        (PreImage::File { content, size }, FileKind::File) => {
            found.mark.size == *size
                && (expect.mark == Some(found.mark) || {
                    // The stat that counts is the one that held around the reading.
                    return match reading::read(root, at, &mut Vec::new()).await {
                        Reading::Hashed(read) => Ok((read.facts.content == *content).then_some(read.metadata)),
                        Reading::Gone | Reading::NotAFile | Reading::Changing => Ok(None),
                        Reading::Failed(e) => Err(e.into()),
                    };
                })
        }
        (PreImage::Symlink { target }, FileKind::Symlink) => root.read_link(at).await? == *target,
        (PreImage::Directory, FileKind::Directory) => tree_is_known(root, at, path, known).await?,
        (PreImage::Absent | PreImage::File { .. } | PreImage::Symlink { .. } | PreImage::Directory, _) => false,
    };
    Ok(right.then_some(found))
}

/// Whether what came out of a path, and lies at `at` now, is what was found there before: the same object with
/// the same size and mtime (a rename may change the ctime), or else the same content.
pub(super) async fn came_out<R: RootDir, K: Known>(
    root: &R,
    at: &TreePath,
    path: &EntryPath,
    before: Option<&Metadata>,
    expect: &Expect,
    known: &K,
) -> Result<bool, Refused> {
    let now = root.metadata(at).await?;
    if let (Some(now), Some(before)) = (now, before)
        && now.kind != FileKind::Directory
        && same_object(&now, before)
    {
        return Ok(true);
    }
    let unmarked = Expect { image: expect.image.clone(), mark: None };
    Ok(find(root, at, path, &unmarked, known).await?.is_some())
}

/// Whether a path holds just the new content, as far as its own bytes tell.
pub(super) async fn holds<R: RootDir>(root: &R, at: &TreePath, new: &NewContent) -> Result<Option<Metadata>, Refused> {
    let Some(found) = root.metadata(at).await? else { return Ok(None) };
    match (new, found.kind) {
        (NewContent::File(facts), FileKind::File) if found.mark.size == facts.size => {
            match reading::read(root, at, &mut Vec::new()).await {
                Reading::Hashed(read) => Ok((read.facts.content == facts.content).then_some(read.metadata)),
                Reading::Gone | Reading::NotAFile | Reading::Changing => Ok(None),
                Reading::Failed(e) => Err(e.into()),
            }
        }
        (NewContent::Symlink { target }, FileKind::Symlink) => {
            Ok((root.read_link(at).await? == *target).then_some(found))
        }
        (NewContent::Directory, FileKind::Directory) => Ok(root.list(at).await?.is_empty().then_some(found)),
        (NewContent::File(_) | NewContent::Symlink { .. } | NewContent::Directory, _) => Ok(None),
    }
}

/// Whether two stats are of one object that nobody has written to in between.
pub(super) fn same_object(a: &Metadata, b: &Metadata) -> bool {
    let same = a.kind == b.kind && a.mark.inode == b.mark.inode;
    // The size and times of a directory say nothing.
    same && (a.kind == FileKind::Directory || (a.mark.size == b.mark.size && a.mark.mtime_ns == b.mark.mtime_ns))
}

/// Whether all below the directory at `at`, which stood at `path`, is known and unchanged.
async fn tree_is_known<R: RootDir, K: Known>(
    root: &R,
    at: &TreePath,
    path: &EntryPath,
    known: &K,
) -> Result<bool, Refused> {
    let mut stack = vec![(at.clone(), path.clone())];
    while let Some((at, path)) = stack.pop() {
        for entry in root.list(&at).await? {
            let Ok(name) = Name::new(&entry.name) else { return Ok(false) };
            let (Ok(below), Ok(found)) = (path.child(&name), entry.metadata) else { return Ok(false) };
            let at = at.child(&name);
            let Some(entry) = known.entry(&below).await? else { return Ok(false) };
            if !is_as_known(root, &at, &found, &entry).await? {
                return Ok(false);
            }
            if found.kind == FileKind::Directory {
                stack.push((at, below));
            }
        }
    }
    Ok(true)
}

async fn is_as_known<R: RootDir>(
    root: &R,
    at: &TreePath,
    found: &Metadata,
    known: &KnownEntry,
) -> Result<bool, Refused> {
    match &known.kind {
        EntryKind::Directory { .. } => Ok(found.kind == FileKind::Directory),
        EntryKind::File(facts) => {
            if found.kind == FileKind::File && known.mark == Some(found.mark) {
                return Ok(true);
            }
            Ok(holds(root, at, &NewContent::File(*facts)).await?.is_some())
        }
        EntryKind::Symlink { target } => {
            Ok(holds(root, at, &NewContent::Symlink { target: target.clone() }).await?.is_some())
        }
        EntryKind::Special | EntryKind::Unknown(_) => Ok(false),
    }
}
