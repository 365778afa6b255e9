//! Commands of people, requests of members, answers of members: each to the room that it belongs to.

use tidegate_protocol::codec;
use tidegate_protocol::file_sync::{Conduit, NameRules, PlanId};
use tidegate_protocol::id::{DeviceId, Label};
use tidegate_protocol::index::{DeviceState, Grant, Location, Rights};
use tidegate_protocol::library_sync::Fact;
use tidegate_protocol::wire::{Coordinate, JobControl, Refusal, RefusalCode, Request, Response};
use tidegate_storage::store::Change;

use super::applying::refuse;
use super::command::{Command, Fault, FaultCode, Reply, Started};
use super::file_sync::{Caller, Purpose, SyncCall};
use super::io::{Output, Ticket};
use super::undo::UndoCall;
use super::{Asked, Core, CoreError, Step};
use crate::env::NetworkError;

type Answer = Result<Result<Reply, Fault>, CoreError>;

/// How long a device that asks on behalf of a person is let wait for the gate, in milliseconds: it waits for an answer
/// no longer than for any other.
const PEER_WAIT_MS_MAX: u64 = tidegate_protocol::limits::ANSWER_MS_MAX / 2;

/// Takes the value, or answers with the fault.
macro_rules! named {
    ($found:expr) => {
        match $found? {
            Ok(found) => found,
            Err(fault) => return Ok(Err(fault)),
        }
    };
}

impl Core {
    pub(super) fn on_command(
        &mut self,
        step: &mut Step<'_>,
        ticket: Ticket,
        command: Command,
    ) -> Result<(), CoreError> {
        let answer = match command {
            Command::Plan { conduit, wait_ms } => return self.on_plan_command(step, ticket, &conduit, wait_ms),
            Command::Sync { conduit, plan, wait_ms } => {
                let call = SyncCall { caller: Some(Caller::Person(ticket)), plan, approve: false };
                return self.on_sync_command(step, ticket, &conduit, call, wait_ms);
            }
            Command::ConflictContent { conflict, version } => {
                return self.read_conflict(step, ticket, &conflict, version);
            }
            Command::ResolveConflict { conflict, choice } => {
                return self.resolve_conflict(step, ticket, &conflict, choice);
            }
            Command::Why { conduit, path, wait_ms } => {
                return self.on_why(step, ticket, conduit.as_deref(), &path, wait_ms);
            }
            Command::Approve { plan, wait_ms } => return self.on_approve(step, ticket, plan, wait_ms),
            Command::ControlJob { job, control } => return self.on_control_command(step, ticket, &job, control),
            Command::Verify { conduit, number, heal } => self.on_audit_command(step, &conduit, Some((number, heal)))?,
            Command::Verified { conduit } => self.on_audit_command(step, &conduit, None)?,
            Command::Undo { conduit, number, dry_run, approve, wait_ms } => {
                let call = UndoCall { ticket, number, dry_run, approve };
                return self.on_undo_command(step, &conduit, call, wait_ms);
            }
            Command::Replay { conduit, number } => return self.on_replay(step, ticket, &conduit, number),
            Command::Trash(ask) => return self.on_trash_command(step, ticket, ask),
            Command::CreateConduit(new) => return self.on_create(step, ticket, new),
            other => self.at_once(step, other)?,
        };
        step.out.push(Output::Reply { ticket, reply: answer });
        Ok(())
    }

    /// Commands that are answered in the same step.
    fn at_once(&mut self, step: &mut Step<'_>, command: Command) -> Answer {
        match command {
            Command::Status => Ok(Ok(Reply::Status(Box::new(self.status_view(step)?)))),
            Command::Device(name) => {
                let device = named!(self.device_named(step, &name));
                Ok(Ok(Reply::Device(Box::new(self.device_view(step, device.id)?))))
            }
            Command::RenameDevice { device, name } => {
                let device = named!(self.device_named(step, &device));
                if let Some(clash) = step.txn.devices()?.iter().find(|d| d.id != device.id && d.name.value == name) {
                    return Ok(Err(taken(&name, &format!("device {} has it", clash.id.short()))));
                }
                self.put_device(step, device.id, Some(&name), None)?;
                Ok(Ok(Reply::Done))
            }
            Command::RevokeDevice(name) => {
                let device = named!(self.device_named(step, &name));
                self.revoke(step, device.id)
            }
            Command::AdmitDevice { id, name } => {
                self.put_device(step, id, Some(&name), Some(DeviceState::Member))?;
                Ok(Ok(Reply::Done))
            }
            Command::LeaveLibrary => self.leave_library(step).map(Ok),
            Command::AddLocation { id, name, root, identity, rules } => self.add_location(
                step,
                Location {
                    id,
                    owner: self.me,
                    name,
                    root: root.to_string_lossy().into_owned(),
                    rules,
                    grants: Vec::new(),
                    stamp: tidegate_protocol::time::Stamp::zero(self.me),
                    // Probed as soon as the root is opened, which is before anything is told of it.
                    names: NameRules::POSIX,
                    removed: false,
                },
                &root,
                identity,
            ),
            Command::Location(name) => {
                let location = named!(self.location_named(step, &name));
                Ok(Ok(Reply::Location(Box::new(self.location_view(step, &location, true)?))))
            }
            Command::RescanLocation { location, deep } => {
                let location = named!(self.own_location_named(step, &location));
                self.rescan(step, location.id, deep);
                Ok(Ok(Reply::Done))
            }
            Command::SetRules { location, rules } => {
                let Some(known) = step.txn.location(self.me, location)?.filter(|l| !l.removed && l.rules != rules)
                else {
                    return Ok(Ok(Reply::Done));
                };
                self.put_location(step, Location { rules, ..known })?;
                self.rescan(step, location, false);
                Ok(Ok(Reply::Done))
            }
            Command::Allow { location, device, rights } => {
                let location = named!(self.own_location_named(step, &location));
                let device = named!(self.device_named(step, &device));
                let mut grants = location.grants.clone();
                grants.retain(|grant| grant.device != device.id);
                if rights != Rights::NONE {
                    grants.push(Grant { device: device.id, rights });
                    grants.sort_by_key(|grant| grant.device);
                }
                let location = self.put_location(step, Location { grants, ..location })?;
                Ok(Ok(Reply::Location(Box::new(self.location_view(step, &location, false)?))))
            }
            Command::RemoveLocation(name) => self.remove_location(step, &name),
            Command::Conduit(name) => {
                let conduit = named!(self.conduit_named(step, &name));
                Ok(Ok(Reply::Conduit(Box::new(self.conduit_view(step, conduit.id)?))))
            }
            Command::SetConduit { conduit, change } => self.set_conduit(step, &conduit, change),
            Command::Pin { conduit, path, pinned } => self.pin(step, &conduit, &path, pinned),
            Command::Fetch { conduit, path, for_ms } => self.fetch(step, conduit.as_deref(), &path, for_ms),
            Command::RemoveConduit(name) => self.remove_conduit(step, &name),
            Command::Conflicts { conduit, settled } => self.conflict_views(step, conduit.as_deref(), settled),
            Command::Conflict(name) => self.one_conflict(step, &name),
            Command::Jobs => Ok(Ok(Reply::Jobs(self.job_views(step)?))),
            Command::History { conduit } => {
                let conduit = named!(self.conduit_named(step, &conduit));
                Ok(Ok(Reply::History(step.txn.generations(conduit.id, 1000)?)))
            }
            Command::Generation { conduit, number } => {
                let conduit = named!(self.conduit_named(step, &conduit));
                self.generation_view(step, &conduit, number)
            }
            Command::CreateConduit(_)
            | Command::Plan { .. }
            | Command::Why { .. }
            | Command::ConflictContent { .. }
            | Command::ResolveConflict { .. }
            | Command::Sync { .. }
            | Command::Approve { .. }
            | Command::ControlJob { .. }
            | Command::Undo { .. }
            | Command::Replay { .. }
            | Command::Verify { .. }
            | Command::Verified { .. }
            | Command::Trash(_) => {
                unreachable!("answered later, by on_command")
            }
        }
    }

    fn on_plan_command(
        &mut self,
        step: &mut Step<'_>,
        ticket: Ticket,
        name: &str,
        wait_ms: u64,
    ) -> Result<(), CoreError> {
        match self.conduit_named(step, name)? {
            Ok(conduit) => self.show(step, ticket, &conduit, Coordinate::Plan { wait_ms }),
            Err(fault) => step.out.push(Output::Reply { ticket, reply: Err(fault) }),
        }
        Ok(())
    }

    /// Resolves for a person who wants to see what comes of it: here, or at the device that runs the conduit, as what
    /// both ends last agreed on is known there alone.
    pub(super) fn show(&mut self, step: &mut Step<'_>, ticket: Ticket, conduit: &Conduit, what: Coordinate) {
        match self.remote_coordinator(conduit) {
            Ok(None) => {
                let (purpose, wait_ms) = purpose(what, Caller::Person(ticket));
                self.attempt(step, conduit.id, purpose, Some(wait_ms));
            }
            Ok(Some(device)) => {
                let request = Request::Coordinate { conduit: conduit.id, what };
                self.ask(step, device, request, Asked::Shown(ticket));
            }
            Err(fault) => step.out.push(Output::Reply { ticket, reply: Err(fault) }),
        }
    }

    fn on_sync_command(
        &mut self,
        step: &mut Step<'_>,
        ticket: Ticket,
        name: &str,
        call: SyncCall,
        wait_ms: u64,
    ) -> Result<(), CoreError> {
        let conduit = match self.conduit_named(step, name)? {
            Ok(conduit) => conduit,
            Err(fault) => {
                step.out.push(Output::Reply { ticket, reply: Err(fault) });
                return Ok(());
            }
        };
        match self.remote_coordinator(&conduit) {
            Ok(None) => self.sync_now(step, &conduit, call, wait_ms),
            Ok(Some(device)) => {
                let what = Coordinate::Sync { plan: call.plan, wait_ms };
                let request = Request::Coordinate { conduit: conduit.id, what };
                self.ask(step, device, request, Asked::Coordinate(ticket, conduit.settings.name.value));
                Ok(())
            }
            Err(fault) => {
                step.out.push(Output::Reply { ticket, reply: Err(fault) });
                Ok(())
            }
        }
    }

    /// Approval names a plan; it runs only if the plan is still that one.
    fn on_approve(&mut self, step: &mut Step<'_>, ticket: Ticket, plan: String, wait_ms: u64) -> Result<(), CoreError> {
        let Some(conduit) = self.conduit_of_plan(step, &plan)? else {
            let shown: String = plan.chars().take(40).flat_map(char::escape_debug).collect();
            let fault = Fault::new(
                FaultCode::PlanStale,
                format!("no plan {shown} waits for approval here; nothing was changed"),
                "it is not held (any more), or another device runs that conduit",
                &["tidegate status", "tidegate plan CONDUIT"],
            );
            step.out.push(Output::Reply { ticket, reply: Err(fault) });
            return Ok(());
        };
        let call = SyncCall { caller: Some(Caller::Person(ticket)), plan: Some(plan), approve: true };
        self.sync_now(step, &conduit, call, wait_ms)
    }

    /// The conduit whose plan waits for approval under this id: a run was held by it, or it was shown last.
    fn conduit_of_plan(&self, step: &Step<'_>, plan: &str) -> Result<Option<Conduit>, CoreError> {
        for conduit in step.txn.conduits()? {
            let shown = match step.shown(conduit.id)? {
                Some(shown) if waits(step, &shown)? => Some(shown),
                Some(_) | None => None,
            };
            let is_named = [step.held(conduit.id)?, shown].iter().flatten().any(|id| id.short() == plan);
            if is_named && !conduit.removed.value && conduit.coordinator() == self.me {
                return Ok(Some(conduit));
            }
        }
        Ok(None)
    }

    fn on_control_command(
        &mut self,
        step: &mut Step<'_>,
        ticket: Ticket,
        name: &str,
        control: JobControl,
    ) -> Result<(), CoreError> {
        let job = match self.job_named(step, name)? {
            Ok(job) => job,
            Err(fault) => {
                step.out.push(Output::Reply { ticket, reply: Err(fault) });
                return Ok(());
            }
        };
        if job.device == self.me {
            self.control_own_job(step, job, control)?;
            step.out.push(Output::Reply { ticket, reply: Ok(Reply::Done) });
        } else {
            self.ask(step, job.device, Request::JobControl { job, control }, Asked::Control(ticket));
        }
        Ok(())
    }

    /// A member asks.
    pub(super) fn on_request(
        &mut self,
        step: &mut Step<'_>,
        ticket: Ticket,
        peer: DeviceId,
        request: Request,
    ) -> Result<(), CoreError> {
        let response = if self.library.members.contains(&peer) {
            match request {
                Request::Hello(hello) => {
                    self.note_hello(step, peer, &hello)?;
                    Response::Hello(self.hello(step)?)
                }
                Request::Heads { nonce, locations, conduit, own } => {
                    if let Some(own) = own {
                        self.note_head(step, &own, Some(peer))?;
                    }
                    self.on_heads_wanted(step, ticket, nonce, &locations, conduit);
                    return Ok(());
                }
                Request::Rows { device, epoch, from } => self.answer_rows(step, peer, device, epoch, from)?,
                Request::JobOffer(spec) => self.on_offer(step, peer, spec)?,
                Request::JobItems { job, first, items } => self.on_items(step, peer, job, first, &items)?,
                Request::JobStatus { job, outcomes_from } => {
                    return self.on_status_wanted(step, ticket, peer, job, outcomes_from);
                }
                Request::JobControl { job, control } => match step.txn.job(&job)? {
                    Some(record) if record.spec.coordinator == peer && job.device == self.me => {
                        self.control_own_job(step, job, control)?;
                        Response::JobAccepted { items: record.items_stored }
                    }
                    Some(_) | None => refuse(RefusalCode::NotFound, "no such job here"),
                },
                Request::Coordinate { conduit, what } => match step.txn.conduit(conduit)? {
                    Some(conduit) if !conduit.removed.value && conduit.coordinator() == self.me => {
                        let caller = Caller::Peer(ticket);
                        return match what {
                            Coordinate::Sync { plan, wait_ms } => {
                                let call = SyncCall { caller: Some(caller), plan, approve: false };
                                self.sync_now(step, &conduit, call, wait_ms.min(PEER_WAIT_MS_MAX))
                            }
                            Coordinate::Plan { .. } | Coordinate::Why { .. } => {
                                let (purpose, wait_ms) = purpose(what, caller);
                                self.attempt(step, conduit.id, purpose, Some(wait_ms.min(PEER_WAIT_MS_MAX)));
                                Ok(())
                            }
                        };
                    }
                    Some(_) | None => refuse(RefusalCode::NotFound, "no such conduit here"),
                },
                Request::Audit { conduit, side, paths } => {
                    return self.on_audit_wanted(step, ticket, peer, (conduit, side, paths));
                }
                Request::Fetch(fetch) => return self.on_fetch(step, ticket, peer, &fetch),
                Request::Look { location, paths } => self.on_look(step, peer, location, paths)?,
                Request::Outline { job, path, content } => {
                    self.on_outline(step, peer, &job.conduit, &path, &content)?
                }
            }
        } else {
            refuse(RefusalCode::NotAllowed, "not a member of this library")
        };
        step.out.push(Output::Respond { ticket, response });
        Ok(())
    }

    /// A member has answered.
    pub(super) fn on_answer(
        &mut self,
        step: &mut Step<'_>,
        ticket: Ticket,
        result: Result<Response, NetworkError>,
    ) -> Result<(), CoreError> {
        match self.asked.remove(&ticket) {
            Some(Asked::Hello(device)) => match result {
                Ok(Response::Hello(hello)) => self.note_hello(step, device, &hello),
                Ok(_) | Err(_) => Ok(()),
            },
            Some(Asked::Heads(asked)) => self.on_heads_answer(step, &asked, result),
            Some(Asked::Rows(asked)) => self.on_rows(step, asked, result),
            Some(Asked::Job(job)) => self.on_job_answer(step, job, result),
            Some(Asked::Audit(conduit)) => {
                self.on_audit_answer(step, conduit, result);
                Ok(())
            }
            Some(Asked::Coordinate(ticket, name)) => {
                let reply = match result {
                    Ok(Response::Coordinated { generation }) => {
                        Ok(Reply::Started(Started { conduit: name, generation, conflicts: 0, unread: 0 }))
                    }
                    Ok(Response::Shown(bytes)) => match shown(&bytes) {
                        Ok(Reply::Started(started)) => Ok(Reply::Started(Started { conduit: name, ..started })),
                        Ok(_) | Err(_) => Err(self.remote_fault(Ok(Response::Shown(bytes)))),
                    },
                    other => Err(self.remote_fault(other)),
                };
                step.out.push(Output::Reply { ticket, reply });
                Ok(())
            }
            Some(Asked::Shown(ticket)) => {
                let reply = match result {
                    Ok(Response::Shown(bytes)) => match shown(&bytes) {
                        Ok(reply @ (Reply::Plan(_) | Reply::Why(_))) => Ok(reply),
                        Ok(_) | Err(_) => Err(self.remote_fault(Ok(Response::Shown(bytes)))),
                    },
                    other => Err(self.remote_fault(other)),
                };
                step.out.push(Output::Reply { ticket, reply });
                Ok(())
            }
            Some(Asked::Look { conduit, device }) => {
                self.on_look_answer(step, conduit, device, &result);
                Ok(())
            }
            Some(Asked::Control(ticket)) => {
                let reply = match result {
                    Ok(Response::JobAccepted { .. }) => Ok(Reply::Done),
                    other => Err(self.remote_fault(other)),
                };
                step.out.push(Output::Reply { ticket, reply });
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn remote_fault(&self, result: Result<Response, NetworkError>) -> Fault {
        match result {
            Ok(Response::Refused(refusal)) => super::dispatch::fault_of(&refusal),
            Ok(_) => super::dispatch::fault_of(&Refusal::new(RefusalCode::Malformed, "an answer to something else")),
            Err(error) => Fault::new(
                FaultCode::Unreachable,
                "the other device did not answer; whether it acted is not known here",
                error.to_string(),
                &["tidegate status", "tidegate device list"],
            ),
        }
    }

    fn own_location_named(&self, step: &Step<'_>, name: &str) -> Result<Result<Location, Fault>, CoreError> {
        let location = named!(self.location_named(step, name));
        if location.owner == self.me {
            return Ok(Ok(location));
        }
        let device = self.device_label(step, location.owner)?;
        Ok(Err(Fault::new(
            FaultCode::Refused,
            format!("{name} is a location of {device}; nothing was changed"),
            "only the device that holds a location changes it",
            &[&format!("run the same command on {device}")],
        )))
    }

    fn add_location(
        &mut self,
        step: &mut Step<'_>,
        location: Location,
        root: &std::path::Path,
        identity: tidegate_storage::disk::RootIdentity,
    ) -> Answer {
        let own = step.txn.locations()?.into_iter().filter(|l| l.owner == self.me && !l.removed);
        if own.into_iter().any(|l| l.name == location.name) {
            return Ok(Err(taken(&location.name, "another location of this device has it")));
        }
        step.set_root(location.id, root, identity)?;
        let location = self.put_location(step, location)?;
        self.open_location(step, location.id)?;
        Ok(Ok(Reply::Location(Box::new(self.location_view(step, &location, false)?))))
    }

    pub(super) fn put_location(&mut self, step: &mut Step<'_>, location: Location) -> Result<Location, CoreError> {
        let location = Location { stamp: self.stamp(step)?, ..location };
        step.put(vec![Change::fact(Fact::Location(location.clone()))])?;
        Ok(location)
    }

    fn remove_location(&mut self, step: &mut Step<'_>, name: &str) -> Answer {
        let location = named!(self.own_location_named(step, name));
        let user = step.txn.conduits()?.into_iter().find(|conduit| {
            !conduit.removed.value && [&conduit.source, &conduit.target].iter().any(|root| root.location == location.id)
        });
        if let Some(conduit) = user {
            let conduit = conduit.settings.name.value;
            return Ok(Err(Fault::new(
                FaultCode::Refused,
                format!("{name} is an end of the conduit {conduit}; nothing was changed"),
                "a location is removed when no conduit needs it",
                &[&format!("tidegate conduit remove {conduit}")],
            )));
        }
        let id = location.id;
        self.put_location(step, Location { removed: true, grants: Vec::new(), ..location })?;
        self.close_location(step, id);
        Ok(Ok(Reply::Done))
    }
}

/// What a caller wants of a conduit, and how long it may wait.
fn purpose(what: Coordinate, caller: Caller) -> (Purpose, u64) {
    match what {
        Coordinate::Plan { wait_ms } => (Purpose::Plan(caller), wait_ms),
        Coordinate::Why { path, wait_ms } => (Purpose::Why(caller, path), wait_ms),
        Coordinate::Sync { plan, wait_ms } => {
            (Purpose::Sync(SyncCall { caller: Some(caller), plan, approve: false }), wait_ms)
        }
    }
}

/// What a coordinator answered to be shown.
fn shown(bytes: &[u8]) -> Result<Reply, codec::DecodeError> {
    codec::decode(bytes)
}

fn taken(name: &Label, why: &str) -> Fault {
    Fault::new(
        FaultCode::NameTaken,
        format!("the name {name} is taken; nothing was changed"),
        why,
        &["choose another name with --name"],
    )
}

/// Whether a guard stops a stored plan that nobody approved so far.
fn waits(step: &Step<'_>, plan: &PlanId) -> Result<bool, CoreError> {
    let is_stopped = step.txn.plan_rest(plan)?.is_some_and(|rest| !rest.halts.is_empty());
    Ok(is_stopped && step.txn.approval(plan)?.is_none())
}
