//! Conflicts between real nodes: by each strategy, held and ruled, merged, and over three devices.

use std::fs;

use serde_json::Value;
use tidegate::lab::eventually;
use tidegate_tests::ends::{Failed, Outcome, PATIENCE, check, text};
use tidegate_tests::mesh::Mesh;

const PROGRAM: &str = env!("CARGO_BIN_EXE_tidegate-under-test");

/// Two devices that agree on some files, with a strategy.
fn agreed(strategy: &str, files: &[(&str, &str)]) -> Result<Mesh, Failed> {
    let mesh = Mesh::new(PROGRAM, &["desk", "nas"])?;
    mesh.link("notes", 0, 1, &["--mode", "bidirectional", "--on-conflict", strategy])?;
    for (path, content) in files {
        mesh.write(0, path, content)?;
    }
    mesh.sync(0, "notes", 0)?;
    mesh.equal(&[0, 1])?;
    Ok(mesh)
}

fn modified(mesh: &Mesh, at: usize, path: &str, seconds: u64) -> Outcome {
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
    Ok(fs::File::options().write(true).open(mesh.file(at, path))?.set_modified(time)?)
}

/// The conflict copy of a file, if there is one.
fn copy_of(mesh: &Mesh, at: usize, path: &str) -> Result<Option<String>, Failed> {
    let (stem, extension) = path.rsplit_once('.').unwrap_or((path, ""));
    let names = mesh.tree(at)?.into_keys().map(|name| String::from_utf8_lossy(&name).into_owned());
    Ok(names.into_iter().find(|name| name.starts_with(&format!("{stem} (conflict ")) && name.ends_with(extension)))
}

struct Case {
    strategy: &'static str,
    desk: (&'static str, u64),
    nas: (&'static str, u64),
    /// What stands at the path in the end.
    wins: &'static str,
    exit: i32,
    /// The other version is beside it; else it is in the trash of the device that wrote it.
    kept: bool,
}

#[test]
fn each_strategy_decides_as_it_says_and_the_loser_can_be_had_again() -> Outcome {
    let case = |strategy, desk, nas, wins, exit, kept| Case { strategy, desk, nas, wins, exit, kept };
    let cases = [
        case("create-conflict-file", ("desk's", 2_000_000), ("nas's", 1_000_000), "desk's", 4, true),
        case("newest-wins", ("desk's", 1_000_000), ("nas's", 2_000_000), "nas's", 0, false),
        case("newest-wins", ("desk's", 2_000_000), ("nas's", 1_000_000), "desk's", 0, false),
        case("newest-wins", ("desk's", 2_000_000), ("nas's", 2_000_000), "desk's", 4, true),
        case("source-wins", ("desk's", 1_000_000), ("nas's", 2_000_000), "desk's", 0, false),
        case("target-wins", ("desk's", 2_000_000), ("nas's", 1_000_000), "nas's", 0, false),
        case("largest-wins", ("desk's", 2_000_000), ("nas's, longer", 1_000_000), "nas's, longer", 0, false),
        case("largest-wins", ("desk", 2_000_000), ("nas'", 1_000_000), "desk", 4, true),
    ];
    let mesh = agreed("create-conflict-file", &[("other", "other")])?;
    for (number, case) in cases.iter().enumerate() {
        let (path, said) = (format!("{number}.txt"), format!("case {number}, {}", case.strategy));
        mesh.devices[0].must(["conduit", "set", "notes", "--on-conflict", case.strategy])?;
        mesh.write(0, &path, "base")?;
        mesh.sync(0, "notes", 0)?;
        for (at, (content, seconds)) in [case.desk, case.nas].into_iter().enumerate() {
            mesh.write(at, &path, content)?;
            modified(&mesh, at, &path, seconds)?;
        }
        mesh.sync(0, "notes", case.exit)?;
        mesh.equal(&[0, 1])?;
        let (winner, loser) =
            if case.wins == case.desk.0 { (case.desk.0, case.nas.0) } else { (case.nas.0, case.desk.0) };
        check(mesh.read(0, &path).as_deref() == Some(winner), &format!("{said}: the path holds another version"))?;
        let copy = copy_of(&mesh, 0, &path)?;
        let copied = copy.as_ref().and_then(|copy| mesh.read(1, copy));
        check(copied.is_some() == case.kept, &format!("{said}: copy {copy:?}"))?;
        let at = usize::from(loser == case.nas.0);
        check(copied.as_deref() == Some(loser) || mesh.trashed(at, loser), &format!("{said}: {loser} is lost"))?;
        let newest = mesh.newest(0, "notes")?;
        check(newest["verification"] == "verified", &format!("{said}: {newest}"))?;
    }
    Ok(())
}

#[test]
fn an_edit_outlives_a_deletion_and_an_edit_of_a_moved_file_is_kept() -> Outcome {
    let mesh = agreed("create-conflict-file", &[("a", "base a"), ("b", "base b")])?;
    mesh.write(0, "a", "edited")?;
    fs::remove_file(mesh.file(1, "a"))?;
    fs::rename(mesh.file(0, "b"), mesh.file(0, "moved"))?;
    mesh.write(1, "b", "edited while it was moved")?;
    let done = mesh.devices[0].run(["sync", "notes"])?;
    check(matches!(done.code, 0 | 4), &done.to_string())?;
    mesh.equal(&[0, 1])?;
    check(mesh.read(1, "a").as_deref() == Some("edited"), "the edit came back")?;
    let kept = mesh.tree(0)?.values().any(|leaf| *leaf == tidegate::lab::Leaf::file(b"edited while it was moved"));
    check(kept, "the edit of the moved file is there")
}

#[test]
fn a_held_path_waits_alone_and_any_end_decides_it() -> Outcome {
    let mesh = agreed("prompt", &[("f", "base"), ("g", "base g")])?;
    mesh.write(0, "f", "desk's")?;
    mesh.write(1, "f", "nas's")?;
    mesh.write(1, "g", "nas's g")?;
    mesh.sync(0, "notes", 4)?;
    check(mesh.newest(0, "notes")?["verification"] == "verified", "verified with a conflict that waits")?;
    check(mesh.read(0, "g").as_deref() == Some("nas's g"), "the rest went on")?;
    check(mesh.read(0, "f").as_deref() == Some("desk's"), "held on the source")?;
    check(mesh.read(1, "f").as_deref() == Some("nas's"), "held on the target")?;
    mesh.sync(0, "notes", 4)?;
    let waiting = mesh.await_conflicts(1, 1)?;
    check(waiting[0]["id"] == "notes:1" && waiting[0]["outcome"] == "held", &format!("{waiting:?}"))?;
    mesh.devices[1].must(["conflict", "resolve", "notes:1", "--keep", "nas", "--no-sync"])?;
    let decided = eventually(PATIENCE, || mesh.devices[0].run(["sync", "notes"]).is_ok_and(|done| done.code == 0));
    check(decided, "the ruling of the other device was followed")?;
    mesh.equal(&[0, 1])?;
    check(mesh.read(0, "f").as_deref() == Some("nas's"), "the decided version stands on both ends")?;
    check(mesh.trashed(0, "desk's"), "the other one is in the trash")?;
    mesh.await_conflicts(0, 0).map(drop)
}

#[test]
fn edits_of_different_lines_are_merged_when_a_person_says_so() -> Outcome {
    let base = "one\ntwo\nthree\nfour\nfive\n";
    let mesh = agreed("create-conflict-file", &[("todo.md", base)])?;
    mesh.write(0, "todo.md", &base.replace("one", "ONE"))?;
    mesh.write(1, "todo.md", &base.replace("five", "FIVE"))?;
    mesh.sync(0, "notes", 4)?;
    let shown = mesh.devices[0].must(["conflict", "show", "notes:1"])?.stdout;
    check(shown.contains("both kept") && shown.contains("text merge: clean"), &shown)?;
    let preview = mesh.devices[0].must(["conflict", "preview", "notes:1"])?.stdout;
    let merged = base.replace("one", "ONE").replace("five", "FIVE");
    check(preview == merged, &preview)?;
    let diff = mesh.devices[0].must(["conflict", "diff", "notes:1"])?.stdout;
    check(diff.contains("-ONE") && diff.contains("+FIVE"), &diff)?;
    mesh.devices[0].must(["conflict", "resolve", "notes:1", "--merge"])?;
    mesh.equal(&[0, 1])?;
    check(mesh.read(1, "todo.md").as_deref() == Some(&merged), "the merge stands on both ends")?;
    check(copy_of(&mesh, 0, "todo.md")?.is_none(), "the copy is gone")?;
    check(mesh.trashed(0, &base.replace("one", "ONE")), "one original is in the trash")?;
    check(mesh.trashed(0, &base.replace("five", "FIVE")), "and so is the other")?;
    mesh.await_conflicts(0, 0).map(drop)
}

#[test]
fn a_file_given_by_a_person_settles_a_held_conflict_from_either_end() -> Outcome {
    for at in [0, 1] {
        let mesh = agreed("prompt", &[("f.txt", "base")])?;
        mesh.write(0, "f.txt", "desk's")?;
        mesh.write(1, "f.txt", "nas's")?;
        mesh.sync(0, "notes", 4)?;
        mesh.await_conflicts(at, 1)?;
        let given = mesh.lab.path().join("given");
        fs::write(&given, "given")?;
        mesh.devices[at].must(["conflict", "resolve", "notes:1", "--with", text(&given)?, "--no-sync"])?;
        mesh.sync(0, "notes", 0)?;
        mesh.equal(&[0, 1])?;
        check(mesh.read(0, "f.txt").as_deref() == Some("given"), "the given content stands on both ends")?;
        check(mesh.trashed(0, "desk's") && mesh.trashed(1, "nas's"), "both originals are in the trash")?;
        mesh.await_conflicts(0, 0)?;
    }
    Ok(())
}

#[test]
fn all_conflicts_are_decided_alike_after_a_question() -> Outcome {
    let mesh = agreed("create-conflict-file", &[("a.txt", "base"), ("b.txt", "base")])?;
    for name in ["a.txt", "b.txt"] {
        mesh.write(0, name, "desk's")?;
        mesh.write(1, name, &format!("nas's {name}"))?;
    }
    mesh.sync(0, "notes", 4)?;
    let refused = mesh.devices[0].run(["conflict", "resolve", "--all", "--keep", "target"])?;
    check(refused.code != 0 && mesh.conflicts(0)?.len() == 2, &format!("it asks first: {refused}"))?;
    mesh.devices[0].must(["-y", "conflict", "resolve", "--all", "--keep", "target"])?;
    mesh.equal(&[0, 1])?;
    for name in ["a.txt", "b.txt"] {
        check(mesh.read(0, name) == Some(format!("nas's {name}")), &format!("{name} is the target's"))?;
        check(copy_of(&mesh, 0, name)?.is_none(), "the copy took the path")?;
    }
    mesh.await_conflicts(0, 0).map(drop)
}

#[test]
fn each_strategy_decides_over_three_devices_where_the_versions_meet() -> Outcome {
    let case = |strategy, desk, phone, wins, exit, kept| Case { strategy, desk, nas: phone, wins, exit, kept };
    // Desk and phone edit; the versions meet on the way from the NAS to the phone.
    let cases = [
        case("create-conflict-file", ("desk's", 1_000_000), ("phone's", 2_000_000), "desk's", 4, true),
        case("newest-wins", ("desk's", 1_000_000), ("phone's", 2_000_000), "phone's", 0, false),
        case("newest-wins", ("desk's", 2_000_000), ("phone's", 1_000_000), "desk's", 0, false),
        case("source-wins", ("desk's", 1_000_000), ("phone's", 2_000_000), "desk's", 0, false),
        case("target-wins", ("desk's", 2_000_000), ("phone's", 1_000_000), "phone's", 0, false),
        case("largest-wins", ("desk's, longer", 1_000_000), ("phone's", 2_000_000), "desk's, longer", 0, false),
        case("prompt", ("desk's", 2_000_000), ("phone's", 1_000_000), "phone's", 4, false),
    ];
    let mesh = Mesh::new(PROGRAM, &["desk", "nas", "phone"])?;
    for (name, source, target) in [("ab", 0, 1), ("bc", 1, 2)] {
        mesh.link(name, source, target, &["--mode", "bidirectional"])?;
    }
    let path = |number: usize| format!("{number}.txt");
    for number in 0..cases.len() {
        mesh.write(0, &path(number), "base")?;
    }
    mesh.sync(0, "ab", 0)?;
    mesh.sync(1, "bc", 0)?;
    for (number, case) in cases.iter().enumerate() {
        let (path, said) = (path(number), format!("case {number}, {}", case.strategy));
        for (on, conduit) in [(0, "ab"), (1, "bc")] {
            mesh.devices[on].must(["conduit", "set", conduit, "--on-conflict", case.strategy])?;
        }
        for (at, (content, seconds)) in [(0, case.desk), (2, case.nas)] {
            mesh.write(at, &path, content)?;
            modified(&mesh, at, &path, seconds)?;
        }
        mesh.sync(0, "ab", 0)?;
        mesh.sync(1, "bc", case.exit)?;
        if case.strategy == "prompt" {
            let held = |at| mesh.read(at, &path);
            check(held(1).as_deref() == Some(case.desk.0), &format!("{said}: held on the NAS"))?;
            check(held(2).as_deref() == Some(case.nas.0), &format!("{said}: held on the phone"))?;
            decide(&mesh, &path)?;
        }
        mesh.sync(0, "ab", 0)?;
        mesh.equal(&[0, 1, 2])?;
        check(mesh.read(0, &path).as_deref() == Some(case.wins), &format!("{said}: the path holds another version"))?;
        let loser = if case.wins == case.desk.0 { case.nas.0 } else { case.desk.0 };
        let copied = copy_of(&mesh, 0, &path)?.and_then(|copy| mesh.read(2, &copy));
        check(copied.is_some() == case.kept, &format!("{said}: {copied:?}"))?;
        let kept = copied.as_deref() == Some(loser) || (0..3).any(|at| mesh.trashed(at, loser));
        check(kept, &format!("{said}: {loser} is lost"))?;
    }
    Ok(())
}

/// A device that holds neither version's end of the conflict decides it: the target's is kept.
fn decide(mesh: &Mesh, path: &str) -> Outcome {
    let held = |all: Vec<Value>| all.into_iter().find(|met| met["path"] == path && met["outcome"] == "held");
    let waits = || mesh.conflicts(0).ok().and_then(held);
    check(eventually(PATIENCE, || waits().is_some()), "the desk hears of what is held")?;
    let conflict = waits().and_then(|met| met["id"].as_str().map(str::to_owned)).unwrap_or_default();
    mesh.devices[0].must(["conflict", "resolve", &conflict, "--keep", "target", "--no-sync"])?;
    let decided = eventually(PATIENCE, || mesh.devices[1].run(["sync", "bc"]).is_ok_and(|done| done.code == 0));
    check(decided, "the ruling of the desk was followed")
}

#[test]
fn one_conflict_is_one_copy_in_a_library_of_three() -> Outcome {
    let mesh = Mesh::new(PROGRAM, &["desk", "nas", "phone"])?;
    for (name, source, target) in [("ab", 0, 1), ("bc", 1, 2), ("ca", 2, 0)] {
        mesh.link(name, source, target, &["--mode", "bidirectional"])?;
    }
    let all = [0, 1, 2];
    let rounds = |count: usize| -> Result<(), Failed> {
        for _ in 0..count {
            for (on, name) in [(0, "ab"), (1, "bc"), (2, "ca")] {
                let done = mesh.devices[on].run(["sync", name, "--wait", "60s"])?;
                check(matches!(done.code, 0 | 4), &done.to_string())?;
            }
        }
        Ok(())
    };
    mesh.write(0, "f.txt", "base")?;
    rounds(2)?;
    mesh.equal(&all)?;
    mesh.write(0, "f.txt", "desk's")?;
    mesh.write(1, "f.txt", "nas's")?;
    mesh.write(2, "f.txt", "phone's")?;
    rounds(3)?;
    mesh.equal(&all)?;
    let tree = mesh.tree(0)?;
    let contents: std::collections::BTreeSet<_> = all.iter().filter_map(|at| mesh.read(*at, "f.txt")).collect();
    check(contents.len() == 1, &format!("one version stands at the path: {contents:?}"))?;
    check(tree.len() == 3, &format!("three versions in all, each once: {:?}", tree.keys().collect::<Vec<_>>()))?;
    for content in ["desk's", "nas's", "phone's"] {
        let there = tree.values().any(|leaf| *leaf == tidegate::lab::Leaf::file(content.as_bytes()));
        check(there, &format!("{content} is there"))?;
    }
    rounds(1)?;
    let again: Value = mesh.devices[0].json(["sync", "ab"])?;
    check(again["generation"].is_null(), &format!("quiet: {again}"))
}
