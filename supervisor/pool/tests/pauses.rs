//! What a pool does that is paused, and what it takes to come back.

mod script;

use std::sync::Arc;
use std::time::Duration;

use ostler_config::checked::Config;
use ostler_pool::{
    Action, Answer, Change, Event, Note, PoolNo, PoolState, RESUME_SLACK, RequestId, STARTING_MAX, Shed, Step, Urgency,
    What,
};
use ostler_shared::{ConnId, WorkerId};
use script::{MS, Script, config};

const S: Duration = Duration::from_secs(1);
const PAUSE: RequestId = RequestId(1);
const RESUME: RequestId = RequestId(2);

fn pause(script: &mut Script) {
    script.event(Event::Pause { request: Some(PAUSE), pool: None });
}

fn resume(script: &mut Script) {
    script.event(Event::Resume { request: Some(RESUME), pool: None });
}

/// What somebody was told since the actions were last cleared.
fn told(script: &Script, who: RequestId) -> Option<Answer> {
    script.actions.iter().find_map(|action| match action {
        Action::Answer { request, answer } if *request == who => Some(answer.clone()),
        _ => None,
    })
}

fn drained(script: &Script) -> usize {
    script.actions.iter().filter(|action| matches!(action, Action::Drain { .. })).count()
}

fn paused(config: Config) -> Script {
    let mut script = Script::ready(config);
    let workers: Vec<WorkerId> = script.names.keys().copied().collect();
    pause(&mut script);
    for worker in workers {
        script.die(worker, &[]);
    }
    assert_eq!(script.snapshot().state, PoolState::Paused);
    script
}

// ── pausing ────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_pause_drains_everybody_starts_nobody_and_is_answered_with_the_last_one() {
    let mut script = Script::ready(config(2, 1));
    let conns = script.clients(3);
    let [(first, _), (second, _)] = script.handed()[..] else { panic!("{:?}", script.handed()) };
    script.clear().leave_unclaimed(second, &[conns[1]]);
    pause(&mut script);
    assert_eq!((drained(&script), script.snapshot().in_line), (2, 2), "what was not claimed waits again");
    script.complete(first, conns[0]).die(first, &[]).wait(S);
    assert_eq!(told(&script, PAUSE), None);
    script.die(second, &[]);
    assert!(matches!(told(&script, PAUSE), Some(Answer::Paused { pools }) if pools[0].1 == 2));
    script.wait(S);
    assert_eq!((script.spawned(), script.snapshot().state), (vec![], PoolState::Paused));
}

#[test]
fn the_lines_limits_and_its_deadline_stay_in_force() {
    let mut script = paused(config(1, 1));
    script.clear();
    let conns = script.clients(8);
    assert!(script.has(|action| *action == Action::PauseAccept { pool: PoolNo(0) }));
    script.wait(3 * S);
    let shed: Vec<(ConnId, Shed)> = conns.iter().map(|conn| (*conn, Shed::QueueTimeout)).collect();
    assert_eq!((script.shed(), script.handed()), (shed, vec![]));
}

#[test]
fn a_worker_that_had_not_begun_is_ended_and_counts_as_no_failure() {
    let mut script = Script::new(config(1, 1));
    let worker = script.spawned()[0];
    pause(&mut script);
    assert!(script.has(|action| *action == Action::Signal { worker, step: Step::Term }));
    script.event(Event::Ready { worker }).die(worker, &[]);
    assert!(matches!(told(&script, PAUSE), Some(Answer::Paused { .. })));
    assert!(!script.has(|action| matches!(action, Action::Note(Note::BackOff { .. }))));
}

#[test]
fn a_worker_that_will_not_leave_is_killed_and_the_pause_ends() {
    let mut script = Script::ready(config(1, 1));
    let conn = script.client();
    let (worker, _) = script.handed()[0];
    pause(&mut script);
    script.clear().wait(6 * S);
    for step in [Step::Term, Step::Abort, Step::Kill] {
        assert!(script.has(|action| *action == Action::Signal { worker, step }), "{step:?}");
    }
    script.die(worker, &[]);
    assert!(matches!(told(&script, PAUSE), Some(Answer::Paused { .. })));
    assert_eq!(script.snapshot().lost, 1, "{conn} was claimed");
}

#[test]
fn who_restarts_a_pool_that_is_then_paused_is_told_so() {
    let mut script = Script::ready(config(1, 1));
    let restart = RequestId(7);
    script.wait(S);
    script.event(Event::Restart { request: Some(restart), pool: "p".parse().unwrap(), slot: None });
    pause(&mut script);
    assert!(matches!(told(&script, restart), Some(Answer::NotRestarted { failure }) if failure.what == What::Paused));
}

// ── resuming ───────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn who_waited_is_served_when_workers_are_back_and_the_answer_comes_with_the_last_of_them() {
    let mut script = paused(config(2, 1));
    let conn = script.client();
    script.clear();
    resume(&mut script);
    script.wait(100 * MS);
    let [first, second] = script.spawned()[..] else { panic!("{:?}", script.spawned()) };
    assert_eq!(script.snapshot().state, PoolState::Starting);
    script.event(Event::Ready { worker: first });
    assert_eq!((script.handed(), told(&script, RESUME)), (vec![(first, conn)], None));
    script.event(Event::Ready { worker: second });
    assert!(matches!(told(&script, RESUME), Some(Answer::Resumed { pools }) if pools[0].1 == 2));
    assert_eq!(script.snapshot().state, PoolState::Ready);
}

/// Resumed, and every worker dies before it is READY.
fn given_up_on_its_way_back() -> Script {
    let mut script = paused(config(1, 1));
    resume(&mut script);
    while told(&script, RESUME).is_none() {
        script.clear().wait(500 * MS);
        for worker in script.spawned() {
            script.die(worker, &[]);
        }
    }
    script
}

#[test]
fn who_mends_a_pool_that_was_given_up_on_its_way_back_ends_no_pause_by_that() {
    let mut script = given_up_on_its_way_back();
    script.clear();
    script.event(Event::Restart { request: Some(PAUSE), pool: "p".parse().unwrap(), slot: None }).wait(100 * MS);
    let worker = script.spawned()[0];
    script.event(Event::Ready { worker });
    assert!(!script.has(|action| matches!(action, Action::Note(Note::Resumed { .. }))), "{:?}", script.actions);
}

#[test]
fn a_pool_that_is_given_up_while_it_comes_back_says_why() {
    let mut script = given_up_on_its_way_back();
    assert!(matches!(told(&script, RESUME), Some(Answer::NotResumed { .. })));
    assert_eq!(script.snapshot().state, PoolState::Failed);
    // Paused and resumed, it tries again.
    pause(&mut script);
    script.clear();
    resume(&mut script);
    script.wait(100 * MS);
    let worker = script.spawned()[0];
    script.event(Event::Ready { worker });
    assert!(matches!(told(&script, RESUME), Some(Answer::Resumed { .. })));
}

#[test]
fn whoever_waits_longer_than_a_start_may_take_is_told_so_and_the_pool_goes_on() {
    let mut script = paused(config(1, 1));
    script.clear();
    resume(&mut script);
    script.wait(3 * S);
    assert_eq!(told(&script, RESUME), None);
    script.wait(RESUME_SLACK);
    assert!(matches!(told(&script, RESUME), Some(Answer::ResumesSlowly { ready: 0, target: 1, .. })));
    script.die(script.spawned()[0], &[]);
    script.clear().wait(S);
    let worker = script.spawned()[0];
    script.event(Event::Ready { worker });
    assert!(script.has(|action| matches!(action, Action::Note(Note::Resumed { workers: 1, .. }))));
}

#[test]
fn a_pool_that_cannot_start_all_its_workers_at_a_time_may_take_a_start_more() {
    let mut script = paused(config(STARTING_MAX, 1));
    script.clear();
    resume(&mut script);
    script.wait(3 * S).wait(RESUME_SLACK).wait(2 * S);
    assert_eq!(told(&script, RESUME), None);
    script.wait(S);
    assert!(matches!(told(&script, RESUME), Some(Answer::ResumesSlowly { ready: 0, target: STARTING_MAX, .. })));
}

#[test]
fn whoever_calls_the_other_off_is_answered_and_so_is_the_other() {
    let mut script = Script::ready(config(1, 1));
    let worker = script.serving(0);
    pause(&mut script);
    script.clear();
    resume(&mut script);
    assert!(matches!(told(&script, PAUSE), Some(Answer::Refused { why }) if why.contains("was resumed")));
    script.clear();
    pause(&mut script);
    assert!(matches!(told(&script, RESUME), Some(Answer::Refused { why }) if why.contains("paused again")));
    script.die(worker, &[]);
    for worker in script.spawned() {
        script.die(worker, &[]);
    }
    assert!(matches!(told(&script, PAUSE), Some(Answer::Paused { .. })));
    script.clear();
    pause(&mut script);
    assert!(matches!(told(&script, PAUSE), Some(Answer::Paused { .. })), "it is so already");
}

// ── beside everything else ─────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_paused_pool_is_neither_reloaded_nor_restarted_and_hup_only_resumes() {
    let mut script = paused(config(1, 1));
    for (number, event) in [
        Event::Reload { request: Some(RequestId(10)), pools: Vec::new() },
        Event::Reload { request: Some(RequestId(11)), pools: vec!["p".parse().unwrap()] },
        Event::Restart { request: Some(RequestId(12)), pool: "p".parse().unwrap(), slot: None },
    ]
    .into_iter()
    .enumerate()
    {
        script.event(event);
        let answer = told(&script, RequestId(10 + number as u64));
        assert!(matches!(answer, Some(Answer::Refused { why }) if why.contains("ostler resume p")));
    }
    script.clear().event(Event::ResumeOrReload).wait(100 * MS);
    assert_eq!(script.spawned().len(), 1);
    assert!(!script.has(|action| matches!(action, Action::ReadConfig { .. })));
    script.clear().event(Event::ResumeOrReload);
    assert!(script.has(|action| matches!(action, Action::ReadConfig { .. })), "nothing is paused any more");
}

#[test]
fn a_pause_is_refused_while_a_reload_is_under_way_and_the_log_says_so_when_nobody_asked() {
    let mut script = Script::ready(config(1, 1));
    script.event(Event::Reload { request: None, pools: Vec::new() });
    pause(&mut script);
    assert!(matches!(told(&script, PAUSE), Some(Answer::Refused { why }) if why.contains("reload is under way")));
    assert!(!script.has(|action| matches!(action, Action::Note(Note::PauseRefused { .. }))));
    script.event(Event::Pause { request: None, pool: None });
    assert!(script.has(|action| matches!(action, Action::Note(Note::PauseRefused { .. }))));
    let config = Arc::new(script.config.clone());
    script.event(Event::ConfigRead { config: Ok(config) }).wait(S);
    assert_eq!(drained(&script), 0);
}

#[test]
fn a_paused_pool_comes_back_with_as_many_as_it_was_scaled_to() {
    let mut script = paused(config(1, 1));
    script.clear().event(Event::Scale { request: None, pool: None, change: Change::To(3) }).wait(S);
    assert_eq!((script.spawned(), script.snapshot().target), (vec![], 3));
    resume(&mut script);
    assert_eq!(script.spawned().len(), 3);
}

#[test]
fn a_stop_starts_workers_for_those_who_wait_in_a_paused_pool() {
    let mut script = paused(config(1, 1));
    script.clear().event(Event::Stop { urgency: Urgency::Graceful }).wait(S);
    assert_eq!(script.spawned(), [], "nobody waits yet");
    // The kernel's queue is accepted to its end.
    let conn = script.client();
    let worker = script.spawned()[0];
    script.event(Event::KernelQueueEmpty { pool: PoolNo(0) }).event(Event::Ready { worker }).complete(worker, conn);
    assert_eq!(drained(&script), 1);
    script.die(worker, &[]);
    assert!(script.has(|action| matches!(action, Action::Finished { .. })));
    assert_eq!(script.shed(), []);
}

#[test]
fn a_stop_answers_those_who_wait_for_a_pause() {
    let mut script = Script::ready(config(1, 1));
    pause(&mut script);
    script.event(Event::Stop { urgency: Urgency::Graceful });
    assert!(matches!(told(&script, PAUSE), Some(Answer::Refused { why }) if why.contains("stops")));
    script.clear();
    pause(&mut script);
    resume(&mut script);
    assert!(matches!(told(&script, PAUSE), Some(Answer::Refused { .. })));
    assert!(matches!(told(&script, RESUME), Some(Answer::Refused { .. })));
}
