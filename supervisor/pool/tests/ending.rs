//! How everything ends: asked for with a delay, or because a pool was given up.

mod script;

use std::time::Duration;

use ostler_config::checked::{OnPoolFailed, Range, Workers};
use ostler_pool::{Action, Answer, Change, Ended, Event, Note, PoolNo, PoolState, RequestId, Step, StopCount, Urgency};
use ostler_shared::Generation;
use script::{MS, Script, config};

const S: Duration = Duration::from_secs(1);
const GRACEFUL: Event = Event::Stop { urgency: Urgency::Graceful };
const REFUSE: Action = Action::RefuseNew { pool: PoolNo(0) };

/// Ready, and a stop has begun that has five seconds of delay.
fn delayed(workers: u32) -> Script {
    let mut config = config(workers, 1);
    config.supervisor.shutdown_delay = 5 * S;
    let mut script = Script::ready(config);
    script.event(GRACEFUL);
    script
}

#[test]
fn a_delayed_stop_accepts_and_serves_until_the_delay_is_over() {
    let mut script = delayed(1);
    assert!(script.pools.is_stopping(), "whoever asks is told at once");
    let worker = script.serving(0);
    script.wait(4 * S);
    let conn = script.client();
    assert_eq!(script.handed(), [(worker, conn)]);
    assert!(!script.has(|a| *a == REFUSE || matches!(a, Action::Drain { .. })), "{:?}", script.actions);
    script.complete(worker, conn).wait(S);
    assert!(script.has(|a| *a == REFUSE));
    script.event(Event::KernelQueueEmpty { pool: PoolNo(0) }).die(worker, &[]);
    assert!(script.has(|a| *a == Action::Finished { ended: Ended::Stopped(StopCount::default()) }));
}

#[test]
fn a_worker_that_dies_during_the_delay_is_replaced() {
    let mut script = delayed(2);
    let worker = script.serving(0);
    let conn = script.client();
    script.complete(script.handed()[0].0, conn).clear().die(worker, &[]).wait(S);
    assert_eq!(script.spawned().len(), 1);
}

#[test]
fn the_delay_is_a_part_of_stop_timeout() {
    let mut script = delayed(1);
    let worker = script.serving(0);
    script.client();
    script.event(Event::KernelQueueEmpty { pool: PoolNo(0) });
    script.clear().wait(27 * S);
    assert!(!script.has(|a| matches!(a, Action::Signal { .. })));
    script.wait(S); // stop_timeout 30 s − kill_after 2 s
    assert!(script.has(|a| *a == Action::Signal { worker, step: Step::Term }));
    script.wait(2 * S);
    assert!(script.has(|a| *a == Action::Signal { worker, step: Step::Kill }));
}

#[test]
fn a_second_term_during_the_delay_changes_nothing_and_int_ends_it() {
    let mut script = delayed(1);
    let worker = script.serving(0);
    script.wait(S).clear().event(GRACEFUL);
    assert_eq!(script.actions, []);
    script.event(Event::Stop { urgency: Urgency::Now });
    assert!(script.has(|a| *a == REFUSE));
    assert!(script.has(|a| *a == Action::Signal { worker, step: Step::Term }));
    script.clear().wait(4 * S);
    assert!(!script.has(|a| *a == REFUSE), "the delay is over for good");
}

#[test]
fn commands_are_refused_during_the_delay() {
    let mut script = delayed(1);
    script.clear().event(Event::Reload { request: Some(RequestId(1)), pools: Vec::new() });
    assert!(!script.has(|a| matches!(a, Action::ReadConfig { .. })));
    assert!(script.has(|a| matches!(a, Action::Answer { request: RequestId(1), .. })));
}

#[test]
fn nobody_scales_a_pool_during_the_delay() {
    let mut script = delayed(2);
    let name = script.config.pools[0].name.clone();
    for change in [Change::To(4), Change::More(1), Change::Fewer(1)] {
        script.clear().event(Event::Scale { request: Some(RequestId(1)), pool: Some(name.clone()), change });
        let refused = Answer::Refused { why: "the supervisor is stopping".to_owned() };
        assert_eq!(script.actions, [Action::Answer { request: RequestId(1), answer: refused }]);
        // A signal has nobody who waits for an answer.
        script.clear().event(Event::Scale { request: None, pool: None, change });
        assert_eq!(script.actions, []);
    }
    assert_eq!(script.snapshot().target, 2);
}

#[test]
fn a_range_follows_its_load_during_the_delay() {
    let mut config = config(1, 1);
    config.supervisor.shutdown_delay = 5 * S;
    let range = Range { min: 1, max: 4, idle: S, target_delay: 5 * MS };
    config.pools[0].workers = Workers::Between(range);
    let mut script = Script::ready(config);
    script.event(GRACEFUL);
    script.clients(4);
    script.clear().wait(S);
    assert!(!script.spawned().is_empty(), "{:?}", script.actions);
}

#[test]
fn a_slot_that_a_reload_had_moved_before_a_stop_cut_it_short_is_filled_with_the_generation_in_force() {
    for shutdown_delay in [Duration::ZERO, 5 * S] {
        let mut config = config(2, 1);
        config.supervisor.shutdown_delay = shutdown_delay;
        config.pools[0].reload.probation = 60 * S;
        let mut script = Script::ready(config);
        let old = script.serving(0);
        let canary = script.wait(S).reload(1).spawned()[0];
        script.event(Event::Ready { worker: canary }).die(old, &[]);
        // More than the workers can hold: without a delay it is for those who wait that slots are filled.
        script.clients(4);
        script.event(GRACEFUL).clear().die(canary, &[]).wait(S);
        let generations: Vec<Generation> =
            script.spawned().iter().map(|worker| script.names[worker].generation).collect();
        assert_eq!(generations, [Generation::FIRST], "{shutdown_delay:?}");
    }
}

/// Gives up the pool: its first slot fails four times, the second serves.
fn given_up(then: OnPoolFailed) -> Script {
    let mut config = config(2, 1);
    config.supervisor.on_pool_failed = then;
    let mut script = Script::ready(config);
    let mut worker = script.serving(0);
    for _ in 0..4 {
        script.clear().die(worker, &[]).wait(2 * S);
        worker = script.spawned().first().copied().unwrap_or(worker);
    }
    script
}

#[test]
fn a_pool_that_is_given_up_stops_everything_gracefully_where_that_was_asked_for() {
    let mut script = given_up(OnPoolFailed::Exit);
    assert!(script.has(|a| *a == Action::Note(Note::StopBegun { urgency: Urgency::Graceful })));
    assert!(script.has(|a| *a == REFUSE));
    let survivor = script.serving(1);
    script.event(Event::KernelQueueEmpty { pool: PoolNo(0) }).die(survivor, &[]);
    let brought_down = |action: &Action| {
        let Action::Finished { ended: Ended::PoolFailed { pool, failure, count } } = action else { return false };
        pool.as_str() == "p" && failure.worker.is_some() && *count == StopCount::default()
    };
    assert!(script.has(brought_down), "{:?}", script.actions);
}

#[test]
fn a_pool_that_is_given_up_stops_nothing_otherwise() {
    let mut script = given_up(OnPoolFailed::Keep);
    assert!(!script.pools.is_stopping());
    assert_eq!(script.snapshot().state, PoolState::Failed);
}
