//! Whatever is edited, cut and crashed: once healed, the target equals the source.

use proptest::prelude::*;

use crate::harness::{A, B, World};

#[derive(Debug, Clone)]
enum Act {
    Write(u8, u8),
    Remove(u8),
    Sync,
    Crash(bool),
    CrashLater(bool, u8),
    Cut,
    Heal,
    Wait(u16),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (0..12_u8, 0..4_u8).prop_map(|(at, content)| Act::Write(at, content)),
        2 => (0..12_u8).prop_map(Act::Remove),
        3 => Just(Act::Sync),
        1 => any::<bool>().prop_map(Act::Crash),
        1 => (any::<bool>(), 1..20_u8).prop_map(|(end, steps)| Act::CrashLater(end, steps)),
        1 => Just(Act::Cut),
        2 => Just(Act::Heal),
        3 => (0..3_000_u16).prop_map(Act::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_target_becomes_the_source_once_everything_is_healed(acts in prop::collection::vec(act(), 1..30)) {
        let (mut world, source, target) = World::mirror();
        world.nodes[A].config.guards = tidegate_protocol::file_sync::Guards::OFF;
        world.nodes[B].config.guards = tidegate_protocol::file_sync::Guards::OFF;
        world.crash(A);
        world.crash(B);
        world.run_for(3_000);
        let place = |at: u8| match at % 3 { 0 => format!("f{at}"), 1 => format!("d/f{at}"), _ => format!("d/e{at}/f") };
        for act in acts {
            match act {
                Act::Write(at, content) => world.write(A, source, &place(at), &format!("content {content}")),
                Act::Remove(at) => world.remove(A, source, &place(at)),
                Act::Sync => drop(world.call(A, World::sync(2_000))),
                Act::Crash(end) => world.crash(usize::from(end)),
                Act::CrashLater(end, steps) => {
                    let node = &mut world.nodes[usize::from(end)];
                    node.crash_at = Some(node.steps + u64::from(steps));
                }
                Act::Cut => world.cut(A, B),
                Act::Heal => world.heal(A, B),
                Act::Wait(ms) => world.run_for(u64::from(ms)),
            }
        }
        world.nodes[A].crash_at = None;
        world.nodes[B].crash_at = None;
        world.heal(A, B);
        world.run_for(40_000);
        world.closed();
        world.sync_through();
        prop_assert_eq!(world.files(B, target), world.files(A, source));
        world.run_for(40_000);
        prop_assert!(world.level(&[A, B]));
    }
}
