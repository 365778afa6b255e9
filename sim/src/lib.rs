//! The deterministic world, of which nothing is built yet but its place.
//!
//! Here will be many devices in one thread, driven by one seed: a simulated clock, network and disk behind
//! [`tidegate::env::Env`], faults and users, and checkers that hold the invariants of `docs/ARCHITECTURE.md` after
//! every event. It drives the very [`tidegate::core`] and jobs that ship; that is why this package builds the node
//! without transport, runtime and command line (`tests/tests/tidy.rs` proves it).
