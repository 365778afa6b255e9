//! The words and the law of Tidegate.
//!
//! Everything in this crate is a pure function or a plain value: ids, paths, rows, signed heads, the gate,
//! the resolver, the guards, the plan and the wire forms. There is no clock, no randomness, no file and no
//! thread here; what must come from outside comes in as an argument. That is what makes every decision
//! repeatable, in a test, in the simulator, and from a stored generation.

pub mod codec;
pub mod file_sync;
pub mod hash;
pub mod id;
pub mod index;
pub mod library_sync;
pub mod limits;
pub mod path;
pub mod time;
pub mod wire;
