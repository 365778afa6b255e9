//! Rows of the creation rules: conduits made one after the other, and the first that is refused.

use serde::Deserialize;
use tidegate_protocol::file_sync::conduit;
use tidegate_protocol::file_sync::{
    BandwidthLimit, Conduit, ConduitError, ConduitSettings, ConflictStrategy, DeleteMode, Root, Schedule, Selection,
    SyncMode,
};
use tidegate_protocol::id::{ConduitId, DeviceId, Label, LocationId};
use tidegate_protocol::path::DirPath;
use tidegate_protocol::time::{Stamp, Stamped};

use super::format::Mode;

/// One row.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "explained at the head of the corpus")]
pub struct ConfigRow {
    pub id: String,
    pub title: String,
    pub conduits: Vec<Pair>,
    pub expect: String,
}

/// A conduit of a row; ends are `device:/path`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "explained at the head of the corpus")]
pub struct Pair {
    pub source: String,
    pub target: String,
    pub mode: Mode,
}

impl ConfigRow {
    /// What the rules answer, in the row's notation.
    pub fn answer(&self) -> String {
        let mut made: Vec<Conduit> = Vec::new();
        for (number, pair) in self.conduits.iter().enumerate() {
            let new = plain(number as u8 + 1, root(&pair.source), root(&pair.target), pair.mode.into());
            if let Err(error) = conduit::check(&new, &made, |_| true) {
                return format!("reject:{}", name(&error));
            }
            made.push(new);
        }
        "ok".to_owned()
    }
}

/// A conduit with everything that can be set left as it is by default.
pub fn plain(number: u8, source: Root, target: Root, mode: SyncMode) -> Conduit {
    let stamp = Stamp::zero(source.device);
    let settings = ConduitSettings {
        name: Stamped::new(Label::lossy(&format!("conduit {number}")), stamp),
        enabled: Stamped::new(true, stamp),
        paused: Stamped::new(false, stamp),
        schedule: Stamped::new(Schedule::Manual, stamp),
        selection: Stamped::new(Selection::default(), stamp),
        parallel_transfers: Stamped::new(4, stamp),
        bandwidth_limit: Stamped::new(BandwidthLimit::default(), stamp),
        strategy: Stamped::new(ConflictStrategy::default(), stamp),
        delete_mode: Stamped::new(DeleteMode::default(), stamp),
    };
    let removed = Stamped::new(false, stamp);
    Conduit { id: ConduitId::from_bytes([number; 16]), created: stamp, source, target, mode, settings, removed }
}

/// Each device of the rows has one location: its whole disk. The node's own directory has our name here.
fn root(text: &str) -> Root {
    let (device, path) = text.split_once(":/").expect("ends are device:/path");
    let path = path.replace(".sync-trash", ".tidegate/trash");
    Root {
        device: DeviceId::from_bytes([device.as_bytes()[0]; 32]),
        location: LocationId::from_bytes([device.as_bytes()[0]; 16]),
        dir: DirPath::from_slashes(path.as_bytes()).expect("paths of the corpus are valid"),
    }
}

const fn name(error: &ConduitError) -> &'static str {
    match error {
        ConduitError::NotIndexed(_) => "not_indexed",
        ConduitError::SameEndpoint => "same_endpoint",
        ConduitError::Nested => "nested",
        ConduitError::InternalPath => "internal_path",
        ConduitError::Duplicate(_) => "duplicate",
        ConduitError::Opposed(_) => "opposed",
        ConduitError::SharedMirrorTarget(_) => "shared_mirror_target",
        ConduitError::MirrorTargetWritten(_) => "mirror_target_written",
        ConduitError::OneWayCycle => "one_way_cycle",
        ConduitError::Setting(_) => "setting",
    }
}
