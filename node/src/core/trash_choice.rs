//! Which things in the trash an errand is about: what a person selected, or what is beyond the limits.

use std::collections::BTreeMap;

use tidegate_protocol::id::{Label, LocationId};
use tidegate_protocol::path::EntryPath;
use tidegate_storage::disk::Bin;

use super::command::{Fault, FaultCode, Reply};
use super::past::{TrashAsk, TrashSelect, TrashThing, TrashView, TrashWhat};
use super::trash::{Errand, Thing};
use super::{Core, CoreError, Step, TrashLimits};
use crate::format::Moment;

/// How long the only copy of a content stays, whatever is asked, in milliseconds.
const ONLY_COPY_MS_MIN: u64 = 24 * 60 * 60 * 1000;
/// Things that are shown at once.
const SHOWN_MAX: usize = 10_000;

/// What follows from a choice.
pub(super) enum Choice {
    /// Nothing is to be done on disk.
    Nothing,
    /// What was chosen is put back.
    Restore {
        /// For names that are taken.
        mark: String,
    },
    /// What was chosen goes for good.
    Purge,
}

/// The trash on one file system.
pub(super) struct Group {
    pub(super) bytes: u64,
    pub(super) disk_bytes: Option<u64>,
    /// Everything in it was listed.
    pub(super) is_whole: bool,
}

impl Default for Group {
    fn default() -> Self {
        Self { bytes: 0, disk_bytes: None, is_whole: true }
    }
}

/// Whether something came into the trash within a day. A clock that was set back makes it younger, never older.
pub(super) const fn is_young(trashed_ms: u64, now_ms: u64) -> bool {
    now_ms < trashed_ms.saturating_add(ONLY_COPY_MS_MIN)
}

/// Chooses what is too old, then the oldest of what is too much.
pub(super) fn beyond_limits(
    things: &mut [Thing],
    groups: &BTreeMap<u64, Group>,
    limits: TrashLimits,
    now_ms: u64,
    is_filling: impl Fn(&Bin) -> bool,
) {
    let mut order: Vec<usize> = (0..things.len()).filter(|at| !is_filling(&things[*at].trashed.bin)).collect();
    order.sort_by_key(|at| things[*at].trashed_ms);
    for (disk, group) in groups {
        let share = |bytes: u64| u128::from(bytes) * u128::from(limits.percent_max) / 100;
        let room = group.disk_bytes.filter(|_| limits.percent_max > 0).map(share);
        let mut bytes = u128::from(group.bytes);
        for at in &order {
            let thing = &mut things[*at];
            if thing.disk != *disk {
                continue;
            }
            let is_old = limits.age_ms_max > 0 && now_ms > thing.trashed_ms.saturating_add(limits.age_ms_max);
            if is_old || room.is_some_and(|room| bytes > room) {
                thing.chosen = true;
                bytes = bytes.saturating_sub(u128::from(thing.trashed.size));
            }
        }
    }
}

impl Core {
    /// The own locations that a selection is about.
    pub(super) fn trash_locations(
        &self,
        step: &Step<'_>,
        select: &TrashSelect,
        all: Vec<LocationId>,
    ) -> Result<Result<Vec<LocationId>, Fault>, CoreError> {
        if let Some(name) = &select.conduit
            && self.bins_of(step, name)?.is_empty()
        {
            return Ok(self.conduit_named(step, name)?.map(|_| Vec::new()));
        }
        let Some(name) = &select.location else { return Ok(Ok(all)) };
        let location = match self.location_named(step, name)? {
            Ok(location) => location,
            Err(fault) => return Ok(Err(fault)),
        };
        if all.contains(&location.id) {
            return Ok(Ok(vec![location.id]));
        }
        let device = self.device_label(step, location.owner)?;
        Ok(Err(Fault::new(
            FaultCode::Refused,
            format!("{name} is a location of {device}; nothing was changed"),
            "what was replaced or removed lies on the disk where it stood",
            &[&format!("run the same command on {device}")],
        )))
    }

    /// The names that bins of a conduit bear. One that was removed since still names its bins.
    fn bins_of(&self, step: &Step<'_>, name: &str) -> Result<Vec<String>, CoreError> {
        let conduits = step.txn.conduits()?.into_iter();
        let meant = conduits
            .filter(|c| c.settings.name.value.as_str() == name || c.id.to_string() == name || c.id.short() == name);
        Ok(meant.map(|conduit| conduit.id.short()).collect())
    }

    pub(super) fn choose_for_person(
        &self,
        step: &Step<'_>,
        ask: &TrashAsk,
        things: &mut [Thing],
    ) -> Result<Choice, CoreError> {
        let select = &ask.select;
        let bins = select.conduit.as_ref().map(|name| self.bins_of(step, name)).transpose()?;
        let mut newest: BTreeMap<(LocationId, EntryPath), usize> = BTreeMap::new();
        for at in 0..things.len() {
            let thing = &things[at];
            let path = &thing.trashed.path;
            let old = |ms: u64| step.now.wall_ms > thing.trashed_ms.saturating_add(ms);
            let meant = bins.as_ref().is_none_or(|bins| bins.contains(&thing.trashed.bin.conduit))
                && select.generation.is_none_or(|number| number == thing.trashed.bin.generation)
                && (select.paths.is_empty() || select.paths.iter().any(|top| path == top || path.is_below(top)))
                && select.older_than_ms.is_none_or(old);
            if !meant {
                continue;
            }
            let place = (thing.location, path.clone());
            if ask.what == TrashWhat::Restore
                && let Some(other) = newest.insert(place.clone(), at)
            {
                // Two versions of one path cannot both go back to it: the one that stood there last does.
                let last = |at: usize| (things[at].trashed_ms, things[at].trashed.bin.generation);
                if last(other) > last(at) {
                    newest.insert(place, other);
                    continue;
                }
                things[other].chosen = false;
            }
            things[at].chosen = true;
        }
        if ask.what == TrashWhat::Restore && ask.dry_run {
            self.foresee_restore(step, things)?;
        }
        Ok(match ask.what {
            TrashWhat::List => Choice::Nothing,
            TrashWhat::Restore if ask.dry_run => Choice::Nothing,
            TrashWhat::Restore => Choice::Restore { mark: restored_mark(step.now.wall_ms) },
            TrashWhat::Purge => Choice::Purge,
        })
    }

    fn foresee_restore(&self, step: &Step<'_>, things: &mut [Thing]) -> Result<(), CoreError> {
        for thing in things.iter_mut().filter(|thing| thing.chosen) {
            let entry = step.entry(self.me, thing.location, &thing.trashed.path)?;
            let stands = entry.is_some_and(|state| state.present().is_some());
            let how = if stands { "would be restored beside what stands there" } else { "would be restored" };
            thing.outcome = Some(Ok(how.to_owned()));
        }
        Ok(())
    }

    pub(super) fn trash_reply(
        &self,
        step: &Step<'_>,
        ask: &TrashAsk,
        errand: &Errand,
    ) -> Result<Result<Reply, Fault>, CoreError> {
        let chosen: Vec<&Thing> = errand.things.iter().filter(|thing| thing.chosen).collect();
        if chosen.is_empty() && ask.what != TrashWhat::List {
            return Ok(Err(Fault::new(
                FaultCode::NoSuchName,
                "nothing of that kind is in the trash of this device; nothing was changed",
                "what was replaced or removed lies on the disk where it stood, until it is too old or too much",
                &["tidegate trash list", "on the device whose files they were: tidegate trash list"],
            )));
        }
        let conduits = step.txn.conduits()?;
        let mut names: BTreeMap<LocationId, Label> = BTreeMap::new();
        for location in step.txn.locations()?.into_iter().filter(|location| location.owner == self.me) {
            names.insert(location.id, location.name);
        }
        let name = |id: &LocationId| names.get(id).cloned().unwrap_or_else(|| Label::lossy(&id.short()));
        let shown = |thing: &&Thing| {
            let Bin { conduit, generation } = &thing.trashed.bin;
            let bytes = thing.trashed.path.to_slashes();
            let known = conduits.iter().find(|known| known.id.short() == *conduit);
            TrashThing {
                location: name(&thing.location),
                conduit: known.map_or_else(|| conduit.clone(), |known| known.settings.name.value.to_string()),
                generation: *generation,
                path: thing.trashed.path.to_string(),
                path_b64: std::str::from_utf8(&bytes).is_err().then(|| data_encoding::BASE64.encode(&bytes)),
                bytes: thing.trashed.size,
                trashed_ms: thing.trashed_ms,
                outcome: thing.outcome.clone().map(|outcome| outcome.unwrap_or_else(|why| why)),
            }
        };
        Ok(Ok(Reply::Trash(Box::new(TrashView {
            things: chosen.iter().take(SHOWN_MAX).map(shown).collect(),
            count: chosen.len() as u64,
            bytes: chosen.iter().fold(0, |sum: u64, thing| sum.saturating_add(thing.trashed.size)),
            kept: chosen.iter().filter(|thing| matches!(thing.outcome, Some(Err(_)))).count() as u64,
            unseen: errand.unseen.iter().map(|(id, why)| (name(id), why.clone())).collect(),
        }))))
    }
}

/// `(restored 2026-11-22)`.
fn restored_mark(wall_ms: u64) -> String {
    let moment = Moment(wall_ms).to_string();
    format!("(restored {})", moment.split('T').next().unwrap_or_default())
}
