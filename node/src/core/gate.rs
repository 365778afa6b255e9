//! Asking both ends, and opening the gate.
//!
//! An [`Attempt`] collects fresh evidence from the owners of a conduit's ends until
//! `tidegate_protocol::library_sync::gate::open` grants the token, or its time is over. The token leaves at
//! once with a wish to resolve, in the same step and so over the same state of the replica.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_protocol::file_sync::Conduit;
use tidegate_protocol::id::{ConduitId, DeviceId, Epoch, LocationId, Nonce, Sequence};
use tidegate_protocol::library_sync::gate;
use tidegate_protocol::library_sync::{GateClosed, GateReason, Head, RootState, SignedHead};
use tidegate_protocol::limits::ANSWER_MS_MAX;
use tidegate_protocol::path::EntryPath;
use tidegate_protocol::wire::{Request, Response};
use tidegate_storage::store::AuthorState;

use super::clash::Clash;
use super::evidence::owners;
use super::file_sync::Purpose;
use super::io::{Output, ResolveFacts, Resolved, Ticket};
use super::{Asked, Core, CoreError, Step};
use crate::env::{NetworkError, Now};

/// Pause before an owner that gave no usable evidence is asked again, in milliseconds.
const ASK_AGAIN_MS: u64 = 100;

/// The same for an owner whose location is away or unknown to it, which moments do not change.
const ASK_LATER_MS: u64 = 2_000;
/// How long an owner holds its answer back while it settles, in milliseconds: less than an ask may take.
const SETTLE_ANSWER_MS: u64 = ANSWER_MS_MAX / 4;
/// How long a node that has just started waits to be told of its own past before it tells of itself, in
/// milliseconds: some round trips. Two that wait for each other both go on then.
const SURE_ANSWER_MS: u64 = 500;
/// Highest generation that is believed of another device: far beyond any, and never the last number there is.
const GENERATION_CLAIM_MAX: u64 = u64::MAX / 2;

/// All attempts at the moment, and the questions of others that wait for quiet.
#[derive(Default)]
pub(super) struct Gate {
    pub(super) attempts: BTreeMap<u64, Attempt>,
    next: u64,
    questions: Vec<Question>,
    wake_ms: Option<u64>,
}

/// One attempt to open the gate for a conduit.
pub(super) struct Attempt {
    pub(super) conduit: ConduitId,
    pub(super) purpose: Purpose,
    began: Now,
    /// When to give up; `None` for never.
    until_ms: Option<u64>,
    pub(super) evidence: BTreeMap<DeviceId, Evidence>,
    asking: BTreeMap<DeviceId, u64>,
    again_ms: BTreeMap<DeviceId, u64>,
    /// Own locations: the barriers that evidence about the own disk waits for.
    barriers: Option<Vec<(LocationId, u64)>>,
    /// When those barriers were asked for: nothing is known of what was changed later.
    own_asked_ms: u64,
    pub(super) own_ms: Option<u64>,
    /// The wish to resolve that is out.
    pub(super) resolving: Option<Ticket>,
    pub(super) closed: Option<GateClosed>,
    /// Owners that had seen a newer generation than this device when they were asked last.
    pub(super) newer: BTreeSet<DeviceId>,
}

/// A head that an owner signed over our own nonce.
pub(super) struct Evidence {
    pub(super) at_ms: u64,
    pub(super) head: Head,
    pub(super) offset_ms: i64,
    /// How far the offset may be off, and so how little times of the two ends say about each other.
    doubt_ms: u64,
    /// Paths of the locations asked about that are in constant use.
    pub(super) busy: Vec<(LocationId, EntryPath)>,
}

/// A question of another device that waits until the own disk is quiet.
struct Question {
    ticket: Ticket,
    nonce: Nonce,
    conduit: Option<ConduitId>,
    barriers: Vec<(LocationId, u64)>,
    /// Until when it waits for somebody to tell whether the own numbers can be trusted.
    sure_ms: u64,
    until_ms: u64,
}

/// An outstanding ask for heads.
#[derive(Debug, Clone)]
pub(super) struct HeadsAsked {
    pub(super) device: DeviceId,
    pub(super) nonce: Nonce,
    pub(super) attempt: Option<u64>,
    pub(super) asked: Now,
    /// The own state that the question tells of.
    pub(super) tells: Option<(Epoch, Sequence)>,
}

impl Gate {
    pub(super) fn next_wake(&self) -> Option<u64> {
        self.wake_ms
    }

    pub(super) fn forget_peer(&mut self, device: DeviceId) {
        for attempt in self.attempts.values_mut() {
            attempt.evidence.remove(&device);
            attempt.asking.remove(&device);
        }
    }

    /// A number under which owners are asked.
    pub(super) const fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// The attempt that works on a conduit, if any.
    pub(super) fn of(&self, conduit: ConduitId) -> Option<&Attempt> {
        self.attempts.values().find(|attempt| attempt.conduit == conduit)
    }
}

impl Core {
    /// Begins an attempt; `wait_ms` of `None` never gives up.
    pub(super) fn attempt(&mut self, step: &Step<'_>, conduit: ConduitId, purpose: Purpose, wait_ms: Option<u64>) {
        if matches!(purpose, Purpose::Sync(_)) {
            self.bulk.forget(conduit);
        }
        let number = self.gate.number();
        let attempt = Attempt {
            conduit,
            purpose,
            began: step.now,
            until_ms: wait_ms.map(|wait_ms| step.now.monotonic_ms.saturating_add(wait_ms)),
            evidence: BTreeMap::new(),
            asking: BTreeMap::new(),
            again_ms: BTreeMap::new(),
            barriers: None,
            own_asked_ms: 0,
            own_ms: None,
            resolving: None,
            closed: None,
            newer: BTreeSet::new(),
        };
        self.gate.attempts.insert(number, attempt);
    }

    /// Another device wants evidence; it gets it when the own disk has been looked at, or says why not.
    pub(super) fn on_heads_wanted(
        &mut self,
        step: &Step<'_>,
        ticket: Ticket,
        nonce: Nonce,
        locations: &[LocationId],
        conduit: Option<ConduitId>,
    ) {
        let barriers = self.locations.want_barriers(locations);
        let until_ms = step.now.monotonic_ms + SETTLE_ANSWER_MS;
        let sure_ms = step.now.monotonic_ms + SURE_ANSWER_MS;
        self.gate.questions.push(Question { ticket, nonce, conduit, barriers, sure_ms, until_ms });
    }

    pub(super) fn on_heads_answer(
        &mut self,
        step: &mut Step<'_>,
        asked: &HeadsAsked,
        result: Result<Response, NetworkError>,
    ) -> Result<(), CoreError> {
        let attempt = asked.attempt;
        if let Some(attempt) = attempt.and_then(|id| self.gate.attempts.get_mut(&id)) {
            attempt.asking.remove(&asked.device);
            attempt.again_ms.insert(asked.device, step.now.monotonic_ms + ASK_AGAIN_MS);
        }
        let Ok(Response::Heads { own, others, generation, addresses, busy }) = result else {
            if let Some(peer) = self.library.peers.get_mut(&asked.device) {
                peer.asking_failed(step.now.monotonic_ms);
            }
            return Ok(());
        };
        if let Some(told) = asked.tells {
            self.library.has_heard(asked.device, told);
        }
        self.note_addresses(step, &addresses);
        let Some(head) = self.on_heads(step, asked.device, &own, &others)? else { return Ok(()) };
        if head.nonce != Some(asked.nonce) {
            return Ok(());
        }
        // The owner read its clock somewhere between our question and its answer: halfway is the best guess.
        let halfway =
            i128::from(asked.asked.wall_ms) + i128::from(step.now.monotonic_ms - asked.asked.monotonic_ms) / 2;
        let offset_ms = (i128::from(head.wall_ms) - halfway) as i64;
        self.confirm(step, &head, offset_ms);
        self.creations.heard(attempt, &head);
        if let Some(attempt) = attempt.and_then(|id| self.gate.attempts.get_mut(&id)) {
            let conduit = attempt.conduit;
            attempt.newer.remove(&asked.device);
            let ends = step.txn.conduit(conduit)?.map(|conduit| owners(&conduit)).unwrap_or_default();
            let is_away = |id: &LocationId| head.location(*id).is_none_or(|it| it.root != RootState::Present);
            if ends.get(&asked.device).is_some_and(|locations| locations.iter().any(is_away)) {
                attempt.again_ms.insert(asked.device, step.now.monotonic_ms + ASK_LATER_MS);
            }
            let half_ms = (step.now.monotonic_ms - asked.asked.monotonic_ms) / 2;
            let doubt_ms = offset_ms.unsigned_abs() + half_ms;
            let evidence = Evidence { at_ms: step.now.monotonic_ms, head, offset_ms, doubt_ms, busy };
            attempt.evidence.insert(asked.device, evidence);
            let generation = generation.min(GENERATION_CLAIM_MAX);
            if generation > step.txn.generation_seen(conduit)? {
                attempt.newer.insert(asked.device);
                take_over_generation(step, conduit, generation)?;
            }
        }
        Ok(())
    }

    pub(super) fn on_resolved(
        &mut self,
        step: &mut Step<'_>,
        ticket: Ticket,
        result: Result<Box<Resolved>, String>,
    ) -> Result<(), CoreError> {
        let found = self.gate.attempts.iter().find(|(_, attempt)| attempt.resolving == Some(ticket)).map(|(id, _)| *id);
        let Some(attempt) = found.and_then(|id| self.gate.attempts.remove(&id)) else { return Ok(()) };
        match result {
            Ok(resolved) => self.on_plan(step, attempt, *resolved),
            Err(why) => self.unresolved(step, attempt, &why),
        }
    }

    /// Answers questions, asks owners, opens the gate or gives up.
    pub(super) fn tend_gate(&mut self, step: &mut Step<'_>) -> Result<(), CoreError> {
        self.answer_questions(step)?;
        for id in self.gate.attempts.keys().copied().collect::<Vec<_>>() {
            self.tend_attempt(step, id)?;
        }
        let questions = self.gate.questions.iter().flat_map(|question| [question.sure_ms, question.until_ms]);
        let attempts = self.gate.attempts.values().filter(|attempt| attempt.resolving.is_none());
        let stale_ms = self.config.evidence_age_ms_max / 2;
        let again = attempts.flat_map(|attempt| {
            let stale = attempt.evidence.values().map(|evidence| evidence.at_ms).chain(attempt.own_ms);
            let stale = stale.map(move |at_ms| at_ms + stale_ms);
            attempt.until_ms.into_iter().chain(attempt.again_ms.values().copied()).chain(stale)
        });
        self.gate.wake_ms = questions.chain(again).filter(|at| *at > step.now.monotonic_ms).min();
        Ok(())
    }

    fn answer_questions(&mut self, step: &mut Step<'_>) -> Result<(), CoreError> {
        let now = step.now.monotonic_ms;
        let questions = std::mem::take(&mut self.gate.questions);
        let unsure = self.is_unsure(step)?;
        for question in questions {
            let waits = unsure && now < question.sure_ms;
            if waits || (!self.locations.are_quiet(&question.barriers) && now < question.until_ms) {
                self.gate.questions.push(question);
                continue;
            }
            let own = self.answer_head(step, question.nonce)?;
            let others = step.txn.authors()?.into_iter().filter(|(device, _)| *device != self.me);
            // A device whose key somebody else uses learns of it by the proof.
            let heads = |state: &AuthorState| {
                let proof = state.fork.iter().flat_map(|(one, other)| [one, other]);
                state.rests.iter().chain(proof).cloned().collect::<Vec<_>>()
            };
            let others: Vec<SignedHead> = others.flat_map(|(_, state)| heads(&state)).collect();
            let generation = question.conduit.map_or(Ok(0), |conduit| step.txn.generation_seen(conduit))?;
            let addresses = self.known_addresses();
            let busy = |(id, _): &(LocationId, u64)| {
                let named = self.locations.busy(*id, now).into_iter();
                named.map(|path| (*id, path)).collect::<Vec<_>>()
            };
            let busy = question.barriers.iter().flat_map(busy).collect();
            let response = Response::Heads { own, others, generation, addresses, busy };
            step.out.push(Output::Respond { ticket: question.ticket, response });
        }
        Ok(())
    }

    fn tend_attempt(&mut self, step: &mut Step<'_>, id: u64) -> Result<(), CoreError> {
        let now = step.now.monotonic_ms;
        let Some(mut attempt) = self.gate.attempts.remove(&id) else { return Ok(()) };
        if attempt.resolving.is_some() {
            self.gate.attempts.insert(id, attempt);
            return Ok(());
        }
        let conduit = match step.txn.conduit(attempt.conduit)? {
            Some(conduit) if !conduit.removed.value => conduit,
            // Its author's rows are being fetched anew; a generation waits for them.
            None if matches!(attempt.purpose, Purpose::Verify(_)) => {
                self.gate.attempts.insert(id, attempt);
                return Ok(());
            }
            Some(_) | None => return self.give_up(step, attempt, None),
        };
        self.collect(step, id, &mut attempt, &conduit);
        let view = self.gate_view(step, &attempt, &conduit)?;
        match gate::open(&view) {
            Ok(synced) => {
                if let Some(clash) = Clash::of(step, &conduit)? {
                    return self.fail_attempt(step, attempt, clash.fault());
                }
                let ticket = self.ticket();
                attempt.resolving = Some(ticket);
                let baseline = step.valid_baseline(&conduit)?;
                let previous = step.agreed(conduit.id)?.map(Box::new);
                let guards = self.config.guards;
                let facts = Box::new(resolve_facts(step, &attempt, conduit.id)?);
                let (why, keep) = (attempt.purpose.question(), attempt.purpose.may_open());
                let conduit = Box::new(conduit);
                let wish = Output::Resolve { ticket, synced, conduit, baseline, previous, guards, facts, why, keep };
                step.out.push(wish);
                self.gate.attempts.insert(id, attempt);
            }
            Err(closed) => {
                self.note_waiting(step, &attempt)?;
                attempt.closed = Some(closed);
                let heard = attempt.asking.is_empty() && (attempt.barriers.is_none() || attempt.own_ms.is_some());
                let began = attempt.began.monotonic_ms;
                let over =
                    attempt.until_ms.is_some_and(|until| now >= until && (heard || now >= began + ANSWER_MS_MAX));
                // An owner that was revoked does not come back by waiting: nothing can be proven any more.
                let unauthorized = |reason: &GateReason| matches!(reason, GateReason::Unauthorized { .. });
                let hopeless = matches!(attempt.purpose, Purpose::Verify(_))
                    && attempt.closed.as_ref().is_some_and(|closed| closed.reasons.iter().any(unauthorized));
                if over || hopeless {
                    return self.give_up(step, attempt, Some(&conduit));
                }
                self.gate.attempts.insert(id, attempt);
            }
        }
        Ok(())
    }

    /// Asks every owner whose evidence is missing, old or unsettled.
    fn collect(&mut self, step: &mut Step<'_>, id: u64, attempt: &mut Attempt, conduit: &Conduit) {
        let now = step.now.monotonic_ms;
        let stale_ms = self.config.evidence_age_ms_max / 2;
        // What has just been written gets a moment to be looked at before the paths in use are named.
        let patient = now >= attempt.began.monotonic_ms + SETTLE_ANSWER_MS;
        for (device, locations) in owners(conduit) {
            if device == self.me {
                let fresh = attempt.own_ms.is_some_and(|at| now < at + stale_ms);
                match &attempt.barriers {
                    Some(barriers)
                        if self.locations.are_quiet(barriers)
                            || (patient && self.locations.are_named(barriers, now)) =>
                    {
                        // An own disk that took long to come to rest is asked again, as another owner would be: what
                        // changed since the question may not have been hinted yet. A scan that stands in for the
                        // watcher is an answer whenever it ends.
                        let in_time = now < attempt.own_asked_ms + ANSWER_MS_MAX;
                        if attempt.own_ms.is_none() && (in_time || !self.locations.are_watched(barriers)) {
                            attempt.own_ms = Some(now);
                        } else if !fresh {
                            self.ask_own_disk(attempt, &locations, now);
                        }
                    }
                    Some(_) => attempt.own_ms = None,
                    None => self.ask_own_disk(attempt, &locations, now),
                }
                continue;
            }
            let settled = attempt.evidence.get(&device).is_some_and(|evidence| {
                now < evidence.at_ms + stale_ms && locations.iter().all(|l| evidence.is_settled(*l))
            });
            let due = attempt.again_ms.get(&device).is_none_or(|at| *at <= now);
            let greeted = self.library.peers.get(&device).is_some_and(|peer| peer.greeted);
            let known = settled && !attempt.newer.contains(&device);
            if known || !due || !greeted || attempt.asking.contains_key(&device) {
                continue;
            }
            attempt.asking.insert(device, now);
            let nonce = self.draw.nonce();
            let about = HeadsAsked { device, nonce, attempt: Some(id), asked: step.now, tells: None };
            let request = Request::Heads { nonce, locations, conduit: Some(conduit.id), own: None };
            self.ask(step, device, request, Asked::Heads(about));
        }
    }
}

impl Core {
    /// Asks the own watchers for everything that was done until now.
    fn ask_own_disk(&mut self, attempt: &mut Attempt, locations: &[LocationId], now: u64) {
        attempt.own_ms = None;
        attempt.own_asked_ms = now;
        attempt.barriers = Some(self.locations.want_barriers(locations));
    }
}

/// An owner has seen a generation of which this device knows nothing: its own past is lost, and what it took for
/// agreed is older than what has happened since. The owner is asked again once that is taken in.
fn take_over_generation(step: &mut Step<'_>, conduit: ConduitId, newer: u64) -> Result<(), CoreError> {
    tracing::warn!(conduit = %conduit.short(), newer, "an end has seen a generation that is not known here");
    step.txn.see_generation(conduit, newer)?;
    Ok(step.txn.set_baseline(conduit, None)?)
}

/// What a resolve is told besides rows and definition. The doubt about clocks is what the evidence leaves open:
/// the offset that was measured, and half the time that the answer took.
fn resolve_facts(step: &Step<'_>, attempt: &Attempt, conduit: ConduitId) -> Result<ResolveFacts, CoreError> {
    let labels = step.txn.devices()?.into_iter().map(|device| (device.id, device.name.value)).collect();
    Ok(ResolveFacts {
        rulings: step.txn.rulings(conduit)?,
        labels,
        now_ms: step.now.wall_ms,
        clock_doubt_ms: attempt.evidence.values().map(|evidence| evidence.doubt_ms).max().unwrap_or(0),
    })
}
