//! Reading both disks again: what is found, that it is not spread, and what heals.

use tidegate::core::command::{Command, FaultCode, Reply};
use tidegate::core::past::AuditView;
use tidegate_protocol::file_sync::Verification;
use tidegate_protocol::id::LocationId;

use crate::harness::{A, B, World, path};

fn mirrored() -> (World, LocationId, LocationId) {
    let (mut world, source, target) = World::mirror();
    for number in 0..30 {
        world.write(A, source, &format!("d/f{number}"), &format!("content {number}"));
    }
    world.sync_through();
    (world, source, target)
}

/// Verifies, and waits until everything was read.
fn verified(world: &mut World, number: Option<u64>, heal: bool) -> AuditView {
    world.tell(A, Command::Verify { conduit: "docs".to_owned(), number, heal });
    for _ in 0..100 {
        let Reply::Audit(view) = world.tell(A, Command::Verified { conduit: "docs".to_owned() }) else { panic!() };
        if view.is_over {
            return *view;
        }
        world.run_for(500);
    }
    panic!("it never ends:{}", world.tail());
}

fn found(view: &AuditView) -> Vec<String> {
    view.found.iter().map(|found| format!("{} {}: {}", found.device, found.path, found.what)).collect()
}

#[test]
fn sound_disks_are_found_sound() {
    let (mut world, ..) = mirrored();
    let view = verified(&mut world, None, false);
    assert_eq!((view.checked, view.sound, view.found_total), (60, 60, 0));
    let view = verified(&mut world, Some(1), false);
    assert_eq!((view.checked, view.sound), (60, 60));
    assert_eq!(
        world.refused(B, Command::Verify { conduit: "docs".to_owned(), number: None, heal: false }).code,
        FaultCode::Refused
    );
}

#[test]
fn rot_is_found_and_not_spread() {
    let (mut world, source, target) = mirrored();
    world.tree(B, target).rot(&path("d/f7"), "contort 7");
    world.tree(A, source).rot(&path("d/f9"), "contort 9");
    let view = verified(&mut world, None, false);
    let rot = "changed while size and time stayed";
    assert_eq!(found(&view), [format!("A d/f9: {rot}"), format!("B d/f7: {rot}")]);
    world.run_for(5_000);
    assert_eq!(world.sync_through(), None, "it is nobody's edit");
    assert_eq!(world.files(B, target)["d/f9"], "content 9");
}

#[test]
fn rot_is_healed_from_the_other_end_when_told() {
    let (mut world, source, target) = mirrored();
    world.tree(B, target).rot(&path("d/f7"), "contort 7");
    world.tree(A, source).rot(&path("d/f9"), "contort 9");
    let view = verified(&mut world, Some(1), true);
    assert_eq!((view.healed_by, view.failure), (Some(2), None));
    world.closed();
    let generation = world.newest(A).unwrap();
    assert_eq!(World::statuses(&generation).last(), Some(&Verification::Verified), "{}", world.tail());
    assert_eq!(world.files(B, target)["d/f7"], "content 7");
    assert_eq!(world.files(A, source)["d/f9"], "content 9");
    assert_eq!(world.tree(B, target).trash, [(path("d/f7"), b"contort 7".to_vec())], "what rotted is kept");
    assert_eq!(verified(&mut world, None, false).found_total, 0);
}

#[test]
fn what_rotted_on_both_ends_is_left_alone() {
    let (mut world, source, target) = mirrored();
    world.tree(B, target).rot(&path("d/f7"), "contort 7");
    world.tree(A, source).rot(&path("d/f7"), "distort 7");
    let view = verified(&mut world, None, true);
    assert!(view.failure.unwrap().contains("no sound copy"));
    assert_eq!(world.files(B, target)["d/f7"], "contort 7");
}

#[test]
fn an_owner_that_is_away_for_a_while_is_asked_again() {
    let (mut world, ..) = mirrored();
    world.cut(A, B);
    world.tell(A, Command::Verify { conduit: "docs".to_owned(), number: None, heal: false });
    world.run_for(10_000);
    world.heal(A, B);
    world.run_for(20_000);
    let Reply::Audit(view) = world.tell(A, Command::Verified { conduit: "docs".to_owned() }) else { panic!() };
    assert_eq!((view.is_over, view.sound), (true, 60), "{}", world.tail());
}
