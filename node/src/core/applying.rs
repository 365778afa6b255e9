//! The side of the device whose disk changes: accepting jobs, running them leg by leg, reporting.
//!
//! A job is accepted only from the conduit's coordinator, under a grant, and not if anything newer of the
//! conduit is known here (fencing). Its items are re-checked against the own index when a leg is made; the
//! disk is re-checked by the job at the moment of each act. The replica holds items and outcomes, so after a
//! crash a job goes on with whatever has no outcome.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use tidegate_protocol::file_sync::{Action, ItemOutcome, JobKey, JobKind, JobSpec, JobState, SkipReason};
use tidegate_protocol::hash::ContentHash;
use tidegate_protocol::id::{ConduitId, DeviceId, LocationId};
use tidegate_protocol::index::{EntryKind, Version};
use tidegate_protocol::limits::OUTCOMES_PER_REPORT_MAX;
use tidegate_protocol::path::EntryPath;
use tidegate_protocol::wire::{JobControl, JobReport, Refusal, RefusalCode, Response};
use tidegate_storage::store::JobRecord;

use super::events::Event;
use super::file_sync::ItemSkipped;
use super::io::{JobStop, Output, Ticket, Work, Written};
use super::{Core, CoreError, Step, legs};

/// How long an answer to `JobStatus` is held back for news, in milliseconds.
const REPORT_WAIT_MS: u64 = 200;
/// Pause before a job that could not reach its source is tried again, in milliseconds.
const RETRY_MS: u64 = 1_000;

/// What is known of the moment only.
#[derive(Default)]
pub(super) struct Applying {
    running: BTreeMap<JobKey, Running>,
    /// Questions about jobs that wait for news.
    waiting: Vec<Waiting>,
    /// Contents that this device may hold. Only ever grows while the node runs: a filter, not a fact.
    pub(super) contents: Contents,
    /// Versions of tombstones for what jobs removed, until the scan sees the removal.
    pub(super) removed: BTreeMap<(LocationId, EntryPath), Version>,
}

/// A job that this device works on.
struct Running {
    /// A leg is at work.
    leg: bool,
    /// The first item of the next leg.
    next: u32,
    retry_ms: Option<u64>,
    current: Vec<EntryPath>,
    /// The location that changes.
    location: LocationId,
    /// Paths of the leg at work whose outcome is still to come, by item and all together.
    expected: BTreeMap<u32, Vec<EntryPath>>,
    paths: BTreeMap<EntryPath, u32>,
    /// What it rests on was withdrawn, and it has been told to stop.
    withdrawn: bool,
}

impl Running {
    const fn new(location: LocationId) -> Self {
        Self {
            leg: false,
            next: 0,
            retry_ms: None,
            current: Vec::new(),
            location,
            expected: BTreeMap::new(),
            paths: BTreeMap::new(),
            withdrawn: false,
        }
    }

    /// A leg goes to work.
    fn expect_all(&mut self, work: &[Work]) {
        self.leg = true;
        for work in work {
            let paths: Vec<EntryPath> = work.from.iter().chain([&work.path]).cloned().collect();
            self.paths.extend(paths.iter().map(|path| (path.clone(), work.index)));
            self.expected.insert(work.index, paths);
        }
    }

    /// A leg is over: what it did not tell of it did not do.
    fn forget(&mut self) {
        self.expected.clear();
        self.paths.clear();
    }

    /// Outcomes of these items are known; answers where they acted.
    fn told(&mut self, items: &[u32]) -> Vec<EntryPath> {
        let paths: Vec<EntryPath> = items.iter().filter_map(|index| self.expected.remove(index)).flatten().collect();
        for path in &paths {
            self.paths.remove(path);
        }
        paths
    }
}

struct Waiting {
    ticket: Ticket,
    job: JobKey,
    outcomes_from: u32,
    until_ms: u64,
}

/// What a job reported.
pub(super) struct Moved {
    pub(super) outcomes: Vec<(u32, ItemOutcome)>,
    pub(super) announced: Vec<Written>,
    pub(super) bytes_done: u64,
    pub(super) bytes_reused: u64,
    pub(super) current: Vec<EntryPath>,
}

/// A set of 64-bit prefixes of content hashes.
#[derive(Default)]
pub(super) struct Contents(BTreeSet<u64>);

impl Contents {
    pub(super) fn add(&mut self, content: ContentHash) {
        self.0.insert(prefix(content));
    }

    pub(super) fn may_hold(&self, content: ContentHash) -> bool {
        self.0.contains(&prefix(content))
    }
}

/// The version that comes with `found`, if an action leaves that behind at its own path, or at the path that it empties.
/// A file has to be the same in mode and time as well: somebody may have changed just those while the job waited, and
/// one version must not name two states.
fn version_made(action: &Action, at_its_path: bool, found: Option<&EntryKind>) -> Option<Version> {
    let is_made = |made: EntryKind| found.is_some_and(|found| made.same_content(found));
    let (made, version) = match action {
        Action::RenameFile { gone, .. } if !at_its_path => (found.is_none(), gone),
        Action::InstallFile { file, version, .. }
        | Action::RenameFile { file, version, .. }
        | Action::SetMetadata { file, version } => (found == Some(&EntryKind::File(*file)), version),
        Action::MakeDirectory { version } => (is_made(EntryKind::Directory { residue: false }), version),
        Action::InstallSymlink { target, version } => (is_made(EntryKind::Symlink { target: target.clone() }), version),
        Action::Remove { version } | Action::RemoveDirectory { version } => (found.is_none(), version),
        // The tombstone keeps the version that the entry had: nobody deleted it.
        Action::Evict { .. } => return found.is_none().then_some(Version::NONE),
        Action::Adopt { .. } | Action::Respell { .. } => return None,
    };
    made.then(|| version.clone())
}

fn prefix(content: ContentHash) -> u64 {
    u64::from_be_bytes(*content.as_bytes().first_chunk().expect("a hash is longer than eight bytes"))
}

impl Applying {
    pub(super) fn next_wake(&self) -> Option<u64> {
        let waiting = self.waiting.iter().map(|waiting| waiting.until_ms);
        waiting.chain(self.running.values().filter_map(|running| running.retry_ms)).min()
    }

    pub(super) fn is_running(&self, job: &JobKey) -> bool {
        self.running.contains_key(job)
    }

    /// Nothing is at work on this device's disk.
    pub(super) fn is_idle(&self) -> bool {
        self.running.is_empty()
    }

    /// Whether a leg at work is about to tell what it wrote at a path: to look there before would take it for a
    /// change of somebody else.
    pub(super) fn is_expected(&self, location: LocationId, path: &EntryPath) -> bool {
        let mut at_work = self.running.values().filter(|running| running.leg && running.location == location);
        at_work.any(|running| running.paths.contains_key(path))
    }

    /// The job at work that has still to tell of a path, and which of its items that is.
    fn untold(&self, location: LocationId, path: &EntryPath) -> Option<(JobKey, u32)> {
        let mut here = self.running.iter().filter(|(_, running)| running.location == location);
        here.find_map(|(job, running)| Some((*job, *running.paths.get(path)?)))
    }

    pub(super) fn current(&self, job: &JobKey) -> Vec<EntryPath> {
        self.running.get(job).map(|running| running.current.clone()).unwrap_or_default()
    }
}

impl Core {
    /// Takes up every job of this device that was not over when the node stopped.
    pub(super) fn begin_applying(&mut self, step: &mut Step<'_>) -> Result<(), CoreError> {
        self.learn_contents(step)?;
        for record in step.txn.jobs()? {
            let key = record.spec.key;
            let unfinished = matches!(record.state, JobState::Running | JobState::Waiting);
            let local = record.spec.coordinator == self.me;
            // A local job is taken up with its generation, by the service.
            if key.device == self.me && unfinished && !local && record.items_stored == record.spec.items {
                self.start_job(step, key)?;
            }
        }
        Ok(())
    }

    /// Goes through the own index once: which contents are here, and what could not be read.
    fn learn_contents(&mut self, step: &mut Step<'_>) -> Result<(), CoreError> {
        let now = step.now.monotonic_ms;
        for (id, own) in &mut self.locations.own {
            let tree = step.txn.tree(self.me, *id)?;
            step.txn.each_entry(tree, &tidegate_protocol::path::DirPath::TOP, &mut |row| {
                let kind = row.state.present().map(|entry| &entry.kind);
                if let Some(EntryKind::File(file)) = kind {
                    self.applying.contents.add(file.content);
                }
                own.unread.note(&row.path, kind, now);
                ControlFlow::Continue(())
            })?;
        }
        Ok(())
    }

    /// The version that a job at work gives a path, if what was found there is what the job makes of it. A power cut
    /// falls between an act and its report; the scan after it must not take the job's work for an edit made here.
    pub(super) fn version_at_work(
        &self,
        step: &Step<'_>,
        location: LocationId,
        path: &EntryPath,
        found: Option<&EntryKind>,
    ) -> Result<Option<Version>, CoreError> {
        let Some((job, index)) = self.applying.untold(location, path) else { return Ok(None) };
        let (Some(record), Some(item)) = (step.txn.job(&job)?, step.txn.job_items(&job, index, 1)?.pop()) else {
            return Ok(None);
        };
        let at_its_path = record.spec.target.dir.join(&item.path).is_ok_and(|own| own == *path);
        Ok(version_made(&item.action, at_its_path, found))
    }

    /// Begins, or takes up, a job whose items are all here.
    pub(super) fn start_job(&mut self, step: &mut Step<'_>, job: JobKey) -> Result<(), CoreError> {
        if self.applying.is_running(&job) {
            return Ok(());
        }
        let Some(mut record) = step.txn.job(&job)? else { return Ok(()) };
        if record.state == JobState::Paused {
            return Ok(());
        }
        record.state = JobState::Running;
        step.txn.put_job(&record)?;
        let (items, bytes) = (u64::from(record.spec.items), record.spec.bytes);
        self.say_conduit(step, job.conduit, |conduit| Event::JobStarted {
            job: job.to_string(),
            conduit,
            items,
            bytes,
        })?;
        self.applying.running.insert(job, Running::new(record.spec.target.location));
        self.next_leg(step, job)
    }

    /// Sends the next leg of a job to work; ends the job when there is none.
    fn next_leg(&mut self, step: &mut Step<'_>, job: JobKey) -> Result<(), CoreError> {
        let Some(record) = step.txn.job(&job)? else { return Ok(()) };
        loop {
            let Some(running) = self.applying.running.get_mut(&job) else { return Ok(()) };
            let first = running.next;
            if first >= record.spec.items {
                return self.end_job(step, job);
            }
            let legs::Leg { next, work, settled, adopted } = self.make_leg(step, &record.spec, first)?;
            if !adopted.is_empty() {
                step.put(adopted)?;
                self.locations.changed.insert(record.spec.target.location);
            }
            if !settled.is_empty() {
                let moved = Moved {
                    outcomes: settled,
                    announced: Vec::new(),
                    bytes_done: 0,
                    bytes_reused: 0,
                    current: Vec::new(),
                };
                self.on_job_moved(step, job, moved)?;
            }
            let Some(running) = self.applying.running.get_mut(&job) else { return Ok(()) };
            running.next = next;
            if !work.is_empty() {
                running.expect_all(&work);
                let leg = self.leg(step, &record.spec, work)?;
                step.out.push(leg);
                return Ok(());
            }
        }
    }

    /// Outcomes and progress, durable on disk by now.
    pub(super) fn on_job_moved(&mut self, step: &mut Step<'_>, job: JobKey, moved: Moved) -> Result<(), CoreError> {
        let Some(mut record) = step.txn.job(&job)? else { return Ok(()) };
        record.progress.items_done += moved.outcomes.len() as u64;
        record.progress.items_skipped += moved.outcomes.iter().filter(|(_, o)| o.skipped().is_some()).count() as u64;
        // A chunk that was counted just before a crash may be counted again: never more than there is.
        record.progress.bytes_done = (record.progress.bytes_done + moved.bytes_done).min(record.spec.bytes);
        record.progress.bytes_reused = (record.progress.bytes_reused + moved.bytes_reused).min(record.spec.bytes);
        if !moved.outcomes.is_empty() {
            step.note_trashing(&record.spec)?;
        }
        self.say_progress(step, job, record.progress)?;
        self.say_items(step, &record, &moved.outcomes)?;
        let told: Vec<u32> = moved.outcomes.iter().map(|(index, _)| *index).collect();
        step.txn.put_job_outcomes(&job, moved.outcomes)?;
        step.txn.put_job(&record)?;
        if let Some(running) = self.applying.running.get_mut(&job) {
            running.current = moved.current;
            let paths = running.told(&told);
            self.locations.look_now(step.now, record.spec.target.location, &paths);
        }
        if let Some(open) = self.service.open.get_mut(&job.conduit) {
            open.rate.note(step.now.monotonic_ms, record.progress.bytes_done);
        }
        self.note_written(step, record.spec.target.location, moved.announced)
    }

    pub(super) fn on_job_ended(
        &mut self,
        step: &mut Step<'_>,
        job: JobKey,
        stopped: Option<JobStop>,
    ) -> Result<(), CoreError> {
        let now = step.now.monotonic_ms;
        let Some(running) = self.applying.running.get_mut(&job) else { return Ok(()) };
        running.leg = false;
        running.current.clear();
        let paths: Vec<EntryPath> = running.paths.keys().cloned().collect();
        self.locations.look_now(step.now, running.location, &paths);
        let Some(record) = step.txn.job(&job)? else { return Ok(()) };
        match stopped {
            None | Some(JobStop::Paused) if record.state == JobState::Paused => {
                self.applying.running.remove(&job);
                Ok(())
            }
            None => {
                running.forget();
                self.next_leg(step, job)
            }
            // Resumed while it was stopping.
            Some(JobStop::Paused) => {
                self.applying.running.remove(&job);
                self.start_job(step, job)
            }
            Some(JobStop::Cancelled) => {
                self.applying.running.remove(&job);
                self.skip_rest(step, job, &SkipReason::Cancelled)?;
                self.clean(step, &record.spec);
                self.check_phase(step, job.conduit, job.generation, job.kind)
            }
            Some(JobStop::NoSpace) => {
                self.applying.running.remove(&job);
                self.skip_rest(step, job, &SkipReason::NoSpace)?;
                // No later job looks into this one's staging, and room is what is missing.
                self.clean(step, &record.spec);
                self.check_phase(step, job.conduit, job.generation, job.kind)
            }
            Some(JobStop::Unreachable | JobStop::RootLost) => {
                // What is untold stays so: a root that is not open yet after a start is scanned before the leg runs.
                running.next = 0;
                running.retry_ms = Some(now + RETRY_MS);
                Ok(())
            }
        }
    }

    fn end_job(&mut self, step: &mut Step<'_>, job: JobKey) -> Result<(), CoreError> {
        self.applying.running.remove(&job);
        let Some(mut record) = step.txn.job(&job)? else { return Ok(()) };
        record.progress.bytes_done = step.installed_bytes(&record)?;
        record.state = JobState::Ended;
        step.txn.put_job(&record)?;
        self.say_job_over(step, job, record.progress)?;
        self.clean(step, &record.spec);
        self.check_phase(step, job.conduit, job.generation, job.kind)
    }

    /// A root has been opened. The node may have fallen after it had stored the end of a job and before it had
    /// cleared up after it, or the disk may have forgotten that: it is done once more for what ended last.
    pub(super) fn clean_again(&self, step: &mut Step<'_>, location: LocationId) -> Result<(), CoreError> {
        let own = |record: &JobRecord| record.spec.key.device == self.me && record.spec.target.location == location;
        let jobs: Vec<JobRecord> = step.txn.jobs()?.into_iter().filter(own).collect();
        let mut newest: BTreeMap<ConduitId, u64> = BTreeMap::new();
        for record in &jobs {
            let key = record.spec.key;
            newest.entry(key.conduit).and_modify(|at| *at = key.generation.max(*at)).or_insert(key.generation);
        }
        let over = |record: &&JobRecord| matches!(record.state, JobState::Ended | JobState::Cancelled);
        for record in jobs.iter().filter(over) {
            let key = record.spec.key;
            if newest.get(&key.conduit).is_some_and(|newest| key.generation + 1 >= *newest) {
                self.clean(step, &record.spec);
            }
        }
        Ok(())
    }

    fn clean(&self, step: &mut Step<'_>, spec: &JobSpec) {
        // Old bytes of a permanent delete go only with the delete job, which is the generation's last.
        let purge = match spec.delete_mode {
            tidegate_protocol::file_sync::DeleteMode::Trash => false,
            tidegate_protocol::file_sync::DeleteMode::Permanent => spec.key.kind == JobKind::Delete,
        };
        step.out.push(Output::Clean { location: spec.target.location, job: spec.key, purge });
    }

    /// Pauses, resumes or cancels a job of this device.
    pub(super) fn control_own_job(
        &mut self,
        step: &mut Step<'_>,
        job: JobKey,
        control: JobControl,
    ) -> Result<(), CoreError> {
        let Some(mut record) = step.txn.job(&job)? else { return Ok(()) };
        if matches!(record.state, JobState::Ended | JobState::Cancelled) {
            return Ok(());
        }
        let at_work = self.applying.running.get(&job).is_some_and(|running| running.leg);
        match control {
            JobControl::Cancel if at_work => step.out.push(Output::Control { job, control }),
            // Stored at once: a pause outlives a crash, and a leg that ends meanwhile is not followed by another.
            JobControl::Pause => {
                record.state = JobState::Paused;
                step.txn.put_job(&record)?;
                if at_work {
                    step.out.push(Output::Control { job, control });
                } else {
                    self.applying.running.remove(&job);
                }
            }
            JobControl::Cancel => {
                self.applying.running.remove(&job);
                self.skip_rest(step, job, &SkipReason::Cancelled)?;
                self.clean(step, &record.spec);
                self.check_phase(step, job.conduit, job.generation, job.kind)?;
            }
            JobControl::Resume if record.state == JobState::Paused => {
                record.state = JobState::Waiting;
                step.txn.put_job(&record)?;
                // A leg that is still stopping is taken up again when it has stopped.
                if !at_work {
                    self.start_job(step, job)?;
                }
            }
            JobControl::Resume => {}
        }
        Ok(())
    }

    /// A coordinator asks how a job stands. It is told when there is news, or after a short while.
    pub(super) fn on_status_wanted(
        &mut self,
        step: &mut Step<'_>,
        ticket: Ticket,
        peer: DeviceId,
        job: JobKey,
        outcomes_from: u32,
    ) -> Result<(), CoreError> {
        if step.txn.job(&job)?.is_none_or(|record| record.spec.coordinator != peer) {
            step.out.push(Output::Respond { ticket, response: refuse(RefusalCode::NotFound, "no such job here") });
            return Ok(());
        }
        let until_ms = step.now.monotonic_ms + REPORT_WAIT_MS;
        self.applying.waiting.push(Waiting { ticket, job, outcomes_from, until_ms });
        Ok(())
    }

    /// Whether the coordinator still is a member that the location grants this to: rights are asked when a job is
    /// offered, and again for as long as it works.
    fn may_go_on(&self, step: &Step<'_>, job: &JobKey) -> Result<bool, CoreError> {
        let Some(record) = step.txn.job(job)? else { return Ok(true) };
        let spec = &record.spec;
        let own = spec.coordinator == self.me;
        Ok(own
            || (self.library.members.contains(&spec.coordinator)
                && self.allows(step, spec.coordinator, spec.target.location, job.kind.rights_needed())?))
    }

    /// Retries what waits, and answers whoever waits for news of a job.
    pub(super) fn tend_applying(&mut self, step: &mut Step<'_>) -> Result<(), CoreError> {
        let now = step.now.monotonic_ms;
        for job in self.applying.running.keys().copied().collect::<Vec<_>>() {
            if !self.may_go_on(step, &job)? {
                let told = self
                    .applying
                    .running
                    .get_mut(&job)
                    .is_none_or(|running| std::mem::replace(&mut running.withdrawn, true));
                if !told {
                    tracing::warn!(%job, "the grant or the membership that a job rests on is withdrawn; it is cancelled");
                    self.control_own_job(step, job, JobControl::Cancel)?;
                }
                continue;
            }
            let due = self.applying.running.get_mut(&job).is_some_and(|running| {
                let due = running.retry_ms.is_some_and(|at| at <= now);
                if due {
                    running.retry_ms = None;
                }
                due
            });
            if due {
                self.next_leg(step, job)?;
            }
        }
        for waiting in std::mem::take(&mut self.applying.waiting) {
            let Some(record) = step.txn.job(&waiting.job)? else {
                let response = refuse(RefusalCode::NotFound, "no such job here");
                step.out.push(Output::Respond { ticket: waiting.ticket, response });
                continue;
            };
            let over = matches!(record.state, JobState::Ended | JobState::Cancelled);
            let news = over || record.progress.items_done > u64::from(waiting.outcomes_from);
            if !news && now < waiting.until_ms {
                self.applying.waiting.push(waiting);
                continue;
            }
            let known = step.txn.job_outcomes(&waiting.job, waiting.outcomes_from, OUTCOMES_PER_REPORT_MAX)?;
            let mut bytes = 0;
            let outcomes = known.into_iter().map_while(|outcome| outcome).take_while(|outcome| {
                bytes += tidegate_protocol::codec::encode(outcome).len();
                bytes <= tidegate_protocol::limits::ITEMS_BYTES_MAX
            });
            let report = JobReport {
                job: waiting.job,
                state: record.state,
                progress: record.progress,
                outcomes: outcomes.collect(),
                current: self.applying.current(&waiting.job),
            };
            step.out.push(Output::Respond { ticket: waiting.ticket, response: Response::JobStatus(report) });
        }
        Ok(())
    }
}

pub(super) fn refuse(code: RefusalCode, why: &str) -> Response {
    Response::Refused(Refusal::new(code, why))
}
