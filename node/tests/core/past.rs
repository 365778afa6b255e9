//! Restored and cloned devices: whom they meet first, and what others keep of them meanwhile.

use tidegate::core::command::{Command, ConduitChange, FaultCode, Reply};
use tidegate::core::io::Input;
use tidegate_protocol::codec;
use tidegate_protocol::id::Epoch;
use tidegate_protocol::index::Rights;
use tidegate_protocol::library_sync::{Head, SignedHead};

use crate::harness::{A, B, C, LostInput, World, id, key};

#[test]
fn a_restored_device_is_no_fork_even_if_whom_it_meets_first_knows_nothing_of_its_lost_future() {
    for restarts in 0..3 {
        let mut world = World::new(3);
        world.pair(A, B);
        world.pair(A, C);
        world.run_for(40_000);
        let location = world.locate(A, "src");
        world.write(A, location, "a", "one");
        world.run_for(5_000);
        let backup = world.nodes[A].disk.copy();
        world.cut(A, B);
        world.cut(B, C);
        for at in 0..5 {
            world.write(A, location, &format!("lost{at}"), "x");
            world.run_for(1_000);
        }
        let lost = world.author(C, A).unwrap();
        world.halt(A);
        world.nodes[A].disk = backup;
        world.cut(A, C);
        world.heal(A, B);
        world.boot(A);
        for at in 0..4 {
            world.write(A, location, &format!("new{at}"), "y");
            world.run_for(2_000);
        }
        assert!(world.level(&[A, B]), "{}", world.tail());
        for _ in 0..restarts {
            world.crash(A);
            world.run_for(3_000);
        }
        world.write(A, location, "newest", "z");
        world.run_for(3_000);
        world.heal(A, C);
        world.heal(B, C);
        world.run_for(60_000);
        assert_ne!(world.author(A, A).unwrap().epoch, lost.epoch, "{restarts}: {}", world.tail());
        assert!(world.level(&[A, B, C]), "{restarts}: {}", world.tail());
        for at in [A, B, C] {
            let Reply::Device(view) = world.tell(at, Command::Device("A".to_owned())) else { panic!() };
            assert!(!view.quarantined && view.caught_up, "{restarts} at {at}");
        }
        assert_eq!(world.files(A, location).len(), 11, "nothing is deleted");
    }
}

/// A head as a second device under A's key would sign it.
fn clone_of_a(world: &World, epoch: u64) -> SignedHead {
    let head = world.author(A, A).unwrap().rests.unwrap().trusted().clone();
    let stamp = head.stamp.next(world.now().wall_ms + 10);
    SignedHead::sign(&Head { epoch: Epoch(epoch), stamp, wall_ms: world.now().wall_ms, ..head }, &key(A))
}

#[test]
fn two_clones_do_not_renew_epochs_for_ever_and_both_are_told() {
    let (mut world, source, _) = World::mirror();
    world.write(A, source, "a", "one");
    world.sync_through();
    let mut epochs = vec![world.author(A, A).unwrap().epoch];
    for round in 0..12 {
        let head = clone_of_a(&world, 1_000 + round % 2);
        world.input(A, Input::Announcement(codec::encode(&head)));
        world.input(B, Input::Announcement(codec::encode(&head)));
        world.run_for(2_000);
        epochs.push(world.author(A, A).unwrap().epoch);
    }
    epochs.dedup();
    assert_eq!(epochs.len(), 4, "three renewals, then it stops: {epochs:?}");
    for at in [A, B] {
        let Reply::Device(view) = world.tell(at, Command::Device("A".to_owned())) else { panic!() };
        assert!(view.quarantined, "at {at}");
    }
    let fault = world.refused(A, World::sync(1_000));
    World::is(&fault, FaultCode::NotCaughtUp, "quarantined");
    // The clone is gone; the device is started again.
    world.crash(A);
    world.run_for(60_000);
    for at in [A, B] {
        let Reply::Device(view) = world.tell(at, Command::Device("A".to_owned())) else { panic!() };
        assert!(!view.quarantined, "at {at}: {}", world.tail());
    }
    world.write(A, source, "b", "two");
    assert!(world.sync_through().is_some());
}

#[test]
fn what_was_known_of_a_device_stays_until_its_new_epoch_is_whole() {
    let mut world = World::new(3);
    world.pair(A, B);
    world.pair(A, C);
    world.run_for(40_000);
    let (source, _) = world.link(A, B);
    world.conduit("docs", "A:src", "B:dst", ConduitChange::default());
    world.write(A, source, "a", "one");
    world.sync_through();
    world.run_for(3_000);
    let rows = world.author(B, A).unwrap().row_count;
    world.nodes[B].lost = Some(LostInput::Rows);
    let head = clone_of_a(&world, 7);
    world.input(A, Input::Announcement(codec::encode(&head)));
    world.run_for(5_000);
    let (own, held) = (world.author(A, A).unwrap(), world.author(B, A).unwrap());
    assert_ne!(own.epoch, held.epoch, "B cannot have the new rows");
    assert_eq!((held.row_count, held.rests.is_some()), (rows, true));
    let Reply::Conduit(view) = world.tell(B, Command::Conduit("docs".to_owned())) else { panic!() };
    assert_eq!(view.source, "A:src", "A's facts hold");
    let Reply::Device(view) = world.tell(B, Command::Device("A".to_owned())) else { panic!() };
    assert!(!view.caught_up);
    // A conduit that rests on A says so.
    world.locate(B, "own");
    let all = Rights { read: true, write: true, delete: true };
    world.allow(B, "own", A, all);
    world.allow(A, "src", B, all);
    let new = tidegate::core::command::NewConduit {
        name: crate::harness::label("back"),
        source: "B:own".to_owned(),
        target: "A:src/d".to_owned(),
        mode: tidegate_protocol::file_sync::SyncMode::Mirror,
        change: ConduitChange::default(),
    };
    drop(world.ask(B, Command::CreateConduit(new)));
    world.crash(B);
    world.nodes[B].lost = None;
    world.run_for(10_000);
    assert!(world.level(&[A, B]), "{}", world.tail());
    assert_eq!(world.author(B, A).unwrap().epoch, world.author(A, A).unwrap().epoch);
    world.sync_through();
    assert_eq!(world.author(C, A).unwrap().reference(id(A)), world.author(A, A).unwrap().reference(id(A)));
}
