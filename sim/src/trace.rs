//! The trace: a running hash of everything that happens, with checkpoints to find the first difference between two
//! runs by, and the lines of it in a file if one is wanted.
//!
//! Two runs of one plan must have equal hashes. The hash covers what a line says, so a line may hold nothing that
//! differs from process to process (addresses, real times).

use std::fmt::{self, Write as _};

use crate::random::mix;

/// Events between two checkpoints.
pub const CHECKPOINT_EVENTS: u64 = 1_000;

/// Where lines go.
pub type Lines = Box<dyn FnMut(&str) + Send>;

/// The running hash of a run.
pub struct Trace {
    hash: u64,
    events: u64,
    checkpoints: Vec<u64>,
    lines: Option<Lines>,
    line: String,
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trace {:016x} after {} events", self.hash, self.events)
    }
}

/// What is left of a trace when a run is over.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fingerprint {
    /// Over all events.
    pub hash: u64,
    /// How many.
    pub events: u64,
    /// The hash after each [`CHECKPOINT_EVENTS`] events.
    pub checkpoints: Vec<u64>,
}

/// Where two runs that should be equal part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Difference {
    /// They were equal up to this event at least.
    pub after: u64,
    /// They differ at this event at the latest.
    pub before: u64,
}

impl Trace {
    /// An empty trace; lines go to `lines` if there is somebody to read them.
    pub const fn new(lines: Option<Lines>) -> Self {
        Self { hash: 0, events: 0, checkpoints: Vec::new(), lines, line: String::new() }
    }

    /// Notes an event: a few numbers that tell it from others, and words that are put together only if somebody
    /// reads them.
    pub fn event(&mut self, numbers: &[u64], words: impl FnOnce(&mut String) -> fmt::Result) {
        self.events += 1;
        self.hash = numbers.iter().fold(mix(self.hash), |hash, number| mix(hash ^ number));
        if self.events.is_multiple_of(CHECKPOINT_EVENTS) {
            self.checkpoints.push(self.hash);
        }
        if let Some(lines) = &mut self.lines {
            self.line.clear();
            write!(self.line, "{:>8} {:016x} ", self.events, self.hash)
                .and_then(|()| words(&mut self.line))
                .expect("a string takes what is written to it");
            lines(&self.line);
        }
    }

    /// Events so far.
    pub const fn events(&self) -> u64 {
        self.events
    }

    /// What is left of it.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint { hash: self.hash, events: self.events, checkpoints: self.checkpoints.clone() }
    }
}

impl Fingerprint {
    /// Where this run and another part; `None` if they are equal.
    pub fn difference(&self, other: &Self) -> Option<Difference> {
        if self == other {
            return None;
        }
        let equal = self.checkpoints.iter().zip(&other.checkpoints).take_while(|(a, b)| a == b).count() as u64;
        let end = self.events.max(other.events).max(1);
        Some(Difference { after: equal * CHECKPOINT_EVENTS, before: end.min((equal + 1) * CHECKPOINT_EVENTS) })
    }
}

/// A number that stands for bytes in a trace.
pub fn number_of(bytes: &[u8]) -> u64 {
    bytes.chunks(8).fold(bytes.len() as u64, |hash, chunk| {
        let mut eight = [0; 8];
        eight[..chunk.len()].copy_from_slice(chunk);
        mix(hash ^ u64::from_le_bytes(eight))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(changed: Option<u64>) -> Fingerprint {
        let mut trace = Trace::new(None);
        for event in 0..5_500 {
            trace.event(&[event, u64::from(changed == Some(event))], |_| Ok(()));
        }
        trace.fingerprint()
    }

    #[test]
    fn the_first_difference_is_found_to_a_thousand_events() {
        assert_eq!(run(None).difference(&run(None)), None);
        let found = |at| run(None).difference(&run(Some(at)));
        assert_eq!(found(3_210), Some(Difference { after: 3_000, before: 4_000 }));
        assert_eq!(found(0), Some(Difference { after: 0, before: 1_000 }));
        assert_eq!(found(5_499), Some(Difference { after: 5_000, before: 5_500 }));
    }

    #[test]
    fn lines_are_written_only_for_a_reader() {
        let mut trace = Trace::new(None);
        trace.event(&[1], |_| panic!("nobody reads"));
        let (sender, lines) = async_channel::unbounded();
        let mut read =
            Trace::new(Some(Box::new(move |line| sender.try_send(line.to_owned()).expect("it is unbounded"))));
        read.event(&[1], |line| write!(line, "hello"));
        assert!(lines.try_recv().is_ok_and(|line| line.ends_with("hello")));
        assert_eq!(trace.fingerprint(), read.fingerprint());
    }
}
