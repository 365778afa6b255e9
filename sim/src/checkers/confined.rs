//! CONFINED: a node changes what users see only where an item of a running leg says so, and elsewhere only inside
//! `.tidegate/` of its own locations. In particular it never writes the source of a mirror.

use std::collections::BTreeMap;

use tidegate_protocol::file_sync::JobKey;

use super::{Invariant, Scene, Seen, text};
use crate::disk::Actor;
use crate::ghost::{Ghost, is_below};
use crate::verdict::{Violation, names};
use crate::witness::Said;

/// The claim.
#[derive(Debug, Default)]
pub(super) struct Confined {
    /// Paths that running legs name, by device, location and job.
    named: BTreeMap<(usize, String, JobKey), Vec<String>>,
}

impl Confined {
    fn may(&self, device: usize, location: &str, path: &str) -> bool {
        let of_location = self.named.iter().filter(|((of, name, _), _)| *of == device && name == location);
        of_location.flat_map(|(_, paths)| paths).any(|named| named == path || is_below(path, named))
    }
}

impl Invariant for Confined {
    fn name(&self) -> &'static str {
        names::CONFINED
    }

    fn saw(&mut self, seen: &Seen<'_>, _ghost: &Ghost, scene: &dyn Scene, wrong: &mut Vec<Violation>) {
        match seen {
            Seen::Disk { device, change, places } if change.who == Actor::Node => {
                let name = scene.plan().devices[*device].name.as_str();
                for (location, path) in [&places.at, &places.other].into_iter().flatten() {
                    if !path.is_empty() && !self.may(*device, location, path) {
                        let says = "the node changed it, and no job that runs here names it";
                        wrong.push(Violation::new(names::CONFINED, "unnamed", says).on(name).at(location, path));
                    }
                }
                let internal = text(&change.path).contains("/.tidegate");
                if places.at.is_none() && !internal && !change.path.is_empty() {
                    let says = format!("the node changed {}, which is in no location", text(&change.path));
                    wrong.push(Violation::new(names::CONFINED, "outside", says).on(name));
                }
            }
            Seen::Said { device, said: Said::Leg { job, location, items } } => {
                let Some((_, name)) = scene.location_of(*location) else { return };
                let mut paths = Vec::new();
                for (_, path, item) in items {
                    let path = text(&path.to_slashes());
                    paths.extend(super::pre_image::old_path(&path, item));
                    paths.push(path);
                }
                self.named.insert((*device, name, *job), paths);
            }
            Seen::Said { device, said: Said::LegEnded { job, .. } } => {
                self.named.retain(|(of, _, other), _| of != device || other != job);
            }
            Seen::PowerCut(device) | Seen::Stopped(device) => self.named.retain(|(of, ..), _| of != device),
            _ => {}
        }
    }
}
