//! Whatever is edited on either end, cut and crashed: once healed, both ends hold the same, and nothing is lost.

use std::collections::BTreeSet;

use proptest::prelude::*;

use tidegate::core::command::{Command, ConduitChange, NewConduit};
use tidegate_protocol::file_sync::{ConflictStrategy, Guards, SyncMode};
use tidegate_protocol::id::LocationId;
use tidegate_protocol::index::Rights;

use crate::harness::{A, B, C, World, label};

#[derive(Debug, Clone)]
enum Act {
    Write(usize, u8),
    Remove(usize, u8),
    Sync(usize),
    Crash(usize),
    CrashLater(usize, u8),
    Cut(usize),
    Heal(usize),
    Wait(u16),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (0..3_usize, 0..6_u8).prop_map(|(on, at)| Act::Write(on, at)),
        2 => (0..3_usize, 0..6_u8).prop_map(|(on, at)| Act::Remove(on, at)),
        4 => (0..3_usize).prop_map(Act::Sync),
        1 => (0..3_usize).prop_map(Act::Crash),
        1 => (0..3_usize, 1..20_u8).prop_map(|(end, steps)| Act::CrashLater(end, steps)),
        1 => (0..3_usize).prop_map(Act::Cut),
        2 => (0..3_usize).prop_map(Act::Heal),
        3 => (0..3_000_u16).prop_map(Act::Wait),
    ]
}

const PAIRS: [(usize, usize); 3] = [(A, B), (B, C), (C, A)];
const CONDUITS: [&str; 3] = ["ab", "bc", "ca"];

fn place(at: u8) -> String {
    if at.is_multiple_of(2) { format!("f{at}") } else { format!("d/f{at}") }
}

/// Three devices in a ring of two-way conduits.
fn ring() -> (World, [LocationId; 3]) {
    let mut world = World::new(3);
    for node in &mut world.nodes {
        node.config.guards = Guards::OFF;
    }
    for node in [A, B, C] {
        world.crash(node);
    }
    world.run_for(1_000);
    world.pair(A, B);
    world.pair(A, C);
    world.run_for(5_000);
    let locations = [A, B, C].map(|on| world.locate(on, "dir"));
    let all = Rights { read: true, write: true, delete: true };
    for on in [A, B, C] {
        for to in [A, B, C].into_iter().filter(|to| *to != on) {
            world.allow(on, &format!("{}:dir", ["A", "B", "C"][on]), to, all);
        }
    }
    world.run_for(5_000);
    for ((from, to), name) in PAIRS.into_iter().zip(CONDUITS) {
        let end = |at: usize| format!("{}:dir", ["A", "B", "C"][at]);
        let change = ConduitChange { strategy: Some(ConflictStrategy::CreateConflictFile), ..ConduitChange::default() };
        let (source, target) = (end(from), end(to));
        let new = NewConduit { name: label(name), source, target, mode: SyncMode::Bidirectional, change };
        world.tell(from, Command::CreateConduit(new));
        world.run_for(1_000);
    }
    (world, locations)
}

fn command(conduit: usize, wait_ms: u64) -> Command {
    Command::Sync { conduit: CONDUITS[conduit].to_owned(), plan: None, wait_ms }
}

/// Contents that a person wrote, less those that he overwrote or removed himself where he had written or seen them.
struct Written {
    standing: BTreeSet<String>,
    count: u32,
}

impl Written {
    fn leave(&mut self, world: &mut World, on: usize, location: LocationId, at: &str) {
        if let Some(old) = world.files(on, location).get(at) {
            self.standing.remove(old);
        }
    }
}

fn perform(world: &mut World, locations: [LocationId; 3], written: &mut Written, act: &Act) {
    match act {
        Act::Write(on, at) => {
            let at = place(*at);
            written.leave(world, *on, locations[*on], &at);
            written.count += 1;
            let content = format!("{} by {on}", written.count);
            world.write(*on, locations[*on], &at, &content);
            written.standing.insert(content);
        }
        Act::Remove(on, at) => {
            let at = place(*at);
            written.leave(world, *on, locations[*on], &at);
            world.remove(*on, locations[*on], &at);
        }
        Act::Sync(conduit) => {
            world.call(PAIRS[*conduit].0, command(*conduit, 2_000));
            world.run_for(50);
        }
        Act::Crash(node) => world.crash(*node),
        Act::CrashLater(node, steps) => {
            let node = &mut world.nodes[*node];
            node.crash_at = Some(node.steps + u64::from(*steps));
        }
        Act::Cut(pair) => world.cut(PAIRS[*pair].0, PAIRS[*pair].1),
        Act::Heal(pair) => world.heal(PAIRS[*pair].0, PAIRS[*pair].1),
        Act::Wait(ms) => world.run_for(u64::from(*ms)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 24,
        max_shrink_iters: 40,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_ring_of_two_way_conduits_comes_to_rest_alike_and_loses_nothing(acts in prop::collection::vec(act(), 0..30)) {
        let (mut world, locations) = ring();
        let mut written = Written { standing: BTreeSet::new(), count: 0 };
        for act in &acts {
            perform(&mut world, locations, &mut written, act);
        }
        for (from, to) in PAIRS {
            world.heal(from, to);
        }
        for node in &mut world.nodes {
            node.crash_at = None;
        }
        world.run_for(60_000);
        let mut quiet = 0;
        for round in 0..60 {
            let conduit = round % 3;
            let (from, before) = (PAIRS[conduit].0, world.newest_of(PAIRS[conduit].0, CONDUITS[conduit]));
            let _running_already = world.ask(from, command(conduit, 60_000));
            world.settled(from, CONDUITS[conduit]);
            world.run_for(3_000);
            let after = world.newest_of(from, CONDUITS[conduit]);
            quiet = if before.map(|g| g.number) == after.map(|g| g.number) { quiet + 1 } else { 0 };
            if quiet == 3 {
                break;
            }
        }
        let files = world.files(A, locations[A]);
        prop_assert_eq!(&files, &world.files(B, locations[B]), "{}", world.tail());
        prop_assert_eq!(&files, &world.files(C, locations[C]), "{}", world.tail());
        prop_assert_eq!(quiet, 3, "never at rest: {}", world.tail());
        let mut kept: BTreeSet<String> = files.into_values().collect();
        for on in [A, B, C] {
            let trash = &world.tree(on, locations[on]).trash;
            kept.extend(trash.iter().map(|(_, bytes)| String::from_utf8_lossy(bytes).into_owned()));
        }
        let lost: Vec<&String> = written.standing.iter().filter(|content| !kept.contains(*content)).collect();
        prop_assert!(lost.is_empty(), "lost: {lost:?} {}", world.tail());
    }
}
