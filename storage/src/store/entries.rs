//! Entries of a location: in path order, one by one, as the scan asks for them, and by what changed last.
//!
//! Beside each own entry stands its stat mark, and in a table of its own what jobs wrote; neither is ever
//! replicated. An entry is found through a [`Tree`], named by owner and location, so no device can put an
//! entry into another's location.

use std::ops::{Bound, ControlFlow};

use redb::Range;
use tidegate_protocol::hash::ContentHash;
use tidegate_protocol::id::{DeviceId, LocationId, Sequence};
use tidegate_protocol::index::{EntryState, StatMark};
use tidegate_protocol::path::{DirPath, EntryPath};

use super::error::StoreError;
use super::reader::{KeyRange, upper};
use super::record::{Announced, Counters, EntryRecord, TreeRecord};
use super::tables::{RowPlace, Table, after_prefix, path_key, path_of, sequence_key, tree_key, tree_prefix};
use super::{Order, Reader, Snapshot, Txn, record};

/// The entries of one location. A handle: cheap, and valid for the snapshot or transaction it came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tree {
    author: u32,
    number: u32,
    /// Counts over all its entries.
    pub counters: Counters,
}

/// A row of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryRow {
    /// Where.
    pub path: EntryPath,
    /// What the index believes.
    pub state: EntryState,
    /// The stat that goes with it; own files only.
    pub mark: Option<StatMark>,
}

/// All that this device knows of one path of an own location, for the scan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Where.
    pub path: EntryPath,
    /// What the index believes; `None` if the path has no row.
    pub state: Option<EntryState>,
    /// The stat that goes with `state`.
    pub mark: Option<StatMark>,
    /// What a job wrote there since.
    pub announced: Option<Announced>,
}

type VisitChild<'a> = dyn FnMut(EntryPath, &[u8]) -> Result<(), StoreError> + 'a;

impl Reader {
    /// The entries of a location as its owner states them; empty if nothing is known of it.
    pub fn tree(&self, owner: DeviceId, location: LocationId) -> Result<Tree, StoreError> {
        // Numbers start with 1, so nothing is ever found under 0.
        let nothing = Tree { author: 0, number: 0, counters: Counters::default() };
        let Some(author) = self.author_number(owner)? else { return Ok(nothing) };
        let stored: Option<TreeRecord> = self.record(Table::Trees, &tree_key(author, location))?;
        Ok(stored.map_or(nothing, |tree| Tree { author, number: tree.number, counters: tree.counters }))
    }

    /// The row of one path.
    pub fn entry(&self, tree: Tree, path: &EntryPath) -> Result<Option<EntryRow>, StoreError> {
        let stored: Option<EntryRecord> = self.record(Table::Entries, &path_key(tree.number, path))?;
        Ok(stored.map(|EntryRecord { state, mark, .. }| EntryRow { path: path.clone(), state, mark }))
    }

    /// Where in its owner's log the newest change of one path stands.
    pub fn entry_sequence(&self, tree: Tree, path: &EntryPath) -> Result<Option<Sequence>, StoreError> {
        let stored: Option<EntryRecord> = self.record(Table::Entries, &path_key(tree.number, path))?;
        Ok(stored.map(|record| record.sequence))
    }

    /// Rows directly in `dir`, tombstones included, in path order. Costs what is directly in it: what lies
    /// deeper is jumped over.
    pub fn children(&self, tree: Tree, dir: &DirPath) -> Result<Vec<EntryRow>, StoreError> {
        let mut rows = Vec::new();
        self.walk_children(Table::Entries, tree, dir, &mut |path, value| {
            let EntryRecord { state, mark, .. } = record::decode(value)?;
            rows.push(EntryRow { path, state, mark });
            Ok(())
        })?;
        Ok(rows)
    }

    /// How many paths exist directly in `dir`.
    pub fn top_entries(&self, tree: Tree, dir: &DirPath) -> Result<u64, StoreError> {
        let children = self.children(tree, dir)?;
        Ok(children.iter().filter(|row| row.state.present().is_some()).count() as u64)
    }

    /// Visits every row below `dir`, tombstones included, in path order, until `visit` breaks.
    pub fn each_entry(
        &self,
        tree: Tree,
        dir: &DirPath,
        visit: &mut dyn FnMut(EntryRow) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let (start, end) = below(tree.number, dir);
        let range = (Bound::Included(&start[..]), upper(end.as_deref()));
        self.walk(Table::Entries, range, Order::Forward, &mut |key, value| {
            let EntryRecord { state, mark, .. } = record::decode(value)?;
            Ok(visit(EntryRow { path: path_of(key)?, state, mark }))
        })
    }

    /// What the scan asks of one path.
    pub fn known(&self, tree: Tree, path: &EntryPath) -> Result<Option<Known>, StoreError> {
        let row = self.entry(tree, path)?;
        let announced = self.announced(tree, path)?;
        if row.is_none() && announced.is_none() {
            return Ok(None);
        }
        let (state, mark) = row.map_or((None, None), |row| (Some(row.state), row.mark));
        Ok(Some(Known { path: path.clone(), state, mark, announced }))
    }

    /// What the scan asks of everything directly in `dir`, in path order: paths with a row, and paths that a
    /// job wrote and no scan has seen yet.
    pub fn known_children(&self, tree: Tree, dir: &DirPath) -> Result<Vec<Known>, StoreError> {
        let mut announced = Vec::new();
        self.walk_children(Table::Announced, tree, dir, &mut |path, value| {
            announced.push((path, record::decode::<Announced>(value)?));
            Ok(())
        })?;
        let mut announced = announced.into_iter().peekable();
        let mut known = Vec::new();
        for EntryRow { path, state, mark } in self.children(tree, dir)? {
            while let Some((path, new)) = announced.next_if(|(at, _)| *at < path) {
                known.push(Known { path, state: None, mark: None, announced: Some(new) });
            }
            let same = announced.next_if(|(at, _)| *at == path).map(|(_, announced)| announced);
            known.push(Known { path, state: Some(state), mark, announced: same });
        }
        known.extend(announced.map(|(path, new)| Known { path, state: None, mark: None, announced: Some(new) }));
        Ok(known)
    }

    /// What a job wrote at a path, if no scan has taken it up yet.
    pub fn announced(&self, tree: Tree, path: &EntryPath) -> Result<Option<Announced>, StoreError> {
        self.record(Table::Announced, &path_key(tree.number, path))
    }

    /// Paths of the tree whose rows changed after `sequence` of their owner, oldest change first. `None` if
    /// more than `rows_max` rows of the owner changed since, in whichever location: then a full look is due.
    pub fn entries_since(
        &self,
        tree: Tree,
        sequence: Sequence,
        rows_max: usize,
    ) -> Result<Option<Vec<EntryPath>>, StoreError> {
        let (start, end) = (sequence_key(tree.author, sequence), after_prefix(&tree.author.to_be_bytes()));
        let (prefix, mut visited, mut paths) = (tree_prefix(tree.number), 0, Vec::new());
        let range = (Bound::Excluded(&start[..]), upper(end.as_deref()));
        self.walk(Table::BySequence, range, Order::Forward, &mut |_, value| {
            visited += 1;
            if visited > rows_max {
                return Ok(ControlFlow::Break(()));
            }
            match RowPlace::from_bytes(value)? {
                RowPlace::Entry(key) if key.starts_with(&prefix) => paths.push(path_of(&key)?),
                RowPlace::Entry(_) | RowPlace::Fact(_) => {}
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok((visited <= rows_max).then_some(paths))
    }

    /// Chunk hashes of a large content that this device has hashed.
    pub fn outline(&self, content: &ContentHash) -> Result<Option<Vec<[u8; 32]>>, StoreError> {
        let Some(bytes) = self.get(Table::Outlines, content.as_bytes())? else { return Ok(None) };
        let (chunks, rest) = bytes.as_chunks();
        if rest.is_empty() { Ok(Some(chunks.to_vec())) } else { Err(StoreError::damaged("an outline is cut")) }
    }

    /// Visits keys directly in `dir`, jumping over what lies deeper.
    fn walk_children(
        &self,
        table: Table,
        tree: Tree,
        dir: &DirPath,
        visit: &mut VisitChild<'_>,
    ) -> Result<(), StoreError> {
        let (mut start, end) = below(tree.number, dir);
        let prefix_length = start.len();
        loop {
            let mut jump = None;
            let range: KeyRange<'_> = (Bound::Included(&start), upper(end.as_deref()));
            self.walk(table, range, Order::Forward, &mut |key, value| {
                // A name ends at the next separator; a key with one lies deeper.
                if let Some(length) = key[prefix_length..].iter().position(|byte| *byte == 0) {
                    jump = after_prefix(&key[..=prefix_length + length]);
                    return Ok(ControlFlow::Break(()));
                }
                visit(path_of(key)?, value)?;
                Ok(ControlFlow::Continue(()))
            })?;
            match jump {
                Some(next) => start = next,
                None => return Ok(()),
            }
        }
    }
}

/// Rows in path order, as [`Snapshot::entries`] gives them. Keeps its snapshot's pages alive by itself.
pub struct Entries(Range<'static, &'static [u8], &'static [u8]>);

impl Snapshot {
    /// Every row below `dir`, tombstones included, in path order, starting at `from` if given.
    pub fn entries(&self, tree: Tree, dir: &DirPath, from: Option<&EntryPath>) -> Result<Entries, StoreError> {
        let (mut start, end) = below(tree.number, dir);
        if let Some(from) = from {
            start = start.max(path_key(tree.number, from));
        }
        if end.as_ref().is_some_and(|end| start > *end) {
            // redb takes a range that ends before it starts for a mistake; here it is just empty.
            start.clone_from(end.as_ref().expect("checked in the condition"));
        }
        let range: KeyRange<'_> = (Bound::Included(&start), upper(end.as_deref()));
        Ok(Entries(self.table(Table::Entries)?.range::<&[u8]>(range)?))
    }
}

impl Iterator for Entries {
    type Item = Result<EntryRow, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = |pair: Result<_, redb::StorageError>| {
            let (key, value): (redb::AccessGuard<'_, &[u8]>, redb::AccessGuard<'_, &[u8]>) = pair?;
            let EntryRecord { state, mark, .. } = record::decode(value.value())?;
            Ok(EntryRow { path: path_of(key.value())?, state, mark })
        };
        self.0.next().map(row)
    }
}

impl Txn {
    /// Remembers what a job of this device wrote at paths of an own location. Nothing is kept for a location
    /// that this device does not have or has removed.
    pub fn announce(&mut self, location: LocationId, written: Vec<(EntryPath, Announced)>) -> Result<(), StoreError> {
        if written.is_empty() {
            return Ok(());
        }
        let Some(tree) = self.own_tree(location)? else { return Ok(()) };
        let mut table = self.table_mut(Table::Announced)?;
        for (path, announced) in written {
            table.insert(&path_key(tree, &path)[..], &record::encode(&announced)[..])?;
        }
        Ok(())
    }

    /// The tree of an own location, made if it has none yet.
    fn own_tree(&mut self, location: LocationId) -> Result<Option<u32>, StoreError> {
        let own = self.device();
        let is_there = self.location(own, location)?.is_some_and(|location| !location.removed);
        let Some(author) = self.author_record(own)?.filter(|_| is_there) else { return Ok(None) };
        let key = tree_key(author.number, location);
        if let Some(tree) = self.record::<TreeRecord>(Table::Trees, &key)? {
            return Ok(Some(tree.number));
        }
        let tree = TreeRecord { number: self.take_number()?, counters: Counters::default() };
        self.put(Table::Trees, &key, &record::encode(&tree))?;
        Ok(Some(tree.number))
    }

    /// Forgets announcements: the scan has taken them up, or found something else there.
    pub fn forget_announced<'a>(
        &mut self,
        location: LocationId,
        paths: impl IntoIterator<Item = &'a EntryPath>,
    ) -> Result<(), StoreError> {
        let tree = self.tree(self.device(), location)?;
        for path in paths {
            self.remove(Table::Announced, &path_key(tree.number, path))?;
        }
        Ok(())
    }

    /// Keeps the chunk hashes of a large content.
    pub fn put_outline(&mut self, content: &ContentHash, chunks: &[[u8; 32]]) -> Result<(), StoreError> {
        self.put(Table::Outlines, content.as_bytes(), chunks.as_flattened())
    }

    /// Forgets the chunk hashes of a content.
    pub fn remove_outline(&mut self, content: &ContentHash) -> Result<(), StoreError> {
        self.remove(Table::Outlines, content.as_bytes())?;
        Ok(())
    }
}

/// Keys strictly below a directory: from, and before.
fn below(tree: u32, dir: &DirPath) -> (Vec<u8>, Option<Vec<u8>>) {
    let prefix = match dir.as_entry() {
        None => tree_prefix(tree).to_vec(),
        Some(path) => [&path_key(tree, path)[..], &[0]].concat(),
    };
    let end = after_prefix(&prefix);
    (prefix, end)
}
