//! Heads as they are signed and checked: nothing is signed, verified or written twice for the same words.
//!
//! At rest every device tells every other the same thing every half minute. A head takes a new stamp only when it
//! says something new, so an old one changes nothing in anybody's replica; what is gossiped again is the very same
//! bytes, and bytes that were verified once are not verified again. Answers over a nonce are always signed afresh.

use std::collections::{BTreeMap, VecDeque};

use tidegate_protocol::id::{DeviceId, Nonce};
use tidegate_protocol::library_sync::{Head, HeadError, SignedHead};

use super::{Core, CoreError, Step};

/// Verified heads that are remembered of one device: what is gossiped, and what others relay.
const REMEMBERED_MAX: usize = 4;
/// How long one stamp serves, in milliseconds. A device whose copy is started meanwhile is known by a later one.
const STAMP_AGE_MS_MAX: u64 = 10 * 60 * 1000;

/// What this device said of itself last.
pub(super) struct Said {
    /// With the stamp that it was given.
    head: Head,
    at_ms: u64,
    published: Option<SignedHead>,
}

impl Said {
    /// Whether `head` says the same, stamp, time and nonce aside.
    fn is_said_by(&self, head: &Head, now_ms: u64) -> bool {
        let Head { stamp, wall_ms, .. } = self.head;
        let same = Head { stamp, wall_ms, nonce: None, ..head.clone() };
        self.head == same && now_ms < self.at_ms + STAMP_AGE_MS_MAX
    }
}

/// Heads of members whose signatures were found right, newest use first.
#[derive(Debug, Default)]
pub(super) struct Verified(BTreeMap<DeviceId, VecDeque<SignedHead>>);

impl Verified {
    /// Verifies a head, unless these very bytes were verified before.
    pub(super) fn verify(&self, signed: &SignedHead) -> Result<Head, HeadError> {
        if self.0.values().flatten().any(|known| known == signed) { Ok(signed.trusted()) } else { signed.verify() }
    }

    /// Remembers a verified head of a member.
    pub(super) fn remember(&mut self, head: &Head, signed: &SignedHead) {
        let of_device = self.0.entry(head.device).or_default();
        of_device.retain(|known| known != signed);
        of_device.push_front(signed.clone());
        of_device.truncate(REMEMBERED_MAX);
    }
}

impl Core {
    /// Signs this device's state as the transaction has it.
    pub(super) fn sign_head(&mut self, step: &mut Step<'_>, nonce: Option<Nonce>) -> Result<SignedHead, CoreError> {
        let head = self.own_head(step)?;
        Ok(SignedHead::sign(&Head { nonce, ..head }, &self.key))
    }

    /// What is gossiped: the same bytes as long as they say the same.
    pub(super) fn head_to_publish(&mut self, step: &mut Step<'_>) -> Result<SignedHead, CoreError> {
        let head = self.own_head(step)?;
        let said = self.said.as_mut().expect("the own head was made just now");
        Ok(said.published.get_or_insert_with(|| SignedHead::sign(&head, &self.key)).clone())
    }

    /// What this device has to say of itself, under a new stamp if that is new.
    fn own_head(&mut self, step: &mut Step<'_>) -> Result<Head, CoreError> {
        let author = step.own_author()?;
        let mut head = Head {
            library: step.library()?,
            device: self.me,
            epoch: author.epoch,
            sequence: author.upto,
            row_count: author.row_count,
            set_hash: author.set_hash.digest(),
            membership: self.library.membership,
            stamp: step.txn.identity()?.stamp,
            wall_ms: step.now.wall_ms,
            locations: self.locations.statuses(),
            nonce: None,
        };
        let now_ms = step.now.monotonic_ms;
        match self.said.as_ref().filter(|said| said.is_said_by(&head, now_ms)) {
            Some(said) => head.stamp = said.head.stamp,
            None => {
                head.stamp = self.stamp(step)?;
                self.said = Some(Said { head: head.clone(), at_ms: now_ms, published: None });
            }
        }
        Ok(head)
    }
}
