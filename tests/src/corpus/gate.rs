//! Rows of the gate: what a replica knows, and whether that is enough.

use std::collections::BTreeMap;

use serde::Deserialize;
use tidegate_protocol::id::{ConduitId, DeviceId, Epoch, LocationId, Sequence};
use tidegate_protocol::library_sync::gate::{self, GateView, LocationView, OtherView, OwnerView};
use tidegate_protocol::library_sync::{GateReason, HeadRef};
use tidegate_protocol::limits::EVIDENCE_AGE_MS_MAX;

/// One row. Devices go by letters.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "explained at the head of the corpus")]
pub struct GateRow {
    pub id: String,
    pub title: String,
    pub resolver: String,
    pub source: String,
    pub target: String,
    pub authorized: Vec<String>,
    pub owner: BTreeMap<String, Owner>,
    #[serde(default)]
    pub others: BTreeMap<String, Other>,
    #[serde(default)]
    pub membership_epoch: u64,
    #[serde(default)]
    pub owners_membership_epoch: u64,
    pub expect: String,
}

/// What is known of a device that may own an end.
#[expect(clippy::struct_excessive_bools, reason = "independent facts, each of which closes the gate by itself")]
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "explained at the head of the corpus")]
pub struct Owner {
    pub online: bool,
    pub head: (u64, u64),
    pub applied: (u64, u64),
    pub evidence_age_ms: Option<u64>,
    pub relayed: bool,
    pub gossiped: Vec<u64>,
    pub bootstrapped: bool,
    pub root_ok: bool,
    pub scan_complete: bool,
    pub dirty: u64,
    pub clock_offset_ms: i64,
}

impl Default for Owner {
    fn default() -> Self {
        Self {
            online: true,
            head: (0, 0),
            applied: (0, 0),
            evidence_age_ms: None,
            relayed: false,
            gossiped: Vec::new(),
            bootstrapped: true,
            root_ok: true,
            scan_complete: true,
            dirty: 0,
            clock_offset_ms: 0,
        }
    }
}

/// What is known of a device that owns neither end.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "explained at the head of the corpus")]
pub struct Other {
    pub online: bool,
    pub config_evidence_age_ms: u64,
    pub config_applied: u64,
    pub config_head: u64,
}

impl GateRow {
    /// What the gate answers, in the row's notation.
    pub fn answer(&self) -> String {
        match gate::open(&self.view()) {
            Ok(_) => "open".to_owned(),
            Err(closed) => format!("closed:{}", reason(&closed.reasons[0])),
        }
    }

    fn view(&self) -> GateView {
        let mut devices = vec![&self.source, &self.target];
        devices.sort();
        devices.dedup();
        let others = self.others.iter().map(|(name, other)| OtherView {
            device: device(name),
            authorized: self.authorized.contains(name),
            online: other.online,
            config_evidence_age_ms: Some(other.config_evidence_age_ms),
            config_applied: other.config_applied >= other.config_head,
        });
        GateView {
            conduit: ConduitId::from_bytes([0; 16]),
            resolver: device(&self.resolver),
            ends: [(device(&self.source), location(&self.source)), (device(&self.target), location(&self.target))],
            owners: devices.into_iter().map(|name| self.owner(name)).collect(),
            others: others.collect(),
            membership: self.membership_epoch,
            owners_membership: self.owners_membership_epoch,
            newer_generation_at: None,
            evidence_age_ms_max: EVIDENCE_AGE_MS_MAX,
        }
    }

    fn owner(&self, name: &String) -> OwnerView {
        let owner = &self.owner[name];
        let state = |(epoch, sequence): (u64, u64)| HeadRef {
            device: device(name),
            epoch: Epoch(epoch),
            sequence: Sequence(sequence),
            set_hash: [sequence as u8; 32],
        };
        OwnerView {
            device: device(name),
            locations: vec![LocationView {
                location: location(name),
                root_ok: owner.root_ok,
                scan_complete: owner.scan_complete,
                dirty: owner.dirty,
                busy: Vec::new(),
            }],
            authorized: self.authorized.contains(name),
            quarantined: false,
            over_quota: false,
            online: owner.online,
            evidence_age_ms: owner.evidence_age_ms,
            relayed: owner.relayed,
            head: Some(state(owner.head)),
            applied: Some(state(owner.applied)),
            gossiped: owner.gossiped.iter().max().map(|sequence| Sequence(*sequence)),
            bootstrapped: owner.bootstrapped,
            clock_offset_ms: owner.clock_offset_ms,
        }
    }
}

fn device(name: &str) -> DeviceId {
    DeviceId::from_bytes([name.as_bytes()[0]; 32])
}

fn location(name: &str) -> LocationId {
    LocationId::from_bytes([name.as_bytes()[0]; 16])
}

fn reason(reason: &GateReason) -> String {
    let (name, device) = match reason {
        GateReason::Unauthorized { device } => ("unauthorized", device),
        GateReason::Quarantined { device } => ("quarantined", device),
        GateReason::OverQuota { device } => ("over_quota", device),
        GateReason::Offline { device } => ("offline", device),
        GateReason::Unheard { device } => ("unheard", device),
        GateReason::StaleEvidence { device, .. } => ("stale_evidence", device),
        GateReason::Relayed { device } => ("relayed", device),
        GateReason::Epoch { device, .. } => ("epoch", device),
        GateReason::Regressed { device, .. } => ("regressed", device),
        GateReason::Behind { device, .. } => ("behind", device),
        GateReason::Mismatch { device } => ("mismatch", device),
        GateReason::Bootstrapping { device } => ("bootstrapping", device),
        GateReason::RootMissing { device, .. } => ("root_missing", device),
        GateReason::Unscanned { device, .. } => ("unscanned", device),
        GateReason::Dirty { device, .. } => ("dirty", device),
        GateReason::Clock { device, .. } => ("clock", device),
        GateReason::Membership => return "membership".to_owned(),
        GateReason::ConfigStale { device } => ("config_stale", device),
        GateReason::NewerGeneration { device } => ("newer_generation", device),
    };
    format!("{name}:{}", device.as_bytes()[0] as char)
}
