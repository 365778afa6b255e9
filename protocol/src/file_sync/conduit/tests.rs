//! The rules as tables: conduits as `MODE DEVICE:dir DEVICE:dir`, created one after the other.

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
