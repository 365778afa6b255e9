//! What people are shown: the replica and the moment, shaped for reading.

use std::ops::ControlFlow;

use tidegate_protocol::file_sync::{
    Action, Conduit, ItemOutcome, JobKey, JobKind, JobState, Phase, Plan, Skip, Verification,
};
use tidegate_protocol::id::{ConduitId, DeviceId};
use tidegate_protocol::index::{DeviceState, EntryKind, Location, UnknownCause};
use tidegate_protocol::library_sync::{GateClosed, GateReason, RootState, SignedHead, Unsettled};
use tidegate_protocol::path::{DirPath, EntryPath};

use super::clash::Clash;
use super::command::{
    ConduitView, DeviceView, Fault, FaultCode, GenerationView, ItemView, JobView, LocationView, PlanView, ProgressView,
    Reply, Statistics, StatusView,
};
use super::pull::is_forked;
use super::{Core, CoreError, Step};

/// Items of a generation that are shown at once.
const ITEMS_SHOWN_MAX: usize = 10_000;
/// Paths of a conduit that could not be read, shown at once.
const UNREAD_SHOWN_MAX: usize = 10;
/// Problems of a location that are shown at once.
const PROBLEMS_SHOWN_MAX: usize = 100;

impl Core {
    pub(super) fn status_view(&self, step: &Step<'_>) -> Result<StatusView, CoreError> {
        let mut devices = Vec::new();
        for device in step.txn.devices()? {
            if device.id != self.me {
                devices.push(self.device_view(step, device.id)?);
            }
        }
        let mut locations = Vec::new();
        for location in step.txn.locations()?.into_iter().filter(|location| !location.removed) {
            locations.push(self.location_view(step, &location, false)?);
        }
        let mut conduits = Vec::new();
        for conduit in step.txn.conduits()?.into_iter().filter(|conduit| !conduit.removed.value) {
            conduits.push(self.conduit_view(step, conduit.id)?);
        }
        Ok(StatusView {
            device: self.device_view(step, self.me)?,
            library: step.library()?,
            devices,
            locations,
            conduits,
            now_ms: step.now.wall_ms,
        })
    }

    pub(super) fn device_view(&self, step: &Step<'_>, id: DeviceId) -> Result<DeviceView, CoreError> {
        let fact = step.txn.device_fact(id)?;
        let state = step.txn.author(id)?;
        let peer = self.library.peers.get(&id).filter(|peer| peer.greeted);
        let newest = state.as_ref().and_then(|state| state.newest.as_ref()).map(SignedHead::trusted);
        let arriving = step.txn.arriving(id)?;
        let held = arriving.as_ref().or(state.as_deref()).map_or(0, |state| state.upto.0);
        let signed = if id == self.me { held } else { newest.as_ref().map_or(0, |head| head.sequence.0) };
        let resting = arriving.is_none() && state.as_ref().is_some_and(|state| state.rests.is_some());
        Ok(DeviceView {
            id: id.to_string(),
            short: id.short(),
            name: self.device_label(step, id)?,
            member: fact.is_none_or(|fact| fact.state.value == DeviceState::Member),
            online: id == self.me || peer.is_some(),
            address: peer.and_then(|peer| peer.address).map(|address| address.to_string()),
            signed,
            held,
            caught_up: id == self.me || (resting && held >= signed),
            rows: state.as_ref().map_or(0, |state| state.row_count),
            heard_ms_ago: peer
                .and_then(|peer| peer.confirmed_ms)
                .map(|at| step.now.monotonic_ms - at)
                .or_else(|| newest.as_ref().map(|head| step.now.wall_ms.saturating_sub(head.wall_ms))),
            over_quota: id != self.me && newest.as_ref().is_some_and(|head| self.is_over_quota(head)),
            quarantined: state.as_deref().is_some_and(is_forked) || (id == self.me && self.library.past.is_cloned()),
        })
    }

    pub(super) fn location_view(
        &self,
        step: &Step<'_>,
        location: &Location,
        with_problems: bool,
    ) -> Result<LocationView, CoreError> {
        let tree = step.txn.tree(location.owner, location.id)?;
        let counters = tree.counters;
        let own = self.locations.own.get(&location.id);
        let remote = self.library.peers.get(&location.owner).and_then(|peer| peer.confirmed.as_ref());
        let statuses = self.locations.statuses();
        let status = match own {
            Some(_) => statuses.iter().find(|status| status.location == location.id),
            None => remote.and_then(|head| head.location(location.id)),
        };
        let state = match status {
            None => "unheard",
            Some(status) => match status.root {
                RootState::Missing | RootState::Replaced if status.unsettled.contains(&Unsettled::Scan) => "opening",
                RootState::Missing => "root missing",
                RootState::Replaced => "root replaced",
                RootState::Present if status.unsettled.contains(&Unsettled::Scan) => "scanning",
                RootState::Present if !status.unsettled.is_empty() => "events waiting",
                RootState::Present => "settled",
            },
        };
        let mut grants = Vec::new();
        for grant in &location.grants {
            grants.push((self.device_label(step, grant.device)?, grant.rights));
        }
        let mut problems = Vec::new();
        if with_problems && counters.unknown + counters.special > 0 {
            step.txn.each_entry(tree, &DirPath::TOP, &mut |row| {
                if let Some(why) = row.state.present().and_then(|entry| problem(&entry.kind)) {
                    problems.push((row.path.to_string(), why.to_owned()));
                }
                if problems.len() < PROBLEMS_SHOWN_MAX { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })?;
        }
        Ok(LocationView {
            id: location.id.to_string(),
            name: location.name.clone(),
            device: self.device_label(step, location.owner)?,
            root: location.root.clone(),
            here: location.owner == self.me,
            state: state.to_owned(),
            files: counters.files,
            directories: counters.directories,
            bytes: counters.bytes,
            unreadable: counters.unknown,
            special: counters.special,
            scanning: own
                .filter(|own| own.is_scanning())
                .map(|own| (own.progress.files_hashed, own.progress.bytes_hashed)),
            grants,
            rules: location.rules.clone(),
            problems,
        })
    }

    pub(super) fn conduit_view(&self, step: &Step<'_>, id: ConduitId) -> Result<ConduitView, CoreError> {
        let conduit = step.txn.conduit(id)?.expect("the caller has just read it");
        let settings = &conduit.settings;
        let mut statistics = Statistics::default();
        let records = step.txn.generation_records(id)?;
        for record in &records {
            statistics.generations += 1;
            statistics.verified += u64::from(record.verification == Verification::Verified);
            statistics.copied += record.totals.copied;
            statistics.deleted += record.totals.deleted;
            statistics.bytes += record.totals.bytes;
        }
        let running = self.progress_view(step, id)?;
        let held = match self.service.held.get(&id) {
            Some(plan) => step.txn.plan_rest(plan)?.map(|rest| (plan.short(), rest.halts)),
            None => None,
        };
        let refused = if conduit.removed.value { None } else { Clash::of(step, &conduit)?.map(Clash::view) };
        let state = match (&running, &held, self.gate.of(id)) {
            (Some(running), _, _) => running.phase.clone(),
            (None, _, _) if refused.is_some() => "refused".to_owned(),
            (None, Some(_), _) => "held".to_owned(),
            (None, None, Some(_)) => "waiting".to_owned(),
            (None, None, None) if self.bulk.waits(id) => "waiting".to_owned(),
            (None, None, None) => "idle".to_owned(),
        };
        Ok(ConduitView {
            id: id.to_string(),
            name: settings.name.value.clone(),
            source: self.root_label(step, &conduit.source)?,
            target: self.root_label(step, &conduit.target)?,
            mode: conduit.mode,
            enabled: settings.enabled.value,
            paused: settings.paused.value,
            schedule: settings.schedule.value,
            parallel_transfers: settings.parallel_transfers.value,
            bandwidth_limit: settings.bandwidth_limit.value.clone(),
            bytes_per_s_now: settings.bandwidth_limit.value.at(step.now.wall_ms),
            strategy: settings.strategy.value,
            delete_mode: settings.delete_mode.value,
            selection: settings.selection.value.clone(),
            coordinator: conduit.coordinator() == self.me,
            state,
            running,
            last: step.txn.generations(id, 1)?.pop(),
            verified_ms: step.verified_ms(id)?,
            held,
            refused,
            unread: unread(step, id)?,
            conflicts: self.open_conflicts(step, &conduit)?,
            statistics,
            recent: super::telemetry::windows(&records, step.now.wall_ms),
        })
    }

    fn progress_view(&self, step: &Step<'_>, id: ConduitId) -> Result<Option<ProgressView>, CoreError> {
        let Some(open) = self.service.open.get(&id) else { return Ok(None) };
        let (mut items, mut items_done, mut bytes, mut bytes_done, mut skipped) = (0, 0, 0, 0, 0);
        let mut current = Vec::new();
        for record in step.jobs_of(id, open.generation.number)? {
            items += u64::from(record.spec.items);
            items_done += record.progress.items_done;
            bytes += record.spec.bytes;
            bytes_done += record.progress.bytes_done;
            skipped += record.progress.items_skipped;
            let key = record.spec.key;
            let paths = match self.service.dispatches.get(&key) {
                Some(dispatch) => dispatch.current.clone(),
                None => self.applying.current(&key),
            };
            current.extend(paths.iter().map(ToString::to_string));
        }
        let phase = match open.generation.phase {
            Phase::Copying => "copying",
            Phase::Deleting => "deleting",
            Phase::Verifying => "verifying",
            Phase::Closed => "closed",
        };
        Ok(Some(ProgressView {
            generation: open.generation.number,
            phase: phase.to_owned(),
            items_done,
            items,
            bytes_done,
            bytes,
            bytes_per_s: open.rate.bytes_per_s(),
            eta_s: open.rate.eta_s(bytes.saturating_sub(bytes_done)),
            skipped,
            current,
        }))
    }

    pub(super) fn plan_view(&self, step: &Step<'_>, conduit: &Conduit, plan: Plan) -> Result<PlanView, CoreError> {
        let mut heads = Vec::new();
        for head in &plan.heads {
            heads.push((self.device_label(step, head.device)?, head.sequence.0));
        }
        Ok(PlanView {
            conduit: conduit.settings.name.value.clone(),
            source: self.root_label(step, &conduit.source)?,
            target: self.root_label(step, &conduit.target)?,
            target_device: self.device_label(step, conduit.target.device)?,
            heads,
            plan,
        })
    }

    pub(super) fn job_views(&self, step: &Step<'_>) -> Result<Vec<JobView>, CoreError> {
        let mut views = Vec::new();
        for record in step.txn.jobs()? {
            let key = record.spec.key;
            let conduit = step.txn.conduit(key.conduit)?;
            views.push(JobView {
                job: key.to_string(),
                conduit: conduit.map_or_else(
                    || tidegate_protocol::id::Label::lossy(&key.conduit.short()),
                    |conduit| conduit.settings.name.value,
                ),
                generation: key.generation,
                kind: kind_word(&key).to_owned(),
                device: self.device_label(step, key.device)?,
                state: record.state,
                items: u64::from(record.spec.items),
                bytes: record.spec.bytes,
                progress: record.progress,
            });
        }
        let over = |view: &JobView| matches!(view.state, JobState::Ended | JobState::Cancelled);
        views.sort_by_key(|view| (over(view), std::cmp::Reverse(view.generation)));
        views.truncate(200);
        Ok(views)
    }

    pub(super) fn generation_view(
        &self,
        step: &Step<'_>,
        conduit: &Conduit,
        number: Option<u64>,
    ) -> Result<Result<Reply, Fault>, CoreError> {
        let generation = match number {
            Some(number) => step.txn.generation(conduit.id, number)?,
            None => step.txn.generations(conduit.id, 1)?.pop(),
        };
        let Some(generation) = generation else {
            let name = &conduit.settings.name.value;
            return Ok(Err(Fault::new(
                FaultCode::NoSuchName,
                format!("{name} has no such generation here; nothing was changed"),
                "history is kept by the device that runs the conduit",
                &[&format!("tidegate history {name}")],
            )));
        };
        let (mut items, mut items_total) = (Vec::new(), 0);
        for record in step.jobs_of(conduit.id, generation.number)? {
            items_total += u64::from(record.spec.items);
            let room = ITEMS_SHOWN_MAX - items.len().min(ITEMS_SHOWN_MAX);
            let stored = step.txn.job_items(&record.spec.key, 0, room)?;
            let outcomes = step.txn.job_outcomes(&record.spec.key, 0, stored.len())?;
            for (at, item) in stored.iter().enumerate() {
                let bytes = item.path.to_slashes();
                items.push(ItemView {
                    op: op_word(&item.action).to_owned(),
                    path: item.path.to_string(),
                    path_b64: std::str::from_utf8(&bytes).is_err().then(|| data_encoding::BASE64.encode(&bytes)),
                    outcome: match outcomes.get(at).and_then(Option::as_ref) {
                        None => "pending".to_owned(),
                        Some(ItemOutcome::Done) => "done".to_owned(),
                        Some(ItemOutcome::Skipped(reason)) => reason.to_string(),
                    },
                });
            }
        }
        Ok(Ok(Reply::Generation(Box::new(GenerationView { generation, items, items_total }))))
    }

    /// A closed gate, in words and numbers, with the first reason in front.
    pub(super) fn gate_fault(
        &self,
        step: &Step<'_>,
        conduit: &Conduit,
        closed: &GateClosed,
    ) -> Result<Fault, CoreError> {
        let name = &conduit.settings.name.value;
        let mut words = Vec::new();
        for reason in &closed.reasons {
            words.push(self.reason_in_words(step, reason)?);
        }
        let first = closed.reasons.first();
        let code = match first {
            Some(GateReason::RootMissing { .. }) => FaultCode::RootMissing,
            Some(GateReason::Offline { .. }) => FaultCode::Unreachable,
            Some(_) | None => FaultCode::NotCaughtUp,
        };
        let mut fault = Fault::new(
            code,
            format!("{name} was not resolved; nothing was changed"),
            words.join("; "),
            &[&format!("tidegate sync {name} --wait 60s"), "look: tidegate status"],
        );
        if code == FaultCode::RootMissing {
            fault.next = vec!["mount or bring back the directory; it is noticed by itself".to_owned()];
            fault.do_not = Some("create the marker by hand: an empty directory would announce deletes".to_owned());
        }
        Ok(fault)
    }

    fn reason_in_words(&self, step: &Step<'_>, reason: &GateReason) -> Result<String, CoreError> {
        let name = |device: &DeviceId| self.device_label(step, *device);
        Ok(match reason {
            GateReason::Unauthorized { device } => format!("{} is not a member of the library", name(device)?),
            GateReason::Quarantined { device } => {
                format!("{} is quarantined: it signed two states under one number", name(device)?)
            }
            GateReason::OverQuota { device } => {
                format!(
                    "the index of {} is larger than index.max_entries or index.max_bytes here allows",
                    name(device)?
                )
            }
            GateReason::Offline { device } => format!("waiting for {}, which is offline", name(device)?),
            GateReason::Unheard { device } => format!("{} has not answered yet", name(device)?),
            GateReason::StaleEvidence { device, age_ms } => {
                format!("the last answer of {} is {age_ms} ms old", name(device)?)
            }
            GateReason::Relayed { device } => format!("what is known of {} came over another device", name(device)?),
            GateReason::Epoch { device, .. } => format!("{} has begun its index anew", name(device)?),
            GateReason::Regressed { device, claimed, gossiped } => {
                let device = name(device)?;
                format!("{device} claims {} index entries, but {} of it have been seen", claimed.0, gossiped.0)
            }
            GateReason::Behind { device, have, head } => format!(
                "{} has signed index entry {}, this device holds {} ({} missing)",
                name(device)?,
                head.0,
                have.0,
                head.0.saturating_sub(have.0)
            ),
            GateReason::Mismatch { device } => {
                format!("the copy of {}'s index here does not add up, and is being fetched anew", name(device)?)
            }
            GateReason::Bootstrapping { device } => format!("the index of {} is still loading", name(device)?),
            GateReason::RootMissing { device, location } => {
                format!("the root of {} is missing or replaced", self.location_words(step, device, *location)?)
            }
            GateReason::Unscanned { device, location } => {
                format!("{} is being scanned", self.location_words(step, device, *location)?)
            }
            GateReason::Dirty { device, location, dirty } => {
                let words = self.location_words(step, device, *location)?;
                format!("{dirty} changed paths of {words} wait to be looked at")
            }
            GateReason::Clock { device, offset_ms } => {
                format!("the clock of {} is off by {} s", name(device)?, offset_ms / 1000)
            }
            GateReason::Membership => "the list of members here is older than at the other end".to_owned(),
            GateReason::ConfigStale { device } => {
                format!("{} is online, and what it knows of the library is not confirmed yet", name(device)?)
            }
            GateReason::NewerGeneration { device } => {
                format!("{} has seen a newer generation of this conduit", name(device)?)
            }
        })
    }

    fn location_words(
        &self,
        step: &Step<'_>,
        device: &DeviceId,
        location: tidegate_protocol::id::LocationId,
    ) -> Result<String, CoreError> {
        let label = self.device_label(step, *device)?;
        let known = step.txn.location(*device, location)?;
        Ok(format!("{label}:{}", known.map_or_else(|| location.short(), |location| location.name.to_string())))
    }
}

fn problem(kind: &EntryKind) -> Option<&'static str> {
    match kind {
        EntryKind::Special => Some("a socket, FIFO or device: skipped"),
        EntryKind::Unknown(UnknownCause::Unreadable) => Some("cannot be read"),
        EntryKind::Unknown(UnknownCause::Changing) => Some("keeps changing while it is read"),
        EntryKind::Unknown(UnknownCause::TooLong) => Some("name or link too long"),
        EntryKind::Unknown(UnknownCause::InUse) => Some("in constant use"),
        EntryKind::Unknown(UnknownCause::OtherFileSystem) => Some("another file system is mounted here"),
        EntryKind::Directory { .. } | EntryKind::File(_) | EntryKind::Symlink { .. } => None,
    }
}

const fn kind_word(job: &JobKey) -> &'static str {
    match job.kind {
        JobKind::Copy => "copy",
        JobKind::Delete => "delete",
    }
}

pub(super) const fn op_word(action: &Action) -> &'static str {
    match action {
        Action::MakeDirectory { .. } => "mkdir",
        Action::InstallFile { .. } => "install",
        Action::InstallSymlink { .. } => "link",
        Action::RenameFile { .. } => "rename",
        Action::SetMetadata { .. } => "metadata",
        Action::Remove { .. } => "trash",
        Action::RemoveDirectory { .. } => "rmdir",
        Action::Adopt { .. } => "adopt",
        Action::Respell { .. } => "respell",
        Action::Evict { .. } => "evict",
    }
}

/// What the last agreement of a conduit's ends left out because it could not be read.
fn unread(step: &Step<'_>, conduit: ConduitId) -> Result<Vec<(EntryPath, String)>, CoreError> {
    let skips = step.agreed(conduit)?.map(|plan| plan.skips).unwrap_or_default();
    let unread = skips.into_iter().filter(Skip::is_unread).take(UNREAD_SHOWN_MAX);
    Ok(unread.map(|skip| (skip.path, skip.cause.to_string())).collect())
}
