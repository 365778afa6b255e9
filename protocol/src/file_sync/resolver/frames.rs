//! Directories that are being walked while something about them is still open: whether they go, whether they have to
//! be made on the other end first, and what holds for everything in them.

use super::Side;
use super::merge::Merge;
use crate::file_sync::{Conflict, Item, PreImage};
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
    /// Everything on this side goes with it.
    Goes(Side),
    /// Everything on this side is put on the other.
    Wins(Side),
    /// Everything on the target is set aside below this path of each end.
    SetAside([EntryPath; 2]),
}

impl Frame {
    pub(super) const fn new(key: EntryPath, has: [bool; 2], inside: Inside) -> Self {
        Self { key, has, going: None, lacking: None, kept: Kept::No, inside }
    }

    pub(super) const fn is_made(&self) -> bool {
        matches!(self.lacking, Some(Lacking { made: true, .. }))
    }
}

impl Merge<'_> {
    /// Something is to be put on `side`: the directories above it that it lacks are made first.
    pub(super) fn need(&mut self, side: Side) {
        for frame in &mut self.frames {
            let Some(lacking) = frame.lacking.as_mut().filter(|lacking| lacking.side == side && !lacking.made) else {
                continue;
            };
            lacking.made = true;
            frame.has = [true, true];
            self.found.on(side).copies.push(lacking.make.clone());
            if let Some(adopt) = lacking.adopt.clone() {
                self.found.on(side.other()).copies.push(adopt);
            }
        }
    }

    /// Something below the directories of `side` that are going stays, so they stay.
    pub(super) fn keep_on(&mut self, side: Side, kept: Kept) {
        let going = |frame: &&mut Frame| frame.going.as_ref().is_some_and(|going| going.side == side);
        if let Some(frame) = self.frames.iter_mut().rev().find(going) {
            frame.kept = frame.kept.max(kept);
        }
    }

    /// Concludes the open directories that do not hold `next`, innermost first.
    pub(super) fn close_all_but(&mut self, next: Option<&EntryPath>) {
        while self.frames.last().is_some_and(|frame| !next.is_some_and(|path| path.is_below(&frame.key))) {
            if let Some(frame) = self.frames.pop() {
                self.close(frame);
            }
        }
    }

    fn close(&mut self, frame: Frame) {
        let is_made = frame.is_made();
        if let Some(Lacking { side, otherwise: Some(item), made: false, .. }) = &frame.lacking {
            self.delete(*side, item.clone());
        }
        let Some(Going { side, end, deletes_before, listed }) = frame.going else { return };
        if frame.kept != Kept::No || is_made {
            let is_residue = frame.kept == Kept::ByResidue && !is_made;
            self.found.conflicts.extend(listed.filter(|_| is_residue));
            self.keep_on(side, if is_residue { Kept::ByResidue } else { Kept::Quietly });
            return;
        }
        match end {
            End::Removed(item, told) => {
                self.delete(side, item);
                if let Some(told) = told {
                    self.copy(side.other(), told);
                }
            }
            End::Replaced(item) => {
                let inside = self.found.on(side).deletes.split_off(deletes_before);
                let leaves = inside.iter().filter(|item| is_leaf(&item.expect));
                let displaced: Vec<_> = leaves.map(|item| item.expect.content_to_find()).collect();
                self.found.displaced[side as usize].extend(displaced);
                self.copy(side, item);
            }
        }
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
