//! Every seed that was ever red stays green, and a run is a function of its plan.

#![allow(clippy::disallowed_methods, reason = "tests read and write plans; runs touch no file")]

use std::path::Path;
use std::process::Command;

use tidegate_sim::plan::generate::generate;
use tidegate_sim::plan::profile::Profile;
use tidegate_sim::plan::{Deed, Plan};
use tidegate_sim::run::run;

fn plan(profile: &str, seed: u64) -> Plan {
    generate(seed, profile, &Profile::named(profile).expect("it ships"))
}

#[test]
fn every_seed_that_was_ever_red_is_green() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/seeds.txt");
    let text = std::fs::read_to_string(file).unwrap();
    let mut red = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
        let mut words = line.split_whitespace();
        let (profile, seed) = (words.next().unwrap(), words.next().unwrap().parse().unwrap());
        if let Some(violation) = run(&plan(profile, seed)).violation {
            red.push(format!("{line}\n  {violation}"));
        }
    }
    assert!(red.is_empty(), "\n{}", red.join("\n"));
}

#[test]
fn a_plan_gives_the_same_trace_in_two_processes() {
    for seed in [3, 4] {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let file = dir.join(format!("twice-{seed}.toml"));
        std::fs::write(&file, plan("light", seed).to_string()).unwrap();
        let simulator =
            Command::new(env!("CARGO_BIN_EXE_tidegate-sim")).args(["replay", "--twice"]).arg(&file).output().unwrap();
        assert!(simulator.status.success(), "{}", String::from_utf8_lossy(&simulator.stdout));
    }
}

/// What users and fate did, in order, without the moments of anything that a node decided.
fn done(plan: &Plan) -> Vec<(u64, usize, String)> {
    let verdict = run(plan);
    let deeds = |what: &str| tidegate_sim::plan::VERBS.iter().any(|(verb, _)| what.starts_with(verb));
    verdict.timeline.into_iter().filter(|m| deeds(&m.what)).map(|m| (m.at_ms, m.device, m.what)).collect()
}

#[test]
fn leaving_a_step_out_leaves_the_others_as_they_were() {
    for seed in 0..4 {
        let mut whole = plan("light", seed);
        // A strike that waits for a job comes when a node decides, and what it does is met by all that comes after it.
        whole.steps.retain(|step| !matches!(step.deed, Deed::Strike { call: Some(_), .. }));
        let mut part = whole.clone();
        let at = part.steps.iter().position(|step| matches!(step.deed, Deed::Write { .. })).unwrap();
        let gone = part.steps.remove(at);
        let (all, rest) = (done(&whole), done(&part));
        let expected: Vec<_> = all.into_iter().filter(|(_, _, what)| *what != gone.deed.to_string()).collect();
        // What a later deed finds may differ by the one that is missing; when it happens and what it is may not.
        let others: Vec<_> = rest.iter().filter(|deed| !expected.contains(deed)).collect();
        assert!(others.is_empty(), "seed {seed}: {others:?} came of leaving out {}", gone.deed);
        assert!(rest.len() + 2 >= expected.len());
    }
}
