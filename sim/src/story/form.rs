//! The form of a story as TOML has it, before anything is checked.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

use crate::plan::Chosen;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    #[serde(default)]
    pub(super) story: String,
    #[serde(default = "one")]
    pub(super) seed: u64,
    #[serde(default)]
    pub(super) profile: String,
    pub(super) until: Option<Spanned<String>>,
    pub(super) heal: Option<Spanned<String>>,
    pub(super) events_max: Option<u64>,
    #[serde(default)]
    pub(super) devices: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) steps: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) files: BTreeMap<Spanned<String>, RawContent>,
    #[serde(default)]
    pub(super) network: RawNetwork,
    #[serde(default, rename = "device")]
    pub(super) device: Vec<RawDevice>,
    #[serde(default)]
    pub(super) location: Vec<RawLocation>,
    #[serde(default)]
    pub(super) conduit: Vec<RawConduit>,
    #[serde(default)]
    pub(super) expect: Vec<Spanned<RawExpect>>,
}

const fn one() -> u64 {
    1
}

#[derive(Deserialize, Clone)]
#[serde(untagged, expecting = "a file is a text, or a number of bytes that nobody else writes")]
pub(super) enum RawContent {
    Text(String),
    Bytes(u32),
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawNetwork {
    pub(super) latency_ms: Option<[u64; 2]>,
    pub(super) gossip_loss_ppm: u32,
    pub(super) gossip_repeat_ppm: u32,
    pub(super) reset_ppm: u32,
    pub(super) bytes_per_s: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawDevice {
    pub(super) name: Spanned<String>,
    pub(super) member: Option<bool>,
    pub(super) skew: Option<Spanned<String>>,
    pub(super) drift_ppm: Option<i64>,
    pub(super) settle: Option<Spanned<String>>,
    pub(super) folds_case: Option<bool>,
    pub(super) mtime_step_ns: Option<u64>,
    pub(super) exchange: Option<bool>,
    pub(super) reuses_inodes: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLocation {
    pub(super) at: Spanned<String>,
    #[serde(default)]
    pub(super) ignore: Vec<String>,
    #[serde(default)]
    pub(super) files: BTreeMap<Spanned<String>, RawContent>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawConduit {
    pub(super) name: Spanned<String>,
    pub(super) from: Spanned<String>,
    pub(super) to: Spanned<String>,
    pub(super) mode: Option<Spanned<String>>,
    pub(super) runs: Option<Spanned<String>>,
    pub(super) delete: Option<Spanned<String>>,
    pub(super) strategy: Option<Spanned<String>>,
    pub(super) select: Option<Vec<Chosen>>,
    pub(super) limit: Option<Spanned<String>>,
    #[serde(default = "yes")]
    pub(super) approves: bool,
}

const fn yes() -> bool {
    true
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawExpect {
    pub(super) at: Option<Spanned<String>>,
    pub(super) tree: Option<Spanned<String>>,
    pub(super) files: Option<BTreeMap<String, String>>,
    pub(super) same: Option<Vec<Spanned<String>>>,
    pub(super) trash: Option<Spanned<String>>,
    pub(super) holds: Option<Vec<String>>,
    pub(super) verified: Option<Spanned<String>>,
    pub(super) held: Option<Spanned<String>>,
}
