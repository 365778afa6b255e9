//! Conflicts as people meet them: listed by the coordinator as rows, seen on every device, decided from any.
//!
//! A decision between the versions that stand there is a ruling, a shared fact that the next resolve follows. A new
//! content, or a choice after both versions were kept, is written at this device's own end with a version that has
//! seen both sides, so that it is the later one everywhere.

use std::collections::BTreeMap;

use tidegate_protocol::file_sync::{
    Conduit, Conflict, ConflictOutcome, Decision, MetConflict, Plan, Root, Ruling, Side, Spent,
};
use tidegate_protocol::id::{ConduitId, Sequence};
use tidegate_protocol::index::{Entry, EntryKind, EntryState};
use tidegate_protocol::library_sync::Fact;
use tidegate_protocol::limits::SPENT_KEPT_MAX;
use tidegate_protocol::path::EntryPath;
use tidegate_protocol::time::Stamped;
use tidegate_storage::store::Change;

use super::command::{ConflictView, Fault, FaultCode, Reply, VersionView};
use super::dispatch::GENERATIONS_KEPT;
use super::{Core, CoreError, Step};

/// Conflicts of one plan that become rows; all of them are in the plan.
const MET_PER_PLAN_MAX: usize = 1_000;

impl Core {
    /// A plan met conflicts: those that are not listed yet become rows.
    pub(super) fn note_conflicts(
        &mut self,
        step: &mut Step<'_>,
        conduit: &Conduit,
        generation: u64,
        plan: &Plan,
    ) -> Result<(), CoreError> {
        if plan.conflicts().is_empty() {
            return Ok(());
        }
        let met = step.txn.met_conflicts(conduit.id, self.me)?;
        let next = met.last().map_or(1, |last| last.number + 1);
        let is_known = |new: &Conflict| {
            met.iter().any(|old| {
                old.settled_ms.is_none() && old.conflict.facts == new.facts && old.conflict.outcome == new.outcome
            })
        };
        let mut rows = Vec::new();
        let new = plan.conflicts().iter().filter(|new| !is_known(new)).take(MET_PER_PLAN_MAX);
        for (number, conflict) in (next..).zip(new) {
            let base = step.txn.base_entry(conduit.id, &conflict.path)?;
            let met = MetConflict {
                conduit: conduit.id,
                number,
                coordinator: self.me,
                generation,
                met_ms: step.now.wall_ms,
                base,
                conflict: conflict.clone(),
                settled_ms: None,
                ruled: None,
            };
            rows.push(Change::fact(Fact::Conflict(Box::new(met))));
        }
        step.put(rows)
    }

    /// Both ends agree but for what the plan lists: what is listed no more, or was decided, is settled.
    pub(super) fn settle_conflicts(
        &mut self,
        step: &mut Step<'_>,
        conduit: &Conduit,
        plan: &Plan,
    ) -> Result<(), CoreError> {
        let mut rows = Vec::new();
        let rulings = step.txn.rulings(conduit.id)?;
        for mut met in step.txn.met_conflicts(conduit.id, self.me)? {
            if met.settled_ms.is_some() {
                continue;
            }
            let ruling = rulings.iter().find(|ruling| ruling.facts == met.conflict.facts);
            met.ruled = ruling.map(|ruling| ruling.decision.value);
            let settled = match &met.conflict.outcome {
                ConflictOutcome::Held => !plan.conflicts().iter().any(|listed| listed.facts == met.conflict.facts),
                // A person may have said yes to both.
                ConflictOutcome::Both { copy } => {
                    met.ruled == Some(Decision::Both)
                        || !exists(step, &conduit.source, copy)?
                        || !exists(step, &conduit.source, &met.conflict.path)?
                }
                ConflictOutcome::Source | ConflictOutcome::Target | ConflictOutcome::Given => true,
            };
            if settled {
                met.settled_ms = Some(step.now.wall_ms);
                rows.push(Change::fact(Fact::Conflict(Box::new(met))));
            }
        }
        step.put(rows)?;
        drop_spent(step)
    }

    /// Conflicts of one conduit or of all, those that wait for a person first.
    pub(super) fn conflict_views(
        &self,
        step: &Step<'_>,
        named: Option<&str>,
        settled: bool,
    ) -> Result<Result<Reply, Fault>, CoreError> {
        let conduits = match named {
            Some(name) => match self.conduit_named(step, name)? {
                Ok(conduit) => vec![conduit],
                Err(fault) => return Ok(Err(fault)),
            },
            None => step.txn.conduits()?.into_iter().filter(|conduit| !conduit.removed.value).collect(),
        };
        let mut views = Vec::new();
        for conduit in conduits {
            let rulings = step.txn.rulings(conduit.id)?;
            for met in step.txn.met_conflicts(conduit.id, conduit.coordinator())? {
                let view = self.conflict_view(step, &conduit, &met, &rulings)?;
                if settled || view.open {
                    views.push(view);
                }
            }
        }
        views.sort_by_key(|view| !view.open);
        Ok(Ok(Reply::Conflicts(views)))
    }

    /// How many conflicts of a conduit wait for a person.
    pub(super) fn open_conflicts(&self, step: &Step<'_>, conduit: &Conduit) -> Result<u64, CoreError> {
        let rulings = step.txn.rulings(conduit.id)?;
        let met = step.txn.met_conflicts(conduit.id, conduit.coordinator())?;
        Ok(met.iter().filter(|met| met.is_open(&rulings)).count() as u64)
    }

    pub(super) fn conflict_view(
        &self,
        step: &Step<'_>,
        conduit: &Conduit,
        met: &MetConflict,
        rulings: &[Ruling],
    ) -> Result<ConflictView, CoreError> {
        let conflict = &met.conflict;
        let ruling = rulings.iter().find(|ruling| ruling.facts == conflict.facts);
        Ok(ConflictView {
            id: format!("{}:{}", conduit.settings.name.value, met.number),
            conduit: conduit.settings.name.value.clone(),
            number: met.number,
            generation: met.generation,
            met_ms: met.met_ms,
            path: conflict.path.clone(),
            kind: conflict.kind,
            outcome: conflict.outcome.clone(),
            open: met.is_open(rulings),
            settled_ms: met.settled_ms,
            ruling: ruling.map(|ruling| ruling.decision.value).or(met.ruled),
            source_device: self.device_label(step, conduit.source.device)?,
            target_device: self.device_label(step, conduit.target.device)?,
            source: conflict.source.as_ref().map(VersionView::of),
            target: conflict.target.as_ref().map(VersionView::of),
            base: met.base.as_ref().map(VersionView::of),
        })
    }

    /// The conflict that a person names as `conduit:number`.
    pub(super) fn conflict_named(
        &self,
        step: &Step<'_>,
        name: &str,
    ) -> Result<Result<(Conduit, MetConflict), Fault>, CoreError> {
        let shown: String = name.chars().take(80).flat_map(char::escape_debug).collect();
        let no_such = || {
            Fault::new(
                FaultCode::NoSuchName,
                format!("there is no conflict {shown:?}; nothing was changed"),
                "a conflict is named by its conduit and its number, as in notes:1",
                &["tidegate conflict list --all"],
            )
        };
        let Some((conduit, number)) = name.rsplit_once(':') else { return Ok(Err(no_such())) };
        let Ok(number) = number.parse::<u64>() else { return Ok(Err(no_such())) };
        let conduit = match self.conduit_named(step, conduit)? {
            Ok(conduit) => conduit,
            Err(fault) => return Ok(Err(fault)),
        };
        let met = step.txn.met_conflicts(conduit.id, conduit.coordinator())?;
        Ok(met.into_iter().find(|met| met.number == number).map(|met| (conduit, met)).ok_or_else(no_such))
    }

    pub(super) fn one_conflict(&self, step: &Step<'_>, name: &str) -> Result<Result<Reply, Fault>, CoreError> {
        let (conduit, met) = match self.conflict_named(step, name)? {
            Ok(found) => found,
            Err(fault) => return Ok(Err(fault)),
        };
        let rulings = step.txn.rulings(conduit.id)?;
        Ok(Ok(Reply::Conflict(Box::new(self.conflict_view(step, &conduit, &met, &rulings)?))))
    }

    /// Makes a person's decision a fact that every device sees and the next resolve follows.
    pub(super) fn rule(
        &mut self,
        step: &mut Step<'_>,
        conduit: &Conduit,
        met: &MetConflict,
        decision: Decision,
    ) -> Result<(), CoreError> {
        let stamp = self.stamp(step)?;
        let ruling = Ruling {
            conduit: conduit.id,
            facts: met.conflict.facts,
            path: met.conflict.path.clone(),
            decision: Stamped::new(decision, stamp),
        };
        step.put(vec![Change::fact(Fact::Ruling(Box::new(ruling)))])?;
        self.schedule_now(step, conduit.id);
        Ok(())
    }
}

impl VersionView {
    /// What a person is shown of one side.
    pub fn of(kind: &EntryKind) -> Self {
        let nothing =
            |what: &str| Self { what: what.to_owned(), content: None, bytes: None, mtime_ms: None, text: None };
        match kind {
            EntryKind::File(file) => Self {
                content: Some(file.content.to_string()),
                bytes: Some(file.size),
                mtime_ms: u64::try_from(file.mtime_ns / 1_000_000).ok(),
                ..nothing("file")
            },
            EntryKind::Symlink { target } => {
                Self { text: Some(String::from_utf8_lossy(target).into_owned()), ..nothing("link") }
            }
            EntryKind::Directory { .. } => nothing("directory"),
            EntryKind::Special => nothing("special"),
            EntryKind::Unknown(_) => nothing("unknown"),
        }
    }
}

/// What this device said of rulings and conflicts, and need not say any longer, drops out of its rows.
///
/// A ruling that can decide nothing any more: its conduit is gone, or its coordinator, who alone follows it, has proved that
/// nothing is left of its conflict. A ruling whose conflict is not listed stays: what is not known is not settled. A conflict
/// that was settled before the runs whose items are kept, and about which nobody's ruling stands: who has a ruling must
/// read that it is settled. The newest conflict stays, as the next one is numbered after it.
pub(super) fn drop_spent(step: &mut Step<'_>) -> Result<(), CoreError> {
    let mut own: BTreeMap<ConduitId, Vec<(Sequence, bool)>> = BTreeMap::new();
    for (at, ruling) in step.txn.rulings_of(step.txn.device())? {
        let lives = match step.txn.conduit(ruling.conduit)?.filter(|conduit| !conduit.removed.value) {
            Some(conduit) => {
                let met = step.txn.met_conflicts(conduit.id, conduit.coordinator())?;
                let mut about = met.iter().filter(|met| met.conflict.facts == ruling.facts).peekable();
                about.peek().is_none() || about.any(|met| met.settled_ms.is_none())
            }
            None => false,
        };
        own.entry(ruling.conduit).or_default().push((at, lives));
    }
    let mut met: BTreeMap<ConduitId, Vec<(Sequence, MetConflict)>> = BTreeMap::new();
    for (at, one) in step.txn.met_conflicts_of(step.txn.device())? {
        met.entry(one.conduit).or_default().push((at, one));
    }
    for (id, met) in met {
        let is_there = step.txn.conduit(id)?.is_some_and(|conduit| !conduit.removed.value);
        let (since_ms, rulings) = (history_begins_ms(step, id)?, step.txn.rulings(id)?);
        let newest = met.iter().map(|(_, met)| met.number).max();
        own.entry(id).or_default().extend(met.iter().map(|(at, met)| {
            let is_past = met.settled_ms.is_some_and(|settled_ms| Some(settled_ms) < since_ms);
            let is_ruled = || rulings.iter().any(|ruling| ruling.facts == met.conflict.facts);
            (*at, is_there && (!is_past || Some(met.number) == newest || is_ruled()))
        }));
    }
    let mut rows = Vec::new();
    for (conduit, mut stated) in own {
        stated.sort_unstable();
        // As many as one row can except; the next run finds the rest.
        let first_beyond = stated.iter().filter(|(_, lives)| *lives).nth(SPENT_KEPT_MAX).map(|(at, _)| *at);
        stated.retain(|(at, _)| first_beyond.is_none_or(|beyond| *at < beyond));
        if let Some((last, _)) = stated.iter().rev().find(|(_, lives)| !lives) {
            let said = step.txn.spent(step.txn.device(), conduit)?.map(|spent| spent.upto);
            let upto = said.into_iter().chain([*last]).max().expect("one at least");
            let kept = stated.iter().filter(|(at, lives)| *lives && *at <= upto).map(|(at, _)| *at).collect();
            rows.push(Change::fact(Fact::Spent(Box::new(Spent { conduit, upto, kept }))));
        }
    }
    step.put(rows)
}

/// When the oldest of the runs whose items are kept began; `None` if there were fewer.
fn history_begins_ms(step: &Step<'_>, conduit: ConduitId) -> Result<Option<u64>, CoreError> {
    let Some(oldest) = step.txn.generation_seen(conduit)?.checked_sub(GENERATIONS_KEPT) else { return Ok(None) };
    Ok(step.txn.generation(conduit, oldest)?.map(|generation| generation.opened_ms))
}

/// What stands at a path of one end.
pub(super) fn present(step: &Step<'_>, root: &Root, path: &EntryPath) -> Result<Option<Entry>, CoreError> {
    let Ok(path) = root.dir.join(path) else { return Ok(None) };
    Ok(match step.entry(root.device, root.location, &path)? {
        Some(EntryState::Present(entry)) => Some(entry),
        Some(EntryState::Deleted(_)) | None => None,
    })
}

fn exists(step: &Step<'_>, root: &Root, path: &EntryPath) -> Result<bool, CoreError> {
    Ok(present(step, root, path)?.is_some())
}

/// The end of a conduit that this side is.
pub(super) const fn end(conduit: &Conduit, side: Side) -> &Root {
    match side {
        Side::Source => &conduit.source,
        Side::Target => &conduit.target,
    }
}
