//! Two-way conduits between real nodes: what travels, over two devices, over three in a ring, and on one alone.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::time::Duration;

use tidegate::lab::{Lab, eventually};
use tidegate_tests::ends::{Outcome, check, same, text};
use tidegate_tests::mesh::Mesh;

const PROGRAM: &str = env!("CARGO_BIN_EXE_tidegate-under-test");
const TWO_WAY: [&str; 2] = ["--mode", "bidirectional"];

fn two() -> Result<Mesh, tidegate_tests::ends::Failed> {
    let mesh = Mesh::new(PROGRAM, &["desk", "nas"])?;
    mesh.link("notes", 0, 1, &TWO_WAY)?;
    Ok(mesh)
}

#[test]
fn every_kind_of_entry_travels_both_ways_in_one_verified_run() -> Outcome {
    let mesh = two()?;
    mesh.write(0, "from desk/a", "a")?;
    mesh.write(1, "from nas/deep/b", "b")?;
    mesh.write(1, "empty", "")?;
    mesh.write(0, "run.sh", "#!/bin/sh\n")?;
    fs::set_permissions(mesh.file(0, "run.sh"), fs::Permissions::from_mode(0o755))?;
    symlink("run.sh", mesh.file(1, "link"))?;
    fs::create_dir_all(mesh.file(1, "an/empty/directory"))?;
    mesh.sync(0, "notes", 0)?;
    mesh.equal(&[0, 1])?;
    let mode = fs::metadata(mesh.file(1, "run.sh"))?.permissions().mode();
    check(mode & 0o100 != 0, "the executable bit travels")?;
    let newest = mesh.newest(0, "notes")?;
    check(newest["number"] == 1 && newest["verification"] == "verified", &format!("one run was enough: {newest}"))?;
    let again = mesh.devices[0].json(["sync", "notes"])?;
    check(again["generation"].is_null(), &format!("nothing is left to do: {again}"))
}

#[test]
fn edits_deletes_and_moves_of_both_sides_meet_in_one_run_and_old_bytes_go_to_the_trash() -> Outcome {
    let mesh = two()?;
    for name in ["a", "b", "c", "d", "dir/e", "dir/f"] {
        mesh.write(0, name, &format!("first {name}"))?;
    }
    mesh.sync(0, "notes", 0)?;
    mesh.write(0, "a", "desk's a")?;
    mesh.write(1, "b", "nas's b")?;
    fs::remove_file(mesh.file(0, "c"))?;
    fs::remove_file(mesh.file(1, "d"))?;
    fs::rename(mesh.file(1, "dir"), mesh.file(1, "moved"))?;
    mesh.sync(0, "notes", 0)?;
    mesh.equal(&[0, 1])?;
    for (path, content) in [
        ("a", Some("desk's a")),
        ("b", Some("nas's b")),
        ("c", None),
        ("d", None),
        ("dir/e", None),
        ("moved/e", Some("first dir/e")),
    ] {
        check(mesh.read(0, path).as_deref() == content, &format!("{path} is not {content:?}"))?;
    }
    for (at, content) in [(1, "first a"), (0, "first b"), (1, "first c"), (0, "first d")] {
        check(mesh.trashed(at, content), &format!("{content} is not in the trash of {at}"))?;
    }
    let newest = mesh.newest(0, "notes")?;
    check(newest["number"] == 2 && newest["verification"] == "verified", &format!("one run was enough: {newest}"))
}

#[test]
fn what_was_deleted_stays_deleted_when_a_device_was_away() -> Outcome {
    let mut mesh = two()?;
    mesh.write(0, "gone", "gone")?;
    mesh.write(0, "kept", "kept")?;
    mesh.sync(0, "notes", 0)?;
    mesh.devices[1].stop()?;
    fs::remove_file(mesh.file(0, "gone"))?;
    mesh.sync(0, "notes", 7)?;
    mesh.devices[1].start()?;
    mesh.devices[0].must(["sync", "notes", "--wait", "60s"])?;
    mesh.equal(&[0, 1])?;
    check(mesh.read(1, "gone").is_none() && mesh.read(1, "kept").is_some(), "the deletion travelled, nothing else")
}

#[test]
fn three_devices_in_a_ring_of_instant_conduits_settle_and_are_quiet() -> Outcome {
    let mesh = Mesh::new(PROGRAM, &["desk", "nas", "phone"])?;
    let instant = [&TWO_WAY[..], &["--schedule", "instant 200ms"]].concat();
    for (name, source, target) in [("ab", 0, 1), ("bc", 1, 2), ("ca", 2, 0)] {
        mesh.link(name, source, target, &instant)?;
    }
    let all = [0, 1, 2];
    for at in all {
        mesh.write(at, &format!("from {at}/file"), &format!("written on {at}"))?;
    }
    mesh.settle(&all, || all.iter().all(|at| mesh.read(0, &format!("from {at}/file")).is_some()))?;
    fs::remove_file(mesh.file(2, "from 0/file"))?;
    mesh.write(1, "from 1/file", "edited on 1")?;
    mesh.settle(&all, || {
        mesh.read(0, "from 0/file").is_none() && mesh.read(2, "from 1/file").as_deref() == Some("edited on 1")
    })?;
    let generations = || -> Vec<u64> {
        [(0, "ab"), (1, "bc"), (2, "ca")]
            .iter()
            .map(|(on, name)| mesh.newest(*on, name).ok().and_then(|newest| newest["number"].as_u64()).unwrap_or(0))
            .collect()
    };
    // At rest means: for two seconds nothing is begun any more.
    let rests = eventually(Duration::from_mins(1), || {
        let before = generations();
        !eventually(Duration::from_secs(2), || generations() != before)
    });
    check(rests, &format!("the ring never rests: {:?}", generations()))?;
    mesh.equal(&all)?;
    check(mesh.conflicts(0)?.is_empty(), "no conflict was met")
}

#[test]
fn two_directories_of_one_device_follow_each_other() -> Outcome {
    let lab = Lab::new(PROGRAM)?;
    let mut desk = lab.device("desk")?;
    desk.start()?;
    let roots = [lab.directory("one")?, lab.directory("two")?];
    for (root, name) in roots.iter().zip(["One", "Two"]) {
        desk.must(["location", "add", text(root)?, "--name", name])?;
    }
    desk.must(["conduit", "create", "local", "desk:One", "desk:Two", "--mode", "bidirectional"])?;
    fs::write(roots[0].join("a"), "a")?;
    fs::write(roots[1].join("b"), "b")?;
    desk.must(["sync", "local"])?;
    same(&tidegate::lab::read(&roots[0])?, &tidegate::lab::read(&roots[1])?)?;
    fs::remove_file(roots[1].join("a"))?;
    fs::write(roots[0].join("b"), "edited")?;
    desk.must(["sync", "local"])?;
    same(&tidegate::lab::read(&roots[0])?, &tidegate::lab::read(&roots[1])?)?;
    check(!roots[0].join("a").exists() && fs::read(roots[1].join("b"))? == b"edited", "both changes travelled")
}

#[test]
fn a_side_that_was_emptied_stops_the_run_until_a_person_approves() -> Outcome {
    let mesh = two()?;
    for number in 0..20 {
        mesh.write(0, &format!("file {number}"), &format!("content {number}"))?;
    }
    mesh.sync(0, "notes", 0)?;
    for number in 0..20 {
        fs::remove_file(mesh.file(1, &format!("file {number}")))?;
    }
    mesh.sync(0, "notes", 6)?;
    check(mesh.read(0, "file 7").is_some(), "nothing was deleted")?;
    let status = mesh.devices[0].json(["status"])?;
    let plan = status["conduits"][0]["held"]["plan"].as_str().unwrap_or_default().to_owned();
    mesh.devices[0].must(["approve", &plan])?;
    mesh.equal(&[0, 1])?;
    check(mesh.trashed(0, "content 7"), "what was deleted is in the trash")
}

#[test]
fn why_names_the_rule_and_what_the_last_run_did() -> Outcome {
    let mesh = two()?;
    mesh.write(0, "a", "1")?;
    mesh.sync(0, "notes", 0)?;
    mesh.write(1, "a", "2")?;
    let why = mesh.devices[0].json(["why", "a"])?;
    let planned = &why["planned"][0];
    check(why["rule"] == "LaterVersion", &format!("the later version decides: {why}"))?;
    check(planned["op"] == "install" && planned["side"] == "Source", &format!("the source follows: {why}"))?;
    check(
        why["last"][0]["op"] == "install" && why["last"][0]["outcome"] == "done",
        &format!("it was installed: {why}"),
    )?;
    let in_words = mesh.devices[0].must(["why", text(&mesh.file(0, "a"))?])?.stdout;
    check(in_words.contains("because: one end's version has seen the other's"), &in_words)?;
    // The other end asks the device that runs the conduit.
    let there = mesh.devices[1].json(["why", text(&mesh.file(1, "a"))?])?;
    check(there["rule"] == why["rule"] && there["planned"] == why["planned"], &format!("the same there: {there}"))?;
    let plans: Vec<_> = mesh.devices.iter().map(|device| device.json(["plan", "notes"])).collect::<Result<_, _>>()?;
    check(plans[0]["plan"] == plans[1]["plan"], &format!("one law, one plan: {} {}", plans[0], plans[1]))
}
