//! A world of cores: who is connected, what time it is, what is on whose disk. Not here: what must hold.

mod legs;
mod pump;
mod resolve;
mod store;
mod tree;
mod world;

pub(crate) use world::{A, B, C, LostInput, World, file, id, key, label, path};
