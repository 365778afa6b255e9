//! The gate as tables: what is changed in a view that would open, and the first reason that must come out.

use super::*;

const A: DeviceId = DeviceId::from_bytes([1; 32]);
const B: DeviceId = DeviceId::from_bytes([2; 32]);
const C: DeviceId = DeviceId::from_bytes([3; 32]);
const HERE: LocationId = LocationId::from_bytes([1; 16]);
const THERE: LocationId = LocationId::from_bytes([2; 16]);

fn head(device: DeviceId, epoch: u64, sequence: u64) -> HeadRef {
    HeadRef { device, epoch: Epoch(epoch), sequence: Sequence(sequence), set_hash: [sequence as u8; 32] }
}

fn owner(device: DeviceId, location: LocationId, sequence: u64) -> OwnerView {
    OwnerView {
        device,
        locations: vec![LocationView { location, root_ok: true, scan_complete: true, dirty: 0, busy: Vec::new() }],
        authorized: true,
        quarantined: false,
        over_quota: false,
        online: true,
        evidence_age_ms: Some(400),
        relayed: false,
        head: Some(head(device, 1, sequence)),
        applied: Some(head(device, 1, sequence)),
        gossiped: None,
        bootstrapped: true,
        clock_offset_ms: 0,
    }
}

/// A resolves from A to B; C is online beside them. Everything is as it should be.
fn caught_up() -> GateView {
    let mut own = owner(A, HERE, 100);
    own.evidence_age_ms = None;
    let other = OtherView {
        device: C,
        authorized: true,
        online: true,
        config_evidence_age_ms: Some(30_000),
        config_applied: true,
    };
    GateView {
        conduit: ConduitId::from_bytes([9; 16]),
        resolver: A,
        ends: [(A, HERE), (B, THERE)],
        owners: vec![own, owner(B, THERE, 50)],
        others: vec![other],
        membership: 3,
        owners_membership: 3,
        newer_generation_at: None,
        evidence_age_ms_max: crate::limits::EVIDENCE_AGE_MS_MAX,
    }
}

fn check(name: &str, change: impl FnOnce(&mut GateView), first: Option<&GateReason>) {
    let mut view = caught_up();
    change(&mut view);
    let answer = open(&view);
    assert_eq!(answer.as_ref().err().map(|closed| &closed.reasons[0]), first, "{name}");
    if let Ok(synced) = answer {
        assert_eq!(synced.conduit(), view.conduit, "{name}");
        assert!(synced.heads().is_sorted() && synced.heads().len() == view.owners.len(), "{name}");
    }
}

type Case = (&'static str, fn(&mut GateView), Option<GateReason>);

#[test]
fn the_gate_opens_for_no_more_than_is_asked() {
    let cases: &[Case] = &[
        ("both caught up", |_| {}, None),
        ("the resolver needs no evidence of itself", |v| v.owners[0].online = false, None),
        ("evidence at its age limit", |v| v.owners[1].evidence_age_ms = Some(5_000), None),
        ("what others claim is not more", |v| v.owners[1].gossiped = Some(Sequence(50)), None),
        ("a clock at its limit", |v| v.owners[1].clock_offset_ms = -600_000, None),
        ("the resolver knows more of the members", |v| v.membership = 4, None),
        (
            "an offline bystander",
            |v| v.others[0] = OtherView { online: false, config_applied: false, ..v.others[0] },
            None,
        ),
        (
            "a revoked bystander",
            |v| v.others[0] = OtherView { authorized: false, config_applied: false, ..v.others[0] },
            None,
        ),
        (
            "both ends on the resolver",
            |v| {
                v.ends = [(A, HERE), (A, HERE)];
                v.owners.truncate(1);
            },
            None,
        ),
    ];
    for (name, change, first) in cases {
        check(name, change, first.as_ref());
    }
}

#[test]
fn every_reason_closes_the_gate() {
    use GateReason as R;
    let cases: &[Case] = &[
        ("not a member", |v| v.owners[1].authorized = false, Some(R::Unauthorized { device: B })),
        ("the resolver is no member", |v| v.owners[0].authorized = false, Some(R::Unauthorized { device: A })),
        ("quarantined", |v| v.owners[1].quarantined = true, Some(R::Quarantined { device: B })),
        ("offline", |v| v.owners[1].online = false, Some(R::Offline { device: B })),
        ("no evidence", |v| v.owners[1].evidence_age_ms = None, Some(R::Unheard { device: B })),
        ("no head", |v| v.owners[1].head = None, Some(R::Unheard { device: B })),
        ("a head of somebody else", |v| v.owners[1].head = Some(head(C, 1, 50)), Some(R::Unheard { device: B })),
        ("an end without an owner", |v| v.owners.truncate(1), Some(R::Unheard { device: B })),
        (
            "old evidence",
            |v| v.owners[1].evidence_age_ms = Some(5_001),
            Some(R::StaleEvidence { device: B, age_ms: 5_001 }),
        ),
        ("relayed evidence", |v| v.owners[1].relayed = true, Some(R::Relayed { device: B })),
        ("another epoch", |v| v.owners[1].head = Some(head(B, 2, 3)), Some(R::Epoch { device: B, head: Epoch(2) })),
        (
            "somebody has seen more",
            |v| v.owners[1].gossiped = Some(Sequence(51)),
            Some(R::Regressed { device: B, claimed: Sequence(50), gossiped: Sequence(51) }),
        ),
        (
            "the replica itself has seen more",
            |v| v.owners[1].applied = Some(head(B, 1, 51)),
            Some(R::Regressed { device: B, claimed: Sequence(50), gossiped: Sequence(51) }),
        ),
        (
            "one row behind",
            |v| v.owners[1].applied = Some(head(B, 1, 49)),
            Some(R::Behind { device: B, have: Sequence(49), head: Sequence(50) }),
        ),
        (
            "nothing applied",
            |v| v.owners[1].applied = None,
            Some(R::Behind { device: B, have: Sequence(0), head: Sequence(50) }),
        ),
        (
            "other rows under the same number",
            |v| v.owners[1].applied = Some(HeadRef { set_hash: [0; 32], ..head(B, 1, 50) }),
            Some(R::Mismatch { device: B }),
        ),
        ("still loading", |v| v.owners[1].bootstrapped = false, Some(R::Bootstrapping { device: B })),
        (
            "root missing",
            |v| v.owners[1].locations[0].root_ok = false,
            Some(R::RootMissing { device: B, location: THERE }),
        ),
        (
            "a head that does not name the location",
            |v| v.owners[1].locations.clear(),
            Some(R::RootMissing { device: B, location: THERE }),
        ),
        (
            "not scanned",
            |v| v.owners[0].locations[0].scan_complete = false,
            Some(R::Unscanned { device: A, location: HERE }),
        ),
        (
            "events waiting",
            |v| v.owners[1].locations[0].dirty = 3,
            Some(R::Dirty { device: B, location: THERE, dirty: 3 }),
        ),
        (
            "a clock far off",
            |v| v.owners[1].clock_offset_ms = -600_001,
            Some(R::Clock { device: B, offset_ms: -600_001 }),
        ),
        ("an older list of members", |v| v.membership = 2, Some(R::Membership)),
        (
            "a bystander not heard lately",
            |v| v.others[0].config_evidence_age_ms = Some(60_001),
            Some(R::ConfigStale { device: C }),
        ),
        ("a bystander never heard", |v| v.others[0].config_evidence_age_ms = None, Some(R::ConfigStale { device: C })),
        ("a bystander's facts not applied", |v| v.others[0].config_applied = false, Some(R::ConfigStale { device: C })),
        ("a newer generation elsewhere", |v| v.newer_generation_at = Some(B), Some(R::NewerGeneration { device: B })),
    ];
    for (name, change, first) in cases {
        check(name, change, first.as_ref());
    }
}

#[test]
fn all_reasons_are_told_and_the_most_important_comes_first() {
    let mut view = caught_up();
    view.owners[0].locations[0].dirty = 1;
    view.owners[1].online = false;
    view.owners[1].applied = None;
    view.newer_generation_at = Some(B);
    let reasons = open(&view).expect_err("four reasons").reasons;
    assert_eq!(
        reasons,
        [
            GateReason::Offline { device: B },
            GateReason::Behind { device: B, have: Sequence(0), head: Sequence(50) },
            GateReason::Dirty { device: A, location: HERE, dirty: 1 },
            GateReason::NewerGeneration { device: B },
        ]
    );
}
