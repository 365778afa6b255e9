//! What a conduit's coordinator and owners keep: baseline, plans, generations. None of it is replicated;
//! closed generations are told to others as facts.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Bound, ControlFlow};

use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};
use tidegate_protocol::file_sync::{Baseline, Conflict, Generation, Halt, Item, Plan, PlanId, PlanTotals, Side, Skip};
use tidegate_protocol::id::ConduitId;
use tidegate_protocol::library_sync::HeadRef;
use tidegate_protocol::time::Stamp;

use super::error::StoreError;
use super::tables::{Table, generation_key};
use super::{Order, Reader, Txn, record};

/// A plan, and whether a person approved it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPlan {
    /// The plan.
    pub plan: Plan,
    /// Wall time of its approval, in milliseconds.
    pub approved_ms: Option<u64>,
}

/// A plan without its copies, which are most of a large one: they are handed over with their jobs, and nobody asks the
/// plan for them again.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
pub struct PlanRest {
    /// The id of the whole plan.
    pub id: PlanId,
    conduit: ConduitId,
    /// The conduit's definition at that moment.
    pub definition: Stamp,
    heads: Vec<HeadRef>,
    operations: OperationsRest,
    /// What stops it until a person approves.
    pub halts: Vec<Halt>,
    skips: Vec<Skip>,
    totals: PlanTotals,
}

impl PlanRest {
    /// What one end's device is to delete.
    pub fn deletes_on(&self, side: Side) -> &[Item] {
        match side {
            Side::Source => &self.operations.target_to_source.deletes,
            Side::Target => &self.operations.source_to_target.deletes,
        }
    }
}

/// `SyncOperations` without copies.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
struct OperationsRest {
    source_to_target: DirectionRest,
    target_to_source: DirectionRest,
    conflicts: Vec<Conflict>,
}

/// `DirectionalOps` without copies.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
struct DirectionRest {
    copies: Passed<Item>,
    deletes: Vec<Item>,
}

/// A list that is read one by one, and not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Passed<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Passed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Self(PhantomData))
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for Passed<T> {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self, A::Error> {
        while list.next_element::<T>()?.is_some() {}
        Ok(self)
    }
}

impl Reader {
    /// What both ends last agreed on; `None` before the first verified generation.
    pub fn baseline(&self, conduit: ConduitId) -> Result<Option<Baseline>, StoreError> {
        self.record(Table::Baselines, conduit.as_bytes())
    }

    /// A plan by its id.
    pub fn plan(&self, id: &PlanId) -> Result<Option<StoredPlan>, StoreError> {
        let Some(plan) = self.long(Table::Plans, &plan_key(id))? else { return Ok(None) };
        Ok(Some(StoredPlan { plan: record::decode(&plan)?, approved_ms: self.approval(id)? }))
    }

    /// A plan by its id, without what it copies.
    pub fn plan_rest(&self, id: &PlanId) -> Result<Option<PlanRest>, StoreError> {
        self.long(Table::Plans, &plan_key(id))?.map(|plan| record::decode(&plan)).transpose()
    }

    /// When a plan was approved, in milliseconds, without reading the plan.
    pub fn approval(&self, id: &PlanId) -> Result<Option<u64>, StoreError> {
        self.record(Table::Approvals, &plan_key(id))
    }

    /// Ids of all stored plans.
    pub fn plan_ids(&self) -> Result<Vec<PlanId>, StoreError> {
        let mut ids = Vec::new();
        let all = (Bound::Unbounded, Bound::Unbounded);
        self.walk(Table::Plans, all, Order::Forward, &mut |key, _| {
            if let Some(id) = super::long::first_of(key) {
                ids.push(record::decode(id)?);
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(ids)
    }

    /// One run of a conduit.
    pub fn generation(&self, conduit: ConduitId, number: u64) -> Result<Option<Generation>, StoreError> {
        self.record(Table::Generations, &generation_key(conduit, number))
    }

    /// The newest `count_max` runs of a conduit, newest first.
    pub fn generations(&self, conduit: ConduitId, count_max: usize) -> Result<Vec<Generation>, StoreError> {
        let mut generations = Vec::new();
        self.walk_prefix(Table::Generations, conduit.as_bytes(), Order::Backward, &mut |_, value| {
            if generations.len() == count_max {
                return Ok(ControlFlow::Break(()));
            }
            generations.push(record::decode(value)?);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(generations)
    }

    /// The highest generation of a conduit that this device has run or was asked for; 0 if none. Jobs of
    /// lower ones are refused.
    pub fn generation_seen(&self, conduit: ConduitId) -> Result<u64, StoreError> {
        Ok(self.record(Table::GenerationsSeen, conduit.as_bytes())?.unwrap_or(0))
    }
}

impl Txn {
    /// Sets, or with `None` voids, a baseline.
    pub fn set_baseline(&mut self, conduit: ConduitId, baseline: Option<&Baseline>) -> Result<(), StoreError> {
        match baseline {
            Some(baseline) => self.put(Table::Baselines, conduit.as_bytes(), &record::encode(baseline)),
            None => self.remove(Table::Baselines, conduit.as_bytes()).map(drop),
        }
    }

    /// Stores a plan under its id.
    pub fn put_plan(&mut self, plan: &Plan) -> Result<(), StoreError> {
        self.put_long(Table::Plans, &plan_key(&plan.id), plan)
    }

    /// Records that a person approved a plan.
    pub fn approve_plan(&mut self, id: &PlanId, wall_ms: u64) -> Result<(), StoreError> {
        self.put(Table::Approvals, &plan_key(id), &record::encode(&wall_ms))
    }

    /// Forgets a plan and its approval.
    pub fn remove_plan(&mut self, id: &PlanId) -> Result<(), StoreError> {
        self.remove_prefix(Table::Plans, &plan_key(id))?;
        self.remove(Table::Approvals, &plan_key(id))?;
        Ok(())
    }

    /// Stores a generation, which thereby is seen.
    pub fn put_generation(&mut self, generation: &Generation) -> Result<(), StoreError> {
        let key = generation_key(generation.conduit, generation.number);
        self.put(Table::Generations, &key, &record::encode(generation))?;
        self.see_generation(generation.conduit, generation.number)
    }

    /// Forgets a generation; that it was seen stays.
    pub fn remove_generation(&mut self, conduit: ConduitId, number: u64) -> Result<(), StoreError> {
        self.remove(Table::Generations, &generation_key(conduit, number))?;
        Ok(())
    }

    /// Remembers the highest generation seen; a lower one changes nothing.
    pub fn see_generation(&mut self, conduit: ConduitId, number: u64) -> Result<(), StoreError> {
        if number > self.generation_seen(conduit)? {
            self.put(Table::GenerationsSeen, conduit.as_bytes(), &record::encode(&number))?;
        }
        Ok(())
    }
}

/// The 32 bytes of the id: postcard adds nothing to a newtype of an array.
fn plan_key(id: &PlanId) -> Vec<u8> {
    record::encode(id)
}
