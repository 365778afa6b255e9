//! What decides: one synchronous state machine over the replica.
//!
//! No clock, no randomness, no task and no file in here: time and entropy come in as inputs, everything that
//! touches the world leaves as an output.

pub mod command;
pub mod io;
