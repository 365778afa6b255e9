//! Rows: own changes, rows of others in any chunking, forged rows, removed locations, epochs.

use proptest::prelude::*;
use tidegate_protocol::file_sync::{Conflict, ConflictKind, ConflictOutcome, Decision, MetConflict, Ruling, Spent};
use tidegate_protocol::id::{Epoch, Sequence};
use tidegate_protocol::index::{Device, DeviceState};
use tidegate_protocol::library_sync::{Fact, Row, RowBody, RowKey};
use tidegate_protocol::limits::LOCATIONS_PER_DEVICE_MAX;
use tidegate_protocol::time::{Stamp, Stamped};

use super::super::{Mismatch, RowsPage, StoreError};
use super::local::CONDUIT;
use super::*;

#[test]
fn a_change_that_says_nothing_new_takes_no_sequence() {
    let a = author(1);
    assert_eq!(put_own(&a, vec![put(HOME, "x", file(1)), put(HOME, "y", file(2))]), Sequence(3));
    assert_eq!(put_own(&a, vec![put(HOME, "y", file(2)), put(HOME, "x", file(1))]), Sequence(3));
    let marked = Change::entry(HOME, path("x"), file(1), Some(mark(1)));
    assert_eq!(put_own(&a, vec![marked]), Sequence(3), "a mark is this device's own affair");
    let reader = a.read().unwrap();
    let tree = reader.tree(device(1), HOME).unwrap();
    assert_eq!(reader.entry(tree, &path("x")).unwrap().unwrap().mark, Some(mark(1)));
    audit(&a);
}

#[test]
fn sequences_follow_the_order_given_and_of_one_key_the_last_change_counts() {
    let a = author(1);
    let changes = [("z", 1), ("a", 1), ("m", 1), ("z", 2)].map(|(name, n)| put(HOME, name, file(n)));
    assert_eq!(put_own(&a, changes.to_vec()), Sequence(4));
    let names: Vec<_> = rows(&a, 1).into_iter().skip(1).map(|row| (row.sequence.0, row.key, row.body)).collect();
    let expected = [(2, "a", 1), (3, "m", 1), (4, "z", 2)];
    assert_eq!(names, expected.map(|(at, name, n)| (at, RowKey::Entry(HOME, path(name)), RowBody::Entry(file(n)))));
    audit(&a);
}

#[test]
fn an_aborted_transaction_leaves_nothing() {
    let a = author(1);
    let before = a.read().unwrap().author(device(1)).unwrap();
    let mut txn = a.write().unwrap();
    txn.put_own(vec![put(HOME, "x", file(1))]).unwrap();
    assert!(txn.entry(txn.tree(device(1), HOME).unwrap(), &path("x")).unwrap().is_some());
    drop(txn);
    assert_eq!(a.read().unwrap().author(device(1)).unwrap(), before);
    assert_eq!(rows(&a, 1).len(), 1);
}

#[test]
fn an_own_change_that_no_replica_would_accept_is_refused() {
    let a = author(1);
    let cases = [
        (put(OTHER, "x", file(1)), Refusal::NoLocation),
        (Change::fact(location(device(2), OTHER, "/b", false)), Refusal::NotTheirs),
    ];
    for (change, refusal) in cases {
        let mut txn = a.write().unwrap();
        assert!(matches!(txn.put_own(vec![change]), Err(StoreError::Own(why)) if why == refusal));
    }
    let mut txn = memory(1).write().unwrap();
    assert!(matches!(txn.put_own(Vec::new()), Err(StoreError::Own(Refusal::Epoch))));
}

/// One step of a device's life.
#[derive(Debug, Clone)]
enum Step {
    Put(bool, u8, u8),
    Restate(bool, u8),
    Remove,
    Rule(u8, u8),
    Meet(u8, bool),
    Spend(u8),
    Pull(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (any::<bool>(), 0..30_u8, 0..5_u8).prop_map(|(home, at, what)| Step::Put(home, at, what)),
        2 => (any::<bool>(), any::<u8>()).prop_map(|(home, root)| Step::Restate(home, root)),
        1 => Just(Step::Remove),
        2 => (0..6_u8, 0..3_u8).prop_map(|(about, what)| Step::Rule(about, what)),
        2 => (0..6_u8, any::<bool>()).prop_map(|(number, settled)| Step::Meet(number, settled)),
        1 => any::<u8>().prop_map(Step::Spend),
        2 => (1..9_usize).prop_map(Step::Pull),
    ]
}

/// A ruling about one of a few conflicts.
fn ruling(about: u8, what: u8) -> Change {
    let decision = [Decision::Source, Decision::Target, Decision::Both][usize::from(what)];
    let facts = ContentHash::from_bytes([about; 32]);
    let decision = Stamped::new(decision, Stamp::zero(device(1)));
    Change::fact(Fact::Ruling(Box::new(Ruling { conduit: CONDUIT, facts, path: path("a"), decision })))
}

/// A conflict, open or settled.
fn met(number: u8, settled: bool) -> Change {
    let facts = ContentHash::from_bytes([number; 32]);
    let (kind, outcome) = (ConflictKind::BothModified, ConflictOutcome::Held);
    let conflict = Conflict { path: path("a"), kind, source: None, target: None, facts, outcome };
    Change::fact(Fact::Conflict(Box::new(MetConflict {
        conduit: CONDUIT,
        number: u64::from(number),
        coordinator: device(1),
        generation: 1,
        met_ms: 1,
        base: None,
        conflict,
        settled_ms: settled.then_some(2),
        ruled: None,
    })))
}

/// Places of everything in an author's log that may be spent.
fn spendable(store: &Store) -> Vec<Sequence> {
    let reader = store.read().unwrap();
    let rulings = reader.rulings_of(device(1)).unwrap().into_iter().map(|(at, _)| at);
    rulings.chain(reader.met_conflicts_of(device(1)).unwrap().into_iter().map(|(at, _)| at)).collect()
}

fn spent(upto: Sequence, kept: Vec<Sequence>) -> Change {
    Change::fact(Fact::Spent(Box::new(Spent { conduit: CONDUIT, upto, kept })))
}

#[test]
fn rulings_that_are_spent_go_everywhere_and_come_back_from_nowhere() {
    let (a, b, late) = (author(1), memory(2), memory(3));
    put_own(&a, (0..4).map(|about| ruling(about, 0)).collect());
    let before = (page(&a, 1, Sequence::ZERO, 100), head(&a, 1));
    pull(&a, &b, 1, 100);
    let about = |store: &Store| {
        let held = store.read().unwrap().rulings(CONDUIT).unwrap();
        held.into_iter().map(|ruling| ruling.facts.as_bytes()[0]).collect::<Vec<_>>()
    };
    assert_eq!(about(&b), [0, 1, 2, 3]);
    // The third is kept, and the first is stated anew with the word that it is spent.
    put_own(&a, vec![spent(Sequence(4), vec![Sequence(3)]), ruling(0, 1)]);
    for (replica, rows_max) in [(&b, 1), (&late, 2)] {
        pull(&a, replica, 1, rows_max);
        assert_eq!(about(replica), [0, 1, 3]);
        assert_eq!(rows(replica, 1), rows(&a, 1));
    }
    // A page of an older state, with the word of a later one behind it.
    let news = page(&a, 1, before.0.upto, 100);
    let (from, whole) = (Sequence::ZERO, [before.0.rows, news.rows].concat());
    let mixed = memory(4);
    apply(&mixed, 1, from, RowsPage { upto: news.upto, rows: whole }, &head(&a, 1)).unwrap();
    assert_eq!(rows(&mixed, 1), rows(&a, 1));
    audit(&mixed);
    let mut txn = a.write().unwrap();
    let ahead = txn.put_own(vec![spent(Sequence(99), Vec::new())]);
    assert!(matches!(ahead, Err(StoreError::Own(Refusal::Incoherent))), "it cannot speak of what comes after it");
}

fn state(what: u8) -> EntryState {
    match what {
        0 => deleted(),
        1 => directory(),
        2 => unknown(),
        n => file(u64::from(n)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn replicas_are_equal_whatever_happens_and_however_rows_are_cut(
        batches in proptest::collection::vec(proptest::collection::vec(step(), 1..12), 1..8),
        rows_max in 1..20_usize,
    ) {
        let (a, b, c) = (author(1), memory(2), memory(3));
        put_own(&a, vec![Change::fact(location(device(1), OTHER, "/o", false))]);
        let mut removed = false;
        for batch in batches {
            let mut changes = Vec::new();
            for step in batch {
                match step {
                    Step::Put(home, at, what) if home || !removed => {
                        let text = format!("{}/{}", at % 3, at);
                        changes.push(put(if home { HOME } else { OTHER }, &text, state(what)));
                    }
                    Step::Restate(home, root) if home || !removed => {
                        let id = if home { HOME } else { OTHER };
                        changes.push(Change::fact(location(device(1), id, &root.to_string(), false)));
                    }
                    Step::Put(..) | Step::Restate(..) => {}
                    Step::Remove => {
                        put_own(&a, std::mem::take(&mut changes));
                        put_own(&a, vec![Change::fact(location(device(1), OTHER, "/o", true))]);
                        removed = true;
                    }
                    Step::Rule(about, what) => changes.push(ruling(about, what)),
                    Step::Meet(number, settled) => changes.push(met(number, settled)),
                    Step::Spend(kept) => {
                        put_own(&a, std::mem::take(&mut changes));
                        let kept = spendable(&a).into_iter().filter(|at| at.0 % 3 == u64::from(kept) % 3).collect();
                        put_own(&a, vec![spent(upto(&a, 1), kept)]);
                    }
                    Step::Pull(rows) => {
                        put_own(&a, std::mem::take(&mut changes));
                        // One page only: the rest comes from a later state, perhaps of another replica.
                        let at = upto(&b, 1);
                        apply(&b, 1, at, page(&a, 1, at, rows), &head(&a, 1)).unwrap();
                        audit(&b);
                    }
                }
            }
            put_own(&a, changes);
            audit(&a);
        }
        pull(&a, &b, 1, rows_max);
        pull(&b, &c, 1, rows_max + 1);
        for replica in [&b, &c] {
            prop_assert_eq!(rows(replica, 1), rows(&a, 1));
            let state = replica.read().unwrap().author(device(1)).unwrap().unwrap();
            prop_assert_eq!(state.rests.clone(), Some(head(&a, 1)));
            prop_assert!(state.bootstrapped);
        }
    }
}

#[test]
fn an_end_of_prefix_is_stated_over_the_holes_that_compaction_leaves() {
    let a = author(1);
    for n in 1..=5 {
        put_own(&a, vec![put(HOME, "x", file(n))]);
    }
    let first = page(&a, 1, Sequence::ZERO, 1);
    assert_eq!((first.rows.len(), first.upto), (1, Sequence(1)));
    let last = page(&a, 1, first.upto, 1);
    assert_eq!((last.rows[0].sequence, last.upto), (Sequence(6), Sequence(6)));
    put_own(&a, vec![Change::fact(location(device(1), HOME, "/a", true))]);
    let all = page(&a, 1, Sequence::ZERO, 9);
    assert_eq!((all.rows.len(), all.upto), (1, Sequence(7)));
    assert_eq!(page(&a, 1, Sequence(7), 9), RowsPage { rows: Vec::new(), upto: Sequence(7) });
}

#[test]
fn a_page_is_bounded_in_bytes_and_never_empty_while_rows_remain() {
    let a = author(1);
    put_own(&a, (0..50).map(|n| put(HOME, &format!("{n:03}"), file(n))).collect());
    let reader = a.read().unwrap();
    let mut at = Sequence::ZERO;
    while at != Sequence(51) {
        let page = reader.rows_after(device(1), at, 100, 1000).unwrap();
        let bytes: usize = page.rows.iter().map(|row| tidegate_protocol::codec::encode(row).len()).sum();
        assert!(!page.rows.is_empty() && bytes <= 1000);
        at = page.upto;
    }
    assert_eq!(reader.rows_after(device(1), Sequence::ZERO, 100, 1).unwrap().rows.len(), 1);
}

#[test]
fn an_entry_may_come_before_its_restated_location_but_nothing_rests_without_it() {
    let (a, b) = (author(1), memory(2));
    put_own(&a, vec![put(HOME, "x", file(1))]);
    put_own(&a, vec![Change::fact(location(device(1), HOME, "/moved", false))]);
    pull(&a, &b, 1, 1);
    assert_eq!(rows(&b, 1), rows(&a, 1));

    let c = memory(3);
    let orphan = Row { sequence: Sequence(1), key: RowKey::Entry(OTHER, path("x")), body: RowBody::Entry(file(1)) };
    let page = RowsPage { rows: vec![orphan], upto: Sequence(1) };
    let none = head(&a, 1);
    assert_eq!(apply(&c, 1, Sequence::ZERO, page, &none), Ok(()));
    let lie = head(&c, 1);
    let mut txn = c.write().unwrap();
    assert_eq!(txn.rest(device(1), &lie).unwrap(), Err(Mismatch::NoLocation));
}

/// What a forger changes in a page of rows 1 to 4 that follows on 0.
type Forgery = fn(&mut Vec<Row>, &mut Sequence, &mut Sequence);

#[test]
fn forged_rows_are_refused_and_nothing_is_changed() {
    let cases: [(&str, Forgery, Refusal); 13] = [
        ("gap", |_, from, _| *from = Sequence(1), Refusal::Gap { have: Sequence::ZERO }),
        ("rows out of order", |rows, _, _| rows.swap(1, 2), Refusal::Order),
        ("one number twice", |rows, _, _| rows[2].sequence = rows[1].sequence, Refusal::Order),
        ("number 0", |rows, _, _| rows[0].sequence = Sequence(0), Refusal::Order),
        ("beyond the stated end", |_, _, upto| *upto = Sequence(3), Refusal::Order),
        ("one key twice", |rows, _, _| rows[2].key = rows[1].key.clone(), Refusal::Incoherent),
        ("key and body differ", |rows, _, _| rows[1].key = rows[0].key.clone(), Refusal::Incoherent),
        (
            "a date after which there is none",
            |rows, _, _| {
                let RowBody::Fact(Fact::Location(location)) = &mut rows[0].body else { panic!() };
                location.stamp.ms = u64::MAX;
            },
            Refusal::Incoherent,
        ),
        (
            "another's location",
            |rows, _, _| rows[0].body = RowBody::Fact(location(device(3), HOME, "/a", false)),
            Refusal::NotTheirs,
        ),
        (
            "entries of a location that is removed",
            |rows, _, _| rows[0].body = RowBody::Fact(location(device(1), HOME, "/a", true)),
            Refusal::NoLocation,
        ),
        ("a row left out", |rows, _, _| drop(rows.remove(2)), Refusal::Head(Mismatch::RowCount)),
        ("a row altered", |rows, _, _| rows[2].body = RowBody::Entry(file(99)), Refusal::Head(Mismatch::SetHash)),
        (
            "a row under another number",
            |rows, _, _| {
                rows.remove(2);
                rows[2].sequence = Sequence(3);
                rows.push(Row {
                    sequence: Sequence(4),
                    key: RowKey::Entry(HOME, path("b")),
                    body: RowBody::Entry(file(2)),
                });
            },
            Refusal::Head(Mismatch::SetHash),
        ),
    ];
    let a = author(1);
    put_own(&a, ["a", "b", "c"].map(|name| put(HOME, name, file(2))).to_vec());
    let head = head(&a, 1);
    for (name, forge, refusal) in cases {
        let b = memory(2);
        let mut honest = page(&a, 1, Sequence::ZERO, 9);
        let mut from = Sequence::ZERO;
        forge(&mut honest.rows, &mut from, &mut honest.upto);
        assert_eq!(apply(&b, 1, from, honest, &head), Err(refusal), "{name}");
        assert_eq!((upto(&b, 1), rows(&b, 1).len()), (Sequence::ZERO, 0), "{name}");
        audit(&b);
        pull(&a, &b, 1, 2);
    }
}

#[test]
fn rows_of_another_epoch_of_oneself_or_of_too_many_locations_are_refused() {
    let (a, b) = (author(1), memory(2));
    let mut txn = b.write().unwrap();
    let mut try_apply = |n: u8, epoch, rows: Vec<Row>| {
        let upto = Sequence(rows.len() as u64);
        txn.apply_rows(device(n), epoch, Sequence::ZERO, upto, rows, None).unwrap()
    };
    assert_eq!(try_apply(1, EPOCH, rows(&a, 1)), Err(Refusal::Epoch), "no epoch was started");
    assert_eq!(try_apply(2, EPOCH, Vec::new()), Err(Refusal::NotTheirs), "nobody writes our rows");
    txn.start_epoch(device(1), EPOCH).unwrap();
    let mut try_apply = |epoch, rows: Vec<Row>| {
        let upto = Sequence(rows.len() as u64);
        txn.apply_rows(device(1), epoch, Sequence::ZERO, upto, rows, None).unwrap()
    };
    assert_eq!(try_apply(Epoch(8), rows(&a, 1)), Err(Refusal::Epoch));
    let flood = (0..=LOCATIONS_PER_DEVICE_MAX as u64).map(|n| {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&n.to_le_bytes());
        let key = RowKey::Entry(LocationId::from_bytes(id), path("x"));
        Row { sequence: Sequence(n + 1), key, body: RowBody::Entry(file(n)) }
    });
    assert_eq!(try_apply(EPOCH, flood.collect()), Err(Refusal::TooManyLocations));
}

#[test]
fn no_device_reaches_into_the_location_of_another() {
    let (a, mallory, b) = (author(1), author(3), memory(2));
    put_own(&a, vec![put(HOME, "x", file(1))]);
    put_own(&mallory, vec![put(HOME, "x", file(666))]);
    pull(&a, &b, 1, 9);
    pull(&mallory, &b, 3, 9);
    let reader = b.read().unwrap();
    for (owner, size) in [(1, 1), (3, 666)] {
        let tree = reader.tree(device(owner), HOME).unwrap();
        assert_eq!(reader.entry(tree, &path("x")).unwrap().unwrap().state, file(size));
    }
    assert_eq!(reader.locations().unwrap().len(), 2);
}

#[test]
fn a_removed_location_takes_its_entries_along_and_stays_removed() {
    let (a, b) = (author(1), memory(2));
    put_own(&a, vec![put(HOME, "x", file(1)), put(HOME, "y", deleted())]);
    pull(&a, &b, 1, 9);
    put_own(&a, vec![Change::fact(location(device(1), HOME, "/a", true))]);
    audit(&a);
    pull(&a, &b, 1, 9);
    assert_eq!((rows(&a, 1).len(), rows(&b, 1)), (1, rows(&a, 1)));
    let returns = vec![Change::fact(location(device(1), HOME, "/a", false))];
    assert!(matches!(a.write().unwrap().put_own(returns), Err(StoreError::Own(Refusal::NoLocation))));
}

#[test]
fn another_devices_new_epoch_starts_from_nothing_and_ones_own_keeps_its_rows() {
    let (a, b) = (author(1), memory(2));
    put_own(&a, vec![put(HOME, "x", file(1))]);
    pull(&a, &b, 1, 9);
    let fact = Fact::Device(Device {
        id: device(1),
        name: Stamped::new(Label::new("b").unwrap(), Stamp::zero(device(2))),
        state: Stamped::new(DeviceState::Member, Stamp::zero(device(2))),
        membership: 1,
    });
    let mut txn = b.write().unwrap();
    txn.start_epoch(device(2), EPOCH).unwrap();
    txn.put_own(vec![Change::fact(fact)]).unwrap();
    txn.set_newest(device(1), &head(&a, 1)).unwrap();
    txn.start_epoch(device(1), Epoch(8)).unwrap();
    txn.start_epoch(device(2), Epoch(9)).unwrap();
    assert!(matches!(txn.wipe_author(device(2)), Err(StoreError::Own(_))));
    txn.commit().unwrap();
    audit(&b);
    let reader = b.read().unwrap();
    let other = reader.author(device(1)).unwrap().unwrap();
    assert_eq!((other.epoch, other.upto, other.row_count), (Epoch(8), Sequence::ZERO, 0));
    assert!(!other.bootstrapped && other.rests.is_none() && other.newest.is_some());
    let own = reader.author(device(2)).unwrap().unwrap();
    assert_eq!((own.epoch, own.upto, own.row_count), (Epoch(9), Sequence(1), 1));
    assert_eq!(reader.devices().unwrap().len(), 1, "facts of others are not touched by a wipe");
}

#[test]
fn a_state_rests_only_on_the_head_it_equals() {
    let (a, b) = (author(1), memory(2));
    put_own(&a, vec![put(HOME, "x", file(1))]);
    let old = head(&a, 1);
    pull(&a, &b, 1, 9);
    put_own(&a, vec![put(HOME, "x", file(2))]);
    let new = head(&a, 1);
    let mut txn = b.write().unwrap();
    assert_eq!(txn.rest(device(1), &new).unwrap(), Err(Mismatch::Sequence));
    assert_eq!(txn.rest(device(3), &new).unwrap(), Err(Mismatch::Epoch));
    let page = page(&a, 1, old.trusted().sequence, 9);
    txn.apply_rows(device(1), EPOCH, old.trusted().sequence, page.upto, page.rows, None).unwrap().unwrap();
    assert_eq!(txn.author(device(1)).unwrap().unwrap().rests, None, "a prefix rests on nothing");
    assert_eq!(txn.rest(device(1), &new).unwrap(), Ok(()));
    assert_eq!(txn.author(device(1)).unwrap().unwrap().rests, Some(new));
}
