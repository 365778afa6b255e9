//! Paths below a location, as bytes the disk gave, through one checked door.
//!
//! Inside, names are joined by NUL, which no name can hold. That makes the derived byte order a walk in
//! which a directory comes right before everything below it, so a subtree is one contiguous key range.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::is_unprintable;
use crate::limits::{NAME_BYTES_MAX, PATH_BYTES_MAX, PATH_DEPTH_MAX};

/// Name of the directory in which a location keeps its marker, staging and trash.
pub const INTERNAL: &[u8] = b".tidegate";

const SEPARATOR: u8 = 0;

/// Why bytes are no path below a location.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// No name at all, or an empty one between two separators.
    #[error("an empty name")]
    EmptyName,
    /// `.` or `..`.
    #[error("a relative name (. or ..)")]
    Relative,
    /// Starts with `/`.
    #[error("an absolute path")]
    Absolute,
    /// NUL or `/` inside a name.
    #[error("a name with NUL or a slash in it")]
    ForbiddenByte,
    /// In or at `.tidegate`.
    #[error("a path inside .tidegate")]
    Internal,
    /// Longer than `NAME_BYTES_MAX` or `PATH_BYTES_MAX`, or deeper than `PATH_DEPTH_MAX`.
    #[error("a path that is too long or too deep")]
    TooLong,
}

/// One name: 1 to 255 bytes, not `.` or `..`, without NUL or `/`. It may be `.tidegate`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<[u8]>);

impl Name {
    /// Checks bytes as the disk or a peer gave them.
    pub fn new(bytes: &[u8]) -> Result<Self, PathError> {
        check_name(bytes)?;
        Ok(Self(bytes.into()))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Escaped(&self.0))
    }
}

/// A path of one or more names below a location: never absolute, never inside `.tidegate`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "serde_bytes::ByteBuf", into = "serde_bytes::ByteBuf")]
pub struct EntryPath(Box<[u8]>);

impl EntryPath {
    /// From text with `/` between names, as a person types it.
    pub fn from_slashes(text: &[u8]) -> Result<Self, PathError> {
        if text.contains(&SEPARATOR) {
            return Err(PathError::ForbiddenByte);
        }
        if text.starts_with(b"/") {
            return Err(PathError::Absolute);
        }
        Self::from_stored(text.iter().map(|b| if *b == b'/' { SEPARATOR } else { *b }).collect())
    }

    /// From the NUL-joined form of [`EntryPath::as_stored`], checked.
    pub fn from_stored(bytes: Vec<u8>) -> Result<Self, PathError> {
        if bytes.len() > PATH_BYTES_MAX {
            return Err(PathError::TooLong);
        }
        let mut depth = 0;
        for name in bytes.split(|b| *b == SEPARATOR) {
            check_name(name)?;
            if depth == 0 && is_internal(name) {
                return Err(PathError::Internal);
            }
            depth += 1;
        }
        if depth > PATH_DEPTH_MAX {
            return Err(PathError::TooLong);
        }
        Ok(Self(bytes.into()))
    }

    /// The NUL-joined bytes: the form in keys and on the wire. Byte order is walk order.
    pub fn as_stored(&self) -> &[u8] {
        &self.0
    }

    /// The bytes with `/` between names, for the operating system.
    pub fn to_slashes(&self) -> Vec<u8> {
        self.0.iter().map(|b| if *b == SEPARATOR { b'/' } else { *b }).collect()
    }

    /// The names from the top down.
    pub fn names(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|b| *b == SEPARATOR)
    }

    /// The last name.
    pub fn name(&self) -> &[u8] {
        self.names().next_back().expect("a path has at least one name")
    }

    /// How many names.
    pub fn depth(&self) -> usize {
        self.names().count()
    }

    /// The directory that holds this path; the location's top if it has one name.
    pub fn parent(&self) -> DirPath {
        DirPath(self.0.iter().rposition(|b| *b == SEPARATOR).map(|end| Self(self.0[..end].into())))
    }

    /// This path with one more name.
    pub fn child(&self, name: &Name) -> Result<Self, PathError> {
        let mut bytes = Vec::with_capacity(self.0.len() + 1 + name.0.len());
        bytes.extend_from_slice(&self.0);
        bytes.push(SEPARATOR);
        bytes.extend_from_slice(&name.0);
        Self::from_stored(bytes)
    }

    /// Whether this path lies strictly below `ancestor`.
    pub fn is_below(&self, ancestor: &Self) -> bool {
        self.0.len() > ancestor.0.len() && self.0.starts_with(&ancestor.0) && self.0[ancestor.0.len()] == SEPARATOR
    }

    /// This path with each name replaced: a key for comparing, which may be longer than any path.
    pub(crate) fn map_names(&self, replace: impl Fn(&[u8]) -> Vec<u8>) -> Self {
        let names: Vec<Vec<u8>> = self.names().map(replace).collect();
        Self(names.join(&SEPARATOR).into())
    }

    /// All directories above this path, nearest first, without the top.
    pub fn ancestors(&self) -> impl Iterator<Item = Self> + '_ {
        let ends = self.0.iter().enumerate().rev().filter(|(_, b)| **b == SEPARATOR).map(|(end, _)| end);
        ends.map(|end| Self(self.0[..end].into()))
    }
}

impl TryFrom<serde_bytes::ByteBuf> for EntryPath {
    type Error = PathError;

    fn try_from(bytes: serde_bytes::ByteBuf) -> Result<Self, PathError> {
        Self::from_stored(bytes.into_vec())
    }
}

impl From<EntryPath> for serde_bytes::ByteBuf {
    fn from(path: EntryPath) -> Self {
        Self::from(path.0.into_vec())
    }
}

impl fmt::Display for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Escaped(&self.to_slashes()))
    }
}

impl fmt::Debug for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A directory in a location: the top, or a path below it.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DirPath(Option<EntryPath>);

impl DirPath {
    /// The top of a location.
    pub const TOP: Self = Self(None);

    /// A directory below the top.
    pub const fn below_top(path: EntryPath) -> Self {
        Self(Some(path))
    }

    /// From text with `/` between names; empty text is the top.
    pub fn from_slashes(text: &[u8]) -> Result<Self, PathError> {
        if text.is_empty() { Ok(Self::TOP) } else { EntryPath::from_slashes(text).map(Self::below_top) }
    }

    /// The path, if this is not the top.
    pub const fn as_entry(&self) -> Option<&EntryPath> {
        self.0.as_ref()
    }

    /// The path of `name` in this directory.
    pub fn child(&self, name: &Name) -> Result<EntryPath, PathError> {
        match &self.0 {
            Some(path) => path.child(name),
            None => EntryPath::from_stored(name.0.to_vec()),
        }
    }

    /// The path of `relative` below this directory.
    pub fn join(&self, relative: &EntryPath) -> Result<EntryPath, PathError> {
        let Some(path) = &self.0 else { return Ok(relative.clone()) };
        let mut bytes = path.0.to_vec();
        bytes.push(SEPARATOR);
        bytes.extend_from_slice(&relative.0);
        EntryPath::from_stored(bytes)
    }

    /// The part of `path` below this directory; `None` if it is not strictly below.
    pub fn relative(&self, path: &EntryPath) -> Option<EntryPath> {
        match &self.0 {
            None => Some(path.clone()),
            Some(top) => path.is_below(top).then(|| EntryPath(path.0[top.0.len() + 1..].into())),
        }
    }

    /// Whether `other` is this directory or lies below it.
    pub fn contains(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(top), Some(path)) => top == path || path.is_below(top),
        }
    }
}

impl fmt::Display for DirPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            None => Ok(()),
            Some(path) => write!(f, "{path}"),
        }
    }
}

impl fmt::Debug for DirPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{self}")
    }
}

/// Shows bytes from a disk or a peer so that they cannot mislead: what is not printable is escaped.
pub struct Escaped<'a>(pub &'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                if is_unprintable(c) || c == '\\' { write!(f, "{}", c.escape_default())? } else { write!(f, "{c}")? }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

fn check_name(name: &[u8]) -> Result<(), PathError> {
    match name {
        b"" => Err(PathError::EmptyName),
        b"." | b".." => Err(PathError::Relative),
        _ if name.len() > NAME_BYTES_MAX => Err(PathError::TooLong),
        _ if name.iter().any(|b| *b == b'/' || *b == SEPARATOR) => Err(PathError::ForbiddenByte),
        _ => Ok(()),
    }
}

/// Also refuses the spellings that a folding or trimming file system would take for `.tidegate`.
pub(crate) fn is_internal(name: &[u8]) -> bool {
    let trimmed = name.trim_ascii_end();
    let end = trimmed.iter().rposition(|b| *b != b'.').map_or(0, |last| last + 1);
    trimmed[..end].eq_ignore_ascii_case(INTERNAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> EntryPath {
        EntryPath::from_slashes(text.as_bytes()).unwrap()
    }

    #[test]
    fn only_plain_relative_paths_outside_tidegate_are_paths() {
        let long = "x".repeat(256);
        let deep = vec!["d"; 129].join("/");
        for bad in [
            "",
            "/etc/passwd",
            "..",
            "a/../b",
            ".",
            "./a",
            "a//b",
            "a/",
            "a\0b",
            &long,
            &deep,
            ".tidegate",
            ".tidegate/id",
            ".TIDEGATE/x",
            ".tidegate.",
            ".Tidegate /x",
        ] {
            assert!(EntryPath::from_slashes(bad.as_bytes()).is_err(), "{bad:?}");
        }
        for good in ["a", "a/b", ".hidden", "a\\..\\b", "C:\\x", "new\nline", "x/.tidegate", "...", ".tidegated"] {
            assert_eq!(path(good).to_slashes(), good.as_bytes());
        }
        assert!(EntryPath::from_slashes(b"\xff\xfe/\x80").is_ok(), "names are bytes");
    }

    #[test]
    fn order_is_the_order_of_a_walk() {
        let mut paths = ["a-b", "a", "a/b", "a/b/c", "a.txt", "b"].map(path);
        paths.sort();
        assert_eq!(paths.map(|p| p.to_string()), ["a", "a/b", "a/b/c", "a-b", "a.txt", "b"]);
    }

    #[test]
    fn directories_and_relative_paths_are_inverse() {
        let dir = DirPath::below_top(path("x/y"));
        let inside = dir.join(&path("z/w")).unwrap();
        assert_eq!(inside, path("x/y/z/w"));
        assert_eq!(dir.relative(&inside), Some(path("z/w")));
        assert_eq!(dir.relative(&path("x/yy")), None);
        assert_eq!(inside.ancestors().map(|p| p.to_string()).collect::<Vec<_>>(), ["x/y/z", "x/y", "x"]);
        assert_eq!(inside.parent(), DirPath::below_top(path("x/y/z")));
        assert!(dir.contains(&inside.parent()) && !dir.contains(&DirPath::TOP));
    }

    #[test]
    fn what_is_shown_cannot_rewrite_the_terminal() {
        assert_eq!(Escaped(b"a\x1b[2J\xffb").to_string(), "a\\u{1b}[2J\\xffb");
        assert_eq!(Escaped("a\u{202e}b".as_bytes()).to_string(), "a\\u{202e}b");
    }
}
