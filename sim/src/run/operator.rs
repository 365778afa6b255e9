//! Whoever operates the devices: runs, pauses and approves conduits, pairs and revokes devices. By commands only.

use tidegate::core::command::{Choice, Command, ConduitChange, Reply};
use tidegate_protocol::file_sync::Decision;

use super::Run;
use crate::checkers::Scene;
use crate::world::Answer;

/// How often the operator looks at the conduits, in milliseconds.
pub(super) const LOOK_EVERY_MS: u64 = 30_000;
/// How long an approval waits for the gate, in milliseconds.
const APPROVAL_WAIT_MS: u64 = 60_000;

/// What a command was about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Call {
    /// A look at a conduit, to approve what is held.
    Look(usize),
    /// The list in which a conflict is to be found, to be decided.
    Decide {
        /// Where it waits.
        path: String,
        /// What is decided.
        decision: Decision,
    },
    /// The history of a conduit, to undo what is newest in it.
    Undo(String),
    /// Something is put back from the trash of this device: what its node does for that, a person does.
    Restore(usize),
    /// Anything of which the answer changes nothing.
    Whatever,
}

impl Run<'_> {
    /// Looks at every conduit that is approved, on the device that runs it. One of which an end is gone for good, as its
    /// device has lost its index, is left alone: no approval would ever do anything.
    pub(super) fn operate(&mut self) {
        for (at, conduit) in self.plan.conduits.iter().enumerate().filter(|(_, conduit)| conduit.approves) {
            let device = self.device_named(&conduit.source.device);
            let view = self.view();
            let stands = [&conduit.source, &conduit.target].into_iter().all(|end| {
                let device = self.device_named(&end.device);
                view.takes_part(device) && view.holds(device, &end.place.location)
            });
            if !stands {
                continue;
            }
            let waiting = self.calls.values().any(|call| *call == Call::Look(at));
            if !waiting {
                self.call(device, Command::Conduit(conduit.name.clone()), Call::Look(at));
            }
        }
    }

    pub(super) fn call(&mut self, device: usize, command: Command, about: Call) {
        if let Some(call) = self.world.command(device as u32, command) {
            self.calls.insert(call, about);
        }
    }

    /// Calls to a device that went down are never answered.
    pub(super) fn forget_calls(&mut self, device: usize) {
        let gone = |call: &Call| match call {
            Call::Look(at) => self.plan.conduits[*at].source.device == self.plan.devices[device].name,
            Call::Restore(of) => *of == device,
            Call::Decide { .. } | Call::Undo(_) | Call::Whatever => true,
        };
        self.calls.retain(|_, call| !gone(call));
    }

    pub(super) fn on_answer(&mut self, device: usize, call: Call, answer: Answer) {
        match (call, answer) {
            (Call::Look(at), Ok(Reply::Conduit(view))) => {
                self.held.insert(at, view.held.is_some());
                if let Some((plan, halts)) = view.held {
                    self.moment(device, format!("{} is held ({halts:?}); it is approved", view.name));
                    self.call(device, Command::Approve { plan, wait_ms: APPROVAL_WAIT_MS }, Call::Whatever);
                }
            }
            (Call::Decide { path, decision }, Ok(Reply::Conflicts(open))) => {
                let here = open.into_iter().find(|open| open.path.to_slashes() == path.as_bytes());
                if let Some(conflict) = here.map(|open| open.id) {
                    self.moment(device, format!("the conflict at {path} is decided: {decision:?}"));
                    let choice = Choice::Keep(decision);
                    self.call(device, Command::ResolveConflict { conflict, choice }, Call::Whatever);
                }
            }
            (Call::Undo(conduit), Ok(Reply::History(all))) => {
                if let Some(newest) = all.first() {
                    let number = newest.number;
                    self.moment(device, format!("{conduit} generation {number} is undone"));
                    let (dry_run, approve, wait_ms) = (false, None, APPROVAL_WAIT_MS);
                    self.call(device, Command::Undo { conduit, number, dry_run, approve, wait_ms }, Call::Whatever);
                }
            }
            (Call::Restore(_), Ok(Reply::Trash(view))) => {
                if view.count > view.kept {
                    self.coverage.mark("trash:restored");
                }
                self.moment(device, format!("{} of {} are put back", view.count - view.kept, view.count));
            }
            (Call::Look(_) | Call::Decide { .. } | Call::Undo(_) | Call::Restore(_) | Call::Whatever, _) => {}
        }
    }

    pub(super) fn sync(&mut self, device: usize, conduit: &str) {
        let command = Command::Sync { conduit: conduit.to_owned(), plan: None, wait_ms: 20_000 };
        self.call(device, command, Call::Whatever);
    }

    pub(super) fn pause(&mut self, device: usize, conduit: &str, paused: bool) {
        let change = ConduitChange { paused: Some(paused), ..ConduitChange::default() };
        self.call(device, Command::SetConduit { conduit: conduit.to_owned(), change }, Call::Whatever);
    }
}
