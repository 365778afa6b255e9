//! The real world behind [`crate::env`]: sockets, clocks, watchers, HTTP. Nothing here decides.

pub mod net;
