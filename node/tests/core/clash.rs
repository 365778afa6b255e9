//! Conduits that two devices created before they heard of one another, and that the rules refuse together: the later one waits
//! for a person, on every device alike. And what a removed mirror leaves to a two-way conduit over its target.

use tidegate::core::command::{Command, ConduitChange, ConduitView, FaultCode, NewConduit, Reply};
use tidegate_protocol::file_sync::{Schedule, SyncMode, Verification};
use tidegate_protocol::id::LocationId;
use tidegate_protocol::index::Rights;

use crate::harness::{A, B, C, World, file, label};

const ALL: Rights = Rights { read: true, write: true, delete: true };

/// Three devices of one library: A has `src`, B `dst`, C `far`; A and B may work with one another, and so may B and C.
fn three() -> (World, [LocationId; 3]) {
    let mut world = World::new(3);
    world.pair(A, B);
    world.pair(B, C);
    let (source, target) = world.link(A, B);
    let far = world.locate(C, "far");
    world.allow(C, "far", B, ALL);
    world.allow(B, "dst", C, ALL);
    assert!(world.run_until(60_000, |world| world.level(&[A, B, C])));
    (world, [source, target, far])
}

fn create(world: &mut World, on: usize, name: &str, ends: (&str, &str), mode: SyncMode, schedule: Schedule) {
    let (source, target) = (ends.0.to_owned(), ends.1.to_owned());
    let change = ConduitChange { schedule: Some(schedule), ..ConduitChange::default() };
    world.tell(on, Command::CreateConduit(NewConduit { name: label(name), source, target, mode, change }));
    world.run_for(1_000);
}

/// C is alone, and links B's location with its own; then A mirrors into it. Nobody has heard of both.
fn two_creations(mirror: &str, schedule: Schedule) -> (World, [LocationId; 3]) {
    let (mut world, locations) = three();
    world.cut(A, C);
    world.cut(B, C);
    create(&mut world, C, "far", ("C:far", "B:dst"), SyncMode::Bidirectional, Schedule::Manual);
    create(&mut world, A, mirror, ("A:src", "B:dst"), SyncMode::Mirror, schedule);
    (world, locations)
}

fn heal(world: &mut World) {
    world.heal(A, C);
    world.heal(B, C);
    assert!(world.run_until(60_000, |world| world.level(&[A, B, C])), "{}", world.tail());
}

fn sync(conduit: &str) -> Command {
    Command::Sync { conduit: conduit.to_owned(), plan: None, wait_ms: 30_000 }
}

fn shown(world: &mut World, on: usize, conduit: &str) -> ConduitView {
    let Reply::Conduit(view) = world.tell(on, Command::Conduit(conduit.to_owned())) else { panic!("another answer") };
    *view
}

/// Runs a conduit and waits for its end.
fn run(world: &mut World, on: usize, conduit: &str) -> Verification {
    let Reply::Started(started) = world.tell(on, sync(conduit)) else { panic!("another answer") };
    assert!(started.generation.is_some(), "there is something to do");
    world.settled(on, conduit);
    *World::statuses(&world.newest_of(on, conduit).unwrap()).last().unwrap()
}

#[test]
fn the_later_of_two_that_clash_refuses_everywhere_alike_and_runs_when_the_older_is_removed() {
    let (mut world, [source, target, far]) = two_creations("docs", Schedule::Instant { settle_ms: 200 });
    world.write(C, far, "a", "of C");
    heal(&mut world);
    let views = [A, B, C].map(|on| shown(&mut world, on, "docs"));
    for view in &views {
        let refused = view.refused.as_ref().expect("everybody has heard of both");
        assert_eq!((refused.name.as_str(), refused.older.as_str()), ("docs", "far"));
        assert!(refused.why.contains("one of the two is a mirror"), "{}", refused.why);
        assert_eq!((view.state.as_str(), &view.refused), ("refused", &views[0].refused));
    }
    assert!([A, B, C].into_iter().all(|on| shown(&mut world, on, "far").refused.is_none()));

    // Nothing of it runs, whoever asks, and it does not try by itself.
    world.write(A, source, "b", "of A");
    let wishes = world.count(A, "resolve");
    world.run_for(60_000);
    assert_eq!(world.count(A, "resolve"), wishes, "{}", world.tail());
    for command in [sync("docs"), Command::Plan { conduit: "docs".to_owned(), wait_ms: 30_000 }] {
        let fault = world.refused(A, command);
        World::is(&fault, FaultCode::ConduitRule, "far is older");
        assert!(fault.next.iter().any(|next| next.contains("tidegate conduit remove far")), "{fault:?}");
    }
    assert_eq!(world.refused(B, sync("docs")).code, FaultCode::Refused, "the coordinator says no to others, too");
    assert_eq!(run(&mut world, C, "far"), Verification::Verified, "{}", world.tail());
    assert_eq!(world.files(B, target), [file("a", "of C")].into());

    // It is looked at again by itself; being a first mirror, it asks first.
    world.tell(C, Command::RemoveConduit("far".to_owned()));
    world.run_for(10_000);
    let view = shown(&mut world, A, "docs");
    assert!(view.refused.is_none() && view.held.is_some(), "{view:?} {}", world.tail());
    world.tell(A, Command::Approve { plan: view.held.unwrap().0, wait_ms: 30_000 });
    world.closed();
    assert_eq!(world.files(B, target), world.files(A, source), "{}", world.tail());
}

#[test]
fn two_of_one_name_are_called_by_their_ids() {
    let (mut world, _) = two_creations("far", Schedule::Manual);
    let later = world.conduit_named(A, "far").unwrap().id;
    let older = world.conduit_named(C, "far").unwrap().id;
    heal(&mut world);
    let fault = world.refused(A, sync(&later.to_string()));
    World::is(&fault, FaultCode::ConduitRule, &format!("{older} is older"));
    world.tell(A, Command::RemoveConduit(older.to_string()));
    assert!(shown(&mut world, A, "far").refused.is_none());
}

#[test]
fn a_run_that_began_before_the_older_one_was_heard_of_deletes_nothing_after() {
    for restarts in [false, true] {
        let (mut world, [source, target, _]) = two_creations("docs", Schedule::Manual);
        for at in ["a", "b"] {
            world.write(A, source, at, at);
        }
        assert_eq!(run(&mut world, A, "docs"), Verification::Verified);
        world.remove(A, source, "a");
        world.write(A, source, "c", "c");
        world.nodes[B].hold_legs = true;
        world.tell(A, sync("docs"));
        assert!(world.run_until(10_000, |world| world.nodes[B].legs.len() == 1));
        heal(&mut world);
        if restarts {
            world.crash(A);
            world.run_for(5_000);
        }
        world.release(B);
        world.settled(A, "docs");
        let newest = world.newest(A).unwrap();
        assert!(matches!(World::statuses(&newest).last(), Some(Verification::Failed { .. })), "{newest:?}");
        assert!(world.files(B, target).contains_key("a"), "{}", world.tail());
        let number = newest.number;
        world.run_for(60_000);
        assert_eq!(world.newest(A).unwrap().number, number, "nothing follows");
    }
}

#[test]
fn a_mirror_that_is_removed_leaves_no_deletion_that_passes_for_an_eviction() {
    let (mut world, [source, target, far]) = three();
    create(&mut world, C, "near", ("C:far", "B:dst"), SyncMode::Bidirectional, Schedule::Manual);
    for at in ["d/mine", "mine"] {
        world.write(C, far, at, "only C and B");
    }
    assert_eq!(run(&mut world, C, "near"), Verification::Verified);
    world.tell(C, Command::RemoveConduit("near".to_owned()));
    world.run_for(3_000);
    world.write(A, source, "a", "of A");
    create(&mut world, A, "docs", ("A:src", "B:dst"), SyncMode::Mirror, Schedule::Manual);
    assert_eq!(world.refused(A, sync("docs")).code, FaultCode::SafetyStop);
    let plan = shown(&mut world, A, "docs").held.unwrap().0;
    world.tell(A, Command::Approve { plan, wait_ms: 30_000 });
    world.closed();
    assert_eq!(world.files(B, target), [file("a", "of A")].into(), "{}", world.tail());
    world.tell(A, Command::RemoveConduit("docs".to_owned()));
    world.run_for(3_000);
    create(&mut world, C, "again", ("C:far", "B:dst"), SyncMode::Bidirectional, Schedule::Manual);
    assert_eq!(run(&mut world, C, "again"), Verification::Verified);
    assert_eq!(world.files(C, far), world.files(B, target), "{}", world.tail());
    assert_eq!(world.tree(C, far).trash.len(), 2, "what was deleted can be restored");
}
