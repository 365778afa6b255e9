//! Seed and profile to a plan. The only place where a seed becomes events; each class of events on each device has
//! a stream of its own, so a change to one rate leaves the other classes as they were.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_protocol::file_sync::{BandwidthLimit, ConflictStrategy, DeleteMode, LimitStep, Schedule, SyncMode};

use super::profile::Profile;
use super::{ConduitPlan, Content, Deed, DevicePlan, End, LocationPlan, Millis, NetworkPlan, Place, Plan, Step, Style};
use crate::random::{Draws, Kind, Stream};

const NAMES: [&str; 10] = ["ana", "ben", "cleo", "dan", "eva", "finn", "gil", "hana", "ivo", "jo"];
const LOCATIONS: [&str; 4] = ["Notes", "Photos", "Work", "Music"];
const DIRS: [&str; 7] = ["", "", "docs", "docs/old", "src", "src/core", "pics 2026"];
const FILES: [&str; 12] = [
    "a.txt",
    "b.txt",
    "c.txt",
    "notes.md",
    "Notes.md",
    "report.pdf",
    "IMG_0001.raw",
    "main.rs",
    "lib.rs",
    "Makefile",
    "d.txt",
    "e.txt",
];
const STRATEGIES: [ConflictStrategy; 5] = [
    ConflictStrategy::NewestWins,
    ConflictStrategy::LargestWins,
    ConflictStrategy::SourceWins,
    ConflictStrategy::TargetWins,
    ConflictStrategy::PromptUser,
];
const HOUR_MS: u64 = 3_600_000;
/// The minute of the day at which runs begin: 22:13.
const FIRST_MINUTE: u64 = 22 * 60 + 13;

/// Draws the plan of a seed.
pub fn generate(seed: u64, name: &str, profile: &Profile) -> Plan {
    let shape = Draws::new(seed).stream(Kind::Plan, 0, 0);
    let mut plan = Plan::empty(seed);
    name.clone_into(&mut plan.profile);
    plan.until = Millis(profile.minutes * 60_000);
    plan.network = weather(&mut shape.below_key(1), profile);
    devices(&mut shape.below_key(2), profile, &mut plan);
    locations(&mut shape.below_key(3), profile, &mut plan);
    conduits(&mut shape.below_key(4), profile, &mut plan);
    limits(&shape.below_key(5), profile, &mut plan);
    for device in 0..plan.devices.len() {
        edits(seed, device, profile, &mut plan);
        restores(seed, device, profile, &mut plan);
        faults(seed, device, profile, &mut plan);
    }
    plan.settle_steps();
    plan
}

fn weather(draw: &mut Stream, profile: &Profile) -> NetworkPlan {
    let worst = profile.weather;
    let mut up_to = |most: u64| if draw.chance(500_000) { draw.below(most + 1) } else { 0 };
    let (gossip_loss, repeat, reset) =
        (up_to(worst.gossip_loss_ppm), up_to(worst.gossip_repeat_ppm), up_to(worst.reset_ppm));
    let low = 1 + up_to(worst.latency_ms / 4);
    NetworkPlan {
        latency_ms: (low, low + 1 + up_to(worst.latency_ms)),
        gossip_loss_ppm: gossip_loss as u32,
        gossip_repeat_ppm: repeat as u32,
        reset_ppm: reset as u32,
        bytes_per_s: if draw.chance(250_000) { draw.range(200_000, 20_000_000) } else { 0 },
    }
}

fn devices(draw: &mut Stream, profile: &Profile, plan: &mut Plan) {
    let count = draw.range(profile.devices.0, profile.devices.1) as usize;
    for index in 0..count {
        let name = NAMES.get(index).map_or_else(|| format!("device{index}"), ToString::to_string);
        let mut device = DevicePlan::plain(&name);
        if draw.chance(500_000) {
            device.skew_ms = draw.range(0, 20_000) as i64 - 10_000;
        }
        if draw.chance(250_000) {
            device.drift_ppm = draw.range(0, 1_000) as i64 - 500;
        }
        device.settle = Millis(draw.range(100, 1_500));
        if draw.below(100) < profile.quirk_percent {
            // Disks that fold names are not drawn: the node does not claim to keep them in step.
            match draw.below(3) {
                0 => device.mtime_step_ns = [1_000_000_000, 2_000_000_000, 1_000_000][draw.index(3)],
                1 => device.exchange = false,
                _ => device.reuses_inodes = true,
            }
        }
        plan.devices.push(device);
    }
}

fn locations(draw: &mut Stream, profile: &Profile, plan: &mut Plan) {
    for device in plan.devices.clone() {
        for name in LOCATIONS.iter().take(if draw.chance(250_000) { 2 } else { 1 }) {
            plan.locations.push(LocationPlan {
                device: device.name.clone(),
                name: (*name).to_owned(),
                files: BTreeMap::new(),
                rules: if draw.chance(100_000) { vec!["*.tmp".to_owned()] } else { Vec::new() },
            });
        }
    }
    for location in &mut plan.locations {
        for _ in 0..draw.range(profile.files.0, profile.files.1) {
            location.files.insert(path(draw), Content::Unique(size(draw, profile)));
        }
        no_file_holds_another(&mut location.files);
    }
}

/// Conduits that the rules allow: nothing but one mirror writes where a mirror does, and nothing goes in circles. They are
/// created in one moment on several devices, none of which could say no to what it has not heard of.
fn conduits(draw: &mut Stream, profile: &Profile, plan: &mut Plan) {
    let owner = |plan: &Plan, at: usize| plan.device(&plan.locations[at].device).expect("it was made for a device");
    let mut mirrored = BTreeSet::new();
    for device in 1..plan.devices.len() {
        // One stream each, so that a device more does not change the links among the others.
        let mut draw = draw.below_key(device as u64);
        let below: Vec<usize> = (0..plan.locations.len()).filter(|at| owner(plan, *at) < device).collect();
        let targets: Vec<usize> = (0..plan.locations.len()).filter(|at| owner(plan, *at) == device).collect();
        for target in targets {
            let source = below[draw.index(below.len())];
            let both = draw.below(100) < profile.bidirectional_percent && !mirrored.contains(&source);
            if !both && draw.chance(800_000) {
                plan.locations[target].files.clear();
            }
            let selective = !both && profile.selective_percent > 0 && draw.below(100) < profile.selective_percent;
            let mode = match (both, selective) {
                (true, _) => SyncMode::Bidirectional,
                (false, true) => SyncMode::Selective,
                (false, false) => SyncMode::Mirror,
            };
            if mode == SyncMode::Mirror {
                mirrored.insert(target);
            }
            conduit(&mut draw, (source, target), mode, profile, plan);
        }
    }
    if profile.bidirectional_percent == 100 {
        rings(&draw.below_key(u64::MAX), profile, plan);
    }
}

/// Further two-way conduits between locations of different devices: with the others they make triangles and rings.
fn rings(draw: &Stream, profile: &Profile, plan: &mut Plan) {
    for target in 0..plan.locations.len() {
        for source in 0..target {
            let mut draw = draw.below_key((source as u64) << 32 | target as u64);
            let at = |end: &End| plan.location(&end.device, &end.place.location);
            let ends = [Some(source), Some(target)];
            let is_there = plan.conduits.iter().any(|c| [at(&c.source), at(&c.target)] == ends);
            let one_device = plan.locations[source].device == plan.locations[target].device;
            if !is_there && !one_device && draw.below(100) < profile.ring_percent {
                conduit(&mut draw, (source, target), SyncMode::Bidirectional, profile, plan);
            }
        }
    }
}

fn conduit(draw: &mut Stream, ends: (usize, usize), mode: SyncMode, profile: &Profile, plan: &mut Plan) {
    let schedule = if draw.chance(600_000) {
        Schedule::Instant { settle_ms: draw.range(200, 5_000) as u32 }
    } else {
        Schedule::Every { interval_ms: draw.range(20, 240) * 1_000 }
    };
    let end = |at: usize| End {
        device: plan.locations[at].device.clone(),
        place: Place { location: plan.locations[at].name.clone(), path: String::new() },
    };
    let delete_mode = if draw.chance(50_000) { DeleteMode::Permanent } else { DeleteMode::Trash };
    let strategy = match mode {
        SyncMode::Bidirectional if draw.below(100) < profile.strategy_percent => {
            STRATEGIES[draw.index(STRATEGIES.len())]
        }
        SyncMode::Selective if draw.below(100) < profile.strategy_percent => ConflictStrategy::SourceWins,
        SyncMode::Bidirectional | SyncMode::Mirror | SyncMode::Selective => ConflictStrategy::CreateConflictFile,
    };
    let select = if mode == SyncMode::Selective { selection(draw) } else { Vec::new() };
    plan.conduits.push(ConduitPlan {
        name: format!("c{}", plan.conduits.len() + 1),
        source: end(ends.0),
        target: end(ends.1),
        mode,
        schedule,
        delete_mode,
        strategy,
        limit: BandwidthLimit::default(),
        select,
        approves: true,
    });
}

/// Limits by time of day: one that holds at first, and one from a minute of the run on.
fn limits(draw: &Stream, profile: &Profile, plan: &mut Plan) {
    for (at, conduit) in plan.conduits.iter_mut().enumerate() {
        let mut draw = draw.below_key(at as u64);
        if draw.below(100) >= profile.limit_percent {
            continue;
        }
        let mut step = |from_minute: u64| {
            // Enough for the largest file of the profile within a minute.
            let least = (profile.file_bytes.1 / 60_000).max(10);
            let bytes_per_s = if draw.chance(300_000) { 0 } else { draw.range(least, least * 20) * 1_000 };
            LimitStep { from_minute: from_minute as u16, bytes_per_s }
        };
        let (first, later) = (step(0), step(FIRST_MINUTE + 1 + at as u64 % profile.minutes.clamp(1, 60)));
        let limit = BandwidthLimit { steps: vec![first, later], utc_offset_minutes: 0 };
        // Two limits that are alike are written as one.
        conduit.limit = limit.as_constant().map_or(limit, BandwidthLimit::constant);
    }
}

/// A person puts back what lies in the trash.
fn restores(seed: u64, device: usize, profile: &Profile, plan: &mut Plan) {
    let is_on = Draws::new(seed).stream(Kind::Plan, 0, 2).chance(500_000);
    let name = plan.devices[device].name.clone();
    let own: Vec<String> = plan.locations.iter().filter(|l| l.device == name).map(|l| l.name.clone()).collect();
    if !is_on || own.is_empty() || profile.restores_per_hour <= 0.0 {
        return;
    }
    let mean = (HOUR_MS as f64 / profile.restores_per_hour) as u64;
    let mut draw = Draws::new(seed).stream(Kind::Plan, device as u64 + 1, 2);
    let mut at = draw.around(mean);
    while at < plan.until.0 {
        let location = own[draw.index(own.len())].clone();
        let path = if draw.chance(400_000) { String::new() } else { piece(&mut draw) };
        let deed = Deed::Restore(Place { location, path });
        plan.steps.push(Step { at: Millis(at), on: name.clone(), deed, number: 0 });
        at += draw.around(mean).max(1);
    }
}

fn edits(seed: u64, device: usize, profile: &Profile, plan: &mut Plan) {
    let name = plan.devices[device].name.clone();
    let own: Vec<String> = plan.locations.iter().filter(|l| l.device == name).map(|l| l.name.clone()).collect();
    let mut draw = Draws::new(seed).stream(Kind::Plan, device as u64 + 1, 1);
    let mirrored: BTreeSet<String> = plan
        .conduits
        .iter()
        .filter(|c| c.target.device == name && c.mode.is_one_way())
        .map(|c| c.target.place.location.clone())
        .collect();
    if own.is_empty() || profile.edits_per_hour == 0 {
        return;
    }
    let mut at = draw.around(HOUR_MS / profile.edits_per_hour);
    while at < plan.until.0 {
        let location = own[draw.index(own.len())].clone();
        // On a mirror's target most users only look.
        let acts = !mirrored.contains(&location) || draw.chance(400_000);
        let verb = weighted(&mut draw, &profile.edits);
        // Saves come in bursts: the same file again, within the time that the node needs to look at it.
        let burst = if draw.chance(150_000) { draw.range(2, 4) } else { 1 };
        let mut moment = at;
        for _ in 0..burst {
            let deed = edit(&mut draw, &verb, &location, profile);
            if let Some(deed) = deed.filter(|_| acts && moment < plan.until.0) {
                plan.steps.push(Step { at: Millis(moment), on: name.clone(), deed, number: 0 });
            }
            moment += draw.range(20, 3_000);
        }
        at += draw.around(HOUR_MS / profile.edits_per_hour).max(1);
    }
}

fn edit(draw: &mut Stream, verb: &str, location: &str, profile: &Profile) -> Option<Deed> {
    let place = |path: String| Place { location: location.to_owned(), path };
    Some(match verb {
        "writes" => {
            let style = match draw.below(10) {
                0..4 => Style::Truncate,
                4..7 => Style::Temp,
                7 => Style::Append,
                8 => Style::Slow(Millis(draw.range(500, 120_000))),
                _ => Style::Stealth,
            };
            Deed::Write { at: place(path(draw)), content: Content::Unique(size(draw, profile)), style }
        }
        "deletes" => {
            let dir = DIRS[draw.index(DIRS.len())];
            let at = if draw.chance(150_000) && !dir.is_empty() { dir.to_owned() } else { path(draw) };
            Deed::Delete(place(at))
        }
        "renames" => match draw.below(4) {
            0 => {
                let dir = ["docs", "src", "docs/old", "src/core"][draw.index(4)];
                Deed::Rename(
                    place(dir.to_owned()),
                    place(["moved", "docs/old", "archive", "src/core2"][draw.index(4)].to_owned()),
                )
            }
            1 => {
                let from = path(draw);
                let cased = from.to_uppercase();
                Deed::Rename(place(from), place(cased))
            }
            _ => {
                let (from, to) = (path(draw), path(draw));
                Deed::Rename(place(from), place(to))
            }
        },
        "swaps" => {
            let (a, b) = (path(draw), path(draw));
            Deed::Swap(place(a), place(b))
        }
        "strikes" => {
            let call = draw.chance(700_000).then(|| draw.range(1, 40) as u32);
            Deed::Strike { location: location.to_owned(), call }
        }
        "touches" => Deed::Touch(place(path(draw))),
        "retypes" => {
            let at = if draw.chance(300_000) { "docs/old".to_owned() } else { path(draw) };
            Deed::Retype(place(at))
        }
        "makes-dir" => Deed::MakeDir(place(format!("dir{}", draw.below(4)))),
        "links" => {
            let target = ["a.txt", "../outside", "/etc/passwd", "docs", "loop"][draw.index(5)];
            Deed::Link(place(format!("link{}", draw.below(3))), target.to_owned())
        }
        "chmods" => Deed::Executable(place(path(draw)), draw.chance(500_000)),
        "checks-out" => {
            let dir = if draw.chance(500_000) { String::new() } else { "src".to_owned() };
            Deed::Checkout(place(dir), draw.range(5, 60) as u32)
        }
        "makes-fifo" => Deed::Fifo(place(format!("pipe{}", draw.below(2)))),
        _ => return None,
    })
}

fn faults(seed: u64, device: usize, profile: &Profile, plan: &mut Plan) {
    let name = plan.devices[device].name.clone();
    for (class, (verb, rate)) in profile.faults.iter().enumerate() {
        // Which classes are on is drawn once for the run, not for each device.
        let mut swarm = Draws::new(seed).stream(Kind::Plan, 0, 1_000 + class as u64);
        let on = swarm.below(100) < profile.fault_on_percent;
        let strength = [0.3, 1.0, 3.0][swarm.index(3)];
        let mut draw = Draws::new(seed).stream(Kind::Plan, device as u64 + 1, 1_000 + class as u64);
        let rate = rate * strength;
        if !on || rate <= 0.0 {
            continue;
        }
        let mean = (HOUR_MS as f64 / rate) as u64;
        let mut at = draw.around(mean);
        while at < plan.until.0 {
            if let Some(deed) = fault(&mut draw, verb, device, plan) {
                plan.steps.push(Step { at: Millis(at), on: name.clone(), deed, number: 0 });
            }
            at += draw.around(mean).max(1);
        }
    }
}

fn fault(draw: &mut Stream, verb: &str, device: usize, plan: &Plan) -> Option<Deed> {
    let name = &plan.devices[device].name;
    let own: Vec<&LocationPlan> = plan.locations.iter().filter(|l| l.device == *name).collect();
    let location = own.get(draw.index(own.len().max(1)))?.name.clone();
    let others: Vec<&DevicePlan> = plan.devices.iter().filter(|d| d.name != *name).collect();
    let other = others.get(draw.index(others.len().max(1)))?.name.clone();
    let conduits: Vec<&ConduitPlan> =
        plan.conduits.iter().filter(|c| c.source.device == *name || c.target.device == *name).collect();
    let conduit = (!conduits.is_empty()).then(|| conduits[draw.index(conduits.len())].name.clone());
    let chosen: Vec<&&ConduitPlan> = conduits.iter().filter(|c| c.mode == SyncMode::Selective).collect();
    let selective = (!chosen.is_empty()).then(|| chosen[draw.index(chosen.len())].name.clone());
    let span = Millis(draw.range(1, 240) * 1_000);
    let off = Millis(draw.range(100, 120_000));
    Some(match verb {
        "loses-power" => {
            let after = draw.chance(600_000).then(|| draw.range(1, 300) as u32);
            Deed::Crash { off, after }
        }
        "is-killed" => Deed::Kill(off),
        "is-stopped" => Deed::Stop(off),
        "is-cut-from" => Deed::Cut { other, span, one_way: draw.chance(300_000) },
        "is-isolated" => Deed::Isolate(span),
        "is-slow-to" => {
            Deed::Slow { other, latency: Millis(draw.range(50, 4_000)), rate: draw.range(2_000, 200_000), span }
        }
        "is-reset-from" => Deed::Reset(other),
        "disk-full" => Deed::Full(location, span),
        "disk-fails" => Deed::Fail { location, calls: draw.range(1, 4) as u32, after: draw.range(0, 200) as u32 },
        "disk-read-only" => Deed::ReadOnly(location, span),
        "cannot-read" => {
            let path = if draw.chance(300_000) { "docs".to_owned() } else { path(draw) };
            Deed::Unreadable(Place { location, path }, span)
        }
        "disk-slow" => Deed::SlowDisk { location, each: Millis(draw.range(1, 50)), span },
        "clock" => {
            let spans = [60_000, 9 * 60_000, 30 * 60_000, 365 * 24 * HOUR_MS];
            Deed::Clock { by: Millis(spans[draw.index(4)]), back: draw.chance(500_000) }
        }
        "unmounts" => Deed::Unmount(location, span),
        "replaces-root" => Deed::Replace(location, span),
        "copies-tree" => Deed::CopyTree(location),
        "restores-tree" => Deed::RestoreTree(location),
        "copies-index" => Deed::CopyIndex,
        "restores-index" => Deed::RestoreIndex,
        "loses-index" => Deed::Wipe,
        "overflows" => Deed::Overflow(location),
        "watches-late" => Deed::Late { location, by: Millis(draw.range(100, 20_000)), span },
        "pauses" => Deed::Pause(conduit?, draw.chance(500_000)),
        "syncs" => Deed::Sync(conduit?),
        "approves" => Deed::Approve(conduit?),
        "pins" => Deed::Pin { conduit: selective?, path: piece(draw), pinned: draw.chance(700_000) },
        "fetches" => Deed::Fetch { conduit: selective?, path: piece(draw), stays: Millis(draw.range(1, 24) * HOUR_MS) },
        "rescans" => Deed::Rescan { location, deep: draw.chance(500_000) },
        "ignores" => Deed::Rules(location, if draw.chance(500_000) { vec!["*.md".to_owned()] } else { Vec::new() }),
        _ => return None,
    })
}

/// Subtrees, files and patterns, of which a target holds what is below or like one of them.
fn selection(draw: &mut Stream) -> Vec<String> {
    let known = ["docs", "docs/old", "src", "pics 2026", "*.txt", "a.txt", "notes.md", "*.raw", "."];
    let mut select: Vec<String> = (0..draw.range(1, 3)).map(|_| known[draw.index(known.len())].to_owned()).collect();
    select.sort();
    select.dedup();
    select
}

/// A file, or a directory with all below it.
fn piece(draw: &mut Stream) -> String {
    let dir = DIRS[draw.index(DIRS.len())];
    if draw.chance(300_000) && !dir.is_empty() { dir.to_owned() } else { path(draw) }
}

fn path(draw: &mut Stream) -> String {
    let (dir, file) = (DIRS[draw.index(DIRS.len())], FILES[draw.index(FILES.len())]);
    if dir.is_empty() { file.to_owned() } else { format!("{dir}/{file}") }
}

fn size(draw: &mut Stream, profile: &Profile) -> u32 {
    let (low, high) = profile.file_bytes;
    let most = if draw.chance(30_000) { high } else { low + (high - low) / 50 };
    if draw.chance(20_000) { 0 } else { draw.range(low.min(1), most) as u32 }
}

fn weighted(draw: &mut Stream, weights: &BTreeMap<String, u64>) -> String {
    let mut left = draw.below(weights.values().sum::<u64>().max(1));
    for (name, weight) in weights {
        if left < *weight {
            return name.clone();
        }
        left -= weight;
    }
    String::new()
}

/// A file at `docs` and one at `docs/a.txt` cannot both be there.
fn no_file_holds_another(files: &mut BTreeMap<String, Content>) {
    let paths: Vec<String> = files.keys().cloned().collect();
    files.retain(|path, _| !paths.iter().any(|other| other.starts_with(&format!("{path}/"))));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::profile::BUILT_IN;

    #[test]
    fn a_seed_gives_one_plan_and_its_text_reads_back_as_it() {
        for (name, text) in BUILT_IN {
            let profile = Profile::parse(text).unwrap();
            for seed in 0..20 {
                let plan = generate(seed, name, &profile);
                assert_eq!(plan, generate(seed, name, &profile));
                let read = crate::story::read(&plan.to_string()).unwrap_or_else(|e| panic!("{name} {seed}: {e}"));
                assert_eq!(read, plan, "{name} {seed}");
            }
        }
    }

    #[test]
    fn no_plan_has_conduits_that_the_rules_refuse_together() {
        for (name, text) in BUILT_IN {
            let profile = Profile::parse(text).unwrap();
            for seed in 0..50 {
                let plan = generate(seed, name, &profile);
                let mirrors = plan.conduits.iter().filter(|c| c.mode == SyncMode::Mirror);
                let writes =
                    |c: &ConduitPlan, end: &End| c.target == *end || (!c.mode.is_one_way() && c.source == *end);
                for mirror in mirrors {
                    let writers = plan.conduits.iter().filter(|c| writes(c, &mirror.target));
                    assert_eq!(writers.count(), 1, "{name} {seed}: {}", mirror.target);
                }
            }
        }
    }

    #[test]
    fn standard_plans_have_all_classes_of_deeds_among_them() {
        let profile = Profile::named("standard").unwrap();
        let plans = (0..100).map(|seed| generate(seed, "standard", &profile));
        let verbs: BTreeSet<&str> =
            plans.flat_map(|plan| plan.steps.into_iter().map(|step| step.deed.verb())).collect();
        let drawn = profile.edits.keys().chain(profile.faults.keys()).map(String::as_str);
        for verb in drawn.chain(["restores"]) {
            assert!(verbs.contains(verb), "{verb} is never drawn");
        }
    }

    #[test]
    fn dense_plans_put_things_back_and_limit_by_the_hour() {
        let profile = Profile::named("dense").unwrap();
        let plans: Vec<Plan> = (0..40).map(|seed| generate(seed, "dense", &profile)).collect();
        assert!(plans.iter().flat_map(|plan| &plan.steps).any(|step| matches!(step.deed, Deed::Restore(_))));
        assert!(plans.iter().flat_map(|plan| &plan.conduits).any(|conduit| conduit.limit.steps.len() == 2));
    }
}
