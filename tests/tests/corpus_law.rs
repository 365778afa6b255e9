//! The corpus against the law alone: gate, creation rules, and the resolver over trees in memory.

use tidegate_tests::corpus::Corpus;
use tidegate_tests::corpus::judge::{Ground, Verdict, judge};

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
fn every_scenario_and_every_topology_ends_as_it_must() {
    let text = include_str!("../corpus/scenarios.toml");
    let table = judge(text, &mut Ground::Model, |_| ()).unwrap_or_else(|error| panic!("{error}"));
    let wrong: Vec<String> =
        table.0.iter().filter(|row| matches!(row.verdict, Verdict::Failed(_))).map(ToString::to_string).collect();
    check(table.0.len(), 243, &wrong);
    // A name of 256 bytes, which no disk stores in the first place.
    assert_eq!(table.sums(), (242, 0, 1), "{table}");
}
