//! The scenarios of the corpus on real disks, between two running nodes.

use tidegate_tests::corpus::Corpus;
use tidegate_tests::corpus::format::Mode;
use tidegate_tests::corpus::judge::{Ground, Judged, Table, scenario_verdict};
use tidegate_tests::corpus::real::Pair;

fn check(mode: Mode, rows: usize) {
    let corpus = Corpus::load().unwrap_or_else(|error| panic!("{error}"));
    let mut pair = Pair::start(env!("CARGO_BIN_EXE_tidegate-under-test")).unwrap_or_else(|error| panic!("{error}"));
    let only = std::env::var("CORPUS_ROW").ok();
    let mut table = Table::default();
    for scenario in corpus.scenario.iter().filter(|scenario| scenario.head.mode == mode) {
        if only.as_ref().is_none_or(|only| scenario.head.id == *only) {
            let row = Judged {
                id: scenario.head.id.clone(),
                verdict: scenario_verdict(scenario, &mut Ground::Real(&mut pair)),
            };
            println!("{row}");
            table.0.push(row);
        }
    }
    println!("{table}");
    let (passed, failed, not_applicable) = table.sums();
    assert_eq!(failed, 0, "{table}");
    assert!(only.is_some() || passed + not_applicable == rows, "{table}");
}

#[test]
fn every_mirror_scenario_ends_as_it_must_on_real_disks() {
    check(Mode::Mirror, 24);
}

#[test]
fn every_two_way_scenario_ends_as_it_must_on_real_disks() {
    check(Mode::Bidirectional, 163);
}

#[test]
fn every_selective_scenario_ends_as_it_must_on_real_disks() {
    check(Mode::Selective, 18);
}
