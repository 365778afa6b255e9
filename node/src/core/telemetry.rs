//! What a conduit did of late: sums over the very rows that its history is made of, so that they cannot differ from it.

use tidegate_protocol::file_sync::{GenerationRecord, Verification};

use super::past::Window;

/// How far the windows reach back, in hours: a day, a week, a month.
const HOURS: [u64; 3] = [24, 7 * 24, 30 * 24];
/// An hour, in milliseconds.
const HOUR_MS: u64 = 60 * 60 * 1000;

/// Sums over each window up to now. A generation that a wrong clock closed in the future counts as of now.
pub(super) fn windows(records: &[GenerationRecord], now_ms: u64) -> Vec<Window> {
    HOURS.map(|hours| window(records, hours, now_ms)).to_vec()
}

fn window(records: &[GenerationRecord], hours: u64, now_ms: u64) -> Window {
    let mut sums = Window { hours, ..Window::default() };
    for record in records.iter().filter(|record| record.closed_ms.saturating_add(hours * HOUR_MS) > now_ms) {
        let totals = &record.totals;
        let verified = record.verification == Verification::Verified;
        sums.runs += 1;
        sums.verified += u64::from(verified);
        sums.failed += u64::from(!verified);
        sums.copied += totals.copied;
        sums.deleted += totals.deleted;
        sums.skipped += totals.skipped;
        sums.conflicts += totals.conflicts;
        sums.bytes += totals.bytes;
        sums.reused += totals.bytes_reused;
    }
    sums
}

#[cfg(test)]
mod tests {
    use tidegate_protocol::file_sync::GenerationTotals;
    use tidegate_protocol::id::{ConduitId, DeviceId};

    use super::*;

    #[test]
    fn each_window_sums_the_rows_that_were_closed_in_it() {
        let now_ms = 100 * 24 * HOUR_MS;
        let record = |number: u64, hours_ago: u64, verification| GenerationRecord {
            conduit: ConduitId::from_bytes([1; 16]),
            number,
            coordinator: DeviceId::from_bytes([1; 32]),
            verification,
            closed_ms: now_ms - hours_ago * HOUR_MS,
            totals: GenerationTotals { copied: 1, deleted: 2, skipped: 3, conflicts: 4, bytes: 5, bytes_reused: 6 },
        };
        let records = [
            record(1, 31 * 24, Verification::Verified),
            record(2, 29 * 24, Verification::Failed { remaining: 1 }),
            record(3, 6 * 24, Verification::Verified),
            record(4, 24, Verification::Verified),
            record(5, 1, Verification::Verified),
            record(6, 0, Verification::Failed { remaining: 1 }),
        ];
        let sums = windows(&records, now_ms).into_iter().map(|w| (w.hours, w.runs, w.verified, w.failed, w.reused));
        assert_eq!(sums.collect::<Vec<_>>(), [(24, 2, 1, 1, 12), (168, 4, 3, 1, 24), (720, 5, 3, 2, 30)]);
    }
}
