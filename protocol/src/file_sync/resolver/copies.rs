//! Conflict copies: `name (conflict YYYY-MM-DD Device).ext`. The name is a function of the facts, so every conduit and
//! every device arrives at the same one, and one conflict yields one copy in the whole library.

use super::frames::moved_below;
use super::places::Place;
use super::walk::{Node, Nodes};
use super::{ConduitView, Side};
use crate::file_sync::names::folded;
use crate::index::{EntryKind, EntryState, Version};
use crate::limits::NAME_BYTES_MAX;
use crate::path::{EntryPath, Name};
use crate::time::civil_date;

/// Names tried before a conflict is held: a hundred copies of one file on one day are no copies but a fault.
const COPIES_MAX: u32 = 100;

/// Where the target's version is kept: the first name that is free on both ends, or that holds the same content
/// already and is about to on both. `None` if there is no such name.
pub(super) fn name(view: &ConduitView<'_>, node: &Node, place: &Place, nodes: &mut Nodes<'_>) -> Option<EntryPath> {
    let loser = node.entry(Side::Target)?;
    let writer = writer(view, &loser.version, node.version(Side::Source));
    let written_ms = match &loser.kind {
        EntryKind::File(file) => file.mtime_ns.div_euclid(1_000_000),
        EntryKind::Directory { .. } | EntryKind::Symlink { .. } | EntryKind::Special | EntryKind::Unknown(_) => {
            i64::try_from(writer.event).unwrap_or(i64::MAX)
        }
    };
    let (year, month, day) = civil_date(written_ms);
    let mark = format!(" (conflict {year:04}-{month:02}-{day:02} {}", writer.name);
    let is_file = matches!(loser.kind, EntryKind::File(_) | EntryKind::Symlink { .. });
    let at = &place.at[Side::Source as usize];
    (1..=COPIES_MAX).find_map(|number| {
        let mark = if number == 1 { format!("{mark})") } else { format!("{mark})-{number}") };
        let copy = at.parent().child(&marked(at.name(), is_file, mark.as_bytes())?).ok()?;
        let fits = if is_file { fits(view, &copy, &loser.kind) } else { fits_below(view, node, place, nodes, &copy) };
        fits.then_some(copy)
    })
}

/// Whether a file or link can be kept there: nothing stands there, or the same does, or is about to.
fn fits(view: &ConduitView<'_>, copy: &EntryPath, kind: &EntryKind) -> bool {
    let is_same = |row: &EntryState| row.present().is_some_and(|entry| entry.kind.same_content(kind));
    match Side::BOTH.map(|side| standing(view, side, copy)) {
        [None | Some(EntryState::Deleted(_)), None | Some(EntryState::Deleted(_))] => true,
        [Some(one), None] | [None, Some(one)] => is_same(&one),
        [Some(source), Some(target)] => is_same(&source) && is_same(&target),
    }
}

/// Whether a directory can be set aside there: each name in it has nothing in its way, or stands there on both ends.
fn fits_below(view: &ConduitView<'_>, node: &Node, place: &Place, nodes: &mut Nodes<'_>, copy: &EntryPath) -> bool {
    let top = &place.at[Side::Target as usize];
    let fits = |kind: &EntryKind, to: &EntryPath| {
        let rows = Side::BOTH.map(|side| standing(view, side, to));
        let same = rows.iter().flatten().filter_map(EntryState::present).filter(|entry| entry.kind.same_content(kind));
        // Where names fold, what stands there may be spelled otherwise, and nothing could be put below it by this name.
        is_free(view, to) || (!view.folds() && same.count() == 2)
    };
    let own = node.kind(Side::Target).is_some_and(|kind| fits(kind, copy));
    own && nodes.below(&node.key).all(|below| {
        let found = below.kind(Side::Target).zip(below.at(Side::Target));
        found.is_none_or(|(kind, at)| moved_below(at, top, copy).is_some_and(|to| fits(kind, &to)))
    })
}

/// The row of a name, in whatever spelling the name stands there.
fn standing(view: &ConduitView<'_>, side: Side, copy: &EntryPath) -> Option<EntryState> {
    if !view.folds() {
        return view.side(side).entry(copy);
    }
    // Spellings do not stand together in path order, so everything is looked at: conflicts are few.
    let key = folded(copy);
    let rows = view.side(side).entries(None);
    let mut twins = rows.filter(|(at, row)| row.present().is_some() && folded(at) == key).map(|(_, row)| row);
    twins.next().or_else(|| view.side(side).entry(copy))
}

/// Whether nothing stands at a name yet.
pub(super) fn is_free(view: &ConduitView<'_>, copy: &EntryPath) -> bool {
    let stands = |side| standing(view, side, copy).is_some_and(|row| row.present().is_some());
    !Side::BOTH.into_iter().any(stands)
}

/// The version of a new copy: past whatever stood there, so that no older deletion is taken for a newer one.
pub(super) fn version(view: &ConduitView<'_>, copy: &EntryPath) -> Version {
    let rows = Side::BOTH.map(|side| view.side(side).entry(copy));
    let seen = rows.iter().flatten().fold(Version::NONE, |seen, row| seen.join(row.version()));
    let mut version = seen;
    version.bump(view.conduit.actor(), 0);
    version
}

/// Who wrote a version.
struct Writer {
    name: String,
    /// Number of the event: the writer's wall time in milliseconds, as events are numbered.
    event: u64,
}

/// The device of the newest event that the winner had not seen, or of the newest at all.
fn writer(view: &ConduitView<'_>, loser: &Version, winner: &Version) -> Writer {
    let labels = view.circumstances.labels;
    let known = || loser.events().filter(|(device, _)| labels.contains_key(device));
    let unseen = known().filter(|(device, event)| winner.get(*device) < *event);
    let newest =
        unseen.max_by_key(|(device, event)| (*event, *device)).or_else(|| known().max_by_key(|(d, e)| (*e, *d)));
    let (device, event) = newest.unwrap_or((view.conduit.target.device, 0));
    let name = labels.get(&device).map_or_else(|| device.short(), |label| label.as_str().to_owned());
    let is_bad = |c: char| matches!(c, '<' | '>' | ':' | '"' | '/' | '\\' | '|' | '?' | '*');
    Writer { name: name.chars().map(|c| if is_bad(c) { '-' } else { c }).collect(), event }
}

/// A name with a mark before its extension, cut where it would be too long. A leading dot begins no extension.
fn marked(name: &[u8], has_extension: bool, mark: &[u8]) -> Option<Name> {
    let dot = name.iter().rposition(|b| *b == b'.').filter(|at| has_extension && *at > 0);
    let (mut stem, mut extension) = name.split_at(dot.unwrap_or(name.len()));
    if extension.len() + mark.len() >= NAME_BYTES_MAX {
        (stem, extension) = (name, &[]);
    }
    let room = NAME_BYTES_MAX.checked_sub(mark.len() + extension.len())?;
    if stem.len() > room {
        let is_inside_char = |at: &usize| stem[*at] & 0xc0 == 0x80;
        let end = (0..=room).rev().find(|at| !is_inside_char(at)).unwrap_or(room);
        stem = &stem[..end];
    }
    Name::new(&[stem, mark, extension].concat()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_stands_before_the_extension_and_the_name_stays_within_its_bound() {
        let long = "é".repeat(120) + ".txt";
        for (name, is_file, expected) in [
            ("a.txt", true, "a (m).txt"),
            ("a.tar.gz", true, "a.tar (m).gz"),
            (".bashrc", true, ".bashrc (m)"),
            ("a", true, "a (m)"),
            ("v1.2", false, "v1.2 (m)"),
            ("a.", true, "a (m)."),
            (&long, true, &("é".repeat(120) + " (m).txt")),
        ] {
            let marked = marked(name.as_bytes(), is_file, b" (m)").unwrap();
            assert_eq!(String::from_utf8_lossy(marked.as_bytes()), expected);
        }
        let cut = marked(("é".repeat(125) + ".txt").as_bytes(), true, b" (conflict)").unwrap();
        assert!(cut.as_bytes().len() <= NAME_BYTES_MAX && std::str::from_utf8(cut.as_bytes()).is_ok());
        assert!(cut.as_bytes().ends_with(b" (conflict).txt"));
    }
}
