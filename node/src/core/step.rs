//! One step: the moment, the transaction and what will leave after its commit; with the reads and writes that
//! several rooms share.

use ::core::net::SocketAddr;
use std::sync::Arc;

use tidegate_protocol::codec;
use tidegate_protocol::file_sync::{Action, Baseline, Conduit, Item, ItemOutcome, JobKind, Plan, PlanId, SkipReason};
use tidegate_protocol::id::{ConduitId, DeviceId, Epoch, Label, LibraryId, LocationId};
use tidegate_protocol::index::EntryState;
use tidegate_protocol::library_sync::Fact;
use tidegate_protocol::path::EntryPath;
use tidegate_protocol::time::Stamp;
use tidegate_storage::disk::RootIdentity;
use tidegate_storage::store::{AuthorState, Change, JobRecord, Store, Txn};

use super::CoreError;
use super::file_sync::ItemSkipped;
use super::io::Output;
use super::opening::installed_bytes;
use crate::env::Now;

/// Items read at a time when a whole job is walked.
const PAGE: usize = 4096;
/// Epochs of another device that are remembered after it left them.
const EPOCHS_KEPT: usize = 16;

/// What a step works with.
pub(super) struct Step<'a> {
    pub(super) now: Now,
    pub(super) txn: Txn,
    pub(super) out: &'a mut Vec<Output>,
    /// Own rows were written, so a new head is due before the commit.
    pub(super) own_rows_changed: bool,
}

impl<'a> Step<'a> {
    /// Begins a step: one moment, one transaction.
    pub(super) fn begin(now: Now, store: &Store, out: &'a mut Vec<Output>) -> Result<Self, CoreError> {
        let mut txn = store.write()?;
        txn.set_wall_ms(now.wall_ms);
        Ok(Self { now, txn, out, own_rows_changed: false })
    }
}

impl Step<'_> {
    /// States own changes.
    pub(super) fn put(&mut self, changes: Vec<Change>) -> Result<(), CoreError> {
        let before = self.own_author()?.upto;
        let facts: Vec<Fact> = changes.iter().filter_map(Change::as_fact).cloned().collect();
        let is_news = self.txn.put_own(changes)? != before;
        self.own_rows_changed |= is_news;
        if is_news && !facts.is_empty() {
            let me = self.txn.device();
            let by = self.txn.device_fact(me)?.map_or_else(|| Label::lossy(&me.short()), |own| own.name.value);
            for fact in &facts {
                self.say_fact(fact, &by)?;
            }
        }
        Ok(())
    }

    /// Moves past a stamp from elsewhere.
    pub(super) fn witness(&mut self, stamp: Stamp) -> Result<(), CoreError> {
        let witnessed = self.txn.last_stamp()?.witness(stamp);
        Ok(self.txn.persist_stamp(witnessed)?)
    }

    /// The library; founded before the first step.
    pub(super) fn library(&self) -> Result<LibraryId, CoreError> {
        Ok(self.txn.library()?.expect("the core founds a library when it begins"))
    }

    /// State of the own log; begun before the first step.
    pub(super) fn own_author(&self) -> Result<Arc<AuthorState>, CoreError> {
        Ok(self.txn.author(self.txn.device())?.expect("the core begins its log when it begins"))
    }

    /// The row of one path of any location.
    pub(super) fn entry(
        &self,
        owner: DeviceId,
        location: LocationId,
        path: &EntryPath,
    ) -> Result<Option<EntryState>, CoreError> {
        let tree = self.txn.tree(owner, location)?;
        Ok(self.txn.entry(tree, path)?.map(|row| row.state))
    }

    /// Jobs of one generation.
    pub(super) fn jobs_of(&self, conduit: ConduitId, generation: u64) -> Result<Vec<JobRecord>, CoreError> {
        let mut jobs = self.txn.jobs()?;
        jobs.retain(|job| job.spec.key.conduit == conduit && job.spec.key.generation == generation);
        Ok(jobs)
    }

    /// Visits every skipped item of a generation's jobs of one kind.
    pub(super) fn each_skip(
        &self,
        conduit: ConduitId,
        generation: u64,
        kind: JobKind,
        visit: &mut dyn FnMut(&Item, &SkipReason),
    ) -> Result<(), CoreError> {
        for record in self.jobs_of(conduit, generation)?.iter().filter(|record| record.spec.key.kind == kind) {
            if record.progress.items_skipped == 0 {
                continue;
            }
            let mut first = 0;
            while first < record.items_stored {
                let items = self.txn.job_items(&record.spec.key, first, PAGE)?;
                let outcomes = self.txn.job_outcomes(&record.spec.key, first, PAGE)?;
                for (item, outcome) in items.iter().zip(outcomes) {
                    if let Some(reason) = outcome.as_ref().and_then(ItemSkipped::skipped) {
                        visit(item, reason);
                    }
                }
                first += items.len().max(1) as u32;
            }
        }
        Ok(())
    }

    /// Items of a job that only recorded another version: no disk was written for them.
    pub(super) fn adopted(&self, record: &JobRecord) -> Result<u64, CoreError> {
        if record.spec.key.kind != JobKind::Copy {
            return Ok(0);
        }
        let (mut first, mut adopted) = (0, 0);
        while first < record.items_stored {
            let items = self.txn.job_items(&record.spec.key, first, PAGE)?;
            let outcomes = self.txn.job_outcomes(&record.spec.key, first, PAGE)?;
            let done = items.iter().zip(outcomes).filter(|(_, outcome)| *outcome == Some(ItemOutcome::Done));
            adopted += done.filter(|(item, _)| matches!(item.action, Action::Adopt { .. })).count() as u64;
            first += items.len().max(1) as u32;
        }
        Ok(adopted)
    }

    /// Bytes of content that a job's items have installed, exactly.
    pub(super) fn installed_bytes(&self, record: &JobRecord) -> Result<u64, CoreError> {
        if record.progress.items_skipped == 0 {
            return Ok(record.spec.bytes);
        }
        let (mut first, mut bytes) = (0, 0);
        while first < record.items_stored {
            let items = self.txn.job_items(&record.spec.key, first, PAGE)?;
            let outcomes = self.txn.job_outcomes(&record.spec.key, first, PAGE)?;
            let done = items.iter().zip(outcomes).filter(|(_, outcome)| *outcome == Some(ItemOutcome::Done));
            bytes += done.map(|(item, _)| installed_bytes(item)).sum::<u64>();
            first += items.len().max(1) as u32;
        }
        Ok(bytes)
    }

    /// The baseline, if it is about the epochs that the replica follows now.
    pub(super) fn valid_baseline(&self, conduit: &Conduit) -> Result<Option<Baseline>, CoreError> {
        let Some(baseline) = self.txn.baseline(conduit.id)? else { return Ok(None) };
        for head in &baseline.heads {
            if self.txn.author(head.device)?.is_none_or(|state| state.epoch != head.epoch) {
                return Ok(None);
            }
        }
        Ok(Some(baseline))
    }

    /// Where the root of an own location is, and what it was when it was added.
    pub(super) fn root(&self, id: LocationId) -> Result<Option<(std::path::PathBuf, RootIdentity)>, CoreError> {
        use std::os::unix::ffi::OsStringExt as _;
        let Some((path, file_system, inode)) = self.setting::<(Vec<u8>, u64, u64)>(&format!("root/{id}"))? else {
            return Ok(None);
        };
        let path = std::ffi::OsString::from_vec(path).into();
        Ok(Some((path, RootIdentity { file_system, inode })))
    }

    /// Remembers the root of an own location.
    pub(super) fn set_root(
        &mut self,
        id: LocationId,
        path: &std::path::Path,
        identity: RootIdentity,
    ) -> Result<(), CoreError> {
        use std::os::unix::ffi::OsStrExt as _;
        let value = (path.as_os_str().as_bytes(), identity.file_system, identity.inode);
        Ok(self.txn.set_setting(&format!("root/{id}"), &codec::encode(&value))?)
    }

    /// The held plan of a conduit.
    pub(super) fn held(&self, conduit: ConduitId) -> Result<Option<PlanId>, CoreError> {
        self.setting(&format!("held/{conduit}"))
    }

    /// Sets or clears the held plan.
    pub(super) fn set_held(&mut self, conduit: ConduitId, plan: Option<PlanId>) -> Result<(), CoreError> {
        let key = format!("held/{conduit}");
        match plan {
            Some(plan) => self.txn.set_setting(&key, &codec::encode(&plan))?,
            None if self.txn.setting(&key)?.is_some() => drop(self.txn.remove_setting(&key)?),
            None => {}
        }
        Ok(())
    }

    /// The plan that was last shown.
    pub(super) fn shown(&self, conduit: ConduitId) -> Result<Option<PlanId>, CoreError> {
        self.setting(&format!("shown/{conduit}"))
    }

    /// Remembers the plan that was last shown.
    pub(super) fn set_shown(&mut self, conduit: ConduitId, plan: PlanId) -> Result<(), CoreError> {
        Ok(self.txn.set_setting(&format!("shown/{conduit}"), &codec::encode(&plan))?)
    }

    /// Where a device was last reached.
    pub(super) fn address(&self, device: DeviceId) -> Result<Option<SocketAddr>, CoreError> {
        self.setting(&format!("address/{device}"))
    }

    /// Remembers where a device was reached.
    pub(super) fn set_address(&mut self, device: DeviceId, address: SocketAddr) -> Result<(), CoreError> {
        if self.address(device)? != Some(address) {
            self.txn.set_setting(&format!("address/{device}"), &codec::encode(&address))?;
        }
        Ok(())
    }

    /// The empty plan at the baseline's heads.
    pub(super) fn agreed(&self, conduit: ConduitId) -> Result<Option<Plan>, CoreError> {
        self.setting(&format!("agreed/{conduit}"))
    }

    /// Remembers the empty plan at the baseline's heads.
    pub(super) fn set_agreed(&mut self, plan: &Plan) -> Result<(), CoreError> {
        Ok(self.txn.set_setting(&format!("agreed/{}", plan.conduit), &codec::encode(plan))?)
    }

    /// When a conduit was last verified, in wall milliseconds.
    pub(super) fn verified_ms(&self, conduit: ConduitId) -> Result<Option<u64>, CoreError> {
        self.setting(&format!("verified/{conduit}"))
    }

    /// A conduit was verified now.
    pub(super) fn set_verified(&mut self, conduit: ConduitId) -> Result<(), CoreError> {
        Ok(self.txn.set_setting(&format!("verified/{conduit}"), &codec::encode(&self.now.wall_ms))?)
    }

    /// Drops the baselines of every conduit that touches a device: its index began anew.
    pub(super) fn drop_baselines_of(&mut self, device: DeviceId) -> Result<(), CoreError> {
        for conduit in self.txn.conduits()? {
            if conduit.source.device == device || conduit.target.device == device {
                self.txn.set_baseline(conduit.id, None)?;
                self.txn.drop_base(conduit.id)?;
            }
        }
        Ok(())
    }

    /// A device has left an epoch for another one. False if that one had been left before: no device goes back.
    pub(super) fn leave_epoch(&mut self, device: DeviceId, left: Epoch, entered: Epoch) -> Result<bool, CoreError> {
        let key = format!("left/{device}");
        let mut epochs: Vec<Epoch> = self.setting(&key)?.unwrap_or_default();
        let returns = epochs.contains(&entered);
        epochs.retain(|epoch| *epoch != left);
        epochs.push(left);
        epochs.drain(..epochs.len().saturating_sub(EPOCHS_KEPT));
        self.txn.set_setting(&key, &codec::encode(&epochs))?;
        Ok(!returns)
    }

    /// The stamp with which the present epoch of this device began.
    pub(super) fn epoch_began(&self) -> Result<Option<Stamp>, CoreError> {
        self.setting("began")
    }

    /// Remembers it.
    pub(super) fn set_epoch_began(&mut self, stamp: Stamp) -> Result<(), CoreError> {
        Ok(self.txn.set_setting("began", &codec::encode(&stamp))?)
    }

    /// Stamps between which this device was off, in its present epoch, oldest first.
    pub(super) fn gaps(&self) -> Result<Vec<(Stamp, Stamp)>, CoreError> {
        Ok(self.setting("gaps")?.unwrap_or_default())
    }

    /// Remembers them.
    pub(super) fn set_gaps(&mut self, gaps: &[(Stamp, Stamp)]) -> Result<(), CoreError> {
        Ok(self.txn.set_setting("gaps", &codec::encode(&gaps))?)
    }

    /// The name that the config gave this device at the last start.
    pub(super) fn configured_name(&self) -> Result<Option<Label>, CoreError> {
        self.setting("name")
    }

    /// Remembers the name that the config gives this device.
    pub(super) fn set_configured_name(&mut self, name: &Label) -> Result<(), CoreError> {
        Ok(self.txn.set_setting("name", &codec::encode(name))?)
    }

    fn setting<T: serde::de::DeserializeOwned>(&self, key: &str) -> Result<Option<T>, CoreError> {
        Ok(self.txn.setting(key)?.and_then(|bytes| codec::decode_stored(&bytes).ok()))
    }
}
