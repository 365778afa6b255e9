//! Moments inside a generation, told by what the devices decide and by what their disks do.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_protocol::file_sync::{JobKey, JobKind, Plan, Side};
use tidegate_sim::disk::Change;
use tidegate_sim::witness::{Noted, Said};

use super::disk::ROOT;
use crate::corpus::format::{During, Edit, Moment};

/// Edits that wait for their moment.
#[derive(Debug, Default)]
pub(super) struct Moments {
    waiting: Vec<During>,
    due: Vec<(Side, Edit)>,
    /// Jobs of the newest plan that are not over, by kind.
    jobs_left: BTreeMap<JobKind, usize>,
    /// Jobs that are over, as a leg that is taken up again ends twice.
    over: BTreeSet<JobKey>,
    /// A job has begun.
    began: bool,
    /// By what a disk shows that an item is being worked at: at its place, or at the place where it is staged.
    at_work: BTreeMap<(usize, String), String>,
}

impl Moments {
    /// None that anybody waits for.
    pub(super) fn none() -> Self {
        Self::default()
    }

    pub(super) fn new(during: &[During]) -> Self {
        // What comes after the commit comes when all is over.
        let waiting = during.iter().filter(|during| during.at != Moment::AfterCommit).cloned().collect();
        Self { waiting, ..Self::default() }
    }

    /// The first edit whose moment never came.
    pub(super) fn missed(&self) -> Option<&During> {
        self.waiting.first()
    }

    /// Edits whose moment is now, once.
    pub(super) fn due(&mut self) -> Vec<(Side, Edit)> {
        std::mem::take(&mut self.due)
    }

    fn come(&mut self, is_it: impl Fn(&Moment) -> bool) {
        let (come, waiting) = std::mem::take(&mut self.waiting).into_iter().partition(|during| is_it(&during.at));
        self.waiting = waiting;
        let come: Vec<During> = come;
        self.due.extend(come.into_iter().map(|during| (during.side, during.op)));
    }

    /// A device decided something.
    pub(super) fn noted(&mut self, noted: &Noted) {
        match &noted.said {
            Said::Resolved(plan) if !self.began => self.jobs_left = jobs(plan),
            Said::Leg { job, items, .. } => {
                self.began = true;
                self.come(|moment| *moment == Moment::AfterPlan);
                if job.kind == JobKind::Delete {
                    self.come(|moment| *moment == Moment::AfterCopies);
                }
                for (index, path, _) in items {
                    let path = String::from_utf8_lossy(&path.to_slashes()).into_owned();
                    let staged = format!("{ROOT}/.tidegate/staging/{job}/{index}.part");
                    self.at_work.insert((noted.device, staged), path.clone());
                    self.at_work.insert((noted.device, format!("{ROOT}/{path}")), path);
                }
            }
            Said::LegEnded { job, stopped: None } if self.over.insert(*job) => {
                let left = self.jobs_left.entry(job.kind).or_default();
                *left = left.saturating_sub(1);
                let is_over = |kind| self.jobs_left.get(&kind).is_none_or(|left| *left == 0);
                let (copies, deletes) = (is_over(JobKind::Copy), is_over(JobKind::Delete));
                if copies {
                    self.come(|moment| *moment == Moment::AfterCopies);
                }
                if copies && deletes {
                    self.come(|moment| *moment == Moment::BeforeCommit);
                }
            }
            _ => {}
        }
    }

    /// A disk changed.
    pub(super) fn changed(&mut self, device: usize, change: &Change) {
        let at = (device, String::from_utf8_lossy(&change.path).into_owned());
        if let Some(path) = self.at_work.get(&at).cloned() {
            self.come(|moment| *moment == Moment::MidCopy(path.clone()));
        }
    }
}

/// How many jobs of each kind a plan comes to.
fn jobs(plan: &Plan) -> BTreeMap<JobKind, usize> {
    let sides = Side::BOTH.map(|side| plan.operations.on(side));
    let copies = sides.iter().filter(|operations| !operations.copies.is_empty()).count();
    let deletes = sides.iter().filter(|operations| !operations.deletes.is_empty()).count();
    BTreeMap::from([(JobKind::Copy, copies), (JobKind::Delete, deletes)])
}
