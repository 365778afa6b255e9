//! Pausing and cancelling legs that run.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidegate_protocol::file_sync::JobKey;
use tidegate_protocol::wire::JobControl;

use crate::core::io::JobStop;

const GO_ON: u8 = 0;
const PAUSE: u8 = 1;
const CANCEL: u8 = 2;

/// What a person wants of one leg. Looked at between items and between chunks.
#[derive(Debug, Clone, Default)]
pub(crate) struct Control(Arc<AtomicU8>);

impl Control {
    /// Why to stop, if so.
    pub(crate) fn stop(&self) -> Option<JobStop> {
        match self.0.load(Ordering::Relaxed) {
            PAUSE => Some(JobStop::Paused),
            CANCEL => Some(JobStop::Cancelled),
            _ => None,
        }
    }

    fn set(&self, control: JobControl) {
        let wanted = match control {
            JobControl::Pause => PAUSE,
            JobControl::Resume => GO_ON,
            JobControl::Cancel => CANCEL,
        };
        // Cancelled is for good: a leg that is about to end must not be told to go on.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| (now != CANCEL).then_some(wanted));
    }
}

/// The legs that run.
#[derive(Debug, Default)]
pub(crate) struct Controls(Mutex<BTreeMap<JobKey, Control>>);

impl Controls {
    /// A leg begins. `None` if a leg of that job runs already: a repeated dispatch.
    pub(crate) fn begin(&self, job: JobKey) -> Option<Control> {
        let mut running = self.lock();
        if running.contains_key(&job) {
            return None;
        }
        let control = Control::default();
        running.insert(job, control.clone());
        Some(control)
    }

    /// A leg is over.
    pub(crate) fn end(&self, job: &JobKey) {
        self.lock().remove(job);
    }

    /// Tells a leg, if it runs.
    pub(crate) fn set(&self, job: &JobKey, control: JobControl) {
        if let Some(running) = self.lock().get(job) {
            running.set(control);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<JobKey, Control>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
