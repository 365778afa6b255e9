//! The corpus against the law alone: gate, creation rules, and the resolver over trees in memory.

use tidegate_tests::corpus::format::Mode;
use tidegate_tests::corpus::model::ModelWorld;
use tidegate_tests::corpus::{Corpus, failures};

fn corpus() -> Corpus {
    let corpus = Corpus::load().unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(corpus.schema, 1);
    corpus
}

/// Compares answers with expectations and insists on how many there are, so that none is passed over.
fn check(rows: usize, expected_rows: usize, wrong: &[String]) {
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(rows, expected_rows);
}

#[test]
fn the_gate_answers_every_row() {
    let rows = corpus().gate;
    let wrong = rows.iter().filter(|row| row.answer() != row.expect);
    let wrong: Vec<String> = wrong.map(|row| format!("{} {}: {}", row.id, row.title, row.answer())).collect();
    check(rows.len(), 15, &wrong);
}

#[test]
fn the_creation_rules_answer_every_row() {
    let rows = corpus().config;
    let wrong = rows.iter().filter(|row| row.answer() != row.expect);
    let wrong: Vec<String> = wrong.map(|row| format!("{} {}: {}", row.id, row.title, row.answer())).collect();
    check(rows.len(), 11, &wrong);
}

#[test]
fn every_mirror_scenario_ends_as_it_must() {
    let scenarios = corpus().scenario;
    assert_eq!(scenarios.len(), 205);
    let mirrors: Vec<_> = scenarios.iter().filter(|scenario| scenario.head.mode == Mode::Mirror).collect();
    let run = |scenario| failures(scenario, &mut ModelWorld::new(&scenario.head));
    let wrong: Vec<String> = mirrors.iter().flat_map(|scenario| run(scenario)).collect();
    check(mirrors.len(), 24, &wrong);
}
