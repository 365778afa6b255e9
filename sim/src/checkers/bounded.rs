//! BOUNDED: nothing grows without end: tasks of a device, and what lies in its staging.
//!
//! That a run ends at all is a bound of the runner: a world that is not at rest within its events or its time is
//! reported there.

use super::{Invariant, Scene, Seen};
use crate::ghost::Ghost;
use crate::verdict::{Violation, names};
use crate::witness::Said;

/// Tasks of one device: jobs, streams of all peers, and its own. `docs/ARCHITECTURE.md`: 64 streams a peer.
const TASKS_MAX: u64 = 1_500;

/// The claim.
#[derive(Debug, Default)]
pub(super) struct Bounded;

impl Invariant for Bounded {
    fn name(&self) -> &'static str {
        names::BOUNDED
    }

    fn saw(&mut self, seen: &Seen<'_>, _ghost: &Ghost, scene: &dyn Scene, wrong: &mut Vec<Violation>) {
        let Seen::Said { device, said: Said::Step { .. } } = seen else { return };
        let tasks = scene.usage(*device).tasks;
        if tasks > TASKS_MAX {
            let says = format!("{tasks} tasks are alive");
            wrong.push(Violation::new(names::BOUNDED, "tasks", says).on(scene.plan().devices[*device].name.as_str()));
        }
    }
}
