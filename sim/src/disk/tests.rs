//! The disk by itself: that it keeps the contract in all its kinds, and that what a power cut leaves is what a
//! power cut may leave.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tidegate_storage::disk::{block_on, contract};

use super::*;
use crate::random::{Draws, Kind};

/// Time that goes on by a microsecond whenever somebody looks.
#[derive(Default)]
struct Ticks(AtomicU64);

impl Surroundings for Ticks {
    fn moment(&self) -> Moment {
        let monotonic_ns = self.0.fetch_add(1_000, Ordering::Relaxed);
        Moment { monotonic_ns, wall_ns: 1_700_000_000_000_000_000 + monotonic_ns as i64 }
    }

    fn sleep(&self, span_ns: u64) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        self.0.fetch_add(span_ns, Ordering::Relaxed);
        Box::pin(std::future::ready(()))
    }
}

fn disk(seed: u64, spec: VolumeSpec) -> Disk {
    let disk = Disk::new(Arc::new(Ticks::default()), Draws::new(seed).stream(Kind::Disk, 1, 0));
    disk.mount("/", VolumeSpec::plain(1));
    disk.user().make_dir("/d").unwrap();
    disk.user().sync_all("/").unwrap();
    disk.mount("/d", spec);
    disk
}

fn shown(disk: &Disk, picture: Picture) -> Vec<(String, Option<String>)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let tree = disk.tree("/d", picture).unwrap();
    tree.iter().map(|(path, shown)| (text(path), shown.content.as_ref().map(|c| text(&c.bytes())))).collect()
}

fn files(of: &[(&str, &str)]) -> Vec<(String, Option<String>)> {
    of.iter().map(|(path, content)| ((*path).to_owned(), Some((*content).to_owned()))).collect()
}

#[test]
fn the_simulated_disk_keeps_the_contract_whatever_its_kind() {
    let plain = VolumeSpec::plain(2);
    let folding = Naming { ignores_case: true, normalises: true };
    for spec in [
        plain,
        VolumeSpec { time_step_ns: 1_000, ..plain },
        VolumeSpec { time_step_ns: 1_000_000_000, ..plain },
        VolumeSpec { time_step_ns: 2_000_000_000, ..plain },
        VolumeSpec { exchanges: false, ..plain },
        VolumeSpec { symlinks: false, exchanges: false, time_step_ns: 2_000_000_000, naming: folding, ..plain },
        VolumeSpec { naming: folding, ..plain },
        VolumeSpec { reuses_inodes: true, writeback_ns: 1, ..plain },
    ] {
        for (yield_ppm, call_takes_ns) in [(0, 0), (1_000_000, 0), (0, 1_000_000)] {
            let disk = disk(1, spec);
            let view = disk.start();
            disk.faults(|faults| *faults = Faults { yield_ppm, call_takes_ns, ..Faults::default() });
            block_on(contract::run_coarse(&view, Path::new("/d"), spec.time_step_ns as i64));
            let used = disk.used_bytes(2);
            disk.user().remove_tree("/d").unwrap();
            disk.user().sync_all("/d").unwrap();
            assert!(disk.used_bytes(2) < used && disk.used_bytes(2) <= 256, "what is removed takes no room");
        }
    }
}
