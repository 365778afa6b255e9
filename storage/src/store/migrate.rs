//! The format of the replica, and the steps from older formats to the present one.
//!
//! Formats 1 to 3 were written before the first release and are not read: what they hold is had again from disks and peers.
//! A later format adds one step to [`STEPS`]; a step runs inside the transaction that opens the store, so a crash
//! leaves either the old format or the new one whole.

use super::error::StoreError;
use super::txn::Txn;

/// The format that this version writes.
pub const FORMAT: u32 = 4;

/// The oldest format that is read.
pub const OLDEST: u32 = 4;

/// Turns a format into the next one.
type Step = fn(&mut Txn) -> Result<(), StoreError>;

/// `STEPS[n]` leads from format `OLDEST + n` to the next.
const STEPS: [Step; (FORMAT - OLDEST) as usize] = [];

/// Brings a store of format `found` to [`FORMAT`] within `txn`. Says whether anything changed.
pub(super) fn migrate(txn: &mut Txn, found: u32) -> Result<bool, StoreError> {
    if found > FORMAT {
        return Err(StoreError::NewerFormat { found, known: FORMAT });
    }
    if found == 0 {
        return Err(StoreError::damaged("format 0"));
    }
    if found < OLDEST {
        return Err(StoreError::OlderFormat { found, known: OLDEST });
    }
    if found == FORMAT {
        return Ok(false);
    }
    for step in &STEPS[(found - OLDEST) as usize..] {
        step(txn)?;
    }
    txn.put(super::tables::Table::Meta, super::meta::FORMAT_KEY, &FORMAT.to_be_bytes())?;
    Ok(true)
}
