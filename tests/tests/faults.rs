//! What a mirror does when the world is against it: stale replicas, edits in the wrong moment, full and locked
//! disks, missing roots. What must hold in all of them: nothing that a user wrote is lost, and the exit code is true.

use std::fs;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::Command;
use std::thread;

use tidegate::lab;
use tidegate_tests::ends::{Immutable, Mount, Outcome, PATIENCE, Pair, check, location_is, online, same};

const PROGRAM: &str = env!("CARGO_BIN_EXE_tidegate-under-test");

fn write_many(root: &Path, directory: &str, number: u64) -> Outcome {
    for at in 0..number {
        lab::write(root, format!("{directory}/{at:05}"), &at.to_le_bytes())?;
    }
    Ok(())
}

#[test]
fn no_sync_begins_while_the_targets_index_is_not_here_whole() -> Outcome {
    let mut pair = Pair::over(PROGRAM, |pair| Ok(lab::write(&pair.source, "file", b"content")?))?;
    pair.sync(0)?;
    pair.nas.stop()?;
    pair.nas.set("TIDEGATE_NETWORK_UP_LIMIT", "4000");
    write_many(&pair.target, "stray", 2_000)?;
    let before = lab::read(&pair.target)?;
    pair.nas.start()?;
    location_is(&pair.nas, "Target", |state| state == "settled")?;
    online(&pair.desk, "nas", true)?;
    let refused = pair.try_sync(&["--wait", "0"])?;
    check(refused.code == 5, &format!("a stale replica is refused: {refused}"))?;
    check(refused.stderr.contains("nothing was changed"), &format!("it says that nothing was changed: {refused}"))?;
    same(&before, &lab::read(&pair.target)?)?;
    pair.nas.stop()?;
    pair.nas.set("TIDEGATE_NETWORK_UP_LIMIT", "0");
    pair.nas.start()?;
    online(&pair.desk, "nas", true)?;
    pair.sync(6)?;
    same(&before, &lab::read(&pair.target)?)?;
    pair.desk.must(["approve", &pair.held()?])?;
    pair.equal()
}

#[test]
fn a_mass_delete_waits_for_an_offline_target_and_then_for_approval() -> Outcome {
    let mut pair = Pair::over(PROGRAM, |pair| {
        lab::write(&pair.source, "kept", b"kept")?;
        write_many(&pair.source, "many", 10_000)
    })?;
    pair.sync(0)?;
    let before = lab::read(&pair.target)?;
    pair.nas.stop()?;
    online(&pair.desk, "nas", false)?;
    fs::remove_dir_all(pair.source.join("many"))?;
    let refused = pair.try_sync(&["--wait", "1s"])?;
    check(matches!(refused.code, 5 | 7), &format!("an absent target is refused: {refused}"))?;
    pair.nas.start()?;
    online(&pair.desk, "nas", true)?;
    pair.sync(6)?;
    same(&before, &lab::read(&pair.target)?)?;
    pair.desk.must(["approve", &pair.held()?])?;
    pair.equal()?;
    check(pair.trashed(&7_u64.to_le_bytes())?, "the deleted bytes are in the trash")
}

#[test]
fn approval_of_a_plan_that_is_not_the_plan_any_more_is_refused() -> Outcome {
    let pair = Pair::over(PROGRAM, |pair| {
        lab::write(&pair.source, "kept", b"kept")?;
        write_many(&pair.source, "many", 1_500)
    })?;
    pair.sync(0)?;
    let kept = fs::read(pair.source.join("many/00000"))?;
    fs::remove_dir_all(pair.source.join("many"))?;
    pair.sync(6)?;
    let plan = pair.held()?;
    lab::write(&pair.source, "many/00000", &kept)?;
    fs::remove_file(pair.source.join("kept"))?;
    let before = lab::read(&pair.target)?;
    let refused = pair.desk.run(["approve", &plan])?;
    check(refused.code != 0, &format!("a stale plan is refused: {refused}"))?;
    same(&before, &lab::read(&pair.target)?)?;
    pair.sync(6)?;
    check(pair.held()? != plan, "what is held now is another plan")?;
    pair.desk.must(["approve", &pair.held()?])?;
    pair.equal()
}

#[test]
fn of_two_syncs_at_once_exactly_one_wins() -> Outcome {
    let pair = Pair::over(PROGRAM, |pair| Ok(lab::write(&pair.source, "large", &lab::fill(1, 8 << 20))?))?;
    pair.desk.must(["conduit", "set", "mirror", "--limit", "4 MB"])?;
    let (one, two) = thread::scope(|scope| {
        let other = scope.spawn(|| pair.try_sync(&[]));
        let one = pair.try_sync(&[]);
        (one, other.join().expect("a command returns"))
    });
    let (one, two) = (one?, two?);
    let (won, lost) = if one.code == 0 { (one, two) } else { (two, one) };
    check(won.code == 0, &format!("one of them wins: {won} {lost}"))?;
    check(lost.code == 1 && lost.stderr.contains("ALREADY_RUNNING"), &format!("the other is told so: {lost}"))?;
    pair.equal()
}

#[test]
fn what_could_not_be_installed_at_its_new_place_is_not_deleted_at_its_old_one() -> Outcome {
    let content = lab::fill(2, 100_000);
    let pair = Pair::over(PROGRAM, |pair| {
        lab::write(&pair.source, "old/moved", &content)?;
        lab::write(&pair.source, "old/copied", b"copied, and then changed")?;
        lab::write(&pair.source, "locked/there", b"there")?;
        Ok(())
    })?;
    pair.sync(0)?;
    let Some(locked) = Immutable::new(&pair.target.join("locked")) else { return Ok(()) };
    fs::rename(pair.source.join("old/moved"), pair.source.join("locked/moved"))?;
    fs::copy(pair.source.join("old/copied"), pair.source.join("locked/copied"))?;
    fs::remove_dir_all(pair.source.join("old"))?;
    lab::write(&pair.source, "unrelated", b"unrelated")?;
    pair.sync(3)?;
    check(fs::read(pair.target.join("old/moved"))? == content, "the old place is as it was")?;
    check(pair.target.join("old/copied").exists(), "and so is the other one")?;
    check(pair.target.join("unrelated").exists(), "everything else is done")?;
    drop(locked);
    pair.sync(0)?;
    pair.equal()
}

#[test]
fn without_the_right_to_delete_copies_are_made_and_deletes_are_not() -> Outcome {
    let pair = Pair::over(PROGRAM, |pair| Ok(lab::write(&pair.source, "old", b"old")?))?;
    pair.sync(0)?;
    pair.nas.must(["location", "deny", "Target", "desk"])?;
    pair.nas.must(["location", "allow", "Target", "desk=write"])?;
    fs::remove_file(pair.source.join("old"))?;
    lab::write(&pair.source, "new", b"new")?;
    let done = pair.try_sync(&[])?;
    check(matches!(done.code, 3 | 8), &format!("it does not claim success: {done}"))?;
    check(pair.target.join("old").exists(), "nothing is deleted without the right to")?;
    pair.nas.must(["location", "allow", "Target", "desk=delete"])?;
    pair.sync(0)?;
    pair.equal()
}

#[test]
fn a_target_that_is_edited_after_the_plan_keeps_the_edit() -> Outcome {
    let pair = Pair::over(PROGRAM, |pair| Ok(lab::write(&pair.source, "edited", b"as the plan saw it")?))?;
    pair.sync(0)?;
    lab::write(&pair.source, "edited", &lab::fill(3, 12 << 20))?;
    pair.desk.must(["conduit", "set", "mirror", "--limit", "4 MB"])?;
    let began = pair.desk.json(["sync", "mirror", "--detach"])?["generation"].to_string();
    pair.await_run("a part copied", |running| running["bytes_done"].as_u64().unwrap_or(0) > 1 << 20)?;
    lab::write(&pair.target, "edited", b"what a person wrote meanwhile")?;
    pair.desk.await_status("the end of the run", PATIENCE, |status| status["conduits"][0]["running"].is_null())?;
    let in_place = fs::read(pair.target.join("edited"))? == b"what a person wrote meanwhile";
    let kept = in_place || pair.trashed(b"what a person wrote meanwhile")?;
    check(kept, "the edit is somewhere")?;
    let shown = pair.desk.must(["gen", "show", "mirror", &began])?;
    check(shown.stdout.contains("changed on the target after the plan"), &format!("it is reported: {shown}"))?;
    pair.nothing_is_staged()
}

#[test]
fn a_source_that_is_written_while_it_is_read_never_arrives_torn() -> Outcome {
    let versions = [1, 2, 3].map(|byte| vec![byte; 6 << 20]);
    let pair = Pair::over(PROGRAM, |pair| Ok(lab::write(&pair.source, "busy", &versions[0])?))?;
    pair.desk.must(["conduit", "set", "mirror", "--limit", "4 MB"])?;
    pair.begin()?;
    for version in &versions[1..] {
        pair.await_run("a part copied", |running| running["bytes_done"].as_u64().unwrap_or(0) > 1 << 20)?;
        // In place and in parts, so that a reader can see some of either.
        let mut file = fs::OpenOptions::new().write(true).open(pair.source.join("busy"))?;
        for part in version.chunks(1 << 20) {
            file.write_all(part)?;
            let whole = fs::read(pair.target.join("busy")).map_or(true, |found| versions.contains(&found));
            check(whole, "nas shows what was never the file's content")?;
        }
    }
    pair.desk.must(["conduit", "set", "mirror", "--limit", "0"])?;
    pair.desk.await_status("the end of the run", PATIENCE, |status| status["conduits"][0]["running"].is_null())?;
    let whole = fs::read(pair.target.join("busy")).map_or(true, |found| versions.contains(&found));
    check(whole, "nas shows what was never the file's content")?;
    pair.sync(0)?;
    pair.equal()?;
    pair.nothing_is_staged()
}

#[test]
fn a_full_disk_loses_nothing_and_room_makes_it_go_on() -> Outcome {
    let mut mount = None;
    let pair = Pair::over(PROGRAM, |pair| {
        pair.nas.set("TIDEGATE_SYNC_MIN_FREE", "0");
        mount = Mount::new(&pair.target, "16m")?;
        lab::write(&pair.source, "ballast", &lab::fill(5, 8 << 20))?;
        lab::write(&pair.source, "replaced", b"what stood there before")?;
        Ok(())
    })?;
    if mount.is_none() {
        return Ok(());
    }
    pair.desk.must(["conduit", "set", "mirror", "--delete-mode", "permanent"])?;
    pair.sync(0)?;
    lab::write(&pair.source, "replaced", &lab::fill(4, 12 << 20))?;
    lab::write(&pair.source, "small", b"small enough")?;
    let done = pair.try_sync(&[])?;
    check(matches!(done.code, 3 | 12), &format!("a full disk is said: {done}"))?;
    check(fs::read(pair.target.join("replaced"))? == b"what stood there before", "what stood there still stands")?;
    check(fs::metadata(pair.target.join("ballast"))?.len() == 8 << 20, "nothing was deleted to make room")?;
    fs::remove_file(pair.source.join("ballast"))?;
    fs::remove_file(pair.target.join("ballast"))?;
    pair.sync(0)?;
    pair.equal()?;
    pair.nothing_is_staged()
}

#[test]
fn what_cannot_be_written_is_skipped_and_said_and_done_when_it_can() -> Outcome {
    let pair = Pair::over(PROGRAM, |pair| {
        lab::write(&pair.source, "locked/first", b"first")?;
        lab::write(&pair.source, "open/first", b"first")?;
        Ok(())
    })?;
    pair.sync(0)?;
    let Some(locked) = Immutable::new(&pair.target.join("locked")) else { return Ok(()) };
    lab::write(&pair.source, "locked/second", b"second")?;
    lab::write(&pair.source, "open/second", b"second")?;
    let done = pair.sync(3)?;
    check(done.stderr.contains("locked/second"), &format!("it names what was skipped: {done}"))?;
    check(pair.target.join("open/second").exists(), "the rest is done")?;
    drop(locked);
    pair.sync(0)?;
    pair.equal()
}

#[test]
fn a_pipe_is_neither_read_nor_copied_and_its_like_on_the_target_is_left_alone() -> Outcome {
    let pair = Pair::over(PROGRAM, |pair| {
        lab::write(&pair.source, "file", b"content")?;
        lab::write(&pair.source, "dir/inner", b"inner")?;
        for pipe in [pair.source.join("pipe"), pair.target.join("other pipe")] {
            let made = Command::new("mkfifo").arg(&pipe).status()?.success();
            check(made, &format!("mkfifo {}", pipe.as_os_str().as_bytes().escape_ascii()))?;
        }
        Ok(())
    })?;
    pair.sync(0)?;
    let target = lab::read(&pair.target)?;
    check(!target.contains_key(&b"pipe"[..]), "the pipe is not copied")?;
    check(target.contains_key(&b"other pipe"[..]), "the target's pipe is left alone")?;
    check(target.contains_key(&b"dir/inner"[..]), "everything else arrives")?;
    let shown = pair.desk.json(["location", "show", "Source"])?;
    check(shown["special"] == 1, &format!("it is counted: {shown}"))
}

#[test]
fn a_burst_of_more_events_than_the_kernel_queues_is_not_missed() -> Outcome {
    let pair = Pair::over(PROGRAM, |pair| Ok(lab::write(&pair.source, "file", b"content")?))?;
    pair.sync(0)?;
    // Each file is several events, and the kernel holds 16,384 of them; a stopped reader cannot keep up.
    let pid = pair.desk.pid().unwrap_or_default().to_string();
    check(Command::new("kill").args(["-STOP", &pid]).status()?.success(), "desk is stopped")?;
    let written = write_many(&pair.source, "burst", 8_000);
    check(Command::new("kill").args(["-CONT", &pid]).status()?.success(), "desk goes on")?;
    written?;
    online(&pair.desk, "nas", true)?;
    let limit = ["--wait", "60s"];
    let done = pair.try_sync(&limit)?;
    check(done.code == 0, &format!("the run is verified: {done}"))?;
    pair.equal()
}

#[test]
fn a_root_that_is_gone_or_covered_deletes_nothing() -> Outcome {
    let pair = Pair::over(PROGRAM, |pair| write_many(&pair.source, "many", 50))?;
    pair.sync(0)?;
    let before = lab::read(&pair.target)?;
    let away = pair.lab.path().join("away");
    fs::rename(&pair.source, &away)?;
    location_is(&pair.desk, "Source", |state| state != "settled")?;
    let refused = pair.try_sync(&["--wait", "1s"])?;
    check(matches!(refused.code, 5 | 6), &format!("a missing root is refused: {refused}"))?;
    same(&before, &lab::read(&pair.target)?)?;
    fs::rename(&away, &pair.source)?;
    location_is(&pair.desk, "Source", |state| state == "settled")?;
    if let Some(cover) = Mount::new(&pair.source, "1m")? {
        let refused = pair.try_sync(&["--wait", "1s"])?;
        check(matches!(refused.code, 5 | 6), &format!("a covered root is refused: {refused}"))?;
        same(&before, &lab::read(&pair.target)?)?;
        drop(cover);
        pair.desk.must(["location", "rescan", "Source"])?;
    }
    pair.sync(0)?;
    same(&before, &lab::read(&pair.target)?)
}
