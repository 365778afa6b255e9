//! Everything that touches the files of a location.
//!
//! [`FileSystem`] is the seam: the operating system's implementation is in [`os`], the simulator has another,
//! and one contract suite runs against both. Above it stand the scan, staging, the replace sequence and the
//! trash, which know no system call. Every operation happens beneath a held root, never follows a symbolic
//! link, and names nothing by an absolute path.

mod apply;
mod chunks;
mod file_system;
mod inspect;
mod known;
pub mod os;
mod reading;
mod recover;
mod refused;
mod stage;
mod trash;

pub use apply::Applied;
pub use chunks::{Outline, OutlineBuilder, WrongOutline, chunk_count};
pub use file_system::{
    DirEntry, File, FileKind, FileSystem, Metadata, RenameMode, RootDir, RootIdentity, Space, TreePath,
};
pub use inspect::Expect;
pub use known::{Known, KnownEntry, KnownLost, KnownMap};
pub use recover::{Planned, Recovered};
pub use refused::Refused;
pub use stage::{Download, NewContent, Ready, Staged, Workshop};
pub use trash::{Trash, purge, restore, trash_of};
