//! CONVERGE: when faults stop, the ends of every conduit become equal, or differ by what is held and listed; the
//! replicas of all members become equal; and nothing is left staged.

use tidegate_protocol::library_sync::HeadRef;
use tidegate_storage::store::Snapshot;

use super::{Invariant, Scene, differences, is_internal, text};
use crate::disk::Picture;
use crate::ghost::Ghost;
use crate::plan::ConduitPlan;
use crate::verdict::{Violation, names};

/// The claim.
#[derive(Debug, Default)]
pub(super) struct Converge;

impl Invariant for Converge {
    fn name(&self) -> &'static str {
        names::CONVERGE
    }

    fn is_at_rest(&self, _ghost: &Ghost, scene: &dyn Scene) -> bool {
        find(scene).is_empty()
    }

    fn at_rest(&mut self, _ghost: &Ghost, scene: &dyn Scene, wrong: &mut Vec<Violation>) {
        wrong.extend(find(scene).into_iter().take(1));
    }
}

fn find(scene: &dyn Scene) -> Vec<Violation> {
    let mut wrong = Vec::new();
    let plan = scene.plan();
    for conduit in plan.conduits.iter().filter(|conduit| is_live(scene, conduit)) {
        match differences(scene, conduit, &|_| false) {
            None => {
                let says = format!("an end of {} is not there although everything is healed", conduit.name);
                wrong.push(Violation::new(names::CONVERGE, "no-root", says));
            }
            Some(found) => wrong.extend(found.into_iter().map(|(path, says)| {
                let says = format!("{} is not in step: {says}", conduit.name);
                let violation = Violation::new(names::CONVERGE, "ends", says);
                violation.on(conduit.target.device.as_str()).at(&conduit.target.place.location, &path)
            })),
        }
    }
    wrong.extend(replicas(scene));
    wrong.extend(staged(scene));
    wrong
}

/// Whether a conduit is expected to be in step: both owners take part, it runs by itself, no guard holds it, and no older
/// conduit keeps it waiting for a person.
fn is_live(scene: &dyn Scene, conduit: &ConduitPlan) -> bool {
    let plan = scene.plan();
    let ends = [&conduit.source, &conduit.target];
    let takes_part = ends.iter().all(|end| {
        plan.device(&end.device)
            .is_some_and(|device| scene.takes_part(device) && scene.holds(device, &end.place.location))
    });
    let Some(replica) = plan.device(&conduit.source.device).and_then(|device| scene.replica(device)) else {
        return false;
    };
    let found = replica.conduits().unwrap_or_default();
    let here = found.iter().find(|fact| fact.settings.name.value.as_str() == conduit.name);
    takes_part
        && conduit.approves
        && here.is_some_and(|fact| {
            let settings = &fact.settings;
            let by_itself = settings.schedule.value != tidegate_protocol::file_sync::Schedule::Manual;
            let may_run = tidegate_protocol::file_sync::conduit::clash(fact, &found).is_none();
            by_itself && may_run && settings.enabled.value && !settings.paused.value && !fact.removed.value
        })
}

fn replicas(scene: &dyn Scene) -> Option<Violation> {
    let members: Vec<usize> = (0..scene.plan().devices.len()).filter(|device| scene.takes_part(*device)).collect();
    let states = |replica: &Snapshot| -> Vec<HeadRef> {
        let held = |device: &usize| {
            let id = scene.id_of(*device);
            replica.author(id).ok().flatten().map(|author| author.reference(id))
        };
        members.iter().filter_map(held).collect()
    };
    let mut first: Option<(usize, Vec<HeadRef>)> = None;
    for device in &members {
        let name = scene.plan().devices[*device].name.as_str();
        let Some(replica) = scene.replica(*device) else {
            return Some(
                Violation::new(names::CONVERGE, "off", "the device is off although everything is healed").on(name),
            );
        };
        let held = states(&replica);
        match &first {
            None => first = Some((*device, held)),
            Some((other, expected)) if *expected != held => {
                let other = &scene.plan().devices[*other].name;
                let says = format!("its replica differs from that of {other}");
                return Some(Violation::new(names::CONVERGE, "replicas", says).on(name));
            }
            Some(_) => {}
        }
    }
    None
}

fn staged(scene: &dyn Scene) -> Option<Violation> {
    let plan = scene.plan();
    for location in &plan.locations {
        let Some(device) = plan.device(&location.device).filter(|device| scene.takes_part(*device)) else { continue };
        let tree = scene.tree(device, &location.name, Picture::Live).unwrap_or_default();
        let left = tree.keys().find(|path| is_internal(path) && path.starts_with(b".tidegate/staging/"));
        if let Some(left) = left {
            let says = format!("{} is left in staging", text(left));
            let violation = Violation::new(names::CONVERGE, "staged", says);
            return Some(violation.on(location.device.as_str()).at(&location.name, ""));
        }
    }
    None
}
