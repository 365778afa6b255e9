//! A member whose program was changed: it has a valid key and says whatever it likes to a real node.
//!
//! The peer is bare quinn with the key of a stopped device. After every lie the victim lives, its index is what
//! it was, and nothing stands where nothing should.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "hostile/liar.rs"]
mod liar;
#[path = "hostile/peer.rs"]
mod peer;
#[allow(dead_code, unreachable_pub, reason = "the node's own tests use the rest of it")]
#[path = "../../node/tests/support/raw.rs"]
mod raw;

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use liar::{ESCAPES, Liar, facts, path, replaced, spec, stand_in};
use peer::{Answers, Peer, RUNTIME, framed, soon};
use serde_json::{Value, json};
use tidegate::lab;
use tidegate::os::net::identity::DeviceKey;
use tidegate_protocol::codec;
use tidegate_protocol::file_sync::{Action, Item, JobKey, JobKind, JobSpec, JobState, PreImage, Side};
use tidegate_protocol::hash::ContentHash;
use tidegate_protocol::id::{Label, LibraryId, LocationId, Nonce, Sequence};
use tidegate_protocol::index::{Device, Location, Version};
use tidegate_protocol::library_sync::{Fact, Head, SignedHead};
use tidegate_protocol::limits::{STAMP_MS_MAX, STREAMS_PER_PEER_MAX};
use tidegate_protocol::path::EntryPath;
use tidegate_protocol::wire::{
    Fetch, FetchFailure, Hello, JobReport, Part, Piece, RefusalCode, Request, Response, Want,
};
use tidegate_tests::trusted::{PATIENCE, Two, assert_refused, await_device};

const PROGRAM: &str = env!("CARGO_BIN_EXE_tidegate-under-test");

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// What a person sees of the liar at the victim; what was only claimed is not in it.
///
/// How far a load is that has not yet added up is no part of it: it is shown to nobody else, and rests beside what is held.
fn view(victim: &lab::Device, name: &str) -> Value {
    let shown = victim.json(["device", "show", name]).unwrap();
    let status = victim.json(["status"]).unwrap();
    let locations: Vec<Value> = status["locations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| json!([one["id"], one["name"], one["device"], one["files"], one["bytes"], one["grants"]]))
        .collect();
    json!([shown["rows"], shown["quarantined"], shown["member"], locations])
}

/// Mirrored once, and nas is stopped: its key speaks from now on.
fn robbed() -> (Two, Liar) {
    let mut two = Two::mirrored(PROGRAM).unwrap();
    two.desk.must(["sync", "photos"]).unwrap();
    await_device(&two.desk, "nas", |nas| nas["caught_up"] == true).unwrap();
    two.nas.stop().unwrap();
    let liar = Liar::new(&two.nas, &two.desk);
    (two, liar)
}

fn refusal(response: Option<Response>) -> Option<RefusalCode> {
    match response {
        Some(Response::Refused(refusal)) => Some(refusal.code),
        Some(_) | None => None,
    }
}

#[test]
fn frames_that_break_the_framing_cut_the_connection() {
    let (two, liar) = robbed();
    let before = (view(&two.desk, "nas"), two.disks().unwrap());
    for bytes in [&[0xff; 4][..], &[0; 4], &(1 << 20 | 1_u32).to_be_bytes()] {
        let peer = Peer::silent(&liar.key, &two.desk);
        let closed = async {
            // What follows may be refused already.
            let (mut send, _receive) = peer.connection.open_bi().await.unwrap();
            let _ = send.write_all(bytes).await;
            peer.connection.closed().await
        };
        let why = RUNTIME.block_on(soon("cut", closed));
        assert!(matches!(why, quinn::ConnectionError::ApplicationClosed(_)), "{bytes:?}: {why}");
        two.desk.must(["health"]).unwrap();
    }
    assert_eq!((view(&two.desk, "nas"), two.disks().unwrap()), before);
}

#[test]
fn frames_that_are_no_request_are_refused_and_change_nothing() {
    let (two, liar) = robbed();
    let before = (view(&two.desk, "nas"), two.disks().unwrap());
    let hello = Request::Hello(Hello {
        version: 1,
        library: liar.head.library,
        name: Label::new("liar").unwrap(),
        alone: false,
    });
    let heads = Request::Heads { nonce: Nonce::from_bytes([7; 16]), locations: Vec::new(), conduit: None, own: None };
    let heads = heads.encode();
    let outline = |bytes: &[u8]| {
        let job = JobKey {
            conduit: liar.conduit.id,
            generation: 1,
            device: liar.me(),
            side: Side::Target,
            kind: JobKind::Copy,
        };
        let request = Request::Outline { job, path: stand_in(bytes), content: ContentHash::of(b"a") };
        replaced(&request.encode(), bytes)
    };
    let mut bad = vec![
        ("trailing bytes", [hello.encode(), vec![0]].concat()),
        ("an integer longer than it need be", [&[heads[0] | 0x80, 0], &heads[1..]].concat()),
        ("an unknown request", vec![0xc8, 1]),
        ("a request cut short", heads[..heads.len() - 2].to_vec()),
        // In the place of the number of locations.
        ("2^60 locations", [&heads[..17], &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10]].concat()),
        ("a million locations that are not there", [&heads[..17], &[0xc0, 0x84, 0x3d]].concat()),
        ("a megabyte of nothing", vec![0xff; 1 << 20]),
    ];
    bad.extend(ESCAPES.map(|bytes| ("a path that leads out", outline(bytes))));
    let peer = Peer::silent(&liar.key, &two.desk);
    for (what, message) in bad {
        assert_eq!(refusal(peer.send(&framed(&message))), Some(RefusalCode::Malformed), "{what}: {message:?}");
        two.desk.must(["health"]).unwrap();
    }
    // The same connection still speaks.
    let (_, mine) = peer.heads(liar.me());
    assert_eq!(mine.sequence, liar.head.sequence);
    let many = Request::Heads {
        nonce: Nonce::from_bytes([7; 16]),
        locations: vec![LocationId::from_bytes([1; 16]); 60_000],
        conduit: None,
        own: None,
    };
    peer.ask(&many);
    assert_eq!((view(&two.desk, "nas"), two.disks().unwrap()), before);
}

#[test]
fn ten_thousand_streams_are_no_more_than_those_allowed() {
    let (two, liar) = robbed();
    let peer = Peer::silent(&liar.key, &two.desk);
    let opened = RUNTIME.block_on(async {
        let mut streams = Vec::new();
        while streams.len() < 10_000 {
            // Without a free number the call waits for ever: silence for a while is the limit.
            let Ok(Ok(mut stream)) = tokio::time::timeout(Duration::from_secs(2), peer.connection.open_bi()).await
            else {
                break;
            };
            let _ = stream.0.write_all(&[0]).await;
            streams.push(stream);
        }
        streams.len()
    });
    // Slow streams are given up by the victim, and each that ends makes room for one more.
    assert!(opened <= 4 * STREAMS_PER_PEER_MAX as usize, "{opened} streams");
    two.desk.must(["health"]).unwrap();
    two.desk.must(["status"]).unwrap();
}

#[test]
fn rows_that_their_author_may_not_write_are_refused_and_honest_ones_still_arrive() {
    let (mut two, liar) = robbed();
    let before = (view(&two.desk, "nas"), two.disks().unwrap());
    let location = |change: &dyn Fn(&mut Location)| {
        let mut location = liar.theirs.clone();
        location.stamp = location.stamp.next(location.stamp.ms + 1000);
        change(&mut location);
        liar.fact(Fact::Location(location))
    };
    let phantom = path(b"phantom");
    let rows = [
        ("an entry of the victim's location", liar.file(liar.theirs.id, phantom.clone())),
        ("an entry of no location", liar.file(LocationId::from_bytes([9; 16]), phantom)),
        ("the victim's location without its grants", location(&|l| l.grants.clear())),
        ("the victim's location as removed", location(&|l| l.removed = true)),
    ];
    let mut lies = Vec::new();
    for (what, row) in rows {
        lies.push((what, liar.told(lies.len() as u64 + 1, row)));
    }
    for bytes in ESCAPES {
        let (head, rows) = liar.told(lies.len() as u64 + 1, liar.file(liar.own, stand_in(bytes)));
        lies.push(("a path that leads out", (head, replaced(&rows, bytes))));
    }
    let honest = liar.told(lies.len() as u64 + 1, liar.file(liar.own, path(b"honest")));
    let asks_rows = |request: &Request| matches!(request, Request::Rows { device, .. } if *device == liar.me());
    for (what, (head, rows)) in lies {
        // Whoever brought bad rows is not asked again for a while, unless the victim starts anew.
        two.desk.stop().unwrap();
        two.desk.start().unwrap();
        let peer = Peer::dial(&liar.key, &two.desk, liar.answers(head, rows));
        peer.await_asked("for rows", asks_rows);
        peer.heads(liar.me());
        two.desk.must(["health"]).unwrap();
        assert_eq!((view(&two.desk, "nas"), two.disks().unwrap()), before, "{what}");
    }
    two.desk.stop().unwrap();
    two.desk.start().unwrap();
    let (head, rows) = honest;
    let _peer = Peer::dial(&liar.key, &two.desk, liar.answers(head.clone(), rows));
    await_device(&two.desk, "nas", |nas| nas["held"] == head.sequence.0).unwrap();
}

#[test]
fn an_id_that_another_device_claims_is_another_location() {
    let (two, liar) = robbed();
    let mut claimed = liar.theirs.clone();
    claimed.owner = liar.me();
    claimed.grants.clear();
    let victims = |two: &Two| -> Vec<Value> {
        let status = two.desk.json(["status"]).unwrap();
        let all = status["locations"].as_array().unwrap();
        all.iter().filter(|one| one["device"] == "desk").cloned().collect()
    };
    let before = (victims(&two), two.disks().unwrap());
    let (head, rows) = liar.told(1, liar.fact(Fact::Location(claimed)));
    let _peer = Peer::dial(&liar.key, &two.desk, liar.answers(head.clone(), rows));
    await_device(&two.desk, "nas", |nas| nas["held"] == head.sequence.0).unwrap();
    assert_eq!((victims(&two), two.disks().unwrap()), before);
}

#[test]
fn heads_that_are_forged_or_of_another_library_change_nothing() {
    let (two, liar) = robbed();
    let before = (view(&two.desk, "nas"), two.disks().unwrap());
    let ahead = Head { sequence: Sequence(u64::MAX), ..liar.extended(&[]) };
    let mut forged = codec::encode(&SignedHead::sign(&ahead, liar.key.signing()));
    *forged.last_mut().unwrap() ^= 1;
    let foreign = Head { library: LibraryId::from_bytes([3; 16]), ..ahead };
    let of_nobody = DeviceKey::from_seed(&[5; 32]);
    let nobody = Head { device: of_nobody.id(), ..liar.extended(&[]) };
    for own in [
        codec::decode(&forged).unwrap(),
        SignedHead::sign(&foreign, liar.key.signing()),
        SignedHead::sign(&nobody, of_nobody.signing()),
    ] {
        let honest = liar.answers(liar.head.clone(), Vec::new());
        let answers: Answers = Arc::new(move |request| match request {
            Request::Heads { .. } => Some(codec::encode(&Response::Heads {
                own: own.clone(),
                others: vec![own.clone()],
                generation: u64::MAX,
                addresses: Vec::new(),
                busy: Vec::new(),
            })),
            _ => honest(request),
        });
        let peer = Peer::dial(&liar.key, &two.desk, answers);
        peer.await_asked("for heads", |request| matches!(request, Request::Heads { .. }));
        let (_, mine) = peer.heads(liar.me());
        assert_eq!(mine.sequence, liar.head.sequence);
        assert_eq!((view(&two.desk, "nas"), two.disks().unwrap()), before);
    }
    let devices = two.desk.json(["status"]).unwrap()["devices"].clone();
    assert_eq!(devices.as_array().unwrap().len(), 1, "{devices}");
}

#[test]
fn numbers_and_dates_at_their_end_stop_nobody_from_revoking_who_sent_them() {
    let (mut two, liar) = robbed();
    let mut device = Device { membership: u64::MAX, ..liar.device() };
    // A later date than the last that clocks can give is refused with the row that holds it.
    device.state.stamp.ms = STAMP_MS_MAX;
    device.name.stamp.ms = STAMP_MS_MAX;
    let (head, rows) = liar.told(1, liar.fact(Fact::Device(device)));
    let peer = Peer::dial(&liar.key, &two.desk, liar.answers(head.clone(), rows));
    await_device(&two.desk, "nas", |nas| nas["held"] == head.sequence.0).unwrap();
    drop(peer);
    two.desk.must(["device", "rename", "nas", "liar"]).unwrap();
    await_device(&two.desk, "liar", |_| true).unwrap();
    two.desk.must(["-y", "device", "revoke", "liar"]).unwrap();
    await_device(&two.desk, "liar", |nas| nas["member"] == false).unwrap();
    two.desk.must(["health"]).unwrap();
    two.desk.stop().unwrap();
    two.desk.start().unwrap();
    let mut third = two.lab.device("third").unwrap();
    third.start().unwrap();
    two.desk.pair(&third).unwrap();
    await_device(&two.desk, "liar", |nas| nas["member"] == false).unwrap();
}

#[test]
fn a_generation_claimed_beyond_all_numbers_does_not_stop_the_coordinator() {
    let (two, liar) = robbed();
    let honest = liar.answers(liar.head.clone(), vec![0]);
    let answers: Answers = Arc::new(move |request| {
        let answer = honest(request)?;
        let Ok(Response::Heads { own, others, addresses, busy, .. }) = Response::decode(&answer) else {
            return Some(answer);
        };
        Some(codec::encode(&Response::Heads { own, others, generation: u64::MAX, addresses, busy }))
    });
    let _peer = Peer::dial(&liar.key, &two.desk, answers);
    await_device(&two.desk, "nas", |nas| nas["online"] == true).unwrap();
    lab::write(&two.photos, "more", b"something to do").unwrap();
    let begun = two.desk.json(["sync", "photos", "--detach", "--wait", "10s"]).unwrap();
    assert!(begun["generation"].as_u64().is_some_and(|number| number > 1), "{begun}");
    two.desk.must(["health"]).unwrap();
    two.desk.must(["status"]).unwrap();
}

#[test]
fn two_states_under_one_number_quarantine_the_device_and_a_person_sees_it() {
    let (mut two, liar) = robbed();
    let fork = Head { set_hash: [9; 32], ..liar.extended(&[]) };
    let peer = Peer::dial(&liar.key, &two.desk, liar.answers(fork, Vec::new()));
    await_device(&two.desk, "nas", |nas| nas["quarantined"] == true).unwrap();
    drop(peer);
    let shown = two.desk.must(["device", "show", "nas"]).unwrap().stdout;
    assert!(shown.to_lowercase().contains("quarantine"), "{shown}");
    let refused = two.desk.run(["sync", "photos", "--wait", "1s"]).unwrap();
    assert_refused(&refused, 5, &["quarantined"]);
    two.desk.stop().unwrap();
    two.desk.start().unwrap();
    await_device(&two.desk, "nas", |nas| nas["quarantined"] == true).unwrap();
}

#[test]
fn a_job_of_a_device_that_does_not_coordinate_is_refused() {
    let (two, liar) = robbed();
    let before = (view(&two.desk, "nas"), two.disks().unwrap());
    let peer = Peer::silent(&liar.key, &two.desk);
    for kind in [JobKind::Copy, JobKind::Delete] {
        let plain = spec(&liar, kind, 1);
        let swapped = JobSpec { target: plain.source.clone(), source: plain.target.clone(), ..plain.clone() };
        let as_desk = JobSpec { coordinator: liar.victim, ..swapped.clone() };
        for offer in [plain, swapped, as_desk] {
            let job = offer.key;
            let response = peer.ask(&Request::JobOffer(offer));
            assert_eq!(refusal(Some(response)), Some(RefusalCode::Malformed));
            let action = Action::Remove { version: Version::NONE };
            let item = Item { path: path(b"a"), expect: PreImage::Absent, action };
            let response = peer.ask(&Request::JobItems { job, first: 0, items: vec![item] });
            assert_eq!(refusal(Some(response)), Some(RefusalCode::NotFound));
        }
    }
    assert!(
        two.desk.json(["job", "list"]).unwrap()["jobs"].as_array().unwrap().iter().all(|job| job["generation"] == 1)
    );
    assert_eq!((view(&two.desk, "nas"), two.disks().unwrap()), before);
}

#[test]
fn a_coordinator_cannot_make_its_target_write_outside_of_its_root() {
    let mut two = Two::mirrored(PROGRAM).unwrap();
    two.desk.must(["sync", "photos"]).unwrap();
    await_device(&two.nas, "desk", |desk| desk["caught_up"] == true).unwrap();
    two.desk.stop().unwrap();
    let liar = Liar::new(&two.desk, &two.nas);
    let outside = two.lab.directory("outside").unwrap();
    let before = lab::read(&two.backup).unwrap();
    let marker = fs::read(two.backup.join(".tidegate/id")).unwrap();
    let content = b"pwned";
    let fetched: Answers = Arc::new(move |request| match request {
        Request::Fetch(fetch) => {
            let piece = |want| Piece { want, part: Part::Bytes(content.to_vec()) };
            let pieces = (0..fetch.wants.len() as u32).map(piece).collect();
            Some(codec::encode(&Response::Pieces(pieces)))
        }
        _ => None,
    });
    let peer = Peer::dial(&liar.key, &two.nas, fetched);
    let offer = spec(&liar, JobKind::Copy, 2);
    let job = offer.key;
    assert_eq!(peer.ask(&Request::JobOffer(offer)), Response::JobAccepted { items: 0 });
    let install = |path: EntryPath| Item {
        path,
        expect: PreImage::Absent,
        action: Action::InstallFile { file: facts(content), version: Version::NONE, from: self::path(b"x") },
    };
    for bytes in ESCAPES {
        let request = Request::JobItems { job, first: 0, items: vec![install(stand_in(bytes))] };
        let message = replaced(&request.encode(), bytes);
        assert_eq!(refusal(peer.send(&framed(&message))), Some(RefusalCode::Malformed), "{bytes:?}");
    }
    // Through a link that it plants itself.
    let target = outside.to_str().unwrap().as_bytes().to_vec();
    let link = Item {
        path: path(b"evil"),
        expect: PreImage::Absent,
        action: Action::InstallSymlink { target, version: Version::NONE },
    };
    let items = vec![link, install(path(b"evil/pwned"))];
    assert_eq!(peer.ask(&Request::JobItems { job, first: 0, items }), Response::JobAccepted { items: 2 });
    let over = || {
        let report = peer.ask(&Request::JobStatus { job, outcomes_from: 0 });
        matches!(report, Response::JobStatus(JobReport { state: JobState::Ended, .. }))
    };
    assert!(lab::eventually(PATIENCE, over), "the job never ended:\n{}", two.nas.log());
    assert!(lab::read(&outside).unwrap().is_empty());
    assert!(!std::path::Path::new("/tmp/out").exists());
    assert_eq!(fs::read(two.backup.join(".tidegate/id")).unwrap(), marker);
    let mut after = lab::read(&two.backup).unwrap();
    after.remove(&b"evil"[..]);
    assert_eq!(after, before);
    two.nas.must(["health"]).unwrap();
}

#[test]
fn what_is_not_granted_is_answered_like_what_is_not_there() {
    let (two, liar) = robbed();
    let job =
        JobKey { conduit: liar.conduit.id, generation: 1, device: liar.me(), side: Side::Target, kind: JobKind::Copy };
    let want = |at: &[u8], content: &[u8]| Want {
        path: path(at),
        content: ContentHash::of(content),
        offset: 0,
        length: content.len() as u64,
    };
    let fetch = |want: Want| Request::Fetch(Fetch { job, wants: vec![want] });
    let (there, nowhere) = (fetch(want(b"dir/c", b"dir/c")), fetch(want(b"none", b"dir/c")));
    let peer = Peer::silent(&liar.key, &two.desk);
    let parts = |request: &Request| match peer.ask(request) {
        Response::Pieces(pieces) => pieces.into_iter().map(|piece| piece.part).collect::<Vec<_>>(),
        other => panic!("no pieces: {other:?}"),
    };
    assert_eq!(parts(&there), [Part::Bytes(b"dir/c".to_vec())], "granted");
    two.desk.must(["location", "deny", "Photos", "nas"]).unwrap();
    assert_eq!(parts(&there), [Part::Failed(FetchFailure::NotFound)]);
    assert_eq!(parts(&nowhere), parts(&there));
    let overflow = Want { offset: u64::MAX, length: u64::MAX, ..want(b"dir/c", b"dir/c") };
    two.desk.must(["location", "allow", "Photos", "nas=read"]).unwrap();
    assert!(matches!(parts(&fetch(overflow))[..], [Part::Failed(_)]));
    two.desk.must(["health"]).unwrap();
}
