//! Bulk deletes: what was seen to be gone only once is not deleted.

use tidegate::core::io::Input;
use tidegate_protocol::file_sync::Verification;
use tidegate_protocol::id::LocationId;

use crate::harness::{A, B, World, path};

/// A verified mirror of so many files.
fn verified(files: usize) -> (World, LocationId, LocationId) {
    let (mut world, source, target) = World::mirror();
    for at in 0..files {
        world.write(A, source, &format!("d/f{at:02}"), &format!("content {at}"));
    }
    world.sync_through();
    assert_eq!(world.files(B, target).len(), files, "{}", world.tail());
    (world, source, target)
}

fn remove(world: &mut World, source: LocationId, count: usize) {
    for at in 0..count {
        world.remove(A, source, &format!("d/f{at:02}"));
    }
    world.run_for(1_000);
}

#[test]
fn many_deletes_wait_for_a_second_look_and_few_do_not() {
    for (count, waits) in [(20, false), (21, true)] {
        let (mut world, source, target) = verified(60);
        remove(&mut world, source, count);
        let began = world.now_ms;
        let generation = world.sync_through().unwrap();
        assert_eq!(world.files(B, target), world.files(A, source), "{count}");
        assert_eq!(World::statuses(&generation).last(), Some(&Verification::Verified), "{count}");
        let took_ms = world.now_ms - began;
        assert_eq!(took_ms >= 5_000, waits, "{count} deletes took {took_ms} ms");
    }
}

#[test]
fn what_is_back_at_the_second_look_is_not_deleted_even_if_no_watcher_told() {
    let (mut world, source, target) = verified(60);
    let before = world.files(A, source);
    remove(&mut world, source, 25);
    let call = world.call(A, World::sync(30_000));
    world.run_for(3_000);
    assert_eq!(world.newest(A).unwrap().number, 1, "not yet");
    for at in 0..25 {
        world.tree(A, source).write(&path(&format!("d/f{at:02}")), format!("content {at}").as_bytes());
    }
    assert!(world.run_until(60_000, |world| world.replies.contains_key(&call)));
    world.replies.remove(&call).unwrap().unwrap();
    world.closed();
    assert_eq!(world.files(B, target), before);
    assert!(world.tree(B, target).trash.is_empty());
    assert_eq!(world.count(B, "delete"), 0);
}

#[test]
fn a_second_call_is_told_that_the_first_waits_and_the_look_comes_although_the_source_never_rests() {
    let (mut world, source, target) = verified(60);
    remove(&mut world, source, 25);
    let call = world.call(A, World::sync(30_000));
    world.run_for(1_000);
    let fault = world.refused(A, World::sync(0));
    assert_eq!(fault.code, tidegate::core::command::FaultCode::AlreadyRunning);
    for at in 0..45 {
        world.write(A, source, "log", &format!("line {at}"));
        world.run_for(1_000);
    }
    assert!(world.replies.remove(&call).is_some_and(|reply| reply.is_ok()), "{}", world.tail());
    world.run_for(30_000);
    assert_eq!(world.files(B, target).len(), 36, "{}", world.tail());
}

#[test]
fn a_lost_look_is_repaired_by_the_scan_that_is_due_anyway() {
    let (mut world, source, target) = verified(60);
    remove(&mut world, source, 25);
    world.call(A, World::sync(30_000));
    world.run_for(2_000);
    world.crash(A);
    world.input(A, Input::Hints { location: source, paths: Vec::new(), overflow: true });
    world.run_for(5_000);
    world.sync_through();
    assert_eq!(world.files(B, target), world.files(A, source));
}
