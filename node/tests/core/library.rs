//! Keeping replicas level: pairing, gossip or none, lines, partitions, rest.

use tidegate::core::command::{Command, ConduitChange, FaultCode, NewConduit, Reply};
use tidegate_protocol::file_sync::SyncMode;

use crate::harness::{A, B, C, LostInput, World, id, label};

#[test]
fn pairing_makes_two_libraries_one() {
    let mut world = World::new(2);
    assert_ne!(world.nodes[A].library, world.nodes[B].library);
    world.pair(A, B);
    assert_eq!(world.nodes[A].library, world.nodes[B].library);
    assert!(world.level(&[A, B]), "{}", world.tail());
}

#[test]
fn a_third_device_learns_the_rows_of_the_first_through_the_second() {
    let mut world = World::new(3);
    world.cut(A, C);
    world.pair(A, B);
    let location = world.locate(A, "src");
    world.write(A, location, "a/b", "one");
    world.run_for(2_000);
    world.pair(B, C);
    world.run_for(60_000);
    assert!(world.level(&[A, B, C]), "{}", world.tail());
    world.cut(A, B);
    world.write(A, location, "a/c", "two");
    world.run_for(5_000);
    assert!(!world.level(&[A, B]));
    world.heal(A, B);
    world.run_for(60_000);
    assert!(world.level(&[A, B, C]), "{}", world.tail());
}

#[test]
fn replicas_become_level_without_any_gossip() {
    let mut world = World::new(2);
    world.gossip = false;
    world.pair(A, B);
    let location = world.locate(A, "src");
    for at in 0..50 {
        world.write(A, location, &format!("dir{}/{at}", at % 3), "x");
    }
    world.run_for(40_000);
    assert!(world.level(&[A, B]), "{}", world.tail());
}

#[test]
fn a_change_is_level_everywhere_within_a_second_of_gossip() {
    let mut world = World::new(2);
    world.pair(A, B);
    let location = world.locate(A, "src");
    world.run_for(10_000);
    world.write(A, location, "a", "x");
    world.run_for(1_000);
    assert!(world.level(&[A, B]), "{}", world.tail());
}

#[test]
fn nothing_but_heartbeats_happens_at_rest() {
    let (mut world, source, _) = World::mirror();
    world.write(A, source, "a", "x");
    world.sync_through();
    world.run_for(60_000);
    world.trace.clear();
    world.run_for(300_000);
    for (at, what) in &world.trace {
        assert!(what == "publish" || what == "ask Heads", "{at}: {what}");
    }
    assert!(world.trace.len() <= 2 * (11 + 11), "{}: {}", world.trace.len(), world.tail());
}

#[test]
fn a_renamed_device_is_renamed_everywhere() {
    let mut world = World::new(2);
    world.pair(A, B);
    world.tell(B, Command::RenameDevice { device: "A".to_owned(), name: label("Attic") });
    world.run_for(2_000);
    for at in [A, B] {
        let fact = world.store(at).read().unwrap().device_fact(id(A)).unwrap().unwrap();
        assert_eq!(fact.name.value, label("Attic"), "at {at}");
    }
    world.crash(A);
    world.run_for(2_000);
    let fact = world.store(B).read().unwrap().device_fact(id(A)).unwrap().unwrap();
    assert_eq!(fact.name.value, label("Attic"), "a start does not take a name back");
}

#[test]
fn a_removed_location_leaves_every_replica_level() {
    let mut world = World::new(2);
    world.pair(A, B);
    let location = world.locate(A, "src");
    world.write(A, location, "a/b", "one");
    world.run_for(2_000);
    world.tell(A, Command::RemoveLocation("src".to_owned()));
    world.run_for(2_000);
    assert!(world.level(&[A, B]), "{}", world.tail());
    let snapshot = world.store(B).read().unwrap();
    assert!(snapshot.tree(id(A), location).unwrap().counters.is_empty());
    drop(snapshot);
    let Reply::Status(status) = world.tell(B, Command::Status) else { panic!() };
    assert!(status.locations.is_empty());
}

#[test]
fn a_revoked_device_is_let_in_nowhere() {
    let mut world = World::new(3);
    world.pair(A, B);
    world.pair(B, C);
    world.run_for(5_000);
    assert!(world.level(&[A, B, C]), "{}", world.tail());
    world.tell(A, Command::RevokeDevice("C".to_owned()));
    world.run_for(40_000);
    for at in [A, B] {
        assert!(!world.nodes[at].members.contains(&id(C)), "at {at}");
        assert!(!world.connected.contains(&(at, C)));
    }
    assert!(world.level(&[A, B]));
}

#[test]
fn devices_that_admit_one_another_converge_to_one_library() {
    for pairs in [&[(A, B)][..], &[(A, B), (B, C), (A, C)], &[(B, C), (A, B)], &[(A, C), (B, C)]] {
        let count = pairs.iter().map(|(a, b)| a.max(b) + 1).max().unwrap();
        let mut world = World::admitting(count, pairs);
        world.run_for(60_000);
        let all: Vec<usize> = (0..count).collect();
        let libraries: std::collections::BTreeSet<_> = world.nodes.iter().map(|node| node.library).collect();
        assert_eq!(libraries.len(), 1, "{pairs:?}: {libraries:?}");
        assert!(world.level(&all), "{pairs:?}: {}", world.tail());
    }
}

#[test]
fn an_index_of_many_pages_arrives_whole_even_if_the_line_breaks_in_between() {
    let mut world = World::new(2);
    world.pair(A, B);
    let location = world.locate(A, "src");
    world.cut(A, B);
    for at in 0..10_000 {
        world.tree(A, location).write(&crate::harness::path(&format!("d{}/{at}", at % 100)), b"x");
    }
    world.input(A, tidegate::core::io::Input::Hints { location, paths: Vec::new(), overflow: true });
    world.run_for(2_000);
    world.heal(A, B);
    let partial = |world: &World| world.author(B, A).is_some_and(|held| held.rests.is_none() && held.upto.0 > 1_000);
    assert!(world.run_until(20_000, partial) || world.level(&[A, B]));
    world.crash(B);
    world.write(A, location, "d1/new", "y");
    world.run_for(10_000);
    assert!(world.level(&[A, B]), "{}", world.tail());
}

#[test]
fn a_device_that_leaves_can_come_back() {
    let mut world = World::new(2);
    world.pair(A, B);
    let location = world.locate(B, "dst");
    world.write(B, location, "a", "x");
    world.run_for(2_000);
    world.tell(B, Command::LeaveLibrary);
    world.run_for(5_000);
    assert_ne!(world.nodes[A].library, world.nodes[B].library);
    assert!(world.nodes[B].members.is_empty());
    world.pair(A, B);
    world.run_for(40_000);
    assert_eq!(world.nodes[A].library, world.nodes[B].library);
    assert!(world.level(&[A, B]), "{}", world.tail());
}

#[test]
fn a_device_without_a_watcher_is_looked_at_when_asked() {
    let mut world = World::new(2);
    world.pair(A, B);
    let (source, target) = world.link(A, B);
    for (at, location) in [(A, source), (B, target)] {
        world.tree(at, location).watched = false;
        world.crash(at);
    }
    world.run_for(5_000);
    world.conduit("docs", "A:src", "B:dst", tidegate::core::command::ConduitChange::default());
    world.write(A, source, "a", "x");
    world.sync_through().unwrap();
    assert_eq!(world.files(B, target), world.files(A, source));
    world.run_for(2_000);
    world.trace.clear();
    world.run_for(120_000);
    assert!(world.trace.iter().all(|(_, what)| what == "publish" || what == "ask Heads"), "{}", world.tail());
}

/// A conduit from A's `src` to a location of B that is being added.
fn to_new() -> Command {
    let (source, target) = ("A:src".to_owned(), "B:new".to_owned());
    let change = ConduitChange::default();
    Command::CreateConduit(NewConduit { name: label("docs"), source, target, mode: SyncMode::Mirror, change })
}

#[test]
fn a_conduit_is_created_to_a_location_of_which_the_row_is_on_its_way() {
    let mut world = World::new(2);
    world.pair(A, B);
    world.locate(A, "src");
    world.run_for(5_000);
    world.gossip = false;
    world.locate(B, "new");
    world.tell(A, to_new());
    let fault = world.refused(A, Command::Conduit("nothing".to_owned()));
    World::is(&fault, FaultCode::NoSuchName, "no name or id matches");
}

#[test]
fn a_conduit_to_a_location_that_is_not_there_says_who_may_know_of_it() {
    let mut world = World::new(2);
    world.pair(A, B);
    world.locate(A, "src");
    world.run_for(5_000);
    let began_ms = world.now_ms;
    let fault = world.refused(A, to_new());
    World::is(&fault, FaultCode::NoSuchName, "no name or id matches");
    assert!(!fault.why.contains("offline") && world.now_ms < began_ms + 1_000, "B has said that there is none");
    world.halt(B);
    let fault = world.refused(A, to_new());
    World::is(&fault, FaultCode::NoSuchName, "B is offline, and what was added there since is not known here");
    let fault = world.refused(A, Command::Conduit("docs".to_owned()));
    assert!(fault.next.iter().any(|next| next.contains("B is offline")), "{fault:?}");
    // What has nothing to do with B is refused as before.
    world.boot(B);
    world.run_for(5_000);
    world.nodes[A].lost = Some(LostInput::Rows);
    world.locate(B, "new");
    let began_ms = world.now_ms;
    world.refused(A, to_new());
    assert!(world.now_ms < began_ms + 11_000, "it waits as long as for an answer");
}
