//! Golden bytes of what travels. A change here is a change of the protocol: raise `PROTOCOL_VERSION` with it, and say
//! in `docs/PROTOCOL.md` what changed.

use data_encoding::HEXLOWER;
use tidegate_protocol::codec;
use tidegate_protocol::file_sync::{
    Action, BandwidthLimit, Decision, Fetched, Item, ItemOutcome, JobKey, JobKind, JobProgress, JobState, LimitStep,
    PreImage, Ruling, Selection, Side,
};
use tidegate_protocol::hash::ContentHash;
use tidegate_protocol::id::{ConduitId, DeviceId, Epoch, Label, LibraryId, LocationId, Nonce, Sequence};
use tidegate_protocol::index::{Entry, EntryKind, EntryState, FileFacts, Version};
use tidegate_protocol::library_sync::{
    Fact, FactKey, Head, LocationStatus, RootState, Row, RowBody, RowKey, Unsettled,
};
use tidegate_protocol::path::{DirPath, EntryPath};
use tidegate_protocol::time::{Stamp, Stamped};
use tidegate_protocol::wire::{
    Coordinate, Fetch, FetchFailure, Hello, JobControl, JobReport, Part, Piece, Refusal, RefusalCode, Request,
    Response, Want,
};

fn device() -> DeviceId {
    DeviceId::from_bytes([0xd1; 32])
}

fn path(text: &str) -> EntryPath {
    EntryPath::from_slashes(text.as_bytes()).expect("a path")
}

fn job() -> JobKey {
    JobKey {
        conduit: ConduitId::from_bytes([0xc0; 16]),
        generation: 300,
        device: device(),
        side: Side::Target,
        kind: JobKind::Copy,
    }
}

fn file() -> FileFacts {
    FileFacts { content: ContentHash::from_bytes([0xee; 32]), size: 5, mtime_ns: -1, executable: true }
}

fn version() -> Version {
    let mut version = Version::NONE;
    version.bump(device(), 7);
    version
}

/// Bytes in hexadecimal; a run of more than three is folded: `d1*32` is 32 times d1.
fn shown(mut bytes: &[u8]) -> String {
    let mut text = String::new();
    while let Some(first) = bytes.first() {
        let run = bytes.iter().take_while(|byte| *byte == first).count();
        text.push_str(&HEXLOWER.encode(&[*first]));
        if run > 3 {
            text.push('*');
            text.push_str(&run.to_string());
            text.push(' ');
        }
        bytes = &bytes[if run > 3 { run } else { 1 }..];
    }
    text
}

#[test]
fn requests_have_these_bytes() {
    let library = LibraryId::from_bytes([0x11; 16]);
    let hello = Hello { version: 1, library, name: Label::new("desk").unwrap(), alone: true };
    let nonce = Nonce::from_bytes([0xaa; 16]);
    let locations = vec![LocationId::from_bytes([0x22; 16])];
    let action = Action::InstallFile { file: file(), version: version(), from: path("a/b") };
    let items = vec![Item { path: path("a/b"), expect: PreImage::Absent, action }];
    let want = Want { path: path("x"), content: ContentHash::from_bytes([0xee; 32]), offset: 0, length: 5 };
    let what = Coordinate::Sync { plan: None, wait_ms: 30_000 };
    for (request, golden) in [
        (Request::Hello(hello), "000111*16 046465736b01"),
        (Request::Heads { nonce, locations, conduit: None, own: None }, "01aa*16 0122*16 0000"),
        (Request::Rows { device: device(), epoch: Epoch(9), from: Sequence(128) }, "02d1*32 098001"),
        (
            Request::JobItems { job: job(), first: 0, items },
            "04c0*16 ac02d1*32 01000001036100620001ee*32 05010101d1*32 0703610062",
        ),
        (Request::JobStatus { job: job(), outcomes_from: 3 }, "05c0*16 ac02d1*32 010003"),
        (Request::JobControl { job: job(), control: JobControl::Cancel }, "06c0*16 ac02d1*32 010002"),
        (Request::Coordinate { conduit: ConduitId::from_bytes([0xc0; 16]), what }, "07c0*16 0000b0ea01"),
        (
            Request::Coordinate {
                conduit: ConduitId::from_bytes([0xc0; 16]),
                what: Coordinate::Why { path: path("a"), wait_ms: 5 },
            },
            "07c0*16 02016105",
        ),
        (Request::Fetch(Fetch { job: job(), wants: vec![want] }), "08c0*16 ac02d1*32 0100010178ee*32 0005"),
        (Request::Look { location: LocationId::from_bytes([0x22; 16]), paths: vec![path("a")] }, "0a22*16 010161"),
    ] {
        assert_eq!(shown(&request.encode()), golden);
        assert_eq!(Request::decode(&request.encode()), Ok(request));
    }
}

#[test]
fn responses_have_these_bytes() {
    let progress = JobProgress { items_done: 1, items_skipped: 0, bytes_done: 5, bytes_reused: 0 };
    let outcomes = vec![ItemOutcome::Done];
    let report = JobReport { job: job(), state: JobState::Running, progress, outcomes, current: vec![path("a")] };
    let bytes = Piece { want: 0, part: Part::Bytes(b"hello".to_vec()) };
    let failed = Piece { want: 1, part: Part::Failed(FetchFailure::Changed) };
    for (response, golden) in [
        (Response::JobAccepted { items: 2 }, "0302"),
        (Response::JobStatus(report), "04c0*16 ac02d1*32 010001010005000100010161"),
        (Response::Pieces(vec![bytes, failed]), "070200000568656c6c6f010101"),
        (Response::Outline { chunks: vec![[3; 32]] }, "060103*32 "),
        (Response::Refused(Refusal::new(RefusalCode::Fenced, "no")), "0804026e6f"),
        (Response::Looking, "09"),
        (Response::Shown(vec![1, 2]), "0b020102"),
    ] {
        assert_eq!(shown(&response.encode()), golden);
        assert_eq!(Response::decode(&response.encode()), Ok(response));
    }
}

#[test]
fn what_is_signed_and_hashed_has_these_bytes() {
    let location = LocationId::from_bytes([0x22; 16]);
    let status = LocationStatus { location, root: RootState::Present, unsettled: vec![Unsettled::Events], dirty: 4 };
    let head = Head {
        library: LibraryId::from_bytes([0x11; 16]),
        device: device(),
        epoch: Epoch(9),
        sequence: Sequence(128),
        row_count: 100,
        row_bytes: 700,
        set_hash: [0x77; 32],
        membership: 2,
        stamp: Stamp { ms: 1000, counter: 1, device: device() },
        wall_ms: 1001,
        locations: vec![status],
        nonce: None,
    };
    assert_eq!(shown(&codec::encode(&head)), "11*16 d1*32 09800164bc0577*32 02e80701d1*32 e9070122*16 0001010400");
    let entry = Entry { kind: EntryKind::File(file()), version: version() };
    let row = Row {
        sequence: Sequence(5),
        key: RowKey::Entry(location, path("d/f")),
        body: RowBody::Entry(EntryState::Present(entry)),
    };
    assert_eq!(shown(&codec::encode(&row)), "050022*16 03640066000001ee*32 05010101d1*32 07");
}

#[test]
fn actions_keep_their_numbers() {
    let (version, gone) = (version(), version());
    for (action, golden) in [
        (Action::MakeDirectory { version: version.clone() }, "0001d1*32 07"),
        (
            Action::RenameFile { from: path("a"), file: file(), version: version.clone(), gone },
            "030161ee*32 05010101d1*32 0701d1*32 07",
        ),
        (Action::SetMetadata { file: file(), version: version.clone() }, "04ee*32 05010101d1*32 07"),
        (Action::Remove { version: version.clone() }, "0501d1*32 07"),
        (Action::RemoveDirectory { version: version.clone() }, "0601d1*32 07"),
        (Action::Adopt { version: version.clone() }, "0701d1*32 07"),
        (Action::Respell { from: path("a"), version }, "08016101d1*32 07"),
        (Action::Evict { from: path("a") }, "090161"),
    ] {
        assert_eq!(shown(&codec::encode(&action)), golden);
    }
}

#[test]
fn a_ruling_a_limit_and_a_selection_have_these_bytes() {
    let conduit = ConduitId::from_bytes([0xc0; 16]);
    let stamp = Stamp { ms: 1000, counter: 1, device: device() };
    let facts = ContentHash::from_bytes([0xfa; 32]);
    let ruling = Ruling { conduit, facts, path: path("a"), decision: Stamped::new(Decision::Both, stamp) };
    let key = RowKey::Fact(FactKey::Ruling(conduit, facts));
    let row = Row { sequence: Sequence(5), key, body: RowBody::Fact(Fact::Ruling(Box::new(ruling))) };
    assert!(row.is_coherent() && row.may_be_from(device()));
    let golden = "050104c0*16 fa*32 0104c0*16 fa*32 016102e80701d1*32 ";
    assert_eq!(shown(&codec::encode(&row)), golden);
    let limit = BandwidthLimit {
        steps: vec![
            LimitStep { from_minute: 480, bytes_per_s: 512_000 },
            LimitStep { from_minute: 1_140, bytes_per_s: 0 },
        ],
        utc_offset_minutes: -60,
    };
    assert_eq!(shown(&codec::encode(&limit)), "02e00380a01ff4080077");
    assert_eq!(shown(&codec::encode(&BandwidthLimit::default())), "0000");
    let selection = Selection {
        subtrees: vec![DirPath::TOP],
        globs: vec!["*.jpg".to_owned()],
        budget_bytes: Some(300),
        fetched: vec![Fetched { path: path("b"), until_ms: 9 }],
        ..Selection::default()
    };
    assert_eq!(shown(&codec::encode(&selection)), "010001052a2e6a706700*4 01ac020001016209");
}
