//! The base after a verified plan: what both ends agree on now.

use std::collections::{BTreeMap, BTreeSet};

use super::selective::{self, Scope};
use super::walk::{Node, Nodes, Span};
use super::{BaseChange, ConduitView, Side};
use crate::file_sync::SyncMode;
use crate::index::EntryKind;
use crate::path::EntryPath;

/// How the base rows change, at the touched paths or everywhere.
pub(super) fn changes(
    view: &ConduitView<'_>,
    scope: Option<&Scope>,
    touched: Option<&BTreeSet<EntryPath>>,
) -> BTreeMap<EntryPath, BaseChange> {
    let mut changes = BTreeMap::new();
    let mut look = |span: &Span| {
        for node in Nodes::of(view, span) {
            change(view, scope, &node, &mut changes);
        }
    };
    let rules = (view.source.rules_hash(), view.target.rules_hash());
    // What rules or a selection take in or leave out changes without any row being touched.
    let by_rows_alone =
        scope.is_none() && !view.folds() && view.baseline.is_some_and(|baseline| baseline.rules == rules);
    let touched = touched.filter(|_| by_rows_alone);
    match touched {
        Some(touched) => touched.iter().for_each(|path| look(&Span::Only(path.clone()))),
        None => look(&Span::All),
    }
    // What neither end has a row for is absent on both.
    let forgotten = |path: &EntryPath| Side::BOTH.into_iter().all(|side| view.side(side).entry(path).is_none());
    let known: Box<dyn Iterator<Item = EntryPath> + '_> = match touched {
        Some(touched) => Box::new(touched.iter().filter(|path| view.base.entry(path).is_some()).cloned()),
        None => Box::new(view.base.entries(None).map(|(path, _)| path)),
    };
    for path in known.filter(|path| !view.folds() && forgotten(path)) {
        changes.insert(path, BaseChange::Drop);
    }
    changes
}

fn change(view: &ConduitView<'_>, scope: Option<&Scope>, node: &Node, changes: &mut BTreeMap<EntryPath, BaseChange>) {
    let Some(change) = verdict(view, scope, node) else { return };
    let base_at = match &node.spelled {
        Some(spelled) => spelled.base.as_ref(),
        None => node.base.as_ref().map(|_| &node.key),
    };
    let at = node.path();
    if let Some(old) = base_at.filter(|old| change == BaseChange::Drop || *old != at) {
        changes.insert(old.clone(), BaseChange::Drop);
    }
    if let BaseChange::Set(kind) = change
        && (base_at != Some(at) || node.base.as_ref() != Some(&kind))
    {
        changes.insert(at.clone(), BaseChange::Set(kind));
    }
}

/// What the base says from now on; `None` leaves it as it is.
fn verdict(view: &ConduitView<'_>, scope: Option<&Scope>, node: &Node) -> Option<BaseChange> {
    let is_hidden = Side::BOTH.into_iter().filter_map(|side| node.at(side)).any(|path| view.is_outside(path));
    if is_hidden {
        return Some(BaseChange::Drop);
    }
    let agreed = |kind: &EntryKind| {
        BaseChange::Set(match kind {
            EntryKind::Directory { .. } => EntryKind::Directory { residue: false },
            EntryKind::File(_) | EntryKind::Symlink { .. } | EntryKind::Special | EntryKind::Unknown(_) => kind.clone(),
        })
    };
    let kinds = (node.kind(Side::Source), node.kind(Side::Target));
    match (view.conduit.mode, scope) {
        (SyncMode::Mirror, _) | (SyncMode::Selective, None) => None,
        (SyncMode::Bidirectional, _) => match kinds {
            (None, None) => Some(BaseChange::Drop),
            (Some(source), Some(target)) if source.same_content(target) => Some(agreed(source)),
            (Some(_), _) | (None, Some(_)) => None,
        },
        (SyncMode::Selective, Some(scope)) => match kinds {
            (_, None) => Some(BaseChange::Drop),
            (Some(source), Some(target)) if source.same_content(target) => {
                selective::admits(scope, node).then(|| agreed(source))
            }
            (None, Some(target)) if !target.is_frozen() && !selective::is_ours(node) => Some(BaseChange::Drop),
            (Some(_) | None, Some(_)) => None,
        },
    }
}
