//! Conduits whose ends may be on their way: a location that was added on another device a moment ago, a directory made in it.
//!
//! Before a conduit is refused for an end that is not known here, the devices that may hold it are asked for a head, and their
//! rows are waited for, at most as long as for any answer. What is decided then is decided as if it had been asked then.

use std::collections::BTreeMap;

use tidegate_protocol::id::{DeviceId, Epoch, Sequence};
use tidegate_protocol::library_sync::Head;
use tidegate_protocol::limits::ANSWER_MS_MAX;
use tidegate_protocol::wire::Request;

use super::command::{NewConduit, Reply};
use super::conduits::NotCreated;
use super::gate::HeadsAsked;
use super::io::{Output, Ticket};
use super::{Asked, Core, CoreError, Step};

/// Conduits that wait for rows of other devices, by the number under which heads were asked for.
#[derive(Default)]
pub(super) struct Creations {
    waiting: BTreeMap<u64, Creation>,
}

struct Creation {
    ticket: Ticket,
    new: NewConduit,
    /// The devices that were asked, with what they said.
    asked: BTreeMap<DeviceId, Option<(Epoch, Sequence)>>,
    until_ms: u64,
}

impl Creations {
    pub(super) fn next_wake(&self) -> Option<u64> {
        self.waiting.values().map(|creation| creation.until_ms).min()
    }

    /// A device has answered the question under this number.
    pub(super) fn heard(&mut self, number: Option<u64>, head: &Head) {
        let creation = number.and_then(|number| self.waiting.get_mut(&number));
        if let Some(said) = creation.and_then(|creation| creation.asked.get_mut(&head.device)) {
            *said = Some((head.epoch, head.sequence));
        }
    }
}

impl Core {
    pub(super) fn on_create(&mut self, step: &mut Step<'_>, ticket: Ticket, new: NewConduit) -> Result<(), CoreError> {
        let created = self.create_conduit(step, new.clone())?;
        let devices = match &created {
            Err(NotCreated::Unknown(_)) => self.holders(step, &new)?,
            Ok(_) | Err(NotCreated::Refused(_)) => Vec::new(),
        };
        if devices.is_empty() {
            return self.answer_creation(step, ticket, created);
        }
        let number = self.gate.number();
        for device in &devices {
            let nonce = self.draw.nonce();
            let about = HeadsAsked { device: *device, nonce, attempt: Some(number), asked: step.now, tells: None };
            let request = Request::Heads { nonce, locations: Vec::new(), conduit: None, own: None };
            self.ask(step, *device, request, Asked::Heads(about));
        }
        let asked = devices.into_iter().map(|device| (device, None)).collect();
        let until_ms = step.now.monotonic_ms + ANSWER_MS_MAX;
        self.creations.waiting.insert(number, Creation { ticket, new, asked, until_ms });
        Ok(())
    }

    /// The connected devices that may hold an end: the one that is named; where none is, or it is not known either, all.
    fn holders(&self, step: &Step<'_>, new: &NewConduit) -> Result<Vec<DeviceId>, CoreError> {
        let mut named = Vec::new();
        for end in [&new.source, &new.target] {
            let device = end.split_once(':').map(|(device, _)| self.device_named(step, device)).transpose()?;
            named.push(device.and_then(Result::ok).map(|device| device.id));
        }
        let peers = self.library.peers.iter().filter(|(_, peer)| peer.greeted).map(|(device, _)| *device);
        Ok(peers.filter(|device| named.contains(&None) || named.contains(&Some(*device))).collect())
    }

    /// Creates what waited long enough.
    pub(super) fn tend_creations(&mut self, step: &mut Step<'_>) -> Result<(), CoreError> {
        let now = step.now.monotonic_ms;
        for number in self.creations.waiting.keys().copied().collect::<Vec<_>>() {
            let creation = &self.creations.waiting[&number];
            let mut is_level = true;
            for (device, said) in &creation.asked {
                let rests =
                    step.txn.author(*device)?.and_then(|state| state.rests.as_ref().map(|r| r.trusted().clone()));
                let holds = |(epoch, sequence): &(Epoch, Sequence)| {
                    rests.as_ref().is_some_and(|rests| rests.epoch == *epoch && rests.sequence >= *sequence)
                };
                let is_connected = self.library.peers.get(device).is_some_and(|peer| peer.greeted);
                is_level &= !is_connected || said.as_ref().is_some_and(holds);
            }
            if !is_level && now < creation.until_ms {
                continue;
            }
            let Some(Creation { ticket, new, .. }) = self.creations.waiting.remove(&number) else { continue };
            let created = self.create_conduit(step, new)?;
            self.answer_creation(step, ticket, created)?;
        }
        Ok(())
    }

    fn answer_creation(
        &self,
        step: &mut Step<'_>,
        ticket: Ticket,
        created: Result<Reply, NotCreated>,
    ) -> Result<(), CoreError> {
        let reply = match created {
            Ok(reply) => Ok(reply),
            Err(NotCreated::Refused(fault)) => Err(fault),
            Err(NotCreated::Unknown(mut fault)) => {
                for news in self.news_elsewhere(step)? {
                    fault.why = format!("{}; {news}", fault.why);
                }
                Err(fault)
            }
        };
        step.out.push(Output::Reply { ticket, reply });
        Ok(())
    }
}
