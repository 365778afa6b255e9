//! Who is let in, and what they may do: real nodes, real sockets, and what the disks hold afterwards.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use serde_json::Value;
use tidegate::lab::{self, Device, Done};
use tidegate_tests::trusted::{PATIENCE, Two, assert_refused, await_device, configure, error_of, id_of};

const PROGRAM: &str = env!("CARGO_BIN_EXE_tidegate-under-test");

/// Types a code at a device.
fn join(device: &Device, at: Option<SocketAddr>, code: &str) -> Done {
    let mut words = vec!["--json".to_owned(), "pair".to_owned(), "join".to_owned(), "--code-stdin".to_owned()];
    words.extend(at.into_iter().flat_map(|at| ["--at".to_owned(), at.to_string()]));
    device.run_with(words, &format!("{code}\n")).unwrap()
}

fn code(device: &Device) -> String {
    device.must(["pair", "--detach"]).unwrap().stdout.trim().to_owned()
}

/// A code that has the number of another one and other words of the list.
fn wrong(code: &str) -> String {
    let (number, words) = code.split_once('-').unwrap();
    let others = if words == "otter-violet" { "violet-otter" } else { "otter-violet" };
    format!("{number}-{others}")
}

fn field(device: &Device, name: &str) -> Value {
    device.json(["status"]).unwrap()[name].clone()
}

/// Outcomes of the items of the newest generation.
fn outcomes(device: &Device, conduit: &str) -> Vec<String> {
    let shown = device.json(["gen", "show", conduit]).unwrap();
    let text = |item: &Value| item["outcome"].as_str().unwrap().to_owned();
    shown["items"].as_array().unwrap().iter().map(text).collect()
}

#[test]
fn a_spoken_code_makes_one_library_and_both_sides_show_the_same_words() {
    let mut two = Two::apart(PROGRAM).unwrap();
    two.desk.start().unwrap();
    two.nas.start().unwrap();
    let code = code(&two.desk);
    let joined = join(&two.nas, Some(two.desk.address()), &code);
    assert_eq!(joined.code, 0, "{joined}");
    let at_nas = lab::last_document(&joined.stdout).unwrap();
    await_device(&two.desk, "nas", |nas| nas["online"] == true).unwrap();
    await_device(&two.nas, "desk", |desk| desk["online"] == true).unwrap();
    assert_eq!(field(&two.desk, "library"), field(&two.nas, "library"));
    assert_eq!(at_nas["device"], "desk");
    let words = at_nas["check_words"].as_str().unwrap();
    assert!(words.split(' ').count() >= 2, "{words}");
    // The code is used up: the same one lets nobody else in.
    let mut third = two.lab.device("third").unwrap();
    third.start().unwrap();
    assert_refused(&join(&third, Some(two.desk.address()), &code), 8, &["PAIR_CLOSED"]);
    assert_eq!(field(&third, "devices").as_array().unwrap().len(), 0);
}

#[test]
fn the_check_words_shown_by_the_waiting_command_are_those_shown_by_the_joining_one() {
    let mut two = Two::apart(PROGRAM).unwrap();
    two.desk.start().unwrap();
    two.nas.start().unwrap();
    let waiting = std::thread::scope(|scope| {
        let (words, code) = std::sync::mpsc::channel();
        let (desk, nas) = (&two.desk, &two.nas);
        let shows = scope.spawn(move || {
            let mut child = Command::new(PROGRAM)
                .arg("--home")
                .arg(desk.home())
                .args(["--json", "pair"])
                .stdout(std::process::Stdio::piped())
                .spawn()
                .unwrap();
            let mut all = Vec::new();
            let reader = std::io::BufReader::new(child.stdout.take().unwrap());
            for document in serde_json::Deserializer::from_reader(reader).into_iter::<Value>() {
                let document = document.unwrap();
                if let Some(code) = document["code"].as_str() {
                    words.send(code.to_owned()).unwrap();
                }
                all.push(document);
            }
            assert!(child.wait().unwrap().success());
            all
        });
        let joined = join(nas, Some(desk.address()), &code.recv().unwrap());
        let joined = lab::last_document(&joined.stdout).unwrap();
        let shown = shows.join().unwrap();
        assert_eq!(shown.last().unwrap()["check_words"], joined["check_words"]);
        joined["check_words"].clone()
    });
    assert!(waiting.is_string(), "{waiting}");
}

#[test]
fn a_slip_of_the_finger_is_found_where_it_is_typed_and_three_wrong_codes_burn_the_code() {
    let mut two = Two::apart(PROGRAM).unwrap();
    two.desk.start().unwrap();
    two.nas.start().unwrap();
    let right = code(&two.desk);
    let before = field(&two.nas, "library");
    // Far more slips than a code has tries.
    for slip in ["otterx", "vjolet", "1234", ""] {
        let typed = format!("{}-{slip}", right.rsplit_once('-').unwrap().0);
        let done = join(&two.nas, Some(two.desk.address()), &typed);
        assert_refused(&done, 8, &["PAIR_CODE", "no try was used"]);
    }
    for tries_left in [2, 1, 0] {
        let done = join(&two.nas, Some(two.desk.address()), &wrong(&right));
        assert_refused(&done, 8, &["PAIR_CODE", &format!("({tries_left} tries left)")]);
    }
    assert_refused(&join(&two.nas, Some(two.desk.address()), &right), 8, &["PAIR_CLOSED"]);
    assert_eq!(field(&two.nas, "library"), before);
    for device in [&two.desk, &two.nas] {
        assert_eq!(field(device, "devices").as_array().unwrap().len(), 0, "{}", device.name());
    }
}

#[test]
fn devices_that_name_each_other_in_full_are_one_library_without_a_code() {
    let mut two = Two::apart(PROGRAM).unwrap();
    two.desk.start().unwrap();
    two.nas.start().unwrap();
    let (desk, nas) = (id_of(&two.desk).unwrap(), id_of(&two.nas).unwrap());
    two.desk.stop().unwrap();
    two.nas.stop().unwrap();
    let other = |device: &Device, id: &str| {
        format!("[[device]]\nname = \"{}\"\nid = \"{id}\"\naddresses = [\"{}\"]\n", device.name(), device.address())
    };
    configure(&two.desk, &other(&two.nas, &nas)).unwrap();
    two.desk.start().unwrap();
    two.nas.start().unwrap();
    // One side alone is not enough.
    assert_eq!(two.desk.run(["device", "ping", "nas"]).unwrap().code, 7);
    two.nas.stop().unwrap();
    configure(&two.nas, &other(&two.desk, &desk)).unwrap();
    two.nas.start().unwrap();
    await_device(&two.desk, "nas", |nas| nas["online"] == true && nas["caught_up"] == true).unwrap();
    await_device(&two.nas, "desk", |desk| desk["online"] == true && desk["caught_up"] == true).unwrap();
    assert_eq!(field(&two.desk, "library"), field(&two.nas, "library"));
    lab::write(&two.photos, "a", b"one").unwrap();
    two.link(Some("read"), Some("delete")).unwrap();
    two.desk.must(["sync", "photos"]).unwrap();
    let (source, target) = two.disks().unwrap();
    assert_eq!(source, target);
}

#[test]
fn a_stranger_that_knows_the_address_is_refused_and_sees_nothing() {
    let two = Two::mirrored(PROGRAM).unwrap();
    let mut stranger = two.lab.device("stranger").unwrap();
    stranger.start().unwrap();
    let desk = id_of(&two.desk).unwrap();
    stranger.stop().unwrap();
    // It trusts its victim, and dials it.
    let trusts = format!("[[device]]\nname = \"desk\"\nid = \"{desk}\"\naddresses = [\"{}\"]\n", two.desk.address());
    configure(&stranger, &trusts).unwrap();
    stranger.start().unwrap();
    let done = join(&stranger, Some(two.desk.address()), "1234-otter-violet");
    assert_eq!(done.code, 8, "{done}");
    assert_eq!(stranger.run(["device", "ping", "desk"]).unwrap().code, 7);
    assert_eq!(field(&stranger, "locations").as_array().unwrap().len(), 0);
    assert_eq!(field(&stranger, "conduits").as_array().unwrap().len(), 0);
    let known = field(&two.desk, "devices");
    assert!(known.as_array().unwrap().iter().all(|device| device["name"] == "nas"), "{known}");
    two.desk.must(["sync", "photos"]).unwrap();
}

#[test]
fn a_device_revoked_in_mid_transfer_is_cut_off_and_nothing_more_reaches_it() {
    let two = Two::mirrored(PROGRAM).unwrap();
    lab::write(&two.photos, "large", &lab::fill(1, 40 << 20)).unwrap();
    two.desk.must(["conduit", "set", "photos", "--limit", "4 MB"]).unwrap();
    two.desk.must(["sync", "photos", "--detach"]).unwrap();
    two.desk
        .await_status("a part copied", PATIENCE, |status| {
            status["conduits"][0]["running"]["bytes_done"].as_u64().unwrap_or(0) > 4 << 20
        })
        .unwrap();
    two.desk.must(["-y", "device", "revoke", "nas"]).unwrap();
    await_device(&two.nas, "desk", |desk| desk["online"] == false).unwrap();
    await_device(&two.desk, "nas", |nas| nas["member"] == false && nas["online"] == false).unwrap();
    let before = lab::read(&two.backup).unwrap();
    assert!(!before.contains_key(&b"large"[..]));
    lab::write(&two.photos, "secret", b"after the revocation").unwrap();
    assert_ne!(two.desk.run(["sync", "photos", "--wait", "1s"]).unwrap().code, 0);
    assert_eq!(lab::read(&two.backup).unwrap(), before);
}

#[test]
fn a_revoked_device_is_no_end_of_a_run_and_its_rows_do_not_count() {
    let two = Two::mirrored(PROGRAM).unwrap();
    two.desk.must(["sync", "photos"]).unwrap();
    two.desk.must(["-y", "device", "revoke", "nas"]).unwrap();
    await_device(&two.nas, "desk", |desk| desk["online"] == false).unwrap();
    let before = lab::read(&two.backup).unwrap();
    lab::write(&two.photos, "secret", b"after the revocation").unwrap();
    let refused = two.desk.run(["--json", "sync", "photos", "--wait", "1s"]).unwrap();
    assert!(matches!(refused.code, 5 | 7 | 8), "{refused}");
    assert_eq!(lab::read(&two.backup).unwrap(), before);
    // What it writes does not arrive any more either.
    lab::write(&two.backup, "mine", b"on nas").unwrap();
    let held = |device: &Device| {
        let devices = field(device, "devices");
        devices.as_array().unwrap().iter().find(|one| one["name"] == "nas").unwrap()["held"].clone()
    };
    let before = held(&two.desk);
    two.nas.must(["location", "rescan", "Backup"]).unwrap();
    assert_eq!(held(&two.desk), before);
}

#[test]
fn without_a_grant_to_write_nothing_is_written_and_the_reason_is_said() {
    let two = Two::paired(PROGRAM).unwrap();
    lab::write(&two.photos, "a", b"one").unwrap();
    for grant in [None, Some("desk=read")] {
        if let Some(grant) = grant {
            two.nas.must(["location", "allow", "Backup", grant]).unwrap();
        } else {
            two.link(Some("read"), None).unwrap();
        }
        let done = two.desk.run(["--json", "sync", "photos"]).unwrap();
        assert!(matches!(done.code, 3 | 8), "{done}");
        assert!(outcomes(&two.desk, "photos").iter().all(|why| why.contains("not allowed") || why.contains("grant")));
        assert!(lab::read(&two.backup).unwrap().is_empty());
    }
    two.nas.must(["location", "allow", "Backup", "desk=write"]).unwrap();
    two.desk.must(["sync", "photos"]).unwrap();
    let (source, target) = two.disks().unwrap();
    assert_eq!(source, target);
}

#[test]
fn without_a_grant_to_read_nothing_can_be_fetched() {
    let two = Two::paired(PROGRAM).unwrap();
    lab::write(&two.photos, "a", b"one").unwrap();
    lab::write(&two.photos, "large", &lab::fill(3, 3 << 20)).unwrap();
    two.link(None, Some("delete")).unwrap();
    let done = two.desk.run(["--json", "sync", "photos"]).unwrap();
    assert!(matches!(done.code, 3 | 8), "{done}");
    let target = lab::read(&two.backup).unwrap();
    assert!(target.is_empty(), "{target:?}");
    two.desk.must(["location", "allow", "Photos", "nas=read"]).unwrap();
    two.desk.must(["sync", "photos"]).unwrap();
    two.desk.must(["location", "deny", "Photos", "nas"]).unwrap();
    lab::write(&two.photos, "b", b"after the grant was taken").unwrap();
    let done = two.desk.run(["--json", "sync", "photos"]).unwrap();
    assert!(matches!(done.code, 3 | 8), "{done}");
    assert!(!two.backup.join("b").exists());
}

#[test]
fn under_a_grant_to_write_copies_go_and_deletes_are_kept_and_reported() {
    let two = Two::paired(PROGRAM).unwrap();
    for number in 0..20 {
        lab::write(&two.photos, format!("f{number}"), &lab::fill(number, 100)).unwrap();
    }
    two.link(Some("read"), Some("write")).unwrap();
    two.desk.must(["sync", "photos"]).unwrap();
    fs::remove_file(two.photos.join("f3")).unwrap();
    lab::write(&two.photos, "new", b"goes").unwrap();
    let done = two.desk.run(["sync", "photos"]).unwrap();
    assert_refused(&done, 3, &["f3"]);
    assert_eq!(fs::read(two.backup.join("f3")).unwrap(), lab::fill(3, 100), "kept");
    assert_eq!(fs::read(two.backup.join("new")).unwrap(), b"goes");
    two.nas.must(["location", "allow", "Backup", "desk=delete"]).unwrap();
    two.desk.must(["sync", "photos"]).unwrap();
    let (source, target) = two.disks().unwrap();
    assert_eq!(source, target);
}

#[test]
fn a_device_that_leaves_keeps_its_files_and_knows_nobody() {
    let two = Two::mirrored(PROGRAM).unwrap();
    two.desk.must(["sync", "photos"]).unwrap();
    let (library, files) = (field(&two.nas, "library"), two.disks().unwrap());
    two.nas.must(["-y", "library", "leave"]).unwrap();
    assert_ne!(field(&two.nas, "library"), library);
    let members = |device: &Device| {
        let devices = field(device, "devices");
        devices.as_array().unwrap().iter().filter(|one| one["member"] == true).count()
    };
    assert_eq!(members(&two.nas), 0);
    await_device(&two.desk, "nas", |nas| nas["online"] == false).unwrap();
    lab::write(&two.photos, "later", b"does not go there").unwrap();
    let refused = two.desk.run(["sync", "photos", "--wait", "1s"]).unwrap();
    assert!(matches!(refused.code, 5 | 7 | 8), "{refused}");
    assert_eq!(lab::read(&two.backup).unwrap(), files.1);
    // It is free to join another library.
    let mut third = two.lab.device("third").unwrap();
    third.start().unwrap();
    third.pair(&two.nas).unwrap();
    assert_eq!(field(&third, "library"), field(&two.nas, "library"));
}

/// Two network namespaces on a bridge of a third; taken down when dropped.
struct Wire {
    switch: String,
    ends: [String; 2],
}

impl Wire {
    /// `None`, with the reason printed, where namespaces are not permitted.
    fn new() -> Option<Self> {
        let name = |what: &str| format!("tg{}{what}", std::process::id());
        let wire = Self { switch: name("sw"), ends: [name("n1"), name("n2")] };
        if let Err(why) = ip(&["netns", "add", &wire.switch]) {
            println!("skipped: network namespaces are not permitted here: {why}");
            return None;
        }
        let switch = wire.switch.as_str();
        ip(&["-n", switch, "link", "add", "br0", "type", "bridge", "mcast_snooping", "0"]).unwrap();
        ip(&["-n", switch, "link", "set", "br0", "up"]).unwrap();
        for (number, end) in wire.ends.iter().enumerate() {
            let (port, address) = (format!("p{number}"), format!("{}/24", wire.address(number)));
            ip(&["netns", "add", end]).unwrap();
            ip(&["link", "add", "name", "e0", "netns", end, "type", "veth", "peer", "name", &port, "netns", switch])
                .unwrap();
            ip(&["-n", switch, "link", "set", &port, "master", "br0", "up"]).unwrap();
            ip(&["-n", end, "link", "set", "lo", "up"]).unwrap();
            ip(&["-n", end, "addr", "add", &address, "broadcast", "+", "dev", "e0"]).unwrap();
            ip(&["-n", end, "link", "set", "e0", "up", "multicast", "on"]).unwrap();
            // Multicast is link-local: without a route for it, sending fails.
            ip(&["-n", end, "route", "add", "224.0.0.0/4", "dev", "e0"]).unwrap();
        }
        Some(wire)
    }

    fn address(&self, number: usize) -> String {
        format!("10.77.0.{}", number + 1)
    }

    /// Puts a device at an end; it finds others by multicast alone.
    fn connect(&self, number: usize, device: &mut Device) {
        let address = format!("{}:7421", self.address(number)).parse().unwrap();
        device.behind(&["ip", "netns", "exec", &self.ends[number]], address);
        device.set("TIDEGATE_NETWORK_MDNS", "true");
    }

    fn plug(&self, number: usize, state: &str) {
        ip(&["-n", &self.switch, "link", "set", &format!("p{number}"), state]).unwrap();
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        for name in [&self.ends[0], &self.ends[1], &self.switch] {
            // What was not made cannot be taken down.
            let _ = ip(&["netns", "del", name]);
        }
    }
}

fn ip(words: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(words).output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("ip {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr).trim()))
}

#[test]
fn two_machines_on_one_cable_find_each_other_and_a_pulled_cable_refuses_until_it_is_back() {
    let Some(wire) = Wire::new() else { return };
    let mut two = Two::apart(PROGRAM).unwrap();
    wire.connect(0, &mut two.desk);
    wire.connect(1, &mut two.nas);
    two.desk.set("TIDEGATE_NETWORK_IDLE", "5s");
    two.nas.set("TIDEGATE_NETWORK_IDLE", "5s");
    two.desk.start().unwrap();
    two.nas.start().unwrap();
    let code = code(&two.desk);
    let joined = lab::eventually(PATIENCE, || join(&two.nas, None, &code).code == 0);
    assert!(joined, "no device was found by multicast:\n{}\n{}", two.desk.log(), two.nas.log());
    await_device(&two.desk, "nas", |nas| nas["online"] == true).unwrap();
    lab::write(&two.photos, "a", b"over the cable").unwrap();
    two.link(Some("read"), Some("delete")).unwrap();
    two.desk.must(["sync", "photos"]).unwrap();
    let before = lab::read(&two.backup).unwrap();
    assert_eq!(lab::read(&two.photos).unwrap(), before);

    wire.plug(1, "down");
    await_device(&two.desk, "nas", |nas| nas["online"] == false).unwrap();
    lab::write(&two.photos, "b", b"while the cable is out").unwrap();
    let refused = two.desk.run(["--json", "sync", "photos", "--wait", "1s"]).unwrap();
    assert!(matches!(refused.code, 5 | 7), "{refused}");
    assert_eq!(error_of(&refused).unwrap()["changed"], false);
    assert_eq!(lab::read(&two.backup).unwrap(), before);

    wire.plug(1, "up");
    await_device(&two.desk, "nas", |nas| nas["online"] == true).unwrap();
    two.desk.must(["sync", "photos", "--wait", "30s"]).unwrap();
    let (source, target) = two.disks().unwrap();
    assert_eq!(source, target);
}
