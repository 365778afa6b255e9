//! Room on a disk: what running legs still have to bring in is theirs, whichever conduit they are for.
//!
//! Two conduits into one file system see the same free bytes. A leg takes what it will need before it begins,
//! gives back what it has brought in (the disk counts that itself), and the rest when it is over.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidegate_protocol::file_sync::JobKey;
use tidegate_storage::disk::Space;

/// What is taken of every disk.
#[derive(Debug, Default)]
pub(crate) struct Rooms(Mutex<BTreeMap<JobKey, Taken>>);

#[derive(Debug, Clone, Copy)]
struct Taken {
    file_system: u64,
    bytes: u64,
}

/// Room that one leg has taken; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    rooms: Arc<Rooms>,
    job: JobKey,
    file_system: u64,
    /// Bytes that must stay free, or a twentieth of the disk if that is less.
    free_bytes_min: u64,
}

impl Rooms {
    /// Takes `bytes` of a file system, if they are there beside what others have taken and what must stay free.
    /// Where the disk does not say, it is tried.
    pub(crate) fn take(
        self: &Arc<Self>,
        job: JobKey,
        file_system: u64,
        bytes: u64,
        space: Option<Space>,
        free_bytes_min: u64,
    ) -> Option<Lease> {
        let lease = Lease { rooms: Arc::clone(self), job, file_system, free_bytes_min };
        let mut taken = self.taken();
        if space.is_some_and(|space| !lease.fits(&taken, bytes, space)) {
            drop(taken);
            return None;
        }
        taken.insert(job, Taken { file_system, bytes });
        drop(taken);
        Some(lease)
    }

    fn taken(&self) -> MutexGuard<'_, BTreeMap<JobKey, Taken>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease {
    /// Whether `bytes` of what was taken still fit: other programs write to the same disk.
    pub(crate) fn has_room(&self, bytes: u64, space: Space) -> bool {
        self.fits(&self.rooms.taken(), bytes, space)
    }

    /// So much has been brought in.
    pub(crate) fn used(&self, bytes: u64) {
        if let Some(taken) = self.rooms.taken().get_mut(&self.job) {
            taken.bytes = taken.bytes.saturating_sub(bytes);
        }
    }

    fn fits(&self, taken: &BTreeMap<JobKey, Taken>, bytes: u64, space: Space) -> bool {
        let others = taken.iter().filter(|(job, other)| **job != self.job && other.file_system == self.file_system);
        let others = others.fold(0_u64, |sum, (_, other)| sum.saturating_add(other.bytes));
        let reserve = self.free_bytes_min.min(space.total / 20);
        bytes == 0 || space.free >= bytes.saturating_add(others).saturating_add(reserve)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.rooms.taken().remove(&self.job);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_protocol::file_sync::{JobKind, Side};
    use tidegate_protocol::id::{ConduitId, DeviceId};

    const SPACE: Option<Space> = Some(Space { free: 1000, total: 4000 });

    fn job(conduit: u8) -> JobKey {
        let (conduit, device) = (ConduitId::from_bytes([conduit; 16]), DeviceId::from_bytes([1; 32]));
        JobKey { conduit, generation: 1, device, side: Side::Target, kind: JobKind::Copy }
    }

    #[test]
    fn two_conduits_do_not_count_the_same_free_bytes() {
        let rooms = Arc::new(Rooms::default());
        let first = rooms.take(job(1), 7, 600, SPACE, 0).unwrap();
        assert!(rooms.take(job(2), 7, 600, SPACE, 0).is_none(), "600 of 1000 are taken");
        assert!(rooms.take(job(2), 8, 600, SPACE, 0).is_some(), "another disk");
        // What has been brought in is no longer free, and no longer taken.
        first.used(500);
        let left = Some(Space { free: 500, total: 4000 });
        assert!(rooms.take(job(2), 7, 401, left, 0).is_none());
        assert!(rooms.take(job(2), 7, 400, left, 0).is_some());
        drop(first);
        assert!(rooms.take(job(2), 7, 500, left, 0).is_some());
    }

    #[test]
    fn what_must_stay_free_is_a_twentieth_of_a_small_disk() {
        let rooms = Arc::new(Rooms::default());
        assert!(rooms.take(job(1), 7, 801, SPACE, 1 << 30).is_none());
        assert!(rooms.take(job(1), 7, 800, SPACE, 1 << 30).is_some());
        assert!(rooms.take(job(1), 7, 1_000_000, None, 1 << 30).is_some(), "a disk that does not say is tried");
    }
}
