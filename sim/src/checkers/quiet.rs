//! QUIET: at rest nothing is written, and nothing is sent but heartbeats and what schedules ask for.
//!
//! Once the world has come to rest it is watched for some minutes more: no node may touch a disk, no device may write
//! a row, and frames stay below what heartbeats between all pairs and runs that find nothing need. A conduit that runs at an
//! interval may agree to what others have brought in step only then, and keep the texts of it for merges, once.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_protocol::file_sync::Schedule;

use super::{Invariant, Scene, Seen, Usage, text};
use crate::disk::Actor;
use crate::ghost::Ghost;
use crate::plan::Millis;
use crate::verdict::{Violation, names};
use crate::witness::Said;

/// Frames that two devices may exchange in a minute of rest: heads both ways every 30 s, each a question, an answer
/// and what belongs to opening a stream; doubled.
const FRAMES_PER_PAIR_AND_MINUTE: u64 = 40;
/// Frames of one run of a conduit that finds nothing: evidence from both ends, twice.
const FRAMES_PER_RUN: u64 = 40;

/// The claim.
#[derive(Debug, Default)]
pub(super) struct Quiet {
    /// When rest began, and what each device had used until then.
    since: Option<(Millis, BTreeMap<usize, Usage>)>,
    told: bool,
    /// Texts that were kept meanwhile, and what was done to each: device, deed, path.
    kept: BTreeSet<(usize, String, Vec<u8>)>,
}

impl Quiet {
    /// The world has come to rest.
    fn begin(&mut self, scene: &dyn Scene) {
        let usage = (0..scene.plan().devices.len()).map(|device| (device, scene.usage(device))).collect();
        self.since = Some((scene.now(), usage));
    }
}

impl Invariant for Quiet {
    fn name(&self) -> &'static str {
        names::QUIET
    }

    fn saw(&mut self, seen: &Seen<'_>, _ghost: &Ghost, scene: &dyn Scene, wrong: &mut Vec<Violation>) {
        if self.since.is_none() || self.told {
            return;
        }
        let found = match seen {
            Seen::Disk { device, change, .. } if change.who == Actor::Node => {
                let is_text = text(&change.path).contains("/.tidegate/base");
                let deed = (*device, format!("{:?}", change.deed), change.path.clone());
                if is_text && self.kept.insert(deed) {
                    return;
                }
                Some((*device, "disk", format!("at rest, the node did {:?} to {}", change.deed, text(&change.path))))
            }
            Seen::Said { device, said: Said::State(state) } => {
                Some((*device, "rows", format!("at rest, it wrote row {}", state.sequence.0)))
            }
            _ => None,
        };
        if let Some((device, kind, says)) = found {
            self.told = true;
            wrong.push(Violation::new(names::QUIET, kind, says).on(scene.plan().devices[device].name.as_str()));
        }
    }

    fn at_rest(&mut self, _ghost: &Ghost, scene: &dyn Scene, wrong: &mut Vec<Violation>) {
        let Some((since, before)) = &self.since else {
            self.begin(scene);
            return;
        };
        let minutes = (scene.now().0 - since.0).div_ceil(60_000);
        let devices = before.len() as u64;
        let runs: u64 = scene.plan().conduits.iter().map(|conduit| runs_per_minute(conduit.schedule)).sum();
        let most = minutes * (FRAMES_PER_PAIR_AND_MINUTE * devices + FRAMES_PER_RUN * runs);
        for (device, used) in before {
            let frames = scene.usage(*device).frames.saturating_sub(used.frames);
            if frames > most && !self.told {
                self.told = true;
                let says = format!("{frames} frames in {minutes} minutes of rest; {most} would be much");
                wrong
                    .push(Violation::new(names::QUIET, "frames", says).on(scene.plan().devices[*device].name.as_str()));
            }
        }
    }
}

fn runs_per_minute(schedule: Schedule) -> u64 {
    match schedule {
        Schedule::Manual | Schedule::Instant { .. } => 0,
        Schedule::Every { interval_ms } => 60_000_u64.div_ceil(interval_ms.max(1)),
    }
}
