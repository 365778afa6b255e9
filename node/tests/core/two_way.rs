//! Bidirectional conduits between cores: what travels both ways, what conflicts, and when all is quiet.

use tidegate::core::command::{Choice, Command, ConduitChange, FaultCode, NewConduit, Reply};
use tidegate_protocol::file_sync::{ConflictStrategy, Decision, Schedule, SyncMode, Verification};
use tidegate_protocol::id::LocationId;
use tidegate_protocol::index::Rights;

use crate::harness::{A, B, C, World, file, label, path};

/// Two devices with a bidirectional conduit that holds these files on both ends.
fn agreed(files: &[(&str, &str)], strategy: ConflictStrategy) -> (World, LocationId, LocationId) {
    let mut world = World::new(3);
    world.pair(A, B);
    let (source, target) = world.link(A, B);
    let change = ConduitChange { strategy: Some(strategy), ..ConduitChange::default() };
    create(&mut world, "docs", "A:src", "B:dst", change);
    for (at, content) in files {
        world.write(A, source, at, content);
    }
    world.sync_through();
    assert_eq!(world.files(B, target), world.files(A, source), "{}", world.tail());
    world.trace.clear();
    (world, source, target)
}

fn create(world: &mut World, name: &str, source: &str, target: &str, change: ConduitChange) {
    let (source, target) = (source.to_owned(), target.to_owned());
    let new = NewConduit { name: label(name), source, target, mode: SyncMode::Bidirectional, change };
    world.tell(A, Command::CreateConduit(new));
    world.run_for(1_000);
}

#[test]
fn edits_and_deletes_travel_both_ways_in_one_generation() {
    let (mut world, source, target) =
        agreed(&[("a", "1"), ("b", "2"), ("d/c", "3"), ("e", "4")], ConflictStrategy::CreateConflictFile);
    world.write(A, source, "a", "A's");
    world.write(B, target, "b", "B's");
    world.write(B, target, "new/x", "B's new");
    world.remove(A, source, "d");
    world.remove(B, target, "e");
    let generation = world.sync_through().unwrap();
    let expected = [file("a", "A's"), file("b", "B's"), file("new/x", "B's new")].into();
    assert_eq!(world.files(A, source), expected, "{}", world.tail());
    assert_eq!(world.files(B, target), expected, "{}", world.tail());
    assert_eq!(World::statuses(&generation).last(), Some(&Verification::Verified), "{}", world.tail());
    assert_eq!(generation.number, 2, "no follow-up was needed");
    world.run_for(10_000);
    assert_eq!(world.sync_through(), None);
}

#[test]
fn both_edits_of_one_path_are_kept_on_both_ends_and_the_conflict_waits_until_it_is_decided() {
    let (mut world, source, target) = agreed(&[("f.txt", "base")], ConflictStrategy::CreateConflictFile);
    world.write(A, source, "f.txt", "A's");
    world.write(B, target, "f.txt", "B's");
    let generation = world.sync_through().unwrap();
    assert_eq!(World::statuses(&generation).last(), Some(&Verification::Verified), "{}", world.tail());
    assert_eq!((generation.number, generation.totals.conflicts), (2, 1));
    let files = world.files(A, source);
    assert_eq!(files, world.files(B, target));
    assert_eq!(files.len(), 2);
    assert_eq!(files["f.txt"], "A's");
    world.run_for(5_000);
    for on in [A, B] {
        let Reply::Conflicts(conflicts) = world.tell(on, Command::Conflicts { conduit: None, settled: false }) else {
            panic!()
        };
        assert_eq!(conflicts.len(), 1, "seen on {on}");
        assert!(conflicts[0].open && conflicts[0].id == "docs:1");
    }
    let choice = Choice::Content(b"merged".to_vec());
    world.tell(B, Command::ResolveConflict { conflict: "docs:1".to_owned(), choice });
    world.sync_through().unwrap();
    for (on, location) in [(A, source), (B, target)] {
        assert_eq!(world.files(on, location), [file("f.txt", "merged")].into(), "on {on}: {}", world.tail());
    }
    let Reply::Conflicts(conflicts) = world.tell(A, Command::Conflicts { conduit: None, settled: false }) else {
        panic!()
    };
    assert!(conflicts.is_empty());
}

#[test]
fn a_choice_that_was_being_written_when_the_node_fell_is_written_to_its_end_or_given_up_for_an_edit() {
    for edited in [false, true] {
        let (mut world, source, target) = agreed(&[("f.txt", "base")], ConflictStrategy::CreateConflictFile);
        world.write(A, source, "f.txt", "A's");
        world.write(B, target, "f.txt", "B's");
        world.sync_through();
        world.run_for(5_000);
        // The wish is committed, and the power goes before anything of it is done.
        world.nodes[B].crash_at = Some(world.nodes[B].steps + 1);
        let choice = Choice::Content(b"merged".to_vec());
        if edited {
            world.tree(B, target).write(&path("f.txt"), b"edited since");
        }
        world.call(B, Command::ResolveConflict { conflict: "docs:1".to_owned(), choice });
        world.run_for(5_000);
        world.sync_through().unwrap();
        let files = world.files(B, target);
        assert_eq!(world.files(A, source), files, "{}", world.tail());
        if edited {
            assert_eq!((files["f.txt"].as_str(), files.len()), ("edited since", 2), "both are kept");
        } else {
            assert_eq!(files, [file("f.txt", "merged")].into());
        }
        world.crash(B);
        world.run_for(5_000);
        assert_eq!(world.sync_through(), None, "it is not written again");
    }
}

#[test]
fn a_plan_and_the_reason_for_a_path_are_had_from_any_device_that_reaches_the_coordinator() {
    let (mut world, source, _) = agreed(&[("f", "base")], ConflictStrategy::CreateConflictFile);
    world.pair(A, C);
    world.write(A, source, "f", "A's");
    world.run_for(5_000);
    let plan = Command::Plan { conduit: "docs".to_owned(), wait_ms: 5_000 };
    let why = Command::Why { conduit: Some("docs".to_owned()), path: "f".to_owned(), wait_ms: 5_000 };
    let mut plans = Vec::new();
    for on in [A, B, C] {
        let Reply::Plan(view) = world.tell(on, plan.clone()) else { panic!() };
        plans.push(view.plan.id);
        let Reply::Why(view) = world.tell(on, why.clone()) else { panic!() };
        assert_eq!((view.path.as_str(), view.planned.len()), ("f", 1), "asked on {on}");
    }
    assert!(plans.iter().all(|id| *id == plans[0]), "one law, one plan");
    world.cut(A, B);
    assert_eq!(world.refused(B, plan).code, FaultCode::Unreachable);
}

#[test]
fn a_path_that_waits_for_a_person_is_frozen_alone_and_follows_the_ruling() {
    for (decision, expected) in [(Decision::Source, "A's"), (Decision::Target, "B's")] {
        let (mut world, source, target) = agreed(&[("f", "base"), ("g", "1")], ConflictStrategy::PromptUser);
        world.write(A, source, "f", "A's");
        world.write(B, target, "f", "B's");
        world.write(A, source, "g", "2");
        let generation = world.sync_through().unwrap();
        assert_eq!(World::statuses(&generation).last(), Some(&Verification::Verified), "{}", world.tail());
        assert_eq!(world.files(A, source), [file("f", "A's"), file("g", "2")].into());
        assert_eq!(world.files(B, target), [file("f", "B's"), file("g", "2")].into());
        world.run_for(5_000);
        assert_eq!(world.sync_through(), None, "it is held, and the rest is in step");
        let choice = Choice::Keep(decision);
        world.tell(B, Command::ResolveConflict { conflict: "docs:1".to_owned(), choice });
        world.run_for(5_000);
        let generation = world.sync_through().unwrap();
        assert_eq!(World::statuses(&generation).last(), Some(&Verification::Verified), "{}", world.tail());
        for (on, location) in [(A, source), (B, target)] {
            assert_eq!(world.files(on, location), [file("f", expected), file("g", "2")].into(), "{}", world.tail());
        }
        world.run_for(5_000);
        assert_eq!(world.sync_through(), None);
        let conduit = world.conduit_named(A, "docs").unwrap().id;
        for on in [A, B] {
            assert_eq!(world.store(on).read().unwrap().rulings(conduit).unwrap(), [], "nothing is left to rule");
            let Reply::Conflicts(all) = world.tell(on, Command::Conflicts { conduit: None, settled: true }) else {
                panic!()
            };
            let shown: Vec<_> = all.iter().map(|met| (met.open, met.ruling, met.settled_ms.is_some())).collect();
            let settled = (false, Some(decision), true);
            assert!(!shown.is_empty() && shown.iter().all(|met| *met == settled), "what was ruled is seen: {shown:?}");
        }
        assert!(world.level(&[A, B]));
    }
}

#[test]
fn a_ruling_of_a_device_that_was_away_decides_nothing_later_and_goes_when_it_comes_back() {
    let (mut world, source, target) = agreed(&[("f", "base")], ConflictStrategy::PromptUser);
    world.pair(A, C);
    world.write(A, source, "f", "A's");
    world.write(B, target, "f", "B's");
    world.sync_through();
    world.run_for(5_000);
    // C rules first, and is gone before what A and B do about it is heard there.
    let keep = |decision| Command::ResolveConflict { conflict: "docs:1".to_owned(), choice: Choice::Keep(decision) };
    world.tell(C, keep(Decision::Target));
    world.run_for(2_000);
    world.cut(A, C);
    world.cut(B, C);
    world.run_for(1_000);
    world.sync_through().unwrap();
    world.run_for(5_000);
    assert_eq!(world.files(A, source), [file("f", "B's")].into(), "{}", world.tail());
    let conduit = world.conduit_named(A, "docs").unwrap().id;
    let rulings = |world: &World, on: usize| world.store(on).read().unwrap().rulings(conduit).unwrap().len();
    assert_eq!((rulings(&world, A), rulings(&world, C)), (1, 1), "it is C's row: nobody else drops it");
    world.write(A, source, "f", "A's again");
    world.write(B, target, "f", "B's again");
    world.sync_through();
    world.run_for(5_000);
    assert_eq!(world.files(A, source), [file("f", "A's again")].into(), "another conflict is held again");
    world.heal(A, C);
    world.heal(B, C);
    world.run_for(60_000);
    for on in [A, B, C] {
        assert_eq!(rulings(&world, on), 0, "on {on}: {}", world.tail());
    }
    assert!(world.level(&[A, B, C]));
}

#[test]
fn three_conduits_in_a_ring_settle_and_then_are_quiet() {
    let mut world = World::new(3);
    world.pair(A, B);
    world.pair(A, C);
    world.run_for(5_000);
    let all = Rights { read: true, write: true, delete: true };
    let locations = [A, B, C].map(|on| world.locate(on, "dir"));
    for on in [A, B, C] {
        for to in [A, B, C].into_iter().filter(|to| *to != on) {
            world.allow(on, &format!("{}:dir", ["A", "B", "C"][on]), to, all);
        }
    }
    world.run_for(5_000);
    let instant = || ConduitChange { schedule: Some(Schedule::Instant { settle_ms: 100 }), ..ConduitChange::default() };
    for (name, source, target) in [("ab", "A:dir", "B:dir"), ("bc", "B:dir", "C:dir"), ("ca", "C:dir", "A:dir")] {
        create(&mut world, name, source, target, instant());
    }
    world.write(A, locations[0], "f", "A's");
    world.write(B, locations[1], "g/h", "B's");
    world.run_for(60_000);
    let expected = [file("f", "A's"), file("g/h", "B's")].into();
    for (on, location) in [A, B, C].into_iter().zip(locations) {
        assert_eq!(world.files(on, location), expected, "on {on}: {}", world.tail());
    }
    world.remove(A, locations[0], "f");
    world.write(C, locations[2], "g/h", "C's");
    world.run_for(60_000);
    for (on, location) in [A, B, C].into_iter().zip(locations) {
        assert_eq!(world.files(on, location), [file("g/h", "C's")].into(), "on {on}: {}", world.tail());
    }
    world.trace.clear();
    world.run_for(60_000);
    for what in ["copy", "delete", "resolve"] {
        assert!([A, B, C].iter().all(|on| world.count(*on, what) == 0), "{what}: {}", world.tail());
    }
}

#[test]
fn a_conflict_that_was_settled_long_ago_goes_everywhere_and_its_number_is_not_given_again() {
    let (mut world, source, target) = agreed(&[("f", "base"), ("g", "base"), ("h", "1")], ConflictStrategy::PromptUser);
    world.pair(A, C);
    for name in ["f", "g"] {
        world.write(A, source, name, "A's");
        world.write(B, target, name, "B's");
    }
    world.sync_through();
    world.run_for(5_000);
    let keep = |name: &str| {
        let choice = Choice::Keep(Decision::Source);
        Command::ResolveConflict { conflict: name.to_owned(), choice }
    };
    world.tell(C, keep("docs:1"));
    world.run_for(5_000);
    world.sync_through();
    world.run_for(5_000);
    let numbers = |world: &World, on: usize| {
        let (conduit, reader) = (world.conduit_named(A, "docs").unwrap(), world.store(on).read().unwrap());
        let met = reader.met_conflicts(conduit.id, conduit.coordinator()).unwrap();
        met.iter().map(|met| (met.number, met.settled_ms.is_some())).collect::<Vec<_>>()
    };
    // The third is the first, carried out.
    let first = [(1, true), (2, false), (3, true)];
    assert_eq!(numbers(&world, A), first, "{}", world.tail());
    for round in 0..100 {
        world.write(A, source, "h", &format!("again {round}"));
        world.sync_through();
    }
    assert_eq!(numbers(&world, A), first, "a run of before is still among the last 100");
    // A fourth is met, and the second settled; C is away, and finds the place in the log that it had long passed.
    world.cut(A, C);
    world.cut(B, C);
    world.write(A, source, "f", "A's again");
    world.write(B, target, "f", "B's again");
    world.sync_through();
    world.run_for(5_000);
    world.tell(A, keep("docs:2"));
    world.run_for(5_000);
    world.sync_through();
    world.run_for(5_000);
    let left = [(2, true), (4, false), (5, true)];
    assert_eq!((numbers(&world, A), numbers(&world, B)), (left.to_vec(), left.to_vec()), "{}", world.tail());
    for round in 0..103 {
        world.write(A, source, "h", &format!("still {round}"));
        world.sync_through();
    }
    world.heal(A, C);
    world.heal(B, C);
    world.run_for(60_000);
    for on in [A, B, C] {
        assert_eq!(numbers(&world, on), [(4, false), (5, true)], "on {on}: {}", world.tail());
    }
    assert!(world.level(&[A, B, C]));
    // The newest stayed though it is settled: the next one is numbered after it.
    world.write(A, source, "g", "A's again");
    world.write(B, target, "g", "B's again");
    world.sync_through();
    assert_eq!(numbers(&world, A), [(4, false), (6, false)], "{}", world.tail());
}
