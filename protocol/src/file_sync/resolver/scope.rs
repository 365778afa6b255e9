//! What a selection admits, at one moment.

use std::collections::BTreeSet;

use super::{ConduitView, Side};
use crate::file_sync::Selection;
use crate::index::{EntryKind, EntryState, FileFacts, IgnoreRules, RuleError};
use crate::path::{DirPath, EntryPath};

/// A compiled selection.
pub(super) struct Scope {
    selection: Selection,
    globs: IgnoreRules,
    exclude: IgnoreRules,
    now_ms: u64,
    /// The candidates that fit into the budget, if there is one.
    recent: Option<BTreeSet<EntryPath>>,
}

impl Scope {
    /// Compiles the conduit's selection for the moment the gate opened.
    pub(super) fn new(view: &ConduitView<'_>) -> Result<Self, RuleError> {
        let selection = view.conduit.settings.selection.value.clone();
        let (globs, exclude) = (IgnoreRules::new(&selection.globs)?, IgnoreRules::new(&selection.exclude)?);
        let budget = selection.budget_bytes;
        let mut scope = Self { selection, globs, exclude, now_ms: view.circumstances.now_ms, recent: None };
        scope.recent = budget.map(|bytes| scope.most_recent(view, bytes));
        Ok(scope)
    }

    /// Whether the answer depends on the time or on the whole of the source, not on each path alone.
    pub(super) fn moves(&self) -> bool {
        self.selection.age_ms_max.is_some() || self.recent.is_some() || !self.selection.fetched.is_empty()
    }

    /// Whether a path with this content belongs on the target.
    pub(super) fn admits(&self, path: &EntryPath, kind: Option<&EntryKind>) -> bool {
        if self.is_pinned(path) {
            return true;
        }
        match kind {
            Some(EntryKind::File(file)) => {
                self.is_candidate(path)
                    && self.is_within_bounds(file)
                    && self.recent.as_ref().is_none_or(|recent| recent.contains(path))
            }
            Some(
                EntryKind::Directory { .. } | EntryKind::Symlink { .. } | EntryKind::Special | EntryKind::Unknown(_),
            )
            | None => self.is_candidate(path),
        }
    }

    fn is_pinned(&self, path: &EntryPath) -> bool {
        let covers = |top: &EntryPath| path == top || path.is_below(top);
        let fetched = self.selection.fetched.iter().filter(|fetched| fetched.until_ms > self.now_ms);
        self.selection.pins.iter().chain(fetched.map(|fetched| &fetched.path)).any(covers)
    }

    fn is_candidate(&self, path: &EntryPath) -> bool {
        let dir = DirPath::below_top(path.clone());
        let is_chosen = self.selection.subtrees.iter().any(|top| top.contains(&dir)) || self.globs.hides(path);
        is_chosen && !self.exclude.hides(path)
    }

    fn is_within_bounds(&self, file: &FileFacts) -> bool {
        let Selection { size_bytes_min, size_bytes_max, age_ms_max, .. } = &self.selection;
        size_bytes_min.is_none_or(|min| file.size >= min)
            && size_bytes_max.is_none_or(|max| file.size <= max)
            && age_ms_max.is_none_or(|max| modified_ms(file).saturating_add(max) >= self.now_ms)
    }

    /// Candidates from the last used on, as long as they fit; what does not fit is passed over.
    fn most_recent(&self, view: &ConduitView<'_>, budget_bytes: u64) -> BTreeSet<EntryPath> {
        let mut left = budget_bytes;
        let mut candidates = Vec::new();
        for (path, row) in view.side(Side::Source).entries(None) {
            let Some(EntryKind::File(file)) = row_kind(&row) else { continue };
            if view.is_outside(&path) {
                continue;
            }
            if self.is_pinned(&path) {
                left = left.saturating_sub(file.size);
            } else if self.is_candidate(&path) && self.is_within_bounds(file) {
                let used_ms = view.circumstances.reads.get(&path).copied().unwrap_or_else(|| modified_ms(file));
                candidates.push((std::cmp::Reverse(used_ms), path, file.size));
            }
        }
        candidates.sort();
        let fits = |(_, path, size): (_, EntryPath, u64)| {
            let rest = left.checked_sub(size)?;
            left = rest;
            Some(path)
        };
        candidates.into_iter().filter_map(fits).collect()
    }
}

fn row_kind(row: &EntryState) -> Option<&EntryKind> {
    row.present().map(|entry| &entry.kind)
}

/// In Unix milliseconds; what is older than 1970 is from 1970.
fn modified_ms(file: &FileFacts) -> u64 {
    u64::try_from(file.mtime_ns / 1_000_000).unwrap_or(0)
}
