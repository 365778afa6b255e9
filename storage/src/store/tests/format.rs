//! Golden bytes: every stored record and key. A difference here is a new format, with a step in `migrate`.

use data_encoding::HEXLOWER;
use serde::{Serialize, de::DeserializeOwned};
use tidegate_protocol::file_sync::{
    Conflict, ConflictKind, ConflictOutcome, Decision, ItemOutcome, MetConflict, Ruling, SkipReason, Spent,
};
use tidegate_protocol::library_sync::FactKey;

use super::super::record::{self, AuthorRecord, EntryRecord, FactRecord, OutcomeBlock, TreeRecord};
use super::super::{Announced, tables};
use super::local::{CONDUIT, baseline, generation, items, job, job_key, plan};
use super::*;
use tidegate_protocol::time::Stamped;

/// Long records are pinned by their hash.
fn check<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(name: &str, record: &T, golden: &str) {
    let bytes = record::encode(record);
    let shown = if bytes.len() > 64 { ContentHash::of(&bytes).to_string() } else { HEXLOWER.encode(&bytes) };
    assert_eq!(shown, golden, "{name}");
    assert_eq!(record::decode::<T>(&bytes).unwrap(), *record, "{name}");
}

#[test]
fn records_keep_their_bytes() {
    let entry = EntryRecord { sequence: Sequence(300), state: deleted(), mark: None };
    check("tombstone", &entry, "ac02010109090909090909090909090909090909090909090909090909090909090909090200");
    let entry = EntryRecord { sequence: Sequence(300), state: file(5), mark: Some(mark(5)) };
    check("entry", &entry, "7d744af475c19d2fed899564e1035b8f1815897a5b37d3cf23c32cd49e98f7b2");
    let fact = FactRecord { sequence: Sequence(1), author: device(1), fact: location(device(1), HOME, "/a", false) };
    check("fact", &fact, "716f5bda44a8b01cf8e8951c6e24ab5ae6c7d93703b023ff9edf0accdb33fab6");
    let head = head(&author(1), 1);
    let empty = AuthorRecord::empty(3, EPOCH);
    check("author", &empty, "271901f9567c295b531fbf4c34867634392131d6460a53bf66cd5e1c0a4b7476");
    let rested = AuthorRecord { rests: Some(head.clone()), newest: Some(head.clone()), ..empty };
    check(
        "rested author",
        &AuthorRecord { fork: Some((head.clone(), head)), ..rested },
        "952fa47d7f710987c8e505416bd4a69fe25f1883fac2851d254fee310698b547",
    );
    let ruling = Ruling {
        conduit: CONDUIT,
        facts: ContentHash::from_bytes([7; 32]),
        path: path("a/b"),
        decision: Stamped::new(Decision::Both, Stamp::zero(device(1))),
    };
    let fact = FactRecord { sequence: Sequence(2), author: device(1), fact: Fact::Ruling(Box::new(ruling)) };
    check("ruling", &fact, "19cd7d8b0bacc0e7077189accd26a1ba61cd51502c5a5fde88b968cb33f7e1f5");
    let conflict = Conflict {
        path: path("a/b"),
        kind: ConflictKind::BothModified,
        source: Some(file(5).present().unwrap().kind.clone()),
        target: None,
        facts: ContentHash::from_bytes([7; 32]),
        outcome: ConflictOutcome::Both { copy: path("a/c") },
    };
    let met = MetConflict {
        conduit: CONDUIT,
        number: 3,
        coordinator: device(1),
        generation: 2,
        met_ms: 9,
        base: None,
        conflict,
        settled_ms: Some(10),
        ruled: None,
    };
    let fact = FactRecord { sequence: Sequence(3), author: device(1), fact: Fact::Conflict(Box::new(met)) };
    check("conflict", &fact, "51160d2d4ea54da48274ab1800c1d0052aced422640cfb4fdf195576eb15868d");
    let spent = Spent { conduit: CONDUIT, upto: Sequence(300), kept: vec![Sequence(7)] };
    let fact = FactRecord { sequence: Sequence(301), author: device(1), fact: Fact::Spent(Box::new(spent)) };
    check(
        "spent rulings",
        &fact,
        "ad028a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c0630303030303030303030303030303030ac020107",
    );
    check(
        "base row",
        &file(5).present().unwrap().kind,
        "017670a5a683b5119971841294a5291a339464be45d612a0e0e083dc6b09de86f3050100",
    );
    let counters = Counters { rows: 1, files: 2, directories: 3, links: 4, bytes: 500, unknown: 6, special: 7 };
    check("tree", &TreeRecord { number: 9, counters }, "0901020304f4030607");
    let kind = file(5).present().unwrap().kind.clone();
    check(
        "announced",
        &Announced { kind, mark: Some(mark(5)), version: version(1) },
        "8b9080cbecb3e84b874f201266b89985e6ff8ec769a45db14490ab69d5bc8af5",
    );
    check("job", &job(7), "fcf4e9b09e99f2d807c2a78f73d0530b998b094eacbf7bd612ce2bed3b907538");
    check("items", &items(0..2), "ad856ff8ac386cececf76bbe2e4a2b73f9df36636ddd02b36bfed1042e997330");
    let outcomes: OutcomeBlock = vec![None, Some(ItemOutcome::Done), Some(ItemOutcome::Skipped(SkipReason::NoSpace))];
    check("outcomes", &outcomes, "03000100010105");
    check("plan", &plan(), "e50b8e3023f4e8a11c2f01260b85afcf9d92bf9548fefddb02d946f7bc1f0003");
    check(
        "generation",
        &generation(2),
        "30303030303030303030303030303030028df970306a26cb866c545c49c4a5f9e566f287c9e451b4252b83d7f4b6cb1d41000000000500000000000000",
    );
    check("baseline", &baseline(), "e275d05b58559bb64b5ecfcb2aa79de8bfab005bae112dfc79436e08d15f281f");
    check(
        "stamp",
        &Stamp::zero(device(1)).next(9),
        "09008a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c",
    );
}

#[test]
fn keys_keep_their_bytes() {
    let place = tables::RowPlace::Entry(tables::path_key(2, &path("a/b")));
    let cases = [
        ("path", tables::path_key(2, &path("a/b")), "00000002610062"),
        ("place", place.to_bytes(), "0000000002610062"),
        ("tree", tables::tree_key(3, HOME), "0000000310101010101010101010101010101010"),
        ("sequence", tables::sequence_key(3, Sequence(9)).to_vec(), "000000030000000000000009"),
        (
            "device",
            tables::fact_key(&FactKey::Device(device(1)), 3),
            "018a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c00000003",
        ),
        ("location", tables::fact_key(&FactKey::Location(HOME), 3), "021010101010101010101010101010101000000003"),
        ("conduit", tables::fact_key(&FactKey::Conduit(CONDUIT), 3), "033030303030303030303030303030303000000003"),
        (
            "generation",
            tables::fact_key(&FactKey::Generation(CONDUIT, 4), 3),
            "0430303030303030303030303030303030000000000000000400000003",
        ),
        ("base row", tables::base_key(CONDUIT, &path("a/b")), "30303030303030303030303030303030610062"),
        (
            "conflict",
            tables::fact_key(&FactKey::Conflict(CONDUIT, 4), 3),
            "0630303030303030303030303030303030000000000000000400000003",
        ),
        (
            "ruling",
            tables::fact_key(&FactKey::Ruling(CONDUIT, ContentHash::from_bytes([7; 32])), 3),
            "0530303030303030303030303030303030070707070707070707070707070707070707070707070707070707070707070700000003",
        ),
        ("spent rulings", tables::fact_key(&FactKey::Spent(CONDUIT), 3), "073030303030303030303030303030303000000003"),
        (
            "job part",
            tables::job_part_key(&job_key(), 5),
            "3030303030303030303030303030303000000000000000028a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c0000000005",
        ),
    ];
    for (name, key, golden) in cases {
        assert_eq!(HEXLOWER.encode(&key), golden, "{name}");
    }
}

#[test]
fn the_first_key_after_a_prefix_is_after_all_of_its_keys_and_no_other() {
    let cases: [(&[u8], Option<&[u8]>); 4] =
        [(&[1, 2], Some(&[1, 3])), (&[1, 255], Some(&[2])), (&[255, 255], None), (&[], None)];
    for (prefix, after) in cases {
        assert_eq!(tables::after_prefix(prefix).as_deref(), after);
    }
}
