//! Users: how deeds of editors, file managers and version control change a disk.
//!
//! What a user does happens at once, as the programs of that user would do it, and is told to the ghost; a slow save
//! is written piece by piece by [`Users::go_on`]. A deed that does not fit what is there by then (nothing to delete,
//! a file where a directory is needed) does nothing, as for a user who finds that somebody was faster.

use tidegate_storage::disk::FileKind;

use crate::disk::{Content as Bytes, Disk, Picture, User, UserFile};
use crate::ghost::Ghost;
use crate::plan::{Content, Deed, Millis, Place, Style};
use crate::random::{Draws, Kind, Stream};

/// Pieces in which a slow save is written.
const PIECES: u64 = 6;

/// A slow save under way.
pub struct SlowSave {
    /// On which device.
    pub device: usize,
    /// Time between two pieces.
    pub pause: Millis,
    file: UserFile,
    disk: Disk,
    place: Place,
    bytes: Vec<u8>,
    written: usize,
    replaced: Option<Bytes>,
}

/// What a deed came to.
pub enum Came {
    /// Nothing: it did not fit.
    ToNothing,
    /// It was done.
    Done,
    /// Its first piece was written.
    Slow(Box<SlowSave>),
}

/// The users of all devices.
#[derive(Debug, Clone, Copy)]
pub struct Users {
    draws: Draws,
}

/// One deed being done.
struct Doing<'a> {
    at: Millis,
    device: usize,
    user: User,
    disk: Disk,
    ghost: &'a mut Ghost,
    draw: Stream,
    number: u32,
    /// Contents made by this deed so far.
    made: u64,
    seed: u64,
}

impl Users {
    /// Users whose choices follow from a plan's seed.
    pub const fn new(seed: u64) -> Self {
        Self { draws: Draws::new(seed) }
    }

    /// Does a deed. `active` is a path, below the location, on which a job of the device works.
    pub fn act(
        &self,
        at: Millis,
        (device, disk): (usize, &Disk),
        (deed, number): (&Deed, u32),
        active: Option<&str>,
        ghost: &mut Ghost,
    ) -> Came {
        let draw = self.draws.stream(Kind::User, device as u64, 0).below_key(u64::from(number));
        let seed = self.draws.stream(Kind::Content, 0, 0).next_u64();
        let mut doing = Doing { at, device, user: disk.user(), disk: disk.clone(), ghost, draw, number, made: 0, seed };
        match doing.deed(deed, active) {
            Some(came) => came,
            None => Came::ToNothing,
        }
    }

    /// Puts the first files of a location there.
    pub fn furnish(
        &self,
        device: usize,
        disk: &Disk,
        place: &Place,
        content: &Content,
        number: u32,
        ghost: &mut Ghost,
    ) {
        let deed = Deed::Write { at: place.clone(), content: content.clone(), style: Style::Truncate };
        // Numbers of first files lie beyond those of steps.
        let _ = self.act(Millis(0), (device, disk), (&deed, u32::MAX - number), None, ghost);
    }

    /// Writes the next piece of a slow save; hands it back if there is more.
    pub fn go_on(at: Millis, mut save: Box<SlowSave>, ghost: &mut Ghost) -> Option<Box<SlowSave>> {
        let end = (save.written + save.bytes.len().div_ceil(PIECES as usize).max(1)).min(save.bytes.len());
        let before = save.file.read().ok()?;
        // The disk was pulled or restored meanwhile: the program gives up, and what it had is lost with it.
        save.file.write_at(&save.bytes[save.written..end], save.written as u64).ok()?;
        save.written = end;
        // Another program may have written into the same file meanwhile: its version is written over, and what is there then
        // is a user's, too.
        let there = save.file.read().ok()?;
        ghost.superseded(save.device, before.hash());
        ghost.shown(there.hash());
        if end < save.bytes.len() {
            return Some(save);
        }
        let whole = Bytes::new(&save.bytes);
        // A file that a conduit has deleted for good while it was written holds its bytes for nobody any more.
        let named = save.disk.contents(Picture::Live).contains(&whole.hash());
        if there == whole && named {
            let replaced = save.replaced.as_ref().map(Bytes::hash);
            ghost.wrote(at, save.device, (&save.place.location, &save.place.path), &whole, replaced);
        }
        None
    }
}

/// The absolute path of a place.
pub fn absolute(place: &Place) -> String {
    if place.path.is_empty() { format!("/{}", place.location) } else { format!("/{}/{}", place.location, place.path) }
}

impl Doing<'_> {
    fn deed(&mut self, deed: &Deed, active: Option<&str>) -> Option<Came> {
        match deed {
            Deed::Write { at, content, style } => return self.write(at, content, *style),
            Deed::Delete(at) => self.user.remove_tree(&absolute(at)).ok()?,
            Deed::Rename(from, to) => {
                self.parents(to)?;
                self.user.rename(&absolute(from), &absolute(to)).ok()?;
            }
            Deed::Swap(one, other) => {
                let temporary = format!("{}.swapping", absolute(one));
                let (one, other) = (absolute(one), absolute(other));
                // The temporary name may take the place of nothing.
                if self.user.kind(&temporary).is_ok()
                    || self.user.kind(&one).is_err()
                    || self.user.kind(&other).is_err()
                {
                    return None;
                }
                self.user.swap(&one, &other, &temporary).ok()?;
            }
            Deed::MakeDir(at) => {
                self.parents(at)?;
                self.user.make_dir(&absolute(at)).ok()?;
            }
            Deed::Link(at, target) => {
                self.parents(at)?;
                let path = absolute(at);
                if self.user.kind(&path).is_ok_and(|kind| kind == FileKind::Symlink) {
                    self.user.remove(&path).ok()?;
                }
                self.user.make_symlink(&path, target.as_bytes()).ok()?;
            }
            Deed::Fifo(at) => {
                self.parents(at)?;
                self.user.make_special(&absolute(at)).ok()?;
            }
            Deed::Retype(at) => self.retype(at)?,
            Deed::Touch(at) => {
                let path = absolute(at);
                let found = self.user.metadata(&path).ok().filter(|found| found.kind == FileKind::File)?;
                self.user.set_mtime(&path, found.mark.mtime_ns + 1_000_000_000).ok()?;
            }
            Deed::Executable(at, on) => {
                let path = absolute(at);
                self.user.metadata(&path).ok().filter(|found| found.kind == FileKind::File)?;
                self.user.set_executable(&path, *on).ok()?;
            }
            Deed::Checkout(at, files) => self.check_out(at, *files)?,
            Deed::Strike { location, .. } => return self.strike(location, active),
            Deed::Rules(location, rules) => {
                let at = Place { location: location.clone(), path: tidegate_storage::disk::RULE_FILE.to_owned() };
                let text = rules.iter().fold(String::new(), |text, rule| text + rule + "\n");
                return self.write(&at, &Content::Text(text), Style::Temp);
            }
            _ => return None,
        }
        Some(Came::Done)
    }

    fn parents(&self, place: &Place) -> Option<()> {
        let path = absolute(place);
        let (parent, _) = path.rsplit_once('/')?;
        // The root itself is never made: if it is not mounted, the user's program fails.
        if parent.is_empty() || self.user.kind(&format!("/{}", place.location)).is_err() {
            return None;
        }
        self.user.make_dirs(parent).ok()
    }

    fn bytes(&mut self, content: &Content) -> Vec<u8> {
        let length = match content {
            Content::Text(text) => return text.as_bytes().to_vec(),
            Content::Unique(0) => return Vec::new(),
            Content::Unique(length) => *length as usize,
        };
        self.made += 1;
        let mut bytes = format!("{:016x} deed {} part {}\n", self.seed, self.number, self.made).into_bytes();
        let text = bytes.len();
        if length > text {
            bytes.resize(length, 0);
            self.draw.below_key(self.made).fill(&mut bytes[text..]);
        }
        bytes
    }

    fn write(&mut self, at: &Place, content: &Content, style: Style) -> Option<Came> {
        self.parents(at)?;
        let path = absolute(at);
        let before = self.user.read(&path).ok();
        let mut bytes = self.bytes(content);
        match style {
            Style::Truncate => self.user.write(&path, &bytes).ok()?,
            Style::Temp => {
                let temporary = format!("{path}.{}.part~", self.number);
                let synced = self.draw.chance(500_000);
                if self.user.save_by_rename(&path, &temporary, &bytes, synced).is_err() {
                    let _ = self.user.remove(&temporary);
                    return None;
                }
            }
            Style::Append => {
                let old = before.as_ref().map(Bytes::bytes).unwrap_or_default();
                self.user.append(&path, &bytes).ok()?;
                // What was there is part of the new version now.
                if let Some(before) = &before {
                    self.ghost.superseded(self.device, before.hash());
                }
                bytes = [old, bytes].concat();
            }
            Style::Slow(span) => {
                let file = match self.user.open(&path) {
                    Ok(file) => file,
                    Err(_) => self.user.create(&path).ok()?,
                };
                file.truncate(0).ok()?;
                let pause = Millis((span.0 / PIECES).max(1));
                let save = SlowSave {
                    device: self.device,
                    pause,
                    file,
                    disk: self.disk.clone(),
                    place: at.clone(),
                    bytes,
                    written: 0,
                    replaced: before,
                };
                return Some(Users::go_on(self.at, Box::new(save), self.ghost).map_or(Came::Done, Came::Slow));
            }
            Style::Stealth => {
                let found = self.user.metadata(&path).ok().filter(|found| found.kind == FileKind::File)?;
                // The same size; too small a file cannot hold what tells contents apart.
                let size = found.mark.size as usize;
                if size < bytes.len().min(60) {
                    return None;
                }
                bytes = self.bytes(&Content::Unique(found.mark.size as u32));
                self.user.write(&path, &bytes).ok()?;
                self.user.set_mtime(&path, found.mark.mtime_ns).ok()?;
            }
        }
        let replaced = before.as_ref().map(Bytes::hash);
        self.ghost.wrote(self.at, self.device, (&at.location, &at.path), &Bytes::new(&bytes), replaced);
        Some(Came::Done)
    }

    fn retype(&mut self, at: &Place) -> Option<()> {
        let path = absolute(at);
        let kind = self.user.kind(&path).ok()?;
        self.user.remove_tree(&path).ok()?;
        match (kind, self.draw.below(2)) {
            (FileKind::File, 0) => {
                self.user.make_dir(&path).ok()?;
                let inner = Place { location: at.location.clone(), path: format!("{}/inner.txt", at.path) };
                self.write(&inner, &Content::Unique(100), Style::Truncate).map(drop)
            }
            (FileKind::File, _) => self.user.make_symlink(&path, b"elsewhere").ok(),
            _ => self.write(at, &Content::Unique(100), Style::Truncate).map(drop),
        }
    }

    /// Files below a place, as paths below the location.
    fn files_below(&self, at: &Place) -> Vec<String> {
        let mut found = Vec::new();
        let mut open = vec![at.path.clone()];
        while let Some(dir) = open.pop() {
            let place = Place { location: at.location.clone(), path: dir.clone() };
            for name in self.user.list(&absolute(&place)).unwrap_or_default() {
                let Ok(name) = String::from_utf8(name) else { continue };
                // Bytes of chance are no rules, and a location without readable rules is never settled.
                if name == ".tidegate" || name == tidegate_storage::disk::RULE_FILE {
                    continue;
                }
                let path = if dir.is_empty() { name } else { format!("{dir}/{name}") };
                match self.user.kind(&absolute(&Place { location: at.location.clone(), path: path.clone() })) {
                    Ok(FileKind::Directory) => open.push(path),
                    Ok(FileKind::File) => found.push(path),
                    _ => {}
                }
            }
        }
        found.sort();
        found
    }

    fn check_out(&mut self, at: &Place, files: u32) -> Option<()> {
        let mut there = self.files_below(at);
        self.draw.shuffle(&mut there);
        let place = |path: String| Place { location: at.location.clone(), path };
        for number in 0..files {
            let fresh = place(format!("{}{}branch{number}.txt", at.path, if at.path.is_empty() { "" } else { "/" }));
            match (there.pop(), self.draw.below(4)) {
                (Some(old), 0) => self.user.remove(&absolute(&place(old))).ok()?,
                (Some(old), 1) => {
                    // Checked out under another name: an older file of that name gives way.
                    self.parents(&fresh)?;
                    let _ = self.user.rename(&absolute(&place(old)), &absolute(&fresh));
                }
                (Some(old), _) => drop(self.write(&place(old), &Content::Unique(150), Style::Temp)),
                (None, 0..3) => drop(self.write(&fresh, &Content::Unique(150), Style::Truncate)),
                (None, _) => {}
            }
        }
        Some(())
    }

    fn strike(&mut self, location: &str, active: Option<&str>) -> Option<Came> {
        let top = Place { location: location.to_owned(), path: String::new() };
        let path = if let Some(path) = active {
            path.to_owned()
        } else {
            let files = self.files_below(&top);
            files.get(self.draw.index(files.len().max(1)))?.clone()
        };
        // Bytes of chance are no rules, and a location with rules that cannot be read waits for a person.
        if path.rsplit('/').next() == Some(tidegate_storage::disk::RULE_FILE) {
            return None;
        }
        let at = Place { location: location.to_owned(), path };
        match self.draw.below(5) {
            0 => self.user.remove_tree(&absolute(&at)).ok().map(|()| Came::Done),
            1 => {
                let away = Place { path: format!("{}.away", at.path), ..at.clone() };
                self.user.rename(&absolute(&at), &absolute(&away)).ok().map(|()| Came::Done)
            }
            2 => self.write(&at, &Content::Unique(120), Style::Temp),
            3 => self.write(&at, &Content::Unique(120), Style::Append),
            _ => self.write(&at, &Content::Unique(120), Style::Truncate),
        }
    }
}
