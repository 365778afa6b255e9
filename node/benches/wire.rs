//! Content throughput over loopback: our stream of frames against bare quinn that sends unframed bytes, once at
//! its defaults (packets of 1,452 bytes) and once tuned (packets as large as its batching allows, windows like
//! ours). Prints GB/s and the ratio: `cargo bench -p tidegate --bench wire`.
//!
//! The first argument that is a number is the size in MiB (default 1024).

use std::time::{Duration, Instant};

use bytes::Bytes;
use quinn::TransportConfig;
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
        let mut best = [f64::MAX; 3];
        // Alternating, so that a noisy moment hits all.
        for _ in 0..ROUNDS {
            let took = [
                bare(&frame, mebibytes, TransportConfig::default).await,
                bare(&frame, mebibytes, tuned).await,
                ours(&frame, mebibytes).await,
            ];
            for (best, took) in best.iter_mut().zip(took) {
                *best = best.min(took.as_secs_f64());
            }
        }
        let [plain, tuned, ours] = best.map(|seconds| (mebibytes * FRAME_BYTES) as f64 / 1e9 / seconds);
        println!("bare quinn {plain:.2} GB/s, tuned {tuned:.2} GB/s, frames {ours:.2} GB/s");
        println!("ratio to bare {:.2}, to tuned {:.2}", ours / plain, ours / tuned);
    });
}

/// quinn hands the kernel ten packets at a time, of 64 KiB at most.
fn tuned() -> TransportConfig {
    let mut discovery = quinn::MtuDiscoveryConfig::default();
    discovery.upper_bound(6_500);
    let mut config = TransportConfig::default();
    config
        .mtu_discovery_config(Some(discovery))
        .stream_receive_window((4_u32 << 20).into())
        .receive_window((16_u32 << 20).into())
        .send_window(16 << 20);
    config
}

/// Bytes from one end to the other with bare quinn: no frames, no checks.
async fn bare(frame: &Bytes, count: usize, transport: impl Fn() -> TransportConfig) -> Duration {
    let server = support::raw::listen_with(&support::key(1), b"bench", transport());
    let address = server.local_addr().expect("bound");
    let sending = async {
        let connection =
            support::raw::dial_with(&support::key(2), &[b"bench"], address, transport()).await.expect("connects");
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
