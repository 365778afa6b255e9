//! DURABLE_BEFORE_SAID: what left a device is on its disk.
//!
//! A number that a device has said of its own log is in its replica whenever it starts again, unless it begins a new
//! epoch. And when an item is reported as done, the platter holds its result at that moment: a power cut right after
//! the report could not take it back.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_protocol::file_sync::{Action, ItemOutcome, JobKey};
use tidegate_protocol::hash::ContentHash;
use tidegate_protocol::id::DeviceId;

use super::{Invariant, Scene, Seen, text};
use crate::disk::Picture;
use crate::ghost::{Ghost, Writer};
use crate::plan::Deed;
use crate::verdict::{Violation, names};
use crate::witness::Said;

/// The claim.
#[derive(Debug, Default)]
pub(super) struct DurableBeforeSaid {
    /// The highest number that a device has said of itself, by epoch.
    said: BTreeMap<(DeviceId, u64), u64>,
    /// Devices that have started and not shown their state yet.
    starting: BTreeSet<usize>,
    /// Where items of legs that run put which content.
    installs: BTreeMap<(usize, JobKey, u32), (String, String, ContentHash)>,
}

impl DurableBeforeSaid {
    fn state(&mut self, device: usize, state: &tidegate_protocol::library_sync::HeadRef) -> Option<String> {
        if !self.starting.remove(&device) {
            return None;
        }
        let said = self.said.get(&(state.device, state.epoch.0)).copied()?;
        (state.sequence.0 < said)
            .then(|| format!("it starts at number {} of its log and had said {said}", state.sequence.0))
    }

    fn moved(
        &mut self,
        device: usize,
        job: JobKey,
        outcomes: &[(u32, ItemOutcome)],
        ghost: &Ghost,
        scene: &dyn Scene,
        wrong: &mut Vec<Violation>,
    ) {
        let mut trees = BTreeMap::new();
        for (index, outcome) in outcomes {
            let Some((location, path, content)) = self.installs.remove(&(device, job, *index)) else { continue };
            // What a user has touched since is not the job's any more.
            if *outcome != ItemOutcome::Done || ghost.writer(device, &location, &path) != Some(Writer::Node) {
                continue;
            }
            let picture = |picture| scene.tree(device, &location, picture).unwrap_or_default();
            let (live, durable) =
                trees.entry(location.clone()).or_insert_with(|| (picture(Picture::Live), picture(Picture::Durable)));
            let at = |tree: &crate::disk::Tree| {
                tree.get(path.as_bytes()).and_then(|shown| shown.content.as_ref()).map(crate::disk::Content::hash)
            };
            if at(live) == Some(content) && at(durable) != Some(content) {
                let says = "it was reported as done, and a power cut could still take it back";
                let name = scene.plan().devices[device].name.as_str();
                wrong.push(Violation::new(names::DURABLE_BEFORE_SAID, "outcome", says).on(name).at(&location, &path));
            }
        }
    }
}

impl Invariant for DurableBeforeSaid {
    fn name(&self) -> &'static str {
        names::DURABLE_BEFORE_SAID
    }

    fn saw(&mut self, seen: &Seen<'_>, ghost: &Ghost, scene: &dyn Scene, wrong: &mut Vec<Violation>) {
        match seen {
            Seen::Started(device) => drop(self.starting.insert(*device)),
            Seen::Did { device, deed: Deed::RestoreIndex | Deed::Wipe } => {
                // What it said before is no promise of the index that it has now; its numbers are checked elsewhere.
                let id = scene.id_of(*device);
                self.said.retain(|(of, _), _| *of != id);
            }
            Seen::Said { device, said: Said::State(state) } => {
                let name = scene.plan().devices[*device].name.as_str();
                let found = self.state(*device, state);
                wrong.extend(found.map(|says| Violation::new(names::DURABLE_BEFORE_SAID, "log", says).on(name)));
            }
            Seen::Said { said: Said::Head(head), .. } => {
                let newest = self.said.entry((head.device, head.epoch.0)).or_default();
                *newest = (*newest).max(head.sequence.0);
            }
            Seen::Said { device, said: Said::Leg { job, location, items } } => {
                let Some((_, location)) = scene.location_of(*location) else { return };
                for (index, path, item) in items {
                    if let Action::InstallFile { file, .. } | Action::RenameFile { file, .. } = &item.action {
                        let place = (location.clone(), text(&path.to_slashes()), file.content);
                        self.installs.insert((*device, *job, *index), place);
                    }
                }
            }
            Seen::Said { device, said: Said::Moved { job, outcomes } } => {
                self.moved(*device, *job, outcomes, ghost, scene, wrong);
            }
            Seen::PowerCut(device) | Seen::Stopped(device) => self.installs.retain(|(of, ..), _| of != device),
            _ => {}
        }
    }
}
