//! Jobs: record, items and outcomes. With these alone the applying device goes on after a crash.
//!
//! A job of 100,000 items must cost little: items are kept in the batches in which they arrive, outcomes in
//! blocks, so that both cost a hundred records and not a hundred thousand.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

use tidegate_protocol::file_sync::{Item, ItemOutcome, JobKey};

use super::error::StoreError;
use super::reader::upper;
use super::record::{JobRecord, OUTCOMES_PER_BLOCK, OutcomeBlock};
use super::tables::{Table, after_prefix, job_key, job_part_key};
use super::{Order, Reader, Txn, record};

impl Reader {
    /// How a job stands; `None` if it was never offered, or was forgotten.
    pub fn job(&self, job: &JobKey) -> Result<Option<JobRecord>, StoreError> {
        self.record(Table::Jobs, &job_key(job))
    }

    /// All jobs, by conduit and generation.
    pub fn jobs(&self) -> Result<Vec<JobRecord>, StoreError> {
        let mut jobs = Vec::new();
        let all = (Bound::Unbounded, Bound::Unbounded);
        self.walk(Table::Jobs, all, Order::Forward, &mut |_, value| {
            jobs.push(record::decode(value)?);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(jobs)
    }

    /// Items `first..` of a job, at most `count_max`; fewer at the end of what is stored.
    pub fn job_items(&self, job: &JobKey, first: u32, count_max: usize) -> Result<Vec<Item>, StoreError> {
        let mut items = Vec::new();
        // A batch stands under the index of its last item, so the first batch from here on holds `first`.
        let (start, end) = (job_part_key(job, first), after_prefix(&job_key(job)));
        let range = (Bound::Included(&start[..]), upper(end.as_deref()));
        self.walk(Table::JobItems, range, Order::Forward, &mut |key, value| {
            let batch: Vec<Item> = record::decode(value)?;
            let batch_first = last_index(key)? as usize + 1 - batch.len();
            let skipped = (first as usize).saturating_sub(batch_first);
            items.extend(batch.into_iter().skip(skipped).take(count_max - items.len()));
            Ok(if items.len() < count_max { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?;
        Ok(items)
    }

    /// Outcomes of items `first..`, at most `count_max`, up to the last stored one; `None` where an item has
    /// none yet.
    pub fn job_outcomes(
        &self,
        job: &JobKey,
        first: u32,
        count_max: usize,
    ) -> Result<Vec<Option<ItemOutcome>>, StoreError> {
        let mut outcomes: Vec<Option<ItemOutcome>> = Vec::new();
        let (start, end) = (job_part_key(job, first / OUTCOMES_PER_BLOCK), after_prefix(&job_key(job)));
        let range = (Bound::Included(&start[..]), upper(end.as_deref()));
        self.walk(Table::JobOutcomes, range, Order::Forward, &mut |key, value| {
            let block_first = last_index(key)? as usize * OUTCOMES_PER_BLOCK as usize;
            let block: OutcomeBlock = record::decode(value)?;
            let at = first as usize + outcomes.len();
            if block_first > at {
                // A block ends with its last outcome, and one without any is not stored.
                outcomes.resize((block_first - first as usize).min(count_max), None);
            }
            let skipped = at.saturating_sub(block_first);
            outcomes.extend(block.into_iter().skip(skipped).take(count_max - outcomes.len()));
            Ok(if outcomes.len() < count_max { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?;
        Ok(outcomes)
    }
}

impl Txn {
    /// Stores how a job stands.
    pub fn put_job(&mut self, job: &JobRecord) -> Result<(), StoreError> {
        self.put(Table::Jobs, &job_key(&job.spec.key), &record::encode(job))
    }

    /// Stores items `first..` of a stored job and returns how many are stored then. Repeated items are
    /// ignored, and items beyond a gap too, so the sender goes on from the answer. 0 for an unknown job.
    pub fn put_job_items(&mut self, job: &JobKey, first: u32, items: &[Item]) -> Result<u32, StoreError> {
        let Some(mut stored) = self.job(job)? else { return Ok(0) };
        let end = (first as usize + items.len()).min(stored.spec.items as usize);
        let (have, first) = (stored.items_stored as usize, first as usize);
        if first > have || end <= have {
            return Ok(stored.items_stored);
        }
        let batch = &items[have - first..end - first];
        // `end` is at most `spec.items`, which is a u32.
        stored.items_stored = end as u32;
        self.put(Table::JobItems, &job_part_key(job, stored.items_stored - 1), &record::encode(&batch))?;
        self.put_job(&stored)?;
        Ok(stored.items_stored)
    }

    /// Stores outcomes by item index, in any order.
    pub fn put_job_outcomes(&mut self, job: &JobKey, outcomes: Vec<(u32, ItemOutcome)>) -> Result<(), StoreError> {
        let mut blocks: BTreeMap<u32, Vec<(u32, ItemOutcome)>> = BTreeMap::new();
        for (index, outcome) in outcomes {
            blocks.entry(index / OUTCOMES_PER_BLOCK).or_default().push((index % OUTCOMES_PER_BLOCK, outcome));
        }
        for (number, outcomes) in blocks {
            let key = job_part_key(job, number);
            let mut block: OutcomeBlock = self.record(Table::JobOutcomes, &key)?.unwrap_or_default();
            for (at, outcome) in outcomes {
                let at = at as usize;
                if block.len() <= at {
                    block.resize(at + 1, None);
                }
                block[at] = Some(outcome);
            }
            self.put(Table::JobOutcomes, &key, &record::encode(&block))?;
        }
        Ok(())
    }

    /// Forgets a job with its items and outcomes.
    pub fn remove_job(&mut self, job: &JobKey) -> Result<(), StoreError> {
        let key = job_key(job);
        self.remove(Table::Jobs, &key)?;
        self.remove_prefix(Table::JobItems, &key)?;
        self.remove_prefix(Table::JobOutcomes, &key)
    }
}

/// The number at the end of a key of items or outcomes.
fn last_index(key: &[u8]) -> Result<u32, StoreError> {
    let number = key.last_chunk().ok_or_else(|| StoreError::damaged("the key of a job's part is too short"))?;
    Ok(u32::from_be_bytes(*number))
}
