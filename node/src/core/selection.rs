//! What a selective conduit holds: changed field by field, pinned and fetched by path.

use tidegate_protocol::file_sync::{Conduit, Fetched, Selection, SyncMode};
use tidegate_protocol::library_sync::Fact;
use tidegate_protocol::path::EntryPath;
use tidegate_protocol::time::Stamped;
use tidegate_storage::store::Change;

use super::command::{Fault, FaultCode, Reply, SelectionChange};
use super::{Core, CoreError, Step};

impl SelectionChange {
    /// The selection after the change; `None` if nothing is to change.
    pub(super) fn applied(self, old: &Selection) -> Option<Selection> {
        let mut new = old.clone();
        let Self { subtrees, include, exclude, size_bytes_min, size_bytes_max, age_ms_max, budget_bytes } = self;
        if let Some(subtrees) = subtrees {
            new.subtrees = subtrees;
        }
        if let Some(include) = include {
            new.globs = include;
        }
        if let Some(exclude) = exclude {
            new.exclude = exclude;
        }
        for (field, value) in [
            (&mut new.size_bytes_min, size_bytes_min),
            (&mut new.size_bytes_max, size_bytes_max),
            (&mut new.age_ms_max, age_ms_max),
            (&mut new.budget_bytes, budget_bytes),
        ] {
            if let Some(value) = value {
                *field = (value > 0).then_some(value);
            }
        }
        (new != *old).then_some(new)
    }
}

impl Core {
    /// Pins a path of a selective conduit, or lets go of it.
    pub(super) fn pin(
        &mut self,
        step: &mut Step<'_>,
        conduit: &str,
        path: &EntryPath,
        pinned: bool,
    ) -> Result<Result<Reply, Fault>, CoreError> {
        let conduit = match self.conduit_named(step, conduit)? {
            Ok(conduit) => conduit,
            Err(fault) => return Ok(Err(fault)),
        };
        self.select(step, conduit, |selection| {
            selection.pins.retain(|pin| pin != path);
            if pinned {
                selection.pins.push(path.clone());
                selection.pins.sort();
            } else {
                selection.fetched.retain(|fetched| fetched.path != *path);
            }
        })
    }

    /// Has a path brought to the target for a while.
    pub(super) fn fetch(
        &mut self,
        step: &mut Step<'_>,
        named: Option<&str>,
        text: &str,
        for_ms: u64,
    ) -> Result<Result<Reply, Fault>, CoreError> {
        let selective = |conduit: &Conduit| conduit.mode == SyncMode::Selective;
        let (conduit, path) = match self.find_path(step, named, text, selective)? {
            Ok(found) => found,
            Err(fault) => return Ok(Err(fault)),
        };
        let now_ms = step.now.wall_ms;
        self.select(step, conduit, |selection| {
            selection.fetched.retain(|fetched| fetched.path != path && fetched.until_ms > now_ms);
            selection.fetched.push(Fetched { path: path.clone(), until_ms: now_ms.saturating_add(for_ms) });
        })
    }

    fn select(
        &mut self,
        step: &mut Step<'_>,
        mut conduit: Conduit,
        change: impl FnOnce(&mut Selection),
    ) -> Result<Result<Reply, Fault>, CoreError> {
        if conduit.mode != SyncMode::Selective {
            let name = &conduit.settings.name.value;
            return Ok(Err(Fault::new(
                FaultCode::Usage,
                format!("{name} selects nothing; nothing was changed"),
                "only a selective conduit leaves things at its source",
                &["tidegate conduit list"],
            )));
        }
        let mut selection = conduit.settings.selection.value.clone();
        change(&mut selection);
        if selection != conduit.settings.selection.value {
            let stamp = self.stamp(step)?;
            conduit.settings.selection = Stamped::new(selection, stamp);
            if let Err(error) = tidegate_protocol::file_sync::conduit::check_settings(&conduit.settings) {
                return Ok(Err(super::conduits::refused(&error.into())));
            }
            step.put(vec![Change::fact(Fact::Conduit(Box::new(conduit.clone())))])?;
            self.schedule_now(step, conduit.id);
        }
        Ok(Ok(Reply::Conduit(Box::new(self.conduit_view(step, conduit.id)?))))
    }
}
