//! The log of an author's rows: own changes, rows that others sent, and rows for others.

use std::ops::{Bound, ControlFlow};

use tidegate_protocol::id::{DeviceId, Epoch, LocationId, Sequence};
use tidegate_protocol::index::{EntryState, StatMark};
use tidegate_protocol::library_sync::{Fact, Row, RowBody, RowKey, SignedHead};
use tidegate_protocol::path::EntryPath;

use super::error::{Refusal, StoreError};
use super::reader::{Order, upper};
use super::record::{AuthorRecord, EntryRecord, FactRecord, TreeRecord};
use super::stage::{Incoming, Origin, Stage, Stop};
use super::tables::{RowPlace, Table, after_prefix, path_of, sequence_key, sequence_of};
use super::{Reader, Txn, record};

/// What a row's encoding may have beyond its stored key and value: sequence, tags, lengths, location's id.
const OVERHEAD_BYTES: usize = 48;

/// A change that this device states of its own index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    key: RowKey,
    body: RowBody,
    mark: Option<StatMark>,
}

impl Change {
    /// A path of an own location. The mark stays on this device.
    pub const fn entry(location: LocationId, path: EntryPath, state: EntryState, mark: Option<StatMark>) -> Self {
        Self { key: RowKey::Entry(location, path), body: RowBody::Entry(state), mark }
    }

    /// The path, if it is about an entry.
    pub const fn path(&self) -> Option<&EntryPath> {
        match &self.key {
            RowKey::Entry(_, path) => Some(path),
            RowKey::Fact(_) => None,
        }
    }

    /// The fact, if it is about none of the entries.
    pub const fn as_fact(&self) -> Option<&Fact> {
        match &self.body {
            RowBody::Entry(_) => None,
            RowBody::Fact(fact) => Some(fact),
        }
    }

    /// Any other fact.
    pub fn fact(fact: Fact) -> Self {
        Self { key: RowKey::Fact(fact.key()), body: RowBody::Fact(fact), mark: None }
    }
}

/// Rows in sequence order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowsPage {
    /// The rows.
    pub rows: Vec<Row>,
    /// Everything up to here is in `rows` or superseded.
    pub upto: Sequence,
}

impl Reader {
    /// Rows of `device` after `from`, in sequence order: at most `rows_max` of them, and at most `bytes_max`
    /// bytes encoded, but one row in any case. An unknown author has none, up to 0.
    pub fn rows_after(
        &self,
        device: DeviceId,
        from: Sequence,
        rows_max: usize,
        bytes_max: usize,
    ) -> Result<RowsPage, StoreError> {
        let Some(author) = self.author_record(device)? else {
            return Ok(RowsPage { rows: Vec::new(), upto: Sequence::ZERO });
        };
        let mut places = Vec::new();
        let (start, end) = (sequence_key(author.number, from), after_prefix(&author.number.to_be_bytes()));
        let range = (Bound::Excluded(&start[..]), upper(end.as_deref()));
        // One more than asked for shows whether the log goes on.
        self.walk(Table::BySequence, range, Order::Forward, &mut |key, value| {
            places.push((sequence_of(key)?, RowPlace::from_bytes(value)?));
            Ok(if places.len() > rows_max { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        let locations = self.locations_by_tree(&author)?;
        let (mut rows, mut bytes, mut upto) = (Vec::new(), 0, author.upto);
        for (sequence, place) in places {
            let (row, row_bytes) = self.row(&place, &locations)?;
            if row.sequence != sequence {
                return Err(StoreError::damaged("a row and its place in the log disagree"));
            }
            bytes += row_bytes;
            if rows.len() == rows_max || (bytes > bytes_max && !rows.is_empty()) {
                upto = rows.last().map_or(from, |row: &Row| row.sequence);
                break;
            }
            rows.push(row);
        }
        Ok(RowsPage { rows, upto })
    }

    /// The row at a place, and no less than its encoded length.
    fn row(&self, place: &RowPlace, locations: &[(u32, LocationId)]) -> Result<(Row, usize), StoreError> {
        let lost = || StoreError::damaged("the log names a row that is not there");
        match place {
            RowPlace::Entry(key) => {
                let value = self.get(Table::Entries, key)?.ok_or_else(lost)?;
                let EntryRecord { sequence, state, .. } = record::decode(&value)?;
                let tree = u32::from_be_bytes(*key.first_chunk().ok_or_else(lost)?);
                let at = locations.binary_search_by_key(&tree, |(tree, _)| *tree).map_err(|_| lost())?;
                let row_key = RowKey::Entry(locations[at].1, path_of(key)?);
                let bytes = key.len() + value.len() + OVERHEAD_BYTES;
                Ok((Row { sequence, key: row_key, body: RowBody::Entry(state) }, bytes))
            }
            RowPlace::Fact(key) => {
                let value = self.get(Table::Facts, key)?.ok_or_else(lost)?;
                let FactRecord { sequence, fact, .. } = record::decode(&value)?;
                let bytes = key.len() + value.len() + OVERHEAD_BYTES;
                Ok((Row { sequence, key: RowKey::Fact(fact.key()), body: RowBody::Fact(fact) }, bytes))
            }
        }
    }

    fn locations_by_tree(&self, author: &AuthorRecord) -> Result<Vec<(u32, LocationId)>, StoreError> {
        let mut locations = Vec::new();
        self.walk_prefix(Table::Trees, &author.number.to_be_bytes(), Order::Forward, &mut |key, value| {
            let id = key[4..].try_into().map_err(|_| StoreError::damaged("the key of a tree is malformed"))?;
            locations.push((record::decode::<TreeRecord>(value)?.number, LocationId::from_bytes(id)));
            Ok(ControlFlow::Continue(()))
        })?;
        locations.sort_unstable();
        Ok(locations)
    }
}

impl Txn {
    /// States own changes: each that says something new takes the next sequence, in the order given; of
    /// several for one key the last counts. Returns the newest own sequence.
    ///
    /// Removing a location (its row with `removed` set) drops its entry rows. A refusal
    /// ([`StoreError::Own`]) changes nothing.
    pub fn put_own(&mut self, changes: Vec<Change>) -> Result<Sequence, StoreError> {
        let own = self.device();
        let Some(author) = self.author_record(own)? else { return Err(StoreError::Own(Refusal::Epoch)) };
        let batch = changes
            .into_iter()
            .map(|Change { key, body, mark }| Incoming { row: Row { sequence: Sequence::ZERO, key, body }, mark });
        let mut stage = Stage::new(self, own, author)?;
        match stage.add(batch.collect(), Origin::Own) {
            Ok(()) => {}
            Err(Stop::Refused(refusal)) => return Err(StoreError::Own(refusal)),
            Err(Stop::Store(error)) => return Err(error),
        }
        let upto = stage.upto();
        stage.write()?;
        Ok(upto)
    }

    /// Applies rows of another device in sequence order: all that it has after `from`, up to `upto`.
    ///
    /// With `head`, a verified head of that device at `upto`, the state must equal what the head signs, and
    /// then rests on it. Whatever is wrong is found before anything is written; a refusal changes nothing.
    pub fn apply_rows(
        &mut self,
        device: DeviceId,
        epoch: Epoch,
        from: Sequence,
        upto: Sequence,
        rows: Vec<Row>,
        head: Option<&SignedHead>,
    ) -> Result<Result<(), Refusal>, StoreError> {
        match self.stage_rows(device, epoch, from, upto, rows, head) {
            Ok(stage) => stage.write().map(Ok),
            Err(Stop::Refused(refusal)) => Ok(Err(refusal)),
            Err(Stop::Store(error)) => Err(error),
        }
    }

    fn stage_rows(
        &self,
        device: DeviceId,
        epoch: Epoch,
        from: Sequence,
        upto: Sequence,
        rows: Vec<Row>,
        head: Option<&SignedHead>,
    ) -> Result<Stage<'_>, Stop> {
        if device == self.device() {
            return Err(Refusal::NotTheirs.into());
        }
        let author = self.author_record(device)?.filter(|author| author.epoch == epoch).ok_or(Refusal::Epoch)?;
        self.stage_on(device, author, from, upto, rows, head)
    }

    /// Stages rows on top of an author's state, wherever that stands.
    pub(super) fn stage_on(
        &self,
        device: DeviceId,
        author: AuthorRecord,
        from: Sequence,
        upto: Sequence,
        rows: Vec<Row>,
        head: Option<&SignedHead>,
    ) -> Result<Stage<'_>, Stop> {
        if author.upto != from {
            return Err(Refusal::Gap { have: author.upto }.into());
        }
        let mut last = from;
        for row in &rows {
            if row.sequence <= last || row.sequence > upto {
                return Err(Refusal::Order.into());
            }
            last = row.sequence;
        }
        if upto < from {
            return Err(Refusal::Order.into());
        }
        let mut stage = Stage::new(self, device, author)?;
        stage.add(rows.into_iter().map(|row| Incoming { row, mark: None }).collect(), Origin::Applied)?;
        stage.advance(upto);
        if let Some(head) = head {
            stage.check(head.trusted())?.map_err(Refusal::Head)?;
            stage.author_mut().settle(head);
        }
        Ok(stage)
    }
}
