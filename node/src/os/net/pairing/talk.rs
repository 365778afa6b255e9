//! The conversation of a pairing over QUIC: messages, and the two ends.

use std::net::SocketAddr;
use std::time::Duration;

use quinn::{ConnectionError, RecvStream, SendStream, TransportErrorCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tidegate_protocol::codec;
use tidegate_protocol::id::DeviceId;
use tokio::time::Instant;

use super::code::PairingCode;
use super::door::{Burned, NoVisit, Visit};
use super::proof::{Begun, Channel, Confirmation, Point, Proved, Role};
use super::{PairError, PairFacts, Paired};
use crate::os::net::accept::Place;
use crate::os::net::counters::Reject;
use crate::os::net::dial::DialError;
use crate::os::net::links::CloseCode;
use crate::os::net::tls::{Expected, Purpose};
use crate::os::net::{NetworkEvent, Shared};

/// Largest message, in bytes: facts with the longest name fit easily.
const MESSAGE_BYTES_MAX: usize = 1024;
/// Label of the keying material taken from TLS (RFC 5705).
const EXPORTER_LABEL: &[u8] = b"EXPORTER-tidegate-pair-1";
/// TLS alert `no_application_protocol`: the other end is a node whose door is closed.
const ALERT_NO_PROTOCOL: u8 = 120;

/// From the joining device.
#[derive(Debug, Serialize, Deserialize)]
enum ToDoor {
    Begin { number: u16, point: Point },
    Confirm(Confirmation),
    Facts(PairFacts),
}

/// From the device that shows the code.
#[derive(Debug, Serialize, Deserialize)]
enum FromDoor {
    Begin { point: Point },
    Proved { confirmation: Confirmation, facts: PairFacts },
    Done,
    Refused(Refused),
}

/// Why the door stays shut.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum Refused {
    Closed,
    Busy,
    OtherNumber,
    WrongCode { tries_left: u32 },
}

/// Wait before knocking again at a door with too many in front of it.
const KNOCK_AGAIN: Duration = Duration::from_millis(100);
/// How long the other end has to take our last message before we close.
const LAST_WORD_MAX: Duration = Duration::from_secs(1);

/// A stream on which messages are said and heard, each a length (u32, big-endian) and postcard.
struct Talk {
    send: SendStream,
    receive: RecvStream,
}

impl Talk {
    async fn say<T: Serialize>(&mut self, message: &T) -> Result<(), PairError> {
        let bytes = codec::encode(message);
        let length = u32::try_from(bytes.len()).expect("pairing messages are small").to_be_bytes();
        self.send.write_all(&[&length[..], &bytes].concat()).await.map_err(|_| PairError::Protocol("connection lost"))
    }

    async fn refuse<T>(&mut self, why: Refused) -> Result<Option<T>, PairError> {
        self.say(&FromDoor::Refused(why)).await?;
        let _ = self.send.finish();
        Ok(None)
    }

    async fn hear<T: Serialize + DeserializeOwned>(&mut self) -> Result<T, PairError> {
        let lost = |_| PairError::Protocol("connection lost");
        let mut length = [0; 4];
        self.receive.read_exact(&mut length).await.map_err(lost)?;
        let length = u32::from_be_bytes(length) as usize;
        if length == 0 || length > MESSAGE_BYTES_MAX {
            return Err(PairError::Protocol("a message of a wrong length"));
        }
        let mut bytes = vec![0; length];
        self.receive.read_exact(&mut bytes).await.map_err(lost)?;
        codec::decode(&bytes).map_err(|_| PairError::Protocol("a message that does not decode"))
    }
}

fn exporter(connection: &quinn::Connection) -> Result<[u8; 32], PairError> {
    let mut material = [0; 32];
    let exported = connection.export_keying_material(&mut material, EXPORTER_LABEL, b"");
    exported.map_err(|_| PairError::Protocol("no keying material"))?;
    Ok(material)
}

impl Shared {
    /// Connects to whoever is at `address`, for pairing.
    pub(super) async fn knock(&self, address: SocketAddr) -> Result<quinn::Connection, PairError> {
        let give_up = Instant::now() + self.deadlines.handshake;
        loop {
            match self.dial(address, Purpose::Pairing, Expected::Anyone).await {
                Ok(connection) => return Ok(connection),
                Err(DialError::Crowded) if Instant::now() < give_up => tokio::time::sleep(KNOCK_AGAIN).await,
                Err(DialError::Refused(ConnectionError::ConnectionClosed(close)))
                    if close.error_code == TransportErrorCode::crypto(ALERT_NO_PROTOCOL) =>
                {
                    return Err(PairError::Closed(address));
                }
                Err(DialError::Refused(_) | DialError::Unreachable | DialError::Crowded) => {
                    return Err(PairError::Unreachable(address));
                }
            }
        }
    }

    /// The joining end of the conversation.
    pub(super) async fn prove(
        &self,
        connection: &quinn::Connection,
        address: SocketAddr,
        code: &PairingCode,
        facts: PairFacts,
    ) -> Result<Paired, PairError> {
        let talk = self.prove_now(connection, address, code, facts);
        let outcome = tokio::time::timeout(self.deadlines.pairing, talk).await;
        connection.close(CloseCode::PairingOver.into(), b"");
        outcome.unwrap_or(Err(PairError::Protocol("no answer in time")))
    }

    async fn prove_now(
        &self,
        connection: &quinn::Connection,
        address: SocketAddr,
        code: &PairingCode,
        facts: PairFacts,
    ) -> Result<Paired, PairError> {
        let (door, _) = crate::os::net::tls::identity_of(connection).ok_or(PairError::Protocol("no identity"))?;
        let (send, receive) = connection.open_bi().await.map_err(|_| PairError::Closed(address))?;
        let mut talk = Talk { send, receive };
        let channel = Channel { joining: self.me, door, exporter: exporter(connection)? };
        let (begun, point) = Begun::new(Role::Joining, code, channel);
        talk.say(&ToDoor::Begin { number: code.number(), point }).await?;
        let refused = |refused| match refused {
            Refused::Closed => PairError::Closed(address),
            Refused::Busy => PairError::Busy,
            Refused::OtherNumber => PairError::NotFound,
            Refused::WrongCode { tries_left } => PairError::WrongCode { tries_left },
        };
        let theirs = match talk.hear().await? {
            FromDoor::Begin { point } => point,
            FromDoor::Refused(why) => return Err(refused(why)),
            FromDoor::Proved { .. } | FromDoor::Done => return Err(PairError::Protocol("a message out of order")),
        };
        let keyed = begun.receive(theirs).map_err(|_| PairError::Protocol("a point that is none"))?;
        talk.say(&ToDoor::Confirm(keyed.confirmation())).await?;
        let (confirmation, their_facts) = match talk.hear().await? {
            FromDoor::Proved { confirmation, facts } => (confirmation, facts),
            FromDoor::Refused(why) => return Err(refused(why)),
            FromDoor::Begin { .. } | FromDoor::Done => return Err(PairError::Protocol("a message out of order")),
        };
        let proved = keyed.check(confirmation).map_err(|_| PairError::Protocol("it does not know the code"))?;
        talk.say(&ToDoor::Facts(facts)).await?;
        match talk.hear().await? {
            FromDoor::Done => {}
            FromDoor::Begin { .. } | FromDoor::Proved { .. } | FromDoor::Refused(_) => {
                return Err(PairError::Protocol("a message out of order"));
            }
        }
        let address = SocketAddr::new(address.ip(), their_facts.port);
        Ok(Paired { device: door, address, facts: their_facts, check_words: proved.check_words() })
    }

    /// The end that shows the code: one visitor, bounded in time. `place` keeps the visitor counted among
    /// those who have not shown a member's key.
    pub(in crate::os::net) async fn answer_door(&self, connection: quinn::Connection, visitor: DeviceId, place: Place) {
        let limit = self.deadlines.pairing;
        let broken = |error: PairError| {
            tracing::debug!(%error, visitor = visitor.short(), "pairing visit");
            self.counters.reject(Reject::Pairing);
            // There is no last word to wait for.
            connection.close(CloseCode::PairingOver.into(), b"");
        };
        match tokio::time::timeout(limit, self.check_visitor(&connection, visitor)).await {
            Ok(Ok(Some(admitted))) => {
                let exchanged = tokio::time::timeout(limit, admitted.exchange(&connection, visitor)).await;
                let event = if let Ok(Ok(paired)) = exchanged {
                    self.counters.pairing_proved();
                    NetworkEvent::PairingProved(paired)
                } else {
                    NetworkEvent::PairingBurned(Burned::Interrupted)
                };
                // Nobody listens any more only when the node stops.
                let _ = self.events.send(event).await;
            }
            Ok(Ok(None)) => {}
            Ok(Err(error)) => broken(error),
            Err(_) => broken(PairError::Protocol("no answer in time")),
        }
        // The other end closes once it has our last word.
        let _ = tokio::time::timeout(LAST_WORD_MAX, connection.closed()).await;
        connection.close(CloseCode::PairingOver.into(), b"");
        drop(place);
    }

    /// Lets the visitor try its code; `None` when it was told no.
    async fn check_visitor(
        &self,
        connection: &quinn::Connection,
        visitor: DeviceId,
    ) -> Result<Option<Admitted>, PairError> {
        let (send, receive) = connection.accept_bi().await.map_err(|_| PairError::Protocol("connection lost"))?;
        let mut talk = Talk { send, receive };
        let (number, point) = match talk.hear().await? {
            ToDoor::Begin { number, point } => (number, point),
            ToDoor::Confirm(_) | ToDoor::Facts(_) => return Err(PairError::Protocol("a message out of order")),
        };
        let visit = match self.door.visit() {
            Ok(visit) if visit.code.number() == number => visit,
            Ok(_) => return talk.refuse(Refused::OtherNumber).await,
            Err(NoVisit::Closed) => return talk.refuse(Refused::Closed).await,
            Err(NoVisit::Busy) => return talk.refuse(Refused::Busy).await,
        };
        let channel = Channel { joining: visitor, door: self.me, exporter: exporter(connection)? };
        let (begun, own) = Begun::new(Role::Door, &visit.code, channel);
        let Ok(keyed) = begun.receive(point) else { return self.count_failure(&visit, talk).await };
        talk.say(&FromDoor::Begin { point: own }).await?;
        let theirs = match talk.hear().await? {
            ToDoor::Confirm(confirmation) => confirmation,
            ToDoor::Begin { .. } | ToDoor::Facts(_) => return Err(PairError::Protocol("a message out of order")),
        };
        let confirmation = keyed.confirmation();
        let Ok(proved) = keyed.check(theirs) else { return self.count_failure(&visit, talk).await };
        if !visit.use_up() {
            return talk.refuse(Refused::Closed).await;
        }
        Ok(Some(Admitted { talk, proved, confirmation, facts: visit.facts.clone() }))
    }

    async fn count_failure(&self, visit: &Visit<'_>, mut talk: Talk) -> Result<Option<Admitted>, PairError> {
        self.counters.pairing_failed();
        let tries_left = visit.fail(Instant::now());
        let event = match tries_left {
            0 => NetworkEvent::PairingBurned(Burned::Failures),
            tries_left => NetworkEvent::PairingFailed { tries_left },
        };
        // Nobody listens any more only when the node stops.
        let _ = self.events.send(event).await;
        talk.refuse(Refused::WrongCode { tries_left }).await
    }
}

/// A visitor that proved the code; what is left is to exchange facts.
struct Admitted {
    talk: Talk,
    proved: Proved,
    confirmation: Confirmation,
    facts: PairFacts,
}

impl Admitted {
    async fn exchange(mut self, connection: &quinn::Connection, visitor: DeviceId) -> Result<Paired, PairError> {
        self.talk.say(&FromDoor::Proved { confirmation: self.confirmation, facts: self.facts }).await?;
        let facts = match self.talk.hear().await? {
            ToDoor::Facts(facts) => facts,
            ToDoor::Begin { .. } | ToDoor::Confirm(_) => return Err(PairError::Protocol("a message out of order")),
        };
        self.talk.say(&FromDoor::Done).await?;
        let _ = self.talk.send.finish();
        let address = SocketAddr::new(connection.remote_address().ip().to_canonical(), facts.port);
        Ok(Paired { device: visitor, address, facts, check_words: self.proved.check_words() })
    }
}
