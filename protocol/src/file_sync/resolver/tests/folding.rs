//! What must hold for all histories when one end cannot tell names apart that the other can.

use proptest::prelude::*;

use super::super::*;
use super::net::Net;
use super::tree::path;
use crate::file_sync::{Conflict, ConflictStrategy, NameRules};
use crate::path::Name;

const PATHS: [&str; 8] = ["a", "A", "d", "D", "d/x", "d/X", "D/x", "caf\u{e9}"];
const MAC: NameRules = NameRules { folds: true, windows: false, links: true };

#[derive(Debug, Clone)]
enum Event {
    Write(usize, usize),
    Remove(usize, usize),
    Sync,
    Broken(u64),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let at = || (0..2_usize, 0..PATHS.len());
    let event = prop_oneof![
        6 => at().prop_map(|(tree, path)| Event::Write(tree, path)),
        4 => at().prop_map(|(tree, path)| Event::Remove(tree, path)),
        6 => Just(Event::Sync),
        2 => any::<u64>().prop_map(Event::Broken),
    ];
    prop::collection::vec(event, 0..30)
}

/// The path that the target's disk finds: the spelling that stands there, name by name.
fn found(net: &Net, tree: usize, text: &str) -> EntryPath {
    if tree == 0 {
        return path(text);
    }
    let mut at = crate::path::DirPath::TOP;
    for name in path(text).names() {
        let wanted = at.child(&Name::new(name).expect("a name")).expect("a short path");
        let key = MAC.key(&wanted);
        let shown = net.shown(1).into_iter().find(|(known, _)| MAC.key(known) == key);
        at = crate::path::DirPath::below_top(shown.map_or(wanted, |(known, _)| known));
    }
    at.as_entry().cloned().expect("a path has a name")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_edit_is_lost_between_names_that_fold(events in events()) {
        let mut net = Net::new(2, &[(0, 1, SyncMode::Bidirectional, ConflictStrategy::default())]);
        net.trees[1].names = MAC;
        net.trees.iter_mut().for_each(|tree| tree.numbers_grow = true);
        for event in &events {
            match *event {
                Event::Write(tree, at) => {
                    let at = found(&net, tree, PATHS[at]);
                    net.write(tree, &at);
                }
                Event::Remove(tree, at) => {
                    let at = found(&net, tree, PATHS[at]);
                    net.edit(tree, &at, None);
                }
                Event::Sync => {
                    net.sync(0, &|_| true);
                }
                Event::Broken(mask) => {
                    net.sync(0, &|item| item != usize::MAX && (mask >> (item % 64)) & 1 == 1);
                }
            }
            let shown = net.shown(1);
            let keys: std::collections::BTreeSet<EntryPath> = shown.iter().map(|(at, _)| MAC.key(at)).collect();
            prop_assert_eq!(keys.len(), shown.len(), "the target's disk could not hold this: {:?}", shown);
        }
        prop_assert!(net.settle().is_some(), "it does not come to rest: {:?}", net.plan(0).operations);
        let in_place = net.in_place();
        let lost: Vec<_> = net.wanted.difference(&in_place).collect();
        prop_assert!(lost.is_empty(), "lost: {:?}", lost);
        let plan = net.plan(0);
        let free = |tree: usize| -> Vec<EntryPath> {
            let is_there = |conflict: &&Conflict| if tree == 0 { conflict.source.is_some() } else { conflict.target.is_some() };
            let held: Vec<&EntryPath> = plan.conflicts().iter().filter(is_there).map(|conflict| &conflict.path).collect();
            let shown = net.shown(tree).into_iter().map(|(at, _)| at);
            shown.filter(|at| !held.iter().any(|top| at == *top || at.is_below(top))).map(|at| MAC.key(&at)).collect()
        };
        let (mut source, mut target) = (free(0), free(1));
        source.sort();
        target.sort();
        prop_assert_eq!(source, target, "{:?}", plan.conflicts());
    }
}
