//! From the index to what is to be done: conduits, the resolver, conflicts, guards, plans, generations, jobs.

mod bandwidth;
pub mod conduit;
mod conflict;
mod generation;
mod grounds;
mod heal;
mod job;
mod met;
mod names;
mod plan;
mod resolver;
mod safety;
mod undo;

pub use bandwidth::{BandwidthLimit, LimitError, LimitStep};
pub use conduit::{Conduit, ConduitError, ConduitSettings, Fetched, Root, Schedule, Selection, SettingError, SyncMode};
pub use conflict::{
    Conflict, ConflictKind, ConflictOutcome, ConflictResolver, ConflictStrategy, Decision, Ruling, Settled, Spent,
};
pub use generation::{Baseline, Generation, GenerationRecord, GenerationTotals, Phase, Verification};
pub use grounds::{Grounds, Undone};
pub use heal::{Healed, Unsound};
pub use job::{DeleteMode, ItemOutcome, JobKey, JobKind, JobProgress, JobSpec, JobState, SkipReason};
pub use met::MetConflict;
pub use names::NameRules;
pub use plan::{Action, Item, Plan, PlanId, PlanTotals, PreImage, Skip, SkipCause};
pub use resolver::{
    BaseChange, BaseView, Circumstances, ConduitView, Decided, Difference, DirectionalOps, EndFacts, NoBase, Replay,
    ResolveError, Rule, Side, SideView, SyncOperations, SyncResolver, Why,
};
pub use safety::{Guards, Halt, OwnSide};
pub use undo::{Kept, KeptCause, Rows, Undo, UndoView};
