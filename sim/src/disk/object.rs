//! What stands on a volume: objects, each with what the running system sees and what is on the platter.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidegate_storage::disk::FileKind;

use super::content::Content;
use super::names::Key;

/// Names an object of a volume for ever; inode numbers may be used again, this is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ObjectId(pub(super) u64);

/// What the node and the user may do with an object, whoever owns it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Access {
    /// Everything.
    #[default]
    Full,
    /// Look, but change nothing: no name in a directory, no byte of a file.
    LookOnly,
    /// Nothing but see that it is there.
    Nothing,
}

/// A name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) spelling: Arc<[u8]>,
    pub(super) object: ObjectId,
}

pub(super) type Entries = BTreeMap<Key, Entry>;

/// A file's content and metadata on the platter.
#[derive(Debug, Clone)]
pub(super) struct Saved {
    pub(super) content: Content,
    pub(super) mtime_ns: i64,
    pub(super) executable: bool,
}

#[derive(Debug, Clone)]
pub(super) enum Body {
    File {
        content: Content,
        /// `None` if it was never synced nor written back.
        saved: Option<Saved>,
        /// The shortest it was since then.
        low: u64,
    },
    Directory {
        live: Entries,
        durable: Entries,
    },
    Symlink(Arc<[u8]>),
    Special,
}

#[derive(Debug, Clone)]
pub(super) struct Object {
    pub(super) inode: u64,
    /// Where it stands now: directory and key. `None` for the root, and for what has no name any more.
    pub(super) place: Option<(ObjectId, Key)>,
    pub(super) body: Body,
    pub(super) mtime_ns: i64,
    pub(super) ctime_ns: i64,
    pub(super) executable: bool,
    pub(super) access: Access,
    /// How often it is open, by [`Actor`](super::Actor).
    pub(super) handles: [u32; 2],
    /// In how many unsynced changes of names it occurs.
    pub(super) pending: u32,
    /// Since when its content or metadata are not on the platter.
    pub(super) dirty_since_ns: Option<u64>,
}

impl Object {
    pub(super) const fn kind(&self) -> FileKind {
        match self.body {
            Body::File { .. } => FileKind::File,
            Body::Directory { .. } => FileKind::Directory,
            Body::Symlink(_) => FileKind::Symlink,
            Body::Special => FileKind::Special,
        }
    }

    pub(super) fn size(&self) -> u64 {
        match &self.body {
            Body::File { content, .. } => content.len(),
            Body::Symlink(target) => target.len() as u64,
            Body::Directory { .. } | Body::Special => 0,
        }
    }

    pub(super) fn pages(&self) -> u64 {
        match &self.body {
            Body::File { content, .. } => content.pages(),
            Body::Directory { .. } | Body::Symlink(_) | Body::Special => 0,
        }
    }

    /// The content of a file.
    pub(super) const fn content(&self) -> Option<&Content> {
        match &self.body {
            Body::File { content, .. } => Some(content),
            Body::Directory { .. } | Body::Symlink(_) | Body::Special => None,
        }
    }

    /// What stands in a directory.
    pub(super) const fn entries(&self) -> Option<&Entries> {
        match &self.body {
            Body::Directory { live, .. } => Some(live),
            Body::File { .. } | Body::Symlink(_) | Body::Special => None,
        }
    }
}
