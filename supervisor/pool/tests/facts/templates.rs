//! Facts about templates: one per generation, asked for workers, replaced when it fails, gone when nobody needs it.

use std::time::Duration;

use ostler_config::checked::{self, Template};
use ostler_pool::{Action, Cause, Event, Exit, FORK_TIMEOUT, NotForked, Note, Origin, PoolState, Step, Urgency};
use ostler_shared::WorkerId;

use crate::script::{MS, Script, config};

fn templated(workers: u32) -> checked::Config {
    let mut config = config(workers, 1);
    config.pools[0].reload.template = Template::Used;
    config
}

/// Templates asked for since the actions were last cleared.
fn started(script: &Script) -> Vec<WorkerId> {
    let started = |action: &Action| match action {
        Action::StartTemplate { template, .. } => Some(*template),
        _ => None,
    };
    script.actions.iter().filter_map(started).collect()
}

/// Whom each worker was asked of since the actions were last cleared.
fn origins(script: &Script) -> Vec<Origin> {
    let origin = |action: &Action| match action {
        Action::Spawn { origin, .. } => Some(*origin),
        _ => None,
    };
    script.actions.iter().filter_map(origin).collect()
}

/// A pool that has its template, and all its workers of it.
fn ready(workers: u32) -> (Script, WorkerId) {
    let mut script = Script::new(templated(workers));
    let template = started(&script)[0];
    script.event(Event::Ready { worker: template });
    for worker in script.spawned() {
        script.event(Event::Forked { worker }).event(Event::Ready { worker });
    }
    script.wait(2000 * MS).clear();
    (script, template)
}

fn leaves(script: &Script, why: Cause) -> bool {
    script.has(|action| matches!(action, Action::Note(Note::Leaves { cause, .. }) if *cause == why))
}

#[test]
fn no_worker_starts_before_the_template_has_loaded_and_then_all_at_once() {
    let mut script = Script::new(templated(8));
    let template = started(&script)[0];
    assert_eq!(script.spawned(), []);
    script.event(Event::Ready { worker: template });
    assert_eq!(origins(&script), [Origin::Template(template); 8]);
    assert_eq!(script.snapshot().templates[0].forked, 0);
    for worker in script.spawned() {
        script.event(Event::Forked { worker }).event(Event::Ready { worker });
    }
    assert_eq!((script.snapshot().state, script.snapshot().templates[0].forked), (PoolState::Ready, 8));
}

#[test]
fn a_worker_that_dies_is_forked_again_and_nothing_is_loaded() {
    let (mut script, template) = ready(2);
    let worker = script.serving(1);
    script.die(worker, &[]);
    assert_eq!((started(&script), origins(&script)), (vec![], vec![Origin::Template(template)]));
}

#[test]
fn a_template_that_dies_is_replaced_at_once_and_its_workers_live_on() {
    let (mut script, template) = ready(2);
    script.die(template, &[]);
    assert_eq!(started(&script).len(), 1);
    assert_eq!(script.snapshot().state, PoolState::Ready);
    let worker = script.serving(0);
    script.clear().die(worker, &[]);
    assert_eq!(script.spawned(), [], "nobody is there to fork it");
}

#[test]
fn one_that_does_not_load_is_backed_off_and_in_the_end_the_pool_is_given_up() {
    let mut script = Script::new(templated(1));
    for failure in 1..=4 {
        let template = started(&script)[0];
        script.clear().die(template, &[]);
        assert_eq!(started(&script), [], "failure {failure} is not forgotten at once");
        script.wait(Duration::from_secs(2));
    }
    assert!(script.has(|action| matches!(action, Action::Note(Note::PoolFailed { .. }))), "{:?}", script.actions);
}

#[test]
fn one_that_is_not_loaded_in_time_is_asked_to_leave() {
    let mut script = Script::new(templated(1));
    let template = started(&script)[0];
    script.wait(3000 * MS);
    assert!(script.has(|a| *a == Action::Signal { worker: template, step: Step::Term }), "{:?}", script.actions);
    assert!(leaves(&script, Cause::NeverReady));
}

#[test]
fn a_template_that_does_not_answer_is_killed_and_the_next_one_is_asked_again() {
    let (mut script, template) = ready(1);
    let worker = script.serving(0);
    script.die(worker, &[]);
    let asked = script.spawned()[0];
    script.clear().wait(FORK_TIMEOUT);
    assert!(script.has(|a| *a == Action::Signal { worker: template, step: Step::Kill }), "{:?}", script.actions);
    assert!(leaves(&script, Cause::NoAnswer));
    script.event(Event::NotForked { worker: asked, why: NotForked::TemplateEnded }).die(template, &[]);
    script.clear().wait(Duration::from_secs(1));
    let next = started(&script).first().copied().or_else(|| Some(script.snapshot().templates[0].id)).expect("another");
    script.event(Event::Ready { worker: next });
    assert_eq!(origins(&script).last(), Some(&Origin::Template(next)));
}

#[test]
fn a_template_that_is_unfit_is_replaced_and_one_without_a_process_to_spare_is_not() {
    let (mut script, template) = ready(1);
    let worker = script.serving(0);
    script.die(worker, &[]);
    let asked = script.spawned()[0];
    script.clear().event(Event::NotForked { worker: asked, why: NotForked::Shortage("EAGAIN".into()) });
    assert!(!leaves(&script, Cause::Unfit), "{:?}", script.actions);
    script.wait(Duration::from_secs(1));
    let asked = script.spawned()[0];
    script.clear().event(Event::NotForked { worker: asked, why: NotForked::Unfit("it has 2 threads".into()) });
    assert!(script.has(|a| *a == Action::Drain { worker: template }) && leaves(&script, Cause::Unfit));
}

#[test]
fn a_reload_loads_anew_and_the_old_template_goes_when_its_last_slot_has_moved() {
    let (mut script, old) = ready(2);
    script.reload(1);
    let new = started(&script)[0];
    assert_eq!(script.spawned(), [], "the canary waits for its template");
    script.event(Event::Ready { worker: new });
    for slot in 0..2 {
        let successor = *script.spawned().last().expect("the next slot moves");
        assert_eq!(origins(&script).last(), Some(&Origin::Template(new)));
        let predecessor = script.serving(slot);
        script.event(Event::Forked { worker: successor }).event(Event::Ready { worker: successor });
        let leaves = script.has(|a| *a == Action::Drain { worker: old });
        assert_eq!(leaves, slot == 1, "as long as slot {slot} may have to go back, it is needed");
        script.die(predecessor, &[]).wait(200 * MS);
    }
    assert!(script.has(|a| *a == Action::Drain { worker: old }), "{:?}", script.actions);
}

#[test]
fn a_template_that_fails_to_load_undoes_the_reload_and_the_old_one_forks_on() {
    let (mut script, old) = ready(2);
    script.reload(1);
    let new = started(&script)[0];
    script.event(Event::Died { worker: new, exit: Exit::Code(3), unclaimed: Vec::new() });
    assert!(script.has(|action| matches!(action, Action::Note(Note::Undone { .. }))), "{:?}", script.actions);
    assert_eq!(script.spawned(), [], "nobody had moved");
    let worker = script.serving(0);
    script.clear().die(worker, &[]);
    assert_eq!(origins(&script), [Origin::Template(old)]);
}

#[test]
fn a_stop_ends_the_template_too_and_waits_for_its_end() {
    let (mut script, template) = ready(1);
    let worker = script.serving(0);
    script.event(Event::Stop { urgency: Urgency::Graceful });
    script.event(Event::KernelQueueEmpty { pool: ostler_pool::PoolNo(0) });
    assert!(script.has(|a| *a == Action::Drain { worker: template }), "{:?}", script.actions);
    script.die(worker, &[]);
    assert!(!script.has(|action| matches!(action, Action::Finished { .. })));
    script.die(template, &[]);
    assert!(script.has(|action| matches!(action, Action::Finished { .. })));
}

#[test]
fn a_pool_without_workers_keeps_its_template_and_so_starts_in_no_time() {
    let (mut script, template) = ready(1);
    let pool = "p".parse().expect("a name");
    script.event(Event::Pause { request: None, pool: Some(pool) });
    let worker = script.snapshot().workers[0].id.expect("it drains");
    script.die(worker, &[]);
    assert_eq!(script.snapshot().templates[0].id, template);
    script.clear().event(Event::Resume { request: None, pool: None });
    assert_eq!((started(&script), origins(&script)), (vec![], vec![Origin::Template(template)]));
}
