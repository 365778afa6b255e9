//! Walking both ends side by side, as two sorted streams: nothing of either side is collected.

use std::cmp::Ordering;
use std::iter::Peekable;

use super::{ConduitView, SideView};
use crate::index::EntryState;
use crate::path::EntryPath;

/// Which part of both ends is walked.
pub(super) enum Span {
    /// Everything.
    All,
    /// One path and everything below it.
    Subtree(EntryPath),
}

/// The rows of one path; at least one of them is there.
pub(super) struct Pair {
    pub(super) path: EntryPath,
    pub(super) source: Option<EntryState>,
    pub(super) target: Option<EntryState>,
}

type Rows<'a> = Peekable<Box<dyn Iterator<Item = (EntryPath, EntryState)> + 'a>>;

/// The pairs of a span, in path order.
pub(super) struct Walk<'a> {
    source: Rows<'a>,
    target: Rows<'a>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(view: &'a ConduitView<'a>, span: Span) -> Self {
        let (source, target) = match span {
            Span::All => (view.source.entries(None), view.target.entries(None)),
            Span::Subtree(root) => (subtree(view.source, root.clone()), subtree(view.target, root)),
        };
        Self { source: source.peekable(), target: target.peekable() }
    }
}

impl Iterator for Walk<'_> {
    type Item = Pair;

    fn next(&mut self) -> Option<Pair> {
        let order = match (self.source.peek(), self.target.peek()) {
            (Some((source, _)), Some((target, _))) => source.cmp(target),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return None,
        };
        let source = if order.is_le() { self.source.next() } else { None };
        let target = if order.is_ge() { self.target.next() } else { None };
        let (path, source) = source.map_or((None, None), |(path, row)| (Some(path), Some(row)));
        let (path, target) = target.map_or((path, None), |(path, row)| (Some(path), Some(row)));
        path.map(|path| Pair { path, source, target })
    }
}

fn subtree(side: &dyn SideView, root: EntryPath) -> Box<dyn Iterator<Item = (EntryPath, EntryState)> + '_> {
    let rows = side.entries(Some(&root));
    Box::new(rows.take_while(move |(path, _)| *path == root || path.is_below(&root)))
}
