//! Base rows: changed as an agreement says, read in path order, forgotten with their conduit.

use tidegate_protocol::file_sync::BaseChange;
use tidegate_protocol::id::ConduitId;
use tidegate_protocol::index::EntryKind;

use super::*;

const ONE: ConduitId = ConduitId::from_bytes([0x41; 16]);
const NEXT: ConduitId = ConduitId::from_bytes([0x42; 16]);

fn kind(n: u64) -> EntryKind {
    file(n).present().unwrap().kind.clone()
}

#[test]
fn base_rows_belong_to_one_conduit_and_come_in_path_order() {
    let store = memory(1);
    let mut txn = store.write().unwrap();
    let set = |at: &str, n| (path(at), BaseChange::Set(kind(n)));
    txn.change_base(ONE, &[set("b", 1), set("a/x", 2), set("a", 3), set("a.b", 4)]).unwrap();
    txn.change_base(NEXT, &[set("b", 9)]).unwrap();
    txn.change_base(ONE, &[set("b", 5), (path("a.b"), BaseChange::Drop), (path("never"), BaseChange::Drop)]).unwrap();
    assert_eq!(txn.base_entry(ONE, &path("b")).unwrap(), Some(kind(5)));
    assert_eq!(txn.base_entry(ONE, &path("a.b")).unwrap(), None);
    txn.commit().unwrap();
    let snapshot = store.read().unwrap();
    let rows = |conduit, from: Option<&str>| -> Vec<_> {
        let from = from.map(path);
        snapshot.base_entries(conduit, from.as_ref()).unwrap().map(Result::unwrap).collect()
    };
    assert_eq!(rows(ONE, None), [(path("a"), kind(3)), (path("a/x"), kind(2)), (path("b"), kind(5))]);
    assert_eq!(rows(ONE, Some("a/y")), [(path("b"), kind(5))]);
    let mut txn = store.write().unwrap();
    txn.drop_base(ONE).unwrap();
    txn.commit().unwrap();
    let snapshot = store.read().unwrap();
    assert_eq!(snapshot.base_entries(ONE, None).unwrap().count(), 0);
    assert_eq!(snapshot.base_entry(NEXT, &path("b")).unwrap(), Some(kind(9)));
}
