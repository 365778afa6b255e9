//! Where a node's files live.
//!
//! With a home, everything is in it. Without one, the XDG directories decide, or those that systemd gives.
//! A socket path that the kernel would not take is replaced by one that follows from it, so that daemon and
//! command line always agree.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Longest path of a Unix socket, in bytes, with its ending NUL (`sun_path`).
const SOCKET_PATH_BYTES_MAX: usize = 108;

/// The places of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The configuration file; need not exist.
    pub config: PathBuf,
    /// Identity, replica, log: mode 0700.
    pub state: PathBuf,
    /// Where the API listens unless the configuration says otherwise.
    pub socket: PathBuf,
}

/// What decides about places: flags and environment, as they were given.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// `--home` or `TIDEGATE_HOME`.
    pub home: Option<PathBuf>,
    /// `TIDEGATE_CONFIG`.
    pub config: Option<PathBuf>,
    /// `XDG_CONFIG_HOME`.
    pub xdg_config: Option<PathBuf>,
    /// `XDG_STATE_HOME`.
    pub xdg_state: Option<PathBuf>,
    /// `XDG_RUNTIME_DIR`.
    pub xdg_runtime: Option<PathBuf>,
    /// `STATE_DIRECTORY`, as systemd sets it.
    pub state_directory: Option<PathBuf>,
    /// `HOME`.
    pub user_home: Option<PathBuf>,
    /// The user's number, for the directory of a socket whose path would be too long.
    pub uid: u32,
}

impl Surroundings {
    /// Of this process.
    pub fn here(home: Option<PathBuf>) -> Self {
        // A relative XDG directory is to be ignored (XDG Base Directory Specification).
        let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        Self {
            home: home.map(|path| std::path::absolute(&path).unwrap_or(path)),
            config: absolute("TIDEGATE_CONFIG"),
            xdg_config: absolute("XDG_CONFIG_HOME"),
            xdg_state: absolute("XDG_STATE_HOME"),
            xdg_runtime: absolute("XDG_RUNTIME_DIR"),
            state_directory: absolute("STATE_DIRECTORY"),
            user_home: absolute("HOME"),
            uid: rustix::process::getuid().as_raw(),
        }
    }

    /// The places; `None` if nothing says where the user's files are.
    pub fn layout(&self) -> Option<Layout> {
        if let Some(home) = &self.home {
            let config = self.config.clone().unwrap_or_else(|| home.join("config.toml"));
            let socket = self.fitting(home.join("tidegate.sock"));
            return Some(Layout { config, state: home.clone(), socket });
        }
        let below_home = |path: &str| self.user_home.as_ref().map(|home| home.join(path));
        let state = match &self.state_directory {
            Some(directory) => directory.clone(),
            None => self.xdg_state.clone().or_else(|| below_home(".local/state"))?.join("tidegate"),
        };
        let config = match &self.config {
            Some(path) => path.clone(),
            None => self.xdg_config.clone().or_else(|| below_home(".config"))?.join("tidegate/config.toml"),
        };
        let runtime = self.xdg_runtime.as_ref().map(|path| path.join("tidegate"));
        let socket = self.fitting(runtime.unwrap_or_else(|| state.clone()).join("tidegate.sock"));
        Some(Layout { config, state, socket })
    }

    fn fitting(&self, socket: PathBuf) -> PathBuf {
        let bytes = socket.as_os_str().as_bytes();
        if bytes.len() < SOCKET_PATH_BYTES_MAX {
            return socket;
        }
        let name = &blake3::hash(bytes).to_hex()[..16];
        let directory = format!("/tmp/tidegate-{}", self.uid);
        Path::new(&directory).join(format!("{name}.sock"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Option<PathBuf> {
        Some(PathBuf::from(text))
    }

    #[test]
    fn places_follow_from_what_is_given() {
        let plain = Surroundings { user_home: path("/home/ana"), uid: 7, ..Surroundings::default() };
        let check = |given: Surroundings, config: &str, state: &str, socket: &str| {
            let want = Layout { config: config.into(), state: state.into(), socket: socket.into() };
            assert_eq!(given.layout(), Some(want));
        };
        check(
            plain.clone(),
            "/home/ana/.config/tidegate/config.toml",
            "/home/ana/.local/state/tidegate",
            "/home/ana/.local/state/tidegate/tidegate.sock",
        );
        check(
            Surroundings {
                xdg_runtime: path("/run/user/7"),
                xdg_state: path("/s"),
                xdg_config: path("/c"),
                ..plain.clone()
            },
            "/c/tidegate/config.toml",
            "/s/tidegate",
            "/run/user/7/tidegate/tidegate.sock",
        );
        check(
            Surroundings { home: path("/h"), xdg_state: path("/s"), ..plain.clone() },
            "/h/config.toml",
            "/h",
            "/h/tidegate.sock",
        );
        check(
            Surroundings {
                state_directory: path("/var/lib/tidegate"),
                config: path("/etc/tidegate/config.toml"),
                ..Surroundings::default()
            },
            "/etc/tidegate/config.toml",
            "/var/lib/tidegate",
            "/var/lib/tidegate/tidegate.sock",
        );
        assert_eq!(Surroundings::default().layout(), None);
    }

    #[test]
    fn a_socket_path_always_fits_the_kernel() {
        let long = format!("/{}", "x".repeat(120));
        let given = Surroundings { home: path(&long), uid: 7, ..Surroundings::default() };
        let socket = given.layout().unwrap().socket;
        assert!(socket.starts_with("/tmp/tidegate-7/") && socket.as_os_str().len() < SOCKET_PATH_BYTES_MAX);
    }
}
