//! Finding one version of a conflict to look at: at its path, in the trash, or at the other end.
//!
//! Wherever bytes come from, they are shown only if they hash to the version that was asked for.

use tidegate_protocol::hash::ContentHash;
use tidegate_protocol::id::ConduitId;
use tidegate_protocol::path::{EntryPath, Name};
use tidegate_protocol::wire::Want;
use tidegate_storage::disk::{File, FileKind, RootDir, TreePath, kept_text, trash_of};

use super::Context;
use super::fetch::{Arrived, Fetching};
use super::pace::Pace;
use super::serve::read_exact;
use crate::core::command::{Fault, FaultCode, Reply};
use crate::core::io::{ContentFrom, ReadContent};
use crate::env::Env;

/// Generations whose trash is looked through.
const GENERATIONS_MAX: usize = 1_000;

/// Looks at every place in turn, and answers.
pub(crate) async fn read_content<E: Env>(context: Context<E>, wanted: ReadContent) {
    let mut found = None;
    for from in &wanted.from {
        found = look(&context, from, &wanted).await.filter(|bytes| ContentHash::of(bytes) == wanted.content);
        if found.is_some() {
            break;
        }
    }
    let reply = found.map(Reply::Content).ok_or_else(|| {
        Fault::new(
            FaultCode::NoSuchName,
            "this version is nowhere to be had now; nothing was changed",
            "it is neither at its path nor in the trash of this device, and the other end does not send it",
            &["tidegate trash list", "ask on the other device"],
        )
    });
    context.commands.answer(wanted.ticket, reply);
}

async fn look<E: Env>(context: &Context<E>, from: &ContentFrom, wanted: &ReadContent) -> Option<Vec<u8>> {
    match from {
        ContentFrom::Here { location, path } => {
            read(&context.roots.get(*location)?, &TreePath::from(path), wanted.size).await
        }
        ContentFrom::Texts { location } => kept_text(&context.roots.get(*location)?, &wanted.content).await,
        ContentFrom::Trash { location, conduit, path } => {
            search(&context.roots.get(*location)?, *conduit, path, wanted).await
        }
        ContentFrom::There { device, job, path } => {
            let want = Want { path: path.clone(), content: wanted.content, offset: 0, length: wanted.size };
            if wanted.size == 0 {
                return Some(Vec::new());
            }
            let pace = Pace::free();
            let mut fetching = Fetching::begin(&context.env, &pace, *device, *job, vec![want]).await.ok()?;
            let mut bytes = Vec::new();
            while let Some((_, arrived)) = fetching.next().await.ok()? {
                match arrived {
                    Arrived::Bytes(more) => bytes.extend(more),
                    Arrived::Failed(_) => return None,
                }
            }
            Some(bytes)
        }
    }
}

pub(super) async fn read<R: RootDir>(root: &R, path: &TreePath, size: u64) -> Option<Vec<u8>> {
    let file = root.open(path).await.ok()?;
    if file.metadata().await.ok()?.mark.size != size {
        return None;
    }
    let mut bytes = vec![0; usize::try_from(size).ok()?];
    read_exact(&file, &mut bytes, 0).await.ok()?.then_some(bytes)
}

/// What a generation of the conduit trashed from this path, newest first.
async fn search<R: RootDir>(root: &R, conduit: ConduitId, path: &EntryPath, wanted: &ReadContent) -> Option<Vec<u8>> {
    let top = trash_of(conduit, 0).parent()?;
    let prefix = format!("{}-", conduit.short());
    let mut generations: Vec<u64> = root
        .list(&top)
        .await
        .ok()?
        .iter()
        .filter_map(|entry| std::str::from_utf8(&entry.name).ok()?.strip_prefix(&prefix)?.parse().ok())
        .collect();
    generations.sort_unstable_by(|a, b| b.cmp(a));
    for generation in generations.into_iter().take(GENERATIONS_MAX) {
        let mut dir = trash_of(conduit, generation);
        for name in path.parent().as_entry().into_iter().flat_map(EntryPath::names) {
            dir = dir.child(&Name::new(name).ok()?);
        }
        let Ok(entries) = root.list(&dir).await else { continue };
        for entry in entries {
            let is_it = entry.name == path.name() || entry.name.starts_with(&[path.name(), b"~"].concat());
            let is_file = entry.metadata.as_ref().is_ok_and(|found| found.kind == FileKind::File);
            let Ok(name) = Name::new(&entry.name) else { continue };
            if is_it
                && is_file
                && let Some(bytes) = read(root, &dir.child(&name), wanted.size).await
                && ContentHash::of(&bytes) == wanted.content
            {
                return Some(bytes);
            }
        }
    }
    None
}
