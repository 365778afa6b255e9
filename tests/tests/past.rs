//! What was done can be seen, taken back and checked: real nodes, real disks.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use serde_json::Value;
use tidegate::lab;
use tidegate_tests::ends::{Failed, Outcome, Pair, check};
use tidegate_tests::mesh::Mesh;

const PROGRAM: &str = env!("CARGO_BIN_EXE_tidegate-under-test");

/// A mirror whose second run replaced `edited` and removed `gone`.
fn two_runs() -> Result<Pair, Failed> {
    let pair = Pair::over(PROGRAM, |pair| {
        lab::write(&pair.source, "edited", b"first version")?;
        lab::write(&pair.source, "dir/gone", b"removed later")?;
        lab::write(&pair.source, "kept", b"kept")?;
        Ok(())
    })?;
    pair.sync(0)?;
    lab::write(&pair.source, "edited", b"second version")?;
    fs::remove_dir_all(pair.source.join("dir"))?;
    pair.sync(0)?;
    pair.equal()?;
    Ok(pair)
}

#[test]
fn what_a_run_threw_away_is_listed_and_put_back_beside_what_stands_there_now() -> Outcome {
    let pair = two_runs()?;
    let trash = pair.nas.json(["trash", "list", "mirror"])?;
    let paths: Vec<&str> =
        trash["things"].as_array().into_iter().flatten().filter_map(|t| t["path"].as_str()).collect();
    check(paths == ["dir/gone", "edited"], &format!("both are listed: {trash:#}"))?;
    check(trash["things"][0]["generation"] == 2, "with the run that did it")?;
    let foreseen = pair.nas.must(["trash", "restore", "mirror", "edited", "-n"])?;
    check(foreseen.stdout.contains("would be restored beside"), &foreseen.to_string())?;
    let done = pair.nas.must(["trash", "restore", "mirror", "--all"])?;
    check(done.stdout.contains("restored as edited (restored "), &done.to_string())?;
    check(fs::read(pair.target.join("dir/gone"))? == b"removed later", "the removed file is back")?;
    check(fs::read(pair.target.join("edited"))? == b"second version", "what stands there stays")?;
    let nothing = pair.nas.run(["trash", "restore", "mirror", "--all"])?;
    check(nothing.code == 10 && nothing.stderr.contains("error[NO_SUCH_NAME]"), &nothing.to_string())
}

#[test]
fn an_only_copy_of_today_is_not_purged_and_what_else_there_is_goes() -> Outcome {
    let pair = two_runs()?;
    let unasked = pair.nas.run(["trash", "purge", "mirror", "--all"])?;
    check(unasked.code == 2 && unasked.stderr.contains("error[NEEDS_ANSWER]"), &unasked.to_string())?;
    let refused = pair.nas.run(["trash", "purge", "mirror", "--all", "-y"])?;
    check(refused.code == 8 && refused.stderr.contains("no other copy is known"), &refused.to_string())?;
    check(pair.trashed(b"first version")?, "it is still there")?;
    lab::write(&pair.source, "copy of it", b"first version")?;
    pair.sync(0)?;
    let partly = pair.nas.run(["trash", "purge", "mirror", "--all", "-y"])?;
    check(partly.code == 3 && partly.stderr.contains("no secure erase"), &partly.to_string())?;
    check(!pair.trashed(b"first version")?, "this one has another copy")?;
    check(pair.trashed(b"removed later")?, "and this one has none")
}

#[test]
fn a_mirrors_run_is_undone_from_the_trash_and_a_later_edit_stays() -> Outcome {
    let pair = two_runs()?;
    lab::write(&pair.target, "edited", b"by hand, later")?;
    let foreseen = pair.desk.must(["gen", "undo", "mirror", "2", "--dry-run"])?;
    check(foreseen.stdout.contains("edited since; kept"), &foreseen.to_string())?;
    check(!pair.target.join("dir/gone").exists(), "a dry run changes nothing")?;
    let done = pair.desk.run(["gen", "undo", "mirror", "2"])?;
    check(done.code == 3, &format!("one path stays: {done}"))?;
    check(done.stderr.contains("is paused") && done.stderr.contains("conduit resume mirror"), &done.to_string())?;
    check(fs::read(pair.target.join("dir/gone"))? == b"removed later", "what was removed is back")?;
    check(fs::read(pair.target.join("edited"))? == b"by hand, later", "the later edit stays")?;
    check(pair.newest()?["verification"] == "verified", "and it is proven")?;
    let refused = pair.try_sync(&[])?;
    check(refused.stderr.contains("error[CONDUIT_DISABLED]"), &refused.to_string())?;
    pair.desk.must(["conduit", "resume", "mirror"])?;
    pair.sync(0)?;
    pair.equal()
}

/// A two-way conduit whose second run carried an edit each way and removed a file.
fn two_way_runs() -> Result<Mesh, Failed> {
    let mesh = Mesh::new(PROGRAM, &["desk", "nas"])?;
    mesh.link("notes", 0, 1, &["--mode", "bidirectional"])?;
    for name in ["desks", "nass", "removed", "edited later"] {
        mesh.write(0, name, &format!("first {name}"))?;
    }
    mesh.sync(0, "notes", 0)?;
    mesh.write(0, "desks", "second, by desk")?;
    mesh.write(1, "nass", "second, by nas")?;
    mesh.write(0, "edited later", "second, by desk")?;
    fs::remove_file(mesh.file(1, "removed"))?;
    mesh.sync(0, "notes", 0)?;
    mesh.equal(&[0, 1])?;
    Ok(mesh)
}

#[test]
fn a_two_way_run_is_undone_where_it_acted_and_later_edits_stay() -> Outcome {
    let mesh = two_way_runs()?;
    mesh.write(1, "edited later", "third, by nas")?;
    let desk = &mesh.devices[0];
    let foreseen = desk.must(["gen", "undo", "notes", "2", "--dry-run"])?;
    check(foreseen.stdout.contains("edited later  on nas: edited since; kept"), &foreseen.to_string())?;
    let done = desk.run(["gen", "undo", "notes", "2"])?;
    check(done.code == 3 && !done.stderr.contains("is paused"), &format!("one path stays: {done}"))?;
    // Each end gets back what the run took from it; the edit that the run carried stays where it was made.
    let at = |node: usize, name: &str| fs::read_to_string(mesh.file(node, name)).unwrap_or_default();
    check(at(1, "desks") == "first desks" && at(0, "nass") == "first nass", "what was replaced is back")?;
    check(at(0, "removed") == "first removed", "what was removed is back")?;
    check(at(1, "edited later") == "third, by nas", "the later edit stays")?;
    let newest = mesh.newest(0, "notes")?;
    check(newest["verification"] == "verified", &format!("and it is proven: {newest}"))?;
    // What came back is newer than what it replaced, so the next run takes it to the other end, too.
    mesh.sync(0, "notes", 0)?;
    mesh.equal(&[0, 1])?;
    check(at(0, "desks") == "first desks" && at(1, "removed") == "first removed", "undone on both ends")?;
    check(at(0, "edited later") == "third, by nas", "with the later edit")
}

#[test]
fn every_run_comes_out_identical_when_it_is_resolved_again_from_what_was_kept() -> Outcome {
    let mesh = two_way_runs()?;
    let desk = &mesh.devices[0];
    for number in ["1", "2"] {
        let replayed = desk.must(["gen", "replay", "notes", number])?;
        check(replayed.stdout.ends_with("identical\n"), &replayed.to_string())?;
    }
    let document = desk.json(["gen", "replay", "notes", "2"])?;
    check(document["type"] == "replay" && document["identical"] == true, &document.to_string())?;
    check(document["rows_source"] == 4 && document["rows_target"] == 4, &document.to_string())?;
    let none = desk.run(["gen", "replay", "notes", "9"])?;
    check(none.code == 10 && none.stderr.contains("error[NO_SUCH_NAME]"), &none.to_string())?;
    let elsewhere = mesh.devices[1].run(["gen", "replay", "notes", "2"])?;
    check(elsewhere.code == 8 && elsewhere.stderr.contains("on desk"), &elsewhere.to_string())
}

#[test]
fn an_undo_names_what_is_gone_from_the_trash() -> Outcome {
    let pair = two_runs()?;
    fs::remove_dir_all(pair.target.join(".tidegate/trash"))?;
    let done = pair.desk.run(["gen", "undo", "mirror", "2"])?;
    check(done.code == 3 && done.stderr.contains("skipped edited"), &done.to_string())?;
    check(fs::read(pair.target.join("edited"))? == b"second version", "what stands there stays")
}

/// Flips a byte in a way that only reading shows: size and modification time stay.
fn flip(path: &Path, at: u64) -> Outcome {
    let modified = fs::metadata(path)?.modified()?;
    let file = fs::OpenOptions::new().read(true).write(true).open(path)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at)?;
    file.write_all_at(&[!byte[0]], at)?;
    file.set_modified(modified)?;
    Ok(())
}

#[test]
fn a_flipped_byte_is_found_and_not_spread_and_healed_when_told() -> Outcome {
    let photo = lab::fill(1, 300_000);
    let pair = Pair::over(PROGRAM, |pair| {
        // A disk that rots tells no watcher.
        pair.nas.set("TIDEGATE_INDEX_WATCHER", "poll");
        lab::write(&pair.source, "photo", &photo)?;
        Ok(lab::write(&pair.source, "other", b"other")?)
    })?;
    pair.sync(0)?;
    let sound = pair.desk.must(["gen", "verify", "mirror"])?;
    check(sound.stdout.contains("4 files read, 4 sound, 0 not"), &sound.to_string())?;
    flip(&pair.target.join("photo"), 70_000)?;
    let found = pair.desk.run(["gen", "verify", "mirror", "1"])?;
    check(found.code == 1 && found.stdout.contains("nas  photo: changed while"), &found.to_string())?;
    check(found.stderr.contains("--heal"), &found.to_string())?;
    check(fs::read(pair.source.join("photo"))? == photo, "the source is as it was")?;
    let healed = pair.desk.run(["gen", "verify", "mirror", "--heal"])?;
    check(healed.code == 0, &healed.to_string())?;
    check(fs::read(pair.target.join("photo"))? == photo, "the sound content is back")?;
    let again = pair.desk.must(["gen", "verify", "mirror"])?;
    check(again.stdout.contains("4 sound, 0 not"), &again.to_string())
}

#[test]
fn what_happens_is_told_with_numbers_that_grow_by_one() -> Outcome {
    let pair = two_runs()?;
    let all = pair.desk.must(["--json", "events"])?;
    let events: Vec<Value> = all.stdout.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let number = |event: &Value| {
        event["id"].as_str().and_then(|id| id.split_once('-')).and_then(|(_, number)| number.parse::<u64>().ok())
    };
    let numbers: Vec<Option<u64>> = events.iter().map(number).collect();
    check(numbers.iter().zip(1..).all(|(found, want)| *found == Some(want)), &format!("{numbers:?}"))?;
    let closed = |event: &&Value| event["event"] == "generation.closed" && event["verified"] == true;
    check(events.iter().filter(closed).count() == 2, &all.stdout)?;
    let last = events.last().and_then(|event| event["id"].as_str()).unwrap_or_default();
    let since = pair.desk.must(["--json", "events", "--since", last])?;
    check(since.stdout.is_empty(), &since.to_string())?;
    let gap = pair.desk.must(["--json", "events", "--since", "0-3"])?;
    check(gap.stdout.contains("\"gap\""), &gap.to_string())?;
    let only = pair.desk.must(["events", "--types", "generation.closed"])?;
    check(only.stdout.lines().count() == 2, &only.to_string())
}

#[test]
fn the_sums_of_the_last_day_are_those_of_the_history() -> Outcome {
    let pair = two_runs()?;
    let history = pair.desk.json(["history", "mirror"])?;
    let sum = |name: &str| -> u64 {
        history["generations"].as_array().into_iter().flatten().filter_map(|g| g["totals"][name].as_u64()).sum()
    };
    let conduit = pair.desk.json(["conduit", "show", "mirror"])?;
    let day = &conduit["recent"][0];
    check(day["runs"] == 2 && day["verified"] == 2 && day["failed"] == 0, &day.to_string())?;
    for name in ["copied", "deleted", "skipped", "conflicts", "bytes"] {
        check(day[name] == sum(name), &format!("{name}: {day} and {history:#}"))?;
    }
    let shown = pair.desk.must(["conduit", "show", "mirror", "--stats"])?;
    check(shown.stdout.contains("last 7 days"), &shown.to_string())
}
