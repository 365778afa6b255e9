//! Time, from the operating system: monotonic for timers, wall for stamps and people.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::env::{Clock, Now};

/// The system's clocks. Monotonic time counts from its creation.
#[derive(Debug, Clone, Copy)]
pub struct OsClock {
    started: Instant,
}

impl OsClock {
    /// Starts counting.
    pub fn start() -> Self {
        Self { started: Instant::now() }
    }
}

impl Clock for OsClock {
    fn now(&self) -> Now {
        // A wall clock before 1970 reads as 1970: stamps are bounded by what peers say, not by this.
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { monotonic_ms: self.started.elapsed().as_millis() as u64, wall_ms: wall.as_millis() as u64 }
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}
