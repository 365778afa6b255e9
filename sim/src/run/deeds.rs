//! What a step of a plan does to the world, and what ends it again.

use std::collections::BTreeSet;

use tidegate::core::command::Command;
use tidegate::core::past::{TrashAsk, TrashSelect, TrashWhat};
use tidegate_protocol::file_sync::Decision;
use tidegate_protocol::path::EntryPath;
use tidegate_storage::disk::FileKind;

use super::operator::Call;
use super::setup::{OTHER_VOLUME, weather};
use super::{Later, Run};
use crate::checkers::Seen;
use crate::device::Cut;
use crate::disk::{Access, Content as Bytes, Disk, Errno, Picture, Survival};
use crate::executor::MILLI;
use crate::plan::{Deed, Doer, Keep, Millis, NetworkPlan, Step};
use crate::random::Kind;
use crate::user::{Came, absolute};
use crate::watch::Watching;

impl Run<'_> {
    pub(super) fn act(&mut self, step: &Step) {
        let device = self.device_named(&step.on);
        let did = match step.deed.doer() {
            Doer::User => self.user(device, step),
            Doer::Fate => self.fate(device, step),
            Doer::Operator => self.operator(device, step),
        };
        if did {
            self.coverage.mark(&format!("deed:{}", step.deed.verb()));
            self.moment(device, step.deed.to_string());
            self.observe();
            self.heard(&Seen::Did { device, deed: &step.deed });
        }
    }

    fn user(&mut self, device: usize, step: &Step) -> bool {
        if let Some(location) = step.deed.location()
            && self.standing[device].away.contains_key(location)
        {
            return false;
        }
        let disk = self.world.device(device as u32).disk.clone();
        let active = step.deed.location().and_then(|location| self.standing[device].active.get(location).cloned());
        let at = self.now();
        let came = self.users.act(at, (device, &disk), (&step.deed, step.number), active.as_deref(), &mut self.ghost);
        if active.is_some() && matches!(step.deed, Deed::Strike(_)) {
            self.coverage.mark("user:struck-active-path");
        }
        match came {
            Came::ToNothing => false,
            Came::Done => true,
            Came::Slow(save) => {
                let pause = save.pause;
                self.later(pause.0, Later::Save(save));
                true
            }
        }
    }

    fn fate(&mut self, device: usize, step: &Step) -> bool {
        let index = device as u32;
        match &step.deed {
            Deed::Crash { off, after } => {
                if !self.is_up(device) {
                    return false;
                }
                match after {
                    Some(after) => {
                        self.standing[device].armed = true;
                        let disk = &self.world.device(index).disk;
                        disk.faults(|faults| faults.die_at = Some(faults.calls + u64::from(*after)));
                        // If it does not come to so many operations, the power is cut then.
                        self.later(60_000, Later::Mend(device, step.deed.clone()));
                    }
                    None => self.power_cut(device),
                }
                self.come_back(device, *off);
            }
            Deed::Kill(off) => {
                if !self.is_up(device) {
                    return false;
                }
                self.mark_crash(device);
                self.world.crash(index, Cut::Process);
                self.went_down(device);
                self.come_back(device, *off);
            }
            Deed::Stop(off) => {
                if !self.is_up(device) {
                    return false;
                }
                self.world.stop(index);
                self.observe();
                self.went_down(device);
                self.come_back(device, *off);
            }
            Deed::Cut { other, span, one_way } => {
                let other = self.device_named(other);
                self.cut(device, other, 1);
                if !one_way {
                    self.cut(other, device, 1);
                }
                self.later(span.0, Later::Mend(device, step.deed.clone()));
            }
            Deed::Isolate(span) => {
                for other in (0..self.plan.devices.len()).filter(|other| *other != device) {
                    self.cut(device, other, 1);
                    self.cut(other, device, 1);
                }
                self.later(span.0, Later::Mend(device, step.deed.clone()));
            }
            Deed::Slow { other, latency, rate, span } => {
                let other = self.device_named(other);
                let slow =
                    NetworkPlan { latency_ms: (latency.0 / 2, latency.0), bytes_per_s: *rate, ..self.plan.network };
                self.world.net.set_way(index, other as u32, weather(&slow));
                self.later(span.0, Later::Mend(device, step.deed.clone()));
            }
            Deed::Reset(other) => {
                let other = self.device_named(other);
                self.world.net.break_connections(index, other as u32);
            }
            Deed::Clock { by, back } => {
                let by = by.0 as i64;
                self.world.device(index).chip.jump(if *back { -by } else { by });
            }
            Deed::CopyIndex => self.standing[device].index = Some(self.world.pages(index).image()),
            Deed::RestoreIndex | Deed::Wipe => return self.other_index(device, &step.deed),
            other => return self.disk_fault(device, other),
        }
        true
    }

    fn disk_fault(&mut self, device: usize, deed: &Deed) -> bool {
        let Some(location) = deed.location().map(str::to_owned) else { return false };
        let (disk, volume) = (self.world.device(device as u32).disk.clone(), self.volume(device, &location));
        let top = absolute(&Self::place(&location));
        if self.standing[device].away.contains_key(&location) {
            return false;
        }
        let mut span = None;
        match deed {
            Deed::Full(_, of) => {
                disk.set_capacity(volume, disk.used_bytes(volume));
                span = Some(*of);
            }
            Deed::Fail { calls, after, .. } => disk.faults(|faults| {
                let begin = faults.calls + u64::from(*after) + 1;
                faults.fail_at.extend((begin..begin + u64::from(*calls)).map(|call| (call, Errno::Io)));
            }),
            Deed::ReadOnly(_, of) => {
                disk.set_read_only(volume, true);
                span = Some(*of);
            }
            Deed::Unreadable(at, of) => {
                if disk.user().set_access(&absolute(at), Access::Nothing).is_err() {
                    return false;
                }
                span = Some(*of);
            }
            Deed::SlowDisk { each, span: of, .. } => {
                disk.faults(|faults| faults.call_takes_ns = each.0 * MILLI);
                span = Some(*of);
            }
            Deed::Unmount(_, of) => {
                self.ghost.upheaval(self.now(), device, &location);
                self.standing[device].away.insert(location.clone(), volume);
                disk.unmount(&top, true);
                span = Some(*of);
            }
            Deed::Replace(_, of) => {
                self.ghost.upheaval(self.now(), device, &location);
                self.standing[device].away.insert(location.clone(), volume);
                disk.unmount(&top, true);
                disk.mount(&top, self.spec(device, volume + OTHER_VOLUME));
                let _ = disk.user().write(&format!("{top}/somebody-elses.txt"), b"not ours");
                span = Some(*of);
            }
            Deed::CopyTree(_) => {
                let Ok(tree) = disk.tree(&top, Picture::Live) else { return false };
                self.standing[device].trees.insert(location, tree);
            }
            Deed::RestoreTree(_) => return self.restore_tree(device, &location),
            Deed::Overflow(_) => self.world.device(device as u32).watchers.overflow(),
            Deed::Late { by, span: of, .. } => {
                let watching = Watching { delay_max: by.0 * MILLI, ..Watching::default() };
                self.world.device(device as u32).watchers.set(watching);
                span = Some(*of);
            }
            _ => return false,
        }
        if let Some(span) = span {
            self.later(span.0, Later::Mend(device, deed.clone()));
        }
        true
    }

    /// A backup tool puts the files of a location back as they were, and takes away what was not there.
    fn restore_tree(&mut self, device: usize, location: &str) -> bool {
        let Some(tree) = self.standing[device].trees.get(location).cloned() else { return false };
        let disk = self.world.device(device as u32).disk.clone();
        let user = disk.user();
        let top = absolute(&Self::place(location));
        let Ok(now) = disk.tree(&top, Picture::Live) else { return false };
        let path = |below: &[u8]| format!("{top}/{}", String::from_utf8_lossy(below));
        let own = |below: &[u8]| below == b".tidegate" || below.starts_with(b".tidegate/");
        let kept: BTreeSet<&Vec<u8>> = tree.keys().collect();
        for below in now.keys().rev().filter(|below| !own(below) && !kept.contains(below)) {
            let _ = user.remove_tree(&path(below));
        }
        for (below, shown) in tree.iter().filter(|(below, _)| !own(below)) {
            let at = path(below);
            let same = now
                .get(below)
                .is_some_and(|other| other.content == shown.content && other.metadata.kind == shown.metadata.kind);
            if same {
                continue;
            }
            if user.kind(&at).is_ok_and(|kind| kind != shown.metadata.kind) {
                let _ = user.remove_tree(&at);
            }
            match (shown.metadata.kind, &shown.content, &shown.link) {
                (FileKind::Directory, ..) => drop(user.make_dir(&at)),
                (FileKind::Symlink, _, Some(target)) => drop(user.make_symlink(&at, target)),
                (FileKind::File, Some(content), _) if user.write(&at, &content.bytes()).is_ok() => {
                    let _ = user.set_mtime(&at, shown.metadata.mark.mtime_ns);
                    let place = (location, &*String::from_utf8_lossy(below));
                    let replaced = now.get(below).and_then(|other| other.content.as_ref()).map(Bytes::hash);
                    self.ghost.wrote(self.now(), device, place, content, replaced);
                }
                _ => {}
            }
        }
        true
    }

    /// The node stops and starts with an old index, or none.
    fn other_index(&mut self, device: usize, deed: &Deed) -> bool {
        let image = match deed {
            Deed::RestoreIndex => match self.standing[device].index.clone() {
                Some(image) => Some(image),
                None => return false,
            },
            _ => None,
        };
        if self.is_up(device) {
            self.world.stop(device as u32);
            self.observe();
            self.went_down(device);
        }
        if let Some(image) = image {
            self.world.pages(device as u32).restore(&image);
        } else {
            self.world.lose_replica(device as u32);
            self.standing[device].lost = true;
        }
        self.come_back(device, Millis(2_000));
        true
    }

    fn operator(&mut self, device: usize, step: &Step) -> bool {
        match &step.deed {
            Deed::Join(other) => {
                let host = self.device_named(other);
                let joined = self.world.pair(host as u32, device as u32);
                self.standing[device].out &= !joined;
                joined
            }
            Deed::Leave => {
                self.standing[device].out = true;
                self.call(device, Command::LeaveLibrary, Call::Whatever);
                true
            }
            Deed::Revoke(other) => {
                let other = self.device_named(other);
                self.standing[other].out = true;
                let name = self.plan.devices[other].name.clone();
                self.call(device, Command::RevokeDevice(name), Call::Whatever);
                true
            }
            Deed::Sync(conduit) => {
                self.sync(device, conduit);
                true
            }
            Deed::Approve(_) => {
                self.operate();
                true
            }
            Deed::Pause(conduit, paused) => {
                self.pause(device, conduit, *paused);
                true
            }
            Deed::Resolve { conduit, path, keep } => {
                let decision = match keep {
                    Keep::Source => Decision::Source,
                    Keep::Target => Decision::Target,
                    Keep::Both => Decision::Both,
                };
                let command = Command::Conflicts { conduit: Some(conduit.clone()), settled: false };
                self.call(device, command, Call::Decide { path: path.clone(), decision });
                true
            }
            Deed::Undo(conduit) => {
                self.call(device, Command::History { conduit: conduit.clone() }, Call::Undo(conduit.clone()));
                true
            }
            Deed::Pin { conduit, path, pinned } => {
                let path = EntryPath::from_slashes(path.as_bytes()).expect("it was read as a path");
                let command = Command::Pin { conduit: conduit.clone(), path, pinned: *pinned };
                self.call(device, command, Call::Whatever);
                true
            }
            Deed::Fetch { conduit, path, stays } => {
                let (conduit, path, for_ms) = (Some(conduit.clone()), path.clone(), stays.0);
                self.call(device, Command::Fetch { conduit, path, for_ms }, Call::Whatever);
                true
            }
            Deed::Restore(at) => {
                let paths = EntryPath::from_slashes(at.path.as_bytes()).into_iter().collect();
                let select = TrashSelect { location: Some(at.location.clone()), paths, ..TrashSelect::default() };
                let ask = TrashAsk { what: TrashWhat::Restore, select, dry_run: false };
                self.call(device, Command::Trash(ask), Call::Restore(device));
                true
            }
            Deed::Rescan { location, deep } => {
                let command = Command::RescanLocation { location: location.clone(), deep: *deep };
                self.call(device, command, Call::Whatever);
                true
            }
            // The rules of a location are a file that a user writes.
            Deed::Rules(..) => self.user(device, step),
            _ => false,
        }
    }

    pub(super) fn is_up(&self, device: usize) -> bool {
        self.world.device(device as u32).is_up()
    }

    fn mark_crash(&mut self, device: usize) {
        use tidegate_protocol::file_sync::JobKind;
        let kinds: BTreeSet<JobKind> = self.standing[device].legs.keys().map(|job| job.kind).collect();
        let mark = match (kinds.contains(&JobKind::Copy), kinds.contains(&JobKind::Delete)) {
            (true, _) => "crash:in-copy-leg",
            (false, true) => "crash:in-delete-leg",
            (false, false) => "crash:idle",
        };
        self.coverage.mark(mark);
    }

    /// The power of a device goes now.
    pub(super) fn power_cut(&mut self, device: usize) {
        self.mark_crash(device);
        self.standing[device].armed = false;
        self.world.device(device as u32).disk.faults(|faults| faults.die_at = None);
        self.heard(&Seen::BeforePowerCut(device));
        let incarnation = u64::from(self.world.device(device as u32).incarnation());
        let mut stream = crate::random::Draws::new(self.plan.seed).stream(Kind::Crash, device as u64, incarnation);
        self.world.crash(device as u32, Cut::Power(Survival::draw(&mut stream)));
        self.observe_torn(device);
        self.heard(&Seen::PowerCut(device));
        self.went_down(device);
    }

    /// What a user wrote a moment before may be torn: nobody's fault, and a content like any other from now on.
    fn observe_torn(&mut self, device: usize) {
        let own: Vec<String> = self
            .plan
            .locations
            .iter()
            .filter(|location| location.device == self.plan.devices[device].name)
            .map(|location| location.name.clone())
            .collect();
        for location in own.iter().filter(|location| !self.standing[device].away.contains_key(*location)) {
            let disk = &self.world.device(device as u32).disk;
            let Ok(tree) = disk.tree(&absolute(&Self::place(location)), Picture::Live) else { continue };
            self.ghost.upheaval(self.now(), device, location);
            for (path, shown) in tree.iter().filter(|(path, _)| !crate::checkers::is_internal(path)) {
                let path = String::from_utf8_lossy(path);
                let users = self.ghost.writer(device, location, &path) != Some(crate::ghost::Writer::Node);
                if let Some(content) = shown.content.as_ref().filter(|content| users && !self.ghost.was_shown(content))
                {
                    self.ghost.shown(content.hash());
                    self.coverage.mark("torn:users-own-write");
                }
            }
        }
    }

    fn went_down(&mut self, device: usize) {
        self.standing[device].off = true;
        self.standing[device].active.clear();
        self.forget_calls(device);
        self.heard(&Seen::Stopped(device));
    }

    /// The device starts again after a time, unless something else starts it before.
    fn come_back(&mut self, device: usize, off: Millis) {
        self.later(off.0.max(1), Later::Start(device));
    }

    /// Starts a device that is off, and sees to it that one that has lost its index takes part again.
    pub(super) fn start(&mut self, device: usize) {
        if (self.is_up(device) || self.power_up(device)) && std::mem::take(&mut self.standing[device].lost) {
            self.begin_anew(device);
        }
    }

    /// Says whether it runs.
    fn power_up(&mut self, device: usize) -> bool {
        self.standing[device].off = false;
        let before = self.world.device(device as u32).replicas_lost;
        self.heard(&Seen::Started(device));
        if let Err(error) = self.world.start(device as u32) {
            let says = format!("the node does not start: {error}");
            let name = self.plan.devices[device].name.as_str();
            self.tell(crate::verdict::Violation::new(crate::verdict::names::ALIVE, "start", says).on(name));
            return false;
        }
        self.coverage.mark("start:after-crash");
        self.moment(device, "starts");
        let damaged = self.world.device(device as u32).replicas_lost > before;
        if damaged {
            let says = "its replica is damaged after a crash of a disk that keeps its word";
            let name = self.plan.devices[device].name.as_str();
            self.tell(
                crate::verdict::Violation::new(crate::verdict::names::DURABLE_BEFORE_SAID, "replica", says).on(name),
            );
        }
        true
    }

    /// An index was lost: the person pairs the device again and adds its directories again.
    fn begin_anew(&mut self, device: usize) {
        self.coverage.mark("epoch:renewed");
        let others = (0..self.plan.devices.len()).filter(|other| *other != device && self.is_up(*other));
        let Some(host) = others.into_iter().find(|other| !self.standing[*other].out) else {
            self.standing[device].lost = true;
            self.come_back(device, Millis(10_000));
            return;
        };
        // The directories keep the markers of the locations that they were, under which nobody knows them any more.
        self.world.pair(host as u32, device as u32);
        self.standing[device].out = true;
    }

    fn cut(&mut self, from: usize, to: usize, more: i32) {
        let cuts = self.standing[from].cuts.entry((from, to)).or_default();
        *cuts = cuts.saturating_add_signed(more);
        match *cuts {
            0 => self.world.net.mend(from as u32, to as u32),
            _ => self.world.net.cut(from as u32, to as u32),
        }
    }

    /// A fault ends.
    pub(super) fn mend(&mut self, device: usize, deed: &Deed) {
        let index = device as u32;
        let (disk, location) = (self.world.device(index).disk.clone(), deed.location().map(str::to_owned));
        let volume = location.as_deref().map_or(0, |location| self.volume(device, location));
        match deed {
            Deed::Crash { .. } if self.standing[device].armed => {
                self.power_cut(device);
                self.come_back(device, Millis(1_000));
            }
            Deed::Cut { other, one_way, .. } => {
                let other = self.device_named(other);
                self.cut(device, other, -1);
                if !one_way {
                    self.cut(other, device, -1);
                }
            }
            Deed::Isolate(_) => {
                for other in (0..self.plan.devices.len()).filter(|other| *other != device) {
                    self.cut(device, other, -1);
                    self.cut(other, device, -1);
                }
            }
            Deed::Slow { other, .. } => {
                let other = self.device_named(other);
                self.world.net.set_way(index, other as u32, weather(&self.plan.network));
            }
            Deed::Full(..) => disk.set_capacity(volume, crate::disk::VolumeSpec::plain(volume).capacity_bytes),
            Deed::ReadOnly(..) => disk.set_read_only(volume, false),
            Deed::Unreadable(..) => {
                allow_all(&disk, &absolute(&Self::place(location.as_deref().unwrap_or_default())));
            }
            Deed::SlowDisk { .. } => disk.faults(|faults| faults.call_takes_ns = 0),
            Deed::Unmount(..) | Deed::Replace(..) => {
                if let Some(location) = location {
                    self.mount_back(device, &location);
                }
            }
            Deed::Late { .. } => self.world.device(index).watchers.set(Watching::default()),
            _ => {}
        }
    }

    fn mount_back(&mut self, device: usize, location: &str) {
        let Some(volume) = self.standing[device].away.remove(location) else { return };
        let disk = self.world.device(device as u32).disk.clone();
        let top = absolute(&Self::place(location));
        disk.unmount(&top, true);
        disk.mount(&top, self.spec(device, volume));
        self.ghost.upheaval(self.now(), device, location);
    }

    /// Everything that went wrong is over.
    pub(super) fn heal(&mut self) {
        let plan = self.plan;
        self.healed = true;
        self.later.retain(|_, later| matches!(later, Later::Save(_) | Later::Operate));
        let calm = NetworkPlan { latency_ms: plan.network.latency_ms, ..NetworkPlan::default() };
        self.world.net.set_weather(weather(&calm));
        self.world.net.mend_all();
        for device in 0..plan.devices.len() {
            let index = device as u32;
            let (disk, chip) = (self.world.device(index).disk.clone(), self.world.device(index).chip.clone());
            disk.faults(|faults| {
                *faults = crate::disk::Faults { calls: faults.calls, ..crate::disk::Faults::default() }
            });
            chip.set_right();
            self.standing[device].armed = false;
            self.standing[device].cuts.clear();
            self.world.device(index).watchers.set(Watching::default());
            for location in plan.locations.iter().filter(|location| location.device == plan.devices[device].name) {
                let volume = self.volume(device, &location.name);
                disk.set_capacity(volume, crate::disk::VolumeSpec::plain(volume).capacity_bytes);
                disk.set_read_only(volume, false);
                self.mount_back(device, &location.name);
                allow_all(&disk, &absolute(&Self::place(&location.name)));
            }
            self.start(device);
        }
        for conduit in &plan.conduits {
            let device = self.device_named(&conduit.source.device);
            self.pause(device, &conduit.name, false);
        }
        self.observe();
        for device in 0..plan.devices.len() {
            self.moment(device, "everything is healed");
        }
        self.heard(&Seen::Healed);
    }
}

/// Everything below a path can be read and written again.
fn allow_all(disk: &Disk, top: &str) {
    let Ok(tree) = disk.tree(top, Picture::Live) else { return };
    for path in tree.keys() {
        // What is gone by now needs no permission.
        let _ = disk.user().set_access(&format!("{top}/{}", String::from_utf8_lossy(path)), Access::Full);
    }
}
