//! The trash as people see it: listed, put back beside what stands there, removed for good.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod common;

use std::fs;

use common::{World, path};
use tidegate_protocol::hash::ContentHash;
use tidegate_storage::disk::{Bin, Refused, block_on, hash_trashed, list_trash, purge_trashed, restore_beside};

const MARK: &str = "(restored 2026-11-22)";

fn bin() -> Bin {
    Bin { conduit: "0404abcd".to_owned(), generation: 7 }
}

/// A location whose trash holds these files in one bin.
fn trashed(files: &[&str]) -> World {
    let world = World::new();
    for file in files {
        world.write(&format!(".tidegate/trash/{}/{file}", bin()), &format!("old {file}"));
    }
    world
}

#[test]
fn what_lies_in_the_trash_is_listed_by_bin_and_path_and_nothing_else_is() {
    let world = trashed(&["d/b", "a", "d/a"]);
    world.write(".tidegate/trash/notes.txt", "not ours");
    fs::create_dir_all(world.at(".tidegate/trash/someone's")).unwrap();
    world.write("in/place", "a user's");
    let listing = block_on(list_trash(&world.root)).unwrap();
    let found: Vec<String> = listing.things.iter().map(|thing| thing.path.to_string()).collect();
    assert_eq!(found, ["a", "d/a", "d/b"]);
    assert_eq!((listing.count, listing.bytes), (3, 5 + 7 + 7));
    assert!(listing.things.iter().all(|thing| thing.bin == bin()));
    assert!(block_on(list_trash(&World::new().root)).unwrap().things.is_empty(), "no trash is an empty one");
}

#[test]
fn a_file_is_put_back_to_its_place_or_beside_what_stands_there() {
    for (standing, from, expected) in [
        (&[][..], "d/e/a.txt", "d/e/a.txt"),
        (&["d/e/a.txt"], "d/e/a.txt", "d/e/a (restored 2026-11-22).txt"),
        (&["a.txt", "a (restored 2026-11-22).txt"], "a.txt", "a (restored 2026-11-22)-2.txt"),
        (&[".profile"], ".profile", ".profile (restored 2026-11-22)"),
        (&["plain"], "plain", "plain (restored 2026-11-22)"),
    ] {
        let world = trashed(&[from]);
        for file in standing {
            world.write(file, "a user's");
        }
        let put = block_on(restore_beside(&world.root, &bin(), &path(from), MARK)).unwrap();
        assert_eq!(put.to_string(), expected);
        assert_eq!(world.read(expected), Some(format!("old {from}")));
        for file in standing {
            assert_eq!(world.read(file).as_deref(), Some("a user's"), "what stands there stays");
        }
        assert!(world.trash().is_empty());
    }
}

#[test]
fn what_cannot_be_put_back_stays_in_the_trash() {
    let world = trashed(&["d/a"]);
    world.write("d", "a file where the directory was");
    let refused = block_on(restore_beside(&world.root, &bin(), &path("d/a"), MARK)).unwrap_err();
    assert!(matches!(refused, Refused::ParentMissing), "{refused:?}");
    let gone = block_on(restore_beside(&world.root, &bin(), &path("gone"), MARK)).unwrap_err();
    assert!(matches!(gone, Refused::SourceChanged), "{gone:?}");
    assert_eq!(world.read(".tidegate/trash/0404abcd-7/d/a").as_deref(), Some("old d/a"));
}

#[test]
fn what_is_purged_is_gone_and_its_neighbours_are_not() {
    let world = trashed(&["d/a", "d/b"]);
    let content = block_on(hash_trashed(&world.root, &bin(), &path("d/a"))).unwrap();
    assert_eq!(content, Some(ContentHash::of(b"old d/a")));
    block_on(purge_trashed(&world.root, &bin(), &path("d/a"))).unwrap();
    assert!(!world.at(".tidegate/trash/0404abcd-7/d/a").exists());
    assert_eq!(world.read(".tidegate/trash/0404abcd-7/d/b").as_deref(), Some("old d/b"));
    block_on(purge_trashed(&world.root, &bin(), &path("d/a"))).unwrap();
    block_on(purge_trashed(&world.root, &bin(), &path("d/b"))).unwrap();
    assert!(!world.at(".tidegate/trash/0404abcd-7").exists(), "an empty bin goes");
    assert!(world.at(".tidegate/trash").exists());
}
