//! The marker `.tidegate/id`: whether a root is the one that was added.
//!
//! A root is known by its marker *and* by file system and inode, as the store keeps them: a disk mounted on
//! the wrong place, a restored copy, an emptied directory are each told from the real one. Only
//! [`mark_root`] makes a marker, when a person adds the location; nothing ever makes it again.
//!
//! Form, version 1: four lines of text, `tidegate location 1`, `location <hex>`, `device <base32>`,
//! `nonce <hex>`, each with a newline.

use std::io;

use serde::{Deserialize, Serialize};
use tidegate_protocol::id::{DeviceId, LocationId, Nonce};
use tidegate_protocol::library_sync::RootState;
use tidegate_protocol::path::Name;

use super::{File, FileKind, RenameMode, RootDir, RootIdentity, TreePath, reading};

const MARKER_BYTES_MAX: usize = 512;

/// What `.tidegate/id` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    /// The location.
    pub location: LocationId,
    /// The device that holds it.
    pub device: DeviceId,
    /// Drawn when it was marked, so that two markings of one directory differ.
    pub nonce: Nonce,
}

/// What the store keeps of a root, to know it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootBinding {
    /// Where it was.
    pub identity: RootIdentity,
    /// What its marker says.
    pub marker: Marker,
}

/// Why a root could not be marked.
#[derive(Debug, thiserror::Error)]
pub enum MarkError {
    /// It has a marker: it is a location already, or was one.
    #[error("this directory is, or was, a location: it holds .tidegate/id")]
    AlreadyMarked,
    /// `.tidegate` is there and is no directory of this user.
    #[error("something else stands where .tidegate/ belongs")]
    Occupied,
    /// The operating system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Marks a root as a location. The marker appears whole or not at all.
pub async fn mark_root<R: RootDir>(root: &R, marker: Marker) -> Result<RootBinding, MarkError> {
    let (own, id, new) = paths();
    match root.make_dir(&own).await {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            let found = root.metadata(&own).await.ok().flatten();
            if found.is_none_or(|found| found.kind != FileKind::Directory) {
                return Err(MarkError::Occupied);
            }
        }
        other => other?,
    }
    if root.metadata(&id).await?.is_some() {
        return Err(MarkError::AlreadyMarked);
    }
    if root.metadata(&new).await?.is_some() {
        // Left by an attempt that a crash ended.
        root.remove_file(&new).await?;
    }
    let file = root.create(&new).await?;
    file.write_at(marker.to_text().as_bytes(), 0).await?;
    file.sync().await?;
    match root.rename(&new, &id, RenameMode::NoReplace).await {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Err(MarkError::AlreadyMarked),
        other => other?,
    }
    root.sync_dir(&own).await?;
    root.sync_dir(&TreePath::ROOT).await?;
    Ok(RootBinding { identity: root.identity().await?, marker })
}

/// Whether the root is there and is the one that was marked. An error of the disk is an error, not a state.
pub async fn check_root<R: RootDir>(root: &R, binding: &RootBinding) -> io::Result<RootState> {
    match root.identity().await {
        Ok(identity) if identity == binding.identity => {}
        Ok(_) => return Ok(RootState::Replaced),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(RootState::Missing);
        }
        Err(e) => return Err(e),
    }
    let same = read_marker(root).await? == Some(binding.marker);
    Ok(if same { RootState::Present } else { RootState::Replaced })
}

/// The marker of a root, if it has one that can be read.
pub async fn read_marker<R: RootDir>(root: &R) -> io::Result<Option<Marker>> {
    let (_, id, _) = paths();
    let file = match root.open(&id).await {
        Err(e) => {
            use io::ErrorKind as Kind;
            let absent = matches!(e.kind(), Kind::NotFound | Kind::NotADirectory | Kind::InvalidInput);
            return if absent { Ok(None) } else { Err(e) };
        }
        Ok(file) => file,
    };
    let mut buffer = [0; MARKER_BYTES_MAX];
    let length = reading::fill(&file, &mut buffer, 0).await?;
    Ok(std::str::from_utf8(&buffer[..length]).ok().and_then(Marker::from_text))
}

impl Marker {
    fn to_text(self) -> String {
        let Self { location, device, nonce } = self;
        format!("tidegate location 1\nlocation {location}\ndevice {device}\nnonce {nonce}\n")
    }

    fn from_text(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("tidegate location 1\nlocation ")?;
        let (location, rest) = rest.split_once("\ndevice ")?;
        let (device, nonce) = rest.split_once("\nnonce ")?;
        let marker = Self {
            location: location.parse().ok()?,
            device: device.parse().ok()?,
            nonce: nonce.strip_suffix('\n')?.parse().ok()?,
        };
        // Only the very bytes that are written count.
        (marker.to_text() == text).then_some(marker)
    }
}

fn paths() -> (TreePath, TreePath, TreePath) {
    let name = |text: &str| Name::new(text.as_bytes()).expect("a plain name");
    let own = TreePath::internal([]);
    (own.clone(), own.child(&name("id")), own.child(&name("id.new")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marker() -> Marker {
        Marker {
            location: LocationId::from_bytes([1; 16]),
            device: DeviceId::from_bytes([2; 32]),
            nonce: Nonce::from_bytes([3; 16]),
        }
    }

    #[test]
    fn the_markers_form_is_fixed_and_only_that_form_is_read() {
        let text = marker().to_text();
        assert_eq!(
            text,
            "tidegate location 1\nlocation 01010101010101010101010101010101\n\
             device AIBAEAQCAIBAEAQCAIBAEAQCAIBAEAQCAIBAEAQCAIBAEAQCAIBA\nnonce 03030303030303030303030303030303\n"
        );
        assert_eq!(Marker::from_text(&text), Some(marker()));
        for bad in ["", &text[..text.len() - 1], &format!("{text}\n"), &text.replace("location 1", "location 2")] {
            assert_eq!(Marker::from_text(bad), None, "{bad:?}");
        }
    }
}
