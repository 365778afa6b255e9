//! The law of bidirectional mode, row by row: the tables of docs/ARCHITECTURE.md.

use super::super::*;
use super::net::Net;
use super::table::item_shown;
use super::tree::{parse, path};
use crate::file_sync::{ConflictOutcome, ConflictStrategy, Decision, Halt, NameRules, Ruling};
use crate::time::{Stamp, Stamped};

use ConflictStrategy::{CreateConflictFile, LargestWins, NewestWins, PromptUser, SourceWins, TargetWins};

/// Both ends hold `base`, verified; then each has its edits, in the notation of [`super::tree::Tree::with`].
fn after(strategy: ConflictStrategy, base: &[&str], source: &[&str], target: &[&str]) -> Net {
    let mut net = Net::new(2, &[(0, 1, SyncMode::Bidirectional, strategy)]);
    edit(&mut net, 0, base);
    net.settle().expect("a union of one side");
    edit(&mut net, 0, source);
    edit(&mut net, 1, target);
    net
}

pub(super) fn edit(net: &mut Net, tree: usize, lines: &[&str]) {
    for line in lines {
        if let Some(gone) = line.strip_prefix('-') {
            net.edit(tree, &path(gone), None);
        } else {
            let (at, kind) = parse(line);
            net.edit(tree, &at, Some(kind));
        }
    }
}

/// What the plan says, item by item, with the end that changes in front.
pub(super) fn shown(plan: &Plan) -> Vec<String> {
    let ends = [(Side::Source, "S"), (Side::Target, "T")];
    let items = ends.into_iter().flat_map(|(side, name)| {
        let ops = plan.operations.on(side);
        ops.copies.iter().chain(&ops.deletes).map(move |item| format!("{name}: {}", item_shown(item)))
    });
    let conflicts = plan.conflicts().iter().map(|conflict| {
        let outcome = match &conflict.outcome {
            ConflictOutcome::Held => "held".to_owned(),
            ConflictOutcome::Source => "source".to_owned(),
            ConflictOutcome::Target => "target".to_owned(),
            ConflictOutcome::Both { copy } => format!("both {copy}"),
            ConflictOutcome::Given => "given".to_owned(),
        };
        format!("{:?} {} {outcome}", conflict.kind, conflict.path)
    });
    let skips = plan.skips.iter().map(|skip| format!("skip {} {:?}", skip.path, skip.side));
    items.chain(conflicts).chain(skips).collect()
}

/// Resolves once, compares the plan, and lets it come to rest.
fn check(
    name: &str,
    strategy: ConflictStrategy,
    base: &[&str],
    source: &[&str],
    target: &[&str],
    expected: &[&str],
) -> Net {
    let mut net = after(strategy, base, source, target);
    assert_eq!(shown(&net.plan(0)), expected, "{name}");
    assert!(net.settle().is_some(), "{name}: comes to rest");
    net
}

#[test]
fn the_only_side_that_changed_is_followed() {
    for (name, base, source, expected) in [
        ("new", &[][..], &["a=1", "l>t", "e="][..], &["T: install a", "T: install e", "T: link l"][..]),
        ("edited", &["a=1"], &["a=2"], &["T: install a over file"]),
        ("deleted", &["a=1", "k=0"], &["-a"], &["T: remove a"]),
        ("touched", &["a=1"], &["a=1@9"], &["T: metadata a"]),
        ("made executable", &["a=1"], &["a=1x"], &["T: metadata a"]),
        ("file to link", &["a=1"], &["a>t"], &["T: link a over file"]),
        ("renamed", &["a=1", "k=0"], &["-a", "b=1"], &["T: rename a b"]),
        ("new tree", &[], &["d/e/f=1"], &["T: mkdir d", "T: mkdir d/e", "T: install d/e/f"]),
        ("old tree", &["d/e/f=1"], &["-d"], &["T: remove d/e/f", "T: rmdir d/e", "T: rmdir d"]),
        ("file to directory", &["a=1"], &["-a", "a/b=2"], &["T: mkdir a over file", "T: install a/b"]),
        ("directory to file", &["a/b=1"], &["-a", "a=2"], &["S: adopt a/b", "T: install a over directory"]),
        ("made and deleted", &["k=0"], &["a=1", "-a"], &[]),
        ("deleted and made again", &["a=1"], &["-a", "a=1"], &["T: adopt a"]),
    ] {
        let expected_here: Vec<&str> = expected.iter().copied().filter(|line| !line.starts_with("S: adopt")).collect();
        check(name, CreateConflictFile, base, source, &[], &expected_here);
        let swapped: Vec<String> = expected_here.iter().map(|line| line.replacen("T:", "S:", 1)).collect();
        let swapped: Vec<&str> = swapped.iter().map(String::as_str).collect();
        check(&format!("{name}, the other way"), CreateConflictFile, base, &[], source, &swapped);
    }
}

#[test]
fn what_both_have_alike_is_adopted() {
    check("first run, equal", CreateConflictFile, &[], &["a=1"], &["a=1"], &["S: adopt a", "T: adopt a"]);
    check("same edit", CreateConflictFile, &["a=1"], &["a=2"], &["a=2"], &["S: adopt a", "T: adopt a"]);
    check("deleted on both", CreateConflictFile, &["a=1"], &["-a"], &["-a"], &[]);
    check("same directory", CreateConflictFile, &[], &["d/"], &["d/"], &["S: adopt d", "T: adopt d"]);
    check("touched on both", CreateConflictFile, &["a=1"], &["a=1@9"], &["a=1@5"], &["S: adopt a", "T: metadata a"]);
    check("bit and time", CreateConflictFile, &["a=1"], &["a=1x"], &["a=1@5"], &["S: metadata a", "T: metadata a"]);
    check(
        "edit and bit",
        CreateConflictFile,
        &["a=1"],
        &["a=2"],
        &["a=1x"],
        &["S: metadata a", "T: install a over file"],
    );
    check(
        "deleted and touched",
        CreateConflictFile,
        &["a=1", "k=0"],
        &["-a"],
        &["a=1@9"],
        &["S: adopt a", "T: remove a"],
    );
}

#[test]
fn a_conflict_is_settled_by_its_strategy() {
    let copy = "a (conflict 1970-01-01 device 1)";
    let both = |conflict: &str| {
        vec![
            format!("S: install {copy}"),
            format!("T: install {copy}"),
            "T: install a over file".to_owned(),
            format!("{conflict} a both {copy}"),
        ]
    };
    let own = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
    let (edited, deleted): (&[&str], &[&str]) = (&["a=22@100000000000"], &["-a"]);
    let newer: &[&str] = &["a=3@900000000000"];
    let source_wins = own(&["S: adopt a", "T: install a over file", "BothModified a source"]);
    let target_wins = own(&["S: install a over file", "T: adopt a", "BothModified a target"]);
    let held = own(&["BothModified a held"]);
    let restored = |outcome: &str| own(&["S: install a", "T: adopt a", &format!("DeleteModify a {outcome}")]);
    let removed = |outcome: &str| own(&["S: adopt a", "T: remove a", &format!("DeleteModify a {outcome}")]);
    let removed_there = own(&["S: remove a", "T: adopt a", "DeleteModify a target"]);
    for (name, strategy, source, target, expected) in [
        ("both", CreateConflictFile, edited, newer, both("BothModified")),
        ("newest", NewestWins, edited, newer, target_wins.clone()),
        ("newest, too near", NewestWins, edited, &["a=3@101000000000"], both("BothModified")),
        ("source", SourceWins, edited, newer, source_wins.clone()),
        ("target", TargetWins, edited, newer, target_wins),
        ("largest", LargestWins, edited, newer, source_wins),
        ("largest, equal", LargestWins, edited, &["a=33"], both("BothModified")),
        ("ask", PromptUser, edited, newer, held),
        ("deleted, both", CreateConflictFile, deleted, newer, restored("target")),
        ("deleted, newest", NewestWins, deleted, newer, restored("target")),
        ("deleted, largest", LargestWins, deleted, newer, restored("target")),
        ("deleted, target", TargetWins, deleted, newer, restored("target")),
        ("deleted, source", SourceWins, deleted, newer, removed("source")),
        ("edited and deleted, target", TargetWins, edited, deleted, removed_there),
        ("deleted, ask", PromptUser, deleted, newer, own(&["DeleteModify a held"])),
    ] {
        let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
        check(name, strategy, &["a=1", "k=0"], source, target, &expected);
    }
}

#[test]
fn a_directory_meets_a_file() {
    let copy = "d (conflict 1970-01-01 device 1)";
    check(
        "leaf over directory, both",
        CreateConflictFile,
        &["k=0"],
        &["d=1"],
        &["d/x=2", "d/l>t"],
        &[
            &format!("S: mkdir {copy}"),
            &format!("S: link {copy}/l"),
            &format!("S: install {copy}/x"),
            &format!("T: mkdir {copy}"),
            &format!("T: link {copy}/l"),
            &format!("T: rename d/x {copy}/x"),
            "T: install d over directory",
            &format!("TypeMismatch d both {copy}"),
        ],
    );
    check(
        "directory over leaf, both",
        CreateConflictFile,
        &["k=0"],
        &["d/x=2"],
        &["d=1"],
        &[
            &format!("S: install {copy}"),
            "S: adopt d/x",
            &format!("T: install {copy}"),
            "T: mkdir d over file",
            "T: install d/x",
            &format!("TypeMismatch d both {copy}"),
        ],
    );
    check(
        "leaf wins over everything in it",
        SourceWins,
        &["k=0"],
        &["d=1"],
        &["d/x=2"],
        &["S: adopt d", "S: adopt d/x", "T: install d over directory", "TypeMismatch d source"],
    );
    check(
        "directory wins with everything in it",
        TargetWins,
        &["k=0"],
        &["d=1"],
        &["d/x=2"],
        &["S: mkdir d over file", "S: install d/x", "T: adopt d", "T: adopt d/x", "TypeMismatch d target"],
    );
    check("held", PromptUser, &["k=0"], &["d=1"], &["d/x=2", "n=1"], &["S: install n", "TypeMismatch d held"]);
    check(
        "only deletions below",
        CreateConflictFile,
        &["d/x=1", "d/y=2"],
        &["-d", "d=3"],
        &["-d/x"],
        &["T: install d over directory"],
    );
    check(
        "an edit below",
        SourceWins,
        &["d/x=1"],
        &["-d", "d=3"],
        &["d/x=2"],
        &["S: adopt d", "S: adopt d/x", "T: install d over directory", "TypeMismatch d source"],
    );
}

#[test]
fn a_deleted_directory_goes_unless_something_in_it_stays() {
    let mode = CreateConflictFile;
    check(
        "new below",
        mode,
        &["d/a=1", "k=0"],
        &["-d"],
        &["d/n=2"],
        &["S: mkdir d", "S: install d/n", "T: adopt d", "T: remove d/a"],
    );
    check(
        "edited below",
        mode,
        &["d/a=1", "d/b=1b", "k=0"],
        &["-d"],
        &["d/a=2"],
        &["S: mkdir d", "S: install d/a", "T: adopt d", "T: adopt d/a", "T: remove d/b", "DeleteModify d/a target"],
    );
    check(
        "held below",
        PromptUser,
        &["d/a=1", "d/b=1b", "k=0"],
        &["-d"],
        &["d/a=2"],
        &["T: remove d/b", "DeleteModify d/a held"],
    );
    check("hidden below", mode, &["d/a=1", "k=0"], &["-d"], &["d/+"], &["T: remove d/a", "DirNotEmpty d held"]);
    check(
        "unknown below",
        mode,
        &["d/a=1", "k=0"],
        &["-d"],
        &["d/u?"],
        &["T: remove d/a", "DirNotEmpty d held", "skip d/u Target"],
    );
    check("unknown above", mode, &["d/a=1", "k=0"], &["d?"], &["d/a=2"], &["skip d Source"]);
}

#[test]
fn a_ruling_holds_for_the_facts_it_names_and_no_others() {
    let rule = |decision, source: &[&str], then: &[&str]| {
        let mut net = after(PromptUser, &["a=1"], source, &["a=3"]);
        let conflict = net.plan(0).conflicts()[0].clone();
        net.sync(0, &|_| true);
        let (conduit, stamp) = (net.links[0].conduit.id, Stamp::zero(net.trees[0].device));
        let (facts, path) = (conflict.facts, conflict.path);
        net.links[0].rulings.push(Ruling { conduit, facts, path, decision: Stamped::new(decision, stamp) });
        edit(&mut net, 1, then);
        let plan = shown(&net.plan(0));
        assert!(net.settle().is_some());
        plan
    };
    let copy = "a (conflict 1970-01-01 device 1)";
    let install = |side: &str| format!("{side}: install {copy}");
    assert_eq!(
        rule(Decision::Source, &["a=2"], &[]),
        ["S: adopt a", "T: install a over file", "BothModified a source"]
    );
    assert_eq!(rule(Decision::Target, &["-a"], &[]), ["S: install a", "T: adopt a", "DeleteModify a target"]);
    let both = [install("S"), install("T"), "T: install a over file".to_owned(), format!("BothModified a both {copy}")];
    assert_eq!(rule(Decision::Both, &["a=2"], &[]), both);
    assert_eq!(rule(Decision::Source, &["a=2"], &["a=4"]), ["BothModified a held"], "the facts are others by now");
    let crate::index::EntryKind::File(given) = super::tree::file("merged", 5, false) else { unreachable!() };
    let expected = ["S: install a over file", "T: install a over file", "BothModified a given"];
    assert_eq!(rule(Decision::Given(given), &["a=2"], &[]), expected);
}

#[test]
fn names_that_one_end_cannot_tell_apart_are_held() {
    let mac = NameRules { folds: true, ..NameRules::POSIX };
    let windows = NameRules { folds: true, windows: true, links: false };
    for (name, names, base, source, target, expected) in [
        (
            "two new",
            mac,
            &["k=0"][..],
            &["test=1", "TEST=2"][..],
            &[][..],
            &["T: install TEST", "CaseCollision test held"][..],
        ),
        ("the twin keeps its place", mac, &["test=1"], &["TEST=2"], &[], &["CaseCollision TEST held"]),
        (
            "unicode twins",
            mac,
            &["k=0"],
            &["caf\u{e9}=1", "cafe\u{301}=2"],
            &[],
            &["T: install cafe\u{301}", "UnicodeCollision caf\u{e9} held"],
        ),
        ("a held directory", mac, &["D/a=1"], &["d/b=2"], &[], &["CaseCollision d held"]),
        ("bad name", windows, &["k=0"], &["a?b/c=1", "n=2"], &[], &["T: install n", "Unrepresentable a?b held"]),
        ("link", windows, &["k=0"], &["l>k"], &[], &["Unsupported l held"]),
        ("file to link", windows, &["l=1"], &["l>k"], &["l=2"], &["Unsupported l held"]),
    ] {
        let mut net = after(CreateConflictFile, base, source, target);
        net.trees[1].names = names;
        assert_eq!(shown(&net.plan(0)), expected, "{name}");
        assert!(net.settle().is_some(), "{name}: comes to rest");
        assert_eq!(shown(&net.plan(0)).len(), expected.iter().filter(|line| line.ends_with("held")).count(), "{name}");
    }
}

#[test]
fn a_spelling_is_carried_over_like_any_change() {
    let mac = NameRules { folds: true, ..NameRules::POSIX };
    let respelled = |base: &[&str], source: &[&str], target: &[&str], expected: &[&str]| {
        let mut net = after(CreateConflictFile, base, source, &[]);
        net.trees[1].names = mac;
        edit(&mut net, 1, target);
        assert_eq!(shown(&net.plan(0)), expected);
        assert!(net.settle().is_some());
        assert_eq!(net.shown(0), net.shown(1));
    };
    respelled(&["readme=1"], &["-readme", "README=1"], &[], &["T: respell readme README"]);
    respelled(&["a=1"], &["-a", "A=1"], &["a=2"], &["S: install A over file", "T: respell a A"]);
    respelled(&["d/x=1"], &["-d", "D/x=1"], &[], &["T: respell d D"]);
}

#[test]
fn the_reason_is_the_rule_that_decided() {
    let net = after(CreateConflictFile, &["a=1", "b=1", "c=1", "d/x=1"], &["a=2", "b=2", "-d"], &["b=3", "d/n=1"]);
    let why = |at: &str| SyncResolver::why(&net.view(0), &path(at)).map(|why| (why.rule, why.conflict.is_some()));
    for (at, rule, is_conflict) in [
        ("a", Rule::LaterVersion, false),
        ("b", Rule::Strategy, true),
        ("c", Rule::InStep, false),
        ("d", Rule::DirectoryGoes, false),
        ("d/x", Rule::LaterVersion, false),
        ("d/n", Rule::New, false),
        ("nowhere", Rule::InStep, false),
    ] {
        assert_eq!(why(at), Ok((rule, is_conflict)), "{at}");
    }
}

#[test]
fn guards_watch_both_ends() {
    let twenty: Vec<String> = (0..20).map(|n| format!("f{n:02}=x{n}")).collect();
    let twenty: Vec<&str> = twenty.iter().map(String::as_str).collect();
    let gone: Vec<String> = (0..11).map(|n| format!("-f{n:02}")).collect();
    let gone: Vec<&str> = gone.iter().map(String::as_str).collect();
    let halts = |base: &[&str], source: &[&str], target: &[&str]| {
        after(CreateConflictFile, base, source, target).plan_guarded(0).halts
    };
    let mass = |side| vec![Halt::MassDelete { side, deletes: 11, files: 20 }];
    let emptied = |side| vec![Halt::RootEmptied { side, had: 2 }];
    assert_eq!(halts(&twenty, &gone, &[]), mass(Side::Target));
    assert_eq!(halts(&twenty, &[], &gone), mass(Side::Source));
    assert_eq!(halts(&twenty, &gone[..10], &[]), []);
    assert_eq!(halts(&["a=1", "b=2"], &["-a", "-b"], &[]), emptied(Side::Source));
    assert_eq!(halts(&["a=1", "b=2"], &[], &["-a", "-b"]), emptied(Side::Target));
    assert_eq!(halts(&["a=1", "b=2"], &["-a", "-b"], &["-a", "-b"]), []);
    assert_eq!(halts(&["a=1"], &["-a"], &[]), []);
    let mut net = after(CreateConflictFile, &["a=1"], &["-a"], &[]);
    net.trees[0].has_root = false;
    assert_eq!(net.plan(0).halts, [Halt::RootGone { side: Side::Source }], "no setting turns this off");
    let many: Vec<String> = (0..21).map(|n| format!("d/f{n:02}=x{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let look = after(CreateConflictFile, &many, &["-d"], &[]).plan(0).second_look();
    let dir = |text: &str| crate::path::DirPath::from_slashes(text.as_bytes()).expect("a path");
    assert_eq!(look, [(Side::Source, dir("")), (Side::Source, dir("d"))].into());
    assert!(after(CreateConflictFile, &many[..20], &["-d/f00"], &[]).plan(0).second_look().is_empty());
}
