//! What a job does with one item: look at what stands there, then replace or remove exactly that.

use tidegate_protocol::file_sync::{Action, Item, NameRules, PreImage, SideView};
use tidegate_protocol::hash::ContentHash;
use tidegate_protocol::index::{Entry, EntryKind, EntryState, FileFacts, Version};
use tidegate_protocol::path::EntryPath;

use super::disk::{Disk, Node};
use super::scan::{Index, observe};

/// What became of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Applied {
    /// Content was put there.
    Installed,
    /// Done, without content.
    Done,
    /// Not done, nothing changed.
    Skipped,
    /// Not done, as there is no room.
    NoSpace,
}

pub(super) fn apply(item: &Item, other: &Disk, own: &mut Disk, index: &mut Index) -> Applied {
    let Item { path, expect, action } = item;
    let parent = path.parent();
    let has_parent = parent.as_entry().is_none_or(|dir| own.nodes.get(&own.found(dir)) == Some(&Node::Directory));
    let at = if let Action::Respell { from, .. } = action { from } else { path };
    if own.is_unreadable(path) || !has_parent || stands(own, at).as_ref() != Some(expect) {
        return Applied::Skipped;
    }
    if own.full.contains(path) {
        return Applied::NoSpace;
    }
    let announce = |index: &mut Index, kind, version: &Version| {
        index.announce(path, EntryState::Present(Entry { kind, version: version.clone() }));
    };
    match action {
        Action::MakeDirectory { version } => {
            own.trash(path);
            own.put(path, Node::Directory);
            announce(index, EntryKind::Directory { residue: false }, version);
        }
        Action::InstallFile { file, version, from } => {
            let Some(node) = fetch(own, other, from, file).filter(|_| !holds_strangers(own, path, index)) else {
                return Applied::Skipped;
            };
            own.trash(path);
            announce(index, observe(&node), version);
            own.put(path, node);
            return Applied::Installed;
        }
        Action::InstallSymlink { target: text, version } => {
            if holds_strangers(own, path, index) {
                return Applied::Skipped;
            }
            own.trash(path);
            let node = Node::Link(String::from_utf8_lossy(text).into_owned());
            announce(index, observe(&node), version);
            own.put(path, node);
        }
        Action::RenameFile { from, file, version, gone } => {
            if stands(own, from) != Some(PreImage::of_file(file)) {
                return Applied::Skipped;
            }
            let Some(node) = own.nodes.get(&own.found(from)).and_then(|node| with_facts(node, file)) else {
                return Applied::Skipped;
            };
            own.take(from);
            announce(index, observe(&node), version);
            index.announce(from, EntryState::Deleted(gone.clone()));
            own.put(path, node);
        }
        Action::SetMetadata { file, version } => {
            let Some(node) = own.nodes.get(&own.found(path)).and_then(|node| with_facts(node, file)) else {
                return Applied::Skipped;
            };
            announce(index, observe(&node), version);
            own.put(path, node);
        }
        Action::Adopt { version } => index.adopt(path, version),
        Action::Respell { from, version } => respell(own, index, from, path, version),
        Action::Evict { from } => {
            if *expect != PreImage::Directory && stands(other, from).as_ref() != Some(expect)
                || *expect == PreImage::Directory && own.at_and_below(path).nth(1).is_some()
            {
                return Applied::Skipped;
            }
            own.take(path);
            let version = index.version(path);
            index.announce(path, EntryState::Deleted(version));
        }
        Action::RemoveDirectory { .. } if own.at_and_below(path).nth(1).is_some() => return Applied::Skipped,
        Action::Remove { version } | Action::RemoveDirectory { version } => {
            own.trash(path);
            index.announce(path, EntryState::Deleted(version.clone()));
        }
    }
    Applied::Done
}

/// Renames in place, with everything below.
fn respell(own: &mut Disk, index: &mut Index, from: &EntryPath, to: &EntryPath, version: &Version) {
    let moved = own.take(from);
    own.put_at(from, to, moved.clone());
    for (at, node) in moved {
        let tail = &at.as_stored()[from.as_stored().len()..];
        let new = EntryPath::from_stored([to.as_stored(), tail].concat()).expect("a path moved is a path");
        let version = if at == *from { version.clone() } else { index.version(&at) };
        index.announce(&new, EntryState::Present(Entry { kind: observe(&node), version }));
    }
}

/// The content that a copy was to put somewhere.
pub(super) fn content_put_by(item: &Item) -> Option<ContentHash> {
    match &item.action {
        Action::InstallFile { file, .. } | Action::RenameFile { file, .. } => PreImage::of_file(file).content_to_find(),
        Action::MakeDirectory { .. }
        | Action::InstallSymlink { .. }
        | Action::SetMetadata { .. }
        | Action::Adopt { .. }
        | Action::Respell { .. }
        | Action::Evict { .. }
        | Action::Remove { .. }
        | Action::RemoveDirectory { .. } => None,
    }
}

/// A path as the corpus writes it.
pub(super) fn plain(path: &EntryPath) -> String {
    String::from_utf8_lossy(&path.to_slashes()).into_owned()
}

/// Rules of a disk that folds names, or of one that does not.
pub(super) const fn folding(folds: bool) -> NameRules {
    NameRules { folds, ..NameRules::POSIX }
}

fn stands(disk: &Disk, path: &EntryPath) -> Option<PreImage> {
    disk.nodes.get(&disk.found(path)).map_or(Some(PreImage::Absent), |node| PreImage::of(&observe(node)))
}

/// Whether what stands at `path` holds anything outside the conduit.
fn holds_strangers(disk: &Disk, path: &EntryPath, index: &Index) -> bool {
    disk.at_and_below(path).any(|at| index.is_hidden(at) || disk.is_unreadable(at) || disk.nodes[at] == Node::Fifo)
}

/// The file that a plan saw, from the own disk if that holds the content anywhere, else from the other one.
fn fetch(own: &Disk, other: &Disk, from: &EntryPath, file: &FileFacts) -> Option<Node> {
    let wanted = Some(PreImage::of_file(file));
    let local = || own.nodes.iter().find(|(at, node)| !own.is_unreadable(at) && PreImage::of(&observe(node)) == wanted);
    if !other.is_unreadable(from) && stands(other, from) == wanted {
        return with_facts(other.nodes.get(&other.found(from))?, file);
    }
    local().and_then(|(_, node)| with_facts(node, file))
}

fn with_facts(node: &Node, file: &FileFacts) -> Option<Node> {
    match node {
        Node::File { content, .. } => {
            Some(Node::File { content: content.clone(), mtime_ns: file.mtime_ns, executable: file.executable })
        }
        Node::Directory | Node::Link(_) | Node::Fifo => None,
    }
}
