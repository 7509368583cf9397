//! Facts about the pool of ostler's own beside those of users: it is served like them, and decides nothing about them.

use ostler_config::checked::{Config, OnPoolFailed, Program};
use ostler_pool::{Action, Answer, Ended, Event, Note, PoolNo, PoolState, RequestId, StopCount, Urgency};
use ostler_shared::{ConnId, WorkerId};

use super::S;
use super::script::{Script, config};

fn with_admin() -> Config {
    let mut config = config(1, 1);
    let mut admin = config.pools[0].clone();
    admin.name = "admin".parse().unwrap();
    admin.program = Program::Admin;
    config.pools.push(admin);
    config
}

fn worker_of(script: &Script, pool: &str) -> WorkerId {
    let mut found = script.names.iter().filter(|(_, name)| name.pool.as_str() == pool).map(|(worker, _)| *worker);
    found.next_back().unwrap()
}

#[test]
fn a_pause_of_everything_leaves_it() {
    let mut script = Script::ready(with_admin());
    let (own, users) = (worker_of(&script, "admin"), worker_of(&script, "p"));
    script.clear().event(Event::Pause { request: Some(RequestId(1)), pool: None });
    assert!(!script.has(|action| *action == Action::Drain { worker: own }));
    script.die(users, &[]);
    assert!(
        script.has(
            |action| matches!(action, Action::Answer { answer: Answer::Paused { pools }, .. } if pools.len() == 1)
        )
    );
    script.event(Event::Pause { request: Some(RequestId(2)), pool: Some("admin".parse().unwrap()) });
    assert!(script.has(|action| *action == Action::Drain { worker: own }), "who names it means it");
}

#[test]
fn given_up_it_stops_nobody() {
    let mut config = with_admin();
    config.supervisor.on_pool_failed = OnPoolFailed::Exit;
    let mut script = Script::ready(config);
    for _ in 0..4 {
        let worker = worker_of(&script, "admin");
        script.die(worker, &[]).wait(2 * S);
    }
    let states: Vec<PoolState> = script.pools.snapshot(script.now).iter().map(|pool| pool.state).collect();
    assert_eq!(states, [PoolState::Ready, PoolState::Failed]);
    assert!(!script.pools.is_stopping());
}

#[test]
fn what_it_loses_at_a_stop_is_nobodys_loss() {
    let mut script = Script::ready(with_admin());
    script.event(Event::Accepted { pool: PoolNo(1), conn: ConnId(1), uid: None });
    script.event(Event::Stop { urgency: Urgency::Now });
    for (no, pool) in ["p", "admin"].into_iter().enumerate() {
        let worker = worker_of(&script, pool);
        script.event(Event::KernelQueueEmpty { pool: PoolNo(no) }).die(worker, &[]);
    }
    assert!(script.has(|action| matches!(action, Action::Note(Note::Died { lost: 1, .. }))), "{:?}", script.actions);
    let finished = |action: &Action| *action == Action::Finished { ended: Ended::Stopped(StopCount::default()) };
    assert!(script.has(finished), "{:?}", script.actions);
}
