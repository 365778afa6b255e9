//! Rows that come in pages: who is blamed, what is shown meanwhile, and how many are taken.

use tidegate::core::CoreConfig;
use tidegate::core::command::{Command, Reply};
use tidegate::core::io::Input;
use tidegate_protocol::id::{LocationId, Sequence};

use tidegate_storage::store::AuthorState;

use crate::harness::{A, B, C, LostInput, World, id, name, path};

const D: usize = 3;

/// Files that no watcher tells of, then all of them at once.
fn fill(world: &mut World, location: LocationId, from: usize, count: usize) {
    for at in from..from + count {
        world.tree(A, location).write(&path(&format!("d{}/{at}", at % 100)), b"x");
    }
    world.input(A, Input::Hints { location, paths: Vec::new(), overflow: true });
    world.run_for(2_000);
}

/// A's rows in many pages at B and D, and A is off. C is of the library but was off when they came, or it has never
/// been of it.
fn relayed(joined: bool) -> World {
    let mut world = World::new(4);
    for other in [B, D].into_iter().chain(joined.then_some(C)) {
        world.pair(A, other);
    }
    world.run_for(60_000);
    let location = world.locate(A, "src");
    if joined {
        world.halt(C);
    }
    let other = world.locate(A, "other");
    world.write(A, other, "early", "x");
    fill(&mut world, location, 0, 10_000);
    world.run_for(60_000);
    assert!(world.level(&[A, B, D]), "{}", world.tail());
    world.halt(A);
    world
}

/// Whether C holds of A what D does.
fn is_level(world: &World) -> bool {
    let of_a = |at| world.author(at, A).map(|state| (state.epoch, state.upto, state.set_hash.digest()));
    of_a(C) == of_a(D)
}

#[test]
fn pages_that_follow_on_what_is_held_are_blamed_on_whoever_brought_them() {
    let mut world = relayed(true);
    world.lying = Some(B);
    world.cut(C, D);
    world.cut(C, B);
    world.boot(C);
    let before = world.author(C, A);
    world.heal(C, B);
    world.run_for(20_000);
    let held = |state: Option<AuthorState>| state.map(|state| (state.upto, state.row_count, state.rests.is_some()));
    assert_eq!(held(world.author(C, A)), held(before), "only lies were to be had, and what was held stays");
    world.cut(B, C);
    world.heal(C, D);
    world.run_for(20_000);
    assert!(is_level(&world), "{}", world.tail());
}

#[test]
fn a_load_to_which_several_brought_pages_is_begun_again_and_the_last_is_not_blamed() {
    let mut world = relayed(false);
    world.lying = Some(B);
    world.cut(C, D);
    let library = world.nodes[B].library.unwrap();
    let paired = |device, joined| Input::Paired { device: id(device), name: name(device), library, joined };
    world.nodes[C].lost = Some(LostInput::RowsAfter(Sequence::ZERO));
    for host in [B, D] {
        world.input(host, paired(C, false));
        world.input(C, paired(host, true));
    }
    let begun = |world: &World| {
        let arriving = world.store(C).read().unwrap().arriving(id(A)).unwrap();
        arriving.is_some_and(|state| state.upto.0 > 0)
    };
    assert!(world.run_until(60_000, begun), "{}", world.tail());
    let shown = world.store(C).read().unwrap().location(id(A), LocationId::from_bytes([1; 16])).unwrap();
    assert!(shown.is_none(), "nothing is shown before it is proven");
    world.nodes[C].lost = None;
    world.cut(B, C);
    world.heal(C, D);
    // Less than the time for which a liar is not asked.
    world.run_for(50_000);
    assert!(is_level(&world), "{}", world.tail());
}

#[test]
fn what_changes_between_two_pages_is_taken_as_it_is_by_then() {
    let mut world = relayed(true);
    world.boot(A);
    world.run_for(20_000);
    let [location, other] = ["src", "other"].map(|name| {
        let locations = world.store(A).read().unwrap().locations().unwrap();
        locations.into_iter().find(|known| known.name.as_str() == name).map(|known| known.id)
    });
    let (location, other) = (location.unwrap(), other.unwrap());
    // C, which holds an older state of A, gets the first page of what is new from A alone, and no more for now.
    world.cut(C, B);
    world.cut(C, D);
    world.boot(C);
    let held = world.author(C, A).unwrap().upto;
    world.nodes[C].lost = Some(LostInput::RowsAfter(held));
    world.run_for(5_000);
    assert_eq!(world.author(C, A).unwrap().upto, held);
    // Some of them were in the first page.
    for at in (0..100).step_by(5) {
        world.write(A, location, &format!("d{at}/{at}"), "changed");
    }
    world.tell(A, Command::RemoveLocation("other".to_owned()));
    world.run_for(5_000);
    world.nodes[C].lost = None;
    let asked = world.count(C, "ask Rows");
    world.run_for(60_000);
    assert_eq!(world.count(C, "ask Rows") - asked, 2, "the other two pages, and none of them again: {}", world.tail());
    assert!(world.level(&[A, C]), "{}", world.tail());
    let reader = world.store(C).read().unwrap();
    assert_eq!(reader.tree(id(A), other).unwrap().counters.rows, 0);
}

#[test]
fn a_device_with_more_entries_than_are_kept_stops_alone() {
    check_quota(|config| config.index_rows_max = 2_000);
}

#[test]
fn a_device_with_longer_entries_than_are_kept_stops_alone() {
    check_quota(|config| config.index_bytes_max = 200_000);
}

/// What A has at first, 1,000 files, is within what B keeps of it by `limit`; 2,000 more are not.
fn check_quota(limit: impl Fn(&mut CoreConfig)) {
    let mut world = World::new(3);
    world.pair(A, B);
    world.pair(A, C);
    world.run_for(40_000);
    limit(&mut world.nodes[B].config);
    world.crash(B);
    world.run_for(5_000);
    let location = world.locate(A, "src");
    fill(&mut world, location, 0, 1_000);
    world.run_for(5_000);
    assert!(world.level(&[A, B, C]), "{}", world.tail());
    let of_a = world.author(A, A).unwrap();
    assert!((80_000..150_000).contains(&of_a.row_bytes), "{} bytes of rows", of_a.row_bytes);
    let before = world.author(B, A).unwrap();
    fill(&mut world, location, 1_000, 2_000);
    world.locate(C, "other");
    world.run_for(40_000);
    assert!(world.level(&[A, C]) && world.level(&[B, C]), "{}", world.tail());
    assert_eq!(world.author(B, A).unwrap().upto, before.upto, "what was there stays");
    let Reply::Device(view) = world.tell(B, Command::Device("A".to_owned())) else { panic!() };
    assert!(view.over_quota && !view.caught_up);
    let Reply::Device(view) = world.tell(C, Command::Device("A".to_owned())) else { panic!() };
    assert!(!view.over_quota);
}
