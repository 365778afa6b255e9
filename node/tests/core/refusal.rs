//! What is refused, and that nothing has changed then.

use tidegate::core::command::{Command, ConduitChange, FaultCode};
use tidegate::core::io::Input;
use tidegate_protocol::file_sync::Verification;
use tidegate_protocol::index::Rights;
use tidegate_protocol::library_sync::RootState;

use crate::harness::{A, B, C, LostInput, World};

const GATE_SHUT: FaultCode = FaultCode::NotCaughtUp;

/// Syncs at once, and holds that it is refused for this reason with nothing changed.
fn refused_at_once(world: &mut World, code: FaultCode, why: &str) {
    let before = world.newest(A).map(|generation| generation.number);
    let copies = world.count(B, "copy") + world.count(B, "delete");
    let fault = world.refused(A, World::sync(0));
    World::is(&fault, code, why);
    world.run_for(100);
    assert_eq!(world.newest(A).map(|generation| generation.number), before, "no generation is opened");
    assert_eq!(world.count(B, "copy") + world.count(B, "delete"), copies);
}

#[test]
fn a_replica_that_is_behind_refuses_and_catches_up() {
    let (mut world, source, target) = World::mirror();
    world.write(A, source, "a", "one");
    world.run_for(3_000);
    world.nodes[A].lost = Some(LostInput::Rows);
    world.write(B, target, "stray", "x");
    world.run_for(1_000);
    refused_at_once(&mut world, GATE_SHUT, "has signed index entry");
    world.crash(A);
    world.nodes[A].lost = None;
    let fault = world.refused(A, World::sync(30_000));
    World::is(&fault, FaultCode::SafetyStop, "first mirror");
}

#[test]
fn an_end_that_is_offline_is_named() {
    let (mut world, source, _) = World::mirror();
    world.write(A, source, "a", "one");
    world.run_for(3_000);
    world.halt(B);
    refused_at_once(&mut world, FaultCode::Unreachable, "waiting for B, which is offline");
    let call = world.call(A, World::sync(30_000));
    world.run_for(5_000);
    world.boot(B);
    assert!(world.run_until(20_000, |world| world.replies.contains_key(&call)));
    assert!(world.replies[&call].is_ok(), "{:?}", world.replies[&call]);
}

#[test]
fn an_end_that_is_not_looked_at_is_named() {
    for (lost, why) in [(A, "A:src is being scanned"), (B, "B:dst")] {
        let (mut world, _, _) = World::mirror();
        world.nodes[lost].lost = Some(LostInput::Drained);
        let fault = world.refused(A, World::sync(3_000));
        if lost == A {
            World::is(&fault, GATE_SHUT, why);
        }
    }
}

#[test]
fn a_root_that_is_missing_is_waited_for_whatever_is_due_there() {
    let (mut world, source, _) = World::mirror();
    world.tree(A, source).present = false;
    world.input(A, Input::Root { location: source, state: RootState::Missing, watched: false });
    world.run_for(1_000);
    // The world ends where a core wants to be woken at one moment without end.
    world.tell(A, Command::RescanLocation { location: "A:src".to_owned(), deep: true });
    world.run_for(2 * 3_600_000);
    world.tree(A, source).present = true;
    world.write(A, source, "a", "one");
    world.run_for(60_000);
    assert!(world.sync_through().is_some());
}

#[test]
fn a_root_that_is_missing_refuses_whatever_the_index_says() {
    for end in [A, B] {
        let (mut world, source, target) = World::mirror();
        world.write(A, source, "a", "one");
        world.sync_through();
        let location = if end == A { source } else { target };
        world.tree(end, location).present = false;
        world.input(end, Input::Root { location, state: RootState::Missing, watched: false });
        world.run_for(1_000);
        refused_at_once(&mut world, FaultCode::RootMissing, "missing or replaced");
        world.tree(end, location).present = true;
        world.run_for(10_000);
        world.write(A, source, "b", "two");
        assert!(world.sync_through().is_some());
        assert_eq!(world.files(B, target).len(), 2);
    }
}

#[test]
fn a_device_that_owns_no_end_is_not_waited_for_when_it_is_off() {
    let mut world = World::new(3);
    world.pair(A, B);
    world.pair(B, C);
    world.run_for(40_000);
    let (source, target) = world.link(A, B);
    world.conduit("docs", "A:src", "B:dst", ConduitChange::default());
    world.halt(C);
    world.write(A, source, "a", "one");
    assert!(world.sync_through().is_some());
    assert_eq!(world.files(B, target).len(), 1);
}

#[test]
fn rights_are_asked_of_the_target_and_of_the_source() {
    let read = Rights { read: true, write: false, delete: false };
    let write = Rights { read: false, write: true, delete: false };
    let (mut world, source, target) = World::mirror();
    world.write(A, source, "a", "one");
    world.write(A, source, "b", "two");
    world.sync_through();
    world.write(A, source, "c", "three");
    world.allow(B, "dst", A, read);
    world.sync_through();
    assert_eq!(world.files(B, target).len(), 2, "no right to write");
    assert_eq!(world.newest(A).unwrap().totals.skipped, 1);
    world.allow(B, "dst", A, write);
    world.remove(A, source, "a");
    world.sync_through();
    assert_eq!(world.files(B, target).len(), 3, "written, and nothing deleted: {}", world.tail());
    assert_eq!(World::statuses(&world.newest(A).unwrap()).last(), Some(&Verification::Failed { remaining: 1 }));
    world.allow(A, "src", B, Rights::NONE);
    world.write(A, source, "d", "four");
    world.sync_through();
    assert!(world.trace.iter().any(|(_, what)| what == "serves NotFound"), "{}", world.tail());
    assert!(!world.files(B, target).contains_key("d"));
}

#[test]
fn a_job_whose_grant_is_withdrawn_stops_with_nothing_more_done() {
    let (mut world, source, target) = World::mirror();
    for at in 0..5 {
        world.write(A, source, &format!("f{at}"), &format!("content {at}"));
    }
    world.nodes[B].hold_legs = true;
    world.tell(A, World::sync(30_000));
    assert!(world.run_until(10_000, |world| world.nodes[B].legs.len() == 1));
    world.allow(B, "dst", A, Rights::NONE);
    world.run_for(1_000);
    assert!(world.nodes[B].legs.is_empty(), "stopped within a second: {}", world.tail());
    world.release(B);
    world.closed();
    assert!(world.files(B, target).is_empty());
    assert_eq!(world.newest(A).unwrap().totals.skipped, 5);
}

#[test]
fn many_deletes_wait_for_a_person_who_approves_what_was_shown() {
    let (mut world, source, target) = World::mirror();
    for at in 0..20 {
        world.write(A, source, &format!("f{at:02}"), &format!("content {at}"));
    }
    world.sync_through();
    for at in 0..12 {
        world.remove(A, source, &format!("f{at:02}"));
    }
    let fault = world.refused(A, World::sync(30_000));
    World::is(&fault, FaultCode::SafetyStop, "12 of 20 files");
    let plan = fault.next.iter().find_map(|next| next.split("tidegate approve ").nth(1)).unwrap().to_owned();
    assert_eq!(world.files(B, target).len(), 20);
    world.crash(A);
    world.remove(A, source, "f12");
    world.run_for(5_000);
    let fault = world.refused(A, Command::Approve { plan: plan.clone(), wait_ms: 30_000 });
    World::is(&fault, FaultCode::PlanStale, "is now");
    world.write(A, source, "f12", "content 12");
    world.run_for(3_000);
    let fault = world.refused(A, Command::Approve { plan: "p-000000000000".to_owned(), wait_ms: 30_000 });
    World::is(&fault, FaultCode::PlanStale, "not held");
    world.tell(A, Command::Approve { plan: plan.clone(), wait_ms: 30_000 });
    world.closed();
    assert_eq!(world.files(B, target), world.files(A, source), "{}", world.tail());
    assert_eq!(world.tree(B, target).trash.len(), 12);
    let fault = world.refused(A, Command::Approve { plan, wait_ms: 30_000 });
    World::is(&fault, FaultCode::PlanStale, "not held");
}

#[test]
fn the_device_that_would_delete_has_a_guard_of_its_own() {
    let (mut world, source, target) = World::mirror();
    for at in 0..20 {
        world.write(A, source, &format!("f{at:02}"), &format!("content {at}"));
    }
    world.sync_through();
    world.nodes[A].config.guards = tidegate_protocol::file_sync::Guards::OFF;
    world.crash(A);
    for at in 0..12 {
        world.remove(A, source, &format!("f{at:02}"));
    }
    world.run_for(5_000);
    world.sync_through();
    assert_eq!(world.files(B, target).len(), 20, "{}", world.tail());
    assert!(world.newest(A).unwrap().number < 8, "it is not tried without end");
}

#[test]
fn a_disabled_or_paused_conduit_starts_nothing() {
    let (mut world, _, _) = World::mirror();
    for change in [
        ConduitChange { enabled: Some(false), ..ConduitChange::default() },
        ConduitChange { enabled: Some(true), paused: Some(true), ..ConduitChange::default() },
    ] {
        world.tell(A, Command::SetConduit { conduit: "docs".to_owned(), change });
        refused_at_once(&mut world, FaultCode::ConduitDisabled, "starts nothing");
    }
}

#[test]
fn a_conduit_that_is_removed_elsewhere_ends_its_run() {
    for (deletes, number) in [(false, 2), (true, 2)] {
        let (mut world, source, target) = World::mirror();
        world.write(A, source, "a", "one");
        world.write(A, source, "b", "two");
        world.sync_through();
        world.write(A, source, "c", "three");
        if deletes {
            world.remove(A, source, "a");
        }
        world.nodes[B].hold_legs = true;
        world.tell(A, World::sync(30_000));
        assert!(world.run_until(10_000, |world| world.nodes[B].legs.len() == 1));
        let id = world.conduit_named(A, "docs").unwrap().id;
        world.tell(B, Command::RemoveConduit("docs".to_owned()));
        world.run_for(2_000);
        world.release(B);
        world.run_for(10_000);
        let newest = world.store(A).read().unwrap().generations(id, 1).unwrap().pop().unwrap();
        assert_eq!(newest.number, number);
        assert!(newest.closed_ms.is_some(), "{newest:?} {}", world.tail());
        assert!(world.files(B, target).contains_key("a"), "no delete begins under a removed conduit");
    }
}

#[test]
fn old_evidence_is_not_taken() {
    let (mut world, source, _) = World::mirror();
    world.write(A, source, "a", "one");
    world.run_for(3_000);
    world.nodes[A].lost = Some(LostInput::Drained);
    let call = world.call(A, World::sync(60_000));
    world.run_for(20_000);
    assert!(!world.replies.contains_key(&call));
    let asked = world.count(A, "ask Heads");
    world.run_for(10_000);
    assert!(world.count(A, "ask Heads") >= asked + 3, "the other end is asked again and again: {}", world.tail());
}

#[test]
fn a_coordinator_that_has_forgotten_a_generation_takes_it_over_before_it_plans() {
    let (mut world, source, target) = World::mirror();
    world.write(A, source, "a", "one");
    world.sync_through();
    let conduit = world.conduit_named(A, "docs").unwrap().id;
    let mut txn = world.store(B).write().unwrap();
    txn.see_generation(conduit, 9).unwrap();
    txn.commit().unwrap();
    world.write(A, source, "b", "two");
    world.run_for(3_000);
    refused_at_once(&mut world, GATE_SHUT, "has seen a newer generation");
    assert!(world.store(A).read().unwrap().baseline(conduit).unwrap().is_none(), "what was agreed is older than that");
    assert_eq!(world.sync_through().unwrap().number, 10);
    assert_eq!(world.files(B, target).len(), 2);
}

#[test]
fn an_owner_that_only_others_tell_of_is_said_to_be_relayed() {
    let mut world = World::new(3);
    world.pair(A, B);
    world.pair(A, C);
    world.run_for(40_000);
    let (source, _) = world.link(A, B);
    world.conduit("docs", "A:src", "B:dst", ConduitChange::default());
    world.write(A, source, "a", "one");
    world.run_for(40_000);
    world.cut(A, B);
    world.run_for(2_000);
    refused_at_once(&mut world, FaultCode::Unreachable, "came over another device");
}
