//! A disk in memory, and what a person or fate does to it.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_protocol::file_sync::NameRules;
use tidegate_protocol::path::{DirPath, EntryPath, Name};

use crate::corpus::format::Edit;
use crate::corpus::runner::{Contents, Tree};

const NS_PER_S: i64 = 1_000_000_000;

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    Directory,
    File { content: String, mtime_ns: i64, executable: bool },
    Link(String),
    Fifo,
}

/// What is wrong with the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RootFault {
    None,
    Missing,
    Replaced,
}

/// One location's disk.
pub(in crate::corpus) struct Disk {
    pub(super) nodes: BTreeMap<EntryPath, Node>,
    pub(super) unreadable: BTreeSet<EntryPath>,
    pub(super) trash: Contents,
    pub(super) root: RootFault,
    /// Paths for which there is no room.
    pub(super) full: BTreeSet<EntryPath>,
    /// What names it can store and tell apart.
    pub(super) names: NameRules,
}

pub(super) fn path(text: &str) -> EntryPath {
    EntryPath::from_slashes(text.as_bytes()).expect("paths of the corpus are valid")
}

impl Disk {
    pub(in crate::corpus) fn new(tree: &Tree, names: NameRules) -> Self {
        let (nodes, unreadable, full) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
        let mut disk = Self { nodes, unreadable, trash: Contents::new(), root: RootFault::None, full, names };
        disk.add(tree);
        disk
    }

    /// Adds what a tree lists, all of it of one age.
    pub(super) fn add(&mut self, tree: &Tree) {
        for (at, value) in tree {
            let node = match (at.strip_suffix('/'), value.strip_prefix("->")) {
                (Some(_), _) => Node::Directory,
                (None, Some(target)) => Node::Link(target.to_owned()),
                (None, None) if value == "<fifo>" => Node::Fifo,
                (None, None) => Node::File { content: value.clone(), mtime_ns: 0, executable: false },
            };
            self.put(&path(at.trim_end_matches('/')), node);
        }
    }

    /// The path under which the disk finds what is asked for: a disk that folds names keeps the spelling of the first.
    pub(super) fn found(&self, path: &EntryPath) -> EntryPath {
        if !self.names.folds {
            return path.clone();
        }
        let mut at = DirPath::TOP;
        for name in path.names() {
            let wanted = at.child(&Name::new(name).expect("a name of a path")).expect("a path as long as that one");
            let key = self.names.key(&wanted);
            let twin = self.nodes.keys().find(|node| self.names.key(node) == key);
            at = DirPath::below_top(twin.cloned().unwrap_or(wanted));
        }
        at.as_entry().cloned().expect("a path has a name")
    }

    /// Puts a node at a path, with the directories above it, over whatever stood in its way.
    pub(super) fn put(&mut self, path: &EntryPath, node: Node) {
        let path = &self.found(path);
        for above in path.ancestors() {
            if self.nodes.get(&above) != Some(&Node::Directory) {
                self.nodes.insert(above, Node::Directory);
            }
        }
        if node != Node::Directory {
            self.take(path);
        }
        self.nodes.insert(path.clone(), node);
    }

    /// Takes a path and everything below it away, in path order.
    pub(super) fn take(&mut self, path: &EntryPath) -> Vec<(EntryPath, Node)> {
        let path = &self.found(path);
        let gone: Vec<EntryPath> = self.at_and_below(path).cloned().collect();
        gone.into_iter().filter_map(|at| self.nodes.remove(&at).map(|node| (at, node))).collect()
    }

    pub(super) fn at_and_below<'a>(&'a self, path: &'a EntryPath) -> impl Iterator<Item = &'a EntryPath> {
        self.nodes.range(path.clone()..).map(|(at, _)| at).take_while(move |at| *at == path || at.is_below(path))
    }

    /// As [`Disk::take`], to where it can be taken back from.
    pub(super) fn trash(&mut self, path: &EntryPath) {
        for (_, node) in self.take(path) {
            match node {
                Node::File { content, .. } => self.trash.insert(content),
                Node::Link(target) => self.trash.insert(format!("->{target}")),
                Node::Directory | Node::Fifo => false,
            };
        }
    }

    pub(super) fn is_unreadable(&self, path: &EntryPath) -> bool {
        self.unreadable.contains(path) || path.ancestors().any(|above| self.unreadable.contains(&above))
    }

    pub(in crate::corpus) fn edit(&mut self, edit: &Edit, clock_s: i64) {
        match edit {
            Edit::Write { path: at, content, mtime_s } => {
                let at = self.found(&path(at));
                let executable = matches!(self.nodes.get(&at), Some(Node::File { executable: true, .. }));
                let mtime_ns = mtime_s.unwrap_or(clock_s) * NS_PER_S;
                self.put(&at, Node::File { content: content.clone(), mtime_ns, executable });
            }
            Edit::MakeDirectory { path: at } => self.put(&path(at), Node::Directory),
            Edit::Remove { path: at } => drop(self.take(&path(at))),
            Edit::Move { from, to } => {
                let from = self.found(&path(from));
                let taken = self.take(&from);
                self.put_at(&from, &path(to), taken);
            }
            Edit::Copy { from, to } => {
                let from = path(from);
                let copied = self.at_and_below(&from).map(|at| (at.clone(), self.nodes[at].clone())).collect();
                self.put_at(&from, &path(to), copied);
            }
            Edit::Link { path: at, target } => self.put(&path(at), Node::Link(target.clone())),
            Edit::Executable { path: at, on } => {
                if let Some(Node::File { executable, .. }) = self.nodes.get_mut(&path(at)) {
                    *executable = *on;
                }
            }
            Edit::Touch { path: at, mtime_s } => {
                if let Some(Node::File { mtime_ns, .. }) = self.nodes.get_mut(&path(at)) {
                    *mtime_ns = mtime_s * NS_PER_S;
                }
            }
            Edit::MakeFifo { path: at } => self.put(&path(at), Node::Fifo),
            Edit::Unreadable { path: at, on: true } => drop(self.unreadable.insert(path(at))),
            Edit::Unreadable { path: at, on: false } => drop(self.unreadable.remove(&path(at))),
            Edit::RootMissing => self.root = RootFault::Missing,
            Edit::RootReplaced => self.root = RootFault::Replaced,
            Edit::RootOk => self.root = RootFault::None,
            Edit::DiskFullFor { path: at } => drop(self.full.insert(path(at))),
            Edit::DiskOk => self.full.clear(),
            Edit::Rollback { path: at, content } => {
                let content = content.clone();
                self.put(&path(at), Node::File { content, mtime_ns: 0, executable: false });
            }
            Edit::RestoredBackup | Edit::Crash => panic!("{edit:?} is not about a disk alone"),
        }
    }

    /// Puts what was at and below `from` at and below `to`.
    pub(super) fn put_at(&mut self, from: &EntryPath, to: &EntryPath, nodes: Vec<(EntryPath, Node)>) {
        self.take(to);
        for (at, node) in nodes {
            let tail = &at.as_stored()[from.as_stored().len()..];
            let at = EntryPath::from_stored([to.as_stored(), tail].concat()).expect("a path moved is a path");
            self.put(&at, node);
        }
    }

    /// In the corpus's notation.
    pub(in crate::corpus) fn tree(&self) -> Tree {
        let plain = |at: &EntryPath| String::from_utf8_lossy(&at.to_slashes()).into_owned();
        let shown = self.nodes.iter().filter_map(|(at, node)| {
            Some(match node {
                Node::File { content, .. } => (plain(at), content.clone()),
                Node::Link(target) => (plain(at), format!("->{target}")),
                Node::Fifo => (plain(at), "<fifo>".to_owned()),
                Node::Directory if self.at_and_below(at).nth(1).is_none() => (plain(at) + "/", String::new()),
                Node::Directory => return None,
            })
        });
        shown.collect()
    }

    pub(super) fn executable(&self) -> BTreeSet<String> {
        let on = |node: &Node| matches!(node, Node::File { executable: true, .. });
        self.nodes.iter().filter(|(_, node)| on(node)).map(|(at, _)| at.to_string()).collect()
    }
}
