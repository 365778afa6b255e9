//! What a job does with one item: look at what stands there, then replace or remove exactly that.

use tidegate_protocol::file_sync::{Action, Item, PreImage, SideView};
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
}

pub(super) fn apply(item: &Item, source: &Disk, target: &mut Disk, index: &mut Index) -> Applied {
    let Item { path, expect, action } = item;
    let parent = path.parent();
    let has_parent = parent.as_entry().is_none_or(|dir| target.nodes.get(dir) == Some(&Node::Directory));
    if target.is_unreadable(path) || !has_parent || stands(target, path).as_ref() != Some(expect) {
        return Applied::Skipped;
    }
    let announce = |index: &mut Index, kind, version: &Version| {
        index.announce(path, EntryState::Present(Entry { kind, version: version.clone() }));
    };
    match action {
        Action::MakeDirectory { version } => {
            target.trash(path);
            target.put(path, Node::Directory);
            announce(index, EntryKind::Directory { residue: false }, version);
        }
        Action::InstallFile { file, version, from } => {
            let Some(node) = fetch(source, from, file).filter(|_| !holds_strangers(target, path, index)) else {
                return Applied::Skipped;
            };
            target.trash(path);
            announce(index, observe(&node), version);
            target.put(path, node);
            return Applied::Installed;
        }
        Action::InstallSymlink { target: text, version } => {
            if holds_strangers(target, path, index) {
                return Applied::Skipped;
            }
            target.trash(path);
            let node = Node::Link(String::from_utf8_lossy(text).into_owned());
            announce(index, observe(&node), version);
            target.put(path, node);
        }
        Action::RenameFile { from, file, version } => {
            if stands(target, from) != Some(PreImage::of_file(file)) {
                return Applied::Skipped;
            }
            let Some(node) = target.nodes.get(from).and_then(|node| with_facts(node, file)) else {
                return Applied::Skipped;
            };
            target.take(from);
            announce(index, observe(&node), version);
            target.put(path, node);
        }
        Action::SetMetadata { file, version } => {
            let Some(node) = target.nodes.get(path).and_then(|node| with_facts(node, file)) else {
                return Applied::Skipped;
            };
            announce(index, observe(&node), version);
            target.put(path, node);
        }
        Action::RemoveDirectory { .. } if target.at_and_below(path).nth(1).is_some() => return Applied::Skipped,
        Action::Remove { version } | Action::RemoveDirectory { version } => {
            target.trash(path);
            index.announce(path, EntryState::Deleted(version.clone()));
        }
    }
    Applied::Done
}

/// The content that a copy was to put somewhere.
pub(super) fn content_put_by(item: &Item) -> Option<ContentHash> {
    match &item.action {
        Action::InstallFile { file, .. } | Action::RenameFile { file, .. } => PreImage::of_file(file).content_to_find(),
        Action::MakeDirectory { .. }
        | Action::InstallSymlink { .. }
        | Action::SetMetadata { .. }
        | Action::Remove { .. }
        | Action::RemoveDirectory { .. } => None,
    }
}

fn stands(disk: &Disk, path: &EntryPath) -> Option<PreImage> {
    disk.nodes.get(path).map_or(Some(PreImage::Absent), |node| PreImage::of(&observe(node)))
}

/// Whether what stands at `path` holds anything outside the conduit.
fn holds_strangers(disk: &Disk, path: &EntryPath, index: &Index) -> bool {
    disk.at_and_below(path).any(|at| index.is_hidden(at) || disk.is_unreadable(at) || disk.nodes[at] == Node::Fifo)
}

/// The file that a plan saw on the source, if it is still there.
fn fetch(source: &Disk, from: &EntryPath, file: &FileFacts) -> Option<Node> {
    if source.is_unreadable(from) || stands(source, from) != Some(PreImage::of_file(file)) {
        return None;
    }
    with_facts(source.nodes.get(from)?, file)
}

fn with_facts(node: &Node, file: &FileFacts) -> Option<Node> {
    match node {
        Node::File { content, .. } => {
            Some(Node::File { content: content.clone(), mtime_ns: file.mtime_ns, executable: file.executable })
        }
        Node::Directory | Node::Link(_) | Node::Fifo => None,
    }
}
