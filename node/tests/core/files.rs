//! What users do to files while a run is on its way.

use tidegate_protocol::file_sync::Verification;

use crate::harness::{A, B, World};

#[test]
fn an_edit_on_the_target_during_a_run_is_not_lost() {
    let (mut world, source, target) = World::mirror();
    for at in ["a", "b", "c"] {
        world.write(A, source, at, "old");
    }
    world.sync_through();
    for at in ["a", "b", "c"] {
        world.write(A, source, at, "new");
    }
    world.nodes[B].hold_legs = true;
    world.tell(A, World::sync(30_000));
    assert!(world.run_until(10_000, |world| world.nodes[B].legs.len() == 1));
    world.write(B, target, "b", "edited here");
    world.release(B);
    world.closed();
    assert_eq!(world.files(B, target), world.files(A, source), "a mirror heals drift");
    let trash = &world.tree(B, target).trash;
    assert!(trash.iter().any(|(_, bytes)| bytes == b"edited here"), "what it took from its place is kept: {trash:?}");
}

#[test]
fn a_source_that_keeps_changing_is_caught_up_with() {
    let (mut world, source, target) = World::mirror();
    world.write(A, source, "a", "one");
    world.write(A, source, "b", "one");
    world.nodes[B].hold_legs = true;
    world.tell(A, World::sync(30_000));
    assert!(world.run_until(10_000, |world| world.nodes[B].legs.len() == 1));
    world.write(A, source, "a", "two");
    world.remove(A, source, "b");
    world.run_for(1_000);
    world.release(B);
    world.closed();
    assert_eq!(world.files(B, target), world.files(A, source), "{}", world.tail());
    assert_eq!(World::statuses(&world.newest(A).unwrap()).last(), Some(&Verification::Verified));
}
