//! Changes to the rows of one author, computed whole before any of them is written.
//!
//! Own changes and rows that others sent go through the same stage, so count, length, set hash and tree counters
//! move by the same law everywhere. The result can be compared with a signed head and thrown away: nothing
//! was written. Rows are kept sorted by key, in which order redb takes them several times faster.
//!
//! One location may be restated (a grant changes) after its entries were written, and its row then stands
//! later in the log than they do. So entries may come before their location; a state with entries but
//! without their location is a prefix on which no replica rests. A removed location stays removed.
//!
//! Rulings and conflicts that their author calls spent are taken out in the same way: by its row, wherever that is staged.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use redb::ReadableTable;
use tidegate_protocol::file_sync::Spent;
use tidegate_protocol::id::{DeviceId, LocationId, Sequence};
use tidegate_protocol::index::StatMark;
use tidegate_protocol::library_sync::{Fact, FactKey, Head, Row, RowBody, RowKey, SetHash};
use tidegate_protocol::limits::{LOCATIONS_PER_DEVICE_MAX, SPENT_KEPT_MAX};

use super::error::{Mismatch, Refusal, StoreError};
use super::reader::Order;
use super::record::{AuthorRecord, Counters, EntryRecord, FactRecord, TreeRecord};
use super::tables::{FactKind, RowPlace, Table, fact_key, path_key, path_of, sequence_key, tree_key, tree_prefix};
use super::{Txn, record};

/// Why staging ended.
pub(super) enum Stop {
    /// The rows are at fault.
    Refused(Refusal),
    /// The disk is.
    Store(StoreError),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// A row to be staged. Own rows have no sequence yet.
pub(super) struct Incoming {
    pub(super) row: Row,
    pub(super) mark: Option<StatMark>,
}

/// Who brings the rows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// This device states them now: they are numbered here, and what says nothing new is left out.
    Own,
    /// They were sent, with their numbers.
    Applied,
}

/// What the author says of a location's existence.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    Unheard,
    Present,
    Removed,
}

/// One location of the author, as it will be.
struct Home {
    tree: Option<TreeRecord>,
    standing: Standing,
}

/// A row and what it replaces.
struct Pending {
    place: RowPlace,
    /// Position in the batch.
    order: usize,
    incoming: Incoming,
    old: Option<Old>,
    /// Only the mark is new: no sequence is taken.
    mark_only: bool,
}

struct Old {
    sequence: Sequence,
    body: RowBody,
    mark: Option<StatMark>,
}

/// Changes to the rows of one author, not yet written.
pub(super) struct Stage<'t> {
    txn: &'t Txn,
    device: DeviceId,
    author: AuthorRecord,
    hash: SetHash,
    next_number: u32,
    homes: BTreeMap<LocationId, Home>,
    pending: Vec<Pending>,
    /// Places in the by-sequence table that are taken back.
    superseded: Vec<Sequence>,
    /// Trees of locations that are removed.
    felled: Vec<u32>,
    /// Keys of rulings and conflicts that are spent.
    spent: BTreeSet<Vec<u8>>,
}

impl<'t> Stage<'t> {
    /// Starts from the author's stored state.
    pub(super) fn new(txn: &'t Txn, device: DeviceId, author: AuthorRecord) -> Result<Self, StoreError> {
        Ok(Self {
            txn,
            device,
            hash: author.hash()?,
            next_number: txn.next_number()?,
            author,
            homes: BTreeMap::new(),
            pending: Vec::new(),
            superseded: Vec::new(),
            felled: Vec::new(),
            spent: BTreeSet::new(),
        })
    }

    /// Stages a batch; once per stage.
    pub(super) fn add(&mut self, mut batch: Vec<Incoming>, origin: Origin) -> Result<(), Stop> {
        for incoming in &batch {
            if !incoming.row.is_coherent() {
                return Err(Refusal::Incoherent.into());
            }
            if !incoming.row.may_be_from(self.device) {
                return Err(Refusal::NotTheirs.into());
            }
            self.hear_of_location(&incoming.row)?;
        }
        self.hear_of_spent(&mut batch, origin)?;
        let mut pending = Vec::with_capacity(batch.len());
        for (order, incoming) in batch.into_iter().enumerate() {
            let place = self.place(&incoming.row.key, origin)?;
            pending.push(Pending { place, order, incoming, old: None, mark_only: false });
        }
        pending.sort_unstable_by(|a, b| (&a.place, a.order).cmp(&(&b.place, b.order)));
        match origin {
            Origin::Applied if pending.is_sorted_by(|a, b| a.place < b.place) => {}
            Origin::Applied => return Err(Refusal::Incoherent.into()),
            Origin::Own => keep_last(&mut pending),
        }
        self.load_old(&mut pending)?;
        if origin == Origin::Own {
            self.number(&mut pending);
        }
        self.pending = pending;
        self.account()?;
        Ok(())
    }

    /// Moves the end of the prefix.
    pub(super) fn advance(&mut self, upto: Sequence) {
        if upto != self.author.upto {
            self.author.upto = upto;
            self.author.rests = None;
        }
    }

    /// Compares the staged state with a verified head.
    pub(super) fn check(&self, head: &Head) -> Result<Result<(), Mismatch>, StoreError> {
        if (head.device, head.epoch) != (self.device, self.author.epoch) {
            return Ok(Err(Mismatch::Epoch));
        }
        if head.sequence != self.author.upto {
            return Ok(Err(Mismatch::Sequence));
        }
        if head.row_count != self.author.row_count {
            return Ok(Err(Mismatch::RowCount));
        }
        if head.row_bytes != self.author.row_bytes {
            return Ok(Err(Mismatch::RowBytes));
        }
        if head.set_hash != self.hash.digest() {
            return Ok(Err(Mismatch::SetHash));
        }
        let homeless = |_: LocationId, rows: u64, standing| rows > 0 && standing != Standing::Present;
        Ok(if self.any_home(homeless)? { Err(Mismatch::NoLocation) } else { Ok(()) })
    }

    /// The author's state as staged.
    pub(super) const fn author_mut(&mut self) -> &mut AuthorRecord {
        &mut self.author
    }

    /// End of the prefix as staged.
    pub(super) const fn upto(&self) -> Sequence {
        self.author.upto
    }

    /// Notes what a location row says, and fells the tree of a location that is removed.
    fn hear_of_location(&mut self, row: &Row) -> Result<(), Stop> {
        let RowBody::Fact(Fact::Location(location)) = &row.body else { return Ok(()) };
        let home = self.home(location.id)?;
        match (home.standing, location.removed) {
            (Standing::Removed, false) => return Err(Refusal::NoLocation.into()),
            (_, false) => home.standing = Standing::Present,
            (Standing::Removed, true) => {}
            (Standing::Unheard | Standing::Present, true) => {
                home.standing = Standing::Removed;
                self.fell(location.id)?;
            }
        }
        Ok(())
    }

    /// Takes rulings and conflicts that are spent out of count, length and set hash, and out of a batch that brings them with the word that
    /// they are.
    fn hear_of_spent(&mut self, batch: &mut Vec<Incoming>, origin: Origin) -> Result<(), Stop> {
        let said = |incoming: &Incoming| match &incoming.row.body {
            RowBody::Fact(Fact::Spent(said)) => Some((incoming.row.sequence, (**said).clone())),
            RowBody::Fact(_) | RowBody::Entry(_) => None,
        };
        for (at, said) in batch.iter().filter_map(said).collect::<Vec<_>>() {
            // It speaks of what was stated before it.
            let looks_ahead = match origin {
                Origin::Own => said.upto > self.author.upto,
                Origin::Applied => said.upto >= at,
            };
            if looks_ahead || said.kept.len() > SPENT_KEPT_MAX {
                return Err(Refusal::Incoherent.into());
            }
            self.take_spent(&said)?;
            // Own rows have no place yet: they come after all that there are.
            batch.retain(|incoming| {
                let about = match &incoming.row.key {
                    RowKey::Fact(FactKey::Ruling(conduit, _) | FactKey::Conflict(conduit, _)) => Some(*conduit),
                    RowKey::Fact(_) | RowKey::Entry(..) => None,
                };
                origin == Origin::Own || about != Some(said.conduit) || !said.takes(incoming.row.sequence)
            });
        }
        Ok(())
    }

    fn take_spent(&mut self, said: &Spent) -> Result<(), StoreError> {
        self.take_spent_of(FactKind::Ruling, said)?;
        self.take_spent_of(FactKind::Conflict, said)
    }

    fn take_spent_of(&mut self, kind: FactKind, said: &Spent) -> Result<(), StoreError> {
        let prefix = [&[kind as u8][..], said.conduit.as_bytes()].concat();
        let own = self.author.number.to_be_bytes();
        let txn = self.txn;
        txn.walk_prefix(Table::Facts, &prefix, Order::Forward, &mut |key, value| {
            if !key.ends_with(&own) {
                return Ok(ControlFlow::Continue(()));
            }
            let FactRecord { sequence, fact, .. } = record::decode(value)?;
            if said.takes(sequence) && self.spent.insert(key.to_vec()) {
                let row = Row { sequence, key: RowKey::Fact(fact.key()), body: RowBody::Fact(fact) };
                self.author.row_bytes -= self.hash.remove(&row);
                self.author.row_count -= 1;
                self.superseded.push(sequence);
            }
            Ok(ControlFlow::Continue(()))
        })
    }

    /// Takes all entry rows of a location out of count, length and set hash.
    fn fell(&mut self, location: LocationId) -> Result<(), StoreError> {
        let Some(Home { tree: Some(tree), .. }) = self.homes.get_mut(&location) else { return Ok(()) };
        let number = tree.number;
        tree.counters = Counters::default();
        let txn = self.txn;
        txn.walk_prefix(Table::Entries, &tree_prefix(number), Order::Forward, &mut |key, value| {
            let EntryRecord { sequence, state, .. } = record::decode(value)?;
            let key = RowKey::Entry(location, path_of(key)?);
            self.author.row_bytes -= self.hash.remove(&Row { sequence, key, body: RowBody::Entry(state) });
            self.author.row_count -= 1;
            self.superseded.push(sequence);
            Ok(ControlFlow::Continue(()))
        })?;
        self.felled.push(number);
        Ok(())
    }

    /// Where a row stands; gives a new location its number.
    fn place(&mut self, key: &RowKey, origin: Origin) -> Result<RowPlace, Stop> {
        let (location, path) = match key {
            RowKey::Entry(location, path) => (*location, path),
            RowKey::Fact(key) => return Ok(RowPlace::Fact(fact_key(key, self.author.number))),
        };
        let next_number = self.next_number;
        let home = self.home(location)?;
        match (home.standing, origin) {
            (Standing::Present, _) | (Standing::Unheard, Origin::Applied) => {}
            (Standing::Removed, _) | (Standing::Unheard, Origin::Own) => return Err(Refusal::NoLocation.into()),
        }
        if let Some(tree) = &home.tree {
            return Ok(RowPlace::Entry(path_key(tree.number, path)));
        }
        home.tree = Some(TreeRecord { number: next_number, counters: Counters::default() });
        self.next_number += 1;
        let mut trees = 0;
        self.any_home(|_, _, standing| {
            trees += usize::from(standing != Standing::Removed);
            false
        })?;
        if trees > LOCATIONS_PER_DEVICE_MAX {
            return Err(Refusal::TooManyLocations.into());
        }
        Ok(RowPlace::Entry(path_key(next_number, path)))
    }

    /// Reads what the pending rows replace, in key order.
    fn load_old(&self, pending: &mut [Pending]) -> Result<(), StoreError> {
        let entries = self.txn.table(Table::Entries)?;
        let facts = self.txn.table(Table::Facts)?;
        for row in pending {
            row.old = match &row.place {
                RowPlace::Entry(key) => value(&entries, key)?.map(|EntryRecord { sequence, state, mark }| Old {
                    sequence,
                    body: RowBody::Entry(state),
                    mark,
                }),
                RowPlace::Fact(key) if self.spent.contains(key) => None,
                RowPlace::Fact(key) => value(&facts, key)?.map(|FactRecord { sequence, fact, .. }| Old {
                    sequence,
                    body: RowBody::Fact(fact),
                    mark: None,
                }),
            };
        }
        Ok(())
    }

    /// Leaves out what says nothing new and numbers the rest in the order of the batch.
    fn number(&mut self, pending: &mut Vec<Pending>) {
        pending.retain_mut(|row| {
            let Some(old) = &row.old else { return true };
            if old.body == row.incoming.row.body {
                row.mark_only = true;
                row.incoming.row.sequence = old.sequence;
            }
            !row.mark_only || old.mark != row.incoming.mark
        });
        let mut by_order: Vec<usize> = (0..pending.len()).filter(|at| !pending[*at].mark_only).collect();
        by_order.sort_unstable_by_key(|at| pending[*at].order);
        let mut last = self.author.upto;
        for at in by_order {
            last = last.next();
            pending[at].incoming.row.sequence = last;
        }
        self.advance(last);
    }

    /// Moves count, length, set hash and counters by the pending rows.
    fn account(&mut self) -> Result<(), StoreError> {
        for row in &mut self.pending {
            if row.mark_only {
                continue;
            }
            let new = &row.incoming.row;
            let mut counters = match &new.key {
                RowKey::Entry(location, _) => {
                    let home = self.homes.get_mut(location).and_then(|home| home.tree.as_mut());
                    Some(&mut home.ok_or_else(|| StoreError::damaged("an entry without its tree"))?.counters)
                }
                RowKey::Fact(_) => None,
            };
            if let (Some(counters), RowBody::Entry(state)) = (&mut counters, &new.body) {
                counters.add(state);
            }
            self.author.row_bytes += self.hash.add(new);
            let Some(Old { sequence, body, .. }) = row.old.take() else {
                self.author.row_count += 1;
                continue;
            };
            if let (Some(counters), RowBody::Entry(state)) = (&mut counters, &body) {
                counters.remove(state);
            }
            self.author.row_bytes -= self.hash.remove(&Row { sequence, key: new.key.clone(), body });
            self.superseded.push(sequence);
        }
        Ok(())
    }

    /// Writes everything, each table in key order.
    pub(super) fn write(self) -> Result<(), StoreError> {
        self.write_to(Table::Authors)
    }

    /// Writes everything, and the author's state to `states`: the table in which it stands.
    pub(super) fn write_to(mut self, states: Table) -> Result<(), StoreError> {
        let txn = self.txn;
        for tree in &self.felled {
            txn.remove_prefix(Table::Entries, &tree_prefix(*tree))?;
            txn.remove_prefix(Table::Announced, &tree_prefix(*tree))?;
        }
        for key in &self.spent {
            txn.table_mut(Table::Facts)?.remove(&key[..])?;
        }
        let mut logged = Vec::with_capacity(self.pending.len());
        {
            // A table that nothing is written to stays as it is.
            let open = |table, any: bool| any.then(|| txn.table_mut(table)).transpose();
            let is_entry = |pending: &Pending| matches!(pending.place, RowPlace::Entry(_));
            let mut entries = open(Table::Entries, self.pending.iter().any(is_entry))?;
            let mut facts = open(Table::Facts, !self.pending.iter().all(is_entry))?;
            for Pending { place, incoming: Incoming { row, mark }, mark_only, .. } in self.pending {
                let sequence = row.sequence;
                match (&place, row.body, &mut entries, &mut facts) {
                    (RowPlace::Entry(key), RowBody::Entry(state), Some(entries), _) => {
                        entries.insert(&key[..], &record::encode(&EntryRecord { sequence, state, mark })[..])?;
                    }
                    (RowPlace::Fact(key), RowBody::Fact(fact), _, Some(facts)) => {
                        let record = FactRecord { sequence, author: self.device, fact };
                        facts.insert(&key[..], &record::encode(&record)[..])?;
                    }
                    (RowPlace::Entry(_) | RowPlace::Fact(_), RowBody::Fact(_) | RowBody::Entry(_), _, _) => {
                        return Err(StoreError::damaged("a row in the wrong table"));
                    }
                }
                if !mark_only {
                    logged.push((sequence, place));
                }
            }
        }
        self.superseded.sort_unstable();
        logged.sort_unstable_by_key(|(sequence, _)| *sequence);
        if !self.superseded.is_empty() || !logged.is_empty() {
            let mut by_sequence = txn.table_mut(Table::BySequence)?;
            for sequence in self.superseded {
                by_sequence.remove(&sequence_key(self.author.number, sequence)[..])?;
            }
            for (sequence, place) in logged {
                by_sequence.insert(&sequence_key(self.author.number, sequence)[..], &place.to_bytes()[..])?;
            }
        }
        for (location, home) in &self.homes {
            if let Some(tree) = &home.tree {
                txn.put(Table::Trees, &tree_key(self.author.number, *location), &record::encode(tree))?;
            }
        }
        if self.next_number != txn.next_number()? {
            txn.set_next_number(self.next_number)?;
        }
        self.author.set_hash = self.hash.to_bytes();
        txn.put(states, self.device.as_bytes(), &record::encode(&self.author))
    }

    fn home(&mut self, location: LocationId) -> Result<&mut Home, StoreError> {
        match self.homes.entry(location) {
            std::collections::btree_map::Entry::Occupied(known) => Ok(known.into_mut()),
            std::collections::btree_map::Entry::Vacant(new) => {
                let tree = self.txn.record(Table::Trees, &tree_key(self.author.number, location))?;
                let standing = stored_standing(self.txn, self.author.number, location)?;
                Ok(new.insert(Home { tree, standing }))
            }
        }
    }

    /// Whether `found` holds for any location of the author that has, or had, entries.
    fn any_home(&self, mut found: impl FnMut(LocationId, u64, Standing) -> bool) -> Result<bool, StoreError> {
        let mut any = self.homes.iter().any(|(location, home)| {
            home.tree.as_ref().is_some_and(|tree| found(*location, tree.counters.rows, home.standing))
        });
        let author = self.author.number;
        self.txn.walk_prefix(Table::Trees, &author.to_be_bytes(), Order::Forward, &mut |key, value| {
            let id = key[4..].try_into().map_err(|_| StoreError::damaged("the key of a tree is malformed"))?;
            let location = LocationId::from_bytes(id);
            if !self.homes.contains_key(&location) {
                let tree: TreeRecord = record::decode(value)?;
                any |= found(location, tree.counters.rows, stored_standing(self.txn, author, location)?);
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(any)
    }
}

fn stored_standing(txn: &Txn, author: u32, location: LocationId) -> Result<Standing, StoreError> {
    let stored: Option<FactRecord> = txn.record(Table::Facts, &fact_key(&FactKey::Location(location), author))?;
    Ok(match stored.map(|record| record.fact) {
        Some(Fact::Location(location)) if location.removed => Standing::Removed,
        Some(Fact::Location(_)) => Standing::Present,
        Some(
            Fact::Device(_)
            | Fact::Conduit(_)
            | Fact::Generation(_)
            | Fact::Ruling(_)
            | Fact::Conflict(_)
            | Fact::Spent(_),
        ) => return Err(StoreError::damaged("a location's key holds another fact")),
        None => Standing::Unheard,
    })
}

/// Of changes to one key in one batch only the last was ever visible.
fn keep_last(pending: &mut Vec<Pending>) {
    let mut kept: Vec<Pending> = Vec::with_capacity(pending.len());
    for row in pending.drain(..) {
        match kept.last_mut() {
            Some(last) if last.place == row.place => *last = row,
            Some(_) | None => kept.push(row),
        }
    }
    *pending = kept;
}

fn value<T: serde::de::DeserializeOwned>(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    key: &[u8],
) -> Result<Option<T>, StoreError> {
    table.get(key)?.map(|guard| record::decode(guard.value())).transpose()
}
