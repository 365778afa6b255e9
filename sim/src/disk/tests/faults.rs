//! What goes wrong with a disk, and what is told of it.

use std::sync::Mutex;
use std::sync::atomic::AtomicU32;

use tidegate_protocol::id::{DeviceId, LocationId, Nonce};
use tidegate_protocol::library_sync::RootState;
use tidegate_storage::disk::{File, FileKind, Marker, RenameMode, TreePath, check_root, mark_root, read_marker};

use super::*;

fn at(text: &str) -> TreePath {
    TreePath::from(&EntryPath::from_slashes(text.as_bytes()).unwrap())
}

fn root(disk: &Disk) -> SimRoot {
    block_on(disk.start().open_root(Path::new("/d"))).unwrap()
}

fn kind<T>(result: std::io::Result<T>) -> Option<std::io::ErrorKind> {
    result.err().map(|error| error.kind())
}

fn marker() -> Marker {
    Marker {
        location: LocationId::from_bytes([1; 16]),
        device: DeviceId::from_bytes([2; 32]),
        nonce: Nonce::from_bytes([3; 16]),
    }
}

#[test]
fn a_fault_has_the_kind_that_a_real_disk_gives_it() {
    use std::io::ErrorKind as Error;
    let (disk, user) = prepared(1);
    let root = root(&disk);
    let fail = |errno| disk.faults(|faults| faults.fail_at.extend([(faults.calls + 1, errno)]));
    let wanted = [
        (Errno::NoSpace, Error::StorageFull),
        (Errno::ReadOnly, Error::ReadOnlyFilesystem),
        (Errno::Access, Error::PermissionDenied),
        (Errno::NameTooLong, Error::InvalidFilename),
        (Errno::Unsupported, Error::Unsupported),
    ];
    for (errno, wanted) in wanted {
        fail(errno);
        assert_eq!(kind(block_on(root.metadata(&at("a")))), Some(wanted));
    }
    fail(Errno::Io);
    assert!(block_on(root.metadata(&at("a"))).is_err());
    assert_eq!(kind(block_on(root.metadata(&at("a")))), None, "it fails once");
    disk.faults(|faults| (faults.fail_ppm, faults.fail_only_on) = (Some((1_000_000, Errno::Io)), Some(1)));
    assert_eq!(kind(block_on(root.metadata(&at("a")))), None, "another volume's");
    disk.faults(|faults| *faults = Faults::default());
    disk.set_read_only(2, true);
    assert_eq!(kind(block_on(root.create(&at("b")))), Some(Error::ReadOnlyFilesystem));
    assert_eq!(kind(block_on(root.open_staged(&at("a")))), Some(Error::ReadOnlyFilesystem));
    assert_eq!(user.write("/d/a", b"x"), Err(Errno::ReadOnly));
    disk.set_read_only(2, false);
    disk.set_capacity(2, disk.used_bytes(2) + 6_000);
    let file = block_on(root.create(&at("b"))).unwrap();
    assert_eq!(kind(block_on(file.write_at(&[1; 9_000], 0))), Some(Error::StorageFull));
    assert_eq!(user.read("/d/a").unwrap().bytes(), b"old");
}

#[test]
fn what_may_not_be_looked_at_is_not_known_to_be_absent() {
    let (disk, user) = prepared(1);
    user.write("/d/in/x", b"x").unwrap();
    let root = root(&disk);
    user.set_access("/d/in", Access::Nothing).unwrap();
    user.set_access("/d/a", Access::Nothing).unwrap();
    let denied = Some(std::io::ErrorKind::PermissionDenied);
    assert_eq!(kind(block_on(root.metadata(&at("in/x")))), denied);
    assert_eq!(kind(block_on(root.list(&at("in")))), denied);
    assert_eq!(kind(block_on(root.open(&at("a")))), denied);
    assert!(block_on(root.metadata(&at("in"))).unwrap().is_some());
    user.set_access("/d/in", Access::LookOnly).unwrap();
    assert!(block_on(root.metadata(&at("in/x"))).unwrap().is_some());
    assert_eq!(kind(block_on(root.rename(&at("in/x"), &at("y"), RenameMode::NoReplace))), denied);
}

#[test]
fn a_process_that_died_at_a_call_does_nothing_more() {
    let mut halves = BTreeSet::new();
    for seed in 0..60 {
        let (disk, user) = prepared(seed);
        let deaths = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&deaths);
        disk.on_death(move || {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        let root = root(&disk);
        let file = block_on(root.create(&at("b"))).unwrap();
        disk.faults(|faults| faults.die_at = Some(faults.calls + 1));
        assert!(block_on(file.write_at(b"0123456789", 0)).is_err());
        assert!(!disk.is_alive());
        assert!(block_on(file.write_at(b"more", 0)).is_err() && block_on(root.remove_file(&at("a"))).is_err());
        halves.insert(user.read("/d/b").unwrap().len());
        let next = super::faults::root(&disk);
        assert!(block_on(root.metadata(&at("a"))).is_err(), "an earlier process stays dead");
        assert!(block_on(next.metadata(&at("a"))).is_ok() && disk.is_alive());
        assert_eq!(deaths.load(Ordering::Relaxed), 1);
    }
    assert!(halves.contains(&0) && halves.contains(&10) && halves.len() > 5, "{halves:?}");
}

#[test]
fn a_root_that_is_pulled_replaced_or_emptied_is_not_the_root_that_was_marked() {
    let (disk, user) = prepared(1);
    let held = root(&disk);
    let binding = block_on(mark_root(&held, marker())).unwrap();
    let state = |root: &SimRoot| block_on(check_root(root, &binding)).unwrap();
    assert_eq!(state(&held), RootState::Present);
    assert!(disk.unmount("/d", true));
    assert_eq!(state(&held), RootState::Replaced, "the directory beneath the mount shows");
    assert!(block_on(held.metadata(&at("a"))).is_err(), "it is not known to be absent");
    disk.mount("/d", VolumeSpec::plain(3));
    assert_eq!(state(&held), RootState::Replaced);
    disk.unmount("/d", true);
    disk.mount("/d", VolumeSpec::plain(2));
    assert_eq!(state(&held), RootState::Present, "the same disk comes back");
    user.make_dirs("/d/top/in").unwrap();
    let top = block_on(disk.start().open_root(Path::new("/d/top"))).unwrap();
    let binding = block_on(mark_root(&top, marker())).unwrap();
    user.rename("/d/top", "/d/aside").unwrap();
    assert_eq!(block_on(check_root(&top, &binding)).unwrap(), RootState::Missing);
    assert!(block_on(top.metadata(&at("in"))).unwrap().is_some(), "a held root goes where its name goes");
    user.make_dir("/d/top").unwrap();
    assert_eq!(block_on(check_root(&top, &binding)).unwrap(), RootState::Replaced);
}

/// Cut at every call of marking: the marker is whole, or there is none and marking can be done again.
#[test]
fn a_marker_is_whole_or_not_there() {
    for n in 1..30 {
        for survival in Survival::ALL {
            let (disk, _) = prepared(n);
            let held = root(&disk);
            disk.faults(|faults| faults.die_at = Some(faults.calls + n));
            let first = block_on(mark_root(&held, marker()));
            disk.power_cut(survival);
            let held = root(&disk);
            match (first, block_on(read_marker(&held)).unwrap()) {
                (Ok(binding), found) => {
                    assert_eq!((found, binding.marker), (Some(marker()), marker()), "{survival:?}");
                }
                (Err(_), Some(found)) => assert_eq!(found, marker()),
                (Err(_), None) => {
                    block_on(mark_root(&held, marker())).unwrap_or_else(|e| panic!("{n} {survival:?} {e}"));
                }
            }
        }
    }
}

#[test]
fn everybody_is_told_what_was_done_below_a_root_and_by_whom() {
    let (disk, user) = prepared(1);
    let held = root(&disk);
    let told = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&told);
    let subscription = disk.subscribe(&held, move |feed| sink.lock().unwrap().push(feed));
    disk.take_changes();
    user.write("/d/in/x", b"1").unwrap();
    user.rename("/d/in", "/d/out").unwrap();
    user.make_dir("/d/.tidegate").unwrap();
    block_on(held.rename(&at("a"), &at("out/x"), RenameMode::Exchange)).unwrap();
    user.remove("/d/a").unwrap();
    user.write("/elsewhere", b"").unwrap();
    let touched = |text: &str| Feed::Touched(EntryPath::from_slashes(text.as_bytes()).unwrap());
    let wanted = ["in/x", "in/x", "in/x", "in", "out", "a", "out/x", "a"].map(touched);
    assert_eq!(std::mem::take(&mut *told.lock().unwrap()), wanted);
    let changes = disk.take_changes();
    let by_node: Vec<_> = changes.iter().filter(|change| change.who == Actor::Node).collect();
    let [Change { path, deed: Deed::Exchanged { with, held: here, other }, .. }] = by_node[..] else {
        panic!("{by_node:?}")
    };
    assert_eq!((path.as_slice(), with.as_slice()), (b"/d/out/x".as_slice(), b"/d/a".as_slice()));
    let bytes = |held: &Held| held.content.as_ref().unwrap().bytes();
    assert_eq!((bytes(here), bytes(other), here.kind), (b"old".to_vec(), b"1".to_vec(), FileKind::File));
    let destroyed: Vec<_> = changes.iter().filter_map(Change::destroyed).map(Content::bytes).collect();
    assert_eq!(destroyed, [b"1"]);
    disk.unmount("/d", true);
    assert_eq!(std::mem::take(&mut *told.lock().unwrap()), [Feed::RootGone]);
    drop(subscription);
    disk.mount("/d", VolumeSpec::plain(2));
    user.write("/d/b", b"").unwrap();
    assert!(told.lock().unwrap().is_empty());
}

#[test]
fn a_copy_of_all_disks_comes_back() {
    let (disk, user) = prepared(1);
    let image = disk.image();
    user.remove_tree("/d").unwrap();
    disk.restore(&image);
    assert_eq!(user.read("/d/a").unwrap().bytes(), b"old");
    let tree = disk.tree("/d", Picture::Live).unwrap();
    user.remove_tree("/d").unwrap();
    user.put_tree("/d", &tree).unwrap();
    let marks = |tree: &Tree| -> Vec<_> {
        let files = tree.iter().filter(|(_, shown)| shown.content.is_some());
        files.map(|(path, shown)| (path.clone(), shown.content.clone(), shown.metadata.mark.mtime_ns)).collect()
    };
    assert_eq!(marks(&disk.tree("/d", Picture::Live).unwrap()), marks(&tree));
}
