//! The scenarios of the corpus on simulated devices: disks that fold names, power cuts, and moments that are hit.

use tidegate_tests::corpus::Corpus;
use tidegate_tests::corpus::judge::{Ground, Judged, Table, scenario_verdict};

#[test]
fn every_scenario_ends_as_it_must_on_simulated_devices() {
    let corpus = Corpus::load().unwrap_or_else(|error| panic!("{error}"));
    let only = std::env::var("CORPUS_ROW").ok();
    let mut table = Table::default();
    for scenario in &corpus.scenario {
        if only.as_ref().is_none_or(|only| scenario.head.id == *only) {
            let verdict = scenario_verdict(scenario, &mut Ground::Sim);
            table.0.push(Judged { id: scenario.head.id.clone(), verdict });
        }
    }
    println!("{table}");
    assert_eq!(table.sums().1, 0, "{table}");
}
