//! The scan on a real disk: tables of what is there, what is known, and what must be told.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod common;

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::Arc;

use common::faulty::{Fault, Faulty};
use common::{World, facts, path};
use tidegate_protocol::hash::ContentHash;
use tidegate_protocol::index::{EntryKind, IgnoreRules, Observation, Observed};
use tidegate_protocol::library_sync::RootState;
use tidegate_storage::disk::{
    Found, InPlace, KnownEntry, KnownMap, Outline, RootDir, ScanError, ScanProgress, ScanReport, ScanSpec, Scope, Sink,
    SinkClosed, ThreadLanes, block_on, scan,
};

#[derive(Default)]
struct Collected(Vec<Found>);

impl Sink for Collected {
    async fn batch(&mut self, found: Vec<Found>, _: ScanProgress) -> Result<(), SinkClosed> {
        self.0.extend(found);
        Ok(())
    }
}

fn spec(world: &World, rules: &[&str], scope: Scope) -> ScanSpec {
    let rules: Vec<String> = rules.iter().map(|r| (*r).to_owned()).collect();
    ScanSpec {
        binding: world.binding,
        scope,
        deep: false,
        rules: Arc::new(IgnoreRules::new(&rules).unwrap()),
        folds: false,
    }
}

fn run<R: RootDir>(root: &R, spec: &ScanSpec, known: &KnownMap) -> Result<(Vec<Found>, ScanReport), ScanError> {
    let mut sink = Collected::default();
    let report = block_on(scan(root, spec, known, &mut sink, &InPlace))?;
    let paths: Vec<_> = sink.0.iter().map(|f| f.observation.path.clone()).collect();
    assert!(paths.is_sorted_by(|a, b| a < b), "in path order, each once: {paths:?}");
    Ok((sink.0, report))
}

/// Takes observations into the index.
fn learn(known: &mut KnownMap, found: &[Found]) {
    for Found { observation: Observation { path, observed }, .. } in found {
        match observed {
            Observed::Absent => drop(known.entries.remove(path)),
            Observed::Present(kind, mark) => {
                known.entries.insert(path.clone(), KnownEntry { kind: kind.clone(), mark: *mark });
            }
        }
    }
}

/// Scans and learns.
fn look(root: &impl RootDir, spec: &ScanSpec, known: &mut KnownMap) {
    let (found, _) = run(root, spec, known).unwrap();
    learn(known, &found);
}

fn told(found: &[Found]) -> Vec<String> {
    let one = |Found { observation: Observation { path, observed }, .. }: &Found| match observed {
        Observed::Absent => format!("{path} absent"),
        Observed::Present(EntryKind::Directory { residue: false }, _) => format!("{path} directory"),
        Observed::Present(EntryKind::Directory { residue: true }, _) => format!("{path} directory with residue"),
        Observed::Present(EntryKind::File(facts), mark) => {
            assert_eq!(mark.unwrap().size, facts.size);
            format!("{path} file {}", facts.size)
        }
        Observed::Present(EntryKind::Symlink { target }, _) => format!("{path} -> {}", String::from_utf8_lossy(target)),
        Observed::Present(EntryKind::Special, _) => format!("{path} special"),
        Observed::Present(EntryKind::Unknown(cause), _) => format!("{path} {cause:?}"),
    };
    found.iter().map(one).collect()
}

/// Scans all, changes something, scans `paths` (all if there are none), and tells what the second scan told;
/// a third one must find nothing more.
fn check(before: &[(&str, &str)], change: impl FnOnce(&World), paths: &[&str], expected: &[&str]) {
    let world = World::new();
    for (path, content) in before {
        world.write(path, content);
    }
    let mut known = KnownMap::default();
    let all = spec(&world, &["*.tmp", "/hidden"], Scope::All);
    look(&world.root, &all, &mut known);
    assert_eq!(run(&world.root, &all, &known).unwrap().0, [], "a second look finds nothing");
    change(&world);
    let scope = if paths.is_empty() { Scope::All } else { Scope::Paths(paths.iter().map(|p| path(p)).collect()) };
    let (found, _) = run(&world.root, &ScanSpec { scope, ..all.clone() }, &known).unwrap();
    assert_eq!(told(&found), expected);
    learn(&mut known, &found);
    assert_eq!(told(&run(&world.root, &all, &known).unwrap().0), Vec::<String>::new(), "nothing is left to tell");
}

const TREE: &[(&str, &str)] = &[("a/b/c", "1"), ("a/b/d", "22"), ("a.txt", "333"), ("z", "")];

#[test]
fn a_first_scan_tells_everything_in_walk_order() {
    let all = |w: &World| w.write_all(TREE);
    check(&[], all, &[], &["a directory", "a/b directory", "a/b/c file 1", "a/b/d file 2", "a.txt file 3", "z file 0"]);
}

#[test]
fn an_edit_is_told_and_nothing_else() {
    check(TREE, |w| w.write("a/b/d", "4444"), &[], &["a/b/d file 4"]);
    check(TREE, |w| w.write("a/b/d", "4444"), &["a/b/d"], &["a/b/d file 4"]);
}

#[test]
fn a_vanished_directory_is_told_before_what_was_in_it() {
    let absent = ["a absent", "a/b absent", "a/b/c absent", "a/b/d absent"];
    for paths in [&[][..], &["a"], &["a", "a/b", "a/b/c"]] {
        check(TREE, |w| fs::remove_dir_all(w.at("a")).unwrap(), paths, &absent);
    }
}

#[test]
fn a_changed_kind_takes_what_was_below_with_it() {
    let file = |w: &World| {
        fs::remove_dir_all(w.at("a")).unwrap();
        w.write("a", "x");
    };
    check(TREE, file, &[], &["a file 1", "a/b absent", "a/b/c absent", "a/b/d absent"]);
    let link = |w: &World| {
        fs::rename(w.at("a"), w.at("y")).unwrap();
        symlink("y", w.at("a")).unwrap();
    };
    let told = [
        "a -> y",
        "a/b absent",
        "a/b/c absent",
        "a/b/d absent",
        "y directory",
        "y/b directory",
        "y/b/c file 1",
        "y/b/d file 2",
    ];
    check(TREE, link, &[], &told);
    check(TREE, link, &["y/b/d", "a", "a/b/c"], &told);
    let directory = |w: &World| {
        fs::remove_file(w.at("z")).unwrap();
        w.write("z/in", "1");
    };
    check(TREE, directory, &["z/in"], &["z directory", "z/in file 1"]);
}

#[test]
fn what_is_hidden_is_not_told_but_leaves_residue() {
    let hide = |w: &World| w.write("a/b/x.tmp", "1");
    check(TREE, hide, &[], &["a/b directory with residue"]);
    check(TREE, hide, &["a/b/x.tmp"], &["a/b directory with residue"]);
    let hidden = &[("a/b/x.tmp", "1"), ("hidden/y", "1"), ("a/b/c", "1")];
    check(hidden, |w| fs::remove_file(w.at("a/b/x.tmp")).unwrap(), &[], &["a/b directory"]);
    check(hidden, |w| fs::remove_file(w.at("a/b/x.tmp")).unwrap(), &["a/b/x.tmp"], &["a/b directory"]);
    check(hidden, |w| w.write("hidden/z", "1"), &["hidden/z"], &[]);
}

#[test]
fn specials_are_told_and_never_opened() {
    let fifo = |w: &World| {
        let made = std::process::Command::new("mkfifo").arg(w.at("a/pipe")).status().unwrap();
        assert!(made.success());
    };
    check(TREE, fifo, &[], &["a directory with residue", "a/pipe special"]);
    check(TREE, fifo, &["a/pipe"], &["a directory with residue", "a/pipe special"]);
}

#[test]
fn names_that_are_not_text_and_links_that_dangle_are_ordinary() {
    use std::os::unix::ffi::OsStrExt;
    let strange = |w: &World| {
        let name = std::ffi::OsStr::from_bytes(b"\xff\xfe");
        fs::write(w.dir.path().join(name), "1").unwrap();
        symlink("/nowhere/../..", w.at("l")).unwrap();
    };
    check(&[], strange, &[], &["l -> /nowhere/../..", "\\xff\\xfe file 1"]);
}

#[test]
fn what_lies_too_deep_is_skipped_and_listed() {
    let world = World::new();
    let deep = vec!["d"; 129].join("/");
    fs::create_dir_all(world.at(&deep)).unwrap();
    let (found, report) = run(&world.root, &spec(&world, &[], Scope::All), &KnownMap::default()).unwrap();
    assert_eq!(found.len(), 128);
    assert!(told(&found)[127].ends_with("directory with residue"));
    assert_eq!(report.skipped.len(), 1);
}

#[test]
fn a_rule_that_hides_what_is_known_makes_nothing_absent() {
    let world = World::new();
    world.write_all(TREE);
    let mut known = KnownMap::default();
    look(&world.root, &spec(&world, &[], Scope::All), &mut known);
    fs::remove_file(world.at("z")).unwrap();
    let (found, _) = run(&world.root, &spec(&world, &["b", "z"], Scope::All), &known).unwrap();
    assert_eq!(told(&found), ["a directory with residue"]);
}

#[test]
fn an_equal_stat_is_trusted_unless_the_scan_is_deep() {
    let world = World::new();
    world.write("f", "true");
    let mut known = KnownMap::default();
    let kind = EntryKind::File(facts(b"lies"));
    known.entries.insert(path("f"), KnownEntry { kind, mark: Some(world.mark("f")) });
    let shallow = spec(&world, &[], Scope::All);
    assert_eq!(run(&world.root, &shallow, &known).unwrap().0, []);
    let deep = ScanSpec { deep: true, ..shallow };
    assert_eq!(told(&run(&world.root, &deep, &known).unwrap().0), ["f file 4"]);
}

#[test]
fn what_a_job_announced_is_taken_only_under_the_very_stat_it_announced() {
    let world = World::new();
    world.write("f", "true");
    let mut known = KnownMap::default();
    let kind = EntryKind::File(facts(b"said"));
    known.announced.insert(path("f"), KnownEntry { kind: kind.clone(), mark: Some(world.mark("f")) });
    let all = spec(&world, &[], Scope::All);
    let (found, report) = run(&world.root, &all, &known).unwrap();
    assert_eq!(found[0].observation.observed, Observed::Present(kind, Some(world.mark("f"))));
    assert_eq!(report.progress.files_hashed, 0);
    world.write("f", "edit");
    let (found, _) = run(&world.root, &all, &known).unwrap();
    let Observed::Present(EntryKind::File(read), _) = &found[0].observation.observed else { panic!("{found:?}") };
    assert_eq!(read.content, ContentHash::of(b"edit"));
}

#[test]
fn large_files_come_with_their_chunks_in_order_beside_others() {
    let world = World::new();
    let large: Vec<u8> = (0..20_500_000u32).map(|n| (n % 251) as u8).collect();
    fs::write(world.at("large"), &large).unwrap();
    for n in 0..500 {
        world.write(&format!("d{}/f{n}", n % 7), &n.to_string());
    }
    // One lane, and more than help: whoever is free hashes chunks of the large file.
    for width in 1..=5 {
        let mut sink = Collected::default();
        let lanes = ThreadLanes::start(width).unwrap();
        let spec = spec(&world, &[], Scope::All);
        let report = block_on(scan(&world.root, &spec, &KnownMap::default(), &mut sink, &lanes)).unwrap();
        assert_eq!(sink.0.len(), 508);
        assert!(sink.0.is_sorted_by(|a, b| a.observation.path < b.observation.path));
        assert_eq!(report.progress.files_hashed, 501);
        assert_eq!(sink.0.last().unwrap().chunks, Outline::of(&large).chunks());
    }
}

/// One call fails, for every call: never is anything that stands there told as absent.
fn check_failure(kind: io::ErrorKind, scope: &Scope) {
    let world = World::new();
    world.write_all(TREE);
    let mut known = KnownMap::default();
    let all = spec(&world, &[], Scope::All);
    look(&world.root, &all, &mut known);
    let deep = ScanSpec { deep: true, scope: scope.clone(), ..all.clone() };
    for n in 1..200 {
        let disk = Faulty::new(world.root.clone(), n, Fault::Fail(kind), true);
        match run(&disk, &deep, &known) {
            Err(ScanError::Root(_)) => {}
            Ok((found, _)) => {
                for line in told(&found) {
                    assert!(line.ends_with("Unreadable"), "n={n} {kind:?} {line}");
                }
                let mut after = known.clone();
                learn(&mut after, &found);
                assert!(after.entries.keys().eq(known.entries.keys()), "nothing below is forgotten");
                look(&world.root, &all, &mut after);
                assert_eq!(after.entries, known.entries, "and the next scan heals it");
            }
            Err(other) => panic!("n={n} {other}"),
        }
        if !disk.reached() {
            return;
        }
    }
    panic!("the scan does not end");
}

#[test]
fn what_cannot_be_read_is_unknown_and_never_absent() {
    for kind in [io::ErrorKind::PermissionDenied, io::ErrorKind::Other] {
        check_failure(kind, &Scope::All);
        check_failure(kind, &Scope::Paths(vec![path("a"), path("z"), path("a.txt")]));
    }
}

/// A change right before the n-th call, for every n: what is told holds after the change or is unknown, and
/// the next scan finds the truth.
fn check_race(change: fn(&std::path::Path)) {
    for n in 1..200 {
        let world = World::new();
        world.write_all(TREE);
        let mut known = KnownMap::default();
        let dir: PathBuf = world.dir.path().to_owned();
        let disk = Faulty::new(world.root.clone(), n, Fault::Edit(Box::new(move || change(&dir))), true);
        let all = spec(&world, &[], Scope::All);
        match run(&disk, &all, &known) {
            Ok((found, _)) => learn(&mut known, &found),
            Err(ScanError::RootLost(RootState::Missing | RootState::Replaced)) => return,
            Err(other) => panic!("n={n} {other}"),
        }
        look(&world.root, &all, &mut known);
        let mut fresh = KnownMap::default();
        look(&world.root, &ScanSpec { deep: true, ..all }, &mut fresh);
        assert_eq!(known.entries, fresh.entries, "n={n}");
        if !disk.reached() {
            return;
        }
    }
    panic!("the scan does not end");
}

#[test]
fn a_change_in_any_instant_of_a_scan_is_found_by_the_next() {
    check_race(|d| fs::write(d.join("a/b/d"), "33").unwrap());
    check_race(|d| fs::remove_dir_all(d.join("a")).unwrap());
    check_race(|d| {
        fs::remove_dir_all(d.join("a/b")).unwrap();
        fs::write(d.join("a/b"), "x").unwrap();
    });
    check_race(|d| {
        fs::rename(d.join("a/b"), d.join("e")).unwrap();
        symlink("../e", d.join("a/b")).unwrap();
    });
}

#[test]
fn a_file_that_never_rests_is_unknown_and_looked_at_again() {
    let world = World::new();
    world.write("f", "1");
    let (at, mut length) = (world.at("f"), 1);
    let write = move || {
        length += 1;
        fs::write(&at, vec![b'x'; length]).unwrap();
    };
    let disk = Faulty::new(world.root.clone(), 1, Fault::EditAlways(Box::new(write)), true);
    let (found, report) = run(&disk, &spec(&world, &[], Scope::All), &KnownMap::default()).unwrap();
    assert_eq!(told(&found), ["f Changing"]);
    assert_eq!(report.again, [path("f")]);
}

#[test]
fn a_root_that_is_lost_or_swapped_in_mid_scan_ends_it_without_a_word() {
    for n in 1..200 {
        let world = World::new();
        world.write_all(TREE);
        let mut known = KnownMap::default();
        let all = spec(&world, &[], Scope::All);
        look(&world.root, &all, &mut known);
        let elsewhere = tempfile::tempdir_in("/dev/shm").unwrap();
        let (from, to) = (world.dir.path().to_owned(), elsewhere.path().join("moved"));
        let swap = move || {
            fs::rename(&from, &to).unwrap();
            fs::create_dir(&from).unwrap();
        };
        let disk = Faulty::new(world.root.clone(), n, Fault::Edit(Box::new(swap)), true);
        let result = run(&disk, &all, &known);
        if !disk.reached() {
            return;
        }
        match result {
            Err(ScanError::RootLost(RootState::Replaced)) => {}
            // After the last check nothing was left to be said.
            Ok((found, _)) => assert_eq!(found, []),
            Err(other) => panic!("n={n} {other}"),
        }
    }
    panic!("the scan does not end");
}
