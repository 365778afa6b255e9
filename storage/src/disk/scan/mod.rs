//! The scan: compares a location's tree, or some paths of it, with what the index knows, and tells the
//! differences.
//!
//! - What is equal by (size, mtime, inode, ctime) is not read, unless the scan is deep. What a job announced
//!   is taken without reading if the stat is the announced one. A changed stat under equal content is told,
//!   too, so that the next scan need not read.
//! - Observations come in path order: a directory before what is in it, a vanished directory's own `Absent`
//!   before those of all that was known below it.
//! - Absent is only what a directory that was read whole does not list *and* a look at the path itself does
//!   not find, or what lies below a path that is no directory any more. What cannot be read is unknown, and
//!   nothing below it is told. What a rule hides is not told at all, absent or not.
//! - What was read is made durable before it is told: by itself if it is little, else with all of the file system.
//! - Before each batch the root is checked to be there and to be itself; if it is not, the scan ends and the
//!   batch is dropped.

mod report;
mod targets;
mod walk;

use std::future::Future;
use std::io;
use std::sync::Arc;

use tidegate_protocol::index::{IgnoreRules, Observation};
use tidegate_protocol::library_sync::RootState;
use tidegate_protocol::path::{DirPath, EntryPath};

use self::report::Reporter;
use self::walk::Walk;
use super::known::{Known, KnownLost};
use super::lanes::Lanes;
use super::marker::RootBinding;
use super::{RootDir, TreePath};

/// Observations in one batch.
pub const SCAN_BATCH_MAX: usize = 1024;

/// What to scan, and how.
#[derive(Debug, Clone)]
pub struct ScanSpec {
    /// What the root must be.
    pub binding: RootBinding,
    /// Where to look.
    pub scope: Scope,
    /// Whether files are read even when their stat is unchanged.
    pub deep: bool,
    /// What is not looked at.
    pub rules: Arc<IgnoreRules>,
    /// Names that differ in case or Unicode form are one here: what a look finds may bear another name.
    pub folds: bool,
}

/// Where a scan looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Everywhere.
    All,
    /// At these paths and all that is below them, on disk or in the index; and at a directory above one that
    /// the index does not know yet. In any order.
    Paths(Vec<EntryPath>),
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Where and what.
    pub observation: Observation,
    /// Chunk hashes of a file that was read and has more than one chunk.
    pub chunks: Vec<[u8; 32]>,
}

/// How far a scan is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ScanProgress {
    /// Entries looked at.
    pub entries: u64,
    /// Files read and hashed.
    pub files_hashed: u64,
    /// Bytes read and hashed.
    pub bytes_hashed: u64,
}

/// What a scan that came to its end has to say beyond its batches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScanReport {
    /// All of it.
    pub progress: ScanProgress,
    /// Paths that changed while they were looked at: reported as unknown, and to be scanned again soon.
    pub again: Vec<EntryPath>,
    /// Names that cannot be a path of the index (too long, too deep): the first hundred, with their directory.
    pub skipped: Vec<(DirPath, Vec<u8>)>,
}

/// Where differences go.
pub trait Sink: Send {
    /// Takes a batch of at most [`SCAN_BATCH_MAX`], in path order; it may be empty and then only tells the
    /// progress. Returns when there is room for the next.
    fn batch(
        &mut self,
        found: Vec<Found>,
        progress: ScanProgress,
    ) -> impl Future<Output = Result<(), SinkClosed>> + Send;
}

/// Nobody wants the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the scan was cancelled")]
pub struct SinkClosed;

/// Why a scan ended early. What it had told before stays true.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// The root is missing or another one.
    #[error("the root is not the one that was added: {0:?}")]
    RootLost(RootState),
    /// The root itself cannot be read.
    #[error("the root cannot be read: {0}")]
    Root(#[source] io::Error),
    /// What was read could not be made durable, and so is not told.
    #[error("what was read could not be made durable: {0}")]
    NotDurable(#[source] io::Error),
    /// The index cannot be read.
    #[error(transparent)]
    Known(#[from] KnownLost),
    /// Cancelled.
    #[error(transparent)]
    Closed(#[from] SinkClosed),
}

/// Scans. Holds no lock and may be dropped at any await.
pub async fn scan<R: RootDir, K: Known, S: Sink, L: Lanes>(
    root: &R,
    spec: &ScanSpec,
    known: &K,
    sink: &mut S,
    lanes: &L,
) -> Result<ScanReport, ScanError> {
    let mut reporter = Reporter::new(root, spec.binding, sink, lanes);
    reporter.check_root().await?;
    let top = root.metadata(&TreePath::ROOT).await.map_err(ScanError::Root)?;
    let device = top.ok_or(ScanError::RootLost(RootState::Missing))?.device;
    let mut walk = Walk { root, spec, known, device, reporter };
    match &spec.scope {
        Scope::All => walk.top().await?,
        Scope::Paths(paths) => walk.paths(paths).await?,
    }
    walk.reporter.finish().await
}
