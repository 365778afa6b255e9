//! Every checker is shown a world that is wrong, and must say so; and one that is right, and must not.

use std::collections::BTreeSet;

use tidegate_protocol::file_sync::{
    Action, ItemOutcome, JobKey, JobKind, Plan as Resolved, PlanTotals, PreImage, SyncOperations, Verification,
};
use tidegate_protocol::hash::ContentHash;
use tidegate_protocol::id::{ConduitId, DeviceId, Epoch, LocationId, Sequence};
use tidegate_protocol::index::{EntryState, FileFacts, Version};
use tidegate_protocol::library_sync::{HeadRef, Row, RowBody, RowKey};
use tidegate_protocol::path::EntryPath;
use tidegate_protocol::time::Stamp;
use tidegate_storage::disk::FileKind;
use tidegate_storage::store::Snapshot;

use super::*;
use crate::disk::{Actor, Content, Deed as Done, Disk, Held, Surroundings, VolumeSpec};
use crate::random::{Draws, Kind};

struct Still;

impl Surroundings for Still {
    fn moment(&self) -> crate::disk::Moment {
        crate::disk::Moment { monotonic_ns: 1, wall_ns: 1_700_000_000_000_000_000 }
    }

    fn sleep(&self, _span_ns: u64) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(std::future::ready(()))
    }
}

/// Two devices with a location each and a mirror between them, and disks that a test writes as it likes.
struct Stage {
    plan: Plan,
    disks: Vec<Disk>,
    now: Millis,
    tasks: u64,
    frames: u64,
}

impl Stage {
    fn new() -> Self {
        let plan = crate::story::read(
            "devices = [\"a\", \"b\"]\n[[conduit]]\nname = \"c\"\nfrom = \"a:S\"\nto = \"b:T\"\n[[location]]\nat = \"a:S\"\n",
        )
        .unwrap();
        let disks = (0..2).map(|device| {
            let disk = Disk::new(std::sync::Arc::new(Still), Draws::new(1).stream(Kind::Disk, device, 0));
            disk.mount("/", VolumeSpec::plain(1));
            disk.user().make_dirs(if device == 0 { "/S" } else { "/T" }).unwrap();
            disk
        });
        Self { plan, disks: disks.collect(), now: Millis(1_000), tasks: 0, frames: 0 }
    }
}

fn id(device: usize) -> DeviceId {
    DeviceId::from_bytes([device as u8 + 1; 32])
}

fn location(device: usize) -> LocationId {
    LocationId::from_bytes([device as u8 + 1; 16])
}

const CONDUIT: ConduitId = ConduitId::from_bytes([9; 16]);

impl Scene for Stage {
    fn plan(&self) -> &Plan {
        &self.plan
    }
    fn now(&self) -> Millis {
        self.now
    }
    fn device_of(&self, wanted: DeviceId) -> Option<usize> {
        (0..2).find(|device| id(*device) == wanted)
    }
    fn id_of(&self, device: usize) -> DeviceId {
        id(device)
    }
    fn location_of(&self, wanted: LocationId) -> Option<(usize, String)> {
        let found = (0..2).find(|device| location(*device) == wanted)?;
        Some((found, if found == 0 { "S" } else { "T" }.to_owned()))
    }
    fn location_id(&self, device: usize, _location: &str) -> Option<LocationId> {
        Some(location(device))
    }
    fn conduit_of(&self, wanted: ConduitId) -> Option<usize> {
        (wanted == CONDUIT).then_some(0)
    }
    fn tree(&self, device: usize, location: &str, picture: Picture) -> Option<Tree> {
        self.disks[device].tree(&format!("/{location}"), picture).ok()
    }
    fn contents(&self, device: usize, picture: Picture) -> BTreeSet<ContentHash> {
        self.disks[device].contents(picture)
    }
    fn replica(&self, _device: usize) -> Option<Snapshot> {
        None
    }
    fn takes_part(&self, _device: usize) -> bool {
        true
    }
    fn holds(&self, _device: usize, _location: &str) -> bool {
        true
    }
    fn usage(&self, _device: usize) -> Usage {
        Usage { tasks: self.tasks, frames: self.frames, ..Usage::default() }
    }
}

fn held(text: &str) -> Held {
    Held { kind: FileKind::File, content: Some(Content::new(text.as_bytes())), link: None }
}

fn hash(text: &str) -> ContentHash {
    ContentHash::of(text.as_bytes())
}

fn path(text: &str) -> EntryPath {
    EntryPath::from_slashes(text.as_bytes()).unwrap()
}

fn facts(text: &str) -> FileFacts {
    FileFacts { content: hash(text), size: text.len() as u64, mtime_ns: 0, executable: false }
}

fn image(text: &str) -> PreImage {
    PreImage::File { content: hash(text), size: text.len() as u64 }
}

fn install(at: &str, new: &str, expect: PreImage) -> tidegate_protocol::file_sync::Item {
    let action = Action::InstallFile { file: facts(new), version: Version::NONE, from: path(at) };
    tidegate_protocol::file_sync::Item { path: path(at), expect, action }
}

fn remove(at: &str, old: &str) -> tidegate_protocol::file_sync::Item {
    let action = Action::Remove { version: Version::NONE };
    tidegate_protocol::file_sync::Item { path: path(at), expect: image(old), action }
}

fn job(kind: JobKind) -> JobKey {
    JobKey { conduit: CONDUIT, generation: 1, device: id(1), side: tidegate_protocol::file_sync::Side::Target, kind }
}

fn leg(kind: JobKind, items: Vec<tidegate_protocol::file_sync::Item>) -> Said {
    let items = items.into_iter().enumerate().map(|(at, item)| (at as u32, item.path.clone(), item)).collect();
    Said::Leg { job: job(kind), location: location(1), items }
}

fn done(kind: JobKind) -> Said {
    Said::Moved { job: job(kind), outcomes: vec![(0, ItemOutcome::Done)] }
}

/// What one device did to its location `T`.
fn node(path: &str, deed: Done, other: Option<&str>) -> (Change, Places) {
    let place = |path: &str| (!path.starts_with(".tidegate")).then(|| ("T".to_owned(), path.to_owned()));
    let change = Change { at_ns: 1, who: Actor::Node, path: format!("/T/{path}").into_bytes(), deed };
    (change, Places { at: place(path), other: other.and_then(place) })
}

/// Lets a checker hear of something, and answers the kinds of breach that it tells of.
fn tell(checker: &mut dyn Invariant, ghost: &Ghost, stage: &Stage, seen: &Seen<'_>) -> Vec<String> {
    let mut wrong = Vec::new();
    checker.saw(seen, ghost, stage, &mut wrong);
    assert!(wrong.iter().all(|violation| violation.invariant == checker.name()), "{wrong:?}");
    wrong.into_iter().map(|violation| violation.kind).collect()
}

fn said(checker: &mut dyn Invariant, stage: &Stage, device: usize, said: &Said) -> Vec<String> {
    tell(checker, &Ghost::default(), stage, &Seen::Said { device, said })
}

fn disk(checker: &mut dyn Invariant, ghost: &Ghost, stage: &Stage, (change, places): &(Change, Places)) -> Vec<String> {
    tell(checker, ghost, stage, &Seen::Disk { device: 1, change, places })
}

#[test]
fn no_loss_tells_of_an_owed_content_that_is_gone() {
    let (stage, mut ghost) = (Stage::new(), Ghost::default());
    ghost.wrote(Millis(1), 0, ("S", "f"), &Content::new(b"mine"), None);
    let gone = node(".tidegate/staging/x/0.swap", Done::Removed { held: held("mine") }, None);
    stage.disks[1].user().write("/T/copy", b"mine").unwrap();
    let mut checker = no_loss::NoLoss::default();
    assert!(disk(&mut checker, &ghost, &stage, &gone).is_empty(), "another copy is there");
    stage.disks[1].user().remove("/T/copy").unwrap();
    assert_eq!(disk(&mut checker, &ghost, &stage, &gone), ["destroyed"]);

    ghost.superseded(0, hash("mine"));
    let mut checker = no_loss::NoLoss::default();
    assert!(disk(&mut checker, &ghost, &stage, &gone).is_empty(), "its user let it go");

    ghost.wrote(Millis(2), 1, ("T", "g"), &Content::new(b"durable"), None);
    stage.disks[1].user().write("/T/g", b"durable").unwrap();
    stage.disks[1].user().sync_all("/").unwrap();
    let mut checker = no_loss::NoLoss::default();
    assert!(tell(&mut checker, &ghost, &stage, &Seen::BeforePowerCut(1)).is_empty());
    stage.disks[1].user().remove("/T/g").unwrap();
    assert_eq!(tell(&mut checker, &ghost, &stage, &Seen::PowerCut(1)), ["power-cut"]);
}

#[test]
fn atomic_tells_of_bytes_that_no_user_made_and_of_files_that_are_away() {
    let (stage, mut ghost) = (Stage::new(), Ghost::default());
    ghost.shown(hash("old"));
    ghost.shown(hash("new"));
    let mut checker = atomic::Atomic::default();
    assert_eq!(disk(&mut checker, &ghost, &stage, &node("f", Done::Added, None)), ["in-place"]);
    let part = ".tidegate/staging/j/0.part";
    let moved =
        |text: &str| Done::Moved { from: b"/T/.tidegate/staging/j/0.part".to_vec(), held: held(text), replaced: None };
    assert!(disk(&mut checker, &ghost, &stage, &node("f", moved("new"), Some(part))).is_empty());
    assert_eq!(disk(&mut checker, &ghost, &stage, &node("f", moved("ne"), Some(part))), ["strange"]);
    said(&mut checker, &stage, 1, &leg(JobKind::Copy, vec![install("f", "new", image("old"))]));
    let away = node(part, Done::Moved { from: b"/T/f".to_vec(), held: held("old"), replaced: None }, Some("f"));
    assert_eq!(disk(&mut checker, &ghost, &stage, &away), ["absent"]);

    stage.disks[1].user().write("/T/f", b"new").unwrap();
    let (change, places) = node("f", moved("new"), None);
    ghost.saw(Millis(1), 1, "b", &change, &places);
    let mut checker = atomic::Atomic::default();
    tell(&mut checker, &ghost, &stage, &Seen::BeforePowerCut(1));
    stage.disks[1].user().write("/T/f", b"ne\0").unwrap();
    assert_eq!(tell(&mut checker, &ghost, &stage, &Seen::PowerCut(1)), ["torn"]);
}

/// A power cut after which an empty file stands where a node had put another one.
fn cut_to_nothing(checker: &mut atomic::Atomic, ghost: &Ghost, stage: &Stage) -> Vec<String> {
    stage.disks[1].user().write("/T/f", b"new").unwrap();
    tell(checker, ghost, stage, &Seen::BeforePowerCut(1));
    stage.disks[1].user().write("/T/f", b"").unwrap();
    tell(checker, ghost, stage, &Seen::PowerCut(1))
}

#[test]
fn an_empty_file_that_was_replaced_may_be_back_until_its_successor_is_told_to_be_durable() {
    let (stage, mut ghost) = (Stage::new(), Ghost::default());
    let swap = ".tidegate/staging/j/0.swap";
    let swapped = |out: &str| {
        let deed = Done::Exchanged { with: format!("/T/{swap}").into_bytes(), held: held("new"), other: held(out) };
        node("f", deed, Some(swap))
    };
    ghost.shown(hash("new"));
    let (change, places) = swapped("");
    ghost.saw(Millis(1), 1, "b", &change, &places);
    for (out, is_told, wrong) in [("", false, 0), ("", true, 1), ("old", false, 1)] {
        let mut checker = atomic::Atomic::default();
        said(&mut checker, &stage, 1, &leg(JobKind::Copy, vec![install("f", "new", image(out))]));
        disk(&mut checker, &ghost, &stage, &swapped(out));
        if is_told {
            said(&mut checker, &stage, 1, &done(JobKind::Copy));
        }
        assert_eq!(cut_to_nothing(&mut checker, &ghost, &stage).len(), wrong, "{out:?}, {is_told}");
    }
}

fn state(device: usize, sequence: u64, set_hash: u8) -> HeadRef {
    HeadRef { device: id(device), epoch: Epoch(1), sequence: Sequence(sequence), set_hash: [set_hash; 32] }
}

#[test]
fn gated_tells_of_a_replica_that_is_behind_or_other() {
    let stage = Stage::new();
    let cases = [(vec![state(1, 5, 1)], 0), (vec![state(1, 4, 2)], 1), (vec![state(1, 5, 9)], 1), (Vec::new(), 1)];
    for (replica, told) in cases {
        let mut checker = gated::Gated::default();
        said(&mut checker, &stage, 1, &Said::State(state(1, 4, 2)));
        said(&mut checker, &stage, 1, &Said::State(state(1, 5, 1)));
        let resolves = Said::Resolves { conduit: CONDUIT, token: vec![state(1, 5, 1)], replica, busy: Vec::new() };
        assert_eq!(said(&mut checker, &stage, 0, &resolves).len(), told, "{resolves:?}");
    }
}

fn resolved(copies: usize) -> Said {
    let mut operations = SyncOperations::default();
    operations.source_to_target.copies = (0..copies).map(|_| install("f", "new", PreImage::Absent)).collect();
    operations.source_to_target.deletes = vec![remove("g", "old")];
    let stamp = Stamp { ms: 1, counter: 0, device: id(0) };
    let plan = Resolved::new(CONDUIT, stamp, Vec::new(), operations, Vec::new(), Vec::new(), PlanTotals::default());
    Said::Resolved(Box::new(plan))
}

#[test]
fn order_tells_of_deletes_before_the_last_copy() {
    let stage = Stage::new();
    let mut checker = order::Order::default();
    said(&mut checker, &stage, 0, &resolved(2));
    said(&mut checker, &stage, 1, &done(JobKind::Copy));
    let deletes = leg(JobKind::Delete, vec![remove("g", "old")]);
    assert_eq!(said(&mut checker, &stage, 1, &deletes), ["delete-first"]);
    said(&mut checker, &stage, 1, &Said::Moved { job: job(JobKind::Copy), outcomes: vec![(1, ItemOutcome::Done)] });
    assert!(said(&mut checker, &stage, 1, &deletes).is_empty());
}

#[test]
fn pre_image_tells_of_another_content_that_was_taken() {
    for (out, told) in [("old", 0), ("edited", 1)] {
        let (stage, ghost) = (Stage::new(), Ghost::default());
        let mut checker = pre_image::PreImage::default();
        said(&mut checker, &stage, 1, &leg(JobKind::Copy, vec![install("f", "new", image("old"))]));
        let swapped =
            Done::Exchanged { with: b"/T/.tidegate/staging/j/0.swap".to_vec(), held: held("new"), other: held(out) };
        disk(&mut checker, &ghost, &stage, &node("f", swapped, Some(".tidegate/staging/j/0.swap")));
        assert_eq!(said(&mut checker, &stage, 1, &done(JobKind::Copy)).len(), told, "{out}");
    }
}

#[test]
fn no_resurrection_tells_of_a_content_that_comes_back_by_itself() {
    let comes = || Done::Moved { from: b"/T/.tidegate/staging/j/0.part".to_vec(), held: held("old"), replaced: None };
    for (stands, told) in [(false, 1), (true, 0)] {
        let (stage, ghost) = (Stage::new(), Ghost::default());
        let mut checker = no_resurrection::NoResurrection::default();
        said(&mut checker, &stage, 1, &leg(JobKind::Delete, vec![remove("f", "old")]));
        said(&mut checker, &stage, 1, &done(JobKind::Delete));
        if stands {
            stage.disks[0].user().write("/S/f", b"old").unwrap();
        }
        assert_eq!(disk(&mut checker, &ghost, &stage, &node("f", comes(), None)).len(), told);
    }
}

#[test]
fn converge_tells_of_members_that_are_off() {
    let mut wrong = Vec::new();
    converge::Converge.at_rest(&Ghost::default(), &Stage::new(), &mut wrong);
    assert_eq!(wrong[0].class(), ("CONVERGE", "off"));
}

#[test]
fn ends_that_differ_are_told_apart_path_by_path() {
    let stage = Stage::new();
    let (a, b) = (stage.disks[0].user(), stage.disks[1].user());
    for (user, top) in [(&a, "/S"), (&b, "/T")] {
        user.write(&format!("{top}/same"), b"1").unwrap();
        user.write(&format!("{top}/other"), top.as_bytes()).unwrap();
        user.make_special(&format!("{top}/pipe")).unwrap();
    }
    a.write("/S/missing", b"2").unwrap();
    b.write("/T/extra", b"3").unwrap();
    let found = differences(&stage, &stage.plan.conduits[0], &|path| path == "missing").unwrap();
    let paths: Vec<&str> = found.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(paths, ["other", "extra"]);
}

#[test]
fn quiet_tells_of_anything_that_happens_at_rest() {
    let (mut stage, ghost) = (Stage::new(), Ghost::default());
    let touched = node(".tidegate/staging/x", Done::Created { kind: FileKind::File }, None);
    let mut checker = quiet::Quiet::default();
    assert!(disk(&mut checker, &ghost, &stage, &touched).is_empty(), "it is not at rest yet");
    checker.at_rest(&ghost, &stage, &mut Vec::new());
    assert_eq!(disk(&mut checker, &ghost, &stage, &touched), ["disk"]);

    let mut checker = quiet::Quiet::default();
    checker.at_rest(&ghost, &stage, &mut Vec::new());
    assert_eq!(said(&mut checker, &stage, 0, &Said::State(state(0, 7, 1))), ["rows"]);

    let (mut checker, mut wrong) = (quiet::Quiet::default(), Vec::new());
    checker.at_rest(&ghost, &stage, &mut wrong);
    (stage.now, stage.frames) = (Millis(stage.now.0 + 60_000), 100_000);
    checker.at_rest(&ghost, &stage, &mut wrong);
    assert_eq!(wrong[0].class(), ("QUIET", "frames"));
}

#[test]
fn durable_before_said_tells_of_what_a_power_cut_would_take_back() {
    let (stage, mut ghost) = (Stage::new(), Ghost::default());
    stage.disks[1].user().write("/T/f", b"new").unwrap();
    let (change, places) = node("f", Done::Added, None);
    ghost.saw(Millis(1), 1, "b", &change, &places);
    for (synced, told) in [(false, 1), (true, 0)] {
        if synced {
            stage.disks[1].user().sync_all("/").unwrap();
        }
        let mut checker = durable::DurableBeforeSaid::default();
        said(&mut checker, &stage, 1, &leg(JobKind::Copy, vec![install("f", "new", PreImage::Absent)]));
        let moved = done(JobKind::Copy);
        let found = tell(&mut checker, &ghost, &stage, &Seen::Said { device: 1, said: &moved });
        assert_eq!(found.len(), told);
    }
}

#[test]
fn one_number_names_one_row() {
    let stage = Stage::new();
    let row = |text: &str| Row {
        sequence: Sequence(3),
        key: RowKey::Entry(location(0), path(text)),
        body: RowBody::Entry(EntryState::Deleted(Version::NONE)),
    };
    let rows = |text: &str| Said::Rows { author: id(0), epoch: Epoch(1), rows: vec![row(text)] };
    let mut checker = one_row::OneNumberOneRow::default();
    assert!(said(&mut checker, &stage, 0, &rows("x")).is_empty());
    assert!(said(&mut checker, &stage, 1, &rows("x")).is_empty(), "the same from somebody else");
    assert_eq!(said(&mut checker, &stage, 1, &rows("y")), ["rows"]);
}

#[test]
fn confined_tells_of_a_path_that_no_job_names() {
    let (stage, ghost) = (Stage::new(), Ghost::default());
    let mut checker = confined::Confined::default();
    said(&mut checker, &stage, 1, &leg(JobKind::Copy, vec![install("d/f", "new", PreImage::Absent)]));
    let made = || Done::Created { kind: FileKind::Directory };
    assert!(disk(&mut checker, &ghost, &stage, &node("d/f", made(), None)).is_empty());
    assert_eq!(disk(&mut checker, &ghost, &stage, &node("e", made(), None)), ["unnamed"]);
    let change = Change { at_ns: 1, who: Actor::Node, path: b"/etc/passwd".to_vec(), deed: made() };
    assert_eq!(disk(&mut checker, &ghost, &stage, &(change, Places::default())), ["outside"]);
}

#[test]
fn bounded_tells_of_too_many_tasks() {
    let mut stage = Stage::new();
    let step = Said::Step { inputs: 1, outputs: 1, kinds: 0, restless: false };
    assert!(said(&mut bounded::Bounded::default(), &stage, 0, &step).is_empty());
    stage.tasks = 1_000_000;
    assert_eq!(said(&mut bounded::Bounded::default(), &stage, 0, &step), ["tasks"]);
}

#[test]
fn bounded_tells_of_a_core_that_is_woken_for_nothing() {
    let (stage, mut checker) = (Stage::new(), bounded::Bounded::default());
    let step = |restless| Said::Step { inputs: 1, outputs: 0, kinds: 0, restless };
    for round in 0..300 {
        assert!(said(&mut checker, &stage, 0, &step(round % 50 != 0)).is_empty());
    }
    let told: Vec<_> = (0..300).flat_map(|_| said(&mut checker, &stage, 0, &step(true))).collect();
    assert_eq!(told, ["restless"]);
}

#[test]
fn true_tells_of_a_generation_that_is_verified_and_is_not() {
    let stage = Stage::new();
    stage.disks[0].user().write("/S/f", b"new").unwrap();
    let verified = Said::Status { conduit: CONDUIT, generation: 1, status: Verification::Verified };
    let mut checker = truth::Truth::default();
    assert_eq!(said(&mut checker, &stage, 0, &verified), ["verified"]);
    let mut ghost = Ghost::default();
    ghost.upheaval(stage.now, 0, "S");
    let seen = Seen::Said { device: 0, said: &verified };
    assert!(tell(&mut truth::Truth::default(), &ghost, &stage, &seen).is_empty(), "a user was there just now");
}
