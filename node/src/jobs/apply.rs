//! Applying one item, the same for copies and deletes: what is done on disk, and what is said of it.

use std::collections::BTreeMap;

use tidegate_protocol::file_sync::{Action, ItemOutcome, PreImage, SkipReason};
use tidegate_protocol::index::{EntryKind, FileFacts, StatMark, Version};
use tidegate_protocol::path::EntryPath;
use tidegate_storage::disk::{
    Applied, Expect, FileKind, NewContent, Planned, Ready, Recovered, Refused, RootDir, TreePath, Workshop,
};

use super::IndexView;
use crate::core::io::{JobStop, Work, Written};

/// What an item's content came to before the item is applied.
pub(super) enum Content {
    /// The item needs none.
    None,
    /// Staged and durable.
    Ready(Box<Ready>),
    /// It stands at its path already, under this stat.
    Already(StatMark),
    /// There is none.
    Skipped(SkipReason),
}

/// What became of an item.
pub(super) struct Done {
    pub(super) outcome: ItemOutcome,
    /// What stands where, now; empty unless done.
    pub(super) written: Vec<Written>,
}

/// Applies one item. An error is no fault of the item: the leg stops, and the item has no outcome.
pub(super) async fn apply<R: RootDir>(
    workshop: &Workshop<R>,
    root: &R,
    known: &IndexView,
    work: &Work,
    content: Content,
) -> Result<Done, JobStop> {
    let content = match content {
        Content::Skipped(SkipReason::NoSpace) => return Err(JobStop::NoSpace),
        Content::Skipped(reason) => return Ok(Done::skipped(reason)),
        other => other,
    };
    let applied = match act(workshop, known, work, content).await {
        Ok(applied) => Ok(applied),
        // A run before this one may have done it.
        Err(refused) => match stands_already(workshop, root, work).await {
            Ok(Some(applied)) => Ok(applied),
            Ok(None) | Err(_) => Err(refused),
        },
    };
    match applied {
        Ok(applied) => Ok(Done { outcome: ItemOutcome::Done, written: written(work, &applied) }),
        Err(Refused::NoSpace) => Err(JobStop::NoSpace),
        Err(Refused::NotPrepared(_)) => Err(JobStop::RootLost),
        Err(refused) => {
            if let Refused::TargetChanged { kept: Some(kept) } = &refused {
                let kept = String::from_utf8_lossy(kept.as_bytes()).into_owned();
                tracing::warn!(path = %work.path, kept, "an edit was made while the item was applied; it was kept");
            }
            Ok(Done::skipped(refused.into()))
        }
    }
}

impl Done {
    const fn skipped(reason: SkipReason) -> Self {
        Self { outcome: ItemOutcome::Skipped(reason), written: Vec::new() }
    }
}

async fn act<R: RootDir>(
    workshop: &Workshop<R>,
    known: &IndexView,
    work: &Work,
    content: Content,
) -> Result<Applied, Refused> {
    let expect = expect(work);
    match (&work.item.action, content) {
        (Action::InstallFile { .. } | Action::InstallSymlink { .. }, Content::Ready(ready)) => {
            workshop.install(*ready, &work.path, &expect, known).await
        }
        (Action::InstallFile { .. } | Action::InstallSymlink { .. }, Content::Already(mark)) => {
            Ok(Applied { mark: Some(mark), trashed: None })
        }
        (Action::InstallFile { .. } | Action::InstallSymlink { .. }, Content::None | Content::Skipped(_)) => {
            Err(Refused::WrongContent)
        }
        (Action::MakeDirectory { .. }, _) => workshop.make_directory(work.index, &work.path, &expect, known).await,
        (Action::RenameFile { file, .. }, _) => {
            let from = work.from.as_ref().ok_or(Refused::SourceChanged)?;
            let mark = work.local.as_ref().filter(|local| local.path == *from).map(|local| local.mark);
            workshop.rename_file(work.index, from, mark, &work.path, &expect, file, known).await
        }
        (Action::SetMetadata { file, .. }, _) => workshop.set_metadata(&work.path, work.known, file, known).await,
        (Action::Remove { .. }, _) => workshop.remove(work.index, &work.path, &expect, known).await,
        (Action::RemoveDirectory { .. }, _) => workshop.remove_directory(&work.path).await,
        (Action::Respell { .. }, _) => {
            let from = work.from.as_ref().ok_or(Refused::SourceChanged)?;
            workshop.respell(work.index, from, &work.path).await
        }
        (Action::Evict { .. }, _) => match &work.item.expect {
            PreImage::File { .. } => workshop.evict(work.index, &work.path, &expect, known).await,
            PreImage::Directory => workshop.remove_directory(&work.path).await,
            // A link's text is not asked for at the other end, so it is not thrown away.
            PreImage::Symlink { .. } | PreImage::Absent => {
                workshop.remove(work.index, &work.path, &expect, known).await
            }
        },
        // The core does that by itself.
        (Action::Adopt { .. }, _) => Ok(Applied { mark: None, trashed: None }),
    }
}

/// Whether the result of an item that was refused stands there all the same.
async fn stands_already<R: RootDir>(workshop: &Workshop<R>, root: &R, work: &Work) -> Result<Option<Applied>, Refused> {
    let target = TreePath::from(&work.path);
    let mark = match &work.item.action {
        Action::InstallFile { file, .. } | Action::SetMetadata { file, .. } => {
            workshop.already(&work.path, file).await?
        }
        Action::RenameFile { file, .. } => match &work.from {
            Some(from) if root.metadata(&TreePath::from(from)).await?.is_none() => {
                workshop.already(&work.path, file).await?
            }
            Some(_) | None => None,
        },
        Action::InstallSymlink { target: text, .. } => {
            let is_link = root.metadata(&target).await?.is_some_and(|found| found.kind == FileKind::Symlink);
            let same = is_link && root.read_link(&target).await? == *text;
            return Ok(same.then_some(Applied { mark: None, trashed: None }));
        }
        // These say themselves that they are done.
        Action::MakeDirectory { .. }
        | Action::Remove { .. }
        | Action::RemoveDirectory { .. }
        | Action::Adopt { .. }
        | Action::Respell { .. }
        | Action::Evict { .. } => None,
    };
    Ok(mark.map(|mark| Applied { mark: Some(mark), trashed: None }))
}

/// What the scanner is told to recognise. Nothing is said of a file that was touched since it was written.
fn written(work: &Work, applied: &Applied) -> Vec<Written> {
    let one = |path: &EntryPath, kind, mark, version: &Version| Written {
        path: path.clone(),
        kind,
        mark,
        version: version.clone(),
    };
    let file = |file: &FileFacts, version: &Version| {
        applied.mark.map(|mark| one(&work.path, Some(EntryKind::File(*file)), Some(mark), version))
    };
    match &work.item.action {
        Action::MakeDirectory { version } => {
            vec![one(&work.path, Some(EntryKind::Directory { residue: false }), None, version)]
        }
        Action::InstallFile { file: facts, version, .. } | Action::SetMetadata { file: facts, version } => {
            file(facts, version).into_iter().collect()
        }
        Action::InstallSymlink { target, version } => {
            vec![one(&work.path, Some(EntryKind::Symlink { target: target.clone() }), None, version)]
        }
        Action::RenameFile { file: facts, version, gone, .. } => {
            let gone = work.from.as_ref().map(|from| one(from, None, None, gone));
            gone.into_iter().chain(file(facts, version)).collect()
        }
        Action::Remove { version } | Action::RemoveDirectory { version } => {
            vec![one(&work.path, None, None, version)]
        }
        // The tombstone keeps the version that the entry had: nobody deleted it.
        Action::Evict { .. } => vec![one(&work.path, None, None, &Version::NONE)],
        Action::Adopt { .. } | Action::Respell { .. } => Vec::new(),
    }
}

fn expect(work: &Work) -> Expect {
    Expect { image: work.item.expect.clone(), mark: work.known }
}

/// Sorts what an interrupted run of the same leg left in staging.
pub(super) async fn recover<R: RootDir>(
    workshop: &Workshop<R>,
    items: &[Work],
    known: &IndexView,
) -> Result<Recovered, Refused> {
    let by_index: BTreeMap<u32, &Work> = items.iter().map(|work| (work.index, work)).collect();
    let planned = |index| {
        by_index.get(&index).map(|work| Planned {
            path: work.path.clone(),
            expect: expect(work),
            installs: match &work.item.action {
                Action::InstallFile { file, .. } => Some(NewContent::File(*file)),
                Action::InstallSymlink { target, .. } => Some(NewContent::Symlink { target: target.clone() }),
                Action::MakeDirectory { .. } => Some(NewContent::Directory),
                Action::RenameFile { .. }
                | Action::SetMetadata { .. }
                | Action::Remove { .. }
                | Action::RemoveDirectory { .. }
                | Action::Adopt { .. }
                | Action::Respell { .. }
                | Action::Evict { .. } => None,
            },
        })
    };
    let recovered = workshop.recover(planned, known).await?;
    for kept in &recovered.kept {
        let kept = String::from_utf8_lossy(kept.as_bytes()).into_owned();
        tracing::warn!(kept, "bytes that an interrupted run had taken aside were kept in the trash");
    }
    Ok(recovered)
}

/// The outcome once it is known whether the names are durable.
pub(super) fn durable(outcome: ItemOutcome, failure: Option<&Refused>) -> ItemOutcome {
    match (outcome, failure) {
        // It may be there or not after a power cut; the next scan says, and the next generation finishes it.
        (ItemOutcome::Done, Some(refused)) => {
            ItemOutcome::Skipped(SkipReason::Io(format!("it could not be made durable: {refused}")))
        }
        (outcome, _) => outcome,
    }
}

/// Why a leg cannot even begin.
pub(super) fn stop_at_start(refused: &Refused) -> JobStop {
    tracing::warn!(%refused, "a job cannot begin");
    match refused {
        Refused::NoSpace => JobStop::NoSpace,
        Refused::TargetChanged { .. }
        | Refused::SourceChanged
        | Refused::WrongContent
        | Refused::ParentMissing
        | Refused::DirNotEmpty
        | Refused::NotPrepared(_)
        | Refused::PermissionDenied
        | Refused::BadName
        | Refused::Known(_)
        | Refused::Io(_) => JobStop::RootLost,
    }
}

/// Whether an item needs the index of what lies below a directory that it takes away.
pub(crate) fn needs_index(work: &Work) -> bool {
    work.item.expect == PreImage::Directory
}
