//! Documents of plans and generations. The plan's own form is for the wire; this one is for reading.

use serde::{Deserialize, Serialize};
use tidegate_protocol::file_sync::{Action, Generation, GenerationTotals, Item, PlanTotals, PreImage};

use super::document::{ProblemDocument, ShownPath};
use super::words;
use crate::core::command::{GenerationView, ItemView, PlanView};
use crate::format::Moment;

/// A plan.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PlanDocument {
    /// Its short id: what `sync --plan` and `approve` take.
    pub plan: String,
    /// Of which conduit.
    pub conduit: String,
    /// `device:location/dir`.
    pub source: String,
    /// `device:location/dir`.
    pub target: String,
    /// Name of the target's device.
    pub target_device: String,
    /// Per owner, the sequence that it was resolved at.
    pub heads: Vec<HeadDocument>,
    /// Why it waits for approval; empty if it does not.
    pub halts: Vec<String>,
    /// Sums.
    pub totals: PlanTotals,
    /// What it leaves alone.
    pub skips: Vec<ProblemDocument>,
    /// Paths on which the ends disagree.
    pub conflicts: Vec<ProblemDocument>,
    /// What would be done, in order.
    pub items: Vec<PlanItem>,
}

/// How far an owner's index was.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HeadDocument {
    /// Whose.
    pub device: String,
    /// Its newest row.
    pub sequence: u64,
}

/// One item of a plan.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PlanItem {
    /// On which end it acts: `target` or `source`.
    pub side: String,
    /// `install`, `link`, `mkdir`, `rename`, `metadata`, `trash`, `rmdir`, `adopt`, `respell` or `evict`.
    pub op: String,
    /// Where.
    #[serde(flatten)]
    pub path: ShownPath,
    /// For a rename: the old path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<ShownPath>,
    /// Bytes of content, where it installs any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Whether something that stands there goes to the trash.
    pub replaces: bool,
}

impl From<PlanView> for PlanDocument {
    fn from(view: PlanView) -> Self {
        let operations = &view.plan.operations;
        let sides = [("target", &operations.source_to_target), ("source", &operations.target_to_source)];
        let copies = sides.iter().flat_map(|(side, ops)| ops.copies.iter().map(|item| plan_item(side, item)));
        let deletes = sides.iter().flat_map(|(side, ops)| ops.deletes.iter().map(|item| plan_item(side, item)));
        let heads = view.heads.iter();
        Self {
            plan: view.plan.id.short(),
            conduit: view.conduit.to_string(),
            items: copies.chain(deletes).collect(),
            heads: heads.map(|(d, sequence)| HeadDocument { device: d.to_string(), sequence: *sequence }).collect(),
            halts: view.plan.halts.iter().map(ToString::to_string).collect(),
            totals: view.plan.totals,
            skips: view
                .plan
                .skips
                .iter()
                .map(|skip| ProblemDocument { path: skip.path.to_string(), why: skip.cause.to_string() })
                .collect(),
            conflicts: view
                .plan
                .conflicts()
                .iter()
                .map(|c| ProblemDocument { path: c.path.to_string(), why: words::conflict(c.kind).to_owned() })
                .collect(),
            source: view.source,
            target: view.target,
            target_device: view.target_device.to_string(),
        }
    }
}

fn plan_item(side: &str, item: &Item) -> PlanItem {
    let (op, from, bytes) = match &item.action {
        Action::MakeDirectory { .. } => ("mkdir", None, None),
        Action::InstallFile { file, .. } => ("install", None, Some(file.size)),
        Action::InstallSymlink { .. } => ("link", None, None),
        Action::RenameFile { from, .. } => ("rename", Some(ShownPath::from(from)), None),
        Action::SetMetadata { .. } => ("metadata", None, None),
        Action::Remove { .. } => ("trash", None, None),
        Action::RemoveDirectory { .. } => ("rmdir", None, None),
        Action::Adopt { .. } => ("adopt", None, None),
        Action::Respell { from, .. } => ("respell", Some(ShownPath::from(from)), None),
        Action::Evict { .. } => ("evict", None, None),
    };
    let installs = matches!(item.action, Action::InstallFile { .. } | Action::InstallSymlink { .. });
    PlanItem {
        side: side.to_owned(),
        op: op.to_owned(),
        path: ShownPath::from(&item.path),
        from,
        bytes,
        replaces: installs && item.expect != PreImage::Absent,
    }
}

/// A generation.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GenerationDocument {
    /// 1, 2, 3 …
    pub number: u64,
    /// Short id of its plan.
    pub plan: String,
    /// The generation it follows up.
    pub follows: Option<u64>,
    /// `copying`, `deleting`, `verifying` or `closed`.
    pub phase: String,
    /// The newest of `statuses`: `verified`, `failed:3`, `waiting_watcher` …
    pub verification: String,
    /// Every verification status it had.
    pub statuses: Vec<StatusAt>,
    /// When it was opened.
    pub opened: Moment,
    /// When it was closed.
    pub closed: Option<Moment>,
    /// Sums.
    pub totals: GenerationTotals,
}

/// A verification status and when it began.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StatusAt {
    /// When.
    pub at: Moment,
    /// Which.
    pub status: String,
}

impl From<&Generation> for GenerationDocument {
    fn from(generation: &Generation) -> Self {
        let statuses: Vec<StatusAt> = generation
            .statuses
            .iter()
            .map(|(at, status)| StatusAt { at: Moment(*at), status: words::verification(*status) })
            .collect();
        Self {
            number: generation.number,
            plan: generation.plan.short(),
            follows: generation.follows,
            phase: words::phase(generation.phase).to_owned(),
            verification: statuses.last().map_or_else(|| "unverified".to_owned(), |newest| newest.status.clone()),
            statuses,
            opened: Moment(generation.opened_ms),
            closed: generation.closed_ms.map(Moment),
            totals: generation.totals,
        }
    }
}

/// A generation with its items.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GenerationItems {
    /// The generation; its members stand beside the items.
    #[serde(flatten)]
    pub generation: GenerationDocument,
    /// Its items, in order.
    pub items: Vec<ItemView>,
    /// Items in all; more than `items` has if there are very many.
    pub items_total: u64,
}

impl From<GenerationView> for GenerationItems {
    fn from(view: GenerationView) -> Self {
        Self { generation: (&view.generation).into(), items: view.items, items_total: view.items_total }
    }
}
