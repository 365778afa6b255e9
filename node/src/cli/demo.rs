//! `demo`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::Value;

use super::Context;
use crate::api::problem::{Code, Exit, Problem};
use crate::lab::{self, Device, Lab, LabError, Leaf, Tree};

/// Shows all of it on this machine: three real nodes, a mirror, a refusal, a safety stop, a crash
#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    /// Leaves the directories in place
    #[arg(long)]
    keep: bool,
}

/// How long anything in the demo may take.
const PATIENCE: Duration = Duration::from_mins(2);
/// Small files of the mirror.
const SMALL_FILES: u64 = 1_000;
/// The large file that is interrupted, in bytes.
const LARGE_BYTES: usize = 192 << 20;

/// Blocks: it waits for processes, as a person would.
pub(super) fn run(args: &DemoArgs, context: &Context) -> Result<Exit, Problem> {
    let began = Instant::now();
    let mut demo = Demo::new(context).map_err(|error| failed(&error))?;
    if args.keep {
        demo.lab.keep();
    }
    let outcome = demo.play();
    if args.keep {
        context.out.line(&format!("Everything is in {}", demo.lab.path().display()));
    }
    outcome.map_err(|error| {
        let logs =
            [&demo.desk, &demo.nas, &demo.phone].map(|device| format!("--- {}\n{}", device.name(), device.log()));
        context.out.talk(&logs.join("\n"));
        failed(&error)
    })?;
    let (passed, wrong) = (demo.passed, demo.wrong.len());
    context.out.line(&format!("{passed} checks passed, {wrong} failed in {:.1} s", began.elapsed().as_secs_f32()));
    if wrong > 0 {
        return Err(Problem::new(Code::DemoFailed, format!("{wrong} checks failed"), demo.wrong.join("; ")));
    }
    context.out.line("Next:  tidegate up   then   tidegate pair");
    Ok(Exit::Done)
}

fn failed(error: &LabError) -> Problem {
    Problem::new(Code::DemoFailed, "the demo could not go on", error.to_string())
}

/// Three devices, and a tally of what was read back from their disks.
struct Demo<'a> {
    context: &'a Context,
    lab: Lab,
    desk: Device,
    nas: Device,
    phone: Device,
    photos: PathBuf,
    backup: PathBuf,
    passed: u32,
    wrong: Vec<String>,
}

impl<'a> Demo<'a> {
    fn new(context: &'a Context) -> Result<Self, LabError> {
        let lab = Lab::new(std::env::current_exe()?)?;
        let (desk, nas, phone) = (lab.device("desk")?, lab.device("nas")?, lab.device("phone")?);
        let (photos, backup) = (lab.directory("Photos")?, lab.directory("Backup")?);
        Ok(Self { context, lab, desk, nas, phone, photos, backup, passed: 0, wrong: Vec::new() })
    }

    fn play(&mut self) -> Result<(), LabError> {
        let files = lab_path(&self.lab);
        self.context.out.line(&format!("3 real nodes (QUIC over loopback), files in {files}"));
        self.pairing()?;
        self.mirror()?;
        self.changes()?;
        self.stale_replica()?;
        self.disappearance()?;
        self.crash()?;
        self.third_device()
    }

    fn say(&self, step: u32, words: &str) {
        self.context.out.line(&format!("[{step}/7] {words}"));
    }

    fn check(&mut self, what: &str, holds: bool) {
        if holds {
            self.passed += 1;
        } else {
            self.context.out.line(&format!("      WRONG: {what}"));
            self.wrong.push(what.to_owned());
        }
    }

    fn pairing(&mut self) -> Result<(), LabError> {
        for device in [&mut self.desk, &mut self.nas, &mut self.phone] {
            device.start()?;
        }
        self.desk.pair(&self.nas)?;
        self.nas.pair(&self.phone)?;
        let all_here = |status: &Value| status["devices"].as_array().is_some_and(|devices| devices.len() == 2);
        for device in [&self.desk, &self.nas, &self.phone] {
            device.await_status("three devices in the library", PATIENCE, all_here)?;
        }
        let libraries = [&self.desk, &self.nas, &self.phone].map(|d| d.json(["status"]).map(|s| s["library"].clone()));
        let [desk, nas, phone] = libraries;
        let (desk, nas, phone) = (desk?, nas?, phone?);
        self.check("three devices are in one library", desk == nas && nas == phone);
        let wrong_code = self.phone.run_with(
            ["pair", "join", "--at", &self.desk.address().to_string(), "--code-stdin"],
            "0000-wrong-words\n",
        )?;
        self.check("a wrong code lets nobody in", wrong_code.code != 0);
        self.say(1, "desk, nas and phone started; nas paired with desk, phone with nas, by spoken codes");
        Ok(())
    }

    fn mirror(&mut self) -> Result<(), LabError> {
        for number in 0..SMALL_FILES {
            let length = (number * 37 % 16_384) as usize;
            let path = format!("{}/IMG_{number:04}.jpg", 2000 + number / 100);
            lab::write(&self.photos, path, &lab::fill(number, length))?;
        }
        for number in 0..24 {
            let path = format!("clips/VID_{number:02}.mov");
            lab::write(&self.photos, path, &lab::fill(10_000 + number, (number as usize + 1) * 100_000))?;
        }
        lab::write(&self.photos, "empty", b"")?;
        lab::write(&self.photos, ".hidden/dotfile", b"dot")?;
        lab::write(&self.photos, b"caf\xe9/latin-1 \xff name", b"bytes are names")?;
        fs::create_dir_all(self.photos.join("an/empty/directory"))?;
        std::os::unix::fs::symlink("../empty", self.photos.join("clips/link"))?;
        self.desk.must(["location", "add", path(&self.photos)?, "--name", "Photos", "--allow", "nas=read"])?;
        self.nas.must(["location", "add", path(&self.backup)?, "--name", "Backup", "--allow", "desk=delete"])?;
        self.await_locations(&self.desk, 2)?;
        self.desk.must(["conduit", "create", "photos", "desk:Photos", "nas:Backup", "--mode", "mirror"])?;
        let plan = self.desk.json(["plan", "photos"])?;
        self.check("a plan changes nothing", lab::read(&self.backup)?.is_empty());
        let shown = plan["plan"].as_str().unwrap_or_default().to_owned();
        self.desk.must(["sync", "photos", "--plan", &shown])?;
        let (source, target) = (lab::read(&self.photos)?, lab::read(&self.backup)?);
        self.check("every file, link and directory is on nas, byte for byte", source == target);
        self.check("the mirror holds over a thousand files", target.len() > 1_024);
        self.check("the generation is verified", self.last_verified(&self.desk)?);
        let again = self.desk.json(["sync", "photos"])?;
        self.check("a second run finds nothing to do", again["generation"].is_null());
        self.say(2, &format!("mirror  desk:Photos -> nas:Backup   {} entries, verified", target.len()));
        Ok(())
    }

    fn changes(&mut self) -> Result<(), LabError> {
        let old = fs::read(self.photos.join("2001/IMG_0150.jpg"))?;
        let gone = fs::read(self.photos.join("2002/IMG_0250.jpg"))?;
        lab::write(&self.photos, "2001/IMG_0150.jpg", b"edited")?;
        fs::rename(self.photos.join("2003"), self.photos.join("holiday"))?;
        fs::remove_file(self.photos.join("2002/IMG_0250.jpg"))?;
        self.desk.must(["sync", "photos"])?;
        let target = lab::read(&self.backup)?;
        self.check("edit, rename and delete arrived", lab::read(&self.photos)? == target);
        let trash = lab::read(&self.backup.join(".tidegate/trash"))?;
        self.check("the edited file's old bytes are in the trash", holds(&trash, &old));
        self.check("the deleted file's bytes are in the trash", holds(&trash, &gone));
        let shown = self.desk.json(["gen", "show", "photos"])?;
        let renames = count(&shown["items"], |item| item["op"] == "rename" && item["outcome"] == "done");
        self.check("a renamed directory is renamed there, not sent again", renames >= 100);
        self.say(3, "edit, rename of a directory, delete: followed; old bytes wait in nas's trash");
        Ok(())
    }

    /// nas answers slowly, so that desk's replica is behind for a while.
    fn stale_replica(&mut self) -> Result<(), LabError> {
        self.nas.stop()?;
        self.nas.set("TIDEGATE_NETWORK_UP_LIMIT", "40000");
        for number in 0..4_000 {
            lab::write(&self.backup, format!("stray/{number:05}"), b"written on nas")?;
        }
        let before = lab::read(&self.backup)?;
        self.nas.start()?;
        self.await_settled(&self.nas, "Backup")?;
        self.await_online(&self.desk, "nas")?;
        let refused = self.desk.run(["sync", "photos", "--wait", "0"])?;
        self.check("a sync on a stale replica is refused with exit code 5", refused.code == 5);
        self.check("the refusal says that nothing was changed", refused.stderr.contains("nothing was changed"));
        self.check("nothing was changed", lab::read(&self.backup)? == before);
        self.nas.stop()?;
        self.nas.set("TIDEGATE_NETWORK_UP_LIMIT", "0");
        self.nas.start()?;
        self.await_online(&self.desk, "nas")?;
        let held = self.desk.run(["sync", "photos", "--wait", "60s"])?;
        self.check("caught up, it stops before deleting 4,000 files", held.code == 6);
        let plan = self.held_plan()?;
        self.desk.must(["approve", &plan])?;
        self.check("approved by its plan, the target is the source again", {
            lab::read(&self.photos)? == lab::read(&self.backup)?
        });
        self.say(4, "sync refused while desk's replica of nas was behind; caught up, held, approved, verified");
        Ok(())
    }

    fn disappearance(&mut self) -> Result<(), LabError> {
        let before = lab::read(&self.backup)?;
        let away = self.lab.path().join("unmounted");
        fs::rename(&self.photos, &away)?;
        fs::create_dir(&self.photos)?;
        self.await_location(&self.desk, "Photos", |location| location["state"] != "settled")?;
        let refused = self.desk.run(["sync", "photos", "--wait", "2s"])?;
        self.check("a source that disappeared is refused", matches!(refused.code, 5 | 6));
        self.check("no file was deleted on nas", lab::read(&self.backup)? == before);
        fs::remove_dir(&self.photos)?;
        fs::rename(&away, &self.photos)?;
        self.await_settled(&self.desk, "Photos")?;
        let attic = self.lab.directory("attic")?;
        for name in fs::read_dir(&self.photos)?.collect::<Result<Vec<_>, _>>()? {
            if name.file_name() != ".tidegate" {
                fs::rename(name.path(), attic.join(name.file_name()))?;
            }
        }
        let held = self.desk.run(["sync", "photos"])?;
        self.check("an emptied source is a safety stop with exit code 6", held.code == 6);
        self.check("still no file was deleted on nas", lab::read(&self.backup)? == before);
        for name in fs::read_dir(&attic)?.collect::<Result<Vec<_>, _>>()? {
            fs::rename(name.path(), self.photos.join(name.file_name()))?;
        }
        self.desk.must(["sync", "photos"])?;
        self.check("when it is back, nothing was lost and nothing was sent", lab::read(&self.backup)? == before);
        self.say(5, "desk's Photos \"disappears\", then is emptied: SAFETY STOP, nothing deleted");
        Ok(())
    }

    fn crash(&mut self) -> Result<(), LabError> {
        let large = lab::fill(77, LARGE_BYTES);
        lab::write(&self.photos, "large.bin", &large)?;
        self.desk.must(["conduit", "set", "photos", "--limit", "60 MB"])?;
        let started = self.desk.json(["sync", "photos", "--detach"])?;
        self.check("the copy has begun", started["generation"].is_u64());
        let progress = |status: &Value| status["conduits"][0]["running"]["bytes_done"].as_u64().unwrap_or(0);
        let half = LARGE_BYTES as u64 / 2;
        self.desk.await_status("half of the large file copied", PATIENCE, |status| progress(status) > half)?;
        self.nas.kill()?;
        self.check("no part of the file is visible after kill -9", !self.backup.join("large.bin").exists());
        self.desk.must(["conduit", "set", "photos", "--limit", "0"])?;
        self.nas.start()?;
        self.desk.must(["conduit", "wait", "photos"])?;
        let arrived = fs::read(self.backup.join("large.bin"))?;
        self.check("the file is whole", arrived == large);
        let shown = self.desk.json(["gen", "show", "photos"])?;
        let reused = shown["totals"]["bytes_reused"].as_u64().unwrap_or(0);
        self.check("at least 40 % of it was not sent again", reused * 10 > LARGE_BYTES as u64 * 4);
        let leftovers = lab::read(&self.backup.join(".tidegate/staging"))?;
        self.check("nothing is left staged", leftovers.values().all(|leaf| *leaf == Leaf::Directory));
        self.say(6, &format!("kill -9 of nas in mid-copy -> restarted, resumed, {} MB reused", reused / 1_000_000));
        Ok(())
    }

    fn third_device(&mut self) -> Result<(), LabError> {
        let files = self.desk.json(["status"])?["locations"][0]["files"].clone();
        self.phone.await_status("desk's index on phone", PATIENCE, |status| {
            count(&status["devices"], |device| device["caught_up"] == true) == 2
        })?;
        let status = self.phone.json(["status"])?;
        let known = count(&status["locations"], |location| location["files"] == files);
        self.check("phone, which never paired with desk, holds desk's whole index", known >= 1);
        let pocket = self.lab.directory("Pocket")?;
        self.phone.must(["location", "add", path(&pocket)?, "--name", "Pocket", "--allow", "desk=delete"])?;
        self.desk.must(["location", "allow", "Photos", "phone=read"])?;
        self.await_locations(&self.desk, 3)?;
        self.desk.must(["conduit", "create", "pocket", "desk:Photos/holiday", "phone:Pocket"])?;
        self.desk.must(["sync", "pocket"])?;
        let holiday = lab::read(&self.photos.join("holiday"))?;
        self.check("a part of Photos is on phone", !holiday.is_empty() && holiday == lab::read(&pocket)?);
        for device in [&self.desk, &self.nas, &self.phone] {
            let healthy = device.run(["health"])?.code == 0;
            self.passed += u32::from(healthy);
            if !healthy {
                self.wrong.push(format!("{} is not healthy at the end", device.name()));
            }
        }
        self.say(7, "desk:Photos/holiday -> phone:Pocket, verified; phone had desk's index through nas");
        Ok(())
    }

    fn last_verified(&self, device: &Device) -> Result<bool, LabError> {
        let shown = device.json(["gen", "show", "photos"])?;
        Ok(shown["verification"] == "verified")
    }

    fn held_plan(&self) -> Result<String, LabError> {
        let status = self.desk.json(["status"])?;
        let plan = status["conduits"][0]["held"]["plan"].as_str();
        plan.map(ToOwned::to_owned).ok_or_else(|| LabError::new(format!("no plan is held:\n{status:#}")))
    }

    fn await_locations(&self, device: &Device, number: usize) -> Result<(), LabError> {
        let known = |status: &Value| status["locations"].as_array().is_some_and(|all| all.len() >= number);
        device.await_status("all locations known", PATIENCE, known).map(drop)
    }

    fn await_location(&self, device: &Device, name: &str, is_it: impl Fn(&Value) -> bool) -> Result<(), LabError> {
        let found =
            |status: &Value| count(&status["locations"], |l| l["name"] == name && l["here"] == true && is_it(l));
        device.await_status(name, PATIENCE, |status| found(status) == 1).map(drop)
    }

    fn await_settled(&self, device: &Device, name: &str) -> Result<(), LabError> {
        self.await_location(device, name, |location| location["state"] == "settled")
    }

    fn await_online(&self, device: &Device, name: &str) -> Result<(), LabError> {
        let online = |status: &Value| count(&status["devices"], |d| d["name"] == name && d["online"] == true) == 1;
        device.await_status("the other device online", PATIENCE, online).map(drop)
    }
}

fn lab_path(lab: &Lab) -> String {
    lab.path().display().to_string()
}

fn path(path: &Path) -> Result<&str, LabError> {
    path.to_str().ok_or_else(|| LabError::new("the temporary directory's name is not UTF-8"))
}

fn holds(tree: &Tree, content: &[u8]) -> bool {
    tree.values().any(|leaf| *leaf == Leaf::file(content))
}

fn count(list: &Value, is_it: impl Fn(&Value) -> bool) -> usize {
    list.as_array().map_or(0, |all| all.iter().filter(|one| is_it(one)).count())
}
