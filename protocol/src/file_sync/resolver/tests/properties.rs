//! What must hold for all trees and all histories.

use proptest::prelude::*;

use super::super::*;
use super::tree::{Tree, baseline, conduit, directory, file, path, resolve, synced, view};
use crate::file_sync::{Baseline, ConflictKind, Guards};
use crate::index::{EntryKind, UnknownCause};

/// An edit by the user of one side; `None` removes.
type Edit = (Side, EntryPath, Option<EntryKind>);

fn kinds() -> impl Strategy<Value = Option<EntryKind>> {
    let files =
        (0..4_usize, 0..2_i64, any::<bool>()).prop_map(|(size, mtime, x)| Some(file(&"cccc"[..size], mtime, x)));
    prop_oneof![
        6 => files,
        2 => Just(None),
        2 => Just(Some(directory(false))),
        1 => Just(Some(directory(true))),
        1 => Just(Some(EntryKind::Symlink { target: b"t".to_vec() })),
        1 => Just(Some(EntryKind::Special)),
        1 => Just(Some(EntryKind::Unknown(UnknownCause::Unreadable))),
    ]
}

/// Names `h` and `g` are hidden by the rules of one side each.
fn edits(count: usize) -> impl Strategy<Value = Vec<Edit>> {
    let side = prop_oneof![Just(Side::Source), Just(Side::Target)];
    let name = prop_oneof![4 => Just("a"), 4 => Just("b"), 2 => Just("c"), 1 => Just("h"), 1 => Just("g")];
    let path = prop::collection::vec(name, 1..4).prop_map(|names| path(&names.join("/")));
    prop::collection::vec((side, path, kinds()), 0..count)
}

fn trees() -> (Tree, Tree) {
    let (mut source, mut target) = (Tree::new(Side::Source), Tree::new(Side::Target));
    source.hide.insert(b"h".to_vec());
    target.hide.insert(b"g".to_vec());
    (source, target)
}

/// Applies edits as scans would write them: what a side's own rules hide never enters its index.
fn edit(source: &mut Tree, target: &mut Tree, edits: &[Edit]) {
    for (side, path, kind) in edits {
        let tree = match side {
            Side::Source => &mut *source,
            Side::Target => &mut *target,
        };
        if tree.is_hidden(path) || path.ancestors().any(|above| tree.kind(&above).is_some_and(EntryKind::is_frozen)) {
            continue;
        }
        match kind {
            Some(kind) => tree.put(path, kind.clone()),
            None => tree.remove(path),
        }
    }
}

/// Paths that a plan says it leaves alone, with everything below them.
fn is_left_alone(plan: &Plan, path: &EntryPath) -> bool {
    let tops = plan.skips.iter().map(|skip| &skip.path);
    let kept = plan.conflicts().iter().filter(|conflict| conflict.kind == ConflictKind::DirNotEmpty);
    tops.chain(kept.map(|conflict| &conflict.path)).any(|top| path == top || path.is_below(top))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_applied_plan_makes_the_target_the_source(edits in edits(40)) {
        let (mut source, mut target) = trees();
        edit(&mut source, &mut target, &edits);
        let plan = resolve(&source, &target, None, Guards::OFF);
        prop_assert_eq!(&plan, &resolve(&source, &target, None, Guards::OFF), "a pure function of its view");
        prop_assert!(plan.operations.target_to_source.is_empty(), "the source is never written");
        target.apply(&plan.operations.source_to_target);

        let outside = |path: &EntryPath| {
            source.is_hidden(path) || target.is_hidden(path) || is_left_alone(&plan, path)
        };
        let strip = |kind: &EntryKind| match kind {
            EntryKind::Directory { .. } => directory(false),
            kind => kind.clone(),
        };
        let inside = |tree: &Tree| -> Vec<(EntryPath, EntryKind)> {
            tree.present().filter(|(path, _)| !outside(path)).map(|(path, kind)| (path.clone(), strip(kind))).collect()
        };
        prop_assert_eq!(inside(&source), inside(&target));

        let again = resolve(&source, &target, None, Guards::OFF);
        prop_assert!(again.is_empty(), "nothing is left: {:?}", again.operations);
        prop_assert_eq!((again.conflicts(), &again.skips), (plan.conflicts(), &plan.skips), "what is listed stays listed");
    }

    #[test]
    fn what_was_touched_is_enough_to_resolve_again(rounds in prop::collection::vec(edits(12), 1..6)) {
        let (mut source, mut target) = trees();
        let mut verified: Option<(Baseline, Plan)> = None;
        for edits in &rounds {
            edit(&mut source, &mut target, edits);
            let base = verified.as_ref().map(|(base, _)| base);
            let full = resolve(&source, &target, base, Guards::default());
            if let Some((base, previous)) = &verified {
                let touched = source.touched.union(&target.touched).cloned().collect();
                let conduit = conduit();
                let (guards, token) = (Guards::default(), synced(&conduit, &source, &target));
                let view = view(&conduit, &source, &target, Some(base), guards);
                let fast = SyncResolver::resolve_touched(token, &view, &touched, previous);
                prop_assert_eq!(fast.as_ref(), Ok(&full));
            }
            target.apply(&full.operations.source_to_target);
            let base = baseline(&source, &target);
            let rest = resolve(&source, &target, Some(&base), Guards::default());
            prop_assert!(rest.is_empty(), "{:?}", rest.operations);
            source.touched.clear();
            target.touched.clear();
            verified = Some((base, rest));
        }
    }
}
