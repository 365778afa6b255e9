//! Who belongs to the library: pairing, the allow-list, revocation, leaving.

use tidegate_protocol::id::{DeviceId, Label, LibraryId};
use tidegate_protocol::index::{Device, DeviceState};
use tidegate_protocol::library_sync::{Fact, FactKey};
use tidegate_protocol::time::{Stamp, Stamped};
use tidegate_storage::store::Change;

use super::command::{Fault, FaultCode, Reply};
use super::events::Event;
use super::io::Output;
use super::{Core, CoreError, Step};

impl Core {
    /// Makes the own device, and those that the config admits by their full id, members.
    pub(super) fn admit_configured(&mut self, step: &mut Step<'_>) -> Result<(), CoreError> {
        let name = self.config.name.clone();
        // A name that a person gave since stays until the config names another.
        if step.txn.device_fact(self.me)?.is_none() || step.configured_name()?.as_ref() != Some(&name) {
            self.put_device(step, self.me, Some(&name), None)?;
            step.set_configured_name(&name)?;
        }
        for (id, name) in self.config.admitted.clone() {
            if id != self.me && step.txn.device_fact(id)?.is_none() {
                self.put_device(step, id, Some(&name), Some(DeviceState::Member))?;
            }
        }
        Ok(())
    }

    /// States a change about a device as an own row, on top of what is known of it.
    pub(super) fn put_device(
        &mut self,
        step: &mut Step<'_>,
        id: DeviceId,
        name: Option<&Label>,
        state: Option<DeviceState>,
    ) -> Result<(), CoreError> {
        let stamp = self.stamp(step)?;
        let known = step.txn.device_fact(id)?;
        let mut device = known.unwrap_or_else(|| Device {
            id,
            name: Stamped::new(name.cloned().unwrap_or_else(|| Label::lossy(&id.short())), stamp),
            state: Stamped::new(state.unwrap_or(DeviceState::Member), stamp),
            membership: self.library.membership.saturating_add(1),
        });
        if let Some(name) = name
            && device.name.value != *name
        {
            // A name from the future counts for nothing beside this one.
            let known = Some(device.name.stamp).filter(|known| !known.is_ahead_of(step.now.wall_ms));
            device.name = Stamped::new(name.clone(), known.map_or(stamp, |known| after(known, stamp)));
        }
        if let Some(state) = state
            && device.state.value != state
        {
            device.state = Stamped::new(state, after(device.state.stamp, stamp));
            // A hostile member may have used up the numbers.
            device.membership = self.library.membership.saturating_add(1);
        }
        self.library.membership = self.library.membership.max(device.membership);
        step.put(vec![Change::fact(Fact::Device(device))])?;
        self.library.devices_changed = true;
        Ok(())
    }

    /// Whether this device has no replica of anybody else's rows: free to join another library.
    pub(super) fn is_alone(&self, step: &Step<'_>) -> Result<bool, CoreError> {
        Ok(step.txn.authors()?.iter().all(|(device, state)| *device == self.me || state.rests.is_none()))
    }

    /// A code was proved, here or there.
    pub(super) fn on_paired(
        &mut self,
        step: &mut Step<'_>,
        device: DeviceId,
        name: &Label,
        library: LibraryId,
        joined: bool,
    ) -> Result<(), CoreError> {
        if joined && library != step.library()? {
            self.adopt_library(step, library)?;
        }
        self.put_device(step, device, Some(name), Some(DeviceState::Member))?;
        step.say(Event::DevicePaired { device: name.clone() });
        self.refresh_members(step)
    }

    /// Becomes a device of another library; own rows go along, heads are signed anew.
    pub(super) fn adopt_library(&mut self, step: &mut Step<'_>, library: LibraryId) -> Result<(), CoreError> {
        tracing::info!(library = %library.short(), "joins a library");
        step.txn.set_library(library)?;
        self.rest_own(step)?;
        self.library.devices_changed = true;
        for device in self.library.peers.keys().copied().collect::<Vec<_>>() {
            self.greet(step, device)?;
        }
        Ok(())
    }

    /// Derives the members from the merged facts and tells the network.
    pub(super) fn refresh_members(&mut self, step: &mut Step<'_>) -> Result<(), CoreError> {
        let devices = step.txn.devices()?;
        let highest = devices.iter().map(|device| device.membership).max().unwrap_or(0);
        // Two things must not be forgotten while their author's rows are fetched anew, or if they never come back:
        // a revocation, and how far the membership is. State them as well.
        for device in &devices {
            let revoked = device.state.value == DeviceState::Revoked;
            if !revoked && device.membership < highest {
                continue;
            }
            let own = step.txn.fact(self.me, &FactKey::Device(device.id))?;
            let stated = |own: &Device| {
                (!revoked || own.state == device.state) && (device.membership < highest || own.membership == highest)
            };
            if !matches!(&own, Some(Fact::Device(own)) if stated(own)) {
                step.put(vec![Change::fact(Fact::Device(device.clone()))])?;
            }
        }
        self.library.membership = highest.max(self.library.membership);
        let members: std::collections::BTreeSet<DeviceId> = devices
            .iter()
            .filter(|device| device.state.value == DeviceState::Member && device.id != self.me)
            .map(|device| device.id)
            .collect();
        let gone: Vec<DeviceId> = self.library.peers.keys().filter(|d| !members.contains(d)).copied().collect();
        for device in gone {
            self.on_peer_down(step, device)?;
        }
        let before = std::mem::replace(&mut self.library.members, members.clone());
        self.library.pulls.stir();
        let newly: Vec<DeviceId> = members.difference(&before).copied().collect();
        let left: Vec<DeviceId> = before.difference(&members).copied().collect();
        step.out.push(Output::Members { library: step.library()?, devices: members });
        for device in left {
            self.say_device(step, device, |device| Event::DeviceRevoked { device })?;
        }
        for device in newly {
            self.say_device(step, device, |device| Event::DevicePending { device })?;
            if let Some(address) = step.address(device)? {
                step.out.push(Output::Remember { device, address });
            }
        }
        Ok(())
    }

    pub(super) fn revoke(&mut self, step: &mut Step<'_>, device: DeviceId) -> Result<Result<Reply, Fault>, CoreError> {
        if device == self.me {
            return Ok(Err(Fault::new(
                FaultCode::Usage,
                "this device cannot revoke itself; nothing was changed",
                "a revocation is something the others must hear",
                &["on another device: tidegate device revoke NAME", "or here: tidegate library leave"],
            )));
        }
        self.put_device(step, device, None, Some(DeviceState::Revoked))?;
        self.refresh_members(step)?;
        Ok(Ok(Reply::Done))
    }

    /// Forgets the other devices and begins a library of its own; locations stay, conduits to others go.
    pub(super) fn leave_library(&mut self, step: &mut Step<'_>) -> Result<Reply, CoreError> {
        for device in step.txn.devices()? {
            if device.id != self.me && device.state.value == DeviceState::Member {
                self.put_device(step, device.id, None, Some(DeviceState::Revoked))?;
            }
        }
        let authors: Vec<DeviceId> = step.txn.authors()?.into_iter().map(|(device, _)| device).collect();
        for author in authors.into_iter().filter(|author| *author != self.me) {
            step.txn.forget_author(author)?;
        }
        let library = self.draw.library();
        self.adopt_library(step, library)?;
        self.refresh_members(step)?;
        Ok(Reply::Done)
    }
}

/// `stamp`, or one past `known` where that was set by a device whose clock is ahead: nobody keeps a person from
/// revoking it by a date in the future. After the last date there is, a revocation wins against a membership.
fn after(known: Stamp, stamp: Stamp) -> Stamp {
    if known <= stamp {
        return stamp;
    }
    let next = Stamp { device: stamp.device, ..known }.next(0);
    if next.is_possible() { next } else { Stamp { device: stamp.device, ..known } }
}

impl Fault {
    /// A fault with its reasons.
    pub fn new(code: FaultCode, message: impl Into<String>, why: impl Into<String>, next: &[&str]) -> Self {
        Self {
            code,
            message: message.into(),
            why: why.into(),
            next: next.iter().map(ToString::to_string).collect(),
            do_not: None,
        }
    }
}
