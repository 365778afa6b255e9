//! Golden bytes: every stored record and key. A difference here is a new format, with a step in `migrate`.

use data_encoding::HEXLOWER;
use serde::{Serialize, de::DeserializeOwned};
use tidegate_protocol::file_sync::{ItemOutcome, SkipReason};
use tidegate_protocol::library_sync::FactKey;

use super::super::record::{self, AuthorRecord, EntryRecord, FactRecord, OutcomeBlock, TreeRecord};
use super::super::{Announced, tables};
use super::local::{CONDUIT, baseline, generation, items, job, job_key, plan};
use super::*;

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
    check("fact", &fact, "cb1274e4c545ebe22dfffa4cabce2cdac5a4bab281a1575b4f3d7998befa0570");
    let head = head(&author(1), 1);
    let empty = AuthorRecord::empty(3, EPOCH);
    check("author", &empty, "307ea29d493953b83c9d589dd4576a3d6f045f14202200c8e8cb8e8ca1f00d28");
    let rested = AuthorRecord { rests: Some(head.clone()), newest: Some(head.clone()), ..empty };
    check(
        "rested author",
        &AuthorRecord { fork: Some((head.clone(), head)), ..rested },
        "07868bedb47f0c80bda6c1aa8bdc05add310e501724be9d9ca059ba4b813df61",
    );
    let counters = Counters { rows: 1, files: 2, directories: 3, links: 4, bytes: 500, unknown: 6, special: 7 };
    check("tree", &TreeRecord { number: 9, counters }, "0901020304f4030607");
    let kind = file(5).present().unwrap().kind.clone();
    check(
        "announced",
        &Announced { kind, mark: Some(mark(5)), version: version(1) },
        "de0657eb6f5787551d743831c6c56e89ee06435441a2cd9dfcef5bb80e4a4cf1",
    );
    check("job", &job(7), "569f3e667c557b409b6c84fa11398dbf3b535f9965fdd959b1aceb62165ee87f");
    check("items", &items(0..2), "ad856ff8ac386cececf76bbe2e4a2b73f9df36636ddd02b36bfed1042e997330");
    let outcomes: OutcomeBlock = vec![None, Some(ItemOutcome::Done), Some(ItemOutcome::Skipped(SkipReason::NoSpace))];
    check("outcomes", &outcomes, "03000100010105");
    check("plan", &plan(), "53b0dbb9433dff3d0163ba0a331ceff51fcc0e0b684b592508b06e591a687c86");
    check(
        "generation",
        &generation(2),
        "303030303030303030303030303030300290223de883b6dc55aba3b6fba59d0a2973e8925d4c4c9034e3beb166de853365000000000500000000000000",
    );
    check("baseline", &baseline(), "a39464fac9e413f7301777c6fc22c0c266ebd74dadf55a11d25aed60d5217eee");
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
