//! The own past: whether this replica is older than what this device once said.
//!
//! A replica that was restored from a backup has numbers before it that were used already; others know. Every
//! member tells what it holds of this device, and what this device cannot have signed as it is proves that there
//! was a future that is lost, or a second device under the same key. Either way it begins a new epoch, in which
//! no number was ever used. If that does not end it, somebody else writes under the key right now: two clones
//! would renew epochs against each other for ever. Then this device stops, and says so.

use tidegate_protocol::id::Sequence;
use tidegate_protocol::library_sync::{Head, SignedHead};
use tidegate_protocol::time::Stamp;
use tidegate_storage::store::Identity;

use super::{Core, CoreError, Step};

/// Epochs that are begun between two starts: after a restore one is enough, and it may be found out in steps.
const RENEWALS_MAX: u32 = 3;
/// Times at which the device was off that are remembered.
const GAPS_MAX: usize = 64;

/// What is known of the own past.
#[derive(Default)]
pub(super) struct Past {
    /// When the present epoch began. What was signed later in another one is not by this device as it is.
    since: Option<Stamp>,
    /// Times in which the device signed nothing that the replica remembers: from the last stamp that it had
    /// persisted to the first one that it took when it started. An own head from such a time belongs to a lost
    /// future. They are kept over restarts: whoever knows of that future may be met much later.
    gaps: Vec<(Stamp, Stamp)>,
    /// A member has told what it holds of this device since the start.
    pub(super) heard: bool,
    /// The end of the own log when the node started.
    began_at: Sequence,
    renewals: u32,
    cloned: bool,
}

impl Past {
    /// Another device goes on under the key of this one.
    pub(super) const fn is_cloned(&self) -> bool {
        self.cloned
    }
}

impl Core {
    pub(super) fn begin_past(&mut self, step: &mut Step<'_>, before: &Identity) -> Result<(), CoreError> {
        let mut gaps = step.gaps()?;
        gaps.push((before.stamp, self.stamp(step)?));
        gaps.drain(..gaps.len().saturating_sub(GAPS_MAX));
        step.set_gaps(&gaps)?;
        let known = if before.epoch.is_some() { step.epoch_began()? } else { None };
        let since = known.unwrap_or(before.stamp);
        step.set_epoch_began(since)?;
        self.library.past = Past {
            since: Some(since),
            gaps,
            // No number of an epoch that has just begun was ever used.
            heard: before.epoch.is_none(),
            began_at: step.own_author()?.upto,
            ..Past::default()
        };
        Ok(())
    }

    /// A head that was signed with the own key: was it by this device as it is?
    pub(super) fn check_own_past(&mut self, step: &mut Step<'_>, head: &Head) -> Result<(), CoreError> {
        let own = step.own_author()?;
        let past = &self.library.past;
        let is_lost = past.gaps.iter().any(|(last, first)| *last < head.stamp && head.stamp < *first);
        let forks = own.rests.as_ref().is_some_and(|rests| rests.trusted().forks_from(head));
        let rolled_back = head.epoch == own.epoch && (head.sequence > own.upto || forks);
        let elsewhere = head.epoch != own.epoch && past.since.is_some_and(|since| head.stamp > since);
        if is_lost || rolled_back || elsewhere { self.renew(step, head) } else { Ok(()) }
    }

    /// Somebody keeps two own heads with one number and two states: this device has signed one of them in a future
    /// that it has lost, if not both.
    pub(super) fn check_own_forks(&mut self, step: &mut Step<'_>, others: &[SignedHead]) -> Result<(), CoreError> {
        let own = step.own_author()?;
        let library = step.library()?;
        let is_mine = |head: &Head| head.device == self.me && head.library == library && head.epoch == own.epoch;
        // Every member relays one own head, and signatures are dear: only what would be a proof is checked.
        let claimed = others.iter().filter_map(|signed| Some((signed.claimed().ok()?, signed)));
        let mine: Vec<(Head, &SignedHead)> = claimed.filter(|(head, _)| is_mine(head)).collect();
        let is_signed = |signed: &SignedHead| signed.verify().is_ok();
        let forked = mine.iter().find(|(one, signed)| {
            mine.iter().any(|(other, by)| one.forks_from(other) && is_signed(signed) && is_signed(by))
        });
        forked.map_or(Ok(()), |(head, _)| self.renew(step, head))
    }

    /// Begins a new epoch, in which no number was ever used.
    fn renew(&mut self, step: &mut Step<'_>, head: &Head) -> Result<(), CoreError> {
        if self.library.past.renewals >= RENEWALS_MAX {
            if !std::mem::replace(&mut self.library.past.cloned, true) {
                tracing::error!("another device uses the key of this one; nothing is synced until one of them is gone");
            }
            return Ok(());
        }
        tracing::warn!("this replica is older than what others hold of it; it begins a new epoch");
        let epoch = self.draw.epoch();
        step.txn.start_epoch(self.me, epoch)?;
        if !head.stamp.is_ahead_of(step.now.wall_ms) {
            step.witness(head.stamp)?;
        }
        self.library.past.renewals += 1;
        let began = self.stamp(step)?.max(Stamp { device: self.me, ..head.stamp });
        self.library.past.since = Some(began);
        step.set_epoch_began(began)?;
        self.library.past.gaps.clear();
        step.set_gaps(&[])?;
        step.drop_baselines_of(self.me)?;
        self.rest_own(step)?;
        self.rescan_everything(step);
        Ok(())
    }

    /// Whether rows were written since the start and nobody has yet told what it holds of this device. If the
    /// replica was restored, their numbers were used before: they are shown to nobody until that is known.
    pub(super) fn is_unsure(&self, step: &Step<'_>) -> Result<bool, CoreError> {
        let alone = self.library.past.heard || self.library.members.is_empty();
        Ok(!alone && step.own_author()?.upto != self.library.past.began_at)
    }
}
