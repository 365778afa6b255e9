//! What cannot be read: left alone, named, and never said to be verified; looked at again by itself.

use tidegate::core::command::{Command, Reply};
use tidegate_protocol::file_sync::Verification;

use crate::harness::{A, B, World, path};

/// What `docs` says that it could not read.
fn named(world: &mut World) -> Vec<String> {
    let Reply::Conduit(view) = world.tell(A, Command::Conduit("docs".to_owned())) else { panic!("another answer") };
    view.unread.iter().map(|(path, why)| format!("{path}: {why}")).collect()
}

#[test]
fn a_run_that_left_out_what_cannot_be_read_is_not_verified() {
    for end in [A, B] {
        let (mut world, source, target) = World::mirror();
        for at in ["a", "b"] {
            world.write(A, source, at, at);
        }
        world.sync_through();
        let location = if end == A { source } else { target };
        world.tree(end, location).unread.insert(path("b"));
        world.hint(end, location, vec![path("b")]);
        world.write(A, source, "new", "content");
        let generation = world.sync_through().expect("there is something to do");
        assert_eq!(World::statuses(&generation).pop(), Some(Verification::Failed { remaining: 1 }), "end {end}");
        assert_eq!((generation.totals.copied, generation.totals.skipped), (1, 1));
        assert_eq!(world.files(B, target).len(), 3, "the rest was done, and nothing was taken for absent");
        assert_eq!(named(&mut world), ["b: not known: it cannot be read"]);

        // The disk is well again, which no watcher tells.
        world.tree(end, location).unread.clear();
        world.run_for(30_000);
        world.write(A, source, "new", "another content");
        let generation = world.sync_through().expect("there is something to do");
        assert_eq!(World::statuses(&generation).pop(), Some(Verification::Verified), "end {end}");
        assert!(named(&mut world).is_empty());
    }
}

#[test]
fn a_device_that_has_nothing_to_do_run_elsewhere_is_told_what_could_not_be_read() {
    let (mut world, source, _) = World::mirror();
    world.write(A, source, "a", "a");
    world.write(A, source, "b", "b");
    world.sync_through();
    let asked = |world: &mut World| match world.tell(B, World::sync(30_000)) {
        Reply::Started(started) => (started.generation, started.unread),
        other => panic!("{other:?}"),
    };
    assert_eq!(asked(&mut world), (None, 0));
    world.tree(A, source).unread.insert(path("b"));
    world.hint(A, source, vec![path("b")]);
    world.run_for(3_000);
    assert_eq!(asked(&mut world), (None, 1));
}

#[test]
fn an_undo_that_could_not_look_at_everything_is_not_verified() {
    for end in [A, B] {
        let (mut world, source, target) = World::mirror();
        for at in ["a", "b"] {
            world.write(A, source, at, "first");
        }
        world.sync_through();
        world.write(A, source, "a", "second");
        world.sync_through();
        let location = if end == A { source } else { target };
        world.tree(end, location).unread.insert(path("b"));
        world.hint(end, location, vec![path("b")]);
        world.run_for(3_000);
        let conduit = "docs".to_owned();
        world.tell(A, Command::Undo { conduit, number: 2, dry_run: false, approve: None, wait_ms: 30_000 });
        world.closed();
        let generation = world.newest(A).unwrap();
        assert_eq!(World::statuses(&generation).pop(), Some(Verification::Failed { remaining: 1 }), "end {end}");
        assert_eq!(world.files(B, target).get("a").map(String::as_str), Some("first"), "the rest was undone");
    }
}
