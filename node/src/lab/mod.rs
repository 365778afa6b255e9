//! Real nodes on one machine: processes with homes, ports and directories of their own, driven by the very
//! command line that people use. The demo and the end-to-end tests are written on it.
//!
//! Nothing here looks inside a node: what happened is read from its answers and from the disks.

mod tree;

use std::ffi::OsStr;
use std::fmt;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

pub use tree::{Leaf, Tree, fill, read, write};

/// Time between two looks at something that is awaited.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What went wrong, in words; a lab has no caller that could act on more.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct LabError(String);

impl LabError {
    /// With a message.
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl From<std::io::Error> for LabError {
    fn from(error: std::io::Error) -> Self {
        Self(error.to_string())
    }
}

/// A directory for devices; removed at the end unless kept.
pub struct Lab {
    directory: tempfile::TempDir,
    program: PathBuf,
}

impl Lab {
    /// A lab whose devices run `program`.
    pub fn new(program: impl Into<PathBuf>) -> Result<Self, LabError> {
        Self::within(&std::env::temp_dir(), program)
    }

    /// A lab below a directory, such as a memory file system.
    pub fn within(parent: &Path, program: impl Into<PathBuf>) -> Result<Self, LabError> {
        let directory = tempfile::Builder::new().prefix("tidegate-lab.").tempdir_in(parent)?;
        Ok(Self { directory, program: program.into() })
    }

    /// Where everything is.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Leaves everything in place when the lab is dropped.
    pub fn keep(&mut self) {
        self.directory.disable_cleanup(true);
    }

    /// A device with a home and a free port, not started. It finds others by address alone.
    pub fn device(&self, name: &str) -> Result<Device, LabError> {
        let home = self.path().join(format!("{name}.home"));
        std::fs::create_dir_all(&home)?;
        Ok(Device {
            name: name.to_owned(),
            home,
            address: free_address()?,
            program: self.program.clone(),
            environment: vec![("TIDEGATE_NETWORK_MDNS".to_owned(), "false".to_owned())],
            prefix: Vec::new(),
            running: None,
        })
    }

    /// A directory for data, created empty.
    pub fn directory(&self, name: &str) -> Result<PathBuf, LabError> {
        let path = self.path().join(name);
        std::fs::create_dir_all(&path)?;
        Ok(path)
    }
}

/// A node: its home, its address, and its process while it runs.
pub struct Device {
    name: String,
    home: PathBuf,
    address: SocketAddr,
    program: PathBuf,
    environment: Vec<(String, String)>,
    prefix: Vec<String>,
    running: Option<Child>,
}

/// A finished command.
#[derive(Debug)]
pub struct Done {
    /// Exit code; -1 for a signal.
    pub code: i32,
    /// What it printed as data.
    pub stdout: String,
    /// What it said.
    pub stderr: String,
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exit {}\n{}{}", self.code, self.stdout, self.stderr)
    }
}

impl Device {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its home: configuration, state and socket.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Where others reach it.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sets a variable for the process that is started next and for commands.
    pub fn set(&mut self, key: &str, value: &str) {
        self.environment.retain(|(known, _)| known != key);
        self.environment.push((key.to_owned(), value.to_owned()));
    }

    /// Runs everything of this device behind a command, such as `ip netns exec NAME`.
    pub fn behind(&mut self, prefix: &[&str], address: SocketAddr) {
        self.prefix = prefix.iter().map(ToString::to_string).collect();
        self.address = address;
    }

    /// Starts its daemon and waits until it serves.
    pub fn start(&mut self) -> Result<(), LabError> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.home.join("lab.log"))?;
        let mut command = self.command(["serve", "--name", &self.name, "--listen", &self.address.to_string()]);
        let mut child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
        let until = Instant::now() + Duration::from_mins(1);
        loop {
            if let Some(status) = child.try_wait()? {
                return Err(LabError(format!("{} ended at once ({status}):\n{}", self.name, self.log())));
            }
            if self.run(["health"])?.code == 0 {
                self.running = Some(child);
                return Ok(());
            }
            if Instant::now() > until {
                child.kill()?;
                return Err(LabError(format!("{} does not serve:\n{}", self.name, self.log())));
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Ends its daemon as a power cut would end a process: `kill -9`.
    pub fn kill(&mut self) -> Result<(), LabError> {
        if let Some(mut child) = self.running.take() {
            // Behind a prefix, the child is the daemon all the same: `ip netns exec` replaces itself by it.
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Ends its daemon in an orderly way.
    pub fn stop(&mut self) -> Result<(), LabError> {
        if let Some(mut child) = self.running.take() {
            self.must(["down"])?;
            child.wait()?;
        }
        Ok(())
    }

    /// Process id of the daemon.
    pub fn pid(&self) -> Option<u32> {
        self.running.as_ref().map(Child::id)
    }

    /// Runs a command to its end.
    pub fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Result<Done, LabError> {
        self.run_with(arguments, "")
    }

    /// Runs a command to its end with something on its standard input.
    pub fn run_with<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
        input: &str,
    ) -> Result<Done, LabError> {
        let mut command = self.command(arguments);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // A command that does not read its input may have closed it.
            let _ = stdin.write_all(input.as_bytes());
        }
        let output = child.wait_with_output()?;
        Ok(Done {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Runs a command that must succeed.
    pub fn must<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Result<Done, LabError> {
        let arguments: Vec<S> = arguments.into_iter().collect();
        let words: Vec<String> = arguments.iter().map(|a| a.as_ref().to_string_lossy().into_owned()).collect();
        let done = self.run(&arguments)?;
        if done.code == 0 {
            Ok(done)
        } else {
            Err(LabError(format!("{}$ tidegate {}\n{done}", self.name, words.join(" "))))
        }
    }

    /// Runs a command that must succeed and returns the last document it printed.
    pub fn json<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Result<Value, LabError> {
        let all = arguments.into_iter().map(|a| a.as_ref().to_owned());
        let done = self.must(std::iter::once("--json".into()).chain(all).collect::<Vec<std::ffi::OsString>>())?;
        last_document(&done.stdout)
    }

    /// Looks at the status until `is_it` is satisfied; a bounded wait for a condition.
    pub fn await_status(&self, what: &str, limit: Duration, is_it: impl Fn(&Value) -> bool) -> Result<Value, LabError> {
        let until = Instant::now() + limit;
        loop {
            let status = self.json(["status"])?;
            if is_it(&status) {
                return Ok(status);
            }
            if Instant::now() > until {
                return Err(LabError(format!("{}: {what} did not happen within {limit:?}:\n{status:#}", self.name)));
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Waits until it has heard of a conduit that another device created.
    pub fn await_conduit(&self, name: &str, limit: Duration) -> Result<(), LabError> {
        let known = |status: &Value| {
            status["conduits"].as_array().is_some_and(|all| all.iter().any(|conduit| conduit["name"] == name))
        };
        self.await_status(&format!("hearing of conduit {name}"), limit, known).map(drop)
    }

    /// Lets `other` into this device's library by a spoken code.
    pub fn pair(&self, other: &Self) -> Result<(), LabError> {
        let code = self.must(["pair", "--detach"])?.stdout.trim().to_owned();
        let at = self.address.to_string();
        let joined = other.run_with(["pair", "join", "--at", &at, "--code-stdin"], &format!("{code}\n"))?;
        if joined.code != 0 {
            return Err(LabError(format!("{} could not join {}: {joined}", other.name, self.name)));
        }
        for (one, two) in [(self, other), (other, self)] {
            let name = two.name.clone();
            one.await_status("the other device online", Duration::from_secs(20), |status| {
                status["devices"].as_array().is_some_and(|all| {
                    all.iter().any(|device| device["name"] == name.as_str() && device["online"] == true)
                })
            })?;
        }
        Ok(())
    }

    /// What its daemon logged.
    pub fn log(&self) -> String {
        let text = std::fs::read_to_string(self.home.join("lab.log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = match self.prefix.split_first() {
            None => Command::new(&self.program),
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(&self.program);
                command
            }
        };
        command.arg("--home").arg(&self.home).args(arguments);
        command.envs(self.environment.iter().map(|(key, value)| (key, value)));
        command.env_remove("TIDEGATE_HOME").env("NO_COLOR", "1");
        command
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if let Some(mut child) = self.running.take() {
            // Nothing can be done about a child that is gone already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The last JSON document of an output.
pub fn last_document(text: &str) -> Result<Value, LabError> {
    let mut last = None;
    for document in serde_json::Deserializer::from_str(text).into_iter::<Value>() {
        last = Some(document.map_err(|error| LabError(format!("not JSON ({error}):\n{text}")))?);
    }
    last.ok_or_else(|| LabError("no document was printed".to_owned()))
}

/// Waits for a condition, looking often; false if it did not come true in time.
pub fn eventually(limit: Duration, mut is_it: impl FnMut() -> bool) -> bool {
    let until = Instant::now() + limit;
    loop {
        if is_it() {
            return true;
        }
        if Instant::now() > until {
            return false;
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// A loopback address whose UDP port is free at this moment.
fn free_address() -> Result<SocketAddr, LabError> {
    Ok(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}
