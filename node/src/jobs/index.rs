//! One moment of the index of one own location, as scans and legs may see it: no more of the replica than that.

use std::sync::Arc;

use tidegate_protocol::file_sync::NameRules;
use tidegate_protocol::id::LocationId;
use tidegate_protocol::index::EntryState;
use tidegate_protocol::path::{DirPath, EntryPath, Name};
use tidegate_storage::disk::{Known, KnownEntry, KnownLost};
use tidegate_storage::store::{Snapshot, Store, StoreError, Tree};

/// A snapshot of one location's entries and rules. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct IndexView(Option<Arc<Moment>>);

#[derive(Debug)]
struct Moment {
    snapshot: Snapshot,
    tree: Tree,
    rules: Vec<String>,
    names: NameRules,
}

impl IndexView {
    /// The present moment.
    pub(crate) fn of(store: &Store, location: LocationId) -> Result<Self, StoreError> {
        let snapshot = store.read()?;
        let tree = snapshot.tree(store.device(), location)?;
        let location = snapshot.location(store.device(), location)?;
        let (rules, names) = location.map_or((Vec::new(), NameRules::POSIX), |found| (found.rules, found.names));
        Ok(Self(Some(Arc::new(Moment { snapshot, tree, rules, names }))))
    }

    /// An index that knows nothing, for work that does not ask.
    pub(crate) const fn empty() -> Self {
        Self(None)
    }

    /// What names the root can store and tell apart.
    pub(crate) fn names(&self) -> NameRules {
        self.0.as_ref().map_or(NameRules::POSIX, |moment| moment.names)
    }

    /// The effective ignore rules that the index states.
    pub(crate) fn rules(&self) -> &[String] {
        self.0.as_ref().map_or(&[], |moment| &moment.rules)
    }
}

impl Known for IndexView {
    async fn children(&self, dir: &DirPath) -> Result<Vec<(Name, KnownEntry)>, KnownLost> {
        let Some(moment) = &self.0 else { return Ok(Vec::new()) };
        let rows = moment.snapshot.children(moment.tree, dir).map_err(|error| lost(&error))?;
        let present = rows.into_iter().filter_map(|row| {
            let EntryState::Present(entry) = row.state else { return None };
            let name = Name::new(row.path.name()).expect("the last name of a path is a name");
            Some((name, KnownEntry { kind: entry.kind, mark: row.mark }))
        });
        Ok(present.collect())
    }

    async fn entry(&self, path: &EntryPath) -> Result<Option<KnownEntry>, KnownLost> {
        let Some(moment) = &self.0 else { return Ok(None) };
        let row = moment.snapshot.entry(moment.tree, path).map_err(|error| lost(&error))?;
        Ok(row.and_then(|row| match row.state {
            EntryState::Present(entry) => Some(KnownEntry { kind: entry.kind, mark: row.mark }),
            EntryState::Deleted(_) => None,
        }))
    }

    async fn announced(&self, path: &EntryPath) -> Result<Option<KnownEntry>, KnownLost> {
        let Some(moment) = &self.0 else { return Ok(None) };
        let announced = moment.snapshot.announced(moment.tree, path).map_err(|error| lost(&error))?;
        Ok(announced.map(|announced| KnownEntry { kind: announced.kind, mark: announced.mark }))
    }
}

fn lost(error: &StoreError) -> KnownLost {
    KnownLost(error.to_string())
}
