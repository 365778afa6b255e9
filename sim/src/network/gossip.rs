//! Gossip, worse than the real one: lost, repeated, minutes late, and from before a restart.
//!
//! The mesh forwards, so a message reaches whoever is connected to its author over any members in between.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::state::State;
use super::{Net, NetworkEvent};
use crate::happening::{DeviceIndex, What, digest};

/// Announcements that may wait at one device; more are dropped.
const WAITING_MAX: usize = 64;

impl Net {
    pub(super) fn gossip(&self, from: DeviceIndex, bytes: &Bytes) {
        let now = self.world.now();
        let mut state = self.lock();
        state.ear.hear(now, from, What::Gossip { bytes: bytes.len() as u32, digest: digest(bytes) });
        state.nodes[from as usize].traffic.gossip_sent += 1;
        for (to, over) in state.mesh(from) {
            for arrival in state.way(over, to).gossip(now).into_iter().flatten() {
                let (net, bytes) = (self.clone(), bytes.clone());
                self.world.at(arrival, move || net.deliver(from, to, bytes));
            }
        }
    }

    /// Hands a message to whoever lives at `to` by now.
    fn deliver(&self, from: DeviceIndex, to: DeviceIndex, bytes: Bytes) {
        let mut state = self.lock();
        let source = state.nodes[from as usize].id;
        let Some(life) = state.life(to).filter(|life| life.members.contains(&source)) else { return };
        if life.events.len() < WAITING_MAX && life.events.try_send(NetworkEvent::Announcement(bytes)).is_ok() {
            state.nodes[to as usize].traffic.gossip_received += 1;
        }
    }
}

impl State {
    /// Whom a message from `from` reaches, and over whom last, in order of distance.
    fn mesh(&self, from: DeviceIndex) -> Vec<(DeviceIndex, DeviceIndex)> {
        let library = self.life(from).and_then(|life| life.library);
        let mut reached = BTreeSet::from([from]);
        let mut order: Vec<(DeviceIndex, DeviceIndex)> = Vec::new();
        let mut next = vec![from];
        while let Some(over) = next.pop() {
            for to in 0..self.nodes.len() as DeviceIndex {
                let same = self.life(to).is_some_and(|life| life.library == library);
                if same && !reached.contains(&to) && !self.is_cut(over, to) && self.preferred(over, to).is_some() {
                    reached.insert(to);
                    order.push((to, over));
                    next.insert(0, to);
                }
            }
        }
        order
    }
}
