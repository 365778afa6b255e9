//! What is kept of a generation so that it can be undone and replayed: the rows that stood where its items act, what its
//! plan was decided from, and a note of how it came about. Kept as long as its items are.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use tidegate_protocol::codec;
use tidegate_protocol::file_sync::{
    Action, Conduit, Generation, Grounds, Item, ItemOutcome, Plan, PlanId, PreImage, Root, Rows, Side,
};
use tidegate_protocol::id::ConduitId;
use tidegate_protocol::index::EntryState;
use tidegate_protocol::path::{DirPath, EntryPath};
use tidegate_storage::store::DecidingRows;

use super::dispatch::GENERATIONS_KEPT;
use super::events::Event;
use super::io::Resolved;
use super::{Core, CoreError, Step};

/// Items read at a time when a whole job is walked.
const PAGE: usize = 4096;

/// How a generation came about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    /// It undoes this one.
    pub(super) undoes: Option<u64>,
    /// Rows that moved on between plan and store: these paths cannot be told of any more.
    pub(super) moved: BTreeSet<EntryPath>,
}

impl Step<'_> {
    /// How a generation came about; `None` if that is not kept (any more).
    pub(super) fn note(&self, conduit: ConduitId, number: u64) -> Result<Option<Note>, CoreError> {
        let note = self.txn.generation_note(conduit, number)?;
        Ok(note.and_then(|bytes| codec::decode_stored(&bytes).ok()))
    }

    /// The generation that this one undoes.
    pub(super) fn undoes(&self, conduit: ConduitId, number: u64) -> Result<Option<u64>, CoreError> {
        Ok(self.note(conduit, number)?.and_then(|note| note.undoes))
    }

    pub(super) fn set_note(&mut self, conduit: ConduitId, number: u64, note: &Note) -> Result<(), CoreError> {
        Ok(self.txn.put_generation_note(conduit, number, &codec::encode(note))?)
    }

    /// Keeps what a generation's plan was decided from, for a replay.
    pub(super) fn keep_inputs(&mut self, id: ConduitId, number: u64, resolved: &Resolved) -> Result<(), CoreError> {
        match &resolved.inputs {
            Some(inputs) => Ok(self.txn.put_generation_inputs(id, number, inputs)?),
            None => Ok(()),
        }
    }

    /// The same of a plan that was not the resolver's.
    pub(super) fn keep_grounds(&mut self, id: ConduitId, number: u64, grounds: &Grounds) -> Result<(), CoreError> {
        Ok(self.txn.put_generation_inputs(id, number, &codec::encode(grounds))?)
    }

    /// What a generation did at one end and was done.
    pub(super) fn done_items(&self, conduit: ConduitId, number: u64, side: Side) -> Result<Vec<Item>, CoreError> {
        let mut done = Vec::new();
        for record in self.jobs_of(conduit, number)?.iter().filter(|record| record.spec.key.side == side) {
            let mut first = 0;
            while first < record.items_stored {
                let items = self.txn.job_items(&record.spec.key, first, PAGE)?;
                let outcomes = self.txn.job_outcomes(&record.spec.key, first, PAGE)?;
                first += items.len().max(1) as u32;
                let both = items.into_iter().zip(outcomes);
                done.extend(both.filter(|(_, outcome)| *outcome == Some(ItemOutcome::Done)).map(|(item, _)| item));
            }
        }
        Ok(done)
    }
}

impl Core {
    /// Keeps a shown plan, so that it can be named; plans that nothing refers to any more go.
    pub(super) fn keep_plan(&mut self, step: &mut Step<'_>, conduit: &Conduit, plan: &Plan) -> Result<(), CoreError> {
        if step.shown(conduit.id)? != Some(plan.id) {
            let (name, totals) = (plan.id.short(), plan.totals);
            let (copies, deletes) = (totals.copies, totals.deletes);
            self.say_conduit(step, conduit.id, |conduit| Event::PlanReady { conduit, plan: name, copies, deletes })?;
        }
        if let Some(shown) = step.shown(conduit.id)?.filter(|shown| *shown != plan.id) {
            step.set_shown(conduit.id, plan.id)?;
            self.forget_plan(step, conduit.id, &shown)?;
        }
        step.txn.put_plan(plan)?;
        step.set_shown(conduit.id, plan.id)
    }

    /// Drops a plan that nothing refers to any more: not what is shown or held, and no generation that is kept.
    pub(super) fn forget_plan(&self, step: &mut Step<'_>, conduit: ConduitId, id: &PlanId) -> Result<(), CoreError> {
        let is_named = [step.shown(conduit)?, step.held(conduit)?, step.agreed(conduit)?.map(|plan| plan.id)];
        let seen = step.txn.generation_seen(conduit)?;
        let is_kept = |generation: &Generation| generation.number + GENERATIONS_KEPT > seen && generation.plan == *id;
        if is_named.contains(&Some(*id))
            || step.txn.generations(conduit, GENERATIONS_KEPT as usize)?.iter().any(is_kept)
        {
            return Ok(());
        }
        Ok(step.txn.remove_plan(id)?)
    }

    /// Keeps the rows that decided a plan, in the transaction that opens its generation.
    pub(super) fn keep_deciding_rows(
        &self,
        step: &mut Step<'_>,
        conduit: &Conduit,
        number: u64,
        plan: &Plan,
    ) -> Result<(), CoreError> {
        let mut rows = DecidingRows::default();
        let mut note = step.note(conduit.id, number)?.unwrap_or_default();
        for (side, root, kept) in
            [(Side::Source, &conduit.source, &mut rows.source), (Side::Target, &conduit.target, &mut rows.target)]
        {
            let tree = step.txn.tree(root.device, root.location)?;
            if tree.counters.rows == 0 {
                continue;
            }
            let upto = plan.heads.iter().find(|head| head.device == root.device).map(|head| head.sequence);
            let ops = plan.operations.on(side);
            let mut found = Rows::new();
            for item in ops.copies.iter().chain(&ops.deletes) {
                for path in std::iter::once(&item.path).chain(old_path(item)) {
                    let Ok(full) = root.dir.join(path) else { continue };
                    let Some(row) = step.txn.entry(tree, &full)? else { continue };
                    found.insert(path.clone(), row.state);
                    if step.txn.entry_sequence(tree, &full)?.is_some_and(|sequence| Some(sequence) > upto) {
                        note.moved.insert(path.clone());
                    }
                }
                if item.expect == PreImage::Directory {
                    self.each_row_below(step, root, &item.path, &mut |path, state| drop(found.insert(path, state)))?;
                }
            }
            *kept = found.into_iter().collect();
        }
        step.set_note(conduit.id, number, &note)?;
        Ok(step.txn.put_deciding_rows(conduit.id, number, &rows)?)
    }

    /// The row of a path below a conduit's root.
    pub(super) fn row(&self, step: &Step<'_>, root: &Root, path: &EntryPath) -> Result<Option<EntryState>, CoreError> {
        let Ok(full) = root.dir.join(path) else { return Ok(None) };
        step.entry(root.device, root.location, &full)
    }

    /// Visits the rows below a path, relative to the conduit's root.
    pub(super) fn each_row_below(
        &self,
        step: &Step<'_>,
        root: &Root,
        path: &EntryPath,
        visit: &mut dyn FnMut(EntryPath, EntryState),
    ) -> Result<(), CoreError> {
        let Ok(full) = root.dir.join(path) else { return Ok(()) };
        let tree = step.txn.tree(root.device, root.location)?;
        step.txn.each_entry(tree, &DirPath::below_top(full), &mut |row| {
            if let Some(path) = root.dir.relative(&row.path) {
                visit(path, row.state.clone());
            }
            std::ops::ControlFlow::Continue(())
        })?;
        Ok(())
    }
}

/// The second path of an item that has two.
fn old_path(item: &Item) -> Option<&EntryPath> {
    match &item.action {
        Action::RenameFile { from, .. } | Action::Respell { from, .. } => Some(from),
        Action::MakeDirectory { .. }
        | Action::InstallFile { .. }
        | Action::InstallSymlink { .. }
        | Action::SetMetadata { .. }
        | Action::Adopt { .. }
        | Action::Remove { .. }
        | Action::RemoveDirectory { .. }
        | Action::Evict { .. } => None,
    }
}
