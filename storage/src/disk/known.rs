//! What the index believes, as far as scan and apply need it: a narrow view, so that neither sees the store.

use std::collections::BTreeMap;
use std::future::Future;

use tidegate_protocol::index::{EntryKind, StatMark};
use tidegate_protocol::path::{DirPath, EntryPath, Name};

/// What the index holds of one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownEntry {
    /// What it is.
    pub kind: EntryKind,
    /// The stat under which it was last seen; `None` if it must be looked at again.
    pub mark: Option<StatMark>,
}

/// The view of the index cannot be read any more; whoever uses it stops and concludes nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the index cannot be read: {0}")]
pub struct KnownLost(pub String);

/// One moment of the index of one location. Tombstones are not in it.
pub trait Known: Send + Sync {
    /// What is known directly in a directory, in byte order of names. Also answers for a path that is not
    /// known as a directory but has known entries below it.
    fn children(&self, dir: &DirPath) -> impl Future<Output = Result<Vec<(Name, KnownEntry)>, KnownLost>> + Send;
    /// What is known of one path.
    fn entry(&self, path: &EntryPath) -> impl Future<Output = Result<Option<KnownEntry>, KnownLost>> + Send;
    /// What a job says it wrote there: taken for true without reading if the stat is equal to its mark.
    fn announced(&self, path: &EntryPath) -> impl Future<Output = Result<Option<KnownEntry>, KnownLost>> + Send;
}

/// A [`Known`] in memory: for small sets and for tests.
#[derive(Debug, Clone, Default)]
pub struct KnownMap {
    /// Entries by path.
    pub entries: BTreeMap<EntryPath, KnownEntry>,
    /// What jobs announced.
    pub announced: BTreeMap<EntryPath, KnownEntry>,
}

impl Known for KnownMap {
    async fn children(&self, dir: &DirPath) -> Result<Vec<(Name, KnownEntry)>, KnownLost> {
        let below = |path: &&EntryPath| path.parent() == *dir;
        let inside = self.entries.iter().filter(|(path, _)| below(path));
        let named = inside
            .map(|(path, known)| (Name::new(path.name()).expect("the last name of a path is a name"), known.clone()));
        Ok(named.collect())
    }

    async fn entry(&self, path: &EntryPath) -> Result<Option<KnownEntry>, KnownLost> {
        Ok(self.entries.get(path).cloned())
    }

    async fn announced(&self, path: &EntryPath) -> Result<Option<KnownEntry>, KnownLost> {
        Ok(self.announced.get(path).cloned())
    }
}
