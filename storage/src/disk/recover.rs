//! After a crash: what lies in staging is sorted without losing a byte; at the end of a job nothing is left.
//!
//! `<item>.part` is ours by its name. `<item>.swap` is ours only if its content is proven to be the item's new
//! content; else it came out of the item's path, and the replace sequence is taken up where it stopped.

use tidegate_protocol::file_sync::JobKey;
use tidegate_protocol::path::{EntryPath, Name};

use super::inspect::{Expect, came_out, holds};
use super::known::Known;
use super::refused::Refused;
use super::stage::{NewContent, Slot, Staged, Workshop};
use super::{RenameMode, RootDir, TreePath};

/// An item of the job, as far as recovery needs it.
#[derive(Debug, Clone)]
pub struct Planned {
    /// Where it acts, below the location.
    pub path: EntryPath,
    /// What it expects there.
    pub expect: Expect,
    /// What it stages and puts there; `None` for a removal or a rename, which stage nothing, so that all that
    /// lies in staging for them is a user's.
    pub installs: Option<NewContent>,
}

/// What recovery did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Partial or whole contents of ours that stay for the job to go on with.
    pub resumable: u64,
    /// Old contents whose replacement had happened: in the trash now.
    pub finished: u64,
    /// Contents that were put back to where they stood.
    pub put_back: u64,
    /// Where bytes went that could neither be matched nor put back.
    pub kept: Vec<TreePath>,
}

impl<R: RootDir> Workshop<R> {
    /// Sorts what an interrupted run of the same job left. `planned` tells the job's items by number.
    pub async fn recover<K: Known>(
        &self,
        planned: impl Fn(u32) -> Option<Planned> + Send + Sync,
        known: &K,
    ) -> Result<Recovered, Refused> {
        let mut done = Recovered::default();
        for (name, slot) in self.left().await? {
            let at = self.staging.child(&name);
            match slot {
                Some((item, Slot::Part)) if planned(item).is_some_and(|p| p.installs.is_some()) => done.resumable += 1,
                Some((_, Slot::Part)) => self.discard_part(&at).await?,
                Some((item, Slot::Swap)) => match planned(item) {
                    Some(plan) => self.take_up(item, &at, &plan, known, &mut done).await?,
                    None => done.kept.push(self.trash.keep_unplaced(&at).await?),
                },
                None => done.kept.push(self.trash.keep_unplaced(&at).await?),
            }
        }
        self.root.sync_all().await?;
        Ok(done)
    }

    /// Ends the staging of `job` if there is any. None is made for that: the disk may be full.
    pub async fn clear(root: R, job: &JobKey) -> Result<Vec<TreePath>, Refused> {
        if root.metadata(&Self::staging_of(job)).await?.is_none() {
            return Ok(Vec::new());
        }
        Self::open(root, job).await?.clean().await
    }

    /// Ends the job's staging: removes what is ours, keeps anything else in the trash, removes the directory.
    /// Answers what had to be kept.
    pub async fn clean(self) -> Result<Vec<TreePath>, Refused> {
        let mut kept = Vec::new();
        for (name, slot) in self.left().await? {
            let at = self.staging.child(&name);
            match slot {
                Some((_, Slot::Part)) => self.discard_part(&at).await?,
                Some((_, Slot::Swap)) | None => kept.push(self.trash.keep_unplaced(&at).await?),
            }
        }
        self.root.remove_dir(&self.staging).await?;
        self.root.sync_all().await?;
        Ok(kept)
    }

    async fn take_up<K: Known>(
        &self,
        item: u32,
        swap: &TreePath,
        plan: &Planned,
        known: &K,
        done: &mut Recovered,
    ) -> Result<(), Refused> {
        let part = self.slot(item, Slot::Part);
        let target = TreePath::from(&plan.path);
        // With a part beside it, the swap came out of the path: the two names are never both ours.
        let part_stands = self.root.metadata(&part).await?.is_some();
        if let Some(new) = &plan.installs
            && !part_stands
            && holds(&self.root, swap, new).await?.is_some()
        {
            self.root.rename(swap, &part, RenameMode::NoReplace).await?;
            done.resumable += 1;
            return Ok(());
        }
        let expected = came_out(&self.root, swap, &plan.path, None, &plan.expect, known).await?;
        let stands = self.root.metadata(&target).await?;
        if expected && stands.is_some() {
            self.settle_name(&target).await?;
            self.trash.keep(swap, &plan.path).await?;
            done.finished += 1;
            return Ok(());
        }
        // Either nothing has taken its place yet, and the item is done again from the start; or a user's edit
        // came out.
        let ours = match &plan.installs {
            Some(new) => holds(&self.root, &target, new).await?.map(|seen| Staged { item, seen }),
            None => None,
        };
        match self.give_back(&plan.path, ours.as_ref(), swap, item).await? {
            None => done.put_back += 1,
            Some(kept) => done.kept.push(kept),
        }
        Ok(())
    }

    async fn left(&self) -> Result<Vec<(Name, Option<(u32, Slot)>)>, Refused> {
        let entries = self.root.list(&self.staging).await?;
        let names = entries.iter().filter_map(|entry| Name::new(&entry.name).ok());
        Ok(names.map(|name| (slot_of(&name), name)).map(|(slot, name)| (name, slot)).collect())
    }
}

fn slot_of(name: &Name) -> Option<(u32, Slot)> {
    let text = std::str::from_utf8(name.as_bytes()).ok()?;
    let (item, suffix) = text.split_once('.')?;
    let slot = match suffix {
        "part" => Slot::Part,
        "swap" => Slot::Swap,
        _ => return None,
    };
    Some((item.parse().ok()?, slot))
}
