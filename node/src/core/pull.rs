//! Pulling rows: from the state on which the replica rests, to the newest one that their author has signed.
//!
//! Nothing is shown that does not add up to a signed head. What follows on a state that is held comes in pages
//! that are kept in memory until the last of them; what begins anew (a first load, a new epoch, a state that
//! does not add up) arrives beside what is held, and takes its place when it is whole. Pages of one load come
//! from one device as far as possible, so that it is known who lied; where several brought pages, nobody is
//! blamed, and all of them are fetched again from one.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_protocol::id::{ConduitId, DeviceId, Epoch, LocationId, Sequence};
use tidegate_protocol::library_sync::{Fact, FactKey, Head, Row, RowBody, RowKey, SignedHead};
use tidegate_protocol::limits::{
    INDEX_ROWS_BURST, INDEX_ROWS_PER_S, PAGES_HELD_MAX, ROWS_BYTES_MAX, ROWS_PER_ANSWER_MAX,
};
use tidegate_protocol::wire::{self, RefusalCode, Request, Response, Rows};
use tidegate_storage::store::{AuthorState, Refusal};

use super::conflicts::drop_spent;
use super::events::Event;
use super::io::Ticket;
use super::{Asked, Core, CoreError, Step};
use crate::env::NetworkError;

/// How long a device that brought rows that do not add up is not asked for them again, in milliseconds.
const MISTRUST_MS: u64 = 60_000;

/// What is known of the moment only.
#[derive(Default)]
pub(super) struct Pulls {
    out: BTreeMap<DeviceId, Ticket>,
    /// Who is not asked for whose rows, and until when.
    mistrusted: BTreeMap<(DeviceId, DeviceId), u64>,
    /// Pages that follow on the state held, by author.
    pages: BTreeMap<DeviceId, Pages>,
    /// Who brings what arrives anew, by author; `None` where several did, or it is not known any more.
    bringers: BTreeMap<DeviceId, Option<DeviceId>>,
    /// Authors whose next load comes from one device or begins again.
    strict: BTreeSet<DeviceId>,
    rates: BTreeMap<DeviceId, Rate>,
    /// Something that decides what is asked of whom has changed since that was last gone through.
    stirred: bool,
}

/// Pages that are held back until the last one of them.
struct Pages {
    peer: DeviceId,
    epoch: Epoch,
    /// The end of the state that they follow on, and their own.
    base: Sequence,
    upto: Sequence,
    count: usize,
    rows: Vec<Row>,
}

/// How many rows of one author are taken at once, and from then on in a second.
struct Rate {
    left: u64,
    at_ms: u64,
}

/// An outstanding ask for rows.
#[derive(Debug, Clone, Copy)]
pub(super) struct RowsAsked {
    author: DeviceId,
    peer: DeviceId,
    epoch: Epoch,
    from: Sequence,
    onto: Onto,
}

/// What the rows that were asked for go on from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Onto {
    /// The state on which the replica rests.
    Held,
    /// What arrives beside it, from zero.
    Arriving,
}

impl Pulls {
    pub(super) fn next_wake(&self) -> Option<u64> {
        let rates = self.rates.values().filter(|rate| rate.left == 0).map(|rate| rate.at_ms + 1_000);
        rates.chain(self.mistrusted.values().copied()).min()
    }

    /// What is to be asked of whom may have changed.
    pub(super) const fn stir(&mut self) {
        self.stirred = true;
    }

    /// Forgets what is over by `now`.
    pub(super) fn tend(&mut self, now: u64) {
        let before = (self.mistrusted.len(), self.slow());
        self.mistrusted.retain(|_, until| *until > now);
        for rate in self.rates.values_mut() {
            let seconds = (now - rate.at_ms) / 1_000;
            rate.left = rate.left.saturating_add(seconds * INDEX_ROWS_PER_S).min(INDEX_ROWS_BURST);
            rate.at_ms += seconds * 1_000;
        }
        self.rates.retain(|_, rate| rate.left < INDEX_ROWS_BURST);
        self.stirred |= before != (self.mistrusted.len(), self.slow());
    }

    /// How many authors have to wait.
    fn slow(&self) -> usize {
        self.rates.values().filter(|rate| rate.left == 0).count()
    }

    fn spend(&mut self, author: DeviceId, rows: usize, now: u64) {
        let rate = self.rates.entry(author).or_insert(Rate { left: INDEX_ROWS_BURST, at_ms: now });
        rate.left = rate.left.saturating_sub(rows as u64);
    }

    /// A page of a load came from `peer`. In a load that began before, or with another one, nobody can be blamed.
    fn brought(&mut self, author: DeviceId, peer: DeviceId, from: Sequence) {
        let first = (from == Sequence::ZERO).then_some(peer);
        let known = self.bringers.entry(author).or_insert(first);
        if *known != Some(peer) {
            *known = first;
        }
    }
}

impl Core {
    pub(super) fn answer_rows(
        &mut self,
        step: &mut Step<'_>,
        peer: DeviceId,
        device: DeviceId,
        epoch: Epoch,
        from: Sequence,
    ) -> Result<Response, CoreError> {
        let author = step.txn.author(device)?.filter(|author| author.epoch == epoch && from <= author.upto);
        let Some((author, head)) = author.and_then(|author| author.rests.clone().map(|head| (author, head))) else {
            return Ok(Response::Refused(wire::Refusal::new(
                RefusalCode::NotFound,
                "no settled state of that device here",
            )));
        };
        debug_assert!(head.trusted().sequence == author.upto);
        let page = step.txn.rows_after(device, from, ROWS_PER_ANSWER_MAX, ROWS_BYTES_MAX)?;
        if device == self.me {
            self.library.has_heard(peer, (epoch, author.upto));
        }
        Ok(Response::Rows(Rows { device, head, from, upto: page.upto, rows: page.rows }))
    }

    /// Whether a device says that it has more rows, or longer ones, than this one keeps of any other.
    pub(super) const fn is_over_quota(&self, head: &Head) -> bool {
        self.is_too_much(head.row_count, head.row_bytes)
    }

    const fn is_too_much(&self, rows: u64, bytes: u64) -> bool {
        rows > self.config.index_rows_max || bytes > self.config.index_bytes_max
    }

    pub(super) fn tend_pulls(&mut self, step: &mut Step<'_>) -> Result<(), CoreError> {
        self.library.pulls.tend(step.now.monotonic_ms);
        if !std::mem::take(&mut self.library.pulls.stirred) {
            return Ok(());
        }
        for author in self.library.members.clone() {
            self.pull(step, author)?;
        }
        Ok(())
    }

    /// Asks for the rows of `author` that are missing, from the author itself or else from whoever has them.
    fn pull(&mut self, step: &mut Step<'_>, author: DeviceId) -> Result<(), CoreError> {
        if self.library.pulls.out.contains_key(&author) {
            return Ok(());
        }
        let Some(state) = step.txn.author(author)? else { return Ok(()) };
        let Some(newest) = state.newest.as_ref().map(SignedHead::trusted) else { return Ok(()) };
        let resting = state.rests.as_ref().map(SignedHead::trusted);
        let is_here = |head: &&Head| head.epoch == newest.epoch && head.sequence >= newest.sequence;
        let slow = self.library.pulls.rates.get(&author).is_some_and(|rate| rate.left == 0);
        if is_forked(&state) || resting.as_ref().is_some_and(is_here) || self.is_over_quota(newest) || slow {
            return Ok(());
        }
        let (onto, from) = self.pull_from(step, author, &state, newest)?;
        let more = |upto: Sequence| upto > from || (upto == from && onto == Onto::Arriving);
        let able: Vec<DeviceId> = self
            .library
            .peers
            .iter()
            .filter(|(device, peer)| {
                let claims = peer.claims.get(&author).is_some_and(|(e, upto)| *e == newest.epoch && more(*upto));
                peer.greeted && claims && !self.library.pulls.mistrusted.contains_key(&(**device, author))
            })
            .map(|(device, _)| *device)
            .collect();
        let before = match onto {
            Onto::Held => self.library.pulls.pages.get(&author).map(|pages| pages.peer),
            Onto::Arriving => self.library.pulls.bringers.get(&author).copied().flatten(),
        };
        let first = [before, Some(author)].into_iter().flatten().find(|device| able.contains(device));
        let Some(peer) = first.or_else(|| able.first().copied()) else { return Ok(()) };
        let from = self.begin_again_if_other(step, author, peer, before, onto, from, newest)?;
        let about = RowsAsked { author, peer, epoch: newest.epoch, from, onto };
        let request = Request::Rows { device: author, epoch: newest.epoch, from };
        let ticket = self.ask(step, peer, request, Asked::Rows(about));
        self.library.pulls.out.insert(author, ticket);
        Ok(())
    }

    /// Where the next page goes on.
    fn pull_from(
        &mut self,
        step: &mut Step<'_>,
        author: DeviceId,
        state: &AuthorState,
        newest: &Head,
    ) -> Result<(Onto, Sequence), CoreError> {
        if let Some(arriving) = step.txn.arriving(author)?.filter(|arriving| arriving.epoch == newest.epoch) {
            return Ok((Onto::Arriving, arriving.upto));
        }
        if state.rests.is_some() && state.epoch == newest.epoch {
            let pages = self.library.pulls.pages.get(&author);
            let pages = pages.filter(|pages| pages.epoch == newest.epoch && pages.base == state.upto);
            return Ok((Onto::Held, pages.map_or(state.upto, |pages| pages.upto)));
        }
        self.begin_load(step, author, newest.epoch)?;
        Ok((Onto::Arriving, Sequence::ZERO))
    }

    /// Loads all rows of an author again, beside those that are held.
    fn begin_load(&mut self, step: &mut Step<'_>, author: DeviceId, epoch: Epoch) -> Result<(), CoreError> {
        self.library.pulls.pages.remove(&author);
        self.library.pulls.bringers.remove(&author);
        step.txn.drop_arriving(author)?;
        Ok(step.txn.begin_arriving(author, epoch)?)
    }

    /// Another device than before will bring the next page. Pages in memory are not mixed, nor is a load that was
    /// mixed before and did not add up.
    #[expect(clippy::too_many_arguments, reason = "the moment of one pull, used at its one place")]
    fn begin_again_if_other(
        &mut self,
        step: &mut Step<'_>,
        author: DeviceId,
        peer: DeviceId,
        before: Option<DeviceId>,
        onto: Onto,
        from: Sequence,
        newest: &Head,
    ) -> Result<Sequence, CoreError> {
        match onto {
            Onto::Held => match self.library.pulls.pages.get(&author) {
                Some(pages) if pages.peer != peer => {
                    let base = pages.base;
                    self.library.pulls.pages.remove(&author);
                    Ok(base)
                }
                Some(_) | None => Ok(from),
            },
            Onto::Arriving if before != Some(peer) && self.library.pulls.strict.contains(&author) => {
                self.begin_load(step, author, newest.epoch)?;
                Ok(Sequence::ZERO)
            }
            Onto::Arriving => Ok(from),
        }
    }

    pub(super) fn on_rows(
        &mut self,
        step: &mut Step<'_>,
        asked: RowsAsked,
        result: Result<Response, NetworkError>,
    ) -> Result<(), CoreError> {
        self.library.pulls.out.remove(&asked.author);
        self.library.pulls.stir();
        let rows = match result {
            Ok(Response::Rows(rows)) if rows.device == asked.author => rows,
            Ok(_) | Err(_) => {
                if let Some(peer) = self.library.peers.get_mut(&asked.peer) {
                    peer.claims.remove(&asked.author);
                }
                return Ok(());
            }
        };
        let Some(checked) =
            self.note_head(step, &rows.head, Some(asked.peer))?.filter(|c| c.said.device == asked.author)
        else {
            self.mistrust(step, asked, "sent rows under a head that is not their author's");
            return Ok(());
        };
        // The signed bytes that were verified, which are not always those that came.
        let (head, rows) = (checked.said, Rows { head: checked.signed, ..rows });
        // What does not lead on from what was asked to the head beside it leads nowhere.
        let leads_on = rows.from == asked.from
            && rows.upto <= head.sequence
            && (rows.upto > rows.from || rows.upto == head.sequence);
        if !leads_on || head.epoch != asked.epoch {
            self.mistrust(step, asked, "sent rows that do not lead to their head");
            return Ok(());
        }
        self.library.pulls.spend(asked.author, rows.rows.len(), step.now.monotonic_ms);
        match asked.onto {
            Onto::Held => self.on_page(step, asked, rows, &head),
            Onto::Arriving => self.on_load(step, asked, rows, &head),
        }
    }

    /// Rows that follow on the state held.
    fn on_page(&mut self, step: &mut Step<'_>, asked: RowsAsked, rows: Rows, head: &Head) -> Result<(), CoreError> {
        let author = asked.author;
        let mut pages = match self.library.pulls.pages.remove(&author) {
            Some(pages) if pages.peer == asked.peer && pages.epoch == asked.epoch && pages.upto == asked.from => pages,
            Some(_) | None => {
                let (peer, epoch, base) = (asked.peer, asked.epoch, asked.from);
                Pages { peer, epoch, base, upto: base, count: 0, rows: Vec::new() }
            }
        };
        pages.upto = rows.upto;
        pages.count += 1;
        pages.rows.extend(rows.rows);
        if rows.upto < head.sequence {
            if pages.count < PAGES_HELD_MAX {
                self.library.pulls.pages.insert(author, pages);
            } else {
                self.begin_load(step, author, asked.epoch)?;
            }
            return Ok(());
        }
        let news = News::of(&pages.rows);
        match step.txn.apply_rows(author, asked.epoch, pages.base, pages.upto, joined(pages.rows), Some(&rows.head))? {
            Ok(()) => {
                self.say_caught_up(step, author, head)?;
                self.tell_news(step, author, news)?;
            }
            // Another answer came first, or the author began anew: not the bringer's fault.
            Err(Refusal::Gap { .. } | Refusal::Epoch) => {}
            Err(refusal) if asked.peer == author => {
                // The author's own word does not follow on what it has signed before: all of it is fetched anew.
                tracing::warn!(author = %author.short(), %refusal, "rows do not follow on those held");
                step.drop_baselines_of(author)?;
                self.begin_load(step, author, asked.epoch)?;
            }
            Err(refusal) => self.mistrust(step, asked, &refusal.to_string()),
        }
        Ok(())
    }

    /// Rows of a load from zero.
    fn on_load(&mut self, step: &mut Step<'_>, asked: RowsAsked, rows: Rows, head: &Head) -> Result<(), CoreError> {
        let (author, epoch) = (asked.author, asked.epoch);
        self.library.pulls.brought(author, asked.peer, asked.from);
        let complete = (rows.upto == head.sequence).then_some(&rows.head);
        let applied = step.txn.apply_arriving(author, epoch, rows.from, rows.upto, rows.rows, complete)?;
        match applied {
            Ok(()) if complete.is_some() => {
                self.library.pulls.bringers.remove(&author);
                self.library.pulls.strict.remove(&author);
                self.say_caught_up(step, author, head)?;
                self.arrived(step, author, epoch)
            }
            Ok(()) => {
                let arriving = step.txn.arriving(author)?;
                if arriving.is_some_and(|state| self.is_too_much(state.row_count, state.row_bytes)) {
                    self.mistrust(step, asked, "sends more than is kept of one device");
                    self.begin_load(step, author, epoch)?;
                }
                Ok(())
            }
            Err(Refusal::Gap { .. } | Refusal::Epoch) => Ok(()),
            Err(refusal) => {
                if self.library.pulls.bringers.get(&author) == Some(&Some(asked.peer)) {
                    self.mistrust(step, asked, &refusal.to_string());
                } else {
                    tracing::warn!(author = %author.short(), %refusal, "several brought rows that do not add up");
                }
                self.library.pulls.strict.insert(author);
                self.begin_load(step, author, epoch)
            }
        }
    }

    /// A load is whole and stands in the place of what was held.
    fn arrived(&mut self, step: &mut Step<'_>, author: DeviceId, epoch: Epoch) -> Result<(), CoreError> {
        for conduit in step.txn.conduits()? {
            let stale = step
                .txn
                .baseline(conduit.id)?
                .is_some_and(|baseline| baseline.heads.iter().any(|head| head.device == author && head.epoch != epoch));
            if stale {
                step.txn.set_baseline(conduit.id, None)?;
            }
            self.schedule_now(step, conduit.id);
        }
        self.forget_clashing(step)?;
        let theirs = step.txn.locations()?.into_iter().filter(|location| location.owner == author);
        self.locations.changed.extend(theirs.map(|location| location.id));
        self.library.devices_changed = true;
        drop_spent(step)?;
        self.say_device(step, author, |by| Event::ConfigChanged { what: "library", name: by.clone(), by })
    }

    fn say_caught_up(&self, step: &mut Step<'_>, author: DeviceId, head: &Head) -> Result<(), CoreError> {
        let sequence = head.sequence.0;
        self.say_device(step, author, |device| Event::CaughtUp { device, sequence })
    }

    fn tell_news(&mut self, step: &mut Step<'_>, author: DeviceId, news: News) -> Result<(), CoreError> {
        self.library.devices_changed |= !news.facts.is_empty();
        let by = self.device_label(step, author)?;
        for fact in &news.facts {
            step.say_fact(fact, &by)?;
        }
        for conduit in news.conduits {
            self.conduit_changed(step, conduit)?;
        }
        self.locations.changed.extend(news.touched);
        if news.facts.is_empty() { Ok(()) } else { drop_spent(step) }
    }

    fn mistrust(&mut self, step: &Step<'_>, asked: RowsAsked, why: &str) {
        tracing::warn!(peer = %asked.peer.short(), author = %asked.author.short(), why, "refused rows");
        let until_ms = step.now.monotonic_ms + MISTRUST_MS;
        self.library.pulls.mistrusted.insert((asked.peer, asked.author), until_ms);
    }
}

/// Whether the epoch that the author is in now is one in which it has forked.
pub(super) fn is_forked(state: &AuthorState) -> bool {
    let Some((_, fork)) = &state.fork else { return false };
    state.newest.as_ref().is_none_or(|newest| newest.trusted().epoch == fork.trusted().epoch)
}

/// Rows of several pages, in the order of their log, as one page would have brought them: a later page may be of a later
/// state, in which what an earlier one said has changed, or a location is gone with all its entries.
fn joined(mut rows: Vec<Row>) -> Vec<Row> {
    let is_removed = |row: &Row| match &row.body {
        RowBody::Fact(Fact::Location(location)) if location.removed => Some(location.id),
        RowBody::Fact(_) | RowBody::Entry(_) => None,
    };
    let removed: BTreeSet<LocationId> = rows.iter().filter_map(is_removed).collect();
    let mut seen = BTreeSet::new();
    rows.reverse();
    rows.retain(|row| location_of(row).is_none_or(|id| !removed.contains(&id)) && seen.insert(row.key.clone()));
    rows.reverse();
    rows
}

/// What rows are about, for the other rooms.
struct News {
    facts: Vec<Fact>,
    conduits: BTreeSet<ConduitId>,
    touched: BTreeSet<LocationId>,
}

impl News {
    fn of(rows: &[Row]) -> Self {
        Self {
            facts: rows.iter().filter_map(fact_of).collect(),
            conduits: rows.iter().filter_map(conduit_of).collect(),
            touched: rows.iter().filter_map(location_of).collect(),
        }
    }
}

fn fact_of(row: &Row) -> Option<Fact> {
    match &row.body {
        RowBody::Fact(fact) => Some(fact.clone()),
        RowBody::Entry(_) => None,
    }
}

fn conduit_of(row: &Row) -> Option<ConduitId> {
    match &row.key {
        RowKey::Fact(FactKey::Conduit(conduit)) => Some(*conduit),
        RowKey::Fact(FactKey::Ruling(id, _)) => Some(*id),
        RowKey::Fact(
            FactKey::Device(_)
            | FactKey::Location(_)
            | FactKey::Generation(..)
            | FactKey::Conflict(..)
            | FactKey::Spent(_),
        )
        | RowKey::Entry(..) => None,
    }
}

fn location_of(row: &Row) -> Option<LocationId> {
    match &row.key {
        RowKey::Entry(location, _) => Some(*location),
        RowKey::Fact(_) => None,
    }
}
