//! The real world behind [`crate::env`]: clocks, threads, watchers, disks, sockets. Nothing here decides.

mod clock;
mod env;
mod memory;
pub mod net;
mod spawn;
mod watch;

pub use clock::OsClock;
pub use env::OsEnv;
pub use memory::keep_buffers;
pub use spawn::OsSpawn;
pub use watch::{OsWatch, OsWatched};
