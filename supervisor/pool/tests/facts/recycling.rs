//! Facts about workers that have served enough.

use std::time::Duration;

use ostler_config::checked::{Config, Jitter, Recycle, Surge};
use ostler_pool::{
    Action, Answer, Cause, Change, Event, Exit, MEASURE_EVERY, Note, PoolNo, PoolState, RequestId, Urgency, Wear, What,
};
use ostler_shared::{SlotNo, WorkerId};

use crate::S;
use crate::script::{MS, Script, config};

const NEVER: Recycle = Recycle { requests: 0, jitter: Jitter::from_thousandths(0), age: Duration::ZERO, rss: 0 };
const RSS_MAX: u64 = 100 << 20;

fn recycling(workers: u32, recycle: Recycle) -> Config {
    let mut config = config(workers, 1);
    config.pools[0].recycle = recycle;
    config
}

fn after(requests: u32) -> Recycle {
    Recycle { requests, ..NEVER }
}

/// Lets a worker serve so many connections, alone.
fn serve(script: &mut Script, worker: WorkerId, count: usize) {
    for _ in 0..count {
        script.clear();
        let conn = script.client();
        let (served_by, _) = script.handed()[0];
        assert_eq!(served_by, worker, "a pool of one worker");
        script.complete(worker, conn);
    }
}

fn ask(script: &mut Script, request: u64, slot: Option<u32>) {
    let pool = "p".parse().unwrap();
    script.event(Event::Recycle { request: Some(RequestId(request)), pool, slot: slot.map(SlotNo) });
}

fn drained(script: &Script) -> Vec<WorkerId> {
    let drained = |action: &Action| match action {
        Action::Drain { worker } => Some(*worker),
        _ => None,
    };
    script.actions.iter().filter_map(drained).collect()
}

fn worn(script: &Script) -> Vec<(WorkerId, Wear)> {
    let worn = |action: &Action| match action {
        Action::Note(Note::Worn { id, wear, .. }) => Some((*id, *wear)),
        _ => None,
    };
    script.actions.iter().filter_map(worn).collect()
}

fn answered(script: &Script, request: u64, wanted: &Answer) -> bool {
    script.has(|a| matches!(a, Action::Answer { request: to, answer } if to.0 == request && answer == wanted))
}

fn exit(script: &mut Script, worker: WorkerId) {
    script.event(Event::Died { worker, exit: Exit::Code(0), unclaimed: Vec::new() });
}

/// Whoever is started next, however long that takes.
fn next_started(script: &mut Script) -> WorkerId {
    let end = script.now + 100 * S;
    while script.spawned().is_empty() && script.now < end {
        script.wait(100 * MS);
    }
    script.spawned()[0]
}

/// Every replacement becomes READY and every predecessor leaves, one after the other. The most slots on the move at a time.
fn cooperate(script: &mut Script, length: Duration) -> usize {
    let (end, mut most) = (script.now + length, 0);
    while script.now < end {
        let (started, leaving) = (script.spawned(), drained(script));
        most = most.max(started.len().max(leaving.len()));
        script.clear();
        for worker in started {
            script.event(Event::Ready { worker });
        }
        for worker in leaving {
            exit(script, worker);
        }
        script.wait(50 * MS);
    }
    most
}

// ── limits ─────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_worker_that_has_served_enough_drains_when_its_replacement_is_ready() {
    let mut script = Script::ready(recycling(1, after(3)));
    let old = script.serving(0);
    serve(&mut script, old, 2);
    assert_eq!(script.spawned(), []);
    serve(&mut script, old, 1);
    script.wait(S);
    let new = script.spawned()[0];
    assert_eq!((worn(&script), drained(&script)), (vec![(old, Wear::Requests)], vec![]), "I3: nobody replaces it yet");
    assert_eq!(script.names[&new], script.names[&old], "of the same generation");
    script.event(Event::Ready { worker: new });
    assert_eq!(drained(&script), [old]);
    let cause = Cause::Recycled { why: Wear::Requests };
    assert!(script.has(|a| matches!(a, Action::Note(Note::Leaves { cause: told, .. }) if *told == cause)));
    exit(&mut script, old);
    let snapshot = script.snapshot();
    assert_eq!((snapshot.workers[0].restarts, snapshot.state), (0, PoolState::Ready), "nothing was restarted");
}

#[test]
fn workers_that_started_together_draw_limits_of_their_own() {
    let jitter = Jitter::from_thousandths(200);
    let mut script = Script::ready(recycling(16, Recycle { requests: 100, jitter, ..NEVER }));
    let mut worn_after: Vec<u64> = Vec::new();
    for number in 1..=130 {
        script.clear();
        script.clients(16);
        for (worker, conn) in script.handed() {
            script.complete(worker, conn);
        }
        worn_after.extend(worn(&script).iter().map(|_| number));
    }
    assert_eq!(worn_after.len(), 16, "everybody is worn, once");
    assert!(worn_after.iter().all(|after| (80..=120).contains(after)), "{worn_after:?}");
    worn_after.dedup();
    assert!(worn_after.len() > 8, "few at the same time: {worn_after:?}");
}

#[test]
fn a_worker_comes_of_age_by_the_time_that_it_served() {
    let mut script = Script::new(recycling(1, Recycle { age: 10 * S, ..NEVER }));
    let old = script.spawned()[0];
    script.wait(2 * S).event(Event::Ready { worker: old }).clear().wait(10 * S - MS);
    assert_eq!(script.spawned(), []);
    script.wait(MS);
    assert_eq!((worn(&script), script.spawned().len()), (vec![(old, Wear::Age)], 1));
}

#[test]
fn a_worker_that_grew_too_large_is_replaced_and_one_within_its_limit_is_not() {
    let mut script = Script::ready(recycling(2, Recycle { rss: RSS_MAX, ..NEVER }));
    let (leaks, fits) = (script.serving(0), script.serving(1));
    let look = |script: &mut Script, sizes: &[(WorkerId, u64)]| {
        script.clear().wait(MEASURE_EVERY);
        let workers = sizes.iter().map(|(worker, _)| *worker).collect();
        assert!(script.has(|a| *a == Action::Measure { pool: PoolNo(0), workers: Clone::clone(&workers) }));
        script.event(Event::Measured { pool: PoolNo(0), sizes: sizes.to_vec() });
    };
    look(&mut script, &[(leaks, RSS_MAX - 1), (fits, RSS_MAX / 2)]);
    assert_eq!(script.spawned(), []);
    look(&mut script, &[(leaks, RSS_MAX), (fits, RSS_MAX / 2)]);
    assert_eq!((worn(&script), script.spawned().len()), (vec![(leaks, Wear::Memory)], 1));
    look(&mut script, &[(fits, RSS_MAX / 2)]);
}

#[test]
fn nobody_is_measured_where_nobody_wants_to_know() {
    let mut script = Script::ready(recycling(2, Recycle { requests: 5, age: 60 * S, ..NEVER }));
    script.wait(3 * MEASURE_EVERY);
    assert!(!script.has(|a| matches!(a, Action::Measure { .. })));
}

#[test]
fn a_program_that_is_too_large_from_birth_is_replaced_ever_more_seldom() {
    let mut config = recycling(1, Recycle { rss: RSS_MAX, ..NEVER });
    config.pools[0].start.backoff_max = 120 * S;
    config.pools[0].start.backoff_min = 20 * S;
    let mut script = Script::ready(config);
    let (mut replaced, mut futile) = (Vec::new(), 0);
    let end = script.now + 600 * S;
    while script.now < end {
        script.clear().wait(S);
        if script.has(|a| matches!(a, Action::Measure { .. })) {
            let sizes = vec![(script.serving(0), 2 * RSS_MAX)];
            script.event(Event::Measured { pool: PoolNo(0), sizes });
            futile += usize::from(script.has(|a| matches!(a, Action::Note(Note::RecycleFutile { .. }))));
        }
        for worker in script.spawned() {
            let old = script.serving(0);
            script.event(Event::Ready { worker });
            exit(&mut script, old);
            replaced.push(script.now);
        }
    }
    assert!((3..=15).contains(&replaced.len()) && futile >= replaced.len(), "{replaced:?}, {futile}");
}

#[test]
fn sizes_of_the_dead_and_of_pools_that_are_gone_are_no_news() {
    let mut script = Script::ready(recycling(1, Recycle { rss: RSS_MAX, ..NEVER }));
    let old = script.serving(0);
    script.wait(MEASURE_EVERY).die(old, &[]).clear();
    script.event(Event::Measured { pool: PoolNo(0), sizes: vec![(old, 2 * RSS_MAX)] });
    script.event(Event::Measured { pool: PoolNo(7), sizes: Vec::new() });
    assert_eq!(worn(&script), []);
}

// ── the token ──────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn only_so_many_slots_change_at_a_time_however_many_are_worn() {
    for surge in [1, 3] {
        let mut config = recycling(8, Recycle { age: 10 * S, ..NEVER });
        config.pools[0].reload.surge = Surge::Workers(surge);
        let mut script = Script::ready(config);
        script.wait(10 * S);
        assert_eq!(worn(&script).len(), 8, "all at the same time");
        assert_eq!(script.spawned().len(), surge as usize);
        assert_eq!(cooperate(&mut script, 5 * S), surge as usize);
        assert_eq!(script.snapshot().workers.len(), 8, "and nobody is left over");
    }
}

#[test]
fn a_slot_makes_room_only_when_its_old_worker_is_gone() {
    let mut script = Script::ready(recycling(2, Recycle { age: 10 * S, ..NEVER }));
    let old = script.serving(0);
    script.wait(10 * S);
    let new = script.spawned()[0];
    script.event(Event::Ready { worker: new }).clear().wait(S);
    assert_eq!(script.spawned(), [], "the one that leaves still has a process");
    exit(&mut script, old);
    assert_eq!(script.spawned().len(), 1);
}

#[test]
fn a_reload_goes_first_and_what_was_begun_for_wear_is_given_up() {
    let mut script = Script::ready(recycling(2, Recycle { age: 10 * S, ..NEVER }));
    script.wait(10 * S);
    let replacement = script.spawned()[0];
    script.clear().reload(1);
    assert!(script.has(|a| matches!(a, Action::Note(Note::Leaves { cause: Cause::NotNeeded, .. }))));
    assert!(script.has(|a| matches!(a, Action::Signal { worker, .. } if *worker == replacement)));
    exit(&mut script, replacement);
    script.wait(S);
    let generations: Vec<u32> = script.spawned().iter().map(|worker| script.names[worker].generation.0).collect();
    assert_eq!(generations, [2], "the canary, and nobody for wear");
}

// ── failures ───────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_replacement_that_fails_leaves_the_old_worker_serving_and_is_tried_again_later() {
    let mut script = Script::ready(recycling(1, after(1)));
    let old = script.serving(0);
    serve(&mut script, old, 1);
    let mut waits = Vec::new();
    // More often than the pool may fail: none of it counts.
    for _ in 0..6 {
        let failing = next_started(&mut script);
        script.clear().die(failing, &[]);
        let wait = script.actions.iter().find_map(|action| match action {
            Action::Note(Note::RecycleFailed { failure, wait, .. }) => {
                assert_eq!(failure.what, What::DiedStarting(Exit::Code(1)));
                Some(*wait)
            }
            _ => None,
        });
        waits.extend(wait);
        assert_eq!(script.spawned(), [], "not at once");
        assert_eq!(script.serving(0), old);
    }
    assert_eq!(waits.len(), 6);
    assert!(waits[5] > 4 * waits[0], "{waits:?}");
    let snapshot = script.snapshot();
    assert_eq!((snapshot.state, snapshot.workers[0].restarts), (PoolState::Ready, 0));
    let works = next_started(&mut script);
    script.event(Event::Ready { worker: works });
    assert_eq!(drained(&script), [old]);
    // What has worked is forgiven: the next failure waits as the first one did.
    exit(&mut script, old);
    serve(&mut script, works, 1);
    let failing = next_started(&mut script);
    script.clear().die(failing, &[]);
    let again = script.actions.iter().find_map(|action| match action {
        Action::Note(Note::RecycleFailed { wait, .. }) => Some(*wait),
        _ => None,
    });
    assert!(again.is_some_and(|again| 4 * again < waits[5]), "{again:?} after {waits:?}");
}

#[test]
fn a_worker_that_dies_while_its_replacement_starts_is_replaced_by_it() {
    let mut script = Script::ready(recycling(1, after(1)));
    let old = script.serving(0);
    serve(&mut script, old, 1);
    script.wait(S);
    let new = script.spawned()[0];
    script.die(old, &[]).clear().wait(S);
    assert_eq!(script.spawned(), [], "one is on its way");
    script.event(Event::Ready { worker: new });
    assert_eq!(script.serving(0), new);
}

#[test]
fn a_pool_that_was_given_up_keeps_its_survivors_however_worn() {
    let mut script = Script::ready(recycling(2, Recycle { age: 100 * S, ..NEVER }));
    let survivor = script.serving(1);
    let mut dying = script.serving(0);
    while script.snapshot().state != PoolState::Failed {
        script.clear().die(dying, &[]).wait(2 * S);
        dying = script.spawned().first().copied().unwrap_or(survivor);
    }
    script.clear().wait(200 * S);
    assert_eq!((script.spawned(), script.serving(1)), (vec![], survivor));
    ask(&mut script, 1, None);
    assert!(
        script.has(|a| matches!(a, Action::Answer { answer: Answer::Refused { why }, .. } if why.contains("given up")))
    );
}

// ── asking ─────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn who_asks_is_answered_when_every_old_worker_is_gone() {
    let mut script = Script::ready(recycling(3, NEVER));
    let old = [0, 1, 2].map(|slot| script.serving(slot));
    ask(&mut script, 1, None);
    script.wait(S);
    assert_eq!(script.spawned().len(), 1, "through the same token");
    for (slot, old) in (0..).zip(old) {
        assert!(!answered(&script, 1, &Answer::Recycled));
        let new = script.spawned()[0];
        script.clear().event(Event::Ready { worker: new });
        assert_eq!(drained(&script), [old]);
        exit(&mut script, old);
        script.wait(200 * MS);
        assert_eq!(script.serving(slot), new);
    }
    assert!(answered(&script, 1, &Answer::Recycled));
    script.clear().wait(60 * S);
    assert_eq!(script.spawned(), [], "once");
}

#[test]
fn one_slot_can_be_asked_for_and_others_stay() {
    let mut script = Script::ready(recycling(3, NEVER));
    ask(&mut script, 1, Some(1));
    cooperate(&mut script, 2 * S);
    let names: Vec<u32> = [0, 1, 2].map(|slot| script.serving(slot).0 as u32).to_vec();
    assert_eq!(names, [1, 4, 3]);
    for (slot, word) in [(3, "0 to 2"), (99, "no slot 99")] {
        script.clear();
        ask(&mut script, 2, Some(slot));
        assert!(
            script.has(|a| matches!(a, Action::Answer { answer: Answer::Refused { why }, .. } if why.contains(word)))
        );
    }
}

#[test]
fn a_failing_replacement_is_told_to_who_asked_and_not_tried_again_for_him() {
    let mut script = Script::ready(recycling(2, NEVER));
    ask(&mut script, 1, None);
    let failing = next_started(&mut script);
    script.clear().die(failing, &[]);
    let told = |a: &Action| matches!(a, Action::Answer { answer: Answer::NotRecycled { failure }, .. } if failure.worker.as_ref().is_some_and(|(id, _)| *id == failing));
    assert!(script.has(told));
    script.clear().wait(100 * S);
    assert_eq!(script.spawned(), []);
    // Who asks again is not kept waiting for that.
    ask(&mut script, 2, Some(0));
    assert_eq!(script.spawned().len(), 1);
}

#[test]
fn where_nobody_serves_there_is_nobody_to_recycle() {
    let mut script = Script::new(recycling(2, NEVER));
    ask(&mut script, 1, None);
    assert!(script.has(
        |a| matches!(a, Action::Answer { answer: Answer::Refused { why }, .. } if why.contains("ostler restart p"))
    ));
}

#[test]
fn a_stop_ends_it_and_says_so() {
    let mut script = Script::ready(recycling(2, NEVER));
    ask(&mut script, 1, None);
    script.event(Event::Stop { urgency: Urgency::Graceful });
    let told = |a: &Action| matches!(a, Action::Answer { answer: Answer::NotRecycled { failure }, .. } if failure.what == What::Stopping);
    assert!(script.has(told));
}

#[test]
fn a_slot_that_the_pool_loses_is_not_waited_for() {
    let mut script = Script::ready(recycling(2, NEVER));
    let old = script.serving(1);
    ask(&mut script, 1, Some(1));
    let new = next_started(&mut script);
    script.event(Event::Scale { request: None, pool: None, change: Change::To(1) });
    exit(&mut script, new);
    exit(&mut script, old);
    assert!(answered(&script, 1, &Answer::Recycled), "it is gone");
    script.clear().wait(10 * S);
    assert_eq!(script.spawned(), []);
}
