//! The errors of the simulated disk, as the numbers that Linux gives, so that their kinds are those that the
//! code above meets on a real one.

use std::io;

/// Why a call failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(i32)]
pub enum Errno {
    /// Nothing of that name.
    NoEntry = 2,
    /// The device failed to read or write.
    Io = 5,
    /// Not for this user.
    Access = 13,
    /// The name is taken.
    Exists = 17,
    /// A directory was needed.
    NotDirectory = 20,
    /// Something else than a directory was needed.
    IsDirectory = 21,
    /// It makes no sense.
    Invalid = 22,
    /// Too many open files.
    TooManyOpen = 24,
    /// The disk is full.
    NoSpace = 28,
    /// Mounted for reading only.
    ReadOnly = 30,
    /// The name or path is too long, or not one that this file system can hold.
    NameTooLong = 36,
    /// The directory is not empty.
    NotEmpty = 39,
    /// A symbolic link on the way.
    Loop = 40,
    /// Not on this file system.
    Unsupported = 95,
}

impl From<Errno> for io::Error {
    fn from(errno: Errno) -> Self {
        Self::from_raw_os_error(errno as i32)
    }
}

/// What an operation on the tree answers.
pub(super) type Result<T> = std::result::Result<T, Errno>;
