//! The rules as tables: conduits as `MODE DEVICE:dir DEVICE:dir`, created one after the other.

use proptest::prelude::*;

use super::*;
use crate::file_sync::Side;
use crate::time::{Stamp, Stamped};

fn device(letter: char) -> DeviceId {
    DeviceId::from_bytes([letter as u8; 32])
}

fn root(text: &str) -> Root {
    let (letters, dir) = text.split_once(':').unwrap();
    // A second letter is another location of the same device.
    let location = letters.bytes().last().unwrap();
    Root {
        device: device(letters.chars().next().unwrap()),
        location: LocationId::from_bytes([location; 16]),
        dir: DirPath::from_slashes(dir.as_bytes()).unwrap(),
    }
}

fn conduit(text: &str, number: usize) -> Conduit {
    let [mode, source, target] = text.split(' ').collect::<Vec<_>>().try_into().unwrap();
    let mode = match mode {
        "mirror" => SyncMode::Mirror,
        "both" => SyncMode::Bidirectional,
        "selective" => SyncMode::Selective,
        other => panic!("{other}"),
    };
    let stamp = Stamp::zero(device('A'));
    Conduit {
        id: ConduitId::from_bytes([number as u8; 16]),
        created: stamp,
        source: root(source),
        target: root(target),
        mode,
        settings: settings(stamp),
        removed: Stamped::new(false, stamp),
    }
}

fn settings(stamp: Stamp) -> ConduitSettings {
    ConduitSettings {
        name: Stamped::new(name(), stamp),
        enabled: Stamped::new(true, stamp),
        paused: Stamped::new(false, stamp),
        schedule: Stamped::new(Schedule::Manual, stamp),
        selection: Stamped::new(Selection::default(), stamp),
        parallel_transfers: Stamped::new(4, stamp),
        bandwidth_limit: Stamped::new(BandwidthLimit::default(), stamp),
        strategy: Stamped::new(ConflictStrategy::default(), stamp),
        delete_mode: Stamped::new(DeleteMode::default(), stamp),
    }
}

fn name() -> Label {
    Label::new("name").unwrap()
}

fn check_all(conduits: &[&str], last: &Result<(), ConduitError>) {
    let conduits: Vec<Conduit> = conduits.iter().enumerate().map(|(at, text)| conduit(text, at)).collect();
    for (at, new) in conduits.iter().enumerate() {
        let answer = check(new, &conduits[..at], |root| root.dir.to_string() != "gone");
        let expected = if at + 1 == conduits.len() { last.clone() } else { Ok(()) };
        assert_eq!(answer, expected, "{at} of {conduits:#?}");
    }
}

#[test]
fn a_conduit_is_refused_by_the_first_rule_it_breaks() {
    use ConduitError as E;
    let cases: &[(&[&str], Result<(), E>)] = &[
        (&["mirror A:x B:y"], Ok(())),
        (&["mirror A:x A:xy"], Ok(())),
        (&["mirror A: B:"], Ok(())),
        (&["mirror A:x AZ:x"], Ok(())),
        (&["mirror A:gone B:y"], Err(E::NotIndexed(Side::Source))),
        (&["mirror A:x B:gone"], Err(E::NotIndexed(Side::Target))),
        (&["mirror A:x A:x"], Err(E::SameEndpoint)),
        (&["mirror A:x A:x/bak"], Err(E::Nested)),
        (&["both A:x/in A:"], Err(E::Nested)),
        (&["mirror A:x B:y/.tidegate/trash"], Err(E::InternalPath)),
        (&["mirror A:x/.Tidegate B:y"], Err(E::InternalPath)),
        (&["mirror A:x B:x", "both A:x B:x"], Err(E::Duplicate(name()))),
        (&["both A:x B:x", "both B:x A:x"], Err(E::Duplicate(name()))),
        (&["selective A:x B:x", "mirror B:x A:x"], Err(E::Opposed(name()))),
        (&["mirror A:x C:t", "mirror B:x C:t/sub"], Err(E::SharedMirrorTarget(name()))),
        (&["mirror A:x C:t/sub", "mirror B:x C:t"], Err(E::SharedMirrorTarget(name()))),
        (&["mirror A:x C:t", "both B:x C:t"], Err(E::MirrorTargetWritten(name()))),
        (&["both C:t/sub B:x", "mirror A:x C:t"], Err(E::MirrorTargetWritten(name()))),
        (&["mirror A:x C:t", "selective B:x C:t/sub"], Err(E::MirrorTargetWritten(name()))),
        (&["mirror A:x B:x", "mirror B:x C:x"], Ok(())),
        (&["mirror A:x B:x", "mirror A:x C:x"], Ok(())),
        (&["both A:x B:x", "both A:x/sub C:y"], Ok(())),
        (&["mirror A:x B:x", "mirror B:x/sub C:x", "mirror C: A:x/in"], Err(E::OneWayCycle)),
        (&["both A:x B:x", "both B:x C:x", "selective C:x A:x"], Err(E::OneWayCycle)),
        (&["both A:x B:x", "selective B:x C:x", "both C:x A:x"], Err(E::OneWayCycle)),
        (&["selective C:x B:x", "both A:x B:x", "both C:x A:x"], Err(E::OneWayCycle)),
        (&["both A:x B:x", "both B:x C:x", "both C:x A:x"], Ok(())),
        (&["both A:x B:x", "both B:x C:x", "mirror A:x D:x"], Ok(())),
    ];
    for (conduits, last) in cases {
        check_all(conduits, last);
    }
}

#[test]
fn removed_conduits_and_the_conduit_itself_do_not_count() {
    let mut old = conduit("mirror A:x B:x", 1);
    old.removed.value = true;
    assert_eq!(check(&conduit("mirror A:x B:x", 2), &[old], |_| true), Ok(()));
    let same = conduit("mirror A:x B:x", 3);
    assert_eq!(check(&same, std::slice::from_ref(&same), |_| true), Ok(()));
}

/// Each created a moment after the one before.
fn in_turn(conduits: &[&str]) -> Vec<Conduit> {
    let made = conduits.iter().enumerate().map(|(at, text)| {
        let created = Stamp { ms: at as u64 + 1, ..Stamp::zero(device('A')) };
        Conduit { created, ..conduit(text, at + 1) }
    });
    made.collect()
}

/// The older one that keeps each from running, by their places in the list.
fn clashes(conduits: &[Conduit]) -> Vec<Option<usize>> {
    let place = |found: &Clash<'_>| conduits.iter().position(|c| c.id == found.older.id).unwrap();
    conduits.iter().map(|conduit| clash(conduit, conduits).as_ref().map(place)).collect()
}

#[test]
fn of_two_that_clash_the_older_one_runs() {
    let cases: &[(&[&str], &[Option<usize>])] = &[
        (&["mirror A:x B:x"], &[None]),
        (&["mirror A:x B:x", "mirror B:x C:x"], &[None, None]),
        (&["mirror A:x B:x", "both A:x B:x"], &[None, Some(0)]),
        (&["mirror A:x B:x", "selective B:x A:x"], &[None, Some(0)]),
        (&["both B:x C:x", "mirror A:x B:x"], &[None, Some(0)]),
        (&["mirror A:x B:x", "mirror C:x B:x/in", "both B:x D:x"], &[None, Some(0), Some(0)]),
        // What does not run itself forbids all the same, as it does on creation.
        (&["mirror A:x B:x", "both B:x C:x", "mirror D:x C:x"], &[None, Some(0), Some(1)]),
        // It takes all of a cycle; the last of the others is the one that is named.
        (&["mirror A:x B:x", "both D:x E:x", "mirror B:x C:x", "mirror C:x A:x"], &[None, None, None, Some(2)]),
    ];
    for (conduits, expected) in cases {
        assert_eq!(clashes(&in_turn(conduits)), *expected, "{conduits:?}");
    }
}

#[test]
fn the_later_one_runs_when_the_older_is_removed_and_not_when_it_rests() {
    let mut conduits = in_turn(&["both B:x C:x", "mirror A:x B:x"]);
    conduits[0].settings.enabled.value = false;
    conduits[0].settings.paused.value = true;
    assert_eq!(clashes(&conduits), [None, Some(0)]);
    conduits[0].removed.value = true;
    assert_eq!(clashes(&conduits), [None, None]);
}

#[test]
fn the_id_decides_between_two_of_one_moment() {
    let [mut one, mut other]: [Conduit; 2] = in_turn(&["both B:x C:x", "mirror A:x B:x"]).try_into().unwrap();
    other.created = one.created;
    assert_eq!(clashes(&[one.clone(), other.clone()]), [None, Some(0)]);
    std::mem::swap(&mut one.id, &mut other.id);
    assert_eq!(clashes(&[one, other]), [Some(1), None]);
}

/// Some conduits between four directories, in the order in which they were created.
fn drawn() -> impl Strategy<Value = Vec<Conduit>> {
    let mode = prop::sample::select(vec!["mirror", "both", "selective"]);
    let end = || prop::sample::select(vec!["A:x", "B:x", "B:x/in", "C:x", "D:x"]);
    let one = (mode, end(), end(), any::<bool>(), 0u64..6);
    prop::collection::vec(one, 1..7).prop_map(|all| {
        let made = all.into_iter().enumerate().map(|(at, (mode, source, target, removed, ms))| {
            let mut conduit = conduit(&format!("{mode} {source} {target}"), at);
            conduit.created = Stamp { ms, ..conduit.created };
            conduit.removed.value = removed && at % 3 == 0;
            conduit
        });
        made.filter(|c| !c.source.overlaps(&c.target)).collect()
    })
}

proptest! {
    #[test]
    fn devices_agree_on_what_runs_whatever_they_heard_first(
        (conduits, shuffled) in drawn().prop_flat_map(|all| (Just(all.clone()), Just(all).prop_shuffle())),
    ) {
        for conduit in &conduits {
            let (here, there) = (clash(conduit, &conduits), clash(conduit, &shuffled));
            prop_assert_eq!(&here, &there);
            prop_assert_eq!(clash(conduit, std::slice::from_ref(conduit)), None);
            let older: Vec<Conduit> =
                conduits.iter().filter(|c| (c.created, c.id) < (conduit.created, conduit.id)).cloned().collect();
            let created_last = check(conduit, &older, |_| true);
            prop_assert_eq!(here.is_some(), created_last.is_err(), "{:?}", created_last);
        }
    }

    #[test]
    fn without_the_older_one_a_clash_is_over_or_with_a_younger_one(conduits in drawn()) {
        for conduit in &conduits {
            let Some(found) = clash(conduit, &conduits) else { continue };
            let (id, age) = (found.older.id, (found.older.created, found.older.id));
            let mut left = conduits.clone();
            left.iter_mut().find(|c| c.id == id).unwrap().removed.value = true;
            let next = clash(conduit, &left);
            prop_assert!(next.is_none_or(|next| (next.older.created, next.older.id) > age));
        }
    }
}

#[test]
fn settings_have_bounds() {
    type Case = (fn(&mut ConduitSettings), Option<SettingError>);
    let cases: &[Case] = &[
        (|s| s.schedule.value = Schedule::Instant { settle_ms: 99 }, Some(SettingError::SettleTooShort)),
        (|s| s.schedule.value = Schedule::Instant { settle_ms: 100 }, None),
        (|s| s.schedule.value = Schedule::Every { interval_ms: 999 }, Some(SettingError::IntervalTooShort)),
        (|s| s.schedule.value = Schedule::Every { interval_ms: 1_000 }, None),
        (|s| s.parallel_transfers.value = 0, Some(SettingError::ParallelTransfers)),
        (|s| s.parallel_transfers.value = 65, Some(SettingError::ParallelTransfers)),
        (|s| s.parallel_transfers.value = 64, None),
        (|s| s.selection.value.globs = vec!["*.jpg".into(); 1025], Some(SettingError::SelectionTooLarge)),
        (|s| s.selection.value.globs = vec!["x".repeat(1025)], Some(SettingError::SelectionTooLarge)),
        (|s| s.selection.value.globs = vec!["**/*.jpg".into()], None),
    ];
    for (change, expected) in cases {
        let mut settings = settings(Stamp::zero(device('A')));
        change(&mut settings);
        assert_eq!(check_settings(&settings).err(), *expected);
    }
    let mut settings = settings(Stamp::zero(device('A')));
    settings.selection.value.globs = vec!["a[".into()];
    assert!(matches!(check_settings(&settings), Err(SettingError::Pattern { .. })));
}
