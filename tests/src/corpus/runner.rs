//! Runs a scenario in a world and says what is not as it must be.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_protocol::file_sync::{NameRules, Side};

use super::format::{During, Edit, Kind, Mode, Outcome, Round, Scenario};
use super::model::Disk;

/// A tree in the corpus's notation: path to content, `->text` for a link, `<fifo>`, and `path/` for an empty
/// directory.
pub type Tree = BTreeMap<String, String>;

/// Contents of files, whatever their names.
pub type Contents = BTreeSet<String>;

/// Generations after which a conduit that still plans something does not settle.
const GENERATIONS_MAX: u32 = 10;

/// Two ends and what syncs them: in memory, on disks, or whole nodes.
pub trait World {
    /// A person edits one side between generations.
    fn edit(&mut self, side: Side, edit: &Edit);

    /// A person decides about the conflict at a path.
    fn rule(&mut self, path: &str, answer: &str);

    /// A person chooses another selection.
    fn select(&mut self, chosen: &[String]);

    /// Runs one generation, or finds nothing to do. `during` falls inside it; `approve` stands for a person
    /// who approves the plan that is held.
    fn generation(&mut self, during: &[During], approve: bool) -> Report;

    /// What is on a side's disk.
    fn tree(&self, side: Side) -> Tree;

    /// Paths on a side's disk that are executable.
    fn executable(&self, side: Side) -> BTreeSet<String>;

    /// What can be taken back from a side's trash.
    fn trash(&self, side: Side) -> Contents;
}

/// What became of one generation.
#[derive(Debug, Default)]
pub struct Report {
    /// Something was to be done.
    pub planned: bool,
    /// It was not done, for this reason.
    pub held: Option<&'static str>,
    /// Conflicts that the plan listed.
    pub conflicts: Vec<(String, Kind)>,
    /// Files whose content was installed.
    pub installs: u64,
    /// Some of it could not be done, for this reason.
    pub partial: Option<&'static str>,
}

/// Everything in which a world differs from what a scenario expects; empty if nothing does.
pub fn failures(scenario: &Scenario, world: &mut dyn World) -> Vec<String> {
    let mut failures = Vec::new();
    for (number, round) in scenario.rounds.iter().enumerate() {
        let mut fail = |what: String| failures.push(format!("{} round {}: {what}", scenario.head.id, number + 1));
        run(scenario.head.mode, round, world, &mut fail);
    }
    failures
}

fn run(mode: Mode, round: &Round, world: &mut dyn World, fail: &mut dyn FnMut(String)) {
    for (side, edits) in [(Side::Source, &round.source), (Side::Target, &round.target)] {
        for edit in edits {
            world.edit(side, edit);
        }
    }
    if let Some(chosen) = &round.select {
        world.select(chosen);
    }
    for (path, answer) in &round.resolve {
        world.rule(path, answer);
    }
    let before = [world.tree(Side::Source), world.tree(Side::Target)];
    let reports = settle(round, world);
    let last = reports.last().expect("at least one generation");

    let outcome = match (last.held, last.planned && round.settle) {
        (Some(why), _) => Outcome::Held(why.to_owned()),
        (None, true) => Outcome::Partial(last.partial.unwrap_or("still plans something").to_owned()),
        (None, false) => Outcome::Ok,
    };
    if outcome != round.outcome {
        fail(format!("ended {outcome:?}, expected {:?}", round.outcome));
    }
    let (source, target) = (world.tree(Side::Source), world.tree(Side::Target));
    let accepted = round.accepted();
    let shown = (with_placeholders(&source), with_placeholders(&target));
    let which = accepted.iter().position(|trees| *trees == shown);
    if which.is_none() && !accepted.is_empty() {
        fail(format!("source {source:?}, target {target:?}; expected {accepted:?}"));
    }
    let met: BTreeSet<_> = reports.iter().flat_map(|report| report.conflicts.iter().cloned()).collect();
    let expected: BTreeSet<_> = round.conflicts.iter().cloned().collect();
    if which.is_none_or(|which| which == 0) && met != expected {
        fail(format!("conflicts {met:?}, expected {expected:?}"));
    }
    let installs: u64 = reports.iter().map(|report| report.installs).sum();
    if round.max_copies.is_some_and(|max| installs > max) {
        fail(format!("{installs} installs"));
    }
    for (side, expected) in [(Side::Source, &round.trash_source), (Side::Target, &round.trash_target)] {
        let trash = world.trash(side);
        for content in expected.iter().filter(|content| !trash.contains(*content)) {
            fail(format!("{content:?} is not in the trash of the {side:?}"));
        }
        let executable = world.executable(side);
        for path in round.executable.iter().filter(|path| !executable.contains(*path)) {
            fail(format!("{path} is not executable on the {side:?}"));
        }
    }
    check_always(mode, round, &before, world, fail);
}

/// A tree in which conflict copies have the corpus's names for them.
pub fn with_placeholders(tree: &Tree) -> Tree {
    let mut copies: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for path in tree.keys() {
        if let Some((copy, of, _)) = as_copy(path) {
            copies.entry(of).or_default().insert(copy);
        }
    }
    let shown = tree.iter().map(|(path, content)| {
        let Some((copy, of, tail)) = as_copy(path) else { return (path.clone(), content.clone()) };
        let number = match copies[&of].iter().position(|known| *known == copy) {
            Some(0) | None => String::new(),
            Some(at) => format!("#{}", at + 1),
        };
        (format!("{{conflict{number}:{of}:target}}{tail}"), content.clone())
    });
    shown.collect()
}

/// A path at or below a conflict copy: the copy, what it is one of, and the rest of the path.
fn as_copy(path: &str) -> Option<(String, String, String)> {
    let begin = path.find(" (conflict ")?;
    let end = begin + path[begin..].find(')')? + 1;
    let mut rest = &path[end..];
    let digits = rest.strip_prefix('-').map_or(0, |tail| tail.len() - tail.trim_start_matches(char::is_numeric).len());
    if digits > 0 {
        rest = &rest[1 + digits..];
    }
    let (extension, tail) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let copy = path[..path.len() - tail.len()].to_owned();
    Some((copy, path[..begin].to_owned() + extension, tail.to_owned()))
}

/// Generations until nothing is planned or it is held.
fn settle(round: &Round, world: &mut dyn World) -> Vec<Report> {
    let mut reports = vec![world.generation(&round.during, round.approve)];
    while round.settle
        && reports.len() < GENERATIONS_MAX as usize
        && reports.last().is_some_and(|last| last.planned && last.held.is_none())
    {
        reports.push(world.generation(&[], round.approve));
    }
    reports
}

/// What holds after every round: no content lost, at rest, and a one-way source as its user left it.
fn check_always(mode: Mode, round: &Round, before: &[Tree; 2], world: &mut dyn World, fail: &mut dyn FnMut(String)) {
    let mut wanted = before.clone();
    for During { side, op, .. } in &round.during {
        supersede(&mut wanted[*side as usize], op);
    }
    let source = world.tree(Side::Source);
    if mode != Mode::Bidirectional && source != wanted[0] {
        fail(format!("the source was written: {source:?}, its user left {:?}", wanted[0]));
    }
    let mut kept: Contents = world.trash(Side::Source).into_iter().chain(world.trash(Side::Target)).collect();
    kept.extend(source.into_values().chain(world.tree(Side::Target).into_values()));
    let written = wanted.iter().flatten().filter(|(path, content)| !path.ends_with('/') && *content != "<fifo>");
    let lost: Vec<&String> = written.map(|(_, content)| content).filter(|content| !kept.contains(*content)).collect();
    if !lost.is_empty() {
        fail(format!("lost: {lost:?}"));
    }
    if round.settle && round.outcome == Outcome::Ok && world.generation(&[], false).planned {
        fail("a further generation plans something".to_owned());
    }
}

/// What a person's own edit does to what he wrote before.
fn supersede(tree: &mut Tree, edit: &Edit) {
    if *edit != Edit::Crash {
        let mut disk = Disk::new(tree, NameRules::POSIX);
        disk.edit(edit, 0);
        *tree = disk.tree();
    }
}
