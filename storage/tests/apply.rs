//! The replace sequence under a user's hands and under crashes: an edit before each call, a death at each call.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use common::faulty::{Fault, Faulty};
use common::{World, facts, job, path};
use tidegate_protocol::file_sync::PreImage;
use tidegate_protocol::hash::ContentHash;
use tidegate_protocol::index::EntryKind;
use tidegate_storage::disk::{
    Applied, Expect, KnownEntry, KnownMap, NewContent, Planned, Refused, RootDir, Workshop, block_on, purge, restore,
};

const OLD: &str = "old";
const NEW: &str = "new";
const USER: &str = "usr";
const CALLS_MAX: usize = 200;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    InstallNew,
    InstallOver,
    InstallOverDirectory,
    LinkOver,
    MakeDirectoryOver,
    Rename,
    RenameOver,
    Remove,
    SetMetadata,
}

const OPS: [Op; 9] = [
    Op::InstallNew,
    Op::InstallOver,
    Op::InstallOverDirectory,
    Op::LinkOver,
    Op::MakeDirectoryOver,
    Op::Rename,
    Op::RenameOver,
    Op::Remove,
    Op::SetMetadata,
];

fn image(content: &str) -> PreImage {
    PreImage::File { content: ContentHash::of(content.as_bytes()), size: content.len() as u64 }
}

impl Op {
    /// The world before it.
    fn prepare(self, world: &World) {
        fs::create_dir(world.at("d")).unwrap();
        match self {
            Self::InstallNew => {}
            Self::InstallOver | Self::LinkOver | Self::MakeDirectoryOver | Self::Remove => world.write("d/f", OLD),
            Self::InstallOverDirectory => world.write("d/f/in", OLD),
            Self::Rename => world.write("d/from", NEW),
            Self::RenameOver => {
                world.write("d/f", OLD);
                world.write("d/from", NEW);
            }
            Self::SetMetadata => world.write("d/f", NEW),
        }
    }

    fn expect(self, world: &World, marked: bool) -> Expect {
        let image = match self {
            Self::InstallNew | Self::Rename => PreImage::Absent,
            Self::InstallOverDirectory => PreImage::Directory,
            Self::SetMetadata => image(NEW),
            Self::InstallOver | Self::LinkOver | Self::MakeDirectoryOver | Self::RenameOver | Self::Remove => {
                image(OLD)
            }
        };
        let mark = (marked && matches!(image, PreImage::File { .. })).then(|| world.mark("d/f"));
        Expect { image, mark }
    }

    fn installs(self) -> Option<NewContent> {
        match self {
            Self::InstallNew | Self::InstallOver | Self::InstallOverDirectory => {
                Some(NewContent::File(facts(NEW.as_bytes())))
            }
            Self::LinkOver => Some(NewContent::Symlink { target: NEW.into() }),
            Self::MakeDirectoryOver => Some(NewContent::Directory),
            Self::Rename | Self::RenameOver | Self::Remove | Self::SetMetadata => None,
        }
    }

    async fn run<R: RootDir>(self, shop: &Workshop<R>, expect: &Expect, known: &KnownMap) -> Result<Applied, Refused> {
        let (target, new) = (path("d/f"), facts(NEW.as_bytes()));
        let applied = match self {
            Self::InstallNew | Self::InstallOver | Self::InstallOverDirectory | Self::LinkOver => {
                let staged = match self {
                    Self::LinkOver => shop.stage_symlink(3, NEW.as_bytes()).await?,
                    _ => shop.stage_bytes(3, NEW.as_bytes(), &new).await?,
                };
                let ready = shop.barrier(vec![staged]).await?.pop().unwrap();
                shop.install(ready, &target, expect, known).await?
            }
            Self::MakeDirectoryOver => shop.make_directory(3, &target, expect, known).await?,
            Self::Rename | Self::RenameOver => {
                shop.rename_file(3, &path("d/from"), None, &target, expect, &new, known).await?
            }
            Self::Remove => shop.remove(3, &target, expect, known).await?,
            Self::SetMetadata => shop.set_metadata(&target, expect.mark, &new, known).await?,
        };
        shop.sync_dirs().await?;
        Ok(applied)
    }

    /// What the path shows when it is done, as [`show`] says it.
    fn done(self) -> &'static str {
        match self {
            Self::LinkOver => "-> new",
            Self::MakeDirectoryOver => "directory",
            Self::Remove => "nothing",
            _ => NEW,
        }
    }

    fn before(self) -> &'static str {
        match self {
            Self::InstallNew | Self::Rename => "nothing",
            Self::InstallOverDirectory => "directory",
            Self::SetMetadata => NEW,
            _ => OLD,
        }
    }
}

fn show(world: &World) -> String {
    let at = world.at("d/f");
    match fs::symlink_metadata(&at) {
        Err(_) => "nothing".to_owned(),
        Ok(m) if m.is_dir() => "directory".to_owned(),
        Ok(m) if m.is_symlink() => format!("-> {}", fs::read_link(at).unwrap().display()),
        Ok(_) => fs::read_to_string(at).unwrap(),
    }
}

fn known(world: &World) -> KnownMap {
    let mut map = KnownMap::default();
    let mut add = |at: &str, kind| {
        let mark = world.at(at).is_file().then(|| world.mark(at));
        map.entries.insert(path(at), KnownEntry { kind, mark });
    };
    if world.at("d/f/in").exists() {
        add("d/f", EntryKind::Directory { residue: false });
        add("d/f/in", EntryKind::File(facts(OLD.as_bytes())));
    }
    map
}

/// What a user does at a moment of the test's choosing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Edit {
    /// Writes over what is at the path, same length, same inode.
    InPlace,
    /// Saves as editors do: beside it, then a rename over it.
    ByRename,
    /// Writes into the directory that stands at the path.
    Inside,
    /// Edits the old path of a move.
    AtOldPath,
    /// Removes it.
    Delete,
}

const EDITS: [Edit; 5] = [Edit::InPlace, Edit::ByRename, Edit::Inside, Edit::AtOldPath, Edit::Delete];

/// Does it; tells whether it wrote a content that must survive.
fn edit(how: Edit, dir: &std::path::Path) -> bool {
    let at = dir.join("d/f");
    match how {
        Edit::InPlace if at.is_dir() || at.is_symlink() => false,
        Edit::InPlace => fs::write(at, USER).is_ok(),
        Edit::ByRename => {
            let beside = dir.join("d/.save");
            fs::write(&beside, USER).unwrap();
            let renamed = fs::rename(&beside, at).is_ok();
            let _ = fs::remove_file(beside);
            renamed
        }
        Edit::Inside => fs::write(at.join("in"), USER).is_ok(),
        Edit::AtOldPath => fs::write(dir.join("d/from"), USER).is_ok(),
        Edit::Delete => {
            let _ = fs::remove_file(at);
            false
        }
    }
}

/// A user's edit before the n-th call, for every n: his bytes are whole somewhere, the path shows one whole
/// content, nothing else of the job is left, and an announced stat is never that of his bytes.
fn check_edit(op: Op, how: Edit, exchange: bool, marked: bool) {
    for n in 1..CALLS_MAX {
        let world = World::new();
        op.prepare(&world);
        let (expect, known) = (op.expect(&world, marked), known(&world));
        let wrote = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let (flag, dir): (_, PathBuf) = (wrote.clone(), world.dir.path().to_owned());
        let fault = Fault::Edit(Box::new(move || flag.store(edit(how, &dir), std::sync::atomic::Ordering::SeqCst)));
        let disk = Faulty::new(world.root.clone(), n, fault, exchange);
        let shop = block_on(Workshop::open(disk.clone(), &job())).unwrap();
        let result = block_on(op.run(&shop, &expect, &known));
        block_on(shop.clean()).unwrap();
        let case =
            format!("{op:?} {how:?} exchange={exchange} marked={marked} n={n}: {result:?}, {:?}", world.contents());
        let all: BTreeSet<String> = world.contents().into_values().collect();
        let user = wrote.load(std::sync::atomic::Ordering::SeqCst);
        assert!(!user || all.contains(USER), "NO_LOSS {case}");
        assert!([op.before(), op.done(), USER, "nothing"].contains(&show(&world).as_str()), "ATOMIC {case}");
        assert!(
            show(&world) != "nothing"
                || how == Edit::Delete
                || op.done() == "nothing"
                || !user && op.before() == "nothing"
                || result.is_err() && op.before() == "nothing",
            "ATOMIC {case}"
        );
        assert!(result.is_err() || !world.trash().contains(USER), "PRE-IMAGE {case}");
        assert_eq!(world.staged(), Vec::<String>::new(), "{case}");
        if let Ok(Applied { mark: Some(mark), .. }) = result
            && world.at("d/f").exists()
            && world.mark("d/f") == mark
        {
            assert_ne!(show(&world), USER, "an announced stat is of the announced content {case}");
        }
        if !user && how != Edit::Delete {
            assert!(result.is_ok(), "{case}");
            assert_eq!(show(&world), op.done(), "{case}");
        }
        if !disk.reached() {
            return;
        }
    }
    panic!("{op:?} does not end within {CALLS_MAX} calls");
}

#[test]
fn a_users_edit_in_any_instant_survives_whole() {
    for op in OPS {
        for how in EDITS {
            check_edit(op, how, true, false);
        }
    }
}

#[test]
fn a_users_edit_survives_where_the_index_spares_reading() {
    for op in OPS {
        for how in EDITS {
            check_edit(op, how, true, true);
        }
    }
}

#[test]
fn a_users_edit_survives_on_a_disk_that_cannot_exchange_names() {
    for op in OPS {
        for how in EDITS {
            check_edit(op, how, false, false);
        }
    }
}

/// Death at the n-th call, for every n; then recovery, and the same job again.
fn check_crash(op: Op, exchange: bool) {
    for n in 1..CALLS_MAX {
        let world = World::new();
        op.prepare(&world);
        let (expect, known) = (op.expect(&world, false), known(&world));
        let disk = Faulty::new(world.root.clone(), n, Fault::Crash, exchange);
        let first = block_on(async {
            let shop = Workshop::open(disk.clone(), &job()).await?;
            op.run(&shop, &expect, &known).await
        });
        let case = || format!("{op:?} exchange={exchange} n={n}: {first:?}, {:?}", world.contents());
        let whole = [op.before(), op.done()];
        assert!(whole.contains(&show(&world).as_str()) || !exchange && show(&world) == "nothing", "ATOMIC {}", case());
        let had: BTreeSet<String> = op_contents(op);
        let has: BTreeSet<String> = world.contents().into_values().collect();
        assert!(has.is_superset(&had), "NO_LOSS {}", case());
        let planned =
            |item| (item == 3).then(|| Planned { path: path("d/f"), expect: expect.clone(), installs: op.installs() });
        let shop = block_on(Workshop::open(world.root.clone(), &job())).unwrap();
        let recovered = block_on(shop.recover(planned, &known)).unwrap();
        assert_eq!(recovered.kept, [], "everything is told from everything {}", case());
        assert!(whole.contains(&show(&world).as_str()), "ATOMIC after recovery {recovered:?} {}", case());
        let again = block_on(op.run(&shop, &expect, &known));
        // A replacement that had happened is not what the plan expects any more; the job asks first.
        let finished = op.done() == show(&world);
        assert!(again.is_ok() || finished, "{again:?} {}", case());
        assert_eq!(show(&world), op.done(), "{}", case());
        assert_eq!(block_on(shop.clean()).unwrap(), [], "{}", case());
        assert_eq!(world.staged(), Vec::<String>::new(), "{}", case());
        let has: BTreeSet<String> = world.contents().into_values().collect();
        assert!(has.is_superset(&had), "NO_LOSS {}", case());
        if !disk.reached() {
            assert!(first.is_ok(), "{}", case());
            return;
        }
    }
    panic!("{op:?} does not end within {CALLS_MAX} calls");
}

fn op_contents(op: Op) -> BTreeSet<String> {
    let texts: &[&str] = match op {
        Op::InstallNew => &[],
        Op::InstallOver | Op::InstallOverDirectory | Op::LinkOver | Op::MakeDirectoryOver | Op::Remove => &[OLD],
        Op::Rename | Op::SetMetadata => &[NEW],
        Op::RenameOver => &[OLD, NEW],
    };
    texts.iter().map(|t| (*t).to_owned()).collect()
}

#[test]
fn a_crash_between_any_two_steps_loses_nothing_and_the_job_goes_on() {
    for op in OPS {
        check_crash(op, true);
        check_crash(op, false);
    }
}

/// An edit before one call and death at a later one.
#[test]
fn an_edit_followed_by_a_crash_survives_recovery() {
    for op in [Op::InstallOver, Op::InstallOverDirectory, Op::Remove, Op::MakeDirectoryOver, Op::RenameOver] {
        for how in [Edit::InPlace, Edit::ByRename, Edit::Inside] {
            for n in 1..60 {
                for later in 1..12 {
                    check_edit_then_crash(op, how, n, n + later);
                }
            }
        }
    }
}

fn check_edit_then_crash(op: Op, how: Edit, n: usize, dies: usize) {
    let world = World::beneath(std::path::Path::new("/dev/shm"));
    op.prepare(&world);
    let (expect, known) = (op.expect(&world, true), known(&world));
    let wrote = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (flag, dir): (_, PathBuf) = (wrote.clone(), world.dir.path().to_owned());
    let fault = Fault::Edit(Box::new(move || flag.store(edit(how, &dir), std::sync::atomic::Ordering::SeqCst)));
    // The outer disk dies at a call of its own count, which runs level with the inner one's.
    let disk = Faulty::new(Faulty::new(world.root.clone(), n, fault, true), dies, Fault::Crash, true);
    let _ = block_on(async {
        let shop = Workshop::open(disk.clone(), &job()).await?;
        op.run(&shop, &expect, &known).await
    });
    let planned =
        |item| (item == 3).then(|| Planned { path: path("d/f"), expect: expect.clone(), installs: op.installs() });
    let shop = block_on(Workshop::open(world.root.clone(), &job())).unwrap();
    let recovered = block_on(shop.recover(planned, &known)).unwrap();
    block_on(shop.clean()).unwrap();
    let case = format!("{op:?} {how:?} n={n} dies={dies} {recovered:?} {:?}", world.contents());
    let all: BTreeSet<String> = world.contents().into_values().collect();
    assert!(!wrote.load(std::sync::atomic::Ordering::SeqCst) || all.contains(USER), "NO_LOSS {case}");
    assert!([op.before(), op.done(), USER].contains(&show(&world).as_str()), "ATOMIC {case}");
    assert_eq!(world.staged(), Vec::<String>::new(), "{case}");
}

#[test]
fn a_directory_with_something_unknown_in_it_is_put_back() {
    let world = World::new();
    Op::InstallOverDirectory.prepare(&world);
    let known = known(&world);
    world.write("d/f/mine", USER);
    let shop = block_on(Workshop::open(world.root.clone(), &job())).unwrap();
    let result = block_on(Op::InstallOverDirectory.run(&shop, &Op::InstallOverDirectory.expect(&world, false), &known));
    assert!(matches!(result, Err(Refused::TargetChanged { kept: None })), "{result:?}");
    assert_eq!(world.read("d/f/mine").as_deref(), Some(USER));
}

#[test]
fn a_private_file_stays_private_when_it_is_replaced() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::new();
    Op::InstallOver.prepare(&world);
    fs::set_permissions(world.at("d/f"), fs::Permissions::from_mode(0o4600)).unwrap();
    let shop = block_on(Workshop::open(world.root.clone(), &job())).unwrap();
    let expect = Op::InstallOver.expect(&world, false);
    block_on(Op::InstallOver.run(&shop, &expect, &KnownMap::default())).unwrap();
    assert_eq!(fs::metadata(world.at("d/f")).unwrap().permissions().mode() & 0o7777, 0o600);
}

#[test]
fn old_bytes_lie_in_the_trash_under_their_path_and_come_back_from_it() {
    let world = World::new();
    world.write("d/f", OLD);
    let shop = block_on(Workshop::open(world.root.clone(), &job())).unwrap();
    let expect = Expect { image: image(OLD), mark: None };
    let known = KnownMap::default();
    let first = block_on(shop.remove(1, &path("d/f"), &expect, &known)).unwrap().trashed.unwrap();
    assert_eq!(first.as_bytes(), b".tidegate/trash/04040404-7/d/f");
    world.write("d/f", OLD);
    let second = block_on(shop.remove(2, &path("d/f"), &expect, &known)).unwrap().trashed.unwrap();
    assert_eq!(second.as_bytes(), b".tidegate/trash/04040404-7/d/f~1");
    block_on(restore(&world.root, &first, &path("d/f"))).unwrap();
    assert_eq!(world.read("d/f").as_deref(), Some(OLD));
    assert!(matches!(block_on(restore(&world.root, &second, &path("d/f"))), Err(Refused::TargetChanged { .. })));
    block_on(purge(&world.root, job().conduit, 7)).unwrap();
    assert!(world.trash().is_empty());
}

#[test]
fn a_planted_staging_directory_is_refused() {
    let world = World::new();
    let outside = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(outside.path(), world.at(".tidegate/staging")).unwrap();
    assert!(matches!(block_on(Workshop::open(world.root.clone(), &job())), Err(Refused::NotPrepared(_))));
    let unmarked = World::new();
    fs::remove_dir_all(unmarked.at(".tidegate")).unwrap();
    assert!(matches!(block_on(Workshop::open(unmarked.root.clone(), &job())), Err(Refused::NotPrepared(_))));
    assert!(!unmarked.at(".tidegate").exists(), "it is never made again");
}
