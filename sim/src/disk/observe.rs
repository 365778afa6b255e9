//! What there is to see of a disk from outside: the whole tree at a moment, what was done to it and by whom, and
//! what a watcher of a directory is told.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_protocol::hash::ContentHash;
use tidegate_protocol::path::EntryPath;
use tidegate_storage::disk::{FileKind, Metadata};

use super::content::Content;
use super::errno::Result;
use super::machine::Machine;
use super::object::{Body, ObjectId};
use super::volume::Volume;

/// Who does something to a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Actor {
    /// The node.
    Node,
    /// A user, with whatever program.
    User,
}

/// Something that was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// When, in nanoseconds since the world began.
    pub at_ns: u64,
    /// By whom.
    pub who: Actor,
    /// The absolute path; empty if what was changed had no name any more.
    pub path: Vec<u8>,
    /// What.
    pub deed: Deed,
}

impl Change {
    /// What no name leads to any more because of it: removed, replaced or overwritten.
    pub fn destroyed(&self) -> Option<&Content> {
        match &self.deed {
            Deed::Overwrote { before } => Some(before),
            Deed::Removed { held } => held.content.as_ref(),
            Deed::Moved { replaced, .. } => replaced.as_ref().and_then(|held| held.content.as_ref()),
            Deed::Created { .. } | Deed::Added | Deed::Marked | Deed::Exchanged { .. } => None,
        }
    }
}

/// What was done to a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    /// It was made.
    Created {
        /// As what.
        kind: FileKind,
    },
    /// Something was written behind all that was there.
    Added,
    /// Something was written over, or cut off.
    Overwrote {
        /// What the whole file held until then.
        before: Content,
    },
    /// Its times or its executable bit were set.
    Marked,
    /// It was removed for good.
    Removed {
        /// What it was.
        held: Held,
    },
    /// It came here.
    Moved {
        /// From there.
        from: Vec<u8>,
        /// What it is.
        held: Held,
        /// What had this name until then.
        replaced: Option<Held>,
    },
    /// It changed places.
    Exchanged {
        /// With this path.
        with: Vec<u8>,
        /// What is here now.
        held: Held,
        /// What is there now.
        other: Held,
    },
}

/// What stood, or stands, at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// What it was.
    pub kind: FileKind,
    /// Of a file.
    pub content: Option<Content>,
    /// Text of a symbolic link.
    pub link: Option<Vec<u8>>,
}

/// One path of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// As `lstat` says it.
    pub metadata: Metadata,
    /// Of a file.
    pub content: Option<Content>,
    /// Text of a symbolic link.
    pub link: Option<Vec<u8>>,
}

/// A tree at a moment, by path below its top, names joined by `/`. The top itself is not in it.
pub type Tree = BTreeMap<Vec<u8>, Shown>;

/// Which of two pictures of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Picture {
    /// What everybody sees.
    Live,
    /// What certainly outlives a power cut at this moment.
    Durable,
}

impl Machine {
    pub(super) fn tree(&self, path: &[u8], picture: Picture) -> Result<Tree> {
        let (spot, rest) = self.locate(path)?;
        let volume = self.volume(spot.volume)?;
        let mut tree = Tree::new();
        let mut open = vec![(Vec::new(), volume.find(spot.top, rest)?)];
        while let Some((path, dir)) = open.pop() {
            let Body::Directory { live, durable } = &volume.object(dir).body else { continue };
            let entries = match picture {
                Picture::Live => live,
                Picture::Durable => durable,
            };
            for entry in entries.values() {
                let mut below: Vec<u8> = path.clone();
                if !below.is_empty() {
                    below.push(b'/');
                }
                below.extend_from_slice(&entry.spelling);
                open.push((below.clone(), entry.object));
                tree.insert(below, show(volume, entry.object, picture));
            }
        }
        Ok(tree)
    }

    /// Every content on every volume, mounted or not.
    pub(super) fn contents(&self, picture: Picture) -> BTreeSet<ContentHash> {
        let mut found = BTreeSet::new();
        for volume in self.volumes.values() {
            let mut open = vec![volume.root];
            while let Some(id) = open.pop() {
                match (&volume.object(id).body, picture) {
                    (Body::Directory { live, .. }, Picture::Live) => open.extend(live.values().map(|e| e.object)),
                    (Body::Directory { durable, .. }, Picture::Durable) => {
                        open.extend(durable.values().map(|e| e.object));
                    }
                    (Body::File { content, .. }, Picture::Live) => drop(found.insert(content.hash())),
                    (Body::File { saved, .. }, Picture::Durable) => {
                        found.extend(saved.as_ref().map(|saved| saved.content.hash()));
                    }
                    (Body::Symlink(_) | Body::Special, _) => {}
                }
            }
        }
        found
    }

    /// Every file of every mounted volume, by absolute path.
    pub(super) fn all_files(&self) -> BTreeMap<Vec<u8>, Content> {
        let mut files = BTreeMap::new();
        for mount in self.mounts.keys() {
            for (path, shown) in self.tree(mount, Picture::Live).unwrap_or_default() {
                if let Some(content) = shown.content {
                    files.insert([mount.as_slice(), &path].join(b"/".as_slice()), content);
                }
            }
        }
        files
    }
}

fn show(volume: &Volume, id: ObjectId, picture: Picture) -> Shown {
    let mut metadata = volume.metadata(id);
    let (content, link) = match (&volume.object(id).body, picture) {
        (Body::File { content, .. }, Picture::Live) => (Some(content.clone()), None),
        (Body::File { saved, .. }, Picture::Durable) => {
            let content = saved.as_ref().map(|saved| saved.content.clone()).unwrap_or_default();
            metadata.mark.size = content.len();
            (Some(content), None)
        }
        (Body::Symlink(target), _) => (None, Some(target.to_vec())),
        (Body::Directory { .. } | Body::Special, _) => (None, None),
    };
    Shown { metadata, content, link }
}

/// What a subscriber is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Feed {
    /// Something happened to this path; if it is a directory, only to its name. Nothing in `.tidegate/`.
    Touched(EntryPath),
    /// The root's path leads elsewhere now, or nowhere.
    RootGone,
}

/// How much the node did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls, of every kind.
    pub calls: u64,
    /// Changes of names, contents and metadata.
    pub changes: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Syncs of files, directories and volumes.
    pub syncs: u64,
}

/// The path below a root as the index names it; of what it cannot name, the nearest directory that it can.
pub(super) fn nameable(mut path: &[u8]) -> Option<EntryPath> {
    while !path.is_empty() {
        if let Ok(path) = EntryPath::from_slashes(path) {
            return Some(path);
        }
        path = &path[..path.iter().rposition(|b| *b == b'/')?];
    }
    None
}
