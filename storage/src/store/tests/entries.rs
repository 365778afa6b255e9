//! Entries in path order, children, what the scan asks for, and what was touched.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tidegate_protocol::id::Sequence;

use super::super::{Announced, Known};
use super::*;

/// Names that sort close to the separator, and deep paths, so that every jump is taken.
fn any_path() -> impl Strategy<Value = EntryPath> {
    let name = prop::sample::select(vec!["a", "a\u{1}", "a b", "ab", "b", "\u{7f}", "z"]);
    proptest::collection::vec(name, 1..5).prop_map(|names| path(&names.join("/")))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn walks_children_and_counts_agree_with_a_plain_map(
        entries in proptest::collection::btree_map(any_path(), 0..5_u64, 0..60),
        at in proptest::option::of(any_path()),
        from in proptest::option::of(any_path()),
    ) {
        let model: BTreeMap<_, _> =
            entries.into_iter().map(|(path, n)| (path, if n == 0 { deleted() } else { file(n) })).collect();
        let a = author(1);
        put_own(&a, vec![Change::fact(location(device(1), OTHER, "/o", false)), put(OTHER, "a/b", file(1))]);
        put_own(&a, model.iter().map(|(path, s)| Change::entry(HOME, path.clone(), s.clone(), None)).collect());
        audit(&a);
        let reader = a.read().unwrap();
        let tree = reader.tree(device(1), HOME).unwrap();
        let dir = at.map_or(DirPath::TOP, DirPath::below_top);
        let below = || model.iter().filter(|(path, _)| dir.relative(path).is_some());

        let walked = reader.entries(tree, &dir, from.as_ref()).unwrap().map(Result::unwrap);
        let expected = below().filter(|(path, _)| from.as_ref().is_none_or(|from| *path >= from));
        prop_assert!(walked.map(|row| (row.path, row.state)).eq(expected.map(|(p, s)| (p.clone(), s.clone()))));

        let children: Vec<_> = reader.children(tree, &dir).unwrap().into_iter().map(|row| row.path).collect();
        let direct: Vec<_> = below().map(|(path, _)| path.clone()).filter(|path| path.parent() == dir).collect();
        let present = direct.iter().filter(|path| model[*path].present().is_some()).count() as u64;
        prop_assert_eq!(children, direct);
        prop_assert_eq!(reader.top_entries(tree, &dir).unwrap(), present);
    }
}

#[test]
fn the_scan_sees_rows_marks_and_what_jobs_wrote_in_path_order() {
    let a = author(1);
    let kind = |n| file(n).present().unwrap().kind.clone();
    let announced = |n| Announced { kind: kind(n), mark: Some(mark(n)), version: version(n) };
    put_own(&a, vec![put(HOME, "d/deep/x", file(1)), Change::entry(HOME, path("d/m"), file(2), Some(mark(2)))]);
    let mut txn = a.write().unwrap();
    let written = ["d/a", "d/deep/y", "d/m", "d/z"].map(|text| (path(text), announced(5)));
    txn.announce(HOME, written.to_vec()).unwrap();
    txn.announce(OTHER, vec![(path("x"), announced(5))]).unwrap();
    txn.commit().unwrap();

    let reader = a.read().unwrap();
    let tree = reader.tree(device(1), HOME).unwrap();
    let new = |text: &str| Known { path: path(text), state: None, mark: None, announced: Some(announced(5)) };
    let known = Known { state: Some(file(2)), mark: Some(mark(2)), ..new("d/m") };
    assert_eq!(reader.known_children(tree, &dir("d")).unwrap(), [new("d/a"), known.clone(), new("d/z")]);
    assert_eq!(reader.known(tree, &path("d/m")).unwrap(), Some(known));
    assert_eq!(reader.known(tree, &path("d/none")).unwrap(), None);

    let mut txn = a.write().unwrap();
    txn.forget_announced(HOME, [&path("d/a"), &path("d/m")]).unwrap();
    txn.put_own(vec![put(HOME, "d/m", file(9))]).unwrap();
    assert_eq!(txn.known(tree, &path("d/a")).unwrap(), None);
    assert_eq!(txn.known(tree, &path("d/z")).unwrap(), Some(new("d/z")));
    txn.put_own(vec![Change::fact(location(device(1), HOME, "/a", true))]).unwrap();
    assert_eq!(txn.known(tree, &path("d/z")).unwrap(), None, "a removed location has no announcements");
}

#[test]
fn touched_paths_are_those_after_a_sequence_up_to_a_bound() {
    let a = author(1);
    put_own(&a, vec![Change::fact(location(device(1), OTHER, "/o", false))]);
    put_own(&a, vec![put(HOME, "x", file(1)), put(HOME, "y", file(1)), put(OTHER, "o", file(1))]);
    put_own(&a, vec![put(HOME, "x", file(2))]);
    let reader = a.read().unwrap();
    let tree = reader.tree(device(1), HOME).unwrap();
    let since = |at, max| reader.entries_since(tree, Sequence(at), max).unwrap();
    assert_eq!(since(0, 9), Some(vec![path("y"), path("x")]));
    assert_eq!(since(4, 9), Some(vec![path("x")]));
    assert_eq!(since(6, 0), Some(Vec::new()));
    assert_eq!(since(0, 4), None);
}

#[test]
fn a_location_of_which_nothing_is_known_is_empty() {
    let a = memory(1);
    let reader = a.read().unwrap();
    let tree = reader.tree(device(5), HOME).unwrap();
    assert!(tree.counters.is_empty());
    assert_eq!(reader.entries(tree, &DirPath::TOP, None).unwrap().count(), 0);
    assert_eq!(reader.entries_since(tree, Sequence::ZERO, 0).unwrap(), Some(Vec::new()));
}
