//! The checkers: one claim a file. Each hears of everything that happens and looks at the world when it must.
//!
//! A checker is an [`Invariant`]; those of other people are held in the same way ([`crate::scenario::Scenario::check`]).
//! Checks hang on single events (a content destroyed, a resolve begun, an outcome reported), so that they cost little;
//! trees are walked when something suspicious happened and at rest.

mod atomic;
mod bounded;
mod confined;
mod converge;
mod durable;
mod ends;
mod gated;
mod no_loss;
mod no_resurrection;
mod one_row;
mod order;
mod pre_image;
mod quiet;
mod truth;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use tidegate_protocol::hash::ContentHash;
use tidegate_protocol::id::{ConduitId, DeviceId, LocationId};
use tidegate_storage::store::Snapshot;

use crate::disk::{Change, Picture, Tree};
use crate::ghost::{Ghost, Places};
use crate::plan::{Deed, Millis, Plan};
use crate::verdict::Violation;
use crate::witness::Said;

pub(crate) use ends::end;
pub use ends::{Excuse, differences};

/// What happened, as a checker hears of it.
#[derive(Debug)]
pub enum Seen<'a> {
    /// A disk was changed.
    Disk {
        /// Of which device.
        device: usize,
        /// The change.
        change: &'a Change,
        /// Where that is, for users.
        places: &'a Places,
    },
    /// A device decided or said something.
    Said {
        /// Which device.
        device: usize,
        /// What.
        said: &'a Said,
    },
    /// The power of a device is about to be cut.
    BeforePowerCut(usize),
    /// The power of a device was cut; what is on its disks now is what was left.
    PowerCut(usize),
    /// A device's process ended in another way.
    Stopped(usize),
    /// A device's process began.
    Started(usize),
    /// A step of the plan was carried out.
    Did {
        /// On which device.
        device: usize,
        /// What.
        deed: &'a Deed,
    },
    /// The faults are over; everything was healed.
    Healed,
}

/// What a checker may look at. Nothing of it can be changed.
pub trait Scene {
    /// The plan that is run.
    fn plan(&self) -> &Plan;
    /// The time of the run.
    fn now(&self) -> Millis;
    /// Which device this is.
    fn device_of(&self, id: DeviceId) -> Option<usize>;
    /// The id of a device.
    fn id_of(&self, device: usize) -> DeviceId;
    /// Which location of the plan this is.
    fn location_of(&self, id: LocationId) -> Option<(usize, String)>;
    /// The id of a location.
    fn location_id(&self, device: usize, location: &str) -> Option<LocationId>;
    /// Which conduit of the plan this is.
    fn conduit_of(&self, id: ConduitId) -> Option<usize>;
    /// The tree of a location, `.tidegate` included; `None` while its root is not there.
    fn tree(&self, device: usize, location: &str, picture: Picture) -> Option<Tree>;
    /// Every content on any disk of a device, mounted or not.
    fn contents(&self, device: usize, picture: Picture) -> BTreeSet<ContentHash>;
    /// The replica of a device; `None` while it is off.
    fn replica(&self, device: usize) -> Option<Snapshot>;
    /// Whether a device takes part: it is a member, and nothing that was done to it keeps it out.
    fn takes_part(&self, device: usize) -> bool;
    /// Whether the node of a device holds a location: it was added and is still in the library.
    fn holds(&self, device: usize, location: &str) -> bool;
    /// How much of everything a device uses.
    fn usage(&self, device: usize) -> Usage;
}

/// How much of everything a device uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tasks alive.
    pub tasks: u64,
    /// Frames sent, in all.
    pub frames: u64,
    /// Bytes sent, in all.
    pub bytes: u64,
    /// Steps of the core, in all.
    pub steps: u64,
}

/// A claim about every run.
pub trait Invariant: Send {
    /// What reports call it.
    fn name(&self) -> &'static str;

    /// Hears of something; pushes what is wrong.
    fn saw(&mut self, seen: &Seen<'_>, ghost: &Ghost, scene: &dyn Scene, wrong: &mut Vec<Violation>) {
        let _ = (seen, ghost, scene, wrong);
    }

    /// Looks at the world when faults are over and everything had time to come to rest.
    fn at_rest(&mut self, ghost: &Ghost, scene: &dyn Scene, wrong: &mut Vec<Violation>) {
        let _ = (ghost, scene, wrong);
    }

    /// Whether the world is at rest, as far as this claim can tell: asked until all say so, or time is up.
    fn is_at_rest(&self, ghost: &Ghost, scene: &dyn Scene) -> bool {
        let _ = (ghost, scene);
        true
    }
}

/// All claims of `docs/ARCHITECTURE.md`.
pub fn all() -> Vec<Box<dyn Invariant>> {
    vec![
        Box::new(no_loss::NoLoss::default()),
        Box::new(atomic::Atomic::default()),
        Box::new(gated::Gated::default()),
        Box::new(order::Order::default()),
        Box::new(pre_image::PreImage::default()),
        Box::new(no_resurrection::NoResurrection::default()),
        Box::new(converge::Converge),
        Box::new(quiet::Quiet::default()),
        Box::new(durable::DurableBeforeSaid::default()),
        Box::new(one_row::OneNumberOneRow::default()),
        Box::new(confined::Confined::default()),
        Box::new(bounded::Bounded::default()),
        Box::new(truth::Truth::default()),
    ]
}

/// A path as text, for reports and for comparing with those of a plan.
pub(crate) fn text(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

/// Whether a path of a tree is the node's own.
pub(crate) fn is_internal(path: &[u8]) -> bool {
    path == b".tidegate" || path.starts_with(b".tidegate/")
}
