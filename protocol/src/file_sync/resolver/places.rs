//! Where a name stands on each end. The ends spell alike unless one of them folds names; then each keeps its own
//! spelling, and a change of spelling is carried over like any other change.

use super::walk::Node;
use super::{ConduitView, Side};
use crate::file_sync::names::same_spelling;
use crate::path::{DirPath, EntryPath, Name};

/// The directories above the current name, as each end will spell them.
pub(super) struct Places {
    folds: bool,
    above: Vec<(EntryPath, [EntryPath; 2])>,
}

/// Where a name stands on each end when the plan's renames in place are done, and from where those lead.
pub(super) struct Place {
    pub(super) at: [EntryPath; 2],
    pub(super) respelled: [Option<EntryPath>; 2],
}

impl Places {
    pub(super) fn new(view: &ConduitView<'_>) -> Self {
        Self { folds: view.folds(), above: Vec::new() }
    }

    /// Places a name; `merges` says that both ends are to spell it alike from now on.
    pub(super) fn place(&mut self, node: &Node, merges: bool) -> Place {
        if !self.folds {
            return Place { at: [node.key.clone(), node.key.clone()], respelled: [None, None] };
        }
        while self.above.last().is_some_and(|(key, _)| !node.key.is_below(key)) {
            self.above.pop();
        }
        let now = Side::BOTH.map(|side| self.below_above(side, &spelling_of(node, side)));
        let wanted = if merges { Side::BOTH.map(|side| wanted(node, side)) } else { [None, None] };
        let mut place = Place { at: now, respelled: [None, None] };
        for side in Side::BOTH {
            if let Some(name) = &wanted[side as usize] {
                let at = self.below_above(side, name);
                place.respelled[side as usize] = Some(std::mem::replace(&mut place.at[side as usize], at));
            }
        }
        self.above.push((node.key.clone(), place.at.clone()));
        place
    }

    fn below_above(&self, side: Side, name: &[u8]) -> EntryPath {
        let dir = self.above.last().map_or(DirPath::TOP, |(_, at)| DirPath::below_top(at[side as usize].clone()));
        let name = Name::new(name).expect("a name of a path is a name");
        dir.child(&name).expect("a spelling of a path that exists is a path")
    }
}

/// The name on an end; the other end's where it has none.
fn spelling_of(node: &Node, side: Side) -> Vec<u8> {
    let own = node.entry(side).and_then(|_| node.at(side));
    let other = || node.entry(side.other()).and_then(|_| node.at(side.other()));
    own.or_else(other).unwrap_or_else(|| node.path()).name().to_vec()
}

/// The spelling that an end is to take over from the other one: three-way, and the source's if both changed.
fn wanted(node: &Node, side: Side) -> Option<Vec<u8>> {
    let spelled = node.spelled.as_ref()?;
    if spelled.twins.iter().any(|(of, ..)| *of == side) || Side::BOTH.iter().any(|side| node.entry(*side).is_none()) {
        return None;
    }
    let [own, other] = [side, side.other()].map(|side| node.at(side).expect("an entry has a path").name());
    if same_spelling(own, other) {
        return None;
    }
    let base = spelled.base.as_ref().map(EntryPath::name);
    let is_base = |name: &[u8]| base.is_some_and(|base| same_spelling(base, name));
    let follows = is_base(own) || (!is_base(other) && side == Side::Target);
    follows.then(|| other.to_vec())
}
