//! Facts about pools that come and go by a reload.

use ostler_config::checked::Config;
use ostler_pool::{Action, Answer, Change, Event, Note, PoolNo, RequestId, SetbackStage, Shed, Urgency, What};
use ostler_shared::{ConnId, PoolName, WorkerId};

use super::S;
use super::script::{Script, config};

fn named(name: &str) -> PoolName {
    name.parse().unwrap()
}

/// The configuration of the script with another pool behind its own.
fn with(config: &Config, name: &str) -> Config {
    let mut more = config.clone();
    more.pools.push(more.pools[0].clone());
    more.pools.last_mut().unwrap().name = named(name);
    more
}

fn two() -> Config {
    with(&config(1, 1), "q")
}

/// Workers of this pool that were asked for since the actions were last cleared.
fn spawned_in(script: &Script, name: &str) -> Vec<WorkerId> {
    script.spawned().into_iter().filter(|worker| script.names[worker].pool == named(name)).collect()
}

fn answer(script: &Script) -> Option<&Answer> {
    script.actions.iter().find_map(|action| match action {
        Action::Answer { answer, .. } => Some(answer),
        _ => None,
    })
}

/// Lets every worker that was asked for become READY, and every one that drains end, until nothing moves.
fn settle(script: &mut Script) {
    let mut seen = 0;
    while seen < script.actions.len() {
        let fresh = script.actions[seen..].to_vec();
        seen = script.actions.len();
        for action in fresh {
            match action {
                Action::Spawn { worker, .. } => drop(script.event(Event::Ready { worker })),
                Action::Drain { worker } => drop(script.die(worker, &[])),
                Action::RefuseNew { pool } => drop(script.event(Event::KernelQueueEmpty { pool })),
                _ => {}
            }
        }
    }
}

#[test]
fn a_pool_that_appears_is_served_when_all_of_it_is_ready_and_the_reload_complete() {
    let mut script = Script::ready(config(1, 1));
    script.config = with(&config(2, 1), "q");
    script.wait(S).clear().reload(1);
    let appearing = spawned_in(&script, "q");
    assert_eq!(appearing.len(), 2, "all of it at once");
    let [first, second] = appearing[..] else { unreachable!() };
    script.event(Event::Ready { worker: first });
    assert!(!script.has(|a| *a == Action::ResumeAccept { pool: PoolNo(1) }), "nobody is accepted before the commit");
    let moved = spawned_in(&script, "p")[0];
    script.event(Event::Ready { worker: moved });
    assert!(answer(&script).is_none());
    script.event(Event::Ready { worker: second });
    let adopted =
        script.place(|a| matches!(a, Action::Adopt { pools, .. } if *pools == [PoolNo(0), PoolNo(1)])).unwrap();
    let opened = script.place(|a| *a == Action::OpenListeners).unwrap();
    let accepting = script.place(|a| *a == Action::ResumeAccept { pool: PoolNo(1) }).unwrap();
    assert!(opened < adopted && adopted < accepting, "{:?}", script.actions);
    assert!(matches!(answer(&script), Some(Answer::Reloaded { generations, .. }) if generations.len() == 2));
    script.clear().event(Event::Accepted { pool: PoolNo(1), conn: ConnId(77), uid: None });
    assert_eq!(script.handed().len(), 1);
}

#[test]
fn a_pool_that_cannot_start_undoes_the_reload_and_leaves_no_trace() {
    let mut script = Script::ready(config(1, 1));
    script.config = two();
    script.wait(S).clear().reload(1);
    let (moved, appearing) = (spawned_in(&script, "p")[0], spawned_in(&script, "q")[0]);
    let old = script.serving(0);
    script.event(Event::Ready { worker: moved }).die(old, &[]).wait(S).clear().die(appearing, &[]);
    assert!(script.has(|a| matches!(a, Action::Note(Note::UndoBegun { .. }))), "{:?}", script.actions);
    settle(&mut script);
    let Some(Answer::Undone { setback }) = answer(&script) else { panic!("{:?}", script.actions) };
    assert!(matches!(setback.failure.what, What::DiedStarting(_)), "{setback:?}");
    assert_eq!(setback.stage, SetbackStage::Appearing { ready: 0, of: 1 });
    assert!(script.has(|a| *a == Action::Forget { pool: PoolNo(1) }) && script.has(|a| *a == Action::CloseAside));
    assert!(!script.has(|a| matches!(a, Action::Adopt { .. })));
    assert_eq!(script.pools.snapshot(script.now).len(), 1);
}

#[test]
fn a_pool_that_disappears_ends_after_the_commit_and_serves_whom_it_had_accepted() {
    let mut script = Script::ready(two());
    script.config = config(1, 1);
    let conn = ConnId(5);
    script.event(Event::Accepted { pool: PoolNo(1), conn, uid: None });
    let (holder, _) = script.handed()[0];
    script.wait(S).clear().reload(1);
    let moved = spawned_in(&script, "p")[0];
    script.event(Event::Ready { worker: moved });
    let Some(Answer::Reloaded { removed, .. }) = answer(&script) else { panic!("{:?}", script.actions) };
    assert_eq!(removed, &[named("q")]);
    let adopted = script.place(|a| matches!(a, Action::Adopt { pools, .. } if *pools == [PoolNo(0)])).unwrap();
    let refused = script.place(|a| *a == Action::RefuseNew { pool: PoolNo(1) }).unwrap();
    assert!(adopted < refused);
    // One was still in the kernel's queue.
    let last = ConnId(6);
    script.clear().event(Event::Accepted { pool: PoolNo(1), conn: last, uid: None });
    script.event(Event::KernelQueueEmpty { pool: PoolNo(1) }).complete(holder, conn);
    assert_eq!(script.handed(), [(holder, last)]);
    script.complete(holder, last);
    assert!(script.has(|a| *a == Action::Drain { worker: holder }));
    script.die(holder, &[]);
    assert!(script.has(|a| *a == Action::Forget { pool: PoolNo(1) }), "{:?}", script.actions);
    assert!(!script.has(|a| matches!(a, Action::Shed { why: Shed::Stopping, .. })));
    assert!(!script.has(|a| matches!(a, Action::Finished { .. })));
}

#[test]
fn the_next_reload_waits_until_a_pool_that_was_removed_is_gone() {
    let mut script = Script::ready(two());
    let holder = script.pools.snapshot(script.now)[1].workers[0].id.unwrap();
    script.config = config(1, 1);
    script.wait(S).clear().reload(1);
    let (moved, old) = (spawned_in(&script, "p")[0], script.serving(0));
    script.event(Event::Ready { worker: moved }).die(old, &[]).event(Event::KernelQueueEmpty { pool: PoolNo(1) });
    script.clear().event(Event::Reload { request: Some(RequestId(2)), pools: vec![] });
    assert!(!script.has(|a| matches!(a, Action::ReadConfig { .. })), "q may come back, and is not gone");
    script.die(holder, &[]);
    assert!(script.has(|a| matches!(a, Action::ReadConfig { .. })), "{:?}", script.actions);
    script.config = two();
    let config = Ok(std::sync::Arc::new(script.config.clone()));
    script.clear().event(Event::ConfigRead { config });
    settle(script.wait(S));
    assert!(script.has(|a| matches!(a, Action::Adopt { pools, .. } if *pools == [PoolNo(0), PoolNo(2)])));
}

#[test]
fn a_pool_that_was_removed_takes_no_commands() {
    let mut script = Script::ready(two());
    script.config = config(1, 1);
    script.wait(S).clear().reload(1);
    let moved = spawned_in(&script, "p")[0];
    script.event(Event::Ready { worker: moved }).clear();
    script.event(Event::Scale { request: Some(RequestId(2)), pool: Some(named("q")), change: Change::More(1) });
    assert!(
        matches!(answer(&script), Some(Answer::Refused { why }) if why.contains("no pool")),
        "{:?}",
        script.actions
    );
}

#[test]
fn listeners_that_cannot_be_opened_undo_the_reload_at_the_last_moment() {
    let mut script = Script::ready(config(1, 1));
    script.listeners = Some(Err("somebody else listens there".into()));
    script.wait(S).clear().reload(1);
    let (moved, old) = (script.spawned()[0], script.serving(0));
    script.event(Event::Ready { worker: moved }).die(old, &[]).wait(S);
    settle(&mut script);
    let Some(Answer::Undone { setback }) = answer(&script) else { panic!("{:?}", script.actions) };
    assert_eq!(
        (setback.stage, &setback.failure.what),
        (SetbackStage::Opening, &What::Listen("somebody else listens there".into()))
    );
}

#[test]
fn a_death_while_listeners_are_opened_still_undoes_the_reload() {
    let mut script = Script::ready(config(1, 1));
    script.listeners = None;
    script.wait(S).clear().reload(1);
    let moved = script.spawned()[0];
    script.event(Event::Ready { worker: moved }).die(moved, &[]).event(Event::ListenersOpened { outcome: Ok(()) });
    assert!(script.has(|a| matches!(a, Action::Note(Note::UndoBegun { .. }))), "{:?}", script.actions);
    assert!(!script.has(|a| matches!(a, Action::Adopt { .. })));
}

#[test]
fn a_slot_that_is_opened_while_listeners_are_joins_the_walk_before_the_commit() {
    let mut script = Script::ready(config(1, 1));
    script.listeners = None;
    script.wait(S).clear().reload(1);
    let (moved, old) = (script.spawned()[0], script.serving(0));
    script.event(Event::Ready { worker: moved }).die(old, &[]).clear();
    script.event(Event::Scale { request: None, pool: None, change: Change::More(1) });
    script.event(Event::ListenersOpened { outcome: Ok(()) });
    assert!(!script.has(|a| matches!(a, Action::Adopt { .. })), "{:?}", script.actions);
    let opened = script.spawned();
    script.listeners = Some(Ok(()));
    for worker in opened {
        script.event(Event::Ready { worker });
    }
    assert!(script.has(|a| matches!(a, Action::Adopt { .. })), "{:?}", script.actions);
}

#[test]
fn a_stop_during_a_reload_closes_what_was_bound_and_ends_every_pool() {
    let mut script = Script::ready(config(1, 1));
    script.config = two();
    script.wait(S).clear().reload(1);
    script.event(Event::Stop { urgency: Urgency::Graceful });
    assert!(script.has(|a| *a == Action::CloseAside));
    for worker in script.names.keys().copied().collect::<Vec<_>>() {
        script.die(worker, &[]);
    }
    for pool in [PoolNo(0), PoolNo(1)] {
        script.event(Event::KernelQueueEmpty { pool });
    }
    assert!(script.has(|a| matches!(a, Action::Finished { .. })), "{:?}", script.actions);
}
