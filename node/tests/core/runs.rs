//! Runs of a conduit: what is copied and deleted, in which order, and when it counts as verified.

use tidegate::core::command::{Command, ConduitChange, Reply};
use tidegate_protocol::file_sync::{BandwidthLimit, JobState, LimitStep, Schedule, SyncMode, Verification};
use tidegate_protocol::id::LocationId;
use tidegate_protocol::wire::JobControl;

use crate::harness::{A, B, LostInput, World, file, path};

/// A world whose mirror holds these files on both ends.
fn verified(files: &[(&str, &str)]) -> (World, LocationId, LocationId) {
    let (mut world, source, target) = World::mirror();
    for (at, content) in files {
        world.write(A, source, at, content);
    }
    world.sync_through();
    assert_eq!(world.files(B, target), world.files(A, source), "{}", world.tail());
    world.trace.clear();
    (world, source, target)
}

#[test]
fn a_mirror_arrives_and_is_verified_by_the_resolver() {
    let (mut world, source, target) = World::mirror();
    for (at, content) in [("a", "one"), ("d/b", "two"), ("d/e/c", "")] {
        world.write(A, source, at, content);
    }
    let Reply::Plan(plan) = world.tell(A, Command::Plan { conduit: "docs".to_owned(), wait_ms: 30_000 }) else {
        panic!()
    };
    assert_eq!((plan.plan.totals.copies, plan.plan.totals.deletes), (5, 0));
    assert!(world.files(B, target).is_empty(), "a plan changes nothing");
    let generation = world.sync_through().unwrap();
    assert_eq!(world.files(B, target), world.files(A, source));
    assert_eq!(
        World::statuses(&generation),
        [
            Verification::Unverified,
            Verification::WaitingWatcher,
            Verification::WaitingLibrarySync,
            Verification::Verified
        ]
    );
    assert_eq!((generation.totals.copied, generation.totals.skipped, generation.totals.bytes), (5, 0, 6));
    let conduit = world.conduit_named(A, "docs").unwrap();
    let baseline = world.store(A).read().unwrap().baseline(conduit.id).unwrap().unwrap();
    assert_eq!((baseline.generation, baseline.files, baseline.top_entries), (1, (3, 3), (2, 2)));
    world.run_for(5_000);
    assert!(world.level(&[A, B]));
    assert_eq!(world.sync_through(), None, "nothing is left to do");
    let records = world.store(B).read().unwrap().generation_records(conduit.id).unwrap();
    assert_eq!(records.len(), 1, "the library is told");
}

#[test]
fn what_happens_is_told_as_it_happens() {
    let (mut world, source, _) = verified(&[("a", "one"), ("b", "two")]);
    world.happened.clear();
    world.write(A, source, "c", "three");
    world.remove(A, source, "b");
    world.sync_through().unwrap();
    let kinds = |of: usize| -> Vec<&str> {
        let told = world.happened.iter().filter(|(at, _)| *at == of).map(|(_, event)| event.kind());
        told.filter(|kind| *kind != "job.progress" && !kind.starts_with("library.")).collect()
    };
    let done = ["item.done", "job.finished"];
    assert_eq!(kinds(A), [&["generation.opened"], &done[..], &done, &["generation.closed"]].concat());
    assert_eq!(kinds(B), [&["job.started"], &done[..], &["job.started"], &done].concat());
    world.happened.clear();
    world.cut(A, B);
    world.heal(A, B);
    world.run_for(100);
    let of_a = world.happened.iter().filter(|(at, _)| *at == A).map(|(_, event)| event.kind());
    assert_eq!(of_a.collect::<Vec<_>>(), ["device.offline", "device.online"]);
}

#[test]
fn what_only_the_target_has_goes_to_its_trash_after_the_copies() {
    let (mut world, source, target) = verified(&[("a", "one"), ("b", "two"), ("c", "three"), ("d/e", "four")]);
    world.write(A, source, "new", "five");
    world.remove(A, source, "d");
    world.write(B, target, "stray", "own");
    let generation = world.sync_through().unwrap();
    assert_eq!(world.files(B, target), world.files(A, source));
    assert_eq!(World::statuses(&generation).last(), Some(&Verification::Verified));
    let mut trash = world.tree(B, target).trash.clone();
    trash.sort();
    assert_eq!(trash, [(path("d/e"), b"four".to_vec()), (path("stray"), b"own".to_vec())]);
    let runs: Vec<&str> = world
        .trace
        .iter()
        .map(|(_, what)| what.as_str())
        .filter(|what| what.starts_with("copy") || what.starts_with("delete"))
        .collect();
    assert_eq!(runs, ["copy 1", "delete 3"], "{}", world.tail());
}

#[test]
fn content_that_the_target_holds_is_not_sent() {
    let (mut world, source, target) = verified(&[("a", "some content"), ("b", "two")]);
    world.write(A, source, "copy", "some content");
    world.remove(A, source, "b");
    world.write(A, source, "moved", "two");
    world.sync_through().unwrap();
    assert_eq!(world.files(B, target), world.files(A, source));
    assert_eq!(world.count(B, "fetch"), 0, "{}", world.tail());
}

#[test]
fn a_failed_copy_keeps_the_bytes_it_would_have_replaced_elsewhere() {
    let (mut world, source, target) = verified(&[("a", "precious"), ("b", "two"), ("c", "three")]);
    world.write(A, source, "z/moved", "precious");
    world.remove(A, source, "a");
    world.nodes[B].failing.insert(path("z/moved"));
    world.sync_through().unwrap();
    assert!(world.files(B, target).values().any(|content| content == "precious"), "{}", world.tail());
    world.nodes[B].failing.clear();
    world.run_for(10_000);
    world.sync_through();
    assert_eq!(world.files(B, target), world.files(A, source));
    assert_eq!(World::statuses(&world.newest(A).unwrap()).last(), Some(&Verification::Verified));
}

#[test]
fn what_failed_is_tried_again_later_without_any_change() {
    let (mut world, source, target) = World::mirror();
    let schedule = Some(Schedule::Instant { settle_ms: 500 });
    let change = ConduitChange { schedule, ..ConduitChange::default() };
    world.tell(A, Command::SetConduit { conduit: "docs".to_owned(), change });
    world.nodes[B].failing.insert(path("a"));
    world.write(A, source, "a", "one");
    world.run_for(30_000);
    let failed = world.newest(A).unwrap();
    assert!(failed.failed(), "{}", world.tail());
    world.nodes[B].failing.clear();
    world.run_for(20_000);
    assert!(world.files(B, target).is_empty(), "a failing run is not repeated without pause: {}", world.tail());
    world.run_for(20 * 60_000);
    assert_eq!(world.files(B, target), world.files(A, source), "{}", world.tail());
    let newest = world.newest(A).unwrap();
    assert_eq!(World::statuses(&newest).last(), Some(&Verification::Verified));
    world.run_for(20 * 60_000);
    assert_eq!(world.newest(A).unwrap().number, newest.number, "what succeeded is not repeated: {}", world.tail());
}

#[test]
fn of_two_simultaneous_calls_exactly_one_wins() {
    let (mut world, source, _) = World::mirror();
    world.write(A, source, "a", "one");
    world.run_for(2_000);
    let calls = [world.call(A, World::sync(30_000)), world.call(B, World::sync(5_000)), world.call(A, World::sync(0))];
    assert!(world.run_until(60_000, |world| calls.iter().all(|call| world.replies.contains_key(call))));
    let won = calls.iter().filter(|call| world.replies[call].is_ok()).count();
    assert_eq!(won, 1, "{:?}", world.replies);
    world.closed();
    assert_eq!(world.newest(A).unwrap().number, 1);
}

#[test]
fn a_paused_job_waits_and_a_cancelled_one_ends() {
    for on in [A, B] {
        let (mut world, source, target) = World::mirror();
        for at in 0..5 {
            world.write(A, source, &format!("f{at}"), "x");
        }
        world.nodes[B].hold_legs = true;
        world.tell(A, World::sync(30_000));
        assert!(world.run_until(10_000, |world| world.nodes[B].legs.len() == 1));
        let Reply::Jobs(jobs) = world.tell(on, Command::Jobs) else { panic!() };
        let job = jobs[0].job.clone();
        let control = |control| Command::ControlJob { job: job.clone(), control };
        world.tell(on, control(JobControl::Pause));
        world.release(B);
        world.run_for(10_000);
        let Reply::Jobs(jobs) = world.tell(on, Command::Jobs) else { panic!() };
        assert_eq!(jobs[0].state, JobState::Paused, "seen by {on}: {}", world.tail());
        world.crash(B);
        world.crash(A);
        world.run_for(10_000);
        assert!(world.files(B, target).len() < 5, "a restart does not resume it");
        world.tell(on, control(JobControl::Resume));
        world.closed();
        assert_eq!(world.files(B, target), world.files(A, source));

        world.write(A, source, "later", "y");
        world.nodes[B].hold_legs = true;
        world.tell(A, World::sync(30_000));
        assert!(world.run_until(10_000, |world| world.nodes[B].legs.len() == 1), "{}", world.tail());
        let Reply::Jobs(jobs) = world.tell(on, Command::Jobs) else { panic!() };
        let job = jobs.iter().find(|job| job.generation == 2).unwrap().job.clone();
        world.tell(on, Command::ControlJob { job, control: JobControl::Cancel });
        world.release(B);
        world.closed();
        assert_eq!(world.files(B, target).get("later"), None);
        assert_eq!(World::statuses(&world.newest(A).unwrap()).last(), Some(&Verification::Failed { remaining: 1 }));
    }
}

#[test]
fn an_instant_conduit_runs_by_itself_after_a_change() {
    let (mut world, source, target) = World::mirror();
    let schedule = Some(Schedule::Instant { settle_ms: 500 });
    let change = ConduitChange { schedule, ..ConduitChange::default() };
    world.tell(B, Command::SetConduit { conduit: "docs".to_owned(), change });
    world.run_for(10_000);
    world.write(A, source, "a", "one");
    world.run_for(5_000);
    assert_eq!(world.files(B, target), [file("a", "one")].into(), "{}", world.tail());
    world.closed();
    world.run_for(10_000);
    world.trace.clear();
    world.run_for(60_000);
    assert_eq!(world.count(A, "resolve"), 0, "it rests when nothing changes: {}", world.tail());
    world.crash(A);
    world.nodes[A].hold_legs = false;
    world.write(A, source, "b", "two");
    world.run_for(8_000);
    assert_eq!(world.files(B, target).len(), 2, "it runs after a restart: {}", world.tail());
}

#[test]
fn a_conduit_at_an_interval_runs_again_and_never_overlaps() {
    let (mut world, source, target) = World::mirror();
    let schedule = Some(Schedule::Every { interval_ms: 2_000 });
    let change = ConduitChange { schedule, ..ConduitChange::default() };
    world.tell(A, Command::SetConduit { conduit: "docs".to_owned(), change });
    world.write(A, source, "a", "one");
    world.run_for(6_000);
    assert_eq!(world.files(B, target).len(), 1);
    world.nodes[B].hold_legs = true;
    world.write(A, source, "b", "two");
    world.run_for(20_000);
    let open = world.newest(A).unwrap();
    assert_eq!(open.closed_ms, None);
    assert_eq!(world.nodes[B].legs.len(), 1);
    world.release(B);
    world.run_for(6_000);
    assert_eq!(world.files(B, target).len(), 2);
    world.crash(A);
    world.write(A, source, "c", "three");
    world.run_for(10_000);
    assert_eq!(world.files(B, target).len(), 3, "it runs after a restart: {}", world.tail());
}

#[test]
fn a_conduit_between_two_locations_of_one_device_needs_no_wire() {
    let mut world = World::new(1);
    let (source, target) = (world.locate(A, "src"), world.locate(A, "dst"));
    world.run_for(1_000);
    world.conduit("docs", "A:src", "A:dst", ConduitChange::default());
    world.write(A, source, "d/a", "one");
    let began_ms = world.now_ms;
    let generation = world.sync_through().unwrap();
    assert_eq!(World::statuses(&generation).last(), Some(&Verification::Verified));
    assert_eq!(world.files(A, target), [file("d/a", "one")].into());
    assert!(world.now_ms - began_ms < 2_000, "it took {} ms", world.now_ms - began_ms);
}

#[test]
fn a_run_takes_as_long_as_its_watchers_and_not_longer() {
    let (mut world, source, _) = World::mirror();
    world.write(A, source, "a", "one");
    let began_ms = world.now_ms;
    world.sync_through().unwrap();
    assert!(world.now_ms - began_ms < 2_000, "it took {} ms: {}", world.now_ms - began_ms, world.tail());
}

#[test]
fn a_directory_of_a_location_can_be_an_end() {
    let mut world = World::new(2);
    world.pair(A, B);
    let (source, target) = world.link(A, B);
    world.write(A, source, "in/a", "one");
    world.write(A, source, "out/b", "two");
    world.write(B, target, "to/x/y", "three");
    world.write(B, target, "beside", "four");
    world.run_for(3_000);
    world.conduit("docs", "A:src/in", "B:dst/to/x", ConduitChange::default());
    let fault = world.refused(A, World::sync(30_000));
    World::is(&fault, tidegate::core::command::FaultCode::SafetyStop, "first mirror");
    let plan = fault.next.iter().find_map(|next| next.split("tidegate approve ").nth(1)).unwrap().to_owned();
    world.tell(A, Command::Approve { plan, wait_ms: 30_000 });
    world.closed();
    assert_eq!(world.files(B, target), [file("beside", "four"), file("to/x/a", "one")].into());
}

#[test]
fn an_instant_schedule_fires_although_the_source_never_rests() {
    let (mut world, source, target) = World::mirror();
    let change = ConduitChange { schedule: Some(Schedule::Instant { settle_ms: 5_000 }), ..ConduitChange::default() };
    world.tell(A, Command::SetConduit { conduit: "docs".to_owned(), change });
    world.run_for(10_000);
    for at in 0..50 {
        world.write(A, source, "log", &format!("line {at}"));
        world.run_for(1_000);
    }
    assert!(world.files(B, target).contains_key("log"), "a change a second, for 50 seconds: {}", world.tail());
}

#[test]
fn a_job_carries_the_limits_of_the_whole_day_and_what_is_shown_is_that_of_the_hour() {
    let (mut world, source, _) = verified(&[("a", "one")]);
    // The world begins at 22:13 in UTC, which is 23:13 here.
    let limit = BandwidthLimit {
        steps: vec![
            LimitStep { from_minute: 23 * 60, bytes_per_s: 5_000 },
            LimitStep { from_minute: 23 * 60 + 30, bytes_per_s: 0 },
        ],
        utc_offset_minutes: 60,
    };
    let change = ConduitChange { bandwidth_limit: Some(limit.clone()), ..ConduitChange::default() };
    world.tell(A, Command::SetConduit { conduit: "docs".to_owned(), change });
    world.write(A, source, "b", "two");
    world.nodes[B].hold_legs = true;
    world.call(A, World::sync(30_000));
    let runs = |world: &World| {
        let jobs = world.store(B).read().unwrap().jobs().unwrap();
        jobs.into_iter().find(|job| job.state == JobState::Running).map(|job| job.spec.bandwidth_limit)
    };
    assert!(world.run_until(30_000, |world| runs(world).is_some()), "{}", world.tail());
    assert_eq!(runs(&world), Some(limit.clone()), "{}", world.tail());
    for (wait_ms, bytes_per_s) in [(0, 5_000), (20 * 60_000, 0)] {
        world.run_for(wait_ms);
        let Reply::Conduit(view) = world.tell(A, Command::Conduit("docs".to_owned())) else { panic!() };
        assert_eq!((view.bandwidth_limit, view.bytes_per_s_now), (limit.clone(), bytes_per_s));
    }
}

#[test]
fn a_job_that_comes_before_its_conduit_is_offered_again_soon_and_then_less_often() {
    let mut world = World::new(2);
    world.pair(A, B);
    let (source, _) = world.link(A, B);
    world.write(A, source, "a", "one");
    world.run_for(3_000);
    world.nodes[B].lost = Some(LostInput::Rows);
    world.conduit_of("docs", "A:src", "B:dst", SyncMode::Mirror, ConduitChange::default());
    let Reply::Started(started) = world.tell(A, World::sync(30_000)) else { panic!("another answer") };
    assert!(started.generation.is_some());
    // After 50, 100, 200, 400 and 800 ms, then every second.
    let before = world.count(A, "ask JobOffer");
    world.run_for(1_600);
    let soon = world.count(A, "ask JobOffer") - before;
    assert!((4..=6).contains(&soon), "{soon} offers: {}", world.tail());
    world.run_for(5_000);
    let later = world.count(A, "ask JobOffer") - before - soon;
    assert!((4..=6).contains(&later), "{later} offers: {}", world.tail());
}
