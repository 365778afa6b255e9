//! A plan comes again, byte for byte, out of what is kept of the index that it was decided from; and that is little.

use super::super::*;
use super::net::Net;
use super::tree::{Tree, baseline, conduit, path, synced, view};
use crate::file_sync::{ConflictStrategy, Guards};

fn facts() -> [EndFacts; 2] {
    [EndFacts::default(), EndFacts::default()]
}

/// How many rows of both ends and the base are kept, and whether they give the plan.
fn check(name: &str, source: &[&str], target: &[&str], expected: (u64, u64, u64)) {
    let (source, target) = (Tree::with(Side::Source, source), Tree::with(Side::Target, target));
    let (conduit, base) = (conduit(), baseline(&source, &target));
    let view = view(&conduit, &source, &target, Some(&base), Guards::default());
    let plan = SyncResolver::resolve(synced(&conduit, &source, &target), &view).unwrap();
    let decided = Decided::of(&view, facts(), &plan).unwrap().expect(name);
    assert_eq!(decided.replay(&plan), Ok(Replay::Identical), "{name}");
    assert_eq!(decided.rows(), expected, "{name}");
}

#[test]
fn only_what_the_plan_hangs_on_is_kept() {
    check("in step", &["a=1", "d/b=2"], &["a=1", "d/b=2"], (0, 0, 0));
    check("one new file among others", &["a=1", "d/b=2", "d/c=3"], &["a=1", "d/b=2"], (2, 1, 0));
    check("a directory that goes", &["a=1"], &["a=1", "d/b=2", "d/e/c=3"], (0, 4, 0));
    check("a directory that must stay", &["a=1"], &["a=1", "d/+", "d/c=3"], (0, 2, 0));
    check("a move", &["e/a=1", "z=1"], &["d/a=1", "z=1"], (2, 2, 0));
    check("unknown", &["a?", "b=1"], &["a=1", "b=1"], (1, 1, 0));
}

#[test]
fn another_plan_is_told_from_it_by_its_first_difference() {
    let (source, target) = (Tree::with(Side::Source, &["a=1", "b=2"]), Tree::new(Side::Target));
    let conduit = conduit();
    let view = view(&conduit, &source, &target, None, Guards::OFF);
    let plan = SyncResolver::resolve(synced(&conduit, &source, &target), &view).unwrap();
    let decided = Decided::of(&view, facts(), &plan).unwrap().unwrap();
    let mut other = plan.clone();
    other.operations.source_to_target.copies.pop();
    let Ok(Replay::Differs(difference)) = decided.replay(&other) else { panic!("another plan was not noticed") };
    assert_eq!((difference.part.as_str(), difference.stored.as_str()), ("copies on the target, 2", "nothing"));
    assert!(difference.again.contains('b'), "{difference:?}");
    let mut other = plan;
    other.totals.copies += 1;
    assert!(matches!(decided.replay(&other), Ok(Replay::Differs(difference)) if difference.part == "totals, 1"));
}

#[test]
fn names_that_were_taken_are_kept_with_a_conflict() {
    let links = [(0, 1, SyncMode::Bidirectional, ConflictStrategy::CreateConflictFile)];
    let mut net = Net::new(2, &links);
    for round in 0..3 {
        net.write(0, &path("in step"));
        net.write(0, &path("a.txt"));
        net.write(1, &path("a.txt"));
        let plan = net.plan(0);
        assert_eq!(plan.conflicts().len(), 1, "round {round}");
        let decided = Decided::of(&net.view(0), facts(), &plan).unwrap().unwrap();
        assert_eq!(decided.replay(&plan), Ok(Replay::Identical));
        assert_eq!(decided.rows().0, 2 + round, "the names that were taken before");
        net.settle();
    }
}
