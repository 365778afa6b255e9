//! The plan of a generation is made again from what was kept of it, whatever the index has become since.

use tidegate::core::command::{Command, ConduitChange, FaultCode, NewConduit, Reply};
use tidegate::core::past::ReplayView;
use tidegate_protocol::file_sync::{Replay, SyncMode};

use crate::harness::{A, B, World, label, path};

fn replay(number: Option<u64>) -> Command {
    Command::Replay { conduit: "docs".to_owned(), number }
}

fn told(world: &mut World, number: Option<u64>) -> ReplayView {
    match world.tell(A, replay(number)) {
        Reply::Replay(view) => *view,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_generation_comes_out_identical_however_the_index_went_on() {
    let (mut world, source, target) = World::mirror();
    for round in 0..4 {
        world.write(A, source, "edited", &format!("content {round}"));
        world.write(A, source, &format!("d{round}/new"), "new");
        if round > 0 {
            world.remove(A, source, &format!("d{}", round - 1));
            world.write(B, target, "drift", "by hand");
        }
        world.sync_through();
    }
    for number in 1..=4 {
        let view = told(&mut world, Some(number));
        assert_eq!((view.generation, &view.found), (number, &Replay::Identical));
    }
    assert_eq!(told(&mut world, None).generation, 4);
}

#[test]
fn a_conflict_of_both_ends_comes_out_identical_and_says_from_how_many_rows() {
    let mut world = World::new(2);
    world.pair(A, B);
    let (source, target) = world.link(A, B);
    let (name, change) = (label("docs"), ConduitChange::default());
    let ends = ("A:src".to_owned(), "B:dst".to_owned());
    let new = NewConduit { name, source: ends.0, target: ends.1, mode: SyncMode::Bidirectional, change };
    world.tell(A, Command::CreateConduit(new));
    world.run_for(1_000);
    for n in 0..10 {
        world.write(A, source, &format!("in step {n}"), "x");
    }
    world.sync_through();
    world.write(A, source, "both", "here");
    world.write(B, target, "both", "there");
    world.sync_through();
    let number = world.newest(A).unwrap().number;
    for number in 1..=number {
        assert_eq!(told(&mut world, Some(number)).found, Replay::Identical, "generation {number}");
    }
    assert_eq!(told(&mut world, Some(2)).rows, (1, 1, 0), "what is in step is not kept");
}

#[test]
fn a_run_that_took_another_back_comes_out_identical_by_the_law_that_made_it() {
    let (mut world, source, target) = World::mirror();
    for (at, content) in [("edited", "first"), ("d/gone", "gone"), ("kept", "kept")] {
        world.write(A, source, at, content);
    }
    world.sync_through();
    world.write(A, source, "edited", "second");
    world.remove(A, source, "d");
    world.write(A, source, "new/added", "new");
    world.sync_through();
    world.write(B, target, "new/later", "by hand");
    world.run_for(5_000);
    let undo =
        |number| Command::Undo { conduit: "docs".to_owned(), number, dry_run: false, approve: None, wait_ms: 30_000 };
    world.tell(A, undo(2));
    world.closed();
    world.tell(A, undo(3));
    world.closed();
    world.write(B, target, "edited", "again by hand");
    world.remove(B, target, "d");
    world.run_for(5_000);
    for number in 1..=4 {
        let view = told(&mut world, Some(number));
        assert_eq!((view.generation, &view.found), (number, &Replay::Identical));
    }
    assert_eq!(told(&mut world, Some(3)).rows.0, 0, "nothing was done to the source, so nothing of it decided");
}

#[test]
fn a_run_that_healed_rot_comes_out_identical_by_the_law_that_made_it() {
    let (mut world, source, target) = World::mirror();
    for name in ["a", "b", "c"] {
        world.write(A, source, name, &format!("content {name}"));
    }
    world.sync_through();
    world.tree(B, target).rot(&path("a"), "contort a");
    world.tree(A, source).rot(&path("b"), "contort b");
    world.tree(A, source).rot(&path("c"), "contort c");
    world.tree(B, target).rot(&path("c"), "distort c");
    world.tell(A, Command::Verify { conduit: "docs".to_owned(), number: None, heal: true });
    world.run_for(20_000);
    world.write(A, source, "a", "edited since");
    world.sync_through();
    let view = told(&mut world, Some(2));
    assert_eq!((view.found, view.rows), (Replay::Identical, (4, 4, 0)), "four findings, with the rows of both ends");
}

#[test]
fn what_cannot_be_replayed_says_why() {
    let (mut world, source, _) = World::mirror();
    world.write(A, source, "a", "a");
    world.sync_through();
    assert_eq!(world.refused(A, replay(Some(9))).code, FaultCode::NoSuchName);
    assert_eq!(world.refused(B, replay(Some(1))).code, FaultCode::Refused);
    for round in 0..100 {
        world.write(A, source, "a", &format!("content {round}"));
        world.sync_through();
    }
    let fault = world.refused(A, replay(Some(1)));
    assert_eq!(fault.code, FaultCode::NoSuchName);
    assert!(fault.why.contains("the last 100 runs"), "{fault:?}");
    assert_eq!(told(&mut world, Some(2)).found, Replay::Identical);
}
