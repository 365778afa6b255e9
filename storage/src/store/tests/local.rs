//! What is never replicated: identity, settings, baselines, plans, generations, jobs.

use tidegate_protocol::file_sync::{
    Action, BandwidthLimit, Baseline, DeleteMode, DirectionalOps, Generation, GenerationTotals, Item, ItemOutcome,
    JobKey, JobKind, JobProgress, JobSpec, JobState, Phase, Plan, PlanTotals, PreImage, Root, Side, SkipReason,
    SyncOperations,
};
use tidegate_protocol::id::ConduitId;

use super::super::{JobRecord, StoredPlan};
use super::*;

pub(super) const CONDUIT: ConduitId = ConduitId::from_bytes([0x30; 16]);

pub(super) fn job_key() -> JobKey {
    JobKey { conduit: CONDUIT, generation: 2, device: device(1), side: Side::Target, kind: JobKind::Copy }
}

pub(super) fn plan() -> Plan {
    let definition = Stamp::zero(device(1));
    let operations = SyncOperations::default();
    Plan::new(CONDUIT, definition, Vec::new(), operations, Vec::new(), Vec::new(), PlanTotals::default())
}

pub(super) fn job(items: u32) -> JobRecord {
    let root = Root { device: device(1), location: HOME, dir: DirPath::TOP };
    let spec = JobSpec {
        key: job_key(),
        coordinator: device(1),
        definition: Stamp::zero(device(1)),
        plan: plan().id,
        approved: false,
        target: root.clone(),
        source: root,
        parallel_transfers: 4,
        bandwidth_limit: BandwidthLimit::default(),
        delete_mode: DeleteMode::Trash,
        items,
        bytes: 0,
    };
    JobRecord { spec, state: JobState::Waiting, progress: JobProgress::default(), items_stored: 0 }
}

pub(super) fn generation(number: u64) -> Generation {
    Generation {
        conduit: CONDUIT,
        number,
        plan: plan().id,
        heads: Vec::new(),
        follows: None,
        phase: Phase::Copying,
        statuses: Vec::new(),
        opened_ms: 5,
        closed_ms: None,
        totals: GenerationTotals::default(),
    }
}

pub(super) fn baseline() -> Baseline {
    let rules = (ContentHash::from_bytes([1; 32]), ContentHash::from_bytes([2; 32]));
    Baseline { generation: 2, heads: Vec::new(), top_entries: (3, 3), files: (4, 4), rules }
}

pub(super) fn items(range: std::ops::Range<u32>) -> Vec<Item> {
    let item = |n| Item {
        path: path(&format!("{n}")),
        expect: PreImage::Absent,
        action: Action::MakeDirectory { version: version(1) },
    };
    range.map(item).collect()
}

#[test]
fn items_are_stored_once_and_without_gaps_however_they_are_sent() {
    let store = memory(1);
    let mut txn = store.write().unwrap();
    assert_eq!(txn.put_job_items(&job_key(), 0, &items(0..5)).unwrap(), 0, "an unknown job has no items");
    txn.put_job(&job(10)).unwrap();
    let sent = [(0, 0..4, 4), (0, 0..4, 4), (6, 6..8, 4), (2, 2..6, 6), (5, 5..5, 6), (6, 6..12, 10), (9, 9..10, 10)];
    for (first, range, stored) in sent {
        assert_eq!(txn.put_job_items(&job_key(), first, &items(range)).unwrap(), stored);
    }
    for (first, count_max) in [(0, 99), (0, 3), (3, 4), (5, 2), (9, 9), (10, 9)] {
        let end = (first + count_max).min(10);
        assert_eq!(txn.job_items(&job_key(), first, count_max as usize).unwrap(), items(first.min(end)..end));
    }
    txn.remove_job(&job_key()).unwrap();
    assert!(txn.job_items(&job_key(), 0, 9).unwrap().is_empty() && txn.jobs().unwrap().is_empty());
}

#[test]
fn outcomes_are_kept_by_item_in_whatever_order_they_come() {
    let store = memory(1);
    let skipped = || ItemOutcome::Skipped(SkipReason::TargetChanged);
    let mut model = vec![None; 5000];
    let mut txn = store.write().unwrap();
    txn.put_job(&job(9000)).unwrap();
    for batch in [vec![4500, 4999], vec![3, 1, 2000], vec![1, 1023, 1024]] {
        for index in &batch {
            model[*index as usize] = Some(skipped());
        }
        txn.put_job_outcomes(&job_key(), batch.into_iter().map(|at| (at, skipped())).collect()).unwrap();
    }
    for (first, count_max) in [(0, 9000), (0, 3), (2, 1500), (1024, 1), (1025, 3000), (4999, 10), (2500, 10), (5000, 9)]
    {
        let end = (first + count_max).min(5000);
        let stored = txn.job_outcomes(&job_key(), first as u32, count_max).unwrap();
        assert_eq!(stored, model[first.min(end)..end], "{first} {count_max}");
    }
}

#[test]
fn a_plan_of_many_pieces_comes_back_whole_and_goes_whole() {
    let store = memory(1);
    let mut txn = store.write().unwrap();
    let mut large = plan();
    large.operations.source_to_target = DirectionalOps { copies: items(0..40_000), deletes: items(0..3) };
    large.operations.target_to_source.deletes = items(7..9);
    assert!(super::super::record::encode(&large).len() > 1 << 20, "several pieces");
    txn.put_plan(&large).unwrap();
    txn.put_plan(&large).unwrap();
    assert_eq!(txn.plan_ids().unwrap(), [large.id]);
    assert_eq!(txn.plan(&large.id).unwrap().map(|stored| stored.plan), Some(large.clone()));
    let rest = txn.plan_rest(&large.id).unwrap().unwrap();
    for side in Side::BOTH {
        assert_eq!(rest.deletes_on(side), large.operations.on(side).deletes);
    }
    // A shorter one under the same id leaves nothing of the longer one.
    txn.put_plan(&plan()).unwrap();
    assert_eq!(txn.plan(&plan().id).unwrap().map(|stored| stored.plan), Some(plan()));
    txn.remove_plan(&plan().id).unwrap();
    assert_eq!((txn.plan_ids().unwrap(), txn.plan(&large.id).unwrap()), (vec![], None));
}

#[test]
fn plans_generations_and_baselines_come_back_as_they_were() {
    let store = memory(1);
    let mut txn = store.write().unwrap();
    txn.put_plan(&plan()).unwrap();
    assert_eq!(txn.plan(&plan().id).unwrap(), Some(StoredPlan { plan: plan(), approved_ms: None }));
    txn.approve_plan(&plan().id, 77).unwrap();
    assert_eq!(txn.plan(&plan().id).unwrap(), Some(StoredPlan { plan: plan(), approved_ms: Some(77) }));
    assert_eq!(txn.plan_ids().unwrap(), [plan().id]);
    let rest = txn.plan_rest(&plan().id).unwrap().unwrap();
    assert_eq!((rest.id, rest.definition, &rest.halts), (plan().id, plan().definition, &plan().halts));
    txn.remove_plan(&plan().id).unwrap();
    assert_eq!((txn.plan(&plan().id).unwrap(), txn.approval(&plan().id).unwrap()), (None, None));

    for number in [1, 2, 3, 300] {
        txn.put_generation(&generation(number)).unwrap();
    }
    assert_eq!(txn.generations(CONDUIT, 2).unwrap(), [generation(300), generation(3)]);
    assert_eq!(txn.generation(CONDUIT, 2).unwrap(), Some(generation(2)));
    txn.remove_generation(CONDUIT, 300).unwrap();
    txn.see_generation(CONDUIT, 5).unwrap();
    assert_eq!(txn.generation_seen(CONDUIT).unwrap(), 300, "what was seen is never forgotten");

    txn.set_baseline(CONDUIT, Some(&baseline())).unwrap();
    assert_eq!(txn.baseline(CONDUIT).unwrap(), Some(baseline()));
    txn.set_baseline(CONDUIT, None).unwrap();
    assert_eq!(txn.baseline(CONDUIT).unwrap(), None);
}

#[test]
fn stamps_never_go_back_and_settings_are_kept() {
    let store = memory(1);
    let mut txn = store.write().unwrap();
    assert_eq!(txn.identity().unwrap().stamp, Stamp::zero(device(1)));
    let stamp = Stamp::zero(device(1)).next(9);
    txn.persist_stamp(stamp).unwrap();
    txn.persist_stamp(Stamp::zero(device(1)).next(8)).unwrap();
    txn.set_library(LibraryId::from_bytes([3; 16])).unwrap();
    txn.start_epoch(device(1), EPOCH).unwrap();
    let identity = txn.identity().unwrap();
    assert_eq!((identity.stamp, identity.epoch), (stamp, Some(EPOCH)));
    assert_eq!(identity.library, Some(LibraryId::from_bytes([3; 16])));
    for key in ["b", "a/1", "a/2"] {
        txn.set_setting(key, key.as_bytes()).unwrap();
    }
    assert_eq!(txn.settings("a/").unwrap().len(), 2);
    assert!(txn.remove_setting("b").unwrap() && !txn.remove_setting("b").unwrap());
    assert_eq!(txn.setting("b").unwrap(), None);
}

#[test]
fn outlines_are_kept_by_content() {
    let store = memory(1);
    let content = ContentHash::of(b"x");
    let mut txn = store.write().unwrap();
    txn.put_outline(&content, &[[1; 32], [2; 32]]).unwrap();
    assert_eq!(txn.outline(&content).unwrap(), Some(vec![[1; 32], [2; 32]]));
    txn.remove_outline(&content).unwrap();
    assert_eq!(txn.outline(&content).unwrap(), None);
}
