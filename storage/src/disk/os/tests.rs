//! The contract on real disks, and what the contract cannot say: confinement under a race, odd files.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::atomic::{AtomicBool, Ordering};

use tidegate_protocol::path::EntryPath;

use super::super::{File, FileSystem, RenameMode, RootDir, TreePath, block_on, contract};
use super::OsFileSystem;

fn at(text: &str) -> TreePath {
    TreePath::from(&EntryPath::from_slashes(text.as_bytes()).unwrap())
}

#[test]
fn the_operating_system_keeps_the_contract() {
    for parent in ["/tmp", "/dev/shm"] {
        let dir = tempfile::tempdir_in(parent).unwrap();
        block_on(contract::run(&OsFileSystem, dir.path()));
    }
}

#[test]
fn a_fifo_is_never_opened() {
    let dir = tempfile::tempdir().unwrap();
    assert!(std::process::Command::new("mkfifo").arg(dir.path().join("pipe")).status().unwrap().success());
    let root = block_on(OsFileSystem.open_root(dir.path())).unwrap();
    let error = block_on(root.open(&at("pipe"))).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
}

#[test]
fn special_bits_never_survive_a_change_of_metadata() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("f"), "x").unwrap();
    fs::set_permissions(dir.path().join("f"), fs::Permissions::from_mode(0o6640)).unwrap();
    let root = block_on(OsFileSystem.open_root(dir.path())).unwrap();
    block_on(async { root.open(&at("f")).await.unwrap().set_metadata(0, true).await.unwrap() });
    assert_eq!(fs::metadata(dir.path().join("f")).unwrap().permissions().mode() & 0o7777, 0o750);
}

#[test]
fn nothing_leaves_the_root_while_a_parent_flips_to_a_link() {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let outside = tempfile::tempdir_in("/dev/shm").unwrap();
    fs::write(outside.path().join("victim"), "untouched").unwrap();
    let top = dir.path().to_owned();
    fs::create_dir(top.join("p")).unwrap();
    symlink(outside.path(), top.join("link")).unwrap();
    let over = AtomicBool::new(false);
    let root = block_on(OsFileSystem.open_root(dir.path())).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (p, link) = (top.join("p"), top.join("link"));
            while !over.load(Ordering::Relaxed) {
                rustix::fs::renameat_with(
                    rustix::fs::CWD,
                    &p,
                    rustix::fs::CWD,
                    &link,
                    rustix::fs::RenameFlags::EXCHANGE,
                )
                .unwrap();
            }
        });
        block_on(async {
            for n in 0..100_000 {
                let name = format!("p/f{}", n % 8);
                let path = at(&name);
                match n % 7 {
                    0 => drop(root.create(&path).await),
                    1 => drop(root.remove_file(&at("p/victim")).await),
                    2 => drop(root.make_dir(&path).await),
                    3 => drop(root.rename(&at("p/victim"), &at("stolen"), RenameMode::NoReplace).await),
                    4 => drop(root.make_symlink(&path, b"x").await),
                    5 => {
                        if let Ok(file) = root.open_staged(&at("p/victim")).await {
                            file.write_at(b"written", 0).await.unwrap();
                        }
                    }
                    _ => {
                        let listed = root.list(&at("p")).await.unwrap_or_default();
                        assert!(listed.iter().all(|entry| entry.name != b"victim"));
                    }
                }
            }
        });
        over.store(true, Ordering::Relaxed);
    });
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    assert_eq!(fs::read_to_string(outside.path().join("victim")).unwrap(), "untouched");
    assert!(!top.join("stolen").exists());
}
