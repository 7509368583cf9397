//! Facts about pools that have as many workers as the load needs.

use std::time::Duration;

use ostler_config::checked::{self, Range, Workers};
use ostler_pool::{
    Action, Answer, Cause, Change, Event, Exit, Note, PoolNo, PoolState, RequestId, Rescaled, SCALE_WINDOW, Shed,
};
use ostler_shared::WorkerId;

use crate::S;
use crate::script::{MS, Script, config};

const IDLE: Duration = Duration::from_secs(20);
const TARGET_DELAY: Duration = Duration::from_millis(5);

fn between(min: u32, max: u32) -> checked::Config {
    let mut config = config(1, 1);
    config.pools[0].workers = Workers::Between(Range { min, max, idle: IDLE, target_delay: TARGET_DELAY });
    config.pools[0].queue.limit = 64;
    config.pools[0].queue.timeout = 10 * S;
    config
}

fn scaled(script: &Script) -> Vec<(u32, u32, Rescaled)> {
    let scaled = |action: &Action| match action {
        Action::Note(Note::Scaled { from, to, why, .. }) => Some((*from, *to, *why)),
        _ => None,
    };
    script.actions.iter().filter_map(scaled).collect()
}

/// Whoever was started since the actions were cleared becomes READY.
fn all_become_ready(script: &mut Script) -> Vec<WorkerId> {
    let spawned = script.spawned();
    script.clear();
    for worker in &spawned {
        script.event(Event::Ready { worker: *worker });
    }
    spawned
}

/// Everybody who was handed a connection since the actions were cleared is done with it.
fn all_complete(script: &mut Script) {
    for (worker, conn) in script.handed() {
        script.complete(worker, conn);
    }
}

fn drained(script: &Script) -> usize {
    script.actions.iter().filter(|action| matches!(action, Action::Drain { .. })).count()
}

// ── growing ────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_range_begins_with_its_least_and_a_line_that_stands_doubles_it_up_to_its_most() {
    let mut script = Script::ready(between(2, 7));
    script.clients(30);
    script.clear().wait(SCALE_WINDOW - MS);
    assert_eq!(scaled(&script), []);
    script.wait(MS);
    all_become_ready(&mut script);
    script.wait(SCALE_WINDOW);
    assert_eq!(scaled(&script), [(4, 7, Rescaled::LineStands)]);
    all_become_ready(&mut script);
    script.wait(5 * SCALE_WINDOW);
    assert_eq!((script.snapshot().target, scaled(&script)), (7, vec![]));
}

#[test]
fn a_burst_that_somebody_absorbs_in_time_starts_nobody() {
    let mut script = Script::ready(between(2, 16));
    for _ in 0..20 {
        script.clear().clients(8);
        while !script.handed().is_empty() {
            let handed = script.handed();
            script.wait(MS).clear();
            for (worker, conn) in handed {
                script.complete(worker, conn);
            }
        }
        script.wait(20 * MS);
        assert_eq!(script.snapshot().target, 2);
    }
}

#[test]
fn one_slow_request_beside_quick_ones_starts_nobody() {
    let mut script = Script::ready(between(2, 16));
    script.client();
    for _ in 0..100 {
        script.clear().client();
        script.wait(9 * MS);
        all_complete(&mut script);
    }
    assert_eq!(script.snapshot().target, 2);
}

#[test]
fn who_waits_behind_slow_requests_alone_gets_one_worker_more() {
    let mut script = Script::ready(between(2, 16));
    script.clients(3);
    script.clear().wait(SCALE_WINDOW);
    assert_eq!(scaled(&script), [(2, 3, Rescaled::LineStands)]);
    // It is on its way: nobody else is started for the same client.
    script.clear().wait(2 * S);
    assert_eq!(scaled(&script), []);
}

#[test]
fn a_pool_whose_workers_fail_does_not_grow() {
    let mut script = Script::ready(between(2, 16));
    script.clients(30);
    let broken = script.serving(0);
    script.clear().event(Event::Died { worker: broken, exit: Exit::Code(3), unclaimed: vec![] });
    script.clear().wait(3 * SCALE_WINDOW);
    assert_eq!(scaled(&script), [], "its successor has not shown that it works");
    all_become_ready(&mut script);
    script.wait(2 * SCALE_WINDOW);
    assert_eq!(scaled(&script).first(), Some(&(2, 4, Rescaled::LineStands)));
}

// ── shrinking ──────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn what_was_not_needed_for_long_goes_by_halves_and_the_clock_is_silent_at_the_least() {
    let mut script = Script::ready(between(2, 16));
    script.event(Event::Scale { request: None, pool: None, change: Change::To(16) });
    all_become_ready(&mut script);
    script.clear().wait(IDLE - MS);
    assert_eq!(scaled(&script), []);
    script.wait(MS);
    assert_eq!((scaled(&script), drained(&script)), (vec![(16, 9, Rescaled::Idle)], 7));
    for (worker, _) in script.names.clone().iter().filter(|(_, name)| name.slot.0 >= 9) {
        script.die(*worker, &[]);
    }
    script.clear().wait(IDLE);
    assert_eq!(scaled(&script), [(9, 5, Rescaled::Idle)]);
}

#[test]
fn nobody_is_taken_away_while_as_many_are_needed_now_and_then() {
    let mut script = Script::ready(between(1, 4));
    script.event(Event::Scale { request: None, pool: None, change: Change::To(4) });
    all_become_ready(&mut script);
    for _ in 0..10 {
        script.clear().clients(4);
        all_complete(&mut script);
        script.clear().wait(IDLE - S);
        assert_eq!(scaled(&script), []);
    }
}

#[test]
fn idle_workers_stay_until_a_reload_is_over() {
    let mut script = Script::ready(between(1, 3));
    script.event(Event::Scale { request: None, pool: None, change: Change::To(3) });
    all_become_ready(&mut script);
    script.config.pools[0].start.ready_timeout = 90 * S;
    script.clear().wait(IDLE - S).reload(1);
    script.wait(2 * S);
    assert_eq!(scaled(&script), [], "the canary may be the one in the highest slot");
}

// ── from nobody and back ───────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_pool_of_none_is_ready_accepts_and_starts_a_worker_for_the_first_client() {
    let mut script = Script::new(between(0, 4));
    assert_eq!((script.spawned(), script.snapshot().state), (vec![], PoolState::Ready));
    assert!(script.has(|action| matches!(action, Action::AllReady)));
    assert!(script.has(|action| *action == Action::ResumeAccept { pool: PoolNo(0) }));
    assert_eq!(script.pools.next_deadline(), None, "nothing ticks");
    let first = script.clear().client();
    assert_eq!(scaled(&script), [(0, 1, Rescaled::FirstConnection)]);
    let worker = all_become_ready(&mut script)[0];
    assert_eq!(script.handed(), [(worker, first)]);
    script.clear().complete(worker, first).wait(IDLE - MS);
    assert_eq!(scaled(&script), []);
    script.wait(MS);
    assert_eq!((scaled(&script), drained(&script)), (vec![(1, 0, Rescaled::Idle)], 1));
    script.die(worker, &[]);
    assert_eq!((script.snapshot().workers.len(), script.pools.next_deadline()), (0, None));
    // And again.
    script.clear().client();
    assert_eq!(script.spawned().len(), 1);
}

#[test]
fn a_broken_program_that_nobody_has_tried_fails_at_the_first_client_and_its_clients_are_shed_in_time() {
    let mut script = Script::new(between(0, 4));
    let first = script.client();
    let mut tries = 0;
    while script.snapshot().state != PoolState::Failed {
        let spawned = script.spawned();
        script.clear();
        for worker in spawned {
            tries += 1;
            script.die(worker, &[]);
        }
        script.wait(100 * MS);
    }
    assert_eq!(tries, 4, "as many as start.failures says, each later than the last");
    assert!(script.has(|action| matches!(action, Action::Note(Note::PoolFailed { .. }))));
    assert!(!script.has(|action| matches!(action, Action::Finished { .. })), "it is no failure of the start");
    script.clear().wait(10 * S);
    assert!(script.has(|a| matches!(a, Action::Shed { conn, why: Shed::QueueTimeout, .. } if *conn == first)));
    // Nobody is started for the next client either, before an operator says so.
    script.wait(IDLE).clear().client();
    script.wait(10 * S);
    assert_eq!((script.spawned(), scaled(&script)), (vec![], vec![]));
    script.event(Event::Restart { request: None, pool: "p".parse().unwrap(), slot: None });
    script.client();
    assert_eq!(script.spawned().len(), 1);
}

#[test]
fn a_reload_of_a_pool_of_none_starts_one_worker_to_see_whether_the_program_works() {
    let mut script = Script::new(between(0, 4));
    script.clear().reload(1);
    assert_eq!(scaled(&script), [(0, 1, Rescaled::Reload)]);
    let canary = script.spawned()[0];
    script.die(canary, &[]).wait(S);
    assert!(script.has(|action| matches!(action, Action::Answer { answer: Answer::Undone { .. }, .. })));
    script.wait(IDLE + S);
    assert_eq!(script.snapshot().target, 0);
}

// ── operators ──────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn an_operator_scales_within_the_range_and_is_told_where_it_ends() {
    let mut script = Script::ready(between(2, 4));
    script.event(Event::Scale { request: None, pool: None, change: Change::More(9) });
    assert_eq!(script.snapshot().target, 4);
    script.event(Event::Scale { request: None, pool: None, change: Change::Fewer(9) });
    assert_eq!(script.snapshot().target, 2);
    for beyond in [0, 1, 5] {
        script.clear();
        script.event(Event::Scale { request: Some(RequestId(1)), pool: None, change: Change::To(beyond) });
        let refused = |action: &Action| match action {
            Action::Answer { answer: Answer::Refused { why }, .. } => why.contains("2 to 4"),
            _ => false,
        };
        assert!(script.has(refused), "{beyond}: {:?}", script.actions);
    }
}

#[test]
fn what_an_operator_asked_for_holds_for_idle_and_clients_who_wait_overrule_it_at_once() {
    let mut script = Script::ready(between(1, 8));
    script.wait(IDLE - MS);
    script.event(Event::Scale { request: None, pool: None, change: Change::To(4) });
    all_become_ready(&mut script);
    script.clear().wait(IDLE - MS);
    assert_eq!(scaled(&script), [], "idleness begins anew");
    script.clients(6);
    script.wait(SCALE_WINDOW);
    assert_eq!(scaled(&script), [(4, 6, Rescaled::LineStands)]);
}

#[test]
fn a_reload_that_narrows_the_range_keeps_as_many_as_it_allows() {
    let mut script = Script::ready(between(1, 8));
    script.event(Event::Scale { request: None, pool: None, change: Change::To(2) });
    all_become_ready(&mut script);
    script.config = between(3, 8);
    crate::reload_to_the_end(&mut script);
    assert_eq!(script.snapshot().target, 3);
    all_become_ready(&mut script);
    script.config = between(1, 8);
    crate::reload_to_the_end(&mut script);
    assert_eq!(script.snapshot().target, 3, "idleness takes them away, not the reload");
    assert!(!script.has(|action| matches!(action, Action::Note(Note::Leaves { cause: Cause::ScaledDown, .. }))));
}

#[test]
fn a_paused_pool_neither_grows_nor_wakes_for_a_client() {
    let mut script = Script::new(between(0, 4));
    script.event(Event::Pause { request: None, pool: None });
    script.clear().clients(3);
    script.wait(5 * SCALE_WINDOW);
    assert_eq!((script.spawned(), script.snapshot().target), (vec![], 0));
    script.event(Event::Resume { request: None, pool: None });
    assert_eq!(script.spawned().len(), 1, "who came meanwhile is the first client");
}
