//! The resolver against an index in memory: the law as a table, and what must hold for all trees.

mod folding;
mod histories;
mod net;
mod properties;
mod replay;
mod selected;
mod table;
mod tree;
mod two_way;
