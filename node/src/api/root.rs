//! Which directories may become a location: pure checks over canonical paths.

use std::path::Path;

use super::problem::{Code, Problem};

/// Directories that hold a system, not a person's files. What lies below `/home`, `/root` and `/tmp` is fine.
const SYSTEM: [&str; 14] = [
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/lib",
    "/lib64",
    "/proc",
    "/run",
    "/sbin",
    "/sys",
    "/usr",
    "/var/lib/dpkg",
    "/var/lib/rpm",
    "/lost+found",
];

/// Directories that are refused themselves, though what lies below them is fine.
const SYSTEM_TOPS: [&str; 10] = ["/", "/home", "/media", "/mnt", "/opt", "/root", "/srv", "/tmp", "/var", "/var/lib"];

/// Refuses a root that is a system directory, holds or lies in the state directory, or overlaps a location.
/// `taken` are the roots of this device's locations with their names.
pub fn check(root: &Path, state: &Path, taken: &[(String, String)]) -> Result<(), Problem> {
    let refuse = |why: String| {
        Problem::new(Code::RootRefused, format!("{} was not added; nothing was changed", root.display()), why)
    };
    let overlaps = |other: &Path| root.starts_with(other) || other.starts_with(root);
    // Desktops mount removable disks below the first; the second is memory that programs share, as `/tmp` is.
    let below = |top: &str| root.starts_with(top) && root != Path::new(top);
    let own = below("/run/media") || below("/dev/shm");
    if SYSTEM_TOPS.iter().any(|top| root == Path::new(top))
        || (!own && SYSTEM.iter().any(|system| root.starts_with(system)))
    {
        return Err(refuse("it is a directory of the system".to_owned()).next("choose a directory of your own"));
    }
    if overlaps(state) {
        return Err(refuse(format!("Tidegate keeps its own state in {}", state.display())));
    }
    for (name, other) in taken {
        if overlaps(Path::new(other)) {
            let how = match (root == Path::new(other), root.starts_with(other)) {
                (true, _) => "it is",
                (false, true) => "it lies inside",
                (false, false) => "it holds",
            };
            let why = format!("{how} the location {name} ({other}); locations are never nested");
            return Err(refuse(why).next(format!("tidegate location show {name}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_persons_own_directory_outside_every_location_becomes_one() {
        let taken = [("Photos".to_owned(), "/home/ana/Photos".to_owned())];
        let state = Path::new("/home/ana/.local/state/tidegate");
        for (root, fine) in [
            ("/home/ana/Notes", true),
            ("/home/ana/Photos2", true),
            ("/run/media/ana/usb", true),
            ("/tmp/x", true),
            ("/dev/shm/x", true),
            ("/dev/shm", false),
            ("/var/lib/files", true),
            ("/", false),
            ("/home", false),
            ("/etc/ssh", false),
            ("/proc/1", false),
            ("/usr", false),
            ("/run/user/7", false),
            ("/home/ana/Photos", false),
            ("/home/ana/Photos/2026", false),
            ("/home/ana", false),
            ("/home/ana/.local/state/tidegate/x", false),
            ("/home/ana/.local", false),
        ] {
            assert_eq!(check(Path::new(root), state, &taken).is_ok(), fine, "{root}");
        }
    }
}
