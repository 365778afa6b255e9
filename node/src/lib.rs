//! The Tidegate node.
//!
//! [`core`] decides: one synchronous state machine over the replica. [`jobs`] are the sequences that touch
//! disks and peers, written over one [`env::Env`]. Feature `os` (on by default) adds the real world: libp2p,
//! quinn, notify, HTTP and the command line. The simulator builds this crate without it.

pub mod env;
#[cfg(feature = "os")]
pub mod os;
