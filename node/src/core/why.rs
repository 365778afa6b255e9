//! Why a path stands as it does: the rows, the agreement and the rule that decide about it next, and what the last
//! generation did with it. The law explains itself; this room finds the path and reads the history.

use tidegate_protocol::file_sync::{Conduit, Item, ItemOutcome, Side};
use tidegate_protocol::path::EntryPath;
use tidegate_protocol::wire::Coordinate;

use super::command::{DoneView, Fault, FaultCode, PlannedView, WhyView};
use super::io::{Output, Resolved, Ticket};
use super::views::op_word;
use super::{Core, CoreError, Step};

/// Items read at a time when a job is searched for a path.
const PAGE: usize = 4096;

impl Core {
    /// Someone asks about a path: below a conduit's roots, or absolute and below a location of this device.
    pub(super) fn on_why(
        &mut self,
        step: &mut Step<'_>,
        ticket: Ticket,
        conduit: Option<&str>,
        path: &str,
        wait_ms: u64,
    ) -> Result<(), CoreError> {
        let me = self.me;
        // A conduit that this device runs is meant before one that it only shares.
        let mut found = self.find_path(step, conduit, path, |conduit| conduit.coordinator() == me)?;
        if found.is_err() {
            found = self.find_path(step, conduit, path, |_| true)?;
        }
        match found {
            Ok((conduit, path)) => self.show(step, ticket, &conduit, Coordinate::Why { path, wait_ms }),
            Err(fault) => step.out.push(Output::Reply { ticket, reply: Err(fault) }),
        }
        Ok(())
    }

    /// The conduit and the path below its roots that a person means, among the conduits that fit.
    pub(super) fn find_path(
        &self,
        step: &Step<'_>,
        named: Option<&str>,
        text: &str,
        fits: impl Fn(&Conduit) -> bool,
    ) -> Result<Result<(Conduit, EntryPath), Fault>, CoreError> {
        let candidates: Vec<Conduit> = match named {
            Some(name) => match self.conduit_named(step, name)? {
                Ok(conduit) => vec![conduit],
                Err(fault) => return Ok(Err(fault)),
            },
            None => step.txn.conduits()?.into_iter().filter(|conduit| !conduit.removed.value).collect(),
        };
        let mut found = Vec::new();
        for conduit in candidates.into_iter().filter(|conduit| fits(conduit)) {
            if let Some(path) = self.path_in(step, &conduit, text)? {
                found.push((conduit, path));
            }
        }
        let shown: String = text.chars().take(200).flat_map(char::escape_debug).collect();
        Ok(match found.len() {
            1 => Ok(found.remove(0)),
            0 => Err(Fault::new(
                FaultCode::NoSuchName,
                format!("{shown} is in no conduit that could answer here; nothing was changed"),
                "a path is named below the conduit's roots, or absolute and below a location of this device; the \
                 source's device runs a conduit",
                &["tidegate conduit list", "tidegate why PATH --conduit NAME"],
            )),
            _ => Err(Fault::new(
                FaultCode::Usage,
                format!("{shown} may be in more than one conduit; nothing was changed"),
                "several conduits have such a path",
                &["tidegate why PATH --conduit NAME"],
            )),
        })
    }

    /// The path below the conduit's roots that a person means.
    fn path_in(&self, step: &Step<'_>, conduit: &Conduit, text: &str) -> Result<Option<EntryPath>, CoreError> {
        if !text.starts_with('/') {
            return Ok(EntryPath::from_slashes(text.trim_end_matches('/').as_bytes()).ok());
        }
        for end in [&conduit.source, &conduit.target] {
            if end.device != self.me {
                continue;
            }
            let Some((root, _)) = step.root(end.location)? else { continue };
            let below = std::path::Path::new(text).strip_prefix(&root).ok().map(std::path::Path::as_os_str);
            let below = below.and_then(|below| EntryPath::from_slashes(below.as_encoded_bytes()).ok());
            if let Some(path) = below.and_then(|below| end.dir.relative(&below)) {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }

    /// What the law says of a path, what the plan would do, and what the last generation did.
    pub(super) fn why_view(
        &self,
        step: &Step<'_>,
        conduit: &Conduit,
        path: &EntryPath,
        resolved: &mut Resolved,
    ) -> Result<Option<WhyView>, CoreError> {
        let Some(why) = resolved.why.take() else { return Ok(None) };
        let concerns = |item: &Item| item.path == *path || path.is_below(&item.path);
        let mut planned = Vec::new();
        for side in Side::BOTH {
            let ops = resolved.plan.operations.on(side);
            let items = ops.copies.iter().chain(&ops.deletes).filter(|item| concerns(item));
            planned.extend(items.map(|item| PlannedView {
                side,
                op: op_word(&item.action).to_owned(),
                path: item.path.to_string(),
            }));
        }
        Ok(Some(WhyView {
            conduit: conduit.settings.name.value.clone(),
            path: path.to_string(),
            source: self.root_label(step, &conduit.source)?,
            target: self.root_label(step, &conduit.target)?,
            why,
            planned,
            held: resolved.plan.halts.clone(),
            last: self.last_done(step, conduit, path)?,
        }))
    }

    /// What the newest generation did at a path, or with a directory above it.
    fn last_done(&self, step: &Step<'_>, conduit: &Conduit, path: &EntryPath) -> Result<Vec<DoneView>, CoreError> {
        let Some(generation) = step.txn.generations(conduit.id, 1)?.pop() else { return Ok(Vec::new()) };
        let mut done = Vec::new();
        for record in step.jobs_of(conduit.id, generation.number)? {
            let mut first = 0;
            while first < record.items_stored.max(record.spec.items) {
                let items = step.txn.job_items(&record.spec.key, first, PAGE)?;
                let outcomes = step.txn.job_outcomes(&record.spec.key, first, PAGE)?;
                for (at, item) in items.iter().enumerate() {
                    let old = super::legs::old_path(&item.action);
                    if item.path != *path && old != Some(path) && !path.is_below(&item.path) {
                        continue;
                    }
                    done.push(DoneView {
                        generation: generation.number,
                        side: record.spec.key.side,
                        op: op_word(&item.action).to_owned(),
                        path: item.path.to_string(),
                        outcome: match outcomes.get(at).and_then(Option::as_ref) {
                            None => "pending".to_owned(),
                            Some(ItemOutcome::Done) => "done".to_owned(),
                            Some(ItemOutcome::Skipped(reason)) => reason.to_string(),
                        },
                    });
                }
                if items.is_empty() {
                    break;
                }
                first += items.len() as u32;
            }
        }
        Ok(done)
    }
}
