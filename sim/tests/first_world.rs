//! The first thing a world must do: devices meet, a mirror runs, a crash in the middle does no harm, and the same
//! seed does the same twice.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::{Arc, Mutex};

use tidegate::core::command::{Command, ConduitChange, ConduitView, NewConduit, Reply};
use tidegate_protocol::file_sync::{SyncMode, Verification};
use tidegate_protocol::id::Label;
use tidegate_protocol::index::Rights;
use tidegate_sim::clock::Chip;
use tidegate_sim::device::Cut;
use tidegate_sim::disk::Survival;
use tidegate_sim::executor::{MILLI, SECOND};
use tidegate_sim::happening::{Ear, Happening, Listener};
use tidegate_sim::network::weather::Weather;
use tidegate_sim::random::mix;
use tidegate_sim::world::World;

const ALL: Rights = Rights { read: true, write: true, delete: true };

/// Adds up everything that is heard.
#[derive(Default)]
struct Sum(u64, u64);

impl Listener for Sum {
    fn heard(&mut self, happening: &Happening) {
        self.0 = format!("{happening:?}").bytes().fold(self.0, |sum, byte| mix(sum ^ u64::from(byte)));
        self.1 += 1;
    }
}

struct Mirror {
    world: World,
    sum: Arc<Mutex<Sum>>,
}

impl Mirror {
    /// Three devices of one library; `docs` mirrors A's `src` to B's `dst`.
    fn new(seed: u64, weather: Weather) -> Self {
        let sum = Arc::new(Mutex::new(Sum::default()));
        let heard: Arc<Mutex<dyn Listener>> = sum.clone();
        let mut world = World::new(seed, weather, Ear::of(heard));
        for (name, drift) in [("a", 0), ("b", 150), ("c", -150)] {
            let device = world.add_device(name, Chip::new(drift, 0));
            world.start(device).unwrap();
        }
        for joiner in [1, 2] {
            assert!(world.pair(0, joiner));
            world.run_for(5 * SECOND);
        }
        let mut mirror = Self { world, sum };
        mirror.world.add_location(0, "src", "/home/src").unwrap().unwrap();
        mirror.world.add_location(1, "dst", "/home/dst").unwrap().unwrap();
        for (owner, location, other) in [(0, "src", "b"), (1, "dst", "a")] {
            let (location, device) = (location.to_owned(), other.to_owned());
            mirror.tell(owner, Command::Allow { location, device, rights: ALL });
        }
        mirror.world.run_for(5 * SECOND);
        let conduit = NewConduit {
            name: Label::lossy("docs"),
            source: "a:src".to_owned(),
            target: "b:dst".to_owned(),
            mode: SyncMode::Mirror,
            change: ConduitChange::default(),
        };
        mirror.tell(0, Command::CreateConduit(conduit));
        mirror.world.run_for(5 * SECOND);
        mirror
    }

    fn tell(&mut self, device: u32, command: Command) -> Reply {
        let shown = format!("{command:?}");
        match self.world.ask(device, command) {
            Some(Ok(reply)) => reply,
            Some(Err(fault)) => panic!("{shown}: {fault}: {}", fault.why),
            None => panic!("{shown}: no answer"),
        }
    }

    fn conduit(&mut self) -> ConduitView {
        match self.tell(0, Command::Conduit("docs".to_owned())) {
            Reply::Conduit(view) => *view,
            other => panic!("{other:?}"),
        }
    }

    fn sync(&mut self) {
        self.tell(0, Command::Sync { conduit: "docs".to_owned(), plan: None, wait_ms: 60_000 });
    }

    /// Waits until no generation is open, and gives the last status of the newest.
    fn closed(&mut self) -> Option<Verification> {
        for _ in 0..600 {
            self.world.run_for(SECOND);
            let view = self.conduit();
            if view.last.as_ref().is_some_and(|last| last.closed_ms.is_some()) && view.running.is_none() {
                return view.last.and_then(|last| last.statuses.last().map(|(_, status)| *status));
            }
        }
        panic!("never closed: {:?}", self.conduit());
    }

    fn read(&self, path: &str) -> Option<Vec<u8>> {
        let content = self.world.device(1).disk.user().read(path).ok()?;
        Some(content.bytes())
    }

    fn heard(&self) -> (u64, u64, u64) {
        let sum = self.sum.lock().unwrap();
        (sum.0, sum.1, self.world.events())
    }
}

fn an_edit(seed: u64) -> (u64, u64, u64) {
    let mut mirror = Mirror::new(seed, Weather::FAIR);
    let user = mirror.world.device(0).disk.user();
    user.make_dirs("/home/src/d").unwrap();
    user.write("/home/src/d/note", b"hello").unwrap();
    mirror.sync();
    assert_eq!(mirror.closed(), Some(Verification::Verified));
    assert_eq!(mirror.read("/home/dst/d/note").as_deref(), Some(b"hello".as_slice()));
    mirror.heard()
}

#[test]
fn an_edit_on_a_is_on_b_and_verified_and_the_same_seed_does_the_same_twice() {
    let first = an_edit(1);
    assert_eq!(first, an_edit(1));
    assert_ne!(first, an_edit(2));
}

fn a_crash(seed: u64, after_ms: u64, survival: Survival) -> (u64, u64, u64) {
    let mut mirror = Mirror::new(seed, Weather::FAIR);
    let user = mirror.world.device(0).disk.user();
    for n in 0..40 {
        user.write(&format!("/home/src/{n}"), format!("content {n}").repeat(1 + n * 50).as_bytes()).unwrap();
    }
    mirror.sync();
    mirror.world.run_for(after_ms * MILLI);
    mirror.world.crash(1, Cut::Power(survival));
    mirror.world.run_for(3 * SECOND);
    mirror.world.start(1).unwrap();
    let status = mirror.closed();
    if status != Some(Verification::Verified) {
        mirror.sync();
        assert_eq!(mirror.closed(), Some(Verification::Verified), "after {after_ms} ms, {survival:?}");
    }
    for n in 0..40 {
        let content = format!("content {n}").repeat(1 + n * 50).into_bytes();
        assert!(mirror.read(&format!("/home/dst/{n}")) == Some(content), "{n} after {after_ms} ms, {survival:?}");
    }
    mirror.heard()
}

#[test]
fn a_power_cut_on_b_in_the_middle_does_no_harm() {
    for (n, survival) in Survival::ALL.into_iter().enumerate() {
        let after_ms = 20 * n as u64;
        assert_eq!(a_crash(3, after_ms, survival), a_crash(3, after_ms, survival));
    }
}
