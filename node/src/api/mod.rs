//! The API: one router on a Unix socket, spoken by the command line and by whoever else runs as this user.
//!
//! It decides nothing: every handler turns a request into one [`Command`] (or a question to the parts beside
//! the core: pairing, doctor, configuration) and the answer into a document. [`Face`] is all it knows of the
//! node. Words and documents are in [`words`] and [`document`], refusals in [`problem`].

pub mod body;
pub mod client;
pub mod conflicts;
pub mod document;
mod document_conflict;
mod document_plan;
pub mod problem;
pub mod root;
pub mod router;
pub mod server;
pub mod words;

use std::net::SocketAddr;
use std::path::PathBuf;

use futures::future::BoxFuture;
use tidegate_protocol::id::LocationId;
use tidegate_storage::disk::RootIdentity;

use crate::core::command::{Command, Fault, Reply};
use document::{Check, DaemonDocument, PairingDocument, SettingDocument};
use problem::Problem;

/// What the API needs of a node.
pub trait Face: Send + Sync + 'static {
    /// Asks the core.
    fn command(&self, command: Command) -> BoxFuture<'_, Result<Reply, Fault>>;

    /// Makes a directory ready to be a location: its marker is written and its rules are read. `root` is
    /// canonical and was checked against the other locations.
    fn prepare_root(&self, root: PathBuf, id: LocationId) -> BoxFuture<'_, Result<PreparedRoot, Problem>>;

    /// Pairs.
    fn pairing(&self, ask: PairingAsk) -> BoxFuture<'_, Result<PairingDocument, Problem>>;

    /// Looks at everything around the node that often goes wrong.
    fn doctor(&self) -> BoxFuture<'_, Vec<Check>>;

    /// Why the node does not serve yet or any more; `Ok` while it does.
    fn ready(&self) -> Result<(), String>;

    /// The daemon itself.
    fn daemon(&self) -> DaemonDocument;

    /// The settings in force.
    fn settings(&self) -> Vec<SettingDocument>;

    /// How long `plan` and `sync` wait for the gate when nobody says, in milliseconds.
    fn gate_timeout_ms(&self) -> u64;

    /// The directory that no location may hold or lie in.
    fn state_dir(&self) -> PathBuf;

    /// 16 unpredictable bytes.
    fn draw(&self) -> [u8; 16];

    /// Begins to stop the node.
    fn stop(&self);
}

/// What is asked of pairing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PairingAsk {
    /// How it stands.
    Look,
    /// Shows a new code; an older one is withdrawn.
    Start,
    /// Withdraws the code.
    Cancel,
    /// Proves a code that another device shows; answers when it is proved or refused.
    Join {
        /// As typed.
        code: String,
        /// Where the other device is, when it cannot be found.
        at: Option<SocketAddr>,
    },
}

/// A directory that is ready to be a location.
#[derive(Debug, Clone)]
pub struct PreparedRoot {
    /// What it is.
    pub identity: RootIdentity,
    /// Its effective ignore rules.
    pub rules: Vec<String>,
}
