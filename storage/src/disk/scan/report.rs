//! Turns what the walk meets into batches of differences, in order, with files hashed beside the walk.
//!
//! Each path that may differ takes a slot; a slot whose file is being read holds up those behind it, which
//! keeps the order. Slots and files in flight are bounded.

use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, ErrorKind};
use std::pin::Pin;

use tidegate_protocol::index::{EntryKind, Observation, Observed, StatMark, UnknownCause};
use tidegate_protocol::library_sync::RootState;
use tidegate_protocol::path::{DirPath, EntryPath};

use super::super::known::KnownEntry;
use super::super::lanes::Lanes;
use super::super::marker::{RootBinding, check_root};
use super::super::reading::{self, Reading};
use super::super::{File, RootDir, TreePath};
use super::{Found, SCAN_BATCH_MAX, ScanError, ScanReport, Sink};

/// Files read by one piece of work on a lane, and the bytes from which fewer are.
const GROUP_FILES_MAX: usize = 64;
const GROUP_BYTES_MAX: u64 = 8 << 20;
/// Slots that may wait behind a slow file.
const SLOTS_MAX: usize = 16 << 10;
/// Entries between two signs of life.
const PROGRESS_EVERY: u64 = 16 << 10;
const SKIPPED_MAX: usize = 100;
/// Files read for one batch that are synced one by one; for more of them, all of the file system is.
const SYNCED_ONE_BY_ONE_MAX: usize = 16;

enum Slot {
    /// A difference.
    Ready(Found),
    /// The next file of those that are being read.
    Reading,
}

struct Task {
    path: EntryPath,
    known: Option<KnownEntry>,
}

type Group = Pin<Box<dyn Future<Output = Vec<(Task, Reading)>> + Send>>;

pub(super) struct Reporter<'a, R, S, L> {
    root: &'a R,
    binding: RootBinding,
    sink: &'a mut S,
    lanes: &'a L,
    slots: VecDeque<Slot>,
    gathering: Vec<Task>,
    gathering_bytes: u64,
    running: VecDeque<Group>,
    read: VecDeque<(Task, Reading)>,
    batch: Vec<Found>,
    /// Files in the batch that were read.
    unsynced: Vec<EntryPath>,
    report: ScanReport,
}

impl<'a, R: RootDir, S: Sink, L: Lanes> Reporter<'a, R, S, L> {
    pub(super) fn new(root: &'a R, binding: RootBinding, sink: &'a mut S, lanes: &'a L) -> Self {
        Self {
            root,
            binding,
            sink,
            lanes,
            slots: VecDeque::new(),
            gathering: Vec::new(),
            gathering_bytes: 0,
            running: VecDeque::new(),
            read: VecDeque::new(),
            batch: Vec::new(),
            unsynced: Vec::new(),
            report: ScanReport::default(),
        }
    }

    /// Counts an entry, and now and then shows that the scan lives.
    pub(super) async fn count(&mut self) -> Result<(), ScanError> {
        self.report.progress.entries += 1;
        if self.report.progress.entries.is_multiple_of(PROGRESS_EVERY) {
            self.flush().await?;
        }
        Ok(())
    }

    /// Notes a name that cannot be a path of the index.
    pub(super) fn skip(&mut self, dir: &DirPath, name: Vec<u8>) {
        if self.report.skipped.len() < SKIPPED_MAX {
            self.report.skipped.push((dir.clone(), name));
        }
    }

    /// Tells what is at a path, if the index knows something else.
    pub(super) async fn present(
        &mut self,
        path: EntryPath,
        kind: EntryKind,
        mark: Option<StatMark>,
        known: Option<&KnownEntry>,
    ) -> Result<(), ScanError> {
        if known.is_some_and(|known| known.kind == kind && known.mark == mark) {
            return Ok(());
        }
        if kind == EntryKind::Unknown(UnknownCause::Changing) {
            self.report.again.push(path.clone());
        }
        self.ready(path, Observed::Present(kind, mark)).await
    }

    /// Tells that nothing is at a path.
    pub(super) async fn absent(&mut self, path: EntryPath) -> Result<(), ScanError> {
        self.ready(path, Observed::Absent).await
    }

    /// Has a file read.
    pub(super) async fn read(
        &mut self,
        path: EntryPath,
        size: u64,
        known: Option<KnownEntry>,
    ) -> Result<(), ScanError> {
        self.slots.push_back(Slot::Reading);
        self.gathering.push(Task { path, known });
        self.gathering_bytes = self.gathering_bytes.saturating_add(size);
        if self.gathering.len() >= GROUP_FILES_MAX || self.gathering_bytes >= GROUP_BYTES_MAX {
            self.dispatch();
            while self.running.len() > self.lanes.width() * 2 {
                self.collect().await;
            }
        }
        self.advance(SLOTS_MAX).await
    }

    /// Tells everything that is left.
    pub(super) async fn finish(mut self) -> Result<ScanReport, ScanError> {
        self.dispatch();
        self.advance(0).await?;
        self.flush().await?;
        Ok(self.report)
    }

    /// Fails unless the root is there and is itself.
    pub(super) async fn check_root(&mut self) -> Result<(), ScanError> {
        match check_root(self.root, &self.binding).await.map_err(ScanError::Root)? {
            RootState::Present => Ok(()),
            state @ (RootState::Missing | RootState::Replaced) => Err(ScanError::RootLost(state)),
        }
    }

    async fn ready(&mut self, path: EntryPath, observed: Observed) -> Result<(), ScanError> {
        self.slots.push_back(Slot::Ready(found(path, observed, Vec::new())));
        self.advance(SLOTS_MAX).await
    }

    fn dispatch(&mut self) {
        if self.gathering.is_empty() {
            return;
        }
        let tasks = std::mem::take(&mut self.gathering);
        self.gathering_bytes = 0;
        let (root, lanes) = (self.root.clone(), self.lanes.clone());
        let work = async move {
            let mut buffer = Vec::new();
            let mut read = Vec::with_capacity(tasks.len());
            for task in tasks {
                let reading = reading::read_on(&root, &TreePath::from(&task.path), &mut buffer, &lanes).await;
                read.push((task, reading));
            }
            read
        };
        self.running.push_back(Box::pin(self.lanes.run(work)));
    }

    /// Waits for the group that was dispatched first.
    async fn collect(&mut self) {
        if self.running.is_empty() {
            self.dispatch();
        }
        if let Some(group) = self.running.pop_front() {
            self.read.extend(group.await);
        }
    }

    /// Moves slots to the batch from the front, and waits for files being read only while more than
    /// `slots_max` slots are left.
    async fn advance(&mut self, slots_max: usize) -> Result<(), ScanError> {
        while let Some(slot) = self.slots.pop_front() {
            match slot {
                Slot::Ready(found) => self.batch.push(found),
                Slot::Reading => {
                    if self.read.is_empty() {
                        if self.slots.len() < slots_max {
                            self.slots.push_front(slot);
                            return Ok(());
                        }
                        self.collect().await;
                    }
                    let (task, reading) = self.read.pop_front().expect("each reading slot has its file in a group");
                    if let Some(found) = self.weigh(task, reading).await {
                        self.batch.push(found);
                    }
                }
            }
            if self.batch.len() >= SCAN_BATCH_MAX {
                self.flush().await?;
            }
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), ScanError> {
        self.check_root().await?;
        self.make_durable().await.map_err(ScanError::NotDurable)?;
        Ok(self.sink.batch(std::mem::take(&mut self.batch), self.report.progress).await?)
    }

    /// Has the disk keep what was read. A power cut may bring back the old bytes of a file that nobody synced under its new
    /// stat, and no later scan would read it again: the index would tell for ever what is not there.
    async fn make_durable(&mut self) -> io::Result<()> {
        let read = std::mem::take(&mut self.unsynced);
        let synced = if read.len() > SYNCED_ONE_BY_ONE_MAX {
            self.root.sync_all().await
        } else {
            sync_each(self.root, &read).await
        };
        match synced {
            // There is nothing that could be lost, or no way to ask for more.
            Err(e) if matches!(e.kind(), ErrorKind::ReadOnlyFilesystem | ErrorKind::Unsupported) => Ok(()),
            synced => synced,
        }
    }

    /// What reading a file means for the index.
    async fn weigh(&mut self, task: Task, reading: Reading) -> Option<Found> {
        let Task { path, known } = task;
        let (kind, mark, chunks) = match reading {
            Reading::Hashed(content) => {
                self.report.progress.files_hashed += 1;
                self.report.progress.bytes_hashed += content.facts.size;
                (EntryKind::File(content.facts), Some(content.metadata.mark), content.chunks)
            }
            Reading::Gone => match self.root.metadata(&(&path).into()).await {
                Ok(None) => return known.map(|_| found(path, Observed::Absent, Vec::new())),
                // It is back, as whatever: something replaces it again and again.
                Ok(Some(_)) => (EntryKind::Unknown(UnknownCause::Changing), None, Vec::new()),
                Err(e) => (EntryKind::Unknown(cause(e.kind())), None, Vec::new()),
            },
            Reading::NotAFile | Reading::Changing => (EntryKind::Unknown(UnknownCause::Changing), None, Vec::new()),
            Reading::Failed(e) => (EntryKind::Unknown(cause(e.kind())), None, Vec::new()),
        };
        if kind == EntryKind::Unknown(UnknownCause::Changing) {
            self.report.again.push(path.clone());
        }
        let differs = known.is_none_or(|known| known.kind != kind || known.mark != mark);
        if differs && mark.is_some() {
            self.unsynced.push(path.clone());
        }
        differs.then(|| found(path, Observed::Present(kind, mark), chunks))
    }
}

async fn sync_each<R: RootDir>(root: &R, paths: &[EntryPath]) -> io::Result<()> {
    for path in paths {
        // What cannot be opened any more is another one by now, and is looked at again.
        if let Ok(file) = root.open(&path.into()).await {
            file.sync().await?;
        }
    }
    Ok(())
}

/// Why something that is there is not known.
pub(super) const fn cause(kind: io::ErrorKind) -> UnknownCause {
    match kind {
        ErrorKind::CrossesDevices => UnknownCause::OtherFileSystem,
        ErrorKind::InvalidFilename => UnknownCause::TooLong,
        _ => UnknownCause::Unreadable,
    }
}

fn found(path: EntryPath, observed: Observed, chunks: Vec<[u8; 32]>) -> Found {
    Found { observation: Observation { path, observed }, chunks }
}
