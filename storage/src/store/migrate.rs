//! The format of the replica, and the steps from older formats to the present one.
//!
//! A later format adds one step to [`STEPS`]; a step runs inside the transaction that opens the store, so a crash
//! leaves either the old format or the new one whole.
//!
//! Format 1 was that of mirrors alone, and never released. Its conduits, jobs and plans have other bytes, and so have
//! the states that their authors signed: it is moved aside like a damaged file, and a new replica is built.

use super::error::StoreError;
use super::tables::Table;
use super::txn::Txn;

/// The format that this version writes.
pub const FORMAT: u32 = 2;

/// Turns format `n` into `n + 1`.
type Step = fn(&mut Txn) -> Result<(), StoreError>;

/// `STEPS[n - 1]` leads from format `n` to `n + 1`.
const STEPS: [Step; FORMAT as usize - 1] = [|_| Err(StoreError::damaged("format 1, which was never released"))];

/// Brings a store of format `found` to [`FORMAT`] within `txn`. Says whether anything changed.
pub(super) fn migrate(txn: &mut Txn, found: u32) -> Result<bool, StoreError> {
    if found > FORMAT {
        return Err(StoreError::NewerFormat { found, known: FORMAT });
    }
    if found == 0 {
        return Err(StoreError::damaged("format 0"));
    }
    if found == FORMAT {
        return Ok(false);
    }
    for step in &STEPS[found as usize - 1..] {
        step(txn)?;
    }
    txn.put(Table::Meta, super::meta::FORMAT_KEY, &FORMAT.to_be_bytes())?;
    Ok(true)
}
