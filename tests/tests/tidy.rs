//! The house rules that no compiler checks: arrows between packages, what a room may name, the form of files,
//! and that documents speak of what is there.
//!
//! Everything is read from the tree as text. What the compiler or clippy can check is not repeated here.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The packages and what each may depend on: one line, and the tests beside it.
const ARROWS: [(&str, &str, &[&str]); 5] = [
    ("protocol", "tidegate-protocol", &[]),
    ("storage", "tidegate-storage", &["tidegate-protocol"]),
    ("node", "tidegate", &["tidegate-protocol", "tidegate-storage"]),
    ("sim", "tidegate-sim", &["tidegate-protocol", "tidegate-storage", "tidegate"]),
    ("tests", "tidegate-tests", &["tidegate-protocol", "tidegate-storage", "tidegate", "tidegate-sim"]),
];

/// What touches the outside world is optional in `node`, behind the feature `os`.
const OUTSIDE: [&str; 12] = [
    "axum",
    "clap",
    "getrandom",
    "hyper",
    "indicatif",
    "libp2p",
    "notify",
    "quinn",
    "rustls",
    "rustix",
    "spake2",
    "tokio",
];

/// What the simulator must build without, by the beginning of a package's name.
const NOT_IN_SIM: [&str; 6] = ["libp2p", "quinn", "tokio", "notify", "axum", "hyper"];

/// Rooms and the words they may not use, outside comments. A file that ends in an exception may.
const ROOMS: [Room; 4] = [
    Room {
        dir: "protocol/src",
        words: &["std::fs", "std::net", "std::thread", "SystemTime", "Instant::now"],
        but: &[],
    },
    Room {
        dir: "node/src/core",
        words: &[
            "std::fs",
            "std::net",
            "std::thread",
            "SystemTime",
            "Instant::now",
            "tokio",
            "async ",
            ".await",
            "HashMap",
        ],
        but: &[],
    },
    Room {
        dir: "node/src/jobs",
        words: &["std::fs", "std::net", "std::thread", "SystemTime", "Instant::now", "getrandom", "tokio"],
        but: &[],
    },
    Room {
        dir: "storage/src",
        words: &["std::fs", "rustix", "std::thread", "SystemTime", "Instant::now"],
        but: &[
            "disk/os/mod.rs",
            "disk/os/file.rs",
            "disk/os/tests.rs",
            "disk/lanes.rs",
            "store/open.rs",
            "store/mod.rs",
        ],
    },
];

/// Files that may sleep, and why. Everybody else waits for what they wait for.
const MAY_SLEEP: [(&str, &str); 6] = [
    ("node/src/os/clock.rs", "implements Clock::sleep"),
    ("node/src/lab/", "looks again at another process until a condition holds or a limit is over"),
    ("node/src/cli/", "a verb that follows the daemon asks it again until a condition holds"),
    ("node/src/os/net/pairing/", "a code ends by its age; a crowded door is knocked at again until a deadline"),
    ("node/src/api/server.rs", "cuts off answers that are still under way when the node ends"),
    ("node/src/serve/notify.rs", "tells the service manager at its interval that the node lives"),
];

/// Lines of a file: from the first number on a note is printed, beyond the second the test fails.
const LINES: (usize, usize) = (400, 600);

struct Room {
    dir: &'static str,
    words: &'static [&'static str],
    but: &'static [&'static str],
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the workspace").to_owned()
}

fn text(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every file with this ending below a directory of the workspace, as a path from the root.
fn files(dir: &str, ending: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![root().join(dir)];
    while let Some(dir) = open.pop() {
        let Ok(entries) = std::fs::read_dir(&dir) else { continue };
        for entry in entries.map(|entry| entry.expect("a directory that was opened can be read")) {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            if path.is_dir() && !name.starts_with('.') && name != "target" {
                open.push(path);
            } else if name.ends_with(ending) {
                let relative = path.strip_prefix(root()).expect("it was found below the root");
                found.push(relative.to_string_lossy().into_owned());
            }
        }
    }
    found.sort();
    found
}

fn sources() -> Vec<String> {
    ARROWS.iter().flat_map(|(dir, ..)| files(dir, ".rs")).collect()
}

fn documents() -> Vec<String> {
    let mut found = files("docs", ".md");
    found.push("README.md".to_owned());
    found
}

/// Lines of code with their numbers, without those that are comment alone.
fn code(path: &str) -> Vec<(usize, String)> {
    let lines = text(path);
    let lines = lines.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"));
    lines.map(|(at, line)| (at + 1, line.to_owned())).collect()
}

fn manifest(dir: &str) -> toml::Table {
    text(&format!("{dir}/Cargo.toml")).parse().unwrap_or_else(|error| panic!("{dir}/Cargo.toml: {error}"))
}

/// Dependencies of every kind, also those of one platform.
fn dependencies(manifest: &toml::Table) -> Vec<(String, toml::Value)> {
    let mut tables = vec![manifest];
    if let Some(targets) = manifest.get("target").and_then(toml::Value::as_table) {
        tables.extend(targets.values().filter_map(toml::Value::as_table));
    }
    let kinds = ["dependencies", "dev-dependencies", "build-dependencies"];
    let of_kind = |table: &&toml::Table, kind: &str| table.get(kind).and_then(toml::Value::as_table).cloned();
    let found = tables.iter().flat_map(|table| kinds.iter().filter_map(move |kind| of_kind(table, kind)));
    found.flatten().collect()
}

/// Fails with everything that is wrong at once.
fn check(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn packages_depend_on_one_another_only_along_the_arrows() {
    let workspace: toml::Table = text("Cargo.toml").parse().expect("the manifest that cargo has just read");
    let members = workspace["workspace"]["members"].as_array().expect("members are a list").clone();
    let members: Vec<&str> = members.iter().filter_map(toml::Value::as_str).collect();
    assert_eq!(members, ARROWS.map(|(dir, ..)| dir), "a new package needs its arrows stated here");
    let names = ARROWS.map(|(_, name, _)| name);
    let mut wrong = Vec::new();
    for (dir, name, allowed) in ARROWS {
        let manifest = manifest(dir);
        assert_eq!(manifest["package"]["name"].as_str(), Some(name));
        for (dependency, _) in dependencies(&manifest) {
            if names.contains(&dependency.as_str()) && !allowed.contains(&dependency.as_str()) {
                wrong.push(format!("{name} -> {dependency} is a new arrow"));
            }
        }
    }
    check(&wrong);
}

#[test]
fn the_outside_world_is_optional_in_the_node() {
    let optional = |value: &toml::Value| value.get("optional").and_then(toml::Value::as_bool) == Some(true);
    let dependencies = dependencies(&manifest("node"));
    let wrong = dependencies.iter().filter(|(name, value)| OUTSIDE.contains(&name.as_str()) && !optional(value));
    check(&wrong.map(|(name, _)| format!("{name} is not behind the feature os")).collect::<Vec<_>>());
}

#[test]
fn the_simulator_builds_without_transport_and_runtime() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let tree = Command::new(cargo)
        .args(["tree", "--package", "tidegate-sim", "--offline", "--locked", "--prefix", "none", "--format", "{p}"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let tree = String::from_utf8_lossy(&tree.stdout).into_owned();
    assert!(tree.contains("tidegate v") && tree.contains("redb v"), "it drives the node over the real store:\n{tree}");
    let wrong: BTreeSet<String> =
        tree.lines().filter(|line| NOT_IN_SIM.iter().any(|name| line.starts_with(name))).map(str::to_owned).collect();
    check(&wrong.into_iter().collect::<Vec<_>>());
}

#[test]
fn every_dependency_has_a_line_in_the_decisions() {
    let reasons = text("docs/decisions/dependencies.md");
    let own = ARROWS.map(|(_, name, _)| name);
    let used: BTreeSet<String> =
        ARROWS.iter().flat_map(|(dir, ..)| dependencies(&manifest(dir))).map(|(name, _)| name).collect();
    let wrong = used.iter().filter(|name| !own.contains(&name.as_str()) && !reasons.contains(&format!("`{name}`")));
    check(&wrong.map(|name| format!("{name} has no line in docs/decisions/dependencies.md")).collect::<Vec<_>>());
}

#[test]
fn rooms_name_nothing_that_is_not_theirs() {
    let mut wrong = Vec::new();
    for Room { dir, words, but } in ROOMS {
        let mine = files(dir, ".rs").into_iter().filter(|file| !file.contains("/tests/"));
        for file in mine.filter(|file| !but.iter().any(|but| file.ends_with(but))) {
            for (number, line) in code(&file) {
                let used = words.iter().filter(|word| line.contains(**word));
                wrong.extend(used.map(|word| format!("{file}:{number}: {word} does not belong into {dir}")));
            }
        }
    }
    check(&wrong);
}

#[test]
fn every_source_file_says_what_it_is_and_is_of_a_length_that_can_be_read() {
    let mut wrong = Vec::new();
    for file in sources() {
        let text = text(&file);
        let lines = text.lines().count();
        if !text.starts_with("//! ") {
            wrong.push(format!("{file} does not open with //!"));
        }
        if lines > LINES.1 {
            wrong.push(format!("{file} has {lines} lines"));
        } else if lines > LINES.0 {
            println!("note: {file} has {lines} lines");
        }
    }
    check(&wrong);
}

#[test]
fn nothing_is_left_open_or_switched_off() {
    // Put together here, so that this file does not find itself.
    let marks = [
        concat!("to", "do!("),
        concat!("unim", "plemented!("),
        concat!("#[ig", "nore"),
        concat!("FIX", "ME"),
        concat!("TO", "DO"),
    ];
    let mut wrong = Vec::new();
    for file in sources() {
        for (at, line) in text(&file).lines().enumerate() {
            let found = marks.iter().filter(|mark| line.contains(**mark));
            wrong.extend(found.map(|mark| format!("{file}:{}: {mark}", at + 1)));
        }
    }
    check(&wrong);
}

#[test]
fn nobody_sleeps_where_a_condition_belongs() {
    let mut wrong = Vec::new();
    for file in ["protocol/src", "storage/src", "node/src"].iter().flat_map(|dir| files(dir, ".rs")) {
        if MAY_SLEEP.iter().any(|(path, _)| file.starts_with(path)) {
            continue;
        }
        let sleeps =
            code(&file).into_iter().filter(|(_, l)| l.contains("thread::sleep(") || l.contains("time::sleep("));
        wrong.extend(sleeps.map(|(number, _)| format!("{file}:{number} sleeps")));
    }
    check(&wrong);
}

#[test]
fn every_package_bans_the_lenient_decoder() {
    let strict = |(dir, ..): &(&str, &str, &[&str])| {
        let bans: toml::Table = text(&format!("{dir}/clippy.toml")).parse().expect("clippy.toml is TOML");
        let banned = bans.get("disallowed-methods").and_then(toml::Value::as_array).cloned().unwrap_or_default();
        let is_banned =
            |method: &str| banned.iter().any(|ban| ban.get("path").and_then(toml::Value::as_str) == Some(method));
        is_banned("postcard::from_bytes") && is_banned("postcard::take_from_bytes")
    };
    let wrong = ARROWS.iter().filter(|package| !strict(package));
    check(&wrong.map(|(dir, ..)| format!("{dir}/clippy.toml allows it")).collect::<Vec<_>>());
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut wrong = Vec::new();
    for file in documents() {
        let here = root().join(&file).parent().expect("a file lies in a directory").to_owned();
        for part in text(&file).split("](").skip(1) {
            let link = part.split([')', '#', ' ']).next().unwrap_or_default();
            let elsewhere = link.is_empty() || link.contains("://") || link.starts_with("mailto:");
            if !elsewhere && !here.join(link).exists() {
                wrong.push(format!("{file} links to {link}, which is not there"));
            }
        }
    }
    check(&wrong);
}

#[test]
fn files_that_documents_name_are_there() {
    let mut wrong = Vec::new();
    for file in documents() {
        let text = text(&file);
        // Fences come in pairs of three, so every second piece is a span of code, or the text of a block.
        for span in text.split('`').skip(1).step_by(2) {
            let named =
                ARROWS.iter().any(|(dir, ..)| span.starts_with(&format!("{dir}/"))) || span.starts_with("configs/");
            let plain = span.chars().all(|c| c.is_ascii_alphanumeric() || "/_-.".contains(c));
            if named && plain && !root().join(span).exists() {
                wrong.push(format!("{file} names {span}, which is not there"));
            }
        }
    }
    check(&wrong);
}

#[test]
fn the_example_configuration_is_there() {
    assert!(root().join("configs/node.toml").is_file());
}
