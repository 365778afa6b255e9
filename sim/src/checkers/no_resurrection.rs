//! NO_RESURRECTION: what was deleted with all edits seen stays deleted.
//!
//! A content that a node has removed from a path, because its user had deleted it at the other end, must not come
//! back to that path by a node's doing, unless a user has brought it back somewhere, a root came or went, or a power
//! cut took a deletion back before it was on the platter.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_protocol::file_sync::{Action, ItemOutcome, JobKey, PreImage};
use tidegate_protocol::hash::ContentHash;

use super::{Invariant, Scene, Seen, text};
use crate::disk::{Actor, Content, Deed as Done, Held, Picture};
use crate::ghost::Ghost;
use crate::plan::{Deed, Millis};
use crate::verdict::{Violation, names};
use crate::witness::Said;

/// The claim.
#[derive(Debug, Default)]
pub(super) struct NoResurrection {
    /// What was removed where.
    gone: BTreeMap<(usize, String, String), (ContentHash, Millis)>,
    removing: BTreeMap<(usize, JobKey, u32), (String, String, ContentHash)>,
}

impl NoResurrection {
    fn comes(
        &mut self,
        device: usize,
        place: Option<&(String, String)>,
        held: &Held,
        ghost: &Ghost,
        scene: &dyn Scene,
    ) -> Option<Violation> {
        let (location, path) = place?;
        let content = held.content.as_ref()?;
        let key = (device, location.clone(), path.clone());
        let (gone, since) = self.gone.get(&key).copied()?;
        if gone != content.hash() || content.is_empty() {
            return None;
        }
        self.gone.remove(&key);
        if stands_elsewhere(scene, device, location, content) {
            return None;
        }
        let says = format!("{} was removed at {} and nobody has brought it back", ghost.name(gone), since.clock());
        let name = scene.plan().devices[device].name.as_str();
        Some(Violation::new(names::NO_RESURRECTION, "returned", says).on(name).at(location, path))
    }

    /// A user has this content in hand again.
    fn forget(&mut self, content: &Content) {
        let hash = content.hash();
        self.gone.retain(|_, (gone, _)| *gone != hash);
    }
}

impl Invariant for NoResurrection {
    fn name(&self) -> &'static str {
        names::NO_RESURRECTION
    }

    fn saw(&mut self, seen: &Seen<'_>, ghost: &Ghost, scene: &dyn Scene, wrong: &mut Vec<Violation>) {
        match seen {
            Seen::Disk { device, change, places } => match (change.who, &change.deed) {
                (Actor::User, Done::Moved { held, .. }) => held.content.iter().for_each(|content| self.forget(content)),
                (Actor::User, Done::Exchanged { held, other, .. }) => {
                    [held, other]
                        .into_iter()
                        .filter_map(|held| held.content.as_ref())
                        .for_each(|content| self.forget(content));
                }
                (Actor::User, Done::Created { .. } | Done::Added | Done::Overwrote { .. }) => {
                    // The same path with whatever in it is another file from now on.
                    if let Some((_, path)) = &places.at {
                        self.gone.retain(|(_, _, other), _| other != path);
                    }
                }
                (Actor::Node, Done::Moved { held, .. }) => {
                    wrong.extend(self.comes(*device, places.at.as_ref(), held, ghost, scene));
                }
                (Actor::Node, Done::Exchanged { held, other, .. }) => {
                    wrong.extend(self.comes(*device, places.at.as_ref(), held, ghost, scene));
                    wrong.extend(self.comes(*device, places.other.as_ref(), other, ghost, scene));
                }
                _ => {}
            },
            Seen::Said { device, said: Said::Leg { job, location, items } } => {
                let Some((_, location)) = scene.location_of(*location) else { return };
                for (index, path, item) in items {
                    if let (Action::Remove { .. }, PreImage::File { content, .. }) = (&item.action, &item.expect) {
                        let place = (location.clone(), text(&path.to_slashes()), *content);
                        self.removing.insert((*device, *job, *index), place);
                    }
                }
            }
            Seen::Said { device, said: Said::Moved { job, outcomes } } => {
                for (index, outcome) in outcomes {
                    let Some((location, path, content)) = self.removing.remove(&(*device, *job, *index)) else {
                        continue;
                    };
                    if *outcome == ItemOutcome::Done {
                        self.gone.insert((*device, location, path), (content, scene.now()));
                    }
                }
            }
            Seen::PowerCut(_)
            | Seen::Did {
                // What is undone comes back, and so does what a person decides for.
                deed:
                    Deed::Unmount(..)
                    | Deed::Replace(..)
                    | Deed::RestoreTree(_)
                    | Deed::RestoreIndex
                    | Deed::Wipe
                    | Deed::Undo(_)
                    | Deed::Resolve { .. },
                ..
            } => self.gone.clear(),
            _ => {}
        }
    }
}

/// Whether a content stands at any path that users see on another device or in another location.
fn stands_elsewhere(scene: &dyn Scene, device: usize, location: &str, content: &Content) -> bool {
    let plan = scene.plan();
    let locations: BTreeSet<(usize, String)> = plan
        .locations
        .iter()
        .filter_map(|other| Some((plan.device(&other.device)?, other.name.clone())))
        .filter(|(other, name)| *other != device || name != location)
        .collect();
    locations.into_iter().any(|(other, name)| {
        let tree = scene.tree(other, &name, Picture::Live).unwrap_or_default();
        tree.iter().any(|(path, shown)| !super::is_internal(path) && shown.content.as_ref() == Some(content))
    })
}
