//! Undoing a generation: what comes back, what stays, and what the conduit does afterwards.

use tidegate::core::command::{Command, ConduitChange, FaultCode, Reply};
use tidegate::core::past::UndoView;
use tidegate_protocol::file_sync::{Generation, Verification};
use tidegate_protocol::id::LocationId;
use tidegate_protocol::index::VersionOrder;

use crate::harness::{A, B, World, file, path};

/// A mirror whose second run replaced, removed, added and renamed.
fn two_runs() -> (World, LocationId, LocationId) {
    let (mut world, source, target) = World::mirror();
    for (at, content) in
        [("edited", "first"), ("d/gone", "removed"), ("moved", "moving"), ("kept", "kept"), ("more", "more")]
    {
        world.write(A, source, at, content);
    }
    world.sync_through();
    world.write(A, source, "edited", "second");
    world.remove(A, source, "d");
    world.remove(A, source, "moved");
    world.write(A, source, "renamed", "moving");
    world.write(A, source, "new/added", "new");
    world.sync_through();
    assert_eq!(world.files(B, target), world.files(A, source), "{}", world.tail());
    world.trace.clear();
    (world, source, target)
}

fn undo(number: u64, dry_run: bool) -> Command {
    Command::Undo { conduit: "docs".to_owned(), number, dry_run, approve: None, wait_ms: 30_000 }
}

fn told(world: &mut World, command: Command) -> UndoView {
    match world.tell(A, command) {
        Reply::Undo(view) => *view,
        other => panic!("{other:?}"),
    }
}

/// Undoes, and waits for the end.
fn undone(world: &mut World, number: u64) -> (UndoView, Generation) {
    let view = told(world, undo(number, false));
    assert!(view.generation.is_some(), "{view:?}");
    world.closed();
    let generation = world.newest(A).unwrap();
    assert_eq!(Some(generation.number), view.generation);
    (view, generation)
}

fn verification(generation: &Generation) -> Verification {
    *World::statuses(generation).last().unwrap()
}

#[test]
fn a_generation_is_undone_as_a_new_one_from_the_trash() {
    let (mut world, _, target) = two_runs();
    let foreseen = told(&mut world, undo(2, true));
    assert_eq!((foreseen.generation, foreseen.next), (None, 3));
    let mut items: Vec<String> = foreseen.items.iter().map(|item| format!("{} {}", item.op, item.path)).collect();
    items.sort();
    assert_eq!(items, ["install d/gone", "install edited", "mkdir d", "rename moved", "rmdir new", "trash new/added"]);
    assert_eq!(world.newest(A).unwrap().number, 2, "a dry run opens nothing");
    let (view, generation) = undone(&mut world, 2);
    assert!(view.kept.is_empty() && view.pauses);
    assert_eq!((generation.number, verification(&generation)), (3, Verification::Verified), "{}", world.tail());
    let before = [
        file("d/gone", "removed"),
        file("edited", "first"),
        file("kept", "kept"),
        file("more", "more"),
        file("moved", "moving"),
    ];
    assert_eq!(world.files(B, target), before.into());
    assert_eq!(world.count(B, "fetch"), 0, "what comes back was here");
}

#[test]
fn an_edit_made_since_stays_and_is_named() {
    let (mut world, _, target) = two_runs();
    world.write(B, target, "edited", "by hand");
    world.write(B, target, "new/later", "by hand, too");
    world.run_for(5_000);
    let (view, generation) = undone(&mut world, 2);
    let kept: Vec<String> = view.kept.iter().map(|kept| format!("{}: {}", kept.path, kept.why)).collect();
    assert_eq!(kept, ["edited: edited since; kept", "new: holds what came later; kept"]);
    assert_eq!(verification(&generation), Verification::Verified);
    let files = world.files(B, target);
    assert_eq!((files["edited"].as_str(), files["new/later"].as_str()), ("by hand", "by hand, too"));
    assert_eq!((files.get("new/added"), files["d/gone"].as_str()), (None, "removed"));
}

#[test]
fn what_is_gone_from_the_trash_is_named_and_the_rest_comes_back() {
    let (mut world, _, target) = two_runs();
    let tree = world.tree(B, target);
    let at = tree.trash.iter().position(|(at, _)| *at == path("edited")).unwrap();
    tree.trash.remove(at);
    tree.bins.remove(at);
    let (_, generation) = undone(&mut world, 2);
    assert_eq!((generation.totals.skipped, verification(&generation)), (1, Verification::Failed { remaining: 1 }));
    let files = world.files(B, target);
    assert_eq!((files["edited"].as_str(), files["d/gone"].as_str()), ("second", "removed"));
}

#[test]
fn a_mirror_is_paused_by_it_and_does_it_again_when_resumed() {
    let (mut world, source, target) = two_runs();
    undone(&mut world, 2);
    assert!(world.conduit_named(A, "docs").unwrap().settings.paused.value);
    assert_eq!(world.refused(A, World::sync(0)).code, FaultCode::ConduitDisabled);
    let change = ConduitChange { paused: Some(false), ..ConduitChange::default() };
    world.tell(A, Command::SetConduit { conduit: "docs".to_owned(), change });
    world.sync_through();
    assert_eq!(world.files(B, target), world.files(A, source));
}

#[test]
fn an_undo_can_be_undone() {
    let (mut world, source, target) = two_runs();
    undone(&mut world, 2);
    let (view, generation) = undone(&mut world, 3);
    assert_eq!((view.undoes, verification(&generation)), (3, Verification::Verified));
    assert_eq!(world.files(B, target), world.files(A, source));
    let nothing = told(&mut world, undo(3, false));
    assert_eq!((nothing.generation, nothing.items_total), (None, 0), "it is taken back already");
}

#[test]
fn what_comes_back_is_a_new_event_that_covers_both_ends() {
    let (mut world, source, target) = two_runs();
    undone(&mut world, 2);
    world.run_for(5_000);
    let row = |world: &World, node: usize, location| {
        let snapshot = world.store(A).read().unwrap();
        let tree = snapshot.tree(crate::harness::id(node), location).unwrap();
        snapshot.entry(tree, &path("edited")).unwrap().unwrap().state
    };
    let (there, here) = (row(&world, A, source), row(&world, B, target));
    assert_eq!(here.version().compare(there.version()), VersionOrder::After, "{here:?} {there:?}");
}

#[test]
fn a_crash_in_the_middle_of_an_undo_is_taken_up() {
    for crashed in [A, B] {
        let (mut world, _, target) = two_runs();
        world.nodes[B].hold_legs = true;
        told(&mut world, undo(2, false));
        world.run_for(1_000);
        world.crash(crashed);
        world.nodes[B].hold_legs = false;
        world.release(B);
        world.run_for(10_000);
        world.closed();
        assert_eq!(verification(&world.newest(A).unwrap()), Verification::Verified);
        assert_eq!(world.files(B, target)["edited"], "first");
    }
}

#[test]
fn an_undo_that_deletes_very_much_waits_for_approval() {
    let (mut world, source, target) = World::mirror();
    for number in 0..20 {
        world.write(A, source, &format!("f{number}"), &format!("content {number}"));
    }
    world.sync_through();
    let fault = world.refused(A, undo(1, false));
    assert_eq!(fault.code, FaultCode::SafetyStop);
    assert_eq!(world.files(B, target).len(), 20);
    let plan = told(&mut world, undo(1, true)).plan;
    let approve = Some(plan);
    world.tell(A, Command::Undo { conduit: "docs".to_owned(), number: 1, dry_run: false, approve, wait_ms: 30_000 });
    world.closed();
    assert!(world.files(B, target).is_empty());
}

#[test]
fn what_cannot_be_undone_says_why() {
    let (mut world, ..) = two_runs();
    assert_eq!(world.refused(A, undo(9, false)).code, FaultCode::NoSuchName);
    assert_eq!(world.refused(B, undo(2, false)).code, FaultCode::Refused);
    world.cut(A, B);
    let command = Command::Undo { conduit: "docs".to_owned(), number: 2, dry_run: true, approve: None, wait_ms: 0 };
    assert_eq!(world.refused(A, command).code, FaultCode::Unreachable);
}
