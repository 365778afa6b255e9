//! The disk by itself: that it keeps the contract in all its kinds, and that what a power cut leaves is what a
//! power cut may leave. The replace sequence over it is in `replace`.

mod edits;
mod faults;
mod replace;

use std::collections::BTreeSet;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tidegate_protocol::file_sync::NameRules;
use tidegate_protocol::path::EntryPath;
use tidegate_storage::disk::{FileSystem, RootDir, block_on, contract, probe_names};

use super::*;
use crate::random::{Draws, Kind};

/// Time that goes on by a microsecond whenever somebody looks.
#[derive(Default)]
struct Ticks(AtomicU64);

impl Surroundings for Ticks {
    fn moment(&self) -> Moment {
        let monotonic_ns = self.0.fetch_add(1_000, Ordering::Relaxed);
        Moment { monotonic_ns, wall_ns: 1_700_000_000_000_000_000 + monotonic_ns as i64 }
    }

    fn sleep(&self, span_ns: u64) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        self.0.fetch_add(span_ns, Ordering::Relaxed);
        Box::pin(std::future::ready(()))
    }
}

fn disk(seed: u64, spec: VolumeSpec) -> Disk {
    disk_in(Arc::new(Ticks::default()), seed, spec)
}

fn disk_in(world: Arc<dyn Surroundings>, seed: u64, spec: VolumeSpec) -> Disk {
    let disk = Disk::new(world, Draws::new(seed).stream(Kind::Disk, 1, 0));
    disk.mount("/", VolumeSpec::plain(1));
    disk.user().make_dir("/d").unwrap();
    disk.user().sync_all("/").unwrap();
    disk.mount("/d", spec);
    disk
}

fn shown(disk: &Disk, picture: Picture) -> Vec<(String, Option<String>)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let tree = disk.tree("/d", picture).unwrap();
    tree.iter().map(|(path, shown)| (text(path), shown.content.as_ref().map(|c| text(&c.bytes())))).collect()
}

#[test]
fn the_simulated_disk_keeps_the_contract_whatever_its_kind() {
    let plain = VolumeSpec::plain(2);
    let folding = Naming { ignores_case: true, normalises: true, refuses: false };
    for spec in [
        plain,
        VolumeSpec { time_step_ns: 1_000, ..plain },
        VolumeSpec { time_step_ns: 1_000_000_000, ..plain },
        VolumeSpec { time_step_ns: 2_000_000_000, ..plain },
        VolumeSpec { exchanges: false, ..plain },
        VolumeSpec { symlinks: false, exchanges: false, time_step_ns: 2_000_000_000, naming: folding, ..plain },
        VolumeSpec { naming: folding, ..plain },
        VolumeSpec { reuses_inodes: true, writeback_ns: 1, ..plain },
    ] {
        for (yield_ppm, call_takes_ns) in [(0, 0), (1_000_000, 0), (0, 1_000_000)] {
            let disk = disk(1, spec);
            let view = disk.start();
            disk.faults(|faults| *faults = Faults { yield_ppm, call_takes_ns, ..Faults::default() });
            block_on(contract::run_coarse(&view, Path::new("/d"), spec.time_step_ns as i64));
            let used = disk.used_bytes(2);
            disk.user().remove_tree("/d").unwrap();
            disk.user().sync_all("/d").unwrap();
            assert!(disk.used_bytes(2) < used && disk.used_bytes(2) <= 256, "what is removed takes no room");
        }
    }
}

#[test]
fn a_probe_finds_out_what_a_volume_folds_and_refuses_and_leaves_nothing() {
    let plain = VolumeSpec::plain(2);
    let naming = |ignores_case, normalises, refuses| Naming { ignores_case, normalises, refuses };
    for (spec, folds, windows, links) in [
        (plain, false, false, true),
        (VolumeSpec { naming: naming(true, false, false), ..plain }, true, false, true),
        (VolumeSpec { naming: naming(false, true, false), ..plain }, true, false, true),
        (VolumeSpec { naming: naming(true, true, true), symlinks: false, ..plain }, true, true, false),
    ] {
        let disk = disk(1, spec);
        disk.user().make_dir("/d/.tidegate").unwrap();
        // A crash in the middle of an earlier one is no obstacle.
        disk.user().write("/d/.tidegate/probe-\u{e9}", b"").unwrap();
        let root = block_on(disk.start().open_root(Path::new("/d"))).unwrap();
        assert_eq!(block_on(probe_names(&root)).unwrap(), NameRules { folds, windows, links });
        assert_eq!(disk.user().list("/d/.tidegate").unwrap(), Vec::<Vec<u8>>::new());
        disk.set_read_only(2, true);
        assert!(block_on(probe_names(&root)).is_err(), "what cannot be tried is not known");
    }
}

/// A volume with a synced file `a` ("old") and a directory `in`.
fn prepared(seed: u64) -> (Disk, User) {
    let disk = disk(seed, VolumeSpec::plain(2));
    let user = disk.user();
    user.write("/d/a", b"old").unwrap();
    user.make_dir("/d/in").unwrap();
    user.sync_all("/d").unwrap();
    (disk, user)
}

/// What files show after each kind of power cut, under many seeds.
fn after_cuts(act: impl Fn(&User), mut look: impl FnMut(Survival, Vec<(String, Option<String>)>)) {
    for survival in Survival::ALL {
        for seed in 0..30 {
            let (disk, user) = prepared(seed);
            act(&user);
            disk.power_cut(survival);
            look(survival, shown(&disk, Picture::Live));
            assert_eq!(shown(&disk, Picture::Live), shown(&disk, Picture::Durable), "what is left is on the platter");
        }
    }
}

fn of<'a>(shown: &'a [(String, Option<String>)], path: &str) -> Option<&'a str> {
    shown.iter().find(|(at, _)| at == path).and_then(|(_, content)| content.as_deref())
}

#[test]
fn what_was_synced_outlives_every_power_cut() {
    let act = |user: &User| {
        user.write("/d/in/new", b"new").unwrap();
        user.sync_all("/d").unwrap();
    };
    after_cuts(act, |survival, shown| {
        assert_eq!((of(&shown, "a"), of(&shown, "in/new")), (Some("old"), Some("new")), "{survival:?}");
    });
}

#[test]
fn a_name_and_its_content_are_two_things_that_may_be_lost() {
    let mut seen = BTreeSet::new();
    after_cuts(
        |user| user.write("/d/in/new", b"new").unwrap(),
        |_, shown| {
            assert_eq!(of(&shown, "a"), Some("old"));
            seen.insert(of(&shown, "in/new").map(str::to_owned));
        },
    );
    for wanted in [None, Some(""), Some("new"), Some("\0\0\0")] {
        assert!(seen.contains(&wanted.map(str::to_owned)), "{wanted:?} never happened: {seen:?}");
    }
    let mut seen = BTreeSet::new();
    let act = |user: &User| {
        user.write("/d/in/new", b"new").unwrap();
        user.sync("/d/in/new").unwrap();
    };
    after_cuts(act, |_, shown| {
        seen.insert(of(&shown, "in/new").map(str::to_owned));
    });
    assert_eq!(seen, BTreeSet::from([None, Some("new".to_owned())]), "a synced content is whole, if its name is there");
}

#[test]
fn a_rename_over_a_file_shows_the_old_or_the_new_one() {
    let mut seen = BTreeSet::new();
    after_cuts(
        |user| user.save_by_rename("/d/a", "/d/in/t", b"new", true).unwrap(),
        |_, shown| {
            let (a, t) = (of(&shown, "a").map(str::to_owned), of(&shown, "in/t").map(str::to_owned));
            assert!(a.is_some(), "it is never away");
            seen.insert((a, t));
        },
    );
    let some = |text: &str| Some(text.to_owned());
    let wanted = [(some("old"), None), (some("old"), some("new")), (some("new"), None)];
    assert_eq!(seen, BTreeSet::from(wanted));
    let mut seen = BTreeSet::new();
    let unsynced = |user: &User| user.save_by_rename("/d/a", "/d/in/t", b"new", false).unwrap();
    after_cuts(unsynced, |_, shown| {
        seen.insert(of(&shown, "a").map(str::to_owned));
    });
    assert!(seen.contains(&some("")), "a name may be durable before its content: {seen:?}");
}

#[test]
fn a_write_in_place_tears_at_sectors() {
    let (old, new) = ([b'o'; 2000], [b'n'; 3000]);
    let mut mixtures = BTreeSet::new();
    for seed in 0..200 {
        let disk = disk(seed, VolumeSpec::plain(2));
        let user = disk.user();
        user.write("/d/a", &old).unwrap();
        user.sync_all("/d").unwrap();
        user.open("/d/a").unwrap().write_at(&new, 0).unwrap();
        let lost = disk.power_cut(Survival { names: NamesLeft::All, data: DataLeft::Torn });
        let left = user.read("/d/a").unwrap().bytes();
        assert_eq!(lost.is_empty(), left == new, "what a cut took is told");
        for sector in left.chunks(SECTOR_BYTES as usize) {
            let end = sector.iter().position(|b| *b != sector[0]).unwrap_or(sector.len());
            assert!(sector[end..].iter().all(|b| *b == 0), "a sector is of one writing");
        }
        mixtures.insert(left);
    }
    assert!(mixtures.len() > 20 && mixtures.contains(new.as_slice()));
}

#[test]
fn what_nobody_syncs_is_written_after_a_while() {
    let (disk, user) = prepared(1);
    user.write("/d/late", b"late").unwrap();
    drop(disk.0.world.sleep(VolumeSpec::plain(2).writeback_ns));
    user.write("/d/fresh", b"fresh").unwrap();
    disk.power_cut(Survival { names: NamesLeft::None, data: DataLeft::None });
    assert_eq!(
        shown(&disk, Picture::Live)[1..],
        [("in".to_owned(), None), ("late".to_owned(), Some("late".to_owned()))]
    );
}

#[test]
fn a_sync_of_a_directory_takes_what_it_rests_on_and_no_more() {
    let (disk, user) = prepared(1);
    let view = disk.start();
    user.make_dir("/d/new").unwrap();
    user.make_dir("/d/other").unwrap();
    user.rename("/d/a", "/d/new/a").unwrap();
    user.write("/d/other/x", b"x").unwrap();
    let root = block_on(view.open_root(Path::new("/d"))).unwrap();
    let new = tidegate_storage::disk::TreePath::from(&EntryPath::from_slashes(b"new").unwrap());
    block_on(root.sync_dir(&new)).unwrap();
    disk.power_cut(Survival { names: NamesLeft::None, data: DataLeft::None });
    let names: Vec<_> = shown(&disk, Picture::Live).into_iter().map(|(path, _)| path).collect();
    assert_eq!(names, ["in", "new", "new/a", "other"]);
}

/// Users at random, power cuts at random: what is left is a tree, nothing is at two places, nothing that was
/// synced is gone, and the same seed leaves the same.
#[test]
fn whatever_is_lost_the_rest_is_a_tree() {
    let run = |seed: u64| {
        let mut stream = Draws::new(seed).stream(Kind::User, 0, 0);
        let spec = VolumeSpec { reuses_inodes: seed.is_multiple_of(2), ..VolumeSpec::plain(2) };
        let disk = disk(seed, spec);
        let user = disk.user();
        let mut history = Vec::new();
        for step in 0..400_u64 {
            let dirs = ["/d", "/d/p", "/d/q", "/d/p/r"];
            let mut path = || format!("{}/{}", dirs[stream.index(4)], ["f", "g", "p", "q", "r"][stream.index(5)]);
            let (one, other) = (path(), path());
            let _ = match stream.below(12) {
                0..=2 => user.write(&one, &step.to_le_bytes()),
                3 | 4 => user.make_dir(&one),
                5 | 6 => user.rename(&one, &other),
                7 => user.swap(&one, &other, "/d/swap"),
                8 => user.remove(&one),
                9 => user.remove_tree(&one),
                10 => user.sync(&one),
                _ if stream.chance(300_000) => user.sync_all("/d"),
                _ => Ok(()),
            };
            if stream.chance(30_000) {
                let (live, durable) = (shown(&disk, Picture::Live), shown(&disk, Picture::Durable));
                let survival = Survival::draw(&mut stream);
                disk.power_cut(survival);
                let after = shown(&disk, Picture::Live);
                match survival {
                    Survival { names: NamesLeft::None, data: DataLeft::None } => assert_eq!(after, durable),
                    Survival { names: NamesLeft::All, data: DataLeft::All } => assert_eq!(after, live),
                    Survival { .. } => {}
                }
                let tree = disk.tree("/d", Picture::Live).unwrap();
                let inodes: BTreeSet<u64> = tree.values().map(|shown| shown.metadata.mark.inode).collect();
                assert_eq!(inodes.len(), tree.len(), "nothing is at two places");
            }
            history.push(shown(&disk, Picture::Live));
        }
        user.remove_tree("/d").unwrap();
        user.sync_all("/d").unwrap();
        assert_eq!(disk.used_bytes(2), 256, "all room is free again");
        history
    };
    for seed in 0..40 {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
}

#[test]
fn names_that_are_the_same_find_the_same_file_under_the_spelling_it_was_made_with() {
    let naming = Naming { ignores_case: true, normalises: true, refuses: false };
    let disk = disk(1, VolumeSpec { naming, ..VolumeSpec::plain(2) });
    let user = disk.user();
    user.write("/d/Readme", b"1").unwrap();
    assert_eq!(user.rename_no_replace("/d/Readme", "/d/README"), Err(Errno::Exists));
    user.write("/d/readme", b"2").unwrap();
    assert_eq!(user.list("/d").unwrap(), [b"Readme"]);
    user.rename("/d/readme", "/d/README").unwrap();
    assert_eq!(user.list("/d").unwrap(), [b"README"]);
    user.write("/d/cafe\u{301}", b"3").unwrap();
    assert_eq!(user.read("/d/CAF\u{c9}").unwrap().bytes(), b"3");
    disk.power_cut(Survival { names: NamesLeft::All, data: DataLeft::All });
    assert_eq!(user.read("/d/readme").unwrap().bytes(), b"2");
}
