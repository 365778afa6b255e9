//! Content throughput over loopback: our stream of frames against bare quinn at its defaults, which sends
//! unframed bytes in packets of at most 1,452 bytes. Prints GB/s and the ratio: `cargo bench --bench wire`.
//!
//! The first argument that is a number is the size in MiB (default 1024).

use std::time::{Duration, Instant};

use bytes::Bytes;
use tidegate::env::{Network, Stream};
use tidegate::os::net::NetworkEvent;

#[path = "../tests/support/mod.rs"]
mod support;

const FRAME_BYTES: usize = 1 << 20;
const ROUNDS: usize = 3;

fn main() {
    let mebibytes = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(1024_usize);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let frame = Bytes::from((0..FRAME_BYTES).map(|i| (i * 31) as u8).collect::<Vec<_>>());
        let mut best = [f64::MAX; 2];
        // Alternating, so that a noisy moment hits both.
        for _ in 0..ROUNDS {
            best[0] = best[0].min(bare(&frame, mebibytes).await.as_secs_f64());
            best[1] = best[1].min(ours(&frame, mebibytes).await.as_secs_f64());
        }
        let [bare, ours] = best.map(|seconds| (mebibytes * FRAME_BYTES) as f64 / 1e9 / seconds);
        println!("bare quinn {bare:.2} GB/s, frames {ours:.2} GB/s, ratio {:.2}", ours / bare);
    });
}

/// Bytes from one end to the other with bare quinn at its defaults: no frames, no checks.
async fn bare(frame: &Bytes, count: usize) -> Duration {
    let server = support::raw::listen(&support::key(1), b"bench");
    let address = server.local_addr().expect("bound");
    let sending = async {
        let connection = support::raw::dial(&support::key(2), &[b"bench"], address).await.expect("connects");
        let mut stream = connection.open_uni().await.expect("opens");
        for _ in 0..count {
            stream.write_chunk(frame.clone()).await.expect("writes");
        }
        stream.finish().expect("finishes");
        connection.closed().await;
    };
    let receiving = async {
        let connection = server.accept().await.expect("listens").await.expect("connects");
        let mut stream = connection.accept_uni().await.expect("opens");
        let began = Instant::now();
        let mut room = [const { Bytes::new() }; 32];
        while stream.read_chunks(&mut room).await.expect("reads").is_some() {}
        let took = began.elapsed();
        connection.close(0_u32.into(), b"");
        took
    };
    tokio::join!(receiving, sending).0
}

/// The same bytes as frames between two members.
async fn ours(frame: &Bytes, count: usize) -> Duration {
    let (a, mut b) = support::pair_of(tidegate::os::net::Deadlines::default()).await;
    let sending = async {
        let mut stream = a.network.open(b.network.device()).await.expect("opens");
        for _ in 0..count {
            stream.send(frame.clone()).await.expect("sends");
        }
        stream.finish().await.expect("finishes");
        stream
    };
    let receiving = async {
        loop {
            let Some(event) = b.events.recv().await else { panic!("the network runs") };
            let NetworkEvent::Incoming(mut stream) = event else { continue };
            let began = Instant::now();
            while stream.receive().await.expect("receives").is_some() {}
            return began.elapsed();
        }
    };
    let (took, _stream) = tokio::join!(receiving, sending);
    let payload = a.network.peers().first().map(|peer| peer.payload_bytes);
    println!(
        "  frames: {:.2} GB/s, packets of {payload:?} bytes",
        (frame.len() * count) as f64 / 1e9 / took.as_secs_f64()
    );
    a.network.shutdown().await;
    b.network.shutdown().await;
    took
}
