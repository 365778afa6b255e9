//! The coordinator's side of jobs: offering them, handing items over, following them to their end.
//!
//! A job on this device is handed to [`super::applying`] directly; one on another device goes by requests that
//! may be repeated at will: the other side answers with how much it has, and that is where this side goes on.

use tidegate_protocol::codec;
use tidegate_protocol::file_sync::{Conduit, ItemOutcome, JobKey, JobKind, JobState, Root, Side, SkipReason};
use tidegate_protocol::id::{ConduitId, DeviceId};
use tidegate_protocol::limits::{FRAME_BYTES_MAX, ITEMS_BYTES_MAX, ITEMS_PER_FRAME_MAX};
use tidegate_protocol::path::EntryPath;
use tidegate_protocol::wire::{JobReport, Refusal, RefusalCode, Request, Response};
use tidegate_storage::store::JobRecord;

use super::command::{Fault, FaultCode, Reply, Started};
use super::file_sync::ItemSkipped;
use super::{Asked, Core, CoreError, Step};
use crate::env::NetworkError;

/// Pause before an unanswered request about a job is repeated, in milliseconds.
const AGAIN_MS: u64 = 1_000;
/// The first such pause after an offer that came before its conduit was heard of there, in milliseconds; it doubles up to
/// the other one. The row is on its way most of the time.
const UNHEARD_MS: u64 = 50;
/// Generations of a conduit whose items are kept for `gen show`.
pub(super) const GENERATIONS_KEPT: u64 = 100;

/// Bytes of a plan or an explanation that is sent to another device; the rest of the frame is its envelope.
const SHOWN_BYTES_MAX: usize = FRAME_BYTES_MAX - 64;

/// Both roots, from the point of view of the device that changes.
pub(super) struct Ends<'a> {
    pub(super) target: &'a Root,
    pub(super) source: &'a Root,
}

impl<'a> Ends<'a> {
    /// The ends as seen from `side` of a conduit.
    pub(super) const fn of(conduit: &'a Conduit, side: Side) -> Self {
        match side {
            Side::Source => Self { target: &conduit.source, source: &conduit.target },
            Side::Target => Self { target: &conduit.target, source: &conduit.source },
        }
    }
}

/// How far the hand-over of one job to another device is.
#[derive(Debug, Clone)]
pub(super) struct Dispatch {
    stage: Stage,
    /// A request is out.
    asking: bool,
    again_ms: u64,
    /// Offers that came too early.
    unheard: u32,
    /// Outcomes received so far.
    outcomes: u32,
    pub(super) current: Vec<EntryPath>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Offer,
    Items { next: u32 },
    Follow,
}

impl Dispatch {
    const fn new() -> Self {
        Self { stage: Stage::Offer, asking: false, again_ms: 0, unheard: 0, outcomes: 0, current: Vec::new() }
    }

    /// The other device is not connected any more: begin again from the offer, which costs one round trip.
    pub(super) const fn lost(&mut self, now_ms: u64) {
        self.stage = Stage::Offer;
        self.asking = false;
        self.again_ms = now_ms;
    }

    /// The other device knows no such job, or not yet its conduit: offer it again.
    fn unheard(&mut self, now_ms: u64) {
        self.lost(now_ms + UNHEARD_MS.saturating_mul(1 << self.unheard.min(16)).min(AGAIN_MS));
        self.unheard += 1;
    }
}

impl Core {
    /// Sends out the jobs of one kind of a generation; if there are none, the phase is over at once.
    ///
    /// The source's disk comes first: a conflict copy that it takes from the target is still at the old path
    /// then, before the target's own job sets that path aside.
    pub(super) fn dispatch(
        &mut self,
        step: &mut Step<'_>,
        conduit: ConduitId,
        number: u64,
        kind: JobKind,
    ) -> Result<(), CoreError> {
        let mut open: Vec<JobRecord> = step.jobs_of(conduit, number)?;
        open.retain(|record| record.spec.key.kind == kind && !is_over(record.state));
        self.skip_clashing(step, conduit, &mut open)?;
        let first = open.iter().map(|record| record.spec.key.side).min();
        for record in open.into_iter().filter(|record| Some(record.spec.key.side) == first) {
            let key = record.spec.key;
            if key.device == self.me {
                self.start_job(step, key)?;
            } else {
                let mut dispatch = Dispatch::new();
                dispatch.outcomes = record.progress.items_done as u32;
                self.service.dispatches.insert(key, dispatch);
            }
        }
        self.check_phase(step, conduit, number, kind)
    }

    /// If every job of a kind is over, the generation goes on.
    pub(super) fn check_phase(
        &mut self,
        step: &mut Step<'_>,
        conduit: ConduitId,
        number: u64,
        kind: JobKind,
    ) -> Result<(), CoreError> {
        let phase = self.service.open.get(&conduit).map(|open| (open.generation.number, open.generation.phase));
        let expected = match kind {
            JobKind::Copy => tidegate_protocol::file_sync::Phase::Copying,
            JobKind::Delete => tidegate_protocol::file_sync::Phase::Deleting,
        };
        if phase != Some((number, expected)) {
            return Ok(());
        }
        let mut jobs = step.jobs_of(conduit, number)?;
        jobs.retain(|record| record.spec.key.kind == kind && !is_over(record.state));
        if jobs.is_empty() {
            return self.on_jobs_over(step, conduit, number, kind);
        }
        let begun = |job: &JobKey| self.service.dispatches.contains_key(job) || self.applying.is_running(job);
        let waits = |record: &JobRecord| record.state == JobState::Waiting && !begun(&record.spec.key);
        // The other side's turn.
        if jobs.iter().all(waits) { self.dispatch(step, conduit, number, kind) } else { Ok(()) }
    }

    /// Asks what is due of the devices that have our jobs.
    pub(super) fn tend_service(&mut self, step: &mut Step<'_>) -> Result<(), CoreError> {
        let now = step.now.monotonic_ms;
        for key in self.service.dispatches.keys().copied().collect::<Vec<_>>() {
            if !self.library.members.contains(&key.device) {
                // Revoked since: what it has not done, it will not do for this library.
                self.service.dispatches.remove(&key);
                self.skip_rest(step, key, &SkipReason::NotAllowed)?;
                self.check_phase(step, key.conduit, key.generation, key.kind)?;
                continue;
            }
            let Some(dispatch) = self.service.dispatches.get_mut(&key) else { continue };
            let reachable = self.library.peers.get(&key.device).is_some_and(|peer| peer.greeted);
            if dispatch.asking || dispatch.again_ms > now || !reachable {
                continue;
            }
            dispatch.asking = true;
            let (stage, outcomes) = (dispatch.stage, dispatch.outcomes);
            let Some(record) = step.txn.job(&key)? else { continue };
            let request = match stage {
                Stage::Offer => Request::JobOffer(record.spec),
                Stage::Items { next } => {
                    let mut items = step.txn.job_items(&key, next, ITEMS_PER_FRAME_MAX)?;
                    let mut bytes = 0;
                    let fits = items.iter().take_while(|item| {
                        bytes += tidegate_protocol::codec::encode(item).len();
                        bytes <= ITEMS_BYTES_MAX
                    });
                    let fits = fits.count().max(1);
                    items.truncate(fits);
                    Request::JobItems { job: key, first: next, items }
                }
                Stage::Follow => Request::JobStatus { job: key, outcomes_from: outcomes },
            };
            self.ask(step, key.device, request, Asked::Job(key));
        }
        let due = self.service.dispatches.values().filter(|dispatch| !dispatch.asking);
        self.service.wake_ms = due.map(|dispatch| dispatch.again_ms).filter(|at| *at > now).min();
        Ok(())
    }

    /// The other device has answered about a job.
    pub(super) fn on_job_answer(
        &mut self,
        step: &mut Step<'_>,
        key: JobKey,
        result: Result<Response, NetworkError>,
    ) -> Result<(), CoreError> {
        let now = step.now.monotonic_ms;
        let Some(dispatch) = self.service.dispatches.get_mut(&key) else { return Ok(()) };
        dispatch.asking = false;
        let Some(record) = step.txn.job(&key)? else { return Ok(()) };
        match result {
            Ok(Response::JobAccepted { items }) => {
                dispatch.stage = if items >= record.spec.items { Stage::Follow } else { Stage::Items { next: items } };
                Ok(())
            }
            Ok(Response::JobStatus(report)) if report.job == key => self.on_report(step, report),
            Ok(Response::Refused(refusal)) => self.on_refused(step, key, &refusal),
            Ok(_) | Err(_) => {
                dispatch.lost(now + AGAIN_MS);
                Ok(())
            }
        }
    }

    fn on_report(&mut self, step: &mut Step<'_>, report: JobReport) -> Result<(), CoreError> {
        let key = report.job;
        let Some(dispatch) = self.service.dispatches.get_mut(&key) else { return Ok(()) };
        let Some(mut record) = step.txn.job(&key)? else { return Ok(()) };
        let first = dispatch.outcomes;
        let room = (record.spec.items - first.min(record.spec.items)) as usize;
        let outcomes: Vec<(u32, ItemOutcome)> = (first..).zip(report.outcomes.into_iter().take(room)).collect();
        dispatch.outcomes = first + outcomes.len() as u32;
        dispatch.current = report.current;
        let complete = dispatch.outcomes == record.spec.items;
        record.progress.items_skipped += outcomes.iter().filter(|(_, o)| o.skipped().is_some()).count() as u64;
        record.progress.items_done = u64::from(dispatch.outcomes);
        record.progress.bytes_done = report.progress.bytes_done;
        record.progress.bytes_reused = report.progress.bytes_reused;
        self.say_items(step, &record, &outcomes)?;
        step.txn.put_job_outcomes(&key, outcomes)?;
        let over = complete && matches!(report.state, JobState::Ended | JobState::Cancelled);
        record.state = match report.state {
            // Not over here before the last outcome is here.
            JobState::Ended | JobState::Cancelled if !over => JobState::Running,
            state => state,
        };
        step.txn.put_job(&record)?;
        self.say_progress(step, key, record.progress)?;
        if let Some(open) = self.service.open.get_mut(&key.conduit) {
            open.rate.note(step.now.monotonic_ms, record.progress.bytes_done);
        }
        if over {
            self.say_job_over(step, key, record.progress)?;
            self.service.dispatches.remove(&key);
            self.check_phase(step, key.conduit, key.generation, key.kind)?;
        }
        Ok(())
    }

    /// The other device will not do it: every item is recorded as skipped, and the generation goes on.
    fn on_refused(&mut self, step: &mut Step<'_>, key: JobKey, refusal: &Refusal) -> Result<(), CoreError> {
        let reason = match refusal.code {
            RefusalCode::NotFound => {
                if let Some(dispatch) = self.service.dispatches.get_mut(&key) {
                    dispatch.unheard(step.now.monotonic_ms);
                }
                return Ok(());
            }
            RefusalCode::NotAllowed => SkipReason::NotAllowed,
            RefusalCode::Version
            | RefusalCode::Library
            | RefusalCode::Fenced
            | RefusalCode::Held
            | RefusalCode::NotCaughtUp
            | RefusalCode::PlanStale
            | RefusalCode::Busy
            | RefusalCode::Disabled
            | RefusalCode::Malformed
            | RefusalCode::Internal => SkipReason::Io(refusal.why.clone()),
        };
        tracing::warn!(job = %key, %refusal, "a job was refused");
        self.service.dispatches.remove(&key);
        self.skip_rest(step, key, &reason)?;
        self.check_phase(step, key.conduit, key.generation, key.kind)
    }

    /// Records a reason for every item without an outcome, and ends the job.
    pub(super) fn skip_rest(&mut self, step: &mut Step<'_>, key: JobKey, reason: &SkipReason) -> Result<(), CoreError> {
        let Some(mut record) = step.txn.job(&key)? else { return Ok(()) };
        let known = step.txn.job_outcomes(&key, 0, record.spec.items as usize)?;
        let open = (0..record.spec.items).filter(|index| known.get(*index as usize).is_none_or(Option::is_none));
        let outcomes: Vec<(u32, ItemOutcome)> =
            open.map(|index| (index, ItemOutcome::Skipped(reason.clone()))).collect();
        record.progress.items_done += outcomes.len() as u64;
        record.progress.items_skipped += outcomes.len() as u64;
        self.say_items(step, &record, &outcomes)?;
        step.txn.put_job_outcomes(&key, outcomes)?;
        record.state = if *reason == SkipReason::Cancelled { JobState::Cancelled } else { JobState::Ended };
        Ok(step.txn.put_job(&record)?)
    }

    /// A generation is closed: items of those long past go; their records stay as rows.
    pub(super) fn forget_old_jobs(
        &mut self,
        step: &mut Step<'_>,
        conduit: ConduitId,
        number: u64,
    ) -> Result<(), CoreError> {
        let Some(old) = number.checked_sub(GENERATIONS_KEPT) else { return Ok(()) };
        step.txn.forget_deciding(conduit, old)?;
        if let Some(plan) = step.txn.generation(conduit, old)?.map(|generation| generation.plan) {
            self.forget_plan(step, conduit, &plan)?;
        }
        for record in step.jobs_of(conduit, old)? {
            step.txn.remove_job(&record.spec.key)?;
        }
        Ok(())
    }

    /// Coordinator of a conduit, if it is another device that is connected.
    pub(super) fn remote_coordinator(
        &self,
        conduit: &tidegate_protocol::file_sync::Conduit,
    ) -> Result<Option<DeviceId>, Fault> {
        let device = conduit.coordinator();
        if device == self.me {
            return Ok(None);
        }
        if self.library.peers.get(&device).is_some_and(|peer| peer.greeted) {
            return Ok(Some(device));
        }
        Err(Fault::new(
            FaultCode::Unreachable,
            "the device that runs this conduit is not connected; nothing was changed",
            format!("the source's device ({}) resolves and dispatches, and it is offline", device.short()),
            &["tidegate device list"],
        ))
    }
}

const fn is_over(state: JobState) -> bool {
    match state {
        JobState::Ended | JobState::Cancelled => true,
        JobState::Waiting | JobState::Running | JobState::Paused => false,
    }
}

/// The answer of a coordinator to another device.
pub(super) fn coordinated(reply: Result<Reply, Fault>) -> Response {
    match reply {
        Ok(Reply::Started(Started { generation: generation @ Some(_), .. })) => Response::Coordinated { generation },
        // Nothing to do says what was left out, too.
        Ok(shown @ (Reply::Plan(_) | Reply::Why(_) | Reply::Started(_))) => {
            let bytes = codec::encode(&shown);
            if bytes.len() > SHOWN_BYTES_MAX {
                let why = "it is too large to be sent; it can be seen on the device that runs the conduit";
                return Response::Refused(Refusal::new(RefusalCode::NotAllowed, why));
            }
            Response::Shown(bytes)
        }
        Ok(_) => Response::Coordinated { generation: None },
        Err(fault) => {
            let code = match fault.code {
                FaultCode::NoSuchName | FaultCode::NameTaken => RefusalCode::NotFound,
                FaultCode::NotCaughtUp | FaultCode::RootMissing | FaultCode::Unreachable => RefusalCode::NotCaughtUp,
                FaultCode::SafetyStop => RefusalCode::Held,
                FaultCode::PlanStale => RefusalCode::PlanStale,
                FaultCode::AlreadyRunning => RefusalCode::Busy,
                FaultCode::ConduitDisabled => RefusalCode::Disabled,
                FaultCode::Refused | FaultCode::ConduitRule => RefusalCode::NotAllowed,
                FaultCode::Usage => RefusalCode::Malformed,
                FaultCode::Storage | FaultCode::Internal => RefusalCode::Internal,
            };
            Response::Refused(Refusal::new(code, format!("{}: {}", fault.message, fault.why)))
        }
    }
}

/// What a coordinator's refusal means to the person who asked here.
pub(super) fn fault_of(refusal: &Refusal) -> Fault {
    let code = match refusal.code {
        RefusalCode::NotFound => FaultCode::NoSuchName,
        RefusalCode::NotAllowed | RefusalCode::Library => FaultCode::Refused,
        RefusalCode::Held => FaultCode::SafetyStop,
        RefusalCode::NotCaughtUp => FaultCode::NotCaughtUp,
        RefusalCode::PlanStale => FaultCode::PlanStale,
        RefusalCode::Busy => FaultCode::AlreadyRunning,
        RefusalCode::Disabled => FaultCode::ConduitDisabled,
        RefusalCode::Malformed => FaultCode::Usage,
        RefusalCode::Version | RefusalCode::Fenced | RefusalCode::Internal => FaultCode::Internal,
    };
    Fault::new(
        code,
        "the device that runs this conduit refused; nothing was changed",
        refusal.why.clone(),
        &["on that device: tidegate status"],
    )
}
