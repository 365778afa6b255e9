//! What happens, told as it happens: plain data that leaves with the step that decided it, after its commit. Nothing
//! is guessed afterwards from a status, and nothing depends on anybody listening.

use serde::Serialize;
use tidegate_protocol::file_sync::{GenerationTotals, JobKey, JobProgress, Verification};
use tidegate_protocol::id::{ConduitId, DeviceId, Label, LocationId};

use super::io::Output;
use super::{Core, CoreError, Step};

/// Shortest time between two words about the progress of one job, in milliseconds: four a second.
const PROGRESS_MS: u64 = 250;

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

impl Event {
    /// Its kind, as people filter by it.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::DeviceOnline { .. } => "device.online",
            Self::DeviceOffline { .. } => "device.offline",
            Self::DevicePaired { .. } => "device.paired",
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

impl Core {
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
