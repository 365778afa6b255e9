//! What `doctor` looks at. It changes nothing but two files that it makes and removes in `.tidegate/`.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use tidegate_protocol::path::Name;
use tidegate_storage::disk::os::OsFileSystem;
use tidegate_storage::disk::{FileSystem, RenameMode, RootDir, TreePath};

use crate::api::document::{Check, CheckState};
use crate::config::{Settings, Watcher};
use crate::core::command::{ConduitView, LocationView, StatusView};
use crate::format::{bytes, number};

/// Socket buffer that carries a fast link, in bytes.
const UDP_BUFFER_BYTES: u64 = 4 << 20;
/// 2026-01-01: a clock before the first release is wrong.
const FIRST_RELEASE_S: u64 = 1_767_225_600;

/// Looks at everything.
pub(super) async fn look(
    state: &Path,
    settings: &Settings,
    status: Option<&StatusView>,
    listen: SocketAddr,
) -> Vec<Check> {
    let (locations, conduits) = status.map_or((&[][..], &[][..]), |status| (&status.locations, &status.conduits));
    let here: Vec<&LocationView> = locations.iter().filter(|location| location.here).collect();
    let mut checks =
        vec![key(state), clock(), watches(settings, &here), udp_buffer(), listening(listen), state_space(state)];
    for location in here {
        checks.extend(root(location, settings.min_free).await);
    }
    checks.extend(conduits.iter().filter_map(refused));
    checks
}

fn check(what: impl Into<String>, state: CheckState, found: impl Into<String>, next: Option<String>) -> Check {
    Check { what: what.into(), state, found: found.into(), next }
}

fn key(state: &Path) -> Check {
    let path = state.join("identity.key");
    match std::fs::metadata(&path) {
        Ok(found) => {
            let mode = found.permissions().mode() & 0o7777;
            let others = mode & 0o077;
            let good = others == 0;
            let state = if good { CheckState::Ok } else { CheckState::Fail };
            check(
                "key",
                state,
                format!("{} has mode {mode:04o}", path.display()),
                Some(format!("chmod 600 {}", path.display())),
            )
        }
        Err(error) => check(
            "key",
            CheckState::Fail,
            format!("{}: {error}", path.display()),
            Some("restore it from a backup".to_owned()),
        ),
    }
}

fn clock() -> Check {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    if now >= FIRST_RELEASE_S {
        return check("clock", CheckState::Ok, "later than this program", None);
    }
    check(
        "clock",
        CheckState::Fail,
        "it stands before this program was made",
        Some("set the clock, or start NTP".to_owned()),
    )
}

fn watches(settings: &Settings, here: &[&LocationView]) -> Check {
    if settings.watcher == Watcher::Poll {
        return check("watches", CheckState::Ok, "switched off by index.watcher; locations are scanned", None);
    }
    let directories: u64 = here.iter().map(|location| location.directories + 1).sum();
    let Some(limit) = kernel_number("/proc/sys/fs/inotify/max_user_watches") else {
        return check("watches", CheckState::Warn, "the kernel does not say its limit", None);
    };
    let found = format!("{} directories, the kernel allows {} watches", number(directories), number(limit));
    // Other programs of the same user need watches, too.
    let state = if directories.saturating_mul(2) <= limit { CheckState::Ok } else { CheckState::Warn };
    let wanted = (directories * 4).max(524_288);
    check("watches", state, found, Some(format!("sysctl fs.inotify.max_user_watches={wanted}")))
}

fn udp_buffer() -> Check {
    let numbers = ["rmem_max", "wmem_max"].map(|name| kernel_number(&format!("/proc/sys/net/core/{name}")));
    let [Some(receive), Some(send)] = numbers else {
        return check("UDP buffers", CheckState::Warn, "the kernel does not say its limits", None);
    };
    let found = format!("at most {} to receive, {} to send", bytes(receive), bytes(send));
    let state = if receive.min(send) >= UDP_BUFFER_BYTES { CheckState::Ok } else { CheckState::Warn };
    let next = format!("sysctl net.core.rmem_max={UDP_BUFFER_BYTES} net.core.wmem_max={UDP_BUFFER_BYTES}");
    check("UDP buffers", state, found, Some(next))
}

fn listening(listen: SocketAddr) -> Check {
    if listen.ip().is_loopback() {
        let next = "set network.listen to an address that others reach".to_owned();
        return check("listen", CheckState::Warn, format!("{listen}: this machine alone can reach it"), Some(next));
    }
    check("listen", CheckState::Ok, format!("UDP and TCP {listen}"), None)
}

/// A conduit that exists and never runs, until a person has decided between two.
fn refused(conduit: &ConduitView) -> Option<Check> {
    let refused = conduit.refused.as_ref()?;
    let next = format!("tidegate conduit remove {}, or: tidegate conduit remove {}", refused.name, refused.older);
    let found = format!("it does not run: {}", refused.why);
    Some(check(format!("conduit {}", conduit.name), CheckState::Warn, found, Some(next)))
}

fn state_space(state: &Path) -> Check {
    match rustix::fs::statvfs(state) {
        Ok(volume) => {
            let free = volume.f_bavail.saturating_mul(volume.f_frsize);
            let state = if free >= 64 << 20 { CheckState::Ok } else { CheckState::Fail };
            check("state", state, format!("{} free for the index", bytes(free)), Some("make room".to_owned()))
        }
        Err(error) => check("state", CheckState::Fail, error.to_string(), None),
    }
}

async fn root(location: &LocationView, free_min: u64) -> Vec<Check> {
    let name = format!("location {}", location.name);
    let root = match OsFileSystem.open_root(Path::new(&location.root)).await {
        Ok(root) => root,
        Err(error) => {
            let next = "mount it, then: tidegate location rescan NAME".to_owned();
            return vec![check(name, CheckState::Fail, format!("{}: {error}", location.root), Some(next))];
        }
    };
    let space = match root.space().await {
        Ok(space) => {
            let state = if space.free > free_min { CheckState::Ok } else { CheckState::Warn };
            let next = format!("make room: jobs leave {} free", bytes(free_min));
            check(
                format!("{name}, space"),
                state,
                format!("{} of {} free", bytes(space.free), bytes(space.total)),
                Some(next),
            )
        }
        Err(error) => check(format!("{name}, space"), CheckState::Fail, error.to_string(), None),
    };
    let exchange = match exchange(&root).await {
        Ok(()) => check(format!("{name}, file system"), CheckState::Ok, "exchanges files atomically", None),
        Err(error) => check(
            format!("{name}, file system"),
            CheckState::Warn,
            format!("files cannot be replaced without a gap: {error}"),
            Some("use a file system with RENAME_EXCHANGE (ext4, xfs, btrfs, tmpfs) and write access".to_owned()),
        ),
    };
    vec![space, exchange]
}

/// Tries what the replace sequence needs.
async fn exchange<R: RootDir>(root: &R) -> std::io::Result<()> {
    let [one, two] = [b"doctor-1".as_slice(), b"doctor-2"].map(|name| {
        let name = Name::new(name).expect("a plain name");
        TreePath::internal([&name])
    });
    for path in [&one, &two] {
        match root.remove_file(path).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        drop(root.create(path).await?);
    }
    let exchanged = root.rename(&one, &two, RenameMode::Exchange).await;
    for path in [&one, &two] {
        root.remove_file(path).await?;
    }
    exchanged
}

fn kernel_number(path: &str) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}
