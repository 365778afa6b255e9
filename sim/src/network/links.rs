//! Connections: who dials whom, what ends them, and what the devices hear of that.
//!
//! Both ends of a connection are kept, as they do not always agree: after a crash, or where only one direction is
//! cut, one end believes in it for as long as QUIC's idle timeout. A device that was away and comes back gets a
//! second connection while the other end still has the first one, as in production.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use tidegate::env::NetworkError;
use tidegate_protocol::id::{DeviceId, LibraryId};

use super::state::{Connection, End, State};
use super::{Ending, Net, NetworkEvent};
use crate::executor::{MILLI, Nanos, SECOND};
use crate::happening::{DeviceIndex, What};

/// A connection without a sign of life ends after this.
const IDLE: Nanos = 30 * SECOND;
/// A connection is kept alive by a packet at least this often; a peer that has restarted refuses that packet.
const KEEP_ALIVE: Nanos = 5 * SECOND;
/// First wait after a failed dial; doubles.
const RETRY_MIN: Nanos = 200 * MILLI;
/// Longest wait before somebody who did not answer is tried again.
const RETRY_MAX: Nanos = 5 * SECOND;
/// Longest time until multicast shows a device.
const DISCOVERY_MAX: Nanos = 500 * MILLI;
/// When a second connection between the same two may go.
const DUPLICATE_AFTER: Nanos = 3 * SECOND;

impl Net {
    /// A device lets in exactly these from now on.
    pub(super) fn allow(&self, device: DeviceIndex, library: LibraryId, members: &BTreeSet<DeviceId>) {
        let now = self.world.now();
        let mut state = self.lock();
        let Some(life) = state.life_mut(device) else { return };
        life.library = Some(library);
        life.members.clone_from(members);
        let strangers: Vec<DeviceIndex> = (0..state.nodes.len() as DeviceIndex)
            .filter(|other| !members.contains(&state.nodes[*other as usize].id))
            .collect();
        for stranger in strangers {
            for (number, end) in state.open_ends(device, stranger) {
                self.close(&mut state, number, end, now);
            }
        }
        self.dial_missing(&mut state, device, now);
    }

    /// A device was told where another one may be.
    pub(super) fn learn(&self, device: DeviceIndex, other: DeviceId, address: SocketAddr) {
        let now = self.world.now();
        let mut state = self.lock();
        if let Some(life) = state.life_mut(device) {
            life.known.insert(other, address);
            self.dial_missing(&mut state, device, now);
        }
    }

    /// Sees to it that every member is dialled that is not connected and whose address is known.
    pub(super) fn dial_missing(&self, state: &mut State, device: DeviceIndex, now: Nanos) {
        for peer in 0..state.nodes.len() as DeviceIndex {
            if !state.wants(device, peer) {
                continue;
            }
            let wait = state.way(device, peer).below(DISCOVERY_MAX);
            let life = state.life_mut(device).expect("who wants somebody is up");
            if let std::collections::btree_map::Entry::Vacant(dial) = life.dials.entry(peer) {
                dial.insert(0);
                let incarnation = life.handle.group().incarnation;
                self.dial_at(device, incarnation, peer, now + wait);
            }
        }
    }

    fn dial_at(&self, device: DeviceIndex, incarnation: u32, peer: DeviceIndex, at: Nanos) {
        let net = self.clone();
        self.world.at(at, move || net.dial(device, incarnation, peer));
    }

    fn dial(&self, device: DeviceIndex, incarnation: u32, peer: DeviceIndex) {
        let now = self.world.now();
        let mut state = self.lock();
        if state.incarnation(device) != Some(incarnation) {
            return;
        }
        if !state.wants(device, peer) {
            state.life_mut(device).map(|life| life.dials.remove(&peer));
            return;
        }
        let Some(met) = state.reachable(device, peer) else {
            self.dial_again(&mut state, device, peer, now);
            return;
        };
        let there = state.way(device, peer).latency();
        let back = state.way(peer, device).latency();
        let net = self.clone();
        self.world.at(now + there + back + there, move || net.settle((device, incarnation), (peer, met)));
    }

    fn dial_again(&self, state: &mut State, device: DeviceIndex, peer: DeviceIndex, now: Nanos) {
        let jitter = state.way(device, peer).below(RETRY_MIN);
        let Some(life) = state.life_mut(device) else { return };
        let incarnation = life.handle.group().incarnation;
        let failures = life.dials.entry(peer).or_insert(0);
        let wait = (RETRY_MIN << (*failures).min(8)).min(RETRY_MAX);
        *failures += 1;
        self.dial_at(device, incarnation, peer, now + wait + jitter);
    }

    /// A handshake is over: if both still are who they were and want each other, they are connected.
    fn settle(&self, dialler: (DeviceIndex, u32), acceptor: (DeviceIndex, u32)) {
        let now = self.world.now();
        let mut state = self.lock();
        if state.incarnation(dialler.0) != Some(dialler.1) {
            return;
        }
        let same = state.reachable(dialler.0, acceptor.0) == Some(acceptor.1);
        if !same || !state.admits(dialler.0, acceptor.0) || !state.admits(acceptor.0, dialler.0) {
            self.dial_again(&mut state, dialler.0, acceptor.0, now);
            return;
        }
        state.life_mut(dialler.0).map(|life| life.dials.remove(&acceptor.0));
        let first =
            [state.open_ends(dialler.0, acceptor.0).is_empty(), state.open_ends(acceptor.0, dialler.0).is_empty()];
        state.connections_made += 1;
        let number = state.connections_made;
        let end = |(device, incarnation)| End { device, incarnation, closed: None, silent_since: None };
        let connection =
            Connection { ends: [end(dialler), end(acceptor)], channels: std::collections::BTreeMap::new() };
        state.connections.insert(number, connection);
        for (is_first, here, there) in [(first[0], dialler.0, acceptor.0), (first[1], acceptor.0, dialler.0)] {
            let node = &state.nodes[there as usize];
            let event = NetworkEvent::PeerUp { device: node.id, address: node.address };
            let address = (node.id, node.address);
            if let Some(life) = state.life_mut(here) {
                life.known.insert(address.0, address.1);
            }
            if is_first {
                state.ear.hear(now, here, What::PeerUp { peer: there });
                state.tell(here, event);
            }
        }
        let net = self.clone();
        self.world.at(now + DUPLICATE_AFTER, move || net.retire(number));
    }

    /// Whoever dialled a connection that another one serves closes it once no stream uses it.
    fn retire(&self, number: u64) {
        let now = self.world.now();
        let mut state = self.lock();
        let Some(connection) = state.connections.get(&number) else { return };
        let (dialler, acceptor) = (connection.ends[0].device, connection.ends[1].device);
        let idle = connection.channels.is_empty();
        if connection.ends[0].closed.is_some() || state.preferred(dialler, acceptor) == Some((number, 0)) {
            return;
        }
        if idle {
            self.close(&mut state, number, 0, now);
        } else {
            let net = self.clone();
            self.world.at(now + SECOND, move || net.retire(number));
        }
    }

    /// Closes one end and tells the other, if that can be heard.
    fn close(&self, state: &mut State, number: u64, end: usize, now: Nanos) {
        let Some(connection) = state.connections.get(&number) else { return };
        let (here, there) = (connection.ends[end].device, connection.ends[1 - end].device);
        let latency = state.way(here, there).latency();
        self.shut(state, number, end, NetworkError::Disconnected, now);
        if !state.is_cut(here, there) {
            self.shut_at(number, 1 - end, NetworkError::Disconnected, now + latency);
        }
    }

    fn shut_at(&self, number: u64, end: usize, why: NetworkError, at: Nanos) {
        let net = self.clone();
        self.world.at(at, move || {
            let mut state = net.lock();
            net.shut(&mut state, number, end, why, at);
        });
    }

    /// One end is over, whatever the other one thinks.
    fn shut(&self, state: &mut State, number: u64, end: usize, why: NetworkError, now: Nanos) {
        let Some(connection) = state.connections.get_mut(&number) else { return };
        if connection.ends[end].closed.is_some() {
            return;
        }
        connection.ends[end].closed = Some(why);
        connection.channels.values_mut().flat_map(|channel| &mut channel.pipes).for_each(super::stream::Pipe::wake);
        let (here, there) = (&connection.ends[end], &connection.ends[1 - end]);
        let (device, incarnation, peer) = (here.device, here.incarnation, there.device);
        self.silence(state, number, 1 - end, now);
        state.forget_if_over(number);
        if state.incarnation(device) == Some(incarnation) && state.open_ends(device, peer).is_empty() {
            let event = NetworkEvent::PeerDown { device: state.nodes[peer as usize].id };
            state.ear.hear(now, device, What::PeerDown { peer });
            state.tell(device, event);
            self.dial_missing(state, device, now);
        }
    }

    /// Nothing can be heard at this end from now on; after a while that ends it.
    fn silence(&self, state: &mut State, number: u64, end: usize, now: Nanos) {
        let Some(connection) = state.connections.get_mut(&number) else { return };
        let end_state = &mut connection.ends[end];
        if end_state.closed.is_some() || end_state.silent_since.is_some() {
            return;
        }
        end_state.silent_since = Some(now);
        let net = self.clone();
        self.world.at(now + IDLE, move || {
            let mut state = net.lock();
            let silent = state.connections.get(&number).and_then(|connection| connection.ends[end].silent_since);
            if silent == Some(now) {
                net.shut(&mut state, number, end, NetworkError::TimedOut, now + IDLE);
            }
        });
    }

    /// Cuts a direction, or opens it again.
    pub(super) fn set_cut(&self, from: DeviceIndex, to: DeviceIndex, cut: bool) {
        let now = self.world.now();
        let mut state = self.lock();
        let since = state.cut_since(from, to);
        if cut == since.is_some() {
            return;
        }
        state.way(from, to).cut_since = cut.then_some(now);
        for (number, end) in state.open_ends(to, from) {
            if cut {
                self.silence(&mut state, number, end, now);
            }
        }
        if let Some(since) = since {
            self.heal(&mut state, from, to, since, now);
        }
    }

    fn heal(&self, state: &mut State, from: DeviceIndex, to: DeviceIndex, since: Nanos, now: Nanos) {
        // Retransmissions back off while nothing comes back: the next one may be as far away as the cut was long.
        let wait = state.way(from, to).below((now - since).min(RETRY_MAX));
        for connection in state.connections.values_mut() {
            for end in 0..2 {
                if (connection.ends[end].device, connection.ends[1 - end].device) != (from, to) {
                    continue;
                }
                connection.channels.values_mut().for_each(|channel| channel.pipes[end].resend(since, now + wait));
                if connection.ends[end].closed.is_none() {
                    connection.ends[1 - end].silent_since = None;
                }
            }
        }
        self.dial_missing(state, to, now);
        self.dial_missing(state, from, now);
    }

    /// A device has come up: the others see it, and what they still have of its past is refused.
    pub(super) fn came_up(&self, state: &mut State, device: DeviceIndex, now: Nanos) {
        let incarnation = state.incarnation(device);
        let stale: Vec<(u64, usize, DeviceIndex)> = state
            .connections
            .iter()
            .flat_map(|(number, connection)| (0..2).map(move |end| (*number, end, connection)))
            .filter(|(_, end, connection)| connection.ends[1 - end].device == device)
            .filter(|(_, end, connection)| {
                Some(connection.ends[1 - end].incarnation) != incarnation && connection.ends[*end].closed.is_none()
            })
            .map(|(number, end, connection)| (number, end, connection.ends[end].device))
            .collect();
        for (number, end, other) in stale {
            let wait = state.way(other, device).below(KEEP_ALIVE);
            self.refuse_at(number, end, (other, device), now + wait);
        }
        for other in 0..state.nodes.len() as DeviceIndex {
            self.dial_missing(state, other, now);
        }
    }

    /// The next packet over a connection of a past life is answered with a reset.
    fn refuse_at(&self, number: u64, end: usize, way: (DeviceIndex, DeviceIndex), at: Nanos) {
        let net = self.clone();
        self.world.at(at, move || {
            let mut state = net.lock();
            if state.is_cut(way.0, way.1) || state.is_cut(way.1, way.0) {
                // Idle time decides; a cut that is healed sooner leaves a packet for later.
                if state.connections.get(&number).is_some_and(|connection| connection.ends[end].closed.is_none()) {
                    net.refuse_at(number, end, way, at + KEEP_ALIVE);
                }
                return;
            }
            net.shut(&mut state, number, end, NetworkError::Disconnected, at);
        });
    }

    /// A device has gone: with a word to the others, or without.
    pub(super) fn went_down(&self, state: &mut State, device: DeviceIndex, incarnation: u32, how: Ending, now: Nanos) {
        let ends: Vec<(u64, usize)> = state
            .connections
            .iter()
            .flat_map(|(number, connection)| (0..2).map(move |end| (*number, end, &connection.ends[end])))
            .filter(|(_, _, end)| (end.device, end.incarnation) == (device, incarnation))
            .map(|(number, end, _)| (number, end))
            .collect();
        for (number, end) in ends {
            match how {
                Ending::Told => self.close(state, number, end, now),
                Ending::PowerCut => self.shut(state, number, end, NetworkError::Disconnected, now),
            }
        }
    }

    /// Every connection between two devices breaks at once, at both ends.
    pub(super) fn break_between(&self, a: DeviceIndex, b: DeviceIndex) {
        let now = self.world.now();
        let mut state = self.lock();
        for (here, there) in [(a, b), (b, a)] {
            for (number, end) in state.open_ends(here, there) {
                self.shut(&mut state, number, end, NetworkError::Disconnected, now);
            }
        }
    }
}

impl State {
    /// Whether a device is up, would connect to another, is not connected, and knows where to try.
    fn wants(&self, device: DeviceIndex, peer: DeviceIndex) -> bool {
        let (Some(life), Some(there)) = (self.life(device), self.nodes.get(peer as usize)) else { return false };
        device != peer
            && life.members.contains(&there.id)
            && (life.known.contains_key(&there.id) || (there.multicast && self.nodes[device as usize].multicast))
            && self.open_ends(device, peer).is_empty()
    }

    /// The incarnation of `peer` that answers if `device` calls now.
    fn reachable(&self, device: DeviceIndex, peer: DeviceIndex) -> Option<u32> {
        self.incarnation(peer).filter(|_| !self.is_cut(device, peer) && !self.is_cut(peer, device))
    }

    fn admits(&self, device: DeviceIndex, other: DeviceIndex) -> bool {
        let id = self.nodes[other as usize].id;
        self.life(device).is_some_and(|life| life.members.contains(&id))
    }

    fn tell(&self, device: DeviceIndex, event: NetworkEvent) {
        if let Some(life) = self.life(device) {
            // The channel has no bound; nobody listens any more only when the node ends.
            let _ = life.events.try_send(event);
        }
    }
}
