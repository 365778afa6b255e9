//! Own paths that could not be read: they are unknown, and are looked at again by themselves.
//!
//! No watcher tells that a disk that failed once would answer now. So paths whose row says that they could not be read
//! are looked at like hinted ones, after a pause that doubles for as long as nothing joins them. What is looked at and
//! still cannot be read changes no row.

use std::collections::BTreeSet;

use tidegate_protocol::index::{EntryKind, UnknownCause};
use tidegate_protocol::path::EntryPath;

/// Pause before paths that could not be read are looked at again, in milliseconds: a disk that stumbled is well by then.
const LOOK_MS: u64 = 10_000;
/// The longest such pause, in milliseconds: what will never be read costs a look now and then.
const LOOK_MS_MAX: u64 = 600_000;
/// Paths remembered of one location; more of them wait for the next full scan.
const PATHS_MAX: usize = 10_000;

/// The paths of one location, and when to look at them next.
#[derive(Debug, Default)]
pub(super) struct Unread {
    paths: BTreeSet<EntryPath>,
    look_ms: u64,
    pause_ms: u64,
}

impl Unread {
    /// What a row says of a path, now or since the node ran last; `None` if nothing is there.
    pub(super) fn note(&mut self, path: &EntryPath, kind: Option<&EntryKind>, now: u64) {
        if kind != Some(&EntryKind::Unknown(UnknownCause::Unreadable)) {
            self.paths.remove(path);
        } else if self.paths.len() < PATHS_MAX && self.paths.insert(path.clone()) {
            self.pause_ms = LOOK_MS;
            self.look_ms = now + LOOK_MS;
        }
    }

    /// When to look next.
    pub(super) fn wake(&self) -> Option<u64> {
        (!self.paths.is_empty()).then_some(self.look_ms)
    }

    /// The paths, if it is time to look at them.
    pub(super) fn due(&mut self, now: u64) -> Vec<EntryPath> {
        if self.wake().is_none_or(|at| at > now) {
            return Vec::new();
        }
        self.pause_ms = (self.pause_ms * 2).min(LOOK_MS_MAX);
        self.look_ms = now + self.pause_ms;
        self.paths.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_read_is_looked_at_less_and_less_often_until_it_is_known() {
        let path = EntryPath::from_slashes(b"d/f").unwrap();
        let unknown = EntryKind::Unknown(UnknownCause::Unreadable);
        let mut unread = Unread::default();
        unread.note(&path, Some(&unknown), 0);
        let mut looks = Vec::new();
        while looks.len() < 9 {
            let at = unread.wake().expect("a path waits");
            assert!(unread.due(at - 1).is_empty());
            assert_eq!(unread.due(at), vec![path.clone()]);
            looks.push(at / 1_000);
        }
        assert_eq!(looks, [10, 30, 70, 150, 310, 630, 1_230, 1_830, 2_430]);
        unread.note(&path, Some(&unknown), 2_500_000);
        assert_eq!(unread.wake(), Some(3_030_000), "it is no news");
        unread.note(&path, None, 2_500_000);
        assert_eq!(unread.wake(), None);
    }
}
