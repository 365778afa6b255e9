//! What goes wrong with a disk, and when: calls that fail, a process that dies at a call, calls that take time,
//! and syncs that lie. Everything here is set by whoever runs the world; nothing is drawn but at the rates given.

use std::collections::{BTreeMap, BTreeSet};

use super::errno::Errno;
use crate::random::Stream;

/// What the node's calls meet. Calls are counted for each incarnation, from 1.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// Calls of this incarnation so far.
    pub calls: u64,
    /// Calls that fail, by their number.
    pub fail_at: BTreeMap<u64, Errno>,
    /// Of a million calls this many fail, with this error.
    pub fail_ppm: Option<(u32, Errno)>,
    /// Only calls on this volume fail; all of them are counted.
    pub fail_only_on: Option<u64>,
    /// Names, by absolute path, that the node cannot give for want of room, whatever room there is for others.
    pub no_room_for: BTreeSet<Vec<u8>>,
    /// The call at which the process dies; what it does may be done, half done, or not done.
    pub die_at: Option<u64>,
    /// The call before which the node stands still, until this is taken back: somebody else acts first.
    pub halt_at: Option<u64>,
    /// Before this many of a million calls others get their turn.
    pub yield_ppm: u32,
    /// About how long a call takes, in nanoseconds. 0: no time passes.
    pub call_takes_ns: u64,
    /// The node stands there.
    pub halts: bool,
}

/// Syncs that are said to have happened and have not: a disk with a cache that lies, or a node that forgot them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lies {
    /// No sync makes content durable.
    pub skip_file_sync: bool,
    /// No sync makes names durable.
    pub skip_dir_sync: bool,
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It happens.
    Happens,
    /// It fails.
    Fails(Errno),
    /// The process dies before it.
    DiesBefore,
    /// The process dies after it.
    DiesAfter,
    /// The process dies within it: a write that is half done is cut at this number, modulo its length.
    DiesWithin(u64),
}

impl Faults {
    /// Whether the next call has to wait.
    pub(super) fn halts(&mut self) -> bool {
        self.halts = self.halt_at.is_some_and(|at| self.calls + 1 >= at);
        self.halts
    }

    /// Counts a call and says what becomes of it.
    pub(super) fn meet(&mut self, volume: Option<u64>, stream: &mut Stream) -> Fate {
        self.calls += 1;
        if self.die_at.is_some_and(|at| self.calls >= at) {
            return match stream.below(3) {
                0 => Fate::DiesBefore,
                1 => Fate::DiesAfter,
                _ => Fate::DiesWithin(stream.next_u64()),
            };
        }
        if self.fail_only_on.is_some() && self.fail_only_on != volume {
            return Fate::Happens;
        }
        if let Some(errno) = self.fail_at.remove(&self.calls) {
            return Fate::Fails(errno);
        }
        match self.fail_ppm {
            Some((ppm, errno)) if stream.chance(ppm) => Fate::Fails(errno),
            Some(_) | None => Fate::Happens,
        }
    }
}
