//! Everything that touches the files of a location.
//!
//! [`FileSystem`] is the seam: the operating system's implementation is in `os`, the simulator has another,
//! and one contract suite runs against both. Above it stand the scan, staging, the replace sequence and the
//! trash, which know no system call. Every operation happens beneath a held root, never follows a symbolic
//! link, and names nothing by an absolute path.

mod file_system;

pub use file_system::{
    DirEntry, File, FileKind, FileSystem, Metadata, RenameMode, RootDir, RootIdentity, Space, TreePath,
};
