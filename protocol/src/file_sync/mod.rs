//! From the index to what is to be done: conduits, the resolver, conflicts, guards, plans, generations, jobs.

pub mod conduit;
mod conflict;
mod generation;
mod job;
mod plan;
mod resolver;
mod safety;

pub use conduit::{Conduit, ConduitError, ConduitSettings, Root, Schedule, Selection, SettingError, SyncMode};
pub use conflict::{Conflict, ConflictKind, ConflictStrategy};
pub use generation::{Baseline, Generation, GenerationRecord, GenerationTotals, Phase, Verification};
pub use job::{DeleteMode, ItemOutcome, JobKey, JobKind, JobProgress, JobSpec, JobState, SkipReason};
pub use plan::{Action, Item, Plan, PlanId, PlanTotals, PreImage, Skip, SkipCause};
pub use resolver::{ConduitView, DirectionalOps, ResolveError, Side, SideView, SyncOperations, SyncResolver};
pub use safety::{Guards, Halt, OwnSide};
