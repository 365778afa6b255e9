//! The Tidegate node.
//!
//! [`core`] decides: one synchronous state machine over the replica. [`driver`] owns it and sets going what it
//! wishes; `jobs` are the sequences that touch disks and peers, written over one [`env::Env`]. Feature `os` (on
//! by default) adds the real world: libp2p, quinn, notify, HTTP and the command line. The simulator builds this
//! crate without it.

pub mod core;
pub mod driver;
pub mod env;
pub mod events;
mod jobs;

#[cfg(feature = "os")]
pub mod api;
#[cfg(feature = "os")]
pub mod cli;
#[cfg(feature = "os")]
pub mod config;
pub mod format;
#[cfg(feature = "os")]
pub mod lab;
#[cfg(feature = "os")]
mod merge;
#[cfg(feature = "os")]
pub mod os;
#[cfg(feature = "os")]
pub mod serve;
#[cfg(feature = "os")]
pub mod state;
pub mod timetable;
