//! Undoing a generation: a new generation, made from history and trash, that came through the gate and past the
//! guards like any other.
//!
//! What is to be done is law (`tidegate_protocol::file_sync::Undo`). A one-way conduit would do again what was
//! undone, so undoing pauses it. The proof of such a generation is the same law, asked again: nothing is left
//! to take back. It moves no baseline, as both ends need not agree.

use tidegate_protocol::file_sync::{
    Conduit, Grounds, Halt, Item, Kept, KeptCause, Plan, Rows, Side, SyncMode, Undo, UndoView, Undone,
};
use tidegate_protocol::index::EntryKind;
use tidegate_protocol::library_sync::Fact;
use tidegate_protocol::path::EntryPath;
use tidegate_protocol::time::Stamped;
use tidegate_storage::store::Change;

use super::command::{Fault, FaultCode, Reply};
use super::events::Event;
use super::file_sync::Purpose;
use super::history::Note;
use super::io::{Output, Resolved, Ticket};
use super::past::{KeptView, UndoView as View, UndoneItem};
use super::{Core, CoreError, Step};

/// Items that are shown at once.
const SHOWN_MAX: usize = 10_000;

/// One call of `gen undo`.
#[derive(Debug, Clone)]
pub(super) struct UndoCall {
    pub(super) ticket: Ticket,
    /// Which generation is undone.
    pub(super) number: u64,
    /// Only says what would be done.
    pub(super) dry_run: bool,
    /// The plan that a person approves, in its short form.
    pub(super) approve: Option<String>,
}

impl Core {
    /// A person wants a generation undone.
    pub(super) fn on_undo_command(
        &mut self,
        step: &mut Step<'_>,
        name: &str,
        call: UndoCall,
        wait_ms: u64,
    ) -> Result<(), CoreError> {
        let conduit = match self.conduit_named(step, name)? {
            Ok(conduit) => conduit,
            Err(fault) => return refuse(step, call.ticket, fault),
        };
        if conduit.coordinator() != self.me {
            let device = self.device_label(step, conduit.coordinator())?;
            let fault = Fault::new(
                FaultCode::Refused,
                format!("{name} is undone on {device}; nothing was changed"),
                "history is kept by the device that runs the conduit",
                &[&format!("on {device}: tidegate gen undo {name} {}", call.number)],
            );
            return refuse(step, call.ticket, fault);
        }
        if !call.dry_run && (self.service.is_running(conduit.id) || self.is_syncing(conduit.id)) {
            let fault = Fault::new(
                FaultCode::AlreadyRunning,
                format!("{name} is running; nothing was changed"),
                "one generation of a conduit runs at a time",
                &["tidegate status", "tidegate job list"],
            );
            return refuse(step, call.ticket, fault);
        }
        if let Err(fault) = self.undoable(step, &conduit, call.number)? {
            return refuse(step, call.ticket, fault);
        }
        self.attempt(step, conduit.id, Purpose::Undo(call), Some(wait_ms));
        Ok(())
    }

    /// Whether what is needed to undo a generation is kept.
    fn undoable(&self, step: &Step<'_>, conduit: &Conduit, number: u64) -> Result<Result<(), Fault>, CoreError> {
        let name = &conduit.settings.name.value;
        let fault = |why: &str| {
            Fault::new(
                FaultCode::NoSuchName,
                format!("generation {number} of {name} cannot be undone; nothing was changed"),
                why,
                &[&format!("tidegate history {name}")],
            )
        };
        Ok(match step.txn.generation(conduit.id, number)? {
            None => Err(fault("there is no such generation")),
            Some(generation) if generation.closed_ms.is_none() => Err(fault("it is not over yet")),
            Some(_) if step.note(conduit.id, number)?.is_none() => {
                Err(fault("what stood there before is not kept (any more)"))
            }
            Some(_) => Ok(()),
        })
    }

    /// The gate was open: what would take the generation back, as the index is now. It lacks no row of the heads.
    pub(super) fn on_undo_plan(
        &mut self,
        step: &mut Step<'_>,
        conduit: &Conduit,
        call: &UndoCall,
        resolved: &Resolved,
    ) -> Result<(), CoreError> {
        let (undo, _) = self.undo_of(step, conduit, call.number)?;
        let plan = self.undo_plan(step, conduit, &undo, resolved)?;
        let mut view = self.undo_view(step, conduit, call, &undo, &plan)?;
        let approved = call.approve.as_ref() == Some(&plan.id.short());
        if let Some(wanted) = call.approve.as_ref().filter(|_| !approved) {
            let fault = Fault::new(
                FaultCode::PlanStale,
                format!("{wanted} does not undo generation {} any more; nothing was changed", call.number),
                format!("the ends have changed since; the plan is now {}", plan.id.short()),
                &[&format!("tidegate gen undo {} {} --dry-run", conduit.settings.name.value, call.number)],
            );
            let plan = wanted.clone();
            self.say_conduit(step, conduit.id, |conduit| Event::PlanStale { conduit, plan })?;
            return refuse(step, call.ticket, fault);
        }
        if !call.dry_run && !plan.halts.is_empty() && !approved {
            let fault = halted(conduit, call.number, &plan);
            return refuse(step, call.ticket, fault);
        }
        if !call.dry_run && !plan.operations.is_empty() {
            let conduit = self.pause_for_undo(step, conduit)?;
            // A new definition is a new plan: jobs of an older one are refused.
            let (undo, grounds) = self.undo_of(step, &conduit, call.number)?;
            let plan = self.undo_plan(step, &conduit, &undo, resolved)?;
            let next = step.txn.generation_seen(conduit.id)? + 1;
            step.set_note(conduit.id, next, &Note { undoes: Some(call.number), ..Note::default() })?;
            let number = self.open_generation(step, &conduit, &plan, None)?;
            if let Some(grounds) = grounds {
                step.keep_grounds(conduit.id, number, &Grounds::Undone(Box::new(grounds)))?;
            }
            view.generation = Some(number);
        }
        step.out.push(Output::Reply { ticket: call.ticket, reply: Ok(Reply::Undo(Box::new(view))) });
        Ok(())
    }

    /// Whether an undo came to its end, by the law that made it. Of what the fresh resolve left out, `unproven` paths, nothing
    /// is known.
    pub(super) fn on_verify_undo(
        &mut self,
        step: &mut Step<'_>,
        conduit: &Conduit,
        (number, undone): (u64, u64),
        unproven: u64,
    ) -> Result<(), CoreError> {
        use tidegate_protocol::file_sync::Verification;
        let ops = self.undo_of(step, conduit, undone)?.0.operations;
        let left = [&ops.source_to_target, &ops.target_to_source]
            .iter()
            .map(|ops| (ops.copies.len() + ops.deletes.len()) as u64)
            .sum::<u64>();
        let remaining = left + unproven;
        if let Some(open) = self.service.open.get_mut(&conduit.id) {
            open.generation.totals.skipped += unproven;
        }
        let status = if remaining == 0 { Verification::Verified } else { Verification::Failed { remaining } };
        self.close(step, conduit.id, number, status)?;
        Ok(())
    }

    /// What takes a generation back, and what that was decided from if it is not more than is kept.
    fn undo_of(&self, step: &Step<'_>, conduit: &Conduit, number: u64) -> Result<(Undo, Option<Undone>), CoreError> {
        let rows = step.txn.deciding_rows(conduit.id, number)?;
        let note = step.note(conduit.id, number)?.unwrap_or_default();
        let mut sides = Vec::with_capacity(2);
        let mut moved = Vec::new();
        for (side, root, rows) in
            [(Side::Source, &conduit.source, rows.source), (Side::Target, &conduit.target, rows.target)]
        {
            let before: Rows = rows.into_iter().collect();
            // A row that moved on between plan and store is not what the item was decided from.
            let (done, unknown): (Vec<Item>, Vec<Item>) = step
                .done_items(conduit.id, number, side)?
                .into_iter()
                .partition(|item| !note.moved.contains(&item.path));
            moved.extend(unknown.into_iter().map(|item| Kept { path: item.path, side, cause: KeptCause::Edited }));
            sides.push((root, before, done));
        }
        let mut lost = None;
        let found = {
            let lost = std::cell::RefCell::new(&mut lost);
            let now = |root, path: &EntryPath| {
                self.row(step, root, path).unwrap_or_else(|error| {
                    lost.borrow_mut().get_or_insert(error);
                    None
                })
            };
            let below = |root, dir: &EntryPath| {
                let mut paths = Vec::new();
                let each = self.each_row_below(step, root, dir, &mut |path, state| {
                    if state.present().is_some() {
                        paths.push(path);
                    }
                });
                if let Err(error) = each {
                    lost.borrow_mut().get_or_insert(error);
                }
                paths
            };
            let [(source_root, source_before, source_done), (target_root, target_before, target_done)] = &sides[..]
            else {
                unreachable!("a conduit has two ends")
            };
            let device = self.me;
            let source = UndoView {
                done: source_done,
                before: source_before,
                now: &|path| now(source_root, path),
                below: &|dir| below(source_root, dir),
                device,
            };
            let target = UndoView {
                done: target_done,
                before: target_before,
                now: &|path| now(target_root, path),
                below: &|dir| below(target_root, dir),
                device,
            };
            let undo = Undo::of(&source, &target);
            let files = self.files_of(step, conduit, &undo)?;
            let grounds = Undone::of(&source, &target, conduit.definition(), self.config.guards, files);
            (undo, grounds)
        };
        if let Some(error) = lost {
            return Err(error);
        }
        let (mut undo, grounds) = found;
        undo.kept.extend(moved);
        undo.kept.sort();
        Ok((undo, grounds))
    }

    fn undo_plan(
        &self,
        step: &Step<'_>,
        conduit: &Conduit,
        undo: &Undo,
        resolved: &Resolved,
    ) -> Result<Plan, CoreError> {
        let (heads, files) = (resolved.plan.heads.clone(), self.files_of(step, conduit, undo)?);
        Ok(undo.plan(conduit.id, conduit.definition(), heads, self.config.guards, files))
    }

    /// Files and links of each end at which something is taken back, for the guards.
    fn files_of(&self, step: &Step<'_>, conduit: &Conduit, undo: &Undo) -> Result<[u64; 2], CoreError> {
        let mut files = [0; 2];
        for (side, root) in [(Side::Source, &conduit.source), (Side::Target, &conduit.target)] {
            if undo.operations.on(side).is_empty() {
                continue;
            }
            let tree = step.txn.tree(root.device, root.location)?;
            step.txn.each_entry(tree, &root.dir, &mut |row| {
                let kind = row.state.present().map(|entry| &entry.kind);
                let is_file = matches!(kind, Some(EntryKind::File(_) | EntryKind::Symlink { .. }));
                files[side as usize] += u64::from(is_file);
                std::ops::ControlFlow::Continue(())
            })?;
        }
        Ok(files)
    }

    /// A one-way conduit would do again what was undone. It starts nothing until a person has looked.
    fn pause_for_undo(&mut self, step: &mut Step<'_>, conduit: &Conduit) -> Result<Conduit, CoreError> {
        let mut conduit = conduit.clone();
        match conduit.mode {
            SyncMode::Mirror | SyncMode::Selective if !conduit.settings.paused.value => {
                conduit.settings.paused = Stamped::new(true, self.stamp(step)?);
                step.put(vec![Change::fact(Fact::Conduit(Box::new(conduit.clone())))])?;
            }
            SyncMode::Mirror | SyncMode::Selective | SyncMode::Bidirectional => {}
        }
        Ok(conduit)
    }

    fn undo_view(
        &self,
        step: &Step<'_>,
        conduit: &Conduit,
        call: &UndoCall,
        undo: &Undo,
        plan: &Plan,
    ) -> Result<View, CoreError> {
        let end = |side| match side {
            Side::Source => &conduit.source,
            Side::Target => &conduit.target,
        };
        let mut items = Vec::new();
        for side in Side::BOTH {
            let device = self.device_label(step, end(side).device)?;
            let ops = undo.operations.on(side);
            items.extend(ops.copies.iter().chain(&ops.deletes).map(|item| UndoneItem {
                device: device.clone(),
                op: super::views::op_word(&item.action).to_owned(),
                path: item.path.clone(),
            }));
        }
        let mut kept = Vec::new();
        for one in &undo.kept {
            let device = self.device_label(step, end(one.side).device)?;
            kept.push(KeptView { device, path: one.path.clone(), why: one.cause.to_string() });
        }
        let pauses = match conduit.mode {
            SyncMode::Mirror | SyncMode::Selective => !undo.operations.is_empty(),
            SyncMode::Bidirectional => false,
        };
        Ok(View {
            conduit: conduit.settings.name.value.clone(),
            undoes: call.number,
            generation: None,
            next: step.txn.generation_seen(conduit.id)? + 1,
            plan: plan.id.short(),
            halts: plan.halts.iter().map(ToString::to_string).collect(),
            items_total: items.len() as u64,
            items: {
                items.truncate(SHOWN_MAX);
                items
            },
            kept,
            pauses,
        })
    }
}

fn halted(conduit: &Conduit, number: u64, plan: &Plan) -> Fault {
    let name = &conduit.settings.name.value;
    let why: Vec<String> = plan.halts.iter().map(Halt::to_string).collect();
    Fault::new(
        FaultCode::SafetyStop,
        format!("undoing generation {number} of {name} is held; nothing was changed"),
        why.join("; "),
        &[
            &format!("tidegate gen undo {name} {number} --dry-run"),
            &format!("if that is what you want: tidegate gen undo {name} {number} --approve {}", plan.id.short()),
        ],
    )
}

#[expect(clippy::unnecessary_wraps, reason = "what its callers answer with")]
fn refuse(step: &mut Step<'_>, ticket: Ticket, fault: Fault) -> Result<(), CoreError> {
    step.out.push(Output::Reply { ticket, reply: Err(fault) });
    Ok(())
}
