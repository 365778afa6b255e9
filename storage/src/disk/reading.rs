//! Reading a file's content so that the hash belongs to the stat that goes with it.
//!
//! A file may change while it is read. It is stat'ed before by its handle and after by its path; only if both
//! agree, inode and ctime included, does the hash count.

use std::io;

use tidegate_protocol::hash::ContentHash;
use tidegate_protocol::index::{FileFacts, StatMark};
use tidegate_protocol::limits::CHUNK_BYTES;

use super::chunks::OutlineBuilder;
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
    for _ in 0..ATTEMPTS {
        match read_once(root, path, buffer).await {
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

async fn read_once<R: RootDir>(root: &R, path: &TreePath, buffer: &mut Vec<u8>) -> io::Result<Option<Content>> {
    let file = root.open(path).await?;
    let before = file.metadata().await?;
    let Some((content, chunks)) = hash(&file, before.mark.size, buffer).await? else { return Ok(None) };
    // The path shows the very file that was read, under the stat it had before: nothing came in between.
    let after = root.metadata(path).await?.ok_or(io::ErrorKind::NotFound)?;
    if before != after {
        return Ok(None);
    }
    let mark = after.mark;
    let facts = FileFacts { content, size: mark.size, mtime_ns: mark.mtime_ns, executable: after.executable };
    Ok(Some(Content { facts, metadata: after, chunks }))
}

/// Hashes exactly `size` bytes; `None` if the file ends earlier or goes on.
pub(super) async fn hash<F: File>(
    file: &F,
    size: u64,
    buffer: &mut Vec<u8>,
) -> io::Result<Option<(ContentHash, Vec<[u8; 32]>)>> {
    // One byte more than it should have shows that it grew.
    let wanted = size.saturating_add(1).min(CHUNK_BYTES) as usize;
    if buffer.len() < wanted {
        buffer.resize(wanted, 0);
    }
    if size < CHUNK_BYTES {
        let got = fill(file, &mut buffer[..wanted], 0).await?;
        return Ok((got as u64 == size).then(|| (ContentHash::of(&buffer[..got]), Vec::new())));
    }
    let mut builder = OutlineBuilder::new(size);
    let mut offset = 0;
    loop {
        let got = fill(file, &mut buffer[..wanted], offset).await?;
        offset += got as u64;
        if offset > size {
            return Ok(None);
        }
        builder.push(&buffer[..got]);
        if got < wanted {
            break;
        }
    }
    if offset < size {
        return Ok(None);
    }
    let outline = builder.finish();
    let chunks = if outline.chunks().len() > 1 { outline.chunks().to_vec() } else { Vec::new() };
    Ok(Some((outline.content(), chunks)))
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
