//! Jobs and their driver on real disks, with streams in memory: what is copied, kept, resumed and stopped.

#![cfg(feature = "os")]
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod machines;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use bytes::Bytes;
use machines::{Node, World, id, image, install, job, leg, mark, noise, path, work};
use tidegate::core::io::{CopySource, DeleteLeg, Input, JobStop, LocalContent, Output, ScanScope};
use tidegate::env::{Network, Stream};
use tidegate_protocol::file_sync::{Action, DeleteMode, ItemOutcome, JobKind, PreImage, SkipReason};
use tidegate_protocol::index::{EntryKind, FileFacts, Version};
use tidegate_protocol::path::DirPath;
use tidegate_protocol::wire::{JobControl, Part, Piece, RefusalCode, Response};

const MIB: usize = 1 << 20;

fn put(node: &Node, at: &str, content: &[u8]) {
    let file = node.root.join(at);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, content).unwrap();
}

fn get(node: &Node, at: &str) -> Vec<u8> {
    fs::read(node.root.join(at)).unwrap()
}

fn skipped(reason: SkipReason) -> ItemOutcome {
    ItemOutcome::Skipped(reason)
}

#[test]
fn a_leg_brings_directories_files_of_all_sizes_and_links() {
    let world = World::new();
    let (a, b) = (world.node(1), world.node(2));
    let sizes = [0, 1, 100, 8192, MIB - 1, MIB, MIB + 1, 3 * MIB + 17];
    let mut items = vec![work(0, "d", PreImage::Absent, Action::MakeDirectory { version: Version::NONE })];
    for (number, size) in sizes.into_iter().enumerate() {
        let at = format!("d/f{number}");
        put(&a, &at, &noise(number as u64, size));
        items.push(install(items.len() as u32, &a, &at, PreImage::Absent));
    }
    for number in 0..1500_u32 {
        let at = format!("d/s{number}");
        put(&a, &at, &noise(u64::from(number), 500));
        items.push(install(items.len() as u32, &a, &at, PreImage::Absent));
    }
    let link = Action::InstallSymlink { target: b"/nowhere/\xff".to_vec(), version: Version::NONE };
    items.push(work(items.len() as u32, "d/link", PreImage::Absent, link));
    let total = items.len();
    let ran = world.run(&b, leg(&a, &b, items));
    ran.all_done(total);
    assert_eq!(ran.bytes_done, sizes.iter().sum::<usize>() as u64 + 1500 * 500);
    for (number, size) in sizes.into_iter().enumerate() {
        assert_eq!(get(&b, &format!("d/f{number}")), noise(number as u64, size));
    }
    assert_eq!(ran.announced.len(), total);
    for written in ran.announced {
        let file = b.root.join(written.path.to_string());
        match written.kind.unwrap() {
            EntryKind::File(facts) => {
                assert_eq!(written.mark, Some(mark(&file)), "{}", written.path);
                assert_eq!(facts.mtime_ns, mark(&a.root.join(written.path.to_string())).mtime_ns);
            }
            EntryKind::Directory { .. } => assert!(file.is_dir()),
            EntryKind::Symlink { .. } => assert!(file.is_symlink()),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_leg_that_ran_already_is_done_again_without_a_byte() {
    let world = World::new();
    let (a, b) = (world.node(1), world.node(2));
    for number in 0..20 {
        put(&a, &format!("f{number}"), &noise(number, 3000));
    }
    put(&a, "large", &noise(99, 2 * MIB));
    let names = (0..20).map(|n| format!("f{n}")).chain(["large".to_owned()]);
    let items: Vec<_> = names.enumerate().map(|(index, at)| install(index as u32, &a, &at, PreImage::Absent)).collect();
    world.run(&b, leg(&a, &b, items.clone())).all_done(21);
    let before = world.wires.received();
    world.run(&b, leg(&a, &b, items)).all_done(21);
    assert_eq!(world.wires.received(), before);
}

#[test]
fn a_large_file_resumes_from_its_verified_chunks() {
    let world = World::new();
    let (a, b) = (world.node(1), world.node(2));
    put(&a, "large", &noise(1, 80 * MIB));
    let items = vec![install(0, &a, "large", PreImage::Absent)];
    world.wires.cut_after(60 * MIB as u64);
    let cut = world.run(&b, leg(&a, &b, items.clone()));
    assert_eq!((cut.stopped, cut.outcomes.len()), (Some(JobStop::Unreachable), 0));
    assert!(!b.root.join("large").exists(), "nothing partial is visible");
    world.wires.cut_after(0);
    let before = world.wires.received();
    let ran = world.run(&b, leg(&a, &b, items));
    ran.all_done(1);
    assert!(world.wires.received() - before < 40 * MIB as u64, "less than half is sent again");
    assert_eq!(cut.bytes_done + ran.bytes_done, 80 * MIB as u64);
    assert_eq!(get(&b, "large"), noise(1, 80 * MIB));
}

#[test]
fn only_the_changed_chunks_of_a_large_file_travel() {
    let world = World::new();
    let (a, b) = (world.node(1), world.node(2));
    let old = noise(1, 16 * MIB);
    let mut new = old.clone();
    new[8 * MIB..9 * MIB].copy_from_slice(&noise(2, MIB));
    put(&a, "large", &new);
    put(&b, "large", &old);
    let ran = world.run(&b, leg(&a, &b, vec![install(0, &a, "large", image(&old))]));
    ran.all_done(1);
    assert_eq!((ran.bytes_done, ran.bytes_reused), (16 * MIB as u64, 15 * MIB as u64));
    assert!(world.wires.received() < 2 * MIB as u64);
    assert_eq!(get(&b, "large"), new);
}

#[test]
fn an_edit_of_the_target_after_the_plan_is_kept() {
    let world = World::new();
    let (a, b) = (world.node(1), world.node(2));
    for at in ["new", "changed", "fine"] {
        put(&a, at, b"from the source");
    }
    put(&b, "new", b"mine, made after the plan");
    put(&b, "changed", b"mine, edited after the plan");
    put(&b, "fine", b"as planned");
    let items = vec![
        install(0, &a, "new", PreImage::Absent),
        install(1, &a, "changed", image(b"as planned")),
        install(2, &a, "fine", image(b"as planned")),
    ];
    let ran = world.run(&b, leg(&a, &b, items));
    assert_eq!(
        ran.outcomes.into_values().collect::<Vec<_>>(),
        [skipped(SkipReason::TargetChanged), skipped(SkipReason::TargetChanged), ItemOutcome::Done]
    );
    assert_eq!(get(&b, "new"), b"mine, made after the plan");
    assert_eq!(get(&b, "changed"), b"mine, edited after the plan");
    assert_eq!(get(&b, "fine"), b"from the source");
}

#[test]
fn a_source_that_changes_while_it_is_read_fails_its_item_alone() {
    let world = World::new();
    let (a, b) = (world.node(1), world.node(2));
    put(&a, "moving", &noise(1, 20 * MIB));
    put(&a, "steady", b"steady");
    let items = vec![install(0, &a, "moving", PreImage::Absent), install(1, &a, "steady", PreImage::Absent)];
    let file = Mutex::new(Some(a.root.join("moving")));
    world.wires.on_frame(move |received| {
        if received > 2 * MIB as u64
            && let Some(file) = file.lock().unwrap().take()
        {
            fs::write(file, noise(2, 20 * MIB)).unwrap();
        }
    });
    let ran = world.run(&b, leg(&a, &b, items));
    assert_eq!(ran.stopped, None);
    let moving = &ran.outcomes[&0];
    assert!([skipped(SkipReason::SourceChanged), skipped(SkipReason::WrongContent)].contains(moving), "{moving:?}");
    assert_eq!(ran.outcomes[&1], ItemOutcome::Done);
    assert!(!b.root.join("moving").exists());
}

#[test]
fn bytes_that_are_not_the_content_are_asked_for_once_more_and_never_installed() {
    let world = World::new();
    let (a, b) = (world.node(1), world.node(2));
    let asked = Arc::new(AtomicU64::new(0));
    let counting = Arc::clone(&asked);
    let liar = world.node_that(3, move |ticket, _| {
        counting.fetch_add(1, Ordering::SeqCst);
        let pieces = vec![Piece { want: 0, part: Part::Bytes(vec![0; 4]) }];
        Output::Respond { ticket, response: Response::Pieces(pieces) }
    });
    put(&a, "f", b"true");
    let ran = world.run(&b, leg(&liar, &b, vec![install(0, &a, "f", PreImage::Absent)]));
    assert_eq!(ran.outcomes[&0], skipped(SkipReason::WrongContent));
    assert_eq!(asked.load(Ordering::SeqCst), 2);
    assert!(!b.root.join("f").exists());
}

#[test]
fn content_that_the_device_holds_is_not_sent() {
    let world = World::new();
    let (a, b) = (world.node(1), world.node(2));
    for at in ["here", "changed"] {
        put(&a, at, &noise(1, 5000));
    }
    put(&b, "copy", &noise(1, 5000));
    put(&b, "stale", b"no longer the content");
    let local = |at: &str| Some(LocalContent { location: b.location, path: path(at), mark: mark(&b.root.join(at)) });
    let mut items = vec![install(0, &a, "here", PreImage::Absent), install(1, &a, "changed", PreImage::Absent)];
    items[0].local = local("copy");
    items[1].local = local("stale");
    let ran = world.run(&b, leg(&a, &b, items));
    ran.all_done(2);
    assert_eq!((ran.bytes_done, ran.bytes_reused), (10_000, 5000));
    assert!(world.wires.received() < 6000);
}

#[test]
fn a_conduit_on_one_device_needs_no_wire() {
    let world = World::new();
    let (a, b) = (world.node(1), world.node(2));
    // Both directories as locations of one device.
    put(&a, "from/f", &noise(1, 3 * MIB));
    put(&a, "from/g", b"small");
    let mut items = vec![install(0, &a, "from/f", PreImage::Absent), install(1, &a, "from/g", PreImage::Absent)];
    for (work, at) in items.iter_mut().zip(["f", "g"]) {
        work.path = path(at);
        work.item.path = path(at);
        if let Action::InstallFile { from, .. } = &mut work.item.action {
            *from = path(at);
        }
    }
    let here = CopySource::Here { location: a.location, dir: DirPath::below_top(path("from")) };
    let ran = world.run(&a, tidegate::core::io::CopyLeg { source: here, ..leg(&b, &a, items) });
    ran.all_done(2);
    assert_eq!((get(&a, "f"), get(&a, "g")), (noise(1, 3 * MIB), b"small".to_vec()));
    assert_eq!(world.wires.received(), 0);
}

#[test]
fn a_leg_stops_where_it_is_told_to_and_goes_on_later() {
    for (control, stop) in [(JobControl::Pause, JobStop::Paused), (JobControl::Cancel, JobStop::Cancelled)] {
        let world = World::new();
        let (a, b) = (world.node(1), world.node(2));
        put(&a, "large", &noise(1, 40 * MIB));
        let items = vec![install(0, &a, "large", PreImage::Absent)];
        let (reached, wait_reached) = mpsc::channel();
        let (go_on, wait_go_on) = mpsc::channel::<()>();
        let (reached, wait_go_on) = (Mutex::new(Some(reached)), Mutex::new(wait_go_on));
        world.wires.on_frame(move |received| {
            if received > 5 * MIB as u64
                && let Some(reached) = reached.lock().unwrap().take()
            {
                reached.send(()).unwrap();
                wait_go_on.lock().unwrap().recv().unwrap();
            }
        });
        world.wish(&b, Output::RunCopy(leg(&a, &b, items.clone())));
        wait_reached.recv().unwrap();
        world.wish(&b, Output::Control { job: job(&b, JobKind::Copy), control });
        // Outputs are performed in order: when this one has been, so has the control.
        world.wish(&b, Output::Drain { location: b.location, barrier: 4 });
        while !matches!(world.next(&b), Input::Drained { barrier: 4, .. }) {}
        go_on.send(()).unwrap();
        let ran = world.ended(&b);
        assert_eq!((ran.stopped, ran.outcomes.len()), (Some(stop), 0));
        world.run(&b, leg(&a, &b, items)).all_done(1);
    }
}

#[test]
fn a_full_disk_stops_the_leg_and_nothing_partial_shows() {
    let world = World::new();
    let a = world.node(1);
    let small = tempfile::TempDir::new().unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"])
        .arg(small.path())
        .output()
        .is_ok_and(|mount| mount.status.success());
    if !mounted {
        eprintln!("skipped: mounting a small tmpfs needs privileges");
        return;
    }
    let b = world.node_on(2, small.path());
    put(&a, "large", &noise(1, 6 * MIB));
    put(&a, "larger", &noise(2, 6 * MIB));
    let items = vec![install(0, &a, "large", PreImage::Absent), install(1, &a, "larger", PreImage::Absent)];
    let refused = world.run(&b, leg(&a, &b, items.clone()));
    assert_eq!((refused.stopped, refused.outcomes.len()), (Some(JobStop::NoSpace), 0), "seen before the start");
    // Another fills the disk once the leg runs: the disk itself says no, and what came is kept.
    let filler = Mutex::new(Some(b.root.join("filler")));
    world.wires.on_frame(move |received| {
        if received > 2 * MIB as u64
            && let Some(filler) = filler.lock().unwrap().take()
        {
            fs::write(filler, noise(3, 4 * MIB)).unwrap();
        }
    });
    let full = world.run(&b, leg(&a, &b, items[..1].to_vec()));
    assert_eq!((full.stopped, full.outcomes.len()), (Some(JobStop::NoSpace), 0));
    assert!(!b.root.join("large").exists());
    fs::remove_file(b.root.join("filler")).unwrap();
    let before = world.wires.received();
    world.run(&b, leg(&a, &b, items[..1].to_vec())).all_done(1);
    assert!(world.wires.received() - before < 5 * MIB as u64);
    drop(b);
    let _ = std::process::Command::new("umount").arg("-l").arg(small.path()).output();
}

#[test]
fn deletes_go_to_the_trash_and_edits_stay() {
    let world = World::new();
    let (a, b) = (world.node(1), world.node(2));
    put(&b, "d/gone", b"planned");
    put(&b, "edited", b"edited since");
    let remove = || Action::Remove { version: Version::NONE };
    let items = vec![
        work(0, "d/gone", image(b"planned"), remove()),
        work(1, "edited", image(b"planned"), remove()),
        work(2, "d", PreImage::Directory, Action::RemoveDirectory { version: Version::NONE }),
        work(3, "never", image(b"planned"), remove()),
    ];
    let key = job(&b, JobKind::Delete);
    world.wish(
        &b,
        Output::RunDelete(DeleteLeg {
            job: key,
            location: b.location,
            source: CopySource::Device(a.device),
            items,
            delete_mode: DeleteMode::Trash,
        }),
    );
    let ran = world.ended(&b);
    let outcomes: Vec<_> = ran.outcomes.into_values().collect();
    assert_eq!(outcomes, [ItemOutcome::Done, skipped(SkipReason::TargetChanged), ItemOutcome::Done, ItemOutcome::Done]);
    assert!(!b.root.join("d").exists());
    assert_eq!(get(&b, "edited"), b"edited since");
    let trash = b.root.join(".tidegate/trash").join(format!("{}-1", key.conduit.short()));
    assert_eq!(fs::read(trash.join("d/gone")).unwrap(), b"planned");
    assert!(ran.announced.iter().all(|written| written.kind.is_none()));
}

#[test]
fn a_moved_file_is_renamed_and_only_its_metadata_set() {
    let world = World::new();
    let (a, b) = (world.node(1), world.node(2));
    put(&b, "old", b"content");
    let before = mark(&b.root.join("old"));
    let file = FileFacts { mtime_ns: 1_000_000_007, executable: true, ..machines::facts(&b.root.join("old")) };
    let rename = Action::RenameFile { from: path("old"), file, version: Version::NONE, gone: Version::NONE };
    let mut item = work(0, "new", PreImage::Absent, rename);
    item.from = Some(path("old"));
    let ran = world.run(&b, leg(&a, &b, vec![item.clone()]));
    ran.all_done(1);
    let after = mark(&b.root.join("new"));
    assert_eq!((after.inode, after.mtime_ns), (before.inode, 1_000_000_007));
    assert_eq!(fs::metadata(b.root.join("new")).unwrap().permissions().mode() & 0o100, 0o100);
    assert!(!b.root.join("old").exists());
    assert_eq!(ran.announced.len(), 2, "the old path is announced as gone");
    world.run(&b, leg(&a, &b, vec![item])).all_done(1);
}

#[test]
fn what_is_no_request_is_answered_counted_and_cut() {
    let world = World::new();
    let a = world.node(1);
    let wires = world.wires.clone();
    let answer = world.runtime.block_on(async {
        let mut stream = wires.open(id(1)).await.unwrap();
        stream.send(Bytes::from_static(&[0xff; 40])).await.unwrap();
        let answer = Response::decode(&stream.receive().await.unwrap().unwrap()).unwrap();
        assert_eq!(stream.receive().await, Ok(None), "the stream is over");
        answer
    });
    assert!(matches!(answer, Response::Refused(refusal) if refusal.code == RefusalCode::Malformed));
    assert_eq!(a.handle.counters().undecodable.load(Ordering::Relaxed), 1);
}

#[test]
fn a_drain_hints_everything_written_before_it_even_in_new_directories() {
    let world = World::new();
    let a = world.node(1);
    for round in 0..20_u64 {
        let dir = format!("r{round}/x/y");
        put(&a, &format!("{dir}/early"), b"1");
        put(&a, &format!("{dir}/late"), b"2");
        put(&a, ".tidegate/staging/own", b"3");
        world.wish(&a, Output::Drain { location: a.location, barrier: round });
        let mut hinted = Vec::new();
        loop {
            match world.next(&a) {
                Input::Hints { paths, overflow, .. } => {
                    assert!(!overflow);
                    hinted.extend(paths);
                }
                Input::Drained { barrier, .. } if barrier == round => break,
                other => panic!("{other:?}"),
            }
        }
        for name in ["early", "late"] {
            assert!(hinted.contains(&path(&format!("{dir}/{name}"))), "round {round}: {hinted:?}");
        }
    }
}

#[test]
fn a_scan_tells_what_is_there_after_the_rules_are_told() {
    let world = World::new();
    let a = world.node(1);
    put(&a, "d/f", b"content");
    put(&a, "big", &noise(1, 3 * MIB));
    put(&a, "x.skip", b"hidden");
    put(&a, ".tidegateignore", b"*.skip\n");
    world.wish(&a, Output::Scan { location: a.location, scope: ScanScope::All, deep: false });
    let mut told = false;
    let mut seen = Vec::new();
    loop {
        match world.next(&a) {
            Input::Command { ticket, command } => {
                assert!(seen.is_empty() && format!("{command:?}").contains("*.skip"), "{command:?}");
                told = true;
                let reply = Ok(tidegate::core::command::Reply::Done);
                world.wish(&a, Output::Reply { ticket, reply });
            }
            Input::Scanned { seen: batch, .. } => seen.extend(batch),
            Input::ScanEnded { result, .. } => {
                assert_eq!(result.unwrap().files_hashed, 3);
                break;
            }
            Input::Hints { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(told);
    let names: Vec<_> = seen.iter().map(|seen| seen.observation.path.to_string()).collect();
    assert_eq!(names, [".tidegateignore", "big", "d", "d/f"]);
    assert_eq!(seen[1].chunks.len(), 3);
}
