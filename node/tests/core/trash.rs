//! The trash: what people may take out of it, and what leaves it by itself.

use tidegate::core::command::{Command, FaultCode, Reply};
use tidegate::core::past::{TrashAsk, TrashSelect, TrashView, TrashWhat};
use tidegate_protocol::id::LocationId;

use crate::harness::{A, B, DAY_MS, World, path};

/// A mirror in which B's target has thrown `old` (replaced by a new content) and `gone` away.
fn with_trash() -> (World, LocationId, LocationId) {
    let (mut world, source, target) = World::mirror();
    world.write(A, source, "old", "first");
    world.write(A, source, "gone", "removed");
    world.write(A, source, "kept", "kept");
    world.sync_through();
    world.write(A, source, "old", "second");
    world.remove(A, source, "gone");
    world.sync_through();
    assert_eq!(world.tree(B, target).trash.len(), 2, "{}", world.tail());
    (world, source, target)
}

fn ask(what: TrashWhat, paths: &[&str], dry_run: bool) -> Command {
    let paths = paths.iter().map(|text| path(text)).collect();
    Command::Trash(TrashAsk { what, select: TrashSelect { paths, ..TrashSelect::default() }, dry_run })
}

fn told(world: &mut World, command: Command) -> TrashView {
    match world.tell(B, command) {
        Reply::Trash(view) => *view,
        other => panic!("{other:?}"),
    }
}

/// Time passes at once, then the cores find out.
fn later(world: &mut World, ms: u64) {
    world.now_ms += ms;
    world.run_for(2 * 60 * 60 * 1000);
}

fn outcomes(view: &TrashView) -> Vec<(&str, &str)> {
    view.things.iter().map(|thing| (thing.path.as_str(), thing.outcome.as_deref().unwrap_or_default())).collect()
}

#[test]
fn the_trash_is_listed_with_the_run_that_filled_it() {
    let (mut world, ..) = with_trash();
    let view = told(&mut world, ask(TrashWhat::List, &[], false));
    let mut things: Vec<_> =
        view.things.iter().map(|t| (t.path.as_str(), t.conduit.as_str(), t.generation, t.bytes)).collect();
    things.sort_unstable();
    assert_eq!(things, [("gone", "docs", 2, 7), ("old", "docs", 2, 5)]);
    assert_eq!((view.count, view.bytes, view.kept), (2, 12, 0));
    let nothing = TrashSelect { conduit: Some("docs".to_owned()), generation: Some(1), ..TrashSelect::default() };
    let view = told(&mut world, Command::Trash(TrashAsk { what: TrashWhat::List, select: nothing, dry_run: false }));
    assert!(view.things.is_empty());
    let unknown = TrashSelect { conduit: Some("none".to_owned()), ..TrashSelect::default() };
    let fault = world.refused(B, Command::Trash(TrashAsk { what: TrashWhat::List, select: unknown, dry_run: false }));
    assert_eq!(fault.code, FaultCode::NoSuchName);
}

#[test]
fn what_is_restored_stands_beside_what_is_there_now() {
    let (mut world, _, target) = with_trash();
    let view = told(&mut world, ask(TrashWhat::Restore, &["old", "gone"], true));
    assert_eq!(outcomes(&view), [("old", "would be restored beside what stands there"), ("gone", "would be restored")]);
    assert_eq!(world.tree(B, target).trash.len(), 2, "a dry run changes nothing");
    let view = told(&mut world, ask(TrashWhat::Restore, &["old", "gone"], false));
    assert_eq!(outcomes(&view), [("old", "restored as old (restored 2023-11-14)"), ("gone", "restored")]);
    let files = world.files(B, target);
    assert_eq!(files["old"], "second");
    assert_eq!((files["gone"].as_str(), files["old (restored 2023-11-14)"].as_str()), ("removed", "first"));
}

#[test]
fn an_only_copy_younger_than_a_day_is_not_purged() {
    let (mut world, source, target) = with_trash();
    // The content of `gone` stands at the source under another name; that of `old` stands nowhere.
    world.write(A, source, "another name", "removed");
    world.run_for(5_000);
    for dry_run in [true, false] {
        let view = told(&mut world, ask(TrashWhat::Purge, &["old", "gone"], dry_run));
        let gone = if dry_run { "would be purged" } else { "purged" };
        let kept = "kept: no other copy is known, and it is here for less than a day";
        assert_eq!(outcomes(&view), [("old", kept), ("gone", gone)]);
        assert_eq!(view.kept, 1);
    }
    assert_eq!(world.tree(B, target).trash, [(path("old"), b"first".to_vec())]);
    later(&mut world, DAY_MS + 120_000);
    let view = told(&mut world, ask(TrashWhat::Purge, &["old"], false));
    assert_eq!(outcomes(&view), [("old", "purged")]);
    assert_eq!(world.refused(B, ask(TrashWhat::Purge, &["old"], false)).code, FaultCode::NoSuchName);
}

#[test]
fn what_is_too_old_goes_by_itself_and_nothing_before() {
    let (mut world, _, target) = with_trash();
    later(&mut world, 29 * DAY_MS);
    assert_eq!(world.tree(B, target).trash.len(), 2);
    later(&mut world, 2 * DAY_MS);
    assert!(world.tree(B, target).trash.is_empty(), "{}", world.tail());
}

#[test]
fn what_is_too_much_goes_by_itself_the_oldest_first_but_no_young_only_copy() {
    let (mut world, source, target) = World::mirror();
    for round in 0..4 {
        // Each version is 60 bytes, and the disk has 1,000: more than one is beyond 10 %.
        world.write(A, source, "file", &format!("{round}").repeat(60));
        world.sync_through();
        world.run_for(1_000);
    }
    let rounds = |world: &mut World| -> Vec<u8> { world.tree(B, target).trash.iter().map(|(_, b)| b[0]).collect() };
    assert_eq!(rounds(&mut world), b"012");
    world.run_for(2 * 60 * 60 * 1000);
    assert_eq!(rounds(&mut world), b"012", "each is the only copy, and young");
    later(&mut world, DAY_MS);
    assert_eq!(rounds(&mut world), b"2");
}

#[test]
fn the_limits_wait_while_a_job_is_at_work() {
    let (mut world, source, target) = with_trash();
    later(&mut world, 29 * DAY_MS);
    world.nodes[B].hold_legs = true;
    world.write(A, source, "new", "being copied");
    world.tell(A, World::sync(30_000));
    world.now_ms += 2 * DAY_MS;
    // The coordinator asks a running job often, so this is some minutes only.
    world.run_for(5 * 60 * 1000);
    assert_eq!(world.tree(B, target).trash.len(), 2, "not while a job is open");
    world.release(B);
    world.closed();
    world.run_for(2 * 60 * 60 * 1000);
    assert!(world.tree(B, target).trash.is_empty());
}

#[test]
fn a_core_that_starts_again_knows_how_old_its_trash_is() {
    let (mut world, _, target) = with_trash();
    world.crash(B);
    world.run_for(5_000);
    let view = told(&mut world, ask(TrashWhat::Purge, &["old"], false));
    assert_eq!(view.kept, 1, "{:?}", outcomes(&view));
    later(&mut world, 31 * DAY_MS);
    assert!(world.tree(B, target).trash.is_empty());
}
