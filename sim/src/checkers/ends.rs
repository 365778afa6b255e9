//! Whether the two ends of a conduit hold the same, as far as its mode and the disks allow: the same paths, contents and
//! executable bits, and the same times of modification.
//!
//! Left out, with everything below: what a rule of either end hides, sockets and FIFOs, names that a disk of either
//! end cannot tell apart, conflicts that are listed and wait for a person, and what the caller excuses (paths that
//! users changed too recently). A directory that only holds such things may stay on an end that is written.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_protocol::file_sync::{ConflictOutcome, SyncMode};
use tidegate_protocol::index::IgnoreRules;
use tidegate_protocol::path::EntryPath;
use tidegate_storage::disk::FileKind;

use super::{Scene, is_internal, text};
use crate::disk::{Picture, Shown, Tree};
use crate::plan::{ConduitPlan, End};

/// Whether a path below the conduit's roots is left out, on either end.
pub type Excuse<'a> = &'a dyn Fn(&str) -> bool;

/// Paths below the conduit's roots at which its ends differ, and how. `None` while an end is not there.
pub fn differences(scene: &dyn Scene, conduit: &ConduitPlan, excuse: Excuse<'_>) -> Option<Vec<(String, String)>> {
    let (source, target) = (end(scene, &conduit.source)?, end(scene, &conduit.target)?);
    let folds = [&conduit.source, &conduit.target].iter().any(|end| folds(scene, end));
    let out = left_out(scene, conduit, &source, &target, folds);
    let is_out = |path: &str| excuse(path) || ancestors(path).any(|above| out.contains(&fold(above, folds)));
    let key = |tree: &BTreeMap<String, Shown>| -> BTreeMap<String, (String, String)> {
        let kept = tree.iter().filter(|(path, _)| !is_out(path));
        kept.map(|(path, shown)| (fold(path, folds), (path.clone(), describe(shown)))).collect()
    };
    let (sources, targets) = (key(&source), key(&target));
    // A directory that holds what may not be removed stays.
    let residue = |tree: &BTreeMap<String, Shown>, path: &str, what: &str| {
        what == "a directory" && tree.keys().any(|other| crate::ghost::is_below(other, path) && is_out(other))
    };
    let both = !conduit.mode.is_one_way();
    let step_ns = [&conduit.source, &conduit.target].into_iter().map(|end| step_ns(scene, end)).max().unwrap_or(1);
    let mut wrong = Vec::new();
    for (folded, (path, what)) in &sources {
        match targets.get(folded) {
            None if both && residue(&source, path, what) => {}
            None => wrong.push((path.clone(), format!("{what} on the source, nothing on the target"))),
            Some((_, other)) if other != what => {
                wrong.push((path.clone(), format!("{what} on the source, {other} on the target")));
            }
            Some((spelled, _)) => wrong.extend(
                later(&source[path], &target[spelled], step_ns)
                    .map(|by_ns| (path.clone(), format!("modified {by_ns} ns later on one end than on the other"))),
            ),
        }
    }
    for (folded, (path, what)) in &targets {
        if !sources.contains_key(folded) && !residue(&target, path, what) {
            wrong.push((path.clone(), format!("nothing on the source, {what} on the target")));
        }
    }
    match conduit.mode {
        SyncMode::Mirror | SyncMode::Bidirectional => Some(wrong),
        // What is chosen by its path is there as the source has it; the rest may be there or not.
        SyncMode::Selective => {
            wrong.retain(|(path, _)| source.contains_key(path) && is_chosen(conduit, path));
            Some(wrong)
        }
    }
}

fn is_chosen(conduit: &ConduitPlan, path: &str) -> bool {
    conduit.select.iter().any(|chosen| chosen == "." || ancestors(path).any(|above| above == chosen))
}

/// The tree below an end, without what is the node's own.
pub(crate) fn end(scene: &dyn Scene, end: &End) -> Option<BTreeMap<String, Shown>> {
    let device = scene.plan().device(&end.device)?;
    let tree: Tree = scene.tree(device, &end.place.location, Picture::Live)?;
    let prefix = if end.place.path.is_empty() { String::new() } else { format!("{}/", end.place.path) };
    let own = tree.into_iter().filter(|(path, _)| !is_internal(path));
    Some(own.filter_map(|(path, shown)| Some((text(&path).strip_prefix(&prefix)?.to_owned(), shown))).collect())
}

/// How far the modification times of a file that is the same on both ends are apart, if disks could do better.
fn later(source: &Shown, target: &Shown, step_ns: u64) -> Option<u64> {
    let is_file = source.metadata.kind == FileKind::File;
    let apart_ns = source.metadata.mark.mtime_ns.abs_diff(target.metadata.mark.mtime_ns);
    (is_file && apart_ns >= step_ns).then_some(apart_ns)
}

/// Steps in which the disk of an end keeps times.
fn step_ns(scene: &dyn Scene, end: &End) -> u64 {
    scene.plan().device(&end.device).map_or(1, |device| scene.plan().devices[device].mtime_step_ns)
}

fn folds(scene: &dyn Scene, end: &End) -> bool {
    scene.plan().device(&end.device).is_some_and(|device| scene.plan().devices[device].folds_case)
}

fn fold(path: &str, folds: bool) -> String {
    if folds { path.to_lowercase() } else { path.to_owned() }
}

/// Paths that stay out with all below them, folded.
fn left_out(
    scene: &dyn Scene,
    conduit: &ConduitPlan,
    source: &BTreeMap<String, Shown>,
    target: &BTreeMap<String, Shown>,
    folds: bool,
) -> BTreeSet<String> {
    let mut out = BTreeSet::new();
    let rules: Vec<(IgnoreRules, String)> =
        [&conduit.source, &conduit.target].into_iter().filter_map(|end| rules(scene, end)).collect();
    for path in source.keys().chain(target.keys()) {
        let hidden = rules.iter().any(|(rules, dir)| {
            let whole = if dir.is_empty() { path.clone() } else { format!("{dir}/{path}") };
            EntryPath::from_slashes(whole.as_bytes()).is_ok_and(|path| rules.hides(&path))
        });
        if hidden {
            out.insert(fold(path, folds));
        }
    }
    for (path, shown) in source.iter().chain(target) {
        if shown.metadata.kind == FileKind::Special {
            out.insert(fold(path, folds));
        }
    }
    out.extend(waiting(scene, conduit).into_iter().map(|path| fold(&path, folds)));
    let mut names: BTreeMap<String, usize> = BTreeMap::new();
    for path in source.keys() {
        *names.entry(fold(path, folds)).or_default() += 1;
    }
    out.extend(names.into_iter().filter(|(_, count)| *count > 1).map(|(name, _)| name));
    out
}

/// Paths of conflicts that are held until a person decides, as the coordinator lists them.
fn waiting(scene: &dyn Scene, conduit: &ConduitPlan) -> Vec<String> {
    let listed = || {
        let device = scene.plan().device(&conduit.source.device)?;
        let replica = scene.replica(device)?;
        let conduits = replica.conduits().ok()?;
        let fact = conduits.into_iter().find(|fact| fact.settings.name.value.as_str() == conduit.name)?;
        replica.met_conflicts(fact.id, scene.id_of(device)).ok()
    };
    let open = listed().unwrap_or_default().into_iter().filter(|met| met.settled_ms.is_none());
    let held = open.filter(|met| met.conflict.outcome == ConflictOutcome::Held);
    held.map(|met| text(&met.conflict.path.to_slashes())).collect()
}

fn rules(scene: &dyn Scene, end: &End) -> Option<(IgnoreRules, String)> {
    let device = scene.plan().device(&end.device)?;
    let id = scene.location_id(device, &end.place.location)?;
    let location = scene.replica(device)?.location(scene.id_of(device), id).ok()??;
    Some((IgnoreRules::new(&location.rules).ok()?, end.place.path.clone()))
}

fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    let ends = path.match_indices('/').map(|(end, _)| end).chain([path.len()]);
    ends.map(|end| &path[..end])
}

fn describe(shown: &Shown) -> String {
    match (&shown.metadata.kind, &shown.content, &shown.link) {
        (FileKind::File, Some(content), _) => {
            let executable = if shown.metadata.executable { ", executable" } else { "" };
            format!("{} bytes {}{executable}", content.len(), content.hash().short())
        }
        (FileKind::Symlink, _, Some(target)) => format!("a link to {}", text(target)),
        (FileKind::Directory, ..) => "a directory".to_owned(),
        (kind, ..) => format!("a {kind:?}"),
    }
}
