//! The replace sequence of `tidegate_storage::disk` over a disk whose power is cut at every call, with every kind
//! of survival: a path shows one whole content, nothing is lost, and the job goes on from what is left.

use tidegate_protocol::file_sync::{JobKey, JobKind, PreImage};
use tidegate_protocol::id::{ConduitId, DeviceId, LocationId, Nonce};
use tidegate_protocol::index::{EntryKind, FileFacts};
use tidegate_storage::disk::{
    Applied, Expect, KnownEntry, KnownMap, Marker, NewContent, Planned, Refused, Workshop, mark_root,
};

use super::*;

pub(super) const OLD: &str = "old content";
pub(super) const NEW: &str = "new content, longer than the old one";
pub(super) const CALLS_MAX: u64 = 400;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    InstallNew,
    InstallOver,
    InstallOverDirectory,
    LinkOver,
    MakeDirectory,
    MakeDirectoryOver,
    Rename,
    RenameOver,
    Remove,
    SetMetadata,
}

pub(super) const OPS: [Op; 10] = [
    Op::InstallNew,
    Op::InstallOver,
    Op::InstallOverDirectory,
    Op::LinkOver,
    Op::MakeDirectory,
    Op::MakeDirectoryOver,
    Op::Rename,
    Op::RenameOver,
    Op::Remove,
    Op::SetMetadata,
];

pub(super) fn path(text: &str) -> EntryPath {
    EntryPath::from_slashes(text.as_bytes()).unwrap()
}

fn facts(content: &str) -> FileFacts {
    FileFacts {
        content: ContentHash::of(content.as_bytes()),
        size: content.len() as u64,
        mtime_ns: 1_600_000_000_000_000_000,
        executable: true,
    }
}

fn image(content: &str) -> PreImage {
    PreImage::File { content: ContentHash::of(content.as_bytes()), size: content.len() as u64 }
}

pub(super) fn job() -> JobKey {
    let (conduit, device) = (ConduitId::from_bytes([4; 16]), DeviceId::from_bytes([2; 32]));
    JobKey { conduit, generation: 7, device, kind: JobKind::Copy }
}

impl Op {
    /// The world before it, all of it synced.
    fn prepare(self, user: &User) {
        user.make_dir("/d/d").unwrap();
        match self {
            Self::InstallNew | Self::MakeDirectory => {}
            Self::InstallOver | Self::LinkOver | Self::MakeDirectoryOver | Self::Remove => {
                user.write("/d/d/f", OLD.as_bytes()).unwrap();
            }
            Self::InstallOverDirectory => {
                user.make_dir("/d/d/f").unwrap();
                user.write("/d/d/f/in", OLD.as_bytes()).unwrap();
            }
            Self::Rename => user.write("/d/d/from", NEW.as_bytes()).unwrap(),
            Self::RenameOver => {
                user.write("/d/d/f", OLD.as_bytes()).unwrap();
                user.write("/d/d/from", NEW.as_bytes()).unwrap();
            }
            Self::SetMetadata => user.write("/d/d/f", NEW.as_bytes()).unwrap(),
        }
        user.sync_all("/d").unwrap();
    }

    fn expect(self, user: &User, marked: bool) -> Expect {
        let image = match self {
            Self::InstallNew | Self::Rename | Self::MakeDirectory => PreImage::Absent,
            Self::InstallOverDirectory => PreImage::Directory,
            Self::SetMetadata => image(NEW),
            Self::InstallOver | Self::LinkOver | Self::MakeDirectoryOver | Self::RenameOver | Self::Remove => {
                image(OLD)
            }
        };
        let marked = marked && matches!(image, PreImage::File { .. });
        Expect { image, mark: marked.then(|| user.metadata("/d/d/f").unwrap().mark) }
    }

    pub(super) fn planned(self, expect: &Expect) -> Planned {
        let installs = match self {
            Self::InstallNew | Self::InstallOver | Self::InstallOverDirectory => Some(NewContent::File(facts(NEW))),
            Self::LinkOver => Some(NewContent::Symlink { target: NEW.into() }),
            Self::MakeDirectory | Self::MakeDirectoryOver => Some(NewContent::Directory),
            Self::Rename | Self::RenameOver | Self::Remove | Self::SetMetadata => None,
        };
        Planned { path: path("d/f"), expect: expect.clone(), installs }
    }

    pub(super) async fn run(
        self,
        shop: &Workshop<SimRoot>,
        expect: &Expect,
        known: &KnownMap,
    ) -> Result<Applied, Refused> {
        let (target, new) = (path("d/f"), facts(NEW));
        let applied = match self {
            Self::InstallNew | Self::InstallOver | Self::InstallOverDirectory | Self::LinkOver => {
                let staged = match self {
                    Self::LinkOver => shop.stage_symlink(3, NEW.as_bytes()).await?,
                    _ => shop.stage_bytes(3, NEW.as_bytes(), &new).await?,
                };
                let ready = shop.barrier(vec![staged]).await?.pop().unwrap();
                shop.install(ready, &target, expect, known).await?
            }
            Self::MakeDirectory | Self::MakeDirectoryOver => shop.make_directory(3, &target, expect, known).await?,
            Self::Rename | Self::RenameOver => {
                shop.rename_file(3, &path("d/from"), None, &target, expect, &new, known).await?
            }
            Self::Remove => shop.remove(3, &target, expect, known).await?,
            Self::SetMetadata => shop.set_metadata(&target, expect.mark, &new, known).await?,
        };
        shop.sync_dirs().await?;
        Ok(applied)
    }

    pub(super) const fn before(self) -> Shows {
        match self {
            Self::InstallNew | Self::Rename | Self::MakeDirectory => Shows::Nothing,
            Self::InstallOverDirectory => Shows::Directory,
            Self::SetMetadata => Shows::File(NEW),
            Self::InstallOver | Self::LinkOver | Self::MakeDirectoryOver | Self::RenameOver | Self::Remove => {
                Shows::File(OLD)
            }
        }
    }

    pub(super) const fn done(self) -> Shows {
        match self {
            Self::LinkOver => Shows::Link(NEW),
            Self::MakeDirectory | Self::MakeDirectoryOver => Shows::Directory,
            Self::Remove => Shows::Nothing,
            Self::InstallNew
            | Self::InstallOver
            | Self::InstallOverDirectory
            | Self::Rename
            | Self::RenameOver
            | Self::SetMetadata => Shows::File(NEW),
        }
    }

    pub(super) fn holds_old(self) -> bool {
        self.held().contains(&OLD)
    }

    /// What users wrote and must still be there.
    const fn held(self) -> &'static [&'static str] {
        match self {
            Self::InstallNew | Self::MakeDirectory => &[],
            Self::InstallOver
            | Self::InstallOverDirectory
            | Self::LinkOver
            | Self::MakeDirectoryOver
            | Self::Remove => &[OLD],
            Self::Rename | Self::SetMetadata => &[NEW],
            Self::RenameOver => &[OLD, NEW],
        }
    }
}

/// What a path shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shows {
    Nothing,
    Directory,
    File(&'static str),
    Link(&'static str),
    /// Bytes that nobody wrote like this.
    Torn,
}

pub(super) fn shows(user: &User) -> Shows {
    let whole = |bytes: &[u8]| [OLD, NEW].into_iter().find(|text| text.as_bytes() == bytes);
    match user.metadata("/d/d/f").map(|found| found.kind) {
        Err(_) => Shows::Nothing,
        Ok(tidegate_storage::disk::FileKind::Directory) => Shows::Directory,
        Ok(tidegate_storage::disk::FileKind::Symlink) => {
            whole(&user.read_link("/d/d/f").unwrap()).map_or(Shows::Torn, Shows::Link)
        }
        Ok(_) => whole(&user.read("/d/d/f").unwrap().bytes()).map_or(Shows::Torn, Shows::File),
    }
}

/// One op on one disk.
pub(super) struct World {
    pub(super) disk: Disk,
    pub(super) user: User,
    pub(super) op: Op,
    pub(super) expect: Expect,
    pub(super) known: KnownMap,
    pub(super) exchanges: bool,
}

impl World {
    fn new(seed: u64, op: Op, exchanges: bool, marked: bool) -> Self {
        Self::on(disk(seed, VolumeSpec { exchanges, ..VolumeSpec::plain(2) }), op, exchanges, marked)
    }

    pub(super) fn on(disk: Disk, op: Op, exchanges: bool, marked: bool) -> Self {
        let marker = Marker {
            location: LocationId::from_bytes([1; 16]),
            device: DeviceId::from_bytes([2; 32]),
            nonce: Nonce::from_bytes([3; 16]),
        };
        let root = block_on(disk.start().open_root(Path::new("/d"))).unwrap();
        block_on(mark_root(&root, marker)).unwrap();
        let user = disk.user();
        op.prepare(&user);
        let expect = op.expect(&user, marked);
        let mut known = KnownMap::default();
        if op == Op::InstallOverDirectory {
            let mark = user.metadata("/d/d/f/in").unwrap().mark;
            let file = FileFacts { mtime_ns: mark.mtime_ns, executable: false, ..facts(OLD) };
            let mut add = |at, kind, mark| known.entries.insert(path(at), KnownEntry { kind, mark });
            add("d/f", EntryKind::Directory { residue: false }, None);
            add("d/f/in", EntryKind::File(file), Some(mark));
        }
        Self { disk, user, op, expect, known, exchanges }
    }

    pub(super) fn root(&self) -> std::io::Result<SimRoot> {
        let view = self.disk.start();
        block_on(view.open_root(Path::new("/d")))
    }

    /// The job as a node runs it that has just started: open, recover if it ran before, act, sync, clean. The
    /// process dies at the call of that number.
    fn run(&self, again: bool, dies_at: Option<u64>) -> Result<(), Refused> {
        let root = self.root()?;
        self.disk.faults(|faults| faults.die_at = dies_at);
        let shop = block_on(Workshop::open(root, &job()))?;
        if again {
            let planned = |item| (item == 3).then(|| self.op.planned(&self.expect));
            let recovered = block_on(shop.recover(planned, &self.known))?;
            assert_eq!(recovered.kept, [], "everything is told from everything {self}");
            self.check("recovered");
        }
        match block_on(self.op.run(&shop, &self.expect, &self.known)) {
            // A replacement that had happened is not what the plan expects any more; the job asks first.
            Err(Refused::TargetChanged { kept: None } | Refused::SourceChanged)
                if shows(&self.user) == self.op.done() => {}
            Err(e) => return Err(e),
            Ok(_) => {}
        }
        assert_eq!(shows(&self.user), self.op.done(), "{self}");
        assert_eq!(block_on(shop.clean())?, [], "{self}");
        Ok(())
    }

    /// ATOMIC and NO_LOSS.
    fn check(&self, when: &str) {
        let shows = shows(&self.user);
        let whole = [self.op.before(), self.op.done()].contains(&shows);
        // Where names cannot be exchanged a path is away for a moment.
        assert!(whole || !self.exchanges && shows == Shows::Nothing, "ATOMIC {when}: {shows:?} {self}");
        let contents = self.disk.contents(Picture::Live);
        for held in self.op.held() {
            assert!(contents.contains(&ContentHash::of(held.as_bytes())), "NO_LOSS {when}: {held:?} {self}");
        }
    }

    /// What must hold when all is over, and outlive the worst power cut.
    pub(super) fn check_done(&self, cut: bool) {
        self.check("done");
        self.disk.power_cut(Survival { names: NamesLeft::None, data: DataLeft::None });
        self.check("done and cut");
        assert_eq!(shows(&self.user), self.op.done(), "DURABLE {self}");
        let staging = self.user.list("/d/.tidegate/staging").unwrap();
        assert!(staging.is_empty(), "nothing is left staged {self}");
        // A rename that had happened before a cut is left as it is; setting its metadata is an item of the next run.
        if !cut || !matches!(self.op, Op::Rename | Op::RenameOver) {
            self.check_metadata();
        }
    }

    fn check_metadata(&self) {
        if matches!(self.op.done(), Shows::File(_)) {
            let metadata = self.user.metadata("/d/d/f").unwrap();
            assert_eq!((metadata.mark.mtime_ns, metadata.executable), (facts(NEW).mtime_ns, true), "DURABLE {self}");
        }
    }
}

impl std::fmt::Display for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} exchanges={} {:?}", self.op, self.exchanges, shown(&self.disk, Picture::Live))
    }
}

/// The power is cut at the n-th call, for every n, with every survival.
fn check_cuts(op: Op, exchanges: bool, marked: bool) {
    for n in 1..CALLS_MAX {
        let mut reached = false;
        for (seed, survival) in Survival::ALL.into_iter().enumerate() {
            let world = World::new(n * 1_000 + seed as u64, op, exchanges, marked);
            let died = world.run(false, Some(n)).is_err();
            reached |= died;
            if died {
                world.disk.power_cut(survival);
                world.check("cut");
                world.run(true, None).unwrap_or_else(|e| panic!("{e} after {survival:?} at {n} {world}"));
            }
            world.check_done(died);
        }
        if !reached {
            assert!(n > 10, "it does not take {n} calls");
            return;
        }
    }
    panic!("{op:?} does not end within {CALLS_MAX} calls");
}

/// The process is killed at its n-th call, or the power is cut; what takes up after it is cut at its m-th.
fn check_second_cuts(op: Op, exchanges: bool, seeds: u64) {
    for n in (1..CALLS_MAX).take_while(|n| World::new(1, op, exchanges, false).run(false, Some(*n)).is_err()) {
        for m in 1..CALLS_MAX {
            let mut reached = false;
            for seed in 0..seeds {
                let mut stream = Draws::new(seed).stream(Kind::Plan, n, m);
                let world = World::new(stream.next_u64(), op, exchanges, false);
                assert!(world.run(false, Some(n)).is_err(), "{world}");
                if stream.chance(500_000) {
                    world.disk.power_cut(Survival::draw(&mut stream));
                    world.check("cut");
                }
                if world.run(true, Some(m)).is_err() {
                    reached = true;
                    world.disk.power_cut(Survival::draw(&mut stream));
                    world.check("cut again");
                    world.run(true, None).unwrap_or_else(|e| panic!("{e} after {n} and {m} {world}"));
                }
                world.check_done(true);
            }
            if !reached {
                break;
            }
        }
    }
}

#[test]
fn a_power_cut_at_any_call_loses_nothing_and_the_job_goes_on() {
    for op in OPS {
        for marked in [false, true] {
            check_cuts(op, true, marked);
            check_cuts(op, false, marked);
        }
    }
}

#[test]
fn a_second_power_cut_while_recovering_loses_nothing_either() {
    for op in OPS {
        check_second_cuts(op, true, 1);
        check_second_cuts(op, false, 4);
    }
}

#[test]
fn what_is_said_to_be_done_is_durable() {
    for op in OPS {
        for exchanges in [true, false] {
            let world = World::new(1, op, exchanges, false);
            let shop = block_on(Workshop::open(world.root().unwrap(), &job())).unwrap();
            block_on(op.run(&shop, &world.expect, &world.known)).unwrap();
            world.disk.power_cut(Survival { names: NamesLeft::None, data: DataLeft::None });
            world.check("applied and cut");
            assert_eq!(shows(&world.user), op.done(), "DURABLE {world}");
            world.check_metadata();
        }
    }
}

/// A disk that skips syncs is found out: these tests can see what they are for.
#[test]
fn a_skipped_sync_does_not_go_unseen() {
    for lies in [Lies { skip_file_sync: true, ..Lies::default() }, Lies { skip_dir_sync: true, ..Lies::default() }] {
        let mut seen = 0;
        for survival in Survival::ALL {
            let world = World::new(5, Op::InstallOver, true, false);
            world.disk.set_lies(lies);
            world.run(false, None).unwrap();
            world.disk.power_cut(survival);
            seen += u32::from(shows(&world.user) != Shows::File(NEW));
        }
        assert!(seen > 0, "{lies:?}");
    }
}
