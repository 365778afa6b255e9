//! What happens is told where it becomes true: one kind after the other.

use tidegate::core::command::{Choice, Command, ConduitChange, NewConduit, Reply};
use tidegate::core::io::{Input, JobStop};
use tidegate_protocol::file_sync::{BandwidthLimit, ConflictStrategy, Decision, SyncMode};
use tidegate_protocol::id::LocationId;
use tidegate_protocol::library_sync::RootState;

use crate::harness::{A, B, C, World, label};

/// Two devices with a two-way conduit that asks about conflicts, in step.
fn two() -> (World, LocationId, LocationId) {
    let mut world = World::new(3);
    world.pair(A, B);
    let (source, target) = world.link(A, B);
    let change = ConduitChange { strategy: Some(ConflictStrategy::PromptUser), ..ConduitChange::default() };
    let (name, mode) = (label("docs"), SyncMode::Bidirectional);
    let new = NewConduit { name, source: "A:src".to_owned(), target: "B:dst".to_owned(), mode, change };
    world.tell(A, Command::CreateConduit(new));
    world.write(A, source, "a", "first");
    world.sync_through();
    world.happened.clear();
    (world, source, target)
}

/// Does something, and expects that a device tells of it.
fn check(kind: &str, teller: usize, act: impl FnOnce(&mut World, LocationId, LocationId)) {
    let (mut world, source, target) = two();
    act(&mut world, source, target);
    let told: Vec<&str> =
        world.happened.iter().filter(|(at, _)| *at == teller).map(|(_, event)| event.kind()).collect();
    assert!(told.contains(&kind), "{kind} is not among {told:?}");
}

/// Both ends edit one path, and a run finds out.
fn conflict(world: &mut World, source: LocationId, target: LocationId) {
    world.write(A, source, "a", "A's");
    world.write(B, target, "a", "B's");
    world.sync_through();
}

fn plan(world: &mut World) -> String {
    match world.tell(A, Command::Plan { conduit: "docs".to_owned(), wait_ms: 30_000 }) {
        Reply::Plan(view) => view.plan.id.short(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_kind_of_news_is_told_by_whoever_learns_it() {
    check("library.head", B, |world, source, _| {
        world.write(A, source, "b", "new");
        world.run_for(5_000);
    });
    check("library.caught_up", B, |world, source, _| {
        world.write(A, source, "b", "new");
        world.run_for(5_000);
    });
    for teller in [A, B] {
        check("config.changed", teller, |world, _, _| {
            let change =
                ConduitChange { bandwidth_limit: Some(BandwidthLimit::constant(5_000)), ..ConduitChange::default() };
            world.tell(A, Command::SetConduit { conduit: "docs".to_owned(), change });
            world.run_for(5_000);
        });
        check("device.revoked", teller, |world, _, _| {
            world.pair(A, C);
            world.run_for(5_000);
            world.tell(A, Command::RevokeDevice("C".to_owned()));
            world.run_for(5_000);
        });
        check("conflict.resolved", teller, |world, source, target| {
            conflict(world, source, target);
            let choice = Choice::Keep(Decision::Source);
            world.tell(A, Command::ResolveConflict { conflict: "docs:1".to_owned(), choice });
            world.sync_through();
            world.run_for(5_000);
        });
    }
    check("device.pending", B, |world, _, _| {
        world.pair(A, C);
        world.run_for(5_000);
    });
    check("plan.ready", A, |world, source, _| {
        world.write(A, source, "b", "new");
        plan(world);
    });
    check("plan.stale", A, |world, source, _| {
        world.write(A, source, "b", "new");
        let plan = plan(world);
        world.remove(A, source, "a");
        world.refused(A, Command::Sync { conduit: "docs".to_owned(), plan: Some(plan), wait_ms: 30_000 });
    });
    check("location.watcher_lost", B, |world, _, target| {
        world.input(B, Input::Hints { location: target, paths: Vec::new(), overflow: true });
        world.run_for(1_000);
    });
    check("location.watcher_lost", B, |world, _, target| {
        world.input(B, Input::Root { location: target, state: RootState::Present, watched: false });
        world.run_for(1_000);
    });
}

#[test]
fn a_full_disk_is_told_by_the_device_that_has_it_and_its_items_by_both() {
    for (kind, teller) in [("storage.low", B), ("item.failed", A), ("item.failed", B)] {
        check(kind, teller, |world, source, _| {
            world.write(A, source, "b", "new");
            world.nodes[B].hold_legs = true;
            world.tell(A, World::sync(30_000));
            world.run_for(1_000);
            let job = *world.nodes[B].legs.keys().next().expect("a leg is held");
            world.nodes[B].legs.clear();
            world.input(B, Input::JobEnded { job, stopped: Some(JobStop::NoSpace) });
            world.closed();
        });
    }
}

#[test]
fn items_are_told_by_both_sides_of_a_job_with_what_became_of_them() {
    for teller in [A, B] {
        check("item.done", teller, |world, source, _| {
            world.write(A, source, "b", "new");
            world.sync_through();
        });
        check("item.skipped", teller, |world, source, target| {
            world.write(A, source, "b", "new");
            world.nodes[B].hold_legs = true;
            world.tell(A, World::sync(30_000));
            world.run_for(1_000);
            world.write(B, target, "b", "in the way");
            world.nodes[B].hold_legs = false;
            world.release(B);
            world.closed();
        });
    }
}
