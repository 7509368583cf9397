//! Facts about what is counted for ever: waits, services, and what happened to workers.

use std::time::Duration;

use ostler_pool::{Event, Exit, Urgency};
use ostler_shared::completion::{Completion, Outcome};
use ostler_shared::scoreboard::content::Tally;
use ostler_shared::scoreboard::histogram::BOUNDS;

use crate::script::{MS, Script, config};

#[test]
fn a_wait_and_a_service_are_counted_in_the_bucket_of_their_length() {
    let mut script = Script::ready(config(1, 1));
    let worker = script.serving(0);
    let (first, _second) = (script.client(), script.client());
    let begun = script.now;
    script.wait(30 * MS);
    assert_eq!(script.snapshot().first_in_line, Some(begun));
    let done_at_ns = 20_000_000;
    let completion = Completion { conn: first, outcome: Outcome::Done, claimed_at_ns: 0, done_at_ns };
    script.event(Event::Completed { worker, completion });
    let pool = script.snapshot();
    // No wait at all, and one of 30 ms; a service of 20 ms.
    assert_eq!((pool.waits.counts[0], pool.waits.counts[8], pool.waits.sum_us), (1, 1, 30_000));
    assert_eq!((pool.services.counts[7], pool.services.sum_us), (1, 20_000));
    assert_eq!(pool.first_in_line, None);
    script.wait(Duration::from_secs(3600));
    assert_eq!(script.snapshot().waits, pool.waits, "unlike quantiles they forget nothing");
}

#[test]
fn a_worker_that_claims_to_have_served_for_ages_fills_no_later_bucket_than_the_connection_is_old() {
    let mut script = Script::ready(config(1, 1));
    let worker = script.serving(0);
    let conn = script.client();
    script.wait(5 * MS);
    let completion = Completion { conn, outcome: Outcome::Done, claimed_at_ns: 0, done_at_ns: u64::MAX };
    script.event(Event::Completed { worker, completion });
    let services = script.snapshot().services;
    assert_eq!((services.count(), services.counts[BOUNDS], services.sum_us), (1, 0, 5_000));
}

#[test]
fn starts_restarts_and_deaths_are_told_apart() {
    let mut script = Script::ready(config(2, 1));
    let killed = script.serving(0);
    script.event(Event::Died { worker: killed, exit: Exit::Signal(9), unclaimed: Vec::new() });
    script.wait(Duration::from_secs(1));
    let next = *script.spawned().last().expect("it comes back");
    script.event(Event::SpawnFailed { worker: next, why: "no process".into() });
    let expected = Tally { started: 2, restarts: 1, died_by_signal: 1, ..Tally::default() };
    assert_eq!(script.snapshot().tally, expected, "a process that never was is not counted");
}

#[test]
fn who_goes_because_of_a_stop_went_as_he_was_asked_to() {
    let mut script = Script::ready(config(1, 1));
    let worker = script.serving(0);
    script.event(Event::Stop { urgency: Urgency::Now });
    script.event(Event::Died { worker, exit: Exit::Signal(15), unclaimed: Vec::new() });
    assert_eq!(script.snapshot().tally, Tally { started: 1, died_asked: 1, ..Tally::default() });
}

#[test]
fn reloads_are_counted_by_how_they_ended() {
    let mut script = Script::ready(config(1, 1));
    script.wait(Duration::from_secs(1)).reload(1);
    let successor = *script.spawned().last().expect("a canary");
    script.die(successor, &[]);
    script.wait(Duration::from_secs(1));
    assert_eq!((script.snapshot().tally.reloads_ok, script.snapshot().tally.reloads_undone), (0, 1));
    let incumbent = script.serving(0);
    script.clear().reload(2);
    let successor = *script.spawned().last().expect("another canary");
    script.event(Event::Ready { worker: successor });
    script.event(Event::Died { worker: incumbent, exit: Exit::Code(0), unclaimed: Vec::new() });
    script.wait(Duration::from_secs(1));
    assert_eq!((script.snapshot().tally.reloads_ok, script.snapshot().tally.reloads_undone), (1, 1));
}

#[test]
fn since_when_a_worker_is_as_it_is_and_what_it_holds_longest() {
    let mut script = Script::new(config(1, 2));
    let begun = script.now;
    assert_eq!(script.snapshot().workers[0].since, Some(begun));
    script.wait(50 * MS);
    let (worker, ready_at) = (script.spawned()[0], script.now);
    script.event(Event::Ready { worker });
    assert_eq!(
        (script.snapshot().workers[0].since, script.snapshot().workers[0].oldest_handed),
        (Some(ready_at), None)
    );
    let first = script.client();
    let handed_at = script.now;
    script.wait(MS);
    script.client();
    assert_eq!(script.snapshot().workers[0].oldest_handed, Some(handed_at));
    script.complete(worker, first);
    assert_eq!(script.snapshot().workers[0].oldest_handed, Some(script.now));
}
