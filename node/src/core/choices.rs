//! What a person chose about a conflict, carried out: as a ruling, or by writing at this device's own end.
//!
//! What is written here has seen the versions of both ends, so every resolve takes it for the later one; what it
//! replaces goes to the trash. Nothing is written at another device's end: that one follows by the next run.

use serde::{Deserialize, Serialize};
use tidegate_protocol::codec;
use tidegate_protocol::file_sync::{
    Action, Conduit, ConflictKind, ConflictOutcome, Decision, Item, JobKey, JobKind, MetConflict, PreImage, Root, Side,
};
use tidegate_protocol::hash::ContentHash;
use tidegate_protocol::id::LocationId;
use tidegate_protocol::index::{EntryKind, FileFacts, Version};
use tidegate_protocol::path::EntryPath;
use tidegate_storage::store::Tree;

use super::command::{Choice, Fault, FaultCode, Reply, VersionOf};
use super::conflicts::{end, present};
use super::io::{ContentFrom, LocalContent, Output, PutLeg, ReadContent, Ticket, Work, Written};
use super::legs::known_mark;
use super::{Core, CoreError, Step};

/// Bytes of a version that is shown, compared or merged.
pub(crate) const CONTENT_BYTES_MAX: u64 = 1 << 20;

/// Jobs that a person's choice is have no generation: their trash is kept under this number.
const NO_GENERATION: u64 = 0;

type Answer<T> = Result<Result<T, Fault>, CoreError>;

/// A choice that is being written at an own end, as it is kept until that is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Putting {
    job: JobKey,
    items: Vec<Item>,
    content: Vec<u8>,
}

impl Step<'_> {
    /// The choice that is being written in a location.
    fn putting(&self, location: LocationId) -> Result<Option<Putting>, CoreError> {
        let put = self.txn.setting(&format!("putting/{location}"))?;
        Ok(put.and_then(|bytes| codec::decode_stored(&bytes).ok()))
    }

    /// Keeps it, or lets go of it.
    fn set_putting(&mut self, location: LocationId, put: Option<&Putting>) -> Result<(), CoreError> {
        let key = format!("putting/{location}");
        match put {
            Some(put) => self.txn.set_setting(&key, &codec::encode(put))?,
            None => drop(self.txn.remove_setting(&key)?),
        }
        Ok(())
    }
}

impl Core {
    /// A person has chosen.
    pub(super) fn resolve_conflict(
        &mut self,
        step: &mut Step<'_>,
        ticket: Ticket,
        name: &str,
        choice: Choice,
    ) -> Result<(), CoreError> {
        match self.begin_choice(step, ticket, name, choice)? {
            Ok(Some(leg)) => {
                self.service.putting.insert(ticket, leg.location);
                step.out.push(Output::Put(leg));
            }
            Ok(None) => step.out.push(Output::Reply { ticket, reply: Ok(Reply::Done) }),
            Err(fault) => step.out.push(Output::Reply { ticket, reply: Err(fault) }),
        }
        Ok(())
    }

    /// Makes it a ruling, or says what is to be written here.
    fn begin_choice(
        &mut self,
        step: &mut Step<'_>,
        ticket: Ticket,
        name: &str,
        choice: Choice,
    ) -> Answer<Option<PutLeg>> {
        let (conduit, met) = match self.conflict_named(step, name)? {
            Ok(found) => found,
            Err(fault) => return Ok(Err(fault)),
        };
        if !met.is_open(&step.txn.rulings(conduit.id)?) {
            return Ok(Err(usage(name, "it is settled already")));
        }
        let held = match (&met.conflict.outcome, &choice) {
            (ConflictOutcome::Held, Choice::Keep(decision)) => Some(*decision),
            (ConflictOutcome::Both { .. }, Choice::Keep(Decision::Both)) => Some(Decision::Both),
            (_, Choice::Keep(_) | Choice::Content(_)) => None,
        };
        if let Some(decision) = held {
            if !is_decidable(met.conflict.kind) {
                return Ok(Err(usage(name, "it ends when the path is renamed, moved or removed on one of the ends")));
            }
            self.rule(step, &conduit, &met, decision)?;
            return Ok(Ok(None));
        }
        let side = match self.own_side(step, &conduit)? {
            Ok(side) => side,
            Err(fault) => return Ok(Err(fault)),
        };
        if self.service.putting.values().any(|location| *location == end(&conduit, side).location) {
            return Ok(Err(usage(name, "another choice is being written there at this moment")));
        }
        let items = match self.chosen_items(step, &conduit, side, &met, &choice)? {
            Ok(items) => items,
            Err(why) => return Ok(Err(usage(name, &why))),
        };
        let content = match choice {
            Choice::Content(bytes) => bytes,
            Choice::Keep(_) => Vec::new(),
        };
        let job = JobKey { conduit: conduit.id, generation: NO_GENERATION, device: self.me, side, kind: JobKind::Copy };
        let root = end(&conduit, side);
        let put = Putting { job, items, content };
        let Some(leg) = self.put_leg(step, ticket, root, &put)? else {
            return Ok(Err(usage(name, "its path cannot be written at this end")));
        };
        step.set_putting(root.location, Some(&put))?;
        Ok(Ok(Some(leg)))
    }

    /// The end that this device holds.
    fn own_side(&self, step: &Step<'_>, conduit: &Conduit) -> Answer<Side> {
        for side in Side::BOTH {
            if end(conduit, side).device == self.me {
                return Ok(Ok(side));
            }
        }
        let at = self.root_label(step, &conduit.source)?;
        Ok(Err(Fault::new(
            FaultCode::Refused,
            "neither end of this conduit is on this device; nothing was changed",
            format!("files are written only on their own device; one end is {at}"),
            &["on one of the ends: tidegate conflict resolve CONFLICT", "here: --keep both"],
        )))
    }

    /// What is to be done at the own end.
    fn chosen_items(
        &self,
        step: &Step<'_>,
        conduit: &Conduit,
        side: Side,
        met: &MetConflict,
        choice: &Choice,
    ) -> Result<Result<Vec<Item>, String>, CoreError> {
        let (path, root) = (&met.conflict.path, end(conduit, side));
        let copy = match &met.conflict.outcome {
            ConflictOutcome::Both { copy } => Some(copy),
            ConflictOutcome::Held | ConflictOutcome::Source | ConflictOutcome::Target | ConflictOutcome::Given => None,
        };
        let here = present(step, root, path)?.map(|entry| entry.kind);
        let Some(expect) = here.as_ref().map_or(Some(PreImage::Absent), PreImage::of) else {
            return Ok(Err("what stands at its path is not known".to_owned()));
        };
        if expect == PreImage::Directory {
            return Ok(Err("a directory stands at its path; move it out of the way, or use --keep".to_owned()));
        }
        let version = self.later_version(step, conduit, &[Some(path), copy])?;
        let copy_here = match copy {
            Some(copy) => present(step, root, copy)?.map(|entry| (copy, entry.kind)),
            None => None,
        };
        let keeps_target = match choice {
            Choice::Content(bytes) => {
                let executable = matches!(&here, Some(EntryKind::File(file)) if file.executable);
                let mtime_ns = i64::try_from(step.now.wall_ms).unwrap_or(i64::MAX).saturating_mul(1_000_000);
                let content = ContentHash::of(bytes);
                let file = FileFacts { content, size: bytes.len() as u64, mtime_ns, executable };
                let action = Action::InstallFile { file, version, from: path.clone() };
                let mut items = vec![Item { path: path.clone(), expect, action }];
                items.extend(self.removal(step, conduit, copy_here.as_ref())?);
                return Ok(Ok(items));
            }
            Choice::Keep(Decision::Target) => true,
            Choice::Keep(Decision::Newest) => {
                match (mtime(met.conflict.source.as_ref()), mtime(met.conflict.target.as_ref())) {
                    (Some(source), Some(target)) => target > source,
                    (None, _) | (_, None) => return Ok(Err("not both versions are files with a time".to_owned())),
                }
            }
            Choice::Keep(Decision::Source | Decision::Both | Decision::Given(_)) => false,
        };
        let Some((copy, kind)) = copy_here else {
            return Ok(Err("the other version is not beside it any more".to_owned()));
        };
        if matches!(kind, EntryKind::Directory { .. }) {
            return Ok(
                Err("a whole directory was set aside; remove or move it by hand, or use --keep both".to_owned()),
            );
        }
        if !keeps_target {
            return Ok(Ok(self.removal(step, conduit, Some(&(copy, kind)))?.into_iter().collect()));
        }
        let EntryKind::File(file) = kind else { return Ok(Err("the other version is no file".to_owned())) };
        let gone = self.later_version(step, conduit, &[Some(copy)])?;
        let action = Action::RenameFile { from: copy.clone(), file, version, gone };
        Ok(Ok(vec![Item { path: path.clone(), expect, action }]))
    }

    /// Takes the conflict copy away.
    fn removal(
        &self,
        step: &Step<'_>,
        conduit: &Conduit,
        copy: Option<&(&EntryPath, EntryKind)>,
    ) -> Result<Option<Item>, CoreError> {
        let Some((copy, kind)) = copy else { return Ok(None) };
        let expect = PreImage::of(kind).filter(|expect| *expect != PreImage::Directory);
        let version = self.later_version(step, conduit, &[Some(copy)])?;
        Ok(expect.map(|expect| Item { path: (*copy).clone(), expect, action: Action::Remove { version } }))
    }

    /// A version that has seen everything that both ends hold at these paths, and an event of this device.
    fn later_version(
        &self,
        step: &Step<'_>,
        conduit: &Conduit,
        paths: &[Option<&EntryPath>],
    ) -> Result<Version, CoreError> {
        let mut version = Version::NONE;
        for path in paths.iter().flatten() {
            for root in [&conduit.source, &conduit.target] {
                let Ok(at) = root.dir.join(path) else { continue };
                if let Some(state) = step.entry(root.device, root.location, &at)? {
                    version = version.join(state.version());
                }
            }
        }
        version.bump(self.me, step.now.wall_ms);
        Ok(version)
    }

    /// What a person chose, ready to be written; `None` if a path of it cannot be.
    fn put_leg(
        &self,
        step: &Step<'_>,
        ticket: Ticket,
        root: &Root,
        put: &Putting,
    ) -> Result<Option<PutLeg>, CoreError> {
        let mut items = Vec::new();
        for (index, item) in (0..).zip(&put.items) {
            let Some(work) = self.own_work(step, root, index, item.clone())? else { return Ok(None) };
            items.push(work);
        }
        Ok(Some(PutLeg { ticket, job: put.job, location: root.location, items, content: put.content.clone() }))
    }

    /// A root has been opened: a choice that was being written there when the node fell is written to its end. What of
    /// it stands there already is done; where somebody has edited since, it is given up, and the conflict stays open.
    /// Says whether the look at the root has to wait for it.
    pub(super) fn put_again(&mut self, step: &mut Step<'_>, location: LocationId) -> Result<bool, CoreError> {
        let Some(put) = step.putting(location)? else { return Ok(false) };
        let conduit = step.txn.conduit(put.job.conduit)?.filter(|conduit| !conduit.removed.value);
        let ticket = self.ticket();
        let leg = match &conduit {
            Some(conduit) => self.put_leg(step, ticket, end(conduit, put.job.side), &put)?,
            None => None,
        };
        let Some(leg) = leg else {
            step.set_putting(location, None)?;
            return Ok(false);
        };
        self.service.putting.insert(ticket, location);
        step.out.push(Output::Put(leg));
        Ok(true)
    }

    /// An item at an own root, with what the own index knows of it.
    fn own_work(&self, step: &Step<'_>, root: &Root, index: u32, item: Item) -> Result<Option<Work>, CoreError> {
        let Ok(path) = root.dir.join(&item.path) else { return Ok(None) };
        let tree: Tree = step.txn.tree(self.me, root.location)?;
        let known = match &item.expect {
            PreImage::File { content, .. } => known_mark(step, tree, &path, *content)?,
            PreImage::Absent | PreImage::Directory | PreImage::Symlink { .. } => None,
        };
        let (mut from, mut local) = (None, None);
        if let Action::RenameFile { from: old, file, .. } = &item.action {
            let Ok(old) = root.dir.join(old) else { return Ok(None) };
            let mark = known_mark(step, tree, &old, file.content)?;
            local = mark.map(|mark| LocalContent { location: root.location, path: old.clone(), mark });
            from = Some(old);
        }
        Ok(Some(Work { index, path, item, from, known, local }))
    }

    /// What was chosen is on the own disk, or why it is not.
    pub(super) fn on_put(
        &mut self,
        step: &mut Step<'_>,
        ticket: Ticket,
        written: Vec<Written>,
        failure: Option<String>,
    ) -> Result<(), CoreError> {
        let Some(location) = self.service.putting.remove(&ticket) else { return Ok(()) };
        step.set_putting(location, None)?;
        self.note_written(step, location, written)?;
        self.locations.scan_now(step.now, location);
        let reply = match failure {
            None => Ok(Reply::Done),
            Some(why) => Err(Fault::new(
                FaultCode::Storage,
                "the choice was not carried out whole; both versions are where they were, or in the trash",
                why,
                &["tidegate conflict show CONFLICT"],
            )),
        };
        step.out.push(Output::Reply { ticket, reply });
        Ok(())
    }

    /// A person wants to see one version of a conflict.
    pub(super) fn read_conflict(
        &mut self,
        step: &mut Step<'_>,
        ticket: Ticket,
        name: &str,
        version: VersionOf,
    ) -> Result<(), CoreError> {
        match self.content_of(step, ticket, name, version)? {
            Ok(read) => step.out.push(Output::ReadContent(read)),
            Err(fault) => step.out.push(Output::Reply { ticket, reply: Err(fault) }),
        }
        Ok(())
    }

    fn content_of(&self, step: &Step<'_>, ticket: Ticket, name: &str, version: VersionOf) -> Answer<ReadContent> {
        let (conduit, met) = match self.conflict_named(step, name)? {
            Ok(found) => found,
            Err(fault) => return Ok(Err(fault)),
        };
        let kind = match version {
            VersionOf::Base => &met.base,
            VersionOf::Source => &met.conflict.source,
            VersionOf::Target => &met.conflict.target,
        };
        let Some(EntryKind::File(file)) = kind else {
            return Ok(Err(usage(name, "that version is no file")));
        };
        if file.size > CONTENT_BYTES_MAX {
            return Ok(Err(usage(name, "that version is too large to be shown, compared or merged here")));
        }
        let copy = match &met.conflict.outcome {
            ConflictOutcome::Both { copy } => Some(copy),
            ConflictOutcome::Held | ConflictOutcome::Source | ConflictOutcome::Target | ConflictOutcome::Given => None,
        };
        let (mut own, mut others) = (Vec::new(), Vec::new());
        for side in Side::BOTH {
            let root = end(&conduit, side);
            for path in [Some(&met.conflict.path), copy].into_iter().flatten() {
                if root.device != self.me {
                    let job = JobKey {
                        conduit: conduit.id,
                        generation: NO_GENERATION,
                        device: self.me,
                        side: side.other(),
                        kind: JobKind::Copy,
                    };
                    others.push(ContentFrom::There { device: root.device, job, path: path.clone() });
                } else if let Ok(at) = root.dir.join(path) {
                    own.push(ContentFrom::Here { location: root.location, path: at.clone() });
                    own.push(ContentFrom::Texts { location: root.location });
                    own.push(ContentFrom::Trash { location: root.location, conduit: conduit.id, path: at });
                }
            }
        }
        own.extend(others);
        Ok(Ok(ReadContent { ticket, content: file.content, size: file.size, from: own }))
    }
}

fn usage(name: &str, why: &str) -> Fault {
    Fault::new(
        FaultCode::Usage,
        format!("{name} was not resolved that way; nothing was changed"),
        why,
        &[&format!("tidegate conflict show {name}")],
    )
}

/// Whether a choice between two versions is what the conflict waits for.
const fn is_decidable(kind: ConflictKind) -> bool {
    match kind {
        ConflictKind::BothModified
        | ConflictKind::CreateCreate
        | ConflictKind::DeleteModify
        | ConflictKind::TypeMismatch
        | ConflictKind::Drift => true,
        ConflictKind::CaseCollision
        | ConflictKind::UnicodeCollision
        | ConflictKind::Unrepresentable
        | ConflictKind::Unsupported
        | ConflictKind::DirNotEmpty => false,
    }
}

fn mtime(kind: Option<&EntryKind>) -> Option<i64> {
    match kind? {
        EntryKind::File(file) => Some(file.mtime_ns),
        EntryKind::Directory { .. } | EntryKind::Symlink { .. } | EntryKind::Special | EntryKind::Unknown(_) => None,
    }
}
