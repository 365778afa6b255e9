//! PRE_IMAGE: nothing is replaced or removed but what the plan saw.
//!
//! What a node takes from a path that users see while a leg runs is remembered until it is put back. When the item of
//! that path is reported as done, everything that was taken and not put back must be what the item expects there. An
//! edit that came out and could not be put back is kept in the trash and reported as skipped: that is allowed.

use std::collections::BTreeMap;

use tidegate_protocol::file_sync::{Action, ItemOutcome, JobKey, PreImage as Image};
use tidegate_protocol::hash::ContentHash;

use super::{Invariant, Scene, Seen, text};
use crate::disk::{Actor, Deed, Held};
use crate::ghost::Ghost;
use crate::verdict::{Violation, names};
use crate::witness::Said;

/// The claim.
#[derive(Debug, Default)]
pub(super) struct PreImage {
    /// Contents that a node has taken from a path and not put back.
    taken: BTreeMap<(usize, String, String), Vec<ContentHash>>,
    /// Items of legs that run.
    items: BTreeMap<(usize, JobKey, u32), Doing>,
}

#[derive(Debug)]
struct Doing {
    location: String,
    path: String,
    /// The old path of a rename, from which its content is taken as planned.
    from: Option<String>,
    allowed: Option<Vec<ContentHash>>,
}

impl PreImage {
    fn moved(&mut self, device: usize, place: Option<&(String, String)>, came: Option<&Held>, left: Option<&Held>) {
        let Some((location, path)) = place else { return };
        let key = (device, location.clone(), path.clone());
        if let Some(content) = came.and_then(|held| held.content.as_ref())
            && let Some(taken) = self.taken.get_mut(&key)
        {
            taken.retain(|other| *other != content.hash());
        }
        if let Some(content) = left.and_then(|held| held.content.as_ref()) {
            self.taken.entry(key).or_default().push(content.hash());
        }
    }
}

impl Invariant for PreImage {
    fn name(&self) -> &'static str {
        names::PRE_IMAGE
    }

    fn saw(&mut self, seen: &Seen<'_>, ghost: &Ghost, scene: &dyn Scene, wrong: &mut Vec<Violation>) {
        match seen {
            Seen::Disk { device, change, places } if change.who == Actor::Node => match &change.deed {
                Deed::Moved { held, replaced, .. } => {
                    self.moved(*device, places.at.as_ref(), Some(held), replaced.as_ref());
                    self.moved(*device, places.other.as_ref(), None, Some(held));
                }
                Deed::Exchanged { held, other, .. } => {
                    self.moved(*device, places.at.as_ref(), Some(held), Some(other));
                    self.moved(*device, places.other.as_ref(), Some(other), Some(held));
                }
                Deed::Removed { held } => self.moved(*device, places.at.as_ref(), None, Some(held)),
                Deed::Created { .. } | Deed::Added | Deed::Overwrote { .. } | Deed::Marked => {}
            },
            Seen::Said { device, said: Said::Leg { job, location, items } } => {
                let Some((_, name)) = scene.location_of(*location) else { return };
                for (index, path, item) in items {
                    let (path, allowed) = (text(&path.to_slashes()), allowed(&item.expect, &item.action));
                    let from = old_path(&path, item);
                    let doing = Doing { location: name.clone(), path, from, allowed };
                    self.items.insert((*device, *job, *index), doing);
                }
            }
            Seen::Said { device, said: Said::Moved { job, outcomes } } => {
                for (index, outcome) in outcomes {
                    let Some(doing) = self.items.remove(&(*device, *job, *index)) else { continue };
                    let key = (*device, doing.location.clone(), doing.path.clone());
                    let mut taken = self.taken.remove(&key).unwrap_or_default();
                    if let Some(from) = doing.from {
                        let left = self.taken.remove(&(*device, doing.location.clone(), from));
                        taken.extend(left.unwrap_or_default());
                    }
                    let Some(allowed) = doing.allowed.filter(|_| *outcome == ItemOutcome::Done) else { continue };
                    if let Some(other) = taken.iter().find(|content| !allowed.contains(content)) {
                        let says = format!("{} was taken away, and the plan had not seen it", ghost.name(*other));
                        let name = scene.plan().devices[*device].name.as_str();
                        let violation = Violation::new(names::PRE_IMAGE, "other-content", says);
                        wrong.push(violation.on(name).at(&doing.location, &doing.path));
                    }
                }
            }
            Seen::BeforePowerCut(device) | Seen::Stopped(device) => {
                self.taken.retain(|(of, ..), _| of != device);
                self.items.retain(|(of, ..), _| of != device);
            }
            _ => {}
        }
    }
}

/// Where a rename takes its content from, below the location.
pub(super) fn old_path(path: &str, item: &tidegate_protocol::file_sync::Item) -> Option<String> {
    let Action::RenameFile { from, .. } = &item.action else { return None };
    // Items are below the conduit's root, paths below the location: the difference is the root.
    let root = path.strip_suffix(&text(&item.path.to_slashes())).unwrap_or_default();
    Some(format!("{root}{}", text(&from.to_slashes())))
}

/// What an item may take from its path; `None` where that is a whole directory.
fn allowed(expect: &Image, action: &Action) -> Option<Vec<ContentHash>> {
    let mut allowed = match expect {
        Image::Directory => return None,
        Image::File { content, .. } => vec![*content],
        Image::Absent | Image::Symlink { .. } => Vec::new(),
    };
    // Its own new content may come and go while it is put into place.
    match action {
        Action::InstallFile { file, .. } | Action::RenameFile { file, .. } | Action::SetMetadata { file, .. } => {
            allowed.push(file.content);
        }
        Action::MakeDirectory { .. }
        | Action::InstallSymlink { .. }
        | Action::Remove { .. }
        | Action::RemoveDirectory { .. }
        | Action::Adopt { .. }
        | Action::Respell { .. }
        | Action::Evict { .. } => {}
    }
    Some(allowed)
}
