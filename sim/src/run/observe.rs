//! After every turn: what happened is told to the trace, the ghost, the coverage and the checkers, in this order.

use tidegate::core::io::JobStop;
use tidegate_protocol::file_sync::{
    Action, ItemOutcome, JobKind, Plan as Resolved, PreImage, SkipReason, Verification,
};
use tidegate_storage::disk::FileKind;

use super::Run;
use super::operator::Call;
use crate::checkers::{Seen, text};
use crate::disk::{Actor, Change, Deed};
use crate::ghost::Places;
use crate::happening::What;
use crate::random::mix;
use crate::trace::number_of;
use crate::verdict::{Violation, names};
use crate::witness::{Noted, Said};
use crate::world::Answer;

impl Run<'_> {
    pub(super) fn observe(&mut self) {
        self.trace_happenings();
        for noted in self.world.notes.take() {
            self.noted(&noted);
        }
        for device in 0..self.plan.devices.len() {
            for change in self.world.device(device as u32).disk.take_changes() {
                self.changed(device, &change);
            }
        }
        self.answered();
        self.fallen();
    }

    fn trace_happenings(&mut self) {
        let happened = std::mem::take(&mut crate::executor::lock(&self.happened).0);
        for happening in happened {
            let numbers = [happening.at, u64::from(happening.device), number_of_what(happening.what)];
            self.trace.event(&numbers, |line| {
                use std::fmt::Write as _;
                write!(line, "{}ns device {} {:?}", happening.at, happening.device, happening.what)
            });
        }
    }

    fn noted(&mut self, noted: &Noted) {
        let Noted { device, now, said } = noted;
        let device = *device;
        let number = match said {
            Said::Step { kinds, .. } => *kinds,
            Said::State(state) => state.sequence.0 ^ number_of(&state.set_hash),
            Said::Head(head) => number_of(&head.set_hash),
            _ => 1,
        };
        let at = self.now();
        self.trace.event(&[device as u64, now.monotonic_ms, now.wall_ms, number], |line| {
            use std::fmt::Write as _;
            write!(line, "{} device {device} {said:?}", at.clock())
        });
        self.mark_said(device, said);
        self.heard(&Seen::Said { device, said });
    }

    fn changed(&mut self, device: usize, change: &Change) {
        let numbers = [device as u64, change.at_ns, number_of(&change.path)];
        let at = self.now();
        self.trace.event(&numbers, |line| {
            use std::fmt::Write as _;
            write!(
                line,
                "{} device {device} disk {:?} {} {:?}",
                at.clock(),
                change.who,
                text(&change.path),
                change.deed
            )
        });
        let other = match &change.deed {
            Deed::Moved { from, .. } => Some(from),
            Deed::Exchanged { with, .. } => Some(with),
            _ => None,
        };
        let places = Places {
            at: self.place_of(device, &change.path),
            other: other.and_then(|path| self.place_of(device, path)),
        };
        let by_hand = self.restored(device, change, &places);
        let change = by_hand.as_ref().unwrap_or(change);
        let name = self.plan.devices[device].name.as_str();
        self.ghost.saw(at, device, name, change, &places);
        self.heard(&Seen::Disk { device, change, places: &places });
    }

    /// What a node puts back from the trash because a person says so is that person's doing.
    fn restored(&mut self, device: usize, change: &Change, places: &Places) -> Option<Change> {
        let is_asked = || self.calls.values().any(|call| *call == Call::Restore(device));
        if change.who == Actor::User || places.at.is_none() || !is_asked() {
            return None;
        }
        match &change.deed {
            Deed::Moved { from, held, .. } if text(from).contains("/.tidegate/trash/") => {
                if let Some(content) = &held.content {
                    self.ghost.restored(device, content);
                }
            }
            // A directory that the thing needs.
            Deed::Created { kind: FileKind::Directory } => {}
            Deed::Moved { .. }
            | Deed::Created { .. }
            | Deed::Added
            | Deed::Overwrote { .. }
            | Deed::Marked
            | Deed::Removed { .. }
            | Deed::Exchanged { .. } => return None,
        }
        Some(Change { who: Actor::User, ..change.clone() })
    }

    /// The location and the path below it of an absolute path that users see.
    fn place_of(&self, device: usize, path: &[u8]) -> Option<(String, String)> {
        let path = text(path);
        let (location, below) = path.strip_prefix('/')?.split_once('/').unwrap_or((path.strip_prefix('/')?, ""));
        let known = self.plan.location(&self.plan.devices[device].name, location).is_some();
        let internal = below == ".tidegate" || below.starts_with(".tidegate/");
        (known && !internal && !self.standing[device].away.contains_key(location))
            .then(|| (location.to_owned(), below.to_owned()))
    }

    fn mark_said(&mut self, device: usize, said: &Said) {
        match said {
            Said::Resolved(plan) => self.mark_plan(plan),
            Said::Leg { job, location, items } => {
                let again = self.standing[device].legs.contains_key(job);
                let kind = match job.kind {
                    JobKind::Copy => "leg:copy",
                    JobKind::Delete => "leg:delete",
                };
                self.coverage.mark(kind);
                if again {
                    self.coverage.mark("leg:taken-up-again");
                }
                let name = self.locations.iter().find(|(_, id)| *id == location).map(|((_, name), _)| name.clone());
                let paths = items.iter().map(|(_, path, _)| (*location, text(&path.to_slashes()))).collect();
                if let (Some(name), Some((_, path, _))) = (name, items.get(items.len() / 2)) {
                    self.standing[device].active.insert(name, text(&path.to_slashes()));
                }
                self.standing[device].legs.insert(*job, paths);
                for (_, _, item) in items {
                    self.coverage.mark(item_mark(&item.action, &item.expect));
                }
                let count = items.len();
                self.moment(device, format!("{} of {count} items begins ({job})", kind.replace(':', " ")));
            }
            Said::Moved { outcomes, .. } => {
                for (_, outcome) in outcomes {
                    self.coverage.mark(outcome_mark(outcome));
                }
            }
            Said::LegEnded { job, stopped } => {
                if stopped.is_none() {
                    self.standing[device].legs.remove(job);
                }
                if self.standing[device].legs.is_empty() {
                    self.standing[device].active.clear();
                }
                if let Some(stopped) = stopped {
                    self.coverage.mark(stop_mark(*stopped));
                    self.moment(device, format!("leg stops: {stopped:?} ({job})"));
                }
            }
            Said::Status { conduit, generation, status } => {
                self.coverage.mark(status_mark(*status));
                if let Some(at) = self.conduits.get(conduit).copied() {
                    self.verified.insert(at, *status == Verification::Verified);
                    let name = self.plan.conduits[at].name.clone();
                    self.moment(device, format!("{name} generation {generation}: {status:?}"));
                }
            }
            Said::Scan { whole, .. } => self.coverage.mark(if *whole { "scan:whole" } else { "scan:paths" }),
            Said::Overflowed(_) => self.coverage.mark("watch:overflow"),
            Said::Rows { author, .. } if *author != self.world.device(device as u32).id() => {
                self.coverage.mark("rows:forwarded");
            }
            _ => {}
        }
    }

    fn mark_plan(&mut self, plan: &Resolved) {
        let ops = [&plan.operations.source_to_target, &plan.operations.target_to_source];
        if plan.is_empty() {
            self.coverage.mark("plan:empty");
        }
        if ops.iter().any(|ops| !ops.copies.is_empty()) {
            self.coverage.mark("plan:copies");
        }
        if ops.iter().any(|ops| !ops.deletes.is_empty()) {
            self.coverage.mark("plan:deletes");
        }
        if !plan.halts.is_empty() {
            self.coverage.mark("plan:held");
        }
        if !plan.skips.is_empty() {
            self.coverage.mark("plan:skips");
        }
        if let Some(at) = self.conduits.get(&plan.conduit).copied() {
            self.held.insert(at, !plan.halts.is_empty());
        }
    }

    fn answered(&mut self) {
        for (call, device, answer) in self.world.take_answers() {
            if let Some(call) = self.calls.remove(&call) {
                let answer: Answer = answer;
                self.on_answer(device as usize, call, answer);
            }
        }
    }

    /// Devices that fell by themselves: wished, or a bug.
    fn fallen(&mut self) {
        for (device, fall) in self.world.fallen() {
            let device = device as usize;
            let armed = std::mem::take(&mut self.standing[device].armed);
            match fall {
                crate::device::Fall::Armed if armed => {
                    self.moment(device, "the power is cut");
                    self.power_cut(device);
                }
                fall => {
                    let says = format!("the node fell by itself: {fall:?}");
                    let name = self.plan.devices[device].name.as_str();
                    self.tell(Violation::new(names::ALIVE, "fell", says).on(name));
                    // It is not told of twice.
                    self.world.crash(device as u32, crate::device::Cut::Process);
                }
            }
        }
    }
}

const fn number_of_what(what: What) -> u64 {
    match what {
        What::Started { incarnation } => 1 + ((incarnation as u64) << 8),
        What::Stopped => 2,
        What::Crashed => 3,
        What::PeerUp { peer } => 4 + ((peer as u64) << 8),
        What::PeerDown { peer } => 5 + ((peer as u64) << 8),
        What::Opened { peer } => 6 + ((peer as u64) << 8),
        What::Frame { peer, bytes, digest } | What::Stepped { inputs: peer, outputs: bytes, digest } => {
            mix(digest ^ mix(((peer as u64) << 32) | bytes as u64))
        }
        What::Gossip { bytes, digest } => mix(digest ^ bytes as u64),
        What::Watched { paths, overflow } => 7 + ((paths as u64) << 8) + ((overflow as u64) << 40),
    }
}

const fn item_mark(action: &Action, expect: &PreImage) -> &'static str {
    match (action, expect) {
        (Action::InstallFile { .. }, PreImage::Directory | PreImage::Symlink { .. })
        | (Action::InstallSymlink { .. } | Action::MakeDirectory { .. }, PreImage::File { .. }) => "item:type-change",
        (Action::InstallFile { .. }, PreImage::File { .. }) => "item:install-over-file",
        (Action::InstallFile { .. }, PreImage::Absent) => "item:install",
        (Action::MakeDirectory { .. }, _) => "item:make-directory",
        (Action::InstallSymlink { .. }, _) => "item:symlink",
        (Action::RenameFile { .. }, _) => "item:rename",
        (Action::SetMetadata { .. }, _) => "item:metadata",
        (Action::Remove { .. }, _) => "item:remove",
        (Action::RemoveDirectory { .. }, _) => "item:remove-directory",
        (Action::Adopt { .. }, _) => "item:adopt",
        (Action::Respell { .. }, _) => "item:respell",
        (Action::Evict { .. }, _) => "item:evict",
    }
}

const fn outcome_mark(outcome: &ItemOutcome) -> &'static str {
    match outcome {
        ItemOutcome::Done => "outcome:done",
        ItemOutcome::Skipped(SkipReason::TargetChanged) => "outcome:skipped-target-changed",
        ItemOutcome::Skipped(SkipReason::SourceChanged) => "outcome:skipped-source-changed",
        ItemOutcome::Skipped(_) => "outcome:skipped-otherwise",
    }
}

const fn stop_mark(stop: JobStop) -> &'static str {
    match stop {
        JobStop::Paused => "leg:stopped-paused",
        JobStop::Cancelled => "leg:stopped-cancelled",
        JobStop::Unreachable => "leg:stopped-unreachable",
        JobStop::RootLost => "leg:stopped-root-lost",
        JobStop::NoSpace => "leg:stopped-no-space",
    }
}

const fn status_mark(status: Verification) -> &'static str {
    match status {
        Verification::Unverified => "status:unverified",
        Verification::WaitingWatcher => "status:waiting-watcher",
        Verification::WaitingLibrarySync => "status:waiting-library-sync",
        Verification::Verified => "status:verified",
        Verification::Failed { .. } => "status:failed",
    }
}
