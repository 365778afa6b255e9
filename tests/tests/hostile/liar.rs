//! What a changed program says: the true state of its device, and lies beside it.

use std::sync::Arc;

use tidegate::lab;
use tidegate::os::net::identity::DeviceKey;
use tidegate_protocol::codec;
use tidegate_protocol::file_sync::{
    BandwidthLimit, Conduit, DeleteMode, JobKey, JobKind, JobSpec, Plan, PlanTotals, Side, SyncOperations,
};
use tidegate_protocol::hash::ContentHash;
use tidegate_protocol::id::{DeviceId, Label, LocationId, Sequence};
use tidegate_protocol::index::{Device, Entry, EntryKind, EntryState, FileFacts, Location, Version};
use tidegate_protocol::library_sync::{Fact, Head, Row, RowBody, RowKey, SetHash, SignedHead};
use tidegate_protocol::path::EntryPath;
use tidegate_protocol::wire::{Hello, PROTOCOL_VERSION, Request, Response, Rows};

use crate::peer::{Answers, Peer};

/// What a changed program of one device knows of the library.
pub(crate) struct Liar {
    pub(crate) key: DeviceKey,
    pub(crate) victim: DeviceId,
    pub(crate) head: Head,
    rows: Vec<Row>,
    /// Location of the device itself, and of its victim.
    pub(crate) own: LocationId,
    pub(crate) theirs: Location,
    pub(crate) conduit: Conduit,
}

impl Liar {
    /// With the key of a stopped device, and what the victim tells a member anyway.
    pub(crate) fn new(stopped: &lab::Device, victim: &lab::Device) -> Self {
        let key = DeviceKey::load(&stopped.home().join("identity.key")).unwrap();
        let peer = Peer::silent(&key, victim);
        let (theirs, head) = peer.heads(key.id());
        let rows = peer.rows(&head);
        let victims = peer.rows(&theirs);
        let locations = |rows: &[Row]| -> Vec<Location> {
            let all = rows.iter().filter_map(|row| match &row.body {
                RowBody::Fact(Fact::Location(location)) => Some(location.clone()),
                RowBody::Fact(_) | RowBody::Entry(_) => None,
            });
            all.collect()
        };
        let conduit = rows.iter().chain(&victims).find_map(|row| match &row.body {
            RowBody::Fact(Fact::Conduit(conduit)) => Some((**conduit).clone()),
            RowBody::Fact(_) | RowBody::Entry(_) => None,
        });
        let own = locations(&rows)[0].id;
        let theirs_there = locations(&victims).remove(0);
        let liar =
            Self { victim: theirs.device, own, theirs: theirs_there, conduit: conduit.unwrap(), head, rows, key };
        assert_eq!(liar.extended(&[]).set_hash, liar.head.set_hash, "the rows are those of the head");
        liar
    }

    pub(crate) fn me(&self) -> DeviceId {
        self.key.id()
    }

    /// The head of the state with these rows more.
    pub(crate) fn extended(&self, more: &[Row]) -> Head {
        let mut hash = SetHash::empty();
        let kept = self.rows.iter().filter(|row| more.iter().all(|new| new.key != row.key));
        let rows: Vec<&Row> = kept.chain(more).collect();
        let row_bytes = rows.iter().map(|row| hash.add(row)).sum();
        Head {
            row_count: rows.len() as u64,
            row_bytes,
            set_hash: hash.digest(),
            stamp: self.head.stamp.next(self.head.stamp.ms),
            ..self.head.clone()
        }
    }

    /// A row after those that the victim holds.
    pub(crate) fn row(&self, key: RowKey, body: RowBody) -> Row {
        Row { sequence: self.head.sequence.next(), key, body }
    }

    /// A fact after those that the victim holds.
    pub(crate) fn fact(&self, fact: Fact) -> Row {
        self.row(RowKey::Fact(fact.key()), RowBody::Fact(fact))
    }

    /// What the device says of itself.
    pub(crate) fn device(&self) -> Device {
        let devices = self.rows.iter().find_map(|row| match &row.body {
            RowBody::Fact(Fact::Device(device)) if device.id == self.me() => Some(device.clone()),
            RowBody::Fact(_) | RowBody::Entry(_) => None,
        });
        devices.unwrap()
    }

    pub(crate) fn file(&self, location: LocationId, path: EntryPath) -> Row {
        let kind = EntryKind::File(facts(b"phantom"));
        self.row(
            RowKey::Entry(location, path),
            RowBody::Entry(EntryState::Present(Entry { kind, version: Version::NONE })),
        )
    }

    /// Answers hello and heads as the device would, and rows with these bytes.
    pub(crate) fn answers(&self, head: Head, rows: Vec<u8>) -> Answers {
        let key = DeviceKey::from_seed(&self.key.signing().to_bytes());
        let library = self.head.library;
        let (held, base) = (self.head.sequence, self.rows.clone());
        Arc::new(move |request| match request {
            Request::Hello(_) => {
                let name = Label::new("liar").unwrap();
                Some(codec::encode(&Response::Hello(Hello { version: PROTOCOL_VERSION, library, name, alone: false })))
            }
            Request::Heads { nonce, .. } => {
                let own = SignedHead::sign(&Head { nonce: Some(*nonce), ..head.clone() }, key.signing());
                let heads =
                    Response::Heads { own, others: Vec::new(), generation: 0, addresses: Vec::new(), busy: Vec::new() };
                Some(codec::encode(&heads))
            }
            // Who starts anew gets what is true first.
            Request::Rows { device, from, .. } if *device == key.id() && *from < held => {
                let rows = base.iter().filter(|row| row.sequence > *from).cloned().collect();
                let head = SignedHead::sign(&head, key.signing());
                Some(codec::encode(&Response::Rows(Rows { device: *device, head, from: *from, upto: held, rows })))
            }
            Request::Rows { device, .. } if *device == key.id() => Some(rows.clone()),
            _ => None,
        })
    }

    /// The answer that brings a row, numbered `after` behind what the victim holds: two lies under one number
    /// would be a fork. A row of a number that is taken again replaces the old one.
    pub(crate) fn told(&self, after: u64, mut row: Row) -> (Head, Vec<u8>) {
        row.sequence = Sequence(self.head.sequence.0 + after);
        let head = Head { sequence: row.sequence, ..self.extended(std::slice::from_ref(&row)) };
        let rows = Rows {
            device: self.me(),
            head: SignedHead::sign(&head, self.key.signing()),
            from: self.head.sequence,
            upto: head.sequence,
            rows: vec![row],
        };
        (head, codec::encode(&Response::Rows(rows)))
    }
}

pub(crate) fn facts(content: &[u8]) -> FileFacts {
    FileFacts { content: ContentHash::of(content), size: content.len() as u64, mtime_ns: 1, executable: false }
}

pub(crate) fn path(text: &[u8]) -> EntryPath {
    EntryPath::from_slashes(text).unwrap()
}

/// A path that says nothing, and the bytes that will take its place in an encoded message.
pub(crate) fn stand_in(bytes: &[u8]) -> EntryPath {
    path(&b"Q".repeat(bytes.len()))
}

pub(crate) fn replaced(message: &[u8], bytes: &[u8]) -> Vec<u8> {
    let stand_in = b"Q".repeat(bytes.len());
    let at = message.windows(bytes.len()).position(|window| window == stand_in).expect("the stand-in is in it");
    [&message[..at], bytes, &message[at + bytes.len()..]].concat()
}

/// Paths that no path may be, as they are joined inside.
pub(crate) const ESCAPES: [&[u8]; 8] = [
    b"..\0out",
    b"dir\0..\0..\0out",
    b"../out",
    b"/tmp/out",
    b"\0tmp\0out",
    b".tidegate\0id",
    b".TIDEGATE\0id",
    b"dir\0\0out",
];

/// A job at the victim's end of the conduit.
pub(crate) fn spec(liar: &Liar, kind: JobKind, items: u32) -> JobSpec {
    let conduit = &liar.conduit;
    let nothing = SyncOperations::default();
    let plan =
        Plan::new(conduit.id, conduit.definition(), Vec::new(), nothing, Vec::new(), Vec::new(), PlanTotals::default());
    JobSpec {
        key: JobKey { conduit: conduit.id, generation: 50, device: liar.victim, side: Side::Target, kind },
        coordinator: liar.me(),
        definition: conduit.definition(),
        plan: plan.id,
        approved: true,
        target: conduit.target.clone(),
        source: conduit.source.clone(),
        parallel_transfers: 1,
        bandwidth_limit: BandwidthLimit::default(),
        delete_mode: DeleteMode::Permanent,
        items,
        bytes: 0,
    }
}
