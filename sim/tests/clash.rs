//! Two devices that cannot hear one another each create one of two conduits that the rules refuse together. When they meet, the
//! later one waits on every device alike, nothing is lost, and it runs when the older one is removed.

#![allow(clippy::unwrap_used, reason = "tests")]

use tidegate::core::command::{Command, ConduitChange, ConduitView, FaultCode, NewConduit, Reply};
use tidegate_protocol::file_sync::{Schedule, SyncMode};
use tidegate_protocol::id::Label;
use tidegate_protocol::index::Rights;
use tidegate_sim::clock::Chip;
use tidegate_sim::executor::SECOND;
use tidegate_sim::happening::Ear;
use tidegate_sim::network::weather::Weather;
use tidegate_sim::world::World;

const ALL: Rights = Rights { read: true, write: true, delete: true };

/// Devices `a`, `b` and `c` of one library, with a location each.
fn three(seed: u64) -> World {
    let mut world = World::new(seed, Weather::FAIR, Ear::default());
    for (name, skew_ms) in [("a", 0), ("b", 3_000), ("c", -2_000)] {
        let device = world.add_device(name, Chip::new(0, skew_ms));
        world.start(device).unwrap();
    }
    for joiner in [1, 2] {
        assert!(world.pair(0, joiner));
        world.run_for(5 * SECOND);
    }
    for device in 0..3 {
        world.add_location(device, "notes", "/home/notes").unwrap().unwrap();
        for other in ["a", "b", "c"] {
            let command = Command::Allow { location: "notes".to_owned(), device: other.to_owned(), rights: ALL };
            let _ = world.ask(device, command);
        }
    }
    world.run_for(10 * SECOND);
    world
}

fn create(world: &mut World, on: u32, name: &str, ends: (&str, &str), mode: SyncMode) {
    let (source, target) = (ends.0.to_owned(), ends.1.to_owned());
    let schedule = Some(Schedule::Instant { settle_ms: 500 });
    let change = ConduitChange { schedule, ..ConduitChange::default() };
    let new = NewConduit { name: Label::lossy(name), source, target, mode, change };
    world.ask(on, Command::CreateConduit(new)).unwrap().unwrap();
}

fn look(world: &mut World, on: u32, conduit: &str) -> ConduitView {
    match world.ask(on, Command::Conduit(conduit.to_owned())).unwrap().unwrap() {
        Reply::Conduit(view) => *view,
        other => panic!("{other:?}"),
    }
}

fn read(world: &World, device: u32, path: &str) -> Option<Vec<u8>> {
    Some(world.device(device).disk.user().read(path).ok()?.bytes())
}

#[test]
fn when_a_partition_heals_the_later_of_two_conduits_that_clash_waits_on_every_device() {
    for seed in 0..3 {
        let mut world = three(seed);
        world.net.partition(&[vec![0, 1], vec![2]]);
        world.run_for(40 * SECOND);
        create(&mut world, 2, "both", ("c:notes", "b:notes"), SyncMode::Bidirectional);
        world.run_for(10 * SECOND);
        create(&mut world, 0, "mirror", ("a:notes", "b:notes"), SyncMode::Mirror);
        world.device(0).disk.user().write("/home/notes/of-a", b"of a").unwrap();
        world.device(2).disk.user().write("/home/notes/of-c", b"of c").unwrap();
        world.run_for(30 * SECOND);
        assert_eq!(read(&world, 1, "/home/notes/of-a").as_deref(), Some(b"of a".as_slice()), "nobody says no yet");

        world.net.mend_all();
        world.run_for(180 * SECOND);
        for device in 0..3 {
            let refused = look(&mut world, device, "mirror").refused.expect("it has heard of both");
            assert_eq!((refused.name.as_str(), refused.older.as_str()), ("mirror", "both"), "on {device}");
            assert_eq!(look(&mut world, device, "both").refused, None);
        }
        let sync = Command::Sync { conduit: "mirror".to_owned(), plan: None, wait_ms: 20_000 };
        assert_eq!(world.ask(0, sync).unwrap().unwrap_err().code, FaultCode::ConduitRule);
        for device in [1, 2] {
            assert_eq!(read(&world, device, "/home/notes/of-a").as_deref(), Some(b"of a".as_slice()), "seed {seed}");
            assert_eq!(read(&world, device, "/home/notes/of-c").as_deref(), Some(b"of c".as_slice()), "seed {seed}");
        }

        // It runs when it may, and asks before it clears what the other one brought.
        world.ask(1, Command::RemoveConduit("both".to_owned())).unwrap().unwrap();
        world.run_for(60 * SECOND);
        let (plan, _) = look(&mut world, 0, "mirror").held.expect("a first mirror asks");
        world.ask(0, Command::Approve { plan, wait_ms: 60_000 }).unwrap().unwrap();
        world.run_for(60 * SECOND);
        assert_eq!(read(&world, 1, "/home/notes/of-c"), None);
        assert_eq!(read(&world, 2, "/home/notes/of-c").as_deref(), Some(b"of c".as_slice()));
    }
}
