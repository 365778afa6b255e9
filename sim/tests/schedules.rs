//! Schedules under the simulated clock: a run at each interval, missed ones become one, none while paused, and no two
//! at a time.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use tidegate_protocol::file_sync::JobKey;
use tidegate_sim::checkers::{Invariant, Scene, Seen};
use tidegate_sim::ghost::Ghost;
use tidegate_sim::scenario::Scenario;
use tidegate_sim::story;
use tidegate_sim::verdict::Violation;
use tidegate_sim::witness::Said;

/// Resolves within this time of the last one belong to the same run.
const ONE_RUN_MS: u64 = 60_000;

/// When runs of the only conduit began; none may begin while a job of another one is at work.
#[derive(Clone, Default)]
struct Ticks {
    began_ms: Arc<Mutex<Vec<u64>>>,
    last_ms: Option<u64>,
    at_work: BTreeSet<JobKey>,
}

impl Invariant for Ticks {
    fn name(&self) -> &'static str {
        "NO_OVERLAP"
    }

    fn saw(&mut self, seen: &Seen<'_>, _: &Ghost, scene: &dyn Scene, wrong: &mut Vec<Violation>) {
        let Seen::Said { said, .. } = seen else { return };
        match said {
            Said::Leg { job, .. } => drop(self.at_work.insert(*job)),
            Said::LegEnded { job, .. } => drop(self.at_work.remove(job)),
            Said::Resolves { .. } => {
                let now = scene.now().0;
                if self.last_ms.replace(now).is_none_or(|last| now > last + ONE_RUN_MS) {
                    self.began_ms.lock().expect("a run has one thread").push(now);
                }
                if let Some(job) = self.at_work.first() {
                    wrong.push(Violation::new(self.name(), "overlap", format!("{job} is at work")));
                }
            }
            _ => {}
        }
    }
}

/// Runs a story under a few seeds; the minutes at which runs began.
fn check(text: &str) -> Vec<Vec<u64>> {
    let plan = story::read(text).unwrap_or_else(|error| panic!("{error}"));
    let run = |seed| {
        let ticks = Ticks::default();
        let report = Scenario::new().plan(plan.clone()).seeds(seed..seed + 1).check(ticks.clone()).run();
        assert!(report.is_fine(), "{report}");
        let began = ticks.began_ms.lock().expect("a run has one thread");
        began.iter().map(|ms| (ms + 30_000) / 60_000).collect()
    };
    (0..3).map(run).collect()
}

#[test]
fn an_interval_is_kept_missed_runs_become_one_and_a_pause_holds_all() {
    let minutes = check(
        r#"
devices = ["laptop", "server"]
steps = [
  "2m laptop writes Notes/a.txt 'second'",
  "17m laptop is-stopped for=21m",
  "20m laptop writes Notes/a.txt 'third'",
  "50m laptop pauses notes",
  "51m laptop writes Notes/a.txt 'fourth'",
  "68m laptop resumes notes",
]
until = "75m"
[files]
"laptop:Notes/a.txt" = "first"
[[conduit]]
name = "notes"
from = "laptop:Notes"
to = "server:Notes"
runs = "every 5m"
[[expect]]
at = "4m"
tree = "server:Notes"
files = { "a.txt" = "first" }
[[expect]]
at = "6m"
tree = "server:Notes"
files = { "a.txt" = "second" }
[[expect]]
at = "37m"
tree = "server:Notes"
files = { "a.txt" = "second" }
[[expect]]
at = "39m"
tree = "server:Notes"
files = { "a.txt" = "third" }
[[expect]]
at = "67m"
tree = "server:Notes"
files = { "a.txt" = "third" }
[[expect]]
at = "69m"
tree = "server:Notes"
files = { "a.txt" = "fourth" }
"#,
    );
    for began in minutes {
        let before_the_end: Vec<u64> = began.into_iter().filter(|minute| *minute < 75).collect();
        assert_eq!(before_the_end, [0, 5, 10, 15, 38, 43, 48, 68, 73]);
    }
}

#[test]
fn a_run_that_lasts_longer_than_the_interval_is_not_overtaken() {
    check(
        r#"
devices = ["laptop", "server"]
steps = [
  "1s laptop writes Pics/a.raw bytes=200000",
  "90s laptop writes Pics/b.raw bytes=200000",
]
until = "6m"
[[location]]
at = "laptop:Pics"
[[conduit]]
name = "pics"
from = "laptop:Pics"
to = "server:Pics"
runs = "every 10s"
limit = "2kB"
[[expect]]
same = ["laptop:Pics", "server:Pics"]
[[expect]]
verified = "pics"
"#,
    );
}
