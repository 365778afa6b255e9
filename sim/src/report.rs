//! What people read of a run: the violation with what led to it, and the timeline with one column a device.

use std::fmt::Write as _;

use crate::plan::{Millis, Plan};
use crate::verdict::{Moment, Verdict, Violation};

/// Characters of one column of a timeline.
const COLUMN: usize = 38;
/// Lines of a timeline in a violation's report.
const LINES: usize = 60;

/// A violation, told in full: how to repeat it, the claim, the history of the path, and what happened before.
pub fn violation(plan: &Plan, verdict: &Verdict, violation: &Violation, repeat: &str) -> String {
    let mut out = String::new();
    let mut line = |text: &str| {
        out.push_str(text);
        out.push('\n');
    };
    line(&format!("VIOLATION {violation}"));
    line(&format!("repeat: {repeat}"));
    if !violation.history.is_empty() {
        line("\nhistory of the path:");
        violation.history.iter().for_each(|entry| line(&format!("  {entry}")));
    }
    line("\nwhat happened before:");
    let begin = verdict.timeline.len().saturating_sub(LINES);
    line(&timeline(plan, &verdict.timeline[begin..]));
    out
}

/// A timeline with one column for each device.
pub fn timeline(plan: &Plan, moments: &[Moment]) -> String {
    let mut out = String::from("            ");
    for device in &plan.devices {
        let _ = write!(out, " {:<COLUMN$}", clip(&device.name, COLUMN));
    }
    out = out.trim_end().to_owned();
    out.push('\n');
    for moment in moments {
        // A long deed goes on in its own column, so that every device keeps to its place.
        for (at, part) in wrap(&moment.what).iter().enumerate() {
            let time = if at == 0 { Millis(moment.at_ms).clock().to_string() } else { String::new() };
            let _ = write!(out, "{time:<12}");
            out.push_str(&" ".repeat(moment.device * (COLUMN + 1)));
            let _ = writeln!(out, " {part}");
        }
    }
    out
}

fn clip(text: &str, most: usize) -> String {
    text.chars().take(most).collect()
}

fn wrap(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.last().map_or(0, |line| line.chars().count());
        if last > 0 && last + 1 + word.chars().count() > COLUMN {
            lines.push(String::from(" "));
        }
        if let Some(line) = lines.last_mut() {
            if !line.trim().is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

/// JUnit XML of named outcomes: what failed, and why.
pub fn junit(suite: &str, cases: &[(String, Option<String>)]) -> String {
    let failures = cases.iter().filter(|(_, why)| why.is_some()).count();
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(out, "<testsuite name=\"{}\" tests=\"{}\" failures=\"{failures}\">", xml(suite), cases.len());
    for (name, why) in cases {
        match why {
            None => drop(writeln!(out, "  <testcase name=\"{}\"/>", xml(name))),
            Some(why) => {
                let first = why.lines().next().unwrap_or_default();
                let _ = writeln!(out, "  <testcase name=\"{}\">", xml(name));
                let _ = writeln!(out, "    <failure message=\"{}\">{}</failure>\n  </testcase>", xml(first), xml(why));
            }
        }
    }
    out.push_str("</testsuite>\n");
    out
}

fn xml(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() && c != '\n' && c != '\t' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::DevicePlan;

    #[test]
    fn every_device_keeps_to_its_column() {
        let mut plan = Plan::empty(1);
        plan.devices = vec![DevicePlan::plain("laptop"), DevicePlan::plain("server")];
        let long = "writes Notes/a/very/long/path/indeed.txt bytes=1200 style=slow:2m";
        let moments = [
            Moment { at_ms: 1_000, device: 0, what: long.to_owned() },
            Moment { at_ms: 61_500, device: 1, what: "loses-power for=10s".to_owned() },
        ];
        let shown = timeline(&plan, &moments);
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[0].find("server"), lines.last().unwrap().find("loses-power"));
        assert!(lines[1].starts_with("00:00:01") && lines.last().unwrap().starts_with("00:01:01.500"));
    }

    #[test]
    fn junit_holds_no_markup_of_the_message() {
        let xml = junit("s", &[("a".to_owned(), None), ("b<".to_owned(), Some("x & \"y\"\u{1b}".to_owned()))]);
        assert!(xml.contains("tests=\"2\" failures=\"1\"") && xml.contains("b&lt;") && !xml.contains('\u{1b}'));
    }
}
