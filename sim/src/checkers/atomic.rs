//! ATOMIC: a path that users see shows the old or the new whole content, always, after any crash.
//!
//! A node may bring a file to such a path by a rename only, and only one whose content a user once made there or
//! elsewhere. After a power cut, a file that a node had put there must still be whole; one that a user wrote a moment
//! before may be torn, as with any program. And where the disk can exchange names, a replaced file is never away.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_protocol::file_sync::{Action, ItemOutcome, JobKey, PreImage};
use tidegate_storage::disk::FileKind;

use super::{Invariant, Scene, Seen, is_internal, text};
use crate::disk::{Actor, Content, Deed, Held, Picture};
use crate::ghost::{Ghost, Writer};
use crate::verdict::{Violation, names};
use crate::witness::Said;

/// The claim.
#[derive(Debug, Default)]
pub(super) struct Atomic {
    /// Paths at which a leg that runs replaces a file by another one.
    replacing: BTreeSet<(usize, String, String)>,
    /// Where the items of legs that run act.
    items: BTreeMap<(JobKey, u32), (usize, String, String)>,
    /// Paths from which an empty file was taken, and of which no job has told since that what stands there is durable:
    /// what a power cut brings back there is the old content, whole.
    were_empty: BTreeSet<(usize, String, String)>,
    /// What a node had put at a path that users see, by device, location and path, before the power was cut.
    before: BTreeMap<(String, String), Content>,
}

impl Invariant for Atomic {
    fn name(&self) -> &'static str {
        names::ATOMIC
    }

    fn saw(&mut self, seen: &Seen<'_>, ghost: &Ghost, scene: &dyn Scene, wrong: &mut Vec<Violation>) {
        match seen {
            Seen::Disk { device, change, places } => {
                self.note_empty(*device, change, places);
                if change.who == Actor::Node {
                    self.changed(*device, change, places, ghost, scene, wrong);
                }
            }
            Seen::Said { device, said: Said::Leg { job, location, items } } => {
                let Some((_, name)) = scene.location_of(*location) else { return };
                for (index, path, item) in items {
                    self.items.insert((*job, *index), (*device, name.clone(), text(&path.to_slashes())));
                    let installs = matches!(item.action, Action::InstallFile { .. });
                    if installs && matches!(item.expect, PreImage::File { .. }) {
                        self.replacing.insert((*device, name.clone(), text(&path.to_slashes())));
                    }
                }
            }
            Seen::Said { said: Said::Moved { job, outcomes }, .. } => {
                for (index, outcome) in outcomes {
                    let at = self.items.remove(&(*job, *index)).filter(|_| *outcome == ItemOutcome::Done);
                    at.map(|at| self.were_empty.remove(&at));
                }
            }
            Seen::Said { device, said: Said::LegEnded { job, .. } } => {
                self.replacing.retain(|(of, ..)| of != device);
                self.items.retain(|(of, _), _| of != job);
            }
            Seen::BeforePowerCut(device) => {
                self.replacing.retain(|(of, ..)| of != device);
                self.before = installed(*device, ghost, scene);
            }
            Seen::PowerCut(device) => self.after_cut(*device, ghost, scene, wrong),
            _ => {}
        }
    }
}

impl Atomic {
    /// Remembers where an empty file stood until now.
    fn note_empty(&mut self, device: usize, change: &crate::disk::Change, places: &crate::ghost::Places) {
        let left = match &change.deed {
            Deed::Moved { held, replaced, .. } => [(&places.at, replaced.as_ref()), (&places.other, Some(held))],
            Deed::Exchanged { held, other, .. } => [(&places.at, Some(other)), (&places.other, Some(held))],
            Deed::Removed { held } => [(&places.at, Some(held)), (&None, None)],
            Deed::Created { .. } | Deed::Added | Deed::Overwrote { .. } | Deed::Marked => return,
        };
        for (place, held) in left {
            let empty = held.and_then(|held| held.content.as_ref()).is_some_and(Content::is_empty);
            if let Some((location, path)) = place.as_ref().filter(|_| empty) {
                self.were_empty.insert((device, location.clone(), path.clone()));
            }
        }
    }

    fn changed(
        &self,
        device: usize,
        change: &crate::disk::Change,
        places: &crate::ghost::Places,
        ghost: &Ghost,
        scene: &dyn Scene,
        wrong: &mut Vec<Violation>,
    ) {
        let name = scene.plan().devices[device].name.as_str();
        let mut tell = |kind: &str, place: &(String, String), says: String| {
            wrong.push(Violation::new(names::ATOMIC, kind, says).on(name).at(&place.0, &place.1));
        };
        match &change.deed {
            Deed::Created { kind: FileKind::File } | Deed::Added | Deed::Overwrote { .. } => {
                if let Some(place) = &places.at {
                    tell("in-place", place, "the node wrote into a file that users see".to_owned());
                }
            }
            Deed::Moved { held, .. } => {
                if let (Some(place), Some(strange)) = (&places.at, strange(held, ghost)) {
                    tell("strange", place, format!("the node put {strange} there, which nobody ever wrote"));
                }
                if let (None, Some(place)) = (&places.at, &places.other) {
                    let replacing = self.replacing.contains(&(device, place.0.clone(), place.1.clone()));
                    if replacing && scene.plan().devices[device].exchange {
                        tell("absent", place, "a file that is to be replaced is away for a moment".to_owned());
                    }
                }
            }
            Deed::Exchanged { held, other, .. } => {
                for (place, held) in [(&places.at, held), (&places.other, other)] {
                    if let (Some(place), Some(strange)) = (place, strange(held, ghost)) {
                        tell("strange", place, format!("the node put {strange} there, which nobody ever wrote"));
                    }
                }
            }
            Deed::Created { .. } | Deed::Marked | Deed::Removed { .. } => {}
        }
    }

    fn after_cut(&mut self, device: usize, ghost: &Ghost, scene: &dyn Scene, wrong: &mut Vec<Violation>) {
        let name = scene.plan().devices[device].name.as_str();
        let after = installed(device, ghost, scene);
        for ((location, path), now) in after {
            let before = self.before.get(&(location.clone(), path.clone()));
            if before.is_some_and(|before| *before != now) && !ghost.was_shown(&now) {
                let says = format!("a file that the node had put there is torn after a power cut: {} bytes", now.len());
                wrong.push(Violation::new(names::ATOMIC, "torn", says).on(name).at(&location, &path));
            } else if before.is_some_and(|before| !before.is_empty() && now.is_empty())
                && !self.were_empty.contains(&(device, location.clone(), path.clone()))
            {
                let says = "a file that the node had put there is empty after a power cut";
                wrong.push(Violation::new(names::ATOMIC, "torn", says).on(name).at(&location, &path));
            }
        }
        self.before.clear();
    }
}

/// A content that no user ever made.
fn strange(held: &Held, ghost: &Ghost) -> Option<String> {
    let content = held.content.as_ref().filter(|content| !ghost.was_shown(content))?;
    Some(format!("{} bytes, {}", content.len(), content.hash().short()))
}

/// Files that users see on a device and that a node put there.
fn installed(device: usize, ghost: &Ghost, scene: &dyn Scene) -> BTreeMap<(String, String), Content> {
    let plan = scene.plan();
    let own = plan.locations.iter().filter(|location| location.device == plan.devices[device].name);
    let mut found = BTreeMap::new();
    for location in own {
        let Some(tree) = scene.tree(device, &location.name, Picture::Live) else { continue };
        for (path, shown) in tree.into_iter().filter(|(path, _)| !is_internal(path)) {
            let path = text(&path);
            if ghost.writer(device, &location.name, &path) == Some(Writer::Node)
                && let Some(content) = shown.content
            {
                found.insert((location.name.clone(), path), content);
            }
        }
    }
    found
}
