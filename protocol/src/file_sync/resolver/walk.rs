//! Walking both ends and the base side by side, as sorted streams: nothing of either side is collected.

use std::collections::VecDeque;
use std::iter::Peekable;

use super::{ConduitView, Side, SideView, fold};
use crate::file_sync::ConflictKind;
use crate::index::{Entry, EntryKind, EntryState, Version};
use crate::path::EntryPath;

/// Which part of both ends is walked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Span {
    /// Everything.
    All,
    /// One path and everything below it.
    Subtree(EntryPath),
    /// One path alone.
    Only(EntryPath),
}

/// All that is known of one name; at least one row is there.
pub(super) struct Node {
    /// What names are compared by: the path itself, or what folding leaves of it.
    pub(super) key: EntryPath,
    rows: [Option<EntryState>; 2],
    /// What both ends last agreed on.
    pub(super) base: Option<EntryKind>,
    /// How the path is spelled, where names fold; elsewhere it is the key.
    pub(super) spelled: Option<Box<Spelled>>,
}

/// The spellings of one folded name.
#[derive(Default)]
pub(super) struct Spelled {
    /// On each end that has a row.
    pub(super) at: [Option<EntryPath>; 2],
    /// In the base.
    pub(super) base: Option<EntryPath>,
    /// Other spellings of the same name that are held, and why.
    pub(super) twins: Vec<(Side, EntryPath, ConflictKind)>,
}

impl Node {
    pub(super) const fn new(key: EntryPath, rows: [Option<EntryState>; 2], base: Option<EntryKind>) -> Self {
        Self { key, rows, base, spelled: None }
    }

    pub(super) fn spelled(mut self, spelled: Spelled) -> Self {
        self.spelled = Some(Box::new(spelled));
        self
    }

    pub(super) const fn row(&self, side: Side) -> Option<&EntryState> {
        self.rows[side as usize].as_ref()
    }

    pub(super) fn entry(&self, side: Side) -> Option<&Entry> {
        self.row(side).and_then(EntryState::present)
    }

    pub(super) fn kind(&self, side: Side) -> Option<&EntryKind> {
        self.entry(side).map(|entry| &entry.kind)
    }

    pub(super) fn is_directory(&self, side: Side) -> bool {
        matches!(self.kind(side), Some(EntryKind::Directory { .. }))
    }

    /// The version of a side's row; no event if there is no row.
    pub(super) fn version(&self, side: Side) -> &Version {
        const NONE: &Version = &Version::NONE;
        self.row(side).map_or(NONE, EntryState::version)
    }

    /// The events of both ends.
    pub(super) fn joined(&self) -> Version {
        self.version(Side::Source).join(self.version(Side::Target))
    }

    /// The path as an end spells it, if it has a row.
    pub(super) fn at(&self, side: Side) -> Option<&EntryPath> {
        match &self.spelled {
            Some(spelled) => spelled.at[side as usize].as_ref(),
            None => self.row(side).map(|_| &self.key),
        }
    }

    /// The path for people, and for whoever asks by path: the source's spelling if it has the entry.
    pub(super) fn path(&self) -> &EntryPath {
        let Some(spelled) = &self.spelled else { return &self.key };
        let present = Side::BOTH.into_iter().filter(|side| self.entry(*side).is_some());
        let all = present.chain(Side::BOTH).find_map(|side| spelled.at[side as usize].as_ref());
        all.or(spelled.base.as_ref()).unwrap_or(&self.key)
    }
}

/// The nodes of a span, in order, with a look ahead.
pub(super) struct Nodes<'a> {
    stream: Peekable<Box<dyn Iterator<Item = Node> + 'a>>,
    ahead: VecDeque<Node>,
}

impl<'a> Nodes<'a> {
    pub(super) fn of(view: &'a ConduitView<'a>, span: &Span) -> Self {
        let stream: Box<dyn Iterator<Item = Node> + 'a> = match span {
            Span::Only(path) => Box::new(one(view, path).into_iter()),
            Span::All if view.folds() => fold::nodes(view),
            Span::All | Span::Subtree(_) => Box::new(Walk::new(view, span)),
        };
        Self { stream: stream.peekable(), ahead: VecDeque::new() }
    }

    /// Everything below `top`, which was the last to be taken; it stays to be taken.
    pub(super) fn below(&mut self, top: &EntryPath) -> impl Iterator<Item = &Node> {
        while let Some(node) = self.stream.next_if(|node| node.key.is_below(top)) {
            self.ahead.push_back(node);
        }
        let end = self.ahead.partition_point(|node| node.key.is_below(top));
        self.ahead.range(..end)
    }
}

impl Iterator for Nodes<'_> {
    type Item = Node;

    fn next(&mut self) -> Option<Node> {
        self.ahead.pop_front().or_else(|| self.stream.next())
    }
}

fn one(view: &ConduitView<'_>, path: &EntryPath) -> Option<Node> {
    let rows = Side::BOTH.map(|side| view.side(side).entry(path));
    let is_known = rows.iter().any(Option::is_some);
    is_known.then(|| Node::new(path.clone(), rows, view.base.entry(path)))
}

type Rows<'a, T> = Peekable<Box<dyn Iterator<Item = (EntryPath, T)> + 'a>>;

struct Walk<'a> {
    source: Rows<'a, EntryState>,
    target: Rows<'a, EntryState>,
    base: Rows<'a, EntryKind>,
}

impl<'a> Walk<'a> {
    fn new(view: &'a ConduitView<'a>, span: &Span) -> Self {
        let (source, target, base) = match span {
            Span::All => (view.source.entries(None), view.target.entries(None), view.base.entries(None)),
            Span::Subtree(root) | Span::Only(root) => {
                let side = |side: &'a dyn SideView| within(side.entries(Some(root)), root.clone());
                (side(view.source), side(view.target), within(view.base.entries(Some(root)), root.clone()))
            }
        };
        Self { source: source.peekable(), target: target.peekable(), base: base.peekable() }
    }
}

impl Iterator for Walk<'_> {
    type Item = Node;

    fn next(&mut self) -> Option<Node> {
        let (source, target) = (self.source.peek().map(|row| &row.0), self.target.peek().map(|row| &row.0));
        let least = match (source, target) {
            (Some(source), Some(target)) => source.min(target),
            (Some(path), None) | (None, Some(path)) => path,
            // What only the base knows has no row on either end: there is nothing to decide.
            (None, None) => return None,
        };
        while self.base.next_if(|(path, _)| path < least).is_some() {}
        let base = self.base.next_if(|(path, _)| path == least).map(|(_, kind)| kind);
        let (in_source, in_target) = (source == Some(least), target == Some(least));
        let source = if in_source { self.source.next() } else { None };
        let target = if in_target { self.target.next() } else { None };
        let (path, source) = source.map_or((None, None), |(path, row)| (Some(path), Some(row)));
        let (path, target) = target.map_or((path, None), |(path, row)| (Some(path), Some(row)));
        path.map(|path| Node::new(path, [source, target], base))
    }
}

fn within<'a, T: 'a>(
    rows: Box<dyn Iterator<Item = (EntryPath, T)> + 'a>,
    root: EntryPath,
) -> Box<dyn Iterator<Item = (EntryPath, T)> + 'a> {
    Box::new(rows.take_while(move |(path, _)| *path == root || path.is_below(&root)))
}
