//! Conduits that exist and do not run, as the rules refuse them beside an older one.
//!
//! Rules are asked where a conduit is created, but two devices may each create one of two before they hear of one another.
//! Which of them waits is law (`tidegate_protocol::file_sync::conduit::clash`), a function of the replicated facts. Here it
//! closes the ways into a run: calls and schedules, the opened gate, a plan, the jobs of a generation that is open already, and
//! jobs that other devices offer. Nothing of it is kept, so the conduit runs again with the step that hears of the removal.

use tidegate_protocol::file_sync::{Conduit, JobState, SkipReason, conduit};
use tidegate_protocol::id::ConduitId;
use tidegate_storage::store::JobRecord;

use super::command::{Fault, FaultCode, RefusedView};
use super::{Core, CoreError, Step};

/// Why a conduit waits for a person.
#[derive(Debug, Clone)]
pub(super) struct Clash {
    /// What commands call the conduit, and the older one: by id, where both have one name.
    names: [String; 2],
    pub(super) why: String,
}

impl Clash {
    /// The older conduit, if any, that keeps this one from running.
    pub(super) fn of(step: &Step<'_>, conduit: &Conduit) -> Result<Option<Self>, CoreError> {
        Ok(Self::among(conduit, &step.txn.conduits()?))
    }

    fn among(conduit: &Conduit, all: &[Conduit]) -> Option<Self> {
        let found = conduit::clash(conduit, all)?;
        let same_name = conduit.settings.name.value == found.older.settings.name.value;
        let called = |conduit: &Conduit| {
            if same_name { conduit.id.to_string() } else { conduit.settings.name.value.to_string() }
        };
        let names = [conduit, found.older].map(called);
        let why = format!("{} is older, and this conduit is against the rules beside it: {}", names[1], found.rule);
        Some(Self { names, why })
    }

    pub(super) fn fault(self) -> Fault {
        let [own, older] = self.names;
        Fault::new(
            FaultCode::ConduitRule,
            format!("{own} does not run; nothing was changed"),
            self.why,
            &[
                &format!("one of the two has to go: tidegate conduit remove {own}"),
                &format!("or: tidegate conduit remove {older}"),
            ],
        )
    }

    pub(super) fn view(self) -> RefusedView {
        let [name, older] = self.names;
        RefusedView { name, older, why: self.why }
    }
}

impl Core {
    /// Jobs of a generation that have not begun, of a conduit that must not run any more: none of it is done.
    pub(super) fn skip_clashing(
        &mut self,
        step: &mut Step<'_>,
        id: ConduitId,
        open: &mut Vec<JobRecord>,
    ) -> Result<(), CoreError> {
        let Some(conduit) = step.txn.conduit(id)?.filter(|_| !open.is_empty()) else { return Ok(()) };
        let Some(clash) = Clash::of(step, &conduit)? else { return Ok(()) };
        // What is at work already ends as it would: it tidies up after itself.
        let waits = |record: &JobRecord| record.state == JobState::Waiting;
        for record in open.iter().filter(|record| waits(record)) {
            self.skip_rest(step, record.spec.key, &SkipReason::Io(clash.why.clone()))?;
        }
        open.retain(|record| !waits(record));
        Ok(())
    }

    /// A one-way conduit that must not run forgets what its ends agreed on: what the older one brings to its target meanwhile
    /// is nothing to be cleared without a question. When it may run again, its first run asks a person, as any first run does.
    pub(super) fn forget_clashing(&self, step: &mut Step<'_>) -> Result<(), CoreError> {
        let all = step.txn.conduits()?;
        let own = all.iter().filter(|c| c.coordinator() == self.me && c.mode.is_one_way() && !c.removed.value);
        for conduit in own.filter(|conduit| conduit::clash(conduit, &all).is_some()) {
            step.txn.set_baseline(conduit.id, None)?;
        }
        Ok(())
    }

    /// A conduit was changed: it is looked at anew; and if it was removed, so are those that it may have kept from running.
    pub(super) fn conduit_changed(&mut self, step: &mut Step<'_>, id: ConduitId) -> Result<(), CoreError> {
        self.schedule_now(step, id);
        self.forget_clashing(step)?;
        if step.txn.conduit(id)?.is_some_and(|conduit| conduit.removed.value) {
            for other in step.txn.conduits()? {
                self.schedule_now(step, other.id);
            }
        }
        Ok(())
    }
}
