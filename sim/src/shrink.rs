//! Makes a plan that breaks a claim small enough to be read, and keeps only what still breaks the same claim in the
//! same way.
//!
//! In turns, until nothing more comes off or the budget is used up: what comes after the breach, noise (weather, quirks of
//! disks, clocks), steps by delta debugging, conduits, devices, files, and the details of what is left. Works on any
//! function from a plan to its violation, so it is tested without a world.

use std::collections::BTreeMap;

use crate::plan::{Content, Deed, DevicePlan, Millis, NetworkPlan, Plan, Style};
use crate::verdict::Violation;

/// What was tried and what came of it.
#[derive(Debug, Clone)]
pub struct Shrunk {
    /// The smallest plan found.
    pub plan: Plan,
    /// Its violation.
    pub violation: Violation,
    /// Plans that were run.
    pub tries: u64,
}

/// Shrinks `plan`, which breaks a claim as `violation` says. `may_go_on` is asked before every try.
pub fn shrink(
    plan: &Plan,
    violation: &Violation,
    mut may_go_on: impl FnMut() -> bool,
    run: impl FnMut(&Plan) -> Option<Violation>,
) -> Shrunk {
    let mut work = Work { best: plan.clone(), violation: violation.clone(), tries: 0, may_go_on: &mut may_go_on, run };
    loop {
        let before = work.best.clone();
        work.cut_end();
        work.silence();
        work.steps();
        work.conduits();
        work.devices();
        work.files();
        work.details();
        if work.best == before || !(work.may_go_on)() {
            break;
        }
    }
    Shrunk { plan: work.best, violation: work.violation, tries: work.tries }
}

struct Work<'a, R> {
    best: Plan,
    violation: Violation,
    tries: u64,
    may_go_on: &'a mut dyn FnMut() -> bool,
    run: R,
}

impl<R: FnMut(&Plan) -> Option<Violation>> Work<'_, R> {
    /// Takes a plan over if it still breaks the same claim in the same way.
    fn take(&mut self, plan: Plan) -> bool {
        if plan == self.best || !(self.may_go_on)() {
            return false;
        }
        self.tries += 1;
        let Some(found) = (self.run)(&plan).filter(|found| found.class() == self.violation.class()) else {
            return false;
        };
        self.best = plan;
        self.violation = found;
        true
    }

    fn change(&mut self, change: impl FnOnce(&mut Plan)) -> bool {
        let mut plan = self.best.clone();
        change(&mut plan);
        self.take(plan)
    }

    fn cut_end(&mut self) {
        let at = Millis(self.violation.at_ms);
        self.change(|plan| {
            plan.steps.retain(|step| step.at <= at);
            plan.until =
                plan.until.min(Millis(at.0 + 1)).max(plan.steps.last().map_or(Millis(1), |step| Millis(step.at.0 + 1)));
        });
    }

    fn silence(&mut self) {
        self.change(|plan| plan.network = NetworkPlan { latency_ms: (1, 2), ..NetworkPlan::default() });
        self.change(|plan| {
            for device in &mut plan.devices {
                let name = device.name.clone();
                *device = DevicePlan { member: device.member, ..DevicePlan::plain(&name) };
            }
        });
        for at in 0..self.best.devices.len() {
            self.change(|plan| {
                let device = &mut plan.devices[at];
                let name = device.name.clone();
                *device = DevicePlan { member: device.member, ..DevicePlan::plain(&name) };
            });
        }
        self.change(|plan| plan.locations.iter_mut().for_each(|location| location.rules.clear()));
    }

    /// Delta debugging: halves, quarters … of the steps are left out, down to single ones.
    fn steps(&mut self) {
        let mut parts = 2;
        while self.best.steps.len() > 1 && parts <= self.best.steps.len() * 2 {
            let length = self.best.steps.len();
            let size = length.div_ceil(parts).max(1);
            let mut taken = false;
            let mut begin = 0;
            while begin < self.best.steps.len() {
                let end = (begin + size).min(self.best.steps.len());
                if self.change(|plan| drop(plan.steps.drain(begin..end))) {
                    taken = true;
                } else {
                    begin = end;
                }
                if !(self.may_go_on)() {
                    return;
                }
            }
            if size == 1 && !taken {
                break;
            }
            parts = if taken { parts } else { parts * 2 };
        }
        if self.best.steps.len() == 1 {
            self.change(|plan| plan.steps.clear());
        }
    }

    fn conduits(&mut self) {
        for at in (0..self.best.conduits.len()).rev() {
            let name = self.best.conduits[at].name.clone();
            self.change(|plan| {
                plan.conduits.remove(at);
                plan.steps.retain(|step| step.deed.conduit() != Some(&name));
            });
        }
        for at in (0..self.best.locations.len()).rev() {
            let (device, name) = (self.best.locations[at].device.clone(), self.best.locations[at].name.clone());
            let used = self.best.conduits.iter().any(|conduit| {
                [&conduit.source, &conduit.target].iter().any(|end| end.device == device && end.place.location == name)
            });
            if !used {
                self.change(|plan| {
                    plan.locations.remove(at);
                    plan.steps.retain(|step| step.on != device || step.deed.location() != Some(&name));
                });
            }
        }
    }

    fn devices(&mut self) {
        for at in (0..self.best.devices.len()).rev() {
            let name = self.best.devices[at].name.clone();
            if self.best.devices.len() > 1 {
                self.change(|plan| {
                    plan.devices.remove(at);
                    plan.locations.retain(|location| location.device != name);
                    plan.conduits.retain(|conduit| conduit.source.device != name && conduit.target.device != name);
                    plan.steps.retain(|step| step.on != name && step.deed.other() != Some(&name));
                    let known: Vec<String> = plan.conduits.iter().map(|conduit| conduit.name.clone()).collect();
                    plan.steps
                        .retain(|step| step.deed.conduit().is_none_or(|conduit| known.iter().any(|k| k == conduit)));
                });
            }
        }
    }

    fn files(&mut self) {
        for at in 0..self.best.locations.len() {
            if self.change(|plan| plan.locations[at].files.clear()) {
                continue;
            }
            let mut size = self.best.locations[at].files.len().div_ceil(2);
            while size > 0 {
                let paths: Vec<String> = self.best.locations[at].files.keys().cloned().collect();
                for part in paths.chunks(size) {
                    self.change(|plan| plan.locations[at].files.retain(|path, _| !part.contains(path)));
                }
                size /= 2;
            }
            self.change(|plan| smaller(&mut plan.locations[at].files));
        }
    }

    fn details(&mut self) {
        for at in 0..self.best.steps.len() {
            self.change(|plan| match &mut plan.steps[at].deed {
                Deed::Write { content: Content::Unique(bytes), style, .. } => {
                    *bytes = (*bytes).min(60);
                    *style = Style::Truncate;
                }
                Deed::Write { style, .. } => *style = Style::Truncate,
                Deed::Checkout(_, files) => *files = (*files / 4).max(1),
                Deed::Cut { one_way, .. } => *one_way = false,
                _ => {}
            });
        }
        // Round times are easier to read.
        for unit in [60_000, 1_000] {
            self.change(|plan| {
                for step in &mut plan.steps {
                    step.at = Millis(step.at.0 / unit * unit);
                }
            });
            for at in 0..self.best.steps.len() {
                self.change(|plan| {
                    let before = at.checked_sub(1).map_or(0, |before| plan.steps[before].at.0);
                    plan.steps[at].at = Millis((plan.steps[at].at.0 / unit * unit).max(before));
                });
            }
        }
    }
}

fn smaller(files: &mut BTreeMap<String, Content>) {
    for content in files.values_mut() {
        if let Content::Unique(bytes) = content {
            *bytes = (*bytes).min(60);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::generate::generate;
    use crate::plan::profile::Profile;

    /// Breaks when a device loses power after a file was deleted there.
    fn broken(plan: &Plan) -> Option<Violation> {
        let deleted = plan.steps.iter().position(|step| matches!(step.deed, Deed::Delete(_)) && step.on == "ben")?;
        let crash =
            plan.steps[deleted..].iter().find(|step| matches!(step.deed, Deed::Crash { .. }) && step.on == "ben")?;
        let mut violation = Violation::new("NO_LOSS", "destroyed", "a fake");
        violation.at_ms = crash.at.0;
        Some(violation)
    }

    #[test]
    fn a_long_plan_becomes_the_two_steps_that_matter() {
        let profile = Profile::named("heavy").unwrap();
        let (plan, violation) = (0..100)
            .find_map(|seed| {
                let plan = generate(seed, "heavy", &profile);
                broken(&plan).map(|violation| (plan, violation))
            })
            .unwrap();
        assert!(plan.steps.len() > 100);
        let shrunk = shrink(&plan, &violation, || true, broken);
        assert_eq!(shrunk.plan.steps.len(), 2, "{}", shrunk.plan);
        assert_eq!((shrunk.plan.devices.len(), shrunk.plan.conduits.len()), (1, 0));
        assert!(shrunk.plan.locations.iter().all(|location| location.files.is_empty()));
        assert_eq!(
            crate::story::read(&shrunk.plan.to_string()).unwrap(),
            shrunk.plan,
            "what is left replays by itself"
        );
    }

    #[test]
    fn another_breach_is_not_taken_for_the_same_one() {
        let profile = Profile::named("standard").unwrap();
        let plan = generate(1, "standard", &profile);
        let violation = Violation::new("ORDER", "delete-first", "a fake");
        let other = |plan: &Plan| (plan.steps.len() < 5).then(|| Violation::new("ATOMIC", "torn", "another"));
        let shrunk = shrink(&plan, &violation, || true, other);
        assert_eq!(shrunk.plan, plan);
    }

    #[test]
    fn a_budget_ends_it() {
        let profile = Profile::named("standard").unwrap();
        let plan = generate(1, "standard", &profile);
        let violation = Violation::new("ORDER", "delete-first", "a fake");
        let mut left = 7;
        let budget = || {
            left -= 1;
            left > 0
        };
        let shrunk = shrink(&plan, &violation, budget, |_| Some(Violation::new("ORDER", "delete-first", "a fake")));
        assert!(shrunk.tries <= 7);
    }
}
