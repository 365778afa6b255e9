//! What the replica holds of each author as a whole: how far, in which state, and on which signed head.
//!
//! Rows themselves are in [`super::log`]. Whether a head is authentic, newer or a fork is decided above; only
//! verified heads come here.

use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use tidegate_protocol::id::{DeviceId, Epoch, Sequence};
use tidegate_protocol::library_sync::{HeadRef, SetHash, SignedHead};

use super::error::{Mismatch, Refusal, StoreError};
use super::reader::Order;
use super::record::{AuthorRecord, TreeRecord};
use super::stage::Stage;
use super::tables::Table;
use super::{Reader, Txn, record};

/// What the replica holds of one device's rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorState {
    /// Its local number.
    pub(super) number: u32,
    /// The epoch that is followed.
    pub epoch: Epoch,
    /// End of the contiguous prefix.
    pub upto: Sequence,
    /// Live rows up to there.
    pub row_count: u64,
    /// The sum of their encoded lengths, in bytes.
    pub row_bytes: u64,
    /// Their set hash.
    pub set_hash: SetHash,
    /// The signed head that this very state equals; `None` while it is only a prefix.
    pub rests: Option<SignedHead>,
    /// The newest verified head seen.
    pub newest: Option<SignedHead>,
    /// The replica has rested on a head of this epoch at least once.
    pub bootstrapped: bool,
    /// Two heads that prove a fork.
    pub fork: Option<(SignedHead, SignedHead)>,
}

impl AuthorState {
    /// Names this state, as a head of `device` would.
    pub fn reference(&self, device: DeviceId) -> HeadRef {
        HeadRef { device, epoch: self.epoch, sequence: self.upto, set_hash: self.set_hash.digest() }
    }
}

impl AuthorRecord {
    pub(super) fn empty(number: u32, epoch: Epoch) -> Self {
        Self {
            number,
            epoch,
            upto: Sequence::ZERO,
            row_count: 0,
            row_bytes: 0,
            set_hash: SetHash::empty().to_bytes(),
            rests: None,
            newest: None,
            bootstrapped: false,
            fork: None,
        }
    }

    pub(super) fn hash(&self) -> Result<SetHash, StoreError> {
        SetHash::from_bytes(&self.set_hash).ok_or_else(|| StoreError::damaged("a set hash has another length"))
    }

    pub(super) fn into_state(self) -> Result<AuthorState, StoreError> {
        Ok(AuthorState {
            number: self.number,
            set_hash: self.hash()?,
            epoch: self.epoch,
            upto: self.upto,
            row_count: self.row_count,
            row_bytes: self.row_bytes,
            rests: self.rests,
            newest: self.newest,
            bootstrapped: self.bootstrapped,
            fork: self.fork,
        })
    }
}

impl Reader {
    /// State of one author; `None` if nothing was ever stored of it.
    pub fn author(&self, device: DeviceId) -> Result<Option<Arc<AuthorState>>, StoreError> {
        let read = || Ok(self.author_record(device)?.map(AuthorRecord::into_state).transpose()?.map(Arc::new));
        match self.remembered_author(device) {
            Some(remembered) => remembered.author(device, read),
            None => read(),
        }
    }

    /// All authors, sorted by device; this device among them.
    pub fn authors(&self) -> Result<Vec<(DeviceId, Arc<AuthorState>)>, StoreError> {
        let mut devices = Vec::new();
        let all = (Bound::Unbounded, Bound::Unbounded);
        self.walk(Table::Authors, all, Order::Forward, &mut |key, _| {
            let device = key.try_into().map_err(|_| StoreError::damaged("the key of an author is no device"))?;
            devices.push(DeviceId::from_bytes(device));
            Ok(ControlFlow::Continue(()))
        })?;
        let states = devices.into_iter().map(|device| Ok(self.author(device)?.map(|state| (device, state))));
        states.filter_map(Result::transpose).collect()
    }

    /// The local number of an author.
    pub(super) fn author_number(&self, device: DeviceId) -> Result<Option<u32>, StoreError> {
        match self.remembered_author(device) {
            Some(_) => Ok(self.author(device)?.map(|author| author.number)),
            None => Ok(self.author_record(device)?.map(|author| author.number)),
        }
    }

    pub(super) fn author_record(&self, device: DeviceId) -> Result<Option<AuthorRecord>, StoreError> {
        self.record(Table::Authors, device.as_bytes())
    }
}

impl Txn {
    /// Follows `epoch` of a device. Nothing happens if it is followed already.
    ///
    /// Of another device, whatever is held of its earlier epoch is wiped; the newest head and the fork proof
    /// stay. (What is held is kept until the new state is whole by [`Txn::begin_arriving`].) Own rows stay: their numbers count in the new epoch from now on, so no number of the old epoch
    /// is ever used for another row.
    pub fn start_epoch(&mut self, device: DeviceId, epoch: Epoch) -> Result<(), StoreError> {
        match self.author_record(device)? {
            Some(record) if record.epoch == epoch => Ok(()),
            Some(record) if device == self.device() => {
                let renewed = AuthorRecord { epoch, rests: None, newest: None, fork: None, ..record };
                self.put_author(device, &renewed)
            }
            Some(mut record) => {
                self.wipe_rows(&mut record)?;
                record.epoch = epoch;
                self.put_author(device, &record)
            }
            None => {
                let number = self.take_number()?;
                self.put_author(device, &AuthorRecord::empty(number, epoch))
            }
        }
    }

    /// Drops all rows of another device: its state does not add up, and is fetched again from the beginning.
    /// Own rows are refused: their numbers would be used again.
    pub fn wipe_author(&mut self, device: DeviceId) -> Result<(), StoreError> {
        if device == self.device() {
            return Err(StoreError::Own(Refusal::Epoch));
        }
        let Some(mut record) = self.author_record(device)? else { return Ok(()) };
        self.wipe_rows(&mut record)?;
        self.put_author(device, &record)
    }

    /// Drops another device whole: when this device leaves its library.
    pub fn forget_author(&mut self, device: DeviceId) -> Result<(), StoreError> {
        self.drop_arriving(device)?;
        self.wipe_author(device)?;
        self.remove(Table::Authors, device.as_bytes())?;
        Ok(())
    }

    /// Remembers the newest verified head of a device, which is followed from now on if it was unknown.
    pub fn set_newest(&mut self, device: DeviceId, head: &SignedHead) -> Result<(), StoreError> {
        if self.author_record(device)?.is_none() {
            self.start_epoch(device, head.trusted().epoch)?;
        }
        self.change_author(device, |record| record.newest = Some(head.clone()))
    }

    /// Keeps, or with `None` clears, the proof that a device forked.
    pub fn set_fork(&mut self, device: DeviceId, proof: Option<(SignedHead, SignedHead)>) -> Result<(), StoreError> {
        self.change_author(device, |record| record.fork = proof)
    }

    /// Rests the author's state on a verified head, if the state equals what the head signs: the same end of
    /// the prefix, count and set hash, and no entries without their location.
    pub fn rest(&mut self, device: DeviceId, head: &SignedHead) -> Result<Result<(), Mismatch>, StoreError> {
        let Some(mut record) = self.author_record(device)? else { return Ok(Err(Mismatch::Epoch)) };
        if let Err(mismatch) = Stage::new(self, device, record.clone())?.check(head.trusted())? {
            return Ok(Err(mismatch));
        }
        record.settle(head);
        self.put_author(device, &record)?;
        Ok(Ok(()))
    }

    pub(super) fn put_author(&self, device: DeviceId, record: &AuthorRecord) -> Result<(), StoreError> {
        self.put(Table::Authors, device.as_bytes(), &record::encode(record))
    }

    fn change_author(&mut self, device: DeviceId, change: impl FnOnce(&mut AuthorRecord)) -> Result<(), StoreError> {
        if let Some(mut record) = self.author_record(device)? {
            change(&mut record);
            self.put_author(device, &record)?;
        }
        Ok(())
    }

    pub(super) fn wipe_rows(&self, record: &mut AuthorRecord) -> Result<(), StoreError> {
        let author = record.number.to_be_bytes();
        let mut trees = Vec::new();
        self.walk_prefix(Table::Trees, &author, Order::Forward, &mut |_, value| {
            trees.push(record::decode::<TreeRecord>(value)?.number);
            Ok(ControlFlow::Continue(()))
        })?;
        for tree in trees {
            self.remove_prefix(Table::Entries, &tree.to_be_bytes())?;
            self.remove_prefix(Table::Announced, &tree.to_be_bytes())?;
        }
        self.remove_prefix(Table::Trees, &author)?;
        self.remove_prefix(Table::BySequence, &author)?;
        // Facts stand by kind; there are few of them beside entries.
        self.table_mut(Table::Facts)?.retain(|key, _| !key.ends_with(&author))?;
        let (newest, fork) = (record.newest.take(), record.fork.take());
        *record = AuthorRecord { newest, fork, ..AuthorRecord::empty(record.number, record.epoch) };
        Ok(())
    }
}

impl AuthorRecord {
    /// Marks the state as the one that `head` signs.
    pub(super) fn settle(&mut self, head: &SignedHead) {
        self.rests = Some(head.clone());
        self.bootstrapped = true;
    }
}
