//! Facts about requests that take long, and connections that wait for the next one.

use std::time::Duration;

use ostler_config::checked;
use ostler_pool::{Action, Cause, Event, Exit, MARKS_SPACING_MIN, Marks, Moment, Note, Sign, Step};
use ostler_shared::region::Keeping;
use ostler_shared::{ConnId, WorkerId};

use crate::S;
use crate::script::{MS, Script, config};

const REQUEST: Duration = Duration::from_secs(10);
const SLOW: Duration = Duration::from_secs(3);

fn limited(request: Duration, slow: Duration) -> checked::Config {
    let mut config = config(2, 2);
    (config.pools[0].watchdog.request, config.pools[0].watchdog.slow) = (request, slow);
    config
}

/// Lets time pass; whoever is looked at says this of its connections.
fn wait_and_answer(script: &mut Script, length: Duration, marks: impl Fn(WorkerId, Moment) -> Marks) {
    let end = script.now + length;
    while let Some(at) = script.pools.next_deadline().filter(|at| *at <= end) {
        script.now = script.now.max(at);
        let before = script.actions.len();
        script.event(Event::Tick);
        for worker in read(&script.actions[before..]) {
            let marks = marks(worker, script.now);
            script.event(Event::Marks { worker, marks });
        }
    }
    script.now = end;
    script.event(Event::Tick);
}

fn read(actions: &[Action]) -> Vec<WorkerId> {
    let read = |action: &Action| match action {
        Action::ReadMarks { worker } => Some(*worker),
        _ => None,
    };
    actions.iter().filter_map(read).collect()
}

fn kept(signs: Vec<(ConnId, Sign)>) -> Marks {
    Marks { keeping: Keeping::Marks, signs }
}

fn always(marks: Marks) -> impl Fn(WorkerId, Moment) -> Marks {
    move |_, _| marks.clone()
}

fn aborted(script: &Script) -> Vec<WorkerId> {
    let aborted = |action: &Action| match action {
        Action::Signal { worker, step: Step::Abort } => Some(*worker),
        _ => None,
    };
    script.actions.iter().filter_map(aborted).collect()
}

/// How old the request was each time the log called it slow.
fn told_slow(script: &Script) -> Vec<Duration> {
    let told = |action: &Action| match action {
        Action::Note(Note::Slow { age, .. }) => Some(*age),
        _ => None,
    };
    script.actions.iter().filter_map(told).collect()
}

/// Two workers that keep marks, and a connection that one of them holds.
fn holding(request: Duration, slow: Duration) -> (Script, WorkerId, ConnId) {
    let mut script = Script::ready(limited(request, slow));
    let conn = script.client();
    let (worker, _) = script.handed()[0];
    (script, worker, conn)
}

#[test]
fn a_request_that_takes_too_long_ends_its_worker_and_another_one_takes_its_place() {
    let (mut script, worker, conn) = holding(REQUEST, Duration::ZERO);
    let busy = always(kept(vec![(conn, Sign::Busy { since: script.now + S })]));
    wait_and_answer(&mut script, REQUEST + S - MS, &busy);
    assert_eq!(aborted(&script), [], "its time began with the request, not with the connection");
    wait_and_answer(&mut script, MS, &busy);
    assert_eq!(aborted(&script), [worker]);
    assert!(
        script.has(|a| matches!(a, Action::Note(Note::Overdue { conn: c, age, .. }) if *c == conn && *age == REQUEST))
    );
    assert!(script.has(|a| matches!(a, Action::Note(Note::Leaves { cause: Cause::Overdue, .. }))));
    assert_eq!(script.spawned().len(), 1);
    script.event(Event::Died { worker, exit: Exit::Signal(6), unclaimed: vec![] });
    assert_eq!(script.snapshot().lost, 1);
    assert!(!script.has(|a| matches!(a, Action::Note(Note::BackOff { .. }))), "it had settled");
}

#[test]
fn an_idle_connection_is_never_overdue_and_is_looked_at_once_per_interval() {
    let (mut script, _, conn) = holding(REQUEST, Duration::ZERO);
    wait_and_answer(&mut script, 20 * REQUEST, always(kept(vec![(conn, Sign::Idle)])));
    assert_eq!((aborted(&script), read(&script.actions).len()), (vec![], 20));
}

#[test]
fn requests_one_after_another_on_one_connection_are_never_overdue() {
    let (mut script, _, conn) = holding(REQUEST, Duration::ZERO);
    let begin = script.now;
    // Each takes nine seconds, and the next one follows at once.
    let busy = move |_: WorkerId, now: Moment| {
        let seconds = u32::try_from(now.since(begin).as_secs()).unwrap() / 9 * 9;
        kept(vec![(conn, Sign::Busy { since: begin + seconds * S })])
    };
    wait_and_answer(&mut script, 20 * REQUEST, busy);
    assert_eq!(aborted(&script), []);
}

#[test]
fn without_marks_a_connection_is_one_request() {
    for nothing_known in [Marks { keeping: Keeping::Nothing, signs: vec![] }, kept(vec![(ConnId(1), Sign::Unmarked)])] {
        let (mut script, worker, conn) = holding(REQUEST, Duration::ZERO);
        assert_eq!(conn, ConnId(1));
        wait_and_answer(&mut script, REQUEST - MS, always(nothing_known.clone()));
        assert_eq!(aborted(&script), []);
        wait_and_answer(&mut script, MS, always(nothing_known));
        assert_eq!(aborted(&script), [worker]);
    }
}

#[test]
fn what_a_worker_that_keeps_marks_has_not_claimed_is_no_request_of_its() {
    let (mut script, _, _) = holding(REQUEST, Duration::ZERO);
    wait_and_answer(&mut script, 5 * REQUEST, always(kept(vec![])));
    assert_eq!(aborted(&script), []);
}

#[test]
fn absurd_marks_harm_nobody() {
    let (mut script, worker, conn) = holding(REQUEST, Duration::ZERO);
    let handed_at = script.now;
    script.wait(S);
    let long_ago = Sign::Busy { since: Moment::from_ns(0) };
    let foreign = kept(vec![(ConnId(999), long_ago), (ConnId(u64::MAX), Sign::Unmarked)]);
    wait_and_answer(&mut script, 2 * REQUEST, always(foreign));
    assert_eq!(aborted(&script), [], "a connection that it does not hold");
    wait_and_answer(&mut script, REQUEST, always(kept(vec![(conn, long_ago)])));
    assert_eq!(aborted(&script), [worker]);
    let age = script.now.since(handed_at);
    assert!(
        script.has(|a| matches!(a, Action::Note(Note::Overdue { age: told, .. }) if *told <= age)),
        "longer than it had it"
    );
    let future = kept(vec![(ConnId(1), Sign::Busy { since: Moment::from_ns(u64::MAX) })]);
    let (mut script, ..) = holding(REQUEST, Duration::ZERO);
    wait_and_answer(&mut script, 5 * REQUEST, always(future));
    assert_eq!(aborted(&script), []);
}

#[test]
fn marks_that_are_always_almost_too_old_do_not_make_us_look_without_a_pause() {
    let (mut script, _, conn) = holding(REQUEST, Duration::ZERO);
    script.wait(REQUEST - MS);
    let almost = move |_: WorkerId, now: Moment| {
        let since = (now.as_ns() + 1).saturating_sub(u64::try_from(REQUEST.as_nanos()).unwrap());
        kept(vec![(conn, Sign::Busy { since: Moment::from_ns(since) })])
    };
    wait_and_answer(&mut script, REQUEST, almost);
    let most = REQUEST.as_millis() / MARKS_SPACING_MIN.as_millis();
    assert!(read(&script.actions).len() as u128 <= most + 1, "{}", read(&script.actions).len());
}

#[test]
fn a_slow_request_is_noted_once_and_the_next_one_again() {
    let (mut script, _, conn) = holding(Duration::ZERO, SLOW);
    let busy = |since| always(kept(vec![(conn, Sign::Busy { since })]));
    let (first, second) = (script.now + S, script.now + 20 * S);
    wait_and_answer(&mut script, 20 * S, busy(first));
    assert_eq!(told_slow(&script), [SLOW]);
    wait_and_answer(&mut script, 20 * S, busy(second));
    assert_eq!(told_slow(&script), [SLOW, SLOW]);
    assert_eq!(aborted(&script), [], "it is only noted");
}

#[test]
fn a_request_is_first_slow_and_then_overdue() {
    let (mut script, worker, conn) = holding(REQUEST, SLOW);
    let since = script.now;
    wait_and_answer(&mut script, REQUEST, always(kept(vec![(conn, Sign::Busy { since })])));
    assert_eq!((told_slow(&script), aborted(&script)), (vec![SLOW], vec![worker]));
}

#[test]
fn a_worker_that_holds_nothing_is_not_looked_at() {
    let (mut script, worker, conn) = holding(REQUEST, SLOW);
    script.complete(worker, conn).clear();
    wait_and_answer(&mut script, REQUEST, always(kept(vec![])));
    assert_eq!(read(&script.actions), []);
    assert_eq!(script.pools.next_deadline(), None);
    script.clear().client();
    wait_and_answer(&mut script, SLOW, always(kept(vec![])));
    assert_eq!(read(&script.actions).len(), 1, "but with the next connection it is again");
}

#[test]
fn an_answer_that_comes_when_a_worker_leaves_already_changes_nothing() {
    let (mut script, worker, conn) = holding(REQUEST, SLOW);
    script.event(Event::Misbehaved { worker, how: "lied".into() }).clear();
    let since = Moment::from_ns(0);
    script.now = script.now + REQUEST;
    script.event(Event::Marks { worker, marks: kept(vec![(conn, Sign::Busy { since })]) });
    assert!(!script.has(|a| matches!(a, Action::Note(Note::Overdue { .. } | Note::Slow { .. }))));
}
