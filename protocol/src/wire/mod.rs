//! What travels between nodes: requests and answers, in frames.
//!
//! A frame is a length (u32, big-endian, 1 to `FRAME_BYTES_MAX`) and that many bytes. The first frame on a
//! stream is a [`Request`]; the answers follow. There are no maps and no recursion in these types, and the
//! strict decoder of [`crate::codec`] is the only way in.

use core::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::codec::{self, DecodeError};
use crate::file_sync::{Item, ItemOutcome, JobKey, JobProgress, JobSpec, JobState, Side};
use crate::hash::ContentHash;
use crate::id::{ConduitId, DeviceId, Epoch, Label, LibraryId, LocationId, Nonce, Sequence};
use crate::library_sync::{Row, SignedHead};
use crate::limits::FRAME_BYTES_MAX;
use crate::path::EntryPath;

/// Version of everything in this module. Nodes of different versions do not talk, and say so.
pub const PROTOCOL_VERSION: u16 = 4;

/// ALPN of the connection between members.
pub const ALPN: &[u8] = b"tidegate/1";
/// ALPN of the one door for strangers, open only while a code is shown.
pub const ALPN_PAIRING: &[u8] = b"tidegate-pair/1";

/// Why a frame or message was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A length of 0.
    #[error("an empty frame")]
    Empty,
    /// A length beyond `FRAME_BYTES_MAX`.
    #[error("a frame of {0} bytes, over the limit")]
    TooLarge(u32),
    /// The bytes are not a message.
    #[error("a frame that does not decode: {0}")]
    Decode(#[from] DecodeError),
}

/// Reads a frame's length prefix, before anything is allocated for it.
pub const fn frame_length(prefix: [u8; 4]) -> Result<usize, FrameError> {
    let length = u32::from_be_bytes(prefix);
    if length == 0 {
        return Err(FrameError::Empty);
    }
    if length as usize > FRAME_BYTES_MAX {
        return Err(FrameError::TooLarge(length));
    }
    Ok(length as usize)
}

/// The first frame of a stream: what is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// First on every connection, from both sides.
    Hello(Hello),
    /// A fresh head of the answering device over `nonce`, once its watchers have drained; and, for every
    /// other device, the newest head it has seen.
    Heads {
        /// Drawn for this request.
        nonce: Nonce,
        /// Locations that must be settled first, as far as that is a matter of moments.
        locations: Vec<LocationId>,
        /// The conduit it is about, to learn the highest generation seen.
        conduit: Option<ConduitId>,
        /// The newest head of the asker: an exchange brings both ends level, whatever gossip does.
        own: Option<SignedHead>,
    },
    /// Rows of `device` after `from`, in sequence order.
    Rows {
        /// Whose.
        device: DeviceId,
        /// Of which epoch.
        epoch: Epoch,
        /// After which: the asker's contiguous prefix.
        from: Sequence,
    },
    /// A job for the answering device: repeated until accepted; items follow by [`Request::JobItems`].
    JobOffer(JobSpec),
    /// Items `first..` of an offered job.
    JobItems {
        /// Which job.
        job: JobKey,
        /// Index of the first item here.
        first: u32,
        /// The items.
        items: Vec<Item>,
    },
    /// How an accepted job stands; outcomes from `outcomes_from` on.
    JobStatus {
        /// Which job.
        job: JobKey,
        /// Index of the first outcome wanted.
        outcomes_from: u32,
    },
    /// Pause, resume or cancel.
    JobControl {
        /// Which job.
        job: JobKey,
        /// What.
        control: JobControl,
    },
    /// Asks a conduit's coordinator to act on it.
    Coordinate {
        /// Which conduit.
        conduit: ConduitId,
        /// What.
        what: Coordinate,
    },
    /// Content, in the order asked for. Answered by a sequence of [`Piece`] frames.
    Fetch(Fetch),
    /// The chunk hashes of one large content.
    Outline {
        /// The job it is for.
        job: JobKey,
        /// The path on the source.
        path: EntryPath,
        /// The content.
        content: ContentHash,
    },
    /// Look at these paths again: much is to be deleted because they were not there. The answer says only that it
    /// will be done; a head over a nonce that is asked for afterwards is about the disk as it was then.
    Look {
        /// Which location of the answering device.
        location: LocationId,
        /// Below the location; empty for all of it.
        paths: Vec<EntryPath>,
    },
    /// Asks an end's device to read files again and compare them with its own index; repeated until answered.
    Audit {
        /// Of which conduit.
        conduit: ConduitId,
        /// Which end.
        side: Side,
        /// Below the conduit's root.
        paths: Vec<EntryPath>,
    },
}

/// What reading a file again came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Finding {
    /// It holds what the index says.
    Sound,
    /// Its content is another, while size and modification time are those of the index.
    Rotten {
        /// What it holds now.
        content: ContentHash,
    },
    /// Somebody wrote it since; the index will say so.
    Edited,
    /// It is not there; the index will say so.
    Gone,
    /// It cannot be read.
    Unreadable,
    /// The index holds no file there.
    NotIndexed,
}

/// Who is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Version of the sender.
    pub version: u16,
    /// Its library.
    pub library: LibraryId,
    /// Its name.
    pub name: Label,
    /// Whether it is the only device of its library, and so free to join another.
    pub alone: bool,
}

/// What a person does to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobControl {
    /// Hold it.
    Pause,
    /// Go on.
    Resume,
    /// End it; what is done stays done.
    Cancel,
}

/// What another device may ask of a coordinator, on behalf of the person at that device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Coordinate {
    /// `sync_now`, optionally only if the plan is still this one.
    Sync {
        /// Short form of the plan that was shown.
        plan: Option<String>,
        /// How long to wait for the gate, in milliseconds.
        wait_ms: u64,
    },
    /// Resolves and shows; changes nothing. Answered by [`Response::Shown`].
    Plan {
        /// How long to wait for the gate, in milliseconds.
        wait_ms: u64,
    },
    /// Explains the fate of a path; changes nothing. Answered by [`Response::Shown`].
    Why {
        /// Below the conduit's roots.
        path: EntryPath,
        /// How long to wait for the gate, in milliseconds.
        wait_ms: u64,
    },
}

/// Asks for contents of one conduit's source, or of a later member that holds them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetch {
    /// The job it is for; its conduit says which root is read.
    pub job: JobKey,
    /// What, in order.
    pub wants: Vec<Want>,
}

/// One content, or a part of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Want {
    /// The path on the source, relative to its root. It must hold `content` in the source's own index.
    pub path: EntryPath,
    /// The content.
    pub content: ContentHash,
    /// First byte.
    pub offset: u64,
    /// How many bytes.
    pub length: u64,
}

/// A frame of content: parts of wants in the order asked for. Ends when every want is complete or failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// Which want, by index.
    pub want: u32,
    /// What of it.
    pub part: Part,
}

/// What a piece carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Part {
    /// The next bytes of this want.
    Bytes(#[serde(with = "serde_bytes")] Vec<u8>),
    /// Nothing more of this want will come, and why.
    Failed(FetchFailure),
}

/// Why content was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FetchFailure {
    /// No such content for this device: unknown, or not granted; the answer does not tell which.
    NotFound,
    /// The file changed while it was read, or since it was indexed.
    Changed,
    /// It could not be read.
    Unreadable,
}

/// An answer to a [`Request`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response {
    /// To `Hello`.
    Hello(Hello),
    /// To `Heads`.
    Heads {
        /// Of the answering device, over the nonce.
        own: SignedHead,
        /// The newest head that it holds of each other device.
        others: Vec<SignedHead>,
        /// The highest generation of the conduit asked about that it has seen; 0 for none.
        generation: u64,
        /// Where it reaches the other members, for devices that have not met; at most `DEVICES_MAX`.
        addresses: Vec<KnownAddress>,
        /// Of the locations asked about, the paths that wait to be looked at, if they have been waiting for long.
        busy: Vec<(LocationId, EntryPath)>,
    },
    /// To `Rows`.
    Rows(Rows),
    /// To `JobOffer`, `JobItems` and `JobControl`: how many items the device has stored.
    JobAccepted {
        /// Items stored so far; the coordinator goes on from there.
        items: u32,
    },
    /// To `JobStatus`.
    JobStatus(JobReport),
    /// To `Coordinate`.
    Coordinated {
        /// The generation that was opened; `None` when there was nothing to do.
        generation: Option<u64>,
    },
    /// To `Outline`: BLAKE3 chaining values of the content's chunks of `limits::chunk_bytes`.
    Outline {
        /// In order. They merge to the content hash.
        chunks: Vec<[u8; 32]>,
    },
    /// To `Fetch`, many times. Each frame packs pieces up to the frame's limit.
    Pieces(Vec<Piece>),
    /// To anything: no, and why.
    Refused(Refusal),
    /// To `Look`.
    Looking,
    /// To `Audit`: in the order of the paths; `None` while they are still being read.
    Audited {
        /// What was found.
        findings: Option<Vec<Finding>>,
    },
    /// To `Coordinate`: what the person who asked is shown, in the form in which nodes of one version answer people.
    Shown(#[serde(with = "serde_bytes")] Vec<u8>),
}

/// Rows of one device's log, with the head of the state they lead to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rows {
    /// Whose.
    pub device: DeviceId,
    /// The head of the state that the answering device rests on.
    pub head: SignedHead,
    /// What was asked: the rows follow this.
    pub from: Sequence,
    /// All live rows after `from` up to here are in `rows`; numbers that are missing were overwritten since.
    pub upto: Sequence,
    /// In sequence order.
    pub rows: Vec<Row>,
}

/// Where a device was reached. A hint: who answers there is proved by the transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownAddress {
    /// Which device.
    pub device: DeviceId,
    /// Its address.
    pub address: SocketAddr,
}

/// How a job stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobReport {
    /// Which job.
    pub job: JobKey,
    /// Its state.
    pub state: JobState,
    /// How far it is.
    pub progress: JobProgress,
    /// Outcomes, starting at the index asked for. Outcomes are final in index order.
    pub outcomes: Vec<ItemOutcome>,
    /// The paths at work now.
    pub current: Vec<EntryPath>,
}

/// A refusal that the asker can act on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{code:?}: {why}")]
pub struct Refusal {
    /// What kind.
    pub code: RefusalCode,
    /// For people; at most 400 bytes.
    pub why: String,
}

/// Kinds of refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RefusalCode {
    /// Another version of the protocol.
    Version,
    /// Another library.
    Library,
    /// Nothing known under that name, or not for this device.
    NotFound,
    /// No grant for it.
    NotAllowed,
    /// Fenced: a newer generation or definition of the conduit is known.
    Fenced,
    /// A guard of the answering device holds it.
    Held,
    /// The gate is closed.
    NotCaughtUp,
    /// The plan that was named is not the plan any more.
    PlanStale,
    /// It runs already.
    Busy,
    /// It is disabled or paused.
    Disabled,
    /// The request makes no sense.
    Malformed,
    /// The answering device failed inside.
    Internal,
}

impl Request {
    /// The bytes of the frame.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads a frame.
    pub fn decode(frame: &[u8]) -> Result<Self, FrameError> {
        Ok(codec::decode(frame)?)
    }
}

impl Response {
    /// The bytes of the frame.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads a frame. Content frames are not re-encoded to check their form: their bytes are checked
    /// against a content hash, and nothing is signed or compared by encoding.
    pub fn decode(frame: &[u8]) -> Result<Self, FrameError> {
        const PIECES: u8 = 7;
        if frame.first() == Some(&PIECES) { Ok(codec::decode_stored(frame)?) } else { Ok(codec::decode(frame)?) }
    }
}

impl Refusal {
    /// A refusal, its text cut to the limit.
    pub fn new(code: RefusalCode, why: impl Into<String>) -> Self {
        let mut why: String = why.into();
        why.truncate(why.floor_char_boundary(400));
        Self { code, why }
    }
}
