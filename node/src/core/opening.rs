//! Opening a generation, and its way from copies to deletes: what is stored before anything is sent out.
//!
//! A plan comes here only after guards and approval ([`super::file_sync`]). Jobs are stored with all their items in the step
//! that opens the generation, so a crash finds either none of it or all.

use std::collections::BTreeSet;

use tidegate_protocol::file_sync::{
    Action, Conduit, DeleteMode, Generation, GenerationTotals, Item, JobKey, JobKind, JobProgress, JobSpec, JobState,
    Phase, Plan, PlanId, PreImage, Side, Verification,
};
use tidegate_protocol::hash::ContentHash;
use tidegate_protocol::id::ConduitId;
use tidegate_protocol::limits::ITEMS_PER_FRAME_MAX;
use tidegate_protocol::time::Stamp;
use tidegate_storage::store::JobRecord;

use super::dispatch::Ends;
use super::events::Event;
use super::file_sync::Open;
use super::progress::Rate;
use super::{Core, CoreError, Step};

/// What every job of a plan is told of it.
#[derive(Debug, Clone, Copy)]
struct Order {
    plan: PlanId,
    definition: Stamp,
    /// Its guards were passed by a person's word.
    approved: bool,
}

impl Core {
    /// Stores plan and generation, then sends the copies out.
    pub(super) fn open_generation(
        &mut self,
        step: &mut Step<'_>,
        conduit: &Conduit,
        plan: &Plan,
        follows: Option<u64>,
    ) -> Result<u64, CoreError> {
        let number = step.txn.generation_seen(conduit.id)? + 1;
        let generation = Generation {
            conduit: conduit.id,
            number,
            plan: plan.id,
            heads: plan.heads.clone(),
            follows,
            phase: Phase::Copying,
            statuses: vec![(step.now.wall_ms, Verification::Unverified)],
            opened_ms: step.now.wall_ms,
            closed_ms: None,
            totals: GenerationTotals { conflicts: plan.conflicts().len() as u64, ..GenerationTotals::default() },
        };
        self.keep_deciding_rows(step, conduit, number, plan)?;
        step.txn.put_plan(plan)?;
        step.txn.put_generation(&generation)?;
        step.txn.see_generation(conduit.id, number)?;
        step.set_held(conduit.id, None)?;
        self.service.held.remove(&conduit.id);
        self.note_conflicts(step, conduit, number, plan)?;
        let order = Order { plan: plan.id, definition: plan.definition, approved: !plan.halts.is_empty() };
        for side in Side::BOTH {
            let ends = Ends::of(conduit, side);
            let (device, kind) = (ends.target.device, JobKind::Copy);
            let key = JobKey { conduit: conduit.id, generation: number, device, side, kind };
            self.store_job(step, conduit, key, order, &ends, &plan.operations.on(side).copies)?;
        }
        let rate = Rate::new(step.now.monotonic_ms);
        self.service.open.insert(conduit.id, Open { generation, rate });
        self.say_conduit(step, conduit.id, |conduit| Event::Opened { conduit, generation: number })?;
        let conflicts = plan.conflicts().len() as u64;
        if conflicts > 0 {
            self.say_conduit(step, conduit.id, |conduit| Event::Conflicts { conduit, generation: number, conflicts })?;
        }
        self.dispatch(step, conduit.id, number, JobKind::Copy)?;
        Ok(number)
    }

    /// Writes a job of this generation; nothing if it has no items.
    fn store_job(
        &mut self,
        step: &mut Step<'_>,
        conduit: &Conduit,
        key: JobKey,
        order: Order,
        ends: &Ends<'_>,
        items: &[Item],
    ) -> Result<(), CoreError> {
        if items.is_empty() {
            return Ok(());
        }
        // Undoing takes content from where it was put away, and puts away what it takes back.
        let (source, delete_mode) = match step.undoes(key.conduit, key.generation)? {
            Some(_) => (ends.target, DeleteMode::Trash),
            None => (ends.source, conduit.settings.delete_mode.value),
        };
        let spec = JobSpec {
            key,
            coordinator: self.me,
            definition: order.definition,
            plan: order.plan,
            approved: order.approved,
            target: ends.target.clone(),
            source: source.clone(),
            parallel_transfers: conduit.settings.parallel_transfers.value,
            bandwidth_limit: conduit.settings.bandwidth_limit.value.clone(),
            delete_mode,
            items: u32::try_from(items.len()).unwrap_or(u32::MAX),
            bytes: items.iter().map(installed_bytes).sum(),
        };
        let record = JobRecord { spec, state: JobState::Waiting, progress: JobProgress::default(), items_stored: 0 };
        step.txn.put_job(&record)?;
        for (page, items) in items.chunks(ITEMS_PER_FRAME_MAX).enumerate() {
            let first = (page * ITEMS_PER_FRAME_MAX) as u32;
            step.txn.put_job_items(&key, first, items)?;
        }
        Ok(())
    }

    /// All jobs of a kind are over: go on with the next phase.
    pub(super) fn on_jobs_over(
        &mut self,
        step: &mut Step<'_>,
        conduit: ConduitId,
        number: u64,
        kind: JobKind,
    ) -> Result<(), CoreError> {
        match kind {
            JobKind::Copy => self.begin_deletes(step, conduit, number),
            JobKind::Delete => self.begin_verify(step, conduit, number),
        }
    }

    fn begin_deletes(&mut self, step: &mut Step<'_>, id: ConduitId, number: u64) -> Result<(), CoreError> {
        let (Some(conduit), Some(open)) = (step.txn.conduit(id)?, self.service.open.get_mut(&id)) else {
            return Ok(());
        };
        let Some(plan) = step.txn.plan_rest(&open.generation.plan)? else { return Ok(()) };
        open.generation.phase = Phase::Deleting;
        let failed = failed_contents(step, id, number)?;
        let order = Order { plan: plan.id, definition: plan.definition, approved: !plan.halts.is_empty() };
        let mut suppressed = 0;
        for side in Side::BOTH {
            let ends = Ends::of(&conduit, side);
            let (kept, go): (Vec<Item>, Vec<Item>) = plan
                .deletes_on(side)
                .iter()
                .cloned()
                .partition(|item| content_of(&item.expect).is_some_and(|c| failed.contains(&c)));
            suppressed += kept.len() as u64;
            let (device, kind) = (ends.target.device, JobKind::Delete);
            let key = JobKey { conduit: id, generation: number, device, side, kind };
            if step.txn.job(&key)?.is_none() {
                self.store_job(step, &conduit, key, order, &ends, &go)?;
            }
        }
        if let Some(open) = self.service.open.get_mut(&id) {
            open.generation.totals.skipped += suppressed;
            step.txn.put_generation(&open.generation)?;
        }
        self.dispatch(step, id, number, JobKind::Delete)
    }
}

/// Bytes of content that an item installs.
pub(super) fn installed_bytes(item: &Item) -> u64 {
    match &item.action {
        Action::InstallFile { file, .. } => file.size,
        Action::MakeDirectory { .. }
        | Action::InstallSymlink { .. }
        | Action::RenameFile { .. }
        | Action::SetMetadata { .. }
        | Action::Remove { .. }
        | Action::RemoveDirectory { .. }
        | Action::Adopt { .. }
        | Action::Respell { .. }
        | Action::Evict { .. } => 0,
    }
}

fn content_of(expect: &PreImage) -> Option<ContentHash> {
    match expect {
        PreImage::File { content, .. } => Some(*content),
        PreImage::Absent | PreImage::Directory | PreImage::Symlink { .. } => None,
    }
}

/// Contents that copies of this generation failed to install: what must not be deleted elsewhere.
fn failed_contents(step: &Step<'_>, conduit: ConduitId, number: u64) -> Result<BTreeSet<ContentHash>, CoreError> {
    let mut failed = BTreeSet::new();
    step.each_skip(conduit, number, JobKind::Copy, &mut |item, _| {
        if let Action::InstallFile { file, .. } | Action::RenameFile { file, .. } = &item.action {
            failed.insert(file.content);
        }
    })?;
    Ok(failed)
}
