//! NO_LOSS: every content that a user wrote and did not himself supersede exists whole somewhere: in place, in the
//! trash, or where a job has set it aside for a moment.
//!
//! Asked when a node takes the last name from a content, after every power cut, and at rest. A power cut may take
//! what was not on the platter before it, for that is nobody's fault; nothing else. A conduit that deletes for good
//! may take what it was told to delete: contents that went into the trash of its target owe nothing any more.

use std::collections::BTreeSet;

use tidegate_protocol::file_sync::DeleteMode;
use tidegate_protocol::hash::ContentHash;

use super::{Invariant, Scene, Seen, text};
use crate::disk::{Actor, Picture};
use crate::ghost::Ghost;
use crate::verdict::{Violation, names};

/// The claim.
#[derive(Debug, Default)]
pub(super) struct NoLoss {
    /// Of the device whose power is cut right now: what was certainly on its platters.
    safe: BTreeSet<ContentHash>,
    /// Contents that were told of already, or that were allowed to go.
    settled: BTreeSet<ContentHash>,
}

impl NoLoss {
    fn look(&mut self, content: ContentHash, kind: &str, ghost: &Ghost, scene: &dyn Scene, wrong: &mut Vec<Violation>) {
        if self.settled.contains(&content) || !ghost.is_owed(content) {
            return;
        }
        let count = scene.plan().devices.len();
        if (0..count).any(|device| scene.contents(device, Picture::Live).contains(&content)) {
            return;
        }
        self.settled.insert(content);
        wrong.push(lost(content, kind, ghost, scene));
    }
}

fn lost(content: ContentHash, kind: &str, ghost: &Ghost, scene: &dyn Scene) -> Violation {
    let says = format!("{} is nowhere any more, and no user has let it go", ghost.name(content));
    let violation = Violation::new(names::NO_LOSS, kind, says);
    match ghost.version(content) {
        Some(version) => {
            let (location, path) = &version.place;
            violation.on(scene.plan().devices[version.device].name.as_str()).at(location, path)
        }
        None => violation,
    }
}

impl Invariant for NoLoss {
    fn name(&self) -> &'static str {
        names::NO_LOSS
    }

    fn saw(&mut self, seen: &Seen<'_>, ghost: &Ghost, scene: &dyn Scene, wrong: &mut Vec<Violation>) {
        match seen {
            Seen::Disk { device, change, .. } if change.who == Actor::Node => {
                let Some(content) = change.destroyed() else { return };
                let purged = text(&change.path).contains("/.tidegate/trash/") && deletes_for_good(scene, *device);
                if purged {
                    self.settled.insert(content.hash());
                } else {
                    self.look(content.hash(), "destroyed", ghost, scene, wrong);
                }
            }
            Seen::BeforePowerCut(device) => self.safe = scene.contents(*device, Picture::Durable),
            Seen::PowerCut(device) => {
                let elsewhere: BTreeSet<ContentHash> =
                    (0..scene.plan().devices.len()).flat_map(|device| scene.contents(device, Picture::Live)).collect();
                for (owner, content) in ghost.owed() {
                    if elsewhere.contains(&content) || self.settled.contains(&content) {
                        continue;
                    }
                    self.settled.insert(content);
                    let _ = (owner, device);
                    if self.safe.contains(&content) {
                        wrong.push(lost(content, "power-cut", ghost, scene));
                    }
                }
            }
            _ => {}
        }
    }

    fn at_rest(&mut self, ghost: &Ghost, scene: &dyn Scene, wrong: &mut Vec<Violation>) {
        let owed: BTreeSet<ContentHash> = ghost.owed().map(|(_, content)| content).collect();
        let there: BTreeSet<ContentHash> =
            (0..scene.plan().devices.len()).flat_map(|device| scene.contents(device, Picture::Live)).collect();
        for content in owed.difference(&there) {
            if self.settled.insert(*content) {
                wrong.push(lost(*content, "at-rest", ghost, scene));
            }
        }
    }
}

/// Whether a conduit into a location of this device deletes for good.
fn deletes_for_good(scene: &dyn Scene, device: usize) -> bool {
    let plan = scene.plan();
    let name = &plan.devices[device].name;
    plan.conduits.iter().any(|conduit| {
        let here = conduit.target.device == *name || (conduit.source.device == *name && !conduit.mode.is_one_way());
        here && conduit.delete_mode == DeleteMode::Permanent
    })
}
