//! Every bound of the system, with unit and reason, and the relations between bounds as const asserts.
//!
//! A bound that a peer could suggest is never taken from the peer.

/// Largest frame on any stream, in bytes. A receiver allocates at most this much for one frame.
pub const FRAME_BYTES_MAX: usize = 1 << 20;

/// Largest piece of file content in one frame, in bytes: a frame less room for its header.
pub const PIECE_BYTES_MAX: usize = FRAME_BYTES_MAX - 4096;

/// Rows in one `Rows` answer. One answer is one redb transaction on the receiver.
pub const ROWS_PER_ANSWER_MAX: usize = 4096;

/// Encoded bytes of rows in one answer; leaves room for the signed head beside them.
pub const ROWS_BYTES_MAX: usize = FRAME_BYTES_MAX - HEAD_BYTES_MAX - 1024;

/// Answers with rows that are held in memory until the last of them: 16 MiB encoded. What is longer is loaded from
/// zero, on disk.
pub const PAGES_HELD_MAX: usize = 16;

/// Rows of one device that another one keeps, unless configured: at about 170 bytes each, 1.7 GB.
pub const INDEX_ROWS_MAX: u64 = 10_000_000;
/// The sum of their encoded lengths, unless configured: paths can be 4,096 bytes long.
pub const INDEX_BYTES_MAX: u64 = 4 << 30;
/// Rows of one device that are taken as fast as they come: a first load of a large library.
pub const INDEX_ROWS_BURST: u64 = 2_000_000;
/// Rows of one device that are taken in a second after that.
pub const INDEX_ROWS_PER_S: u64 = 20_000;

/// Largest encoded signed head, in bytes: `LOCATIONS_PER_DEVICE_MAX` statuses and some.
pub const HEAD_BYTES_MAX: usize = 64 << 10;

/// Plan items in one dispatch frame.
pub const ITEMS_PER_FRAME_MAX: usize = 2048;

/// Encoded bytes of items in one dispatch frame.
pub const ITEMS_BYTES_MAX: usize = FRAME_BYTES_MAX / 2;

/// Outcomes in one job report.
pub const OUTCOMES_PER_REPORT_MAX: usize = 8192;

/// Contents asked for in one fetch: bounds the memory of both ends.
pub const WANTS_PER_FETCH_MAX: usize = 1024;

/// Longest name, in bytes, as on every file system we know.
pub const NAME_BYTES_MAX: usize = 255;

/// Longest path below a location, in bytes (`PATH_MAX`).
pub const PATH_BYTES_MAX: usize = 4096;

/// Deepest path below a location, in names. Keeps recursion and redb keys bounded.
pub const PATH_DEPTH_MAX: usize = 128;

/// Longest symlink text, in bytes (`PATH_MAX`).
pub const LINK_BYTES_MAX: usize = 4096;

/// Longest name a person gives to a device, location or conduit, in characters.
pub const LABEL_CHARS_MAX: usize = 64;

/// Devices in a library. Versions and frontiers are linear in it.
pub const DEVICES_MAX: usize = 64;

/// Locations of one device.
pub const LOCATIONS_PER_DEVICE_MAX: usize = 256;

/// Ignore rules of one location, and bytes of one rule.
pub const RULES_MAX: usize = 1024;
/// Bytes of one ignore rule.
pub const RULE_BYTES_MAX: usize = 1024;

/// Bytes of all rules of one location, and of its rule file: they travel in one row.
pub const RULES_BYTES_MAX: usize = 128 << 10;
/// Wildcards (`*`, `?`, `[`, `{`) in one rule. Bounds the automaton that a rule compiles to.
pub const RULE_WILDCARDS_MAX: usize = 16;

/// Streams that one peer may have open towards us.
pub const STREAMS_PER_PEER_MAX: u32 = 64;

/// Connections that have not shown a member's key, in all and from one address.
pub const UNAUTHENTICATED_CONNECTIONS_MAX: usize = 8;
/// Unauthenticated connections from one address.
pub const UNAUTHENTICATED_PER_ADDRESS_MAX: usize = 2;

/// Failed proofs that burn a pairing code.
pub const PAIRING_FAILURES_MAX: u32 = 3;
/// Life of a pairing code, in milliseconds.
pub const PAIRING_CODE_AGE_MS_MAX: u64 = 5 * 60 * 1000;

/// Age of an owner's evidence at which the gate closes again, in milliseconds.
pub const EVIDENCE_AGE_MS_MAX: u64 = 5_000;
/// Age of the confirmed configuration head of other online devices, in milliseconds.
pub const CONFIG_EVIDENCE_AGE_MS_MAX: u64 = 60_000;
/// How long a location may wait to be looked at before the paths that wait are named and left out, in milliseconds.
pub const BUSY_MS: u64 = 30_000;
/// Paths that are named so. A location with more of them waits for quiet.
pub const BUSY_PATHS_MAX: usize = 256;
/// Encoded bytes of paths that are named so.
pub const BUSY_BYTES_MAX: usize = 64 << 10;
/// Clock offset beyond which the gate closes and stamps are refused, in milliseconds.
pub const CLOCK_OFFSET_MS_MAX: u64 = 10 * 60 * 1000;
/// Latest time that a stamp may bear, in milliseconds: the end of the year 9999. Rows with a later one are refused.
pub const STAMP_MS_MAX: u64 = 253_402_300_799_999;

/// Coarsest modification times that a file system keeps (FAT), in milliseconds.
pub const MTIME_GRANULARITY_MS: u64 = 2_000;

/// Deletes on one side from which on a plan is looked at twice: a checkout swaps a tree while it is scanned.
pub const DELETES_AT_A_GLANCE_MAX: usize = 20;

/// Shortest time between two announcements of one device, in milliseconds.
pub const ANNOUNCE_EVERY_MS_MIN: u64 = 100;
/// Longest time between two announcements of one device, in milliseconds.
pub const ANNOUNCE_EVERY_MS_MAX: u64 = 30_000;

/// Longest wait for one answer to a control request, in milliseconds.
pub const ANSWER_MS_MAX: u64 = 10_000;

/// Content is verified, resumed and compared in chunks of this many bytes (a BLAKE3 subtree), unless it is so large
/// that its outline would be too long: see [`chunk_bytes`].
pub const CHUNK_BYTES: u64 = 1 << 20;
/// Bytes of a chunk of the largest files.
pub const CHUNK_BYTES_MAX: u64 = 64 << 20;
/// Files up to this size travel packed together, larger ones in ranges.
pub const SMALL_FILE_BYTES_MAX: u64 = CHUNK_BYTES;
/// Chunk hashes in one outline answer: 32 bytes each.
pub const OUTLINE_CHUNKS_MAX: usize = 16 << 10;
/// Largest file that is carried, in bytes: 1 TiB.
pub const FILE_BYTES_MAX: u64 = CHUNK_BYTES_MAX * OUTLINE_CHUNKS_MAX as u64;

/// Bytes of each chunk, but the last, of a content of `size` bytes: 1 MiB up to 16 GiB, from there on the next power
/// of two with which the outline has at most [`OUTLINE_CHUNKS_MAX`] chunks.
pub const fn chunk_bytes(size: u64) -> u64 {
    let mut bytes = CHUNK_BYTES;
    while bytes < CHUNK_BYTES_MAX && size.div_ceil(bytes) > OUTLINE_CHUNKS_MAX as u64 {
        bytes *= 2;
    }
    bytes
}

/// Deletes of one plan beyond which the places they rest on are looked at a second time: a checkout or an unpacking
/// empties directories for a moment, and a scan in that moment sees them empty.
pub const BULK_DELETES_MAX: u64 = 20;
/// Time between the plan and the second look, in milliseconds.
pub const BULK_SETTLE_MS: u64 = 5_000;
/// Quiet that both ends must have had before the second look, in milliseconds.
pub const BULK_QUIET_MS: u64 = 2_000;
/// The second look is taken after this time however busy the ends are, in milliseconds.
pub const BULK_SETTLE_MS_MAX: u64 = 30_000;

/// Rows that are kept of what one generation was decided from, for a replay: some 30 MB in memory at most, beside the plan,
/// at the moment when a coordinator needs most.
pub const REPLAY_ROWS_MAX: usize = 50_000;

/// Follow-up generations of one sync before it is left to the next run.
pub const FOLLOW_UPS_MAX: u32 = 3;

/// Transfers of one conduit at the same time.
pub const PARALLEL_TRANSFERS_MAX: u32 = 64;
/// Rulings and conflicts that one row about spent ones leaves standing: as many as conflicts of one plan become rows.
pub const SPENT_KEPT_MAX: usize = 1_000;
/// Limits of a conduit's bandwidth in one day: one for every half hour.
pub const LIMIT_STEPS_MAX: usize = 48;
/// Lowest limit of a conduit's bandwidth, in bytes per second: under less, whoever waits for content gives up before it
/// comes.
pub const LIMIT_BYTES_PER_S_MIN: u64 = 1_000;
/// Shortest quiet time of an instant schedule, in milliseconds: shorter would sync half-written saves.
pub const SETTLE_MS_MIN: u32 = 100;
/// Shortest interval of a schedule, in milliseconds: a verified run over a LAN takes about as long.
pub const INTERVAL_MS_MIN: u64 = 1_000;

const _: () = assert!(ROWS_BYTES_MAX > FRAME_BYTES_MAX / 2);
const _: () = assert!(OUTLINE_CHUNKS_MAX * 32 < FRAME_BYTES_MAX);
const _: () = assert!(CHUNK_BYTES.is_power_of_two() && CHUNK_BYTES > 1024 && CHUNK_BYTES_MAX.is_power_of_two());
const _: () = assert!(chunk_bytes(16 << 30) == CHUNK_BYTES && chunk_bytes((16 << 30) + 1) == 2 * CHUNK_BYTES);
const _: () = assert!(chunk_bytes(FILE_BYTES_MAX) == CHUNK_BYTES_MAX);
const _: () = assert!(NAME_BYTES_MAX < PATH_BYTES_MAX && PATH_BYTES_MAX < ROWS_BYTES_MAX);
const _: () = assert!(RULE_BYTES_MAX < RULES_BYTES_MAX && RULES_BYTES_MAX < ROWS_BYTES_MAX);
const _: () = assert!(ANSWER_MS_MAX > EVIDENCE_AGE_MS_MAX);
const _: () = assert!(BULK_QUIET_MS < BULK_SETTLE_MS && BULK_SETTLE_MS < BULK_SETTLE_MS_MAX);
