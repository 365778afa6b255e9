//! What a mirror does when nothing goes wrong: real nodes, real disks, read back.

use std::fs;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, symlink};
use std::time::Instant;

use serde_json::Value;
use tidegate::lab::{self, Lab, eventually};
use tidegate_tests::ends::{Outcome, PATIENCE, Pair, check, location_is, locations_known, online, same, text};

const PROGRAM: &str = env!("CARGO_BIN_EXE_tidegate-under-test");

#[test]
fn a_mirror_copies_every_kind_of_entry_byte_for_byte() -> Outcome {
    let pair = Pair::over(PROGRAM, |pair| {
        lab::write(&pair.source, "plain.txt", b"plain")?;
        lab::write(&pair.source, "deep/er/still/file.bin", &lab::fill(1, 300_000))?;
        lab::write(&pair.source, "empty file", b"")?;
        lab::write(&pair.source, ".dot/.file", b"dot")?;
        lab::write(&pair.source, b"latin-1 caf\xe9/\xff\xfe", b"names are bytes")?;
        lab::write(&pair.source, "new\nline", b"newline")?;
        lab::write(&pair.source, [b'n'; 255], b"longest name")?;
        lab::write(&pair.source, "run.sh", b"#!/bin/sh\n")?;
        fs::set_permissions(pair.source.join("run.sh"), fs::Permissions::from_mode(0o755))?;
        fs::create_dir_all(pair.source.join("an/empty/directory"))?;
        symlink("plain.txt", pair.source.join("link"))?;
        symlink("../no/such/thing", pair.source.join("deep/dangling"))?;
        Ok(())
    })?;
    pair.sync(0)?;
    pair.equal()?;
    let times = ["source", "target"].map(|end| fs::metadata(pair.lab.path().join(end).join("plain.txt")));
    let [there, here] = times;
    check(there?.modified()? == here?.modified()?, "the modification time travels")?;
    let verified = pair.newest()?["verification"] == "verified";
    check(verified, "the run is verified")?;
    pair.nothing_is_staged()
}

#[test]
fn a_mirror_moves_what_the_source_does_not_have_to_the_trash() -> Outcome {
    let pair = Pair::over(PROGRAM, |pair| Ok(lab::write(&pair.source, "kept", b"kept")?))?;
    pair.sync(0)?;
    lab::write(&pair.target, "stray/file", b"written on nas")?;
    lab::write(&pair.target, "kept", b"edited on nas")?;
    pair.sync(0)?;
    pair.equal()?;
    check(pair.trashed(b"written on nas")?, "the stray file's bytes are in the trash")?;
    check(pair.trashed(b"edited on nas")?, "the replaced bytes are in the trash")
}

#[test]
fn a_second_run_finds_nothing_to_do_and_sends_nothing() -> Outcome {
    let pair = Pair::over(PROGRAM, |pair| Ok(lab::write(&pair.source, "file", &lab::fill(2, 2_000_000))?))?;
    pair.sync(0)?;
    let before = fs::metadata(pair.target.join("file"))?.modified()?;
    let again = pair.desk.json(["sync", "mirror"])?;
    check(again["generation"].is_null(), &format!("no generation is opened: {again}"))?;
    check(pair.total("bytes")? == 2_000_000, "the last generation is still the first one")?;
    check(fs::metadata(pair.target.join("file"))?.modified()? == before, "the file was not touched")
}

#[test]
fn a_changed_byte_under_an_equal_size_and_time_is_found_by_a_deep_rescan() -> Outcome {
    let content = lab::fill(3, 50 << 20);
    let pair = Pair::over(PROGRAM, |pair| Ok(lab::write(&pair.source, "large", &content)?))?;
    pair.sync(0)?;
    let path = pair.source.join("large");
    let modified = fs::metadata(&path)?.modified()?;
    let file = fs::OpenOptions::new().write(true).open(&path)?;
    file.write_all_at(&[!content[25 << 20]], 25 << 20)?;
    file.set_modified(modified)?;
    drop(file);
    pair.desk.must(["location", "rescan", "Source", "--deep"])?;
    pair.sync(0)?;
    pair.equal()?;
    let (bytes, reused) = (pair.total("bytes")?, pair.total("bytes_reused")?);
    check(bytes == 50 << 20, "the whole file is installed")?;
    check(bytes - reused <= 4 << 20, &format!("only what changed is sent: {reused} of {bytes} reused"))
}

#[test]
fn a_file_that_shrinks_or_grows_arrives_and_its_common_part_is_not_sent() -> Outcome {
    let content = lab::fill(4, 20 << 20);
    let pair = Pair::over(PROGRAM, |pair| Ok(lab::write(&pair.source, "file", &content)?))?;
    pair.sync(0)?;
    fs::OpenOptions::new().write(true).open(pair.source.join("file"))?.set_len(8 << 20)?;
    pair.sync(0)?;
    pair.equal()?;
    check(fs::metadata(pair.target.join("file"))?.len() == 8 << 20, "it is shorter on nas")?;
    check(pair.total("bytes_reused")? >= 6 << 20, "the part that stayed is not sent")?;
    lab::write(&pair.source, "file", b"")?;
    pair.sync(0)?;
    pair.equal()
}

#[test]
fn kinds_that_change_into_one_another_are_followed() -> Outcome {
    let pair = Pair::over(PROGRAM, |pair| {
        for name in ["file-to-directory", "file-to-link"] {
            lab::write(&pair.source, name, name.as_bytes())?;
        }
        for name in ["directory-to-file", "directory-to-link"] {
            lab::write(&pair.source, format!("{name}/inner"), name.as_bytes())?;
        }
        symlink("x", pair.source.join("link-to-file"))?;
        symlink("x", pair.source.join("link-to-directory"))?;
        Ok(())
    })?;
    pair.sync(0)?;
    for name in ["file-to-directory", "file-to-link", "link-to-file", "link-to-directory"] {
        fs::remove_file(pair.source.join(name))?;
    }
    for name in ["directory-to-file", "directory-to-link"] {
        fs::remove_dir_all(pair.source.join(name))?;
    }
    for name in ["file-to-directory", "link-to-directory"] {
        lab::write(&pair.source, format!("{name}/now"), b"a directory")?;
    }
    for name in ["directory-to-file", "link-to-file"] {
        lab::write(&pair.source, name, b"now a file")?;
    }
    for name in ["directory-to-link", "file-to-link"] {
        symlink("elsewhere", pair.source.join(name))?;
    }
    pair.try_sync(&[])?;
    pair.rest()?;
    pair.equal()?;
    check(pair.trashed(b"directory-to-file")?, "what stood there is in the trash")
}

#[test]
fn with_an_instant_schedule_an_edit_appears_on_the_other_device_by_itself() -> Outcome {
    let pair = Pair::new(PROGRAM)?;
    pair.desk.must(["conduit", "set", "mirror", "--schedule", "instant 100ms"])?;
    let began = Instant::now();
    for (name, content) in [("note", "first"), ("note", "second"), ("other", "third")] {
        lab::write(&pair.source, name, content.as_bytes())?;
        let there = || fs::read(pair.target.join(name)).is_ok_and(|found| found == content.as_bytes());
        let arrived = eventually(PATIENCE, there);
        check(arrived, &format!("{content} did not arrive: {:#}", pair.desk.json(["status"])?))?;
    }
    fs::remove_file(pair.source.join("other"))?;
    check(eventually(PATIENCE, || !pair.target.join("other").exists()), "the delete did not arrive")?;
    println!("four changes in {:?}", began.elapsed());
    pair.rest()?;
    pair.equal()
}

#[test]
fn a_conduit_between_two_locations_of_one_device_works_without_a_peer() -> Outcome {
    let lab = Lab::new(PROGRAM)?;
    let mut desk = lab.device("desk")?;
    let (here, there) = (lab.directory("here")?, lab.directory("there")?);
    lab::write(&here, "a/file", b"one")?;
    lab::write(&here, "gone", b"two")?;
    desk.start()?;
    desk.must(["location", "add", text(&here)?, "--name", "Here"])?;
    desk.must(["location", "add", text(&there)?, "--name", "There"])?;
    desk.must(["conduit", "create", "local", "desk:Here", "desk:There"])?;
    desk.must(["sync", "local"])?;
    same(&lab::read(&here)?, &lab::read(&there)?)?;
    fs::rename(here.join("a"), here.join("b"))?;
    fs::remove_file(here.join("gone"))?;
    desk.must(["sync", "local"])?;
    same(&lab::read(&here)?, &lab::read(&there)?)
}

#[test]
fn what_the_rules_of_either_end_hide_is_neither_copied_nor_deleted() -> Outcome {
    let pair = Pair::over(PROGRAM, |pair| {
        lab::write(&pair.source, ".tidegateignore", b"*.tmp\n")?;
        lab::write(&pair.source, "data/a.tmp", b"hidden by the source")?;
        lab::write(&pair.source, "data/b.log", b"hidden by the target")?;
        lab::write(&pair.source, "data/c.txt", b"seen")?;
        lab::write(&pair.target, ".tidegateignore", b"*.log\n")?;
        lab::write(&pair.target, "data/x.tmp", b"on the target, hidden by the source")?;
        lab::write(&pair.target, "data/y.log", b"on the target, hidden by the target")?;
        Ok(())
    })?;
    pair.desk.must(["conduit", "remove", "mirror"])?;
    let indexed = |status: &Value| {
        let each = status["locations"].as_array().into_iter().flatten();
        each.filter(|location| location["files"].as_u64() > Some(0)).count() == 2
    };
    pair.desk.await_status("what is in both locations", PATIENCE, indexed)?;
    // Below the roots, so that each end keeps rules of its own.
    pair.desk.must(["conduit", "create", "data", "desk:Source/data", "nas:Target/data"])?;
    pair.desk.must(["sync", "data"])?;
    let found: Vec<Vec<u8>> = lab::read(&pair.target.join("data"))?.into_keys().collect();
    check(found == ["c.txt", "x.tmp", "y.log"].map(Vec::from), &format!("{found:?} are on nas"))
}

#[test]
fn in_a_line_of_three_devices_the_index_of_the_first_reaches_the_last() -> Outcome {
    let lab = Lab::new(PROGRAM)?;
    let (mut first, mut middle, mut last) = (lab.device("first")?, lab.device("middle")?, lab.device("last")?);
    let data = lab.directory("data")?;
    for number in 0..200 {
        lab::write(&data, format!("{number}"), b"content")?;
    }
    for device in [&mut first, &mut middle] {
        device.start()?;
    }
    first.pair(&middle)?;
    first.must(["location", "add", text(&data)?, "--name", "Data"])?;
    locations_known(&middle, 1)?;
    let indexed = |status: &Value| status["locations"][0]["files"] == 200 && status["devices"][0]["caught_up"] == true;
    middle.await_status("first's index on middle", PATIENCE, indexed)?;
    // Last never meets first: it joins when first is gone, so that the index can come through middle alone.
    first.stop()?;
    last.start()?;
    middle.pair(&last)?;
    let arrived = |status: &Value| status["locations"][0]["files"] == 200;
    last.await_status("first's index on last", PATIENCE, arrived)?;
    Ok(())
}

#[test]
fn rows_from_a_third_device_do_not_open_the_gate_for_an_owner_that_is_away() -> Outcome {
    let mut pair = Pair::over(PROGRAM, |pair| Ok(lab::write(&pair.source, "file", b"content")?))?;
    let mut phone = pair.lab.device("phone")?;
    phone.start()?;
    pair.nas.pair(&phone)?;
    online(&pair.desk, "phone", true)?;
    pair.sync(0)?;
    pair.desk.stop()?;
    for number in 0..50 {
        lab::write(&pair.target, format!("stray/{number}"), b"written while desk was away")?;
    }
    let files = |number: u64| {
        move |status: &Value| {
            let mut all = status["locations"].as_array().into_iter().flatten();
            all.any(|location| location["name"] == "Target" && location["files"] == number)
        }
    };
    phone.await_status("nas's new files on phone", PATIENCE, files(51))?;
    pair.nas.stop()?;
    pair.desk.start()?;
    pair.desk.await_status("nas's new files on desk, by phone", PATIENCE, files(51))?;
    let refused = pair.desk.run(["plan", "mirror", "--wait", "1s"])?;
    check(matches!(refused.code, 5 | 7), &format!("a plan needs nas itself: {refused}"))?;
    check(refused.stderr.contains("nas"), &format!("it says for whom it waits: {refused}"))?;
    pair.nas.start()?;
    pair.sync(6)?;
    check(lab::read(&pair.target)?.len() == 52, "the stray files are all there")
}

#[test]
fn a_job_can_be_paused_resumed_and_cancelled() -> Outcome {
    let pair = Pair::over(PROGRAM, |pair| Ok(lab::write(&pair.source, "large", &lab::fill(5, 24 << 20))?))?;
    pair.desk.must(["conduit", "set", "mirror", "--limit", "4 MB"])?;
    pair.begin()?;
    let job = copy_job(&pair)?;
    pair.desk.must(["job", "pause", &job])?;
    state_is(&pair, &job, "paused")?;
    check(!pair.target.join("large").exists(), "nothing appears while it is paused")?;
    pair.desk.must(["job", "resume", &job])?;
    state_is(&pair, &job, "running")?;
    pair.desk.must(["job", "cancel", &job])?;
    pair.desk.await_status("the end of the run", PATIENCE, |status| status["conduits"][0]["running"].is_null())?;
    check(!pair.target.join("large").exists(), "a cancelled copy leaves nothing behind")?;
    pair.desk.must(["conduit", "set", "mirror", "--limit", "0"])?;
    location_is(&pair.nas, "Target", |state| state == "settled")?;
    pair.sync(0)?;
    pair.equal()?;
    pair.nothing_is_staged()
}

fn copy_job(pair: &Pair) -> Result<String, tidegate_tests::ends::Failed> {
    let mut found = None;
    let seen = eventually(PATIENCE, || {
        let jobs = pair.desk.json(["job", "list"]).unwrap_or_default();
        let running =
            jobs["jobs"].as_array().into_iter().flatten().find(|j| j["kind"] == "copy" && j["state"] == "running");
        found = running.and_then(|job| job["job"].as_str().map(ToOwned::to_owned));
        found.is_some()
    });
    check(seen, "a copy job runs")?;
    Ok(found.unwrap_or_default())
}

fn state_is(pair: &Pair, job: &str, state: &str) -> Outcome {
    let is_it = || pair.desk.json(["job", "show", job]).is_ok_and(|shown| shown["state"] == state);
    check(eventually(PATIENCE, is_it), &format!("{job} does not become {state}"))
}
