//! The format of the replica, and the steps from older formats to the present one.
//!
//! Format 1 is the first; format 2 has a table for rows that are on their way. A later format adds one step to [`STEPS`]; a step runs inside the transaction that
//! opens the store, so a crash leaves either the old format or the new one whole.

use super::error::StoreError;
use super::tables::Table;
use super::txn::Txn;

/// The format that this version writes.
pub const FORMAT: u32 = 2;

/// Turns format `n` into `n + 1`.
type Step = fn(&mut Txn) -> Result<(), StoreError>;

/// `STEPS[n - 1]` leads from format `n` to `n + 1`.
const STEPS: [Step; FORMAT as usize - 1] = [|txn| txn.table(Table::Arriving).map(drop)];

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
