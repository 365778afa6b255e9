//! What the network is at one moment: nodes, ways between them, connections, streams.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use async_channel::Sender;
use tidegate::env::NetworkError;
use tidegate_protocol::id::{DeviceId, LibraryId};

use super::stream::{Flow, Pipe, StreamKey};
use super::weather::{Way, Weather};
use super::{NetworkEvent, Traffic};
use crate::executor::{Handle, Nanos};
use crate::happening::{DeviceIndex, Ear};
use crate::random::{Draws, Kind};

/// Streams that one end may have open towards the other.
pub(super) const STREAMS_MAX: usize = tidegate_protocol::limits::STREAMS_PER_PEER_MAX as usize;

/// A place where a device is or will be.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) id: DeviceId,
    pub(super) address: SocketAddr,
    /// Whether multicast shows it to others and others to it.
    pub(super) multicast: bool,
    pub(super) life: Option<Life>,
    pub(super) traffic: Traffic,
}

/// A device that is up.
pub(super) struct Life {
    pub(super) handle: Handle,
    pub(super) events: Sender<NetworkEvent>,
    /// Whom it lets in.
    pub(super) members: BTreeSet<DeviceId>,
    pub(super) library: Option<LibraryId>,
    /// Addresses it was told.
    pub(super) known: BTreeMap<DeviceId, SocketAddr>,
    /// Dials under way or to come, and how many failed in a row before.
    pub(super) dials: BTreeMap<DeviceIndex, u32>,
}

impl std::fmt::Debug for Life {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Life({:?})", self.handle.group())
    }
}

/// One connection between two incarnations. End 0 dialled.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) ends: [End; 2],
    pub(super) channels: BTreeMap<u64, Channel>,
}

/// One end of a connection.
#[derive(Debug)]
pub(super) struct End {
    pub(super) device: DeviceIndex,
    pub(super) incarnation: u32,
    /// Why it is not open any more.
    pub(super) closed: Option<NetworkError>,
    /// Since when nothing can be heard from the other end.
    pub(super) silent_since: Option<Nanos>,
}

/// One stream of a connection. Pipe `n` is what end `n` sends.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) opener: usize,
    pub(super) pipes: [Pipe; 2],
    /// Which ends hold it.
    pub(super) held: [bool; 2],
    /// A first frame is under way to the other end.
    pub(super) announced: bool,
    /// The other end has taken it.
    pub(super) accepted: bool,
}

/// Everything.
#[derive(Debug)]
pub(super) struct State {
    pub(super) nodes: Vec<Node>,
    pub(super) connections: BTreeMap<u64, Connection>,
    pub(super) connections_made: u64,
    pub(super) streams_made: u64,
    pub(super) ear: Ear,
    ways: BTreeMap<(DeviceIndex, DeviceIndex), Way>,
    weather: Weather,
    draws: Draws,
}

impl std::fmt::Debug for Ear {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ear")
    }
}

impl State {
    pub(super) const fn new(draws: Draws, weather: Weather, ear: Ear) -> Self {
        Self {
            nodes: Vec::new(),
            connections: BTreeMap::new(),
            connections_made: 0,
            streams_made: 0,
            ear,
            ways: BTreeMap::new(),
            weather,
            draws,
        }
    }

    pub(super) fn index_of(&self, id: DeviceId) -> Option<DeviceIndex> {
        self.nodes.iter().position(|node| node.id == id).map(|index| index as DeviceIndex)
    }

    pub(super) fn life(&self, device: DeviceIndex) -> Option<&Life> {
        self.nodes.get(device as usize)?.life.as_ref()
    }

    pub(super) fn life_mut(&mut self, device: DeviceIndex) -> Option<&mut Life> {
        self.nodes.get_mut(device as usize)?.life.as_mut()
    }

    pub(super) fn incarnation(&self, device: DeviceIndex) -> Option<u32> {
        self.life(device).map(|life| life.handle.group().incarnation)
    }

    /// One direction between two devices.
    pub(super) fn way(&mut self, from: DeviceIndex, to: DeviceIndex) -> &mut Way {
        let (draws, weather) = (self.draws, self.weather);
        self.ways.entry((from, to)).or_insert_with(|| {
            Way::new(weather, draws.stream(Kind::Network, u64::from(from), 0).below_key(u64::from(to)))
        })
    }

    pub(super) fn is_cut(&self, from: DeviceIndex, to: DeviceIndex) -> bool {
        self.cut_since(from, to).is_some()
    }

    pub(super) fn cut_since(&self, from: DeviceIndex, to: DeviceIndex) -> Option<Nanos> {
        self.ways.get(&(from, to)).and_then(|way| way.cut_since)
    }

    /// The weather of every direction, from now on.
    pub(super) fn set_weather(&mut self, weather: Weather) {
        self.weather = weather;
        self.ways.values_mut().for_each(|way| way.weather = weather);
    }

    /// Who sends and who receives what this end of a stream sends; `None` if the end is closed.
    pub(super) fn devices_of(&self, key: StreamKey) -> Option<(DeviceIndex, DeviceIndex)> {
        let ends = &self.connections.get(&key.connection)?.ends;
        ends[key.end].closed.is_none().then(|| (ends[key.end].device, ends[1 - key.end].device))
    }

    /// A pipe as one end sees it, and since when its way is cut. Fails as the connection failed at that end.
    pub(super) fn pipe(
        &mut self,
        key: StreamKey,
        flow: Flow,
    ) -> Result<Option<(&mut Pipe, Option<Nanos>)>, NetworkError> {
        let Some(connection) = self.connections.get_mut(&key.connection) else { return Ok(None) };
        if let Some(why) = &connection.ends[key.end].closed {
            return Err(why.clone());
        }
        let sender = match flow {
            Flow::Out => key.end,
            Flow::In => 1 - key.end,
        };
        let way = (connection.ends[sender].device, connection.ends[1 - sender].device);
        let cut_since = self.ways.get(&way).and_then(|way| way.cut_since);
        Ok(connection.channels.get_mut(&key.stream).map(|channel| (&mut channel.pipes[sender], cut_since)))
    }

    /// Who takes a stream that was opened towards this end; marks it as taken.
    pub(super) fn greeter(&mut self, key: StreamKey) -> Option<(Handle, Sender<NetworkEvent>, DeviceId)> {
        let connection = self.connections.get_mut(&key.connection)?;
        let (here, there) = (&connection.ends[key.end], &connection.ends[1 - key.end]);
        let (device, incarnation, peer) = (here.device, here.incarnation, there.device);
        if here.closed.is_some() {
            return None;
        }
        let channel = connection.channels.get_mut(&key.stream)?;
        channel.accepted = true;
        channel.held[key.end] = true;
        let life = self.nodes[device as usize].life.as_ref();
        let life = life.filter(|life| life.handle.group().incarnation == incarnation)?;
        Some((life.handle.clone(), life.events.clone(), self.nodes[peer as usize].id))
    }

    /// The open ends that `device` has of connections to `peer`: connection, end, oldest first.
    pub(super) fn open_ends(&self, device: DeviceIndex, peer: DeviceIndex) -> Vec<(u64, usize)> {
        let Some(incarnation) = self.incarnation(device) else { return Vec::new() };
        let mine = |connection: &Connection| {
            (0..2).find(|end| {
                let (here, there) = (&connection.ends[*end], &connection.ends[1 - *end]);
                here.closed.is_none()
                    && here.device == device
                    && here.incarnation == incarnation
                    && there.device == peer
            })
        };
        self.connections.iter().filter_map(|(number, connection)| Some((*number, mine(connection)?))).collect()
    }

    /// The connection for new streams: of those that can be heard the one that the smaller id dialled, and of these
    /// the newest; else the newest at all.
    pub(super) fn preferred(&self, device: DeviceIndex, peer: DeviceIndex) -> Option<(u64, usize)> {
        let open = self.open_ends(device, peer);
        let heard = |(number, end): &&(u64, usize)| self.connections[number].ends[*end].silent_since.is_none();
        let dialler = |(number, _): &&(u64, usize)| self.nodes[self.connections[number].ends[0].device as usize].id;
        open.iter().rev().filter(heard).min_by_key(dialler).or_else(|| open.last()).copied()
    }

    /// Lets go of a connection that is closed at both ends, or of which nobody holds a stream any more there.
    pub(super) fn forget_if_over(&mut self, number: u64) {
        let over = self.connections.get(&number).is_some_and(|connection| {
            connection.ends.iter().all(|end| end.closed.is_some())
                && connection.channels.values().all(|channel| !channel.held[0] && !channel.held[1])
        });
        if over {
            self.connections.remove(&number);
        }
    }
}
