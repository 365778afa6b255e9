//! BOUNDED: nothing goes on without end: tasks of a device, and how often it is woken for nothing.
//!
//! That a run ends at all is a bound of the runner: a world that is not at rest within its events or its time is
//! reported there.

use std::collections::BTreeMap;

use super::{Invariant, Scene, Seen};
use crate::ghost::Ghost;
use crate::verdict::{Violation, names};
use crate::witness::Said;

/// Tasks of one device: jobs, streams of all peers, and its own. `docs/ARCHITECTURE.md`: 64 streams a peer.
const TASKS_MAX: u64 = 1_500;

/// Steps in a row that do nothing and want another one at once. Some are in order: what one part of a core does may
/// be due for another.
const RESTLESS_MAX: u64 = 100;

/// The claim.
#[derive(Debug, Default)]
pub(super) struct Bounded {
    /// Such steps in a row, by device.
    restless: BTreeMap<usize, u64>,
}

impl Invariant for Bounded {
    fn name(&self) -> &'static str {
        names::BOUNDED
    }

    fn saw(&mut self, seen: &Seen<'_>, _ghost: &Ghost, scene: &dyn Scene, wrong: &mut Vec<Violation>) {
        let Seen::Said { device, said: Said::Step { restless, .. } } = seen else { return };
        let mut tell = |kind, says: String| {
            wrong.push(Violation::new(names::BOUNDED, kind, says).on(scene.plan().devices[*device].name.as_str()));
        };
        let steps = self.restless.entry(*device).or_default();
        *steps = if *restless { *steps + 1 } else { 0 };
        if *steps == RESTLESS_MAX {
            tell(
                "restless",
                format!("{steps} times in a row it was woken, did nothing, and wanted to be woken at once"),
            );
        }
        let tasks = scene.usage(*device).tasks;
        if tasks > TASKS_MAX {
            tell("tasks", format!("{tasks} tasks are alive"));
        }
    }
}
