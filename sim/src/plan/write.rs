//! A plan as text: what [`crate::story`] reads back as the same plan. Only what differs from the default is written.

use std::fmt::{self, Write};

use tidegate::timetable::show_limit;
use tidegate_protocol::file_sync::{ConflictStrategy, DeleteMode, Schedule, SyncMode};

use super::{Content, DevicePlan, Expect, Expected, Millis, NetworkPlan, Plan};

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.story.is_empty() {
            writeln!(f, "story = {}", text(&self.story))?;
        }
        writeln!(f, "seed = {}", self.seed)?;
        if !self.profile.is_empty() {
            writeln!(f, "profile = {}", text(&self.profile))?;
        }
        writeln!(f, "until = \"{}\"\nheal = \"{}\"\nevents_max = {}", self.until.clock(), self.heal, self.events_max)?;
        writeln!(f, "steps = [")?;
        for step in &self.steps {
            writeln!(f, "  {},", text(&step.to_string()))?;
        }
        writeln!(f, "]\n\n[network]")?;
        network(f, &self.network)?;
        self.devices.iter().try_for_each(|it| device(f, it))?;
        for location in &self.locations {
            writeln!(f, "\n[[location]]\nat = {}", text(&format!("{}:{}", location.device, location.name)))?;
            if !location.rules.is_empty() {
                writeln!(f, "ignore = {}", list(&location.rules))?;
            }
            if !location.files.is_empty() {
                writeln!(f, "[location.files]")?;
            }
            for (path, content) in &location.files {
                match content {
                    Content::Text(content) => writeln!(f, "{} = {}", text(path), text(content))?,
                    Content::Unique(bytes) => writeln!(f, "{} = {bytes}", text(path))?,
                }
            }
        }
        for conduit in &self.conduits {
            writeln!(f, "\n[[conduit]]\nname = {}\nfrom = {}", text(&conduit.name), text(&conduit.source.to_string()))?;
            writeln!(f, "to = {}\nmode = \"{}\"", text(&conduit.target.to_string()), mode_word(conduit.mode))?;
            writeln!(f, "runs = \"{}\"", schedule_word(conduit.schedule))?;
            if conduit.delete_mode == DeleteMode::Permanent {
                writeln!(f, "delete = \"permanent\"")?;
            }
            if conduit.strategy != ConflictStrategy::CreateConflictFile {
                writeln!(f, "strategy = \"{}\"", strategy_word(conduit.strategy))?;
            }
            if !conduit.limit.steps.is_empty() {
                writeln!(f, "limit = \"{}\"", show_limit(&conduit.limit))?;
            }
            if !conduit.select.is_empty() {
                writeln!(f, "select = {}", list(&conduit.select))?;
            }
            if !conduit.approves {
                writeln!(f, "approves = false")?;
            }
        }
        self.expects.iter().try_for_each(|it| expect(f, it))
    }
}

fn network(f: &mut fmt::Formatter<'_>, network: &NetworkPlan) -> fmt::Result {
    let (low, high) = network.latency_ms;
    writeln!(f, "latency_ms = [{low}, {high}]")?;
    let rates = [
        ("gossip_loss_ppm", u64::from(network.gossip_loss_ppm)),
        ("gossip_repeat_ppm", u64::from(network.gossip_repeat_ppm)),
        ("reset_ppm", u64::from(network.reset_ppm)),
        ("bytes_per_s", network.bytes_per_s),
    ];
    rates.into_iter().filter(|(_, rate)| *rate > 0).try_for_each(|(name, rate)| writeln!(f, "{name} = {rate}"))
}

fn device(f: &mut fmt::Formatter<'_>, device: &DevicePlan) -> fmt::Result {
    let plain = DevicePlan::plain(&device.name);
    writeln!(f, "\n[[device]]\nname = {}", text(&device.name))?;
    if device.member != plain.member {
        writeln!(f, "member = {}", device.member)?;
    }
    if device.skew_ms != plain.skew_ms {
        let sign = if device.skew_ms < 0 { '-' } else { '+' };
        writeln!(f, "skew = \"{sign}{}\"", Millis(device.skew_ms.unsigned_abs()))?;
    }
    if device.drift_ppm != plain.drift_ppm {
        writeln!(f, "drift_ppm = {}", device.drift_ppm)?;
    }
    if device.settle != plain.settle {
        writeln!(f, "settle = \"{}\"", device.settle)?;
    }
    if device.folds_case != plain.folds_case {
        writeln!(f, "folds_case = {}", device.folds_case)?;
    }
    if device.mtime_step_ns != plain.mtime_step_ns {
        writeln!(f, "mtime_step_ns = {}", device.mtime_step_ns)?;
    }
    if device.exchange != plain.exchange {
        writeln!(f, "exchange = {}", device.exchange)?;
    }
    if device.reuses_inodes != plain.reuses_inodes {
        writeln!(f, "reuses_inodes = {}", device.reuses_inodes)?;
    }
    Ok(())
}

fn expect(f: &mut fmt::Formatter<'_>, expect: &Expect) -> fmt::Result {
    writeln!(f, "\n[[expect]]")?;
    if let Some(at) = expect.at {
        writeln!(f, "at = \"{}\"", at.clock())?;
    }
    match &expect.what {
        Expected::Tree(end, files) => {
            writeln!(f, "tree = {}\n[expect.files]", text(&end.to_string()))?;
            files.iter().try_for_each(|(path, content)| writeln!(f, "{} = {}", text(path), text(content)))
        }
        Expected::Same(one, other) => {
            writeln!(f, "same = {}", list(&[one.to_string(), other.to_string()]))
        }
        Expected::Trash(end, texts) => writeln!(f, "trash = {}\nholds = {}", text(&end.to_string()), list(texts)),
        Expected::Verified(conduit) => writeln!(f, "verified = {}", text(conduit)),
        Expected::Held(conduit) => writeln!(f, "held = {}", text(conduit)),
    }
}

/// A TOML string.
fn text(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c if c.is_control() => {
                write!(out, "\\u{:04X}", u32::from(c)).expect("a string takes what is written to it");
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn list(texts: &[String]) -> String {
    let texts: Vec<String> = texts.iter().map(|it| text(it)).collect();
    format!("[{}]", texts.join(", "))
}

/// The word for a mode.
pub(crate) const fn mode_word(mode: SyncMode) -> &'static str {
    match mode {
        SyncMode::Mirror => "mirror",
        SyncMode::Bidirectional => "bidirectional",
        SyncMode::Selective => "selective",
    }
}

fn schedule_word(schedule: Schedule) -> String {
    match schedule {
        Schedule::Manual => "manual".to_owned(),
        Schedule::Instant { settle_ms } => format!("instant {}", Millis(u64::from(settle_ms))),
        Schedule::Every { interval_ms } => format!("every {}", Millis(interval_ms)),
    }
}

/// The word for a strategy.
pub(crate) const fn strategy_word(strategy: ConflictStrategy) -> &'static str {
    match strategy {
        ConflictStrategy::CreateConflictFile => "create-conflict-file",
        ConflictStrategy::NewestWins => "newest-wins",
        ConflictStrategy::SourceWins => "source-wins",
        ConflictStrategy::TargetWins => "target-wins",
        ConflictStrategy::LargestWins => "largest-wins",
        ConflictStrategy::PromptUser => "prompt-user",
    }
}
