//! Pairing as people see it: one code at a time, how it stands, and what comes of it.
//!
//! The proof is the network's business. Here is who may join whom: the device that types the code joins the
//! library of the device that shows it, and only a device that is alone may leave its own library for that.

use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tidegate_protocol::limits::PAIRING_CODE_AGE_MS_MAX;

use super::NodeEnv;
use crate::api::PairingAsk;
use crate::api::document::{PairingDocument, PairingState};
use crate::api::problem::{Code, Problem};
use crate::core::command::{Command, Reply, StatusView};
use crate::core::io::Input;
use crate::driver::Handle;
use crate::format::Moment;
use crate::os::net::OsNetwork;
use crate::os::net::pairing::code::PairingCode;
use crate::os::net::pairing::door::Burned;
use crate::os::net::pairing::{PairError, PairFacts, Paired};

/// Longest time for a join: as many doors as multicast shows may have to be knocked at.
const JOIN_MAX: Duration = Duration::from_mins(1);

/// Pairing of one node.
pub(super) struct Pairing {
    network: OsNetwork,
    handle: Handle<NodeEnv>,
    shown: Mutex<PairingDocument>,
}

impl Pairing {
    pub(super) fn new(network: OsNetwork, handle: Handle<NodeEnv>) -> Self {
        Self { network, handle, shown: Mutex::default() }
    }

    /// Answers a person.
    pub(super) async fn ask(&self, ask: PairingAsk) -> Result<PairingDocument, Problem> {
        match ask {
            PairingAsk::Look => {}
            PairingAsk::Start => {
                let facts = self.facts().await?;
                let code = self.network.open_door(facts).map_err(|error| refused(&error))?;
                *self.lock() = PairingDocument {
                    state: PairingState::Open,
                    code: Some(code.to_string()),
                    expires: Some(Moment(now_ms() + PAIRING_CODE_AGE_MS_MAX)),
                    ..PairingDocument::default()
                };
            }
            PairingAsk::Cancel => {
                self.network.close_door();
                let mut shown = self.lock();
                if shown.state == PairingState::Open {
                    *shown = PairingDocument::default();
                }
            }
            PairingAsk::Join { code, at } => return self.join(&code, at).await,
        }
        Ok(self.lock().clone())
    }

    /// Somebody proved the code that this device shows.
    pub(super) async fn proved(&self, paired: &Paired) {
        if !paired.facts.alone {
            self.end("the other device belongs to a library with others; it must leave that first");
            return;
        }
        self.network.remember(paired.device, paired.address);
        self.admit(paired, false).await;
        *self.lock() = shown(paired);
    }

    /// The code that this device shows is dropped, unused.
    pub(super) fn burned(&self, why: Burned) {
        self.end(match why {
            Burned::Failures => "it was typed wrong too often, so the code was dropped",
            Burned::Age => "nobody proved the code in time",
            Burned::Interrupted => "the other device went away in the middle",
        });
    }

    async fn join(&self, code: &str, at: Option<SocketAddr>) -> Result<PairingDocument, Problem> {
        let code = PairingCode::parse(code).map_err(|error| refused(&error))?;
        let facts = self.facts().await?;
        if !facts.alone {
            let why = "this device belongs to a library with others already; whoever types the code joins the other's library";
            return Err(Problem::new(Code::Refused, "nothing was paired", why)
                .next("show the code here and type it there: tidegate pair")
                .next("or leave the library first: tidegate library leave"));
        }
        let joining = tokio::time::timeout(JOIN_MAX, self.network.join(&code, at, facts));
        let paired = joining
            .await
            .map_err(|_| Problem::new(Code::Unreachable, "nothing was paired", "no device answered in time"))?
            .map_err(|error| refused(&error))?;
        self.network.remember(paired.device, paired.address);
        self.admit(&paired, true).await;
        Ok(shown(&paired))
    }

    async fn admit(&self, paired: &Paired, joined: bool) {
        let facts = &paired.facts;
        let input = Input::Paired { device: paired.device, name: facts.name.clone(), library: facts.library, joined };
        self.handle.send(input).await;
    }

    /// What this device says of itself once a code is proved.
    async fn facts(&self) -> Result<PairFacts, Problem> {
        let StatusView { device, library, devices, .. } = match self.handle.command(Command::Status).await? {
            Reply::Status(status) => *status,
            _ => {
                return Err(Problem::new(
                    Code::Internal,
                    "nothing was paired",
                    "the core gave an answer of another kind",
                ));
            }
        };
        let alone = !devices.iter().any(|device| device.member);
        Ok(PairFacts { name: device.name, library, alone, port: self.network.local_addr().port() })
    }

    fn end(&self, why: &str) {
        *self.lock() =
            PairingDocument { state: PairingState::Expired, why: Some(why.to_owned()), ..PairingDocument::default() };
    }

    fn lock(&self) -> MutexGuard<'_, PairingDocument> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn shown(paired: &Paired) -> PairingDocument {
    PairingDocument {
        state: PairingState::Paired,
        device: Some(paired.facts.name.to_string()),
        short: Some(paired.device.short()),
        address: Some(paired.address.to_string()),
        check_words: Some(paired.check_words.join(" ")),
        ..PairingDocument::default()
    }
}

fn refused(error: &PairError) -> Problem {
    let code = match error {
        PairError::Malformed | PairError::TypoInWord { .. } | PairError::WrongCode { .. } => Code::PairCode,
        PairError::Closed(_) | PairError::Busy | PairError::TooSoon { .. } | PairError::Protocol(_) => Code::PairClosed,
        PairError::NotFound | PairError::Unreachable(_) => Code::Unreachable,
    };
    let next = match error {
        PairError::Malformed | PairError::TypoInWord { .. } => Some("type it again; no try was used"),
        PairError::NotFound => Some("where multicast is blocked: tidegate pair join --at IP:PORT"),
        PairError::Unreachable(_) => Some("is it running there, and is its UDP port open? tidegate doctor"),
        PairError::Closed(_) => Some("show a code there: tidegate pair"),
        PairError::WrongCode { .. } | PairError::Busy | PairError::TooSoon { .. } | PairError::Protocol(_) => None,
    };
    let problem = Problem::new(code, "nothing was paired", error.to_string());
    next.into_iter().fold(problem, Problem::next)
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}
