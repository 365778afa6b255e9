//! The service manager: what systemd wants to hear (`sd_notify(3)`). Without one, nothing is said.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use crate::driver::Handle;
use crate::env::Env;

/// Tells the service manager something; best effort, as it may be gone.
pub(super) fn tell(what: &str) {
    let Some(place) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let bytes = place.as_bytes();
    let address = match bytes.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&place),
    };
    let sent = address.and_then(|address| UnixDatagram::unbound()?.send_to_addr(what.as_bytes(), &address));
    if let Err(error) = sent {
        tracing::debug!(%error, "the service manager does not listen");
    }
}

/// Feeds the watchdog for as long as the core answers.
pub(super) async fn watch_over<E: Env>(handle: Handle<E>) {
    let Some(every) = watchdog() else { return };
    loop {
        tokio::time::sleep(every).await;
        if super::alive(&handle).await {
            tell("WATCHDOG=1");
        } else {
            tracing::error!("the core does not answer; the watchdog is left hungry");
        }
    }
}

/// Half of the time after which the watchdog bites; `None` if there is none for this process.
fn watchdog() -> Option<Duration> {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let meant = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
    number("WATCHDOG_USEC").filter(|_| meant).map(|us| Duration::from_micros(us / 2))
}
