//! Names: what a file system can store and tell apart, and the key under which two spellings are one name.
//!
//! Folding is coarser than that of any file system we know: it takes a few names for one that a disk would tell apart
//! (`ß` and `ss`). That holds one of them back, and loses neither; the opposite mistake would overwrite one.

use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization;

use crate::limits::NAME_BYTES_MAX;
use crate::path::EntryPath;

/// What names one end can store and tell apart; probed at its root, as one file system may mix both kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameRules {
    /// Names that differ only in case or Unicode form are one.
    pub folds: bool,
    /// Names follow Windows: no reserved names or characters, no dot or blank at the end, 255 UTF-16 units.
    pub windows: bool,
    /// Symbolic links can be stored.
    pub links: bool,
}

impl NameRules {
    /// Any bytes, and links.
    pub const POSIX: Self = Self { folds: false, windows: false, links: true };

    /// What paths are compared by on such a file system: two spellings of one name have one key.
    pub fn key(self, path: &EntryPath) -> EntryPath {
        if self.folds { folded(path) } else { path.clone() }
    }

    /// Whether a name can be stored.
    pub fn stores(self, name: &[u8]) -> bool {
        if name.len() > NAME_BYTES_MAX {
            return false;
        }
        !self.windows || std::str::from_utf8(name).is_ok_and(is_windows_name)
    }
}

fn is_windows_name(name: &str) -> bool {
    const RESERVED: [&str; 6] = ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"];
    let is_bad = |c: char| c < ' ' || matches!(c, '<' | '>' | ':' | '"' | '/' | '\\' | '|' | '?' | '*');
    let stem = name.split('.').next().unwrap_or(name).trim_end_matches(' ').to_ascii_uppercase();
    let numbered = |port: &str| {
        stem.strip_prefix(port)
            .is_some_and(|n| matches!(n, "1" | "2" | "3" | "4" | "5" | "6" | "7" | "8" | "9" | "¹" | "²" | "³"))
    };
    !name.chars().any(is_bad)
        && !name.ends_with(['.', ' '])
        && name.encode_utf16().count() <= 255
        && !RESERVED.contains(&stem.as_str())
        && !numbered("COM")
        && !numbered("LPT")
}

/// What is left of a path when case and Unicode form are folded. Names that are not UTF-8 stay as they are.
pub(super) fn folded(path: &EntryPath) -> EntryPath {
    path.map_names(|name| match std::str::from_utf8(name) {
        Ok(text) if text.is_ascii() => text.to_ascii_lowercase().into_bytes(),
        Ok(text) => {
            let case = text.nfd().flat_map(char::to_uppercase).flat_map(char::to_lowercase);
            case.nfc().collect::<String>().into_bytes()
        }
        Err(_) => name.to_vec(),
    })
}

/// Whether two names, or two paths in their stored form, differ in Unicode form alone, if at all.
pub(super) fn same_spelling(a: &[u8], b: &[u8]) -> bool {
    a == b
        || match (std::str::from_utf8(a), std::str::from_utf8(b)) {
            (Ok(a), Ok(b)) => a.nfc().eq(b.nfc()),
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> EntryPath {
        EntryPath::from_slashes(text.as_bytes()).unwrap()
    }

    #[test]
    fn folding_takes_all_spellings_of_a_name_for_one() {
        for (a, b) in [
            ("README", "readme"),
            ("caf\u{e9}", "cafe\u{301}"),
            ("CAF\u{c9}", "cafe\u{301}"),
            ("stra\u{df}e", "STRASSE"),
            ("\u{3c3}\u{3c2}", "\u{3a3}\u{3a3}"),
            ("D/x", "d/X"),
        ] {
            assert_eq!(folded(&path(a)), folded(&path(b)), "{a} {b}");
        }
        assert_ne!(folded(&path("a/b")), folded(&path("a-b")));
        assert!(same_spelling("caf\u{e9}".as_bytes(), "cafe\u{301}".as_bytes()));
        assert!(!same_spelling(b"A", b"a"));
    }

    #[test]
    fn windows_refuses_what_it_cannot_store() {
        let windows = NameRules { folds: true, windows: true, links: false };
        for bad in ["a?b", "con", "NUL.txt", "COM1", "lpt9.x", "a.", "a ", "tab\there", "a:b", "aux "] {
            assert!(!windows.stores(bad.as_bytes()), "{bad}");
        }
        for good in ["a", "a.b", "COM10", "console", "\u{6e2c}", ".hidden", "com"] {
            assert!(windows.stores(good.as_bytes()), "{good}");
        }
        assert!(!windows.stores(b"\xff"));
        assert!(NameRules::POSIX.stores(b"\xff") && !NameRules::POSIX.stores(&[b'n'; 256]));
    }
}
