//! Walking two ends of which at least one folds names: rows are grouped by what folding leaves of their paths.
//!
//! Unlike the plain walk this collects both sides, as spellings of one name do not stand together in path order. One
//! spelling of a name on each end is the entry; the others are held with everything below them: they are never merged,
//! written or deleted.

use std::collections::{BTreeMap, BTreeSet};

use super::walk::{Node, Spelled};
use super::{ConduitView, Side};
use crate::file_sync::ConflictKind;
use crate::file_sync::names::{folded, same_spelling};
use crate::index::{EntryKind, EntryState};
use crate::path::EntryPath;

/// The rows of one folded name.
#[derive(Default)]
struct Group {
    rows: [Vec<(EntryPath, EntryState)>; 2],
    base: Option<(EntryPath, EntryKind)>,
}

/// Every node, in the order of folded paths.
pub(super) fn nodes<'a>(view: &'a ConduitView<'a>) -> Box<dyn Iterator<Item = Node> + 'a> {
    let mut groups: BTreeMap<EntryPath, Group> = BTreeMap::new();
    for side in Side::BOTH {
        for (path, row) in view.side(side).entries(None) {
            groups.entry(folded(&path)).or_default().rows[side as usize].push((path, row));
        }
    }
    for (path, kind) in view.base.entries(None) {
        if let Some(group) = groups.get_mut(&folded(&path)) {
            group.base = Some((path, kind));
        }
    }
    let mut held: [BTreeSet<EntryPath>; 2] = [BTreeSet::new(), BTreeSet::new()];
    Box::new(groups.into_iter().filter_map(move |(key, group)| group.into_node(key, &mut held)))
}

impl Group {
    /// Chooses each end's spelling. `held` are the twins above, of which nothing below is looked at.
    fn into_node(mut self, key: EntryPath, held: &mut [BTreeSet<EntryPath>; 2]) -> Option<Node> {
        for side in [0, 1] {
            let is_held = |path: &EntryPath| path.ancestors().any(|above| held[side].contains(&above));
            self.rows[side].retain(|(path, _)| !is_held(path));
        }
        let base_at = self.base.as_ref().map(|(path, _)| path.clone());
        let present: [Vec<&EntryPath>; 2] = self
            .rows
            .each_ref()
            .map(|rows| rows.iter().filter(|(_, row)| row.present().is_some()).map(|(path, _)| path).collect());
        let chosen = Side::BOTH.map(|side| {
            let other = &present[side.other() as usize];
            let is_like = |path: &EntryPath, model: &EntryPath| same_spelling(path.name(), model.name());
            let like = |model: Option<&EntryPath>| {
                present[side as usize].iter().find(|path| model.is_some_and(|model| is_like(path, model)))
            };
            let only_other = if other.len() == 1 { other.first().copied() } else { None };
            let least = present[side as usize].iter().min();
            like(base_at.as_ref()).or_else(|| like(only_other)).or(least).map(|path| (*path).clone())
        });
        let mut spelled = Spelled { base: base_at, ..Spelled::default() };
        for side in Side::BOTH {
            let Some(chosen) = &chosen[side as usize] else { continue };
            for twin in present[side as usize].iter().filter(|path| **path != chosen) {
                let unicode = same_spelling(twin.name(), chosen.name());
                let kind = if unicode { ConflictKind::UnicodeCollision } else { ConflictKind::CaseCollision };
                spelled.twins.push((side, (*twin).clone(), kind));
                held[side as usize].insert((*twin).clone());
            }
        }
        // A tombstone says something about its own spelling only.
        let rows = Side::BOTH.map(|side| {
            let wanted = chosen[side as usize].as_ref().or(chosen[side.other() as usize].as_ref());
            let rows = std::mem::take(&mut self.rows[side as usize]).into_iter();
            let is_it = |path: &EntryPath| match (&chosen[side as usize], wanted) {
                (Some(chosen), _) => path == chosen,
                (None, Some(wanted)) => same_spelling(path.as_stored(), wanted.as_stored()),
                (None, None) => true,
            };
            rows.into_iter().find(|(path, _)| is_it(path))
        });
        let [source, target] = rows;
        spelled.at = [&source, &target].map(|row| row.as_ref().map(|(path, _)| path.clone()));
        let rows = [source, target].map(|row| row.map(|(_, row)| row));
        let is_known = rows.iter().any(Option::is_some);
        is_known.then(|| Node::new(key, rows, self.base.map(|(_, kind)| kind)).spelled(spelled))
    }
}
