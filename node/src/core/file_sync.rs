//! `FileSyncService`: generations, from `sync_now` to verified, on the device that coordinates.
//!
//! A generation is opened only with a plan that came through the gate. Copy jobs go out first; when every
//! copy is durable or recorded as failed, the deletes follow, without those whose content a failed copy still
//! needs. Jobs do not say whether it worked: the gate opens again, the resolver runs again, and only an empty
//! plan is verified.
//!
//! What is open is in the replica: the generation with its phase, its plan, its jobs with their outcomes.

use std::collections::BTreeMap;

use tidegate_protocol::file_sync::{
    Conduit, Generation, ItemOutcome, JobKey, JobKind, Phase, Plan, PlanId, SkipReason, Verification,
};
use tidegate_protocol::id::{ConduitId, DeviceId, LocationId};
use tidegate_protocol::path::EntryPath;

use super::clash::Clash;
use super::command::{Fault, FaultCode, Reply, Started};
use super::dispatch::Dispatch;
use super::events::Event;
use super::gate::Attempt;
use super::io::{Output, Resolved, Ticket};
use super::undo::UndoCall;
use super::{Core, CoreError, Step};
use crate::env::Now;

/// Why an attempt was begun, and so what happens with its plan.
#[derive(Debug, Clone)]
pub(super) enum Purpose {
    /// A person wants to see the plan.
    Plan(Caller),
    /// `sync_now`.
    Sync(SyncCall),
    /// A person wants to know why a path stands as it does.
    Why(Caller, EntryPath),
    /// A generation's jobs are done; was it enough?
    Verify(u64),
    /// A person wants a generation undone.
    Undo(UndoCall),
    /// What was found rotten is to be healed.
    Heal,
}

impl Purpose {
    /// The path, if any, whose fate is to be explained.
    pub(super) fn question(&self) -> Option<EntryPath> {
        match self {
            Self::Why(_, path) => Some(path.clone()),
            Self::Plan(_) | Self::Sync(_) | Self::Verify(_) | Self::Undo(_) | Self::Heal => None,
        }
    }

    /// Whether the very plan that the resolver makes may become a generation.
    pub(super) const fn may_open(&self) -> bool {
        match self {
            Self::Sync(_) | Self::Verify(_) => true,
            Self::Plan(_) | Self::Why(..) | Self::Undo(_) | Self::Heal => false,
        }
    }
}

/// One call of `sync_now`.
#[derive(Debug, Clone)]
pub(super) struct SyncCall {
    /// Who waits for the answer; nobody for a schedule.
    pub(super) caller: Option<Caller>,
    /// Only this plan will do (its short form).
    pub(super) plan: Option<String>,
    /// The plan was approved by its id.
    pub(super) approve: bool,
}

/// Who waits for an answer: here, or at another device.
#[derive(Debug, Clone, Copy)]
pub(super) enum Caller {
    /// A person at this device.
    Person(Ticket),
    /// Another device, on behalf of a person there.
    Peer(Ticket),
}

/// What is known of the moment only.
#[derive(Default)]
pub(super) struct FileSyncService {
    /// The open generation of each conduit that this device coordinates.
    pub(super) open: BTreeMap<ConduitId, Open>,
    /// Held plans, by conduit: what was shown, and why it waits.
    pub(super) held: BTreeMap<ConduitId, PlanId>,
    pub(super) dispatches: BTreeMap<JobKey, Dispatch>,
    /// Choices of people that are being written, and where.
    pub(super) putting: BTreeMap<Ticket, LocationId>,
    pub(super) wake_ms: Option<u64>,
}

/// An open generation.
pub(super) struct Open {
    pub(super) generation: Generation,
    pub(super) rate: super::progress::Rate,
}

impl FileSyncService {
    /// Whether a generation of the conduit is open here.
    pub(super) fn is_running(&self, conduit: ConduitId) -> bool {
        self.open.contains_key(&conduit)
    }

    pub(super) fn next_wake(&self) -> Option<u64> {
        self.wake_ms
    }

    pub(super) fn forget_peer(&mut self, device: DeviceId, now: Now) {
        for (job, dispatch) in &mut self.dispatches {
            if job.device == device {
                dispatch.lost(now.monotonic_ms);
            }
        }
    }
}

impl Core {
    /// Takes up every generation that was open when the node stopped.
    pub(super) fn begin_service(&mut self, step: &mut Step<'_>) -> Result<(), CoreError> {
        for conduit in step.txn.conduits()? {
            if conduit.coordinator() != self.me {
                continue;
            }
            if let Some(held) = step.held(conduit.id)? {
                self.service.held.insert(conduit.id, held);
            }
            // What changed while the node was off, and runs that were missed, become one run.
            self.schedule_now(step, conduit.id);
            let Some(generation) = step.txn.generations(conduit.id, 1)?.pop() else { continue };
            if generation.phase == Phase::Closed {
                continue;
            }
            let rate = super::progress::Rate::new(step.now.monotonic_ms);
            let (number, phase) = (generation.number, generation.phase);
            self.service.open.insert(conduit.id, Open { generation, rate });
            match phase {
                Phase::Copying => self.dispatch(step, conduit.id, number, JobKind::Copy)?,
                Phase::Deleting => self.dispatch(step, conduit.id, number, JobKind::Delete)?,
                Phase::Verifying => self.attempt(step, conduit.id, Purpose::Verify(number), None),
                Phase::Closed => {}
            }
        }
        Ok(())
    }

    /// `sync_now`: exactly one of simultaneous calls wins; the others are told that it runs.
    pub(super) fn sync_now(
        &mut self,
        step: &mut Step<'_>,
        conduit: &Conduit,
        call: SyncCall,
        wait_ms: u64,
    ) -> Result<(), CoreError> {
        let name = &conduit.settings.name.value;
        let fault = if !conduit.settings.enabled.value || conduit.settings.paused.value {
            let state = if conduit.settings.enabled.value { "paused" } else { "disabled" };
            Some(Fault::new(
                FaultCode::ConduitDisabled,
                format!("{name} is {state}; nothing was changed"),
                format!("a {state} conduit starts nothing"),
                &[&format!("tidegate conduit resume {name}")],
            ))
        } else if self.service.is_running(conduit.id) || self.is_syncing(conduit.id) {
            Some(Fault::new(
                FaultCode::AlreadyRunning,
                format!("{name} is running already; this call changed nothing"),
                "one generation of a conduit runs at a time",
                &["tidegate status", "tidegate job list"],
            ))
        } else {
            Clash::of(step, conduit)?.map(Clash::fault)
        };
        match fault {
            Some(fault) => self.answer(step, call.caller, Err(fault)),
            None => self.attempt(step, conduit.id, Purpose::Sync(call), Some(wait_ms)),
        }
        Ok(())
    }

    pub(super) fn is_syncing(&self, conduit: ConduitId) -> bool {
        let is_run = |purpose: &Purpose| {
            matches!(purpose, Purpose::Sync(_) | Purpose::Verify(_) | Purpose::Undo(_) | Purpose::Heal)
        };
        self.bulk.waits(conduit) || self.gate.attempts.values().any(|a| a.conduit == conduit && is_run(&a.purpose))
    }

    /// The resolver has answered an attempt.
    pub(super) fn on_plan(
        &mut self,
        step: &mut Step<'_>,
        attempt: Attempt,
        mut resolved: Resolved,
    ) -> Result<(), CoreError> {
        let Some(conduit) = step.txn.conduit(attempt.conduit)?.filter(|conduit| !conduit.removed.value) else {
            return self.give_up(step, attempt, None);
        };
        if let Some(clash) = Clash::of(step, &conduit)? {
            return self.fail_attempt(step, attempt, clash.fault());
        }
        match attempt.purpose {
            Purpose::Plan(caller) => {
                self.keep_plan(step, &conduit, &resolved.plan)?;
                let view = self.plan_view(step, &conduit, resolved.plan)?;
                self.answer(step, Some(caller), Ok(Reply::Plan(Box::new(view))));
                Ok(())
            }
            Purpose::Why(caller, path) => {
                let view = self.why_view(step, &conduit, &path, &mut resolved)?;
                let reply = view.map(|view| Reply::Why(Box::new(view))).ok_or_else(|| {
                    Fault::new(FaultCode::Internal, "the path was not explained", "this is a mistake in Tidegate", &[])
                });
                self.answer(step, Some(caller), reply);
                Ok(())
            }
            Purpose::Sync(call) => self.on_sync_plan(step, &conduit, &call, &resolved),
            Purpose::Verify(number) => self.on_verify_plan(step, &conduit, number, &resolved),
            Purpose::Heal => self.on_heal_plan(step, &conduit, &resolved),
            Purpose::Undo(call) => self.on_undo_plan(step, &conduit, &call, &resolved),
        }
    }

    fn on_sync_plan(
        &mut self,
        step: &mut Step<'_>,
        conduit: &Conduit,
        call: &SyncCall,
        resolved: &Resolved,
    ) -> Result<(), CoreError> {
        let plan = &resolved.plan;
        let name = conduit.settings.name.value.clone();
        let covered = self.is_covered(step, conduit, call, plan)?;
        if let Some(wanted) = call.plan.as_ref().filter(|_| !covered) {
            let fault = Fault::new(
                FaultCode::PlanStale,
                format!("{wanted} is not the plan of {name} any more; nothing was changed"),
                format!("the ends have changed since; the plan is now {}", plan.id.short()),
                &[&format!("tidegate plan {name}")],
            );
            self.answer(step, call.caller, Err(fault));
            let plan = wanted.clone();
            return self.say_conduit(step, conduit.id, |conduit| Event::PlanStale { conduit, plan });
        }
        if plan.is_empty() && plan.in_use() > 0 {
            self.answer(step, call.caller, Err(in_use_fault(conduit, plan)));
            if call.caller.is_none() {
                self.schedule_retry(step, conduit.id);
            }
            return Ok(());
        }
        if plan.is_empty() {
            self.agree(step, conduit, 0, resolved)?;
            let conflicts = plan.conflicts().len() as u64;
            let started = Started { conduit: name, generation: None, conflicts, unread: plan.unread() };
            self.answer(step, call.caller, Ok(Reply::Started(started)));
            return Ok(());
        }
        let approved = call.approve || step.txn.approval(&plan.id)?.is_some();
        if !plan.halts.is_empty() && !approved {
            self.hold(step, conduit, plan)?;
            self.answer(step, call.caller, Err(held_fault(conduit, plan)));
            return Ok(());
        }
        if self.needs_second_look(conduit, plan) {
            self.put_off(step, conduit, call.clone(), plan);
            return Ok(());
        }
        if call.approve {
            self.keep_plan(step, conduit, plan)?;
            step.txn.approve_plan(&plan.id, step.now.wall_ms)?;
        }
        let number = self.open_generation(step, conduit, plan, None)?;
        step.keep_inputs(conduit.id, number, resolved)?;
        let started = Started { conduit: name, generation: Some(number), conflicts: 0, unread: 0 };
        self.answer(step, call.caller, Ok(Reply::Started(started)));
        Ok(())
    }

    /// Whether the plan that a person names covers this one: the index may have moved on, but nothing is done
    /// that was not shown.
    fn is_covered(&self, step: &Step<'_>, conduit: &Conduit, call: &SyncCall, plan: &Plan) -> Result<bool, CoreError> {
        let Some(wanted) = &call.plan else { return Ok(true) };
        let held = if call.approve { step.held(conduit.id)? } else { None };
        let known = [held, step.shown(conduit.id)?].into_iter().flatten().find(|known| known.short() == *wanted);
        let Some(shown) = known else { return Ok(plan.id.short() == *wanted) };
        Ok(step.txn.plan(&shown)?.is_some_and(|shown| plan.is_within(&shown.plan)))
    }

    /// A guard stops a plan: it waits, by its id, for a person.
    pub(super) fn hold(&mut self, step: &mut Step<'_>, conduit: &Conduit, plan: &Plan) -> Result<(), CoreError> {
        self.keep_plan(step, conduit, plan)?;
        step.set_held(conduit.id, Some(plan.id))?;
        self.service.held.insert(conduit.id, plan.id);
        let (plan, why) = (plan.id.short(), plan.halts.iter().map(ToString::to_string).collect());
        self.say_conduit(step, conduit.id, |conduit| Event::Stopped { conduit, plan, why })
    }

    /// There is no plan, though the gate was open.
    pub(super) fn unresolved(&mut self, step: &mut Step<'_>, attempt: Attempt, why: &str) -> Result<(), CoreError> {
        let fault = Fault::new(
            FaultCode::Internal,
            "the conduit cannot be resolved; nothing was changed",
            why,
            &["tidegate conduit show NAME", "tidegate location list"],
        );
        self.fail_attempt(step, attempt, fault)
    }

    /// Ends an attempt without a plan.
    pub(super) fn fail_attempt(
        &mut self,
        step: &mut Step<'_>,
        attempt: Attempt,
        fault: Fault,
    ) -> Result<(), CoreError> {
        match attempt.purpose {
            Purpose::Plan(caller) | Purpose::Why(caller, _) => self.answer(step, Some(caller), Err(fault)),
            Purpose::Sync(call) => self.answer(step, call.caller, Err(fault)),
            // What is left is not known, and nobody asks.
            Purpose::Verify(number) => self.close_unproven(step, attempt.conduit, number)?,
            Purpose::Undo(call) => step.out.push(Output::Reply { ticket: call.ticket, reply: Err(fault) }),
            Purpose::Heal => self.not_healed(attempt.conduit, &fault),
        }
        Ok(())
    }

    /// What is left is not known: nothing that was planned counts as proven.
    fn close_unproven(&mut self, step: &mut Step<'_>, conduit: ConduitId, number: u64) -> Result<(), CoreError> {
        let jobs = step.jobs_of(conduit, number)?;
        let remaining = jobs.iter().map(|record| u64::from(record.spec.items)).sum();
        self.close(step, conduit, number, Verification::Failed { remaining }).map(drop)
    }

    /// Ends an attempt that will not get a plan.
    pub(super) fn give_up(
        &mut self,
        step: &mut Step<'_>,
        attempt: Attempt,
        conduit: Option<&Conduit>,
    ) -> Result<(), CoreError> {
        if matches!(&attempt.purpose, Purpose::Sync(call) if call.caller.is_none()) {
            self.schedule_retry(step, attempt.conduit);
        }
        let fault = match (conduit, &attempt.closed) {
            (Some(conduit), Some(closed)) => self.gate_fault(step, conduit, closed)?,
            (Some(_) | None, _) => Fault::new(
                FaultCode::NoSuchName,
                "the conduit was removed meanwhile; nothing was changed",
                "another device or command removed it",
                &["tidegate conduit list"],
            ),
        };
        self.fail_attempt(step, attempt, fault)
    }

    /// Hands an answer to whoever called.
    pub(super) fn answer(&mut self, step: &mut Step<'_>, caller: Option<Caller>, reply: Result<Reply, Fault>) {
        match caller {
            None => {
                if let Err(fault) = reply {
                    tracing::info!(%fault, why = %fault.why, "a scheduled run did not start");
                }
            }
            Some(Caller::Person(ticket)) => step.out.push(Output::Reply { ticket, reply }),
            Some(Caller::Peer(ticket)) => {
                let response = super::dispatch::coordinated(reply);
                step.out.push(Output::Respond { ticket, response });
            }
        }
    }
}

fn held_fault(conduit: &Conduit, plan: &Plan) -> Fault {
    let name = &conduit.settings.name.value;
    let why: Vec<String> = plan.halts.iter().map(ToString::to_string).collect();
    Fault::new(
        FaultCode::SafetyStop,
        format!("{name} is held; nothing was changed"),
        why.join("; "),
        &[&format!("tidegate plan {name}"), &format!("if that is what you want: tidegate approve {}", plan.id.short())],
    )
}

fn in_use_fault(conduit: &Conduit, plan: &Plan) -> Fault {
    let name = &conduit.settings.name.value;
    let paths: Vec<String> = plan.skips.iter().take(3).map(ToString::to_string).collect();
    Fault::new(
        FaultCode::NotCaughtUp,
        format!("{name} is in step but for what is in constant use; nothing was changed"),
        format!("{} waiting to be looked at for long: {}", plan.in_use(), paths.join("; ")),
        &[&format!("when it rests: tidegate sync {name}"), "or hide it by an ignore rule"],
    )
}

impl ItemSkipped for ItemOutcome {
    fn skipped(&self) -> Option<&SkipReason> {
        match self {
            Self::Done => None,
            Self::Skipped(reason) => Some(reason),
        }
    }
}

/// Reads an outcome.
pub(super) trait ItemSkipped {
    /// Why it was not done.
    fn skipped(&self) -> Option<&SkipReason>;
}
