//! Ends that never rest: the rest of them is synced all the same.

use tidegate::core::io::Input;
use tidegate_protocol::file_sync::Verification;
use tidegate_protocol::id::LocationId;

use crate::harness::{A, B, World, path};

/// So many seconds in which two files of an end are written so often, and out of step, that one of them always waits.
fn stir(world: &mut World, end: usize, location: LocationId, seconds: u64) {
    for at in 0..seconds * 25 {
        let mut paths = vec![path("log")];
        if at > 12 {
            paths.push(path("log2"));
        }
        world.input(end, Input::Hints { location, paths, overflow: false });
        world.run_for(40);
    }
}

/// A mirror of some files, one of which is in constant use at one end.
fn busy(end: usize) -> (World, LocationId, LocationId) {
    let (mut world, source, target) = World::mirror();
    for at in ["a", "b", "log", "d/e"] {
        world.write(A, source, at, at);
    }
    world.sync_through();
    let location = if end == A { source } else { target };
    stir(&mut world, end, location, 40);
    (world, source, target)
}

/// Runs `docs` while a path is in use.
fn run(world: &mut World, end: usize, location: LocationId) {
    let call = world.call(A, World::sync(30_000));
    stir(world, end, location, 30);
    assert!(world.replies.remove(&call).is_some_and(|reply| reply.is_ok()), "{}", world.tail());
}

#[test]
fn what_rests_is_synced_although_one_file_of_an_end_never_does() {
    for end in [A, B] {
        let (mut world, source, target) = busy(end);
        let location = if end == A { source } else { target };
        world.write(A, source, "new", "content");
        world.remove(A, source, "b");
        run(&mut world, end, location);
        let files = world.files(B, target);
        assert!(files.contains_key("new") && !files.contains_key("b"), "end {end}: {files:?} {}", world.tail());
        let generation = world.newest(A).unwrap();
        let last = World::statuses(&generation).pop();
        assert!(matches!(last, Some(Verification::Failed { .. })), "not proven while in use: {last:?}");
        world.run_for(20_000);
        world.sync_through();
        assert_eq!(world.files(B, target), world.files(A, source));
    }
}

#[test]
fn an_own_disk_that_took_long_to_come_to_rest_is_asked_once_more() {
    let (mut world, source, target) = World::mirror();
    world.write(A, source, "log", "1");
    world.sync_through();
    world.write(A, source, "log", "2");
    let call = world.call(A, World::sync(30_000));
    stir(&mut world, A, source, 12);
    let touched = world.tree(A, source).write(&path("unheard"), b"3");
    world.tree(A, source).late = touched;
    assert!(world.run_until(30_000, |world| world.replies.contains_key(&call)));
    world.closed();
    let generation = world.newest(A).unwrap();
    assert_eq!((generation.number, generation.follows), (2, None), "it was planned from all that was there");
    assert_eq!(World::statuses(&generation).pop(), Some(Verification::Verified));
    assert_eq!(world.files(B, target).len(), 2);
}

#[test]
fn a_path_in_use_is_neither_deleted_nor_is_what_may_have_moved_there() {
    let (mut world, source, target) = busy(A);
    // Seen as gone while something writes there; its content may be on its way.
    world.tree(A, source).remove(&path("log"));
    stir(&mut world, A, source, 2);
    world.write(A, source, "new", "content");
    run(&mut world, A, source);
    assert!(world.files(B, target).contains_key("log"), "{}", world.tail());
    assert!(world.files(B, target).contains_key("new"));
    world.run_for(20_000);
    world.sync_through();
    assert_eq!(world.files(B, target), world.files(A, source));
}
