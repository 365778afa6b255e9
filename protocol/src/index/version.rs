//! Version vectors that travel with entries, copies and tombstones.

use serde::{Deserialize, Serialize};

use crate::id::DeviceId;

/// A version vector: per device, the number of its newest event on the path. Sorted by device, no zeros.
///
/// Numbers are not counted one by one: a device's next event takes `max(own + 1, stamp in ms)`, so that a
/// device that lost its index does not number new events below old ones.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<(DeviceId, u64)>", into = "Vec<(DeviceId, u64)>")]
pub struct Version(Vec<(DeviceId, u64)>);

/// How two versions relate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VersionOrder {
    /// The same events.
    Equal,
    /// The left one lacks events of the right one.
    Before,
    /// The left one has all events of the right one, and more.
    After,
    /// Each has events that the other lacks.
    Concurrent,
}

impl Version {
    /// No event.
    pub const NONE: Self = Self(Vec::new());

    /// Adds an event of `device`, numbered at least `at_least`.
    pub fn bump(&mut self, device: DeviceId, at_least: u64) {
        match self.0.binary_search_by_key(&device, |(d, _)| *d) {
            Ok(at) => self.0[at].1 = at_least.max(self.0[at].1 + 1),
            Err(at) => self.0.insert(at, (device, at_least.max(1))),
        }
    }

    /// The events of both.
    #[must_use]
    pub fn join(&self, other: &Self) -> Self {
        let mut joined = self.0.clone();
        for (device, number) in &other.0 {
            match joined.binary_search_by_key(device, |(d, _)| *d) {
                Ok(at) => joined[at].1 = joined[at].1.max(*number),
                Err(at) => joined.insert(at, (*device, *number)),
            }
        }
        Self(joined)
    }

    /// Relates `self` to `other`.
    pub fn compare(&self, other: &Self) -> VersionOrder {
        match (self.covers(other), other.covers(self)) {
            (true, true) => VersionOrder::Equal,
            (true, false) => VersionOrder::After,
            (false, true) => VersionOrder::Before,
            (false, false) => VersionOrder::Concurrent,
        }
    }

    /// Whether all events of `other` are in `self`.
    pub fn covers(&self, other: &Self) -> bool {
        other.0.iter().all(|(device, number)| self.get(*device) >= *number)
    }

    /// Whether any device has an event in both: whether both speak of one life of a path.
    pub fn is_related(&self, other: &Self) -> bool {
        self.0.iter().any(|(device, _)| other.get(*device) > 0)
    }

    /// The newest event of each device.
    pub fn events(&self) -> impl Iterator<Item = (DeviceId, u64)> + '_ {
        self.0.iter().copied()
    }

    /// Number of the newest event of `device`; 0 if there is none.
    pub fn get(&self, device: DeviceId) -> u64 {
        self.0.binary_search_by_key(&device, |(d, _)| *d).map_or(0, |at| self.0[at].1)
    }
}

impl TryFrom<Vec<(DeviceId, u64)>> for Version {
    type Error = &'static str;

    fn try_from(pairs: Vec<(DeviceId, u64)>) -> Result<Self, &'static str> {
        let sorted = pairs.is_sorted_by(|a, b| a.0 < b.0);
        let positive = pairs.iter().all(|(_, number)| *number > 0);
        if sorted && positive { Ok(Self(pairs)) } else { Err("a version is sorted by device and has no zeros") }
    }
}

impl From<Version> for Vec<(DeviceId, u64)> {
    fn from(version: Version) -> Self {
        version.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_order_as_sets_of_events() {
        let [a, b] = [1, 2].map(|n| DeviceId::from_bytes([n; 32]));
        let mut left = Version::NONE;
        left.bump(a, 0);
        let mut right = left.clone();
        assert_eq!(left.compare(&right), VersionOrder::Equal);
        right.bump(b, 700);
        assert_eq!(left.compare(&right), VersionOrder::Before);
        left.bump(a, 0);
        assert_eq!(left.compare(&right), VersionOrder::Concurrent);
        let joined = left.join(&right);
        assert_eq!(joined.compare(&left), VersionOrder::After);
        assert_eq!((joined.get(a), joined.get(b)), (2, 700));
    }
}
