//! Directory trees as values, read back from the disk.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::LabError;

/// Paths, as bytes with `/`, and what stands there. `.tidegate` is left out.
pub type Tree = BTreeMap<Vec<u8>, Leaf>;

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leaf {
    /// A directory.
    Directory,
    /// A file: BLAKE3 of its content, and whether its owner may execute it.
    File([u8; 32], bool),
    /// A symbolic link and its text.
    Symlink(Vec<u8>),
    /// Anything else.
    Other,
}

impl Leaf {
    /// The file with this content, not executable.
    pub fn file(content: &[u8]) -> Self {
        Self::File(*blake3::hash(content).as_bytes(), false)
    }
}

/// Reads a directory back, whole.
pub fn read(root: &Path) -> Result<Tree, LabError> {
    let mut tree = Tree::new();
    below(root, &[], &mut tree)?;
    Ok(tree)
}

fn below(directory: &Path, prefix: &[u8], tree: &mut Tree) -> Result<(), LabError> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name() == ".tidegate" {
            continue;
        }
        let mut path = prefix.to_vec();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(entry.file_name().as_bytes());
        let metadata = entry.path().symlink_metadata()?;
        let leaf = if metadata.is_dir() {
            below(&entry.path(), &path, tree)?;
            Leaf::Directory
        } else if metadata.is_file() {
            let executable = metadata.permissions().mode() & 0o100 != 0;
            Leaf::File(*blake3::hash(&fs::read(entry.path())?).as_bytes(), executable)
        } else if metadata.is_symlink() {
            Leaf::Symlink(fs::read_link(entry.path())?.into_os_string().into_vec())
        } else {
            Leaf::Other
        };
        tree.insert(path, leaf);
    }
    Ok(())
}

/// Writes a file, creating the directories above it.
pub fn write(root: &Path, path: impl AsRef<[u8]>, content: &[u8]) -> Result<(), LabError> {
    let path = root.join(OsStr::from_bytes(path.as_ref()));
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    Ok(fs::write(path, content)?)
}

/// `length` bytes that follow from `seed` and compress to nothing less.
pub fn fill(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}
