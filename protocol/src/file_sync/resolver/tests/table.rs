//! The law of mirror mode, row by row.

use super::super::*;
use super::tree::{Tree, baseline, conduit, device, path, resolve, synced, view};
use crate::file_sync::{Action, Guards, Halt, PreImage};
use crate::index::Version;

/// Resolves two trees and compares the plan, item by item, as text.
fn check(name: &str, source: &[&str], target: &[&str], expected: &[&str]) {
    check_hiding(name, source, target, &[], expected);
}

/// As [`check`], while the rules of the source hide some names.
fn check_hiding(name: &str, source: &[&str], target: &[&str], hidden: &[&str], expected: &[&str]) {
    let mut source = Tree::with(Side::Source, source);
    source.hide = hidden.iter().map(|name| name.as_bytes().to_vec()).collect();
    let mut target = Tree::with(Side::Target, target);
    let plan = resolve(&source, &target, None, Guards::OFF);
    assert_eq!(shown(&plan), expected, "{name}");
    assert!(plan.operations.target_to_source.is_empty(), "{name}: the source is never written");
    if hidden.is_empty() {
        target.apply(&plan.operations.source_to_target);
        assert!(resolve(&source, &target, None, Guards::OFF).is_empty(), "{name}: nothing is left");
    }
}

/// An item as text.
pub(super) fn item_shown(Item { path, expect, action }: &Item) -> String {
    let over = match expect {
        PreImage::Absent => "",
        PreImage::Directory => " over directory",
        PreImage::File { .. } => " over file",
        PreImage::Symlink { .. } => " over link",
    };
    match action {
        Action::MakeDirectory { .. } => format!("mkdir {path}{over}"),
        Action::InstallFile { .. } => format!("install {path}{over}"),
        Action::InstallSymlink { .. } => format!("link {path}{over}"),
        Action::RenameFile { from, .. } => format!("rename {from} {path}{over}"),
        Action::SetMetadata { .. } => format!("metadata {path}"),
        Action::Remove { .. } => format!("remove {path}"),
        Action::RemoveDirectory { .. } => format!("rmdir {path}"),
        Action::Adopt { .. } => format!("adopt {path}"),
        Action::Respell { from, .. } => format!("respell {from} {path}"),
        Action::Evict { .. } => format!("evict {path}"),
    }
}

fn shown(plan: &Plan) -> Vec<String> {
    let ops = &plan.operations.source_to_target;
    let items = ops.copies.iter().chain(&ops.deletes).map(item_shown);
    let kept = plan.conflicts().iter().map(|conflict| format!("{:?} {}", conflict.kind, conflict.path));
    let skips = plan.skips.iter().map(|skip| format!("skip {} {:?}", skip.path, skip.side));
    items.chain(kept).chain(skips).collect()
}

#[test]
fn leaves_follow_the_source() {
    check("equal", &["a=1", "l>t", "d/"], &["a=1", "l>t", "d/"], &[]);
    check("new", &["a=1", "l>t", "e="], &[], &["install a", "install e", "link l"]);
    check("changed", &["a=2", "l>u"], &["a=1", "l>t"], &["install a over file", "link l over link"]);
    check("gone", &["k=0"], &["k=0", "a=1", "l>t"], &["remove a", "remove l"]);
    check("gone with a tombstone", &["-a"], &["a=1"], &["remove a"]);
    check("gone on both", &["-a"], &["-a"], &[]);
    check("deleted on the target", &["a=1"], &["-a"], &["install a"]);
    check("file to link", &["a>t"], &["a=1"], &["link a over file"]);
    check("link to file", &["a=1"], &["a>t"], &["install a over link"]);
    check("touched", &["a=1@9"], &["a=1"], &["metadata a"]);
    check("made executable", &["a=1x"], &["a=1"], &["metadata a"]);
    check("touched and changed", &["a=2@9"], &["a=1"], &["install a over file"]);
}

#[test]
fn directories_come_before_and_go_after_what_is_in_them() {
    check("new tree", &["d/e/f=1", "d/a=2"], &[], &["mkdir d", "install d/a", "mkdir d/e", "install d/e/f"]);
    check("old tree", &[], &["d/e/f=1", "d/a=2"], &["remove d/a", "remove d/e/f", "rmdir d/e", "rmdir d"]);
    check(
        "names around a subtree",
        &["a-b=1"],
        &["a/x=2", "a.c=3"],
        &["install a-b", "remove a/x", "rmdir a", "remove a.c"],
    );
}

#[test]
fn a_kind_that_changes_takes_its_whole_subtree_along() {
    check("directory to file", &["a=1"], &["a/b/c=2", "a/d=3"], &["install a over directory"]);
    check("directory to link", &["a>t"], &["a/b=2"], &["link a over directory"]);
    check("file to directory", &["a/b=1"], &["a=2"], &["mkdir a over file", "install a/b"]);
    check("link to directory", &["a/b=1"], &["a>t"], &["mkdir a over link", "install a/b"]);
    check("into its own directory", &["a/b=1"], &["a=1"], &["mkdir a over file", "install a/b"]);
    check("out of its own directory", &["a=1"], &["a/b=1"], &["install a over directory"]);
}

#[test]
fn what_is_not_known_is_never_taken_for_absent() {
    check("unknown on the source", &["d?"], &["d/a=1", "d/b/c=2"], &["skip d Source"]);
    check("unknown leaf on the source", &["d/u?"], &["d/u=1", "d/a=1"], &["remove d/a", "skip d/u Source"]);
    check("unknown on the target", &["d/a=1"], &["d?"], &["skip d Target"]);
    check("special on the source", &["s!", "a=1"], &["s=1"], &["install a", "skip s Source"]);
    check("special on the target", &["s/a=1"], &["s!"], &["skip s Target"]);
    check(
        "special below what should go",
        &[],
        &["d/e/s!", "d/e/a=1", "d/b=2"],
        &["remove d/b", "remove d/e/a", "DirNotEmpty d", "DirNotEmpty d/e", "skip d/e/s Target"],
    );
    check(
        "unknown below what should be replaced",
        &["d=1"],
        &["d/u?", "d/a=1"],
        &["remove d/a", "DirNotEmpty d", "skip d/u Target"],
    );
}

#[test]
fn what_rules_hide_stays_where_it_is() {
    check("residue", &["k=1"], &["k=1", "d/+", "d/a=2"], &["remove d/a", "DirNotEmpty d"]);
    check("residue only", &[], &["d/+"], &["DirNotEmpty d"]);
    check("residue below", &[], &["d/e/+"], &["DirNotEmpty d", "DirNotEmpty d/e"]);
    check("residue beside", &[], &["d/e/+", "d/f/"], &["rmdir d/f", "DirNotEmpty d", "DirNotEmpty d/e"]);
    check("residue under a file", &["d=1"], &["d/+", "d/a=2"], &["remove d/a", "DirNotEmpty d"]);
    check("residue that stays", &["d/a=1"], &["d/+"], &["install d/a"]);
    check_hiding("hidden on the target", &["a=1"], &["a=1", "h=2", "h2=3"], &["h"], &["remove h2"]);
    check_hiding("hidden by the other end", &["h/a=1", "a=1"], &[], &["h"], &["install a"]);
    check_hiding("hidden below what should go", &[], &["d/h/x=1", "d/a=1"], &["h"], &["remove d/a", "DirNotEmpty d"]);
    check_hiding(
        "hidden below what is replaced",
        &["d=1"],
        &["d/h=1", "d/a=1"],
        &["h"],
        &["remove d/a", "DirNotEmpty d"],
    );
    check_hiding("hidden and unknown", &["h?"], &["h=1"], &["h"], &[]);
}

#[test]
fn equal_content_that_only_changed_its_name_is_renamed() {
    check("move", &["b=1"], &["a=1"], &["rename a b"]);
    check("move with new time", &["b=1@9"], &["a=1"], &["rename a b"]);
    check("directory moved", &["e/f=1"], &["d/f=1"], &["mkdir e", "rename d/f e/f", "rmdir d"]);
    check("empty files are no evidence", &["b="], &["a="], &["install b", "remove a"]);
    check("links are no evidence", &["b>t"], &["a>t"], &["link b", "remove a"]);
    check("one to two", &["b=1", "c=1"], &["a=1"], &["install b", "install c", "remove a"]);
    check("two to one", &["c=1"], &["a=1", "b=1"], &["install c", "remove a", "remove b"]);
    check("copied, not moved", &["a=1", "b=1"], &["a=1"], &["install b"]);
    check("swapped", &["a=2", "b=1"], &["a=1", "b=2"], &["install a over file", "install b over file"]);
    check("moved over another", &["b=1"], &["a=1", "b=2"], &["install b over file", "remove a"]);
    check("out of what is replaced whole", &["d=2", "z=1"], &["d/a=1"], &["install d over directory", "install z"]);
}

#[test]
fn an_install_carries_the_events_of_both_ends() {
    let (source, target) = (Tree::with(Side::Source, &["a=1", "-b"]), Tree::with(Side::Target, &["a=2", "b=3"]));
    let ops = resolve(&source, &target, None, Guards::OFF).operations.source_to_target;
    let joined = |at: &str| -> Version {
        let row = |tree: &Tree| tree.entry(&path(at)).map_or(Version::NONE, |row| row.version().clone());
        row(&source).join(&row(&target))
    };
    let versions: Vec<Version> = ops
        .copies
        .iter()
        .chain(&ops.deletes)
        .map(|item| match &item.action {
            Action::InstallFile { version, .. } | Action::Remove { version } => version.clone(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(versions, [joined("a"), joined("b")]);
    assert!(versions.iter().all(|version| version.get(device(Side::Source)) > 0));
}

#[test]
fn sums_say_what_the_plan_does() {
    let source = Tree::with(Side::Source, &["a=123", "d/", "m=77", "t=1@5", "w=5"]);
    let mut target = Tree::with(Side::Target, &["o=77", "t=1", "w/x=1", "w/y/z=2"]);
    let base = baseline(&Tree::new(Side::Source), &target);
    target.put(&path("a"), super::tree::file("edited here", 0, false));
    let totals = resolve(&source, &target, Some(&base), Guards::OFF).totals;
    assert_eq!((totals.copies, totals.renames, totals.deletes), (5, 1, 0));
    assert_eq!((totals.copy_bytes, totals.replaced, totals.drift_healed), (4, 3, 1));
}

fn numbered(count: usize, content: &str) -> Vec<String> {
    (0..count).map(|n| format!("f{n}={content}{n}")).collect()
}

/// Resolves with the guards on, from a baseline of what the target held, and compares the halts.
fn check_halts(name: &str, source: &[String], target: &[String], first_run: bool, expected: &[Halt]) {
    let lines = |lines: &[String], side| Tree::with(side, &lines.iter().map(String::as_str).collect::<Vec<_>>());
    let (source, target) = (lines(source, Side::Source), lines(target, Side::Target));
    let base = baseline(&target, &target);
    let plan = resolve(&source, &target, (!first_run).then_some(&base), Guards::default());
    assert_eq!(plan.halts, expected, "{name}");
    assert!(resolve(&source, &target, None, Guards::OFF).halts.is_empty(), "{name}");
}

#[test]
fn guards_hold_what_could_be_a_mistake() {
    let mass = |deletes, files| Halt::MassDelete { side: Side::Target, deletes, files };
    let all = numbered(20, "x");
    let (none, two) = (Vec::new(), numbered(2, "x"));
    check_halts("half of them", &all[..10], &all, false, &[]);
    check_halts("more than half", &all[..9], &all, false, &[mass(11, 20)]);
    check_halts("fewer than ten", &all[..1], &all[..10], false, &[]);
    check_halts("ten of eleven", &all[..1], &all[..11], false, &[mass(10, 11)]);
    check_halts("emptied", &none, &two, false, &[Halt::RootEmptied { side: Side::Source, had: 2 }]);
    check_halts("had one entry only", &none, &two[..1], false, &[]);
    check_halts("both emptied", &none, &none, false, &[]);
    check_halts("first run, target alone has something", &none, &two, true, &[Halt::FirstMirror { displaced: 2 }]);
    check_halts("first run, other content", &numbered(2, "y"), &two, true, &[Halt::FirstMirror { displaced: 2 }]);
    check_halts("first run, equal", &two, &two, true, &[]);
    check_halts("first run, empty target", &two, &none, true, &[]);
    let many = numbered(2500, "x");
    check_halts("a thousand", &many[..1500], &many, false, &[mass(1000, 2500)]);
    check_halts("nearly a thousand", &many[..1501], &many, false, &[]);
    let moved: Vec<String> = all.iter().map(|line| format!("d/{line}")).collect();
    check_halts("moved elsewhere", &moved, &all, false, &[]);
    let twice: Vec<String> = (0..20).map(|n| format!("g{n}=same")).collect();
    check_halts("many equal files to one", &["one=same".to_owned()], &twice, false, &[]);
    let empties: Vec<String> = (0..20).map(|n| format!("g{n}=")).collect();
    check_halts("empty files elsewhere prove nothing", &["one=".to_owned()], &empties, false, &[mass(20, 20)]);
    check_halts("a directory replaced whole", &["d=1".to_owned()], &moved, false, &[mass(20, 20)]);
}

#[test]
fn changed_rules_hold_a_plan_that_does_something() {
    let (mut source, target) = (Tree::with(Side::Source, &["a=1"]), Tree::with(Side::Target, &["a=1"]));
    let base = baseline(&source, &target);
    source.hide.insert(b"h".to_vec());
    assert_eq!(resolve(&source, &target, Some(&base), Guards::default()).halts, []);
    source.put(&path("b"), super::tree::file("2", 0, false));
    let halts = resolve(&source, &target, Some(&base), Guards::default()).halts;
    assert_eq!(halts, [Halt::RulesChanged { side: Side::Source }]);
}

#[test]
fn approval_covers_less_but_never_more() {
    let plan = |source: &[&str], target: &[&str]| {
        resolve(&Tree::with(Side::Source, source), &Tree::with(Side::Target, target), None, Guards::default())
    };
    let shown = plan(&["a=1"], &["a=2", "b=3", "c=4"]);
    let cases: &[(&str, Plan, bool)] = &[
        ("the same", plan(&["a=1"], &["a=2", "b=3", "c=4"]), true),
        ("one delete less", plan(&["a=1", "b=3"], &["a=2", "b=3", "c=4"]), true),
        ("something added", plan(&["a=1", "n=9"], &["a=2", "b=3", "c=4"]), true),
        ("one delete more", plan(&["a=1"], &["a=2", "b=3", "c=4", "d=5"]), false),
        ("another content goes", plan(&["a=1"], &["a=2", "b=33", "c=4"]), false),
        ("one replaced more", plan(&["a=1", "c=5"], &["a=2", "b=3", "c=4"]), false),
    ];
    for (name, now, expected) in cases {
        assert_eq!(now.is_within(&shown), *expected, "{name}");
    }
}

#[test]
fn the_applying_device_asks_its_own_guards() {
    let names = numbered(20, "x");
    let target = Tree::with(Side::Target, &names.iter().map(String::as_str).collect::<Vec<_>>());
    let deletes = resolve(&Tree::new(Side::Source), &target, None, Guards::OFF).operations.source_to_target.deletes;
    let held = Halt::MassDelete { side: Side::Target, deletes: 20, files: 20 };
    let own = |files, approved, stays: &'static dyn Fn(&ContentHash) -> bool| crate::file_sync::OwnSide {
        side: Side::Target,
        files,
        approved,
        files_below: &|_| 0,
        stays,
    };
    let check = |own| Guards::default().check_items(&deletes, &own);
    assert_eq!(check(own(20, false, &|_| false)), Err(held));
    assert_eq!(check(own(40, false, &|_| false)), Ok(()));
    assert_eq!(check(own(20, true, &|_| false)), Ok(()));
    assert_eq!(check(own(20, false, &|_| true)), Ok(()));
    let replaced =
        resolve(&Tree::with(Side::Source, &["d=1"]), &Tree::with(Side::Target, &["d/a=1"]), None, Guards::OFF);
    let own = crate::file_sync::OwnSide { files_below: &|_| 900, ..own(1000, false, &|_| false) };
    let answer = Guards::default().check_items(&replaced.operations.source_to_target.copies, &own);
    assert_eq!(answer, Err(Halt::MassDelete { side: Side::Target, deletes: 900, files: 1000 }));
}

#[test]
fn a_token_opens_one_conduit() {
    let (source, target) = (Tree::new(Side::Source), Tree::new(Side::Target));
    let mut other = conduit();
    let token = synced(&other, &source, &target);
    other.id = ConduitId::from_bytes([8; 16]);
    let view = view(&other, &source, &target, None, Guards::OFF);
    assert!(matches!(SyncResolver::resolve(token, &view), Err(ResolveError::OtherConduit { .. })));
}
