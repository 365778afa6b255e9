//! Scanning a location: reads its rules, compares disk and index, reports what differs.

use std::sync::Arc;

use tidegate_protocol::id::LocationId;
use tidegate_protocol::index::IgnoreRules;
use tidegate_storage::disk::{
    self, Found, IgnoreError, Lanes, ScanError, ScanReport, ScanSpec, Scope, Sink, SinkClosed, load_rules,
};

use super::{Context, IndexView};
use crate::core::command::Command;
use crate::core::io::{Input, ScanFailure, ScanProgress, ScanScope, Seen};
use crate::env::{Env, Spawn};

/// Entries looked at between two reports that say nothing but that.
const PROGRESS_EVERY: u64 = 16 << 10;

/// Scans and reports.
pub(crate) async fn scan<E: Env>(
    context: Context<E>,
    location: LocationId,
    scope: ScanScope,
    deep: bool,
    index: IndexView,
) {
    let result = run(&context, location, scope, deep, &index).await;
    if let Ok(report) = &result {
        for (dir, name) in &report.skipped {
            tracing::warn!(location = %location.short(), %dir, name = %name.escape_ascii(), "a name is beyond the limits");
        }
        if !report.again.is_empty() {
            let paths = report.again.clone();
            context.tell(Input::Hints { location, paths, overflow: false }).await;
        }
    }
    let result = result.map(|report| progress(report.progress));
    context.tell(Input::ScanEnded { location, result }).await;
}

async fn run<E: Env>(
    context: &Context<E>,
    location: LocationId,
    scope: ScanScope,
    deep: bool,
    index: &IndexView,
) -> Result<ScanReport, ScanFailure> {
    let (root, binding) = context.roots.held(location).ok_or(ScanFailure::RootLost)?;
    let rules = rules(context, location, &root, index).await?;
    let scope = match scope {
        ScanScope::All => Scope::All,
        ScanScope::Paths(paths) => Scope::Paths(paths),
    };
    let spec = ScanSpec { binding, scope, deep, rules: Arc::new(rules), folds: index.names().folds };
    let mut sink = ToCore { context, location, told: 0 };
    let lanes = SpawnLanes(context.env.spawner().clone());
    disk::scan(&root, &spec, index, &mut sink, &lanes).await.map_err(|error| match error {
        ScanError::RootLost(_) => ScanFailure::RootLost,
        ScanError::Root(_) | ScanError::NotDurable(_) | ScanError::Known(_) | ScanError::Closed(_) => {
            ScanFailure::Io(error.to_string())
        }
    })
}

/// The rules on disk. If the index states others, it is told first, so that what they hide is never told as
/// anything else.
async fn rules<E: Env>(
    context: &Context<E>,
    location: LocationId,
    root: &crate::env::RootOf<E>,
    index: &IndexView,
) -> Result<IgnoreRules, ScanFailure> {
    let (texts, rules) = load_rules(root).await.map_err(|error| match error {
        IgnoreError::Rule(_) => ScanFailure::Rules(error.to_string()),
        IgnoreError::Io(_) => ScanFailure::Io(error.to_string()),
    })?;
    if texts != index.rules() {
        let told = context.command(Command::SetRules { location, rules: texts }).await;
        told.map_err(|fault| ScanFailure::Rules(fault.message))?;
    }
    Ok(rules)
}

struct ToCore<'a, E: Env> {
    context: &'a Context<E>,
    location: LocationId,
    /// Entries looked at when the core was last told.
    told: u64,
}

impl<E: Env> Sink for ToCore<'_, E> {
    async fn batch(&mut self, found: Vec<Found>, so_far: disk::ScanProgress) -> Result<(), SinkClosed> {
        if found.is_empty() && so_far.entries < self.told + PROGRESS_EVERY {
            return if self.context.inbox.is_closed() { Err(SinkClosed) } else { Ok(()) };
        }
        self.told = so_far.entries;
        let seen = found.into_iter().map(|Found { observation, chunks }| Seen { observation, chunks }).collect();
        let input = Input::Scanned { location: self.location, seen, progress: progress(so_far) };
        if self.context.tell(input).await { Ok(()) } else { Err(SinkClosed) }
    }
}

const fn progress(progress: disk::ScanProgress) -> ScanProgress {
    let disk::ScanProgress { entries, files_hashed, bytes_hashed } = progress;
    ScanProgress { entries, files_hashed, bytes_hashed }
}

/// Hashing beside the walk, on tasks of the environment.
#[derive(Debug, Clone)]
struct SpawnLanes<S>(S);

impl<S: Spawn> Lanes for SpawnLanes<S> {
    fn width(&self) -> usize {
        self.0.width()
    }

    fn run<T, F>(&self, work: F) -> impl Future<Output = T> + Send + 'static
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let (sender, answer) = async_channel::bounded(1);
        self.0.spawn(async move {
            // Nobody waits any more only if the scan was given up.
            let _ = sender.send(work.await).await;
        });
        async move { answer.recv().await.expect("reading files does not panic") }
    }
}
