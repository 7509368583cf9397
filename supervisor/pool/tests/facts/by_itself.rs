//! Facts about workers that accept for themselves: what is counted, what is not, and what a stop waits for.

use std::time::Duration;

use ostler_config::checked::{self, Handoff};
use ostler_pool::{Action, Event, PoolNo, PoolState, Shed, Tells, Urgency};
use ostler_shared::{ConnId, WorkerId};

use crate::script::{MS, Script, config};

fn listening(workers: u32) -> checked::Config {
    let mut config = config(workers, 4);
    config.pools[0].handoff = Handoff::Listen;
    config
}

/// All workers have said Hello and are READY.
fn telling(workers: u32) -> Script {
    let mut script = Script::new(listening(workers));
    for worker in script.spawned() {
        script.event(Event::Introduced { worker }).event(Event::Ready { worker });
    }
    script.clear();
    script
}

fn taken(script: &mut Script, worker: WorkerId, total: u64) {
    script.event(Event::Taken { worker, total, unrecorded: 0 });
}

fn empty() -> Event {
    Event::KernelQueueEmpty { pool: PoolNo(0) }
}

#[test]
fn nothing_is_accepted_for_a_pool_whose_workers_accept() {
    let script = Script::ready(listening(2));
    assert!(!script.has(|action| matches!(action, Action::ResumeAccept { .. })));
    let mut script = Script::new(listening(2));
    for worker in script.spawned() {
        script.event(Event::Ready { worker });
    }
    assert!(!script.has(|action| matches!(action, Action::ResumeAccept { .. })), "{:?}", script.actions);
    assert_eq!(script.snapshot().state, PoolState::Ready);
}

#[test]
fn what_a_worker_accepts_is_claimed_until_it_reports_the_end() {
    let mut script = telling(2);
    let worker = script.serving(0);
    taken(&mut script, worker, 3);
    script.complete(worker, ConnId(1));
    let pool = script.snapshot();
    assert_eq!((pool.accepted, pool.done, pool.outstanding, pool.in_line), (3, 1, 2, 0));
    assert_eq!(pool.tells, Tells::Everything);
    assert_eq!(pool.handed, 0, "nothing was handed to it");
}

#[test]
fn what_ended_without_a_record_is_done_all_the_same() {
    let mut script = telling(1);
    let worker = script.serving(0);
    script.event(Event::Taken { worker, total: 900, unrecorded: 898 });
    let pool = script.snapshot();
    assert_eq!((pool.accepted, pool.done, pool.outstanding), (900, 898, 2));
}

#[test]
fn what_a_worker_held_when_it_died_is_lost() {
    let mut script = telling(1);
    let worker = script.serving(0);
    taken(&mut script, worker, 3);
    script.complete(worker, ConnId(1)).die(worker, &[]);
    let pool = script.snapshot();
    assert_eq!((pool.accepted, pool.done, pool.lost, pool.outstanding), (3, 1, 2, 0));
}

#[test]
fn who_counts_what_can_not_be_is_turned_out() {
    let lies: [(u64, u64); 4] = [(2, 0), (5_000_000, 0), (3, 4), (u64::MAX, u64::MAX)];
    for (total, unrecorded) in lies {
        let mut script = telling(1);
        let worker = script.serving(0);
        taken(&mut script, worker, 3);
        script.clear().event(Event::Taken { worker, total, unrecorded });
        assert!(script.has(|action| matches!(action, Action::Signal { .. })), "{total} {unrecorded}");
        assert_eq!(script.snapshot().accepted, 3);
    }
    let mut script = telling(1);
    let worker = script.serving(0);
    script.clear().complete(worker, ConnId(7));
    assert!(script.has(|action| matches!(action, Action::Signal { .. })), "completed what it did not accept");
}

#[test]
fn once_a_program_served_that_does_not_tell_the_totals_say_nothing() {
    let mut script = Script::new(listening(2));
    let [first, second] = script.spawned()[..] else { panic!("two workers") };
    script.event(Event::Introduced { worker: first }).event(Event::Ready { worker: first });
    assert_eq!(script.snapshot().tells, Tells::Everything);
    script.event(Event::Ready { worker: second });
    let pool = script.snapshot();
    assert_eq!(pool.tells, Tells::Nothing);
    let tells: Vec<Tells> = pool.workers.iter().map(|worker| worker.tells).collect();
    assert_eq!(tells, [Tells::Everything, Tells::Nothing]);
}

#[test]
fn a_stop_lets_workers_empty_the_kernels_queue_and_then_looks_for_whom_they_left() {
    let mut script = telling(1);
    let worker = script.serving(0);
    script.clear().event(Event::Stop { urgency: Urgency::Graceful }).wait(50 * MS);
    assert!(script.has(|action| matches!(action, Action::RefuseNew { .. })));
    assert!(!script.has(|action| matches!(action, Action::Drain { .. })), "somebody may still wait");
    script.event(empty());
    assert!(script.has(|action| *action == Action::Drain { worker }));
    // One who came between the last look and the end of the worker.
    script.event(empty()).die(worker, &[]);
    assert!(script.has(|action| matches!(action, Action::ResumeAccept { .. })), "nobody else takes it now");
    assert!(!script.has(|action| matches!(action, Action::Finished { .. })));
    let late = script.client();
    assert_eq!(script.shed(), [(late, Shed::Stopping)]);
    script.event(empty());
    assert!(script.has(|action| matches!(action, Action::Finished { .. })));
}

#[test]
fn at_a_stop_a_worker_that_dies_is_replaced_while_somebody_waits() {
    let mut script = telling(1);
    let worker = script.serving(0);
    script.clear().event(Event::Stop { urgency: Urgency::Graceful }).die(worker, &[]).wait(Duration::from_secs(2));
    assert!(!script.spawned().is_empty(), "the kernel's queue is served to its end");
}

#[test]
fn a_worn_worker_is_found_by_what_it_reports() {
    let mut config = listening(1);
    config.pools[0].recycle.requests = 5;
    let mut script = Script::new(config);
    let worker = script.spawned()[0];
    script.event(Event::Introduced { worker }).event(Event::Ready { worker }).clear();
    script.wait(200 * MS).event(Event::Taken { worker, total: 5, unrecorded: 5 });
    assert_eq!(script.spawned().len(), 1, "its successor");
}
