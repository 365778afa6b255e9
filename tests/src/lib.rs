//! What the end-to-end tests share. The tests themselves are in `tests/`.

pub mod corpus;
pub mod ends;
pub mod fuzz;
pub mod mesh;
pub mod trusted;
