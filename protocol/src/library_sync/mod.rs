//! Keeping replicas level: rows, signed heads that commit to the whole state, and the gate.

pub mod gate;
mod head;
mod row;
mod set_hash;

pub use gate::{GateClosed, GateReason, LibrarySynced};
pub use head::{Head, HeadError, HeadRef, LocationStatus, RootState, SignedHead, Unsettled};
pub use row::{Fact, FactKey, Row, RowBody, RowKey};
pub use set_hash::SetHash;
