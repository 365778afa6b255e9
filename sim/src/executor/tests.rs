//! The executor alone: order, time, and what ends with a group.

use super::*;

fn device(incarnation: u32) -> Group {
    Group { device: 1, incarnation }
}

fn run(executor: &mut Executor, until: Nanos) {
    while executor.step(until) != Ran::Nothing {}
}

fn noting(handle: &Handle, notes: &Arc<Mutex<Vec<(u32, Nanos)>>>, name: u32, pause: Nanos) {
    let (inner, notes) = (handle.clone(), Arc::clone(notes));
    handle.spawn(async move {
        for _ in 0..3 {
            inner.sleep(Duration::from_nanos(pause)).await;
            lock(&notes).push((name, inner.now()));
        }
    });
}

fn order(seed: u64, without: Option<u32>) -> Vec<(u32, Nanos)> {
    let mut executor = Executor::new(Draws::new(seed));
    let notes = Arc::new(Mutex::new(Vec::new()));
    for name in 0..6 {
        let handle = executor.group(Group { device: name, incarnation: 0 });
        if without != Some(name) {
            noting(&handle, &notes, name, 10);
        }
    }
    run(&mut executor, SECOND);
    lock(&notes).clone()
}

#[test]
fn time_jumps_and_stops_where_it_was_told_to() {
    let mut executor = Executor::new(Draws::new(1));
    let notes = Arc::new(Mutex::new(Vec::new()));
    noting(&executor.group(device(0)), &notes, 1, SECOND);
    run(&mut executor, 2 * SECOND);
    assert_eq!(*lock(&notes), [(1, SECOND), (1, 2 * SECOND)]);
    assert_eq!(executor.now(), 2 * SECOND);
}

#[test]
fn ready_tasks_go_in_an_order_of_chance_that_repeats_and_does_not_hang_on_the_others() {
    assert_eq!(order(1, None), order(1, None));
    assert_ne!(order(1, None), order(2, None));
    let with: Vec<_> = order(1, None).into_iter().filter(|(name, _)| *name != 3).collect();
    assert_eq!(order(1, Some(3)), with);
}

#[test]
fn a_group_that_ends_takes_its_tasks_and_timers_along_and_starts_no_more() {
    let mut executor = Executor::new(Draws::new(1));
    let notes = Arc::new(Mutex::new(Vec::new()));
    let (old, new) = (executor.group(device(1)), executor.group(device(2)));
    noting(&old, &notes, 1, SECOND);
    noting(&new, &notes, 2, SECOND);
    let (ending, late) = (old.clone(), Arc::clone(&notes));
    old.spawn(async move {
        ending.sleep(Duration::from_millis(1_500)).await;
        ending.end();
        noting(&ending, &late, 3, SECOND);
        ending.sleep(Duration::from_secs(1)).await;
        lock(&late).push((4, 0));
    });
    run(&mut executor, 10 * SECOND);
    assert!(!old.lives() && new.lives());
    assert_eq!(lock(&notes).iter().filter(|(name, _)| *name == 1).count(), 1);
    assert_eq!(lock(&notes).iter().filter(|(name, _)| *name == 2).count(), 3);
    assert!(lock(&notes).iter().all(|(name, _)| *name < 3));
    assert_eq!(executor.tasks(), 0);
}

#[test]
fn an_action_happens_at_its_time() {
    let mut executor = Executor::new(Draws::new(1));
    let handle = executor.group(Group::WORLD);
    let notes = Arc::new(Mutex::new(Vec::new()));
    for at in [30, 10, 20] {
        let (notes, inner) = (Arc::clone(&notes), handle.clone());
        handle.at(at, move || lock(&notes).push((at, inner.now())));
    }
    run(&mut executor, 25);
    assert_eq!(*lock(&notes), [(10, 10), (20, 20)]);
}
