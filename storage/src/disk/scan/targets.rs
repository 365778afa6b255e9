//! A scan of some paths: where it has to look so that nothing is missed.

use std::collections::BTreeMap;

use tidegate_protocol::index::EntryKind;
use tidegate_protocol::path::{DirPath, EntryPath};

use super::super::known::Known;
use super::super::lanes::Lanes;
use super::super::{FileKind, RootDir};
use super::report::cause;
use super::walk::{Looked, Step, Walk};
use super::{ScanError, Sink};

/// How far a look goes.
enum Reach {
    /// Only whether the directory holds something that is not told.
    Residue,
    /// The path, where a first look found this, and all below it.
    Whole(Looked),
}

type Targets = BTreeMap<EntryPath, Reach>;

impl<R: RootDir, K: Known, S: Sink, L: Lanes> Walk<'_, R, K, S, L> {
    /// Walks these paths and what is below them.
    pub(super) async fn paths(&mut self, paths: &[EntryPath]) -> Result<(), ScanError> {
        let mut targets = Targets::new();
        for path in paths {
            self.aim(path, &mut targets).await?;
        }
        let mut covered: Option<EntryPath> = None;
        for (path, reach) in targets {
            if covered.as_ref().is_some_and(|above| path.is_below(above)) {
                continue;
            }
            match reach {
                Reach::Residue => self.residue(path).await?,
                Reach::Whole(looked) => {
                    covered = Some(path.clone());
                    let known = self.known.entry(&path).await?;
                    if let Some(frame) = self.visit(Step { path, looked: Some(looked), known }).await? {
                        self.run(frame).await?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Finds where to look for a change at `path`: at the topmost directory above it that is new, else at
    /// itself; and at the directory around it if that holds, held, or may hold something that is not told.
    async fn aim(&mut self, path: &EntryPath, targets: &mut Targets) -> Result<(), ScanError> {
        let mut steps: Vec<EntryPath> = path.ancestors().collect();
        steps.reverse();
        steps.push(path.clone());
        let mut residue_above = false;
        for step in steps {
            let parent = step.parent();
            if self.spec.rules.hides_last(&step) {
                add_residue(targets, &parent);
                return Ok(());
            }
            let known = self.known.entry(&step).await?.map(|known| known.kind);
            let inner = step != *path;
            if inner && let Some(EntryKind::Directory { residue }) = known {
                residue_above = residue;
                continue;
            }
            if matches!(targets.get(&step), Some(Reach::Whole(_))) {
                return Ok(());
            }
            let looked = self.look(&step).await;
            if residue_above || looked.is_ok_and(|found| found.is_some_and(|m| m.kind == FileKind::Special)) {
                add_residue(targets, &parent);
            }
            targets.insert(step, Reach::Whole(looked));
            return Ok(());
        }
        Ok(())
    }

    async fn residue(&mut self, path: EntryPath) -> Result<(), ScanError> {
        let known = self.known.entry(&path).await?;
        if !known.as_ref().is_some_and(|known| matches!(known.kind, EntryKind::Directory { .. })) {
            return Ok(());
        }
        match self.list(&DirPath::below_top(path.clone())).await {
            Ok(listing) => {
                let kind = EntryKind::Directory { residue: listing.residue };
                self.reporter.present(path, kind, None, known.as_ref()).await
            }
            Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
                self.unknown(path, cause(e.kind()), known).await.map(|_| ())
            }
            // It is gone or is something else: that has its own event.
            Err(_) => Ok(()),
        }
    }
}

fn add_residue(targets: &mut Targets, dir: &DirPath) {
    if let Some(path) = dir.as_entry() {
        targets.entry(path.clone()).or_insert(Reach::Residue);
    }
}
