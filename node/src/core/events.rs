//! What happens, told as it happens: plain data that leaves with the step that decided it, after its commit. Nothing
//! is guessed afterwards from a status, and nothing depends on anybody listening.

use serde::Serialize;
use tidegate_protocol::file_sync::{GenerationTotals, ItemOutcome, JobKey, JobProgress, SkipReason, Verification};
use tidegate_protocol::id::{ConduitId, DeviceId, Label, LocationId};
use tidegate_protocol::library_sync::Fact;
use tidegate_storage::store::JobRecord;

use super::io::Output;
use super::{Core, CoreError, Step};

/// Shortest time between two words about the progress of one job, in milliseconds: four a second.
const PROGRESS_MS: u64 = 250;

/// Items of one job that are told one by one.
const ITEMS_TOLD_MAX: u32 = 1_000;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event")]
pub enum Event {
    /// A member is connected.
    #[serde(rename = "device.online")]
    DeviceOnline {
        /// Its name.
        device: Label,
    },
    /// A member is not connected any more.
    #[serde(rename = "device.offline")]
    DeviceOffline {
        /// Its name.
        device: Label,
    },
    /// A device was paired.
    #[serde(rename = "device.paired")]
    DevicePaired {
        /// Its name.
        device: Label,
    },
    /// A device is admitted, and has not been met here since.
    #[serde(rename = "device.pending")]
    DevicePending {
        /// Its name.
        device: Label,
    },
    /// A device is no member any more.
    #[serde(rename = "device.revoked")]
    DeviceRevoked {
        /// Its name.
        device: Label,
    },
    /// A device has signed a newer state of its index.
    #[serde(rename = "library.head")]
    Head {
        /// Its name.
        device: Label,
        /// The last change in that state.
        sequence: u64,
    },
    /// This replica holds all that a device has signed.
    #[serde(rename = "library.caught_up")]
    CaughtUp {
        /// Its name.
        device: Label,
        /// The last change in that state.
        sequence: u64,
    },
    /// What a device, location or conduit is to be was changed, here or elsewhere.
    #[serde(rename = "config.changed")]
    ConfigChanged {
        /// `device`, `location` or `conduit`; `library` when all that a device says was loaded anew.
        what: &'static str,
        /// Its name.
        name: Label,
        /// The device that says so.
        by: Label,
    },
    /// The watcher of an own location has lost events, or is gone: everything is looked at.
    #[serde(rename = "location.watcher_lost")]
    WatcherLost {
        /// Its name.
        location: Label,
    },
    /// The file system of an own location has no room for what a job was to put there.
    #[serde(rename = "storage.low")]
    StorageLow {
        /// Its name.
        location: Label,
    },
    /// An own location stands otherwise than before: `present`, `missing` or `replaced`.
    #[serde(rename = "location.state")]
    Location {
        /// Its name.
        location: Label,
        /// How its root stands.
        state: &'static str,
    },
    /// A full scan of an own location is over.
    #[serde(rename = "location.scan")]
    Scanned {
        /// Its name.
        location: Label,
        /// Why it did not see everything.
        failure: Option<String>,
    },
    /// A generation began.
    #[serde(rename = "generation.opened")]
    Opened {
        /// Of which conduit.
        conduit: Label,
        /// Its number.
        generation: u64,
    },
    /// A generation is over.
    #[serde(rename = "generation.closed")]
    Closed {
        /// Of which conduit.
        conduit: Label,
        /// Its number.
        generation: u64,
        /// Whether it is proven.
        verified: bool,
        /// What the resolver found left, if it is not.
        remaining: u64,
        /// Sums.
        totals: GenerationTotals,
    },
    /// A guard holds a plan.
    #[serde(rename = "safety.stopped")]
    Stopped {
        /// Of which conduit.
        conduit: Label,
        /// The plan that waits for approval.
        plan: String,
        /// Why.
        why: Vec<String>,
    },
    /// A plan lists conflicts.
    #[serde(rename = "conflict.opened")]
    Conflicts {
        /// Of which conduit.
        conduit: Label,
        /// In which generation.
        generation: u64,
        /// How many.
        conflicts: u64,
    },
    /// A conflict is settled: nothing of it is left.
    #[serde(rename = "conflict.resolved")]
    Resolved {
        /// `conduit:number`.
        conflict: String,
        /// Where it was, escaped for display.
        path: String,
    },
    /// A plan can be looked at, and named.
    #[serde(rename = "plan.ready")]
    PlanReady {
        /// Of which conduit.
        conduit: Label,
        /// Its name.
        plan: String,
        /// Items that put something.
        copies: u64,
        /// Items that remove something.
        deletes: u64,
    },
    /// A plan that was named is not the plan any more.
    #[serde(rename = "plan.stale")]
    PlanStale {
        /// Of which conduit.
        conduit: Label,
        /// Its name.
        plan: String,
    },
    /// An item was done; told of the first thousand of a job.
    #[serde(rename = "item.done")]
    ItemDone(ItemTold),
    /// An item was not done because something failed; told of the first thousand of a job.
    #[serde(rename = "item.failed")]
    ItemFailed(ItemTold),
    /// An item was left as it was on purpose; told of the first thousand of a job.
    #[serde(rename = "item.skipped")]
    ItemSkipped(ItemTold),
    /// A job began.
    #[serde(rename = "job.started")]
    JobStarted {
        /// Its name.
        job: String,
        /// Of which conduit.
        conduit: Label,
        /// Items in all.
        items: u64,
        /// Bytes in all.
        bytes: u64,
    },
    /// A job is further; at most four times a second.
    #[serde(rename = "job.progress")]
    JobProgress {
        /// Its name.
        job: String,
        /// Of which conduit.
        conduit: Label,
        /// How far.
        progress: JobProgress,
    },
    /// A job is over.
    #[serde(rename = "job.finished")]
    JobFinished {
        /// Its name.
        job: String,
        /// Of which conduit.
        conduit: Label,
        /// What it came to.
        progress: JobProgress,
    },
    /// Both disks were read again.
    #[serde(rename = "generation.verified")]
    Audited {
        /// Of which conduit.
        conduit: Label,
        /// Files that hold what the index says.
        sound: u64,
        /// Files that do not.
        found: u64,
    },
}

/// One item that has an outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ItemTold {
    /// Of which job.
    pub job: String,
    /// Of which conduit.
    pub conduit: Label,
    /// As in [`super::command::ItemView`].
    pub op: &'static str,
    /// Below the conduit's root, escaped for display.
    pub path: String,
    /// Why it was not done.
    pub why: Option<String>,
}

impl Event {
    /// Its kind, as people filter by it.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::DeviceOnline { .. } => "device.online",
            Self::DeviceOffline { .. } => "device.offline",
            Self::DevicePaired { .. } => "device.paired",
            Self::DevicePending { .. } => "device.pending",
            Self::DeviceRevoked { .. } => "device.revoked",
            Self::Head { .. } => "library.head",
            Self::CaughtUp { .. } => "library.caught_up",
            Self::ConfigChanged { .. } => "config.changed",
            Self::WatcherLost { .. } => "location.watcher_lost",
            Self::StorageLow { .. } => "storage.low",
            Self::Resolved { .. } => "conflict.resolved",
            Self::PlanReady { .. } => "plan.ready",
            Self::PlanStale { .. } => "plan.stale",
            Self::ItemDone(_) => "item.done",
            Self::ItemFailed(_) => "item.failed",
            Self::ItemSkipped(_) => "item.skipped",
            Self::Location { .. } => "location.state",
            Self::Scanned { .. } => "location.scan",
            Self::Opened { .. } => "generation.opened",
            Self::Closed { .. } => "generation.closed",
            Self::Stopped { .. } => "safety.stopped",
            Self::Conflicts { .. } => "conflict.opened",
            Self::JobStarted { .. } => "job.started",
            Self::JobProgress { .. } => "job.progress",
            Self::JobFinished { .. } => "job.finished",
            Self::Audited { .. } => "generation.verified",
        }
    }
}

impl Step<'_> {
    /// Tells what happened in this step.
    pub(super) fn say(&mut self, event: Event) {
        self.out.push(Output::Event { at_ms: self.now.wall_ms, event: Box::new(event) });
    }

    fn conduit_label(&self, id: ConduitId) -> Result<Label, CoreError> {
        let conduit = self.txn.conduit(id)?;
        Ok(conduit.map_or_else(|| Label::lossy(&id.short()), |conduit| conduit.settings.name.value))
    }
}

impl Step<'_> {
    /// Tells that a fact was stated that decides what a device, location or conduit is to be, and that a conflict is
    /// settled.
    pub(super) fn say_fact(&mut self, fact: &Fact, by: &Label) -> Result<(), CoreError> {
        let (what, name) = match fact {
            Fact::Device(device) => ("device", device.name.value.clone()),
            Fact::Location(location) => ("location", location.name.clone()),
            Fact::Conduit(conduit) => ("conduit", conduit.settings.name.value.clone()),
            Fact::Conflict(met) => {
                if met.settled_ms.is_some() {
                    let conflict = format!("{}:{}", self.conduit_label(met.conduit)?, met.number);
                    self.say(Event::Resolved { conflict, path: met.conflict.path.to_string() });
                }
                return Ok(());
            }
            Fact::Generation(_) | Fact::Ruling(_) | Fact::Spent(_) => return Ok(()),
        };
        self.say(Event::ConfigChanged { what, name, by: by.clone() });
        Ok(())
    }
}

impl Core {
    /// Tells what became of items of a job: of the first thousand, so that one job does not push everything else
    /// out of the stream.
    pub(super) fn say_items(
        &self,
        step: &mut Step<'_>,
        record: &JobRecord,
        outcomes: &[(u32, ItemOutcome)],
    ) -> Result<(), CoreError> {
        let key = record.spec.key;
        let is_full = |(_, outcome): &(u32, ItemOutcome)| *outcome == ItemOutcome::Skipped(SkipReason::NoSpace);
        if key.device == self.me && outcomes.iter().any(is_full) {
            self.say_location(step, record.spec.target.location, |location| Event::StorageLow { location })?;
        }
        let told = || outcomes.iter().filter(|(index, _)| *index < ITEMS_TOLD_MAX);
        let numbers = || told().map(|(index, _)| *index);
        let (Some(first), Some(last)) = (numbers().min(), numbers().max()) else { return Ok(()) };
        let items = step.txn.job_items(&key, first, (last - first + 1) as usize)?;
        let conduit = step.conduit_label(key.conduit)?;
        for (index, outcome) in told() {
            let Some(item) = items.get((index - first) as usize) else { continue };
            let (op, path) = (super::views::op_word(&item.action), item.path.to_string());
            let item = |why| ItemTold { job: key.to_string(), conduit: conduit.clone(), op, path, why };
            step.say(match outcome {
                ItemOutcome::Done => Event::ItemDone(item(None)),
                ItemOutcome::Skipped(reason) if is_failure(reason) => Event::ItemFailed(item(Some(reason.to_string()))),
                ItemOutcome::Skipped(reason) => Event::ItemSkipped(item(Some(reason.to_string()))),
            });
        }
        Ok(())
    }

    pub(super) fn say_device(
        &self,
        step: &mut Step<'_>,
        device: DeviceId,
        event: impl FnOnce(Label) -> Event,
    ) -> Result<(), CoreError> {
        let device = self.device_label(step, device)?;
        step.say(event(device));
        Ok(())
    }

    pub(super) fn say_location(
        &self,
        step: &mut Step<'_>,
        id: LocationId,
        event: impl FnOnce(Label) -> Event,
    ) -> Result<(), CoreError> {
        if let Some(location) = step.txn.location(self.me, id)? {
            step.say(event(location.name));
        }
        Ok(())
    }

    pub(super) fn say_conduit(
        &self,
        step: &mut Step<'_>,
        id: ConduitId,
        event: impl FnOnce(Label) -> Event,
    ) -> Result<(), CoreError> {
        let conduit = step.conduit_label(id)?;
        step.say(event(conduit));
        Ok(())
    }

    /// Tells of a job's progress, unless that was done a moment ago.
    pub(super) fn say_progress(
        &mut self,
        step: &mut Step<'_>,
        job: JobKey,
        progress: JobProgress,
    ) -> Result<(), CoreError> {
        let now_ms = step.now.monotonic_ms;
        let last = self.told.get(&job).copied();
        if last.is_some_and(|at_ms| now_ms < at_ms + PROGRESS_MS) {
            return Ok(());
        }
        self.told.insert(job, now_ms);
        self.say_conduit(step, job.conduit, |conduit| Event::JobProgress { job: job.to_string(), conduit, progress })
    }

    pub(super) fn say_job_over(
        &mut self,
        step: &mut Step<'_>,
        job: JobKey,
        progress: JobProgress,
    ) -> Result<(), CoreError> {
        self.told.remove(&job);
        self.say_conduit(step, job.conduit, |conduit| Event::JobFinished { job: job.to_string(), conduit, progress })
    }

    pub(super) fn say_closed(
        &self,
        step: &mut Step<'_>,
        conduit: ConduitId,
        generation: u64,
        verification: Verification,
        totals: GenerationTotals,
    ) -> Result<(), CoreError> {
        let (verified, remaining) = match verification {
            Verification::Verified => (true, 0),
            Verification::Failed { remaining } => (false, remaining),
            Verification::Unverified | Verification::WaitingWatcher | Verification::WaitingLibrarySync => (false, 0),
        };
        self.say_conduit(step, conduit, |conduit| Event::Closed { conduit, generation, verified, remaining, totals })
    }
}

/// Whether something went wrong, rather than that something was left alone on purpose.
const fn is_failure(reason: &SkipReason) -> bool {
    match reason {
        SkipReason::WrongContent
        | SkipReason::PermissionDenied
        | SkipReason::NoSpace
        | SkipReason::CopyFailed
        | SkipReason::Unreachable
        | SkipReason::Io(_) => true,
        SkipReason::TargetChanged
        | SkipReason::SourceChanged
        | SkipReason::SourceGone
        | SkipReason::BadName
        | SkipReason::DirNotEmpty
        | SkipReason::NotAllowed
        | SkipReason::Cancelled => false,
    }
}
