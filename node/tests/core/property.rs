//! Whatever is edited, cut and crashed: once healed, the target equals the source.

use proptest::prelude::*;

use tidegate::core::command::{Command, ConduitChange, NewConduit};
use tidegate_protocol::file_sync::{Guards, SyncMode};
use tidegate_protocol::index::Rights;

use crate::harness::{A, B, C, World, label};

#[derive(Debug, Clone)]
enum Act {
    Write(u8, u8),
    Remove(u8),
    Sync(usize),
    Crash(usize),
    CrashLater(usize, u8),
    Cut(usize),
    Heal(usize),
    Gossip(bool),
    Wait(u16),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        5 => (0..12_u8, 0..4_u8).prop_map(|(at, content)| Act::Write(at, content)),
        2 => (0..12_u8).prop_map(Act::Remove),
        3 => (0..2_usize).prop_map(Act::Sync),
        1 => (0..3_usize).prop_map(Act::Crash),
        1 => (0..3_usize, 1..20_u8).prop_map(|(end, steps)| Act::CrashLater(end, steps)),
        1 => (0..3_usize).prop_map(Act::Cut),
        2 => (0..3_usize).prop_map(Act::Heal),
        1 => any::<bool>().prop_map(Act::Gossip),
        3 => (0..3_000_u16).prop_map(Act::Wait),
    ]
}

const PAIRS: [(usize, usize); 3] = [(A, B), (B, C), (A, C)];

fn place(at: u8) -> String {
    match at % 3 {
        0 => format!("f{at}"),
        1 => format!("d/f{at}"),
        _ => format!("d/e{at}/f"),
    }
}

fn command(conduit: &str, wait_ms: u64) -> Command {
    Command::Sync { conduit: conduit.to_owned(), plan: None, wait_ms }
}

/// A mirrors to B, and B what it then has to C.
fn chain() -> (World, [tidegate_protocol::id::LocationId; 3]) {
    let mut world = World::new(3);
    for node in &mut world.nodes {
        node.config.guards = Guards::OFF;
    }
    for node in [A, B, C] {
        world.crash(node);
    }
    world.run_for(1_000);
    world.pair(A, B);
    world.pair(B, C);
    world.run_for(35_000);
    let (source, middle) = world.link(A, B);
    let end = world.locate(C, "end");
    let all = Rights { read: true, write: true, delete: true };
    world.allow(B, "dst", C, all);
    world.allow(C, "end", B, all);
    world.run_for(35_000);
    world.conduit("docs", "A:src", "B:dst", ConduitChange::default());
    let new = NewConduit {
        name: label("more"),
        source: "B:dst".to_owned(),
        target: "C:end".to_owned(),
        mode: SyncMode::Mirror,
        change: ConduitChange::default(),
    };
    world.tell(B, Command::CreateConduit(new));
    world.run_for(2_000);
    (world, [source, middle, end])
}

fn perform(world: &mut World, source: tidegate_protocol::id::LocationId, act: &Act) {
    match act {
        Act::Write(at, content) => world.write(A, source, &place(*at), &format!("content {content}")),
        Act::Remove(at) => world.remove(A, source, &place(*at)),
        Act::Sync(on) => drop(world.call(*on, command(["docs", "more"][*on], 2_000))),
        Act::Crash(end) => world.crash(*end),
        Act::CrashLater(end, steps) => {
            world.nodes[*end].crash_at = Some(world.nodes[*end].steps + u64::from(*steps));
        }
        Act::Cut(at) => world.cut(PAIRS[*at].0, PAIRS[*at].1),
        Act::Heal(at) => world.heal(PAIRS[*at].0, PAIRS[*at].1),
        Act::Gossip(on) => world.gossip = *on,
        Act::Wait(ms) => world.run_for(u64::from(*ms)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 200, failure_persistence: None, ..ProptestConfig::with_cases(cases()) })]

    #[test]
    fn the_targets_become_the_source_once_everything_is_healed(acts in prop::collection::vec(act(), 1..40)) {
        let (mut world, [source, middle, end]) = chain();
        for act in &acts {
            perform(&mut world, source, act);
        }
        for node in &mut world.nodes {
            node.crash_at = None;
        }
        for (a, b) in PAIRS {
            world.heal(a, b);
        }
        world.run_for(100_000);
        for (on, conduit) in [(A, "docs"), (B, "more")] {
            world.settled(on, conduit);
            world.tell(on, command(conduit, 60_000));
            world.settled(on, conduit);
        }
        prop_assert_eq!(world.files(B, middle), world.files(A, source));
        prop_assert_eq!(world.files(C, end), world.files(A, source));
        world.run_for(40_000);
        prop_assert!(world.level(&[A, B, C]));
    }
}

/// A few by default; `PROPTEST_CASES` asks for more.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|count| count.parse().ok()).unwrap_or(16)
}
