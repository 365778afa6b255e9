//! Moves: a copy and a delete of the same content become one rename on the target.
//!
//! Only a rename with the same result as the copy and the delete is made: the old path was to vanish, the
//! new one is free, the content is equal and not empty. Where several paths could pair, none does; the
//! applying device finds the content by its hash anyway.

use std::collections::BTreeMap;

use super::DirectionalOps;
use crate::file_sync::{Action, Item, PreImage};
use crate::hash::ContentHash;
use crate::index::FileFacts;

/// Where a content leaves and where it arrives.
#[derive(Default)]
struct Ends {
    leaves: Vec<usize>,
    arrives: Vec<usize>,
}

/// Pairs what can be paired.
pub(in crate::file_sync) fn pair(ops: &mut DirectionalOps) {
    let mut by_content: BTreeMap<ContentHash, Ends> = BTreeMap::new();
    for (index, item) in ops.deletes.iter().enumerate() {
        if let Some(content) = item.expect.content_to_find() {
            by_content.entry(content).or_default().leaves.push(index);
        }
    }
    if by_content.is_empty() {
        return;
    }
    for (index, item) in ops.copies.iter().enumerate() {
        if let Some(ends) = new_file(item).and_then(|file| by_content.get_mut(&file.content)) {
            ends.arrives.push(index);
        }
    }
    let mut renamed = vec![false; ops.deletes.len()];
    for ends in by_content.into_values() {
        let (&[leaves], &[arrives]) = (ends.leaves.as_slice(), ends.arrives.as_slice()) else { continue };
        let item = &mut ops.copies[arrives];
        if let Action::InstallFile { file, version, .. } = &item.action {
            let Item { path: from, action: Action::Remove { version: gone }, .. } = &ops.deletes[leaves] else {
                continue;
            };
            let (from, gone) = (from.clone(), gone.clone());
            item.action = Action::RenameFile { from, file: *file, version: version.clone(), gone };
            renamed[leaves] = true;
        }
    }
    let mut renamed = renamed.into_iter();
    ops.deletes.retain(|_| renamed.next() == Some(false));
}

/// The file that an item puts where nothing was.
fn new_file(item: &Item) -> Option<&FileFacts> {
    let (PreImage::Absent, Action::InstallFile { file, .. }) = (&item.expect, &item.action) else { return None };
    Some(file)
}
