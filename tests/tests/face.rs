//! The face of a real node: what a wrong file, argument or state leads to, and what is said of it.
//!
//! Only real processes; tables of keys and of problems are tested in the node's package.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tidegate::lab::{self, Device, Done, Lab};
use tidegate_tests::trusted::{PATIENCE, Two, add, assert_refused, await_device, configure, error_of};

const PROGRAM: &str = env!("CARGO_BIN_EXE_tidegate-under-test");

/// A device that was started once and stopped, so that its home is complete.
fn stopped(lab: &Lab, name: &str) -> Device {
    let mut device = lab.device(name).unwrap();
    device.start().unwrap();
    device.stop().unwrap();
    device
}

/// Runs `serve` where it must end by itself.
fn serve(device: &Device) -> Done {
    device.run(["serve", "--name", device.name(), "--listen", "127.0.0.1:0"]).unwrap()
}

/// Files that every start may write: the log of the lab, and the number of the process that looked last.
const WRITTEN_BY_A_LOOK: [&str; 2] = ["lab.log", "lock"];

/// Every other file of a home with its length and the hash of its content.
fn home(device: &Device) -> Vec<(String, usize, lab::Leaf)> {
    let mut files: Vec<(String, usize, lab::Leaf)> = fs::read_dir(device.home())
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().unwrap().is_file())
        .filter(|entry| !WRITTEN_BY_A_LOOK.iter().any(|name| entry.file_name() == *name))
        .map(|entry| {
            let content = fs::read(entry.path()).unwrap();
            (entry.file_name().to_string_lossy().into_owned(), content.len(), lab::Leaf::file(&content))
        })
        .collect();
    files.sort_by(|one, other| one.0.cmp(&other.0));
    files
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// The part of a status that does not change by itself.
fn lasting(device: &Device) -> Value {
    let status = device.json(["status"]).unwrap();
    let part = |list: &str, keys: &[&str]| -> Vec<Value> {
        let all = status[list].as_array().unwrap();
        all.iter().map(|one| keys.iter().map(|key| one[*key].clone()).collect()).collect()
    };
    json!({
        "device": [status["device"]["id"], status["device"]["name"]],
        "library": status["library"],
        "devices": part("devices", &["id", "name", "member", "quarantined"]),
        "locations": part("locations", &["id", "name", "device", "root", "files", "directories", "bytes", "grants"]),
        "conduits": part("conduits", &["id", "name", "source", "target", "mode", "schedule", "enabled", "last"]),
    })
}

#[test]
fn a_wrong_configuration_starts_nothing_and_names_its_line_and_what_was_meant() {
    let lab = Lab::new(PROGRAM).unwrap();
    let device = lab.device("desk").unwrap();
    for (text, says) in [
        ("[network]\nlistn = \"x\"\n", &["config.toml:2:", "did you mean network.listen?"][..]),
        ("[network]\nmdns = \"yes\"\n", &["config.toml:2:", "true or false"]),
        ("[network]\nlisten = \":99999\"\n", &["config.toml:2:"]),
        ("[netwrk]\n", &["config.toml:1:", "did you mean network?"]),
        ("[network\n", &["config.toml:1:", "not TOML"]),
        ("[network]\nmdns = true\n[network]\nmdns = true\n", &["config.toml:3:"]),
        ("[[device]]\nname = \"x\"\nid = \"short\"\n", &["config.toml:"]),
    ] {
        configure(&device, text).unwrap();
        let before = home(&device);
        for done in [serve(&device), device.run(["config", "check"]).unwrap()] {
            assert_refused(&done, 13, &["error[CONFIG]: ", "nothing was started or changed"]);
            assert_refused(&done, 13, says);
        }
        assert_eq!(home(&device), before, "{text}");
    }
}

#[test]
fn a_configuration_from_another_systems_editor_is_read() {
    let lab = Lab::new(PROGRAM).unwrap();
    let device = lab.device("desk").unwrap();
    configure(&device, "\u{feff}[network]\r\nup_limit = \"1 MB\"\r\n").unwrap();
    let shown = device.must(["config", "show", "--origin"]).unwrap().stdout;
    let line = |key: &str| shown.lines().find(|line| line.starts_with(key)).unwrap().to_owned();
    assert!(line("network.up_limit").contains("config.toml"), "{shown}");
    assert!(line("network.mdns").contains("TIDEGATE_NETWORK_MDNS"), "{shown}");
    assert!(line("network.idle").contains("default"), "{shown}");
}

#[test]
fn a_key_file_that_is_not_as_it_must_be_is_refused_and_never_made_anew() {
    let lab = Lab::new(PROGRAM).unwrap();
    let device = stopped(&lab, "desk");
    let key = device.home().join("identity.key");
    let whole = fs::read(&key).unwrap();
    let refused = |says: &[&str]| {
        let before = home(&device);
        let done = serve(&device);
        assert_refused(&done, 13, &["error[KEY_FILE]: ", "nothing was started or changed"]);
        assert_refused(&done, 13, says);
        assert_eq!(home(&device), before);
    };
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    refused(&[&format!("chmod 600 {}", key.display())]);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&key, &whole[..whole.len() - 1]).unwrap();
    refused(&["restore", "from a backup"]);
    fs::write(&key, b"").unwrap();
    refused(&["restore", "from a backup"]);
    fs::remove_file(&key).unwrap();
    refused(&["is missing", "restore identity.key from a backup", "do not: "]);
}

#[test]
fn a_damaged_index_is_moved_aside_and_a_mirror_works_again_with_nothing_deleted() {
    let mut two = Two::mirrored(PROGRAM).unwrap();
    two.desk.must(["sync", "photos"]).unwrap();
    two.nas.must(["library", "show"]).unwrap();
    let before = two.disks().unwrap();
    let index = two.nas.home().join("index.redb");
    let damages: [fn(&mut Vec<u8>); 3] = [
        Vec::clear,
        |bytes| bytes.truncate(bytes.len() / 2),
        // Behind the page that says whose file it is.
        |bytes| bytes.iter_mut().skip(4096).for_each(|byte| *byte ^= 0x55),
    ];
    for (number, damage) in damages.into_iter().enumerate() {
        two.nas.stop().unwrap();
        let mut bytes = fs::read(&index).unwrap();
        damage(&mut bytes);
        fs::write(&index, &bytes).unwrap();
        two.nas.start().unwrap();
        let aside = fs::read_dir(two.nas.home()).unwrap().map(|e| e.unwrap()).find(|e| {
            e.file_name().to_string_lossy().starts_with("index.redb.damaged") && fs::read(e.path()).unwrap() == bytes
        });
        // A file of no bytes is a new one: there is nothing in it to keep.
        assert!(aside.is_some() || bytes.is_empty(), "damage {number}: {}", two.nas.log());
        assert_eq!(two.disks().unwrap(), before, "damage {number}");
    }
    // As the operator's handbook says: pair again, take the old marker away, add the location again.
    two.desk.must(["-y", "conduit", "remove", "photos"]).unwrap();
    two.desk.must(["-y", "device", "revoke", "nas"]).unwrap();
    two.desk.pair(&two.nas).unwrap();
    fs::remove_file(two.backup.join(".tidegate/id")).unwrap();
    add(&two.nas, &two.backup, "Backup2", Some("desk=delete".to_owned())).unwrap();
    two.desk
        .await_status("the new location", PATIENCE, |status| {
            status["locations"].as_array().unwrap().iter().any(|location| location["name"] == "Backup2")
        })
        .unwrap();
    two.desk.must(["conduit", "create", "again", "desk:Photos", "nas:Backup2"]).unwrap();
    lab::write(&two.photos, "new", b"after the damage").unwrap();
    two.desk.must(["sync", "again", "--wait", "60s"]).unwrap();
    let (source, target) = two.disks().unwrap();
    assert_eq!(source, target);
    assert!(before.0.iter().all(|(path, leaf)| source.get(path) == Some(leaf)));
}

#[test]
fn an_index_of_another_device_and_a_file_that_is_no_index_are_refused_and_left_alone() {
    let lab = Lab::new(PROGRAM).unwrap();
    let (desk, mut nas) = (stopped(&lab, "desk"), lab.device("nas").unwrap());
    nas.start().unwrap();
    let library = nas.json(["status"]).unwrap()["library"].clone();
    nas.stop().unwrap();
    fs::copy(nas.home().join("index.redb"), desk.home().join("index.redb")).unwrap();
    let before = home(&desk);
    let done = serve(&desk);
    assert_refused(&done, 12, &["error[DATABASE_FOREIGN]: ", "nothing was started or changed", "do not: "]);
    // Opening touches a page; whose it is and what it holds stays: its own device still takes it.
    assert_eq!(home(&desk).iter().map(|f| &f.0).collect::<Vec<_>>(), before.iter().map(|f| &f.0).collect::<Vec<_>>());
    fs::copy(desk.home().join("index.redb"), nas.home().join("index.redb")).unwrap();
    nas.start().unwrap();
    assert_eq!(nas.json(["status"]).unwrap()["library"], library);
    fs::write(desk.home().join("index.redb"), "notes of a person\n".repeat(1000)).unwrap();
    let before = home(&desk);
    assert_refused(&serve(&desk), 12, &["error[DATABASE_FOREIGN]: ", "nothing was started or changed"]);
    assert_eq!(home(&desk), before);
}

#[test]
fn a_second_daemon_on_one_state_is_refused_with_the_first_ones_pid() {
    let lab = Lab::new(PROGRAM).unwrap();
    let mut device = lab.device("desk").unwrap();
    device.start().unwrap();
    let pid = device.pid().unwrap().to_string();
    assert_refused(&serve(&device), 11, &["error[LOCKED]: ", &pid]);
    assert_eq!(device.run(["health"]).unwrap().code, 0);
}

#[test]
fn wrong_words_are_refused_with_the_exit_code_of_their_kind() {
    let two = Two::mirrored(PROGRAM).unwrap();
    let before = (lasting(&two.desk), two.disks().unwrap());
    let (long, huge) = ("x".repeat(5_000), "x".repeat(100_000));
    for (words, code, says) in [
        (&["sync"][..], 2, "error[USAGE]: "),
        (&["snyc"], 2, "error[USAGE]: "),
        (&["sync", "photos", "--wait", "soon"], 2, "error[USAGE]: "),
        (&["location", "allow", "Photos", "nas=everything"], 2, "error[USAGE]: "),
        (&["conduit", "create", "new", "desk:Photos", "nas:Backup", "--mode", "teleport"], 2, "error[USAGE]: "),
        (&["sync", "nothing"], 10, "error[NO_SUCH_NAME]: "),
        (&["plan", "$(touch pwned)"], 10, "error[NO_SUCH_NAME]: "),
        (&["plan", "--", "-rf"], 10, "error[NO_SUCH_NAME]: "),
        (&["plan", "../../etc/passwd"], 10, "error[NO_SUCH_NAME]: "),
        (&["plan", "\u{1b}[2J\u{202e}"], 10, "error[NO_SUCH_NAME]: "),
        (&["device", "show", "nobody"], 10, "error[NO_SUCH_NAME]: "),
        (&["location", "show", "nas:Nowhere"], 10, "error[NO_SUCH_NAME]: "),
        (&["location", "allow", "Photos", "nobody=read"], 10, "error[NO_SUCH_NAME]: "),
        (&["location", "allow", "nas:Backup", "desk=read"], 8, "error[REFUSED]: "),
        (&["gen", "show", "photos", "99"], 10, "error[NO_SUCH_NAME]: "),
        (&["approve", "deadbeef"], 1, "error[PLAN_STALE]: "),
        (&["sync", "photos", "--plan", "deadbeef"], 1, "error[PLAN_STALE]: "),
        (&["conduit", "set", "photos", "--limit", "19:00,off 08:00,1MB"], 2, "error[USAGE]: "),
        (&["conduit", "set", "photos", "--bandwidth-limit", "25:00,1MB"], 2, "error[USAGE]: "),
        (&["conduit", "set", "photos", "--limit", "10"], 2, "error[USAGE]: "),
        (&["conduit", "create", "photos", "desk:Photos", "nas:Backup"], 8, "error["),
        (&["location", "add", "/nowhere/at/all"], 8, "error[ROOT_REFUSED]: "),
        (&["location", "add", "/proc"], 8, "error[ROOT_REFUSED]: "),
        (&["device", "revoke", "nas"], 2, "error[NEEDS_ANSWER]: "),
        (&["pair", "join"], 2, "error[NEEDS_ANSWER]: "),
        (&["plan", &long], 10, "error[NO_SUCH_NAME]: "),
        (&["plan", &huge], 2, "error[USAGE]: "),
    ] {
        let done = two.desk.run(words).unwrap();
        assert_refused(&done, code, &[says]);
        let raw = |c: char| c.is_control() && c != '\n' || c == '\u{202e}';
        assert!(!done.stderr.contains(raw) && !done.stdout.contains(raw), "{words:?} reaches the terminal: {done}");
        assert_eq!(done.stdout, "", "{words:?}");
    }
    assert_eq!((lasting(&two.desk), two.disks().unwrap()), before);
}

#[test]
fn a_limit_by_time_of_day_is_shown_on_every_device_as_it_was_set() {
    let two = Two::mirrored(PROGRAM).unwrap();
    let timetable = "08:00,512kB 19:00,off +05:45";
    let done = two.desk.must(["conduit", "set", "photos", "--limit", timetable]).unwrap();
    assert!(done.stderr.contains("kept in +05:45"), "{done}");
    for device in [&two.desk, &two.nas] {
        let shows = |device: &Device| device.json(["conduit", "show", "photos"]).unwrap();
        let there = lab::eventually(PATIENCE, || shows(device)["bandwidth_timetable"] == timetable);
        assert!(there, "{}", shows(device));
        let now = shows(device)["bandwidth_limit"].as_u64();
        assert!(matches!(now, Some(0 | 512_000)), "{now:?}");
    }
    assert!(two.nas.must(["conduit", "show", "photos"]).unwrap().stdout.contains(timetable));
    two.desk.must(["conduit", "set", "photos", "--limit", "10 MB"]).unwrap();
    let shown = two.desk.json(["conduit", "show", "photos"]).unwrap();
    assert_eq!((&shown["bandwidth_limit"], &shown["bandwidth_timetable"]), (&json!(10_000_000), &Value::Null));
}

#[test]
fn a_plan_that_is_not_the_plan_any_more_is_not_run() {
    let two = Two::mirrored(PROGRAM).unwrap();
    two.desk.must(["sync", "photos"]).unwrap();
    lab::write(&two.photos, "more", b"a copy").unwrap();
    let plan = two.desk.json(["plan", "photos"]).unwrap()["plan"].as_str().unwrap().to_owned();
    let before = lab::read(&two.backup).unwrap();
    // A copy more would be covered; that something goes is more than was shown. The watcher is drained before a
    // plan is resolved, so this is seen.
    lab::write(&two.photos, "a", b"edited after the plan").unwrap();
    let done = two.desk.run(["--json", "sync", "photos", "--plan", &plan]).unwrap();
    assert_eq!(done.code, 1, "{done}");
    assert_eq!(error_of(&done).unwrap()["code"], "PLAN_STALE");
    assert_eq!(lab::read(&two.backup).unwrap(), before);
}

#[test]
fn without_a_daemon_every_question_ends_with_9_and_an_error_document() {
    let lab = Lab::new(PROGRAM).unwrap();
    let device = lab.device("desk").unwrap();
    for words in [&["status"][..], &["sync", "x"], &["device", "list"], &["health"], &["config", "show", "--running"]] {
        let plain = device.run(words).unwrap();
        assert_refused(&plain, 9, &["error[NOT_RUNNING]: ", "tidegate"]);
        let done = device.run([&["--json"], words].concat()).unwrap();
        let error = error_of(&done).unwrap();
        assert_eq!(
            [&error["v"], &error["type"], &error["code"], &error["exit"], &error["changed"]],
            [&json!(1), &json!("error"), &json!("NOT_RUNNING"), &json!(9), &json!(false)],
            "{done}"
        );
        assert!(error["message"].is_string() && error["why"].is_string() && error["next"].is_array(), "{error}");
        assert_eq!(done.stdout, "");
    }
    assert_eq!(home(&device), Vec::new(), "asking leaves nothing behind");
}

#[test]
fn a_closed_stdout_is_no_error_and_nothing_is_said() {
    let lab = Lab::new(PROGRAM).unwrap();
    let mut device = lab.device("desk").unwrap();
    device.start().unwrap();
    for words in [&["status"][..], &["--json", "status"], &["completion", "bash"], &["--help"], &["config", "show"]] {
        let mut child = Command::new(PROGRAM)
            .arg("--quiet")
            .arg("--home")
            .arg(device.home())
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{words:?}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{words:?}");
    }
}

#[test]
fn names_that_would_rewrite_a_terminal_are_shown_escaped() {
    let two = Two::paired(PROGRAM).unwrap();
    for name in ["\u{1b}[2Jclear", "photo\u{202e}gpj.exe", "two\nlines"] {
        lab::write(&two.photos, name, b"x").unwrap();
    }
    two.link(Some("read"), Some("delete")).unwrap();
    let plan = two.desk.must(["plan", "photos", "--items"]).unwrap().stdout;
    for shown in ["\\u{1b}[2Jclear", "photo\\u{202e}gpj.exe", "two\\nlines"] {
        assert!(plan.contains(shown), "{shown} is not in\n{plan}");
    }
    two.desk.must(["sync", "photos"]).unwrap();
    let (source, target) = two.disks().unwrap();
    assert_eq!(source, target);
    for words in [&["plan", "photos", "--items"][..], &["gen", "show", "photos"], &["status"], &["history", "photos"]] {
        let done = two.desk.must(words).unwrap();
        assert!(!done.stdout.contains(['\u{1b}', '\u{202e}']), "{words:?}: {done}");
    }
}

#[test]
fn what_needs_no_daemon_answers_and_what_needs_one_reports_health() {
    let lab = Lab::new(PROGRAM).unwrap();
    let mut device = lab.device("desk").unwrap();
    assert!(device.must(["version"]).unwrap().stdout.starts_with("tidegate "));
    assert_eq!(device.json(["version"]).unwrap()["type"], "version");
    assert!(device.must(["completion", "bash"]).unwrap().stdout.contains("complete "));
    assert!(device.must(["config", "path"]).unwrap().stdout.contains("tidegate.sock"));
    device.start().unwrap();
    device.must(["health"]).unwrap();
    let doctor = device.json(["doctor"]).unwrap();
    assert_eq!(doctor["v"], 1);
    assert!(!device.must(["doctor"]).unwrap().stdout.is_empty());
}

#[test]
fn state_is_closed_to_other_users() {
    let lab = Lab::new(PROGRAM).unwrap();
    let mut device = lab.device("desk").unwrap();
    device.start().unwrap();
    assert_eq!(mode(device.home()), 0o700);
    for file in ["identity.key", "index.redb", "tidegate.sock"] {
        assert_eq!(mode(&device.home().join(file)), 0o600, "{file}");
    }
}

#[test]
fn sigterm_is_an_orderly_end_and_a_restart_keeps_everything() {
    let mut two = Two::mirrored(PROGRAM).unwrap();
    two.desk.must(["sync", "photos"]).unwrap();
    two.desk.must(["conduit", "set", "photos", "--parallel", "7"]).unwrap();
    await_device(&two.nas, "desk", |desk| desk["caught_up"] == true).unwrap();
    let before = (lasting(&two.desk), two.disks().unwrap());
    let pid = two.desk.pid().unwrap();
    let sent = Command::new("kill").args(["-TERM", &pid.to_string()]).status().unwrap();
    assert!(sent.success());
    let socket = two.desk.home().join("tidegate.sock");
    assert!(lab::eventually(PATIENCE, || !socket.exists()), "the socket is left behind");
    assert_eq!(two.desk.run(["status"]).unwrap().code, 9);
    // The process is a zombie until the lab has waited for it; a killed one would be too, so the log tells them apart.
    two.desk.kill().unwrap();
    two.desk.start().unwrap();
    await_device(&two.desk, "nas", |nas| nas["online"] == true && nas["caught_up"] == true).unwrap();
    two.desk
        .await_status("settled", PATIENCE, |status| {
            status["locations"].as_array().unwrap().iter().all(|location| location["state"] == "settled")
        })
        .unwrap();
    assert_eq!((lasting(&two.desk), two.disks().unwrap()), before);
    let again = two.desk.json(["sync", "photos"]).unwrap();
    assert!(again["generation"].is_null(), "a restart leads to no work: {again}");
}
