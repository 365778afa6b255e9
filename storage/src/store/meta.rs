//! Format, identity, the last stamp, local numbers, and small opaque settings.

use std::ops::ControlFlow;

use tidegate_protocol::id::{DeviceId, Epoch, LibraryId};
use tidegate_protocol::time::Stamp;

use super::error::StoreError;
use super::reader::Order;
use super::tables::Table;
use super::{Reader, Txn, record};

/// Under this key every format keeps its number, big-endian.
pub(super) const FORMAT_KEY: &[u8] = b"format";
/// Under this key every format keeps [`MAGIC`].
pub(super) const MAGIC_KEY: &[u8] = b"magic";
/// Tells a replica from any other redb file.
pub(super) const MAGIC: &[u8] = b"tidegate replica";
/// Under this key every format keeps the 32 bytes of the device.
pub(super) const DEVICE_KEY: &[u8] = b"device";
const LIBRARY_KEY: &[u8] = b"library";
const STAMP_KEY: &[u8] = b"stamp";
const NUMBER_KEY: &[u8] = b"next_number";

/// Who this device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Its id; fixed when the replica was created.
    pub device: DeviceId,
    /// Its library, once it has founded or joined one.
    pub library: Option<LibraryId>,
    /// Its epoch, once one was drawn.
    pub epoch: Option<Epoch>,
    /// The last stamp it may have used.
    pub stamp: Stamp,
}

impl Reader {
    /// Who this device is.
    pub fn identity(&self) -> Result<Identity, StoreError> {
        let device = self.own_device()?;
        let epoch = self.author(device)?.map(|author| author.epoch);
        Ok(Identity { device, library: self.library()?, epoch, stamp: self.last_stamp()? })
    }

    /// The library of this device, once it has founded or joined one.
    pub fn library(&self) -> Result<Option<LibraryId>, StoreError> {
        self.record(Table::Meta, LIBRARY_KEY)
    }

    /// The last stamp that this device may have used.
    pub fn last_stamp(&self) -> Result<Stamp, StoreError> {
        match self.record(Table::Meta, STAMP_KEY)? {
            Some(stamp) => Ok(stamp),
            None => Ok(Stamp::zero(self.own_device()?)),
        }
    }

    /// A small value of the layers above; `None` if it was never set.
    pub fn setting(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.get(Table::Settings, key.as_bytes())
    }

    /// All settings whose keys start with `prefix`, in key order.
    pub fn settings(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let mut found = Vec::new();
        self.walk_prefix(Table::Settings, prefix.as_bytes(), Order::Forward, &mut |key, value| {
            let key = std::str::from_utf8(key).map_err(|_| StoreError::damaged("the key of a setting is no text"))?;
            found.push((key.to_owned(), value.to_vec()));
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(found)
    }

    pub(super) fn own_device(&self) -> Result<DeviceId, StoreError> {
        self.record(Table::Meta, DEVICE_KEY)?.ok_or_else(|| StoreError::damaged("the device's id is missing"))
    }

    pub(super) fn next_number(&self) -> Result<u32, StoreError> {
        Ok(self.record(Table::Meta, NUMBER_KEY)?.unwrap_or(1))
    }
}

impl Txn {
    /// Sets the library: founded, or joined. What is stored of another library is for the caller to forget.
    pub fn set_library(&mut self, library: LibraryId) -> Result<(), StoreError> {
        self.put(Table::Meta, LIBRARY_KEY, &record::encode(&library))
    }

    /// Stores a stamp before it is used. A stamp before the stored one is ignored: stamps never go back.
    pub fn persist_stamp(&mut self, stamp: Stamp) -> Result<(), StoreError> {
        if stamp > self.last_stamp()? {
            self.put(Table::Meta, STAMP_KEY, &record::encode(&stamp))?;
        }
        Ok(())
    }

    /// Sets a small value of the layers above.
    pub fn set_setting(&mut self, key: &str, value: &[u8]) -> Result<(), StoreError> {
        self.put(Table::Settings, key.as_bytes(), value)
    }

    /// Removes a setting. Says whether it was set.
    pub fn remove_setting(&mut self, key: &str) -> Result<bool, StoreError> {
        self.remove(Table::Settings, key.as_bytes())
    }

    /// Local numbers of authors and trees: 1, 2, 3 …, never given twice.
    pub(super) fn set_next_number(&self, next: u32) -> Result<(), StoreError> {
        self.put(Table::Meta, NUMBER_KEY, &record::encode(&next))
    }

    /// Takes one local number.
    pub(super) fn take_number(&self) -> Result<u32, StoreError> {
        let number = self.next_number()?;
        self.set_next_number(number + 1)?;
        Ok(number)
    }
}
