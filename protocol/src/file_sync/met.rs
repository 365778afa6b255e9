//! Conflicts that were met: what the library remembers of them until a person, or a later run, has settled them.

use serde::{Deserialize, Serialize};

use super::{Conflict, ConflictOutcome, Decision, Ruling};
use crate::id::{ConduitId, DeviceId};
use crate::index::EntryKind;

/// A conflict that a run met: a row of the coordinator, so that every member can see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetConflict {
    /// Of which conduit.
    pub conduit: ConduitId,
    /// Its number within the conduit, never given twice.
    pub number: u64,
    /// Who met it.
    pub coordinator: DeviceId,
    /// The generation whose plan it was in; the one before, if that plan had nothing to do.
    pub generation: u64,
    /// Wall time, in milliseconds.
    pub met_ms: u64,
    /// What both ends had agreed on before.
    pub base: Option<EntryKind>,
    /// The conflict, and what was done about it.
    pub conflict: Conflict,
    /// Wall time at which nothing of it was left, in milliseconds.
    pub settled_ms: Option<u64>,
    /// What a person had ruled when it was settled: the ruling itself is not kept any longer.
    pub ruled: Option<Decision>,
}

impl MetConflict {
    /// Whether it waits for a person: held, or kept in two versions that nobody has said yes to.
    pub fn is_open(&self, rulings: &[Ruling]) -> bool {
        let ruled = || rulings.iter().find(|ruling| ruling.facts == self.conflict.facts);
        self.settled_ms.is_none()
            && match &self.conflict.outcome {
                ConflictOutcome::Held => true,
                ConflictOutcome::Both { .. } => ruled().is_none_or(|ruling| ruling.decision.value != Decision::Both),
                ConflictOutcome::Source | ConflictOutcome::Target | ConflictOutcome::Given => false,
            }
    }
}
