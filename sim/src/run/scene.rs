//! What checkers may look at, from the run's own state and its world.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_protocol::hash::ContentHash;
use tidegate_protocol::id::{ConduitId, DeviceId, LocationId};
use tidegate_storage::store::Snapshot;

use super::{Run, Standing};
use crate::checkers::{Scene, Usage};
use crate::disk::{Picture, Tree};
use crate::plan::{Millis, Place, Plan};
use crate::user::absolute;
use crate::world::World;

/// A run as checkers see it.
pub(super) struct View<'a> {
    plan: &'a Plan,
    world: &'a World,
    now: Millis,
    standing: &'a [Standing],
    locations: &'a BTreeMap<(usize, String), LocationId>,
    conduits: &'a BTreeMap<ConduitId, usize>,
}

impl Run<'_> {
    pub(super) fn view(&self) -> View<'_> {
        View {
            plan: self.plan,
            world: &self.world,
            now: self.now(),
            standing: &self.standing,
            locations: &self.locations,
            conduits: &self.conduits,
        }
    }
}

impl Scene for View<'_> {
    fn plan(&self) -> &Plan {
        self.plan
    }

    fn now(&self) -> Millis {
        self.now
    }

    fn device_of(&self, id: DeviceId) -> Option<usize> {
        self.world.devices().iter().position(|device| device.id() == id)
    }

    fn id_of(&self, device: usize) -> DeviceId {
        self.world.device(device as u32).id()
    }

    fn location_of(&self, id: LocationId) -> Option<(usize, String)> {
        self.locations.iter().find(|(_, other)| **other == id).map(|(key, _)| key.clone())
    }

    fn location_id(&self, device: usize, location: &str) -> Option<LocationId> {
        self.locations.get(&(device, location.to_owned())).copied()
    }

    fn conduit_of(&self, id: ConduitId) -> Option<usize> {
        self.conduits.get(&id).copied()
    }

    fn tree(&self, device: usize, location: &str, picture: Picture) -> Option<Tree> {
        if self.standing[device].away.contains_key(location) {
            return None;
        }
        let place = Place { location: location.to_owned(), path: String::new() };
        self.world.device(device as u32).disk.tree(&absolute(&place), picture).ok()
    }

    fn contents(&self, device: usize, picture: Picture) -> BTreeSet<ContentHash> {
        self.world.device(device as u32).disk.contents(picture)
    }

    fn replica(&self, device: usize) -> Option<Snapshot> {
        self.world.notes.replica(device)
    }

    fn takes_part(&self, device: usize) -> bool {
        !self.standing[device].out
    }

    fn holds(&self, device: usize, location: &str) -> bool {
        self.locations.contains_key(&(device, location.to_owned()))
    }

    fn usage(&self, device: usize) -> Usage {
        let traffic = self.world.net.traffic(device as u32);
        Usage { tasks: self.world.tasks() as u64, frames: traffic.frames_sent, bytes: traffic.bytes_sent, steps: 0 }
    }
}
