//! The core over in-memory replicas, fake directories and a pump: no task, no socket, no disk, one clock.
//!
//! [`harness`] is the world; the other modules say what must hold in it. Everything is deterministic.

#![allow(clippy::unwrap_used, reason = "a test ends where its world does not do what it was told")]

mod audit;
mod bulk;
mod busy;
mod clash;
mod crash;
mod events;
mod files;
mod harness;
mod hostile;
mod library;
mod pages;
mod past;
mod property;
mod refusal;
mod replay;
mod runs;
mod trash;
mod two_way;
mod two_way_property;
mod undo;
mod unread;
