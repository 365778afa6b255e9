//! What lies in a location's trash, as people see it: listed, hashed, put back beside what stands there, removed
//! for good. Not here: how things get into the trash, and who decides what may leave it.
//!
//! The disk is the truth: what is listed is what lies there. A bin is the trash of one generation. Putting back
//! is a rename that refuses an existing name, so it never replaces what a user has written since.

use std::fmt;
use std::io;

use tidegate_protocol::hash::ContentHash;
use tidegate_protocol::id::ConduitId;
use tidegate_protocol::index::FileFacts;
use tidegate_protocol::path::{EntryPath, Name};

use super::reading::{self, Reading};
use super::refused::Refused;
use super::trash::{CLASHES_MAX, numbered, remove_tree};
use super::{FileKind, RenameMode, RootDir, TreePath};

/// Things of one location that are listed at once. What lies beyond is counted.
pub const TRASH_LISTED_MAX: usize = 100_000;
/// Things of one name that are looked at to find a content.
const SEARCHED_MAX: u32 = 16;

/// The trash of one generation, by its name on disk: `<conduit>-<generation>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bin {
    /// The short form of the conduit's id.
    pub conduit: String,
    /// The generation.
    pub generation: u64,
}

impl Bin {
    /// The bin of a generation.
    pub fn of(conduit: ConduitId, generation: u64) -> Self {
        Self { conduit: conduit.short(), generation }
    }

    fn parse(name: &[u8]) -> Option<Self> {
        let (conduit, generation) = std::str::from_utf8(name).ok()?.rsplit_once('-')?;
        Some(Self { conduit: conduit.to_owned(), generation: generation.parse().ok()? })
    }

    fn place(&self) -> TreePath {
        let name = |text: &str| Name::new(text.as_bytes()).expect("a bin was named by a directory, or by an id");
        TreePath::internal([&name("trash"), &name(&self.to_string())])
    }
}

impl fmt::Display for Bin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.conduit, self.generation)
    }
}

/// One file, link or special file in the trash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trashed {
    /// In which bin.
    pub bin: Bin,
    /// Where in it: where it stood below the location, with `~1` and so on if that name was taken.
    pub path: EntryPath,
    /// What it is.
    pub kind: FileKind,
    /// Its length in bytes.
    pub size: u64,
    /// Status change time in nanoseconds since 1970: for what was moved here by itself, the time of that.
    pub ctime_ns: i64,
}

/// What lies in a location's trash.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrashListing {
    /// In order of bins and paths; at most [`TRASH_LISTED_MAX`].
    pub things: Vec<Trashed>,
    /// Things in all.
    pub count: u64,
    /// Bytes in all.
    pub bytes: u64,
    /// Bytes of the file system that it lies on; `None` where that does not say.
    pub disk_bytes: Option<u64>,
}

/// Where something in the trash lies.
pub fn trashed_at(bin: &Bin, path: &EntryPath) -> TreePath {
    path.names().fold(bin.place(), |at, name| at.child(&Name::new(name).expect("a path is made of names")))
}

/// Lists a location's trash. What is there and is no bin of ours is not listed, and never touched.
pub async fn list_trash<R: RootDir>(root: &R) -> Result<TrashListing, Refused> {
    let top = TreePath::internal([&Name::new(b"trash").expect("a plain name")]);
    let mut listing =
        TrashListing { disk_bytes: root.space().await.ok().map(|space| space.total), ..TrashListing::default() };
    let bins = match root.list(&top).await {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(listing),
        other => other?,
    };
    let is_bin = |kind: Result<FileKind, io::ErrorKind>| kind == Ok(FileKind::Directory);
    let mut bins: Vec<Bin> = bins
        .into_iter()
        .filter(|entry| is_bin(entry.metadata.map(|found| found.kind)))
        .filter_map(|entry| Bin::parse(&entry.name))
        .collect();
    bins.sort();
    for bin in bins {
        list_bin(root, &bin, &mut listing).await?;
    }
    Ok(listing)
}

async fn list_bin<R: RootDir>(root: &R, bin: &Bin, listing: &mut TrashListing) -> Result<(), Refused> {
    let first = listing.things.len();
    let mut stack: Vec<(TreePath, Option<EntryPath>)> = vec![(bin.place(), None)];
    while let Some((at, path)) = stack.pop() {
        let entries = match root.list(&at).await {
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            other => other?,
        };
        for entry in entries {
            let Ok(name) = Name::new(&entry.name) else { continue };
            let below = match &path {
                Some(path) => path.child(&name),
                None => EntryPath::from_slashes(name.as_bytes()),
            };
            // What is too deep to be named stays until its whole bin goes.
            let (Ok(below), Ok(found)) = (below, entry.metadata) else { continue };
            if found.kind == FileKind::Directory {
                stack.push((at.child(&name), Some(below)));
                continue;
            }
            listing.count += 1;
            listing.bytes = listing.bytes.saturating_add(found.mark.size);
            if listing.things.len() < TRASH_LISTED_MAX {
                let (size, ctime_ns) = (found.mark.size, found.mark.ctime_ns);
                listing.things.push(Trashed { bin: bin.clone(), path: below, kind: found.kind, size, ctime_ns });
            }
        }
    }
    listing.things[first..].sort_by(|one, other| one.path.cmp(&other.path));
    Ok(())
}

/// Where in these bins the content lies that once stood at `path`; the first that has it. Read whole: only its
/// bytes tell it from another version of the same length.
pub async fn find_trashed<R: RootDir>(root: &R, bins: &[Bin], path: &EntryPath, facts: &FileFacts) -> Option<TreePath> {
    for bin in bins {
        let stood = trashed_at(bin, path);
        let parent = stood.parent()?;
        for clash in 0..SEARCHED_MAX {
            let at = parent.child(&numbered(path.name(), clash));
            match root.metadata(&at).await {
                Ok(Some(found)) if found.kind == FileKind::File && found.mark.size == facts.size => {
                    if let Reading::Hashed(read) = reading::read(root, &at, &mut Vec::new()).await
                        && read.facts.content == facts.content
                    {
                        return Some(at);
                    }
                }
                Ok(Some(_)) => {}
                // Numbers are given one after the other.
                Ok(None) | Err(_) => break,
            }
        }
    }
    None
}

/// The content of something in the trash; `None` for what has none, or is not there any more.
pub async fn hash_trashed<R: RootDir>(root: &R, bin: &Bin, path: &EntryPath) -> Result<Option<ContentHash>, Refused> {
    match reading::read(root, &trashed_at(bin, path), &mut Vec::new()).await {
        Reading::Hashed(read) => Ok(Some(read.facts.content)),
        Reading::Gone | Reading::NotAFile | Reading::Changing => Ok(None),
        Reading::Failed(e) => Err(e.into()),
    }
}

/// Puts something from the trash back to `path`, with the directories above it, and makes the name durable.
/// Where something stands, it is put beside it under a name that ends with `mark`; says where it is.
pub async fn restore_beside<R: RootDir>(
    root: &R,
    bin: &Bin,
    path: &EntryPath,
    mark: &str,
) -> Result<EntryPath, Refused> {
    let from = trashed_at(bin, path);
    if root.metadata(&from).await?.is_none() {
        return Err(Refused::SourceChanged);
    }
    let mut made = Vec::new();
    let above: Vec<EntryPath> = path.ancestors().collect();
    for dir in above.into_iter().rev() {
        let at = TreePath::from(&dir);
        match root.make_dir(&at).await {
            Ok(()) => made.push(at),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) if e.kind() == io::ErrorKind::NotADirectory => return Err(Refused::ParentMissing),
            Err(e) => return Err(e.into()),
        }
    }
    for clash in 0..CLASHES_MAX {
        let to = if clash == 0 { path.clone() } else { beside(path, mark, clash).map_err(|_| Refused::BadName)? };
        match root.rename(&from, &TreePath::from(&to), RenameMode::NoReplace).await {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            // A file or a link stands where a directory has to be.
            Err(e) if matches!(e.kind(), io::ErrorKind::NotADirectory | io::ErrorKind::NotFound) => {
                return Err(Refused::ParentMissing);
            }
            Err(e) => return Err(e.into()),
            Ok(()) => {
                made.push(TreePath::from(&to));
                for at in made {
                    root.sync_dir(&at.parent().unwrap_or_default()).await?;
                }
                return Ok(to);
            }
        }
    }
    Err(Refused::BadName)
}

/// `name mark.ext`, then `name mark-2.ext` and so on.
fn beside(path: &EntryPath, mark: &str, clash: u32) -> Result<EntryPath, tidegate_protocol::path::PathError> {
    let name = path.name();
    // A leading dot begins a name, not an extension.
    let split = name.iter().rposition(|byte| *byte == b'.').filter(|at| *at > 0).unwrap_or(name.len());
    let (stem, extension) = name.split_at(split);
    let mark = if clash == 1 { format!(" {mark}") } else { format!(" {mark}-{clash}") };
    let room = tidegate_protocol::limits::NAME_BYTES_MAX.saturating_sub(mark.len() + extension.len());
    let named = [&stem[..stem.len().min(room)], mark.as_bytes(), extension].concat();
    path.parent().child(&Name::new(&named)?)
}

/// Removes something from the trash for good, and the directories of its bin that are empty then. One that is gone
/// already is fine. This releases space; it does not erase.
pub async fn purge_trashed<R: RootDir>(root: &R, bin: &Bin, path: &EntryPath) -> Result<(), Refused> {
    let at = trashed_at(bin, path);
    match root.metadata(&at).await? {
        Some(found) if found.kind == FileKind::Directory => remove_tree(root, at.clone()).await?,
        Some(_) => root.remove_file(&at).await?,
        None => {}
    }
    let (bin, mut above) = (bin.place(), at.parent());
    while let Some(dir) = above.filter(|dir| dir.as_bytes().starts_with(bin.as_bytes())) {
        match root.remove_dir(&dir).await {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            // The first that holds something else ends it.
            Err(_) => break,
        }
        above = dir.parent();
    }
    Ok(())
}
