//! `gen verify`: reading again what the index says of both disks, by the devices that hold them.
//!
//! A finding never becomes a row: a content that changed while size and time stayed is rot, and a scan would take it
//! for an edit and spread it. It is shown, and healed only when a person says so, by a generation that puts the
//! sound content of the other end in its place. What is under way is known for the moment only.

use std::collections::BTreeMap;

use tidegate_protocol::file_sync::{Conduit, Grounds, Healed, Root, Side, Unsound};
use tidegate_protocol::id::{ConduitId, DeviceId, LocationId};
use tidegate_protocol::index::{EntryKind, EntryState, Rights};
use tidegate_protocol::path::EntryPath;
use tidegate_protocol::wire::{Finding, RefusalCode, Request, Response};

use super::applying::refuse;
use super::command::{Fault, FaultCode, Reply};
use super::errands::AuditItem;
use super::events::Event;
use super::file_sync::Purpose;
use super::io::{Output, Resolved, Ticket};
use super::past::{AuditView, FoundView};
use super::{Asked, Core, CoreError, Step};
use crate::env::NetworkError;

/// Paths of one question: what is read of them takes moments, unless a file is very large.
const PATHS_MAX: usize = 256;
/// How long an answer is held back while paths are read, in milliseconds: less than an ask may take.
const ANSWER_MS: u64 = 2_000;
/// Pause before an owner that did not answer is asked again, in milliseconds.
const AGAIN_MS: u64 = 1_000;
/// Findings that are kept to be shown; all are counted.
const FOUND_MAX: usize = 10_000;

/// What is known of the moment only.
#[derive(Default)]
pub(super) struct AuditRoom {
    /// The newest audit of each conduit that this device coordinates.
    audits: BTreeMap<ConduitId, Audit>,
    /// Own disk: what is read, for whom.
    reading: BTreeMap<Ticket, Reader>,
    /// What was read for others and not fetched yet; one for each device.
    answers: BTreeMap<DeviceId, Answer>,
    wake_ms: Option<u64>,
}

enum Reader {
    Own(ConduitId),
    Peer(DeviceId),
}

/// An answer to another device that is being made, or is ready.
struct Answer {
    wanted: (ConduitId, Side, Vec<EntryPath>),
    /// The reading that makes it; an older one is for nobody any more.
    reading: Ticket,
    findings: Option<Vec<Finding>>,
    waiting: Option<(Ticket, u64)>,
}

struct Audit {
    number: Option<u64>,
    heal: bool,
    /// What is still to be read, in parts.
    todo: Vec<(Side, Vec<EntryPath>)>,
    /// The part that is being read.
    open: Option<(Side, Vec<EntryPath>)>,
    again_ms: Option<u64>,
    checked: u64,
    found: Vec<(Side, EntryPath, Finding)>,
    counts: BTreeMap<&'static str, u64>,
    state: AuditState,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum AuditState {
    Reading,
    Healing,
    Done { healed_by: Option<u64>, failure: Option<String> },
}

impl AuditRoom {
    pub(super) const fn next_wake(&self) -> Option<u64> {
        self.wake_ms
    }
}

const fn word(finding: &Finding) -> &'static str {
    match finding {
        Finding::Sound => "sound",
        Finding::Rotten { .. } => "changed while size and time stayed",
        Finding::Edited => "edited; not indexed yet",
        Finding::Gone => "gone; not indexed yet",
        Finding::Unreadable => "cannot be read",
        Finding::NotIndexed => "not in the index",
    }
}

impl Core {
    /// A person wants disks read again, or wants to know how that stands.
    pub(super) fn on_audit_command(
        &mut self,
        step: &mut Step<'_>,
        name: &str,
        begin: Option<(Option<u64>, bool)>,
    ) -> Result<Result<Reply, Fault>, CoreError> {
        let conduit = match self.conduit_named(step, name)? {
            Ok(conduit) => conduit,
            Err(fault) => return Ok(Err(fault)),
        };
        if conduit.coordinator() != self.me {
            let device = self.device_label(step, conduit.coordinator())?;
            return Ok(Err(Fault::new(
                FaultCode::Refused,
                format!("{name} is verified on {device}; nothing was changed"),
                "the device that runs a conduit asks both ends",
                &[&format!("on {device}: tidegate gen verify {name}")],
            )));
        }
        if let Some((number, heal)) = begin {
            if let Some(audit) = self.audit.audits.get(&conduit.id)
                && !matches!(audit.state, AuditState::Done { .. })
            {
                return Ok(Err(Fault::new(
                    FaultCode::AlreadyRunning,
                    format!("{name} is being verified already; this call changed nothing"),
                    "one verification of a conduit runs at a time",
                    &[],
                )));
            }
            match self.begin_audit(step, &conduit, number, heal)? {
                Ok(audit) => drop(self.audit.audits.insert(conduit.id, audit)),
                Err(fault) => return Ok(Err(fault)),
            }
        }
        let Some(audit) = self.audit.audits.get(&conduit.id) else {
            return Ok(Err(Fault::new(
                FaultCode::NoSuchName,
                format!("{name} was not verified since this node was started"),
                "what a verification found is not kept over a restart",
                &[&format!("tidegate gen verify {name}")],
            )));
        };
        Ok(Ok(Reply::Audit(Box::new(self.audit_view(step, &conduit, audit)?))))
    }

    /// The files of a generation's items, or of the whole conduit, that each end holds by the index.
    fn begin_audit(
        &self,
        step: &Step<'_>,
        conduit: &Conduit,
        number: Option<u64>,
        heal: bool,
    ) -> Result<Result<Audit, Fault>, CoreError> {
        let mut todo = Vec::new();
        if let Some(number) = number
            && step.txn.generation(conduit.id, number)?.is_none()
        {
            let name = &conduit.settings.name.value;
            return Ok(Err(Fault::new(
                FaultCode::NoSuchName,
                format!("{name} has no generation {number} here; nothing was changed"),
                "history is kept by the device that runs the conduit",
                &[&format!("tidegate history {name}")],
            )));
        }
        let named = match number {
            Some(number) => {
                let mut paths = std::collections::BTreeSet::new();
                for side in Side::BOTH {
                    paths.extend(step.done_items(conduit.id, number, side)?.into_iter().map(|item| item.path));
                }
                Some(paths)
            }
            None => None,
        };
        for (side, root) in [(Side::Source, &conduit.source), (Side::Target, &conduit.target)] {
            let mut paths = Vec::new();
            if let Some(named) = &named {
                for path in named {
                    if self.row(step, root, path)?.as_ref().is_some_and(is_file) {
                        paths.push(path.clone());
                    }
                }
            } else {
                let tree = step.txn.tree(root.device, root.location)?;
                step.txn.each_entry(tree, &root.dir, &mut |row| {
                    if is_file(&row.state) {
                        paths.extend(root.dir.relative(&row.path));
                    }
                    std::ops::ControlFlow::Continue(())
                })?;
            }
            todo.extend(paths.chunks(PATHS_MAX).map(|part| (side, part.to_vec())));
        }
        todo.reverse();
        Ok(Ok(Audit {
            number,
            heal,
            todo,
            open: None,
            again_ms: None,
            checked: 0,
            found: Vec::new(),
            counts: BTreeMap::new(),
            state: AuditState::Reading,
        }))
    }

    /// Sends out what is to be read next, and answers others.
    pub(super) fn tend_audit(&mut self, step: &mut Step<'_>) -> Result<(), CoreError> {
        let now = step.now.monotonic_ms;
        let mut wake: Vec<u64> = Vec::new();
        self.audit.answers.retain(|_, answer| {
            let Some((ticket, until_ms)) = answer.waiting else { return true };
            if answer.findings.is_none() && until_ms > now {
                wake.push(until_ms);
                return true;
            }
            answer.waiting = None;
            let findings = answer.findings.take();
            // What was told is old by then: the same question is a new one.
            let told = findings.is_some();
            step.out.push(Output::Respond { ticket, response: Response::Audited { findings } });
            !told
        });
        for id in self.audit.audits.keys().copied().collect::<Vec<_>>() {
            let Some(conduit) = step.txn.conduit(id)?.filter(|conduit| !conduit.removed.value) else {
                self.audit.audits.remove(&id);
                continue;
            };
            let Some(audit) = self.audit.audits.get_mut(&id) else { continue };
            if audit.state != AuditState::Reading {
                continue;
            }
            if audit.open.is_none() {
                let Some(next) = audit.todo.pop() else {
                    self.audited(step, &conduit)?;
                    continue;
                };
                audit.open = Some(next);
                audit.again_ms = Some(now);
            }
            match audit.again_ms {
                Some(at) if at <= now => {
                    audit.again_ms = None;
                    let part = audit.open.clone().expect("a part was just opened");
                    self.read_part(step, &conduit, part)?;
                }
                Some(at) => wake.push(at),
                None => {}
            }
        }
        self.audit.wake_ms = wake.into_iter().min();
        Ok(())
    }

    fn read_part(
        &mut self,
        step: &mut Step<'_>,
        conduit: &Conduit,
        (side, paths): (Side, Vec<EntryPath>),
    ) -> Result<(), CoreError> {
        let root = end(conduit, side);
        if root.device != self.me {
            let request = Request::Audit { conduit: conduit.id, side, paths };
            self.ask(step, root.device, request, Asked::Audit(conduit.id));
            return Ok(());
        }
        let (location, items) = self.audit_items(step, root, &paths)?;
        let ticket = self.ticket();
        self.audit.reading.insert(ticket, Reader::Own(conduit.id));
        step.out.push(Output::Audit { ticket, location, items });
        Ok(())
    }

    fn audit_items(
        &self,
        step: &Step<'_>,
        root: &Root,
        paths: &[EntryPath],
    ) -> Result<(LocationId, Vec<AuditItem>), CoreError> {
        let tree = step.txn.tree(self.me, root.location)?;
        let mut items = Vec::with_capacity(paths.len());
        for path in paths {
            let full = root.dir.join(path).unwrap_or_else(|_| path.clone());
            let row = step.txn.entry(tree, &full)?;
            let known = row.and_then(|row| match row.state.present().map(|entry| &entry.kind) {
                Some(EntryKind::File(file)) => row.mark.map(|mark| (file.content, mark)),
                Some(_) | None => None,
            });
            items.push(AuditItem { path: full, known });
        }
        Ok((root.location, items))
    }

    /// Own files were read.
    pub(super) fn on_audited(
        &mut self,
        step: &mut Step<'_>,
        ticket: Ticket,
        findings: Vec<Finding>,
    ) -> Result<(), CoreError> {
        match self.audit.reading.remove(&ticket) {
            Some(Reader::Own(conduit)) => self.note_findings(conduit, &findings),
            Some(Reader::Peer(peer)) => {
                if let Some(answer) = self.audit.answers.get_mut(&peer).filter(|answer| answer.reading == ticket) {
                    answer.findings = Some(findings);
                }
            }
            None => {}
        }
        self.tend_audit(step)
    }

    /// Another device has read a part of its disk, or is still at it.
    pub(super) fn on_audit_answer(
        &mut self,
        step: &mut Step<'_>,
        conduit: ConduitId,
        result: Result<Response, NetworkError>,
    ) {
        match result {
            Ok(Response::Audited { findings: Some(findings) }) => self.note_findings(conduit, &findings),
            Ok(Response::Audited { findings: None }) => self.ask_again(conduit, step.now.monotonic_ms),
            Ok(Response::Refused(refusal)) if refusal.code != RefusalCode::Busy => {
                if let Some(audit) = self.audit.audits.get_mut(&conduit) {
                    audit.state = AuditState::Done { healed_by: None, failure: Some(refusal.why) };
                }
            }
            Ok(_) | Err(_) => self.ask_again(conduit, step.now.monotonic_ms + AGAIN_MS),
        }
    }

    fn ask_again(&mut self, conduit: ConduitId, at_ms: u64) {
        if let Some(audit) = self.audit.audits.get_mut(&conduit) {
            audit.again_ms = Some(at_ms);
        }
    }

    fn note_findings(&mut self, conduit: ConduitId, findings: &[Finding]) {
        let Some(audit) = self.audit.audits.get_mut(&conduit) else { return };
        let Some((side, paths)) = audit.open.take() else { return };
        for (path, finding) in paths.into_iter().zip(findings) {
            audit.checked += 1;
            *audit.counts.entry(word(finding)).or_default() += 1;
            if *finding != Finding::Sound && audit.found.len() < FOUND_MAX {
                audit.found.push((side, path, finding.clone()));
            }
        }
    }

    /// A coordinator asks for files of an own end to be read again.
    pub(super) fn on_audit_wanted(
        &mut self,
        step: &mut Step<'_>,
        ticket: Ticket,
        peer: DeviceId,
        wanted: (ConduitId, Side, Vec<EntryPath>),
    ) -> Result<(), CoreError> {
        let until_ms = step.now.monotonic_ms + ANSWER_MS;
        if let Some(answer) = self.audit.answers.get_mut(&peer)
            && answer.wanted == wanted
        {
            answer.waiting = Some((ticket, until_ms));
            return Ok(());
        }
        let conduit = step.txn.conduit(wanted.0)?.filter(|conduit| !conduit.removed.value);
        let root = conduit.as_ref().filter(|conduit| conduit.coordinator() == peer).map(|c| end(c, wanted.1).clone());
        let read = Rights { read: true, write: false, delete: false };
        let allowed = match &root {
            Some(root) => root.device == self.me && self.allows(step, peer, root.location, read)?,
            None => false,
        };
        let Some(root) = root.filter(|_| allowed && wanted.2.len() <= PATHS_MAX) else {
            let response = refuse(RefusalCode::NotAllowed, "that end is not this device's to read for you");
            step.out.push(Output::Respond { ticket, response });
            return Ok(());
        };
        let (location, items) = self.audit_items(step, &root, &wanted.2)?;
        let reading = self.ticket();
        self.audit.reading.insert(reading, Reader::Peer(peer));
        step.out.push(Output::Audit { ticket: reading, location, items });
        self.audit.answers.insert(peer, Answer { wanted, reading, findings: None, waiting: Some((ticket, until_ms)) });
        Ok(())
    }

    /// Everything was read.
    fn audited(&mut self, step: &mut Step<'_>, conduit: &Conduit) -> Result<(), CoreError> {
        let Some(audit) = self.audit.audits.get_mut(&conduit.id) else { return Ok(()) };
        let rotten = audit.found.iter().any(|(_, _, finding)| matches!(finding, Finding::Rotten { .. }));
        let heals = audit.heal && rotten;
        audit.state = if heals { AuditState::Healing } else { AuditState::Done { healed_by: None, failure: None } };
        let sound = audit.counts.get(word(&Finding::Sound)).copied().unwrap_or(0);
        let found = audit.checked - sound;
        if heals {
            self.attempt(step, conduit.id, Purpose::Heal, Some(tidegate_protocol::limits::ANSWER_MS_MAX * 3));
        }
        self.say_conduit(step, conduit.id, |conduit| Event::Audited { conduit, sound, found })
    }

    /// The gate was open: sound contents of the other end take the places of rotten ones.
    pub(super) fn on_heal_plan(
        &mut self,
        step: &mut Step<'_>,
        conduit: &Conduit,
        resolved: &Resolved,
    ) -> Result<(), CoreError> {
        let Some(audit) = self.audit.audits.get(&conduit.id) else { return Ok(()) };
        let mut found = Vec::with_capacity(audit.found.len());
        for (side, path, finding) in &audit.found {
            let rotten = match finding {
                Finding::Rotten { content } => Some(*content),
                Finding::Sound | Finding::Edited | Finding::Gone | Finding::Unreadable | Finding::NotIndexed => None,
            };
            let here = self.row(step, end(conduit, *side), path)?;
            let there = self.row(step, end(conduit, side.other()), path)?;
            found.push(Unsound { side: *side, path: path.clone(), rotten, here, there });
        }
        let healed = Healed { device: self.me, definition: conduit.definition(), found };
        let plan = healed.plan(conduit.id, resolved.plan.heads.clone());
        let running = self.service.is_running(conduit.id);
        let state = if running {
            AuditState::Done { healed_by: None, failure: Some("a run of the conduit began; not healed".to_owned()) }
        } else if plan.operations.is_empty() {
            let failure = Some("no sound copy is at the other end; nothing was healed".to_owned());
            AuditState::Done { healed_by: None, failure }
        } else {
            let number = self.open_generation(step, conduit, &plan, None)?;
            step.keep_grounds(conduit.id, number, &Grounds::Healed(Box::new(healed)))?;
            AuditState::Done { healed_by: Some(number), failure: None }
        };
        if let Some(audit) = self.audit.audits.get_mut(&conduit.id) {
            audit.state = state;
        }
        Ok(())
    }

    /// The gate stayed closed.
    pub(super) fn not_healed(&mut self, conduit: ConduitId, fault: &Fault) {
        if let Some(audit) = self.audit.audits.get_mut(&conduit) {
            let failure = Some(format!("{}: {}", fault.message, fault.why));
            audit.state = AuditState::Done { healed_by: None, failure };
        }
    }

    fn audit_view(&self, step: &Step<'_>, conduit: &Conduit, audit: &Audit) -> Result<AuditView, CoreError> {
        let mut found = Vec::new();
        for (side, path, finding) in &audit.found {
            let device = self.device_label(step, end(conduit, *side).device)?;
            let is_rot = matches!(finding, Finding::Rotten { .. });
            found.push(FoundView { device, path: path.clone(), what: word(finding).to_owned(), is_rot });
        }
        let todo = audit.todo.iter().chain(&audit.open).map(|(_, paths)| paths.len() as u64).sum();
        let (is_over, healed_by, failure) = match &audit.state {
            AuditState::Reading | AuditState::Healing => (false, None, None),
            AuditState::Done { healed_by, failure } => (true, *healed_by, failure.clone()),
        };
        Ok(AuditView {
            conduit: conduit.settings.name.value.clone(),
            generation: audit.number,
            is_over,
            checked: audit.checked,
            todo,
            sound: audit.counts.get(word(&Finding::Sound)).copied().unwrap_or(0),
            found_total: audit.checked - audit.counts.get(word(&Finding::Sound)).copied().unwrap_or(0),
            found,
            healed_by,
            failure,
        })
    }
}

const fn end(conduit: &Conduit, side: Side) -> &Root {
    match side {
        Side::Source => &conduit.source,
        Side::Target => &conduit.target,
    }
}

fn is_file(state: &EntryState) -> bool {
    matches!(state.present().map(|entry| &entry.kind), Some(EntryKind::File(_)))
}
