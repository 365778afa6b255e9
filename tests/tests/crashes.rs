//! `kill -9` at bad moments: what was acknowledged holds, nothing is lost, nothing is torn, and the run goes on.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::Duration;

use tidegate::lab::{self, Device, Leaf, Tree, eventually};
use tidegate_tests::ends::{Outcome, Pair, check, online};

const PROGRAM: &str = env!("CARGO_BIN_EXE_tidegate-under-test");

/// Which of the two is killed.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Victim {
    Desk,
    Nas,
}

fn of(pair: &mut Pair, victim: Victim) -> &mut Device {
    match victim {
        Victim::Desk => &mut pair.desk,
        Victim::Nas => &mut pair.nas,
    }
}

fn restart(pair: &mut Pair, victim: Victim) -> Outcome {
    of(pair, victim).start()?;
    online(&pair.desk, "nas", true)
}

fn write_many(root: &Path, directory: &str, seed: u64, number: u64) -> Outcome {
    for at in 0..number {
        lab::write(root, format!("{directory}/{at:04}"), &lab::fill(seed + at, 2_000))?;
    }
    Ok(())
}

/// Copies first, then deletes: killed as soon as the first delete is seen, or shortly before.
fn killed_before_its_deletes(victim: Victim) -> Outcome {
    let mut pair = Pair::over(PROGRAM, |pair| {
        write_many(&pair.source, "kept", 0, 1_200)?;
        write_many(&pair.source, "doomed", 10_000, 900)
    })?;
    pair.desk.must(["conduit", "set", "mirror", "--limit", "0"])?;
    pair.sync(0)?;
    let before = lab::read(&pair.target)?;
    fs::remove_dir_all(pair.source.join("doomed"))?;
    write_many(&pair.source, "new", 20_000, 500)?;
    let begun = pair.desk.run(["sync", "mirror", "--detach"])?;
    if begun.code == 6 {
        pair.desk.must(["approve", &pair.held()?, "--detach"])?;
    } else {
        check(begun.code == 0, &format!("the run begins: {begun}"))?;
    }
    let doomed = pair.target.join("doomed");
    let deleting = || fs::read_dir(&doomed).map_or(0, Iterator::count) < 900;
    check(eventually(Duration::from_mins(1), deleting), "the deletes begin")?;
    of(&mut pair, victim).kill()?;
    let copied = fs::read_dir(pair.target.join("new"))?.count();
    check(copied == 500, &format!("{copied} of 500 copies were durable before the first delete"))?;
    if victim == Victim::Nas {
        nothing_lost(&pair, &before)?;
    }
    restart(&mut pair, victim)?;
    pair.rest()?;
    pair.equal()?;
    nothing_lost(&pair, &before)?;
    pair.nothing_is_staged()
}

/// Every content that was at the target before is in place, or in what is kept for it: trash and staging.
fn nothing_lost(pair: &Pair, before: &Tree) -> Outcome {
    let mut there: BTreeSet<[u8; 32]> = BTreeSet::new();
    for root in ["", ".tidegate/trash", ".tidegate/staging"].map(|below| pair.target.join(below)) {
        if root.exists() {
            there.extend(lab::read(&root)?.values().filter_map(content));
        }
    }
    let lost = before.iter().find(|(_, leaf)| content(leaf).is_some_and(|content| !there.contains(&content)));
    let path = lost.map(|(path, _)| String::from_utf8_lossy(path).into_owned());
    check(path.is_none(), &format!("lost: {path:?}"))
}

fn content(leaf: &Leaf) -> Option<[u8; 32]> {
    match leaf {
        Leaf::File(content, _) => Some(*content),
        Leaf::Directory | Leaf::Symlink(_) | Leaf::Other => None,
    }
}

#[test]
fn a_target_killed_between_copies_and_deletes_goes_on() -> Outcome {
    killed_before_its_deletes(Victim::Nas)
}

#[test]
fn a_coordinator_killed_between_copies_and_deletes_goes_on() -> Outcome {
    killed_before_its_deletes(Victim::Desk)
}

/// Killed when three fifths of a large file have arrived.
fn killed_in_a_large_copy(victim: Victim) -> Outcome {
    let (size, content) = (40 << 20, lab::fill(6, 40 << 20));
    let mut pair = Pair::over(PROGRAM, |pair| Ok(lab::write(&pair.source, "large", &content)?))?;
    pair.desk.must(["conduit", "set", "mirror", "--limit", "12 MB"])?;
    pair.begin()?;
    pair.await_run("three fifths", |running| running["bytes_done"].as_u64().unwrap_or(0) > size * 3 / 5)?;
    of(&mut pair, victim).kill()?;
    check(!pair.target.join("large").exists(), "no part of the file is visible")?;
    restart(&mut pair, victim)?;
    pair.desk.must(["conduit", "set", "mirror", "--limit", "0"])?;
    pair.rest()?;
    check(fs::read(pair.target.join("large"))? == content, "the file is whole")?;
    // A target that lived on has the bytes in hand, and does not count them as found again.
    if victim == Victim::Nas {
        let reused = pair.total("bytes_reused")?;
        check(reused > size / 2, &format!("{reused} of {size} bytes were not sent again: {:#}", pair.newest()?))?;
    }
    pair.nothing_is_staged()
}

#[test]
fn a_target_killed_in_a_large_copy_fetches_less_than_half_of_it_again() -> Outcome {
    killed_in_a_large_copy(Victim::Nas)
}

#[test]
fn a_source_killed_in_a_large_copy_comes_back_and_the_copy_goes_on() -> Outcome {
    killed_in_a_large_copy(Victim::Desk)
}

#[test]
fn killed_ten_times_in_turn_while_files_change_both_ends_still_come_to_agree() -> Outcome {
    let mut pair = Pair::over(PROGRAM, |pair| write_many(&pair.source, "set", 0, 300))?;
    pair.desk.must(["conduit", "set", "mirror", "--schedule", "instant 100ms"])?;
    let mut written: Tree = lab::read(&pair.source)?;
    for round in 0..10_u64 {
        let victim = if round % 2 == 0 { Victim::Nas } else { Victim::Desk };
        let first = round * 30;
        for at in first..first + 30 {
            lab::write(&pair.source, format!("set/{at:04}"), &lab::fill(1_000 * round + at, 50_000))?;
        }
        fs::remove_file(pair.source.join(format!("set/{:04}", first + 7)))?;
        written = lab::read(&pair.source)?;
        // At a different moment each time: when so many of the changed files have arrived.
        let arrived = |target: &Path| {
            (first..first + 30)
                .filter(|at| fs::metadata(target.join(format!("set/{at:04}"))).is_ok_and(|m| m.len() == 50_000))
                .count()
        };
        let target = pair.target.clone();
        let changed = eventually(Duration::from_secs(20), || arrived(&target) as u64 > round * 2);
        check(changed, &format!("no change of round {round} arrived: {:#}", pair.desk.json(["status"])?))?;
        of(&mut pair, victim).kill()?;
        // The other node may still be at work: every file is read in one go, or it has just been deleted.
        for entry in fs::read_dir(pair.target.join("set"))? {
            let path = entry?.path();
            let content = match fs::read(&path) {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                content => content?,
            };
            let name = path.strip_prefix(&pair.target).expect("it is below the target");
            let leaf = written.get(name.as_os_str().as_bytes());
            let is_new = || leaf.is_none_or(|leaf| *leaf == Leaf::file(&content));
            let is_old = content.len() == 2_000;
            check(is_old || (content.len() == 50_000 && is_new()), "a path shows what nobody wrote")?;
        }
        restart(&mut pair, victim)?;
    }
    pair.rest()?;
    pair.equal()?;
    check(lab::read(&pair.source)? == written, "the source was never written")?;
    pair.nothing_is_staged()
}
