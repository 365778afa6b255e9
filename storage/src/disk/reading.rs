//! Reading a file's content so that the hash belongs to the stat that goes with it.
//!
//! A file may change while it is read. It is stat'ed before by its handle and after by its path; only if both
//! agree, inode and ctime included, does the hash count.

use std::io;

use tidegate_protocol::hash::ContentHash;
use tidegate_protocol::index::{FileFacts, StatMark};

use super::hashing;
use super::lanes::{InPlace, Lanes};
use super::{File, Metadata, RootDir, TreePath};

/// How often a file that changes under the reader is tried again.
const ATTEMPTS: u32 = 3;

/// What reading a path came to.
#[derive(Debug)]
pub(super) enum Reading {
    /// The content, and the stat that held around the reading.
    Hashed(Content),
    /// Nothing is there.
    Gone,
    /// Something that is not a regular file is there.
    NotAFile,
    /// It changed each time it was read.
    Changing,
    /// The operating system refused.
    Failed(io::Error),
}

/// A content that was read whole.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) facts: FileFacts,
    pub(super) metadata: Metadata,
    /// Chunk hashes, for contents of more than one chunk.
    pub(super) chunks: Vec<[u8; 32]>,
}

/// What reading a file once more came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checked {
    /// Its content, and the stat that held around the reading.
    Read {
        /// Its hash.
        content: ContentHash,
        /// Its stat.
        mark: StatMark,
    },
    /// It changes, or is no regular file any more.
    Changing,
    /// Nothing is there.
    Gone,
    /// The operating system refused.
    Unreadable,
}

/// Reads a file from the disk once more, whatever is known of it.
pub async fn check_content<R: RootDir>(root: &R, path: &TreePath) -> Checked {
    match read(root, path, &mut Vec::new()).await {
        Reading::Hashed(read) => Checked::Read { content: read.facts.content, mark: read.metadata.mark },
        Reading::Gone => Checked::Gone,
        Reading::NotAFile | Reading::Changing => Checked::Changing,
        Reading::Failed(_) => Checked::Unreadable,
    }
}

/// Reads and hashes the regular file at `path`. `buffer` is scratch space that is grown and kept.
pub(super) async fn read<R: RootDir>(root: &R, path: &TreePath, buffer: &mut Vec<u8>) -> Reading {
    read_on(root, path, buffer, &InPlace).await
}

/// The same, with the help of other lanes for a large file.
pub(super) async fn read_on<R: RootDir, L: Lanes>(
    root: &R,
    path: &TreePath,
    buffer: &mut Vec<u8>,
    lanes: &L,
) -> Reading {
    for _ in 0..ATTEMPTS {
        match read_once(root, path, buffer, lanes).await {
            Ok(Some(content)) => return Reading::Hashed(content),
            Ok(None) => {}
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Reading::Gone;
            }
            Err(e) if e.kind() == io::ErrorKind::InvalidInput => return Reading::NotAFile,
            Err(e) => return Reading::Failed(e),
        }
    }
    Reading::Changing
}

async fn read_once<R: RootDir, L: Lanes>(
    root: &R,
    path: &TreePath,
    buffer: &mut Vec<u8>,
    lanes: &L,
) -> io::Result<Option<Content>> {
    let file = root.open(path).await?;
    let before = file.metadata().await?;
    let Some((content, chunks)) = hashing::hash_on(file, before.mark.size, buffer, lanes).await? else {
        return Ok(None);
    };
    // The path shows the very file that was read, under the stat it had before: nothing came in between.
    let after = root.metadata(path).await?.ok_or(io::ErrorKind::NotFound)?;
    if before != after {
        return Ok(None);
    }
    let mark = after.mark;
    let facts = FileFacts { content, size: mark.size, mtime_ns: mark.mtime_ns, executable: after.executable };
    Ok(Some(Content { facts, metadata: after, chunks }))
}

/// Reads until the buffer is full or the file ends.
pub(super) async fn fill<F: File>(file: &F, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        let got = file.read_at(&mut buffer[filled..], offset + filled as u64).await?;
        if got == 0 {
            break;
        }
        filled += got;
    }
    Ok(filled)
}
