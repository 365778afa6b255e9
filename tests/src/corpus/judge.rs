//! Judging the rows of any file of the corpus's format: what is expected, what is not applicable and why.
//!
//! A row that cannot be read has failed: an expectation that nobody compares must not look like one that holds.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::de::DeserializeOwned;
use tidegate_protocol::path::EntryPath;

use super::conduits::ConfigRow;
use super::format::{Edit, Scenario};
use super::gate::GateRow;
use super::model::{ModelWorld, TopologyRow};
use super::real::{Pair, RealWorld};
use super::runner::failures;
use super::sim::{SimNet, SimWorld};

/// Where rows are judged.
pub enum Ground<'a> {
    /// By the law and the model.
    Model,
    /// On simulated devices.
    Sim,
    /// On real disks, between two nodes that run.
    Real(&'a mut Pair),
}

/// What is said of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Everything is as expected.
    Passed,
    /// What is not.
    Failed(Vec<String>),
    /// It says nothing about this program, or cannot be brought about, for this reason.
    NotApplicable(String),
}

/// A row and what is said of it.
#[derive(Debug)]
pub struct Judged {
    /// Such as `MI-001`.
    pub id: String,
    /// The verdict.
    pub verdict: Verdict,
}

/// Verdicts, shown as a table with sums at its end.
#[derive(Debug, Default)]
pub struct Table(pub Vec<Judged>);

impl Table {
    /// Rows that passed, failed, and are not applicable.
    pub fn sums(&self) -> (usize, usize, usize) {
        let count = |is_it: fn(&Verdict) -> bool| self.0.iter().filter(|row| is_it(&row.verdict)).count();
        (
            count(|verdict| matches!(verdict, Verdict::Passed)),
            count(|verdict| matches!(verdict, Verdict::Failed(_))),
            count(|verdict| matches!(verdict, Verdict::NotApplicable(_))),
        )
    }
}

impl fmt::Display for Judged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.verdict {
            Verdict::Passed => write!(f, "{:<10} passed", self.id),
            Verdict::Failed(what) => write!(f, "{:<10} FAILED          {}", self.id, what.join("\n           ")),
            Verdict::NotApplicable(why) => write!(f, "{:<10} not applicable  {why}", self.id),
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for row in &self.0 {
            writeln!(f, "{row}")?;
        }
        let (passed, failed, not_applicable) = self.sums();
        write!(f, "{} rows: {passed} passed, {failed} failed, {not_applicable} not applicable", self.0.len())
    }
}

/// Judges all rows of a file's text. Rows of the gate and of the rules of creation are the law's alone.
pub fn judge(text: &str, ground: &mut Ground<'_>, mut shown: impl FnMut(&Judged)) -> Result<Table, toml::de::Error> {
    let file: toml::Table = toml::from_str(text)?;
    let mut table = Table::default();
    for (kind, rows) in &file {
        for row in rows.as_array().into_iter().flatten() {
            let verdict = match kind.as_str() {
                "scenario" => read(row).map_or_else(|bad| bad, |scenario| scenario_verdict(&scenario, ground)),
                "gate" => read(row).map_or_else(|bad| bad, |row: GateRow| compare(&row.answer(), &row.expect)),
                "config" => read(row).map_or_else(|bad| bad, |row: ConfigRow| compare(&row.answer(), &row.expect)),
                "topology" => read(row).map_or_else(|bad| bad, |row: TopologyRow| topology_verdict(&row, ground)),
                other => Verdict::Failed(vec![format!("no such kind of row: {other}")]),
            };
            let id = row.get("id").and_then(toml::Value::as_str).unwrap_or("?").to_owned();
            table.0.push(Judged { id, verdict });
            table.0.last().into_iter().for_each(&mut shown);
        }
    }
    Ok(table)
}

fn read<T: DeserializeOwned>(row: &toml::Value) -> Result<T, Verdict> {
    row.clone().try_into().map_err(|error| Verdict::Failed(vec![format!("cannot be read: {error}")]))
}

fn compare(answer: &str, expected: &str) -> Verdict {
    if answer == expected {
        return Verdict::Passed;
    }
    Verdict::Failed(vec![format!("answered {answer}, expected {expected}")])
}

/// Judges a row of several conduits.
pub fn topology_verdict(row: &TopologyRow, ground: &Ground<'_>) -> Verdict {
    match ground {
        Ground::Model => ran(|| row.failures()),
        Ground::Sim => ran(|| row.failures_on(&mut SimNet::new(row))),
        Ground::Real(_) => Verdict::NotApplicable("several conduits over more than two nodes".to_owned()),
    }
}

/// Judges a scenario.
pub fn scenario_verdict(scenario: &Scenario, ground: &mut Ground<'_>) -> Verdict {
    if let Some(why) = nowhere(scenario) {
        return Verdict::NotApplicable(why);
    }
    match ground {
        Ground::Model => ran(|| failures(scenario, &mut ModelWorld::new(&scenario.head))),
        Ground::Sim => ran(|| failures(scenario, &mut SimWorld::new(scenario))),
        Ground::Real(pair) => on_disks(scenario, pair),
    }
}

fn on_disks(scenario: &Scenario, pair: &mut Pair) -> Verdict {
    if let Some(why) = RealWorld::cannot(scenario) {
        return Verdict::NotApplicable(why);
    }
    let verdict = match pair.world(scenario) {
        Ok(mut world) => {
            let verdict = ran(|| failures(scenario, &mut world));
            world.missed().map_or(verdict, |why| Verdict::NotApplicable(why.to_owned()))
        }
        Err(error) => Verdict::Failed(vec![error.to_string()]),
    };
    // A node that fell must not make every row after this one fail as well.
    match (verdict, pair.revive()) {
        (Verdict::Failed(mut what), Ok(fallen)) => {
            what.extend(fallen);
            Verdict::Failed(what)
        }
        (verdict, Ok(fallen)) if fallen.is_empty() => verdict,
        (_, Ok(fallen)) => Verdict::Failed(fallen),
        (_, Err(error)) => Verdict::Failed(vec![error.to_string()]),
    }
}

/// A world that cannot go on panics; that says something about this row and nothing about the next.
fn ran(row: impl FnOnce() -> Vec<String>) -> Verdict {
    match catch_unwind(AssertUnwindSafe(row)) {
        Ok(failures) if failures.is_empty() => Verdict::Passed,
        Ok(failures) => Verdict::Failed(failures),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref().copied());
            Verdict::Failed(vec![format!("could not go on: {}", text.unwrap_or("for reasons unknown"))])
        }
    }
}

/// Why no disk of this kind can get into the state that a scenario wants.
fn nowhere(scenario: &Scenario) -> Option<String> {
    let refused = |path: &str| EntryPath::from_slashes(path.as_bytes()).err();
    let error = scenario.edits().filter_map(Edit::makes).find_map(refused)?;
    Some(format!("no disk stores such a name in the first place ({error})"))
}
