//! Staging: only whole and right content comes out of it, and what was interrupted goes on.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod common;

use std::fs;
use std::io;

use common::faulty::{Fault, Faulty};
use common::{World, facts, job, path};
use tidegate_protocol::index::FileFacts;
use tidegate_protocol::limits::CHUNK_BYTES;
use tidegate_storage::disk::os::OsRoot;
use tidegate_storage::disk::{Expect, KnownMap, NewContent, Outline, Planned, Refused, Staged, Workshop, block_on};

const CHUNK: usize = CHUNK_BYTES as usize;

fn large() -> Vec<u8> {
    (0..3 * CHUNK + 77).map(|n| (n % 253) as u8).collect()
}

fn shop(world: &World) -> Workshop<OsRoot> {
    block_on(Workshop::open(world.root.clone(), &job())).unwrap()
}

fn install(shop: &Workshop<OsRoot>, staged: Staged, at: &str) -> Result<(), Refused> {
    block_on(async {
        let ready = shop.barrier(vec![staged]).await?.pop().unwrap();
        shop.install(ready, &path(at), &Expect::ABSENT, &KnownMap::default()).await.map(|_| ())
    })
}

#[test]
fn bytes_that_are_not_what_was_announced_are_refused() {
    let world = World::new();
    let shop = shop(&world);
    for wrong in [b"ten byte!".as_slice(), b"", b"ten bytes!!"] {
        let result = block_on(shop.stage_bytes(1, wrong, &facts(b"ten bytes!")));
        assert!(matches!(result, Err(Refused::WrongContent)));
    }
    assert_eq!(world.staged(), Vec::<String>::new(), "nothing is written for them");
}

#[test]
fn an_interrupted_download_goes_on_from_the_chunks_that_are_right() {
    let world = World::new();
    let content = large();
    let (facts, outline) = (facts(&content), Outline::of(&content));
    let chunk = |index: usize| &content[index * CHUNK..content.len().min((index + 1) * CHUNK)];
    let first = block_on(shop(&world).stage_chunks(5, &facts, outline.clone())).unwrap();
    assert_eq!(first.missing(), [0, 1, 2, 3]);
    block_on(first.write_chunk(3, chunk(3))).unwrap();
    block_on(first.write_chunk(1, chunk(1))).unwrap();
    assert!(matches!(block_on(first.write_chunk(0, chunk(1))), Err(Refused::WrongContent)));
    assert!(matches!(block_on(first.finish()), Err(Refused::WrongContent)), "it is not whole");

    // Bits rot, and garbage follows the end.
    let part = world.at(&world.staged()[0]);
    let mut bytes = fs::read(&part).unwrap();
    bytes[CHUNK + 9] ^= 1;
    bytes.extend_from_slice(b"garbage");
    fs::write(&part, bytes).unwrap();

    let shop = shop(&world);
    let planned =
        |_| Some(Planned { path: path("f"), expect: Expect::ABSENT, installs: Some(NewContent::File(facts)) });
    assert_eq!(block_on(shop.recover(planned, &KnownMap::default())).unwrap().resumable, 1);
    let second = block_on(shop.stage_chunks(5, &facts, outline)).unwrap();
    assert_eq!(second.missing(), [0, 1, 2], "only what is right counts");
    for index in 0..3 {
        block_on(second.write_chunk(index as u64, chunk(index))).unwrap();
    }
    let staged = block_on(second.finish()).unwrap();
    install(&shop, staged, "f").unwrap();
    assert!(fs::read(world.at("f")).unwrap() == content);
    assert_eq!(block_on(shop.clean()).unwrap(), []);
}

#[test]
fn a_size_beyond_all_disks_takes_no_room_before_its_bytes_come() {
    let world = World::new();
    let huge = FileFacts { size: 1 << 63, ..facts(b"") };
    assert!(matches!(block_on(shop(&world).stage_chunks(1, &huge, Outline::of(b"x"))), Err(Refused::WrongContent)));
}

#[test]
fn a_local_copy_is_proven_by_what_arrived() {
    let (world, other) = (World::new(), World::new());
    let content = large();
    fs::write(other.at("from"), &content).unwrap();
    let shop = shop(&world);
    let from = (&path("from")).into();
    let staged = block_on(shop.stage_copy(1, &other.root, &from, &facts(&content))).unwrap();
    install(&shop, staged, "f").unwrap();
    assert!(fs::read(world.at("f")).unwrap() == content);
    fs::write(other.at("from"), vec![0; content.len()]).unwrap();
    let changed = block_on(shop.stage_copy(2, &other.root, &from, &facts(&content)));
    assert!(matches!(changed, Err(Refused::SourceChanged)));
    let gone = block_on(shop.stage_copy(3, &other.root, &(&path("gone")).into(), &facts(&content)));
    assert!(matches!(gone, Err(Refused::SourceChanged)));
}

#[test]
fn a_failed_barrier_throws_the_batch_away_and_a_full_disk_says_so() {
    for n in 1..40 {
        let world = World::new();
        let disk = Faulty::new(world.root.clone(), n, Fault::Fail(io::ErrorKind::StorageFull), true);
        let result = block_on(async {
            let shop = Workshop::open(disk.clone(), &job()).await?;
            let staged = shop.stage_bytes(1, b"x", &facts(b"x")).await?;
            let ready = shop.barrier(vec![staged]).await?.pop().unwrap();
            shop.install(ready, &path("f"), &Expect::ABSENT, &KnownMap::default()).await?;
            shop.sync_dirs().await
        });
        if !disk.reached() {
            assert!(result.is_ok());
            return;
        }
        assert!(matches!(result, Err(Refused::NoSpace)), "n={n} {result:?}");
        let shop = shop(&world);
        assert_eq!(block_on(shop.clean()).unwrap(), []);
        assert!(matches!(world.read("f").as_deref(), None | Some("x")), "whole or not at all");
    }
    panic!("it does not end");
}

#[test]
fn what_stands_in_the_way_or_is_missing_refuses_an_install() {
    let world = World::new();
    world.write("taken", "user's");
    fs::create_dir(world.at("dir")).unwrap();
    std::os::unix::fs::symlink("dir", world.at("link")).unwrap();
    let shop = shop(&world);
    let long = "x".repeat(250);
    for (at, wanted) in [("taken", "changed"), ("dir", "changed"), ("no/f", "parent"), ("link/f", "parent")] {
        let staged = block_on(shop.stage_bytes(1, b"x", &facts(b"x"))).unwrap();
        match (install(&shop, staged, at), wanted) {
            (Err(Refused::TargetChanged { kept: None }), "changed") | (Err(Refused::ParentMissing), "parent") => {}
            (other, _) => panic!("{at}: {other:?}"),
        }
    }
    let staged = block_on(shop.stage_bytes(1, b"x", &facts(b"x"))).unwrap();
    install(&shop, staged, &long).unwrap();
    assert_eq!(world.read("taken").as_deref(), Some("user's"));
    assert_eq!(fs::read_dir(world.at("dir")).unwrap().count(), 0);
}

#[test]
fn what_nobody_planned_is_kept_when_staging_is_cleared() {
    let world = World::new();
    drop(shop(&world));
    let staging = format!(".tidegate/staging/{}", job());
    world.write(&format!("{staging}/3.swap"), "maybe a user's");
    world.write(&format!("{staging}/note"), "who knows");
    world.write(&format!("{staging}/4.part"), "ours");
    let kept = block_on(shop(&world).clean()).unwrap();
    assert_eq!(kept.len(), 2);
    assert_eq!(world.trash().into_iter().collect::<Vec<_>>(), ["maybe a user's", "who knows"]);
    assert!(!world.at(&staging).exists());
}
