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
