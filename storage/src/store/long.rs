//! Values too long for one record: a plan of 100,000 items, or what it was decided from. They are written in pieces as
//! they are encoded, so neither this code nor redb ever holds one whole in a single block.
//!
//! A piece stands under the value's key and its own number. Keys of a table that holds such values have one length.

use std::io::{self, Write};
use std::ops::ControlFlow;

use serde::Serialize;
use tidegate_protocol::codec;

use super::error::StoreError;
use super::tables::Table;
use super::{Order, Reader, Txn};

/// Bytes in one piece.
const PIECE: usize = 256 << 10;

/// The key of one piece.
fn piece_key(key: &[u8], number: u32) -> Vec<u8> {
    [key, &number.to_be_bytes()].concat()
}

/// The key of the value whose first piece stands under `key`; `None` for its other pieces.
pub(super) fn first_of(key: &[u8]) -> Option<&[u8]> {
    key.split_last_chunk::<4>().filter(|(_, number)| **number == [0; 4]).map(|(key, _)| key)
}

impl Reader {
    /// A long value, put together; `None` if there is none.
    pub(super) fn long(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let mut value = None;
        self.walk_prefix(table, key, Order::Forward, &mut |_, piece| {
            value.get_or_insert_with(Vec::new).extend_from_slice(piece);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(value)
    }
}

impl Txn {
    /// Encodes a long value under a key in the place of what is there.
    pub(super) fn put_long<T: Serialize>(&self, table: Table, key: &[u8], value: &T) -> Result<(), StoreError> {
        self.write_long(table, key, |pieces| codec::encode_to(value, pieces))
    }

    /// Stores long bytes under a key in the place of what is there.
    pub(super) fn put_long_bytes(&self, table: Table, key: &[u8], bytes: &[u8]) -> Result<(), StoreError> {
        self.write_long(table, key, |pieces| pieces.write_all(bytes))
    }

    fn write_long(
        &self,
        table: Table,
        key: &[u8],
        write: impl FnOnce(&mut Pieces<'_>) -> io::Result<()>,
    ) -> Result<(), StoreError> {
        self.remove_prefix(table, key)?;
        let mut pieces = Pieces { txn: self, table, key, number: 0, piece: Vec::with_capacity(PIECE), failure: None };
        let written = write(&mut pieces).and_then(|()| pieces.end());
        match (written, pieces.failure) {
            (Ok(()), _) => Ok(()),
            (Err(_), Some(failure)) => Err(failure),
            (Err(error), None) => Err(error.into()),
        }
    }
}

/// Takes the bytes of one value.
struct Pieces<'t> {
    txn: &'t Txn,
    table: Table,
    key: &'t [u8],
    number: u32,
    piece: Vec<u8>,
    /// Why a piece could not be stored.
    failure: Option<StoreError>,
}

impl Pieces<'_> {
    fn end(&mut self) -> io::Result<()> {
        if let Err(error) = self.txn.put(self.table, &piece_key(self.key, self.number), &self.piece) {
            self.failure = Some(error);
            return Err(io::ErrorKind::Other.into());
        }
        self.piece.clear();
        self.number += 1;
        Ok(())
    }
}

impl Write for Pieces<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.piece.len() == PIECE {
            self.end()?;
        }
        let taken = bytes.len().min(PIECE - self.piece.len());
        self.piece.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
