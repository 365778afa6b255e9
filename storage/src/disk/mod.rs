//! Everything that touches the files of a location.
//!
//! [`FileSystem`] is the seam: the operating system's implementation is in [`os`], the simulator has another,
//! and one contract suite runs against both. Above it stand the scan, staging, the replace sequence and the
//! trash, which know no system call. Every operation happens beneath a held root, never follows a symbolic
//! link, and names nothing by an absolute path.

mod apply;
mod chunks;
#[cfg(any(test, feature = "contract"))]
pub mod contract;
mod file_system;
mod hashing;
mod ignore;
mod inspect;
mod known;
mod lanes;
mod marker;
mod names;
pub mod os;
mod reading;
mod recover;
mod refused;
mod scan;
mod stage;
mod texts;
mod trash;
mod trashed;

pub use apply::Applied;
pub use chunks::{ChunkHasher, Outline, WrongOutline, chunk_count};
pub use file_system::{
    DirEntry, File, FileKind, FileSystem, Metadata, RenameMode, RootDir, RootIdentity, Space, TreePath,
};
pub use ignore::{IgnoreError, RULE_FILE, load_rules};
pub use inspect::Expect;
pub use known::{Known, KnownEntry, KnownLost, KnownMap};
pub use lanes::{InPlace, Lanes, ThreadLanes, block_on};
pub use marker::{MarkError, Marker, RootBinding, check_root, mark_root, read_marker};
pub use names::probe_names;
pub use reading::{Checked, check_content};
pub use recover::{Planned, Recovered};
pub use refused::Refused;
pub use scan::{Found, SCAN_BATCH_MAX, ScanError, ScanProgress, ScanReport, ScanSpec, Scope, Sink, SinkClosed, scan};
pub use stage::{Download, NewContent, Ready, Staged, Workshop};
pub use texts::{TEXT_BYTES_MAX, keep_text, kept_text, tidy_texts};
pub use trash::{Trash, purge, restore, trash_of};
pub use trashed::{
    Bin, TRASH_LISTED_MAX, TrashListing, Trashed, find_trashed, hash_trashed, list_trash, purge_trashed,
    restore_beside, trashed_at,
};
