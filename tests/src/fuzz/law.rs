//! What comes from peers and from rule files. This file is also built by itself, beside `tidegate-protocol` alone.

use tidegate_protocol::codec;
use tidegate_protocol::index::{IgnoreRules, parse_rules};
use tidegate_protocol::library_sync::{Row, SignedHead};
use tidegate_protocol::path::{DirPath, EntryPath};
use tidegate_protocol::wire::{Request, Response, frame_length};

/// A frame is refused, or means exactly its bytes.
pub fn frames(bytes: &[u8]) {
    if let Some(prefix) = bytes.first_chunk::<4>() {
        let _ = frame_length(*prefix);
    }
    if let Ok(request) = Request::decode(bytes) {
        assert_eq!(request.encode(), bytes, "two byte strings of one request");
    }
    if let Ok(response) = Response::decode(bytes) {
        let again = Response::decode(&response.encode());
        assert_eq!(again.as_ref(), Ok(&response), "an answer that does not survive itself");
    }
}

/// A row is refused, or means exactly its bytes.
pub fn rows(bytes: &[u8]) {
    if let Ok(row) = codec::decode::<Row>(bytes) {
        assert_eq!(codec::encode(&row), bytes, "two byte strings of one row");
    }
}

/// A head that nobody signed is refused, whatever it claims.
pub fn heads(bytes: &[u8]) {
    if let Ok(head) = codec::decode::<SignedHead>(bytes) {
        assert_eq!(codec::encode(&head), bytes, "two byte strings of one head");
        let claimed = head.claimed();
        if let Ok(verified) = head.verify() {
            assert_eq!(claimed.as_ref(), Ok(&verified), "what is verified is what was claimed");
        }
    }
}

/// A path is refused, or stays inside its root and survives being written and read.
pub fn paths(bytes: &[u8]) {
    for path in [EntryPath::from_slashes(bytes), EntryPath::from_stored(bytes.to_vec())].into_iter().flatten() {
        assert_eq!(EntryPath::from_slashes(&path.to_slashes()).as_ref(), Ok(&path), "written and read");
        assert!(path.names().all(|name| !name.is_empty() && name != b"." && name != b".."), "leads elsewhere");
        assert!(path.ancestors().all(|above| path.is_below(&above)), "not below its own directories");
        assert_eq!(path.depth(), path.names().count());
        let dir = DirPath::below_top(path.clone());
        if let Ok(joined) = dir.join(&path) {
            assert_eq!(dir.relative(&joined), Some(path), "below its own directory");
        }
    }
    let _ = DirPath::from_slashes(bytes);
}

/// A rule file is refused with its reason, or its rules hide paths in bounded time.
pub fn rules(bytes: &[u8]) {
    let Ok(texts) = parse_rules(bytes) else { return };
    let Ok(rules) = IgnoreRules::new(&texts) else { return };
    for line in bytes.split(|byte| *byte == b'\n').take(16) {
        if let Ok(path) = EntryPath::from_slashes(line) {
            let below = DirPath::below_top(path.clone()).join(&path);
            let covers = |below: &EntryPath| !rules.hides(&path) || rules.hides(below);
            assert!(below.as_ref().is_ok_and(covers) || below.is_err(), "what is below what is hidden is hidden");
        }
    }
}
