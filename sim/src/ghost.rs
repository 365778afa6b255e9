//! The ghost: what users did, in causal order, remembered beside the world.
//!
//! Every content that a user wrote, where, and what it replaced there; what every path of every device went through;
//! and which contents are *owed*: written by a user and not superseded by one. Checkers follow this and never compare
//! times. The ghost believes only users and the log of the disks, nothing that a node says.
//!
//! *Owed* is counted by device: a content is owed to the device on which a user wrote it until a user of that
//! device overwrites or deletes it there. What a node does to it, wherever, changes nothing about that.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_protocol::hash::ContentHash;

use crate::disk::{Actor, Change, Content, Deed};
use crate::plan::Millis;

/// Lines of history kept for one path.
const LINES_MAX: usize = 60;

/// A path of a location, with `/` between names.
pub type Path = String;

/// One saved version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Its number, from 1.
    pub number: u64,
    /// The device on which it was written first.
    pub device: usize,
    /// In which location, and where.
    pub place: (String, Path),
    /// When.
    pub at: Millis,
    /// The content that it replaced there.
    pub replaced: Option<ContentHash>,
}

/// Who has put what stands at a path there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writer {
    /// A user.
    User,
    /// The node.
    Node,
}

/// What users did.
#[derive(Debug, Clone, Default)]
pub struct Ghost {
    versions: BTreeMap<ContentHash, Version>,
    /// Contents that have stood at a path by a user's doing, whole or half written.
    seen: BTreeSet<ContentHash>,
    owed: BTreeMap<(usize, ContentHash), u32>,
    writers: BTreeMap<(usize, String, Path), (Writer, Millis)>,
    changed_by_user: BTreeMap<(usize, String), BTreeMap<Path, Millis>>,
    history: BTreeMap<(String, Path), Vec<String>>,
}

impl Ghost {
    /// A user has saved a content whole.
    pub fn wrote(
        &mut self,
        at: Millis,
        device: usize,
        place: (&str, &str),
        content: &Content,
        replaced: Option<ContentHash>,
    ) {
        let hash = content.hash();
        self.seen.insert(hash);
        let number = self.versions.len() as u64 + 1;
        let place = (place.0.to_owned(), place.1.to_owned());
        self.versions.entry(hash).or_insert(Version { number, device, place, at, replaced });
        // Nothing is no content that could be lost.
        if !content.is_empty() {
            *self.owed.entry((device, hash)).or_default() += 1;
        }
    }

    /// A user has put a content back from the trash: as if written there, if it is not owed to the device already.
    pub fn restored(&mut self, device: usize, content: &Content) {
        if !content.is_empty() {
            self.owed.entry((device, content.hash())).or_insert(1);
        }
    }

    /// A content stands at a path by a user's doing, whole or not.
    pub fn shown(&mut self, content: ContentHash) {
        self.seen.insert(content);
    }

    /// A user of a device has taken a content away there.
    pub fn superseded(&mut self, device: usize, content: ContentHash) {
        if let Some(count) = self.owed.get_mut(&(device, content)) {
            *count -= 1;
            if *count == 0 {
                self.owed.remove(&(device, content));
            }
        }
    }

    /// A device's own misfortune has taken a content: power failed before it was on the platter.
    pub fn forgive(&mut self, device: usize, content: ContentHash) {
        self.owed.remove(&(device, content));
    }

    /// Whether a content is owed to anybody.
    pub fn is_owed(&self, content: ContentHash) -> bool {
        self.owed.keys().any(|(_, owed)| *owed == content)
    }

    /// Everything that is owed.
    pub fn owed(&self) -> impl Iterator<Item = (usize, ContentHash)> + '_ {
        self.owed.keys().copied()
    }

    /// Whether a content ever stood at a path by a user's doing. Nothing at all always did.
    pub fn was_shown(&self, content: &Content) -> bool {
        content.is_empty() || self.seen.contains(&content.hash())
    }

    /// The version that a content is.
    pub fn version(&self, content: ContentHash) -> Option<&Version> {
        self.versions.get(&content)
    }

    /// How people call a content: `v12`.
    pub fn name(&self, content: ContentHash) -> String {
        match self.versions.get(&content) {
            Some(version) => format!("v{} ({})", version.number, content.short()),
            None => content.short(),
        }
    }

    /// Who has put what stands at a path there.
    pub fn writer(&self, device: usize, location: &str, path: &str) -> Option<Writer> {
        self.writers.get(&(device, location.to_owned(), path.to_owned())).map(|(writer, _)| *writer)
    }

    /// When a user changed a path, or anything above or below it, last.
    pub fn user_changed(&self, device: usize, location: &str, path: &str) -> Option<Millis> {
        let paths = self.changed_by_user.get(&(device, location.to_owned()))?;
        let related = |other: &str| {
            other == path || other.is_empty() || path.is_empty() || is_below(other, path) || is_below(path, other)
        };
        paths.iter().filter(|(other, _)| related(other)).map(|(_, at)| *at).max()
    }

    /// Paths of a location that users changed, with the time of the newest change of each.
    pub fn users_changes(&self, device: usize, location: &str) -> impl Iterator<Item = (&Path, Millis)> {
        let paths = self.changed_by_user.get(&(device, location.to_owned()));
        paths.into_iter().flatten().map(|(path, at)| (path, *at))
    }

    /// Everything of a location may have been changed by a user: a root came, went, or was restored.
    pub fn upheaval(&mut self, at: Millis, device: usize, location: &str) {
        self.changed_by_user.entry((device, location.to_owned())).or_default().insert(String::new(), at);
    }

    /// Takes a change of a disk into account. `place` is the location and path of it, and of where it came from or
    /// changed places with; `None` for what lies in no location or in `.tidegate`.
    pub fn saw(&mut self, at: Millis, device: usize, name: &str, change: &Change, places: &Places) {
        let writer = match change.who {
            Actor::User => Writer::User,
            Actor::Node => Writer::Node,
        };
        if writer == Writer::User
            && let Some(content) = change.destroyed()
        {
            self.superseded(device, content.hash());
        }
        for (location, path) in [&places.at, &places.other].into_iter().flatten() {
            self.writers.insert((device, location.clone(), path.clone()), (writer, at));
            if writer == Writer::User {
                let paths = self.changed_by_user.entry((device, location.clone())).or_default();
                paths.insert(path.clone(), at);
            }
            let line = self.line(at, name, writer, change);
            let lines = self.history.entry((location.clone(), path.clone())).or_default();
            if lines.len() == LINES_MAX {
                lines.remove(0);
            }
            lines.push(line);
        }
    }

    /// Notes something of a path for whoever reads its history.
    pub fn note(&mut self, at: Millis, location: &str, path: &str, line: &str) {
        let lines = self.history.entry((location.to_owned(), path.to_owned())).or_default();
        if lines.len() == LINES_MAX {
            lines.remove(0);
        }
        lines.push(format!("{} {line}", at.clock()));
    }

    /// What a path went through, on all devices.
    pub fn history(&self, path: &str) -> Vec<String> {
        let of_path = self.history.iter().filter(|((_, other), _)| other == path);
        let mut lines: Vec<String> = of_path.flat_map(|(_, lines)| lines.clone()).collect();
        lines.sort();
        lines
    }

    fn line(&self, at: Millis, device: &str, writer: Writer, change: &Change) -> String {
        let who = match writer {
            Writer::User => "user",
            Writer::Node => "node",
        };
        let path = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let what = match &change.deed {
            Deed::Created { kind } => format!("made a {kind:?}"),
            Deed::Added => "wrote".to_owned(),
            Deed::Overwrote { before } => format!("wrote over {}", self.name(before.hash())),
            Deed::Marked => "set times or mode".to_owned(),
            Deed::Removed { held } => match &held.content {
                Some(content) => format!("removed {}", self.name(content.hash())),
                None => format!("removed a {:?}", held.kind),
            },
            Deed::Moved { from, held, replaced } => {
                let content = held.content.as_ref().map(|content| self.name(content.hash()));
                let over = replaced.as_ref().and_then(|held| held.content.as_ref());
                let over = over.map(|content| format!(", over {}", self.name(content.hash())));
                format!(
                    "moved {} from {} to {}{}",
                    content.unwrap_or_else(|| format!("a {:?}", held.kind)),
                    path(from),
                    path(&change.path),
                    over.unwrap_or_default()
                )
            }
            Deed::Exchanged { with, .. } => format!("exchanged {} with {}", path(&change.path), path(with)),
        };
        format!("{} {device} {who}: {what}", at.clock())
    }
}

/// Where a change was made, as far as users see it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places {
    /// Where.
    pub at: Option<(String, Path)>,
    /// Where it came from, or what it changed places with.
    pub other: Option<(String, Path)>,
}

/// Whether `path` lies below `dir`.
pub fn is_below(path: &str, dir: &str) -> bool {
    path.strip_prefix(dir).is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_is_owed_until_its_own_user_lets_it_go() {
        let mut ghost = Ghost::default();
        let content = Content::new(b"mine");
        ghost.wrote(Millis(1), 0, ("S", "f"), &content, None);
        ghost.wrote(Millis(2), 0, ("S", "g"), &content, None);
        assert!(ghost.is_owed(content.hash()));
        ghost.superseded(1, content.hash());
        ghost.superseded(0, content.hash());
        assert!(ghost.is_owed(content.hash()), "one of two copies is left");
        ghost.superseded(0, content.hash());
        assert!(!ghost.is_owed(content.hash()));
        ghost.restored(1, &content);
        assert!(ghost.is_owed(content.hash()), "who puts it back wants it");
        ghost.superseded(1, content.hash());
        ghost.wrote(Millis(3), 0, ("S", "h"), &Content::default(), None);
        assert!(!ghost.is_owed(ContentHash::empty()), "nothing cannot be lost");
    }

    #[test]
    fn a_change_above_or_below_is_a_change_of_a_path() {
        let mut ghost = Ghost::default();
        let change = |path: &str| {
            let change = Change { at_ns: 0, who: Actor::User, path: path.into(), deed: Deed::Added };
            (change, Places { at: Some(("S".to_owned(), path.to_owned())), other: None })
        };
        let (seen, places) = change("d/e");
        ghost.saw(Millis(5), 0, "a", &seen, &places);
        let asked = ["d", "d/e", "d/e/f", "d/x", "de", "e"].map(|path| ghost.user_changed(0, "S", path).is_some());
        assert_eq!(asked, [true, true, true, false, false, false]);
    }
}
