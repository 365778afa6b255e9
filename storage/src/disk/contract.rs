//! What every implementation of the seam must do, as one suite: run against the operating system here and
//! against the simulated disk in the simulator. It panics where a promise is broken.

#![allow(clippy::unwrap_used, reason = "the suite fails by it")]

use std::io::ErrorKind as Kind;
use std::path::Path;

use tidegate_protocol::path::{EntryPath, Name};

use super::{File, FileKind, FileSystem, RenameMode, RootDir, TreePath};

/// Runs the suite beneath `path`, an existing empty directory of a disk that keeps times to the nanosecond.
pub async fn run<F: FileSystem>(disk: &F, path: &Path) {
    run_coarse(disk, path, 1).await;
}

/// The same on a disk whose times are multiples of `time_step_ns`. There, a write need not show in the stat.
pub async fn run_coarse<F: FileSystem>(disk: &F, path: &Path, time_step_ns: i64) {
    assert!(disk.open_root(&path.join("nowhere")).await.is_err(), "a root must exist");
    let root = disk.open_root(path).await.unwrap();
    assert!(root.space().await.unwrap().total > 0);
    let identity = root.identity().await.unwrap();
    assert_eq!(disk.open_root(path).await.unwrap().identity().await.unwrap(), identity, "a root is itself again");
    files(&root, time_step_ns).await;
    directories(&root).await;
    links(&root).await;
    renames(&root).await;
    copies(&root).await;
    names(&root).await;
    moves(&root).await;
    if time_step_ns == 1 {
        marks(&root).await;
    }
    root.sync_all().await.unwrap();
}

fn at(text: &str) -> TreePath {
    TreePath::from(&EntryPath::from_slashes(text.as_bytes()).unwrap())
}

async fn write<R: RootDir>(root: &R, path: &str, content: &[u8]) {
    root.create(&at(path)).await.unwrap().write_at(content, 0).await.unwrap();
}

async fn read<R: RootDir>(root: &R, path: &str) -> Vec<u8> {
    let file = root.open(&at(path)).await.unwrap();
    let mut bytes = vec![0; 64];
    let length = file.read_at(&mut bytes, 0).await.unwrap();
    bytes.truncate(length);
    bytes
}

async fn kind_of<R: RootDir>(root: &R, path: &str) -> Option<FileKind> {
    root.metadata(&at(path)).await.unwrap().map(|m| m.kind)
}

async fn files<R: RootDir>(root: &R, time_step_ns: i64) {
    write(root, "file", b"hello").await;
    assert_eq!(root.create(&at("file")).await.err().unwrap().kind(), Kind::AlreadyExists);
    assert_eq!(root.create(&at("no/file")).await.err().unwrap().kind(), Kind::NotFound);
    assert_eq!(root.open(&at("none")).await.err().unwrap().kind(), Kind::NotFound);
    assert_eq!(read(root, "file").await, b"hello");
    let file = root.open_staged(&at("file")).await.unwrap();
    file.write_at(b"J", 0).await.unwrap();
    file.write_at(b"!", 6).await.unwrap();
    assert_eq!(read(root, "file").await, b"Jello\0!", "a hole reads as zeros");
    for beyond in [7, 8, 1 << 40] {
        assert_eq!(file.read_at(&mut [0; 4], beyond).await.unwrap(), 0, "the end reads as nothing");
    }
    assert_eq!(file.read_at(&mut [0; 4], 5).await.unwrap(), 2, "a read ends where the file does");
    file.set_len(2).await.unwrap();
    for (mtime_ns, executable) in [(1_234_567_890_123_456_789, true), (-1, false)] {
        file.set_metadata(mtime_ns, executable).await.unwrap();
        let metadata = file.metadata().await.unwrap();
        let kept = mtime_ns.div_euclid(time_step_ns) * time_step_ns;
        assert_eq!((metadata.mark.mtime_ns, metadata.executable), (kept, executable));
        assert_eq!((metadata.kind, metadata.mark.size), (FileKind::File, 2));
        assert_eq!(root.metadata(&at("file")).await.unwrap(), Some(metadata), "handle and path agree");
    }
    file.sync().await.unwrap();
    root.remove_file(&at("file")).await.unwrap();
    assert_eq!(kind_of(root, "file").await, None);
    assert_eq!(root.remove_file(&at("file")).await.err().unwrap().kind(), Kind::NotFound);
    assert_eq!(file.metadata().await.unwrap().mark.size, 2, "an open file outlives its name");
}

async fn directories<R: RootDir>(root: &R) {
    root.make_dir(&at("dir")).await.unwrap();
    assert_eq!(root.make_dir(&at("dir")).await.err().unwrap().kind(), Kind::AlreadyExists);
    assert_eq!(root.make_dir(&at("no/dir")).await.err().unwrap().kind(), Kind::NotFound);
    for name in ["b", "a-b", "a"] {
        write(root, &format!("dir/{name}"), name.as_bytes()).await;
    }
    root.make_dir(&at("dir/c")).await.unwrap();
    let listed = root.list(&at("dir")).await.unwrap();
    let names: Vec<_> = listed.iter().map(|e| e.name.as_slice()).collect();
    assert_eq!(names, [b"a".as_slice(), b"a-b", b"b", b"c"]);
    for entry in &listed {
        let path = at("dir").child(&Name::new(&entry.name).unwrap());
        assert_eq!(entry.metadata, root.metadata(&path).await.unwrap().ok_or(Kind::NotFound));
    }
    assert!(root.list(&TreePath::ROOT).await.unwrap().iter().any(|e| e.name == b"dir"));
    assert_eq!(root.metadata(&TreePath::ROOT).await.unwrap().unwrap().kind, FileKind::Directory);
    assert_eq!(root.list(&at("none")).await.err().unwrap().kind(), Kind::NotFound);
    assert_eq!(root.list(&at("dir/a")).await.err().unwrap().kind(), Kind::NotADirectory);
    assert_eq!(kind_of(root, "none/x").await, None, "absent as its parent is");
    assert_eq!(kind_of(root, "dir/a/x").await, None, "absent as its parent is no directory");
    assert_eq!(root.open(&at("dir")).await.err().unwrap().kind(), Kind::InvalidInput);
    assert_eq!(root.remove_dir(&at("dir")).await.err().unwrap().kind(), Kind::DirectoryNotEmpty);
    root.remove_dir(&at("dir/c")).await.unwrap();
    assert_eq!(root.remove_dir(&at("dir/c")).await.err().unwrap().kind(), Kind::NotFound);
    assert!(root.remove_dir(&at("dir/a")).await.is_err(), "a file is no directory");
    assert!(root.remove_file(&at("dir")).await.is_err(), "a directory is no file");
    root.sync_dir(&at("dir")).await.unwrap();
    root.sync_dir(&TreePath::ROOT).await.unwrap();
    root.sync_all().await.unwrap();
}

async fn links<R: RootDir>(root: &R) {
    match root.make_symlink(&at("link"), b"dir").await {
        Err(e) if e.kind() == Kind::Unsupported => return,
        made => made.unwrap(),
    }
    assert_eq!(root.make_symlink(&at("link"), b"x").await.err().unwrap().kind(), Kind::AlreadyExists);
    assert_eq!(root.read_link(&at("link")).await.unwrap(), b"dir");
    assert_eq!(kind_of(root, "link").await, Some(FileKind::Symlink));
    assert_eq!(kind_of(root, "link/a").await, None, "nothing is reached through a link");
    assert!(root.list(&at("link")).await.is_err());
    assert!(root.open(&at("link/a")).await.is_err());
    assert!(root.create(&at("link/new")).await.is_err());
    assert!(root.make_dir(&at("link/new")).await.is_err());
    assert!(root.rename(&at("dir/a"), &at("link/new"), RenameMode::NoReplace).await.is_err());
    assert!(root.remove_file(&at("link/a")).await.is_err());
    root.make_symlink(&at("link2"), b"dir/a").await.unwrap();
    assert_eq!(root.open(&at("link2")).await.err().unwrap().kind(), Kind::InvalidInput, "a link is no file");
    assert_eq!(root.open_staged(&at("link2")).await.err().unwrap().kind(), Kind::InvalidInput);
    assert!(root.create(&at("link2")).await.is_err());
    root.remove_file(&at("link2")).await.unwrap();
    assert_eq!(read(root, "dir/a").await, b"a", "removing a link leaves what it leads to");
}

async fn renames<R: RootDir>(root: &R) {
    write(root, "x", b"x").await;
    write(root, "y", b"y").await;
    let inode = root.metadata(&at("x")).await.unwrap().unwrap().mark.inode;
    let taken = root.rename(&at("x"), &at("y"), RenameMode::NoReplace).await;
    assert_eq!(taken.err().unwrap().kind(), Kind::AlreadyExists);
    assert_eq!((read(root, "x").await, read(root, "y").await), (b"x".to_vec(), b"y".to_vec()));
    let nothing = root.rename(&at("x"), &at("none"), RenameMode::Exchange).await;
    assert!(matches!(nothing.err().unwrap().kind(), Kind::NotFound | Kind::Unsupported));
    assert_eq!(root.rename(&at("none"), &at("z"), RenameMode::NoReplace).await.err().unwrap().kind(), Kind::NotFound);
    assert_eq!(root.rename(&at("x"), &at("no/z"), RenameMode::NoReplace).await.err().unwrap().kind(), Kind::NotFound);
    root.rename(&at("x"), &at("dir/x"), RenameMode::NoReplace).await.unwrap();
    assert_eq!(kind_of(root, "x").await, None);
    assert_eq!(root.metadata(&at("dir/x")).await.unwrap().unwrap().mark.inode, inode, "it is the same file");
    let exchanged = root.rename(&at("dir/x"), &at("y"), RenameMode::Exchange).await;
    if let Err(e) = exchanged {
        assert_eq!(e.kind(), Kind::Unsupported);
        return;
    }
    assert_eq!((read(root, "dir/x").await, read(root, "y").await), (b"y".to_vec(), b"x".to_vec()));
    root.rename(&at("y"), &at("dir"), RenameMode::Exchange).await.unwrap();
    assert_eq!(read(root, "dir").await, b"x", "a file and a directory change places");
    assert_eq!(read(root, "y/a").await, b"a");
    root.rename(&at("y"), &at("dir"), RenameMode::Exchange).await.unwrap();
}

/// Names that no disk holds.
async fn names<R: RootDir>(root: &R) {
    let fits = at(&"n".repeat(255));
    let long = TreePath::ROOT.child(&Name::new(&[b'n'; 255]).unwrap());
    assert_eq!(fits, long);
    drop(root.create(&fits).await.unwrap());
    root.remove_file(&fits).await.unwrap();
    // Eighteen of the longest names are longer than a path may be.
    let mut deep = fits.clone();
    for _ in 0..17 {
        deep = deep.child(&Name::new(&[b'n'; 255]).unwrap());
    }
    assert_eq!(root.create(&deep).await.err().unwrap().kind(), Kind::InvalidFilename);
    assert_eq!(root.make_dir(&deep).await.err().unwrap().kind(), Kind::InvalidFilename);
    assert!(root.metadata(&deep).await.is_err(), "what cannot be named is not known to be absent");
    assert!(root.create(&TreePath::ROOT).await.is_err(), "the root is there");
    assert!(root.make_dir(&TreePath::ROOT).await.is_err());
    assert!(root.remove_dir(&TreePath::ROOT).await.is_err());
}

/// Renames of directories, and of what is open.
async fn moves<R: RootDir>(root: &R) {
    for dir in ["one", "one/below", "two"] {
        root.make_dir(&at(dir)).await.unwrap();
    }
    write(root, "one/below/f", b"1").await;
    write(root, "two/f", b"2").await;
    for mode in [RenameMode::NoReplace, RenameMode::Exchange] {
        let own = if mode == RenameMode::Exchange { "one/below" } else { "one/below/new" };
        assert!(root.rename(&at("one"), &at(own), mode).await.is_err(), "nothing moves into itself");
    }
    let taken = root.rename(&at("one"), &at("two"), RenameMode::NoReplace).await;
    assert_eq!(taken.err().unwrap().kind(), Kind::AlreadyExists);
    let open = root.open_staged(&at("two/f")).await.unwrap();
    if let Err(e) = root.rename(&at("one"), &at("two"), RenameMode::Exchange).await {
        assert_eq!(e.kind(), Kind::Unsupported);
    } else {
        assert_eq!((read(root, "two/below/f").await, read(root, "one/f").await), (b"1".to_vec(), b"2".to_vec()));
        root.rename(&at("two"), &at("one"), RenameMode::Exchange).await.unwrap();
    }
    root.rename(&at("two"), &at("three"), RenameMode::NoReplace).await.unwrap();
    assert_eq!(kind_of(root, "two/f").await, None);
    open.write_at(b"3", 0).await.unwrap();
    assert_eq!(read(root, "three/f").await, b"3", "an open file goes where its name goes");
    root.rename(&at("three/f"), &at("one/g"), RenameMode::NoReplace).await.unwrap();
    open.set_len(0).await.unwrap();
    assert_eq!(read(root, "one/g").await, b"");
    for dir in ["three", "one/below", "one", ""] {
        let dir = if dir.is_empty() { TreePath::ROOT } else { at(dir) };
        root.sync_dir(&dir).await.unwrap();
    }
    assert!(root.sync_dir(&at("two")).await.is_err(), "what is not there cannot be synced");
}

async fn copies<R: RootDir>(root: &R) {
    let from = root.create(&at("from")).await.unwrap();
    from.write_at(b"0123456789", 0).await.unwrap();
    let to = root.create(&at("to")).await.unwrap();
    assert_eq!(to.copy_from(&from, 2, 1, 4).await.unwrap(), 4);
    assert_eq!(read(root, "to").await, b"\x002345");
    assert_eq!(to.copy_from(&from, 8, 0, 100).await.unwrap(), 2, "a copy ends where the source does");
    assert_eq!(read(root, "to").await, b"89345");
}

async fn marks<R: RootDir>(root: &R) {
    write(root, "marked", b"one").await;
    let path = at("marked");
    let file = root.open_staged(&path).await.unwrap();
    let first = file.metadata().await.unwrap();
    assert_eq!(root.metadata(&path).await.unwrap(), Some(first), "looking changes nothing");
    file.write_at(b"two", 0).await.unwrap();
    let second = file.metadata().await.unwrap();
    assert_ne!(second.mark, first.mark, "a write shows in the stat, even one of the same length");
    file.set_metadata(first.mark.mtime_ns, false).await.unwrap();
    let third = file.metadata().await.unwrap();
    assert_ne!(third.mark, first.mark, "a mtime that is set back does not hide a write");
}
