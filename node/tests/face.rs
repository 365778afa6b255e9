//! The face without a node behind it: configuration, help, exit codes, the API's refusals. Real processes are
//! driven by the end-to-end tests.

#![cfg(feature = "os")]

use std::path::PathBuf;

use tidegate::api::problem::{Code, Exit, Problem};
use tidegate::config::{Config, KEYS, Key, Settings, Watcher};
use tidegate::core::command::FaultCode;

fn from_file(text: &[u8]) -> Result<Config, Problem> {
    Config::load(Some((PathBuf::from("/c.toml"), text)), [], &[])
}

fn from_environment(name: &str, value: &str) -> Result<Config, Problem> {
    Config::load(None, [(name.to_owned(), value.to_owned())], &[])
}

#[test]
fn a_wrong_configuration_is_refused_with_its_line_and_what_was_meant() {
    let large = [b"#".as_slice(), &vec![b'x'; 1 << 20]].concat();
    let id = "A".repeat(52);
    let check = |text: &[u8], says: &[&str]| {
        let problem = from_file(text).expect_err(&String::from_utf8_lossy(&text[..text.len().min(80)]));
        assert_eq!(problem.code.exit(), Exit::Config);
        assert!(problem.message.ends_with("nothing was started or changed"), "{problem}");
        let all = format!("{} {} {}", problem.message, problem.why, problem.next.join(" "));
        for word in says {
            assert!(all.contains(word), "{word:?} is not in {all:?}");
        }
    };
    for (text, says) in [
        ("[network]\nlistn = \"x\"", &["/c.toml:2:", "did you mean network.listen?"][..]),
        ("\n\n[netwrk]", &["/c.toml:3:", "did you mean network?"]),
        ("listen = \"x\"", &["/c.toml:1:"]),
        ("[network]\nlisten = 5", &["/c.toml:2:", "wrong type", "text in quotes"]),
        ("[network]\nlisten = \":99999\"", &["/c.toml:2:", "is not ip:port"]),
        ("[network]\nlisten = \"example.org:7421\"", &["is not ip:port"]),
        ("[network]\npeers = [1]", &["/c.toml:2:", "a list of texts"]),
        ("[index]\nhash_threads = 0", &["is not between 1 and 256"]),
        ("[index]\nhash_threads = \"4\"", &["a whole number"]),
        ("[index]\nsettle = \"1y\"", &["is no duration"]),
        ("[index]\nwatcher = \"off\"", &["is not one of auto, poll"]),
        ("[safety]\nguard_percent = 0", &["is not between 1 and 100"]),
        ("[safety]\nguard_deletes_max = -1", &["is below 1"]),
        ("[network]\nmdns = true\nmdns = false", &["/c.toml:3:", "not TOML"]),
        ("[log]\n[log]", &["/c.toml:2:", "not TOML"]),
        ("[network", &["/c.toml:1:", "not TOML"]),
        ("[device]\nid = \"x\"", &["is this device", "[[device]]"]),
        ("[device]\nname = \"a\u{202e}b\"", &["/c.toml:2:"]),
        ("[[device]]\nname = \"nas\"", &["id is missing"]),
        ("[[device]]\nname = \"nas\"\nid = \"FX4K-9QTM\"", &["/c.toml:3:", "the whole id is wanted"]),
        ("[[device]]\nname = \"nas\"\nid = 5", &["wrong type"]),
        ("[[device]]\nnam = \"nas\"", &["/c.toml:2:", "did you mean name?"]),
    ] {
        check(text.as_bytes(), says);
    }
    check(
        format!("[[device]]\nname = \"nas\"\nid = \"{id}\"\naddresses = [\"nas:1\"]").as_bytes(),
        &["is not ip:port"],
    );
    check(&large, &["too large"]);
    check(b"[log]\nlevel = \"\xff\"", &["/c.toml:2:", "not UTF-8"]);
}

#[test]
fn a_byte_order_mark_and_other_line_ends_are_accepted() {
    let config = from_file(b"\xef\xbb\xbf[index]\r\nwatcher = \"poll\"\r\n").unwrap();
    assert_eq!(config.settings.watcher, Watcher::Poll);
    assert_eq!(config.origin("index.watcher").to_string(), "/c.toml:2");
}

#[test]
fn every_key_has_a_variable_and_flags_win_over_variables_over_the_file() {
    for key in KEYS {
        let shown = (key.show)(&Settings::default());
        let plain = if shown == "[]" { "" } else { shown.trim_matches('"') };
        let config =
            from_environment(&key.variable(), plain).unwrap_or_else(|problem| panic!("{}: {problem}", key.name));
        assert_eq!((key.show)(&config.settings), shown, "{}", key.name);
        assert_eq!(config.origin(key.name).to_string(), format!("${}", key.variable()));
    }
    let variable = [("TIDEGATE_NETWORK_LISTEN".to_owned(), "127.0.0.1:2".to_owned())];
    let file = (PathBuf::from("/c.toml"), b"[network]\nlisten = \"127.0.0.1:1\"\nidle = \"1m\"".as_slice());
    let flag = [("--listen", "network.listen", "127.0.0.1:3".to_owned())];
    let both = Config::load(Some(file.clone()), variable.clone(), &[]).unwrap();
    assert_eq!((both.settings.listen.port(), both.settings.idle_ms), (2, 60_000));
    let all = Config::load(Some(file), variable, &flag).unwrap();
    assert_eq!((all.settings.listen.port(), all.origin("network.listen").to_string()), (3, "--listen".to_owned()));
}

#[test]
fn a_variable_that_is_no_setting_or_has_no_such_value_is_refused() {
    for (name, value) in [
        ("TIDEGATE_LIMITS_FRAME", "0"),
        ("TIDEGATE_NETWORK_LISTN", "x"),
        ("TIDEGATE_INDEX_HASH_THREADS", "-1"),
        ("TIDEGATE_INDEX_HASH_THREADS", "many"),
        ("TIDEGATE_NETWORK_MDNS", "yes"),
        ("TIDEGATE_SYNC_MIN_FREE", "-5"),
    ] {
        assert_eq!(from_environment(name, value).unwrap_err().code, Code::Config, "{name}={value}");
    }
    for (name, value) in [("TIDEGATE_HOME", "/x"), ("PATH", "/bin"), ("TIDEGATE_PROGRESS", "none")] {
        assert!(from_environment(name, value).is_ok(), "{name}");
    }
}

#[test]
fn the_example_file_shows_every_key_with_its_default() {
    let text = include_str!("../../configs/node.toml");
    assert_eq!(from_file(text.as_bytes()).unwrap().settings, Settings::default());
    let machine = ["device.name", "index.hash_threads"];
    let mut section = "";
    let mut listed = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name;
        }
        let (key, is_comment) = line.strip_prefix("# ").map_or((line, false), |rest| (rest, true));
        let Some((key, value)) = key.split_once(" = ") else { continue };
        let name = format!("{section}.{key}");
        let Some(known) = KEYS.iter().find(|known| known.name == name) else { continue };
        if line.starts_with("# addresses") || line.starts_with("# id") {
            continue;
        }
        assert_eq!(is_comment, machine.contains(&known.name), "{name}");
        if !is_comment {
            assert_eq!(value, (known.show)(&Settings::default()), "{name}");
        }
        listed.push(known.name);
    }
    let mut wanted: Vec<&str> = KEYS.iter().map(|key: &Key| key.name).collect();
    listed.retain(|name| wanted.contains(name));
    listed.sort_unstable();
    listed.dedup();
    wanted.sort_unstable();
    assert_eq!(listed, wanted);
}

#[test]
fn every_fault_of_the_core_has_its_exit_code() {
    for (fault, exit) in [
        (FaultCode::NoSuchName, 10),
        (FaultCode::NameTaken, 8),
        (FaultCode::Usage, 2),
        (FaultCode::NotCaughtUp, 5),
        (FaultCode::SafetyStop, 6),
        (FaultCode::PlanStale, 1),
        (FaultCode::AlreadyRunning, 1),
        (FaultCode::ConduitDisabled, 8),
        (FaultCode::ConduitRule, 8),
        (FaultCode::RootMissing, 6),
        (FaultCode::Unreachable, 7),
        (FaultCode::Refused, 8),
        (FaultCode::Storage, 12),
        (FaultCode::Internal, 1),
    ] {
        assert_eq!(Code::from(fault).exit() as u8, exit, "{fault:?}");
        // The word that scripts match is the one that the core's own form has.
        assert_eq!(serde_json::to_value(fault).unwrap(), Code::from(fault).as_str());
    }
    let mut texts: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
    texts.sort_unstable();
    texts.dedup();
    assert_eq!(texts.len(), Code::ALL.len(), "codes are told apart by their text");
}

#[test]
fn a_problem_survives_the_api() {
    let problem = Problem::new(Code::SafetyStop, "held", "why").next("one").next("two").do_not("panic");
    assert_eq!(Problem::from_http(&problem.http_document()), Some(problem.clone()));
    let document = problem.document();
    assert_eq!((&document["v"], &document["type"], &document["exit"]), (&1.into(), &"error".into(), &6.into()));
    assert_eq!(Problem::from_http(&serde_json::json!({ "error": "of another program" })), None);
}

#[test]
fn every_verb_explains_itself() {
    fn check(command: &mut clap::Command, name: &str, seen: &mut Vec<String>) {
        assert!(command.get_about().is_some(), "{name} has no help");
        for argument in
            command.get_arguments().filter(|a| !a.is_hide_set() && a.get_id() != "help" && a.get_id() != "version")
        {
            assert!(argument.get_help().is_some(), "{name} {} has no help", argument.get_id());
        }
        seen.push(name.to_owned());
        for verb in command.get_subcommands_mut().filter(|verb| verb.get_name() != "help") {
            let name = format!("{name} {}", verb.get_name());
            check(verb, &name, seen);
        }
    }
    let mut tree = tidegate::cli::tree();
    tree.clone().debug_assert();
    let mut seen = Vec::new();
    check(&mut tree, "tidegate", &mut seen);
    for verb in [
        "up",
        "down",
        "serve",
        "status",
        "health",
        "doctor",
        "pair",
        "pair join",
        "device list",
        "device ping",
        "device revoke",
        "library show",
        "library leave",
        "location add",
        "location rescan",
        "location allow",
        "location deny",
        "conduit create",
        "conduit set",
        "conduit pause",
        "conduit wait",
        "plan",
        "sync",
        "approve",
        "job list",
        "job cancel",
        "history",
        "gen show",
        "config show",
        "config check",
        "config path",
        "completion",
        "version",
    ] {
        assert!(seen.contains(&format!("tidegate {verb}")), "{verb}");
    }
}
