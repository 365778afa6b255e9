//! Directories that are being walked while something about them is still open: whether they go, whether they have to
//! be made on the other end first, and what holds for everything in them.

use super::Side;
use crate::file_sync::{Conflict, Item, PreImage};
use crate::index::Version;
use crate::path::EntryPath;

/// A directory whose content is being walked.
pub(super) struct Frame {
    pub(super) key: EntryPath,
    /// Which ends have it, or will when their copies are done.
    pub(super) has: [bool; 2],
    pub(super) going: Option<Going>,
    pub(super) lacking: Option<Lacking>,
    pub(super) kept: Kept,
    pub(super) inside: Inside,
}

/// It goes unless something below it stays.
pub(super) struct Going {
    pub(super) side: Side,
    pub(super) end: End,
    /// How many deletes were planned on that side before its content was walked.
    pub(super) deletes_before: usize,
    /// What is listed if hidden or unknown content keeps it; `None` where that is not worth a word.
    pub(super) listed: Option<Conflict>,
}

/// What becomes of a directory that goes.
pub(super) enum End {
    /// This delete is planned after what was in it, and the other end records the tombstone's version.
    Removed(Item, Option<Item>),
    /// This copy takes its place, and it goes to the trash in one piece.
    Replaced(Item),
}

/// It is not on that end, and is made there before the first thing that is put below it.
pub(super) struct Lacking {
    pub(super) side: Side,
    pub(super) make: Item,
    /// What the other end records then.
    pub(super) adopt: Option<Item>,
    /// What is done if nothing is put below it: the leaf in its place is removed.
    pub(super) otherwise: Option<Item>,
    pub(super) made: bool,
}

/// Whether something below a directory stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kept {
    /// Nothing does so far.
    No,
    /// Something that is decided, or listed, by itself.
    Quietly,
    /// Something hidden, special or unknown.
    ByResidue,
}

/// What holds for everything below a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Inside {
    /// Every name is decided by itself.
    Law,
    /// Everything on this side goes with it, at this version.
    Goes(Side, Version),
    /// Everything on this side is put on the other.
    Wins(Side),
    /// Everything on the target is set aside below this path of both ends.
    SetAside(EntryPath, Version),
}

impl Frame {
    pub(super) const fn new(key: EntryPath, has: [bool; 2], inside: Inside) -> Self {
        Self { key, has, going: None, lacking: None, kept: Kept::No, inside }
    }

    pub(super) const fn is_made(&self) -> bool {
        matches!(self.lacking, Some(Lacking { made: true, .. }))
    }
}

/// A path below a directory, moved below another one.
pub(super) fn moved_below(path: &EntryPath, from: &EntryPath, to: &EntryPath) -> Option<EntryPath> {
    let tail = path.as_stored().get(from.as_stored().len()..)?;
    EntryPath::from_stored([to.as_stored(), tail].concat()).ok()
}

/// Whether two items are about bytes in place.
pub(super) const fn is_leaf(expect: &PreImage) -> bool {
    match expect {
        PreImage::File { .. } | PreImage::Symlink { .. } => true,
        PreImage::Absent | PreImage::Directory => false,
    }
}
