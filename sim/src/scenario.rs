//! The simulator as a library: other people's set-ups, workloads and claims.
//!
//! ```
//! use tidegate_sim::checkers::{Invariant, Scene, Seen};
//! use tidegate_sim::ghost::Ghost;
//! use tidegate_sim::scenario::Scenario;
//! use tidegate_sim::verdict::Violation;
//! use tidegate_sim::witness::Said;
//!
//! /// No plan of ours ever deletes more than a hundred files at once.
//! #[derive(Clone)]
//! struct NoHugeDelete;
//!
//! impl Invariant for NoHugeDelete {
//!     fn name(&self) -> &'static str {
//!         "NO_HUGE_DELETE"
//!     }
//!
//!     fn saw(&mut self, seen: &Seen<'_>, _: &Ghost, _: &dyn Scene, wrong: &mut Vec<Violation>) {
//!         if let Seen::Said { said: Said::Resolved(plan), .. } = seen
//!             && plan.totals.deletes > 100
//!         {
//!             wrong.push(Violation::new(self.name(), "plan", "a plan of more than a hundred deletes"));
//!         }
//!     }
//! }
//!
//! let report = Scenario::new().devices(2).minutes(2).profile("light").seeds(0..1).check(NoHugeDelete).run();
//! assert!(report.is_fine(), "{report}");
//! ```

use std::fmt;
use std::ops::Range;

use crate::checkers::Invariant;
use crate::coverage::Coverage;
use crate::plan::generate::generate;
use crate::plan::profile::{Profile, ProfileError};
use crate::plan::{Millis, Plan};
use crate::run::{Options, run_with};
use crate::verdict::Violation;

/// What users of a set-up do. Called once for each seed with the plan that was drawn for it; what it changes is what
/// will happen. It must be a function of its arguments.
pub trait Workload {
    /// Changes the plan of a seed.
    fn shape(&self, seed: u64, plan: &mut Plan);
}

impl<F: Fn(u64, &mut Plan)> Workload for F {
    fn shape(&self, seed: u64, plan: &mut Plan) {
        self(seed, plan);
    }
}

type Make = Box<dyn Fn() -> Box<dyn Invariant>>;

/// Many runs of one set-up.
pub struct Scenario {
    devices: Option<u64>,
    minutes: Option<u64>,
    profile: String,
    seeds: Range<u64>,
    workloads: Vec<Box<dyn Workload>>,
    invariants: Vec<Make>,
    plan: Option<Plan>,
}

/// What the runs of a scenario came to.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Runs that were made.
    pub runs: u64,
    /// Every violation, with the plan that shows it.
    pub violations: Vec<(Plan, Violation)>,
    /// What was reached.
    pub coverage: Coverage,
    /// Devices times simulated time.
    pub device_ms: u64,
}

impl Report {
    /// Whether no claim was broken.
    pub fn is_fine(&self) -> bool {
        self.violations.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} runs, {} device-hours, {} violations",
            self.runs,
            self.device_ms / 3_600_000,
            self.violations.len()
        )?;
        for (plan, violation) in &self.violations {
            writeln!(f, "seed {}: {violation}\n{plan}", plan.seed)?;
        }
        Ok(())
    }
}

impl Default for Scenario {
    fn default() -> Self {
        Self::new()
    }
}

impl Scenario {
    /// Ten seeds of the light profile.
    pub fn new() -> Self {
        Self {
            devices: None,
            minutes: None,
            profile: "light".to_owned(),
            seeds: 0..10,
            workloads: Vec::new(),
            invariants: Vec::new(),
            plan: None,
        }
    }

    /// So many devices.
    #[must_use]
    pub const fn devices(mut self, devices: u64) -> Self {
        self.devices = Some(devices);
        self
    }

    /// So many hours in which things go wrong.
    #[must_use]
    pub const fn hours(self, hours: u64) -> Self {
        self.minutes(hours * 60)
    }

    /// So many minutes in which things go wrong.
    #[must_use]
    pub const fn minutes(mut self, minutes: u64) -> Self {
        self.minutes = Some(minutes);
        self
    }

    /// A profile that ships, by its name.
    #[must_use]
    pub fn profile(mut self, name: &str) -> Self {
        name.clone_into(&mut self.profile);
        self
    }

    /// Which seeds.
    #[must_use]
    pub const fn seeds(mut self, seeds: Range<u64>) -> Self {
        self.seeds = seeds;
        self
    }

    /// Runs this plan under every seed, instead of plans that are drawn.
    #[must_use]
    pub fn plan(mut self, plan: Plan) -> Self {
        self.plan = Some(plan);
        self
    }

    /// What users do besides, or instead.
    #[must_use]
    pub fn workload(mut self, workload: impl Workload + 'static) -> Self {
        self.workloads.push(Box::new(workload));
        self
    }

    /// A claim, besides our own. Every run gets a copy.
    #[must_use]
    pub fn check(mut self, invariant: impl Invariant + Clone + 'static) -> Self {
        self.invariants.push(Box::new(move || Box::new(invariant.clone())));
        self
    }

    /// Makes the runs. An unknown profile is a mistake in the caller's code.
    ///
    /// # Panics
    ///
    /// If there is no such profile.
    pub fn run(self) -> Report {
        self.try_run().unwrap_or_else(|error| panic!("{error}"))
    }

    /// Makes the runs, or says why the profile cannot be used.
    pub fn try_run(self) -> Result<Report, ProfileError> {
        let mut profile = Profile::named(&self.profile)?;
        if let Some(devices) = self.devices {
            profile.devices = (devices, devices);
        }
        if let Some(minutes) = self.minutes {
            profile.minutes = minutes;
        }
        let mut report = Report::default();
        for seed in self.seeds.clone() {
            let mut plan = match &self.plan {
                Some(plan) => Plan { seed, ..plan.clone() },
                None => generate(seed, &self.profile, &profile),
            };
            self.workloads.iter().for_each(|workload| workload.shape(seed, &mut plan));
            plan.settle_steps();
            plan.until = plan.until.max(plan.steps.last().map_or(Millis(0), |step| Millis(step.at.0 + 1)));
            let invariants = self.invariants.iter().map(|make| make()).collect();
            let verdict = run_with(&plan, Options { invariants, ..Options::default() });
            report.runs += 1;
            report.device_ms += verdict.device_ms;
            report.coverage.add(&verdict.coverage);
            report.violations.extend(verdict.violation.map(|violation| (plan, violation)));
        }
        Ok(report)
    }
}
