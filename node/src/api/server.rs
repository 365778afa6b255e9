//! The Unix socket: who may connect, and serving until told to stop.
//!
//! The socket is mode 0600 in a directory of mode 0700, and every connection's user is asked of the kernel: the
//! node's own user and root may speak, nobody else.

use std::future::Future;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::serve::Listener;
use tokio::net::unix::SocketAddr;
use tokio::net::{UnixListener, UnixStream};

use super::Face;

/// How long answers that are under way may take once the node stops.
const DRAIN: Duration = Duration::from_secs(2);

/// A listening socket that lets in this user and root alone.
pub struct Door {
    listener: UnixListener,
    uid: u32,
}

impl Door {
    /// Listens at `path`. The caller holds the state's lock, so a socket that is there already is a left-over.
    pub fn open(path: &Path) -> io::Result<Self> {
        let uid = rustix::process::getuid().as_raw();
        if let Some(parent) = path.parent() {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
            let found = std::fs::symlink_metadata(parent)?;
            if !found.is_dir() || found.uid() != uid {
                let what = format!("{} is not a directory of this user", parent.display());
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, what));
            }
            if found.permissions().mode() & 0o077 != 0 {
                std::fs::set_permissions(parent, std::fs::Permissions::from_mode(0o700))?;
            }
        }
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Self { listener, uid })
    }
}

impl Listener for Door {
    type Io = UnixStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (UnixStream, SocketAddr) {
        loop {
            let (stream, address) = Listener::accept(&mut self.listener).await;
            match stream.peer_cred() {
                Ok(peer) if peer.uid() == self.uid || peer.uid() == 0 => return (stream, address),
                Ok(peer) => tracing::warn!(uid = peer.uid(), "another user was turned away from the API socket"),
                Err(error) => tracing::warn!(%error, "a connection to the API socket would not say whose it is"),
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// Serves until `stopped` resolves, then gives open answers a moment.
pub async fn serve(door: Door, face: Arc<dyn Face>, stopped: impl Future<Output = ()> + Send + Clone + 'static) {
    let serving = axum::serve(door, super::router::router(face)).with_graceful_shutdown(stopped.clone());
    let serving = std::future::IntoFuture::into_future(serving);
    let overdue = async {
        stopped.await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        result = serving => {
            if let Err(error) = result {
                tracing::error!(%error, "the API socket failed");
            }
        }
        () = overdue => {}
    }
}
