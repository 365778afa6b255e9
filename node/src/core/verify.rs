//! Verification: a generation is proven by the resolver, never by its jobs.
//!
//! When its jobs are over, a generation waits until the watchers of both ends have reported what the jobs
//! touched, then until the replica is caught up; then the same resolver runs again. Only an empty plan becomes the
//! baseline, and it is verified if it left nothing out that could not be read. What remains is followed up, a few times,
//! unless a person must act.

use std::collections::BTreeSet;

use tidegate_protocol::file_sync::{
    Action, BaseChange, Baseline, Conduit, GenerationRecord, GenerationTotals, ItemOutcome, JobKind, Phase, Plan,
    SkipReason, SyncMode, Verification,
};
use tidegate_protocol::id::ConduitId;
use tidegate_protocol::index::EntryKind;
use tidegate_protocol::library_sync::Fact;
use tidegate_protocol::limits::FOLLOW_UPS_MAX;
use tidegate_protocol::path::EntryPath;
use tidegate_storage::disk::TEXT_BYTES_MAX;
use tidegate_storage::store::Change;

use super::file_sync::Purpose;
use super::gate::Attempt;
use super::io::{KeepTexts, Output, Resolved};
use super::{Core, CoreError, Step, legs};

/// Paths of one agreement beyond which no text is kept: that is a load, not an edit.
const TEXTS_PER_AGREEMENT_MAX: usize = 2_000;

impl Core {
    /// The jobs of a generation are over.
    pub(super) fn begin_verify(&mut self, step: &mut Step<'_>, id: ConduitId, number: u64) -> Result<(), CoreError> {
        let mut totals = GenerationTotals::default();
        for record in step.jobs_of(id, number)? {
            let done = record.progress.items_done - record.progress.items_skipped;
            match record.spec.key.kind {
                JobKind::Copy => totals.copied += done,
                JobKind::Delete => totals.deleted += done,
            }
            totals.copied -= step.adopted(&record)?.min(totals.copied);
            totals.skipped += record.progress.items_skipped;
            totals.bytes += record.progress.bytes_done;
            totals.bytes_reused += record.progress.bytes_reused;
        }
        let Some(open) = self.service.open.get_mut(&id) else { return Ok(()) };
        let generation = &mut open.generation;
        totals.conflicts = generation.totals.conflicts;
        totals.skipped += generation.totals.skipped;
        generation.totals = totals;
        generation.phase = Phase::Verifying;
        generation.statuses.push((step.now.wall_ms, Verification::WaitingWatcher));
        step.txn.put_generation(generation)?;
        self.attempt(step, id, Purpose::Verify(number), None);
        Ok(())
    }

    /// While a verification waits: the watchers have spoken, only the replica is behind.
    pub(super) fn note_waiting(&mut self, step: &mut Step<'_>, attempt: &Attempt) -> Result<(), CoreError> {
        let Purpose::Verify(_) = attempt.purpose else { return Ok(()) };
        let Some(conduit) = step.txn.conduit(attempt.conduit)? else { return Ok(()) };
        if self.watchers_have_spoken(attempt, &conduit) {
            self.push_status(step, attempt.conduit, Verification::WaitingLibrarySync)?;
        }
        Ok(())
    }

    /// Adds a status with its time, once.
    fn push_status(&mut self, step: &mut Step<'_>, conduit: ConduitId, status: Verification) -> Result<(), CoreError> {
        let Some(open) = self.service.open.get_mut(&conduit) else { return Ok(()) };
        if open.generation.statuses.last().is_some_and(|(_, last)| *last == status) {
            return Ok(());
        }
        open.generation.statuses.push((step.now.wall_ms, status));
        Ok(step.txn.put_generation(&open.generation)?)
    }

    /// The resolver has run again.
    pub(super) fn on_verify_plan(
        &mut self,
        step: &mut Step<'_>,
        conduit: &Conduit,
        number: u64,
        resolved: &Resolved,
    ) -> Result<(), CoreError> {
        let plan = &resolved.plan;
        self.push_status(step, conduit.id, Verification::WaitingLibrarySync)?;
        if let Some(undone) = step.undoes(conduit.id, number)? {
            return self.on_verify_undo(step, conduit, (number, undone), plan.in_use() + plan.unread());
        }
        if self.record_decisions(step, conduit, plan)? {
            self.attempt(step, conduit.id, Purpose::Verify(number), None);
            return Ok(());
        }
        let ops = &plan.operations;
        let remaining = [&ops.source_to_target, &ops.target_to_source]
            .iter()
            .map(|ops| (ops.copies.len() + ops.deletes.len()) as u64)
            .sum::<u64>()
            + plan.in_use()
            + plan.unread();
        // What is in constant use was left out, and so is not proven; of what could not be read nothing is known.
        let agrees = plan.is_empty() && plan.in_use() == 0;
        let proven = agrees && plan.unread() == 0;
        let status = if proven { Verification::Verified } else { Verification::Failed { remaining } };
        if agrees {
            self.agree(step, conduit, number, resolved)?;
        }
        if let Some(open) = self.service.open.get_mut(&conduit.id) {
            open.generation.totals.skipped += plan.unread();
        }
        let follows = self.close(step, conduit.id, number, status)?;
        let depth = self.follow_depth(step, conduit.id, follows)?;
        // Much that was seen to be gone only once is left to the next run.
        let hopeful =
            has_other_work(plan, &lasting_skips(step, conduit.id, number)?) && !self.needs_second_look(conduit, plan);
        if status != Verification::Verified && plan.halts.is_empty() && depth < FOLLOW_UPS_MAX && hopeful {
            let next = self.open_generation(step, conduit, plan, Some(number))?;
            step.keep_inputs(conduit.id, next, resolved)?;
        } else if !plan.halts.is_empty() {
            self.hold(step, conduit, plan)?;
        } else if !proven {
            self.schedule_after_failure(step, conduit, number)?;
        }
        Ok(())
    }

    /// If nothing is left but to record at the source what the generation has decided, that is done here and now:
    /// both ends hold the same, and a decision counts only once the target has it. Says whether it was so.
    fn record_decisions(&mut self, step: &mut Step<'_>, conduit: &Conduit, plan: &Plan) -> Result<bool, CoreError> {
        let ops = &plan.operations;
        let left = &ops.target_to_source;
        if !plan.halts.is_empty() || !ops.source_to_target.is_empty() || !left.deletes.is_empty() {
            return Ok(false);
        }
        let tree = step.txn.tree(self.me, conduit.source.location)?;
        let mut rows = Vec::new();
        for item in &left.copies {
            let (Action::Adopt { version }, Ok(path)) = (&item.action, conduit.source.dir.join(&item.path)) else {
                return Ok(false);
            };
            let location = conduit.source.location;
            if legs::adopt(step, tree, location, &path, &item.expect, version, &mut rows)? != ItemOutcome::Done {
                return Ok(false);
            }
        }
        let before = step.own_author()?.upto;
        step.put(rows)?;
        // What changes nothing would be found again for ever.
        let recorded = step.own_author()?.upto != before;
        if recorded {
            self.locations.changed.insert(conduit.source.location);
        }
        Ok(recorded)
    }

    /// Ends a generation, and tells the library how. Returns the generation that it followed.
    pub(super) fn close(
        &mut self,
        step: &mut Step<'_>,
        conduit: ConduitId,
        number: u64,
        verification: Verification,
    ) -> Result<Option<u64>, CoreError> {
        self.push_status(step, conduit, verification)?;
        let Some(mut open) = self.service.open.remove(&conduit) else { return Ok(None) };
        open.generation.phase = Phase::Closed;
        open.generation.closed_ms = Some(step.now.wall_ms);
        step.txn.put_generation(&open.generation)?;
        let record = GenerationRecord {
            conduit,
            number,
            coordinator: self.me,
            verification,
            closed_ms: step.now.wall_ms,
            totals: open.generation.totals,
        };
        step.put(vec![Change::fact(Fact::Generation(record))])?;
        self.say_closed(step, conduit, number, verification, open.generation.totals)?;
        self.forget_old_jobs(step, conduit, number)?;
        Ok(open.generation.follows)
    }

    fn follow_depth(&self, step: &Step<'_>, conduit: ConduitId, mut follows: Option<u64>) -> Result<u32, CoreError> {
        let mut depth = 0;
        while let Some(number) = follows {
            depth += 1;
            follows = step.txn.generation(conduit, number)?.and_then(|generation| generation.follows);
            if depth >= FOLLOW_UPS_MAX {
                break;
            }
        }
        Ok(depth)
    }

    /// Both ends agree on everything that could be read, as the resolver has proved: the baseline advances.
    pub(super) fn agree(
        &mut self,
        step: &mut Step<'_>,
        conduit: &Conduit,
        number: u64,
        resolved: &Resolved,
    ) -> Result<(), CoreError> {
        let Resolved { plan, baseline, base, .. } = resolved;
        let generation = number.max(baseline.generation).max(step.txn.generation_seen(conduit.id)?);
        if step.valid_baseline(conduit)?.is_none() {
            // Rows that no baseline vouches for are about an index that is no more.
            step.txn.drop_base(conduit.id)?;
        }
        self.note_conflicts(step, conduit, generation, plan)?;
        self.settle_conflicts(step, conduit, plan)?;
        step.txn.change_base(conduit.id, base)?;
        self.keep_texts(step, conduit, base);
        step.txn.set_baseline(conduit.id, Some(&Baseline { generation, ..baseline.clone() }))?;
        step.set_agreed(plan)?;
        if plan.unread() == 0 {
            step.set_verified(conduit.id)?;
        }
        step.set_held(conduit.id, None)?;
        self.service.held.remove(&conduit.id);
        Ok(())
    }
}

impl Core {
    /// What people edit on both ends at once is small texts, a few at a time: those are kept for merges.
    fn keep_texts(&self, step: &mut Step<'_>, conduit: &Conduit, base: &[(EntryPath, BaseChange)]) {
        let own = [&conduit.source, &conduit.target].into_iter().find(|root| root.device == self.me);
        let (Some(root), SyncMode::Bidirectional) = (own, conduit.mode) else { return };
        if base.len() > TEXTS_PER_AGREEMENT_MAX {
            return;
        }
        let text = |(path, change): &(EntryPath, BaseChange)| match change {
            BaseChange::Set(EntryKind::File(file)) if (1..=TEXT_BYTES_MAX).contains(&file.size) => {
                Some((root.dir.join(path).ok()?, file.content, file.size))
            }
            BaseChange::Set(_) | BaseChange::Drop => None,
        };
        let files: Vec<_> = base.iter().filter_map(text).collect();
        if !files.is_empty() {
            step.out.push(Output::KeepTexts(KeepTexts { location: root.location, files }));
        }
    }
}

/// Paths that were skipped for a reason that trying again at once will not change.
fn lasting_skips(step: &Step<'_>, conduit: ConduitId, number: u64) -> Result<BTreeSet<EntryPath>, CoreError> {
    let mut lasting = BTreeSet::new();
    for kind in [JobKind::Copy, JobKind::Delete] {
        step.each_skip(conduit, number, kind, &mut |item, reason| {
            let lasts = match reason {
                SkipReason::PermissionDenied
                | SkipReason::NoSpace
                | SkipReason::BadName
                | SkipReason::DirNotEmpty
                | SkipReason::NotAllowed
                | SkipReason::Cancelled
                | SkipReason::Io(_) => true,
                SkipReason::TargetChanged
                | SkipReason::SourceChanged
                | SkipReason::SourceGone
                | SkipReason::WrongContent
                | SkipReason::CopyFailed
                | SkipReason::Unreachable => false,
            };
            if lasts {
                lasting.insert(item.path.clone());
            }
        })?;
    }
    Ok(lasting)
}

fn has_other_work(plan: &Plan, lasting: &BTreeSet<EntryPath>) -> bool {
    let ops = &plan.operations;
    [&ops.source_to_target, &ops.target_to_source]
        .iter()
        .flat_map(|ops| ops.copies.iter().chain(&ops.deletes))
        .any(|item| !lasting.contains(&item.path))
}
