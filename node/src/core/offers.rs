//! Accepting jobs: from the conduit's coordinator alone, under a grant, and not if anything newer of the conduit
//! is known here. A job that deletes is asked about by this device's own guards, against its own index.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use tidegate_protocol::file_sync::{
    Action, Conduit, Halt, Item, JobKey, JobKind, JobProgress, JobSpec, JobState, OwnSide, Side,
};
use tidegate_protocol::id::{DeviceId, LocationId};
use tidegate_protocol::index::{EntryKind, Rights};
use tidegate_protocol::path::{DirPath, EntryPath};
use tidegate_protocol::wire::{JobControl, Refusal, RefusalCode, Response};
use tidegate_storage::store::JobRecord;

use super::applying::refuse;
use super::clash::Clash;
use super::{Core, CoreError, Step};

/// The kind of job that an item belongs to.
const fn kind_of(action: &Action) -> JobKind {
    match action {
        Action::MakeDirectory { .. }
        | Action::InstallFile { .. }
        | Action::InstallSymlink { .. }
        | Action::RenameFile { .. }
        | Action::SetMetadata { .. }
        | Action::Adopt { .. }
        | Action::Respell { .. } => JobKind::Copy,
        Action::Remove { .. } | Action::RemoveDirectory { .. } | Action::Evict { .. } => JobKind::Delete,
    }
}

impl Core {
    /// A coordinator offers a job.
    pub(super) fn on_offer(
        &mut self,
        step: &mut Step<'_>,
        peer: DeviceId,
        spec: JobSpec,
    ) -> Result<Response, CoreError> {
        let key = spec.key;
        if let Some(record) = step.txn.job(&key)? {
            let same = record.spec == spec && spec.coordinator == peer;
            return Ok(if same {
                Response::JobAccepted { items: record.items_stored }
            } else {
                refuse(RefusalCode::Malformed, "another job is known under this name")
            });
        }
        let Some(conduit) = step.txn.conduit(key.conduit)? else {
            return Ok(refuse(RefusalCode::NotFound, "no such conduit here yet"));
        };
        if conduit.removed.value {
            return Ok(refuse(RefusalCode::Disabled, "the conduit was removed"));
        }
        if let Some(refusal) = self.check_offer(step, peer, &spec, &conduit)? {
            return Ok(Response::Refused(refusal));
        }
        step.txn.see_generation(key.conduit, key.generation)?;
        self.fence_older(step, &key)?;
        let record = JobRecord { spec, state: JobState::Waiting, progress: JobProgress::default(), items_stored: 0 };
        step.txn.put_job(&record)?;
        Ok(Response::JobAccepted { items: 0 })
    }

    fn check_offer(
        &self,
        step: &Step<'_>,
        peer: DeviceId,
        spec: &JobSpec,
        conduit: &Conduit,
    ) -> Result<Option<Refusal>, CoreError> {
        let key = &spec.key;
        let ends = match key.side {
            Side::Target => Some((&conduit.target, &conduit.source)),
            Side::Source if super::conduits::writes_source(conduit.mode) => Some((&conduit.source, &conduit.target)),
            Side::Source => None,
        };
        let coherent = peer == conduit.coordinator()
            && spec.coordinator == peer
            && key.device == self.me
            && spec.target.device == self.me
            // From itself comes what is taken back from the trash.
            && ends.is_some_and(|(target, source)| spec.target == *target && (spec.source == *source || spec.source == *target));
        if !coherent {
            return Ok(Some(Refusal::new(RefusalCode::Malformed, "the job does not fit its conduit")));
        }
        if conduit.definition() > spec.definition || key.generation < step.txn.generation_seen(key.conduit)? {
            return Ok(Some(Refusal::new(RefusalCode::Fenced, "something newer of this conduit is known here")));
        }
        if let Some(clash) = Clash::of(step, conduit)? {
            return Ok(Some(Refusal::new(RefusalCode::Disabled, clash.why)));
        }
        if !self.allows(step, peer, spec.target.location, key.kind.rights_needed())? {
            let why = "the location does not grant this to the device that asks";
            return Ok(Some(Refusal::new(RefusalCode::NotAllowed, why)));
        }
        Ok(None)
    }

    /// Whether an own location grants `needed` to a device.
    pub(super) fn allows(
        &self,
        step: &Step<'_>,
        device: DeviceId,
        location: LocationId,
        needed: Rights,
    ) -> Result<bool, CoreError> {
        let Some(location) = step.txn.location(self.me, location)?.filter(|location| !location.removed) else {
            return Ok(false);
        };
        let has = location.rights(device);
        Ok((has.read || !needed.read) && (has.write || !needed.write) && (has.delete || !needed.delete))
    }

    /// Jobs of older generations of the conduit end here and now.
    fn fence_older(&mut self, step: &mut Step<'_>, key: &JobKey) -> Result<(), CoreError> {
        let older: Vec<JobKey> = step
            .txn
            .jobs()?
            .into_iter()
            .filter(|job| job.spec.key.conduit == key.conduit && job.spec.key.generation < key.generation)
            .filter(|job| matches!(job.state, JobState::Waiting | JobState::Running | JobState::Paused))
            .map(|job| job.spec.key)
            .collect();
        for job in older {
            self.control_own_job(step, job, JobControl::Cancel)?;
        }
        Ok(())
    }

    /// Items of an accepted job.
    pub(super) fn on_items(
        &mut self,
        step: &mut Step<'_>,
        peer: DeviceId,
        job: JobKey,
        first: u32,
        items: &[Item],
    ) -> Result<Response, CoreError> {
        let Some(record) = step.txn.job(&job)?.filter(|record| record.spec.coordinator == peer) else {
            return Ok(refuse(RefusalCode::NotFound, "no such job here"));
        };
        // The rights that were checked are those of the kind: a copy job that removes would go round them.
        if items.iter().any(|item| kind_of(&item.action) != job.kind) {
            return Ok(refuse(RefusalCode::NotAllowed, "an item does not belong in a job of this kind"));
        }
        let stored = step.txn.put_job_items(&job, first, items)?;
        if stored == record.spec.items && record.items_stored != stored {
            if let Some(halt) = self.own_guard(step, &record.spec)? {
                step.txn.remove_job(&job)?;
                return Ok(refuse(RefusalCode::Held, &format!("held by the guard of this device: {halt}")));
            }
            self.start_job(step, job)?;
        }
        Ok(Response::JobAccepted { items: stored })
    }

    /// The device that would delete asks its own guards, against its own index.
    fn own_guard(&self, step: &Step<'_>, spec: &JobSpec) -> Result<Option<Halt>, CoreError> {
        let tree = step.txn.tree(self.me, spec.target.location)?;
        let items = step.txn.job_items(&spec.key, 0, spec.items as usize)?;
        let mut staying = BTreeSet::new();
        let going: BTreeSet<&EntryPath> =
            items.iter().filter(|i| matches!(i.action, Action::Remove { .. })).map(|item| &item.path).collect();
        let mut files = 0;
        step.txn.each_entry(tree, &spec.target.dir, &mut |row| {
            let kind = row.state.present().map(|entry| &entry.kind);
            if let Some(EntryKind::File(_) | EntryKind::Symlink { .. }) = kind {
                files += 1;
            }
            if let Some(EntryKind::File(file)) = kind
                && spec.target.dir.relative(&row.path).is_some_and(|path| !going.contains(&path))
            {
                staying.insert(file.content);
            }
            ControlFlow::Continue(())
        })?;
        let below = |path: &EntryPath| {
            let Ok(full) = spec.target.dir.join(path) else { return 0 };
            let mut count = 0;
            let dir = DirPath::below_top(full);
            let counted = step.txn.each_entry(tree, &dir, &mut |row| {
                count += u64::from(row.state.present().is_some_and(|e| matches!(e.kind, EntryKind::File(_))));
                ControlFlow::Continue(())
            });
            if counted.is_ok() { count } else { u64::MAX }
        };
        let own = OwnSide {
            side: spec.key.side,
            files,
            approved: spec.approved,
            files_below: &below,
            stays: &|content| staying.contains(content),
        };
        Ok(self.config.guards.check_items(&items, &own).err())
    }
}
