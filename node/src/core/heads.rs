//! Heads as they are signed and checked: nothing is signed, verified or written twice for the same words.
//!
//! At rest every device tells every other the same thing every half minute. A head takes a new stamp only when it
//! says something new, so an old one changes nothing in anybody's replica; what is gossiped again is the very same
//! bytes, and bytes that were verified once are not verified again. Answers over a nonce are always signed afresh.
//! Nothing is stored or passed on whose signature was not checked.

use std::collections::{BTreeMap, VecDeque};

use tidegate_protocol::codec;
use tidegate_protocol::id::{DeviceId, Nonce};
use tidegate_protocol::library_sync::{Head, HeadError, SignedHead};

use super::io::Input;
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
        let same = Head { stamp: self.head.stamp, ..head.clone() };
        says_the_same(&self.head, &same) && now_ms < self.at_ms + STAMP_AGE_MS_MAX
    }
}

/// Heads of members whose signatures were found right, newest use first.
#[derive(Debug, Default)]
pub(super) struct Verified(BTreeMap<DeviceId, VecDeque<(Head, SignedHead)>>);

impl Verified {
    /// Whether these very bytes were verified before.
    pub(super) fn knows(&self, signed: &SignedHead) -> Option<&Head> {
        self.0.values().flatten().find(|(_, known)| known == signed).map(|(head, _)| head)
    }

    /// Verifies a head that `by` brought, if somebody did, and gives it with the signed bytes that may be stored.
    ///
    /// What a device says of itself over its own connection is known to be its word: it is not verified again if
    /// it says what a verified head of it said. That one is stored then, so nothing unverified ever is.
    pub(super) fn verify(&self, signed: &SignedHead, by: Option<DeviceId>) -> Result<(Head, SignedHead), HeadError> {
        if let Some(head) = self.knows(signed) {
            return Ok((head.clone(), signed.clone()));
        }
        let claimed = signed.claimed()?;
        if by == Some(claimed.device)
            && let Some(said) = self.0.get(&claimed.device)
            && let Some((_, known)) = said.iter().find(|(head, _)| says_the_same(head, &claimed))
        {
            return Ok((claimed, known.clone()));
        }
        Ok((signed.verify()?, signed.clone()))
    }

    /// Remembers a verified head of a member.
    pub(super) fn remember(&mut self, signed: &SignedHead) {
        let head = signed.trusted();
        let of_device = self.0.entry(head.device).or_default();
        of_device.retain(|(_, known)| known != signed);
        of_device.push_front((head, signed.clone()));
        of_device.truncate(REMEMBERED_MAX);
    }
}

/// Whether two heads differ by time and nonce alone.
fn says_the_same(one: &Head, other: &Head) -> bool {
    let Head { wall_ms, nonce, .. } = *one;
    *one == Head { wall_ms, nonce, ..other.clone() }
}

impl Core {
    /// Whether an input is gossip that was heard before from a peer that is where it was.
    pub(super) fn is_old_news(&self, input: &Input) -> bool {
        let Input::Announcement(bytes) = input else { return false };
        let signed = codec::decode::<SignedHead>(bytes).ok();
        signed.and_then(|signed| self.library.verified.knows(&signed).cloned()).is_some_and(|head| {
            let gossiped = Some((head.epoch, head.sequence));
            self.library.peers.get(&head.device).is_none_or(|peer| peer.claims_of(head.device) == gossiped)
        })
    }

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
            row_bytes: author.row_bytes,
            set_hash: author.set_hash.digest(),
            membership: self.library.membership,
            stamp: step.txn.last_stamp()?,
            wall_ms: step.now.wall_ms,
            locations: self.locations.statuses(),
            nonce: None,
        };
        let now_ms = step.now.monotonic_ms;
        if let Some(said) = self.said.as_ref().filter(|said| said.is_said_by(&head, now_ms)) {
            head.stamp = said.head.stamp;
        } else {
            head.stamp = self.stamp(step)?;
            self.said = Some(Said { head: head.clone(), at_ms: now_ms, published: None });
        }
        Ok(head)
    }
}
