//! Keeping replicas level: announce, ask, verify, merge.
//!
//! A head says what a device has signed; rows follow from whoever holds them. Gossip only makes it quick:
//! heads are also exchanged on connect, every [`ANTI_ENTROPY_MS`], and on every gate check. There is one way
//! to get rows, from the contiguous prefix onwards; the first load of a device is the tail from zero. A
//! replica rests on a state only when count and set hash equal a signed head, and serves only then.

use ::core::net::SocketAddr;
use std::collections::{BTreeMap, BTreeSet};

use tidegate_protocol::codec;
use tidegate_protocol::id::{ConduitId, DeviceId, Epoch, LocationId, Sequence};
use tidegate_protocol::library_sync::{FactKey, Head, Row, RowBody, RowKey, SignedHead};
use tidegate_protocol::limits::{
    ANNOUNCE_EVERY_MS_MAX, ANNOUNCE_EVERY_MS_MIN, DEVICES_MAX, HEAD_BYTES_MAX, ROWS_BYTES_MAX, ROWS_PER_ANSWER_MAX,
};
use tidegate_protocol::wire::{self, Hello, KnownAddress, RefusalCode, Request, Response, Rows};
use tidegate_storage::store::Refusal;

use super::io::{Output, Ticket};
use super::{Asked, Core, CoreError, Step};
use crate::env::NetworkError;

/// Time between two unasked exchanges of heads with one peer, in milliseconds.
const ANTI_ENTROPY_MS: u64 = 30_000;
/// A connected peer is told of an own change within this time even if gossip fails, in milliseconds.
const TELL_WITHIN_MS: u64 = 500;
/// How long a device that brought rows that do not add up is not asked for them again, in milliseconds.
const MISTRUST_MS: u64 = 60_000;
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
    /// The stamp of the own head when this start (or this epoch) began: heads of other epochs with a later
    /// stamp prove that the replica was restored or cloned.
    pub(super) own_since: Option<tidegate_protocol::time::Stamp>,
    /// Stamps that nothing this replica remembers was signed with: from the last one it had persisted when it
    /// started to the first one it took then. An own head with one of them was signed by a lost future.
    pub(super) lost: Option<(tidegate_protocol::time::Stamp, tidegate_protocol::time::Stamp)>,
    /// A member has told what it holds of this device since the start.
    pub(super) heard: bool,
    /// The end of the own log when the node started.
    began_at: Sequence,
    announced_ms: Option<u64>,
    pulls: BTreeMap<DeviceId, Ticket>,
    mistrusted: BTreeMap<(DeviceId, DeviceId), u64>,
    wake_ms: Option<u64>,
}

/// A connected member.
#[derive(Default)]
pub(super) struct Peer {
    pub(super) address: Option<SocketAddr>,
    /// Same version and library, as its hello said.
    pub(super) greeted: bool,
    /// What it says it holds, by author.
    claims: BTreeMap<DeviceId, (Epoch, Sequence)>,
    /// When its own head was last confirmed over a nonce of ours.
    pub(super) confirmed_ms: Option<u64>,
    /// The state it confirmed then.
    pub(super) confirmed: Option<Head>,
    /// Its wall clock less ours, at that moment.
    pub(super) offset_ms: i64,
    /// When to exchange heads again, or to greet again.
    next_ms: u64,
    /// An exchange of heads is out.
    asking: bool,
}

/// An outstanding ask for rows.
#[derive(Debug, Clone, Copy)]
pub(super) struct RowsAsked {
    author: DeviceId,
    peer: DeviceId,
    from: Sequence,
}

impl Peer {
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
            peer.claims.insert(head.device, (head.epoch, head.sequence));
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
            // No number of this epoch was ever used.
            self.library.heard = true;
        }
        self.library.own_since = Some(identity.stamp);
        self.library.lost = Some((identity.stamp, self.stamp(step)?));
        self.library.began_at = step.own_author()?.upto;
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
        self.greet(step, device)
    }

    pub(super) fn on_peer_down(&mut self, step: &mut Step<'_>, device: DeviceId) -> Result<(), CoreError> {
        self.library.peers.remove(&device);
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
            self.exchange_heads(step, peer)?;
        }
        Ok(())
    }

    fn exchange_heads(&mut self, step: &mut Step<'_>, device: DeviceId) -> Result<(), CoreError> {
        let nonce = self.draw.nonce();
        if let Some(peer) = self.library.peers.get_mut(&device) {
            peer.asking = true;
            peer.next_ms = step.now.monotonic_ms + ANTI_ENTROPY_MS;
        }
        let about = Asked::Heads(super::gate::HeadsAsked { device, nonce, attempt: None, asked: step.now });
        // What may be an old state of a restored replica is not claimed.
        let own = if self.is_unsure(step)? { None } else { step.own_author()?.rests };
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
    ) -> Result<Option<Head>, CoreError> {
        let head = match signed.verify() {
            Ok(head) if head.library == step.library()? => head,
            Ok(_) => return Ok(None),
            Err(error) => {
                tracing::warn!(%error, "refused a head");
                return Ok(None);
            }
        };
        if head.device == self.me {
            self.check_own_past(step, &head)?;
            return Ok(None);
        }
        if !self.library.members.contains(&head.device) {
            return Ok(None);
        }
        self.library.claim(by.unwrap_or(head.device), &head);
        if !head.stamp.is_ahead_of(step.now.wall_ms) {
            step.witness(head.stamp)?;
        }
        self.keep_newest(step, &head, signed)?;
        Ok(Some(head))
    }

    /// Remembers the newest head of a device, and two heads of one number with two states as a fork.
    fn keep_newest(&mut self, step: &mut Step<'_>, head: &Head, signed: &SignedHead) -> Result<(), CoreError> {
        let state = step.txn.author(head.device)?;
        if let Some(state) = &state {
            let known = [state.rests.as_ref(), state.newest.as_ref()];
            if let Some(other) = known.into_iter().flatten().find(|known| known.trusted().forks_from(head))
                && state.fork.is_none()
            {
                tracing::error!(device = %head.device.short(), "signed two states under one number; quarantined");
                step.txn.set_fork(head.device, Some((other.clone(), signed.clone())))?;
            }
            let newest = state.newest.as_ref().map(SignedHead::trusted);
            let newer = newest.is_none_or(|newest| {
                if newest.epoch == head.epoch {
                    (head.sequence, head.stamp) > (newest.sequence, newest.stamp)
                } else {
                    head.stamp > newest.stamp
                }
            });
            if !newer {
                return Ok(());
            }
        }
        step.txn.set_newest(head.device, signed)?;
        // The same rows under a newer status: what is held is a state of the newer head as well.
        let level = state.is_some_and(|s| s.rests.is_some() && s.reference(head.device) == head.reference());
        if level && step.txn.rest(head.device, signed)?.is_err() {
            tracing::warn!(device = %head.device.short(), "a head equal to the state held does not add up");
        }
        Ok(())
    }

    /// Proof from outside that this replica is older than what this device once said: it was restored from a
    /// copy. Its numbers are never used again.
    fn check_own_past(&mut self, step: &mut Step<'_>, head: &Head) -> Result<(), CoreError> {
        let own = step.own_author()?;
        let is_lost = self.library.lost.is_some_and(|(last, first)| last < head.stamp && head.stamp < first);
        let rolled_back = head.epoch == own.epoch && (head.sequence > own.upto || is_lost);
        let cloned = head.epoch != own.epoch && self.library.own_since.is_some_and(|since| head.stamp > since);
        if rolled_back || cloned {
            tracing::warn!("this replica is older than what others hold of it; it begins a new epoch");
            let epoch = self.draw.epoch();
            step.txn.start_epoch(self.me, epoch)?;
            step.witness(head.stamp)?;
            self.library.own_since = Some(self.stamp(step)?);
            step.drop_baselines_of(self.me)?;
            self.rest_own(step)?;
            self.rescan_everything(step);
        }
        Ok(())
    }

    /// Whether rows were written since the start and nobody has yet told what it holds of this device. If the
    /// replica was restored, their numbers were used before: they are shown to nobody until that is known.
    pub(super) fn is_unsure(&self, step: &Step<'_>) -> Result<bool, CoreError> {
        let alone = self.library.heard || self.library.members.is_empty();
        Ok(!alone && step.own_author()?.upto != self.library.began_at)
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
        self.library.heard = true;
        let head = self.note_head(step, own, Some(device))?.filter(|head| head.device == device);
        for signed in others {
            self.note_head(step, signed, Some(device))?;
        }
        Ok(head)
    }

    /// Remembers an owner's answer over our own nonce.
    pub(super) fn confirm(&mut self, step: &Step<'_>, head: &Head, offset_ms: i64) {
        if let Some(peer) = self.library.peers.get_mut(&head.device) {
            peer.confirmed_ms = Some(step.now.monotonic_ms);
            peer.confirmed = Some(head.clone());
            peer.offset_ms = offset_ms;
        }
    }

    pub(super) fn answer_rows(
        &mut self,
        step: &mut Step<'_>,
        device: DeviceId,
        epoch: Epoch,
        from: Sequence,
    ) -> Result<Response, CoreError> {
        let author = step.txn.author(device)?.filter(|author| author.epoch == epoch && from <= author.upto);
        let Some((author, head)) = author.and_then(|author| author.rests.clone().map(|head| (author, head))) else {
            return Ok(Response::Refused(wire::Refusal::new(
                RefusalCode::NotFound,
                "no settled state of that device here",
            )));
        };
        debug_assert!(head.trusted().sequence == author.upto);
        let page = step.txn.rows_after(device, from, ROWS_PER_ANSWER_MAX, ROWS_BYTES_MAX)?;
        Ok(Response::Rows(Rows { device, head, from, upto: page.upto, rows: page.rows }))
    }

    pub(super) fn on_rows(
        &mut self,
        step: &mut Step<'_>,
        asked: RowsAsked,
        result: Result<Response, NetworkError>,
    ) -> Result<(), CoreError> {
        self.library.pulls.remove(&asked.author);
        let rows = match result {
            Ok(Response::Rows(rows)) if rows.device == asked.author => rows,
            Ok(_) | Err(_) => {
                if let Some(peer) = self.library.peers.get_mut(&asked.peer) {
                    peer.claims.remove(&asked.author);
                }
                return Ok(());
            }
        };
        let Some(head) = self.note_head(step, &rows.head, Some(asked.peer))?.filter(|h| h.device == asked.author)
        else {
            self.mistrust(step, asked, "sent rows under a head that is not their author's");
            return Ok(());
        };
        // What does not lead on from what was asked to the head beside it leads nowhere.
        let leads_on = rows.from == asked.from
            && rows.upto <= head.sequence
            && (rows.upto > rows.from || rows.upto == head.sequence);
        if !leads_on {
            self.mistrust(step, asked, "sent rows that do not lead to their head");
            return Ok(());
        }
        let facts = rows.rows.iter().any(|row| matches!(row.body, RowBody::Fact(_)));
        let conduits: BTreeSet<ConduitId> = rows.rows.iter().filter_map(conduit_of).collect();
        let touched: BTreeSet<LocationId> = rows.rows.iter().filter_map(location_of).collect();
        let complete = (rows.upto == head.sequence).then_some(&rows.head);
        let began = rows.from;
        match step.txn.apply_rows(asked.author, head.epoch, rows.from, rows.upto, rows.rows, complete)? {
            Ok(()) => {
                self.library.devices_changed |= facts;
                for conduit in conduits {
                    self.schedule_now(step, conduit);
                }
                self.locations.changed.extend(touched);
            }
            // Another answer came first, or the author began anew: not the bringer's fault.
            Err(Refusal::Gap { .. } | Refusal::Epoch) => {}
            Err(refusal) => {
                self.mistrust(step, asked, &refusal.to_string());
                let resting = step.txn.author(asked.author)?.is_some_and(|state| state.rests.is_some());
                if !resting && began > Sequence::ZERO {
                    // Earlier answers of this pull may be at fault: begin again, elsewhere.
                    step.txn.wipe_author(asked.author)?;
                }
            }
        }
        Ok(())
    }

    fn mistrust(&mut self, step: &Step<'_>, asked: RowsAsked, why: &str) {
        tracing::warn!(peer = %asked.peer.short(), author = %asked.author.short(), why, "refused rows");
        self.library.mistrusted.insert((asked.peer, asked.author), step.now.monotonic_ms + MISTRUST_MS);
    }

    pub(super) fn tend_library(&mut self, step: &mut Step<'_>) -> Result<(), CoreError> {
        if std::mem::take(&mut self.library.devices_changed) {
            self.refresh_members(step)?;
        }
        let now = step.now.monotonic_ms;
        self.library.mistrusted.retain(|_, until| *until > now);
        for device in self.library.peers.keys().copied().collect::<Vec<_>>() {
            let Some(peer) = self.library.peers.get(&device) else { continue };
            if peer.next_ms <= now && !peer.asking {
                if peer.greeted {
                    self.exchange_heads(step, device)?;
                } else {
                    self.greet_later(step, device)?;
                }
            }
        }
        for author in self.library.members.clone() {
            self.pull(step, author)?;
        }
        self.announce(step)?;
        let next_exchange = self.library.peers.values().filter(|peer| !peer.asking).map(|peer| peer.next_ms);
        let next_announcement = self
            .library
            .announced_ms
            .map(|at| at + if self.library.own_head_changed { ANNOUNCE_EVERY_MS_MIN } else { ANNOUNCE_EVERY_MS_MAX });
        let next_announcement = next_announcement.filter(|at| *at > now);
        self.library.wake_ms = next_exchange.chain(next_announcement).min();
        Ok(())
    }

    fn greet_later(&mut self, step: &mut Step<'_>, device: DeviceId) -> Result<(), CoreError> {
        if let Some(peer) = self.library.peers.get_mut(&device) {
            peer.next_ms = step.now.monotonic_ms + RETRY_MS * 4;
        }
        self.greet(step, device)
    }

    /// Asks for the rows of `author` that are missing, from the author itself or else from whoever has them.
    fn pull(&mut self, step: &mut Step<'_>, author: DeviceId) -> Result<(), CoreError> {
        if self.library.pulls.contains_key(&author) {
            return Ok(());
        }
        let state = step.txn.author(author)?;
        let Some(newest) = state.as_ref().and_then(|state| state.newest.as_ref()).map(SignedHead::trusted) else {
            return Ok(());
        };
        let state = state.expect("a newest head implies a state");
        if state.fork.is_some() {
            return Ok(());
        }
        let resting = state.rests.as_ref().map(SignedHead::trusted);
        if resting.as_ref().is_some_and(|head| head.epoch == newest.epoch && head.sequence >= newest.sequence) {
            return Ok(());
        }
        if state.epoch != newest.epoch {
            step.txn.start_epoch(author, newest.epoch)?;
            step.drop_baselines_of(author)?;
        }
        let from = if state.epoch == newest.epoch { state.upto } else { Sequence::ZERO };
        // Who rests where a prefix ends can still say what the prefix is a state of.
        let more = |upto: Sequence| upto > from || (upto == from && resting.is_none());
        let useful = |device: &DeviceId, peer: &Peer| {
            peer.greeted
                && !self.library.mistrusted.contains_key(&(*device, author))
                && peer.claims.get(&author).is_some_and(|(epoch, upto)| *epoch == newest.epoch && more(*upto))
        };
        let able: Vec<DeviceId> = self
            .library
            .peers
            .iter()
            .filter(|(device, peer)| useful(device, peer))
            .map(|(device, _)| *device)
            .collect();
        let Some(peer) = able.iter().find(|device| **device == author).or_else(|| able.first()).copied() else {
            return Ok(());
        };
        let request = Request::Rows { device: author, epoch: newest.epoch, from };
        let ticket = self.ask(step, peer, request, Asked::Rows(RowsAsked { author, peer, from }));
        self.library.pulls.insert(author, ticket);
        Ok(())
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
                peer.next_ms = peer.next_ms.min(now + TELL_WITHIN_MS);
            }
        }
        let head = self.sign_head(step, None)?;
        step.out.push(Output::Publish(head));
        Ok(())
    }
}

fn conduit_of(row: &Row) -> Option<ConduitId> {
    match &row.key {
        RowKey::Fact(FactKey::Conduit(conduit)) => Some(*conduit),
        RowKey::Fact(FactKey::Ruling(id, _)) => Some(*id),
        RowKey::Fact(FactKey::Device(_) | FactKey::Location(_) | FactKey::Generation(..) | FactKey::Conflict(..))
        | RowKey::Entry(..) => None,
    }
}

fn location_of(row: &Row) -> Option<LocationId> {
    match &row.key {
        RowKey::Entry(location, _) => Some(*location),
        RowKey::Fact(_) => None,
    }
}
