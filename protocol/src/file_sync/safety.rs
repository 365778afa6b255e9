//! Guards: what is stopped before harm, until a person approves the very plan that was stopped.

use serde::{Deserialize, Serialize};

use super::resolver::Side;

/// Why a plan is held. Approval covers the plan that was shown, by its id, and no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Halt {
    /// The source became empty although the baseline had entries.
    #[error("the source is empty, and it had {had} entries at its top when last verified")]
    RootEmptied {
        /// How many entries it had directly in the root.
        had: u64,
    },
    /// Most of a side, or very many files, would be deleted.
    #[error("{deletes} of {files} files would be deleted on the {side:?} side")]
    MassDelete {
        /// On which side.
        side: Side,
        /// How many, less those whose content stays elsewhere.
        deletes: u64,
        /// Of how many.
        files: u64,
    },
    /// The first mirror would displace content of the target.
    #[error("the first mirror would displace {displaced} entries that only the target has")]
    FirstMirror {
        /// How many.
        displaced: u64,
    },
    /// The ignore rules of an end changed since the last verified generation, and the plan differs by it.
    #[error("the ignore rules of the {side:?} side changed")]
    RulesChanged {
        /// Of which end.
        side: Side,
    },
}

/// Thresholds of the guards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guards {
    /// Whether any guard but those that cannot be disabled is asked.
    pub enabled: bool,
    /// Deletes from which the share counts.
    pub deletes_min: u64,
    /// Share of a side's files, in percent, above which deletes are held.
    pub delete_percent: u64,
    /// Deletes from which a plan is always held.
    pub deletes_max: u64,
}

impl Default for Guards {
    fn default() -> Self {
        Self { enabled: true, deletes_min: 10, delete_percent: 50, deletes_max: 1000 }
    }
}
