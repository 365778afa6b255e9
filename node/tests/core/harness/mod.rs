//! A world of cores: who is connected, what time it is, what is on whose disk. Not here: what must hold.

mod legs;
mod names;
mod pump;
mod resolve;
mod store;
mod tree;
mod world;

pub(crate) use names::{A, B, C, file, id, key, label, name, path};
pub(crate) use world::{DAY_MS, LostInput, World};
