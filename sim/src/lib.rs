//! The deterministic world: many devices in one thread, driven by one seed.
//!
//! The code that ships (core, driver, jobs, replica, staging, trash, recovery) runs behind
//! [`tidegate::env::Env`] on a simulated clock, network and disk. Nothing in here reads a real clock, draws a
//! real random number, starts a thread, or goes through anything in an order that is not given: the same seed
//! gives the same run, event by event. Transport, runtime and command line are not part of it
//! (`tests/tests/tidy.rs` proves it); `docs/SIMULATOR.md` says which tests stand for what is left out.

pub mod backend;
pub mod checkers;
pub mod cli;
pub mod clock;
pub mod coverage;
pub mod device;
pub mod disk;
pub mod env;
pub mod executor;
pub mod ghost;
pub mod happening;
pub mod network;
pub mod plan;
pub mod random;
pub mod report;
pub mod run;
pub mod scenario;
pub mod shrink;
pub mod story;
pub mod trace;
pub mod user;
pub mod verdict;
pub mod watch;
pub mod witness;
pub mod world;
