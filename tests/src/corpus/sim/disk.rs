//! A location's directory on a simulated disk: what a person or fate does to it, and what is there.
//!
//! What belongs to the world and not to the scenario (the node's own directory, the rule file) is not shown. A call
//! that the simulated system refuses panics: then nothing can be said about the scenario.

use std::collections::BTreeSet;

use tidegate_protocol::file_sync::NameRules;
use tidegate_sim::disk::{Access, Disk, Errno, Naming, Picture, Shown, Tree as Pictured, VolumeSpec};
use tidegate_storage::disk::FileKind;

use crate::corpus::format::{Edit, Names};
use crate::corpus::runner::{Contents, Tree};

const MOUNT: &str = "/vol";
/// Where the root of the location is.
pub(super) const ROOT: &str = "/vol/root";
/// Where it is while it is away.
const AWAY: &str = "/vol/away";
const VOLUME: u64 = 10;

const OWN: &str = ".tidegate";
const RULES: &str = ".tidegateignore";

const NS_PER_S: i64 = 1_000_000_000;

/// One location's directory.
pub(super) struct SimDisk {
    pub(super) disk: Disk,
    pub(super) clock_s: i64,
}

/// What could not be done to a disk ends the scenario.
pub(super) fn sure<T>(what: &str, result: Result<T, Errno>) -> T {
    result.unwrap_or_else(|errno| panic!("{what}: {errno:?}"))
}

/// What a disk of this kind is like.
fn spec(names: Names) -> VolumeSpec {
    let rules = NameRules::from(names);
    let naming = Naming { ignores_case: rules.folds, normalises: rules.folds, refuses: rules.windows };
    VolumeSpec { naming, symlinks: rules.links, ..VolumeSpec::plain(VOLUME) }
}

impl SimDisk {
    pub(super) fn new(disk: Disk, names: Names, ignore: &[String]) -> Self {
        disk.mount(MOUNT, spec(names));
        sure("create a root", disk.user().make_dir(ROOT));
        let new = Self { disk, clock_s: 1_000 };
        if !ignore.is_empty() {
            new.write(RULES, ignore.join("\n").as_bytes(), 0);
        }
        new.save();
        new
    }

    /// Adds what a tree lists, all of it of one age.
    pub(super) fn add(&self, tree: &Tree) {
        let user = self.disk.user();
        for (path, value) in tree {
            match (path.strip_suffix('/'), value.strip_prefix("->")) {
                (Some(directory), _) => sure(path, user.make_dirs(&self.at(directory))),
                (None, Some(target)) => sure(path, user.make_symlink(&self.with_parents(path), target.as_bytes())),
                (None, None) if value == "<fifo>" => sure(path, user.make_special(&self.with_parents(path))),
                (None, None) => self.write(path, value.as_bytes(), 0),
            }
        }
        self.save();
    }

    /// Takes everything away that a scenario can see.
    pub(super) fn clear(&self) {
        let tops: BTreeSet<String> =
            self.pictured().keys().filter_map(|path| path.split('/').next().map(str::to_owned)).collect();
        for top in tops {
            self.remove(&top);
        }
    }

    /// What users did a while ago is on the platter.
    fn save(&self) {
        sure("sync", self.disk.user().sync_all(MOUNT));
    }

    pub(super) fn edit(&mut self, edit: &Edit) {
        self.clock_s += 1;
        let user = self.disk.user();
        match edit {
            Edit::Write { path, content, mtime_s } => {
                self.write(path, content.as_bytes(), mtime_s.unwrap_or(self.clock_s));
            }
            Edit::Rollback { path, content } => self.write(path, content.as_bytes(), 1),
            Edit::MakeDirectory { path } => sure(path, user.make_dirs(&self.at(path))),
            Edit::Remove { path } => self.remove(path),
            Edit::Move { from, to } => sure(from, user.rename(&self.at(from), &self.with_parents(to))),
            Edit::Copy { from, to } => self.copy(from, to),
            Edit::Link { path, target } => {
                self.remove(path);
                sure(path, user.make_symlink(&self.with_parents(path), target.as_bytes()));
            }
            Edit::Executable { path, on } => sure(path, user.set_executable(&self.at(path), *on)),
            Edit::Touch { path, mtime_s } => sure(path, user.set_mtime(&self.at(path), mtime_s * NS_PER_S)),
            Edit::MakeFifo { path } => {
                self.remove(path);
                sure(path, user.make_special(&self.with_parents(path)));
            }
            Edit::Unreadable { path, on } => {
                let access = if *on { Access::Nothing } else { Access::Full };
                sure(path, user.set_access(&self.at(path), access));
            }
            Edit::RootMissing => sure("move the root away", user.rename(ROOT, AWAY)),
            Edit::RootReplaced => {
                sure("move the root away", user.rename(ROOT, AWAY));
                sure("put another in its place", user.make_dir(ROOT));
            }
            Edit::RootOk => {
                let _another_was_there = user.remove_dir(ROOT);
                sure("put the root back", user.rename(AWAY, ROOT));
            }
            Edit::DiskFullFor { path } => {
                let at = format!("{ROOT}/{path}").into_bytes();
                self.disk.faults(|faults| faults.no_room_for.insert(at));
            }
            Edit::DiskOk => self.disk.faults(|faults| faults.no_room_for.clear()),
            Edit::RestoredBackup | Edit::Crash => panic!("{edit:?} is nothing that is done to a directory"),
        }
        self.save();
    }

    /// In the corpus's notation.
    pub(super) fn tree(&self) -> Tree {
        shown(&self.pictured())
    }

    pub(super) fn executable(&self) -> BTreeSet<String> {
        let all = self.pictured();
        let on = |shown: &Shown| shown.metadata.kind == FileKind::File && shown.metadata.executable;
        all.into_iter().filter(|(_, shown)| on(shown)).map(|(path, _)| path).collect()
    }

    /// Contents that the trash of the location holds.
    pub(super) fn trash(&self) -> Contents {
        let trash = format!("{}/{OWN}/trash", self.now());
        // Nothing was ever thrown away.
        let Ok(tree) = self.disk.tree(&trash, Picture::Live) else { return Contents::new() };
        shown(&named(tree)).into_iter().filter(|(path, _)| !path.ends_with('/')).map(|(_, content)| content).collect()
    }

    /// What belongs to the scenario.
    fn pictured(&self) -> std::collections::BTreeMap<String, Shown> {
        let all = named(sure("look at a tree", self.disk.tree(self.now(), Picture::Live)));
        let own = |path: &str| path == RULES || path == OWN || path.starts_with(".tidegate/");
        all.into_iter().filter(|(path, _)| !own(path)).collect()
    }

    fn write(&self, path: &str, content: &[u8], mtime_s: i64) {
        let user = self.disk.user();
        let at = self.with_parents(path);
        if user.kind(&at).is_ok_and(|kind| kind != FileKind::File) {
            self.remove(path);
        }
        sure(path, user.write(&at, content));
        sure(path, user.set_mtime(&at, mtime_s * NS_PER_S));
    }

    fn remove(&self, path: &str) {
        match self.disk.user().remove_tree(&self.at(path)) {
            Ok(()) | Err(Errno::NoEntry | Errno::NotDirectory) => {}
            Err(errno) => panic!("{path}: {errno:?}"),
        }
    }

    fn copy(&self, from: &str, to: &str) {
        let user = self.disk.user();
        let (from, to) = (self.at(from), self.with_parents(to));
        match sure(&from, user.metadata(&from)) {
            found if found.kind == FileKind::Directory => {
                sure(&to, user.make_dirs(&to));
                sure(&to, user.put_tree(&to, &sure(&from, self.disk.tree(&from, Picture::Live))));
            }
            found if found.kind == FileKind::Symlink => {
                sure(&to, user.make_symlink(&to, &sure(&from, user.read_link(&from))));
            }
            found => {
                sure(&to, user.write(&to, &sure(&from, user.read(&from)).bytes()));
                sure(&to, user.set_executable(&to, found.executable));
                sure(&to, user.set_mtime(&to, found.mark.mtime_ns));
            }
        }
    }

    /// Where the root is now.
    fn now(&self) -> &'static str {
        if self.disk.user().kind(AWAY).is_ok() { AWAY } else { ROOT }
    }

    fn at(&self, path: &str) -> String {
        format!("{}/{path}", self.now())
    }

    fn with_parents(&self, path: &str) -> String {
        let at = self.at(path);
        if let Some((parent, _)) = at.rsplit_once('/') {
            sure(path, self.disk.user().make_dirs(parent));
        }
        at
    }
}

fn named(tree: Pictured) -> std::collections::BTreeMap<String, Shown> {
    tree.into_iter().map(|(path, shown)| (String::from_utf8_lossy(&path).into_owned(), shown)).collect()
}

/// A tree in the corpus's notation.
fn shown(tree: &std::collections::BTreeMap<String, Shown>) -> Tree {
    let is_empty = |path: &str| {
        let below = format!("{path}/");
        !tree.range(below.clone()..).next().is_some_and(|(other, _)| other.starts_with(&below))
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let notation = tree.iter().filter_map(|(path, shown)| match shown.metadata.kind {
        FileKind::Directory => is_empty(path).then(|| (format!("{path}/"), String::new())),
        FileKind::File => Some((path.clone(), text(&shown.content.as_ref()?.bytes()))),
        FileKind::Symlink => Some((path.clone(), format!("->{}", text(shown.link.as_deref()?)))),
        FileKind::Special => Some((path.clone(), "<fifo>".to_owned())),
    });
    notation.collect()
}
