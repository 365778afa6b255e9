//! Profiles: what kind of runs are drawn. Files in `configs/sim/`; the ones that ship are built in.
//!
//! Rates are per hour and device. Swarm: for each run it is drawn which classes of faults are on at all and how
//! strong each is, so that runs differ more than one dense mixture would.

use std::collections::BTreeMap;

use serde::Deserialize;

/// A kind of runs.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Profile {
    /// What it is for.
    pub about: String,
    /// Fewest and most devices.
    pub devices: (u64, u64),
    /// Minutes in which things go wrong.
    pub minutes: u64,
    /// Edits per hour on each device that holds a location.
    pub edits_per_hour: u64,
    /// Files of a location at the start.
    pub files: (u64, u64),
    /// Bytes of a file: most are near the first, a few near the second.
    pub file_bytes: (u64, u64),
    /// Of a thousand deeds of a user, how many are of which kind (verbs of a plan).
    pub edits: BTreeMap<String, u64>,
    /// Rate per hour and device of each class of faults, where it is on (verbs of a plan).
    pub faults: BTreeMap<String, f64>,
    /// How often on each device, per hour, something is put back from the trash, in the runs in which that is done at all:
    /// one in two. Not a class of faults: the classes are numbered, and keep their numbers.
    #[serde(default)]
    pub restores_per_hour: f64,
    /// Of a hundred runs, in how many a class of faults is on.
    pub fault_on_percent: u64,
    /// Weather: longest latency in milliseconds, losses and breaks per million, each drawn up to this.
    pub weather: Weather,
    /// Of a hundred conduits, how many are bidirectional.
    #[serde(default)]
    pub bidirectional_percent: u64,
    /// Of a hundred conduits that are not bidirectional, how many are selective.
    #[serde(default)]
    pub selective_percent: u64,
    /// Where every conduit is bidirectional: of a hundred pairs of locations that have none between them, how many get
    /// one, so that there are triangles and rings.
    #[serde(default)]
    pub ring_percent: u64,
    /// Of a hundred bidirectional or selective conduits, how many have another conflict strategy than that which keeps both.
    #[serde(default)]
    pub strategy_percent: u64,
    /// Of a hundred conduits, how many have a limit that changes with the time of day, while the run lasts.
    #[serde(default)]
    pub limit_percent: u64,
    /// Of a hundred devices, how many have a quirk (folding names, coarse times, no exchange, reused inodes).
    pub quirk_percent: u64,
}

/// The worst weather.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Weather {
    /// Longest way of a frame, in milliseconds.
    pub latency_ms: u64,
    /// Announcements lost, per million.
    pub gossip_loss_ppm: u64,
    /// Announcements repeated, per million.
    pub gossip_repeat_ppm: u64,
    /// Streams broken, per million frames.
    pub reset_ppm: u64,
}

/// The profiles that ship, by name.
pub const BUILT_IN: [(&str, &str); 8] = [
    ("idle", include_str!("../../../configs/sim/idle.toml")),
    ("light", include_str!("../../../configs/sim/light.toml")),
    ("dense", include_str!("../../../configs/sim/dense.toml")),
    ("standard", include_str!("../../../configs/sim/standard.toml")),
    ("heavy", include_str!("../../../configs/sim/heavy.toml")),
    ("ten-devices", include_str!("../../../configs/sim/ten-devices.toml")),
    ("two-way", include_str!("../../../configs/sim/two-way.toml")),
    ("selective", include_str!("../../../configs/sim/selective.toml")),
];

/// Why a profile cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// Not built in.
    #[error(
        "there is no profile `{0}`; there are idle, light, dense, standard, heavy, ten-devices, two-way and selective, or a file by its path"
    )]
    Unknown(String),
    /// Not a profile.
    #[error("{0}")]
    Form(String),
}

impl Profile {
    /// A built-in profile.
    pub fn named(name: &str) -> Result<Self, ProfileError> {
        let found = BUILT_IN.iter().find(|(known, _)| *known == name);
        Self::parse(found.ok_or_else(|| ProfileError::Unknown(name.to_owned()))?.1)
    }

    /// A profile from the text of a file.
    pub fn parse(text: &str) -> Result<Self, ProfileError> {
        let profile: Self = toml::from_str(text).map_err(|e| ProfileError::Form(e.to_string()))?;
        let known = |verb: &&String| !super::VERBS.iter().any(|(known, _)| known == verb);
        if let Some(verb) = profile.edits.keys().chain(profile.faults.keys()).find(known) {
            return Err(ProfileError::Form(format!("nobody can `{verb}`")));
        }
        Ok(profile)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_profile_that_ships_can_be_read() {
        for (name, _) in BUILT_IN {
            let profile = Profile::named(name).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert!(profile.devices.0 >= 2 && profile.devices.0 <= profile.devices.1, "{name}");
        }
        assert!(Profile::named("stanadrd").is_err());
    }

    #[test]
    fn a_profile_with_an_unknown_verb_is_refused() {
        let text = BUILT_IN[3].1.replace("writes", "wriets");
        assert!(matches!(Profile::parse(&text), Err(ProfileError::Form(_))));
    }
}
