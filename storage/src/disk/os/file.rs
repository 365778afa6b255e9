//! An open file of the operating system. No path is resolved here.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, Timespec, Timestamps, UTIME_OMIT};
use rustix::io::Errno;

use super::super::{File, Metadata};

const COPY_BUFFER_BYTES: usize = 256 << 10;

/// An open regular file.
#[derive(Debug)]
pub struct OsFile {
    handle: OwnedFd,
    umask: u32,
    /// Made by this node, and not yet anywhere a user sees it.
    ours: bool,
}

impl OsFile {
    pub(super) const fn new(handle: OwnedFd, umask: u32, ours: bool) -> Self {
        Self { handle, umask, ours }
    }

    pub(super) fn stat(&self) -> io::Result<Metadata> {
        Ok(super::metadata(&super::fstat(&self.handle)?))
    }

    /// Takes over who may read and write from the mode `old`, keeping whether it is executable.
    pub(super) fn keep_permissions(&self, old: u32) -> io::Result<()> {
        self.set_mode(old, self.stat()?.executable)
    }

    fn set_mode(&self, old: u32, executable: bool) -> io::Result<()> {
        // Whoever may read an executable may run it.
        let mode = if executable { (old & 0o666) | ((old & 0o444) >> 2) | 0o100 } else { old & 0o666 };
        Ok(rustix::fs::fchmod(&self.handle, Mode::from_raw_mode(mode))?)
    }

    fn read_some(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        loop {
            match rustix::io::pread(&self.handle, &mut *buffer, offset) {
                Err(Errno::INTR) => {}
                other => return Ok(other?),
            }
        }
    }

    fn write_whole(&self, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            match rustix::io::pwrite(&self.handle, bytes, offset) {
                Err(Errno::INTR) => {}
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    bytes = &bytes[written..];
                    offset += written as u64;
                }
                Err(other) => return Err(other.into()),
            }
        }
        Ok(())
    }

    /// Copies by reading and writing, from where the kernel's own copy gave up.
    fn copy_by_hand(&self, source: &Self, from: u64, to: u64, length: u64) -> io::Result<u64> {
        let mut buffer = vec![0; COPY_BUFFER_BYTES.min(usize::try_from(length).unwrap_or(COPY_BUFFER_BYTES))];
        let mut copied = 0;
        while copied < length {
            let want = buffer.len().min(usize::try_from(length - copied).unwrap_or(buffer.len()));
            let got = source.read_some(&mut buffer[..want], from + copied)?;
            if got == 0 {
                break;
            }
            self.write_whole(&buffer[..got], to + copied)?;
            copied += got as u64;
        }
        Ok(copied)
    }
}

impl File for OsFile {
    async fn metadata(&self) -> io::Result<Metadata> {
        self.stat()
    }

    async fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.read_some(buffer, offset)
    }

    async fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_whole(bytes, offset)
    }

    async fn copy_from(&self, source: &Self, source_offset: u64, offset: u64, length: u64) -> io::Result<u64> {
        let mut copied = 0;
        while copied < length {
            // Shares blocks on file systems that can; XFS and btrfs do so in this call.
            let (mut from, mut to) = (source_offset + copied, offset + copied);
            let want = usize::try_from(length - copied).unwrap_or(usize::MAX >> 1).min(1 << 30);
            match rustix::fs::copy_file_range(&source.handle, Some(&mut from), &self.handle, Some(&mut to), want) {
                Ok(0) => break,
                Ok(some) => copied += some as u64,
                Err(Errno::INTR) => {}
                Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM) => {
                    let rest = length - copied;
                    return Ok(copied + self.copy_by_hand(source, source_offset + copied, offset + copied, rest)?);
                }
                Err(other) => return Err(other.into()),
            }
        }
        Ok(copied)
    }

    async fn set_len(&self, length: u64) -> io::Result<()> {
        Ok(rustix::fs::ftruncate(&self.handle, length)?)
    }

    async fn set_metadata(&self, mtime_ns: i64, executable: bool) -> io::Result<()> {
        if self.ours {
            self.set_mode(0o666 & !self.umask, executable)?;
        } else {
            let stat = super::fstat(&self.handle)?;
            let old = u32::from(stat.stx_mode);
            if (old & 0o100 != 0) != executable {
                self.set_mode(old, executable)?;
            }
        }
        let times = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec {
                tv_sec: mtime_ns.div_euclid(1_000_000_000),
                tv_nsec: mtime_ns.rem_euclid(1_000_000_000),
            },
        };
        Ok(rustix::fs::futimens(&self.handle, &times)?)
    }

    async fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&self.handle)?)
    }
}
