//! What other devices may send, and how little comes of it.

use tidegate::core::command::{Command, ConduitChange, FaultCode, Reply};
use tidegate::core::io::{Input, Ticket};
use tidegate_protocol::codec;
use tidegate_protocol::file_sync::{
    Action, BandwidthLimit, DeleteMode, Item, JobKey, JobKind, JobSpec, PreImage, Side,
};
use tidegate_protocol::id::{DeviceId, Sequence};
use tidegate_protocol::index::{Rights, Version};
use tidegate_protocol::library_sync::{Fact, Head, SignedHead};
use tidegate_protocol::limits::{CLOCK_OFFSET_MS_MAX, STAMP_MS_MAX};
use tidegate_protocol::time::{Stamp, Stamped};
use tidegate_protocol::wire::{Fetch, RefusalCode, Request, Response, Want};

use tidegate_storage::store::Change;

use crate::harness::{A, B, C, World, id, key, label, path};

/// Lets `node` be asked something by `peer`, and returns what it answers.
fn question(world: &mut World, node: usize, peer: DeviceId, request: Request) -> Response {
    world.tickets += 1;
    let ticket = Ticket(world.tickets);
    world.probes.insert((node, ticket.0), None);
    world.input(node, Input::Request { ticket, peer, request });
    let answered = |world: &World| world.probes[&(node, ticket.0)].is_some();
    assert!(world.run_until(10_000, answered), "{}", world.tail());
    world.probes.remove(&(node, ticket.0)).unwrap().unwrap()
}

fn refusal(response: &Response) -> RefusalCode {
    match response {
        Response::Refused(refusal) => refusal.code,
        other => panic!("not refused: {other:?}"),
    }
}

/// The head of B's state, as changed, signed by B.
fn signed(world: &World, change: impl FnOnce(&mut Head)) -> SignedHead {
    let mut head = world.author(B, B).unwrap().rests.unwrap().trusted().clone();
    head.stamp = head.stamp.next(world.now().wall_ms);
    change(&mut head);
    SignedHead::sign(&head, &key(B))
}

#[test]
fn two_states_under_one_number_quarantine_their_author() {
    let (mut world, source, _) = World::mirror();
    world.write(A, source, "a", "one");
    world.run_for(5_000);
    let fork = signed(&world, |head| head.set_hash = [9; 32]);
    world.input(A, Input::Announcement(codec::encode(&fork)));
    world.run_for(1_000);
    assert!(world.author(A, B).unwrap().fork.is_some());
    let fault = world.refused(A, World::sync(1_000));
    World::is(&fault, FaultCode::NotCaughtUp, "quarantined");
    let Reply::Device(view) = world.tell(A, Command::Device("B".to_owned())) else { panic!() };
    assert!(view.quarantined);
    world.crash(A);
    world.run_for(5_000);
    assert!(world.author(A, B).unwrap().fork.is_some(), "the proof is kept");
}

#[test]
fn heads_of_strangers_and_forgeries_change_nothing() {
    let (mut world, _, _) = World::mirror();
    world.run_for(5_000);
    let before = world.author(A, B).unwrap();
    let head = world.author(B, B).unwrap().rests.unwrap().trusted().clone();
    let stranger = Head { device: id(C), ..head.clone() };
    let other_library = signed(&world, |head| head.library = tidegate_protocol::id::LibraryId::from_bytes([3; 16]));
    let mut forged = codec::encode(&signed(&world, |head| head.sequence = Sequence(99)));
    let last = forged.len() - 1;
    forged[last] ^= 1;
    for bytes in [
        codec::encode(&SignedHead::sign(&stranger, &key(C))),
        codec::encode(&other_library),
        forged,
        vec![0; 100],
        vec![0; 1 << 20],
    ] {
        world.input(A, Input::Announcement(bytes));
    }
    world.run_for(1_000);
    assert!(world.author(A, C).is_none());
    assert_eq!(world.author(A, B).unwrap().reference(id(B)), before.reference(id(B)));
    assert!(world.author(A, B).unwrap().fork.is_none());
}

#[test]
fn rows_that_do_not_add_up_are_fetched_elsewhere() {
    let mut world = World::new(3);
    world.pair(A, B);
    world.pair(B, C);
    world.run_for(40_000);
    let location = world.locate(A, "src");
    world.cut(A, C);
    world.run_for(1_000);
    world.lying = Some(B);
    world.write(A, location, "a", "one");
    world.run_for(20_000);
    assert!(!world.level(&[A, C]), "only lies were to be had");
    assert!(world.author(C, A).unwrap().fork.is_none());
    let asked = world.count(C, "ask Rows");
    assert!(asked < 20, "asked {asked} times: {}", world.tail());
    world.heal(A, C);
    world.run_for(40_000);
    assert!(world.level(&[A, C]), "{}", world.tail());
}

#[test]
fn what_is_not_granted_is_answered_like_what_does_not_exist() {
    let (mut world, source, _) = World::mirror();
    world.write(A, source, "secret", "one");
    world.run_for(3_000);
    let conduit = world.conduit_named(A, "docs").unwrap();
    let job = JobKey { conduit: conduit.id, generation: 1, device: id(B), side: Side::Target, kind: JobKind::Copy };
    let content = tidegate_protocol::hash::ContentHash::of(b"one");
    let want = |at: &str| Want { path: path(at), content, offset: 0, length: 3 };
    let fetch = Request::Fetch(Fetch { job, wants: vec![want("secret"), want("nothing")] });
    assert_eq!(refusal(&question(&mut world, A, id(C), fetch)), RefusalCode::NotAllowed, "not a member");
    let outline = Request::Outline { job, path: path("secret"), content };
    assert_eq!(refusal(&question(&mut world, A, id(C), outline)), RefusalCode::NotAllowed);
    world.trace.clear();
    let other = JobKey { conduit: tidegate_protocol::id::ConduitId::from_bytes([1; 16]), ..job };
    let fetch = Request::Fetch(Fetch { job: other, wants: vec![want("secret"), want("nothing")] });
    world.input(A, Input::Request { ticket: Ticket(1), peer: id(B), request: fetch });
    world.run_for(100);
    assert_eq!(world.count(A, "serves NotFound"), 1, "{}", world.tail());
}

/// A job for B that fits the conduit.
fn spec(world: &World, kind: JobKind, generation: u64) -> JobSpec {
    let conduit = world.conduit_named(B, "docs").unwrap();
    let plan = tidegate_protocol::file_sync::Plan::new(
        conduit.id,
        conduit.definition(),
        Vec::new(),
        tidegate_protocol::file_sync::SyncOperations::default(),
        Vec::new(),
        Vec::new(),
        tidegate_protocol::file_sync::PlanTotals::default(),
    );
    JobSpec {
        key: JobKey { conduit: conduit.id, generation, device: id(B), side: Side::Target, kind },
        coordinator: id(A),
        definition: conduit.definition(),
        plan: plan.id,
        approved: false,
        target: conduit.target,
        source: conduit.source,
        parallel_transfers: 1,
        bandwidth_limit: BandwidthLimit::default(),
        delete_mode: DeleteMode::Trash,
        items: 1,
        bytes: 0,
    }
}

#[test]
fn a_job_is_taken_only_from_its_coordinator_and_only_if_it_is_the_newest() {
    let (mut world, source, target) = World::mirror();
    world.write(A, source, "a", "one");
    world.sync_through();
    world.write(A, source, "b", "two");
    world.sync_through();
    world.run_for(2_000);
    let late = spec(&world, JobKind::Delete, 1);
    let older = {
        let mut older = spec(&world, JobKind::Copy, 3);
        older.definition.ms -= 1;
        older
    };
    let foreign = {
        let mut foreign = spec(&world, JobKind::Copy, 3);
        foreign.target = foreign.source.clone();
        foreign
    };
    for (offer, code) in [(late, RefusalCode::Fenced), (older, RefusalCode::Fenced), (foreign, RefusalCode::Malformed)]
    {
        assert_eq!(refusal(&question(&mut world, B, id(A), Request::JobOffer(offer))), code);
    }
    let stranger = spec(&world, JobKind::Copy, 3);
    assert_eq!(refusal(&question(&mut world, B, id(C), Request::JobOffer(stranger))), RefusalCode::NotAllowed);
    let copy = spec(&world, JobKind::Copy, 3);
    let job = copy.key;
    let accepted = question(&mut world, B, id(A), Request::JobOffer(copy));
    assert_eq!(accepted, Response::JobAccepted { items: 0 });
    let item = Item {
        path: path("a"),
        expect: PreImage::File { content: tidegate_protocol::hash::ContentHash::of(b"one"), size: 3 },
        action: Action::Remove { version: Version::NONE },
    };
    let items = Request::JobItems { job, first: 0, items: vec![item] };
    assert_eq!(refusal(&question(&mut world, B, id(A), items)), RefusalCode::NotAllowed, "a removal in a copy job");
    world.run_for(2_000);
    assert_eq!(world.files(B, target).len(), 2);
}

#[test]
fn a_date_in_the_future_wins_nothing_and_keeps_no_replica_from_being_level() {
    let mut world = World::new(3);
    world.pair(A, B);
    world.pair(A, C);
    world.run_for(40_000);
    world.link(A, B);
    world.conduit("docs", "A:src", "B:dst", ConduitChange::default());
    world.run_for(3_000);
    let (now_ms, year_ms) = (world.now().wall_ms, 365 * 86_400_000);
    for ms in [now_ms + 2 * CLOCK_OFFSET_MS_MAX, now_ms + year_ms, STAMP_MS_MAX] {
        let stamp = Stamp { ms, counter: u32::MAX, device: id(B) };
        let mut forged = world.conduit_named(B, "docs").unwrap();
        forged.settings.enabled = Stamped::new(false, stamp);
        forged.removed = Stamped::new(true, stamp);
        let mut named = world.store(B).read().unwrap().device_fact(id(A)).unwrap().unwrap();
        named.name = Stamped::new(label("owned"), stamp);
        let mut txn = world.store(B).write().unwrap();
        txn.put_own(vec![Change::fact(Fact::Conduit(Box::new(forged))), Change::fact(Fact::Device(named))]).unwrap();
        txn.commit().unwrap();
        world.tell(B, Command::Allow { location: "dst".to_owned(), device: "C".to_owned(), rights: Rights::NONE });
        world.run_for(40_000);
        assert!(world.level(&[A, B, C]), "{ms}: {}", world.tail());
        for at in [A, B, C] {
            let Reply::Conduit(view) = world.tell(at, Command::Conduit("docs".to_owned())) else { panic!() };
            assert!(view.enabled, "{ms} at {at}");
            let Reply::Device(view) = world.tell(at, Command::Device("A".to_owned())) else { panic!() };
            assert_eq!(view.name, label("A"), "{ms} at {at}");
        }
    }
    let change = ConduitChange { parallel_transfers: Some(7), ..ConduitChange::default() };
    world.tell(A, Command::SetConduit { conduit: "docs".to_owned(), change });
    world.tell(A, Command::RenameDevice { device: "A".to_owned(), name: label("Attic") });
    world.run_for(3_000);
    for at in [A, B, C] {
        let Reply::Conduit(view) = world.tell(at, Command::Conduit("docs".to_owned())) else { panic!() };
        assert_eq!(view.parallel_transfers, 7, "at {at}");
        assert!(world.ask(at, Command::Device("Attic".to_owned())).is_ok(), "at {at}");
    }
}
