//! The acceptance corpus: cases that must hold, read into types, and the runner that judges a [`World`] by them.
//!
//! The corpus itself is `tests/corpus/scenarios.toml`; its head explains the format. Here is no resolver, no
//! disk and no node: a world brings them. [`model::ModelWorld`] is the smallest one, [`sim::SimWorld`] has
//! simulated devices, [`real::RealWorld`] has real nodes and disks.

pub mod conduits;
mod edit;
pub mod format;
pub mod gate;
pub mod judge;
pub mod model;
pub mod real;
pub mod runner;
pub mod sim;

pub use format::{Corpus, During, Edit, Moment, Round, Scenario};
pub use runner::{Contents, Report, Tree, World, failures};
