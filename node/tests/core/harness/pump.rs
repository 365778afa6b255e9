//! Performs what cores wish, and moves time only when nothing else is left to do.

use tidegate::core::io::{Input, Output, Ticket};
use tidegate::env::NetworkError;
use tidegate_protocol::codec;
use tidegate_protocol::library_sync::RootState;
use tidegate_protocol::wire::{Request, Response};

use super::names::id;
use super::resolve::resolve;
use super::world::{Event, LostInput, World};

/// Events of one run beyond which a world is taken to go round in circles.
const EVENTS_MAX: u64 = 100_000;

impl World {
    /// Runs until nothing happens before `ms` from now.
    pub(crate) fn run_for(&mut self, ms: u64) {
        self.run_until(ms, |_| false);
    }

    /// Runs until `done`, for at most `ms`. Says whether it was.
    pub(crate) fn run_until(&mut self, ms: u64, done: impl Fn(&Self) -> bool) -> bool {
        let end_ms = self.now_ms + ms;
        let (began, mut woken_at, mut wakes) = (self.events, 0, 0);
        loop {
            while let Some(event) = self.queue.pop_front() {
                self.events += 1;
                assert!(self.events - began < EVENTS_MAX, "goes round in circles:{}", self.tail());
                self.take(event);
            }
            if done(self) {
                return true;
            }
            let wakes_at = |node: &super::world::Node| node.core.as_ref().and_then(tidegate::core::Core::next_wake);
            let next_ms = self.nodes.iter().filter_map(wakes_at).min().unwrap_or(u64::MAX).max(self.now_ms);
            if next_ms > end_ms {
                self.now_ms = end_ms;
                return done(self);
            }
            wakes = if next_ms == woken_at { wakes + 1 } else { 0 };
            assert!(wakes < 200, "wants to be woken again and again:{}", self.tail());
            (self.now_ms, woken_at) = (next_ms, next_ms);
            for index in 0..self.nodes.len() {
                if wakes_at(&self.nodes[index]).is_some_and(|at| at <= next_ms) {
                    self.input(index, Input::Tick);
                }
            }
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::In(index, start, input) if self.nodes[index].start == start => self.step(index, input),
            Event::Leg(index, start, job) if self.nodes[index].start == start => self.work(index, job),
            Event::In(..) | Event::Leg(..) => {}
        }
    }

    fn step(&mut self, index: usize, input: Input) {
        let now = self.now();
        let node = &mut self.nodes[index];
        let Some(core) = node.core.as_mut() else { return };
        match (node.lost, &input) {
            (Some(LostInput::Rows), Input::Answer { result: Ok(Response::Rows(_)), .. })
            | (Some(LostInput::Drained), Input::Drained { .. }) => return,
            _ => {}
        }
        let input = match (node.lost, input) {
            (Some(LostInput::RowsAfter(last)), Input::Answer { ticket, result: Ok(Response::Rows(rows)) })
                if rows.from > last =>
            {
                Input::Answer { ticket, result: Err(NetworkError::Disconnected) }
            }
            (_, input) => input,
        };
        let mut out = Vec::new();
        core.step(now, vec![input], &mut out).unwrap();
        node.steps += 1;
        if node.crash_at.is_some_and(|at| node.steps >= at) {
            node.crash_at = None;
            self.crash(index);
            return;
        }
        self.perform_all(index, out);
    }

    pub(crate) fn perform(&mut self, index: usize, output: Output) {
        let start = self.nodes[index].start;
        match output {
            Output::Reply { ticket, reply } => drop(self.replies.insert(ticket.0, reply)),
            Output::Respond { ticket, response } => self.respond(index, ticket, &response),
            Output::Serve { ticket, location, reads, .. } => self.serve(index, ticket, location, &reads),
            Output::Ask { ticket, device, request } => self.question(index, ticket, device, &request),
            Output::Publish(head) => {
                self.trace.push((index, "publish".to_owned()));
                if self.gossip {
                    for peer in self.peers(index) {
                        self.input(peer, Input::Announcement(codec::encode(&head)));
                    }
                }
            }
            Output::Members { library, devices } => {
                self.nodes[index].members = devices;
                self.nodes[index].library = Some(library);
                self.reconnect();
            }
            Output::OpenRoot { location, .. } => {
                let tree = &self.nodes[index].trees[&location];
                let state = if tree.present { RootState::Present } else { RootState::Missing };
                let watched = tree.watched;
                self.input(index, Input::Root { location, state, watched });
            }
            Output::CloseRoot { .. } => self.trace.push((index, "close root".to_owned())),
            Output::Drain { location, barrier } => {
                let late = std::mem::take(&mut self.tree(index, location).late);
                if !late.is_empty() {
                    self.input(index, Input::Hints { location, paths: late, overflow: false });
                }
                self.input(index, Input::Drained { location, barrier });
            }
            Output::Scan { location, scope, .. } => {
                let node = &self.nodes[index];
                let tree = &node.trees[&location];
                if !tree.present {
                    let result = Err(tidegate::core::io::ScanFailure::RootLost);
                    return self.input(index, Input::ScanEnded { location, result });
                }
                let seen = tree.scan(node.core.as_ref().unwrap().store(), id(index), location, &scope);
                let progress = tidegate::core::io::ScanProgress::default();
                if !seen.is_empty() {
                    self.input(index, Input::Scanned { location, seen, progress });
                }
                self.input(index, Input::ScanEnded { location, result: Ok(progress) });
            }
            Output::RunCopy(leg) => {
                self.trace.push((index, format!("copy {}", leg.items.len())));
                self.begin_copy(index, leg);
            }
            Output::RunDelete(leg) => {
                self.trace.push((index, format!("delete {}", leg.items.len())));
                self.begin_delete(index, leg);
            }
            Output::Control { job, control } => {
                if let Some(run) = self.nodes[index].legs.get_mut(&job) {
                    run.control = Some(control);
                    self.queue.push_back(Event::Leg(index, start, job));
                }
            }
            Output::Put(leg) => self.put(index, &leg),
            Output::ReadContent(_) | Output::KeepTexts(_) | Output::Remember { .. } => {}
            Output::Replay(mut work) => {
                let grounds: tidegate_protocol::file_sync::Grounds = codec::decode_stored(&work.inputs).unwrap();
                (work.view.rows, work.view.found) = (grounds.rows(), grounds.replay(&work.plan).unwrap());
                let reply = Ok(tidegate::core::command::Reply::Replay(Box::new(work.view)));
                self.replies.insert(work.ticket.0, reply);
            }
            Output::Clean { .. } => self.trace.push((index, "clean".to_owned())),
            Output::Event { event, .. } => self.happened.push((index, *event)),
            Output::Audit { ticket, location, items } => {
                let tree = self.tree(index, location);
                let findings = items.iter().map(|item| tree.look_again(item)).collect();
                self.input(index, Input::Audited { ticket, findings });
            }
            Output::Trash { ticket, location, work } => {
                let done = self.tree(index, location).errand(work);
                if let tidegate::core::errands::TrashDone::Restored(put) = &done {
                    let paths = put.iter().flatten().cloned().collect();
                    self.hint(index, location, paths);
                }
                self.input(index, Input::Trash { ticket, done });
            }
            Output::Resolve { ticket, synced, conduit, baseline, guards, facts, why, keep, .. } => {
                self.trace.push((index, "resolve".to_owned()));
                let store = self.nodes[index].core.as_ref().unwrap().store();
                let result = resolve(store, synced, &conduit, baseline.as_ref(), guards, &facts, why.as_ref(), keep);
                self.input(index, Input::Resolved { ticket, result });
            }
        }
    }

    fn question(&mut self, index: usize, ticket: Ticket, device: tidegate_protocol::id::DeviceId, request: &Request) {
        let start = self.nodes[index].start;
        let word = format!("{request:?}");
        let word = word.split([' ', '(', '{']).next().unwrap_or_default().to_owned();
        self.trace.push((index, format!("ask {word}")));
        let peer = (0..self.nodes.len()).find(|other| id(*other) == device);
        let Some(peer) = peer.filter(|peer| self.connected.contains(&(index, *peer))) else {
            return self.input(index, Input::Answer { ticket, result: Err(NetworkError::Disconnected) });
        };
        let request = Request::decode(&request.encode()).unwrap();
        self.tickets += 1;
        self.asks.insert((peer, self.tickets), (index, start, ticket));
        let ticket = Ticket(self.tickets);
        self.input(peer, Input::Request { ticket, peer: id(index), request });
    }

    fn respond(&mut self, index: usize, ticket: Ticket, response: &Response) {
        let mut response = Response::decode(&response.encode()).unwrap();
        if let Some(probe) = self.probes.get_mut(&(index, ticket.0)) {
            *probe = Some(response);
            return;
        }
        if let Response::Rows(rows) = &mut response
            && self.lying == Some(index)
            && rows.device != id(index)
        {
            rows.rows.pop();
        }
        if self.fetches.contains_key(&(index, ticket.0)) {
            return self.fetched(index, ticket, None);
        }
        let Some((asker, start, ticket)) = self.asks.remove(&(index, ticket.0)) else { return };
        self.queue.push_back(Event::In(asker, start, Input::Answer { ticket, result: Ok(response) }));
    }

    pub(crate) fn peers(&self, index: usize) -> Vec<usize> {
        self.connected.iter().filter(|(a, _)| *a == index).map(|(_, b)| *b).collect()
    }

    /// Connects whoever admits one another and is not cut off, and tells both sides what changed.
    pub(crate) fn reconnect(&mut self) {
        for a in 0..self.nodes.len() {
            for b in (0..self.nodes.len()).filter(|b| *b != a) {
                let lets_in =
                    |a: usize, b: usize| self.nodes[a].core.is_some() && self.nodes[a].members.contains(&id(b));
                let may = lets_in(a, b) && lets_in(b, a) && !self.cut.contains(&(a.min(b), a.max(b)));
                if may && self.connected.insert((a, b)) {
                    self.input(a, Input::PeerUp { device: id(b), address: ([10, 0, 0, b as u8], 1).into() });
                }
                if !may && self.connected.remove(&(a, b)) {
                    self.input(a, Input::PeerDown { device: id(b) });
                    self.fail_asks(a, b);
                }
            }
        }
    }

    /// Everything that `asker` had asked of `asked` comes to nothing.
    fn fail_asks(&mut self, asker: usize, asked: usize) {
        let lost: Vec<(usize, u64)> =
            self.asks.iter().filter(|(to, from)| to.0 == asked && from.0 == asker).map(|(to, _)| *to).collect();
        for to in lost {
            let (index, start, ticket) = self.asks.remove(&to).unwrap();
            let result = Err(NetworkError::Disconnected);
            self.queue.push_back(Event::In(index, start, Input::Answer { ticket, result }));
        }
        let lost: Vec<(usize, u64)> =
            self.fetches.iter().filter(|(to, from)| to.0 == asked && from.0 == asker).map(|(to, _)| *to).collect();
        for to in lost {
            let (index, start, job) = self.fetches.remove(&to).unwrap();
            if let Some(run) = self.nodes[index].legs.get_mut(&job) {
                run.lost = true;
            }
            self.queue.push_back(Event::Leg(index, start, job));
        }
    }
}
