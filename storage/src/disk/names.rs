//! What names a file system can store and tell apart, found out by trying at a root.
//!
//! One file system may mix both kinds, by directory, so nothing but the root itself can say. All of it happens in
//! `.tidegate/`, under names of our own; what a crash leaves there is cleared by the next probe.

use std::io;

use tidegate_protocol::file_sync::NameRules;
use tidegate_protocol::path::Name;

use super::{RootDir, TreePath};

/// A name, and two others that are the same to who does not tell case, or the form of an accent, apart.
const PLAIN: &str = "probe-\u{e9}";
const OTHER_CASE: &str = "PROBE-\u{e9}";
const OTHER_FORM: &str = "probe-e\u{301}";
/// A name that Windows, and file systems made for it, cannot store.
const NOT_FOR_WINDOWS: &str = "probe:?";
const LINK: &str = "probe-link";

/// Tries what names a marked root takes, and which of them are one.
///
/// An error says that it could not be tried: the disk is full, or read-only, or failed. Then nothing is known.
pub async fn probe_names<R: RootDir>(root: &R) -> io::Result<NameRules> {
    let own = TreePath::internal([]);
    let at = |name: &str| own.child(&Name::new(name.as_bytes()).expect("a plain name"));
    for left in [PLAIN, NOT_FOR_WINDOWS, LINK] {
        clear(root, &at(left)).await?;
    }
    drop(root.create(&at(PLAIN)).await?);
    let mut folds = false;
    for other in [OTHER_CASE, OTHER_FORM] {
        folds |= root.metadata(&at(other)).await?.is_some();
    }
    clear(root, &at(PLAIN)).await?;
    let windows = match root.create(&at(NOT_FOR_WINDOWS)).await {
        Ok(_) => false,
        Err(error) => is_refused(&error).then_some(true).ok_or(error)?,
    };
    let links = match root.make_symlink(&at(LINK), b"nowhere").await {
        Ok(()) => true,
        Err(error) => is_refused(&error).then_some(false).ok_or(error)?,
    };
    clear(root, &at(NOT_FOR_WINDOWS)).await?;
    clear(root, &at(LINK)).await?;
    Ok(NameRules { folds, windows, links })
}

/// Whether a file system says that it does not do this, rather than that it cannot now.
fn is_refused(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(error.kind(), Kind::InvalidInput | Kind::InvalidFilename | Kind::Unsupported | Kind::PermissionDenied)
}

/// What certainly is not there needs no removing, nor does what cannot even be asked for.
async fn clear<R: RootDir>(root: &R, path: &TreePath) -> io::Result<()> {
    match root.remove_file(path).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound || is_refused(&error) => Ok(()),
        done => done,
    }
}
