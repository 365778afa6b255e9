//! Where members may be reached, and when to try next.
//!
//! Addresses come from the configuration, from multicast, and from connections that worked. A dial proves
//! who answers, so a wrong address costs a handshake and nothing else. The number of addresses is bounded;
//! found ones yield first.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidegate_protocol::id::DeviceId;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::tls::{Expected, Members};

/// Addresses to dial, and addresses seen by multicast, each.
const ADDRESSES_MAX: usize = 256;
/// First wait after a failed dial; doubles.
const RETRY_MIN: Duration = Duration::from_millis(200);
/// Longest wait before an address that did not answer is tried again.
const RETRY_MAX: Duration = Duration::from_secs(5);
/// Longest wait before an address is tried again whose device refused us, or was another.
const RETRY_REFUSED_MAX: Duration = Duration::from_secs(30);

/// How an address became known. The order is the order of keeping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Origin {
    /// By multicast; anyone can claim it.
    Discovered,
    /// A member was there once.
    Known,
    /// Written in the configuration.
    Configured,
}

/// How a dial ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialled {
    /// This device answered, and the connection has ended by now.
    Ended(DeviceId),
    /// Nobody answered.
    Unreachable,
    /// It has no place for a handshake just now.
    Crowded,
    /// Somebody answered, and one of us refused the other.
    Refused,
}

#[derive(Debug)]
struct Target {
    device: Option<DeviceId>,
    origin: Origin,
    failures: u32,
    /// When to dial next; `None` while a dial or its connection lasts.
    due: Option<Instant>,
}

#[derive(Debug, Default)]
struct Book {
    targets: BTreeMap<SocketAddr, Target>,
    /// All that multicast showed, members or not: where a pairing code may be tried.
    seen: BTreeMap<SocketAddr, DeviceId>,
}

/// The addresses.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    book: Mutex<Book>,
    pub(super) changed: Notify,
}

impl Addresses {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes an address of a device, or of whoever answers there.
    pub(super) fn learn(&self, address: SocketAddr, device: Option<DeviceId>, origin: Origin) {
        self.learn_at(address, device, origin, Instant::now());
    }

    fn learn_at(&self, address: SocketAddr, device: Option<DeviceId>, origin: Origin, now: Instant) {
        let mut book = self.book();
        if let Some(target) = book.targets.get_mut(&address) {
            target.origin = target.origin.max(origin);
            if device.is_some() {
                target.device = device;
            }
        } else {
            if book.targets.len() >= ADDRESSES_MAX {
                let weakest = book.targets.iter().min_by_key(|(_, target)| (target.origin, target.failures == 0));
                let Some(weakest) = weakest.filter(|(_, target)| target.origin < origin).map(|(address, _)| *address)
                else {
                    return;
                };
                book.targets.remove(&weakest);
            }
            book.targets.insert(address, Target { device, origin, failures: 0, due: Some(now) });
        }
        drop(book);
        self.changed.notify_one();
    }

    /// Notes what multicast showed.
    pub(super) fn see(&self, address: SocketAddr, device: DeviceId) {
        let mut book = self.book();
        if book.seen.len() < ADDRESSES_MAX || book.seen.contains_key(&address) {
            book.seen.insert(address, device);
        }
    }

    /// Multicast has not heard of it for long.
    pub(super) fn forget_seen(&self, address: SocketAddr) {
        self.book().seen.remove(&address);
    }

    /// All addresses that multicast showed.
    pub(super) fn seen(&self) -> Vec<(SocketAddr, DeviceId)> {
        self.book().seen.iter().map(|(address, device)| (*address, *device)).collect()
    }

    /// The members changed: whoever is one now is dialled at once, wherever it was seen.
    pub(super) fn members_changed(&self, members: &Members) {
        let seen = self.seen();
        for (address, device) in seen.into_iter().filter(|(_, device)| members.contains(*device)) {
            self.learn(address, Some(device), Origin::Discovered);
        }
        let now = Instant::now();
        for target in self.book().targets.values_mut() {
            target.failures = 0;
            target.due = target.due.map(|_| now);
        }
        self.changed.notify_one();
    }

    /// Takes the addresses that are to be dialled now, and says when to ask again.
    pub(super) fn take_due(
        &self,
        count_max: usize,
        members: &Members,
        is_connected: impl Fn(DeviceId) -> bool,
        now: Instant,
    ) -> (Vec<(SocketAddr, Expected)>, Option<Instant>) {
        let mut due = Vec::new();
        let mut next: Option<Instant> = None;
        for (address, target) in &mut self.book().targets {
            let expected = match (target.device, target.origin) {
                (Some(device), _) if is_connected(device) => continue,
                // A configured address may belong to another member today.
                (_, Origin::Configured) => Expected::AnyMember,
                (Some(device), Origin::Discovered | Origin::Known) if members.contains(device) => {
                    Expected::Exactly(device)
                }
                (_, Origin::Discovered | Origin::Known) => continue,
            };
            match target.due {
                Some(at) if at <= now && due.len() < count_max => {
                    target.due = None;
                    due.push((*address, expected));
                }
                Some(at) => next = Some(next.map_or(at, |next| next.min(at))),
                None => {}
            }
        }
        (due, next)
    }

    /// A dial ended, at once or after its connection served.
    pub(super) fn dialled(&self, address: SocketAddr, outcome: Dialled, now: Instant) {
        let mut book = self.book();
        let Some(target) = book.targets.get_mut(&address) else { return };
        let longest = match outcome {
            Dialled::Ended(device) => {
                target.device = Some(device);
                target.failures = 0;
                RETRY_MIN
            }
            // Under a flood of strangers, trying often is what gets a member in.
            Dialled::Crowded => RETRY_MIN,
            Dialled::Unreachable => RETRY_MAX,
            // It begins with short waits, too: a device that was just paired may not know us for a moment.
            Dialled::Refused => RETRY_REFUSED_MAX,
        };
        let wait = RETRY_MIN.saturating_mul(1 << target.failures.min(10)).min(longest);
        target.failures = target.failures.saturating_add(1);
        // The fifth part spreads devices that lost one another at the same moment.
        let spread = wait.mul_f64(f64::from(address.port() % 97) / 97.0 / 5.0);
        target.due = Some(now + wait + spread);
        drop(book);
        self.changed.notify_one();
    }

    /// The last connection to `device` is gone: its addresses are due.
    pub(super) fn lost(&self, device: DeviceId, now: Instant) {
        for target in self.book().targets.values_mut().filter(|target| target.device == Some(device)) {
            target.due = target.due.map(|_| now);
        }
        self.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], number))
    }

    #[test]
    fn what_is_configured_or_was_reached_outlives_a_flood_of_found_addresses() {
        let addresses = Addresses::default();
        let stranger = DeviceId::from_bytes([1; 32]);
        for number in 0..1_000 {
            addresses.learn(address(number), Some(stranger), Origin::Discovered);
            addresses.see(address(number), stranger);
        }
        addresses.learn(address(2_000), None, Origin::Configured);
        assert_eq!(addresses.book().targets.len(), ADDRESSES_MAX);
        assert_eq!(addresses.seen().len(), ADDRESSES_MAX);
        let (due, _) = addresses.take_due(10, &Members::default(), |_| false, Instant::now());
        assert_eq!(due, [(address(2_000), Expected::AnyMember)], "a stranger is not dialled");
    }

    #[test]
    fn a_silent_address_is_tried_ever_less_often_and_at_once_when_its_device_is_lost() {
        let device = DeviceId::from_bytes([1; 32]);
        let members = Members::default();
        members.replace([device].into());
        let addresses = Addresses::default();
        let mut now = Instant::now();
        addresses.learn_at(address(1), Some(device), Origin::Known, now);
        let take_due = |now| addresses.take_due(10, &members, |_| false, now);
        let mut waits = Vec::new();
        for _ in 0..8 {
            assert_eq!(take_due(now).0.len(), 1);
            addresses.dialled(address(1), Dialled::Unreachable, now);
            let next = take_due(now).1.unwrap();
            waits.push(next - now);
            now = next;
        }
        assert!(waits.is_sorted() && waits[7] <= RETRY_MAX + RETRY_MAX / 5, "{waits:?}");
        take_due(now);
        addresses.dialled(address(1), Dialled::Unreachable, now);
        addresses.lost(device, now);
        assert_eq!(take_due(now).0.len(), 1);
    }
}
