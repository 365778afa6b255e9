//! A location's directory on a real disk: what a person or fate does to it, and what is there.
//!
//! What belongs to the world and not to the scenario (the node's own directory, the rule file, ballast) is
//! not shown. A call that the operating system refuses panics: then nothing can be said about the scenario.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use crate::corpus::format::Edit;
use crate::corpus::runner::{Contents, Tree};

const OWN: &str = ".tidegate";
const RULES: &str = ".tidegateignore";

/// Ballast that is long to copy. Sorts before the names of the corpus, so that its copy begins first.
const HEAVY: &str = "!ballast";
/// Ballast that is long to delete. Sorts behind them: deletes go from the last path to the first.
const MANY: &str = "~ballast";

const HEAVY_BYTES: usize = 12 << 20;
const MANY_FILES: usize = 3_000;

/// One location's directory.
pub(super) struct RealDisk {
    root: PathBuf,
    /// Where the root is while it is away.
    away: PathBuf,
    clock_s: i64,
}

/// What could not be done to a disk ends the scenario.
pub(super) fn sure<T>(what: &str, result: Result<T, impl Display>) -> T {
    result.unwrap_or_else(|error| panic!("{what}: {error}"))
}

impl RealDisk {
    pub(super) fn new(root: PathBuf, tree: &Tree, ignore: &[String]) -> Self {
        sure("create a root", fs::create_dir_all(&root));
        let mut away = root.clone().into_os_string();
        away.push(".away");
        let disk = Self { root, away: away.into(), clock_s: 1_000 };
        if !ignore.is_empty() {
            disk.write(RULES, ignore.join("\n").as_bytes(), 0);
        }
        disk.add(tree);
        disk
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Adds what a tree lists, all of it of one age.
    pub(super) fn add(&self, tree: &Tree) {
        for (path, value) in tree {
            match (path.strip_suffix('/'), value.strip_prefix("->")) {
                (Some(directory), _) => sure(path, fs::create_dir_all(self.at(directory))),
                (None, Some(target)) => sure(path, symlink(target, self.with_parents(path))),
                (None, None) if value == "<fifo>" => self.make_fifo(path),
                (None, None) => self.write(path, value.as_bytes(), 0),
            }
        }
    }

    /// Takes everything away that a scenario can see.
    pub(super) fn clear(&self) {
        for name in self.names() {
            self.remove(&name);
        }
    }

    pub(super) fn edit(&mut self, edit: &Edit) {
        self.clock_s += 1;
        match edit {
            Edit::Write { path, content, mtime_s } => {
                self.write(path, content.as_bytes(), mtime_s.unwrap_or(self.clock_s));
            }
            Edit::Rollback { path, content } => self.write(path, content.as_bytes(), 1),
            Edit::MakeDirectory { path } => sure(path, fs::create_dir_all(self.at(path))),
            Edit::Remove { path } => self.remove(path),
            Edit::Move { from, to } => sure(from, fs::rename(self.at(from), self.with_parents(to))),
            Edit::Copy { from, to } => {
                let status = Command::new("cp").arg("-a").arg(self.at(from)).arg(self.with_parents(to)).status();
                assert!(sure(from, status).success(), "cp -a {from} {to}");
            }
            Edit::Link { path, target } => {
                self.remove(path);
                sure(path, symlink(target, self.with_parents(path)));
            }
            Edit::Executable { path, on } => self.set_mode(path, if *on { 0o755 } else { 0o644 }),
            Edit::Touch { path, mtime_s } => self.set_mtime(path, *mtime_s),
            Edit::MakeFifo { path } => {
                self.remove(path);
                self.make_fifo(path);
            }
            Edit::Unreadable { path, on } => self.set_mode(path, if *on { 0 } else { 0o755 }),
            Edit::RootMissing => sure("move the root away", fs::rename(&self.root, &self.away)),
            Edit::RootReplaced => {
                sure("move the root away", fs::rename(&self.root, &self.away));
                sure("put another in its place", fs::create_dir(&self.root));
            }
            Edit::RootOk => {
                let _another_was_there = fs::remove_dir(&self.root);
                sure("put the root back", fs::rename(&self.away, &self.root));
            }
            Edit::DiskFullFor { .. } | Edit::DiskOk | Edit::RestoredBackup | Edit::Crash => {
                panic!("{edit:?} is nothing that is done to a directory")
            }
        }
    }

    /// A file whose copy takes long at a low limit. `unlike` makes its content another than that of other
    /// scenarios: what a device has already is not sent.
    pub(super) fn add_heavy(&self, unlike: u64) {
        self.write(HEAVY, &tidegate::lab::fill(unlike, HEAVY_BYTES), 0);
    }

    /// Files whose deletion takes long.
    pub(super) fn add_many(&self) {
        for number in 0..MANY_FILES {
            self.write(&format!("{MANY}/{number:04}"), b"", 0);
        }
    }

    pub(super) fn remove_many(&self) {
        self.remove(MANY);
    }

    /// Names of what is added to make a moment long.
    pub(super) const BALLAST: [&'static str; 2] = [HEAVY, MANY];

    /// Whether a path belongs to what was added to make a moment long.
    pub(super) fn is_ballast(path: &str) -> bool {
        path.starts_with(HEAVY) || path.starts_with(MANY)
    }

    /// How many of the files whose deletion takes long are still there; `None` if none was deleted yet.
    pub(super) fn deletes_left(&self) -> Option<usize> {
        let left = fs::read_dir(self.at(MANY)).map_or(0, Iterator::count);
        (left < MANY_FILES).then_some(left)
    }

    /// In the corpus's notation.
    pub(super) fn tree(&self) -> Tree {
        let mut tree = Tree::new();
        for name in self.names() {
            self.show(&name, &mut tree);
        }
        tree
    }

    pub(super) fn executable(&self) -> BTreeSet<String> {
        let on = |path: &String| {
            let metadata = sure(path, self.at(path).symlink_metadata());
            metadata.is_file() && metadata.permissions().mode() & 0o100 != 0
        };
        self.tree().into_keys().filter(on).collect()
    }

    /// Contents that the trash of the location holds.
    pub(super) fn trash(&self) -> Contents {
        let directory = self.now().join(OWN).join("trash");
        let trash = Self { root: directory.clone(), away: directory, clock_s: 0 };
        let found = if trash.root.exists() { trash.tree() } else { Tree::new() };
        found.into_iter().filter(|(path, _)| !path.ends_with('/')).map(|(_, content)| content).collect()
    }

    fn show(&self, path: &str, tree: &mut Tree) {
        let at = self.at(path);
        let metadata = sure(path, at.symlink_metadata());
        let value = if metadata.is_dir() {
            let names = names(&at);
            if names.is_empty() {
                tree.insert(format!("{path}/"), String::new());
            }
            for name in names {
                self.show(&format!("{path}/{name}"), tree);
            }
            return;
        } else if metadata.is_symlink() {
            format!("->{}", sure(path, fs::read_link(&at)).display())
        } else if metadata.is_file() {
            String::from_utf8_lossy(&sure(path, fs::read(&at))).into_owned()
        } else {
            "<fifo>".to_owned()
        };
        tree.insert(path.to_owned(), value);
    }

    /// Names at the top that belong to the scenario.
    fn names(&self) -> Vec<String> {
        let own = |name: &String| [OWN, RULES, HEAVY, MANY].contains(&name.as_str());
        names(&self.now()).into_iter().filter(|name| !own(name)).collect()
    }

    fn write(&self, path: &str, content: &[u8], mtime_s: i64) {
        let at = self.with_parents(path);
        if at.is_symlink() || at.is_dir() {
            self.remove(path);
        }
        sure(path, fs::write(&at, content));
        self.set_mtime(path, mtime_s);
    }

    fn remove(&self, path: &str) {
        let at = self.at(path);
        match at.symlink_metadata() {
            Ok(metadata) if metadata.is_dir() => sure(path, fs::remove_dir_all(at)),
            Ok(_) => sure(path, fs::remove_file(at)),
            Err(_) => {}
        }
    }

    fn make_fifo(&self, path: &str) {
        let status = Command::new("mkfifo").arg(self.with_parents(path)).status();
        assert!(sure(path, status).success(), "mkfifo {path}");
    }

    fn set_mode(&self, path: &str, mode: u32) {
        sure(path, fs::set_permissions(self.at(path), Permissions::from_mode(mode)));
    }

    fn set_mtime(&self, path: &str, mtime_s: i64) {
        let at = UNIX_EPOCH + Duration::from_secs(mtime_s.unsigned_abs());
        sure(path, sure(path, File::open(self.at(path))).set_modified(at));
    }

    /// Where the root is now.
    fn now(&self) -> PathBuf {
        if self.away.exists() { self.away.clone() } else { self.root.clone() }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.now().join(path)
    }

    fn with_parents(&self, path: &str) -> PathBuf {
        let at = self.at(path);
        if let Some(parent) = at.parent() {
            sure(path, fs::create_dir_all(parent));
        }
        at
    }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = sure("read a directory", fs::read_dir(directory));
    let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
    entries.map(|entry| name(sure("read a directory", entry))).collect()
}
