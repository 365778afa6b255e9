//! Stories, run through: what a plan says happens, what it expects is seen, and no claim is broken.

use tidegate_sim::run::run;
use tidegate_sim::story;

fn check(text: &str) {
    let plan = story::read(text).unwrap_or_else(|error| panic!("{error}"));
    let verdict = run(&plan);
    if let Some(violation) = verdict.violation {
        let lines: Vec<String> =
            verdict.timeline.iter().map(|m| format!("{} {} {}", m.at_ms, m.device, m.what)).collect();
        panic!("{violation}\n{}\n--\n{}", violation.history.join("\n"), lines.join("\n"));
    }
    println!("{} events, {} ms", verdict.fingerprint.events, verdict.simulated_ms);
}

#[test]
fn an_edit_reaches_the_other_device() {
    check(
        r#"
devices = ["laptop", "server"]
steps = [
  "10s laptop writes Notes/a.txt 'second'",
  "20s laptop renames Notes/b.txt Notes/c.txt",
]
[files]
"laptop:Notes/a.txt" = "first"
"laptop:Notes/b.txt" = "other"
[[conduit]]
name = "notes"
from = "laptop:Notes"
to = "server:Notes"
[[expect]]
tree = "server:Notes"
files = { "a.txt" = "second", "c.txt" = "other" }
[[expect]]
trash = "server:Notes"
holds = ["first"]
"#,
    );
}

#[test]
fn a_disk_that_keeps_whole_seconds_comes_to_rest() {
    check(
        r#"
steps = [
  "10s server touches Notes/a.txt",
  "20s laptop touches Notes/b.txt",
]
[files]
"laptop:Notes/a.txt" = "first"
"laptop:Notes/b.txt" = "other"
[[device]]
name = "laptop"
[[device]]
name = "server"
mtime_step_ns = 2000000000
[[conduit]]
name = "notes"
from = "laptop:Notes"
to = "server:Notes"
[[expect]]
verified = "notes"
"#,
    );
}

#[test]
fn a_device_that_lost_its_index_does_not_hold_up_the_others() {
    check(
        r#"
devices = ["desk", "laptop", "server"]
steps = [
  "10s desk loses-index",
  "60s laptop is-killed for=5s",
  "90s laptop writes Notes/a.txt 'second'",
]
[files]
"laptop:Notes/a.txt" = "first"
[[conduit]]
name = "notes"
from = "laptop:Notes"
to = "server:Notes"
[[expect]]
tree = "server:Notes"
files = { "a.txt" = "second" }
"#,
    );
}

#[test]
#[allow(clippy::disallowed_methods, reason = "the manual is a file; runs touch none")]
fn the_stories_of_the_manual_are_true() {
    let manual = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/SIMULATOR.md");
    let manual = std::fs::read_to_string(manual).unwrap();
    let stories = manual.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    assert_eq!(stories.map(check).count(), 2);
}
