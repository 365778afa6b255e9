//! What the disk tests share: a world on a real disk, and a disk that fails or is edited at a chosen call.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test file uses its part")]

pub mod faulty;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use tidegate_protocol::file_sync::{JobKey, JobKind, Side};
use tidegate_protocol::hash::ContentHash;
use tidegate_protocol::id::{ConduitId, DeviceId, LocationId, Nonce};
use tidegate_protocol::index::{FileFacts, StatMark};
use tidegate_protocol::path::EntryPath;
use tidegate_storage::disk::os::{OsFileSystem, OsRoot};
use tidegate_storage::disk::{FileSystem, Marker, RootBinding, block_on, mark_root};

/// A location on a real disk.
pub struct World {
    pub dir: tempfile::TempDir,
    pub root: OsRoot,
    pub binding: RootBinding,
}

impl World {
    /// In memory, where a barrier costs nothing: the order of calls is what these tests are about.
    pub fn new() -> Self {
        let memory = Path::new("/dev/shm");
        Self::beneath(if memory.is_dir() { memory } else { Path::new("/tmp") })
    }

    pub fn beneath(parent: &Path) -> Self {
        let dir = tempfile::tempdir_in(parent).unwrap();
        let root = block_on(OsFileSystem.open_root(dir.path())).unwrap();
        let marker = Marker {
            location: LocationId::from_bytes([1; 16]),
            device: DeviceId::from_bytes([2; 32]),
            nonce: Nonce::from_bytes([3; 16]),
        };
        let binding = block_on(mark_root(&root, marker)).unwrap();
        Self { dir, root, binding }
    }

    pub fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    /// Writes a file, making its directories.
    pub fn write(&self, path: &str, content: &str) {
        let at = self.at(path);
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        fs::write(at, content).unwrap();
    }

    pub fn write_all(&self, files: &[(&str, &str)]) {
        for (path, content) in files {
            self.write(path, content);
        }
    }

    pub fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.at(path)).ok()
    }

    /// All files and links below the root but for the marker: path and content.
    pub fn contents(&self) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        collect(self.dir.path(), self.dir.path(), &mut all);
        all.remove(".tidegate/id");
        all
    }

    /// Contents of files below the trash.
    pub fn trash(&self) -> BTreeSet<String> {
        self.contents().into_iter().filter(|(p, _)| p.starts_with(".tidegate/trash/")).map(|(_, c)| c).collect()
    }

    /// Names in staging.
    pub fn staged(&self) -> Vec<String> {
        self.contents().into_keys().filter(|p| p.starts_with(".tidegate/staging/")).collect()
    }

    pub fn mark(&self, path: &str) -> StatMark {
        let stat = fs::symlink_metadata(self.at(path)).unwrap();
        StatMark {
            size: stat.len(),
            mtime_ns: stat.mtime() * 1_000_000_000 + stat.mtime_nsec(),
            ctime_ns: stat.ctime() * 1_000_000_000 + stat.ctime_nsec(),
            inode: stat.ino(),
        }
    }
}

fn collect(top: &Path, dir: &Path, all: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let path = entry.path();
        let name = path.strip_prefix(top).unwrap().to_string_lossy().into_owned();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            collect(top, &path, all);
        } else if kind.is_symlink() {
            all.insert(name, format!("-> {}", fs::read_link(&path).unwrap().display()));
        } else if kind.is_file() {
            all.insert(name, String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned());
        }
    }
}

pub fn path(text: &str) -> EntryPath {
    EntryPath::from_slashes(text.as_bytes()).unwrap()
}

pub fn facts(content: &[u8]) -> FileFacts {
    FileFacts {
        content: ContentHash::of(content),
        size: content.len() as u64,
        mtime_ns: 1_700_000_000_123_456_789,
        executable: false,
    }
}

pub fn job() -> JobKey {
    JobKey {
        conduit: ConduitId::from_bytes([4; 16]),
        generation: 7,
        device: DeviceId::from_bytes([2; 32]),
        side: Side::Target,
        kind: JobKind::Copy,
    }
}
