//! `ConduitManager`: creating, changing and removing conduits, as shared facts.

use tidegate_protocol::file_sync::{
    BandwidthLimit, Conduit, ConduitSettings, ConflictStrategy, DeleteMode, Root, Schedule, Selection, SyncMode,
    conduit::{self, ConduitError},
};
use tidegate_protocol::index::{EntryKind, EntryState};
use tidegate_protocol::library_sync::Fact;
use tidegate_protocol::time::{Stamp, Stamped};
use tidegate_storage::store::Change;

use super::command::{ConduitChange, Fault, FaultCode, NewConduit, Reply};
use super::conflicts::drop_spent;
use super::{Core, CoreError, Step};

/// Why a conduit was not created.
pub(super) enum NotCreated {
    /// An end is not known here; it may be on its way.
    Unknown(Fault),
    /// A rule, or what the command says.
    Refused(Fault),
}

/// Owns the rules under which conduits come and go. Conduits themselves are rows of the replica; this holds
/// nothing, so that there is nothing to get out of step.
pub(super) struct ConduitManager;

impl ConduitManager {
    /// The settings a conduit begins with.
    fn defaults(new: &NewConduit, parallel_transfers: u32, stamp: Stamp) -> ConduitSettings {
        ConduitSettings {
            name: Stamped::new(new.name.clone(), stamp),
            enabled: Stamped::new(true, stamp),
            paused: Stamped::new(false, stamp),
            schedule: Stamped::new(Schedule::Manual, stamp),
            selection: Stamped::new(Selection::default(), stamp),
            parallel_transfers: Stamped::new(parallel_transfers, stamp),
            bandwidth_limit: Stamped::new(BandwidthLimit::default(), stamp),
            strategy: Stamped::new(ConflictStrategy::default(), stamp),
            delete_mode: Stamped::new(DeleteMode::default(), stamp),
        }
    }

    /// Sets what `change` names, each field under `stamp`. Says whether anything differs.
    fn apply(settings: &mut ConduitSettings, change: ConduitChange, stamp: Stamp) -> bool {
        fn set<T: PartialEq>(field: &mut Stamped<T>, value: Option<T>, stamp: Stamp) -> bool {
            match value {
                Some(value) if value != field.value => {
                    *field = Stamped { value, stamp };
                    true
                }
                Some(_) | None => false,
            }
        }
        let ConduitChange {
            name,
            enabled,
            paused,
            schedule,
            parallel_transfers,
            bandwidth_limit,
            strategy,
            delete_mode,
            selection,
        } = change;
        let selection = selection.applied(&settings.selection.value);
        [
            set(&mut settings.name, name, stamp),
            set(&mut settings.enabled, enabled, stamp),
            set(&mut settings.paused, paused, stamp),
            set(&mut settings.schedule, schedule, stamp),
            set(&mut settings.parallel_transfers, parallel_transfers, stamp),
            set(&mut settings.bandwidth_limit, bandwidth_limit, stamp),
            set(&mut settings.strategy, strategy, stamp),
            set(&mut settings.delete_mode, delete_mode, stamp),
            set(&mut settings.selection, selection, stamp),
        ]
        .contains(&true)
    }
}

impl Core {
    pub(super) fn create_conduit(
        &mut self,
        step: &mut Step<'_>,
        new: NewConduit,
    ) -> Result<Result<Reply, NotCreated>, CoreError> {
        let (source, target) = match (self.root_named(step, &new.source)?, self.root_named(step, &new.target)?) {
            (Ok(source), Ok(target)) => (source, target),
            (Err(fault), _) | (_, Err(fault)) if fault.code == FaultCode::NoSuchName => {
                return Ok(Err(NotCreated::Unknown(fault)));
            }
            (Err(fault), _) | (_, Err(fault)) => return Ok(Err(NotCreated::Refused(fault))),
        };
        let stamp = self.stamp(step)?;
        let mut settings = ConduitManager::defaults(&new, self.config.parallel_transfers, stamp);
        ConduitManager::apply(&mut settings, new.change, stamp);
        let created = Conduit {
            id: self.draw.conduit(),
            created: stamp,
            source,
            target,
            mode: new.mode,
            settings,
            removed: Stamped::new(false, stamp),
        };
        if let Some(fault) = self.name_clash(step, &created)? {
            return Ok(Err(NotCreated::Refused(fault)));
        }
        match self.check_conduit(step, &created)? {
            Ok(()) => {}
            Err(error @ ConduitError::NotIndexed(_)) => return Ok(Err(NotCreated::Unknown(refused(&error)))),
            Err(error) => return Ok(Err(NotCreated::Refused(refused(&error)))),
        }
        let id = created.id;
        step.put(vec![Change::fact(Fact::Conduit(Box::new(created)))])?;
        self.schedule_now(step, id);
        Ok(Ok(Reply::Conduit(Box::new(self.conduit_view(step, id)?))))
    }

    fn check_conduit(&self, step: &Step<'_>, new: &Conduit) -> Result<Result<(), ConduitError>, CoreError> {
        let mut indexed = Vec::new();
        for root in [&new.source, &new.target] {
            indexed.push((root.clone(), self.is_indexed(step, root)?));
        }
        let is_indexed = |root: &Root| indexed.iter().any(|(known, indexed)| known == root && *indexed);
        Ok(conduit::check(new, &step.txn.conduits()?, is_indexed))
    }

    /// Whether the replica holds a directory at a root; the top of a location is one.
    fn is_indexed(&self, step: &Step<'_>, root: &Root) -> Result<bool, CoreError> {
        let Some(dir) = root.dir.as_entry() else {
            return Ok(step.txn.location(root.device, root.location)?.is_some_and(|location| !location.removed));
        };
        let state = step.entry(root.device, root.location, dir)?;
        let entry = state.as_ref().and_then(EntryState::present);
        Ok(entry.is_some_and(|entry| matches!(entry.kind, EntryKind::Directory { .. })))
    }

    /// Two conduits of one name could not be told apart on the command line.
    fn name_clash(&self, step: &Step<'_>, new: &Conduit) -> Result<Option<Fault>, CoreError> {
        let name = &new.settings.name.value;
        let mut others = step.txn.conduits()?.into_iter().filter(|c| !c.removed.value && c.id != new.id);
        Ok(others.any(|other| other.settings.name.value == *name).then(|| {
            Fault::new(
                FaultCode::NameTaken,
                format!("the name {name} is taken; nothing was changed"),
                "another conduit of this library has it",
                &["tidegate conduit list"],
            )
        }))
    }

    pub(super) fn set_conduit(
        &mut self,
        step: &mut Step<'_>,
        name: &str,
        change: ConduitChange,
    ) -> Result<Result<Reply, Fault>, CoreError> {
        let mut conduit = match self.conduit_named(step, name)? {
            Ok(conduit) => conduit,
            Err(fault) => return Ok(Err(fault)),
        };
        let stamp = self.stamp(step)?;
        if ConduitManager::apply(&mut conduit.settings, change, stamp) {
            if let Some(fault) = self.name_clash(step, &conduit)? {
                return Ok(Err(fault));
            }
            if let Err(error) = conduit::check_settings(&conduit.settings) {
                return Ok(Err(refused(&error.into())));
            }
            let id = conduit.id;
            step.put(vec![Change::fact(Fact::Conduit(Box::new(conduit.clone())))])?;
            self.schedule_now(step, id);
        }
        Ok(Ok(Reply::Conduit(Box::new(self.conduit_view(step, conduit.id)?))))
    }

    pub(super) fn remove_conduit(
        &mut self,
        step: &mut Step<'_>,
        name: &str,
    ) -> Result<Result<Reply, Fault>, CoreError> {
        let mut conduit = match self.conduit_named(step, name)? {
            Ok(conduit) => conduit,
            Err(fault) => return Ok(Err(fault)),
        };
        if self.service.is_running(conduit.id) {
            return Ok(Err(Fault::new(
                FaultCode::AlreadyRunning,
                format!("{name} is running; nothing was changed"),
                "a conduit is removed between its generations",
                &["tidegate job list", "tidegate job cancel JOB"],
            )));
        }
        conduit.removed = Stamped::new(true, self.stamp(step)?);
        let id = conduit.id;
        step.put(vec![Change::fact(Fact::Conduit(Box::new(conduit)))])?;
        drop_spent(step)?;
        step.txn.drop_base(id)?;
        step.txn.set_baseline(id, None)?;
        self.conduit_changed(step, id)?;
        Ok(Ok(Reply::Done))
    }
}

pub(super) fn refused(error: &ConduitError) -> Fault {
    Fault::new(
        FaultCode::ConduitRule,
        "the conduit was refused; nothing was changed",
        error.to_string(),
        &["tidegate conduit list", "tidegate location list"],
    )
}

/// Whether a mode writes its source as well.
pub(super) const fn writes_source(mode: SyncMode) -> bool {
    match mode {
        SyncMode::Bidirectional => true,
        SyncMode::Mirror | SyncMode::Selective => false,
    }
}
