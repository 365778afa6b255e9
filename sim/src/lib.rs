//! The deterministic world.
pub mod plan;
pub mod random;
pub mod story;
