//! Marks: what runs have reached. A corpus that never reaches a mark proves nothing about it, so `fuzz` fails for one.
//!
//! Marks are set from outside, by deeds that had an effect and by what devices decided; the code that ships has none.

use std::collections::BTreeMap;

/// How often each mark was reached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Coverage(BTreeMap<String, u64>);

/// What a corpus of the standard profile must reach, besides every verb of the profile (`deed:writes` …).
pub const EXPECTED: [&str; 40] = [
    "item:install",
    "item:install-over-file",
    "item:make-directory",
    "item:symlink",
    "item:rename",
    "item:metadata",
    "item:remove",
    "item:remove-directory",
    "item:type-change",
    "outcome:done",
    "outcome:skipped-target-changed",
    "outcome:skipped-source-changed",
    "plan:empty",
    "plan:copies",
    "plan:deletes",
    "plan:held",
    "plan:skips",
    "status:waiting-watcher",
    "status:waiting-library-sync",
    "status:verified",
    "status:failed",
    "leg:copy",
    "leg:delete",
    "leg:taken-up-again",
    "leg:stopped-unreachable",
    "leg:stopped-root-lost",
    "leg:stopped-no-space",
    "scan:whole",
    "scan:paths",
    "watch:overflow",
    "crash:in-copy-leg",
    "crash:in-delete-leg",
    "crash:idle",
    "start:after-crash",
    "rows:forwarded",
    "epoch:renewed",
    "user:struck-active-path",
    "user:struck-within-a-job",
    "torn:users-own-write",
    "trash:restored",
];

impl Coverage {
    /// Reaches a mark.
    pub fn mark(&mut self, mark: &str) {
        match self.0.get_mut(mark) {
            Some(count) => *count += 1,
            None => drop(self.0.insert(mark.to_owned(), 1)),
        }
    }

    /// Reaches a mark so many times.
    pub fn add_to(&mut self, mark: &str, count: u64) {
        *self.0.entry(mark.to_owned()).or_default() += count;
    }

    /// Takes over what another run reached.
    pub fn add(&mut self, other: &Self) {
        for (mark, count) in &other.0 {
            *self.0.entry(mark.clone()).or_default() += count;
        }
    }

    /// How often a mark was reached.
    pub fn of(&self, mark: &str) -> u64 {
        self.0.get(mark).copied().unwrap_or(0)
    }

    /// All marks that were reached.
    pub fn marks(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(mark, count)| (mark.as_str(), *count))
    }

    /// Those of `wanted` that were never reached.
    pub fn missing<'a>(&self, wanted: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
        wanted.into_iter().filter(|mark| self.of(mark) == 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_never_reached_is_told() {
        let (mut one, mut other) = (Coverage::default(), Coverage::default());
        one.mark("a");
        other.mark("b");
        other.mark("b");
        one.add(&other);
        assert_eq!((one.of("a"), one.of("b"), one.of("c")), (1, 2, 0));
        assert_eq!(one.missing(["a", "b", "c"]), ["c"]);
    }
}
