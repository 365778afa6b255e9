//! Facts other than entries: what each author says, and what that comes to when merged.

use std::ops::ControlFlow;
use std::sync::Arc;

use tidegate_protocol::file_sync::{Conduit, GenerationRecord, MetConflict, Ruling, Spent};
use tidegate_protocol::id::{ConduitId, DeviceId, LocationId, Sequence};
use tidegate_protocol::index::{Device, Location};
use tidegate_protocol::library_sync::{Fact, FactKey};

use super::error::StoreError;
use super::reader::Order;
use super::record::FactRecord;
use super::remembered::Facts;
use super::tables::{FactKind, Table, fact_key, fact_prefix};
use super::{Reader, record};

impl Reader {
    /// What one author says under a key.
    pub fn fact(&self, author: DeviceId, key: &FactKey) -> Result<Option<Fact>, StoreError> {
        let Some(number) = self.author_number(author)? else { return Ok(None) };
        let stored: Option<FactRecord> = self.record(Table::Facts, &fact_key(key, number))?;
        Ok(stored.map(|record| record.fact))
    }

    /// What every author says about things of one kind, sorted by id.
    pub fn facts(&self, kind: FactKind) -> Result<Vec<(DeviceId, Fact)>, StoreError> {
        Ok(unshared(self.facts_of(kind)?))
    }

    fn facts_of(&self, kind: FactKind) -> Result<Facts, StoreError> {
        self.facts_under(&[kind as u8])
    }

    /// What all authors together say under one key.
    pub fn merged(&self, key: &FactKey) -> Result<Option<Fact>, StoreError> {
        Ok(merge(self.wall_ms(), &self.facts_under(&fact_prefix(key))?).pop())
    }

    /// The devices of the library, merged, sorted by id.
    pub fn devices(&self) -> Result<Vec<Device>, StoreError> {
        Ok(merge(self.wall_ms(), &self.facts_of(FactKind::Device)?).into_iter().filter_map(device).collect())
    }

    /// One device, merged.
    pub fn device_fact(&self, id: DeviceId) -> Result<Option<Device>, StoreError> {
        Ok(self.merged(&FactKey::Device(id))?.and_then(device))
    }

    /// The conduits, merged, sorted by id; removed ones among them.
    pub fn conduits(&self) -> Result<Vec<Conduit>, StoreError> {
        Ok(merge(self.wall_ms(), &self.facts_of(FactKind::Conduit)?).into_iter().filter_map(conduit).collect())
    }

    /// One conduit, merged.
    pub fn conduit(&self, id: ConduitId) -> Result<Option<Conduit>, StoreError> {
        Ok(self.merged(&FactKey::Conduit(id))?.and_then(conduit))
    }

    /// Every location by its owner's word, sorted by id; removed ones among them. An id is named together
    /// with its owner, as nothing keeps a hostile device from claiming an id of another.
    pub fn locations(&self) -> Result<Vec<Location>, StoreError> {
        Ok(self.facts(FactKind::Location)?.into_iter().filter_map(|(_, fact)| location(fact)).collect())
    }

    /// One location by its owner's word.
    pub fn location(&self, owner: DeviceId, id: LocationId) -> Result<Option<Location>, StoreError> {
        Ok(self.fact(owner, &FactKey::Location(id))?.and_then(location))
    }

    /// Closed generations of a conduit, by number.
    pub fn generation_records(&self, conduit: ConduitId) -> Result<Vec<GenerationRecord>, StoreError> {
        let prefix = [&[FactKind::Generation as u8][..], conduit.as_bytes()].concat();
        Ok(unshared(self.facts_under(&prefix)?).into_iter().filter_map(|(_, fact)| generation(fact)).collect())
    }

    /// Rulings of a conduit, merged.
    pub fn rulings(&self, conduit: ConduitId) -> Result<Vec<Ruling>, StoreError> {
        let prefix = [&[FactKind::Ruling as u8][..], conduit.as_bytes()].concat();
        Ok(merge(self.wall_ms(), &self.facts_under(&prefix)?).into_iter().filter_map(ruling).collect())
    }

    /// Rulings that one author states, of all conduits, with their places in its log.
    pub fn rulings_of(&self, author: DeviceId) -> Result<Vec<(Sequence, Ruling)>, StoreError> {
        self.stated_by(author, FactKind::Ruling, ruling)
    }

    /// Conflicts that one author met, in all conduits, with their places in its log.
    pub fn met_conflicts_of(&self, author: DeviceId) -> Result<Vec<(Sequence, MetConflict)>, StoreError> {
        self.stated_by(author, FactKind::Conflict, met)
    }

    /// Which of an author's rulings and conflicts are spent.
    pub fn spent(&self, author: DeviceId, conduit: ConduitId) -> Result<Option<Spent>, StoreError> {
        Ok(self.fact(author, &FactKey::Spent(conduit))?.and_then(spent))
    }

    fn stated_by<T>(
        &self,
        author: DeviceId,
        kind: FactKind,
        of: impl Fn(Fact) -> Option<T>,
    ) -> Result<Vec<(Sequence, T)>, StoreError> {
        let mut own = Vec::new();
        self.walk_prefix(Table::Facts, &[kind as u8], Order::Forward, &mut |_, value| {
            let record: FactRecord = record::decode(value)?;
            if record.author == author {
                own.extend(of(record.fact).map(|fact| (record.sequence, fact)));
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(own)
    }

    /// Conflicts that the coordinator of a conduit met, by number.
    pub fn met_conflicts(&self, conduit: ConduitId, coordinator: DeviceId) -> Result<Vec<MetConflict>, StoreError> {
        let prefix = [&[FactKind::Conflict as u8][..], conduit.as_bytes()].concat();
        let all = unshared(self.facts_under(&prefix)?).into_iter().filter(|(author, _)| *author == coordinator);
        Ok(all.filter_map(|(_, fact)| met(fact)).collect())
    }

    fn facts_under(&self, prefix: &[u8]) -> Result<Facts, StoreError> {
        match self.remembered_facts() {
            Some(remembered) => remembered.facts(prefix, || self.read_facts_under(prefix)),
            None => self.read_facts_under(prefix),
        }
    }

    fn read_facts_under(&self, prefix: &[u8]) -> Result<Facts, StoreError> {
        let mut facts = Vec::new();
        let arriving = self.arriving_numbers()?;
        self.walk_prefix(Table::Facts, prefix, Order::Forward, &mut |key, value| {
            if !arriving.is_empty() && key.last_chunk().is_some_and(|n| arriving.contains(&u32::from_be_bytes(*n))) {
                return Ok(ControlFlow::Continue(()));
            }
            let FactRecord { author, fact, .. } = record::decode(value)?;
            facts.push((author, fact));
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(Arc::new(facts))
    }
}

/// Facts of one's own.
fn unshared(facts: Facts) -> Vec<(DeviceId, Fact)> {
    Arc::try_unwrap(facts).unwrap_or_else(|shared| (*shared).clone())
}

/// Joins neighbours of one key.
fn merge(wall_ms: u64, facts: &[(DeviceId, Fact)]) -> Vec<Fact> {
    let mut merged: Vec<Fact> = Vec::new();
    for (_, fact) in facts {
        match merged.last_mut() {
            Some(last) if last.key() == fact.key() => last.merge(fact, wall_ms),
            Some(_) | None => merged.push(fact.clone()),
        }
    }
    merged
}

fn device(fact: Fact) -> Option<Device> {
    match fact {
        Fact::Device(device) => Some(device),
        Fact::Location(_)
        | Fact::Conduit(_)
        | Fact::Generation(_)
        | Fact::Ruling(_)
        | Fact::Conflict(_)
        | Fact::Spent(_) => None,
    }
}

fn location(fact: Fact) -> Option<Location> {
    match fact {
        Fact::Location(location) => Some(location),
        Fact::Device(_)
        | Fact::Conduit(_)
        | Fact::Generation(_)
        | Fact::Ruling(_)
        | Fact::Conflict(_)
        | Fact::Spent(_) => None,
    }
}

fn conduit(fact: Fact) -> Option<Conduit> {
    match fact {
        Fact::Conduit(conduit) => Some(*conduit),
        Fact::Device(_)
        | Fact::Location(_)
        | Fact::Generation(_)
        | Fact::Ruling(_)
        | Fact::Conflict(_)
        | Fact::Spent(_) => None,
    }
}

fn generation(fact: Fact) -> Option<GenerationRecord> {
    match fact {
        Fact::Generation(record) => Some(record),
        Fact::Device(_)
        | Fact::Location(_)
        | Fact::Conduit(_)
        | Fact::Ruling(_)
        | Fact::Conflict(_)
        | Fact::Spent(_) => None,
    }
}

fn ruling(fact: Fact) -> Option<Ruling> {
    match fact {
        Fact::Ruling(ruling) => Some(*ruling),
        Fact::Device(_)
        | Fact::Location(_)
        | Fact::Conduit(_)
        | Fact::Generation(_)
        | Fact::Conflict(_)
        | Fact::Spent(_) => None,
    }
}

fn met(fact: Fact) -> Option<MetConflict> {
    match fact {
        Fact::Conflict(met) => Some(*met),
        Fact::Device(_)
        | Fact::Location(_)
        | Fact::Conduit(_)
        | Fact::Generation(_)
        | Fact::Ruling(_)
        | Fact::Spent(_) => None,
    }
}

fn spent(fact: Fact) -> Option<Spent> {
    match fact {
        Fact::Spent(spent) => Some(*spent),
        Fact::Device(_)
        | Fact::Location(_)
        | Fact::Conduit(_)
        | Fact::Generation(_)
        | Fact::Ruling(_)
        | Fact::Conflict(_) => None,
    }
}
