//! What stood where a generation acted, kept as long as its items: the rows of each end at the paths that it changed
//! there, and a note of the layer above; with these a generation can be undone. And, in the words of the layer above,
//! what it was decided from; with that it can be replayed.
//!
//! Rows and inputs are kept in chunks, so that a generation of 100,000 items costs some hundred records.

use std::ops::ControlFlow;

use serde::{Serialize, de::DeserializeOwned};
use tidegate_protocol::id::ConduitId;
use tidegate_protocol::index::EntryState;
use tidegate_protocol::path::EntryPath;

use super::error::StoreError;
use super::tables::{Table, generation_key};
use super::{Order, Reader, Txn, record};

/// Rows in one record.
const CHUNK: usize = 1024;

/// Whose rows, as a byte of their keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Note = 0,
    Source = 1,
    Target = 2,
    Inputs = 3,
}

/// The rows that stood where a generation acted, relative to the conduit's roots, each list in path order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DecidingRows {
    /// Of the source.
    pub source: Vec<(EntryPath, EntryState)>,
    /// Of the target.
    pub target: Vec<(EntryPath, EntryState)>,
}

fn key(conduit: ConduitId, number: u64, part: Part) -> Vec<u8> {
    [&generation_key(conduit, number)[..], &[part as u8]].concat()
}

fn chunk_key(conduit: ConduitId, number: u64, part: Part, at: usize) -> Vec<u8> {
    let at = u32::try_from(at).expect("a plan has fewer items than that").to_be_bytes();
    [&key(conduit, number, part)[..], &at].concat()
}

impl Reader {
    /// The rows that decided a generation; empty if none are kept.
    pub fn deciding_rows(&self, conduit: ConduitId, number: u64) -> Result<DecidingRows, StoreError> {
        Ok(DecidingRows {
            source: self.part(conduit, number, Part::Source)?,
            target: self.part(conduit, number, Part::Target)?,
        })
    }

    /// What the layer above noted about a generation.
    pub fn generation_note(&self, conduit: ConduitId, number: u64) -> Result<Option<Vec<u8>>, StoreError> {
        self.get(Table::Deciding, &key(conduit, number, Part::Note))
    }

    /// What a generation was decided from, as the layer above wrote it.
    pub fn generation_inputs(&self, conduit: ConduitId, number: u64) -> Result<Option<Vec<u8>>, StoreError> {
        self.long(Table::Deciding, &key(conduit, number, Part::Inputs))
    }

    fn part<T: DeserializeOwned>(&self, conduit: ConduitId, number: u64, part: Part) -> Result<Vec<T>, StoreError> {
        let mut rows = Vec::new();
        self.walk_prefix(Table::Deciding, &key(conduit, number, part), Order::Forward, &mut |_, value| {
            let chunk: Vec<T> = record::decode(value)?;
            rows.extend(chunk);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(rows)
    }
}

impl Txn {
    /// Keeps the rows that decided a generation.
    pub fn put_deciding_rows(
        &mut self,
        conduit: ConduitId,
        number: u64,
        rows: &DecidingRows,
    ) -> Result<(), StoreError> {
        self.put_part(conduit, number, Part::Source, &rows.source)?;
        self.put_part(conduit, number, Part::Target, &rows.target)
    }

    /// Keeps a note about a generation.
    pub fn put_generation_note(&mut self, conduit: ConduitId, number: u64, note: &[u8]) -> Result<(), StoreError> {
        self.put(Table::Deciding, &key(conduit, number, Part::Note), note)
    }

    /// Keeps what a generation was decided from.
    pub fn put_generation_inputs(&mut self, conduit: ConduitId, number: u64, inputs: &[u8]) -> Result<(), StoreError> {
        self.put_long_bytes(Table::Deciding, &key(conduit, number, Part::Inputs), inputs)
    }

    /// Forgets what decided a generation.
    pub fn forget_deciding(&mut self, conduit: ConduitId, number: u64) -> Result<(), StoreError> {
        self.remove_prefix(Table::Deciding, &generation_key(conduit, number))
    }

    fn put_part<T: Serialize>(
        &mut self,
        conduit: ConduitId,
        number: u64,
        part: Part,
        rows: &[T],
    ) -> Result<(), StoreError> {
        for (at, chunk) in rows.chunks(CHUNK).enumerate() {
            self.put(Table::Deciding, &chunk_key(conduit, number, part, at), &record::encode(&chunk))?;
        }
        Ok(())
    }
}
