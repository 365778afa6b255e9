//! ONE_NUMBER_ONE_ROW: (device, epoch, sequence) never names two rows or two states, whoever serves them; and the
//! stamps of a device's heads grow across restarts.
//!
//! Only what was said counts: a number that a crash took back before anybody heard of it is free again.

use std::collections::BTreeMap;

use tidegate_protocol::codec;
use tidegate_protocol::hash::ContentHash;
use tidegate_protocol::id::DeviceId;
use tidegate_protocol::library_sync::Head;
use tidegate_protocol::time::Stamp;

use super::{Invariant, Scene, Seen};
use crate::ghost::Ghost;
use crate::plan::Deed;
use crate::verdict::{Violation, names};
use crate::witness::Said;

/// The claim.
#[derive(Debug, Default)]
pub(super) struct OneNumberOneRow {
    /// By author, epoch and number.
    rows: BTreeMap<(DeviceId, u64, u64), ContentHash>,
    /// Set hashes, by author, epoch and number.
    heads: BTreeMap<(DeviceId, u64, u64), [u8; 32]>,
    /// The newest stamp that each device has used in a head, and that head.
    stamps: BTreeMap<DeviceId, (Stamp, ContentHash)>,
}

impl OneNumberOneRow {
    fn head(&mut self, head: &Head) -> Option<(&'static str, String)> {
        let number = (head.device, head.epoch.0, head.sequence.0);
        if self.heads.insert(number, head.set_hash).is_some_and(|before| before != head.set_hash) {
            return Some(("heads", format!("two heads of number {} speak of two states", head.sequence.0)));
        }
        let digest = ContentHash::of(&codec::encode(head));
        match self.stamps.get(&head.device) {
            Some((newest, said)) if head.stamp < *newest && *said != digest => {
                return Some(("stamps", "a head bears an older stamp than one before it".to_owned()));
            }
            Some((newest, _)) if head.stamp <= *newest => {}
            Some(_) | None => drop(self.stamps.insert(head.device, (head.stamp, digest))),
        }
        None
    }
}

impl Invariant for OneNumberOneRow {
    fn name(&self) -> &'static str {
        names::ONE_NUMBER_ONE_ROW
    }

    fn saw(&mut self, seen: &Seen<'_>, _ghost: &Ghost, scene: &dyn Scene, wrong: &mut Vec<Violation>) {
        let (device, found) = match seen {
            Seen::Said { device, said: Said::Rows { author, epoch, rows } } => {
                let twice = rows.iter().find(|row| {
                    let hash = ContentHash::of(&codec::encode(*row));
                    let before = self.rows.insert((*author, epoch.0, row.sequence.0), hash);
                    before.is_some_and(|before| before != hash)
                });
                let says = |number: u64| format!("number {number} of {} names two rows", author.short());
                (*device, twice.map(|row| ("rows", says(row.sequence.0))))
            }
            Seen::Said { device, said: Said::Head(head) } => (*device, self.head(head)),
            // An old copy of an index holds an old stamp, too; what it may still say is checked by its numbers.
            Seen::Did { device, deed: Deed::RestoreIndex | Deed::Wipe } => {
                self.stamps.remove(&scene.id_of(*device));
                return;
            }
            _ => return,
        };
        let name = scene.plan().devices[device].name.as_str();
        wrong.extend(found.map(|(kind, says)| Violation::new(names::ONE_NUMBER_ONE_ROW, kind, says).on(name)));
    }
}
