//! The resolver against an index in memory: the law as a table, and what must hold for all trees.

mod histories;
mod net;
mod properties;
mod table;
mod tree;
