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
fn edits_of_both_ends_meet_and_a_person_decides_what_was_held() {
    check(
        r#"
devices = ["laptop", "server"]
steps = [
  "10s laptop writes Notes/new.txt 'from the laptop'",
  "10s server writes Notes/other.txt 'from the server'",
  "60s laptop is-cut-from server for=60s",
  "70s laptop writes Notes/a.txt 'of the laptop'",
  "75s server writes Notes/a.txt 'of the server'",
  "76s server deletes Notes/b.txt",
  "240s laptop resolves notes a.txt keep=target",
]
[files]
"laptop:Notes/a.txt" = "first"
"laptop:Notes/b.txt" = "goes"
[[conduit]]
name = "notes"
from = "laptop:Notes"
to = "server:Notes"
mode = "bidirectional"
strategy = "prompt-user"
[[expect]]
at = "230s"
tree = "laptop:Notes"
files = { "a.txt" = "of the laptop", "new.txt" = "from the laptop", "other.txt" = "from the server" }
[[expect]]
tree = "laptop:Notes"
files = { "a.txt" = "of the server", "new.txt" = "from the laptop", "other.txt" = "from the server" }
[[expect]]
same = ["laptop:Notes", "server:Notes"]
[[expect]]
trash = "laptop:Notes"
holds = ["of the laptop", "goes"]
"#,
    );
}

#[test]
fn what_is_deleted_on_one_corner_of_a_triangle_stays_deleted() {
    check(
        r#"
devices = ["ana", "ben", "cleo"]
steps = [
  "60s ana is-isolated for=60s",
  "70s ben deletes Notes/a.txt",
  "80s cleo writes Notes/b.txt 'later'",
  "90s ana writes Notes/c.txt 'new'",
]
[files]
"ana:Notes/a.txt" = "goes"
"ana:Notes/b.txt" = "first"
[[conduit]]
name = "ab"
from = "ana:Notes"
to = "ben:Notes"
mode = "bidirectional"
[[conduit]]
name = "bc"
from = "ben:Notes"
to = "cleo:Notes"
mode = "bidirectional"
[[conduit]]
name = "ca"
from = "cleo:Notes"
to = "ana:Notes"
mode = "bidirectional"
[[expect]]
tree = "ana:Notes"
files = { "b.txt" = "later", "c.txt" = "new" }
[[expect]]
same = ["ana:Notes", "ben:Notes"]
[[expect]]
same = ["ben:Notes", "cleo:Notes"]
"#,
    );
}

#[test]
fn a_run_that_is_undone_leaves_both_ends_as_they_were_before_it() {
    check(
        r#"
devices = ["laptop", "server"]
steps = [
  "60s laptop deletes Notes/a.txt",
  "61s laptop syncs notes",
  "120s laptop undoes notes",
]
[files]
"laptop:Notes/a.txt" = "first"
[[conduit]]
name = "notes"
from = "laptop:Notes"
to = "server:Notes"
mode = "bidirectional"
[[expect]]
at = "110s"
tree = "server:Notes"
files = {}
[[expect]]
tree = "server:Notes"
files = { "a.txt" = "first" }
[[expect]]
same = ["laptop:Notes", "server:Notes"]
"#,
    );
}

#[test]
fn what_is_put_back_from_the_trash_travels_like_an_edit_of_whoever_did_it() {
    check(
        r#"
devices = ["laptop", "server"]
steps = [
  "10s laptop deletes Notes/d",
  "60s server restores Notes/d/old.txt",
  "2m laptop deletes Notes/gone.txt",
  "3m server restores Notes/nothing-of-that-name",
]
[files]
"laptop:Notes/d/old.txt" = "once deleted"
"laptop:Notes/gone.txt" = "deleted for good"
"laptop:Notes/kept.txt" = "kept"
[[conduit]]
name = "notes"
from = "laptop:Notes"
to = "server:Notes"
mode = "bidirectional"
[[expect]]
tree = "laptop:Notes"
files = { "d/old.txt" = "once deleted", "kept.txt" = "kept" }
[[expect]]
same = ["laptop:Notes", "server:Notes"]
[[expect]]
trash = "server:Notes"
holds = ["deleted for good"]
"#,
    );
}

#[test]
fn a_chosen_part_of_the_source_is_on_the_target_and_goes_with_it() {
    check(
        r#"
devices = ["home", "phone"]
steps = [
  "60s home writes Pics/2026/b.raw 'second'",
  "60s home writes Pics/2025/c.raw 'not chosen'",
  "70s home deletes Pics/2026/a.raw",
]
[files]
"home:Pics/2026/a.raw" = "first"
"home:Pics/2025/old.raw" = "stays at home"
[[conduit]]
name = "pics"
from = "home:Pics"
to = "phone:Pics"
mode = "selective"
select = ["2026"]
[[expect]]
at = "50s"
tree = "phone:Pics"
files = { "2026/a.raw" = "first" }
[[expect]]
tree = "phone:Pics"
files = { "2026/b.raw" = "second" }
[[expect]]
trash = "phone:Pics"
holds = ["first"]
"#,
    );
}

#[test]
fn what_is_pinned_stays_and_what_is_fetched_stays_for_a_while() {
    check(
        r#"
devices = ["home", "phone"]
steps = [
  "60s home pins pics 2025",
  "120s phone fetches pics 2024/c.raw stays=2m",
  "300s home unpins pics 2025",
]
until = "6m"
[files]
"home:Pics/2026/a.raw" = "a"
"home:Pics/2025/b.raw" = "b"
"home:Pics/2024/c.raw" = "c"
"home:Pics/2024/d.raw" = "d"
[[conduit]]
name = "pics"
from = "home:Pics"
to = "phone:Pics"
mode = "selective"
select = ["2026"]
runs = "every 10s"
[[expect]]
at = "50s"
tree = "phone:Pics"
files = { "2026/a.raw" = "a" }
[[expect]]
at = "110s"
tree = "phone:Pics"
files = { "2026/a.raw" = "a", "2025/b.raw" = "b" }
[[expect]]
at = "170s"
tree = "phone:Pics"
files = { "2026/a.raw" = "a", "2025/b.raw" = "b", "2024/c.raw" = "c" }
[[expect]]
at = "290s"
tree = "phone:Pics"
files = { "2026/a.raw" = "a", "2025/b.raw" = "b" }
[[expect]]
tree = "phone:Pics"
files = { "2026/a.raw" = "a" }
"#,
    );
}

/// Time begins at 22:13:20 in UTC, a few simulated seconds of which are spent on pairing.
#[test]
fn a_limit_by_time_of_day_takes_effect_at_its_hour_in_the_middle_of_a_file() {
    for (limit, bytes, at_minute, there) in [
        // 600 kB at 2 kB/s take five minutes.
        ("22:00,2kB", 600_000, 4, false),
        ("22:00,2kB", 600_000, 6, true),
        // At 22:16 the rest goes at once; in another zone the hours are others.
        ("22:00,2kB 22:16,off", 600_000, 1, false),
        ("22:00,2kB 22:16,off", 600_000, 4, true),
        ("23:00,2kB 23:16,off +01:00", 600_000, 4, true),
        ("22:00,2kB 22:16,off", 2_500_000, 4, true),
        // What began fast goes on slowly.
        ("22:00,2kB 22:15,1kB", 600_000, 6, false),
        ("22:00,off 22:16,1kB", 600_000, 1, true),
    ] {
        let files = if there { "{ \"a.raw\" = \"<long>\" }" } else { "{}" };
        let text = "x".repeat(bytes);
        check(
            &format!(
                r#"
devices = ["laptop", "server"]
steps = ["1s laptop syncs pics"]
until = "8m"
[files]
"laptop:Pics/a.raw" = "<long>"
[[conduit]]
name = "pics"
from = "laptop:Pics"
to = "server:Pics"
runs = "manual"
limit = "{limit}"
[[expect]]
at = "{at_minute}m"
tree = "server:Pics"
files = {files}
"#
            )
            .replace("<long>", &text),
        );
    }
}

#[test]
#[allow(clippy::disallowed_methods, reason = "the manual is a file; runs touch none")]
fn the_stories_of_the_manual_are_true() {
    let manual = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/SIMULATOR.md");
    let manual = std::fs::read_to_string(manual).unwrap();
    let stories = manual.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    assert_eq!(stories.map(check).count(), 2);
}
