//! Users who strike at a chosen moment of a job: between two calls of the node's disk, where a check is followed by
//! an act.

use crate::plan::{Deed, Step};

use super::Run;

/// A user who waits for a job.
#[derive(Debug, Clone)]
pub(super) struct Lurking {
    step: Step,
    location: String,
    /// Before which call of the disk, counted from the begin of a leg.
    call: u32,
}

impl Run<'_> {
    /// Whether a step is one that waits for its moment; then it is remembered.
    pub(super) fn lurks(&mut self, device: usize, step: &Step) -> bool {
        let Deed::Strike { location, call: Some(call) } = &step.deed else { return false };
        let lurking = Lurking { step: step.clone(), location: location.clone(), call: *call };
        if self.standing[device].active.contains_key(location) {
            self.halt(device, *call);
        }
        self.standing[device].lurking = Some(lurking);
        true
    }

    /// A leg begins in a location.
    pub(super) fn lurk_on(&mut self, device: usize, location: &str) {
        let lurking = self.standing[device].lurking.as_ref().filter(|lurking| lurking.location == location);
        if let Some(call) = lurking.map(|lurking| lurking.call) {
            self.halt(device, call);
        }
    }

    /// The disk stands before the call that was waited for, or the leg is over.
    pub(super) fn strike(&mut self, device: usize, is_over: bool) {
        if self.standing[device].lurking.is_none() {
            return;
        }
        let due = self.world.device(device as u32).disk.faults(|faults| {
            let due = (faults.halts && faults.halt_at.is_some()) || (is_over && faults.halt_at.is_some());
            if due {
                faults.halt_at = None;
            }
            due
        });
        if due && let Some(lurking) = self.standing[device].lurking.take() {
            if !is_over {
                self.coverage.mark("user:struck-within-a-job");
            }
            self.user_does(device, &lurking.step);
        }
    }

    /// Nobody waits any more.
    pub(super) fn let_go(&mut self, device: usize) {
        self.standing[device].lurking = None;
        self.world.device(device as u32).disk.faults(|faults| faults.halt_at = None);
    }

    fn halt(&mut self, device: usize, call: u32) {
        let disk = &self.world.device(device as u32).disk;
        disk.faults(|faults| {
            faults.halt_at = Some(faults.calls + u64::from(call));
            faults.halts = false;
        });
    }
}
