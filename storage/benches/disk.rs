//! Rates of the disk layer, beneath `TIDEGATE_BENCH_DIR` (default `/dev/shm`): a first scan of 100,000 files, a
//! scan that finds nothing changed, and 20,000 small files staged, made durable and installed, then replaced.

#![allow(clippy::unwrap_used, reason = "a bench fails by it")]

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use tidegate_protocol::file_sync::{JobKey, JobKind, PreImage, Side};
use tidegate_protocol::hash::ContentHash;
use tidegate_protocol::id::{ConduitId, DeviceId, LocationId, Nonce};
use tidegate_protocol::index::{FileFacts, IgnoreRules, Observed, StatMark};
use tidegate_protocol::path::{DirPath, EntryPath, Name};
use tidegate_storage::disk::os::OsFileSystem;
use tidegate_storage::disk::{
    Expect, FileSystem, Found, Known, KnownEntry, KnownLost, KnownMap, Marker, ScanProgress, ScanSpec, Scope, Sink,
    SinkClosed, ThreadLanes, Workshop, block_on, mark_root, scan,
};

const FILES: u32 = 100_000;
const INSTALLS: u32 = 20_000;

#[derive(Default)]
struct Collected(Vec<Found>);

impl Sink for Collected {
    async fn batch(&mut self, found: Vec<Found>, _: ScanProgress) -> Result<(), SinkClosed> {
        self.0.extend(found);
        Ok(())
    }
}

/// Known entries grouped by directory, as a store finds them by key range.
#[derive(Default)]
struct ByDirectory(std::collections::BTreeMap<DirPath, Vec<(Name, KnownEntry)>>);

impl Known for ByDirectory {
    async fn children(&self, dir: &DirPath) -> Result<Vec<(Name, KnownEntry)>, KnownLost> {
        Ok(self.0.get(dir).cloned().unwrap_or_default())
    }
    async fn entry(&self, _: &EntryPath) -> Result<Option<KnownEntry>, KnownLost> {
        Ok(None)
    }
    async fn announced(&self, _: &EntryPath) -> Result<Option<KnownEntry>, KnownLost> {
        Ok(None)
    }
}

fn main() {
    let parent = std::env::var_os("TIDEGATE_BENCH_DIR").map_or_else(|| PathBuf::from("/dev/shm"), PathBuf::from);
    let dir = tempfile::tempdir_in(parent).unwrap();
    let root = block_on(OsFileSystem.open_root(dir.path())).unwrap();
    let marker = Marker {
        location: LocationId::from_bytes([1; 16]),
        device: DeviceId::from_bytes([2; 32]),
        nonce: Nonce::from_bytes([3; 16]),
    };
    let binding = block_on(mark_root(&root, marker)).unwrap();
    for n in 0..FILES {
        if n % 1000 == 0 {
            fs::create_dir(dir.path().join(format!("d{}", n / 1000))).unwrap();
        }
        fs::write(dir.path().join(format!("d{}/f{n}", n / 1000)), vec![n as u8; 1024]).unwrap();
    }
    let rules: Vec<String> = tidegate_protocol::index::DEFAULT_RULES.iter().map(|r| (*r).to_owned()).collect();
    let spec = ScanSpec {
        binding,
        scope: Scope::All,
        deep: false,
        rules: Arc::new(IgnoreRules::new(&rules).unwrap()),
        folds: false,
    };
    let lanes = ThreadLanes::start(2).unwrap();
    let mut sink = Collected::default();
    let begin = Instant::now();
    block_on(scan(&root, &spec, &ByDirectory::default(), &mut sink, &lanes)).unwrap();
    report("first scan", FILES, begin);
    let mut known = ByDirectory::default();
    for Found { observation, .. } in sink.0 {
        let Observed::Present(kind, mark) = observation.observed else { continue };
        let name = Name::new(observation.path.name()).unwrap();
        known.0.entry(observation.path.parent()).or_default().push((name, KnownEntry { kind, mark }));
    }
    let mut sink = Collected::default();
    let begin = Instant::now();
    block_on(scan(&root, &spec, &known, &mut sink, &lanes)).unwrap();
    report("scan, nothing changed", FILES, begin);
    assert_eq!(sink.0, []);

    let key = JobKey {
        conduit: ConduitId::from_bytes([4; 16]),
        generation: 1,
        device: DeviceId::from_bytes([2; 32]),
        side: Side::Target,
        kind: JobKind::Copy,
    };
    let shop = block_on(Workshop::open(root, &key)).unwrap();
    fs::create_dir(dir.path().join("new")).unwrap();
    let mut marks = Vec::new();
    let begin = Instant::now();
    install(&shop, b'a', |_| Expect::ABSENT, &mut marks);
    report("staged, durable, installed", INSTALLS, begin);
    let old = std::mem::take(&mut marks);
    let begin = Instant::now();
    let (content, size) = (content(b'a'), SIZE as u64);
    install(
        &shop,
        b'b',
        |n| Expect {
            image: PreImage::File { content: ContentHash::of(&with_number(&content, n)), size },
            mark: Some(old[n as usize]),
        },
        &mut marks,
    );
    report("replaced, old to trash", INSTALLS, begin);
}

const SIZE: usize = 2048;

fn content(byte: u8) -> Vec<u8> {
    vec![byte; SIZE]
}

fn with_number(content: &[u8], n: u32) -> Vec<u8> {
    let mut bytes = content.to_vec();
    bytes[..4].copy_from_slice(&n.to_le_bytes());
    bytes
}

fn install(
    shop: &Workshop<tidegate_storage::disk::os::OsRoot>,
    byte: u8,
    expect: impl Fn(u32) -> Expect,
    marks: &mut Vec<StatMark>,
) {
    let known = KnownMap::default();
    for batch in (0..INSTALLS).collect::<Vec<_>>().chunks(1000) {
        let mut staged = Vec::new();
        for n in batch {
            let bytes = with_number(&content(byte), *n);
            let facts = FileFacts {
                content: ContentHash::of(&bytes),
                size: bytes.len() as u64,
                mtime_ns: i64::from(byte) * 1_000_000_000,
                executable: false,
            };
            staged.push(block_on(shop.stage_bytes(*n, &bytes, &facts)).unwrap());
        }
        let ready = block_on(shop.barrier(staged)).unwrap();
        for (n, ready) in batch.iter().zip(ready) {
            let path = EntryPath::from_slashes(format!("new/f{n}").as_bytes()).unwrap();
            let applied = block_on(shop.install(ready, &path, &expect(*n), &known)).unwrap();
            marks.push(applied.mark.unwrap());
        }
        block_on(shop.sync_dirs()).unwrap();
    }
}

#[allow(clippy::print_stdout, reason = "what a bench is for")]
fn report(what: &str, count: u32, begin: Instant) {
    let seconds = begin.elapsed().as_secs_f64();
    println!("{what}: {count} in {seconds:.2} s, {:.0}/s", f64::from(count) / seconds);
}
