//! An author's rows that are on their way: a first load, a new epoch, or a state that is fetched anew.
//!
//! They stand under a local number of their own beside whatever is held of the author, and nobody sees them:
//! not their facts, not their entries. Only when they add up to a signed head do they take the place of what was
//! there, in one transaction. So a replica shows, merges and serves nothing that its author has not signed, and
//! what was known of a device that begins a new epoch stays known until the new state is whole.

use std::collections::BTreeSet;
use std::ops::{Bound, ControlFlow};

use tidegate_protocol::id::{DeviceId, Epoch, Sequence};
use tidegate_protocol::library_sync::{Row, SignedHead};

use super::authors::AuthorState;
use super::error::{Refusal, StoreError};
use super::reader::Order;
use super::record::AuthorRecord;
use super::stage::Stop;
use super::tables::Table;
use super::{Reader, Txn, record};

impl Reader {
    /// What is on its way of one author; `None` if nothing is.
    pub fn arriving(&self, device: DeviceId) -> Result<Option<AuthorState>, StoreError> {
        self.arriving_record(device)?.map(AuthorRecord::into_state).transpose()
    }

    pub(super) fn arriving_record(&self, device: DeviceId) -> Result<Option<AuthorRecord>, StoreError> {
        self.record(Table::Arriving, device.as_bytes())
    }

    /// The local numbers under which rows arrive: nothing under them is to be seen.
    pub(super) fn arriving_numbers(&self) -> Result<BTreeSet<u32>, StoreError> {
        let mut numbers = BTreeSet::new();
        let all = (Bound::Unbounded, Bound::Unbounded);
        self.walk(Table::Arriving, all, Order::Forward, &mut |_, value| {
            numbers.insert(record::decode::<AuthorRecord>(value)?.number);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(numbers)
    }
}

impl Txn {
    /// Begins to load another device's rows of `epoch` from zero. Nothing happens if they are on their way already;
    /// what was on its way of another epoch goes.
    pub fn begin_arriving(&mut self, device: DeviceId, epoch: Epoch) -> Result<(), StoreError> {
        if device == self.device() {
            return Err(StoreError::Own(Refusal::Epoch));
        }
        if self.arriving_record(device)?.is_some_and(|record| record.epoch == epoch) {
            return Ok(());
        }
        self.drop_arriving(device)?;
        let number = self.take_number()?;
        self.put(Table::Arriving, device.as_bytes(), &record::encode(&AuthorRecord::empty(number, epoch)))
    }

    /// Throws away what is on its way.
    pub fn drop_arriving(&mut self, device: DeviceId) -> Result<(), StoreError> {
        let Some(mut record) = self.arriving_record(device)? else { return Ok(()) };
        self.wipe_rows(&mut record)?;
        self.remove(Table::Arriving, device.as_bytes())?;
        Ok(())
    }

    /// Adds rows to those on their way, as [`Txn::apply_rows`] does to those that are there.
    ///
    /// With `head`, a verified head of that device at `upto`, they must add up to what it signs, and then take the
    /// place of all that was held of the device.
    pub fn apply_arriving(
        &mut self,
        device: DeviceId,
        epoch: Epoch,
        from: Sequence,
        upto: Sequence,
        rows: Vec<Row>,
        head: Option<&SignedHead>,
    ) -> Result<Result<(), Refusal>, StoreError> {
        let Some(author) = self.arriving_record(device)?.filter(|record| record.epoch == epoch) else {
            return Ok(Err(Refusal::Epoch));
        };
        match self.stage_on(device, author, from, upto, rows, head) {
            Ok(stage) => stage.write_to(Table::Arriving)?,
            Err(Stop::Refused(refusal)) => return Ok(Err(refusal)),
            Err(Stop::Store(error)) => return Err(error),
        }
        if head.is_some() {
            self.arrive(device)?;
        }
        Ok(Ok(()))
    }

    /// Puts what arrived in the place of what was there.
    fn arrive(&mut self, device: DeviceId) -> Result<(), StoreError> {
        let Some(arrived) = self.arriving_record(device)? else { return Ok(()) };
        let (mut newest, mut fork) = (None, None);
        if let Some(mut old) = self.author_record(device)? {
            self.wipe_rows(&mut old)?;
            (newest, fork) = (old.newest, old.fork);
        }
        self.remove(Table::Arriving, device.as_bytes())?;
        let newest = newest.or_else(|| arrived.rests.clone());
        self.put_author(device, &AuthorRecord { newest, fork, ..arrived })
    }
}
