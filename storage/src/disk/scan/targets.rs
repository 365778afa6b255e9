//! A scan of some paths: where it has to look so that nothing is missed.

use std::collections::BTreeMap;

use tidegate_protocol::index::EntryKind;
use tidegate_protocol::path::{DirPath, EntryPath};

use super::super::known::Known;
use super::super::lanes::Lanes;
use super::super::{FileKind, RootDir};
use super::report::cause;
use super::walk::{Step, Walk};
use super::{ScanError, Sink};

/// How far a look goes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    /// Only whether the directory holds something that is not told.
    Residue,
    /// The path and all below it.
    Whole,
}

impl<R: RootDir, K: Known, S: Sink, L: Lanes> Walk<'_, R, K, S, L> {
    /// Walks these paths and what is below them.
    pub(super) async fn paths(&mut self, paths: &[EntryPath]) -> Result<(), ScanError> {
        let mut targets = BTreeMap::new();
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
                Reach::Whole => {
                    covered = Some(path.clone());
                    let known = self.known.entry(&path).await?;
                    if let Some(frame) = self.visit(Step { path, listed: None, known }).await? {
                        self.run(frame).await?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Finds where to look for a change at `path`: at the topmost directory above it that is new, else at
    /// itself; and at the directory around it if that holds, held, or may hold something that is not told.
    async fn aim(&mut self, path: &EntryPath, targets: &mut BTreeMap<EntryPath, Reach>) -> Result<(), ScanError> {
        let mut steps: Vec<EntryPath> = path.ancestors().collect();
        steps.reverse();
        steps.push(path.clone());
        let mut residue_above = false;
        for step in steps {
            let parent = step.parent();
            if self.spec.rules.hides_last(&step) {
                add(targets, &parent, Reach::Residue);
                return Ok(());
            }
            let known = self.known.entry(&step).await?.map(|known| known.kind);
            let inner = step != *path;
            if inner && let Some(EntryKind::Directory { residue }) = known {
                residue_above = residue;
                continue;
            }
            let now = self.root.metadata(&(&step).into()).await;
            if residue_above || now.is_ok_and(|found| found.is_some_and(|m| m.kind == FileKind::Special)) {
                add(targets, &parent, Reach::Residue);
            }
            add(targets, &DirPath::below_top(step), Reach::Whole);
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

fn add(targets: &mut BTreeMap<EntryPath, Reach>, dir: &DirPath, reach: Reach) {
    if let Some(path) = dir.as_entry() {
        let reached = targets.entry(path.clone()).or_insert(reach);
        *reached = reach.max(*reached);
    }
}
