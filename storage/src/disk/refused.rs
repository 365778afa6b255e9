//! Why a change to the disk was not made.

use std::io;

use tidegate_protocol::file_sync::SkipReason;

use super::TreePath;
use super::known::KnownLost;

/// Why an item was not applied. Nothing that a user wrote was lost by it.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// What stands there is not what the plan saw; it was left, or put back.
    #[error("the target changed after the plan")]
    TargetChanged {
        /// Where a user's bytes were kept, when they could not be put back as the path had changed once more.
        kept: Option<TreePath>,
    },
    /// The local file that was to be copied does not hold the content that the index promised.
    #[error("the source changed")]
    SourceChanged,
    /// Bytes do not have the announced hash.
    #[error("the bytes do not have the announced hash")]
    WrongContent,
    /// The directory that should hold the path is missing, or is no directory.
    #[error("the parent directory is missing")]
    ParentMissing,
    /// A directory is not empty, or holds what the index does not know.
    #[error("the directory is not empty")]
    DirNotEmpty,
    /// `.tidegate` is missing, or something else stands where its directories belong, or another user owns them.
    #[error("the location's own directory {} is not usable", String::from_utf8_lossy(.0.as_bytes()))]
    NotPrepared(TreePath),
    /// The operating system refuses this to us.
    #[error("permission denied")]
    PermissionDenied,
    /// No room, or no quota.
    #[error("no space left")]
    NoSpace,
    /// The file system cannot hold such a name.
    #[error("the file system cannot hold this name")]
    BadName,
    /// The view of the index was lost.
    #[error(transparent)]
    Known(#[from] KnownLost),
    /// Anything else.
    #[error(transparent)]
    Io(io::Error),
}

impl Refused {
    pub(super) const CHANGED: Self = Self::TargetChanged { kept: None };
}

impl From<io::Error> for Refused {
    fn from(e: io::Error) -> Self {
        use io::ErrorKind as Kind;
        match e.kind() {
            Kind::PermissionDenied | Kind::ReadOnlyFilesystem => Self::PermissionDenied,
            Kind::StorageFull | Kind::QuotaExceeded | Kind::FileTooLarge => Self::NoSpace,
            Kind::InvalidFilename => Self::BadName,
            Kind::DirectoryNotEmpty => Self::DirNotEmpty,
            _ => Self::Io(e),
        }
    }
}

impl From<Refused> for SkipReason {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::TargetChanged { .. } | Refused::ParentMissing => Self::TargetChanged,
            Refused::SourceChanged => Self::SourceChanged,
            Refused::WrongContent => Self::WrongContent,
            Refused::DirNotEmpty => Self::DirNotEmpty,
            Refused::PermissionDenied => Self::PermissionDenied,
            Refused::NoSpace => Self::NoSpace,
            Refused::BadName => Self::BadName,
            Refused::NotPrepared(_) | Refused::Known(_) | Refused::Io(_) => Self::Io(refused.to_string()),
        }
    }
}
