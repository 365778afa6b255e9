//! The network between members, over real sockets: frames, who is let in, and what ends a connection.

#![cfg(feature = "os")]
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::time::Duration;

use bytes::Bytes;
use support::{Device, key, pair_of, raw, soon, start, start_again, start_with, until};
use tidegate::env::{Network, NetworkError, Stream};
use tidegate::os::net::{Deadlines, NetworkEvent, OsStream, Reject, StartError};
use tidegate_protocol::codec::DecodeError;
use tidegate_protocol::id::LibraryId;
use tidegate_protocol::limits::FRAME_BYTES_MAX;
use tidegate_protocol::wire::{ALPN, ALPN_PAIRING, FrameError};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_arrive_whole_in_order_and_then_the_end() {
    let (a, mut b) = pair_of(Deadlines::default()).await;
    let mut asking = soon("open", a.network.open(b.id())).await.unwrap();
    let sizes = [1, 2, 4095, 4096, 4097, 70_000, FRAME_BYTES_MAX, 3];
    let frame = |n: usize, size: usize| Bytes::from((0..size).map(|i| (i * 7 + n) as u8).collect::<Vec<_>>());
    let sending = async {
        for (n, size) in sizes.into_iter().enumerate() {
            asking.send(frame(n, size)).await.unwrap();
        }
        asking.finish().await.unwrap();
    };
    let receiving = async {
        let mut answering = b.incoming().await;
        assert_eq!(answering.peer(), a.id());
        for (n, size) in sizes.into_iter().enumerate() {
            assert!(answering.receive().await.unwrap().unwrap() == frame(n, size), "frame of {size} bytes");
        }
        assert_eq!(answering.receive().await, Ok(None));
        answering.send(frame(9, 9)).await.unwrap();
        answering.finish().await.unwrap();
        answering
    };
    let (_answering, ()) = soon("exchange", async { tokio::join!(receiving, sending) }).await;
    assert_eq!(soon("answer", asking.receive()).await, Ok(Some(frame(9, 9))));
    assert_eq!(soon("end", asking.receive()).await, Ok(None));
    assert!(matches!(asking.send(Bytes::new()).await, Err(NetworkError::Protocol(_))));

    let sent = sizes.iter().sum::<usize>() as u64 + 4 * sizes.len() as u64;
    assert_eq!(b.network.peers()[0].bytes_received, sent);
    soon("ping", a.network.ping(b.id())).await.unwrap();
    assert_eq!(a.network.ping(key(9).id()).await, Err(NetworkError::Disconnected));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_dropped_before_its_end_is_not_taken_for_a_whole_one() {
    let (a, mut b) = pair_of(Deadlines::default()).await;
    let mut asking = soon("open", a.network.open(b.id())).await.unwrap();
    asking.send(Bytes::from_static(b"request")).await.unwrap();
    let mut answering = b.incoming().await;
    assert!(soon("request", answering.receive()).await.unwrap().is_some());
    drop(answering);
    assert_eq!(soon("answer", asking.receive()).await, Err(NetworkError::Reset));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_is_refused_in_the_handshake_and_nothing_of_it_is_heard() {
    let b = start(2);
    let a = start_with(1, 0, vec![b.address()], Deadlines::default()).unwrap();
    // The stranger trusts its victim; the victim knows nothing of the stranger.
    a.allow(&[b.id()]);
    until("refusal", || b.network.counters().rejects(Reject::Stranger) > 0).await;
    assert_eq!(b.network.counters().frames_received(), 0);
    assert!(b.network.peers().is_empty() && a.network.peers().is_empty());
    assert!(matches!(a.network.open(b.id()).await, Err(NetworkError::Disconnected)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_device_at_a_known_address_is_refused_by_the_dialling_side() {
    let b = start(2);
    let a = start(1);
    let c = key(3).id();
    b.allow(&[a.id()]);
    a.allow(&[b.id(), c]);
    a.network.remember(c, b.address());
    until("refusal", || a.network.counters().rejects(Reject::WrongDevice) > 0).await;
    assert!(a.network.peers().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_member_is_disconnected_at_once_and_stays_out() {
    let (mut a, mut b) = pair_of(Deadlines::default()).await;
    let mut asking = soon("open", a.network.open(b.id())).await.unwrap();
    asking.send(Bytes::from_static(b"request")).await.unwrap();
    let _answering = b.incoming().await;
    b.allow(&[]);
    let told = tokio::time::timeout(Duration::from_secs(1), async {
        a.down(b.id()).await;
        b.down(a.id()).await;
    });
    told.await.expect("within a second");
    assert_eq!(soon("end", asking.receive()).await, Err(NetworkError::Disconnected));
    until("refusal", || b.network.counters().rejects(Reject::Stranger) > 0).await;
    assert!(b.network.peers().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_restarts_on_its_port_is_reached_again() {
    let (mut a, b) = pair_of(Deadlines::default()).await;
    let (port, b_id) = (b.address().port(), b.id());
    soon("shutdown", b.network.shutdown()).await;
    drop(b);
    a.down(b_id).await;
    let mut b = start_again(2, port).await;
    b.allow(&[a.id()]);
    a.up(b_id).await;
    b.up(a.id()).await;
    exchange(&a, &mut b).await;
}

#[test]
fn a_device_that_dies_without_a_word_and_restarts_is_noticed_long_before_the_idle_end() {
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (living, dying) = (runtime(), runtime());
    let mut b = dying.block_on(async { start(2) });
    let (port, b_id) = (b.address().port(), b.id());
    living.block_on(async {
        let mut a = start_with(1, 0, vec![b.address()], Deadlines::default()).unwrap();
        b.allow(&[a.id()]);
        a.allow(&[b_id]);
        a.up(b_id).await;
        b.up(a.id()).await;
        // Its sockets vanish without a packet, as at a power cut.
        dying.shutdown_background();
        drop(b);
        let mut b = start_again(2, port).await;
        b.allow(&[a.id()]);
        // The new life knows no address; only its answer to a packet for the old one can tell.
        a.down(b_id).await;
        a.up(b_id).await;
        exchange(&a, &mut b).await;
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_devices_that_dial_each_other_are_one_connection_to_the_caller() {
    let mut b = start(2);
    let mut a = start_with(1, 0, vec![b.address()], Deadlines::default()).unwrap();
    b.network.remember(a.id(), a.address());
    a.allow(&[b.id()]);
    b.allow(&[a.id()]);
    a.up(b.id()).await;
    b.up(a.id()).await;
    exchange(&a, &mut b).await;
    exchange(&b, &mut a).await;
    assert_eq!((a.network.peers().len(), b.network.peers().len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_in_use_is_said_to_be_in_use() {
    let a = start(1);
    let second = start_with(2, a.address().port(), Vec::new(), Deadlines::default());
    assert!(matches!(second.map(|_| ()), Err(StartError::AddressInUse(address)) if address == a.address()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_announcement_reaches_members_and_nobody_else() {
    let (mut a, mut b) = pair_of(Deadlines::default()).await;
    let library = LibraryId::from_bytes([7; 16]);
    a.network.join_mesh(library);
    b.network.join_mesh(library);
    // Gossip gives no sign that the mesh has formed, so it is said again until it is heard.
    let heard = async {
        let mut again = tokio::time::interval(Duration::from_millis(100));
        loop {
            tokio::select! {
                _ = again.tick() => b.network.publish(Bytes::from_static(b"a head")),
                event = a.events.recv() => if let Some(NetworkEvent::Announcement { source, bytes }) = event {
                    return (source, bytes);
                }
            }
        }
    };
    assert_eq!(soon("announcement", heard).await, (b.id(), Bytes::from_static(b"a head")));
    a.allow(&[]);
    b.down(a.id()).await;
}

/// A member that sends `bytes` on a stream, and perhaps ends it there, is cut off for `reason`.
async fn check_cut(bytes: &[u8], ends: bool, reason: Reject, error: Option<NetworkError>) {
    let brief = Duration::from_millis(300);
    let deadlines = Deadlines { first_frame: brief, stall: brief, ..Deadlines::default() };
    let mut b = start_with(2, 0, Vec::new(), deadlines).unwrap();
    b.allow(&[key(1).id()]);
    let connection = soon("handshake", raw::dial(&key(1), &[ALPN], b.address())).await.unwrap();
    b.up(key(1).id()).await;
    let (mut send, _receive) = soon("stream", connection.open_bi()).await.unwrap();
    send.write_all(bytes).await.unwrap();
    if ends {
        send.finish().unwrap();
    }
    let mut stream = b.incoming().await;
    let failed = soon("error", stream.receive()).await.unwrap_err();
    match error {
        Some(error) => assert_eq!(failed, error, "{reason:?}"),
        None => assert!(matches!(failed, NetworkError::Protocol(_)), "{reason:?}: {failed:?}"),
    }
    let closed = soon("close", connection.closed()).await;
    assert!(
        matches!(&closed, quinn::ConnectionError::ApplicationClosed(close) if close.error_code == 1_u32.into()),
        "{reason:?}: closed with {closed:?}"
    );
    assert_eq!(b.network.counters().rejects(reason), 1, "{reason:?}");
    assert_eq!(b.network.counters().frames_received(), 0, "{reason:?}");
    b.down(key(1).id()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_breaks_the_framing_is_cut_off_with_a_code() {
    let none = None;
    check_cut(&[0xff; 4], false, Reject::FrameTooLarge, none.clone()).await;
    check_cut(&(FRAME_BYTES_MAX as u32 + 1).to_be_bytes(), false, Reject::FrameTooLarge, none.clone()).await;
    check_cut(&[0; 4], false, Reject::FrameEmpty, none.clone()).await;
    check_cut(&[0, 0, 0, 10, 1, 2, 3], true, Reject::FrameTruncated, none.clone()).await;
    check_cut(&[0, 0], true, Reject::FrameTruncated, none).await;
    check_cut(&[0], false, Reject::FrameSlow, Some(NetworkError::TimedOut)).await;
    check_cut(&[0, 0, 0, 10, 1, 2, 3], false, Reject::FrameSlow, Some(NetworkError::TimedOut)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_whose_message_makes_no_sense_is_cut_off_by_the_layer_above() {
    let (a, mut b) = pair_of(Deadlines::default()).await;
    let mut asking = soon("open", a.network.open(b.id())).await.unwrap();
    asking.send(Bytes::from_static(b"no request, with trailing bytes")).await.unwrap();
    let mut stream = b.incoming().await;
    soon("frame", stream.receive()).await.unwrap();
    stream.cut(FrameError::Decode(DecodeError::Trailing));
    b.down(a.id()).await;
    assert_eq!(soon("end", asking.receive()).await, Err(NetworkError::Disconnected));
    assert_eq!(b.network.counters().rejects(Reject::Message), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_one_protocol_may_be_offered_and_pairing_only_at_an_open_door() {
    let b = start(2);
    b.allow(&[key(1).id()]);
    let offers: [&[&[u8]]; 5] = [&[ALPN_PAIRING], &[ALPN, ALPN_PAIRING], &[b"h3"], &[], &[ALPN, b"h3"]];
    for (count, offer) in offers.into_iter().enumerate() {
        // A client may believe that it is connected until the refusal arrives.
        if let Ok(connection) = soon("handshake", raw::dial(&key(1), offer, b.address())).await {
            soon("refusal", connection.closed()).await;
        }
        let rejects = b.network.counters().rejects(Reject::Alpn);
        assert!(rejects > count as u64, "{offer:?}");
    }
    assert!(b.network.peers().is_empty());
    assert_eq!(b.network.counters().frames_received(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_gets_in_through_a_flood_of_a_thousand_strangers() {
    let mut b = start(2);
    let (address, stranger) = (b.address(), key(9));
    let flood = tokio::spawn(async move {
        let stranger = &stranger;
        let knock = |_| async move {
            // Whether it is refused at once or later: a stranger never stays.
            if let Ok(connection) = raw::dial(stranger, &[ALPN], address).await {
                connection.closed().await;
            }
        };
        futures::StreamExt::for_each_concurrent(futures::stream::iter(0..1_000), 64, knock).await;
    });
    until("flood", || b.network.counters().rejects(Reject::Stranger) > 10).await;
    let mut a = start_with(1, 0, vec![address], Deadlines::default()).unwrap();
    b.allow(&[a.id()]);
    a.allow(&[b.id()]);
    tokio::time::timeout(Duration::from_secs(2), async {
        a.up(b.id()).await;
        b.up(a.id()).await;
    })
    .await
    .expect("within two seconds");
    exchange(&a, &mut b).await;
    flood.abort();
}

/// One request and one answer.
async fn exchange(asking: &Device, answering: &mut Device) {
    let mut asking = soon("open", asking.network.open(answering.id())).await.unwrap();
    asking.send(Bytes::from_static(b"request")).await.unwrap();
    asking.finish().await.unwrap();
    let mut answer: OsStream = answering.incoming().await;
    assert_eq!(soon("request", answer.receive()).await, Ok(Some(Bytes::from_static(b"request"))));
    answer.send(Bytes::from_static(b"answer")).await.unwrap();
    answer.finish().await.unwrap();
    assert_eq!(soon("answer", asking.receive()).await, Ok(Some(Bytes::from_static(b"answer"))));
}
