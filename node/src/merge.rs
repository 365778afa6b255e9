//! Comparing and joining versions of a text. Pure; whoever calls says where the versions come from.
//!
//! A join is offered only where it is clean: edits of both sides that touch the same lines are for a person.

/// Two versions that are no text cannot be compared line by line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MergeError {
    /// A version is not UTF-8, or holds NUL.
    #[error("a version is no text")]
    NotText,
    /// Both sides changed the same lines.
    #[error("both sides changed the same lines")]
    Clash,
}

/// How `new` differs from `old`, as a unified diff.
pub(crate) fn diff(old: &[u8], new: &[u8]) -> Result<String, MergeError> {
    Ok(diffy::create_patch(text(old)?, text(new)?).to_string())
}

/// Lines that were added and removed between two versions.
pub(crate) fn lines_changed(old: &[u8], new: &[u8]) -> Result<(u64, u64), MergeError> {
    let patch = diffy::create_patch(text(old)?, text(new)?);
    let (mut added, mut removed) = (0, 0);
    for line in patch.hunks().iter().flat_map(diffy::Hunk::lines) {
        match line {
            diffy::Line::Insert(_) => added += 1,
            diffy::Line::Delete(_) => removed += 1,
            diffy::Line::Context(_) => {}
        }
    }
    Ok((added, removed))
}

/// What both sides made of `base`, together.
pub(crate) fn merge(base: &[u8], source: &[u8], target: &[u8]) -> Result<Vec<u8>, MergeError> {
    let merged = diffy::merge(text(base)?, text(source)?, text(target)?);
    merged.map(String::into_bytes).map_err(|_| MergeError::Clash)
}

fn text(bytes: &[u8]) -> Result<&str, MergeError> {
    std::str::from_utf8(bytes).ok().filter(|text| !text.contains('\0')).ok_or(MergeError::NotText)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Source, target, and what they come to.
    type Case<'a> = (&'a [u8], &'a [u8], Result<&'a [u8], MergeError>);

    #[test]
    fn edits_of_different_lines_join_and_others_do_not() {
        let base = b"one\ntwo\nthree\nfour\nfive\n";
        let cases: [Case<'_>; 5] = [
            (b"ONE\ntwo\nthree\nfour\nfive\n", b"one\ntwo\nthree\nfour\nFIVE\n", Ok(b"ONE\ntwo\nthree\nfour\nFIVE\n")),
            (b"one\ntwo\nthree\nfour\nfive\nsix\n", base, Ok(b"one\ntwo\nthree\nfour\nfive\nsix\n")),
            (b"same\n", b"same\n", Ok(b"same\n")),
            (b"one\nTWO\nthree\nfour\nfive\n", b"one\n2\nthree\nfour\nfive\n", Err(MergeError::Clash)),
            (b"one\0\n", base, Err(MergeError::NotText)),
        ];
        for (source, target, joined) in cases {
            assert_eq!(merge(base, source, target).as_deref(), joined.as_ref().map(|bytes| *bytes));
        }
        assert_eq!(lines_changed(base, b"one\n2\nthree\nfour\n"), Ok((1, 2)));
        assert!(diff(base, b"one\n").unwrap().contains("-five"));
        assert_eq!(diff(b"\xff", base), Err(MergeError::NotText));
    }
}
