//! Facts about workers that serve and stand still.

use std::time::Duration;

use ostler_config::checked;
use ostler_pool::{Action, Cause, Event, Exit, Moment, Note, PULSE_SPACING_MIN, Pulse, Step};
use ostler_shared::WorkerId;
use ostler_shared::region::Beats;

use crate::S;
use crate::script::{MS, Script, config};

const HEARTBEAT: Duration = Duration::from_secs(8);
/// It is doubted for a quarter before it is judged.
const VERDICT: Duration = Duration::from_secs(10);

fn watched(workers: u32, concurrency: u32) -> checked::Config {
    let mut config = config(workers, concurrency);
    config.pools[0].watchdog.heartbeat = HEARTBEAT;
    config
}

/// Lets time pass; whoever is looked at says this of itself.
fn wait_and_answer(script: &mut Script, length: Duration, pulse: impl Fn(WorkerId, Moment) -> Pulse) {
    let end = script.now + length;
    while let Some(at) = script.pools.next_deadline().filter(|at| *at <= end) {
        script.now = script.now.max(at);
        let before = script.actions.len();
        script.event(Event::Tick);
        for worker in looked_at(&script.actions[before..]) {
            let pulse = pulse(worker, script.now);
            script.event(Event::Pulse { worker, pulse });
        }
    }
    script.now = end;
    script.event(Event::Tick);
}

fn looked_at(actions: &[Action]) -> Vec<WorkerId> {
    let looked_at = |action: &Action| match action {
        Action::TakePulse { worker } => Some(*worker),
        _ => None,
    };
    actions.iter().filter_map(looked_at).collect()
}

fn beats(beats: Beats) -> impl Fn(WorkerId, Moment) -> Pulse {
    move |_, now| Pulse { beats, heard_at: Some(now) }
}

fn silent(beats: Beats) -> impl Fn(WorkerId, Moment) -> Pulse {
    move |_, _| Pulse { beats, heard_at: None }
}

fn aborted(script: &Script) -> Vec<WorkerId> {
    let aborted = |action: &Action| match action {
        Action::Signal { worker, step: Step::Abort } => Some(*worker),
        _ => None,
    };
    script.actions.iter().filter_map(aborted).collect()
}

#[test]
fn a_worker_whose_loop_stands_still_is_aborted_and_replaced_at_once() {
    let mut script = Script::ready(watched(1, 1));
    let wedged = script.serving(0);
    wait_and_answer(&mut script, VERDICT - MS, silent(Beats::Always));
    assert_eq!(aborted(&script), [], "it is doubted first");
    wait_and_answer(&mut script, MS, silent(Beats::Always));
    assert_eq!(aborted(&script), [wedged]);
    assert!(script.has(|a| matches!(a, Action::Note(Note::Silent { silence, .. }) if *silence == VERDICT)));
    assert!(script.has(|a| matches!(a, Action::Note(Note::Leaves { cause: Cause::Silent, .. }))));
    assert!(!script.has(|a| matches!(a, Action::Signal { step: Step::Term, .. })), "nobody is there to hear it");
    assert_eq!(script.spawned().len(), 1, "its place is not empty until it is dead");
}

#[test]
fn what_a_wedged_worker_has_not_claimed_goes_to_others_and_what_it_holds_is_lost() {
    let mut script = Script::ready(watched(2, 2));
    script.clients(4);
    let (wedged, _) = script.handed()[0];
    let its: Vec<_> = script.handed().iter().filter(|(worker, _)| *worker == wedged).map(|(_, conn)| *conn).collect();
    script.clear().leave_unclaimed(wedged, &its[1..]);
    let one_stands_still =
        |worker: WorkerId, now: Moment| Pulse { beats: Beats::Always, heard_at: (worker != wedged).then_some(now) };
    script.answer_no_recall();
    wait_and_answer(&mut script, VERDICT, one_stands_still);
    script.event(Event::Recalled { worker: wedged, conns: its[1..].to_vec() });
    script.event(Event::Died { worker: wedged, exit: Exit::Signal(6), unclaimed: vec![] });
    let pool = script.snapshot();
    assert_eq!((pool.lost, pool.recalled), (1, 1), "{pool:?}");
}

#[test]
fn one_that_abrt_does_not_end_gets_kill_after_the_whole_of_kill_after() {
    let mut script = Script::ready(watched(1, 1));
    let wedged = script.serving(0);
    wait_and_answer(&mut script, VERDICT, silent(Beats::Always));
    let replacement = script.spawned()[0];
    script.event(Event::Ready { worker: replacement }).clear();
    wait_and_answer(&mut script, 2 * S - MS, beats(Beats::Always));
    let is_killed = |a: &Action| *a == Action::Signal { worker: wedged, step: Step::Kill };
    assert!(!script.has(is_killed));
    wait_and_answer(&mut script, MS, beats(Beats::Always));
    assert!(script.has(is_killed));
}

#[test]
fn a_wedged_worker_that_had_served_long_enough_is_no_failure() {
    let mut script = Script::ready(watched(1, 1));
    for _ in 0..6 {
        let wedged = script.serving(0);
        wait_and_answer(&mut script, VERDICT, silent(Beats::Always));
        script.event(Event::Died { worker: wedged, exit: Exit::Signal(6), unclaimed: vec![] });
        let next = *script.spawned().last().unwrap();
        script.event(Event::Ready { worker: next });
    }
    assert!(!script.has(|a| matches!(a, Action::Note(Note::BackOff { .. } | Note::PoolFailed { .. }))));
    assert_eq!(script.snapshot().workers[0].restarts, 6);
}

#[test]
fn whoever_beats_or_promises_nothing_is_looked_at_once_per_interval_and_left_alone() {
    for pulse in [Beats::Always, Beats::WhileIdle, Beats::Never] {
        let mut script = Script::ready(watched(1, 1));
        wait_and_answer(&mut script, 10 * HEARTBEAT, beats(pulse));
        assert_eq!(looked_at(&script.actions).len(), 10, "{pulse:?}");
        assert_eq!(aborted(&script), []);
    }
    let mut script = Script::ready(watched(1, 1));
    wait_and_answer(&mut script, 10 * HEARTBEAT, silent(Beats::Never));
    assert_eq!(aborted(&script), [], "one that knows nothing of heartbeats");
}

#[test]
fn a_worker_with_threads_is_not_expected_to_beat_while_it_holds_something() {
    let mut script = Script::ready(watched(1, 1));
    script.client();
    let (worker, conn) = script.handed()[0];
    wait_and_answer(&mut script, 5 * HEARTBEAT, silent(Beats::WhileIdle));
    assert_eq!(aborted(&script), [], "a request takes as long as it takes");
    script.complete(worker, conn);
    wait_and_answer(&mut script, HEARTBEAT + VERDICT, silent(Beats::WhileIdle));
    assert_eq!(aborted(&script)[0], worker, "holding nothing, it has nothing else to do");
}

#[test]
fn one_that_beats_after_all_when_it_is_doubted_is_left_alone() {
    let mut script = Script::ready(watched(1, 1));
    let (start, first_doubt) = (script.now, script.now + HEARTBEAT);
    // As after a night that nobody noticed: the first look finds the beat of yesterday.
    let late = |_: WorkerId, now: Moment| Pulse {
        beats: Beats::Always,
        heard_at: Some(if now == first_doubt { start } else { now }),
    };
    wait_and_answer(&mut script, 5 * HEARTBEAT, late);
    assert_eq!(aborted(&script), []);
}

#[test]
fn every_silence_gets_its_own_doubt() {
    let mut script = Script::ready(watched(1, 1));
    // It beats so rarely that each look finds another beat that is too old.
    let lags = |_: WorkerId, now: Moment| Pulse {
        beats: Beats::Always,
        heard_at: Some(Moment::from_ns(now.as_ns() - u64::try_from(HEARTBEAT.as_nanos()).unwrap())),
    };
    script.now = script.now + 10 * HEARTBEAT;
    wait_and_answer(&mut script, 5 * HEARTBEAT, lags);
    assert_eq!(aborted(&script), [], "it moves, if slowly");
}

#[test]
fn a_worker_that_lies_about_its_beats_does_not_make_us_look_without_a_pause() {
    let mut script = Script::ready(watched(1, 1));
    let almost = |_: WorkerId, now: Moment| {
        let heartbeat = u64::try_from(HEARTBEAT.as_nanos()).unwrap();
        Pulse { beats: Beats::Always, heard_at: Some(Moment::from_ns((now.as_ns() + 1).saturating_sub(heartbeat))) }
    };
    wait_and_answer(&mut script, 3 * HEARTBEAT, almost);
    let most = 3 * HEARTBEAT.as_millis() / PULSE_SPACING_MIN.as_millis();
    assert!(looked_at(&script.actions).len() as u128 <= most + 1, "{}", looked_at(&script.actions).len());
}

#[test]
fn without_a_heartbeat_nothing_is_due() {
    let mut config = watched(1, 1);
    config.pools[0].watchdog.heartbeat = Duration::ZERO;
    let mut script = Script::ready(config);
    script.wait(60 * S);
    assert_eq!(script.pools.next_deadline(), None);
}

#[test]
fn a_worker_that_leaves_is_not_looked_at_and_an_answer_that_comes_late_changes_nothing() {
    let mut script = Script::ready(watched(1, 1));
    let old = script.serving(0);
    script.wait(HEARTBEAT - MS).clear();
    crate::reload_to_the_end(&mut script);
    script.clear().event(Event::Pulse { worker: old, pulse: Pulse { beats: Beats::Always, heard_at: None } });
    script.event(Event::Pulse { worker: old, pulse: Pulse { beats: Beats::Always, heard_at: None } });
    script.wait(HEARTBEAT / 4);
    assert_eq!((looked_at(&script.actions), aborted(&script)), (vec![], vec![]));
}
