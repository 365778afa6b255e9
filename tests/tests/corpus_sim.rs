//! The scenarios of the corpus on simulated devices: disks that fold names, power cuts, and moments that are hit.

use std::thread;

use tidegate_tests::corpus::Corpus;
use tidegate_tests::corpus::judge::{Ground, Judged, Table, scenario_verdict, topology_verdict};
use tidegate_tests::corpus::model::TopologyRow;

#[test]
fn every_topology_ends_as_it_must_on_simulated_devices() {
    let corpus = Corpus::load().unwrap_or_else(|error| panic!("{error}"));
    let judged = |row: &TopologyRow| Judged { id: row.id.clone(), verdict: topology_verdict(row, &Ground::Sim) };
    let table = Table(corpus.topology.iter().map(judged).collect());
    println!("{table}");
    assert_eq!(table.sums(), (corpus.topology.len(), 0, 0), "{table}");
}

/// Rows are independent: as many at the same time as there are processors.
#[test]
fn every_scenario_ends_as_it_must_on_simulated_devices() {
    let corpus = Corpus::load().unwrap_or_else(|error| panic!("{error}"));
    let only = std::env::var("CORPUS_ROW").ok();
    let wanted = |id: &String| only.as_ref().is_none_or(|only| id == only);
    let rows: Vec<_> = corpus.scenario.iter().filter(|scenario| wanted(&scenario.head.id)).collect();
    let lanes = thread::available_parallelism().map_or(2, Into::into);
    let mut table = Table::default();
    thread::scope(|scope| {
        let lane = |rows: Vec<_>| {
            scope.spawn(move || {
                let judged = |row: &tidegate_tests::corpus::Scenario| Judged {
                    id: row.head.id.clone(),
                    verdict: scenario_verdict(row, &mut Ground::Sim),
                };
                rows.into_iter().map(judged).collect::<Vec<_>>()
            })
        };
        let running: Vec<_> =
            (0..lanes).map(|first| lane(rows.iter().skip(first).step_by(lanes).copied().collect())).collect();
        for lane in running {
            table.0.extend(lane.join().unwrap_or_else(|_| panic!("a lane fell")));
        }
    });
    println!("{table}");
    assert_eq!(table.sums().1, 0, "{table}");
    // A name of 256 bytes, which no disk stores in the first place.
    assert!(only.is_some() || table.sums() == (204, 0, 1), "{table}");
}
