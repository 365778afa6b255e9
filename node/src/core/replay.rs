//! `gen replay`: the plan of a generation is made again from what was kept of the index it came from, by the law that made it,
//! and the two are compared.
//!
//! The law is asked by a job, as it may take a while; this room finds what was kept. It needs no gate: nothing is
//! read but the past, and nothing comes of it but an answer.

use tidegate_protocol::file_sync::{Conduit, Replay};
use tidegate_protocol::limits::REPLAY_ROWS_MAX;

use super::command::{Fault, FaultCode};
use super::dispatch::GENERATIONS_KEPT;
use super::errands::ReplayWork;
use super::io::{Output, Ticket};
use super::past::ReplayView;
use super::{Core, CoreError, Step};

impl Core {
    pub(super) fn on_replay(
        &mut self,
        step: &mut Step<'_>,
        ticket: Ticket,
        name: &str,
        number: Option<u64>,
    ) -> Result<(), CoreError> {
        let found = match self.conduit_named(step, name)? {
            Ok(conduit) => self.replay_work(step, ticket, &conduit, number)?,
            Err(fault) => Err(fault),
        };
        step.out.push(match found {
            Ok(work) => Output::Replay(Box::new(work)),
            Err(fault) => Output::Reply { ticket, reply: Err(fault) },
        });
        Ok(())
    }

    fn replay_work(
        &self,
        step: &Step<'_>,
        ticket: Ticket,
        conduit: &Conduit,
        number: Option<u64>,
    ) -> Result<Result<ReplayWork, Fault>, CoreError> {
        let name = &conduit.settings.name.value;
        let fault = |code, message: String, why: &str, next: &str| Err(Fault::new(code, message, why, &[next]));
        if conduit.coordinator() != self.me {
            let device = self.device_label(step, conduit.coordinator())?;
            let message = format!("{name} is replayed on {device}; nothing was changed");
            let next = format!("on {device}: tidegate gen replay {name}");
            return Ok(fault(
                FaultCode::Refused,
                message,
                "history is kept by the device that runs the conduit",
                &next,
            ));
        }
        let generation = match number {
            Some(number) => step.txn.generation(conduit.id, number)?,
            None => step.txn.generations(conduit.id, 1)?.pop(),
        };
        let history = format!("tidegate history {name}");
        let Some(generation) = generation else {
            let message = format!("{name} has no such generation here; nothing was changed");
            let why = "history is kept by the device that runs the conduit";
            return Ok(fault(FaultCode::NoSuchName, message, why, &history));
        };
        let cannot = format!("generation {} of {name} cannot be replayed; nothing was changed", generation.number);
        let inputs = step.txn.generation_inputs(conduit.id, generation.number)?;
        let plan = step.txn.plan(&generation.plan)?.map(|stored| stored.plan);
        let (Some(inputs), Some(plan)) = (inputs, plan) else {
            let why = if generation.number + GENERATIONS_KEPT <= step.txn.generation_seen(conduit.id)? {
                format!("what decided a run is kept for the last {GENERATIONS_KEPT} runs, and it is older")
            } else {
                format!("what decided it is not kept, as that was more than {REPLAY_ROWS_MAX} rows")
            };
            return Ok(fault(FaultCode::NoSuchName, cannot, &why, &history));
        };
        let mut heads = Vec::new();
        for head in &plan.heads {
            heads.push((self.device_label(step, head.device)?, head.sequence.0));
        }
        let view = ReplayView {
            conduit: name.clone(),
            generation: generation.number,
            plan: plan.id.short(),
            source: self.root_label(step, &conduit.source)?,
            target: self.root_label(step, &conduit.target)?,
            heads,
            rows: (0, 0, 0),
            found: Replay::Identical,
        };
        Ok(Ok(ReplayWork { ticket, inputs, plan, view }))
    }
}
