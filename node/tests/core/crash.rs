//! Power cuts: after any step, on either end, a run still ends verified and nothing is lost.

use tidegate_protocol::file_sync::{SyncMode, Verification};
use tidegate_protocol::id::LocationId;

use crate::harness::{A, B, World, id};

/// A mirror with something to copy, to replace, to move and to delete.
fn prepared() -> (World, LocationId, LocationId) {
    let (mut world, source, target) = World::mirror();
    for (at, content) in [("a", "one"), ("b", "two"), ("c", "three"), ("d/e", "four"), ("f", "five"), ("g", "six")] {
        world.write(A, source, at, content);
    }
    world.sync_through();
    world.write(A, source, "a", "one again");
    world.write(A, source, "new/one", "seven");
    world.write(A, source, "new/two", "three");
    world.remove(A, source, "c");
    world.remove(A, source, "d");
    world.run_for(3_000);
    (world, source, target)
}

#[test]
fn a_run_survives_a_power_cut_after_any_step_of_either_end() {
    for end in [A, B] {
        let steps = {
            let (mut world, _, _) = prepared();
            let before = world.nodes[end].steps;
            world.sync_through().unwrap();
            world.nodes[end].steps - before
        };
        assert!(steps > 10);
        for cut in 1..=steps {
            let (mut world, source, target) = prepared();
            world.nodes[end].crash_at = Some(world.nodes[end].steps + cut);
            let call = world.call(A, World::sync(30_000));
            world.run_for(60_000);
            if world.newest(A).is_none_or(|generation| generation.number < 2) {
                // The call itself was lost.
                assert!(end == A || world.replies.contains_key(&call));
                world.sync_through();
            }
            world.closed();
            let newest = world.newest(A).unwrap();
            let last = World::statuses(&newest).pop();
            assert_eq!(last, Some(Verification::Verified), "end {end} cut {cut}: {}", world.tail());
            assert_eq!(world.files(B, target), world.files(A, source), "end {end} cut {cut}");
            let mut kept: Vec<String> = world.files(B, target).into_values().collect();
            let trash = &world.tree(B, target).trash;
            kept.extend(trash.iter().map(|(_, bytes)| String::from_utf8(bytes.clone()).unwrap()));
            for content in ["one", "three", "four"] {
                assert!(kept.iter().any(|have| have == content), "end {end} cut {cut}: {content} is lost");
            }
            world.run_for(40_000);
            assert!(world.level(&[A, B]), "end {end} cut {cut}: {}", world.tail());
        }
    }
}

#[test]
fn what_a_run_installed_before_a_power_cut_is_not_taken_for_an_edit_made_there() {
    for (mode, end) in [(SyncMode::Mirror, B), (SyncMode::Bidirectional, A), (SyncMode::Bidirectional, B)] {
        // Nothing was ever verified: no baseline says what both ends held.
        let prepared = || {
            let (world, source, target) = World::linked(mode);
            let (from, location) = if end == B { (A, source) } else { (B, target) };
            (world, from, location)
        };
        let write = |world: &mut World, from, location, what: &str| {
            for at in 0..6 {
                world.write(from, location, &format!("d/f{at}"), &format!("{what} {at}"));
            }
        };
        let steps = {
            let (mut world, from, location) = prepared();
            write(&mut world, from, location, "content");
            world.run_for(3_000);
            let before = world.nodes[end].steps;
            world.sync_through().unwrap();
            world.nodes[end].steps - before
        };
        for cut in 1..=steps {
            let (mut world, from, location) = prepared();
            write(&mut world, from, location, "content");
            world.run_for(3_000);
            world.nodes[end].crash_at = Some(world.nodes[end].steps + cut);
            world.call(A, World::sync(30_000));
            world.run_until(60_000, |world| world.nodes[end].crash_at.is_none());
            write(&mut world, from, location, "later");
            world.run_for(60_000);
            world.sync_through();
            world.closed();
            let newest = world.newest(A).unwrap();
            let told = format!("{mode:?}, end {end}, cut {cut}: {}", world.tail());
            assert_eq!(World::statuses(&newest).pop(), Some(Verification::Verified), "{told}");
            assert_eq!(newest.totals.conflicts, 0, "{told}");
            let [here, there] = [A, B].map(|index| {
                let location = *world.nodes[index].trees.keys().next().unwrap();
                world.files(index, location)
            });
            assert_eq!(here, there, "{told}");
            assert_eq!(here.len(), 6, "nothing was kept apart: {told}");
            assert!(here.values().all(|content| content.starts_with("later")), "{told}");
        }
    }
}

#[test]
fn a_cut_in_the_middle_of_a_job_is_mended() {
    let (mut world, source, target) = World::mirror();
    for at in 0..10 {
        world.write(A, source, &format!("f{at}"), &format!("content {at}"));
    }
    world.nodes[B].hold_legs = true;
    world.tell(A, World::sync(30_000));
    assert!(world.run_until(10_000, |world| world.nodes[B].legs.len() == 1));
    world.cut(A, B);
    world.release(B);
    world.run_for(10_000);
    assert!(world.files(B, target).len() < 10);
    world.crash(A);
    world.run_for(10_000);
    world.heal(A, B);
    world.closed();
    assert_eq!(world.files(B, target), world.files(A, source));
    assert_eq!(World::statuses(&world.newest(A).unwrap()).last(), Some(&Verification::Verified));
}

#[test]
fn a_restored_replica_begins_a_new_epoch_and_deletes_nothing() {
    for (end, offline) in [(A, false), (A, true), (B, false), (B, true)] {
        let (mut world, source, target) = World::mirror();
        world.write(A, source, "a", "one");
        world.sync_through();
        world.run_for(5_000);
        let backup = world.nodes[end].disk.copy();
        for at in 0..5 {
            world.write(A, source, &format!("later{at}"), "x");
        }
        world.sync_through();
        world.run_for(5_000);
        let before = world.author(1 - end, end).unwrap();
        world.halt(end);
        world.nodes[end].disk = backup;
        if offline {
            world.cut(A, B);
        }
        world.boot(end);
        world.run_for(10_000);
        if offline {
            world.heal(A, B);
        }
        world.run_for(60_000);
        let after = world.author(1 - end, end).unwrap();
        let own = world.author(end, end).unwrap();
        assert_ne!(own.epoch, before.epoch, "end {end} offline {offline}: {}", world.tail());
        assert_eq!(after.reference(id(end)), own.reference(id(end)), "end {end} offline {offline}: {}", world.tail());
        assert!(after.fork.is_none(), "end {end} offline {offline}");
        assert!(world.level(&[A, B]), "end {end} offline {offline}: {}", world.tail());
        world.sync_through();
        assert_eq!(world.files(B, target), world.files(A, source));
        assert_eq!(world.files(A, source).len(), 6, "end {end} offline {offline}");
        assert!(world.tree(B, target).trash.is_empty());
    }
}
