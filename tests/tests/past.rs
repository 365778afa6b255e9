//! What was done can be seen, taken back and checked: real nodes, real disks.

use std::fs;

use tidegate::lab;
use tidegate_tests::ends::{Failed, Outcome, Pair, check};

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
