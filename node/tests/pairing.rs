//! Pairing over real sockets: two devices that become members, and all who must not.

#![cfg(feature = "os")]
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::net::SocketAddr;
use std::time::Duration;

use support::{Device, key, loopback, raw, soon, start, start_with, until};
use tidegate::os::net::pairing::code::PairingCode;
use tidegate::os::net::pairing::door::Burned;
use tidegate::os::net::pairing::{PairError, PairFacts, Paired};
use tidegate::os::net::{Deadlines, NetworkEvent, Reject};
use tidegate_protocol::id::{Label, LibraryId};
use tidegate_protocol::wire::ALPN_PAIRING;

fn facts(device: &Device, name: &str) -> PairFacts {
    PairFacts {
        name: Label::lossy(name),
        library: LibraryId::from_bytes([device.id().as_bytes()[0]; 16]),
        alone: true,
        port: device.address().port(),
    }
}

/// The code with its second word changed to another one.
fn wrong(code: &PairingCode) -> PairingCode {
    let shown = code.to_string();
    let (rest, last) = shown.rsplit_once('-').unwrap();
    PairingCode::parse(&format!("{rest}-{}", if last == "otter" { "violet" } else { "otter" })).unwrap()
}

async fn join(device: &Device, code: &PairingCode, at: SocketAddr) -> Result<Paired, PairError> {
    soon("pairing", device.network.join(code, Some(at), facts(device, "nas"))).await
}

/// The next thing that happens at the door.
async fn at_the_door(door: &mut Device) -> String {
    door.event("door", |event| match event {
        NetworkEvent::PairingProved(paired) => Some(format!("proved by {}", paired.facts.name)),
        NetworkEvent::PairingFailed { tries_left } => Some(format!("failed, {tries_left} left")),
        NetworkEvent::PairingBurned(why) => Some(format!("burned: {why:?}")),
        _ => None,
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_right_code_makes_two_members_who_see_the_same_check_words() {
    let mut desk = start(1);
    let mut nas = start(2);
    let code = desk.network.open_door(facts(&desk, "desk")).unwrap();
    let at_nas = join(&nas, &code, desk.address()).await.unwrap();
    let at_desk = desk
        .event("proof", |event| match event {
            NetworkEvent::PairingProved(paired) => Some(paired),
            _ => None,
        })
        .await;
    assert_eq!((at_nas.device, at_nas.address, at_nas.facts), (desk.id(), desk.address(), facts(&desk, "desk")));
    assert_eq!((at_desk.device, at_desk.address, at_desk.facts), (nas.id(), nas.address(), facts(&nas, "nas")));
    assert_eq!(at_nas.check_words, at_desk.check_words);

    // A proof alone lets nobody in; the driver does.
    assert!(desk.network.peers().is_empty() && nas.network.peers().is_empty());
    desk.allow(&[nas.id()]);
    nas.allow(&[desk.id()]);
    nas.network.remember(desk.id(), at_nas.address);
    nas.up(desk.id()).await;
    desk.up(nas.id()).await;

    assert_eq!(join(&nas, &code, desk.address()).await, Err(PairError::Closed(desk.address())), "a code is used once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_wrong_codes_burn_the_code_and_the_next_one_is_late() {
    let mut desk = start(1);
    let nas = start(2);
    let code = desk.network.open_door(facts(&desk, "desk")).unwrap();
    for tries_left in [2, 1, 0] {
        assert_eq!(join(&nas, &wrong(&code), desk.address()).await, Err(PairError::WrongCode { tries_left }));
        let expected = if tries_left == 0 { "burned: Failures".into() } else { format!("failed, {tries_left} left") };
        assert_eq!(at_the_door(&mut desk).await, expected);
    }
    assert_eq!(join(&nas, &code, desk.address()).await, Err(PairError::Closed(desk.address())));
    assert!(matches!(desk.network.open_door(facts(&desk, "desk")), Err(PairError::TooSoon { .. })));
    assert_eq!(desk.network.counters().pairings_failed(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_number_a_closed_door_and_nobody_are_told_apart_and_cost_no_try() {
    let mut desk = start(1);
    let nas = start(2);
    let code = desk.network.open_door(facts(&desk, "desk")).unwrap();
    let shown = code.to_string();
    let other = PairingCode::parse(&format!("{:04}{}", (code.number() + 1) % 10_000, &shown[4..])).unwrap();
    assert_eq!(join(&nas, &other, desk.address()).await, Err(PairError::NotFound));
    assert_eq!(soon("search", nas.network.join(&code, None, facts(&nas, "nas"))).await, Err(PairError::NotFound));
    join(&nas, &wrong(&code), desk.address()).await.unwrap_err();
    assert_eq!(at_the_door(&mut desk).await, "failed, 2 left");
    desk.network.close_door();
    assert_eq!(join(&nas, &code, desk.address()).await, Err(PairError::Closed(desk.address())));

    let hasty = Deadlines { handshake: Duration::from_millis(300), ..Deadlines::default() };
    let hurried = start_with(3, 0, Vec::new(), hasty).unwrap();
    let nobody = std::net::UdpSocket::bind(loopback(0)).unwrap();
    let address = nobody.local_addr().unwrap();
    assert_eq!(join(&hurried, &code, address).await, Err(PairError::Unreachable(address)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_code_that_is_shown_for_too_long_is_dropped() {
    let brief = Deadlines { code: Duration::from_millis(50), ..Deadlines::default() };
    let mut desk = start_with(1, 0, Vec::new(), brief).unwrap();
    desk.network.open_door(facts(&desk, "desk")).unwrap();
    assert_eq!(at_the_door(&mut desk).await, format!("burned: {:?}", Burned::Age));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_between_two_honest_devices_proves_nothing() {
    let mut desk = start(1);
    let nas = start(2);
    let code = desk.network.open_door(facts(&desk, "desk")).unwrap();
    let relay = raw::listen(&key(3), ALPN_PAIRING);
    let (between, to) = (relay.local_addr().unwrap(), desk.address());
    let middle = key(3);
    let relaying = tokio::spawn(async move {
        let from_nas = relay.accept().await.unwrap().await.unwrap();
        let to_desk = raw::dial(&middle, &[ALPN_PAIRING], to).await.unwrap();
        let (mut nas_send, mut nas_receive) = from_nas.accept_bi().await.unwrap();
        let (mut desk_send, mut desk_receive) = to_desk.open_bi().await.unwrap();
        let forth = tokio::io::copy(&mut nas_receive, &mut desk_send);
        let back = tokio::io::copy(&mut desk_receive, &mut nas_send);
        let _ = tokio::join!(forth, back);
    });
    assert_eq!(join(&nas, &code, between).await, Err(PairError::WrongCode { tries_left: 2 }));
    assert_eq!(at_the_door(&mut desk).await, "failed, 2 left");
    relaying.abort();
}

/// A visitor that says `messages`, each on its own, and what comes of it at the door.
async fn check_visitor(desk: &Device, messages: &[Vec<u8>]) {
    let connection = soon("handshake", raw::dial(&key(9), &[ALPN_PAIRING], desk.address())).await.unwrap();
    let (mut send, _receive) = soon("stream", connection.open_bi()).await.unwrap();
    for message in messages {
        let framed = [&(message.len() as u32).to_be_bytes()[..], message].concat();
        send.write_all(&framed).await.unwrap();
    }
    soon("end", connection.closed()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_out_of_order_or_out_of_shape_end_the_visit_and_a_bad_point_costs_a_try() {
    let mut desk = start(1);
    let nas = start(2);
    let code = desk.network.open_door(facts(&desk, "desk")).unwrap();
    // postcard: the variant, then its fields; the number as a varint.
    let number = |number: u16| match number {
        0..0x80 => vec![number as u8],
        0x80..0x4000 => vec![number as u8 | 0x80, (number >> 7) as u8],
        _ => unreachable!("numbers have four digits"),
    };
    let begin = |point: [u8; 32]| [vec![0], number(code.number()), point.to_vec()].concat();
    let confirm = [vec![1], vec![7; 32]].concat();
    let mut basepoint = [0x66; 32];
    basepoint[0] = 0x58;
    let shapeless: [&[Vec<u8>]; 5] = [
        std::slice::from_ref(&confirm),
        &[vec![0xff; 10]],
        &[vec![]],
        &[vec![0; 5_000]],
        &[begin(basepoint), begin(basepoint)],
    ];
    for (count, messages) in shapeless.into_iter().enumerate() {
        check_visitor(&desk, messages).await;
        until("count", || desk.network.counters().rejects(Reject::Pairing) == count as u64 + 1).await;
    }
    assert_eq!(desk.network.counters().pairings_failed(), 0);

    let mut identity = [0; 32];
    identity[0] = 1;
    check_visitor(&desk, &[begin(identity)]).await;
    assert_eq!(at_the_door(&mut desk).await, "failed, 2 left");
    check_visitor(&desk, &[begin(basepoint), confirm]).await;
    assert_eq!(at_the_door(&mut desk).await, "failed, 1 left");
    join(&nas, &code, desk.address()).await.unwrap();
    assert_eq!(at_the_door(&mut desk).await, "proved by nas");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_visitor_at_a_time_and_a_silent_one_loses_its_turn() {
    let brief = Deadlines { pairing: Duration::from_millis(500), ..Deadlines::default() };
    let mut desk = start_with(1, 0, Vec::new(), brief).unwrap();
    let nas = start(2);
    let code = desk.network.open_door(facts(&desk, "desk")).unwrap();
    let connection = soon("handshake", raw::dial(&key(9), &[ALPN_PAIRING], desk.address())).await.unwrap();
    let (mut send, mut receive) = soon("stream", connection.open_bi()).await.unwrap();
    let number = [code.number() as u8 | 0x80, (code.number() >> 7) as u8];
    let number = if code.number() < 0x80 { &number[..1] } else { &number[..] };
    let number = if code.number() < 0x80 { vec![number[0] & 0x7f] } else { number.to_vec() };
    let mut point = [0x66; 32];
    point[0] = 0x58;
    let begin = [vec![0], number, point.to_vec()].concat();
    send.write_all(&[&(begin.len() as u32).to_be_bytes()[..], &begin].concat()).await.unwrap();
    let mut answered = [0; 5];
    soon("answer", receive.read_exact(&mut answered)).await.unwrap();
    assert_eq!(join(&nas, &code, desk.address()).await, Err(PairError::Busy));
    soon("end of the turn", connection.closed()).await;
    join(&nas, &code, desk.address()).await.unwrap();
    assert_eq!(at_the_door(&mut desk).await, "proved by nas");
}
