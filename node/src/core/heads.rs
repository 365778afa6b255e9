//! Heads as they are signed and checked: nothing is signed, verified or written twice for the same words.
//!
//! At rest every device tells every other the same thing every 45 seconds. A head takes a new stamp only when it
//! states something new of its author's rows or membership, so an old one changes nothing in anybody's replica; what is
//! gossiped and served with rows is the very same bytes, and a statement that was verified once is not verified again,
//! whoever brings it and under whatever time. Answers over a nonce are always signed afresh. Nothing is stored or passed
//! on whose signature was not checked.

use std::collections::{BTreeMap, VecDeque};

use tidegate_protocol::codec;
use tidegate_protocol::id::{DeviceId, LibraryId, Nonce};
use tidegate_protocol::library_sync::{Head, HeadError, HeadRef, SignedHead};

use super::io::Input;
use super::{Core, CoreError, Step};

/// Verified heads that are remembered of one device: what is gossiped, and what others relay.
const REMEMBERED_MAX: usize = 8;
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
    /// Whether `head` states the same, its stamp aside.
    fn is_stated_by(&self, head: &Head, now_ms: u64) -> bool {
        statement(&self.head) == statement(head) && now_ms < self.at_ms + STAMP_AGE_MS_MAX
    }
}

/// A head whose statement is known to be its author's.
pub(super) struct Checked {
    /// What was said just now. How locations stand, time and nonce may be by word of mouth: they count only if the
    /// author itself said them, over its own connection.
    pub(super) said: Head,
    /// The signed bytes that state it, which may be stored and passed on: not always those that came.
    pub(super) signed: SignedHead,
}

/// Heads of members whose signatures were found right, and own ones, newest use first.
#[derive(Debug, Default)]
pub(super) struct Verified(BTreeMap<DeviceId, VecDeque<(Head, SignedHead)>>);

impl Verified {
    /// Whether these very bytes were verified before.
    pub(super) fn knows(&self, signed: &SignedHead) -> Option<&Head> {
        self.0.values().flatten().find(|(_, known)| known == signed).map(|(head, _)| head)
    }

    /// Verifies a head that `by` brought, if somebody did.
    ///
    /// A statement that was verified before is not verified again: the head that was stands for it. What a device says
    /// beside it over its own connection (how its locations stand, its clock, our nonce) is known to be its word; of
    /// what others bring, the verified head is all that counts. So nothing unverified is ever stored.
    pub(super) fn verify(&self, signed: &SignedHead, by: Option<DeviceId>) -> Result<Checked, HeadError> {
        if let Some(head) = self.knows(signed) {
            return Ok(Checked { said: head.clone(), signed: signed.clone() });
        }
        let claimed = signed.claimed()?;
        let same =
            |(head, _): &&(Head, SignedHead)| head.stamp == claimed.stamp && statement(head) == statement(&claimed);
        if let Some((head, known)) = self.0.get(&claimed.device).and_then(|known| known.iter().find(same)) {
            let said = if by == Some(claimed.device) { claimed } else { head.clone() };
            return Ok(Checked { said, signed: known.clone() });
        }
        Ok(Checked { said: signed.verify()?, signed: signed.clone() })
    }

    /// Remembers a verified head of a member.
    pub(super) fn remember(&mut self, signed: &SignedHead) {
        let head = signed.trusted().clone();
        let of_device = self.0.entry(head.device).or_default();
        of_device.retain(|(_, known)| known != signed);
        of_device.push_front((head, signed.clone()));
        of_device.truncate(REMEMBERED_MAX);
    }
}

/// What a head states of its author's rows and membership; stamps tell how new that is. The rest is about one moment:
/// how the locations stand, the time, and who asked.
const fn statement(head: &Head) -> (LibraryId, HeadRef, u64, u64, u64) {
    // Every field is named, so that a new one is put on one side or the other.
    let Head {
        library,
        device: _,
        epoch: _,
        sequence: _,
        row_count,
        row_bytes,
        set_hash: _,
        membership,
        stamp: _,
        wall_ms: _,
        locations: _,
        nonce: _,
    } = head;
    (*library, head.reference(), *row_count, *row_bytes, *membership)
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

    /// Signs this device's state as the transaction has it, for whoever drew this nonce.
    pub(super) fn answer_head(&mut self, step: &mut Step<'_>, nonce: Nonce) -> Result<SignedHead, CoreError> {
        let head = self.own_head(step)?;
        Ok(SignedHead::sign(&Head { nonce: Some(nonce), ..head }, &self.key))
    }

    /// What is gossiped and served with rows: the same bytes as long as they state the same.
    pub(super) fn head_to_publish(&mut self, step: &mut Step<'_>) -> Result<SignedHead, CoreError> {
        let head = self.own_head(step)?;
        let said = self.said.as_mut().expect("the own head was made just now");
        if let Some(published) = &said.published {
            return Ok(published.clone());
        }
        let signed = SignedHead::sign(&head, &self.key);
        said.published = Some(signed.clone());
        // Every member tells in every answer what it holds of this device.
        self.library.verified.remember(&signed);
        Ok(signed)
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
        if let Some(said) = self.said.as_ref().filter(|said| said.is_stated_by(&head, now_ms)) {
            head.stamp = said.head.stamp;
        } else {
            head.stamp = self.stamp(step)?;
            self.said = Some(Said { head: head.clone(), at_ms: now_ms, published: None });
        }
        Ok(head)
    }
}
