//! Letting connections in: few at a time until they have shown who they are.
//!
//! Whoever has not shown a member's key costs a bounded number of handshakes, in all and from one address,
//! and a bounded time. When all places are taken, the longest-lasting handshake yields to a new one once it
//! has had its fair time, so that silent connections cannot shut members out.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidegate_protocol::limits::{UNAUTHENTICATED_CONNECTIONS_MAX, UNAUTHENTICATED_PER_ADDRESS_MAX};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::Shared;
use super::counters::Reject;
use super::endpoint::{self, End};
use super::links::CloseCode;
use super::tls::{Purpose, identity_of};

/// A handshake that takes longer may be ended in favour of another one. A LAN needs milliseconds.
const FAIR_TIME: Duration = Duration::from_millis(500);
/// With this many handshakes under way, an address must first prove that it receives what it is sent.
const RETRY_FROM: usize = UNAUTHENTICATED_CONNECTIONS_MAX / 2;

#[derive(Debug)]
struct Handshake {
    from: IpAddr,
    began: Instant,
    end: Arc<Notify>,
}

/// The handshakes under way.
#[derive(Debug, Default)]
pub(super) struct Porch {
    handshakes: Mutex<(u64, BTreeMap<u64, Handshake>)>,
}

/// What to do with a new connection.
#[derive(Debug)]
enum Admission {
    Admit(Place),
    ProveAddress,
    Refuse,
}

/// A place on the porch; given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    porch: Arc<Porch>,
    number: u64,
    /// Notified when the place is wanted for another.
    end: Arc<Notify>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.porch.lock().1.remove(&self.number);
    }
}

impl Porch {
    fn lock(&self) -> MutexGuard<'_, (u64, BTreeMap<u64, Handshake>)> {
        self.handshakes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn admit(self: &Arc<Self>, from: IpAddr, address_proved: bool, now: Instant) -> Admission {
        let mut guard = self.lock();
        let (numbers, handshakes) = &mut *guard;
        if handshakes.len() >= RETRY_FROM && !address_proved {
            return Admission::ProveAddress;
        }
        let oldest = |same_address: bool| {
            let of_scope = handshakes.iter().filter(|(_, one)| !same_address || one.from == from);
            of_scope.min_by_key(|(_, one)| one.began).map(|(number, one)| (*number, now.duration_since(one.began)))
        };
        let same_address = handshakes.values().filter(|one| one.from == from).count();
        let yields = if same_address >= UNAUTHENTICATED_PER_ADDRESS_MAX {
            oldest(true)
        } else if handshakes.len() >= UNAUTHENTICATED_CONNECTIONS_MAX {
            oldest(false)
        } else {
            None
        };
        match yields {
            Some((_, age)) if age < FAIR_TIME => return Admission::Refuse,
            Some((number, _)) => {
                if let Some(one) = handshakes.remove(&number) {
                    one.end.notify_one();
                }
            }
            None => {}
        }
        *numbers += 1;
        let end = Arc::new(Notify::new());
        handshakes.insert(*numbers, Handshake { from, began: now, end: Arc::clone(&end) });
        Admission::Admit(Place { porch: Arc::clone(self), number: *numbers, end })
    }
}

impl Shared {
    /// Takes incoming connections for as long as the network lives.
    pub(super) async fn keep_accepting(self: Arc<Self>) {
        while let Some(incoming) = self.endpoint.accept().await {
            let from = incoming.remote_address().ip().to_canonical();
            match self.porch.admit(from, incoming.remote_address_validated(), Instant::now()) {
                Admission::Admit(place) => {
                    let shared = Arc::clone(&self);
                    self.spawn(async move { shared.take_in(incoming, place).await });
                }
                Admission::ProveAddress => {
                    // Cannot fail: the address was not proved yet.
                    let _ = incoming.retry();
                }
                Admission::Refuse => {
                    self.counters.reject(Reject::Unauthenticated);
                    incoming.refuse();
                }
            }
        }
    }

    async fn take_in(self: Arc<Self>, incoming: quinn::Incoming, place: Place) {
        let remote = incoming.remote_address().ip();
        let mut config = self.server_config.clone();
        config.crypto = Arc::new(self.tls.server(self.door.is_open()));
        config.transport_config(endpoint::transport(remote, End::Accepting, self.deadlines.idle));
        let Ok(connecting) = incoming.accept_with(Arc::new(config)) else {
            self.counters.reject(Reject::Handshake);
            return;
        };
        let connection = tokio::select! {
            finished = tokio::time::timeout(self.deadlines.handshake, connecting) => match finished {
                Ok(Ok(connection)) => connection,
                // The reason was counted where it was found, if it was a matter of identity.
                Ok(Err(_)) => return,
                Err(_) => return self.counters.reject(Reject::Handshake),
            },
            () = place.end.notified() => return self.counters.reject(Reject::Unauthenticated),
        };
        match identity_of(&connection) {
            Some((device, Purpose::Member)) if self.members.contains(device) => {
                drop(place);
                self.settle_accepted(connection, device).await;
            }
            Some((device, Purpose::Pairing)) => self.answer_door(connection, device, place).await,
            Some((_, Purpose::Member)) | None => {
                self.counters.reject(Reject::Stranger);
                connection.close(CloseCode::NotMember.into(), b"");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn places_are_few_per_address_and_in_all_and_an_old_one_yields() {
        let porch = Arc::new(Porch::default());
        let began = Instant::now();
        let admit = |last: u8, proved, now| porch.admit(IpAddr::from([10, 0, 0, last]), proved, now);
        let first = admit(1, true, began);
        let second = admit(1, true, began);
        assert!(matches!((&first, &second), (Admission::Admit(_), Admission::Admit(_))));
        assert!(matches!(admit(1, true, began), Admission::Refuse), "two per address");

        let others: Vec<Admission> = (2..20).map(|last| admit(last, true, began)).collect();
        let admitted = others.iter().filter(|one| matches!(one, Admission::Admit(_))).count();
        assert_eq!(admitted, UNAUTHENTICATED_CONNECTIONS_MAX - 2);
        assert!(matches!(admit(30, false, began), Admission::ProveAddress));

        let newcomer = admit(31, true, began + FAIR_TIME);
        assert!(matches!(newcomer, Admission::Admit(_)));
        let Admission::Admit(first) = first else { panic!("it was admitted") };
        first.end.notified().await;

        drop((others, newcomer));
        assert!(matches!(admit(30, false, began), Admission::Admit(_)), "places are given back");
    }
}
