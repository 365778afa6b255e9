//! How a stranger becomes a member: both ends prove that they know one short-lived code.
//!
//! ```text
//! joining device                            door (shows the code)
//!   Begin { number, point }          ->
//!                                    <-     Begin { point }       or Refused
//!   Confirm(confirmation)            ->
//!                                    <-     Proved { confirmation, facts }   or Refused
//!   Facts(facts)                     ->
//!                                    <-     Done
//! ```
//!
//! It runs on a QUIC connection of its own protocol, on which both device keys were shown. Nothing that
//! depends on the secret words is sent but SPAKE2's points, and no fact is told before the other end has
//! proved the code. Each end takes exactly the next message; any other ends the conversation.

pub mod code;
pub mod door;
pub mod proof;
mod talk;

use std::net::SocketAddr;
use std::time::Duration;

use futures::StreamExt;
use serde::{Deserialize, Serialize};
use tidegate_protocol::id::{DeviceId, Label, LibraryId};
use tokio::time::Instant;

use self::code::PairingCode;
use self::door::Burned;
use super::{NetworkEvent, OsNetwork};

/// Addresses at which a code is tried at a time.
const KNOCKS_MAX: usize = 8;

/// What each end tells the other once the code is proved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairFacts {
    /// Name of the device.
    pub name: Label,
    /// Its library.
    pub library: LibraryId,
    /// Whether it is alone in it, and so free to join another.
    pub alone: bool,
    /// Port on which it accepts connections.
    pub port: u16,
}

/// A device that proved the code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paired {
    /// Which, as TLS proved it.
    pub device: DeviceId,
    /// Where it accepts connections.
    pub address: SocketAddr,
    /// What it says of itself.
    pub facts: PairFacts,
    /// Two words for people to compare: equal at both ends.
    pub check_words: [&'static str; 2],
}

/// Why pairing did not happen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PairError {
    /// The text is not a code.
    #[error("a code is a number of four digits and two words, such as 4821-otter-violet")]
    Malformed,
    /// A word is not in the list; nothing was sent.
    #[error("{word:?} is not a word of any code; did you mean {nearest:?}?")]
    TypoInWord {
        /// What was typed.
        word: String,
        /// The nearest word of the list.
        nearest: &'static str,
    },
    /// The other device showed another code.
    #[error("that code is not right ({tries_left} tries left)")]
    WrongCode {
        /// How many more the other device allows before it drops its code.
        tries_left: u32,
    },
    /// The device shows no code now.
    #[error("the device at {0} shows no code now")]
    Closed(SocketAddr),
    /// No device with this number was found.
    #[error("no device that shows this number was found")]
    NotFound,
    /// Nobody answers at the address.
    #[error("nobody answers at {0}")]
    Unreachable(SocketAddr),
    /// Another device is trying the code right now.
    #[error("another device is trying the code right now")]
    Busy,
    /// A code was dropped just now.
    #[error("the last code was dropped just now; wait {} s", wait.as_secs() + 1)]
    TooSoon {
        /// How long.
        wait: Duration,
    },
    /// The other end broke the protocol or went away.
    #[error("the pairing was broken off: {0}")]
    Protocol(&'static str),
}

impl OsNetwork {
    /// Shows a code: until it is used, dropped or closed, a device that knows it may pair. A code that was
    /// shown before is dropped.
    pub fn open_door(&self, facts: PairFacts) -> Result<PairingCode, PairError> {
        let code = PairingCode::draw();
        let serial = self.shared.door.open(code.clone(), facts, Instant::now())?;
        let shared = std::sync::Arc::clone(&self.shared);
        self.shared.spawn(async move {
            tokio::time::sleep(shared.deadlines.code).await;
            if shared.door.burn(serial, Instant::now()) {
                let _ = shared.events.send(NetworkEvent::PairingBurned(Burned::Age)).await;
            }
        });
        Ok(code)
    }

    /// Drops the code that is shown, if one is.
    pub fn close_door(&self) {
        self.shared.door.close();
    }

    /// Proves `code` to the device that shows it: at an address, or wherever multicast shows a device.
    pub async fn join(
        &self,
        code: &PairingCode,
        at: Option<SocketAddr>,
        facts: PairFacts,
    ) -> Result<Paired, PairError> {
        let shared = &self.shared;
        let addresses = match at {
            Some(address) => vec![address],
            None => shared.addresses.seen().into_iter().map(|(address, _)| address).collect(),
        };
        // Knocking is done at many doors at a time, proving at one: a wrong code is tried once and no more.
        let knocks = addresses.into_iter().map(|address| async move { (address, shared.knock(address).await) });
        let mut doors = futures::stream::iter(knocks).buffer_unordered(KNOCKS_MAX);
        let mut why = PairError::NotFound;
        while let Some((address, knocked)) = doors.next().await {
            let outcome = match knocked {
                Ok(connection) => shared.prove(&connection, address, code, facts.clone()).await,
                Err(error) => Err(error),
            };
            match outcome {
                Ok(paired) => return Ok(paired),
                Err(error @ PairError::WrongCode { .. }) => return Err(error),
                // With one address its error is the answer; with many, only one that had the number.
                Err(error @ (PairError::Closed(_) | PairError::Unreachable(_))) if at.is_none() => {
                    tracing::debug!(%address, %error, "no door here");
                }
                Err(PairError::NotFound) => {}
                Err(error) => why = error,
            }
        }
        Err(why)
    }
}
