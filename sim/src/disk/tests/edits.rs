//! A user's hands in the replace sequence: an edit before any call, and the power cut at any later one. What the
//! user had synced is whole somewhere, and the path shows one whole content.

use std::sync::Mutex;

use tidegate_storage::disk::Workshop;

use super::replace::{CALLS_MAX, OLD, Op, World, job};
use super::*;

const MINE: &str = "what the user wrote in between";

type Act = Box<dyn FnOnce() + Send>;

/// Does something right before the n-th call that takes time.
#[derive(Default)]
struct Meddler {
    ticks: Ticks,
    calls: AtomicU64,
    plan: Mutex<Option<(u64, Act)>>,
}

impl Surroundings for Meddler {
    fn moment(&self) -> Moment {
        self.ticks.moment()
    }

    fn sleep(&self, span_ns: u64) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        let mut plan = self.plan.lock().unwrap();
        if plan.as_ref().is_some_and(|(at, _)| call == *at)
            && let Some((_, act)) = plan.take()
        {
            drop(plan);
            act();
        }
        self.ticks.sleep(span_ns)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Edit {
    /// Writes over what is there and syncs it.
    InPlace,
    /// Writes beside it, syncs it, renames it over, and syncs the directory.
    ByRename,
    /// Writes into the directory that stands there, or makes a file where nothing does.
    New,
    Delete,
}

const EDITS: [Edit; 4] = [Edit::InPlace, Edit::ByRename, Edit::New, Edit::Delete];

/// Whether it wrote something that must survive.
fn edit(user: &User, how: Edit) -> bool {
    let write = |at: &str| -> Result<(), Errno> {
        user.write(at, MINE.as_bytes())?;
        user.sync(at)?;
        user.sync("/d/d")
    };
    match how {
        Edit::InPlace => match user.open("/d/d/f") {
            Ok(file) => {
                file.truncate(0).and_then(|()| file.write_at(MINE.as_bytes(), 0)).is_ok() && user.sync("/d/d/f").is_ok()
            }
            Err(_) => false,
        },
        Edit::ByRename => {
            let saved = user.save_by_rename("/d/d/f", "/d/d/.f.swp", MINE.as_bytes(), true);
            saved.is_ok() && user.sync("/d/d").is_ok()
        }
        Edit::New if user.list("/d/d/f").is_ok() => write("/d/d/f/mine").is_ok() && user.sync("/d/d/f").is_ok(),
        Edit::New => user.metadata("/d/d/f").is_err() && write("/d/d/f").is_ok(),
        Edit::Delete => {
            let _ = user.remove("/d/d/f");
            false
        }
    }
}

/// An edit at call `n`; death at `dies`, if at all. Answers whether both happened.
fn check(op: Op, how: Edit, exchanges: bool, (n, dies): (u64, Option<u64>), seed: u64) -> (bool, bool) {
    let meddler = Arc::new(Meddler::default());
    let disk = disk_in(meddler.clone(), seed, VolumeSpec { exchanges, ..VolumeSpec::plain(2) });
    let world = World::on(disk, op, exchanges, seed.is_multiple_of(2));
    let wrote = Arc::new(Mutex::new(None));
    let (flag, user) = (Arc::clone(&wrote), world.user.clone());
    let root = world.root().unwrap();
    world.disk.faults(|faults| (faults.call_takes_ns, faults.die_at) = (1, dies));
    meddler.calls.store(0, Ordering::Relaxed);
    *meddler.plan.lock().unwrap() = Some((n, Box::new(move || *flag.lock().unwrap() = Some(edit(&user, how)))));
    let act = async |root: SimRoot, again: bool| {
        let shop = Workshop::open(root, &job()).await?;
        if again {
            let planned = |item| (item == 3).then(|| op.planned(&world.expect));
            shop.recover(planned, &world.known).await?;
        }
        let done = op.run(&shop, &world.expect, &world.known).await;
        shop.clean().await?;
        done
    };
    let first = block_on(act(root, false));
    let died = !world.disk.is_alive();
    let case = |when: &str| format!("{when} {how:?} n={n} dies={dies:?} seed={seed}: {first:?} {world}");
    let mine = ContentHash::of(MINE.as_bytes());
    let meddled = *wrote.lock().unwrap();
    let holds = |when: &str| {
        let kept = world.disk.contents(Picture::Live);
        assert!(meddled != Some(true) || kept.contains(&mine), "NO_LOSS {}", case(when));
        // What the user wrote over in place, or deleted, is the user's own doing.
        let own_doing = matches!(how, Edit::InPlace | Edit::ByRename | Edit::Delete);
        let old = ContentHash::of(OLD.as_bytes());
        assert!(!op.holds_old() || own_doing || kept.contains(&old), "NO_LOSS of the old {}", case(when));
        let shown = world.user.read("/d/d/f").map(|content| content.hash());
        let whole = [OLD, super::replace::NEW, MINE].map(|text| ContentHash::of(text.as_bytes()));
        assert!(shown.is_err() || shown.is_ok_and(|hash| whole.contains(&hash)), "ATOMIC {}", case(when));
    };
    holds("before the cut");
    world.disk.power_cut(Survival::draw(&mut Draws::new(seed).stream(Kind::Crash, n, dies.unwrap_or(0))));
    holds("cut");
    let _ = block_on(act(world.root().unwrap(), true));
    holds("recovered");
    let staged = world.user.list("/d/.tidegate/staging").unwrap();
    assert!(staged.is_empty(), "nothing is left staged {}", case("recovered"));
    (meddled.is_some(), died)
}

fn check_edits(exchanges: bool) {
    for op in super::replace::OPS {
        for how in EDITS {
            for n in 1..CALLS_MAX {
                let (mut meddled, _) = check(op, how, exchanges, (n, None), n);
                for later in 0..CALLS_MAX {
                    let (edited, died) = check(op, how, exchanges, (n, Some(n + later)), n * 31 + later);
                    meddled |= edited;
                    if !died {
                        break;
                    }
                }
                if !meddled {
                    break;
                }
            }
        }
    }
}

#[test]
fn an_edit_before_any_call_survives_a_power_cut_at_any_later_one() {
    check_edits(true);
}

#[test]
fn an_edit_survives_so_too_where_names_cannot_be_exchanged() {
    check_edits(false);
}
