//! What can happen in a run: the deeds of users, of fate, and of whoever operates the devices.
//!
//! A deed is data and has one written form, which `grammar` reads and `Display` writes. What a deed means is in
//! `user` (edits) and `run` (the rest). A deed names everything it needs; nothing is drawn when it happens but
//! by streams keyed with its number in the plan, so that leaving one out changes no other.

use std::fmt;

use super::Millis;
use super::words::quoted;

/// A path of one device: a location by its name, and a path below its root; empty is the root.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Name of the location.
    pub location: String,
    /// Below its root, with `/` between names.
    pub path: String,
}

/// What a user puts into a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// These very bytes. Two writes of one text are one content.
    Text(String),
    /// So many bytes that nobody else ever writes.
    Unique(u32),
}

/// How an editor saves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Opens, cuts to nothing, writes.
    Truncate,
    /// Writes a file beside it and renames that over it.
    Temp,
    /// Adds to the end.
    Append,
    /// Cuts to nothing and writes piece by piece over that time.
    Slow(Millis),
    /// Same size, and the old modification time put back.
    Stealth,
}

/// What a person keeps of a conflict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// The source's version.
    Source,
    /// The target's.
    Target,
    /// Both.
    Both,
}

/// Something that happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    /// A user saves a file; missing parents are made.
    Write {
        /// Which.
        at: Place,
        /// What.
        content: Content,
        /// How.
        style: Style,
    },
    /// A user removes what stands there, with everything below.
    Delete(Place),
    /// A user renames, replacing a file that stands there.
    Rename(Place, Place),
    /// A user lets two paths change places.
    Swap(Place, Place),
    /// A user makes a directory.
    MakeDir(Place),
    /// A user makes a symbolic link.
    Link(Place, String),
    /// A user makes a FIFO.
    Fifo(Place),
    /// A user makes something of another kind of what stands there: a directory of a file, a file of the rest.
    Retype(Place),
    /// A user sets the modification time to now.
    Touch(Place),
    /// A user sets or clears the executable bit.
    Executable(Place, bool),
    /// A user checks out another branch: so many files of a directory are replaced, moved or gone at once.
    Checkout(Place, u32),
    /// A user edits a file of the location on which a job is working right now, or any if none is.
    Strike(String),

    /// The power is cut: now, or at so many disk operations from now. It comes back after a time.
    Crash {
        /// How long it is off.
        off: Millis,
        /// Disk operations of the node until then.
        after: Option<u32>,
    },
    /// The process is killed; what it wrote stays in the system's cache.
    Kill(Millis),
    /// The process is stopped in an orderly way.
    Stop(Millis),
    /// Nothing passes between two devices, or from this one to the other.
    Cut {
        /// The other device.
        other: String,
        /// For how long.
        span: Millis,
        /// Only what this one sends is lost.
        one_way: bool,
    },
    /// Nothing passes between this device and all others.
    Isolate(Millis),
    /// The way to another device is slow.
    Slow {
        /// The other device.
        other: String,
        /// Latency in milliseconds, one way.
        latency: Millis,
        /// Bytes per second.
        rate: u64,
        /// For how long.
        span: Millis,
    },
    /// All connections to another device break at once.
    Reset(String),
    /// The disk of a location is full.
    Full(String, Millis),
    /// So many disk operations of the node on a location fail, after so many that do not.
    Fail {
        /// The location.
        location: String,
        /// How many fail.
        calls: u32,
        /// How many pass before.
        after: u32,
    },
    /// A location cannot be written.
    ReadOnly(String, Millis),
    /// A path cannot be read.
    Unreadable(Place, Millis),
    /// Every disk operation on a location takes that long.
    SlowDisk {
        /// The location.
        location: String,
        /// Each operation.
        each: Millis,
        /// For how long.
        span: Millis,
    },
    /// The wall clock jumps: forward, or back.
    Clock {
        /// By how much.
        by: Millis,
        /// Back instead of forward.
        back: bool,
    },
    /// The root is not mounted: an empty directory stands there.
    Unmount(String, Millis),
    /// Another directory with other files takes the root's place, for that long.
    Replace(String, Millis),
    /// The tree of a location is kept aside, for `RestoreTree`.
    CopyTree(String),
    /// The tree of a location becomes what it was when it was copied (by a backup tool, file by file).
    RestoreTree(String),
    /// The index is kept aside, for `RestoreIndex`.
    CopyIndex,
    /// The node is stopped, its index becomes what it was when it was copied, and it starts again.
    RestoreIndex,
    /// The index is lost; the node starts with an empty one. It is paired again.
    Wipe,
    /// The watcher of a location loses events and says so.
    Overflow(String),
    /// What the watcher of a location sees arrives late.
    Late {
        /// The location.
        location: String,
        /// By how much.
        by: Millis,
        /// For how long.
        span: Millis,
    },

    /// The device is paired with another one, whose library it joins.
    Join(String),
    /// The device leaves the library.
    Leave,
    /// A device is revoked, from this one.
    Revoke(String),
    /// A conduit is run.
    Sync(String),
    /// The held plan of a conduit is approved.
    Approve(String),
    /// A conduit is paused or not.
    Pause(String, bool),
    /// A person decides the conflict that waits at a path of a conduit, if one does.
    Resolve {
        /// The conduit.
        conduit: String,
        /// Below its roots.
        path: String,
        /// Whose version is kept.
        keep: Keep,
    },
    /// The newest generation of a conduit is undone.
    Undo(String),
    /// A path stays on the target of a selective conduit whatever is chosen, or does not any more.
    Pin {
        /// The conduit.
        conduit: String,
        /// Below its roots.
        path: String,
        /// Stays.
        pinned: bool,
    },
    /// A path is brought to the target of a selective conduit for a while.
    Fetch {
        /// The conduit.
        conduit: String,
        /// Below its roots.
        path: String,
        /// For how long it stays.
        stays: Millis,
    },
    /// What lies in the trash of a location, at a path or below it, is put back. Without a path, all of it.
    Restore(Place),
    /// A location is scanned.
    Rescan {
        /// The location.
        location: String,
        /// Every file is read.
        deep: bool,
    },
    /// A location gets these ignore rules.
    Rules(String, Vec<String>),
}

/// Who does a deed, which is how a shrinker and a profile tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Doer {
    /// Somebody who edits files.
    User,
    /// Nobody.
    Fate,
    /// Whoever operates the devices.
    Operator,
}

impl Deed {
    /// The verb as it is written: the name of its mark in the coverage as well.
    pub const fn verb(&self) -> &'static str {
        match self {
            Self::Write { .. } => "writes",
            Self::Delete(_) => "deletes",
            Self::Rename(..) => "renames",
            Self::Swap(..) => "swaps",
            Self::MakeDir(_) => "makes-dir",
            Self::Link(..) => "links",
            Self::Fifo(_) => "makes-fifo",
            Self::Retype(_) => "retypes",
            Self::Touch(_) => "touches",
            Self::Executable(..) => "chmods",
            Self::Checkout(..) => "checks-out",
            Self::Strike(_) => "strikes",
            Self::Crash { .. } => "loses-power",
            Self::Kill(_) => "is-killed",
            Self::Stop(_) => "is-stopped",
            Self::Cut { .. } => "is-cut-from",
            Self::Isolate(_) => "is-isolated",
            Self::Slow { .. } => "is-slow-to",
            Self::Reset(_) => "is-reset-from",
            Self::Full(..) => "disk-full",
            Self::Fail { .. } => "disk-fails",
            Self::ReadOnly(..) => "disk-read-only",
            Self::Unreadable(..) => "cannot-read",
            Self::SlowDisk { .. } => "disk-slow",
            Self::Clock { .. } => "clock",
            Self::Unmount(..) => "unmounts",
            Self::Replace(..) => "replaces-root",
            Self::CopyTree(_) => "copies-tree",
            Self::RestoreTree(_) => "restores-tree",
            Self::CopyIndex => "copies-index",
            Self::RestoreIndex => "restores-index",
            Self::Wipe => "loses-index",
            Self::Overflow(_) => "overflows",
            Self::Late { .. } => "watches-late",
            Self::Join(_) => "joins",
            Self::Leave => "leaves",
            Self::Revoke(_) => "revokes",
            Self::Sync(_) => "syncs",
            Self::Approve(_) => "approves",
            Self::Pause(_, true) => "pauses",
            Self::Pause(_, false) => "resumes",
            Self::Resolve { .. } => "resolves",
            Self::Undo(_) => "undoes",
            Self::Pin { pinned: true, .. } => "pins",
            Self::Pin { pinned: false, .. } => "unpins",
            Self::Fetch { .. } => "fetches",
            Self::Restore(_) => "restores",
            Self::Rescan { .. } => "rescans",
            Self::Rules(..) => "ignores",
        }
    }

    /// Who does it.
    pub const fn doer(&self) -> Doer {
        match self {
            Self::Write { .. }
            | Self::Delete(_)
            | Self::Rename(..)
            | Self::Swap(..)
            | Self::MakeDir(_)
            | Self::Link(..)
            | Self::Fifo(_)
            | Self::Retype(_)
            | Self::Touch(_)
            | Self::Executable(..)
            | Self::Checkout(..)
            | Self::Strike(_) => Doer::User,
            Self::Crash { .. }
            | Self::Kill(_)
            | Self::Stop(_)
            | Self::Cut { .. }
            | Self::Isolate(_)
            | Self::Slow { .. }
            | Self::Reset(_)
            | Self::Full(..)
            | Self::Fail { .. }
            | Self::ReadOnly(..)
            | Self::Unreadable(..)
            | Self::SlowDisk { .. }
            | Self::Clock { .. }
            | Self::Unmount(..)
            | Self::Replace(..)
            | Self::CopyTree(_)
            | Self::RestoreTree(_)
            | Self::CopyIndex
            | Self::RestoreIndex
            | Self::Wipe
            | Self::Overflow(_)
            | Self::Late { .. } => Doer::Fate,
            Self::Join(_)
            | Self::Leave
            | Self::Revoke(_)
            | Self::Sync(_)
            | Self::Approve(_)
            | Self::Pause(..)
            | Self::Resolve { .. }
            | Self::Undo(_)
            | Self::Pin { .. }
            | Self::Fetch { .. }
            | Self::Restore(_)
            | Self::Rescan { .. }
            | Self::Rules(..) => Doer::Operator,
        }
    }

    /// How long it lasts, if it says so.
    pub fn lasts(&self) -> Millis {
        match self {
            Self::Crash { off: span, .. }
            | Self::Kill(span)
            | Self::Stop(span)
            | Self::Cut { span, .. }
            | Self::Isolate(span)
            | Self::Slow { span, .. }
            | Self::Full(_, span)
            | Self::ReadOnly(_, span)
            | Self::Unreadable(_, span)
            | Self::SlowDisk { span, .. }
            | Self::Unmount(_, span)
            | Self::Replace(_, span)
            | Self::Late { span, .. } => *span,
            _ => Millis(0),
        }
    }

    /// Devices that it names besides the one it happens on.
    pub fn other(&self) -> Option<&str> {
        match self {
            Self::Cut { other, .. }
            | Self::Slow { other, .. }
            | Self::Reset(other)
            | Self::Join(other)
            | Self::Revoke(other) => Some(other),
            _ => None,
        }
    }

    /// The location it is about, on the device it happens on.
    pub fn location(&self) -> Option<&str> {
        match self {
            Self::Write { at, .. }
            | Self::Delete(at)
            | Self::Rename(at, _)
            | Self::Swap(at, _)
            | Self::MakeDir(at)
            | Self::Link(at, _)
            | Self::Fifo(at)
            | Self::Retype(at)
            | Self::Touch(at)
            | Self::Executable(at, _)
            | Self::Checkout(at, _)
            | Self::Unreadable(at, _)
            | Self::Restore(at) => Some(&at.location),
            Self::Strike(location)
            | Self::Full(location, _)
            | Self::Fail { location, .. }
            | Self::ReadOnly(location, _)
            | Self::SlowDisk { location, .. }
            | Self::Unmount(location, _)
            | Self::Replace(location, _)
            | Self::CopyTree(location)
            | Self::RestoreTree(location)
            | Self::Overflow(location)
            | Self::Late { location, .. }
            | Self::Rescan { location, .. }
            | Self::Rules(location, _) => Some(location),
            _ => None,
        }
    }

    /// The conduit it is about.
    pub fn conduit(&self) -> Option<&str> {
        match self {
            Self::Sync(conduit)
            | Self::Approve(conduit)
            | Self::Pause(conduit, _)
            | Self::Resolve { conduit, .. }
            | Self::Pin { conduit, .. }
            | Self::Fetch { conduit, .. }
            | Self::Undo(conduit) => Some(conduit),
            _ => None,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text =
            if self.path.is_empty() { self.location.clone() } else { format!("{}/{}", self.location, self.path) };
        f.write_str(&quoted(&text))
    }
}

impl fmt::Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Source => "source",
            Self::Target => "target",
            Self::Both => "both",
        })
    }
}

impl fmt::Display for Style {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncate => f.write_str("truncate"),
            Self::Temp => f.write_str("temp"),
            Self::Append => f.write_str("append"),
            Self::Slow(span) => write!(f, "slow:{span}"),
            Self::Stealth => f.write_str("stealth"),
        }
    }
}

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.verb())?;
        match self {
            Self::Write { at, content, style } => {
                write!(f, " {at}")?;
                match content {
                    Content::Text(text) => write!(f, " {}", quoted(text))?,
                    Content::Unique(bytes) => write!(f, " bytes={bytes}")?,
                }
                if *style == Style::Truncate { Ok(()) } else { write!(f, " style={style}") }
            }
            Self::Delete(at)
            | Self::MakeDir(at)
            | Self::Fifo(at)
            | Self::Retype(at)
            | Self::Touch(at)
            | Self::Restore(at) => write!(f, " {at}"),
            Self::Rename(from, to) | Self::Swap(from, to) => write!(f, " {from} {to}"),
            Self::Link(at, target) => write!(f, " {at} {}", quoted(target)),
            Self::Executable(at, on) => write!(f, " {at} {}x", if *on { '+' } else { '-' }),
            Self::Checkout(at, files) => write!(f, " {at} files={files}"),
            Self::Crash { off, after } => {
                write!(f, " for={off}")?;
                after.map_or(Ok(()), |after| write!(f, " operation={after}"))
            }
            Self::Kill(off) | Self::Stop(off) | Self::Isolate(off) => write!(f, " for={off}"),
            Self::Cut { other, span, one_way } => {
                write!(f, " {} for={span}{}", quoted(other), if *one_way { " one-way" } else { "" })
            }
            Self::Slow { other, latency, rate, span } => {
                write!(f, " {} latency={latency} rate={rate} for={span}", quoted(other))
            }
            Self::Full(location, span)
            | Self::ReadOnly(location, span)
            | Self::Unmount(location, span)
            | Self::Replace(location, span) => {
                write!(f, " {} for={span}", quoted(location))
            }
            Self::Fail { location, calls, after } => write!(f, " {} calls={calls} after={after}", quoted(location)),
            Self::Unreadable(at, span) => write!(f, " {at} for={span}"),
            Self::SlowDisk { location, each, span } => write!(f, " {} each={each} for={span}", quoted(location)),
            Self::Clock { by, back } => write!(f, " {}{by}", if *back { '-' } else { '+' }),
            Self::Late { location, by, span } => write!(f, " {} by={by} for={span}", quoted(location)),
            Self::Strike(name)
            | Self::Reset(name)
            | Self::CopyTree(name)
            | Self::RestoreTree(name)
            | Self::Overflow(name)
            | Self::Join(name)
            | Self::Revoke(name)
            | Self::Sync(name)
            | Self::Approve(name)
            | Self::Pause(name, _)
            | Self::Undo(name) => write!(f, " {}", quoted(name)),
            Self::Resolve { conduit, path, keep } => {
                write!(f, " {} {} keep={keep}", quoted(conduit), quoted(path))
            }
            Self::Pin { conduit, path, .. } => write!(f, " {} {}", quoted(conduit), quoted(path)),
            Self::Fetch { conduit, path, stays } => {
                write!(f, " {} {} stays={stays}", quoted(conduit), quoted(path))
            }
            Self::Rescan { location, deep } => write!(f, " {}{}", quoted(location), if *deep { " deep" } else { "" }),
            Self::Rules(location, rules) => {
                write!(f, " {}", quoted(location))?;
                rules.iter().try_for_each(|rule| write!(f, " {}", quoted(rule)))
            }
            Self::CopyIndex | Self::RestoreIndex | Self::Wipe | Self::Leave => Ok(()),
        }
    }
}
