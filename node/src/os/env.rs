//! The production environment: this machine, and a network that is given.

use tidegate_storage::disk::os::OsFileSystem;

use super::{OsClock, OsSpawn, OsWatch};
use crate::env::{Env, Network};

/// This machine's clock, threads, disks and watchers; `N` is the way to other devices.
#[derive(Debug, Clone)]
pub struct OsEnv<N> {
    clock: OsClock,
    spawner: OsSpawn,
    network: N,
    disk: OsFileSystem,
    watch: OsWatch,
}

impl<N: Network> OsEnv<N> {
    /// Puts the parts together.
    pub const fn new(clock: OsClock, spawner: OsSpawn, network: N, watch: OsWatch) -> Self {
        Self { clock, spawner, network, disk: OsFileSystem, watch }
    }
}

impl<N: Network> Env for OsEnv<N> {
    type Clock = OsClock;
    type Spawn = OsSpawn;
    type Network = N;
    type FileSystem = OsFileSystem;
    type Watch = OsWatch;

    fn clock(&self) -> &OsClock {
        &self.clock
    }

    fn spawner(&self) -> &OsSpawn {
        &self.spawner
    }

    fn network(&self) -> &N {
        &self.network
    }

    fn disk(&self) -> &OsFileSystem {
        &self.disk
    }

    fn watch(&self) -> &OsWatch {
        &self.watch
    }

    fn entropy(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
        bytes
    }
}
