//! GATED: no plan is made from an index that lacks a row of either end, nor from one that does not yet hold what
//! was on the disks when the gate asked.
//!
//! When a resolve begins, the resolver's replica must hold exactly the state that each owner itself had at the
//! number in the token. And whatever a user had changed on an owner's disk before the owner was asked must be in
//! that state, unless it has changed again since, or is in constant use and named. Evidence may be a while old when
//! the gate opens, and an owner may have been asked again meanwhile: what counts is the first question that may
//! have been answered by it.

use std::collections::BTreeMap;

use tidegate_protocol::id::{ConduitId, DeviceId, LocationId};
use tidegate_protocol::index::{EntryKind, IgnoreRules};
use tidegate_protocol::library_sync::HeadRef;
use tidegate_protocol::limits::{ANSWER_MS_MAX, EVIDENCE_AGE_MS_MAX};
use tidegate_protocol::path::EntryPath;
use tidegate_storage::disk::FileKind;
use tidegate_storage::store::Snapshot;

use super::{Invariant, Scene, Seen, is_internal};
use crate::disk::{Picture, Shown};
use crate::ghost::Ghost;
use crate::plan::{Deed, End, Millis};
use crate::verdict::{Violation, names};
use crate::witness::Said;

/// How long ago the question may have been asked whose answer opens a gate.
const ANSWERED_MS: u64 = ANSWER_MS_MAX + EVIDENCE_AGE_MS_MAX;

/// The claim.
#[derive(Debug, Default)]
pub(super) struct Gated {
    /// What each device itself had, by epoch and number.
    states: BTreeMap<(DeviceId, u64, u64), [u8; 32]>,
    /// When a device asked another for evidence, for a conduit, as far back as matters.
    asked: BTreeMap<(usize, DeviceId, ConduitId), Vec<Millis>>,
    /// When a device asked its own disk what was done there: its watcher, or `true` for a scan of everything.
    asked_disk: BTreeMap<(usize, LocationId), Vec<(Millis, bool)>>,
    /// Per resolver and end: the newest change of a user that was found in the index.
    looked: BTreeMap<(usize, End), Millis>,
}

impl Invariant for Gated {
    fn name(&self) -> &'static str {
        names::GATED
    }

    fn saw(&mut self, seen: &Seen<'_>, ghost: &Ghost, scene: &dyn Scene, wrong: &mut Vec<Violation>) {
        match seen {
            Seen::Said { said: Said::State(state), .. } => {
                self.states.insert((state.device, state.epoch.0, state.sequence.0), state.set_hash);
            }
            Seen::Said { device, said: Said::AskedHeads { owner, conduit: Some(conduit) } } => {
                let asked = self.asked.entry((*device, *owner, *conduit)).or_default();
                asked.retain(|at| at.0 + ANSWERED_MS >= scene.now().0);
                asked.push(scene.now());
            }
            Seen::Said { device, said: Said::AskedDisk(location) } => {
                self.ask_disk(*device, *location, scene.now(), false);
            }
            Seen::Said { device, said: Said::Scan { location, whole: true } } => {
                self.ask_disk(*device, *location, scene.now(), true);
            }
            Seen::Said { device, said: Said::Resolves { conduit, token, replica, busy } } => {
                let name = scene.plan().devices[*device].name.as_str();
                let found = self.rows(token, replica);
                wrong.extend(found.map(|says| Violation::new(names::GATED, "rows", says).on(name)));
                if let Some(at) = scene.conduit_of(*conduit) {
                    let ends = scene.plan().conduits[at].clone();
                    for end in [&ends.source, &ends.target] {
                        if let Some(asked) = self.asked(*device, *conduit, end, scene) {
                            self.disk(*device, end, (asked, busy), ghost, scene, wrong);
                        }
                    }
                }
            }
            Seen::Did { device, deed: Deed::Wipe | Deed::RestoreIndex } => {
                let id = scene.id_of(*device);
                self.looked.retain(|(of, end), _| of != device && scene.plan().device(&end.device) != Some(*device));
                self.asked.retain(|(of, owner, _), _| of != device && *owner != id);
                self.asked_disk.retain(|(of, _), _| of != device);
            }
            _ => {}
        }
    }
}

impl Gated {
    fn rows(&self, token: &[HeadRef], replica: &[HeadRef]) -> Option<String> {
        for head in token {
            let number = head.sequence.0;
            let Some(held) = replica.iter().find(|held| held.device == head.device) else {
                return Some(format!("the replica holds nothing of {}", head.device.short()));
            };
            if held.epoch != head.epoch || held.sequence.0 < number {
                return Some(format!(
                    "the token says number {number} of {}, the replica holds {}",
                    head.device.short(),
                    held.sequence.0
                ));
            }
            let truth = self.states.get(&(held.device, held.epoch.0, held.sequence.0));
            if truth.is_none_or(|truth| *truth != held.set_hash) {
                return Some(format!("what the replica holds of {} is not what that device had", head.device.short()));
            }
        }
        None
    }

    /// When the disk of an end was asked at the earliest, for what is now resolved.
    fn asked(&self, device: usize, conduit: ConduitId, end: &End, scene: &dyn Scene) -> Option<Millis> {
        let owner = scene.plan().device(&end.device)?;
        if owner == device {
            return self.asked_disk(device, scene.location_id(owner, &end.place.location)?, scene.now());
        }
        let asked = self.asked.get(&(device, scene.id_of(owner), conduit))?;
        asked.iter().copied().find(|at| at.0 + ANSWERED_MS >= scene.now().0)
    }

    fn ask_disk(&mut self, device: usize, location: LocationId, now: Millis, scans: bool) {
        let asked = self.asked_disk.entry((device, location)).or_default();
        let old = asked.iter().filter(|(at, _)| at.0 + ANSWERED_MS < now.0).count();
        asked.drain(..old.saturating_sub(1));
        asked.push((now, scans));
    }

    /// The same for the resolver's own disk. Without a watcher a scan answers, however long it takes.
    fn asked_disk(&self, device: usize, location: LocationId, now: Millis) -> Option<Millis> {
        let asked = self.asked_disk.get(&(device, location))?;
        let in_time = asked.iter().find(|(at, _)| at.0 + ANSWERED_MS >= now.0);
        match (in_time, asked.last()?) {
            (Some((at, _)), _) | (None, (at, true)) => Some(*at),
            (None, (_, false)) => Some(Millis(now.0.saturating_sub(ANSWERED_MS))),
        }
    }

    /// Whether users' changes from before the question are in the resolver's index.
    fn disk(
        &mut self,
        device: usize,
        end: &End,
        (asked, busy): (Millis, &[(LocationId, EntryPath)]),
        ghost: &Ghost,
        scene: &dyn Scene,
        wrong: &mut Vec<Violation>,
    ) {
        let plan = scene.plan();
        let Some(owner) = plan.device(&end.device) else { return };
        let since = self.looked.get(&(device, end.clone())).copied().unwrap_or_default();
        let changes: Vec<(&String, Millis)> =
            ghost.users_changes(owner, &end.place.location).filter(|(_, at)| *at >= since && *at < asked).collect();
        if changes.is_empty() {
            return;
        }
        let Some(tree) = scene.tree(owner, &end.place.location, Picture::Live) else { return };
        let (Some(id), Some(replica)) = (scene.location_id(owner, &end.place.location), scene.replica(device)) else {
            return;
        };
        for (path, _) in changes {
            // What changed again since then may differ.
            let newest = ghost.user_changed(owner, &end.place.location, path);
            let named = busy.iter().any(|(of, busy)| {
                let busy = busy.to_string();
                *of == id && (busy == *path || crate::ghost::is_below(path, &busy))
            });
            if newest.is_some_and(|newest| newest >= asked) || is_internal(path.as_bytes()) || named {
                continue;
            }
            if let Some(says) = unseen(&replica, scene.id_of(owner), id, path, tree.get(path.as_bytes())) {
                let name = plan.devices[device].name.as_str();
                let says = format!("it resolves, and its index does not hold what is on {}: {says}", end.device);
                wrong.push(Violation::new(names::GATED, "disk", says).on(name).at(&end.place.location, path));
            }
        }
        self.looked.insert((device, end.clone()), asked);
    }
}

/// How the index differs from the disk at a path, if it does.
fn unseen(
    replica: &Snapshot,
    owner: DeviceId,
    location: LocationId,
    path: &str,
    shown: Option<&Shown>,
) -> Option<String> {
    let path = EntryPath::from_slashes(path.as_bytes()).ok()?;
    let fact = replica.location(owner, location).ok()??;
    if IgnoreRules::new(&fact.rules).is_ok_and(|rules| rules.hides(&path)) {
        return None;
    }
    let row = replica.entry(replica.tree(owner, location).ok()?, &path).ok()?;
    let kind = row.as_ref().and_then(|row| row.state.present()).map(|entry| &entry.kind);
    match (kind, shown) {
        (Some(EntryKind::Unknown(_)), _) | (None, None) => None,
        (None, Some(shown)) => Some(format!("a {:?} is there, the index says nothing is", shown.metadata.kind)),
        (Some(_), None) => Some("nothing is there, the index says something is".to_owned()),
        (Some(kind), Some(shown)) => {
            let same = match (kind, shown.metadata.kind) {
                (EntryKind::Directory { .. }, FileKind::Directory) | (EntryKind::Special, FileKind::Special) => true,
                (EntryKind::File(facts), FileKind::File) => {
                    shown.content.as_ref().is_some_and(|content| content.hash() == facts.content)
                }
                (EntryKind::Symlink { target }, FileKind::Symlink) => shown.link.as_ref() == Some(target),
                _ => false,
            };
            (!same).then(|| "the index says something else".to_owned())
        }
    }
}
