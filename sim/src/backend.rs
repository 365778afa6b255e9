//! The page file of a replica: what redb writes to, in memory, with what a power cut leaves of it.
//!
//! [`PageFile`] belongs to whoever runs the world and outlives the node's process; [`SimBackend`] is what one
//! opening of the replica uses. Between two syncs the file remembers the pages as they were, so that a sync costs
//! what was written and not what is there. A page file is created whole or not at all: as on a real disk, where
//! the replica gets its name only when its first commit is durable, a cut before [`PageFile::created`] leaves none.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

use crate::disk::{DataLeft, Errno, PAGE_BYTES, SECTOR_BYTES};
use crate::random::Stream;

const PAGE: usize = PAGE_BYTES as usize;

type Page = Arc<[u8; PAGE]>;

/// A replica's file. Cheap to clone; clones are the same file.
#[derive(Clone)]
pub struct PageFile(Arc<Mutex<State>>);

/// What goes wrong with a page file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PageFaults {
    /// The call that writes, cuts, extends or syncs at which the process dies, counted from 1 for each opening.
    pub die_at: Option<u64>,
    /// Calls to fail from then on, with this error, until it is taken back.
    pub fail_with: Option<Errno>,
    /// Beyond this many bytes the disk is full.
    pub bytes_max: Option<u64>,
    /// Syncs are said to have happened and have not.
    pub lies: bool,
}

/// A copy of a page file, as it was.
#[derive(Clone)]
pub struct PageImage {
    pages: Vec<Page>,
    length: u64,
    created: bool,
}

struct State {
    pages: Vec<Page>,
    length: u64,
    /// Pages as they were at the last sync, of those that were written since; `None` for pages that were not.
    before: BTreeMap<usize, Option<Page>>,
    synced_length: u64,
    created: bool,
    openings: u64,
    /// Whether the opening of that number is in use.
    alive: bool,
    calls: u64,
    faults: PageFaults,
    stream: Stream,
    cuts: u64,
}

impl PageFile {
    /// A file that is not there yet.
    pub fn new(stream: Stream) -> Self {
        Self(Arc::new(Mutex::new(State {
            pages: Vec::new(),
            length: 0,
            before: BTreeMap::new(),
            synced_length: 0,
            created: false,
            openings: 0,
            alive: false,
            calls: 0,
            faults: PageFaults::default(),
            stream,
            cuts: 0,
        })))
    }

    /// Opens it for a process; whoever had it open before meets errors from now on.
    pub fn open(&self) -> SimBackend {
        let mut state = self.lock();
        state.openings += 1;
        state.alive = true;
        state.calls = 0;
        SimBackend { file: Arc::clone(&self.0), opening: state.openings }
    }

    /// Says that the first commit is durable: from now on a power cut leaves a file.
    pub fn created(&self) {
        self.lock().created = true;
    }

    /// Ends the process that has it open; what it wrote is in the system's hands and is not lost.
    pub fn kill(&self) {
        let mut state = self.lock();
        state.alive = false;
        if !state.created {
            state.forget();
        }
    }

    /// The power goes.
    pub fn power_cut(&self, left: DataLeft) {
        let mut state = self.lock();
        state.alive = false;
        state.cuts += 1;
        let mut stream = state.stream.below_key(state.cuts);
        if state.created { state.cut(left, &mut stream) } else { state.forget() }
    }

    /// Whether a process has it open; not after [`PageFaults::die_at`].
    pub fn is_alive(&self) -> bool {
        self.lock().alive
    }

    /// Looks at, or changes, what goes wrong.
    pub fn faults<T>(&self, look: impl FnOnce(&mut PageFaults) -> T) -> T {
        look(&mut self.lock().faults)
    }

    /// How many calls this opening has made that write, cut, extend or sync.
    pub fn calls(&self) -> u64 {
        self.lock().calls
    }

    /// Length in bytes.
    pub fn bytes(&self) -> u64 {
        self.lock().length
    }

    /// A copy of it, as a backup makes one.
    pub fn image(&self) -> PageImage {
        let state = self.lock();
        PageImage { pages: state.pages.clone(), length: state.length, created: state.created }
    }

    /// Puts a copy in its place. Nobody may have it open.
    pub fn restore(&self, image: &PageImage) {
        let mut state = self.lock();
        state.alive = false;
        state.pages.clone_from(&image.pages);
        state.length = image.length;
        state.created = image.created;
        state.sync();
    }

    /// Removes it: the device forgets its replica.
    pub fn remove(&self) {
        let mut state = self.lock();
        state.alive = false;
        state.created = false;
        state.forget();
    }

    /// Turns over a bit of what is on the disk. Nothing if it is not that long.
    pub fn rot(&self, offset: u64, bit: u8) {
        let mut state = self.lock();
        if let Some(page) = state.pages.get_mut((offset / PAGE_BYTES) as usize) {
            Arc::make_mut(page)[(offset % PAGE_BYTES) as usize] ^= 1 << (bit % 8);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn forget(&mut self) {
        self.pages.clear();
        self.length = 0;
        self.sync();
    }

    fn sync(&mut self) {
        self.before.clear();
        self.synced_length = self.length;
    }

    /// A page to be written to, remembered as it was.
    fn page(&mut self, number: usize) -> &mut [u8; PAGE] {
        if self.pages.len() <= number {
            self.pages.resize_with(number + 1, || Arc::new([0; PAGE]));
        }
        let page = &mut self.pages[number];
        let synced = (number as u64 * PAGE_BYTES) < self.synced_length;
        self.before.entry(number).or_insert_with(|| synced.then(|| Arc::clone(page)));
        Arc::make_mut(page)
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) {
        let mut done = 0;
        while done < bytes.len() {
            let at = offset + done as u64;
            let within = (at % PAGE_BYTES) as usize;
            let part = (PAGE - within).min(bytes.len() - done);
            let page = self.page((at / PAGE_BYTES) as usize);
            page[within..within + part].copy_from_slice(&bytes[done..done + part]);
            done += part;
        }
        self.length = self.length.max(offset + bytes.len() as u64);
    }

    fn set_len(&mut self, length: u64) {
        let first_gone = length.div_ceil(PAGE_BYTES) as usize;
        for number in first_gone..self.pages.len() {
            self.page(number);
        }
        self.pages.truncate(first_gone);
        let within = (length % PAGE_BYTES) as usize;
        if within > 0 && length < self.length {
            self.page(first_gone - 1)[within..].fill(0);
        }
        self.pages.resize_with(first_gone, || Arc::new([0; PAGE]));
        self.length = length;
    }

    /// Of what was written since the last sync, only some is left.
    fn cut(&mut self, left: DataLeft, stream: &mut Stream) {
        let length_kept = stream.chance(500_000);
        let length = match left {
            DataLeft::None => self.synced_length,
            DataLeft::All => self.length,
            DataLeft::Some | DataLeft::Torn => {
                if length_kept {
                    self.length
                } else {
                    self.synced_length
                }
            }
        };
        let (zeros, empty) = ([0; PAGE], Arc::new([0; PAGE]));
        self.pages.resize_with((length.max(self.length)).div_ceil(PAGE_BYTES) as usize, || Arc::clone(&empty));
        for (number, before) in std::mem::take(&mut self.before) {
            // By its own key: in which order the pages were written decides nothing.
            let mut stream = stream.below_key(number as u64);
            let page_kept = stream.chance(500_000);
            let Some(page) = self.pages.get_mut(number) else { continue };
            let before = before.as_deref().unwrap_or(&zeros);
            for sector in 0..PAGE / SECTOR_BYTES as usize {
                let kept = match left {
                    DataLeft::None => false,
                    DataLeft::All => true,
                    DataLeft::Some => page_kept,
                    DataLeft::Torn => stream.chance(500_000),
                };
                if !kept {
                    let sector = sector * SECTOR_BYTES as usize..(sector + 1) * SECTOR_BYTES as usize;
                    Arc::make_mut(page)[sector.clone()].copy_from_slice(&before[sector]);
                }
            }
        }
        self.pages.truncate(length.div_ceil(PAGE_BYTES) as usize);
        self.length = length;
        self.sync();
    }
}

/// A page file as one opening of the replica uses it.
pub struct SimBackend {
    file: Arc<Mutex<State>>,
    opening: u64,
}

impl fmt::Debug for SimBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimBackend {}", self.opening)
    }
}

impl fmt::Debug for PageFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PageFile of {} bytes", self.bytes())
    }
}

impl fmt::Debug for PageImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PageImage of {} bytes", self.length)
    }
}

/// What becomes of a call that changes the file.
enum Fate {
    Happens,
    DiesBefore,
    DiesAfter,
    /// Some of its sectors are written.
    DiesWithin,
}

fn dead() -> io::Error {
    io::Error::other("the process is dead")
}

impl SimBackend {
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if state.openings == self.opening && state.alive { Ok(state) } else { Err(dead()) }
    }

    /// One call that changes something. `act` gets a stream if the process dies within it.
    fn change(&self, act: impl FnOnce(&mut State, Option<&mut Stream>) -> io::Result<()>) -> io::Result<()> {
        let mut state = self.state()?;
        state.calls += 1;
        if let Some(errno) = state.faults.fail_with {
            return Err(errno.into());
        }
        let dies = state.faults.die_at.is_some_and(|at| state.calls >= at);
        let mut stream = state.stream.below_key(state.openings << 32 | state.calls);
        let fate = match stream.below(3) {
            _ if !dies => Fate::Happens,
            0 => Fate::DiesBefore,
            1 => Fate::DiesAfter,
            _ => Fate::DiesWithin,
        };
        match fate {
            Fate::Happens => return act(&mut state, None),
            Fate::DiesBefore => {}
            Fate::DiesAfter => act(&mut state, None)?,
            Fate::DiesWithin => act(&mut state, Some(&mut stream))?,
        }
        state.alive = false;
        state.faults.die_at = None;
        Err(dead())
    }
}

impl StorageBackend for SimBackend {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state()?.length)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state()?;
        if offset.saturating_add(out.len() as u64) > state.length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut done = 0;
        while done < out.len() {
            let at = offset + done as u64;
            let within = (at % PAGE_BYTES) as usize;
            let part = (PAGE - within).min(out.len() - done);
            let page = &state.pages[(at / PAGE_BYTES) as usize];
            out[done..done + part].copy_from_slice(&page[within..within + part]);
            done += part;
        }
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.change(|state, within| {
            if length > state.length && state.faults.bytes_max.is_some_and(|most| length > most) {
                return Err(Errno::NoSpace.into());
            }
            if within.is_none() {
                state.set_len(length);
            }
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.change(|state, within| {
            // A sync that was cut short has written some pages or other, which is what a power cut leaves anyway.
            if within.is_none() && !state.faults.lies {
                state.sync();
            }
            Ok(())
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.change(|state, within| {
            let end = offset.saturating_add(data.len() as u64);
            if end > state.length && state.faults.bytes_max.is_some_and(|most| end > most) {
                return Err(Errno::NoSpace.into());
            }
            match within {
                None => state.write(offset, data),
                Some(stream) => {
                    for (n, sector) in data.chunks(SECTOR_BYTES as usize).enumerate() {
                        if stream.chance(500_000) {
                            state.write(offset + n as u64 * SECTOR_BYTES, sector);
                        }
                    }
                }
            }
            Ok(())
        })
    }

    fn close(&self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
