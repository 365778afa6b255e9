//! What must hold for all histories over one conduit, chains, stars and rings.

use proptest::prelude::*;

use super::super::*;
use super::net::Net;
use super::tree::{directory, path};
use crate::file_sync::ConflictStrategy;
use crate::index::EntryKind;

use ConflictStrategy::{CreateConflictFile, LargestWins, NewestWins, SourceWins, TargetWins};

const TREES: usize = 3;
const PATHS: [&str; 7] = ["a", "b", "d", "d/x", "d/y", "d/e", "d/e/z"];
const CHAIN: [(usize, usize); 2] = [(0, 1), (1, 2)];
const RING: [(usize, usize); 3] = [(0, 1), (1, 2), (2, 0)];
const STAR: [(usize, usize); 2] = [(0, 1), (0, 2)];
const PAIR: [(usize, usize); 1] = [(0, 1)];

/// Random histories of each property: 30,000 in all, in every run of the tests. The law is built with optimisation for
/// it (`Cargo.toml`).
const CASES: u32 = 6_000;

/// What happens next.
#[derive(Debug, Clone)]
enum Event {
    Write(usize, usize),
    MakeDirectory(usize, usize),
    Link(usize, usize),
    Remove(usize, usize),
    Touch(usize, usize),
    Sync(usize),
    /// A generation that ends in its middle: the items of the mask are done.
    Broken(usize, u64),
    /// A conduit forgets its base.
    Reset(usize),
}

fn events(count: usize) -> impl Strategy<Value = Vec<Event>> {
    let at = || (0..TREES, 0..PATHS.len());
    let event = prop_oneof![
        8 => at().prop_map(|(tree, path)| Event::Write(tree, path)),
        1 => at().prop_map(|(tree, path)| Event::MakeDirectory(tree, path)),
        1 => at().prop_map(|(tree, path)| Event::Link(tree, path)),
        4 => at().prop_map(|(tree, path)| Event::Remove(tree, path)),
        2 => at().prop_map(|(tree, path)| Event::Touch(tree, path)),
        8 => (0..TREES).prop_map(Event::Sync),
        2 => (0..TREES, any::<u64>()).prop_map(|(link, mask)| Event::Broken(link, mask)),
        1 => (0..TREES).prop_map(Event::Reset),
    ];
    prop::collection::vec(event, 0..count)
}

/// Files only, in one directory.
fn flat_events(count: usize) -> impl Strategy<Value = Vec<Event>> {
    let at = || (0..TREES, 0..3_usize).prop_map(|(tree, path)| (tree, [0, 1, 3][path]));
    let event = prop_oneof![
        6 => at().prop_map(|(tree, path)| Event::Write(tree, path)),
        4 => at().prop_map(|(tree, path)| Event::Remove(tree, path)),
        8 => (0..TREES).prop_map(Event::Sync),
        2 => (0..TREES, any::<u64>()).prop_map(|(link, mask)| Event::Broken(link, mask)),
    ];
    prop::collection::vec(event, 0..count)
}

fn net(links: &[(usize, usize)], strategies: &[ConflictStrategy]) -> Net {
    let links: Vec<_> = links
        .iter()
        .zip(strategies.iter().cycle())
        .map(|((source, target), strategy)| (*source, *target, SyncMode::Bidirectional, *strategy))
        .collect();
    Net::new(TREES, &links)
}

fn play(net: &mut Net, events: &[Event]) {
    for event in events {
        match *event {
            Event::Write(tree, at) => net.write(tree, &path(PATHS[at])),
            Event::MakeDirectory(tree, at) => net.edit(tree, &path(PATHS[at]), Some(directory(false))),
            Event::Link(tree, at) => {
                net.edit(tree, &path(PATHS[at]), Some(EntryKind::Symlink { target: vec![b'0' + tree as u8] }));
            }
            Event::Remove(tree, at) => net.edit(tree, &path(PATHS[at]), None),
            Event::Touch(tree, at) => {
                if let Some(EntryKind::File(file)) = net.trees[tree].kind(&path(PATHS[at])).cloned() {
                    let touched = crate::index::FileFacts {
                        mtime_ns: file.mtime_ns + 7 + tree as i64,
                        executable: !file.executable,
                        ..file
                    };
                    net.edit(tree, &path(PATHS[at]), Some(EntryKind::File(touched)));
                }
            }
            Event::Sync(link) | Event::Broken(link, _) | Event::Reset(link) if link >= net.links.len() => {}
            Event::Sync(link) => {
                net.sync(link, &|_| true);
            }
            Event::Broken(link, mask) => {
                net.sync(link, &|item| item != usize::MAX && (mask >> (item % 64)) & 1 == 1);
            }
            Event::Reset(link) => net.forget(link),
        }
    }
}

/// Lets it come to rest: the trees of all conduits are equal then.
fn check_rest(net: &mut Net) -> Result<(), TestCaseError> {
    prop_assert!(net.settle().is_some(), "the conduits do not come to rest");
    for link in 0..net.links.len() {
        let [source, target] = net.links[link].ends;
        prop_assert_eq!(net.shown(source), net.shown(target), "ends of conduit {}", link);
    }
    Ok(())
}

/// Nothing that a user wrote and nobody who had it superseded is anywhere but in place.
fn check_kept(net: &Net) -> Result<(), TestCaseError> {
    let in_place = net.in_place();
    let lost: Vec<_> = net.wanted.difference(&in_place).collect();
    prop_assert!(lost.is_empty(), "lost: {:?}", lost);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_pair_comes_to_rest_and_keeps_every_edit(events in events(30)) {
        let mut net = net(&PAIR, &[CreateConflictFile]);
        play(&mut net, &events);
        check_rest(&mut net)?;
        check_kept(&net)?;
    }

    #[test]
    fn a_ring_comes_to_rest_and_keeps_every_edit(events in events(40)) {
        let mut net = net(&RING, &[CreateConflictFile]);
        play(&mut net, &events);
        check_rest(&mut net)?;
        check_kept(&net)?;
    }

    #[test]
    fn chains_and_stars_come_to_rest_and_keep_every_edit(events in events(40), chain in any::<bool>()) {
        let mut net = net(if chain { &CHAIN } else { &STAR }, &[CreateConflictFile]);
        play(&mut net, &events);
        check_rest(&mut net)?;
        check_kept(&net)?;
    }

    #[test]
    fn conduits_of_different_strategies_come_to_rest(events in events(40), rotate in 0..5_usize, ring in any::<bool>()) {
        let mut strategies = [CreateConflictFile, NewestWins, SourceWins, TargetWins, LargestWins];
        strategies.rotate_left(rotate);
        let mut net = net(if ring { &RING } else { &CHAIN }, &strategies);
        play(&mut net, &events);
        check_rest(&mut net)?;
    }

    #[test]
    fn what_was_deleted_with_all_edits_seen_stays_deleted(events in flat_events(40), ring in any::<bool>()) {
        let mut net = net(if ring { &RING } else { &CHAIN }, &[CreateConflictFile]);
        play(&mut net, &events);
        check_rest(&mut net)?;
        check_kept(&net)?;
        if net.conflicts == 0 {
            let back: Vec<_> = net.in_place().intersection(&net.done_with).copied().collect();
            prop_assert!(back.is_empty(), "came back: {:?}", back);
        }
    }
}
