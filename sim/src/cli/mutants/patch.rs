//! Patches in the unified format, applied to texts.
//!
//! A hunk is put where its old lines stand, as near to the line it names as can be, and nowhere else: what no longer stands
//! word for word is stale. Adds, changes and removes lines of files that exist; makes, renames and removes no files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What is changed, by the file's path in the workspace.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Patch {
    files: BTreeMap<PathBuf, Vec<Hunk>>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Hunk {
    /// Where it stood, counted from zero.
    line: usize,
    old: Vec<String>,
    new: Vec<String>,
}

/// Why a patch does not apply.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Stale {
    #[error("line {0} is none of a patch")]
    Malformed(usize),
    #[error("it changes nothing")]
    Empty,
    #[error("{0} is not there")]
    NoFile(String),
    #[error("{0}: what stood at line {1} does not any more")]
    Moved(String, usize),
}

impl Patch {
    /// Reads a patch; what stands before its first file is for people.
    pub(super) fn parse(text: &str) -> Result<Self, Stale> {
        let mut patch = Self::default();
        let mut hunks: Option<&mut Vec<Hunk>> = None;
        // Lines that the hunk still lacks, of the old text and of the new one.
        let mut lacks = (0, 0);
        for (at, line) in text.lines().enumerate() {
            let malformed = || Stale::Malformed(at + 1);
            if lacks != (0, 0) {
                let hunk = hunks.as_mut().and_then(|hunks| hunks.last_mut()).ok_or_else(malformed)?;
                let empty = line.is_empty().then_some((" ", ""));
                let (sign, rest) = empty.or_else(|| line.split_at_checked(1)).ok_or_else(malformed)?;
                let (old, new) = (sign != "+", sign != "-");
                if !matches!(sign, " " | "+" | "-") || lacks.0 < usize::from(old) || lacks.1 < usize::from(new) {
                    return Err(malformed());
                }
                if old {
                    hunk.old.push(rest.to_owned());
                }
                if new {
                    hunk.new.push(rest.to_owned());
                }
                lacks = (lacks.0 - usize::from(old), lacks.1 - usize::from(new));
            } else if let Some(path) = line.strip_prefix("+++ b/") {
                hunks = Some(patch.files.entry(PathBuf::from(path.trim_end())).or_default());
            } else if let Some(ranges) = line.strip_prefix("@@ -") {
                let (old, new) = ranges.split_once(" +").ok_or_else(malformed)?;
                let (line, lacked) = range(old).ok_or_else(malformed)?;
                let (_, gained) = range(new.split_once(" @@").ok_or_else(malformed)?.0).ok_or_else(malformed)?;
                let hunk = Hunk { line: line.saturating_sub(1), ..Hunk::default() };
                hunks.as_mut().ok_or_else(malformed)?.push(hunk);
                lacks = (lacked, gained);
            }
        }
        let changes = patch.files.values().flatten().any(|hunk| hunk.old != hunk.new);
        if lacks == (0, 0) && changes { Ok(patch) } else { Err(Stale::Empty) }
    }

    /// The texts that differ once it is applied; `read` gives what stands in a file now.
    pub(super) fn apply(&self, read: impl Fn(&Path) -> Option<String>) -> Result<BTreeMap<PathBuf, String>, Stale> {
        let mut changed = BTreeMap::new();
        for (path, hunks) in &self.files {
            let name = path.display().to_string();
            let text = read(path).ok_or_else(|| Stale::NoFile(name.clone()))?;
            let mut lines: Vec<&str> = text.lines().collect();
            // Lines that the hunks before have added.
            let mut shift = 0;
            for hunk in hunks {
                let wished = hunk.line.saturating_add_signed(shift);
                let at = hunk.place(&lines, wished).ok_or_else(|| Stale::Moved(name.clone(), hunk.line + 1))?;
                lines.splice(at..at + hunk.old.len(), hunk.new.iter().map(String::as_str));
                shift += hunk.new.len() as isize - hunk.old.len() as isize;
            }
            changed.insert(path.clone(), lines.join("\n") + "\n");
        }
        Ok(changed)
    }
}

impl Hunk {
    fn place(&self, lines: &[&str], wished: usize) -> Option<usize> {
        let stands = |at: &usize| self.old.iter().zip(&lines[*at..]).all(|(old, line)| old == line);
        let last = lines.len().checked_sub(self.old.len())?;
        (0..=last).filter(stands).min_by_key(|at| at.abs_diff(wished))
    }
}

/// First line and number of lines: `12,5`, or `12` for one line.
fn range(text: &str) -> Option<(usize, usize)> {
    match text.split_once(',') {
        Some((line, count)) => Some((line.parse().ok()?, count.parse().ok()?)),
        None => Some((text.parse().ok()?, 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "a\nb\nc\nd\ne\n";

    fn check(patch: &str, text: &str, expected: Result<&str, Stale>) {
        let read = |path: &Path| (path == Path::new("x/y.rs")).then(|| text.to_owned());
        let came = Patch::parse(patch).and_then(|patch| patch.apply(read));
        let expected = expected.map(|text| BTreeMap::from([(PathBuf::from("x/y.rs"), text.to_owned())]));
        assert_eq!(came, expected, "{patch}");
    }

    #[test]
    fn a_patch_is_applied_where_its_lines_stand_or_not_at_all() {
        let head = "Says what.\ndiff --git a/x/y.rs b/x/y.rs\nindex 1..2 100644\n--- a/x/y.rs\n+++ b/x/y.rs\n";
        let change = format!("{head}@@ -2,3 +2,4 @@ fn f() {{\n b\n-c\n+C\n+CC\n d\n");
        check(&change, TEXT, Ok("a\nb\nC\nCC\nd\ne\n"));
        check(&change, "0\n0\na\nb\nc\nd\n", Ok("0\n0\na\nb\nC\nCC\nd\n"));
        check(&change, "b\nc\nd\nb\nc\nd\n", Ok("b\nC\nCC\nd\nb\nc\nd\n"));
        check(&change, "a\nb\nd\n", Err(Stale::Moved("x/y.rs".to_owned(), 2)));
        check(&change, "", Err(Stale::Moved("x/y.rs".to_owned(), 2)));
        let two = format!("{head}@@ -1 +1,3 @@\n+0\n a\n+1\n@@ -4,2 +6,1 @@\n-d\n e\n");
        check(&two, TEXT, Ok("0\na\n1\nb\nc\ne\n"));
    }

    #[test]
    fn what_is_no_patch_is_told() {
        check("", TEXT, Err(Stale::Empty));
        check("+++ b/x/y.rs\n@@ -1,2 +1,2 @@\n a\n?\n", TEXT, Err(Stale::Malformed(4)));
        check("+++ b/x/y.rs\n@@ -1,2 +1,2 @@\n a\n", TEXT, Err(Stale::Empty));
        check("+++ b/x/z.rs\n@@ -1 +1 @@\n-a\n+b\n", TEXT, Err(Stale::NoFile("x/z.rs".to_owned())));
    }
}
