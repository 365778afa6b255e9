//! Starting conduits by themselves: some quiet time after a change, or at an interval. Never overlapping;
//! runs missed while the node was off become one.

use std::collections::BTreeMap;

use tidegate_protocol::file_sync::{Conduit, JobState, Schedule, conduit};
use tidegate_protocol::id::ConduitId;

use super::file_sync::{Purpose, SyncCall};
use super::{Core, CoreError, Step};

/// How long a scheduled run waits for the gate, in milliseconds.
const GATE_WAIT_MS: u64 = 30_000;
/// Pause before a scheduled run that found the gate closed is tried again, in milliseconds.
const RETRY_MS: u64 = 5_000;
/// Pause after an instant conduit's run that failed, in milliseconds; it doubles with each that fails in a row.
const FAILED_RETRY_MS: u64 = 60_000;
/// The longest such pause, in milliseconds.
const FAILED_RETRY_MS_MAX: u64 = 600_000;
/// Failed runs that make the pause that long.
const FAILED_RUNS_MAX: usize = 5;
/// A source that never rests is run after this many settle times, however busy it is.
const SETTLES_MAX: u64 = 6;

/// When each conduit is to run next, in monotonic milliseconds.
#[derive(Default)]
pub(super) struct Due {
    at_ms: BTreeMap<ConduitId, u64>,
    /// When the first change came that an instant schedule has not run for yet.
    stirred_ms: BTreeMap<ConduitId, u64>,
}

impl Due {
    pub(super) fn next_wake(&self) -> Option<u64> {
        self.at_ms.values().copied().min()
    }
}

impl Core {
    /// A conduit's definition or fate changed: its next run is reckoned anew.
    pub(super) fn schedule_now(&mut self, step: &Step<'_>, conduit: ConduitId) {
        self.due.at_ms.insert(conduit, step.now.monotonic_ms);
    }

    pub(super) fn schedule_retry(&mut self, step: &Step<'_>, conduit: ConduitId) {
        self.due.at_ms.insert(conduit, step.now.monotonic_ms + RETRY_MS);
    }

    /// A run failed and nothing follows it. What it could not do may be possible later without any change of the
    /// ends, such as when a full disk has room again. What a person cancelled waits for a change or a person.
    pub(super) fn schedule_after_failure(
        &mut self,
        step: &Step<'_>,
        conduit: &Conduit,
        number: u64,
    ) -> Result<(), CoreError> {
        let is_instant = matches!(conduit.settings.schedule.value, Schedule::Instant { .. });
        let cancelled = step.jobs_of(conduit.id, number)?.iter().any(|job| job.state == JobState::Cancelled);
        if !is_instant || cancelled {
            return Ok(());
        }
        let newest = step.txn.generations(conduit.id, FAILED_RUNS_MAX)?;
        let in_a_row = newest.iter().take_while(|generation| generation.failed()).count().max(1);
        let pause_ms = (FAILED_RETRY_MS << (in_a_row - 1)).min(FAILED_RETRY_MS_MAX);
        self.due.at_ms.entry(conduit.id).or_insert(step.now.monotonic_ms + pause_ms);
        Ok(())
    }

    /// Starts what is due, and makes due what changed.
    pub(super) fn tend_schedule(&mut self, step: &mut Step<'_>) -> Result<(), CoreError> {
        let now = step.now.monotonic_ms;
        let changed = std::mem::take(&mut self.locations.changed);
        let due = self.due.at_ms.values().any(|at| *at <= now);
        if changed.is_empty() && !due {
            return Ok(());
        }
        let all = step.txn.conduits()?;
        for conduit in &all {
            let settings = &conduit.settings;
            let active = !conduit.removed.value && settings.enabled.value && !settings.paused.value;
            if conduit.coordinator() != self.me || !active {
                self.due.at_ms.remove(&conduit.id);
                self.due.stirred_ms.remove(&conduit.id);
                continue;
            }
            let touched = changed.contains(&conduit.source.location) || changed.contains(&conduit.target.location);
            match settings.schedule.value {
                Schedule::Manual => {
                    self.due.at_ms.remove(&conduit.id);
                    continue;
                }
                Schedule::Instant { settle_ms } if touched => {
                    let settle_ms = u64::from(settle_ms);
                    let stirred_ms = *self.due.stirred_ms.entry(conduit.id).or_insert(now);
                    let at_ms = (now + settle_ms).min(stirred_ms + settle_ms * SETTLES_MAX);
                    self.due.at_ms.insert(conduit.id, at_ms);
                    if at_ms > now {
                        continue;
                    }
                }
                Schedule::Instant { .. } | Schedule::Every { .. } => {}
            }
            if self.due.at_ms.get(&conduit.id).is_none_or(|at| *at > now) {
                continue;
            }
            let busy = self.service.is_running(conduit.id)
                || self.gate.of(conduit.id).is_some()
                || self.bulk.waits(conduit.id);
            match settings.schedule.value {
                Schedule::Every { interval_ms } => self.due.at_ms.insert(conduit.id, now + interval_ms),
                // A change during a run is looked at after it.
                Schedule::Instant { settle_ms } if busy => {
                    self.due.at_ms.insert(conduit.id, now + u64::from(settle_ms))
                }
                Schedule::Instant { .. } | Schedule::Manual => self.due.at_ms.remove(&conduit.id),
            };
            // One that clashes is due again when the other one is removed.
            if !busy && conduit::clash(conduit, &all).is_none() {
                self.due.stirred_ms.remove(&conduit.id);
                let call = SyncCall { caller: None, plan: None, approve: false };
                self.attempt(step, conduit.id, Purpose::Sync(call), Some(GATE_WAIT_MS));
            }
        }
        // Whatever is still due belongs to no conduit that is known here; it comes again with the conduit.
        self.due.at_ms.retain(|_, at| *at > now);
        Ok(())
    }
}
