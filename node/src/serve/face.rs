//! The node as the API sees it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tidegate_protocol::id::{DeviceId, LocationId, Nonce};
use tidegate_protocol::path::Name;
use tidegate_storage::disk::os::OsFileSystem;
use tidegate_storage::disk::{FileSystem, MarkError, Marker, RootDir, TreePath, load_rules, mark_root, read_marker};
use tokio::sync::watch;

use super::pairing::Pairing;
use super::{Life, NodeEnv, doctor};
use crate::api::document::{Check, DaemonDocument, PairingDocument, SettingDocument};
use crate::api::problem::{Code, Problem};
use crate::api::{Face, PairingAsk, PreparedRoot};
use crate::config::Settings;
use crate::core::command::{Command, Fault, Reply};
use crate::driver::Handle;
use crate::events::Listening;
use crate::os::net::OsNetwork;

/// What a face knows by itself.
pub(super) struct Parts {
    pub(super) state: PathBuf,
    pub(super) settings: Settings,
    pub(super) shown: Vec<SettingDocument>,
    pub(super) warnings: Vec<String>,
    pub(super) device: DeviceId,
}

/// A running node.
pub(super) struct NodeFace {
    parts: Parts,
    handle: Handle<NodeEnv>,
    pairing: Arc<Pairing>,
    life: Arc<watch::Sender<Life>>,
    network: OsNetwork,
    name: String,
}

impl NodeFace {
    /// Returns once the core answers.
    pub(super) async fn new(
        parts: Parts,
        handle: Handle<NodeEnv>,
        pairing: Arc<Pairing>,
        life: Arc<watch::Sender<Life>>,
        network: OsNetwork,
    ) -> Self {
        let name = match handle.command(Command::Status).await {
            Ok(Reply::Status(status)) => status.device.name.to_string(),
            _ => parts.settings.device_name.to_string(),
        };
        Self { parts, handle, pairing, life, network, name }
    }

    async fn prepare(&self, path: &Path, id: LocationId) -> Result<PreparedRoot, Problem> {
        let refuse = |why: String| {
            Problem::new(Code::RootRefused, format!("{} was not added; nothing was changed", path.display()), why)
        };
        let root = OsFileSystem.open_root(path).await.map_err(|error| refuse(error.to_string()))?;
        // What could be refused is looked at before anything is written.
        let (rules, _) = load_rules(&root).await.map_err(|error| refuse(error.to_string()))?;
        if let Some(old) = read_marker(&root).await.map_err(|error| refuse(error.to_string()))? {
            self.forget_marker(&root, old).await.map_err(|why| {
                refuse(why).next("if that location is gone for good, remove .tidegate/id there, then add it again")
            })?;
        }
        let marker = Marker { location: id, device: self.parts.device, nonce: Nonce::from_bytes(self.draw()) };
        let binding = mark_root(&root, marker).await.map_err(|error| match error {
            MarkError::AlreadyMarked => refuse("its marker .tidegate/id is there and cannot be read".to_owned()),
            MarkError::Occupied | MarkError::Io(_) => refuse(error.to_string()),
        })?;
        Ok(PreparedRoot { identity: binding.identity, rules })
    }

    /// Removes the marker that was made for `id`, and the directory that was made for it if nothing else is in it.
    async fn abandon(&self, path: &Path, id: LocationId) -> std::io::Result<()> {
        let root = OsFileSystem.open_root(path).await?;
        if read_marker(&root).await?.is_none_or(|marker| marker.location != id) {
            return Ok(());
        }
        let name = Name::new(b"id").expect("a plain name");
        root.remove_file(&TreePath::internal([&name])).await?;
        root.remove_dir(&TreePath::internal([])).await
    }

    /// A marker that this device made and whose location it has removed since gives way. Any other stays.
    async fn forget_marker<R: RootDir>(&self, root: &R, old: Marker) -> Result<(), String> {
        if old.device != self.parts.device {
            return Err(format!("it is a location of device {}", old.device.short()));
        }
        if self.handle.command(Command::Location(old.location.to_string())).await.is_ok() {
            return Err("it is a location of this device already, perhaps moved here from elsewhere".to_owned());
        }
        let name = Name::new(b"id").expect("a plain name");
        root.remove_file(&TreePath::internal([&name])).await.map_err(|error| error.to_string())
    }
}

impl Face for NodeFace {
    fn command(&self, command: Command) -> BoxFuture<'_, Result<Reply, Fault>> {
        self.handle.command(command).boxed()
    }

    fn prepare_root(&self, root: PathBuf, id: LocationId) -> BoxFuture<'_, Result<PreparedRoot, Problem>> {
        async move { self.prepare(&root, id).await }.boxed()
    }

    fn abandon_root(&self, root: PathBuf, id: LocationId) -> BoxFuture<'_, ()> {
        async move {
            if let Err(error) = self.abandon(&root, id).await {
                tracing::warn!(root = %root.display(), %error, "the marker of a refused location stays");
            }
        }
        .boxed()
    }

    fn ping(&self, device: DeviceId) -> BoxFuture<'_, Result<Duration, String>> {
        async move { self.network.ping(device).await.map_err(|error| error.to_string()) }.boxed()
    }

    fn listen(&self, last: Option<(u64, u64)>) -> Option<Listening> {
        self.handle.events().listen(last)
    }

    fn pairing(&self, ask: PairingAsk) -> BoxFuture<'_, Result<PairingDocument, Problem>> {
        self.pairing.ask(ask).boxed()
    }

    fn doctor(&self) -> BoxFuture<'_, Vec<Check>> {
        async move {
            let status = match self.handle.command(Command::Status).await {
                Ok(Reply::Status(status)) => Some(status),
                _ => None,
            };
            doctor::look(&self.parts.state, &self.parts.settings, status.as_deref(), self.network.local_addr()).await
        }
        .boxed()
    }

    fn ready(&self) -> Result<(), String> {
        match *self.life.borrow() {
            Life::Running => Ok(()),
            Life::Stopping => Err("the node is stopping".to_owned()),
        }
    }

    fn daemon(&self) -> DaemonDocument {
        DaemonDocument {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            name: self.name.clone(),
            short: self.parts.device.short(),
            id: self.parts.device.to_string(),
            listen: self.network.local_addr().to_string(),
            state: self.parts.state.display().to_string(),
            warnings: self.parts.warnings.clone(),
        }
    }

    fn settings(&self) -> Vec<SettingDocument> {
        self.parts.shown.clone()
    }

    fn gate_timeout_ms(&self) -> u64 {
        self.parts.settings.gate_timeout_ms
    }

    fn state_dir(&self) -> PathBuf {
        self.parts.state.clone()
    }

    fn draw(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
        bytes
    }

    fn stop(&self) {
        self.life.send_replace(Life::Stopping);
    }
}
