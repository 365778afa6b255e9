//! The trash: listed, restored and purged for people, and kept within its limits at quiet times.
//!
//! An errand first lists the trash of its locations; then this room chooses, and what it chose is done. The disk
//! says what lies there; the replica remembers when a bin was last filled. What came there within a day and may
//! be the only copy of its content never goes: neither for a person, nor for room, nor because it cannot be read.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use tidegate_protocol::codec;
use tidegate_protocol::file_sync::{JobSpec, JobState};
use tidegate_protocol::hash::ContentHash;
use tidegate_protocol::id::LocationId;
use tidegate_protocol::index::EntryKind;
use tidegate_protocol::path::DirPath;
use tidegate_storage::disk::{Bin, Trashed};

use super::errands::{TrashDone, TrashItem, TrashWork};
use super::io::{Output, Ticket};
use super::past::{TrashAsk, TrashWhat};
use super::trash_choice::{Choice, Group, is_young};
use super::{Core, CoreError, Step};
use crate::env::Now;

/// Time from a start to the first look at the limits, in milliseconds: a start has better things to do.
const FIRST_MS: u64 = 10 * 60 * 1000;
/// Time between two looks at the limits, in milliseconds.
const EVERY_MS: u64 = 60 * 60 * 1000;
/// Pause before a busy node is looked at again, in milliseconds.
const BUSY_MS: u64 = 60 * 1000;
/// How exact the time of a bin is kept, in milliseconds: it is written by every batch of a job.
const FILLED_MS: u64 = 60 * 1000;

/// What is known of the moment only.
pub(super) struct TrashRoom {
    errands: BTreeMap<u64, Errand>,
    asked: BTreeMap<Ticket, Asked>,
    next: u64,
    keep_ms: u64,
}

/// Which errand waits for an answer, about which location, and about which of its things.
struct Asked {
    errand: u64,
    location: LocationId,
    things: Vec<usize>,
}

/// Something that is done with the trash of one or more locations.
pub(super) struct Errand {
    who: Who,
    phase: Phase,
    /// Answers that are still to come.
    open: usize,
    pub(super) things: Vec<Thing>,
    pub(super) groups: BTreeMap<u64, Group>,
    pub(super) unseen: Vec<(LocationId, String)>,
}

/// For whom.
enum Who {
    Person(Ticket, TrashAsk),
    Limits,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Listing,
    Hashing,
    Acting,
}

/// One thing that was listed.
pub(super) struct Thing {
    pub(super) location: LocationId,
    pub(super) trashed: Trashed,
    pub(super) trashed_ms: u64,
    /// Which file system it lies on.
    pub(super) disk: u64,
    pub(super) chosen: bool,
    content: Option<ContentHash>,
    pub(super) outcome: Option<Result<String, String>>,
}

impl TrashRoom {
    pub(super) const fn new(now: Now) -> Self {
        let keep_ms = now.monotonic_ms + FIRST_MS;
        Self { errands: BTreeMap::new(), asked: BTreeMap::new(), next: 0, keep_ms }
    }

    pub(super) fn next_wake(&self) -> Option<u64> {
        Some(self.keep_ms).filter(|_| self.errands.is_empty())
    }
}

impl Step<'_> {
    /// A job moves things into the trash now. Written before they are reported, so a bin is never taken for older
    /// than what is in it.
    pub(super) fn note_trashing(&mut self, spec: &JobSpec) -> Result<(), CoreError> {
        let key = filled_key(spec.target.location, &Bin::of(spec.key.conduit, spec.key.generation));
        let known = self.txn.setting(&key)?.and_then(|bytes| codec::decode_stored::<u64>(&bytes).ok());
        if known.is_none_or(|at_ms| self.now.wall_ms > at_ms + FILLED_MS) {
            self.txn.set_setting(&key, &codec::encode(&self.now.wall_ms))?;
        }
        Ok(())
    }

    fn filled_ms(&self, location: LocationId, bin: &Bin) -> Result<Option<u64>, CoreError> {
        let at_ms = self.txn.setting(&filled_key(location, bin))?;
        Ok(at_ms.and_then(|bytes| codec::decode_stored::<u64>(&bytes).ok()).map(|at_ms| at_ms + FILLED_MS))
    }
}

fn filled_key(location: LocationId, bin: &Bin) -> String {
    format!("filled/{location}/{bin}")
}

impl Core {
    /// A person wants something of the trash of this device.
    pub(super) fn on_trash_command(
        &mut self,
        step: &mut Step<'_>,
        ticket: Ticket,
        ask: TrashAsk,
    ) -> Result<(), CoreError> {
        let all = self.locations.own.keys().copied().collect::<Vec<_>>();
        match self.trash_locations(step, &ask.select, all)? {
            Ok(locations) => self.begin_errand(step, Who::Person(ticket, ask), locations),
            Err(fault) => {
                step.out.push(Output::Reply { ticket, reply: Err(fault) });
                Ok(())
            }
        }
    }

    fn begin_errand(&mut self, step: &mut Step<'_>, who: Who, locations: Vec<LocationId>) -> Result<(), CoreError> {
        self.trash.next += 1;
        let id = self.trash.next;
        let errand = Errand {
            who,
            phase: Phase::Listing,
            open: locations.len(),
            things: Vec::new(),
            groups: BTreeMap::new(),
            unseen: Vec::new(),
        };
        self.trash.errands.insert(id, errand);
        for location in locations {
            self.send_errand(step, id, location, Vec::new(), TrashWork::List);
        }
        self.go_on(step, id)
    }

    fn send_errand(&mut self, step: &mut Step<'_>, id: u64, location: LocationId, things: Vec<usize>, work: TrashWork) {
        let ticket = self.ticket();
        self.trash.asked.insert(ticket, Asked { errand: id, location, things });
        step.out.push(Output::Trash { ticket, location, work });
    }

    /// An errand was carried out in one location.
    pub(super) fn on_trash(&mut self, step: &mut Step<'_>, ticket: Ticket, done: TrashDone) -> Result<(), CoreError> {
        let Some(asked) = self.trash.asked.remove(&ticket) else { return Ok(()) };
        let Some(mut errand) = self.trash.errands.remove(&asked.errand) else { return Ok(()) };
        errand.open = errand.open.saturating_sub(1);
        let settle = |errand: &mut Errand, outcomes: Vec<Result<String, String>>| {
            for (at, outcome) in asked.things.iter().zip(outcomes) {
                errand.things[*at].outcome = Some(outcome);
            }
        };
        match done {
            TrashDone::Listed(listing) => self.on_listed(step, &mut errand, asked.location, listing)?,
            TrashDone::Hashed(contents) => {
                for (at, content) in asked.things.iter().zip(contents) {
                    errand.things[*at].content = content;
                }
            }
            TrashDone::Restored(put) => {
                let said = asked.things.iter().zip(put).map(|(at, put)| {
                    let stood = &errand.things[*at].trashed.path;
                    put.map(|path| if path == *stood { "restored".to_owned() } else { format!("restored as {path}") })
                });
                let said = said.collect();
                settle(&mut errand, said);
            }
            TrashDone::Purged(gone) => {
                settle(&mut errand, gone.into_iter().map(|gone| gone.map(|()| "purged".to_owned())).collect());
            }
            TrashDone::Failed(why) if errand.phase == Phase::Listing => errand.unseen.push((asked.location, why)),
            TrashDone::Failed(why) => settle(&mut errand, vec![Err(why); asked.things.len()]),
        }
        self.trash.errands.insert(asked.errand, errand);
        self.go_on(step, asked.errand)
    }

    fn on_listed(
        &self,
        step: &Step<'_>,
        errand: &mut Errand,
        location: LocationId,
        listing: tidegate_storage::disk::TrashListing,
    ) -> Result<(), CoreError> {
        // Several locations may lie on one file system, and share its room.
        let disk = step.root(location)?.map_or(0, |(_, identity)| identity.file_system);
        let group = errand.groups.entry(disk).or_default();
        group.bytes = group.bytes.saturating_add(listing.bytes);
        group.disk_bytes = listing.disk_bytes.or(group.disk_bytes);
        group.is_whole &= listing.count == listing.things.len() as u64;
        let mut filled: BTreeMap<Bin, u64> = BTreeMap::new();
        for thing in &listing.things {
            // What the replica does not know of is as old as the newest thing in it.
            let changed_ms = u64::try_from(thing.ctime_ns / 1_000_000).unwrap_or(0);
            let at_ms = filled.entry(thing.bin.clone()).or_default();
            *at_ms = (*at_ms).max(changed_ms);
        }
        for (bin, at_ms) in &mut filled {
            if let Some(known_ms) = step.filled_ms(location, bin)? {
                *at_ms = known_ms;
            }
        }
        errand.things.extend(listing.things.into_iter().map(|trashed| Thing {
            location,
            trashed_ms: filled.get(&trashed.bin).copied().unwrap_or(u64::MAX),
            trashed,
            disk,
            chosen: false,
            content: None,
            outcome: None,
        }));
        Ok(())
    }

    /// When the last answer of a phase is here: the next phase.
    fn go_on(&mut self, step: &mut Step<'_>, id: u64) -> Result<(), CoreError> {
        let Some(mut errand) = self.trash.errands.remove(&id) else { return Ok(()) };
        if errand.open > 0 {
            self.trash.errands.insert(id, errand);
            return Ok(());
        }
        let now_ms = step.now.wall_ms;
        match errand.phase {
            Phase::Listing => {
                let choice = self.choose(step, &mut errand)?;
                let young = |thing: &Thing| thing.chosen && is_young(thing.trashed_ms, now_ms);
                match choice {
                    Choice::Nothing => return self.end_errand(step, &errand),
                    Choice::Restore { mark } => {
                        errand.phase = Phase::Acting;
                        let work = |items| TrashWork::Restore { items, mark: mark.clone() };
                        self.send_chosen(step, id, &mut errand, |thing| thing.chosen, work);
                    }
                    Choice::Purge => {
                        errand.phase = Phase::Hashing;
                        self.send_chosen(step, id, &mut errand, young, TrashWork::Hash);
                    }
                }
            }
            Phase::Hashing => {
                self.keep_only_copies(step, &mut errand)?;
                if matches!(&errand.who, Who::Person(_, ask) if ask.dry_run) {
                    for thing in errand.things.iter_mut().filter(|thing| thing.chosen && thing.outcome.is_none()) {
                        thing.outcome = Some(Ok("would be purged".to_owned()));
                    }
                    return self.end_errand(step, &errand);
                }
                errand.phase = Phase::Acting;
                let go = |thing: &Thing| thing.chosen && thing.outcome.is_none();
                self.send_chosen(step, id, &mut errand, go, TrashWork::Purge);
            }
            Phase::Acting => return self.end_errand(step, &errand),
        }
        self.trash.errands.insert(id, errand);
        self.go_on(step, id)
    }

    /// Sends work about some of the things, location by location.
    fn send_chosen(
        &mut self,
        step: &mut Step<'_>,
        id: u64,
        errand: &mut Errand,
        is_meant: impl Fn(&Thing) -> bool,
        work: impl Fn(Vec<TrashItem>) -> TrashWork,
    ) {
        let mut by_location: BTreeMap<LocationId, Vec<usize>> = BTreeMap::new();
        for (at, thing) in errand.things.iter().enumerate().filter(|(_, thing)| is_meant(thing)) {
            by_location.entry(thing.location).or_default().push(at);
        }
        errand.open = by_location.len();
        for (location, things) in by_location {
            let item = |at: &usize| {
                let Trashed { bin, path, .. } = &errand.things[*at].trashed;
                TrashItem { bin: bin.clone(), path: path.clone() }
            };
            let work = work(things.iter().map(item).collect());
            self.send_errand(step, id, location, things, work);
        }
    }

    fn choose(&self, step: &Step<'_>, errand: &mut Errand) -> Result<Choice, CoreError> {
        match &errand.who {
            Who::Limits => {
                let filling = self.filling(step)?;
                let limits = self.config.trash;
                super::trash_choice::beyond_limits(
                    &mut errand.things,
                    &errand.groups,
                    limits,
                    step.now.wall_ms,
                    |bin| filling.contains(bin),
                );
                Ok(Choice::Purge)
            }
            Who::Person(_, ask) => {
                let ask = ask.clone();
                self.choose_for_person(step, &ask, &mut errand.things)
            }
        }
    }

    /// Bins that a job may still fill.
    fn filling(&self, step: &Step<'_>) -> Result<BTreeSet<Bin>, CoreError> {
        let open = step.txn.jobs()?.into_iter().filter(|job| {
            job.spec.key.device == self.me && !matches!(job.state, JobState::Ended | JobState::Cancelled)
        });
        Ok(open.map(|job| Bin::of(job.spec.key.conduit, job.spec.key.generation)).collect())
    }

    /// Of what came here within a day, only what the index knows elsewhere may go.
    fn keep_only_copies(&self, step: &Step<'_>, errand: &mut Errand) -> Result<(), CoreError> {
        let now_ms = step.now.wall_ms;
        let is_asked = |thing: &&mut Thing| thing.chosen && is_young(thing.trashed_ms, now_ms);
        let mut missing: BTreeSet<ContentHash> =
            errand.things.iter_mut().filter(is_asked).filter_map(|thing| thing.content).collect();
        for location in step.txn.locations()?.into_iter().filter(|location| !location.removed) {
            if missing.is_empty() {
                break;
            }
            let tree = step.txn.tree(location.owner, location.id)?;
            step.txn.each_entry(tree, &DirPath::TOP, &mut |row| {
                if let Some(EntryKind::File(file)) = row.state.present().map(|entry| &entry.kind) {
                    missing.remove(&file.content);
                }
                if missing.is_empty() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })?;
        }
        for thing in errand.things.iter_mut().filter(is_asked) {
            if thing.content.is_none_or(|content| missing.contains(&content)) {
                thing.outcome =
                    Some(Err("kept: no other copy is known, and it is here for less than a day".to_owned()));
            }
        }
        Ok(())
    }

    fn end_errand(&mut self, step: &mut Step<'_>, errand: &Errand) -> Result<(), CoreError> {
        match &errand.who {
            Who::Person(ticket, ask) => {
                let (ticket, ask) = (*ticket, ask.clone());
                let reply = self.trash_reply(step, &ask, errand)?;
                step.out.push(Output::Reply { ticket, reply });
            }
            Who::Limits => {
                let gone = |thing: &&Thing| thing.outcome.as_ref().is_some_and(Result::is_ok);
                let (count, bytes) = errand.things.iter().filter(gone).fold((0_u64, 0_u64), |(count, bytes), thing| {
                    (count + 1, bytes.saturating_add(thing.trashed.size))
                });
                if count > 0 {
                    tracing::info!(count, bytes, "what was too old or too much in the trash is gone for good");
                }
                // With more than is listed at once, what was hidden is looked at next.
                let more = count > 0 && errand.groups.values().any(|group| !group.is_whole);
                self.trash.keep_ms = step.now.monotonic_ms + if more { BUSY_MS } else { EVERY_MS };
            }
        }
        if matches!(&errand.who, Who::Person(_, ask) if ask.what == TrashWhat::Purge && !ask.dry_run) {
            tracing::info!("a person purged the trash");
        }
        Ok(())
    }

    /// Looks at the limits when it is time and nothing else is at work: never to make room for a job.
    pub(super) fn tend_trash(&mut self, step: &mut Step<'_>) -> Result<(), CoreError> {
        if self.trash.keep_ms > step.now.monotonic_ms || !self.trash.errands.is_empty() {
            return Ok(());
        }
        let scanning = self.locations.own.values().any(super::locations::OwnLocation::is_scanning);
        if scanning || !self.applying.is_idle() || !self.service.open.is_empty() {
            self.trash.keep_ms = step.now.monotonic_ms + BUSY_MS;
            return Ok(());
        }
        self.trash.keep_ms = step.now.monotonic_ms + EVERY_MS;
        let locations = self.locations.own.keys().copied().collect();
        self.begin_errand(step, Who::Limits, locations)
    }
}
