//! Texts that both ends last agreed on, kept beside the trash so that two later edits can be joined line by line:
//! when both ends overwrite a file, what they began from is nowhere else.
//!
//! A text is kept under its content's hash, in `.tidegate/base/`. Nothing hangs on it: what is missing or damaged only
//! makes a merge impossible, so nothing is synced, and the oldest go when there are too many.

use std::io;

use tidegate_protocol::hash::ContentHash;
use tidegate_protocol::path::Name;

use super::refused::Refused;
use super::stage::make_own_dir;
use super::{File, RootDir, TreePath};

/// Longest text that is kept, in bytes.
pub const TEXT_BYTES_MAX: u64 = 256 << 10;
/// Texts that are kept in one location.
const TEXTS_MAX: usize = 10_000;

fn top() -> TreePath {
    TreePath::internal([&Name::new(b"base").expect("a plain word is a name")])
}

fn place(content: &ContentHash) -> TreePath {
    top().child(&Name::new(content.to_string().as_bytes()).expect("hexadecimal digits are a name"))
}

/// Keeps a text; one that is kept already, and what is no text, is left alone.
pub async fn keep_text<R: RootDir>(root: &R, content: &ContentHash, bytes: &[u8]) -> Result<(), Refused> {
    let is_text = std::str::from_utf8(bytes).is_ok_and(|text| !text.contains('\0'));
    if !is_text || bytes.len() as u64 > TEXT_BYTES_MAX || ContentHash::of(bytes) != *content {
        return Ok(());
    }
    make_own_dir(root, &top()).await?;
    match root.create(&place(content)).await {
        Ok(file) => Ok(file.write_at(bytes, 0).await?),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// A text that was kept, if it still is what it was.
pub async fn kept_text<R: RootDir>(root: &R, content: &ContentHash) -> Option<Vec<u8>> {
    let file = root.open(&place(content)).await.ok()?;
    let size = file.metadata().await.ok()?.mark.size;
    let mut bytes = vec![0; usize::try_from(size.min(TEXT_BYTES_MAX)).ok()?];
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], filled as u64).await.ok()? {
            0 => return None,
            more => filled += more,
        }
    }
    (ContentHash::of(&bytes) == *content).then_some(bytes)
}

/// Lets go of the oldest texts beyond the bound.
pub async fn tidy_texts<R: RootDir>(root: &R) -> Result<(), Refused> {
    let mut kept = match root.list(&top()).await {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    if kept.len() <= TEXTS_MAX {
        return Ok(());
    }
    kept.sort_by_key(|entry| entry.metadata.as_ref().map_or(0, |found| found.mark.mtime_ns));
    for entry in &kept[..kept.len() - TEXTS_MAX] {
        if let Ok(name) = Name::new(&entry.name) {
            root.remove_file(&top().child(&name)).await?;
        }
    }
    Ok(())
}
