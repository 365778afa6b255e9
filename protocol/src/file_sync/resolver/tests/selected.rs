//! The law of selective mode, row by row, and what must hold for all histories of it.

use proptest::prelude::*;

use super::super::*;
use super::net::Net;
use super::tree::path;
use super::two_way::{edit, shown};
use crate::file_sync::{ConflictStrategy, Fetched, Halt, Selection};
use crate::path::DirPath;

fn dir(text: &str) -> DirPath {
    DirPath::from_slashes(text.as_bytes()).expect("test paths are valid")
}

fn chosen(subtrees: &[&str], globs: &[&str]) -> Selection {
    Selection {
        subtrees: subtrees.iter().map(|text| dir(text)).collect(),
        globs: globs.iter().map(|text| (*text).to_owned()).collect(),
        ..Selection::default()
    }
}

fn select(net: &mut Net, selection: Selection) {
    net.links[0].conduit.settings.selection.value = selection;
    net.links[0].conduit.settings.selection.stamp.ms += 1;
}

/// The source holds `base`, of which `first` was selected; then `then` is, and both ends have their edits.
fn after(
    strategy: ConflictStrategy,
    base: &[&str],
    first: Selection,
    source: &[&str],
    target: &[&str],
    then: Selection,
) -> Net {
    let mut net = Net::new(2, &[(0, 1, SyncMode::Selective, strategy)]);
    edit(&mut net, 0, base);
    select(&mut net, first);
    net.settle().expect("a first copy");
    edit(&mut net, 0, source);
    edit(&mut net, 1, target);
    select(&mut net, then);
    net
}

#[test]
fn the_target_holds_what_is_selected_and_keeps_what_is_its_own() {
    let (p, none) = (|| chosen(&["p"], &[]), || chosen(&[], &[]));
    let held = ConflictStrategy::default();
    for (name, strategy, source, target, then, expected) in [
        ("new", held, &["p/n=2", "q/n=3"][..], &[][..], p(), &["T: install p/n"][..]),
        ("edited", held, &["p/a=2"], &[], p(), &["T: install p/a over file"]),
        ("deleted", held, &["-p/a"], &[], p(), &["T: remove p/a"]),
        ("deleted on the target", held, &[], &["-p/a"], p(), &["T: install p/a"]),
        ("touched on the target", held, &[], &["p/a=1@9"], p(), &["T: metadata p/a"]),
        ("edited on the target", held, &["p/a=2"], &["p/a=3"], p(), &["Drift p/a held"]),
        (
            "edited there, source wins",
            ConflictStrategy::SourceWins,
            &[],
            &["p/a=3"],
            p(),
            &["T: install p/a over file"],
        ),
        ("deleted and edited", held, &["-p/a"], &["p/a=3"], p(), &["Drift p/a held"]),
        ("the target's own", held, &[], &["p/own=1", "r=2"], p(), &[]),
        ("own in the way of a directory", held, &["p/d/x=1"], &["p/d=9"], p(), &["Drift p/d held"]),
        ("own in a directory in the way", held, &["-p/b", "p/b=1"], &["p/b/own=9"], p(), &["Drift p/b held"]),
        ("deselected", held, &[], &[], none(), &["T: evict p/a", "T: evict p/b/c", "T: evict p/b", "T: evict p"]),
        ("deselected and edited", held, &[], &["p/a=3"], none(), &["T: evict p/b/c", "T: evict p/b"]),
        (
            "deselected, last copy",
            held,
            &["-p/a"],
            &[],
            none(),
            &["T: remove p/a", "T: evict p/b/c", "T: evict p/b", "T: evict p"],
        ),
        ("deselected, other content", held, &["p/a=2"], &[], chosen(&["p/b"], &[]), &["T: remove p/a"]),
        ("out of the selection", held, &["-p/a", "q/a=1"], &[], p(), &["T: remove p/a"]),
        ("everything", held, &[], &[], chosen(&[""], &[]), &["T: install k", "T: mkdir q", "T: install q/z.jpg"]),
        (
            "edited below what holds it",
            held,
            &["r/s=1", "r/s=2"],
            &[],
            chosen(&["p", "r/s"], &[]),
            &["T: mkdir r", "T: install r/s"],
        ),
        ("a pattern", held, &[], &[], chosen(&["p"], &["*.jpg"]), &["T: mkdir q", "T: install q/z.jpg"]),
    ] {
        let mut net = after(strategy, &["p/a=1", "p/b/c=2", "q/z.jpg=3", "k=0"], p(), source, target, then);
        assert_eq!(shown(&net.plan(0)), expected, "{name}");
        assert!(net.settle().is_some(), "{name}: comes to rest");
    }
}

#[test]
fn bounds_pins_and_a_budget_choose_among_candidates() {
    let all = || chosen(&[""], &[]);
    let pins = vec![path("a")];
    let fetched = |until_ms| vec![Fetched { path: path("a"), until_ms }];
    // Names say the size; times are in nanoseconds, and now is 1,000,000 ms.
    let base = ["a=4444@900000000000", "b=1@100000000000", "c=22@950000000000", "d/e=333@990000000000"];
    for (name, selection, expected) in [
        ("small", Selection { size_bytes_max: Some(2), ..all() }, &["b", "c"][..]),
        ("large", Selection { size_bytes_min: Some(3), ..all() }, &["a", "d/e"]),
        ("young", Selection { age_ms_max: Some(60_000), ..all() }, &["c", "d/e"]),
        ("all but", Selection { exclude: vec!["d".to_owned()], ..all() }, &["a", "b", "c"]),
        ("budget", Selection { budget_bytes: Some(5), ..all() }, &["c", "d/e"]),
        ("budget passes over what does not fit", Selection { budget_bytes: Some(6), ..all() }, &["b", "c", "d/e"]),
        ("pins come first", Selection { budget_bytes: Some(7), pins: pins.clone(), ..all() }, &["a", "d/e"]),
        ("pinned from outside", Selection { pins, ..Selection::default() }, &["a"]),
        ("fetched", Selection { fetched: fetched(1_000_001), ..Selection::default() }, &["a"]),
        ("fetched until now", Selection { fetched: fetched(1_000_000), ..Selection::default() }, &[]),
    ] {
        let mut net = after(ConflictStrategy::default(), &base, Selection::default(), &[], &[], selection);
        assert!(net.settle().is_some(), "{name}");
        let files =
            net.shown(1).into_iter().filter(|(_, kind)| !matches!(kind, crate::index::EntryKind::Directory { .. }));
        assert_eq!(files.map(|(at, _)| at.to_string()).collect::<Vec<_>>(), expected, "{name}");
        select(&mut net, Selection::default());
        assert!(net.settle().is_some(), "{name}");
        assert_eq!(net.shown(1), [], "{name}: what is not selected any more is gone");
    }
}

#[test]
fn deselecting_everything_is_no_mass_deletion() {
    let base: Vec<String> = (0..40).map(|n| format!("f{n}=x{n}")).collect();
    let base: Vec<&str> = base.iter().map(String::as_str).collect();
    let all = || chosen(&[""], &[]);
    let halts = |net: &Net| net.plan_guarded(0).halts;
    let net = after(ConflictStrategy::default(), &base, all(), &[], &[], Selection::default());
    assert_eq!((halts(&net), net.plan(0).totals.evictions, net.plan(0).totals.deletes), (Vec::new(), 40, 0));
    assert!(net.plan(0).second_look().is_empty());
    let gone: Vec<String> = (0..40).map(|n| format!("-f{n}")).collect();
    let gone: Vec<&str> = gone.iter().map(String::as_str).collect();
    let net = after(ConflictStrategy::default(), &base, all(), &gone, &[], all());
    let expected = [
        Halt::RootEmptied { side: Side::Source, had: 40 },
        Halt::MassDelete { side: Side::Target, deletes: 40, files: 40 },
    ];
    assert_eq!(halts(&net), expected);
    assert_eq!(net.plan(0).second_look(), [(Side::Source, DirPath::TOP)].into());
}

/// What happens next; selections by number.
#[derive(Debug, Clone)]
enum Event {
    Write(usize, usize),
    Remove(usize, usize),
    Select(usize),
    Sync,
    Broken(u64),
}

const PATHS: [&str; 8] = ["a", "b", "d", "d/x", "d/y.jpg", "d/e", "d/e/z", "d/e/w.jpg"];

fn selections() -> Vec<Selection> {
    vec![
        Selection::default(),
        chosen(&[""], &[]),
        chosen(&["d"], &[]),
        chosen(&["d/e", "a"], &[]),
        chosen(&["b"], &["*.jpg"]),
        Selection { exclude: vec!["e".to_owned()], ..chosen(&[""], &[]) },
        Selection { pins: vec![path("d/x")], ..chosen(&["b"], &[]) },
        Selection { budget_bytes: Some(12), ..chosen(&[""], &[]) },
    ]
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let at = || (0..2_usize, 0..PATHS.len());
    let event = prop_oneof![
        6 => at().prop_map(|(tree, path)| Event::Write(tree, path)),
        3 => at().prop_map(|(tree, path)| Event::Remove(tree, path)),
        2 => (0..selections().len()).prop_map(Event::Select),
        6 => Just(Event::Sync),
        2 => any::<u64>().prop_map(Event::Broken),
    ];
    prop::collection::vec(event, 0..30)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_source_is_never_written_and_the_targets_own_never_lost(events in events()) {
        let mut net = Net::new(2, &[(0, 1, SyncMode::Selective, ConflictStrategy::default())]);
        select(&mut net, chosen(&[""], &[]));
        let mut own = std::collections::BTreeMap::new();
        for event in &events {
            let source = net.shown(0);
            match *event {
                Event::Write(tree, at) => net.write(tree, &path(PATHS[at])),
                Event::Remove(tree, at) => net.edit(tree, &path(PATHS[at]), None),
                Event::Select(at) => select(&mut net, selections().swap_remove(at)),
                Event::Sync => {
                    net.sync(0, &|_| true);
                }
                Event::Broken(mask) => {
                    net.sync(0, &|item| item != usize::MAX && (mask >> (item % 64)) & 1 == 1);
                }
            }
            match *event {
                Event::Write(1, at) => {
                    own.retain(|kept: &EntryPath, _| !kept.is_below(&path(PATHS[at])) && !path(PATHS[at]).is_below(kept));
                    own.insert(path(PATHS[at]), net.trees[1].kind(&path(PATHS[at])).cloned());
                }
                Event::Remove(1, at) => {
                    own.retain(|kept, _| *kept != path(PATHS[at]) && !kept.is_below(&path(PATHS[at])));
                }
                Event::Write(..) | Event::Remove(..) => {}
                Event::Select(_) | Event::Sync | Event::Broken(_) => {
                    prop_assert_eq!(net.shown(0), source, "the source was written");
                }
            }
            for (at, kind) in &own {
                prop_assert_eq!(net.trees[1].kind(at), kind.as_ref(), "the target's own {}", at);
            }
        }
        prop_assert!(net.settle().is_some(), "it does not come to rest");
        let in_place = net.in_place();
        let lost: Vec<_> = net.wanted.difference(&in_place).collect();
        prop_assert!(lost.is_empty(), "lost: {:?}", lost);
    }
}

#[test]
fn a_directory_that_holds_what_is_replaced_stays() {
    let only = || chosen(&["d/e"], &[]);
    let mut net = after(ConflictStrategy::default(), &["d/e=1"], only(), &["d/e=2"], &[], only());
    assert_eq!(shown(&net.plan(0)), ["T: install d/e over file"]);
    assert_eq!(net.settle(), Some(1));
}

#[test]
fn what_a_one_way_conduit_puts_over_later_events_is_carried_on() {
    for (mode, strategy) in
        [(SyncMode::Selective, ConflictStrategy::SourceWins), (SyncMode::Mirror, ConflictStrategy::default())]
    {
        // The user of the last device; the first one's conduit comes after the news of it, or before.
        for edits in [&["-p/a"][..], &["-p"], &["p/a=1@9"], &["p/a=1x"], &["p/a=2"], &["-p/b/c", "p/b/d=4"]] {
            let both = (1, 2, SyncMode::Bidirectional, ConflictStrategy::default());
            let mut net = Net::new(3, &[(0, 1, mode, strategy), both]);
            edit(&mut net, 0, &["p/a=1", "p/b/c=2"]);
            select(&mut net, chosen(&[""], &[]));
            net.settle().expect("a first copy");
            edit(&mut net, 2, edits);
            net.settle().unwrap_or_else(|| panic!("{mode:?} {edits:?} does not come to rest"));
            assert_eq!(net.shown(1), net.shown(2), "{mode:?} {edits:?}");
        }
    }
}

#[test]
fn what_a_one_way_conduit_removes_of_its_own_accord_is_removed_elsewhere() {
    let links = [
        (1, 2, SyncMode::Bidirectional, ConflictStrategy::default()),
        (0, 1, SyncMode::Mirror, ConflictStrategy::default()),
    ];
    let mut net = Net::new(3, &links);
    edit(&mut net, 0, &["kept=1"]);
    edit(&mut net, 1, &["d/e/gone=2", "gone=3"]);
    net.settle().expect("it comes to rest");
    for tree in 1..3 {
        assert_eq!(net.shown(tree), net.shown(0), "{tree}");
    }
}
