//! What the plan of a generation was decided from, by whichever law: kept with it, so that the law can be asked again.
//!
//! Most plans are the resolver's; one that undoes a generation and one that heals rot have laws of their own. All of them are
//! pure, so what they looked at is all that is needed.

use std::cell::RefCell;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::resolver::compare;
use super::{Decided, Guards, Healed, Item, Plan, Replay, ResolveError, Rows, Side, Undo, UndoView};
use crate::id::DeviceId;
use crate::limits::REPLAY_ROWS_MAX;
use crate::path::EntryPath;
use crate::time::Stamp;

/// What a plan was decided from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Grounds {
    /// The resolver's.
    Resolved(Box<Decided>),
    /// It takes another generation back.
    Undone(Box<Undone>),
    /// It heals what rotted.
    Healed(Box<Healed>),
}

impl Grounds {
    /// Asks the law again, and compares.
    pub fn replay(&self, plan: &Plan) -> Result<Replay, ResolveError> {
        Ok(match self {
            Self::Resolved(decided) => decided.replay(plan)?,
            Self::Undone(undone) => compare(plan, &undone.again(plan)),
            Self::Healed(healed) => compare(plan, &healed.plan(plan.conduit, plan.heads.clone())),
        })
    }

    /// Rows that are kept of the source, of the target, and of what both had agreed on.
    pub fn rows(&self) -> (u64, u64, u64) {
        match self {
            Self::Resolved(decided) => decided.rows(),
            Self::Undone(undone) => (undone.ends[0].rows(), undone.ends[1].rows(), 0),
            Self::Healed(healed) => {
                let (source, target) = healed.rows();
                (source, target, 0)
            }
        }
    }
}

/// What a plan that takes a generation back was decided from: everything at which the law looked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undone {
    device: DeviceId,
    definition: Stamp,
    guards: Guards,
    files: [u64; 2],
    ends: [UndoneEnd; 2],
}

/// One end, as far as the law looked at it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct UndoneEnd {
    done: Vec<Item>,
    before: Rows,
    now: Rows,
    below: BTreeMap<EntryPath, Vec<EntryPath>>,
}

impl UndoneEnd {
    fn rows(&self) -> u64 {
        (self.before.len() + self.now.len()) as u64
    }

    fn size(&self) -> usize {
        self.done.len() + self.before.len() + self.now.len() + self.below.values().map(Vec::len).sum::<usize>()
    }
}

impl Undone {
    /// What [`Undo::plan`] makes a plan from, given this definition, these guards and so many files on each end;
    /// `None` if that is more than is kept.
    pub fn of(
        source: &UndoView<'_>,
        target: &UndoView<'_>,
        definition: Stamp,
        guards: Guards,
        files: [u64; 2],
    ) -> Option<Self> {
        let looked = [RefCell::new(UndoneEnd::default()), RefCell::new(UndoneEnd::default())];
        {
            let views = [source, target];
            let now = |side: usize, path: &EntryPath| {
                let row = (views[side].now)(path);
                if let Some(row) = &row {
                    looked[side].borrow_mut().now.insert(path.clone(), row.clone());
                }
                row
            };
            let below = |side: usize, dir: &EntryPath| {
                let paths = (views[side].below)(dir);
                if !paths.is_empty() {
                    looked[side].borrow_mut().below.insert(dir.clone(), paths.clone());
                }
                paths
            };
            let source = UndoView { now: &|path| now(0, path), below: &|dir| below(0, dir), ..*source };
            let target = UndoView { now: &|path| now(1, path), below: &|dir| below(1, dir), ..*target };
            Undo::of(&source, &target);
        }
        let mut ends = looked.map(RefCell::into_inner);
        for (end, view) in ends.iter_mut().zip([source, target]) {
            (end.done, end.before) = (view.done.to_vec(), view.before.clone());
        }
        let size: usize = ends.iter().map(UndoneEnd::size).sum();
        (size <= REPLAY_ROWS_MAX).then_some(Self { device: source.device, definition, guards, files, ends })
    }

    /// The plan that the law makes of this now.
    fn again(&self, plan: &Plan) -> Plan {
        let now = |side: Side, path: &EntryPath| self.ends[side as usize].now.get(path).cloned();
        let below = |side: Side, dir: &EntryPath| self.ends[side as usize].below.get(dir).cloned().unwrap_or_default();
        let [source, target] = &self.ends;
        let source = UndoView {
            done: &source.done,
            before: &source.before,
            now: &|path| now(Side::Source, path),
            below: &|dir| below(Side::Source, dir),
            device: self.device,
        };
        let target = UndoView {
            done: &target.done,
            before: &target.before,
            now: &|path| now(Side::Target, path),
            below: &|dir| below(Side::Target, dir),
            device: self.device,
        };
        Undo::of(&source, &target).plan(plan.conduit, self.definition, plan.heads.clone(), self.guards, self.files)
    }
}
