//! Legs of jobs, item by item: each item is an event, so that a crash, a cut or an edit may fall between two.

use std::collections::VecDeque;

use tidegate::core::io::{CopyLeg, CopySource, DeleteLeg, Input, JobStop, PutLeg, Read, Ticket, Work, Written};
use tidegate_protocol::file_sync::{Action, ItemOutcome, JobKey, SkipReason};
use tidegate_protocol::id::{DeviceId, LocationId};
use tidegate_protocol::path::EntryPath;
use tidegate_protocol::wire::{Fetch, FetchFailure, JobControl, Request, Want};

use super::names::id;
use super::world::{Event, World};

/// A leg at work.
pub(crate) struct LegRun {
    location: LocationId,
    source: Option<CopySource>,
    items: VecDeque<Work>,
    pub(crate) control: Option<JobControl>,
    /// The source was lost while something was on its way.
    pub(crate) lost: bool,
    waiting: bool,
}

impl World {
    pub(crate) fn begin_copy(&mut self, index: usize, leg: CopyLeg) {
        self.begin(index, leg.job, leg.location, Some(leg.source), leg.items);
    }

    pub(crate) fn begin_delete(&mut self, index: usize, leg: DeleteLeg) {
        self.begin(index, leg.job, leg.location, None, leg.items);
    }

    fn begin(&mut self, index: usize, job: JobKey, location: LocationId, source: Option<CopySource>, items: Vec<Work>) {
        let items = items.into();
        let run = LegRun { location, source, items, control: None, lost: false, waiting: false };
        assert!(self.nodes[index].legs.insert(job, run).is_none(), "two legs of one job");
        self.next_item(index, job);
    }

    fn next_item(&mut self, index: usize, job: JobKey) {
        let start = self.nodes[index].start;
        self.queue.push_back(Event::Leg(index, start, job));
    }

    /// Lets go of legs that were held.
    pub(crate) fn release(&mut self, index: usize) {
        self.nodes[index].hold_legs = false;
        for job in self.nodes[index].legs.keys().copied().collect::<Vec<_>>() {
            self.next_item(index, job);
        }
    }

    /// Does at once what a person chose.
    pub(crate) fn put(&mut self, index: usize, leg: &PutLeg) {
        let (mut written, mut failure) = (Vec::new(), None);
        for work in &leg.items {
            let tree = self.nodes[index].trees.get_mut(&leg.location).unwrap();
            let (outcome, wrote) = tree.apply(work, Some(leg.content.clone()));
            written.extend(wrote);
            if outcome != ItemOutcome::Done {
                failure = Some(format!("{outcome:?}"));
                break;
            }
            let touched: Vec<EntryPath> = work.from.iter().chain([&work.path]).cloned().collect();
            self.hint(index, leg.location, touched);
        }
        self.input(index, Input::Put { ticket: leg.ticket, written, failure });
    }

    fn end(&mut self, index: usize, job: JobKey, stopped: Option<JobStop>) {
        self.nodes[index].legs.remove(&job);
        self.input(index, Input::JobEnded { job, stopped });
    }

    /// Does the next item of a leg.
    pub(crate) fn work(&mut self, index: usize, job: JobKey) {
        let node = &mut self.nodes[index];
        let held = node.hold_legs;
        let Some(run) = node.legs.get_mut(&job) else { return };
        match run.control {
            Some(JobControl::Pause) => return self.end(index, job, Some(JobStop::Paused)),
            Some(JobControl::Cancel) => return self.end(index, job, Some(JobStop::Cancelled)),
            Some(JobControl::Resume) | None => {}
        }
        if run.lost {
            return self.end(index, job, Some(JobStop::Unreachable));
        }
        if held || run.waiting {
            return;
        }
        if !node.trees[&run.location].present {
            return self.end(index, job, Some(JobStop::RootLost));
        }
        let Some(work) = run.items.front().cloned() else { return self.end(index, job, None) };
        if node.failing.contains(&work.path) {
            return self.moved(index, job, ItemOutcome::Skipped(SkipReason::WrongContent), Vec::new());
        }
        let Action::InstallFile { file, from, .. } = &work.item.action else {
            return self.apply(index, job, None);
        };
        if let Some(local) = &work.local
            && let Some(bytes) = node.trees[&local.location].read(&local.path, &local.mark)
            // As the real job does: what was copied is hashed, and falls back to the source.
            && tidegate_protocol::hash::ContentHash::of(&bytes) == file.content
        {
            return self.apply(index, job, Some(bytes));
        }
        match run.source.clone().expect("a copy has a source") {
            CopySource::Trash { bins } => {
                let bytes = node.trees[&run.location].find_trashed(&bins, &work.path, &file.content);
                self.apply(index, job, bytes);
            }
            CopySource::Here { location, dir } => {
                let bytes = node.trees[&location].content(&dir.join(from).unwrap()).map(|(_, bytes)| bytes);
                self.apply(index, job, bytes);
            }
            CopySource::Device(device) => {
                run.waiting = true;
                let (content, length) = (file.content, file.size);
                let want = Want { path: from.clone(), content, offset: 0, length };
                self.fetch(index, job, device, want);
            }
        }
    }

    fn fetch(&mut self, index: usize, job: JobKey, device: DeviceId, want: Want) {
        let peer = (0..self.nodes.len()).find(|other| id(*other) == device).unwrap();
        let start = self.nodes[index].start;
        if !self.connected.contains(&(index, peer)) {
            return self.end(index, job, Some(JobStop::Unreachable));
        }
        self.trace.push((index, "fetch".to_owned()));
        let request = Request::Fetch(Fetch { job, wants: vec![want] });
        let request = Request::decode(&request.encode()).unwrap();
        self.tickets += 1;
        self.fetches.insert((peer, self.tickets), (index, start, job));
        let ticket = Ticket(self.tickets);
        self.input(peer, Input::Request { ticket, peer: id(index), request });
    }

    /// The source has decided what it serves.
    pub(crate) fn serve(
        &mut self,
        index: usize,
        ticket: Ticket,
        location: LocationId,
        reads: &[Result<Read, FetchFailure>],
    ) {
        let bytes = match reads.first() {
            Some(Ok(read)) => self.nodes[index].trees[&location].read(&read.path, &read.mark),
            Some(Err(failure)) => {
                self.trace.push((index, format!("serves {failure:?}")));
                None
            }
            None => None,
        };
        self.fetched(index, ticket, bytes);
    }

    /// Content has arrived, or will not.
    pub(crate) fn fetched(&mut self, from: usize, ticket: Ticket, bytes: Option<Vec<u8>>) {
        let Some((index, start, job)) = self.fetches.remove(&(from, ticket.0)) else { return };
        if self.nodes[index].start != start {
            return;
        }
        let Some(run) = self.nodes[index].legs.get_mut(&job) else { return };
        run.waiting = false;
        self.apply(index, job, bytes);
    }

    fn apply(&mut self, index: usize, job: JobKey, content: Option<Vec<u8>>) {
        let node = &mut self.nodes[index];
        let Some(run) = node.legs.get(&job) else { return };
        let work = run.items.front().expect("an item is being done").clone();
        let tree = node.trees.get_mut(&run.location).unwrap();
        tree.bin = tidegate_storage::disk::Bin::of(job.conduit, job.generation);
        let (outcome, written) = tree.apply(&work, content);
        self.moved(index, job, outcome, written);
    }

    fn moved(&mut self, index: usize, job: JobKey, outcome: ItemOutcome, written: Vec<Written>) {
        let Some(run) = self.nodes[index].legs.get_mut(&job) else { return };
        let work = run.items.pop_front().expect("an item was done");
        let location = run.location;
        let touched: Vec<EntryPath> = work.from.iter().chain([&work.path]).cloned().collect();
        let bytes_done = match (&outcome, &work.item.action) {
            (ItemOutcome::Done, Action::InstallFile { file, .. }) => file.size,
            _ => 0,
        };
        self.input(
            index,
            Input::JobMoved {
                job,
                outcomes: vec![(work.index, outcome)],
                announced: written,
                bytes_done,
                bytes_reused: 0,
                current: Vec::new(),
            },
        );
        self.hint(index, location, touched);
        self.next_item(index, job);
    }
}
