//! The world and what a test may do to it: commands, edits, partitions, crashes, time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;

use ed25519_dalek::SigningKey;
use tidegate::core::command::{Command, ConduitChange, Fault, FaultCode, NewConduit, Reply};
use tidegate::core::io::{Input, Output, Ticket};
use tidegate::core::{Core, CoreConfig, TrashLimits};
use tidegate::env::Now;
use tidegate_protocol::file_sync::{Conduit, Generation, Guards, SyncMode, Verification};
use tidegate_protocol::id::{DeviceId, LibraryId, LocationId, Sequence};
use tidegate_protocol::index::Rights;
use tidegate_protocol::path::EntryPath;
use tidegate_storage::disk::RootIdentity;
use tidegate_storage::store::{AuthorState, Store};

use super::legs::LegRun;
use super::names::{A, B, id, key, label, name, path};
use super::store::Disk;
use super::tree::Tree;

/// A day, in milliseconds.
pub(crate) const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// Something in the queue.
pub(crate) enum Event {
    In(usize, u64, Input),
    Leg(usize, u64, tidegate_protocol::file_sync::JobKey),
}

/// What the world withholds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LostInput {
    /// Rows never arrive: the replica stays behind.
    Rows,
    /// Barriers are never answered.
    Drained,
    /// Only pages of rows arrive that follow on this or less; asking for later ones fails.
    RowsAfter(Sequence),
}

pub(crate) struct Node {
    pub(crate) core: Option<Core>,
    pub(crate) disk: Disk,
    pub(crate) key: SigningKey,
    pub(crate) config: CoreConfig,
    pub(crate) start: u64,
    pub(crate) members: BTreeSet<DeviceId>,
    pub(crate) library: Option<LibraryId>,
    pub(crate) trees: BTreeMap<LocationId, Tree>,
    pub(crate) legs: BTreeMap<tidegate_protocol::file_sync::JobKey, LegRun>,
    pub(crate) failing: BTreeSet<EntryPath>,
    pub(crate) hold_legs: bool,
    pub(crate) steps: u64,
    /// Crash when so many steps have been made, losing what the last one wished.
    pub(crate) crash_at: Option<u64>,
    pub(crate) lost: Option<LostInput>,
}

pub(crate) struct World {
    pub(crate) nodes: Vec<Node>,
    pub(crate) now_ms: u64,
    pub(crate) gossip: bool,
    pub(crate) cut: BTreeSet<(usize, usize)>,
    pub(crate) connected: BTreeSet<(usize, usize)>,
    pub(crate) queue: VecDeque<Event>,
    /// Questions on their way: (asked, its ticket) to (asker, its start, its ticket).
    pub(crate) asks: BTreeMap<(usize, u64), (usize, u64, Ticket)>,
    pub(crate) fetches: BTreeMap<(usize, u64), (usize, u64, tidegate_protocol::file_sync::JobKey)>,
    pub(crate) tickets: u64,
    pub(crate) replies: BTreeMap<u64, Result<Reply, Fault>>,
    /// Questions of the test itself, and their answers.
    pub(crate) probes: BTreeMap<(usize, u64), Option<tidegate_protocol::wire::Response>>,
    /// Sends other devices' rows altered.
    pub(crate) lying: Option<usize>,
    /// What left the cores, in order: who, what.
    pub(crate) trace: Vec<(usize, String)>,
    pub(crate) events: u64,
    /// What the cores told of, in order.
    pub(crate) happened: Vec<(usize, tidegate::core::events::Event)>,
}

impl World {
    /// So many devices, each with a library of its own.
    pub(crate) fn new(count: usize) -> Self {
        Self::admitting(count, &[])
    }

    /// Devices of which some admit each other by their config.
    pub(crate) fn admitting(count: usize, pairs: &[(usize, usize)]) -> Self {
        let mut world = Self {
            nodes: Vec::new(),
            now_ms: 1,
            gossip: true,
            cut: BTreeSet::new(),
            connected: BTreeSet::new(),
            queue: VecDeque::new(),
            asks: BTreeMap::new(),
            fetches: BTreeMap::new(),
            tickets: 1_000_000,
            replies: BTreeMap::new(),
            probes: BTreeMap::new(),
            lying: None,
            trace: Vec::new(),
            events: 0,
            happened: Vec::new(),
        };
        for index in 0..count {
            let admitted = pairs.iter().filter_map(|(a, b)| match index {
                _ if index == *a => Some(*b),
                _ if index == *b => Some(*a),
                _ => None,
            });
            let admitted = admitted.map(|other| (id(other), name(other))).collect();
            world.nodes.push(Node {
                core: None,
                disk: Disk::default(),
                key: key(index),
                config: CoreConfig {
                    name: name(index),
                    admitted,
                    settle_ms: 50,
                    rescan_ms: 0,
                    evidence_age_ms_max: 5_000,
                    guards: Guards::default(),
                    free_bytes_min: 0,
                    index_rows_max: 100_000,
                    index_bytes_max: 100_000_000,
                    parallel_transfers: 4,
                    trash: TrashLimits { age_ms_max: 30 * DAY_MS, percent_max: 10 },
                },
                start: 0,
                members: BTreeSet::new(),
                library: None,
                trees: BTreeMap::new(),
                legs: BTreeMap::new(),
                failing: BTreeSet::new(),
                hold_legs: false,
                steps: 0,
                crash_at: None,
                lost: None,
            });
        }
        for index in 0..count {
            world.boot(index);
        }
        world.run_for(200);
        world
    }

    pub(crate) fn now(&self) -> Now {
        Now { monotonic_ms: self.now_ms, wall_ms: 1_700_000_000_000 + self.now_ms }
    }

    /// Starts a core over the node's disk.
    pub(crate) fn boot(&mut self, index: usize) {
        let now = self.now();
        let node = &mut self.nodes[index];
        node.start += 1;
        let mut entropy = [7; 32];
        entropy[..8].copy_from_slice(&node.start.to_le_bytes());
        entropy[8] = index as u8;
        let store = Store::with_backend(node.disk.clone(), id(index)).unwrap();
        let mut out = Vec::new();
        let core = Core::new(store, node.key.clone(), node.config.clone(), entropy, now, &mut out).unwrap();
        node.core = Some(core);
        self.perform_all(index, out);
    }

    /// Ends a core as a power cut would, and leaves it off.
    pub(crate) fn halt(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        let left = node.disk.copy();
        node.core = None;
        node.disk = left;
        node.start += 1;
        node.legs.clear();
        node.members.clear();
        self.reconnect();
    }

    /// A power cut, and a start right after.
    pub(crate) fn crash(&mut self, index: usize) {
        self.halt(index);
        self.boot(index);
    }

    pub(crate) fn cut(&mut self, a: usize, b: usize) {
        self.cut.insert((a.min(b), a.max(b)));
        self.reconnect();
    }

    pub(crate) fn heal(&mut self, a: usize, b: usize) {
        self.cut.remove(&(a.min(b), a.max(b)));
        self.reconnect();
    }

    /// `joiner` types the code that `host` shows.
    pub(crate) fn pair(&mut self, host: usize, joiner: usize) {
        let library = self.nodes[host].library.unwrap();
        self.input(host, Input::Paired { device: id(joiner), name: name(joiner), library, joined: false });
        self.input(joiner, Input::Paired { device: id(host), name: name(host), library, joined: true });
        self.run_for(2_000);
    }

    pub(crate) fn input(&mut self, index: usize, input: Input) {
        let start = self.nodes[index].start;
        self.queue.push_back(Event::In(index, start, input));
    }

    /// Hands in a command without waiting.
    pub(crate) fn call(&mut self, index: usize, command: Command) -> u64 {
        self.tickets += 1;
        let ticket = self.tickets;
        self.input(index, Input::Command { ticket: Ticket(ticket), command });
        ticket
    }

    /// Hands in a command and waits for its answer.
    pub(crate) fn ask(&mut self, index: usize, command: Command) -> Result<Reply, Fault> {
        let ticket = self.call(index, command);
        assert!(self.run_until(120_000, |world| world.replies.contains_key(&ticket)), "no reply: {}", self.tail());
        self.replies.remove(&ticket).unwrap()
    }

    /// Hands in a command that must be done.
    pub(crate) fn tell(&mut self, index: usize, command: Command) -> Reply {
        self.ask(index, command).unwrap_or_else(|fault| panic!("{fault}: {}", fault.why))
    }

    /// Hands in a command that must be refused.
    pub(crate) fn refused(&mut self, index: usize, command: Command) -> Fault {
        match self.ask(index, command) {
            Err(fault) => fault,
            Ok(reply) => panic!("not refused: {reply:?}"),
        }
    }

    /// Adds a location over a fresh tree.
    pub(crate) fn locate(&mut self, index: usize, text: &str) -> LocationId {
        let id = LocationId::from_bytes([index as u8 * 16 + self.nodes[index].trees.len() as u8 + 1; 16]);
        self.nodes[index].trees.insert(id, Tree::new());
        let root = PathBuf::from(format!("/{index}/{text}"));
        let identity = RootIdentity { file_system: 1, inode: 2 };
        self.tell(index, Command::AddLocation { id, name: label(text), root, identity, rules: Vec::new() });
        id
    }

    pub(crate) fn allow(&mut self, owner: usize, location: &str, to: usize, rights: Rights) {
        let device = name(to).to_string();
        self.tell(owner, Command::Allow { location: location.to_owned(), device, rights });
    }

    /// Two paired devices, a location each, all rights, and a mirror `docs` from A to B.
    pub(crate) fn mirror() -> (Self, LocationId, LocationId) {
        Self::linked(SyncMode::Mirror)
    }

    /// As [`World::mirror`], in any mode.
    pub(crate) fn linked(mode: SyncMode) -> (Self, LocationId, LocationId) {
        let mut world = Self::new(2);
        world.pair(A, B);
        let (source, target) = world.link(A, B);
        world.conduit_of("docs", "A:src", "B:dst", mode, ConduitChange::default());
        (world, source, target)
    }

    /// A location on each of two devices of one library, with all rights.
    pub(crate) fn link(&mut self, from: usize, to: usize) -> (LocationId, LocationId) {
        let (source, target) = (self.locate(from, "src"), self.locate(to, "dst"));
        let all = Rights { read: true, write: true, delete: true };
        self.allow(from, "src", to, all);
        self.allow(to, "dst", from, all);
        self.run_for(3_000);
        (source, target)
    }

    pub(crate) fn conduit(&mut self, text: &str, source: &str, target: &str, change: ConduitChange) {
        self.conduit_of(text, source, target, SyncMode::Mirror, change);
    }

    pub(crate) fn conduit_of(&mut self, text: &str, source: &str, target: &str, mode: SyncMode, change: ConduitChange) {
        let (source, target) = (source.to_owned(), target.to_owned());
        let new = NewConduit { name: label(text), source, target, mode, change };
        self.tell(A, Command::CreateConduit(new));
        self.run_for(1_000);
    }

    pub(crate) fn write(&mut self, index: usize, location: LocationId, at: &str, content: &str) {
        let touched = self.tree(index, location).write(&path(at), content.as_bytes());
        self.hint(index, location, touched);
    }

    pub(crate) fn remove(&mut self, index: usize, location: LocationId, at: &str) {
        let touched = self.tree(index, location).remove(&path(at));
        self.hint(index, location, touched);
    }

    pub(crate) fn hint(&mut self, index: usize, location: LocationId, paths: Vec<EntryPath>) {
        if self.tree(index, location).watched {
            self.input(index, Input::Hints { location, paths, overflow: false });
        }
    }

    pub(crate) fn tree(&mut self, index: usize, location: LocationId) -> &mut Tree {
        self.nodes[index].trees.get_mut(&location).unwrap()
    }

    pub(crate) fn files(&mut self, index: usize, location: LocationId) -> BTreeMap<String, String> {
        self.tree(index, location).files()
    }

    pub(crate) fn sync(wait_ms: u64) -> Command {
        Command::Sync { conduit: "docs".to_owned(), plan: None, wait_ms }
    }

    /// Syncs `docs` and waits until its generation is closed; returns it. `None` if there was nothing to do.
    pub(crate) fn sync_through(&mut self) -> Option<Generation> {
        let Reply::Started(started) = self.tell(A, Self::sync(30_000)) else { panic!("another answer") };
        started.generation?;
        self.closed();
        self.newest(A)
    }

    /// Waits until no generation of `docs` is open.
    pub(crate) fn closed(&mut self) {
        self.settled(A, "docs");
    }

    /// Waits until no generation of a conduit is open on its coordinator.
    pub(crate) fn settled(&mut self, on: usize, conduit: &str) {
        let open = |world: &Self| world.newest_of(on, conduit).is_some_and(|g| g.closed_ms.is_none());
        let done = self.run_until(300_000, |world| !open(world));
        assert!(done, "never closed: {:?} {}", self.newest_of(on, conduit), self.tail());
    }

    pub(crate) fn store(&self, index: usize) -> &Store {
        self.nodes[index].core.as_ref().unwrap().store()
    }

    pub(crate) fn conduit_named(&self, index: usize, text: &str) -> Option<Conduit> {
        let conduits = self.store(index).read().unwrap().conduits().unwrap();
        conduits.into_iter().find(|conduit| conduit.settings.name.value == label(text))
    }

    /// The newest generation of `docs`.
    pub(crate) fn newest(&self, index: usize) -> Option<Generation> {
        self.newest_of(index, "docs")
    }

    /// The newest generation of a conduit.
    pub(crate) fn newest_of(&self, index: usize, text: &str) -> Option<Generation> {
        let conduit = self.conduit_named(index, text)?;
        self.store(index).read().unwrap().generations(conduit.id, 1).unwrap().pop()
    }

    pub(crate) fn author(&self, index: usize, of: usize) -> Option<AuthorState> {
        self.store(index).read().unwrap().author(id(of)).unwrap().map(|author| (*author).clone())
    }

    /// Whether every one of these devices holds the same state of every one of them.
    pub(crate) fn level(&self, among: &[usize]) -> bool {
        among.iter().all(|of| {
            let own = self.author(*of, *of).unwrap();
            among.iter().all(|at| {
                self.author(*at, *of).is_some_and(|held| {
                    held.rests.is_some()
                        && held.reference(id(*of)) == own.reference(id(*of))
                        && held.row_count == own.row_count
                })
            })
        })
    }

    pub(crate) fn statuses(generation: &Generation) -> Vec<Verification> {
        generation.statuses.iter().map(|(_, status)| *status).collect()
    }

    pub(crate) fn count(&self, index: usize, what: &str) -> usize {
        self.trace.iter().filter(|(at, text)| *at == index && text.starts_with(what)).count()
    }

    pub(crate) fn tail(&self) -> String {
        let from = self.trace.len().saturating_sub(40);
        let lines: Vec<String> = self.trace[from..].iter().map(|(at, text)| format!("\n  {at}: {text}")).collect();
        lines.concat()
    }

    pub(crate) fn is(fault: &Fault, code: FaultCode, why: &str) {
        assert_eq!(fault.code, code, "{fault}: {}", fault.why);
        assert!(fault.why.contains(why), "{}: {}", fault.message, fault.why);
    }

    pub(crate) fn perform_all(&mut self, index: usize, out: Vec<Output>) {
        for output in out {
            self.perform(index, output);
        }
    }
}
