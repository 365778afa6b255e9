//! Reading plans and written stories: TOML in, a checked [`Plan`] out, or an error that points at its line.
//!
//! Stories are plans that people write for their own CI: most of a plan has defaults, locations appear where they are
//! named, and `[[expect]]` says what must be seen. Names are checked here, so a plan that was read can be run.

mod error;
mod form;

use std::collections::BTreeMap;
use std::str::FromStr;

use tidegate::timetable::parse_limit;
use tidegate_protocol::file_sync::{BandwidthLimit, ConflictStrategy, DeleteMode, Schedule, SyncMode};
use tidegate_protocol::id::Label;
use toml::Spanned;

pub use self::error::StoryError;
use self::error::{Wrong, form_error, placed};
use self::form::{Raw, RawConduit, RawContent, RawDevice, RawExpect, RawLocation};
use crate::plan::words::{LineError, nearest};
use crate::plan::{
    ConduitPlan, Content, DevicePlan, End, Expect, Expected, LocationPlan, Millis, NetworkPlan, Plan, step,
};

/// Most devices of a plan: as many as a library may have.
const DEVICES_MAX: usize = tidegate_protocol::limits::DEVICES_MAX;

/// Reads a plan or a story.
pub fn read(text: &str) -> Result<Plan, StoryError> {
    let raw: Raw = toml::from_str(text).map_err(|e| {
        let at = e.span().unwrap_or(0..0);
        placed(text, form_error(at, e.message()))
    })?;
    Reader { text }.plan(raw).map_err(|wrong| placed(text, wrong))
}

struct Reader<'a> {
    text: &'a str,
}

impl Reader<'_> {
    fn plan(&self, raw: Raw) -> Result<Plan, Wrong> {
        let mut plan = Plan::empty(raw.seed);
        plan.story = raw.story;
        plan.profile = raw.profile;
        plan.network = NetworkPlan {
            latency_ms: raw.network.latency_ms.map_or((1, 5), |[low, high]| (low, high.max(low))),
            gossip_loss_ppm: raw.network.gossip_loss_ppm,
            gossip_repeat_ppm: raw.network.gossip_repeat_ppm,
            reset_ppm: raw.network.reset_ppm,
            bytes_per_s: raw.network.bytes_per_s,
        };
        for name in &raw.devices {
            self.add_device(&mut plan, name, DevicePlan::plain(name.get_ref()))?;
        }
        for device in &raw.device {
            let found = self.device(device)?;
            self.add_device(&mut plan, &device.name, found)?;
        }
        if plan.devices.is_empty() {
            return Err(Wrong::new(0..0, "there is no device").help("write: devices = [\"laptop\", \"server\"]"));
        }
        for location in &raw.location {
            self.location(&mut plan, location)?;
        }
        for (at, content) in &raw.files {
            let end = self.end(&plan, at)?;
            if end.place.path.is_empty() {
                return Err(Wrong::new(at.span(), "a location and no file in it")
                    .help("write \"device:location/path\" = \"text\""));
            }
            let holder = Self::location_of(&mut plan, &end);
            plan.locations[holder].files.insert(end.place.path, self.content(content));
        }
        for conduit in &raw.conduit {
            let read = self.conduit(&mut plan, conduit)?;
            plan.conduits.push(read);
        }
        for line in &raw.steps {
            self.step(&mut plan, line)?;
        }
        plan.settle_steps();
        let last = plan.steps.last().map_or(0, |step| step.at.0);
        // What a step says of its own length happens, unless the story says when it ends.
        let over = plan.steps.iter().map(|step| step.at.0 + step.deed.lasts().0).max().unwrap_or(0);
        let looks: Result<Vec<_>, _> = raw.expect.iter().map(|it| self.time(it.get_ref().at.as_ref())).collect();
        let over = looks?.into_iter().flatten().map(|at| at.0).fold(over, u64::max);
        plan.until = self.time(raw.until.as_ref())?.unwrap_or(Millis(over + 1));
        if let Some(until) = raw.until.filter(|_| plan.until.0 < last) {
            return Err(Wrong::new(until.span(), "there are steps after this"));
        }
        plan.heal = self.time(raw.heal.as_ref())?.unwrap_or(plan.heal);
        plan.events_max = raw.events_max.unwrap_or(plan.events_max);
        for expect in &raw.expect {
            let read = self.expect(&plan, expect)?;
            plan.expects.extend(read);
        }
        Ok(plan)
    }

    fn add_device(&self, plan: &mut Plan, name: &Spanned<String>, device: DevicePlan) -> Result<(), Wrong> {
        if Label::new(name.get_ref()).is_err() {
            return Err(Wrong::new(name.span(), format!("`{}` is no name for a device", name.get_ref()))
                .help("1 to 64 characters, no `:` and no `/`"));
        }
        if plan.device(name.get_ref()).is_some() {
            return Err(Wrong::new(name.span(), format!("there are two devices `{}`", name.get_ref())));
        }
        if plan.devices.len() == DEVICES_MAX {
            return Err(Wrong::new(name.span(), format!("a library has {DEVICES_MAX} devices at most")));
        }
        plan.devices.push(device);
        Ok(())
    }

    fn device(&self, raw: &RawDevice) -> Result<DevicePlan, Wrong> {
        let mut device = DevicePlan::plain(raw.name.get_ref());
        if let Some(skew) = &raw.skew {
            let (back, span) = match skew.get_ref().split_at_checked(1) {
                Some(("-", span)) => (true, span),
                Some(("+", span)) => (false, span),
                _ => return Err(Wrong::new(skew.span(), "a skew begins with + or -").help("write skew = \"-90s\"")),
            };
            let span = span.parse::<Millis>().map_err(|e| Wrong::new(skew.span(), e.to_string()))?;
            device.skew_ms = if back { -(span.0 as i64) } else { span.0 as i64 };
        }
        device.settle = self.time(raw.settle.as_ref())?.unwrap_or(device.settle);
        device.drift_ppm = raw.drift_ppm.unwrap_or(device.drift_ppm);
        device.member = raw.member.unwrap_or(device.member);
        device.folds_case = raw.folds_case.unwrap_or(device.folds_case);
        device.mtime_step_ns = raw.mtime_step_ns.unwrap_or(device.mtime_step_ns).max(1);
        device.exchange = raw.exchange.unwrap_or(device.exchange);
        device.reuses_inodes = raw.reuses_inodes.unwrap_or(device.reuses_inodes);
        Ok(device)
    }

    fn location(&self, plan: &mut Plan, raw: &RawLocation) -> Result<(), Wrong> {
        let end = self.end(plan, &raw.at)?;
        if !end.place.path.is_empty() {
            return Err(Wrong::new(raw.at.span(), "a location has no path").help("write device:location"));
        }
        let at = Self::location_of(plan, &end);
        plan.locations[at].rules.clone_from(&raw.ignore);
        for (path, content) in &raw.files {
            let whole = format!("{}/{}", end.place.location, path.get_ref());
            let place = crate::plan::Place::from_str(&whole);
            let place = place.map_err(|_| Wrong::new(path.span(), format!("`{}` is not a path", path.get_ref())))?;
            plan.locations[at].files.insert(place.path, self.content(content));
        }
        Ok(())
    }

    fn content(&self, raw: &RawContent) -> Content {
        match raw {
            RawContent::Text(text) => Content::Text(text.clone()),
            RawContent::Bytes(bytes) => Content::Unique(*bytes),
        }
    }

    /// The location of an end, made if this is the first that is heard of it.
    fn location_of(plan: &mut Plan, end: &End) -> usize {
        if let Some(found) = plan.location(&end.device, &end.place.location) {
            return found;
        }
        plan.locations.push(LocationPlan {
            device: end.device.clone(),
            name: end.place.location.clone(),
            files: BTreeMap::new(),
            rules: Vec::new(),
        });
        plan.locations.len() - 1
    }

    fn conduit(&self, plan: &mut Plan, raw: &RawConduit) -> Result<ConduitPlan, Wrong> {
        if plan.conduit(raw.name.get_ref()).is_some() || Label::new(raw.name.get_ref()).is_err() {
            return Err(Wrong::new(raw.name.span(), format!("`{}` is taken, or is no name", raw.name.get_ref())));
        }
        let (source, target) = (self.end(plan, &raw.from)?, self.end(plan, &raw.to)?);
        Self::location_of(plan, &source);
        Self::location_of(plan, &target);
        let modes = [
            ("mirror", SyncMode::Mirror),
            ("bidirectional", SyncMode::Bidirectional),
            ("selective", SyncMode::Selective),
        ];
        let deletes = [("trash", DeleteMode::Trash), ("permanent", DeleteMode::Permanent)];
        let strategies = [
            ("create-conflict-file", ConflictStrategy::CreateConflictFile),
            ("newest-wins", ConflictStrategy::NewestWins),
            ("source-wins", ConflictStrategy::SourceWins),
            ("target-wins", ConflictStrategy::TargetWins),
            ("largest-wins", ConflictStrategy::LargestWins),
            ("prompt-user", ConflictStrategy::PromptUser),
        ];
        Ok(ConduitPlan {
            name: raw.name.get_ref().clone(),
            source,
            target,
            mode: one_of(raw.mode.as_ref(), &modes)?,
            schedule: raw.runs.as_ref().map_or(Ok(Schedule::Instant { settle_ms: 500 }), schedule)?,
            delete_mode: one_of(raw.delete.as_ref(), &deletes)?,
            strategy: one_of(raw.strategy.as_ref(), &strategies)?,
            limit: raw.limit.as_ref().map_or(Ok(BandwidthLimit::default()), limit)?,
            select: raw.select.iter().flatten().map(|chosen| chosen.0.clone()).collect(),
            approves: raw.approves,
        })
    }

    fn step(&self, plan: &mut Plan, line: &Spanned<String>) -> Result<(), Wrong> {
        let read = step(line.get_ref()).map_err(|error| self.in_line(line, error))?;
        let (step, deed_at) = (&read.step, read.deed_at.clone());
        if plan.device(&step.on).is_none() {
            let error = LineError::new(read.device_at.clone(), format!("there is no device `{}`", step.on));
            return Err(
                self.in_line(line, meant(error, &step.on, plan.devices.iter().map(|device| device.name.as_str())))
            );
        }
        if let Some(other) = step.deed.other().filter(|other| plan.device(other).is_none_or(|_| *other == step.on)) {
            let error = LineError::new(deed_at, format!("there is no other device `{other}`"));
            return Err(self.in_line(line, meant(error, other, plan.devices.iter().map(|device| device.name.as_str()))));
        }
        if let Some(location) = step.deed.location().filter(|location| plan.location(&step.on, location).is_none()) {
            let error = LineError::new(deed_at, format!("{} has no location `{location}`", step.on));
            let own = plan.locations.iter().filter(|other| other.device == step.on).map(|other| other.name.as_str());
            return Err(self.in_line(line, meant(error, location, own)));
        }
        if let Some(conduit) = step.deed.conduit().filter(|conduit| plan.conduit(conduit).is_none()) {
            let error = LineError::new(deed_at, format!("there is no conduit `{conduit}`"));
            return Err(
                self.in_line(line, meant(error, conduit, plan.conduits.iter().map(|other| other.name.as_str())))
            );
        }
        plan.steps.push(read.step);
        Ok(())
    }

    /// Moves a place in a string's value to its place in the file.
    fn in_line(&self, line: &Spanned<String>, error: LineError) -> Wrong {
        let span = line.span();
        let raw = self.text.get(span.clone()).unwrap_or_default();
        // Only where the string is written as it reads is the place within it known.
        let at = match raw.find(line.get_ref().as_str()) {
            Some(skip) => {
                let at = span.start + skip + error.at.start..span.start + skip + error.at.end;
                let trimmed = self.text.get(at.clone()).unwrap_or_default();
                at.start + (trimmed.len() - trimmed.trim_start().len())..at.end
            }
            None => span,
        };
        Wrong { at, what: error.what, help: error.help }
    }

    fn time(&self, text: Option<&Spanned<String>>) -> Result<Option<Millis>, Wrong> {
        let read = text.map(|text| text.get_ref().parse().map_err(|e| Wrong::new(text.span(), format!("{e}"))));
        read.transpose()
    }

    fn end(&self, plan: &Plan, text: &Spanned<String>) -> Result<End, Wrong> {
        let end: End = text.get_ref().parse().map_err(|e: String| Wrong::new(text.span(), e))?;
        if plan.device(&end.device).is_none() {
            let wrong = Wrong::new(text.span(), format!("there is no device `{}`", end.device));
            let names: Vec<&str> = plan.devices.iter().map(|device| device.name.as_str()).collect();
            return Err(match nearest(&end.device, names.iter().copied()) {
                Some(near) => wrong.help(format!("did you mean `{near}`?")),
                None => wrong.help(format!("there are {}", names.join(", "))),
            });
        }
        if Label::new(&end.place.location).is_err() {
            return Err(Wrong::new(text.span(), format!("`{}` is no name for a location", end.place.location)));
        }
        Ok(end)
    }

    fn known_end(&self, plan: &Plan, text: &Spanned<String>) -> Result<End, Wrong> {
        let end = self.end(plan, text)?;
        match plan.location(&end.device, &end.place.location) {
            Some(_) => Ok(end),
            None => Err(Wrong::new(text.span(), format!("{} has no location `{}`", end.device, end.place.location))),
        }
    }

    fn known_conduit(&self, plan: &Plan, text: &Spanned<String>) -> Result<String, Wrong> {
        let name = text.get_ref();
        if plan.conduit(name).is_some() {
            return Ok(name.clone());
        }
        let error = LineError::new(0..0, format!("there is no conduit `{name}`"));
        let error = meant(error, name, plan.conduits.iter().map(|other| other.name.as_str()));
        Err(Wrong { at: text.span(), what: error.what, help: error.help })
    }

    fn expect(&self, plan: &Plan, raw: &Spanned<RawExpect>) -> Result<Vec<Expect>, Wrong> {
        let it = raw.get_ref();
        let what = match it {
            RawExpect {
                tree: Some(end),
                files,
                same: None,
                trash: None,
                verified: None,
                held: None,
                holds: None,
                ..
            } => vec![Expected::Tree(self.known_end(plan, end)?, files.clone().unwrap_or_default())],
            RawExpect { same: Some(ends), tree: None, trash: None, verified: None, held: None, .. }
                if ends.len() >= 2 =>
            {
                let ends = ends.iter().map(|end| self.known_end(plan, end)).collect::<Result<Vec<_>, _>>()?;
                ends.windows(2).map(|two| Expected::Same(two[0].clone(), two[1].clone())).collect()
            }
            RawExpect { trash: Some(end), tree: None, same: None, verified: None, held: None, holds, .. } => {
                vec![Expected::Trash(self.known_end(plan, end)?, holds.clone().unwrap_or_default())]
            }
            RawExpect { verified: Some(conduit), tree: None, same: None, trash: None, held: None, .. } => {
                vec![Expected::Verified(self.known_conduit(plan, conduit)?)]
            }
            RawExpect { held: Some(conduit), tree: None, same: None, trash: None, verified: None, .. } => {
                vec![Expected::Held(self.known_conduit(plan, conduit)?)]
            }
            _ => {
                let wrong = Wrong::new(raw.span(), "this expects nothing, or several things at once");
                return Err(wrong.help("one of: tree + files, same = [one, other, ...], trash + holds, verified, held"));
            }
        };
        let at = self.time(it.at.as_ref())?;
        if let Some(text) = it.at.as_ref().filter(|_| at.is_some_and(|at| at > plan.until)) {
            return Err(Wrong::new(text.span(), "this is after the end of the story")
                .help("leave `at` out to look when all is at rest, or set `until`"));
        }
        Ok(what.into_iter().map(|what| Expect { at, what }).collect())
    }
}

fn meant<'a>(error: LineError, word: &str, known: impl Iterator<Item = &'a str> + Clone) -> LineError {
    if let Some(near) = nearest(word, known.clone()) {
        return error.help(format!("did you mean `{near}`?"));
    }
    let known: Vec<&str> = known.collect();
    if known.is_empty() { error } else { error.help(format!("there are {}", known.join(", "))) }
}

/// The value of a word, the first if there is none.
fn one_of<T: Copy>(text: Option<&Spanned<String>>, known: &[(&str, T)]) -> Result<T, Wrong> {
    let Some(text) = text else { return Ok(known[0].1) };
    if let Some((_, value)) = known.iter().find(|(word, _)| *word == text.get_ref()) {
        return Ok(*value);
    }
    let words: Vec<&str> = known.iter().map(|(word, _)| *word).collect();
    let wrong = Wrong::new(text.span(), format!("`{}` is not known here", text.get_ref()));
    Err(match nearest(text.get_ref(), words.iter().copied()) {
        Some(near) => wrong.help(format!("did you mean `{near}`?")),
        None => wrong.help(format!("one of {}", words.join(", "))),
    })
}

fn limit(text: &Spanned<String>) -> Result<BandwidthLimit, Wrong> {
    parse_limit(text.get_ref(), 0).map_err(|why| Wrong::new(text.span(), why))
}

fn schedule(text: &Spanned<String>) -> Result<Schedule, Wrong> {
    let wrong = |what: String| Wrong::new(text.span(), what).help("write manual, instant, instant 500ms, or every 5m");
    let span = |text: &str| text.parse::<Millis>().map(|span| span.0).map_err(|e| wrong(e.to_string()));
    match text.get_ref().split_once(' ') {
        None if text.get_ref() == "manual" => Ok(Schedule::Manual),
        None if text.get_ref() == "instant" => Ok(Schedule::Instant { settle_ms: 500 }),
        Some(("instant", settle)) => Ok(Schedule::Instant { settle_ms: span(settle)?.min(u64::from(u32::MAX)) as u32 }),
        Some(("every", interval)) => Ok(Schedule::Every { interval_ms: span(interval)? }),
        _ => Err(wrong(format!("`{}` is no schedule", text.get_ref()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORY: &str = r#"
story = "a laptop edits while the server sleeps"
devices = ["laptop", "server"]
steps = [
  "10s server is-stopped for=1m",
  "20s laptop writes Notes/a.txt 'second'",
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
[[expect]]
trash = "server:Notes"
holds = ["first"]
"#;

    #[test]
    fn a_story_needs_little_and_reads_back_as_a_plan() {
        let plan = read(STORY).unwrap();
        assert_eq!((plan.devices.len(), plan.locations.len(), plan.conduits.len()), (2, 2, 1));
        assert_eq!((plan.steps.len(), plan.expects.len(), plan.until), (2, 2, Millis(70_001)));
        assert_eq!(read(&plan.to_string()).unwrap(), plan);
    }

    #[test]
    fn an_error_shows_the_line_the_place_and_the_way_out() {
        let cases = [
            ("devices =", "devcies =", 3, "devcies", "did you mean `devices`"),
            ("10s server is", "10s serevr is", 5, "serevr", "did you mean `server`"),
            ("20s laptop", "soon laptop", 6, "soon", "is not a time"),
            ("writes Notes/a.txt 'second'", "writes Nots/a.txt 'second'", 6, "Nots", "did you mean `Notes`"),
            ("from = \"laptop:Notes\"", "from = \"lptop:Notes\"", 12, "\"lptop", "did you mean `laptop`"),
            ("from =", "form =", 12, "form", "did you mean `from`"),
            ("is-stopped", "is-stoped", 5, "is-stoped", "did you mean `is-stopped`"),
            ("tree = \"server:Notes\"", "tree = \"server:Photos\"", 15, "\"server:Photos", "has no location"),
            ("\"laptop:Notes/a.txt\" =", "\"laptop:Notes\" =", 9, "\"laptop:Notes", "no file in it"),
            ("name = \"notes\"", "name = \"no:tes\"", 11, "\"no:tes", "no name"),
            ("to = \"server:Notes\"", "to = \"server:Notes\"\nlimit = \"25:00,1MB\"", 14, "\"25:00", "no time of day"),
            ("to = \"server:Notes\"", "to = \"server:Notes\"\nruns = \"every 5 minutes\"", 14, "\"every", "every 5m"),
        ];
        for (good, bad, line, word, says) in cases {
            let error = read(&STORY.replacen(good, bad, 1)).unwrap_err();
            let marked: String = error.text.chars().skip(error.column - 1).collect();
            assert_eq!(error.line, line, "{error}");
            assert!(marked.starts_with(word) || marked.contains(word), "{error}");
            assert!(error.to_string().contains(says), "{error}");
        }
    }
}
