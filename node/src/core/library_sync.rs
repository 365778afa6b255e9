//! Keeping replicas level: announce, ask, verify, merge.
//!
//! A head says what a device has signed; rows follow from whoever holds them. Gossip only makes it quick:
//! heads are also exchanged on connect, every [`ANTI_ENTROPY_MS`], and on every gate check; and a connected peer that has
//! not asked for an own change by itself is told of it.
//!
//! Not here: how rows come ([`super::pull`]), and what a device finds out about its own past ([`super::past`]).

use ::core::net::SocketAddr;
use std::collections::{BTreeMap, BTreeSet};

use tidegate_protocol::codec;
use tidegate_protocol::id::{DeviceId, Epoch, Sequence};
use tidegate_protocol::library_sync::{Head, SignedHead};
use tidegate_protocol::limits::{
    ANNOUNCE_EVERY_MS_MAX, ANNOUNCE_EVERY_MS_MIN, ANSWER_MS_MAX, CONFIG_EVIDENCE_AGE_MS_MAX, DEVICES_MAX,
    HEAD_BYTES_MAX,
};
use tidegate_protocol::wire::{Hello, KnownAddress, Request};

use super::events::Event;
use super::heads::{Checked, Verified};
use super::io::Output;
use super::pull::{Pulls, is_forked};
use super::renewal::Past;
use super::{Asked, Core, CoreError, Step};

/// Time between two unasked exchanges of heads with one peer, in milliseconds. With the time that an answer may take it is
/// below `CONFIG_EVIDENCE_AGE_MS_MAX`, so that what a peer confirmed never grows too old for the gate by itself.
const ANTI_ENTROPY_MS: u64 = 45_000;
const _: () = assert!(ANTI_ENTROPY_MS + ANSWER_MS_MAX < CONFIG_EVIDENCE_AGE_MS_MAX);
/// A connected peer is told of an own change within this time even if gossip fails, in milliseconds.
const TELL_WITHIN_MS: u64 = 500;
/// Pause before a failed ask is repeated, in milliseconds.
const RETRY_MS: u64 = 500;

/// What is known of the moment only.
#[derive(Default)]
pub(super) struct LibrarySync {
    pub(super) peers: BTreeMap<DeviceId, Peer>,
    /// Members of the library, without this device.
    pub(super) members: BTreeSet<DeviceId>,
    /// The highest membership epoch applied.
    pub(super) membership: u64,
    /// The own state changed since it was last announced.
    pub(super) own_head_changed: bool,
    /// Facts about devices changed in this step.
    pub(super) devices_changed: bool,
    /// What tells whether this replica is older than what this device once said.
    pub(super) past: Past,
    announced_ms: Option<u64>,
    pub(super) verified: Verified,
    pub(super) pulls: Pulls,
    wake_ms: Option<u64>,
}

/// A connected member.
#[derive(Default)]
pub(super) struct Peer {
    pub(super) address: Option<SocketAddr>,
    /// Same version and library, as its hello said.
    pub(super) greeted: bool,
    /// What it says it holds, by author.
    pub(super) claims: BTreeMap<DeviceId, (Epoch, Sequence)>,
    /// When its own head was last confirmed over a nonce of ours.
    pub(super) confirmed_ms: Option<u64>,
    /// The state it confirmed then.
    pub(super) confirmed: Option<Head>,
    /// Its wall clock less ours, at that moment.
    pub(super) offset_ms: i64,
    /// The newest own state that it is known to have heard of.
    told: Option<(Epoch, Sequence)>,
    /// When it is to be told of the own state, if it has not heard of that by then.
    tell_ms: Option<u64>,
    /// When to exchange heads again, or to greet again.
    next_ms: u64,
    /// An exchange of heads is out.
    asking: bool,
}

impl Peer {
    /// What it says it holds of an author.
    pub(super) fn claims_of(&self, author: DeviceId) -> Option<(Epoch, Sequence)> {
        self.claims.get(&author).copied()
    }

    /// When to exchange heads with it.
    fn exchange_ms(&self) -> u64 {
        self.tell_ms.map_or(self.next_ms, |tell_ms| tell_ms.min(self.next_ms))
    }

    /// An exchange of heads came to nothing: try again soon.
    pub(super) const fn asking_failed(&mut self, now_ms: u64) {
        self.asking = false;
        self.next_ms = now_ms + RETRY_MS;
    }
}

impl LibrarySync {
    pub(super) fn next_wake(&self) -> Option<u64> {
        self.wake_ms
    }

    /// The highest sequence of `author` in `epoch` that anybody but itself claims.
    pub(super) fn gossiped(&self, author: DeviceId, epoch: Epoch) -> Option<Sequence> {
        let others = self.peers.iter().filter(|(device, _)| **device != author);
        others.filter_map(|(_, peer)| peer.claims.get(&author)).filter(|(e, _)| *e == epoch).map(|(_, s)| *s).max()
    }

    fn claim(&mut self, by: DeviceId, head: &Head) {
        if let Some(peer) = self.peers.get_mut(&by) {
            let claim = (head.epoch, head.sequence);
            if peer.claims.insert(head.device, claim) != Some(claim) {
                self.pulls.stir();
            }
        }
    }

    /// A connected member has heard of this own state.
    pub(super) fn has_heard(&mut self, device: DeviceId, state: (Epoch, Sequence)) {
        if let Some(peer) = self.peers.get_mut(&device) {
            peer.told = Some(state);
        }
    }
}

impl Core {
    pub(super) fn begin_library(&mut self, step: &mut Step<'_>) -> Result<(), CoreError> {
        let identity = step.txn.identity()?;
        if identity.library.is_none() {
            let library = self.draw.library();
            step.txn.set_library(library)?;
        }
        if identity.epoch.is_none() {
            let epoch = self.draw.epoch();
            step.txn.start_epoch(self.me, epoch)?;
        }
        self.begin_past(step, &identity)?;
        self.admit_configured(step)?;
        // Before any other room begins: who is no member is refused what it was doing.
        self.refresh_members(step)?;
        self.library.own_head_changed = true;
        Ok(())
    }

    pub(super) fn on_peer_up(
        &mut self,
        step: &mut Step<'_>,
        device: DeviceId,
        address: SocketAddr,
    ) -> Result<(), CoreError> {
        if !self.library.members.contains(&device) {
            return Ok(());
        }
        step.set_address(device, address)?;
        self.library.peers.insert(device, Peer { address: Some(address), ..Peer::default() });
        self.say_device(step, device, |device| Event::DeviceOnline { device })?;
        self.greet(step, device)
    }

    pub(super) fn on_peer_down(&mut self, step: &mut Step<'_>, device: DeviceId) -> Result<(), CoreError> {
        if self.library.peers.remove(&device).is_some() {
            self.say_device(step, device, |device| Event::DeviceOffline { device })?;
        }
        self.gate.forget_peer(device);
        self.service.forget_peer(device, step.now);
        Ok(())
    }

    pub(super) fn greet(&mut self, step: &mut Step<'_>, device: DeviceId) -> Result<(), CoreError> {
        let hello = self.hello(step)?;
        self.ask(step, device, Request::Hello(hello), Asked::Hello(device));
        Ok(())
    }

    pub(super) fn hello(&self, step: &Step<'_>) -> Result<Hello, CoreError> {
        let own = step.txn.device_fact(self.me)?;
        Ok(Hello {
            version: tidegate_protocol::wire::PROTOCOL_VERSION,
            library: step.library()?,
            name: own.map_or_else(|| self.config.name.clone(), |device| device.name.value),
            alone: self.is_alone(step)?,
        })
    }

    /// A hello, asked or answered: same library, or one of two lone libraries gives way.
    pub(super) fn note_hello(&mut self, step: &mut Step<'_>, peer: DeviceId, hello: &Hello) -> Result<(), CoreError> {
        let mine = step.library()?;
        if hello.version != tidegate_protocol::wire::PROTOCOL_VERSION {
            tracing::warn!(peer = %peer.short(), version = hello.version, "speaks another version of the protocol");
            return Ok(());
        }
        if hello.library != mine {
            let give_way = self.is_alone(step)? && (!hello.alone || hello.library < mine);
            if !give_way {
                return Ok(());
            }
            self.adopt_library(step, hello.library)?;
            self.greet(step, peer)?;
        }
        let Some(state) = self.library.peers.get_mut(&peer) else { return Ok(()) };
        if !state.greeted {
            state.greeted = true;
            self.library.pulls.stir();
            self.exchange_heads(step, peer)?;
        }
        Ok(())
    }

    fn exchange_heads(&mut self, step: &mut Step<'_>, device: DeviceId) -> Result<(), CoreError> {
        let nonce = self.draw.nonce();
        if let Some(peer) = self.library.peers.get_mut(&device) {
            peer.asking = true;
            peer.tell_ms = None;
            peer.next_ms = step.now.monotonic_ms + ANTI_ENTROPY_MS;
        }
        // What may be an old state of a restored replica is not claimed.
        let own = if self.is_unsure(step)? { None } else { step.own_author()?.rests.clone() };
        let tells = own.as_ref().map(|own| (own.trusted().epoch, own.trusted().sequence));
        let about = Asked::Heads(super::gate::HeadsAsked { device, nonce, attempt: None, asked: step.now, tells });
        self.ask(step, device, Request::Heads { nonce, locations: Vec::new(), conduit: None, own }, about);
        Ok(())
    }

    /// Where the connected members are, for a device that may not have met them.
    pub(super) fn known_addresses(&self) -> Vec<KnownAddress> {
        let known =
            |(device, peer): (&DeviceId, &Peer)| peer.address.map(|address| KnownAddress { device: *device, address });
        self.library.peers.iter().filter_map(known).take(DEVICES_MAX).collect()
    }

    /// A member says where it reaches others. Those that are not connected here are tried there.
    pub(super) fn note_addresses(&self, step: &mut Step<'_>, known: &[KnownAddress]) {
        for KnownAddress { device, address } in known.iter().take(DEVICES_MAX) {
            if self.library.members.contains(device) && !self.library.peers.contains_key(device) {
                step.out.push(Output::Remember { device: *device, address: *address });
            }
        }
    }

    pub(super) fn on_announcement(&mut self, step: &mut Step<'_>, bytes: &[u8]) -> Result<(), CoreError> {
        if bytes.len() > HEAD_BYTES_MAX {
            return Ok(());
        }
        match codec::decode::<SignedHead>(bytes) {
            Ok(signed) => self.note_head(step, &signed, None).map(|_| ()),
            Err(error) => {
                tracing::debug!(%error, "an announcement that is none");
                Ok(())
            }
        }
    }

    /// A head from anywhere. Returns it if its signature, library and author are in order.
    pub(super) fn note_head(
        &mut self,
        step: &mut Step<'_>,
        signed: &SignedHead,
        by: Option<DeviceId>,
    ) -> Result<Option<Checked>, CoreError> {
        let checked = match self.library.verified.verify(signed, by) {
            Ok(checked) if checked.said.library == step.library()? => checked,
            Ok(_) => return Ok(None),
            Err(error) => {
                tracing::warn!(%error, "refused a head");
                return Ok(None);
            }
        };
        let Checked { said: head, signed } = &checked;
        if head.device == self.me {
            if let Some(by) = by {
                self.library.has_heard(by, (head.epoch, head.sequence));
            }
            self.check_own_past(step, head)?;
            return Ok(None);
        }
        if !self.library.members.contains(&head.device) {
            return Ok(None);
        }
        self.library.verified.remember(signed);
        self.library.claim(by.unwrap_or(head.device), head);
        if !head.stamp.is_ahead_of(step.now.wall_ms) {
            step.witness(head.stamp)?;
        }
        self.keep_newest(step, head, signed)?;
        Ok(Some(checked))
    }

    /// Remembers the newest head of a device. Two heads of one number with two states are a fork; so is a head of an
    /// epoch that the device had left: two go on under one key. Both are about an epoch, and end with it.
    fn keep_newest(&mut self, step: &mut Step<'_>, head: &Head, signed: &SignedHead) -> Result<(), CoreError> {
        let state = step.txn.author(head.device)?;
        if let Some(state) = &state {
            let known = [state.rests.as_ref(), state.newest.as_ref()];
            if let Some(other) = known.into_iter().flatten().find(|known| known.trusted().forks_from(head))
                && !is_forked(state)
            {
                tracing::error!(device = %head.device.short(), "signed two states under one number; quarantined");
                step.txn.set_fork(head.device, Some((other.clone(), signed.clone())))?;
            }
            if let Some(last) = &state.newest {
                let newest = last.trusted();
                let same = newest.epoch == head.epoch;
                let newer = if same {
                    (head.sequence, head.stamp) > (newest.sequence, newest.stamp)
                } else {
                    head.stamp > newest.stamp
                };
                if !newer {
                    return Ok(());
                }
                if !same && !step.leave_epoch(head.device, newest.epoch, head.epoch)? {
                    tracing::error!(device = %head.device.short(), "two devices use its key; quarantined");
                    step.txn.set_fork(head.device, Some((last.clone(), signed.clone())))?;
                }
            }
        }
        step.txn.set_newest(head.device, signed)?;
        self.library.pulls.stir();
        let known = state.as_ref().and_then(|state| state.newest.as_ref()).map(|known| known.trusted().reference());
        if known != Some(head.reference()) {
            let sequence = head.sequence.0;
            self.say_device(step, head.device, |device| Event::Head { device, sequence })?;
        }
        // The same rows under a newer status: what is held is a state of the newer head as well.
        let level = state.is_some_and(|s| s.rests.is_some() && s.reference(head.device) == head.reference());
        if level && step.txn.rest(head.device, signed)?.is_err() {
            tracing::warn!(device = %head.device.short(), "a head equal to the state held does not add up");
        }
        Ok(())
    }

    pub(super) fn on_heads(
        &mut self,
        step: &mut Step<'_>,
        device: DeviceId,
        own: &SignedHead,
        others: &[SignedHead],
    ) -> Result<Option<Head>, CoreError> {
        if let Some(peer) = self.library.peers.get_mut(&device) {
            peer.asking = false;
        }
        self.library.past.heard = true;
        self.check_own_forks(step, others)?;
        let head = self.note_head(step, own, Some(device))?.map(|checked| checked.said);
        for signed in others {
            self.note_head(step, signed, Some(device))?;
        }
        Ok(head.filter(|head| head.device == device))
    }

    /// Remembers an owner's answer over our own nonce.
    pub(super) fn confirm(&mut self, step: &Step<'_>, head: &Head, offset_ms: i64) {
        if let Some(peer) = self.library.peers.get_mut(&head.device) {
            peer.confirmed_ms = Some(step.now.monotonic_ms);
            peer.confirmed = Some(head.clone());
            peer.offset_ms = offset_ms;
        }
    }

    pub(super) fn tend_library(&mut self, step: &mut Step<'_>) -> Result<(), CoreError> {
        if std::mem::take(&mut self.library.devices_changed) {
            self.refresh_members(step)?;
        }
        let now = step.now.monotonic_ms;
        let own = step.own_author()?;
        for device in self.library.peers.keys().copied().collect::<Vec<_>>() {
            let Some(peer) = self.library.peers.get_mut(&device) else { continue };
            if peer.told == Some((own.epoch, own.upto)) {
                peer.tell_ms = None;
            }
            if peer.exchange_ms() <= now && !peer.asking {
                if peer.greeted {
                    self.exchange_heads(step, device)?;
                } else {
                    self.greet_later(step, device)?;
                }
            }
        }
        self.tend_pulls(step)?;
        self.announce(step)?;
        let next_exchange = self.library.peers.values().filter(|peer| !peer.asking).map(Peer::exchange_ms);
        let next_announcement = self
            .library
            .announced_ms
            .map(|at| at + if self.library.own_head_changed { ANNOUNCE_EVERY_MS_MIN } else { ANNOUNCE_EVERY_MS_MAX });
        let next_announcement = next_announcement.filter(|at| *at > now);
        let next_pull = self.library.pulls.next_wake().filter(|at| *at > now);
        self.library.wake_ms = next_exchange.chain(next_announcement).chain(next_pull).min();
        Ok(())
    }

    fn greet_later(&mut self, step: &mut Step<'_>, device: DeviceId) -> Result<(), CoreError> {
        if let Some(peer) = self.library.peers.get_mut(&device) {
            peer.next_ms = step.now.monotonic_ms + RETRY_MS * 4;
            peer.tell_ms = None;
        }
        self.greet(step, device)
    }

    /// Gossips the own head: soon after a change, and now and then.
    fn announce(&mut self, step: &mut Step<'_>) -> Result<(), CoreError> {
        let now = step.now.monotonic_ms;
        if step.own_rows_changed {
            self.rest_own(step)?;
        }
        let wait_ms = if self.library.own_head_changed { ANNOUNCE_EVERY_MS_MIN } else { ANNOUNCE_EVERY_MS_MAX };
        let early = self.library.announced_ms.is_some_and(|at| now < at + wait_ms);
        if early || self.is_unsure(step)? {
            return Ok(());
        }
        self.library.announced_ms = Some(now);
        if std::mem::take(&mut self.library.own_head_changed) {
            // Gossip is quick when it works; whoever is connected hears of a change within a moment in any case.
            for peer in self.library.peers.values_mut() {
                peer.tell_ms.get_or_insert(now + TELL_WITHIN_MS);
            }
        }
        let head = self.head_to_publish(step)?;
        step.out.push(Output::Publish(head));
        Ok(())
    }
}
