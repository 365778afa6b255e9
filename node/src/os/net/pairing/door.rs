//! The door that is open while a code is shown: tries, time, and one visitor at a time. No sockets here.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidegate_protocol::limits::PAIRING_FAILURES_MAX;
use tokio::time::Instant;

use super::code::PairingCode;
use super::{PairError, PairFacts};

/// After a code was dropped unused, the next one is shown no sooner than this: guessing stays hopeless.
const REST: Duration = Duration::from_secs(10);

/// Why a code was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Burned {
    /// Too many wrong proofs.
    Failures,
    /// It was shown for too long.
    Age,
    /// It was proved, but the other device went away before the pairing was complete.
    Interrupted,
}

#[derive(Debug)]
struct Open {
    code: PairingCode,
    facts: PairFacts,
    tries_left: u32,
    visited: bool,
    serial: u64,
}

#[derive(Debug, Default)]
struct State {
    open: Option<Open>,
    serials: u64,
    rest_until: Option<Instant>,
}

/// The door.
#[derive(Debug, Default)]
pub(in crate::os::net) struct Door(Mutex<State>);

/// What a visitor is to prove, and what it is told when it has.
#[derive(Debug)]
pub(super) struct Visit<'a> {
    door: &'a Door,
    serial: u64,
    pub(super) code: PairingCode,
    pub(super) facts: PairFacts,
}

/// Why a visitor is turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoVisit {
    Closed,
    Busy,
}

impl Door {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens the door for `code`; a code that was shown before is dropped. Answers the opening's number.
    pub(super) fn open(&self, code: PairingCode, facts: PairFacts, now: Instant) -> Result<u64, PairError> {
        let mut state = self.lock();
        let wait = state.rest_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
        if !wait.is_zero() {
            return Err(PairError::TooSoon { wait });
        }
        state.serials += 1;
        let serial = state.serials;
        state.open = Some(Open { code, facts, tries_left: PAIRING_FAILURES_MAX, visited: false, serial });
        Ok(serial)
    }

    /// Whether a code is shown.
    pub(in crate::os::net) fn is_open(&self) -> bool {
        self.lock().open.is_some()
    }

    /// Drops the code at the wish of the person who asked for it.
    pub(super) fn close(&self) {
        self.lock().open = None;
    }

    /// Drops the code of that opening; `false` when it is gone already.
    pub(super) fn burn(&self, serial: u64, now: Instant) -> bool {
        let mut state = self.lock();
        let burns = state.open.as_ref().is_some_and(|open| open.serial == serial);
        if burns {
            state.open = None;
            state.rest_until = Some(now + REST);
        }
        burns
    }

    /// Lets one visitor try.
    pub(super) fn visit(&self) -> Result<Visit<'_>, NoVisit> {
        let mut state = self.lock();
        let open = state.open.as_mut().ok_or(NoVisit::Closed)?;
        if open.visited {
            return Err(NoVisit::Busy);
        }
        open.visited = true;
        Ok(Visit { door: self, serial: open.serial, code: open.code.clone(), facts: open.facts.clone() })
    }
}

impl Visit<'_> {
    /// Counts a wrong proof; answers how many more may be tried, 0 when the code was dropped for it.
    pub(super) fn fail(&self, now: Instant) -> u32 {
        let mut state = self.door.lock();
        let Some(open) = state.open.as_mut().filter(|open| open.serial == self.serial) else { return 0 };
        open.tries_left = open.tries_left.saturating_sub(1);
        let left = open.tries_left;
        if left == 0 {
            state.open = None;
            state.rest_until = Some(now + REST);
        }
        left
    }

    /// Uses the code up: it was proved. `false` when it was dropped meanwhile.
    pub(super) fn use_up(&self) -> bool {
        let mut state = self.door.lock();
        let is_open = state.open.as_ref().is_some_and(|open| open.serial == self.serial);
        if is_open {
            state.open = None;
        }
        is_open
    }
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        if let Some(open) = self.door.lock().open.as_mut().filter(|open| open.serial == self.serial) {
            open.visited = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use tidegate_protocol::id::{Label, LibraryId};

    use super::*;

    fn facts() -> PairFacts {
        PairFacts { name: Label::lossy("desk"), library: LibraryId::from_bytes([1; 16]), alone: true, port: 1 }
    }

    #[test]
    fn a_code_ends_by_three_failures_by_use_or_by_age_and_after_failures_the_next_is_late() {
        let door = Door::default();
        let now = Instant::now();
        let open = |now| door.open(PairingCode::draw(), facts(), now);
        assert_eq!(door.visit().unwrap_err(), NoVisit::Closed);
        open(now).unwrap();

        let visit = door.visit().unwrap();
        assert_eq!(door.visit().unwrap_err(), NoVisit::Busy);
        assert_eq!(visit.fail(now), 2);
        drop(visit);
        assert_eq!(door.visit().unwrap().fail(now), 1);
        assert_eq!(door.visit().unwrap().fail(now), 0);
        assert!(!door.is_open());
        assert_eq!(open(now).unwrap_err(), PairError::TooSoon { wait: REST });

        let now = now + REST;
        let serial = open(now).unwrap();
        assert!(door.visit().unwrap().use_up());
        assert!(!door.burn(serial, now), "a used code does not burn");
        let serial = open(now).unwrap();
        assert!(door.burn(serial, now) && !door.is_open());
        assert_eq!(open(now).unwrap_err(), PairError::TooSoon { wait: REST });
    }

    #[test]
    fn a_visitor_to_an_earlier_code_has_no_say_about_the_next() {
        let door = Door::default();
        let now = Instant::now();
        door.open(PairingCode::draw(), facts(), now).unwrap();
        let early = door.visit().unwrap();
        door.open(PairingCode::draw(), facts(), now).unwrap();
        assert_eq!(early.fail(now), 0);
        assert!(!early.use_up());
        drop(early);
        assert!(door.visit().is_ok());
    }
}
